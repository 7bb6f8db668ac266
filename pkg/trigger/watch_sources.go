package trigger

import (
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

const (
	mostParameters = 10 // of GetParameters
	mostEvents     = 10 // of PutEvents
)

// SourcesSSM is what WatchSources needs of SSM, in the home region.
type SourcesSSM interface {
	GetParameters(context.Context, *ssm.GetParametersInput, ...func(*ssm.Options)) (*ssm.GetParametersOutput, error)
}

// WatchSources compares the parameters that recipes build on with their last values, and
// sends an event for each that has changed. The value is only a hint, which an execution
// verifies. It also finds waiting builds that may begin: those for open findings, and
// those for which the event of an execution's end was lost.
type WatchSources struct {
	Settings Settings
	Region   string // the home region
	Store    store.Store
	SSM      SourcesSSM
	Events   EventAPI
	Files    fs.FS
	Limits   decide.Limits
}

// WatchInput is the input from the schedule.
type WatchInput struct {
	Time time.Time `json:"time,omitzero"` // of the run; without it, no build is due
}

// WatchOutput is the result of WatchSources.
type WatchOutput struct {
	Sources int             `json:"sources"` // parameters that were read
	Changed []decide.Change `json:"changed"`
	Missing []string        `json:"missing"`       // parameters of recipes that do not exist
	Due     []string        `json:"due,omitempty"` // recipes whose build has waited and may begin
}

// Run reads every source once. It sends a change before it records it: if it fails in
// between, the next run sends the change again, which starts nothing twice.
func (s WatchSources) Run(ctx context.Context, in WatchInput) (WatchOutput, error) {
	recipes, err := allRecipes(s.Files, time.Time{})
	if err != nil {
		return WatchOutput{}, err
	}
	names := decide.Parameters(recipes)
	out := WatchOutput{Sources: len(names), Changed: []decide.Change{}, Missing: []string{}}
	is := map[string]string{}
	for some := range slices.Chunk(names, mostParameters) {
		read, err := s.SSM.GetParameters(ctx, &ssm.GetParametersInput{Names: some})
		if err != nil {
			return WatchOutput{}, awserr.Wrap(err, failure.Internal, "read the sources' parameters")
		}
		for _, p := range read.Parameters {
			is[aws.ToString(p.Name)] = aws.ToString(p.Value)
		}
		out.Missing = append(out.Missing, read.InvalidParameters...)
	}
	_, err = store.Update(ctx, s.Store, contract.SourcesKey, func(was *map[string]string) (bool, error) {
		out.Changed = append([]decide.Change{}, decide.Changes(*was, is, s.Region)...)
		if err := s.sendChanges(ctx, out.Changed); err != nil {
			return false, err
		}
		now := maps.Clone(is)
		for name, id := range *was {
			// A parameter that is missing for a while is compared when it exists again.
			if _, read := is[name]; !read && slices.Contains(names, name) {
				now[name] = id
			}
		}
		if maps.Equal(*was, now) {
			return false, nil
		}
		*was = now
		return true, nil
	})
	if err != nil || in.Time.IsZero() {
		return out, err
	}
	if out.Due, err = s.due(ctx, recipes, in.Time); err != nil || len(out.Due) == 0 {
		return out, err
	}
	return out, s.send(ctx, contract.RebuildDueEvent, map[string][]string{"recipes": out.Due})
}

// lostAfter is how long a build waits for the event of an execution's end before the
// watcher checks it. Step Functions does not guarantee its events.
const lostAfter = time.Hour

// due returns the recipes whose build has waited and may begin, sorted.
func (s WatchSources) due(ctx context.Context, recipes []*recipe.Recipe, now time.Time) ([]string, error) {
	var out []string
	for _, r := range recipes {
		var record decide.Record
		if _, err := s.Store.ReadJSON(ctx, contract.RecordKey(r.Name), &record); err != nil {
			return nil, err
		}
		fix := record.Finding != nil && !now.Before(record.Due(s.Limits))
		lost := record.Waiting != nil && now.Sub(record.Waiting.Since) >= lostAfter
		if !record.Paused && (fix || lost) {
			out = append(out, r.Name)
		}
	}
	return out, nil
}

func (s WatchSources) sendChanges(ctx context.Context, changes []decide.Change) error {
	for some := range slices.Chunk(changes, mostEvents) {
		var details []any
		for _, c := range some {
			details = append(details, c)
		}
		if err := s.send(ctx, contract.SourceChangedEvent, details...); err != nil {
			return err
		}
	}
	return nil
}

// send sends an event for each detail, on the factory's bus.
func (s WatchSources) send(ctx context.Context, detailType string, details ...any) error {
	in := &eventbridge.PutEventsInput{}
	for _, d := range details {
		detail, err := json.Marshal(d)
		if err != nil {
			return failure.Wrap(failure.Internal, err, "encode the event")
		}
		in.Entries = append(in.Entries, eventtypes.PutEventsRequestEntry{
			EventBusName: aws.String(s.Settings.EventBus), Source: aws.String(contract.EventSource),
			DetailType: &detailType, Detail: aws.String(string(detail)),
		})
	}
	sent, err := s.Events.PutEvents(ctx, in)
	if err != nil {
		return awserr.Wrap(err, failure.Internal, "send the event %q", detailType)
	}
	for _, e := range sent.Entries {
		if code := aws.ToString(e.ErrorCode); code != "" {
			return failure.New(failure.ServiceUnavailable, "EventBridge refused the event %q: %s %s", detailType, code, aws.ToString(e.ErrorMessage))
		}
	}
	return nil
}

// allRecipes loads all recipes. Their problems are reported by lint and by the executions
// that build them.
func allRecipes(fsys fs.FS, now time.Time) ([]*recipe.Recipe, error) {
	out, err := recipe.All(fsys, recipe.Options{Now: now})
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "load the recipes")
	}
	return out, nil
}
