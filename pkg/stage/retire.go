package stage

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
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
)

// RetireEC2 is what Retire needs of EC2, in every region.
type RetireEC2 interface {
	ec2.DescribeImagesAPIClient
	ec2.DescribeImageReferencesAPIClient
	release.DeprecationAPI
	ami.Remover
}

// launchLag is how late EC2 reports a launch in an image's LastLaunchedTime:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-last-launched-time.html
const launchLag = 24 * time.Hour

// Retire deprecates published images beyond the recipe's retention, and removes
// those that have had no known use for the recipe's retention.removeAfter.
//
// An image's deprecation time keeps what Retire knows of its use: it is when
// Retire first found the image superseded, or last found it in use.
type Retire struct {
	Store Store
	EC2   func(region string) RetireEC2
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) release.ParameterReader
}

// Run works through all regions. An image that cannot be retired is listed and
// is no error: the new one is published whatever becomes of the old.
func (s Retire) Run(ctx context.Context, in RetireInput) (RetireOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return RetireOutput{}, err
	}
	out := RetireOutput{Retired: []string{}, Deprecated: []string{}, Left: []string{}}
	for _, region := range regionsOf(p) {
		if err := s.region(ctx, in, p, region, &out); err != nil {
			return RetireOutput{}, err
		}
	}
	slices.Sort(out.Retired)
	slices.Sort(out.Deprecated)
	slices.Sort(out.Left)
	return out, nil
}

func (s Retire) region(ctx context.Context, in RetireInput, p plan.BuildPlan, region string, out *RetireOutput) error {
	api := s.EC2(region)
	images, err := ami.ListOwn(ctx, api, ami.ByRecipe(p.Recipe.Name))
	if err != nil {
		return awserr.Wrap(err, failure.Internal, "list the images of recipe %s in %s", p.Recipe.Name, region)
	}
	var named []string
	for _, ptr := range pointersIn(p, region) {
		id, err := release.ReadPointer(ctx, s.SSM(ptr.Account, region), ptr.Parameter)
		if err != nil {
			return awserr.Wrap(err, failure.Internal, "read pointer %s", ptr)
		}
		named = append(named, id)
	}
	surplus := release.Surplus(images, p.Recipe.Retention.Keep, named)
	var ids []string
	for _, old := range surplus {
		ids = append(ids, aws.ToString(old.Image.ImageId))
	}
	users, err := ami.References(ctx, api, ids)
	if err != nil {
		return awserr.Wrap(err, failure.Internal, "find out what uses the superseded images of recipe %s in %s", p.Recipe.Name, region)
	}
	for _, old := range surplus {
		img := old.Image
		id := region + ":" + aws.ToString(img.ImageId)
		use := inUse(users[aws.ToString(img.ImageId)])
		deprecated := isDeprecated(img, in.Now)
		if use != "" || !deprecated {
			at := in.Now.Add(time.Minute) // EC2 refuses a time in the past
			if err := release.Deprecate(ctx, api, aws.ToString(img.ImageId), at); err != nil {
				out.Left = append(out.Left, id+": "+err.Error())
				continue
			}
		}
		if use == "" {
			use = recent(old, p, in.Now)
		}
		if use != "" {
			out.Deprecated = append(out.Deprecated, id+": "+use)
			continue
		}
		if _, err := ami.Remove(ctx, api, img); err != nil {
			out.Left = append(out.Left, id+": "+err.Error())
			continue
		}
		out.Retired = append(out.Retired, id)
	}
	return nil
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
func recent(old release.Superseded, p plan.BuildPlan, now time.Time) string {
	// A plan of an earlier release has no removeAfter.
	grace := time.Duration(cmp.Or(p.Recipe.Retention.RemoveAfter, recipe.DefaultRemoveAfter))
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
	return lastLaunch(old.Image, p, grace, now)
}

// lastLaunch says whether the last launch of an image, by any account, is too
// recent for its removal.
func lastLaunch(img types.Image, p plan.BuildPlan, grace time.Duration, now time.Time) string {
	if img.LastLaunchedTime == nil {
		return "" // no launch is known, and by now EC2 would report one from before it was superseded
	}
	at, err := time.Parse(time.RFC3339, *img.LastLaunchedTime)
	if err != nil {
		return fmt.Sprintf("EC2 reports its last launch at %q, which is no time", *img.LastLaunchedTime)
	}
	// The factory's own verifier launched it too, before it was published.
	published, err := time.Parse(time.RFC3339, ami.TagValue(img.Tags, ami.TagPublished))
	if err == nil && !at.After(published) {
		return ""
	}
	word := "last launched"
	// Other accounts' instances are not visible, only their last launch is.
	if len(release.AudienceOf(p.Recipe.Distribution).Names()) > 0 {
		word = "shared and last launched"
		grace = max(grace, time.Duration(p.Recipe.Retention.DeprecateAfter))
	}
	if until := at.Add(launchLag + grace); now.Before(until) {
		return fmt.Sprintf("%s on %s; it may be removed from %s", word, minute(at), minute(until))
	}
	return ""
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func isDeprecated(img types.Image, now time.Time) bool {
	at, err := time.Parse(time.RFC3339, aws.ToString(img.DeprecationTime))
	return err == nil && !at.After(now)
}
