package ecr

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// evaluateEvery is how often a lifecycle policy is applied. On AWS, images expire within
// 24 hours after they meet a rule.
const evaluateEvery = 24 * time.Hour

// lifecycle is a lifecycle policy
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html).
type lifecycle struct {
	Rules []lifecycleRule `json:"rules"`
}

type lifecycleRule struct {
	Priority    int                `json:"rulePriority"`
	Description string             `json:"description"`
	Selection   lifecycleSelection `json:"selection"`
	Action      struct {
		Type string `json:"type"`
	} `json:"action"`
}

type lifecycleSelection struct {
	TagStatus      string   `json:"tagStatus"`
	TagPrefixList  []string `json:"tagPrefixList"`
	TagPatternList []string `json:"tagPatternList"`
	CountType      string   `json:"countType"`
	CountUnit      string   `json:"countUnit"`
	CountNumber    int      `json:"countNumber"`
}

// parseLifecycle reads a lifecycle policy, with its rules in the order of their priority.
func parseLifecycle(text string) (lifecycle, error) {
	var out lifecycle
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&out); err != nil {
		return out, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return out, errors.New("there is text after the JSON document")
	}
	if len(out.Rules) == 0 {
		return out, errors.New("it has no rules")
	}
	seen := map[int]bool{}
	for i, r := range out.Rules {
		if err := r.check(); err != nil {
			return out, fmt.Errorf("rule %d: %w", i+1, err)
		}
		if seen[r.Priority] {
			return out, fmt.Errorf("rule %d: rulePriority %d is used twice", i+1, r.Priority)
		}
		seen[r.Priority] = true
	}
	slices.SortFunc(out.Rules, func(a, b lifecycleRule) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, r := range out.Rules[:len(out.Rules)-1] {
		if r.Selection.TagStatus == "any" {
			return out, errors.New("a rule with tagStatus any must have the highest rulePriority number")
		}
	}
	return out, nil
}

// maxCount bounds the number of a rule: a longer time in days has no time.Duration.
const maxCount = 100_000

func (r lifecycleRule) check() error {
	sel := r.Selection
	lists := len(sel.TagPrefixList) + len(sel.TagPatternList)
	switch {
	case r.Priority < 1:
		return errors.New("rulePriority must be 1 or more")
	case r.Action.Type != "expire":
		return fmt.Errorf("the action type is %q (the embedded AWS has expire only)", r.Action.Type)
	case !slices.Contains([]string{"tagged", "untagged", "any"}, sel.TagStatus):
		return fmt.Errorf("tagStatus is %q (allowed: tagged, untagged, any)", sel.TagStatus)
	case sel.TagStatus == "tagged" && (len(sel.TagPrefixList) == 0) == (len(sel.TagPatternList) == 0):
		return errors.New("tagStatus tagged needs one of tagPrefixList and tagPatternList")
	case sel.TagStatus != "tagged" && lists > 0:
		return errors.New("tagPrefixList and tagPatternList need tagStatus tagged")
	case sel.CountNumber < 1:
		return errors.New("countNumber must be 1 or more")
	case sel.CountNumber > maxCount:
		return fmt.Errorf("countNumber must be %d or less", maxCount)
	}
	for _, pattern := range sel.TagPatternList {
		if strings.Count(pattern, "*") > 4 {
			return fmt.Errorf("the pattern %q has more than 4 wildcards", pattern)
		}
	}
	switch sel.CountType {
	case "imageCountMoreThan":
		if sel.CountUnit != "" {
			return errors.New("imageCountMoreThan has no countUnit")
		}
	case "sinceImagePushed", "sinceImagePulled":
		if sel.CountUnit != "days" {
			return fmt.Errorf("countUnit is %q (allowed: days)", sel.CountUnit)
		}
	default:
		return fmt.Errorf("countType is %q (allowed: imageCountMoreThan, sinceImagePushed, sinceImagePulled)", sel.CountType)
	}
	return nil
}

// matches reports whether an image with these tags is one that the rule is about. Of
// several prefixes or patterns, each must match one of the tags.
func (sel lifecycleSelection) matches(tags []string) bool {
	switch sel.TagStatus {
	case "untagged":
		return len(tags) == 0
	case "any":
		return true
	}
	each := func(wanted []string, match func(pattern, tag string) bool) bool {
		for _, pattern := range wanted {
			if !slices.ContainsFunc(tags, func(tag string) bool { return match(pattern, tag) }) {
				return false
			}
		}
		return true
	}
	return len(tags) > 0 && each(sel.TagPrefixList, func(prefix, tag string) bool { return strings.HasPrefix(tag, prefix) }) && each(sel.TagPatternList, wildcard)
}

// expired are the images that the policy expires, each by the first rule that is about
// it. Images that an index lists, and referrers, do not expire before the images that
// they belong to.
func (p lifecycle) expired(r *repository, now time.Time) []*image {
	var out []*image
	decided := map[string]bool{}
	for _, rule := range p.Rules {
		var about []*image
		for _, i := range r.Images {
			if !decided[i.Digest] && !r.belongs(i) && rule.Selection.matches(r.tagsOf(i.Digest)) {
				about = append(about, i)
			}
		}
		slices.SortFunc(about, func(a, b *image) int { return cmp.Or(b.Pushed.Compare(a.Pushed), cmp.Compare(a.Digest, b.Digest)) })
		for n, i := range about {
			decided[i.Digest] = true
			if rule.Selection.expires(i, n, now) {
				out = append(out, i)
			}
		}
	}
	return out
}

// expires decides on the image that n younger ones precede.
func (sel lifecycleSelection) expires(i *image, n int, now time.Time) bool {
	age := time.Duration(sel.CountNumber) * 24 * time.Hour
	switch sel.CountType {
	case "imageCountMoreThan":
		return n >= sel.CountNumber
	case "sinceImagePulled":
		last := i.Pulled
		if last.IsZero() {
			last = i.Pushed
		}
		return now.Sub(last) > age
	}
	return now.Sub(i.Pushed) > age
}

// belongs reports whether an image is part of another one in the repository.
func (r *repository) belongs(i *image) bool {
	if i.Subject != "" && r.Images[i.Subject] != nil {
		return true
	}
	for _, other := range r.Images {
		if slices.Contains(other.Children, i.Digest) {
			return true
		}
	}
	return false
}

// applyLifecycle expires images of a repository if a day has passed since that was done
// last. It is called when the repository is used, as nothing can be seen of it otherwise.
// The caller holds s.mu.
func (s *Service) applyLifecycle(k scope.Key, r *repository) {
	now := s.cfg.Clock.Now()
	if r.Lifecycle == "" || now.Sub(r.Evaluated) < evaluateEvery {
		return
	}
	r.Evaluated = now
	policy, err := parseLifecycle(r.Lifecycle)
	if err != nil { // cannot happen: it is checked when it is set
		s.cfg.Logger.Error("lifecycle policy", "repository", r.Name, "error", err)
		return
	}
	for _, i := range policy.expired(r, now) {
		tags := r.tagsOf(i.Digest)
		if err := s.drop(r, i, tags); err != nil {
			s.cfg.Logger.Error("expiring an image", "repository", r.Name, "image", i.Digest, "error", err)
		}
		// The event is sent after s.mu is released.
		s.cfg.Clock.Go(func() { s.emitDeleted(context.Background(), k, r.Name, identifiers(i.Digest, tags)) })
	}
}

// PutLifecyclePolicy sets the lifecycle policy of a repository. It is applied from the
// next use of the repository, once a day.
func (s *Service) PutLifecyclePolicy(ctx context.Context, in *ecr.PutLifecyclePolicyInput, optFns ...func(*ecr.Options)) (*ecr.PutLifecyclePolicyOutput, error) {
	text := aws.ToString(in.LifecyclePolicyText)
	if len(text) > maxLifecycle {
		return nil, invalid("LifecyclePolicyText", "must have a length between 100 and %d", maxLifecycle)
	}
	if _, err := parseLifecycle(text); err != nil {
		return nil, invalid("LifecyclePolicyText", "Lifecycle policy validation failure: %s", err)
	}
	out := &ecr.PutLifecyclePolicyOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		r.Lifecycle, r.Evaluated = text, time.Time{}
		out.LifecyclePolicyText, out.RegistryId, out.RepositoryName = &text, aws.String(k.Account), aws.String(r.Name)
		return nil
	})
}

func withoutLifecycle(k scope.Key, r *repository) error {
	if r.Lifecycle != "" {
		return nil
	}
	return &types.LifecyclePolicyNotFoundException{Message: aws.String(fmt.Sprintf("Lifecycle policy does not exist for the repository with name '%s' in the registry with id '%s'", r.Name, k.Account))}
}

// GetLifecyclePolicy returns the lifecycle policy of a repository.
func (s *Service) GetLifecyclePolicy(ctx context.Context, in *ecr.GetLifecyclePolicyInput, optFns ...func(*ecr.Options)) (*ecr.GetLifecyclePolicyOutput, error) {
	out := &ecr.GetLifecyclePolicyOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		out.LifecyclePolicyText, out.RegistryId, out.RepositoryName = aws.String(r.Lifecycle), aws.String(k.Account), aws.String(r.Name)
		if !r.Evaluated.IsZero() {
			out.LastEvaluatedAt = aws.Time(r.Evaluated)
		}
		return withoutLifecycle(k, r)
	})
}

// DeleteLifecyclePolicy removes the lifecycle policy of a repository.
func (s *Service) DeleteLifecyclePolicy(ctx context.Context, in *ecr.DeleteLifecyclePolicyInput, optFns ...func(*ecr.Options)) (*ecr.DeleteLifecyclePolicyOutput, error) {
	out := &ecr.DeleteLifecyclePolicyOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		if err := withoutLifecycle(k, r); err != nil {
			return err
		}
		out.LifecyclePolicyText, out.RegistryId, out.RepositoryName = aws.String(r.Lifecycle), aws.String(k.Account), aws.String(r.Name)
		if !r.Evaluated.IsZero() {
			out.LastEvaluatedAt = aws.Time(r.Evaluated)
		}
		r.Lifecycle = ""
		return nil
	})
}
