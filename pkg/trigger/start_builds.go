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
	TopicARN   string // for the message that a recipe is paused
	Store      store.Store
	Planner    planner.Planner
	Executions ExecutionsAPI
	SNS        MessageAPI
	Limits     decide.Limits
	Metrics    io.Writer // see pkg/metric; nil: none are written
}

// EventInput is an event as EventBridge delivers it; the nightly schedule sends
// the same shape.
type EventInput struct {
	Source     string          `json:"source"`
	DetailType string          `json:"detail-type"`
	Time       time.Time       `json:"time"`
	Region     string          `json:"region"`
	Detail     json.RawMessage `json:"detail"`
}

// UnmarshalJSON passes over the event's other fields.
func (e *EventInput) UnmarshalJSON(raw []byte) error {
	type plain EventInput
	return json.Unmarshal(raw, (*plain)(e))
}

// StartBuildsOutput says what came of the event.
type StartBuildsOutput struct {
	Recipes []Considered `json:"recipes"`           // that the event concerns, those first on whose images others build
	Ignored []string     `json:"ignored,omitempty"` // findings that concern none, and why
}

// Considered is what was done about a recipe.
type Considered struct {
	Recipe    string        `json:"recipe"`
	Action    decide.Action `json:"action"`
	Why       string        `json:"why"`
	Execution string        `json:"execution,omitempty"` // name
	Delay     int           `json:"delay,omitempty"`     // seconds that it waits before it begins
}

// wanted is a recipe to consider, and what distinguishes the execution's name.
type wanted struct {
	recipe, trigger string
	nightly         bool
}

// Run considers each recipe on its own: what fails for one is returned after the
// others had their turn, and the same event again starts nothing twice.
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
	about   map[string]bool // recipes that are about to get another image
	started int
}

// all considers the recipes one after the other, those first on whose images
// others build.
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

// one decides about a recipe and does it.
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

// unplanned is in the names of executions that cannot be planned, since
// they are going to fail; a failed execution is what people see.
const unplanned = "unplanned"

// planned is a situation, and what it was made of.
type planned struct {
	decide.Situation
	releaseID string // empty: nothing can be planned
	looked    string // the image with findings that Flawed is about
}

// forget removes findings of an image that is not the published one any more.
func (p planned) forget(r *decide.Record) bool {
	if r.Finding == nil || r.Finding.ImageID != p.looked || p.Flawed {
		return false
	}
	r.Finding = nil
	return true
}

// name is that of the execution that a decision starts.
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

// parent is an ancestor of a recipe that is about to get another image.
func (c considering) parent(name string) string {
	for _, a := range decide.Ancestors(c.recipes, name) {
		if c.about[a] {
			return a
		}
	}
	return ""
}

// lookAtFindings says whether the image that the record has findings of is still
// what consumers get.
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

// age is that of an image.
func (c considering) age(image types.Image) (time.Duration, error) {
	made, err := time.Parse(time.RFC3339, aws.ToString(image.CreationDate))
	if err != nil {
		return 0, failure.Wrap(failure.Internal, err, "the age of image %s", aws.ToString(image.ImageId))
	}
	return c.now.Sub(made), nil
}

// startedKey is where it is remembered that a trigger started an execution. Only
// this function's role writes there.
func startedKey(name string) string { return contract.StartedKey(name) }

// startedExecution is what is remembered there. Whoever may start executions can
// give them any free name and any input, so an execution is a trigger's own only
// if both are what the trigger gave.
type startedExecution struct {
	Inputs []string      `json:"inputs"`          // one, unless a start was tried again with another delay
	Again  *decide.Again `json:"again,omitempty"` // what it releases without a bake; nil: it bakes
}

// isOwn says whether a trigger started the execution of that name and input.
func (s StartBuilds) isOwn(ctx context.Context, name, input string) (bool, error) {
	started, err := s.own(ctx, name, input)
	return started != nil, err
}

// own is what is remembered of an execution that a trigger started; nil if none did.
func (s StartBuilds) own(ctx context.Context, name, input string) (*startedExecution, error) {
	var started startedExecution
	if _, err := s.Store.ReadJSON(ctx, startedKey(name), &started); err != nil || !slices.Contains(started.Inputs, input) {
		return nil, err
	}
	return &started, nil
}

// start starts an execution and returns its name; empty when a trigger's own
// execution of that name has run before. A name that somebody else has taken
// holds nothing back: another is made up. What is started is remembered first, so
// that its end is counted whatever happens here.
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
			return "", nil // its history has expired, and its name has not yet
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

// startAttempts is how many names are tried.
const startAttempts = 4

// maxExecutionName is what Step Functions takes
// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html).
const maxExecutionName = 80

// otherName cannot be guessed beforehand.
func otherName(name string) string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	suffix := "-" + hex.EncodeToString(random[:])
	return name[:min(len(name), maxExecutionName-len(suffix))] + suffix
}

// executionARN is that of an execution of a standard state machine.
func executionARN(machine, name string) string {
	return strings.Replace(machine, ":stateMachine:", ":execution:", 1) + ":" + name
}

// listRunning lists the executions that run, but for one that has just ended: the
// list may still have it.
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
			// Whoever starts one by hand chooses its name: only the input identifies it.
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
				DelaySeconds float64 `json:"delaySeconds"` // the state machine takes fractions
			}
			_ = json.Unmarshal([]byte(aws.ToString(d.Input)), &in) // an input that is none builds nothing
			begins := aws.ToTime(d.StartDate).Add(time.Duration(min(in.DelaySeconds, contract.MaxDelaySeconds) * float64(time.Second)))
			out = append(out, decide.Running{Recipe: in.Recipe, Name: aws.ToString(e.Name), Own: own, Idle: now.Before(begins)})
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
	var input contract.ExecutionInput
	_ = json.Unmarshal([]byte(e.Input), &input) // an input that is none concerns no recipe
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
		// One that waits since a night is still looked at as a night does.
		if !slices.ContainsFunc(all, func(x wanted) bool { return x.recipe == w.recipe }) {
			all = append(all, w)
		}
	}
	return all, e.ExecutionARN, err
}

// count keeps how often a recipe has failed in a row, and says when that pauses
// it. Only failures of executions that a trigger started count: whoever else may
// start executions could pause any recipe with three wrong inputs. A success
// counts whoever started it, since it proves that the recipe builds.
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
			Failed: failed && own != nil && e.Error != string(failure.InvalidInput), Rejected: rejected,
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

// executionName is the last part of its ARN.
func executionName(e executionChanged) string {
	return e.ExecutionARN[strings.LastIndex(e.ExecutionARN, ":")+1:]
}

func (s StartBuilds) reportPaused(ctx context.Context, recipe, last string, failures int) error {
	subject := "ami-factory: Paused: " + recipe // which is ASCII
	_, err := s.SNS.Publish(ctx, &sns.PublishInput{
		TopicArn: aws.String(s.TopicARN),
		Subject:  aws.String(subject[:min(len(subject), maxSubject)]),
		Message: aws.String(fmt.Sprintf("Recipe %s failed %d times in a row. Nights and changed sources do not build it any more.\n"+
			"The last execution was %s.\nAfter the fix: ami-factory resume %s, or build it by hand.\n", recipe, failures, last, recipe)),
	})
	return awserr.Wrap(err, failure.Internal, "report that recipe %s is paused", recipe)
}

// waiting are the recipes whose build waits, or whose image has open findings, the
// longest first.
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
			// Its trigger is a night's date, or nothing.
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

// Resume lets a recipe build again that was paused, and says whether it was.
func Resume(ctx context.Context, s store.Store, recipe string) (was bool, err error) {
	_, err = store.Update(ctx, s, contract.RecordKey(recipe), func(r *decide.Record) (bool, error) {
		was = r.Paused
		*r = r.Resumed()
		return was, nil
	})
	return was, err
}
