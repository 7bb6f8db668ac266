// Package wake ends the waits of the state machine when an event says that what they
// wait for may have changed.
//
// A state that waits hands its task token to Wake, which keeps it by the resource that
// the state waits for. An event of AWS leaves a mark at its resource and wakes whoever
// waits for it. Each side writes before it reads, and S3 is strongly consistent:
// whether the token or the event is first, one of the two sees the other, so no order
// of them loses an event.
//
// Events are hints. Wake does not judge what they say; the state that is woken asks
// AWS itself. An event that is false or comes twice costs a look, and one that never
// comes costs the rest of the state's time-out.
package wake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// TaskAPI is what Wake needs of Step Functions.
type TaskAPI interface {
	SendTaskSuccess(context.Context, *sfn.SendTaskSuccessInput, ...func(*sfn.Options)) (*sfn.SendTaskSuccessOutput, error)
}

// Wake keeps the tokens of states that wait, and returns them.
type Wake struct {
	Store store.Store
	Keys  store.Directory
	Tasks TaskAPI
}

// Registration is what a state that waits invokes Wake with.
type Registration struct {
	Execution struct {
		ID        string    `json:"id"`
		Name      string    `json:"name"`
		StartTime time.Time `json:"startTime"`
	} `json:"execution"`
	Step      string    `json:"stage"`     // the state that looks again afterwards
	Now       time.Time `json:"now"`       // of the state machine's clock
	Token     string    `json:"token"`     // of the task
	Resources []string  `json:"resources"` // whose events end the wait
	Since     time.Time `json:"since"`     // events from this moment on end the wait, also those that came already
	Seen      string    `json:"seen"`      // ids of the events that have ended waits of the execution, separated by spaces
	Waits     int       `json:"waits"`     // of the step before this one
	Over      bool      `json:"over"`      // the step has waited too long, and must not be woken again
}

// Output says what came of a call.
type Output struct {
	Resource string   `json:"resource,omitempty"` // of the event
	Woken    []string `json:"woken,omitempty"`    // whose token was returned: execution and step
	Late     []string `json:"late,omitempty"`     // whose task had ended before
}

// record is what an object holds that keeps a token.
type record struct {
	Schema    int      `json:"schema"`
	Token     string   `json:"token"`
	Resources []string `json:"resources"` // all that the state waits for
}

// mark is what an object holds that an event left.
type mark struct {
	Schema int       `json:"schema"`
	Event  string    `json:"event"` // id
	Type   string    `json:"type"`
	Time   time.Time `json:"time"`
}

const (
	schema = 1
	// slack covers late events, clocks that differ, and that EventBridge gives the time
	// of an event in whole seconds.
	slack = 30 * time.Second
	// maxRecord is more than a record takes: Step Functions' tokens have at most 2,048
	// characters
	// (https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskSuccess.html).
	maxRecord = 16 << 10
)

// Run keeps the token of a state, or wakes those that wait for an event's resource.
func (w Wake) Run(ctx context.Context, payload json.RawMessage) (Output, error) {
	var kind struct {
		DetailType *string `json:"detail-type"`
	}
	if err := json.Unmarshal(payload, &kind); err != nil {
		return Output{}, failure.Wrap(failure.InvalidInput, err, "the input is neither an event nor a wait")
	}
	if kind.DetailType != nil {
		var e Event
		if err := json.Unmarshal(payload, &e); err != nil {
			return Output{}, failure.Wrap(failure.InvalidInput, err, "the event is not one of EventBridge's")
		}
		return w.event(ctx, e)
	}
	var r Registration
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Output{}, failure.Wrap(failure.InvalidInput, err, "the wait is not what is documented")
	}
	return w.register(ctx, r)
}

var (
	executionName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)
	stepName      = regexp.MustCompile(`^[A-Za-z]+$`)
	// resourceName is of all resources; none has two slashes in a row or a dot.
	resourceName = regexp.MustCompile(`^(instance/i-[0-9a-f]+|image/[a-z0-9-]+/ami-[0-9a-f]+|execution/[A-Za-z0-9_-]{1,80})$`)
)

func (r Registration) check() error {
	wrong := ""
	switch {
	case !executionName.MatchString(r.Execution.Name):
		wrong = fmt.Sprintf("execution.name is %q (allowed: a name of an execution)", r.Execution.Name)
	case !stepName.MatchString(r.Step):
		wrong = fmt.Sprintf("stage is %q (allowed: a name of a state)", r.Step)
	case r.Token == "":
		wrong = "token is missing"
	case r.Now.IsZero() || r.Since.IsZero():
		wrong = "now or since is missing"
	case len(r.Resources) == 0:
		wrong = "resources is empty"
	}
	for _, resource := range r.Resources {
		if wrong == "" && !resourceName.MatchString(resource) {
			wrong = fmt.Sprintf("resource %q is neither an instance, an image nor an execution", resource)
		}
	}
	if wrong != "" {
		return failure.New(failure.InvalidInput, "the wait is not what is documented: %s", wrong)
	}
	return nil
}

// register keeps the token of a state, and returns it at once if an event came before.
func (w Wake) register(ctx context.Context, r Registration) (Output, error) {
	if err := r.check(); err != nil {
		return Output{}, err
	}
	if r.Over {
		return Output{}, failure.New(failure.InvalidInput, "%s has waited too long or too often: no event wakes it again", r.Step)
	}
	own := r.tokens()
	if r.Waits > 0 {
		if err := w.forgetEarlier(ctx, own); err != nil {
			return Output{}, err
		}
	}
	kept := record{Schema: schema, Token: r.Token, Resources: r.Resources}
	for _, t := range own {
		if _, err := w.Store.PutJSON(ctx, t.IndexKey(), struct {
			Schema int `json:"schema"`
		}{schema}); err != nil {
			return Output{}, err
		}
		if _, err := w.Store.PutJSON(ctx, t.Key(), kept); err != nil {
			return Output{}, err
		}
	}
	for _, resource := range r.Resources {
		event, err := w.news(ctx, resource, r)
		if err != nil {
			return Output{}, err
		}
		if event == "" {
			continue
		}
		var out Output
		return out, w.answer(ctx, own[0], kept, event, &out)
	}
	return Output{}, nil
}

// tokens are where the token is kept, once for each resource. The id is the token's
// digest, so that a repeated call keeps it once and says nothing of it.
func (r Registration) tokens() []contract.WaitToken {
	sum := sha256.Sum256([]byte(r.Token))
	return tokensOf(contract.WaitToken{Execution: r.Execution.Name, State: r.Step, ID: hex.EncodeToString(sum[:8])}, r.Resources)
}

// tokensOf are the places of a wait's token.
func tokensOf(wait contract.WaitToken, resources []string) []contract.WaitToken {
	out := make([]contract.WaitToken, len(resources))
	for i, resource := range resources {
		out[i] = wait
		out[i].Resource = resource
	}
	return out
}

// forgetEarlier deletes the tokens of the step's earlier waits for the same resources:
// their tasks have ended.
func (w Wake) forgetEarlier(ctx context.Context, own []contract.WaitToken) error {
	keys, err := w.Keys.Keys(ctx, contract.WaitsOf(own[0].Execution)+own[0].State+"/")
	if err != nil {
		return err
	}
	for _, key := range keys {
		earlier, ok := contract.WaitTokenIn(key)
		same := slices.ContainsFunc(own, func(t contract.WaitToken) bool { return t.Resource == earlier.Resource })
		if !ok || !same || earlier.ID == own[0].ID {
			continue
		}
		if err := w.forget(ctx, earlier); err != nil {
			return err
		}
	}
	return nil
}

func (w Wake) forget(ctx context.Context, t contract.WaitToken) error {
	if err := w.Keys.Delete(ctx, t.Key()); err != nil {
		return err
	}
	return w.Keys.Delete(ctx, t.IndexKey())
}

// news is the id of an event of a resource that has not ended a wait of the execution
// before; empty if there is none. An event from shortly before the look began counts
// too: AWS may deliver it late, and may show what it announces later still. At worst it
// costs one look.
func (w Wake) news(ctx context.Context, resource string, r Registration) (string, error) {
	keys, err := w.Keys.Keys(ctx, contract.WaitMarksOf(resource))
	if err != nil {
		return "", err
	}
	seen := strings.Fields(r.Seen)
	for _, key := range keys {
		at, event, ok := contract.WaitMarkAt(key, resource)
		if ok && !at.Before(r.Since.Add(-slack)) && !slices.Contains(seen, event) {
			return event, nil
		}
	}
	return "", nil
}

// answer returns a token to Step Functions, and deletes it.
func (w Wake) answer(ctx context.Context, t contract.WaitToken, kept record, event string, out *Output) error {
	output, err := json.Marshal(map[string]string{"event": event})
	if err != nil {
		return failure.Wrap(failure.Internal, err, "encode the answer")
	}
	who := t.Execution + " " + t.State
	_, err = w.Tasks.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: &kept.Token, Output: aws.String(string(output))})
	switch {
	case err == nil:
		out.Woken = append(out.Woken, who)
	case awserr.Is(err, "TaskTimedOut", "TaskDoesNotExist", "InvalidToken"): // woken before, timed out, or stopped
		out.Late = append(out.Late, who)
	default:
		return awserr.Wrap(err, failure.Internal, "wake %s", who)
	}
	for _, place := range tokensOf(t, kept.Resources) {
		if err := w.forget(ctx, place); err != nil {
			return err
		}
	}
	return nil
}

// event leaves a mark and wakes everybody who waits for the resource. A call that
// fails is repeated by Lambda: those who are woken then have lost their tokens.
func (w Wake) event(ctx context.Context, e Event) (Output, error) {
	resource, err := e.resource(w.Store.Bucket)
	if err != nil {
		return Output{}, err
	}
	out := Output{Resource: resource}
	if _, err := w.Store.PutJSON(ctx, contract.WaitMarkKey(resource, e.Time, e.ID), mark{schema, e.ID, e.DetailType, e.Time}); err != nil {
		return out, err
	}
	keys, err := w.Keys.Keys(ctx, contract.WaitTokensOf(resource))
	if err != nil {
		return out, err
	}
	var first error
	for _, key := range keys {
		t, ok := contract.WaitTokenAt(key, resource)
		if !ok {
			continue
		}
		if err := w.wake(ctx, t, e.ID, &out); err != nil && first == nil {
			first = err // the others are not to wait for it
		}
	}
	return out, first
}

// wake returns the token of one wait.
func (w Wake) wake(ctx context.Context, t contract.WaitToken, event string, out *Output) error {
	raw, err := w.Store.ReadAtMost(ctx, t.Key(), maxRecord)
	if errors.Is(err, store.ErrNone) { // used meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	var kept record
	if err := json.Unmarshal(raw, &kept); err != nil || kept.Schema != schema || kept.Token == "" || !slices.Contains(kept.Resources, t.Resource) {
		return failure.New(failure.Internal, "s3://%s/%s keeps no token of schema %d; the time-out of the wait covers it", w.Store.Bucket, t.Key(), schema)
	}
	return w.answer(ctx, t, kept, event, out)
}
