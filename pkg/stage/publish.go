package stage

import (
	"context"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// PublishEC2 is what Publish needs of EC2, in every region.
type PublishEC2 = release.PublishAPI

// Publish moves the pointers of all accounts and regions, or none.
type Publish struct {
	Store     store.Store
	Evidence  Evidence
	Approvals Approvals
	EC2       func(region string) PublishEC2
	// SSM is of an account, or of the factory's own if that is empty.
	SSM func(account, region string) release.ParameterAPI
}

// Run publishes the image whose checks passed. The error is PublishNotReady, to be
// run again, while another execution publishes the recipe and until SSM has accepted
// every pointer, and PublishFailed when all pointers have their previous values.
func (s Publish) Run(ctx context.Context, in PublishInput) (PublishOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return PublishOutput{}, err
	}
	targets, err := targetsOf(in, p)
	if err != nil {
		return PublishOutput{}, err
	}
	if _, _, err := readResults(ctx, s.Store, in.Job, in.Results, p, targets[homeOf(p)].ImageID); err != nil {
		return PublishOutput{}, failure.Wrap(failure.CodeOf(err), err, "no image is published without its compliance results")
	}
	images := map[string]string{}
	for region, target := range targets {
		images[region] = target.ImageID
	}
	if err := s.Approvals.Check(ctx, in.Job, p); err != nil {
		return PublishOutput{}, err
	}
	if err := s.Evidence.Check(ctx, EvidenceOf{Job: in.Job, Plan: p, Evidence: in.Evidence, Images: images}); err != nil {
		return PublishOutput{}, failure.Wrap(failure.CodeOf(err), err, "no image is published that is not what was signed")
	}
	publication := publicationOf(in.Job, p)
	publication.Targets = targets
	moved, err := release.Publisher{Records: journalOf(s.Store, in.Execution), Holds: holds{s.Store}, EC2: s.EC2, SSM: s.SSM}.Publish(ctx, publication)
	if err != nil {
		return PublishOutput{}, err
	}
	return PublishOutput{Images: images, Pointers: names(moved)}, nil
}

// targetsOf are the copies by region, one for each of the plan's.
func targetsOf(in PublishInput, p plan.BuildPlan) (map[string]release.Target, error) {
	targets := map[string]release.Target{}
	for _, c := range in.Copies {
		again, ok := p.Reused(c.Region)
		if ok && again.ImageID != c.ImageID {
			return nil, failure.New(failure.InvalidInput, "the image in %s is %s, to be released again is %s", c.Region, c.ImageID, again.ImageID)
		}
		targets[c.Region] = release.Target{ImageID: c.ImageID, SnapshotIDs: c.SnapshotIDs, Labels: labelsIn(in.Job, p, c.Region), Again: ok}
	}
	var missing []string
	for _, r := range regionsOf(p) {
		if targets[r].ImageID == "" {
			missing = append(missing, r)
		}
	}
	if len(missing) > 0 || len(targets) != len(regionsOf(p)) {
		return nil, failure.New(failure.InvalidInput, "the copies are not those of the plan's regions %v; missing: %v", regionsOf(p), missing)
	}
	return targets, nil
}

// publicationOf is what this execution publishes, without the copies.
func publicationOf(in Job, p plan.BuildPlan) release.Publication {
	return release.Publication{
		Of: bindingOf(in, p), ID: p.ReleaseID, Recipe: p.Recipe, Source: p.Source, Now: in.Now,
	}
}

func names(ps []release.Pointer) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	return out
}
