package trigger

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/planner"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

// ExecutionsAPI is what StartBuilds needs of Step Functions.
type ExecutionsAPI interface {
	StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error)
	DescribeExecution(context.Context, *sfn.DescribeExecutionInput, ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error)
	sfn.ListExecutionsAPIClient
}

// StartBuilds starts executions of the recipes that an event concerns: a changed
// source, a night, the end of an execution, or a vulnerability of a published image.
type StartBuilds struct {
	Settings   Settings
	TopicARN   string // receives the message that a recipe is paused
	Store      store.Store
	Planner    planner.Planner
	Executions ExecutionsAPI
	SNS        MessageAPI
	Limits     decide.Limits
	Metrics    io.Writer // see pkg/metric; may be nil
}

// EventInput is an event of EventBridge. The nightly schedule sends the same shape.
type EventInput struct {
	Source     string          `json:"source"`
	DetailType string          `json:"detail-type"`
	Time       time.Time       `json:"time"`
	Region     string          `json:"region"`
	Detail     json.RawMessage `json:"detail"`
}

// UnmarshalJSON ignores the event's other fields.
func (e *EventInput) UnmarshalJSON(raw []byte) error {
	type plain EventInput
	return json.Unmarshal(raw, (*plain)(e))
}

// StartBuildsOutput is the result for an event.
type StartBuildsOutput struct {
	Recipes []Considered `json:"recipes"`           // that the event concerns; a recipe comes before those that build on its image
	Ignored []string     `json:"ignored,omitempty"` // findings that concern no recipe, and why
}

// Considered is the result for one recipe.
type Considered struct {
	Recipe    string        `json:"recipe"`
	Action    decide.Action `json:"action"`
	Why       string        `json:"why"`
	Execution string        `json:"execution,omitempty"` // name
	Delay     int           `json:"delay,omitempty"`     // seconds before it begins
}

// wanted is a recipe to consider, and what makes the execution's name unique.
type wanted struct {
	recipe, trigger string
	nightly         bool
}

// Run considers each recipe separately. The error for one recipe is returned after all
// others have been considered. The same event again starts nothing twice.
func (s StartBuilds) Run(ctx context.Context, in EventInput) (StartBuildsOutput, error) {
	if in.Time.IsZero() {
		return StartBuildsOutput{}, failure.New(failure.InvalidInput, "the event lacks its time")
	}
	catalog, err := s.Planner.Open(in.Time)
	if err != nil {
		return StartBuildsOutput{}, err
	}
	recipes := catalog.Recipes()
	var h concern
	ended := ""
	switch in.DetailType {
	case contract.SourceChangedEvent:
		var change decide.Change
		if err := json.Unmarshal(in.Detail, &change); err != nil || change.Parameter == "" {
			return StartBuildsOutput{}, failure.New(failure.InvalidInput, "the event of a changed source names no parameter: %s", in.Detail)
		}
		for _, name := range decide.Dependants(recipes, change.Parameter) {
			h.want = append(h.want, wanted{recipe: name})
		}
	case contract.NightlyEvent:
		for _, r := range recipes {
			h.want = append(h.want, wanted{recipe: r.Name, trigger: in.Time.UTC().Format("20060102"), nightly: true})
		}
	case contract.ExecutionChangedEvent:
		h.want, ended, err = s.afterEnd(ctx, in, recipes)
	case contract.RebuildDueEvent:
		h.want, err = s.waiting(ctx, recipes)
	case contract.InspectorEvent, contract.OnDemandEvent, contract.SecurityHubEvent, contract.SecurityHubV2Event:
		h, err = s.afterFinding(ctx, in, recipes)
	default:
		err = failure.New(failure.InvalidInput, "unknown event %q (allowed: %s)", in.DetailType, strings.Join([]string{
			contract.SourceChangedEvent, contract.NightlyEvent, contract.ExecutionChangedEvent, contract.RebuildDueEvent, contract.InspectorEvent, contract.OnDemandEvent, contract.SecurityHubEvent, contract.SecurityHubV2Event,
		}, ", "))
	}
	if err != nil {
		return StartBuildsOutput{}, err
	}
	out, err := considering{StartBuilds: s, catalog: catalog, recipes: recipes, now: in.Time}.all(ctx, h.want, ended)
	out.Ignored = h.ignored
	if in.DetailType == contract.NightlyEvent {
		err = errors.Join(err, s.measure(ctx, recipes, in.Time))
	}
	if err != nil {
		return out, err
	}
	return out, s.remember(ctx, h.mark, in.Time)
}

// considering is the work on one event.
type considering struct {
	StartBuilds
	catalog *plan.Catalog
	recipes []*recipe.Recipe
	now     time.Time
	running []decide.Running
	about   map[string]bool // recipes that will get another image soon
	started int
}

// all considers the recipes one after the other. A recipe comes before those that build
// on its image.
func (c considering) all(ctx context.Context, want []wanted, ended string) (StartBuildsOutput, error) {
	out := StartBuildsOutput{Recipes: []Considered{}}
	if len(want) == 0 {
		return out, nil
	}
	var err error
	if c.running, err = c.listRunning(ctx, ended, c.now); err != nil {
		return out, err
	}
	c.about = map[string]bool{}
	for _, r := range c.running {
		c.about[r.Recipe] = c.about[r.Recipe] || r.Own || !r.Idle
	}
	slices.SortStableFunc(want, func(a, b wanted) int {
		return cmp.Compare(len(decide.Ancestors(c.recipes, a.recipe)), len(decide.Ancestors(c.recipes, b.recipe)))
	})
	var errs []error
	for _, w := range want {
		done, err := c.one(ctx, w)
		if err != nil {
			errs = append(errs, fmt.Errorf("recipe %s: %w", w.recipe, err))
			continue
		}
		out.Recipes = append(out.Recipes, done)
	}
	if err := errors.Join(errs...); err != nil {
		return out, failure.Wrap(failure.CodeOf(err), err, "%d of %d recipes could not be considered", len(errs), len(want))
	}
	return out, nil
}

// one decides what to do about a recipe, and does it.
func (c *considering) one(ctx context.Context, w wanted) (Considered, error) {
	planned, err := c.situation(ctx, w)
	if err != nil {
		return Considered{}, err
	}
	delay := time.Duration(c.started) * c.Limits.Stagger
	done := Considered{Recipe: w.recipe}
	var decision decide.Decision
	_, err = store.Update(ctx, c.Store, contract.RecordKey(w.recipe), func(r *decide.Record) (bool, error) {
		changed := planned.forget(r)
		planned.Record = *r
		decision = decide.Decide(planned.Situation, c.Limits)
		done.Action, done.Why, done.Execution = decision.Action, decision.Why, ""
		switch {
		case decision.Action == decide.Wait && !decision.Until.IsZero():
			return changed, nil
		case decision.Action == decide.Wait && r.Waiting == nil:
			r.Waiting = &decide.Waiting{Trigger: w.trigger, Since: c.now}
			return true, nil
		case decision.Action == decide.Wait:
			return changed, nil
		case decision.Action == decide.Start:
			name := planned.name(decision)
			again := planned.Again
			if decision.Force {
				again = nil
			}
			started, err := c.start(ctx, contract.ExecutionInput{Recipe: w.recipe, Force: decision.Force, DelaySeconds: int(delay.Seconds())}, name, again)
			if err != nil {
				return false, err
			}
			if started == "" {
				done.Action, done.Why = decide.Skip, "execution "+name+" built it before"
				break
			}
			done.Execution, done.Delay = started, int(delay.Seconds())
			if decision.Fix {
				*r, changed = r.Rebuilding(c.now), true
			}
		}
		changed = changed || r.Waiting != nil
		r.Waiting = nil
		return changed, nil
	})
	if err != nil {
		return done, err
	}
	switch {
	case done.Action == decide.Start:
		c.started++
		c.running = append(c.running, decide.Running{Recipe: w.recipe, Name: done.Execution, Own: true})
		c.about[w.recipe] = true
	case done.Action == decide.Wait && decision.Until.IsZero():
		c.about[w.recipe] = true
	}
	return done, nil
}

// unplanned is part of the names of executions that cannot be planned. They are started
// although they will fail, because people see a failed execution.
const unplanned = "unplanned"

// planned is a situation and the facts from which it was made.
type planned struct {
	decide.Situation
	releaseID string // empty if nothing can be planned
	looked    string // the image to whose findings Flawed refers
}

// forget removes findings of an image that is no longer the published one.
func (p planned) forget(r *decide.Record) bool {
	if r.Finding == nil || r.Finding.ImageID != p.looked || p.Flawed {
		return false
	}
	r.Finding = nil
	return true
}

// name returns the name of the execution that a decision starts.
func (p planned) name(d decide.Decision) string {
	if d.Fix {
		return plan.ExecutionName(p.Recipe, p.releaseID, p.Record.RebuildTrigger())
	}
	return p.Name
}

func (c considering) situation(ctx context.Context, w wanted) (planned, error) {
	out := planned{Situation: decide.Situation{Recipe: w.recipe, Nightly: w.nightly, Running: c.running, Parent: c.parent(w.recipe), Now: c.now}}
	p, _, err := c.Planner.Plan(ctx, c.catalog, planner.Request{Recipe: w.recipe, ExecutionName: w.recipe, ExecutionStart: c.now})
	switch failure.CodeOf(err) {
	case failure.RecipeInvalid, failure.BelowBaseline, failure.SourceNotFound, failure.SourceOwnerMismatch:
		day := cmp.Or(w.trigger, c.now.UTC().Format("20060102"))
		out.Name, out.Same = plan.ExecutionName(w.recipe, unplanned, day), plan.ExecutionName(w.recipe, unplanned, day)
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.releaseID = p.ReleaseID
	out.Name, out.Same = plan.ExecutionName(w.recipe, p.ReleaseID, w.trigger), plan.ExecutionName(w.recipe, p.ReleaseID, "")
	if err := c.lookAtFindings(ctx, &out); err != nil {
		return out, err
	}
	published, err := c.Planner.Published(ctx, *p)
	if err != nil {
		return out, err
	}
	region := c.Planner.Region
	if published != nil {
		out.UpToDate = true
		image, err := ami.Describe(ctx, c.Planner.EC2(region), published[region])
		if err != nil {
			return out, awserr.Wrap(err, failure.Internal, "read the published image %s", published[region])
		}
		out.Age, err = c.age(image)
		return out, err
	}
	newest, err := c.Planner.Newest(ctx, w.recipe)
	if err != nil || newest == nil || ami.TagValue(newest.Tags, contract.TagFingerprint) != p.Fingerprint {
		return out, err
	}
	out.Again = &decide.Again{ImageID: aws.ToString(newest.ImageId), ReleaseID: p.ReleaseID}
	out.Age, err = c.age(*newest)
	return out, err
}

// parent returns an ancestor of a recipe that will get another image soon.
func (c considering) parent(name string) string {
	for _, a := range decide.Ancestors(c.recipes, name) {
		if c.about[a] {
			return a
		}
	}
	return ""
}

// lookAtFindings checks whether the image with recorded findings is still the one that
// consumers get.
func (c considering) lookAtFindings(ctx context.Context, p *planned) error {
	var record decide.Record
	if _, err := c.Store.ReadJSON(ctx, contract.RecordKey(p.Recipe), &record); err != nil || record.Finding == nil {
		return err
	}
	i := slices.IndexFunc(c.recipes, func(r *recipe.Recipe) bool { return r.Name == p.Recipe })
	current, err := c.isCurrent(ctx, c.recipes[i], record.Finding.Region, record.Finding.ImageID)
	p.looked, p.Flawed = record.Finding.ImageID, current
	return err
}

// age returns the age of an image.
func (c considering) age(image types.Image) (time.Duration, error) {
	made, err := time.Parse(time.RFC3339, aws.ToString(image.CreationDate))
	if err != nil {
		return 0, failure.Wrap(failure.Internal, err, "the age of image %s", aws.ToString(image.ImageId))
	}
	return c.now.Sub(made), nil
}

// startedKey returns the key of the record that a trigger started an execution. Only
// this function's role can write it.
func startedKey(name string) string { return contract.StartedKey(name) }

// startedExecution is this record. Everybody who may start executions can choose any free
// name and any input, so an execution was started by a trigger only if both are those of
// the record.
type startedExecution struct {
	Inputs []string      `json:"inputs"`          // one, unless a start was retried with another delay
	Again  *decide.Again `json:"again,omitempty"` // what it releases without a bake; nil if it bakes
}

// isOwn reports whether a trigger started the execution with a name and input.
func (s StartBuilds) isOwn(ctx context.Context, name, input string) (bool, error) {
	started, err := s.own(ctx, name, input)
	return started != nil, err
}

// own returns the record of an execution that a trigger started, or nil.
func (s StartBuilds) own(ctx context.Context, name, input string) (*startedExecution, error) {
	var started startedExecution
	if _, err := s.Store.ReadJSON(ctx, startedKey(name), &started); err != nil || !slices.Contains(started.Inputs, input) {
		return nil, err
	}
	return &started, nil
}

// start starts an execution and returns its name, which is empty if a trigger has started
// an execution with that name before. If somebody else has taken the name, start chooses
// another one. It records the execution before it starts it, so that its end is counted
// even if this function fails.
func (s StartBuilds) start(ctx context.Context, in contract.ExecutionInput, name string, again *decide.Again) (string, error) {
	raw, err := json.Marshal(in)
	if err != nil {
		return "", failure.Wrap(failure.Internal, err, "encode the execution's input")
	}
	input := string(raw)
	for range startAttempts {
		if _, err := store.Update(ctx, s.Store, startedKey(name), func(e *startedExecution) (bool, error) {
			fresh := !slices.Contains(e.Inputs, input)
			if fresh {
				e.Inputs, e.Again = append(e.Inputs, input), again
			}
			return fresh, nil
		}); err != nil {
			return "", err
		}
		_, err = s.Executions.StartExecution(ctx, &sfn.StartExecutionInput{
			StateMachineArn: aws.String(s.Settings.StateMachineARN), Name: &name, Input: &input,
		})
		if err == nil {
			return name, nil
		}
		if !awserr.Is(err, "ExecutionAlreadyExists") {
			return "", awserr.Wrap(err, failure.Internal, "start execution %s", name)
		}
		arn := executionARN(s.Settings.StateMachineARN, name)
		d, err := s.Executions.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &arn})
		if awserr.Is(err, "ExecutionDoesNotExist") {
			return "", nil // its history has expired, but its name has not
		}
		if err != nil {
			return "", awserr.Wrap(err, failure.Internal, "read execution %s", name)
		}
		if own, err := s.isOwn(ctx, name, aws.ToString(d.Input)); err != nil || own {
			return "", err
		}
		name = otherName(name)
	}
	return "", failure.New(failure.ServiceUnavailable, "the names of %d executions were taken by somebody else, %s was the last", startAttempts, name)
}

// startAttempts is the number of names that are tried.
const startAttempts = 4

// maxExecutionName is the limit of Step Functions, in characters
// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html).
const maxExecutionName = 80

// otherName returns a name that nobody can guess.
func otherName(name string) string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	suffix := "-" + hex.EncodeToString(random[:])
	return name[:min(len(name), maxExecutionName-len(suffix))] + suffix
}

// executionARN returns the ARN of an execution of a standard state machine.
func executionARN(machine, name string) string {
	return strings.Replace(machine, ":stateMachine:", ":execution:", 1) + ":" + name
}

// listRunning lists the running executions without one that has just ended, which may
// still be in Step Functions' list.
func (s StartBuilds) listRunning(ctx context.Context, ended string, now time.Time) ([]decide.Running, error) {
	var out []decide.Running
	pages := sfn.NewListExecutionsPaginator(s.Executions, &sfn.ListExecutionsInput{
		StateMachineArn: aws.String(s.Settings.StateMachineARN), StatusFilter: sfntypes.ExecutionStatusRunning,
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
			// Executions started by hand can have any name; only the input tells the recipe.
			d, err := s.Executions.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: e.ExecutionArn})
			if err != nil {
				return nil, awserr.Wrap(err, failure.Internal, "read execution %s", aws.ToString(e.Name))
			}
			if d.Status != sfntypes.ExecutionStatusRunning {
				continue
			}
			own, err := s.isOwn(ctx, aws.ToString(e.Name), aws.ToString(d.Input))
			if err != nil {
				return nil, err
			}
			var in struct {
				Recipe       string  `json:"recipe"`
				DelaySeconds float64 `json:"delaySeconds"` // the state machine allows fractions
			}
			_ = json.Unmarshal([]byte(aws.ToString(d.Input)), &in) // an execution with invalid input builds nothing
			_, err = s.Store.Read(ctx, contract.ApprovingKey(aws.ToString(e.Name)))
			if err != nil && !errors.Is(err, store.ErrNone) {
				return nil, err
			}
			asked := err == nil
			begins := aws.ToTime(d.StartDate).Add(time.Duration(min(in.DelaySeconds, contract.MaxDelaySeconds) * float64(time.Second)))
			out = append(out, decide.Running{Recipe: in.Recipe, Name: aws.ToString(e.Name), Own: own, Idle: now.Before(begins), Asked: asked})
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
	Error        string `json:"error"`
}

// afterEnd counts the result of an execution, and returns the recipes that may build now:
// those that build on its images, and those that have waited.
func (s StartBuilds) afterEnd(ctx context.Context, in EventInput, recipes []*recipe.Recipe) ([]wanted, string, error) {
	var e executionChanged
	if err := json.Unmarshal(in.Detail, &e); err != nil || e.ExecutionARN == "" {
		return nil, "", failure.New(failure.InvalidInput, "the event names no execution: %s", in.Detail)
	}
	if e.Status == string(sfntypes.ExecutionStatusRunning) {
		return nil, "", nil
	}
	var input contract.ExecutionInput
	_ = json.Unmarshal([]byte(e.Input), &input) // invalid input concerns no recipe
	var want []wanted
	if i := slices.IndexFunc(recipes, func(r *recipe.Recipe) bool { return r.Name == input.Recipe }); i >= 0 {
		if err := s.count(ctx, e, input); err != nil {
			return nil, "", err
		}
		if e.Status == string(sfntypes.ExecutionStatusSucceeded) {
			for _, name := range decide.Dependants(recipes, recipes[i].Pointers.Parameters...) {
				want = append(want, wanted{recipe: name})
			}
		}
	}
	all, err := s.waiting(ctx, recipes)
	for _, w := range want {
		// A recipe that has waited since a night is considered as at night.
		if !slices.ContainsFunc(all, func(x wanted) bool { return x.recipe == w.recipe }) {
			all = append(all, w)
		}
	}
	return all, e.ExecutionARN, err
}

// count records how often a recipe has failed in a row, and reports when this pauses it.
// Only failures of executions that a trigger started count: otherwise everybody who may
// start executions could pause a recipe with three wrong inputs. A success always counts,
// because it proves that the recipe builds.
func (s StartBuilds) count(ctx context.Context, e executionChanged, input contract.ExecutionInput) error {
	own, err := s.own(ctx, executionName(e), e.Input)
	if err != nil {
		return err
	}
	var rejected *decide.Again
	if own != nil && e.Error == string(failure.ComplianceRejected) {
		rejected = own.Again
	}
	failed := e.Status == string(sfntypes.ExecutionStatusFailed) || e.Status == string(sfntypes.ExecutionStatusTimedOut)
	_, err = store.Update(ctx, s.Store, contract.RecordKey(input.Recipe), func(r *decide.Record) (bool, error) {
		after, pauses := r.After(decide.End{
			Execution: e.ExecutionARN, ByHand: input.Source != "", Succeeded: e.Status == string(sfntypes.ExecutionStatusSucceeded),
			Failed: failed && own != nil && !slices.Contains([]failure.Code{failure.InvalidInput, failure.ApprovalRefused, failure.ApprovalTimedOut}, failure.Code(e.Error)), Rejected: rejected,
		}, s.Limits)
		if pauses {
			if err := s.reportPaused(ctx, input.Recipe, e.ExecutionARN, after.Failures); err != nil {
				return false, err
			}
		}
		changed := after.Ended != r.Ended
		*r = after
		return changed, nil
	})
	return err
}

// executionName returns the name in an execution's ARN.
func executionName(e executionChanged) string {
	return e.ExecutionARN[strings.LastIndex(e.ExecutionARN, ":")+1:]
}

func (s StartBuilds) reportPaused(ctx context.Context, recipe, last string, failures int) error {
	subject := "ami-factory: Paused: " + recipe // recipes' names are ASCII
	_, err := s.SNS.Publish(ctx, &sns.PublishInput{
		TopicArn: aws.String(s.TopicARN),
		Subject:  aws.String(subject[:min(len(subject), maxSubject)]),
		Message: aws.String(fmt.Sprintf("Recipe %s failed %d times in a row. Nights and changed sources do not build it any more.\n"+
			"The last execution was %s.\nAfter the fix: ami-factory resume %s, or build it by hand.\n", recipe, failures, last, recipe)),
	})
	return awserr.Wrap(err, failure.Internal, "report that recipe %s is paused", recipe)
}

// waiting returns the recipes whose build waits or whose image has open findings, the
// longest wait first.
func (s StartBuilds) waiting(ctx context.Context, recipes []*recipe.Recipe) ([]wanted, error) {
	type entry struct {
		wanted
		since time.Time
	}
	var found []entry
	for _, r := range recipes {
		var record decide.Record
		if _, err := s.Store.ReadJSON(ctx, contract.RecordKey(r.Name), &record); err != nil {
			return nil, err
		}
		if w := record.Waiting; w != nil {
			// Its trigger is the date of a night, or empty.
			found = append(found, entry{wanted{recipe: r.Name, trigger: w.Trigger, nightly: w.Trigger != ""}, w.Since})
		} else if record.Finding != nil {
			found = append(found, entry{wanted{recipe: r.Name}, record.Finding.Since})
		}
	}
	slices.SortStableFunc(found, func(a, b entry) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.recipe, b.recipe)) })
	var out []wanted
	for _, f := range found {
		out = append(out, f.wanted)
	}
	return out, nil
}

// Resume lets a paused recipe build again, and reports whether it was paused.
func Resume(ctx context.Context, s store.Store, recipe string) (was bool, err error) {
	_, err = store.Update(ctx, s, contract.RecordKey(recipe), func(r *decide.Record) (bool, error) {
		was = r.Paused
		*r = r.Resumed()
		return was, nil
	})
	return was, err
}
