package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
	"github.com/ami-factory/ami-factory/pkg/stage"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// Summary of an execution.
type Summary struct {
	Simulated bool `json:"simulated"` // no guest was booted and nothing is proved; always present
	execution.Result
	Recipe string `json:"recipe"`
	// Again is the published image that was to be released again; none of a bake.
	Again       *evidence.Again `json:"again,omitempty"`
	Why         string          `json:"why,omitempty"`     // it was baked, or released again
	Changed     []string        `json:"changed,omitempty"` // what differs from the release before
	Guests      vm.Kind         `json:"guests"`
	Description string          `json:"guestsDescription"`
	// StandInAgents: vendors' agents in the image are not the vendors'.
	StandInAgents bool           `json:"standInAgents,omitempty"`
	Functions     float64        `json:"functionSeconds"` // spent in functions, cold starts included
	Checks        Checks         `json:"checks"`
	Cost          *cost.Estimate `json:"costOnAws,omitempty"`   // none of an execution that planned nothing
	Report        string         `json:"report,omitempty"`      // path of the HTML report on this machine
	ReportJSON    string         `json:"reportJson,omitempty"`  // path of the JSON report
	Evidence      string         `json:"evidence,omitempty"`    // path of the signed evidence; empty if nothing was signed
	EvidenceKey   string         `json:"evidenceKey,omitempty"` // path of the public key that verifies it
	Consoles      []string       `json:"consoles,omitempty"`    // paths of the instances' serial consoles
	Disk          string         `json:"disk,omitempty"`        // path of the image's disk or tree
}

// Checks counts the controls of the image.
type Checks struct {
	Passed int `json:"passed"`
	Failed int `json:"failed"`
	Waived int `json:"waived"`
}

// ErrInterrupted is in the chain of Bake's error when its context ended; what
// the execution had made has been removed.
var ErrInterrupted = errors.New("interrupted")

// Bake runs one execution to its end and reports every step to watch. The base
// image that the recipe builds on is built first, if the cache has none. When
// ctx ends, the execution is stopped and what it made is removed.
func (f *Factory) Bake(ctx context.Context, in contract.ExecutionInput, watch func(execution.Event)) (Summary, error) {
	if err := f.ProvideBases(ctx, f.Bases(in.Recipe)...); err != nil {
		if ctx.Err() != nil {
			return Summary{}, fmt.Errorf("%w before the execution was started; nothing is left running", ErrInterrupted)
		}
		return Summary{}, err
	}
	if err := f.checkFeeds(ctx, in.Recipe); err != nil {
		return Summary{}, err
	}
	before := f.functionTime()
	arn, err := f.start(ctx, in)
	if err != nil {
		return Summary{}, err
	}
	if f.opts.Asked != nil {
		asked, done := context.WithCancel(ctx)
		defer done()
		f.whenAsked(asked, execution.NameOf(arn))
	}
	timeline := execution.NewTimeline()
	history, err := f.Cloud.States.Watch(ctx, arn)
	if err != nil {
		return Summary{}, err
	}
	f.whileWatching(ctx, execution.NameOf(arn), watch, func(watch func(execution.Event)) {
		for e := range history {
			for _, step := range timeline.Add(e) {
				watch(step)
			}
		}
	})
	if ctx.Err() != nil {
		return Summary{}, f.stop(context.WithoutCancel(ctx), arn)
	}
	end, err := f.Cloud.States.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &arn})
	if err != nil {
		return Summary{}, err
	}
	s, err := f.summary(ctx, in, end, timeline)
	s.Functions = (f.functionTime() - before).Seconds()
	return s, err
}

// functionTime is the time spent in all functions so far.
func (f *Factory) functionTime() time.Duration {
	var total time.Duration
	for _, s := range f.Cloud.Lambda.Stats() {
		for _, d := range slices.Concat(s.Cold, s.Warm) {
			total += d
		}
	}
	return total
}

// OwnSeconds is an upper bound of the execution's time that is the factory's
// own: transitions, stages that wait for nobody, and the last pause of each
// poll, after which the work was found done. The rest is the guests' and EC2's.
func (s Summary) OwnSeconds() float64 {
	own := s.Seconds
	for _, state := range s.States {
		if state.LastPoll > 0 || slices.Contains(contract.WaitingSteps(), state.State) {
			own -= state.Seconds - state.LastPoll
		}
	}
	return own
}

// stop ends an execution and removes what it made.
func (f *Factory) stop(ctx context.Context, arn string) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	_, err := f.Cloud.States.StopExecution(ctx, &sfn.StopExecutionInput{
		ExecutionArn: &arn, Error: aws.String("Interrupted"), Cause: aws.String("stopped by the operator"),
	})
	if err != nil {
		return fmt.Errorf("%w; the execution could not be stopped: %w", ErrInterrupted, err)
	}
	if _, err := f.Cloud.States.Wait(ctx, arn); err != nil {
		return fmt.Errorf("%w; the execution did not stop: %w", ErrInterrupted, err)
	}
	// What was made a moment ago is not in EC2's answers yet; clean-up goes by them.
	if err := f.opts.Clock.Sleep(ctx, f.opts.Timing.ConsistencyWindow); err != nil {
		return fmt.Errorf("%w; clean-up: %w", ErrInterrupted, err)
	}
	removed, err := f.Sweep(ctx, arn)
	if err != nil {
		return fmt.Errorf("%w; clean-up: %w", ErrInterrupted, err)
	}
	if len(removed) == 0 {
		return fmt.Errorf("%w; there was nothing to remove, nothing is left", ErrInterrupted)
	}
	return fmt.Errorf("%w; removed %s; nothing is left", ErrInterrupted, strings.Join(removed, ", "))
}

func (f *Factory) summary(ctx context.Context, in contract.ExecutionInput, end *sfn.DescribeExecutionOutput, t *execution.Timeline) (Summary, error) {
	result, err := execution.ResultOf(end, t)
	s := Summary{
		Result: result, Recipe: in.Recipe, Simulated: f.driver.Kind() == vm.Simulated,
		Guests: f.driver.Kind(), Description: guests.Describe(f.driver, f.opts.StandIns != nil), StandInAgents: f.opts.StandIns != nil,
	}
	if err != nil {
		return s, err
	}
	if err := f.addReport(ctx, &s); err != nil {
		return s, err
	}
	if id := s.Images[f.Cloud.Region()]; id != "" {
		dir, info, err := f.Cloud.EC2.ImageData(f.Cloud.Account(), f.Cloud.Region(), id)
		if err != nil {
			return s, err
		}
		if s.Disk = info.Disk; s.Disk == "" && f.driver.Kind() == vm.Container {
			s.Disk = filepath.Join(dir, "rootfs")
		}
	}
	return s, nil
}

// addReport copies the execution's reports out of the bucket and takes what it
// says about the image.
func (f *Factory) addReport(ctx context.Context, s *Summary) error {
	if err := f.addConsoles(ctx, s); err != nil {
		return err
	}
	raw, err := f.bucket().Read(ctx, contract.ExecutionKey(s.Execution, contract.ReportObject))
	if errors.Is(err, store.ErrNone) {
		return nil // nothing was built
	}
	if err != nil {
		return err
	}
	var report evidence.Report
	if err := json.Unmarshal(raw, &report); err != nil {
		return fmt.Errorf("read the report: %w", err)
	}
	if s.Fingerprint == "" {
		s.Fingerprint, s.SourceImage = report.Fingerprint, report.Source.ImageID
	}
	if c := report.Compliance; c != nil {
		s.Checks = Checks{Passed: c.Counts.Passed, Failed: c.Counts.Failed, Waived: c.Counts.Waived}
	}
	s.Cost, s.Again, s.Why, s.Changed = report.Cost, report.Again, report.Why, report.Changed
	page, err := f.bucket().Read(ctx, contract.ExecutionKey(s.Execution, contract.PageObject))
	if err != nil {
		return err
	}
	dir, err := f.reportDir(s)
	if err != nil {
		return err
	}
	s.Report, s.ReportJSON = filepath.Join(dir, "report.html"), filepath.Join(dir, "report.json")
	return errors.Join(os.WriteFile(s.Report, page, 0o644), os.WriteFile(s.ReportJSON, raw, 0o644), f.addEvidence(ctx, s, dir))
}

// addEvidence copies the signed evidence of a published image out of the bucket, and the
// key that verifies it out of KMS.
func (f *Factory) addEvidence(ctx context.Context, s *Summary, dir string) error {
	if s.Status != contract.Published {
		return nil
	}
	packed, err := f.bucket().ReadAtMost(ctx, contract.ExecutionKey(s.Execution, contract.EvidenceObject), bundle.MaxBundle)
	if err != nil {
		return err
	}
	out, err := f.Cloud.KMS.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: aws.String(blueprint.SigningKeyAlias)})
	if err != nil {
		return fmt.Errorf("read the key that signs evidence: %w", err)
	}
	key, err := bundle.KeyOfDER(out.PublicKey)
	if err != nil {
		return fmt.Errorf("the key that signs evidence: %w", err)
	}
	s.Evidence, s.EvidenceKey = filepath.Join(dir, contract.EvidenceObject), filepath.Join(dir, "evidence-key.pem")
	return errors.Join(os.WriteFile(s.Evidence, packed, 0o644), os.WriteFile(s.EvidenceKey, bundle.PEM(key), 0o644))
}

// reportDir is where what an execution leaves to read is kept.
func (f *Factory) reportDir(s *Summary) (string, error) {
	dir := filepath.Join(f.Cloud.Dir(), "reports", s.Execution)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("keep the report: %w", err)
	}
	return dir, nil
}

// addConsoles copies the consoles of the execution's instances out of the bucket.
func (f *Factory) addConsoles(ctx context.Context, s *Summary) error {
	for _, role := range []string{"builder", "verifier"} {
		name := contract.ConsoleObject(role)
		text, err := f.bucket().Read(ctx, contract.ExecutionKey(s.Execution, name))
		if errors.Is(err, store.ErrNone) {
			continue
		}
		if err != nil {
			return err
		}
		dir, err := f.reportDir(s)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return fmt.Errorf("keep the console: %w", err)
		}
		s.Consoles = append(s.Consoles, file)
	}
	return nil
}

// bucket is the factory's, to read what executions leave in it.
func (f *Factory) bucket() store.Store { return store.Store{Bucket: f.Bucket, API: f.Cloud.S3} }

// planOf is the plan that an execution's history names; empty without one.
func (f *Factory) planOf(ctx context.Context, arn string) store.Object {
	pages := sfn.NewGetExecutionHistoryPaginator(f.Cloud.States, &sfn.GetExecutionHistoryInput{
		ExecutionArn: &arn, IncludeExecutionData: aws.Bool(true),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return store.Object{}
		}
		for _, e := range page.Events {
			if e.TaskSucceededEventDetails == nil {
				continue
			}
			var out struct{ Payload stage.ResolveOutput }
			if json.Unmarshal([]byte(aws.ToString(e.TaskSucceededEventDetails.Output)), &out) == nil && out.Payload.Plan.Key != "" {
				return out.Payload.Plan
			}
		}
	}
	return store.Object{}
}
