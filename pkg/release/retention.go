package release

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
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
	EC2 func(region string) RetentionAPI
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) ParameterReader
}

// Outcome is what Retention did with an image.
type Outcome string

// The outcomes.
const (
	Deprecated Outcome = "deprecated" // not removed yet
	Removed    Outcome = "removed"    // deregistered, and its snapshots deleted
	Left       Outcome = "left"       // a call failed
)

// Decision is what Retention did with an image, and why.
type Decision struct {
	Region  string
	ImageID string
	Outcome Outcome
	Why     string
}

// Apply decides on the published images of a recipe in a region. An image that
// cannot be deprecated or removed is an outcome and no error: the new image is
// published whatever becomes of the old.
func (s Retention) Apply(ctx context.Context, r recipe.Recipe, region string, now time.Time) ([]Decision, error) {
	api := s.EC2(region)
	images, err := ami.ListOwn(ctx, api, ami.ByRecipe(r.Name))
	if err != nil {
		return nil, awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", r.Name, region)
	}
	var named []string
	for _, ptr := range PointersIn(r, region) {
		id, err := ReadPointer(ctx, s.SSM(ptr.Account, region), ptr.Parameter)
		if err != nil {
			return nil, awserr.Wrap(err, failure.Internal, "read pointer %s", ptr)
		}
		named = append(named, id)
	}
	surplus := Surplus(images, r.Retention.Keep, named)
	var ids []string
	for _, old := range surplus {
		ids = append(ids, aws.ToString(old.Image.ImageId))
	}
	users, err := ami.References(ctx, api, ids)
	if err != nil {
		return nil, awserr.Wrap(err, failure.Internal, "find out what uses the superseded images of recipe %s in %s", r.Name, region)
	}
	var out []Decision
	for _, old := range surplus {
		outcome, why := apply(ctx, api, r, old, users[aws.ToString(old.Image.ImageId)], now)
		out = append(out, Decision{Region: region, ImageID: aws.ToString(old.Image.ImageId), Outcome: outcome, Why: why})
	}
	return out, nil
}

// apply deals with an image that users refer to.
func apply(ctx context.Context, api RetentionAPI, r recipe.Recipe, old Superseded, users []string, now time.Time) (Outcome, string) {
	use := inUse(users)
	if use != "" || !isDeprecated(old.Image, now) {
		at := now.Add(time.Minute) // EC2 refuses a time in the past
		if err := Deprecate(ctx, api, aws.ToString(old.Image.ImageId), at); err != nil {
			return Left, err.Error()
		}
	}
	if why := cmp.Or(use, recent(old, r, now)); why != "" {
		return Deprecated, why
	}
	if _, err := ami.Remove(ctx, api, old.Image); err != nil {
		return Left, err.Error()
	}
	return Removed, ""
}

// Superseded is a published image beyond those that a recipe keeps.
type Superseded struct {
	Image types.Image
	// Since is when so many newer images were published that this one is beyond
	// them. It is never earlier than the image's own publication, and zero if a
	// time of publication cannot be read.
	Since time.Time
}

// Surplus returns those published images that are beyond the newest keep and
// that none of protected names. images are newest first, as ami.List has them.
func Surplus(images []types.Image, keep int, protected []string) []Superseded {
	var out []Superseded
	var newer []time.Time // when the images before this one were published
	for _, img := range images {
		if !ami.IsPublished(img) || img.State != types.ImageStateAvailable {
			continue
		}
		at, _ := time.Parse(time.RFC3339, ami.TagValue(img.Tags, contract.TagPublished)) // zero if it is no time
		if len(newer) >= keep && !slices.Contains(protected, aws.ToString(img.ImageId)) {
			out = append(out, Superseded{Image: img, Since: supersededAt(at, newer, keep)})
		}
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

// inUse says what uses an image now; empty when nothing is known to.
func inUse(users []string) string {
	switch len(users) {
	case 0:
		return ""
	case 1:
		return users[0] + " of this account uses it"
	}
	return fmt.Sprintf("%d instances and launch templates of this account use it, %s among them", len(users), users[0])
}

// recent says why an image that nothing is known to use now is too young a
// candidate for removal; empty when it is not. Nothing is removed on the word of
// a time that is missing or malformed.
func recent(old Superseded, r recipe.Recipe, now time.Time) string {
	// A plan of an earlier version has no removeAfter.
	grace := time.Duration(cmp.Or(r.Retention.RemoveAfter, recipe.DefaultRemoveAfter))
	if old.Since.IsZero() {
		return "its tags do not say when it and newer images were published"
	}
	if until := old.Since.Add(grace); now.Before(until) {
		return fmt.Sprintf("superseded on %s; it may be removed from %s", minute(old.Since), minute(until))
	}
	if !isDeprecated(old.Image, now) {
		return fmt.Sprintf("deprecated now; it may be removed from %s", minute(now.Add(time.Minute+grace)))
	}
	// isDeprecated has read this time.
	deprecated, _ := time.Parse(time.RFC3339, aws.ToString(old.Image.DeprecationTime))
	if until := deprecated.Add(grace); now.Before(until) {
		return fmt.Sprintf("deprecated since %s; it may be removed from %s", minute(deprecated), minute(until))
	}
	return lastLaunch(old.Image, r, grace, now)
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
