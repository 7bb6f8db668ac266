package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// CleanupEC2 is what Cleanup needs of EC2, in every region.
type CleanupEC2 interface {
	ec2.DescribeImagesAPIClient
	ec2.DescribeInstancesAPIClient
	ec2.DescribeSnapshotsAPIClient
	ami.Remover
	release.ShareAPI
	TerminateInstances(context.Context, *ec2.TerminateInstancesInput, ...func(*ec2.Options)) (*ec2.TerminateInstancesOutput, error)
}

// Cleanup removes what an execution made and did not publish, found by its tag
// alone, so that it works after any failure.
type Cleanup struct {
	Settings Settings
	Store    store.Store
	Keys     store.Directory
	EC2      func(region string) CleanupEC2
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) release.ParameterAPI
}

// Run removes everything it can, and lists what it cannot. Only when another
// attempt may do better is that an error, CleanupIncomplete.
func (s Cleanup) Run(ctx context.Context, in CleanupInput) (CleanupOutput, error) {
	if err := requireInput("execution.name", in.Execution.Name); err != nil {
		return CleanupOutput{}, err
	}
	t := &tally{}
	if in.Instances {
		return s.onlyInstances(ctx, in, t)
	}
	p, regions := s.plan(ctx, in, t)
	kept := s.pointers(ctx, in, p, t)
	for _, region := range regions {
		s.region(ctx, in, region, kept, t)
	}
	s.sharing(ctx, in, p, kept, t)
	s.waits(ctx, in.Execution)
	out := t.output()
	out.Ending = in.ending()
	if t.passing {
		return out, failure.New(failure.CleanupIncomplete, "not everything could be removed yet: %s", strings.Join(out.Left, "; "))
	}
	return out, nil
}

// onlyInstances terminates the execution's builder and verifier while the execution goes
// on. The error is CleanupIncomplete if one of them may still run. An instance that has
// the tags but was launched by somebody else does not stop it: the clean-up at the end
// reports it.
func (s Cleanup) onlyInstances(ctx context.Context, in CleanupInput, t *tally) (CleanupOutput, error) {
	own := &tally{}
	s.instances(ctx, s.EC2(s.Settings.Region), in.Execution, s.Settings.Region, own, t)
	out := own.output()
	if len(out.Left) > 0 {
		return out, failure.New(failure.CleanupIncomplete, "the instances of the execution could not be terminated: %s", strings.Join(out.Left, "; "))
	}
	return out, nil
}

// waits deletes the tokens that the execution's states have waited with, unread: all
// of them have ended. A token that stays is of no use to anybody and has a lifetime of a
// day, so it does not make the execution end in FailedDirty.
func (s Cleanup) waits(ctx context.Context, e Execution) {
	keys, err := s.Keys.Keys(ctx, contract.WaitsOf(e.Name))
	if err != nil {
		slog.WarnContext(ctx, "the tokens of waits could not be listed; they are removed after a day", "error", err.Error())
		return
	}
	for _, key := range keys {
		var err error
		if token, ok := contract.WaitTokenIn(key); ok {
			err = s.Keys.Delete(ctx, token.Key())
		}
		if err == nil {
			err = s.Keys.Delete(ctx, key)
		}
		if err != nil {
			slog.WarnContext(ctx, "a token of a wait could not be deleted; it is removed after a day", "key", key, "error", err.Error())
		}
	}
}

// tally collects what became of resources.
type tally struct {
	removed, left []string
	passing       bool // some of what is left may go on another attempt
}

func (t *tally) leave(id string, err error) {
	// Snapshots stay in use for a moment after their image is deregistered.
	switch code := awserr.Classify(err, failure.Internal); {
	case code == failure.Throttled, code == failure.ServiceUnavailable,
		awserr.Is(err, "InvalidSnapshot.InUse", "IncorrectState", "IncorrectInstanceState"):
		t.passing = true
	}
	t.left = append(t.left, id+": "+strings.ReplaceAll(awserr.Brief(err), "\n", "; "))
}

func (t *tally) output() CleanupOutput {
	out := CleanupOutput{Removed: ami.SortedIDs(t.removed), Left: ami.SortedIDs(t.left)}
	if out.Removed == nil {
		out.Removed = []string{}
	}
	if out.Left == nil {
		out.Left = []string{}
	}
	return out
}

// plan is the execution's, nil when it has none, and the regions to search: the
// plan's, those of copies and the home region.
func (s Cleanup) plan(ctx context.Context, in CleanupInput, t *tally) (*plan.BuildPlan, []string) {
	regions := []string{s.Settings.Region}
	for _, c := range in.Copies {
		regions = append(regions, c.Region)
	}
	regions = ami.SortedIDs(regions)
	if in.Plan.Key == "" {
		return nil, regions
	}
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		t.leave("regions other than "+strings.Join(regions, ", ")+" were not searched", err)
		return nil, regions
	}
	return &p, ami.SortedIDs(append(regions, regionsOf(p)...))
}

// keep decides about an execution's images.
type keep struct {
	published map[string]string // image ids by region, set when the publication was committed
	named     []string          // image ids that a pointer still names
	restored  bool              // the journal says that no pointer names the images any more
	unknown   error             // set when nothing may be touched, as it is unknown whether pointers name it
}

// pointers gives pointers back that Publish left half moved.
func (s Cleanup) pointers(ctx context.Context, in CleanupInput, p *plan.BuildPlan, t *tally) keep {
	u, err := s.undo(ctx, in, p)
	if err != nil {
		return keep{unknown: fmt.Errorf("it is unknown whether it is published: %w", err)}
	}
	for _, r := range u.Refused {
		t.leave("pointer "+r.Pointer.String()+", which was "+orNothing(r.Pointer.Previous), r.Err) // each by itself: one may go on another attempt
	}
	for _, ptr := range u.GivenBack {
		t.removed = append(t.removed, "pointer "+ptr.String()+" to "+ptr.ImageID)
	}
	if u.Unwritten != nil {
		t.leave("journal "+journalKey(in.Execution), u.Unwritten)
	}
	return keep{published: u.Published, named: u.Named, restored: u.Restored}
}

// undo is what became of this very execution's publication. A journal that is
// there before the execution has a plan is another's.
func (s Cleanup) undo(ctx context.Context, in CleanupInput, p *plan.BuildPlan) (release.Undone, error) {
	journal := journalOf(s.Store, in.Execution)
	if p == nil {
		raw, err := journal.Read(ctx)
		if err != nil || raw == nil {
			return release.Undone{}, err
		}
		return release.Undone{}, compliance.Mismatch("the journal of pointers "+journal.Address(), []string{"the execution has no plan that can be read"})
	}
	return release.Undo{
		Records: journal, Holds: holds{s.Store}, Images: func(region string) ec2.DescribeImagesAPIClient { return s.EC2(region) }, SSM: s.SSM,
	}.Run(ctx, publicationOf(in.Job, *p))
}

// sharing gives an image that was to be released again back to those whom the
// release before shared it with, unless the execution published it.
func (s Cleanup) sharing(ctx context.Context, in CleanupInput, p *plan.BuildPlan, k keep, t *tally) {
	if p == nil || p.Reuse == nil || k.published != nil || in.Failed == contract.StateEvaluateGateAgain || in.Failed == contract.StateDistribute { // which are before all changes
		return
	}
	if k.unknown != nil || len(k.named) > 0 {
		t.leave("launch permissions of the image that was to be released again", errors.New("they were not given back: a pointer may name it for those who are new"))
		return
	}
	for _, region := range regionsOf(*p) {
		again, ok := p.Reused(region)
		if !ok {
			continue
		}
		img, err := ami.Describe(ctx, s.EC2(region), again.ImageID)
		if err == nil && ami.TagValue(img.Tags, contract.TagPlan) != again.Plan {
			continue // another execution has released it since
		}
		if err == nil {
			err = release.ShareAsBefore(ctx, s.EC2(region), again.ImageID, release.AudienceOf(p.Recipe.Distribution), sharedBefore(*p, region))
		}
		if err != nil && !errors.Is(err, ami.ErrNotFound) && !awserr.IsNotFound(err) {
			t.leave("launch permissions of "+region+":"+again.ImageID, err)
		}
	}
}

// orNothing is the previous value of a pointer, for people.
func orNothing(previous string) string {
	if previous == "" {
		return "not there"
	}
	return previous
}

func (s Cleanup) region(ctx context.Context, in CleanupInput, region string, k keep, t *tally) {
	api, e := s.EC2(region), in.Execution
	s.instances(ctx, api, e, region, t, t)
	found, err := s.found(ctx, api, in, region, t)
	if err != nil {
		t.leave("images and snapshots in "+region, err)
		return
	}
	surviving := s.images(ctx, api, e, region, found, k, t)
	s.snapshots(ctx, api, e, region, k, surviving, t)
}

// instances terminates the execution's instances in a region. foreign are those that bear
// its tags and were launched by somebody else.
func (s Cleanup) instances(ctx context.Context, api CleanupEC2, e Execution, region string, t, foreign *tally) {
	found, err := ami.ListInstances(ctx, api, ami.ByExecution(e.Name))
	if err != nil {
		t.leave("instances in "+region, err)
		return
	}
	// One at a time: one that cannot be terminated must not shield the others.
	for _, i := range found {
		id := aws.ToString(i.InstanceId)
		// A tag is anybody's to set: what another one launched is not the
		// execution's to terminate.
		if e.ID != "" && !ami.LaunchedBy(aws.ToString(i.ClientToken), launchOwner(e, ami.TagValue(i.Tags, contract.TagStage))...) {
			foreign.leave(region+":"+id, errors.New("it bears the tags of this execution, but was not launched by it"))
			continue
		}
		_, err := api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
		if err != nil && !awserr.IsNotFound(err) {
			t.leave(region+":"+id, err)
			continue
		}
		t.removed = append(t.removed, region+":"+id)
	}
}

// shown is how long after the start of a copy Cleanup still expects EC2 to show it
// (https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html).
const shown = 30 * time.Second

// found are the execution's images in a region. A copy that was started, or may have
// been, and that EC2 does not show yet is left to the next attempt.
func (s Cleanup) found(ctx context.Context, api CleanupEC2, in CleanupInput, region string, t *tally) ([]types.Image, error) {
	found, err := ami.ListOwn(ctx, api, ami.ByExecution(in.Execution.Name))
	if err != nil {
		return nil, err
	}
	for _, c := range in.Copies {
		is := func(img types.Image) bool { return aws.ToString(img.ImageId) == c.ImageID || c.ImageID == "" }
		switch {
		case c.Region != region || slices.ContainsFunc(found, is) || !in.Now.Before(c.StartedAt.Add(shown)):
		case c.ImageID == "":
			t.leave(region+": a copy", errors.New("it is not known whether it was started, and EC2 may not show it yet"))
			t.passing = true
		default:
			img, err := ami.Describe(ctx, api, c.ImageID)
			switch {
			case errors.Is(err, ami.ErrNotFound):
				t.leave(region+":"+c.ImageID, errors.New("it was started, and EC2 does not show it yet"))
				t.passing = true
			case err != nil:
				return nil, err
			case ami.TagValue(img.Tags, contract.TagExecution) == in.Execution.Name: // not one that existed
				found = append(found, img)
			}
		}
	}
	return found, nil
}

// images removes the execution's images and returns the snapshots of those
// that stay.
func (s Cleanup) images(ctx context.Context, api CleanupEC2, e Execution, region string, found []types.Image, k keep, t *tally) (surviving []string) {
	for _, img := range found {
		id := aws.ToString(img.ImageId)
		switch {
		case k.published[region] == id:
			// By the journal and not by its tag, which may not show yet.
			surviving = append(surviving, ami.Snapshots(img)...)
			continue
		case ami.IsPublished(img) && ami.Made(aws.ToString(img.CreationDate)).Before(e.StartTime):
			// Of an earlier execution of the same name, which published it.
			surviving = append(surviving, ami.Snapshots(img)...)
			continue
		case k.unknown != nil:
			t.leave(region+":"+id, k.unknown)
			surviving = append(surviving, ami.Snapshots(img)...)
			continue
		case slices.Contains(k.named, id):
			t.leave(region+":"+id, errors.New("a pointer may still name it"))
			surviving = append(surviving, ami.Snapshots(img)...)
			continue
		case ami.IsPublished(img) && !k.restored:
			t.leave(region+":"+id, errUnclaimed())
			surviving = append(surviving, ami.Snapshots(img)...)
			continue
		}
		removed, err := ami.Remove(ctx, api, img)
		for _, r := range removed {
			t.removed = append(t.removed, region+":"+r)
		}
		switch {
		case err != nil:
			t.leave(region+":"+id, err)
			surviving = append(surviving, ami.Snapshots(img)...) // reported once
		case img.State == types.ImageStatePending && len(ami.Snapshots(img)) == 0:
			// Deregistering stops a copy that is pending, and its snapshot may show
			// later: the next attempt finds that by its tag, and no image any more.
			// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/CopyingAMIs.html
			t.leave(region+":"+id, errors.New("it was deregistered while it was pending, and its snapshot is not visible yet"))
			t.passing = true
		}
	}
	return surviving
}

// errUnclaimed is why a thing is left that bears the tag of what is published.
func errUnclaimed() error {
	return errors.New("it is tagged as published, and no journal of this execution says that it is")
}

// snapshots removes those that no image of the execution has (any more).
func (s Cleanup) snapshots(ctx context.Context, api CleanupEC2, e Execution, region string, k keep, surviving []string, t *tally) {
	found, err := ami.ListSnapshots(ctx, api, ami.ByExecution(e.Name))
	if err != nil {
		t.leave("snapshots in "+region, err)
		return
	}
	for _, snapshot := range found {
		id := aws.ToString(snapshot.SnapshotId)
		if slices.Contains(surviving, id) {
			continue
		}
		if ami.TagValue(snapshot.Tags, contract.TagPublished) != "" && !k.restored {
			if !aws.ToTime(snapshot.StartTime).Before(e.StartTime) {
				t.leave(region+":"+id, errUnclaimed())
			}
			continue
		}
		if err := ami.DeleteSnapshot(ctx, api, id); err != nil {
			t.leave(region+":"+id, err)
			continue
		}
		t.removed = append(t.removed, region+":"+id)
	}
}
