package release

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// RetentionAPI is what Retention needs of EC2, in every region.
type RetentionAPI interface {
	ec2.DescribeImagesAPIClient
	ec2.DescribeImageReferencesAPIClient
	DeprecationAPI
	ami.Remover
}

// launchLag is how late EC2 reports a launch in an image's LastLaunchedTime:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-last-launched-time.html
const launchLag = 24 * time.Hour

// Retention deprecates published images beyond those that a recipe keeps, and
// removes those that have had no known use for the recipe's retention.removeAfter.
//
// An image's deprecation time keeps what Retention knows of its use: it is when
// Retention first found the image superseded, or last found it in use.
type Retention struct {
	EC2         func(region string) RetentionAPI
	AutoScaling func(region string) autoscaling.DescribeLaunchConfigurationsAPIClient
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) HistoryAPI
}

// Outcome is what Retention did with an image.
type Outcome string

// The outcomes.
const (
	Kept       Outcome = "kept"       // as it is
	Deprecated Outcome = "deprecated" // not removed yet
	Removed    Outcome = "removed"    // deregistered, and its snapshots deleted
	Left       Outcome = "left"       // a call failed
)

// Decision is what Retention did with an image, and why.
type Decision struct {
	Region  string  `json:"region"`
	ImageID string  `json:"imageId"`
	Outcome Outcome `json:"outcome"`
	Why     string  `json:"why"`
}

// Apply decides on the published images of a recipe in a region, newest first. An
// image that cannot be deprecated or removed is an outcome and no error: the new
// image is published whatever happens to the old.
func (s Retention) Apply(ctx context.Context, r recipe.Recipe, region string, now time.Time) ([]Decision, error) {
	api := s.EC2(region)
	images, err := ami.ListOwn(ctx, api, ami.ByRecipe(r.Name))
	if err != nil {
		return nil, awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", r.Name, region)
	}
	candidates := candidatesOf(images, r.Retention.Keep)
	if err := s.readPointers(ctx, r, region, candidates); err != nil {
		return nil, err
	}
	if err := s.readUsers(ctx, r, region, candidates); err != nil {
		return nil, err
	}
	var out []Decision
	for _, c := range candidates {
		outcome, why := c.apply(ctx, api, r, now)
		out = append(out, Decision{Region: region, ImageID: aws.ToString(c.Image.ImageId), Outcome: outcome, Why: why})
	}
	return out, nil
}

// candidate is a published image, and what is known of its use.
type candidate struct {
	Image types.Image
	// superseded says that the image is beyond those that the recipe keeps.
	superseded bool
	// since is when so many newer images were published that this one is beyond
	// them. It is never earlier than the image's own publication, and zero if a
	// time of publication cannot be read.
	since time.Time

	pointers []Pointer // that name it
	// lastNamed is when a pointer of now named it last; the zero value if none did.
	lastNamed time.Time
	lastBy    Pointer
	users     []string // of the account, such as "instance i-…"
}

// kept says why the image is kept as it is; empty when it is not.
func (c candidate) kept(r recipe.Recipe) string {
	switch {
	case len(c.pointers) > 0:
		return c.pointers[0].String() + " names it"
	case !c.superseded && r.Retention.Keep == 1:
		return "it is the newest"
	case !c.superseded:
		return fmt.Sprintf("it is among the %d newest, which the recipe keeps", r.Retention.Keep)
	}
	return ""
}

// candidatesOf are the published images, newest first as ami.List has them.
func candidatesOf(images []types.Image, keep int) []*candidate {
	var out []*candidate
	var newer []time.Time // when the images before this one were published
	for _, img := range images {
		if !ami.IsPublished(img) || img.State != types.ImageStateAvailable {
			continue
		}
		at, _ := time.Parse(time.RFC3339, ami.TagValue(img.Tags, contract.TagPublished)) // zero if it is no time
		c := &candidate{Image: img}
		if c.superseded = len(newer) >= keep; c.superseded {
			c.since = supersededAt(at, newer, keep)
		}
		out = append(out, c)
		newer = append(newer, at)
	}
	return out
}

func supersededAt(published time.Time, newer []time.Time, keep int) time.Time {
	times := slices.SortedFunc(slices.Values(newer), time.Time.Compare)
	if published.IsZero() || times[0].IsZero() {
		return time.Time{}
	}
	if at := times[keep-1]; at.After(published) {
		return at
	}
	return published
}

// readPointers finds out which pointers name the images now, and until when they
// named them.
func (s Retention) readPointers(ctx context.Context, r recipe.Recipe, region string, candidates []*candidate) error {
	for _, ptr := range PointersIn(r, region) {
		api := s.SSM(ptr.Account, region)
		current, err := ReadPointer(ctx, api, ptr.Parameter)
		if err != nil {
			return awserr.Wrap(err, failure.Internal, "read pointer %s", ptr)
		}
		until, err := namedUntil(ctx, api, ptr.Parameter)
		if err != nil {
			return awserr.Wrap(err, failure.Internal, "read the history of pointer %s", ptr)
		}
		for _, c := range candidates {
			id := aws.ToString(c.Image.ImageId)
			if id == current {
				c.pointers = append(c.pointers, ptr)
			}
			if at := until[id]; at.After(c.lastNamed) {
				c.lastNamed, c.lastBy = at, ptr
			}
		}
	}
	return nil
}

// readUsers finds out what uses the images that are not kept.
func (s Retention) readUsers(ctx context.Context, r recipe.Recipe, region string, candidates []*candidate) error {
	byID := map[string]*candidate{}
	var ids []string
	for _, c := range candidates {
		if c.kept(r) == "" {
			byID[aws.ToString(c.Image.ImageId)] = c
			ids = append(ids, aws.ToString(c.Image.ImageId))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	references, err := ami.References(ctx, s.EC2(region), ids)
	if err == nil {
		var configurations map[string][]string
		if configurations, err = ami.LaunchConfigurations(ctx, s.AutoScaling(region), ids); err == nil {
			for id, c := range byID {
				c.users = append(references[id], configurations[id]...)
			}
		}
	}
	return awserr.Wrap(err, failure.Internal, "find out what uses the superseded images of recipe %s in %s", r.Name, region)
}

// apply deals with the image.
func (c candidate) apply(ctx context.Context, api RetentionAPI, r recipe.Recipe, now time.Time) (Outcome, string) {
	if why := c.kept(r); why != "" {
		return Kept, why
	}
	use := inUse(c.users)
	if use != "" || !isDeprecated(c.Image, now) {
		if err := Deprecate(ctx, api, aws.ToString(c.Image.ImageId), soon(now)); err != nil {
			return Left, err.Error()
		}
	}
	if why := cmp.Or(use, c.recent(r, now)); why != "" {
		return Deprecated, why
	}
	if _, err := ami.Remove(ctx, api, c.Image); err != nil {
		return Left, err.Error()
	}
	return Removed, c.unused(r)
}

// unused says why the image was removed.
func (c candidate) unused(r recipe.Recipe) string {
	return fmt.Sprintf("superseded on %s, and no use of it is known for %s", minute(c.since), graceOf(r))
}

// graceOf is how long an image must be without known use. A plan of an earlier
// version of the factory does not say.
func graceOf(r recipe.Recipe) recipe.Duration {
	return cmp.Or(r.Retention.RemoveAfter, recipe.DefaultRemoveAfter)
}

// inUse says what uses an image now; empty when nothing is known to.
func inUse(users []string) string {
	switch len(users) {
	case 0:
		return ""
	case 1:
		return users[0] + " of this account uses it"
	}
	return fmt.Sprintf("%d instances, launch templates and launch configurations of this account use it, %s among them", len(users), users[0])
}

// recent says why an image that nothing is known to use now is too young a
// candidate for removal; empty when it is not. Nothing is removed on the word of
// a time that is missing or malformed.
func (c candidate) recent(r recipe.Recipe, now time.Time) string {
	grace := time.Duration(graceOf(r))
	if c.since.IsZero() {
		return "its tags do not say when it and newer images were published"
	}
	if until := c.since.Add(grace); now.Before(until) {
		return fmt.Sprintf("superseded on %s; it may be removed from %s", minute(c.since), minute(until))
	}
	if until := c.lastNamed.Add(grace); !c.lastNamed.IsZero() && now.Before(until) {
		return fmt.Sprintf("%s named it until %s; it may be removed from %s", c.lastBy, minute(c.lastNamed), minute(until))
	}
	if !isDeprecated(c.Image, now) {
		return fmt.Sprintf("deprecated now; it may be removed from %s", minute(now.Add(time.Minute+grace)))
	}
	// isDeprecated has read this time.
	deprecated, _ := time.Parse(time.RFC3339, aws.ToString(c.Image.DeprecationTime))
	if until := deprecated.Add(grace); now.Before(until) {
		return fmt.Sprintf("deprecated since %s; it may be removed from %s", minute(deprecated), minute(until))
	}
	return lastLaunch(c.Image, r, grace, now)
}

// lastLaunch says whether the last launch of an image, by any account, is too
// recent for its removal.
func lastLaunch(img types.Image, r recipe.Recipe, grace time.Duration, now time.Time) string {
	if img.LastLaunchedTime == nil {
		return "" // no launch is known, and by now EC2 would report one from before it was superseded
	}
	at, err := time.Parse(time.RFC3339, *img.LastLaunchedTime)
	if err != nil {
		return fmt.Sprintf("EC2 reports its last launch at %q, which is no time", *img.LastLaunchedTime)
	}
	// The factory's own verifier launched it too, before it was published.
	published, err := time.Parse(time.RFC3339, ami.TagValue(img.Tags, contract.TagPublished))
	if err == nil && !at.After(published) {
		return ""
	}
	word := "last launched"
	// Other accounts' instances are not visible, only their last launch is.
	if len(AudienceOf(r.Distribution).Names()) > 0 {
		word = "shared and last launched"
		grace = max(grace, time.Duration(r.Retention.DeprecateAfter))
	}
	if until := at.Add(launchLag + grace); now.Before(until) {
		return fmt.Sprintf("%s on %s; it may be removed from %s", word, minute(at), minute(until))
	}
	return ""
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
