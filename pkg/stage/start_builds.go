package stage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/trigger"
)

// The detail types of what StartBuilds is told, beside SourceChangedType.
const (
	NightlyType = "AMI Factory Nightly"
	// ExecutionChangedType is Step Functions' own.
	ExecutionChangedType = "Step Functions Execution Status Change"
)

// ExecutionsAPI is what StartBuilds needs of Step Functions.
type ExecutionsAPI interface {
	StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error)
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
	sfn.ListExecutionsAPIClient
}

// StartBuilds starts executions of the recipes that an event concerns: a changed
// source, a night, or the end of an execution.
type StartBuilds struct {
	Resolve    Resolve // says what would be built now; nothing of it is stored
	Executions ExecutionsAPI
	SNS        MessageAPI
	Policy     trigger.Policy
}

// EventInput is an event as EventBridge delivers it; the nightly schedule sends
// the like of it.
type EventInput struct {
	DetailType string          `json:"detail-type"`
	Time       time.Time       `json:"time"`
	Detail     json.RawMessage `json:"detail"`
}

// UnmarshalJSON passes over the event's other fields.
func (e *EventInput) UnmarshalJSON(raw []byte) error {
	type plain EventInput
	return json.Unmarshal(raw, (*plain)(e))
}

// StartBuildsOutput says what came of the event.
type StartBuildsOutput struct {
	Recipes []Considered `json:"recipes"` // that the event concerns, sorted
}

// Considered is what was done about a recipe.
type Considered struct {
	Recipe    string         `json:"recipe"`
	Action    trigger.Action `json:"action"`
	Why       string         `json:"why"`
	Execution string         `json:"execution,omitempty"` // name
}

// wanted is a recipe to consider, and what distinguishes the execution's name.
type wanted struct {
	recipe, trigger string
	nightly         bool
}

// Run considers each recipe on its own: what fails for one is returned after the
// others had their turn, and to be told again starts nothing twice.
func (s StartBuilds) Run(ctx context.Context, in EventInput) (StartBuildsOutput, error) {
	if in.Time.IsZero() {
		return StartBuildsOutput{}, missingInput([]string{"time"})
	}
	recipes, err := allRecipes(s.Resolve.UserData, in.Time)
	if err != nil {
		return StartBuildsOutput{}, err
	}
	var want []wanted
	ended := ""
	switch in.DetailType {
	case SourceChangedType:
		var change trigger.Change
		if err := json.Unmarshal(in.Detail, &change); err != nil || change.Parameter == "" {
			return StartBuildsOutput{}, failure.New(failure.InvalidInput, "the event of a changed source names no parameter: %s", in.Detail)
		}
		for _, name := range trigger.Dependants(recipes, change.Parameter) {
			want = append(want, wanted{recipe: name})
		}
	case NightlyType:
		for _, r := range recipes {
			want = append(want, wanted{recipe: r.Name, trigger: in.Time.UTC().Format("20060102"), nightly: true})
		}
	case ExecutionChangedType:
		if want, ended, err = s.afterEnd(ctx, in, recipes); err != nil {
			return StartBuildsOutput{}, err
		}
	default:
		return StartBuildsOutput{}, failure.New(failure.InvalidInput, "unknown event %q (allowed: %s, %s, %s)",
			in.DetailType, SourceChangedType, NightlyType, ExecutionChangedType)
	}
	out, err := s.consider(ctx, want, ended, in.Time)
	if in.DetailType == NightlyType {
		err = errors.Join(err, s.measure(ctx, recipes, in.Time))
	}
	return out, err
}

func (s StartBuilds) consider(ctx context.Context, want []wanted, ended string, now time.Time) (StartBuildsOutput, error) {
	out := StartBuildsOutput{Recipes: []Considered{}}
	if len(want) == 0 {
		return out, nil
	}
	running, err := s.running(ctx, ended)
	if err != nil {
		return out, err
	}
	var errs []error
	for _, w := range want {
		done, err := s.one(ctx, w, running, now)
		if err != nil {
			errs = append(errs, fmt.Errorf("recipe %s: %w", w.recipe, err))
			continue
		}
		out.Recipes = append(out.Recipes, done)
		if done.Action == trigger.Start {
			running = append(running, trigger.Running{Recipe: w.recipe, Name: done.Execution})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return out, failure.Wrap(failure.CodeOf(err), err, "%d of %d recipes could not be considered", len(errs), len(want))
	}
	return out, nil
}

// one decides about a recipe and does it.
func (s StartBuilds) one(ctx context.Context, w wanted, running []trigger.Running, now time.Time) (Considered, error) {
	situation, err := s.situation(ctx, w, running, now)
	if err != nil {
		return Considered{}, err
	}
	var decision trigger.Decision
	_, err = update(ctx, s.Resolve.Store, recordKey(w.recipe), func(r *trigger.Record) (bool, error) {
		situation.Record = *r
		decision = trigger.Decide(situation, s.Policy)
		switch {
		case decision.Action == trigger.Start:
			started, err := s.start(ctx, w.recipe, situation.Name, decision.Force)
			if err != nil {
				return false, err
			}
			if !started {
				decision.Action, decision.Why = trigger.Skip, "execution "+situation.Name+" built it before"
			}
		case decision.Action == trigger.Wait && r.Waiting == nil:
			r.Waiting = &trigger.Waiting{Trigger: w.trigger, Since: now}
			return true, nil
		case decision.Action == trigger.Wait:
			return false, nil
		}
		had := r.Waiting != nil
		r.Waiting = nil
		return had, nil
	})
	done := Considered{Recipe: w.recipe, Action: decision.Action, Why: decision.Why}
	if decision.Action == trigger.Start {
		done.Execution = situation.Name
	}
	return done, err
}

// unplanned is in the names of executions whose fingerprint is not known, since
// they are going to fail; a failed execution is how everybody hears of it.
const unplanned = "unplanned"

func (s StartBuilds) situation(ctx context.Context, w wanted, running []trigger.Running, now time.Time) (trigger.Situation, error) {
	out := trigger.Situation{Recipe: w.recipe, Nightly: w.nightly, Running: running}
	p, _, err := s.Resolve.plan(ctx, ResolveInput{
		Recipe: w.recipe, Stage: "Resolve", Now: now, Execution: Execution{Name: w.recipe, StartTime: now},
	})
	switch failure.CodeOf(err) {
	case failure.RecipeInvalid, failure.SourceNotFound, failure.SourceOwnerMismatch:
		day := now.UTC().Format("20060102")
		out.Name, out.Same = plan.ExecutionName(w.recipe, unplanned, day), plan.ExecutionName(w.recipe, unplanned, day)
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Name, out.Same = plan.ExecutionName(w.recipe, p.Fingerprint, w.trigger), plan.ExecutionName(w.recipe, p.Fingerprint, "")
	published, err := s.Resolve.published(ctx, *p)
	if err != nil || published == nil {
		return out, err
	}
	out.UpToDate = true
	region := s.Resolve.Settings.Region
	image, err := ami.Describe(ctx, s.Resolve.EC2(region), published[region])
	if err != nil {
		return out, awserr.Wrap(err, failure.Internal, "read the published image %s", published[region])
	}
	made, err := time.Parse(time.RFC3339, aws.ToString(image.CreationDate))
	if err != nil {
		return out, failure.Wrap(failure.Internal, err, "the age of image %s", published[region])
	}
	out.Age = now.Sub(made)
	return out, nil
}

// start starts an execution; false when one of that name had run before.
func (s StartBuilds) start(ctx context.Context, recipe, name string, force bool) (bool, error) {
	input, err := json.Marshal(executionInput{Recipe: recipe, Force: force})
	if err != nil {
		return false, failure.Wrap(failure.Internal, err, "encode the execution's input")
	}
	_, err = s.Executions.StartExecution(ctx, &sfn.StartExecutionInput{
		StateMachineArn: aws.String(s.Resolve.Settings.StateMachineARN), Name: &name, Input: aws.String(string(input)),
	})
	if awserr.Is(err, "ExecutionAlreadyExists") {
		return false, nil
	}
	return err == nil, awserr.Wrap(err, failure.Internal, "start execution %s", name)
}

// executionInput is the input of the state machine.
type executionInput struct {
	Recipe string `json:"recipe"`
	Force  bool   `json:"force,omitempty"`
	Source string `json:"source,omitempty"`
}

// running lists the executions that run, but for one that has just ended: the
// list may still have it.
func (s StartBuilds) running(ctx context.Context, ended string) ([]trigger.Running, error) {
	var out []trigger.Running
	pages := sfn.NewListExecutionsPaginator(s.Executions, &sfn.ListExecutionsInput{
		StateMachineArn: aws.String(s.Resolve.Settings.StateMachineARN), StatusFilter: sfntypes.ExecutionStatusRunning,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, awserr.Wrap(err, failure.Internal, "list the executions that run")
		}
		for _, e := range page.Executions {
			if aws.ToString(e.ExecutionArn) == ended {
				continue
			}
			// Whoever starts one by hand names it as he likes: only the input tells.
			d, err := s.Executions.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: e.ExecutionArn})
			if err != nil {
				return nil, awserr.Wrap(err, failure.Internal, "read execution %s", aws.ToString(e.Name))
			}
			if d.Status != sfntypes.ExecutionStatusRunning {
				continue
			}
			var in executionInput
			_ = json.Unmarshal([]byte(aws.ToString(d.Input)), &in) // an input that is none builds nothing
			out = append(out, trigger.Running{Recipe: in.Recipe, Name: aws.ToString(e.Name)})
		}
	}
	return out, nil
}

// executionChanged is the detail of Step Functions' event
// (https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html).
type executionChanged struct {
	ExecutionARN string `json:"executionArn"`
	Status       string `json:"status"`
	Input        string `json:"input"`
	Output       string `json:"output"`
}

// afterEnd counts how an execution ended, and returns what may build now: what
// builds on the images it published, and what has waited.
func (s StartBuilds) afterEnd(ctx context.Context, in EventInput, recipes []*recipe.Recipe) ([]wanted, string, error) {
	var e executionChanged
	if err := json.Unmarshal(in.Detail, &e); err != nil || e.ExecutionARN == "" {
		return nil, "", failure.New(failure.InvalidInput, "the event names no execution: %s", in.Detail)
	}
	if e.Status == string(sfntypes.ExecutionStatusRunning) {
		return nil, "", nil
	}
	var input executionInput
	_ = json.Unmarshal([]byte(e.Input), &input) // an input that is none concerns no recipe
	var want []wanted
	if i := slices.IndexFunc(recipes, func(r *recipe.Recipe) bool { return r.Name == input.Recipe }); i >= 0 {
		if err := s.count(ctx, e, input); err != nil {
			return nil, "", err
		}
		if e.Status == string(sfntypes.ExecutionStatusSucceeded) {
			for _, name := range trigger.Dependants(recipes, recipes[i].Pointers.Parameters...) {
				want = append(want, wanted{recipe: name})
			}
		}
	}
	waiting, err := s.waiting(ctx, recipes)
	for _, w := range waiting {
		if !slices.ContainsFunc(want, func(x wanted) bool { return x.recipe == w.recipe }) {
			want = append(want, w)
		}
	}
	return want, e.ExecutionARN, err
}

// count keeps how often a recipe has failed in a row, and says when that pauses
// it.
func (s StartBuilds) count(ctx context.Context, e executionChanged, input executionInput) error {
	_, err := update(ctx, s.Resolve.Store, recordKey(input.Recipe), func(r *trigger.Record) (bool, error) {
		after, pauses := r.After(trigger.End{
			Execution: e.ExecutionARN, ByHand: input.Source != "", Succeeded: e.Status == string(sfntypes.ExecutionStatusSucceeded),
			Failed: e.Status == string(sfntypes.ExecutionStatusFailed) || e.Status == string(sfntypes.ExecutionStatusTimedOut),
		}, s.Policy)
		if pauses {
			if err := s.tellPaused(ctx, input.Recipe, e.ExecutionARN, after.Failures); err != nil {
				return false, err
			}
		}
		changed := after.Ended != r.Ended
		*r = after
		return changed, nil
	})
	return err
}

func (s StartBuilds) tellPaused(ctx context.Context, recipe, last string, failures int) error {
	_, err := s.SNS.Publish(ctx, &sns.PublishInput{
		TopicArn: aws.String(s.Resolve.Settings.TopicARN),
		Subject:  aws.String(clip("ami-factory: Paused: "+recipe, maxSubject)),
		Message: aws.String(fmt.Sprintf("Recipe %s failed %d times in a row. Nights and changed sources do not build it any more.\n"+
			"The last execution was %s.\nOnce it is mended: ami-factory resume %s, or build it by hand.\n", recipe, failures, last, recipe)),
	})
	return awserr.Wrap(err, failure.Internal, "tell that recipe %s is paused", recipe)
}

// waiting are the recipes whose build waits, the longest first.
func (s StartBuilds) waiting(ctx context.Context, recipes []*recipe.Recipe) ([]wanted, error) {
	type entry struct {
		wanted
		since time.Time
	}
	var found []entry
	for _, r := range recipes {
		var record trigger.Record
		if _, err := s.Resolve.Store.remembered(ctx, recordKey(r.Name), &record); err != nil {
			return nil, err
		}
		if w := record.Waiting; w != nil {
			// Its trigger is a night's date, or nothing.
			found = append(found, entry{wanted{recipe: r.Name, trigger: w.Trigger, nightly: w.Trigger != ""}, w.Since})
		}
	}
	slices.SortStableFunc(found, func(a, b entry) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.recipe, b.recipe)) })
	var out []wanted
	for _, f := range found {
		out = append(out, f.wanted)
	}
	return out, nil
}
