package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// settleTime is how long SSM may take to accept the image ids that were written
// to all pointers before they are given back.
const settleTime = 5 * time.Minute

// troubleTime is how long after the first pointer was moved a passing error of AWS
// is left to another attempt: half of the pointers may have moved by then.
const troubleTime = time.Minute

// keepForever is how long the janitor leaves a published image alone whose recipe
// sets no time of deprecation, in years.
const keepForever = 10

// TagAPI tags EC2 resources.
type TagAPI interface {
	CreateTags(context.Context, *ec2.CreateTagsInput, ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error)
}

// PublishAPI is what Publisher needs of EC2, in every region.
type PublishAPI interface {
	ec2.DescribeImagesAPIClient
	PermissionReader
	TagAPI
}

// Target is a verified copy of the image in one region.
type Target struct {
	ImageID     string
	SnapshotIDs []string
	Labels      ami.Labels
	Again       bool // an earlier execution published it already
}

// Publication is what one execution publishes.
type Publication struct {
	Of      compliance.Binding // the execution and its plan
	ID      string             // the plan's release id
	Recipe  recipe.Recipe
	Source  plan.SourceImage
	Targets map[string]Target // by region, one for each of the recipe's
	Now     time.Time
}

// DeprecateAt is when consumers should have moved on to a newer image; false if
// the recipe does not say.
func DeprecateAt(r recipe.Recipe, started time.Time) (time.Time, bool) {
	after := time.Duration(r.Retention.DeprecateAfter)
	return started.Add(after), after > 0
}

// Publisher moves the pointers of all accounts and regions, or none.
type Publisher struct {
	Records Records
	Holds   Holds
	EC2     func(region string) PublishAPI
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) ParameterAPI
}

// Publish verifies every copy again, moves the pointers and returns them. While
// another execution moves them, or SSM has not accepted all of them, the error is
// PublishNotReady: call it again.
// When one cannot be moved, all get their previous values back and the error is
// PublishFailed.
func (s Publisher) Publish(ctx context.Context, p Publication) ([]Pointer, error) {
	if err := takeHold(ctx, s.Holds, p); err != nil {
		return nil, err
	}
	j, err := s.earlier(ctx, p)
	if err != nil {
		return nil, err
	}
	if j == nil {
		if j, err = s.prepare(ctx, p); err != nil {
			dropHold(ctx, s.Holds, p) // nothing has moved: others need not wait
			return nil, err
		}
		if err := s.begin(ctx, j); err != nil {
			return nil, err
		}
	} else if err := s.verify(ctx, p); err != nil {
		return nil, err
	}
	switch j.State {
	case Restored:
		dropHold(ctx, s.Holds, p)
		return nil, failure.New(failure.PublishFailed, "the pointers were given back by an earlier attempt")
	case Committed:
		if err := s.committed(ctx, j); err != nil {
			return nil, err
		}
		if err := s.tagAgain(ctx, p); err != nil { // where an earlier attempt did not come to it
			return nil, err
		}
	case Moving:
		if err := s.move(ctx, p, j); err != nil {
			return nil, err
		}
		if err := s.commit(ctx, p, j); err != nil {
			return nil, err
		}
	}
	dropHold(ctx, s.Holds, p)
	return j.Pointers, nil
}

// verify makes sure that nothing has changed since each copy was verified.
func (s Publisher) verify(ctx context.Context, p Publication) error {
	var wrong []string
	for _, region := range Regions(p.Recipe) {
		target, api := p.Targets[region], s.EC2(region)
		img, err := ami.Describe(ctx, api, target.ImageID)
		if errors.Is(err, ami.ErrNotFound) {
			wrong = append(wrong, "image "+target.ImageID+" in "+region+" is gone")
			continue
		}
		if err != nil {
			return awserr.Wrap(err, failure.PublishFailed, "read image %s in %s", target.ImageID, region)
		}
		has, err := ReadAudience(ctx, api, target.ImageID)
		if err != nil {
			return awserr.Wrap(err, failure.PublishFailed, "read who may launch image %s in %s", target.ImageID, region)
		}
		expect := Expectation{Labels: target.Labels, SnapshotIDs: target.SnapshotIDs, Audience: AudienceOf(p.Recipe.Distribution)}
		if d := expect.Deviations(img, has); len(d) > 0 {
			wrong = append(wrong, "image "+target.ImageID+" in "+region+": "+strings.Join(d, ", "))
		}
	}
	if len(wrong) > 0 {
		return failure.New(failure.PublishFailed, "no pointer was moved: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// superseded refuses to release an image again when another was published while the
// execution waited: its pointers would go back to the older one.
func (s Publisher) superseded(ctx context.Context, p Publication) error {
	home := p.Recipe.Home().Name
	target := p.Targets[home]
	if !target.Again {
		return nil
	}
	own, err := ami.ListOwn(ctx, s.EC2(home), ami.ByRecipe(p.Recipe.Name))
	if err != nil {
		return awserr.Wrap(err, failure.PublishFailed, "no pointer was moved: list the images of recipe %s in %s", p.Recipe.Name, home)
	}
	if newest := ami.NewestPublished(own); newest != nil && aws.ToString(newest.ImageId) != target.ImageID {
		return failure.New(failure.PublishFailed, "no pointer was moved: image %s was published while this execution waited to release %s again",
			aws.ToString(newest.ImageId), target.ImageID)
	}
	return nil
}

// prepare verifies the copies and reads what the pointers name, for the journal of the
// first attempt.
func (s Publisher) prepare(ctx context.Context, p Publication) (*Journal, error) {
	if err := s.verify(ctx, p); err != nil {
		return nil, err
	}
	if err := s.superseded(ctx, p); err != nil {
		return nil, err
	}
	j := &Journal{Of: p.Of, Started: p.Now, Recipe: p.Recipe.Name, Images: map[string]string{}, Pointers: []Pointer{}}
	for _, region := range Regions(p.Recipe) {
		j.Images[region] = p.Targets[region].ImageID
		for _, ptr := range PointersIn(p.Recipe, region) {
			ptr.ImageID = p.Targets[region].ImageID
			now, err := ReadPointer(ctx, s.SSM(ptr.Account, region), ptr.Parameter)
			if err != nil {
				return nil, awserr.Wrap(err, failure.PublishFailed, "no pointer was moved: read %s", ptr)
			}
			if ptr.Previous, err = PreviousImage(ctx, s.EC2(region), now, p.Recipe.Name); err != nil {
				return nil, failure.Wrap(failure.CodeOf(err), err, "no pointer was moved: %s", ptr)
			}
			if now != ptr.Previous {
				ptr.Found = now
			}
			j.Pointers = append(j.Pointers, ptr)
		}
	}
	SortPointers(j.Pointers)
	return j, nil
}

// begin writes the journal of the first attempt.
func (s Publisher) begin(ctx context.Context, j *Journal) error {
	created, err := j.create(ctx, s.Records)
	if err != nil {
		return err
	}
	if !created {
		return failure.New(failure.ServiceUnavailable, "%s was written by another attempt meanwhile", journalAt(s.Records))
	}
	return nil
}

// earlier is the journal of an earlier attempt, if it is of these copies.
func (s Publisher) earlier(ctx context.Context, p Publication) (*Journal, error) {
	j, err := trustedJournal(ctx, s.Records, p, func(region string) ec2.DescribeImagesAPIClient { return s.EC2(region) })
	if err != nil || j == nil {
		return nil, err
	}
	var wrong []string
	for _, region := range Regions(p.Recipe) {
		if j.Images[region] != p.Targets[region].ImageID {
			wrong = append(wrong, fmt.Sprintf("its image in %s is %s, to be published is %s", region, j.Images[region], p.Targets[region].ImageID))
		}
	}
	return j, compliance.Mismatch(journalAt(s.Records), wrong)
}

// committed makes sure that the pointers name what a committed journal says.
func (s Publisher) committed(ctx context.Context, j *Journal) error {
	var wrong []string
	for _, ptr := range j.Pointers {
		now, err := ReadPointer(ctx, s.SSM(ptr.Account, ptr.Region), ptr.Parameter)
		if err != nil {
			return awserr.Wrap(err, failure.PublishFailed, "read pointer %s", ptr)
		}
		if now != ptr.ImageID {
			wrong = append(wrong, fmt.Sprintf("it says that all pointers are moved, but %s names %q and not %s", ptr, now, ptr.ImageID))
		}
	}
	return compliance.Mismatch(journalAt(s.Records), wrong)
}

// move writes the pointers that do not name their new image, and reads back
// whether SSM has accepted them.
func (s Publisher) move(ctx context.Context, p Publication, j *Journal) error {
	var waiting []string
	for i := range j.Pointers {
		ptr := &j.Pointers[i]
		api := s.SSM(ptr.Account, ptr.Region)
		now, err := ReadPointer(ctx, api, ptr.Parameter)
		if err == nil && now != ptr.ImageID && !ptr.Written {
			if err = Move(ctx, api, *ptr, j.Recipe); err == nil {
				ptr.Written = true
				now, err = ReadPointer(ctx, api, ptr.Parameter)
			}
		}
		if err != nil {
			return s.giveBack(ctx, p, j, awserr.Wrap(err, failure.PublishFailed, "move pointer %s to %s", ptr, ptr.ImageID))
		}
		// SSM answers before it has validated the image id, and shows the old
		// value until then.
		if now != ptr.ImageID {
			waiting = append(waiting, ptr.String())
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	pending := strings.Join(waiting, ", ")
	if !j.settled(p.Now) {
		if err := j.write(ctx, s.Records, Moving); err != nil {
			return err
		}
		return failure.New(failure.PublishNotReady, "SSM has not accepted the new image id of %s yet", pending)
	}
	return s.giveBack(ctx, p, j, failure.New(failure.PublishFailed,
		"SSM did not accept the new image id of %s within %s", pending, settleTime))
}

// commit marks the images as published, so that Cleanup and the janitor leave them
// alone, and then the journal.
func (s Publisher) commit(ctx context.Context, p Publication, j *Journal) error {
	expires, ok := DeprecateAt(p.Recipe, p.Of.Started)
	if !ok {
		expires = p.Now.AddDate(keepForever, 0, 0)
	}
	for _, region := range Regions(p.Recipe) {
		target := p.Targets[region]
		if target.Again {
			continue // when an image was published first says how old it is
		}
		tags := slices.Concat(ami.ReleaseTags(p.ID, p.Of.PlanSHA256), ami.PublishedTags(p.Now, expires), ami.SourceTags(p.Source.ImageID, p.Source.CreationDate))
		if err := s.tag(ctx, region, target, tags); err != nil {
			return s.giveBack(ctx, p, j, awserr.Wrap(err, failure.PublishFailed, "mark image %s in %s as published", target.ImageID, region))
		}
	}
	if err := j.write(ctx, s.Records, Committed); err != nil {
		return err
	}
	return s.tagAgain(ctx, p)
}

// tagAgain marks images that existed before with their new release. It comes after
// the commit: a release that is undone must not be found on the image, or the next
// execution would take the image as released.
func (s Publisher) tagAgain(ctx context.Context, p Publication) error {
	for _, region := range Regions(p.Recipe) {
		target := p.Targets[region]
		if !target.Again {
			continue
		}
		if err := s.tag(ctx, region, target, ami.ReleaseTags(p.ID, p.Of.PlanSHA256)); err != nil {
			return awserr.Wrap(err, failure.PublishFailed, "all pointers are moved, but image %s in %s is not marked with its release", target.ImageID, region)
		}
	}
	return nil
}

func (s Publisher) tag(ctx context.Context, region string, target Target, tags []types.Tag) error {
	_, err := s.EC2(region).CreateTags(ctx, &ec2.CreateTagsInput{Resources: append([]string{target.ImageID}, target.SnapshotIDs...), Tags: tags})
	return err
}

// giveBack restores all pointers and returns PublishFailed with the cause. Within
// troubleTime it returns a passing error as it is, for another attempt.
func (s Publisher) giveBack(ctx context.Context, p Publication, j *Journal, cause error) error {
	if code := failure.CodeOf(cause); (code == failure.Throttled || code == failure.ServiceUnavailable) && p.Now.Sub(j.Started) < troubleTime {
		return cause
	}
	if errs := Restore(ctx, s.SSM, j.Pointers, j.Recipe, j.settled(p.Now)); len(errs) > 0 {
		all := []error{cause}
		for _, ptr := range j.Pointers {
			if err := errs[ptr]; err != nil {
				all = append(all, fmt.Errorf("give back pointer %s: %w", ptr, err))
			}
		}
		if err := j.write(ctx, s.Records, Moving); err != nil { // Undo must know which were written
			all = append(all, err)
		}
		return failure.Wrap(failure.PublishFailed, errors.Join(all...),
			"the pointers could not be moved, nor all given back; clean-up will try again")
	}
	if err := j.write(ctx, s.Records, Restored); err != nil {
		return failure.Wrap(failure.PublishFailed, errors.Join(cause, err), "the pointers could not be moved and have their previous values")
	}
	dropHold(ctx, s.Holds, p)
	return failure.Wrap(failure.PublishFailed, cause, "the pointers could not be moved and have their previous values again")
}
