package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
)

// settleTime is how long SSM may take to accept the image ids that were written
// to all pointers before they are given back.
const settleTime = 5 * time.Minute

// troubleTime is how long after the first pointer passing trouble of AWS is
// left to another attempt: consumers may see half of the pointers moved.
const troubleTime = time.Minute

// PublishEC2 is what Publish needs of EC2, in every region.
type PublishEC2 interface {
	ec2.DescribeImagesAPIClient
	release.PermissionReader
	TagAPI
}

// Publish moves the pointers of all accounts and regions, or none.
type Publish struct {
	Store Store
	EC2   func(region string) PublishEC2
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) release.ParameterAPI
}

// Run verifies every copy again and then moves the pointers. While SSM has not
// accepted all of them it returns PublishNotReady, to be run again; when one
// cannot be moved, all get their previous values back and the error is
// PublishFailed.
func (s Publish) Run(ctx context.Context, in PublishInput) (PublishOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return PublishOutput{}, err
	}
	copies, err := complete(in.Copies, p)
	if err != nil {
		return PublishOutput{}, err
	}
	if err := readResults(ctx, s.Store, in.Job, in.Results, p, copies[homeOf(p)].ImageID); err != nil {
		return PublishOutput{}, failure.Wrap(failure.CodeOf(err), err, "no image is published without its compliance results")
	}
	if err := s.verify(ctx, in, p, copies); err != nil {
		return PublishOutput{}, err
	}
	j, err := s.begin(ctx, in, p, copies)
	if err != nil {
		return PublishOutput{}, err
	}
	switch j.State {
	case journalRestored:
		return PublishOutput{}, failure.New(failure.PublishFailed, "the pointers were given back by an earlier attempt")
	case journalCommitted:
		if err := s.committed(ctx, in, j); err != nil {
			return PublishOutput{}, err
		}
	case journalMoving:
		if err := s.move(ctx, in, j); err != nil {
			return PublishOutput{}, err
		}
		if err := s.commit(ctx, in, p, copies, j); err != nil {
			return PublishOutput{}, err
		}
	}
	out := PublishOutput{Images: map[string]string{}, Pointers: []string{}}
	for region, c := range copies {
		out.Images[region] = c.ImageID
	}
	for _, ptr := range j.Pointers {
		out.Pointers = append(out.Pointers, ptr.String())
	}
	return out, nil
}

// complete returns the copies by region, one for each of the plan's.
func complete(copies []CheckDistributionOutput, p plan.BuildPlan) (map[string]CheckDistributionOutput, error) {
	byRegion := map[string]CheckDistributionOutput{}
	for _, c := range copies {
		byRegion[c.Region] = c
	}
	var missing []string
	for _, r := range regionsOf(p) {
		if byRegion[r].ImageID == "" {
			missing = append(missing, r)
		}
	}
	if len(missing) > 0 || len(byRegion) != len(regionsOf(p)) {
		return nil, failure.New(failure.InvalidInput, "the copies are not those of the plan's regions %v; missing: %v", regionsOf(p), missing)
	}
	return byRegion, nil
}

// verify makes sure that nothing has changed since each copy was verified.
func (s Publish) verify(ctx context.Context, in PublishInput, p plan.BuildPlan, copies map[string]CheckDistributionOutput) error {
	var wrong []string
	for _, region := range regionsOf(p) {
		c, api := copies[region], s.EC2(region)
		img, err := ami.Describe(ctx, api, c.ImageID)
		if isNoImage(err) {
			wrong = append(wrong, "image "+c.ImageID+" in "+region+" is gone")
			continue
		}
		if err != nil {
			return awserr.Wrap(err, failure.PublishFailed, "read image %s in %s", c.ImageID, region)
		}
		has, err := release.ReadAudience(ctx, api, c.ImageID)
		if err != nil {
			return awserr.Wrap(err, failure.PublishFailed, "read who may launch image %s in %s", c.ImageID, region)
		}
		expect := release.Expectation{
			Labels: labels(in.Job, p, p.ImageName), SnapshotIDs: c.SnapshotIDs, Audience: release.AudienceOf(p.Recipe.Distribution),
		}
		if d := expect.Deviations(img, has); len(d) > 0 {
			wrong = append(wrong, "image "+c.ImageID+" in "+region+": "+strings.Join(d, ", "))
		}
	}
	if len(wrong) > 0 {
		return failure.New(failure.PublishFailed, "no pointer was moved: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// pointersIn are the plan's in a region, of all accounts, naming nothing yet.
func pointersIn(p plan.BuildPlan, region string) []release.Pointer {
	var out []release.Pointer
	for _, account := range append([]string{""}, p.Recipe.Pointers.Accounts...) {
		for _, name := range p.Recipe.Pointers.Parameters {
			out = append(out, release.Pointer{Account: account, Region: region, Parameter: name})
		}
	}
	return out
}

// begin returns the journal of an earlier attempt, or writes the first one.
func (s Publish) begin(ctx context.Context, in PublishInput, p plan.BuildPlan, copies map[string]CheckDistributionOutput) (*journal, error) {
	j, err := s.earlier(ctx, in, p, copies)
	if err != nil || j != nil {
		return j, err
	}
	j = &journal{Of: bindingOf(in.Job, p), Started: in.Now, Recipe: p.Recipe.Name, Images: map[string]string{}, Pointers: []release.Pointer{}}
	for _, region := range regionsOf(p) {
		j.Images[region] = copies[region].ImageID
		for _, ptr := range pointersIn(p, region) {
			ptr.ImageID = copies[region].ImageID
			now, err := release.ReadPointer(ctx, s.SSM(ptr.Account, region), ptr.Parameter)
			if err != nil {
				return nil, awserr.Wrap(err, failure.PublishFailed, "no pointer was moved: read %s", ptr)
			}
			if ptr.Previous, err = previousImage(ctx, s.EC2(region), now, p.Recipe); err != nil {
				return nil, failure.Wrap(failure.CodeOf(err), err, "no pointer was moved: %s", ptr)
			}
			j.Pointers = append(j.Pointers, ptr)
		}
	}
	release.SortPointers(j.Pointers)
	begun, err := j.begin(ctx, s.Store, in.Execution)
	if err != nil {
		return nil, err
	}
	if !begun { // another attempt of this moment was first
		return nil, failure.New(failure.ServiceUnavailable, "%s was written by another attempt meanwhile", journalKey(in.Execution))
	}
	return j, nil
}

// earlier is the journal of an earlier attempt, if it is of these copies.
func (s Publish) earlier(ctx context.Context, in PublishInput, p plan.BuildPlan, copies map[string]CheckDistributionOutput) (*journal, error) {
	j, err := trustedJournal(ctx, s.Store, in.Job, p, func(region string) ec2.DescribeImagesAPIClient { return s.EC2(region) })
	if err != nil || j == nil {
		return nil, err
	}
	var wrong []string
	for _, region := range regionsOf(p) {
		if j.Images[region] != copies[region].ImageID {
			wrong = append(wrong, fmt.Sprintf("its image in %s is %s, to be published is %s", region, j.Images[region], copies[region].ImageID))
		}
	}
	return j, mismatch(theJournal, s.Store, journalKey(in.Execution), wrong)
}

// committed makes sure that what a journal calls done is done.
func (s Publish) committed(ctx context.Context, in PublishInput, j *journal) error {
	var wrong []string
	for _, ptr := range j.Pointers {
		now, err := release.ReadPointer(ctx, s.SSM(ptr.Account, ptr.Region), ptr.Parameter)
		if err != nil {
			return awserr.Wrap(err, failure.PublishFailed, "read pointer %s", ptr)
		}
		if now != ptr.ImageID {
			wrong = append(wrong, fmt.Sprintf("it says that all pointers are moved, but %s names %q and not %s", ptr, now, ptr.ImageID))
		}
	}
	return mismatch(theJournal, s.Store, journalKey(in.Execution), wrong)
}

// move writes the pointers that do not name their new image, and looks whether
// SSM has accepted them.
func (s Publish) move(ctx context.Context, in PublishInput, j *journal) error {
	var waiting []string
	for i := range j.Pointers {
		ptr := &j.Pointers[i]
		api := s.SSM(ptr.Account, ptr.Region)
		now, err := release.ReadPointer(ctx, api, ptr.Parameter)
		if err == nil && now != ptr.ImageID && !ptr.Written {
			if err = release.Move(ctx, api, *ptr, j.Recipe); err == nil {
				ptr.Written = true
				now, err = release.ReadPointer(ctx, api, ptr.Parameter)
			}
		}
		if err != nil {
			return s.giveBack(ctx, in, j, awserr.Wrap(err, failure.PublishFailed, "move pointer %s to %s", ptr, ptr.ImageID))
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
	if in.Now.Sub(j.Started) < settleTime {
		if err := j.write(ctx, s.Store, in.Execution, journalMoving); err != nil {
			return err
		}
		return failure.New(failure.PublishNotReady, "SSM has not accepted the new image id of %s yet", pending)
	}
	return s.giveBack(ctx, in, j, failure.New(failure.PublishFailed,
		"SSM did not accept the new image id of %s within %s", pending, settleTime))
}

// commit marks the images, so that Cleanup and the janitor leave them alone.
func (s Publish) commit(ctx context.Context, in PublishInput, p plan.BuildPlan, copies map[string]CheckDistributionOutput, j *journal) error {
	expires, ok := deprecation(in.Execution, p)
	if !ok {
		expires = in.Now.AddDate(10, 0, 0)
	}
	for _, region := range regionsOf(p) {
		c := copies[region]
		_, err := s.EC2(region).CreateTags(ctx, &ec2.CreateTagsInput{
			Resources: append([]string{c.ImageID}, c.SnapshotIDs...),
			Tags:      append(ami.PublishedTags(in.Now, expires), ami.SourceTags(p.Source.ImageID, p.Source.CreationDate)...),
		})
		if err != nil {
			return s.giveBack(ctx, in, j, awserr.Wrap(err, failure.PublishFailed, "mark image %s in %s as published", c.ImageID, region))
		}
	}
	return j.write(ctx, s.Store, in.Execution, journalCommitted)
}

// giveBack restores all pointers and makes PublishFailed of the cause. Passing
// trouble within troubleTime is reported as such instead, and tried again.
func (s Publish) giveBack(ctx context.Context, in PublishInput, j *journal, cause error) error {
	if code := failure.CodeOf(cause); (code == failure.Throttled || code == failure.ServiceUnavailable) && in.Now.Sub(j.Started) < troubleTime {
		return cause
	}
	if errs := release.Restore(ctx, s.SSM, j.Pointers, j.Recipe); len(errs) > 0 {
		all := []error{cause}
		for _, p := range j.Pointers {
			if err := errs[p]; err != nil {
				all = append(all, fmt.Errorf("give back pointer %s: %w", p, err))
			}
		}
		return failure.Wrap(failure.PublishFailed, errors.Join(all...),
			"the pointers could not be moved, nor all given back; clean-up will try again")
	}
	if err := j.write(ctx, s.Store, in.Execution, journalRestored); err != nil {
		return failure.Wrap(failure.PublishFailed, errors.Join(cause, err), "the pointers could not be moved and have their previous values")
	}
	return failure.Wrap(failure.PublishFailed, cause, "the pointers could not be moved and have their previous values again")
}
