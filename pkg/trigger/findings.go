package trigger

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

// findingKey returns the key of the record that a vulnerability of an image was handled.
// It contains a digest, because the event may contain any name for the vulnerability.
func findingKey(f decide.Finding) string {
	return contract.FindingKey(f.ImageID, store.Digest([]byte(f.Vulnerability))[:16])
}

// handledFinding is the record.
type handledFinding struct {
	Vulnerability string    `json:"vulnerability"`
	At            time.Time `json:"at"`
}

// concern holds the recipes and images that the findings of one event concern.
type concern struct {
	want    []wanted
	ignored []string // and why, for the log
	mark    []decide.Finding
}

// afterFinding records the open findings of published images, and returns the recipes
// that may build because of them. An image can have many instances and many vulnerable
// packages, so a finding that was handled within the limit costs one read from the bucket
// and no call of EC2.
func (s StartBuilds) afterFinding(ctx context.Context, in EventInput, recipes []*recipe.Recipe) (concern, error) {
	var out concern
	found, ignored, err := s.Settings.Reporters.Findings(in.Source, in.DetailType, in.Detail)
	if err != nil {
		return out, failure.Wrap(failure.InvalidInput, err, "the event %q cannot be read", in.DetailType)
	}
	out.ignored = ignored
	for _, f := range found {
		if f.Region == "" {
			f.Region = in.Region
		}
		of, why, err := s.concerned(ctx, f, recipes, in.Time)
		if err != nil {
			return out, err
		}
		if why != "" {
			out.ignored = append(out.ignored, fmt.Sprintf("%s of %s in %s: %s", f.Vulnerability, f.ImageID, f.Region, why))
		}
		if why != handledBefore {
			out.mark = append(out.mark, f)
		}
		if of == "" {
			continue
		}
		if _, err := store.Update(ctx, s.Store, contract.RecordKey(of), func(r *decide.Record) (changed bool, _ error) {
			*r, changed = r.Noted(f, in.Time)
			return changed, nil
		}); err != nil {
			return out, err
		}
		if !slices.ContainsFunc(out.want, func(w wanted) bool { return w.recipe == of }) {
			out.want = append(out.want, wanted{recipe: of})
		}
	}
	return out, nil
}

const handledBefore = "already handled"

// concerned returns the recipe whose published image has the vulnerability, or the reason
// why there is none.
func (s StartBuilds) concerned(ctx context.Context, f decide.Finding, recipes []*recipe.Recipe, now time.Time) (name, why string, _ error) {
	// The event names the region, so only regions of recipes are called.
	if !slices.ContainsFunc(recipes, func(r *recipe.Recipe) bool { return isIn(r, f.Region) }) {
		return "", "no recipe is distributed there", nil
	}
	var before handledFinding
	if _, err := s.Store.ReadJSON(ctx, findingKey(f), &before); err != nil {
		return "", "", err
	}
	if !before.At.IsZero() && now.Sub(before.At) < s.Limits.FindingLimit {
		return "", handledBefore, nil
	}
	// The tags of images in other accounts prove nothing.
	own, err := ami.ListOwn(ctx, s.Planner.EC2(f.Region), ami.ByImage(f.ImageID))
	if err != nil {
		return "", "", awserr.Wrap(err, failure.Internal, "read image %s in %s", f.ImageID, f.Region)
	}
	if len(own) == 0 || !ami.IsPublished(own[0]) {
		return "", "it is no published image of this factory", nil
	}
	name = ami.TagValue(own[0].Tags, contract.TagRecipe)
	i := slices.IndexFunc(recipes, func(r *recipe.Recipe) bool { return r.Name == name })
	if i < 0 {
		return "", fmt.Sprintf("its recipe %s no longer exists", name), nil
	}
	current, err := s.isCurrent(ctx, recipes[i], f.Region, f.ImageID)
	if err != nil {
		return "", "", err
	}
	if !current {
		return "", "recipe " + name + " has published another image since", nil
	}
	return name, "", nil
}

func isIn(r *recipe.Recipe, region string) bool {
	return slices.ContainsFunc(r.Distribution.Regions, func(x recipe.Region) bool { return x.Name == region })
}

// isCurrent reports whether consumers get an image, which is whether a pointer names it.
func (s StartBuilds) isCurrent(ctx context.Context, r *recipe.Recipe, region, id string) (bool, error) {
	current, err := release.ReadCurrent(ctx, s.Planner.SSM(region), *r, region)
	return slices.Contains(current, id), err
}

// remember records that findings were handled.
func (s StartBuilds) remember(ctx context.Context, findings []decide.Finding, now time.Time) error {
	for _, f := range findings {
		if _, err := store.Update(ctx, s.Store, findingKey(f), func(h *handledFinding) (bool, error) {
			*h = handledFinding{Vulnerability: f.Vulnerability, At: now}
			return true, nil
		}); err != nil {
			return err
		}
	}
	return nil
}
