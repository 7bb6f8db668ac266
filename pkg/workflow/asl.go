package workflow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// The documents below are the parts of the Amazon States Language, in its
// JSONata mode, that the factory uses: https://states-language.net and the Step
// Functions Developer Guide, "Transforming data with JSONata".

// Machine is a state machine's definition.
type Machine struct {
	Comment       string `json:"Comment,omitempty"`
	QueryLanguage string `json:"QueryLanguage,omitempty"`
	StartAt       string `json:"StartAt"`
	States        States `json:"States"`
}

// States are the states of a machine, in the order in which it is read: the order
// in which an execution first meets them where nothing fails, then its ends. Step
// Functions itself gives the order no meaning.
type States []State

// Named finds a state by its name.
func (s States) Named(name string) (State, bool) {
	i := slices.IndexFunc(s, func(x State) bool { return x.Name == name })
	if i < 0 {
		return State{}, false
	}
	return s[i], true
}

// MarshalJSON writes the states as one object, by name and in order. It fails on a
// name that is empty or used twice, of which the object would keep one.
func (s States) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	seen := map[string]bool{}
	b.WriteByte('{')
	for i, state := range s {
		if state.Name == "" || seen[state.Name] {
			return nil, fmt.Errorf("state %d: the name %q is empty or used twice", i+1, state.Name)
		}
		seen[state.Name] = true
		name, err := json.Marshal(state.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(state)
		if err != nil {
			return nil, fmt.Errorf("state %s: %w", state.Name, err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// State is one state; which fields apply depends on Type.
type State struct {
	Name string `json:"-"` // the key of the state in States

	Type           string         `json:"Type"`
	Comment        string         `json:"Comment,omitempty"`
	Resource       string         `json:"Resource,omitempty"`
	Arguments      any            `json:"Arguments,omitempty"`
	TimeoutSeconds any            `json:"TimeoutSeconds,omitempty"` // a number, or an expression of one
	Seconds        string         `json:"Seconds,omitempty"`        // of a Wait
	Choices        []Choice       `json:"Choices,omitempty"`
	Default        string         `json:"Default,omitempty"`
	Items          string         `json:"Items,omitempty"`
	MaxConcurrency int            `json:"MaxConcurrency,omitempty"`
	ItemProcessor  *Processor     `json:"ItemProcessor,omitempty"`
	Assign         map[string]any `json:"Assign,omitempty"`
	Output         any            `json:"Output,omitempty"`
	Retry          []Retry        `json:"Retry,omitempty"`
	Catch          []Catch        `json:"Catch,omitempty"`
	Error          string         `json:"Error,omitempty"`
	Cause          string         `json:"Cause,omitempty"`
	Next           string         `json:"Next,omitempty"`
	End            bool           `json:"End,omitempty"`
}

// Processor is the state machine that a Map runs for each item.
type Processor struct {
	ProcessorConfig map[string]string `json:"ProcessorConfig"`
	StartAt         string            `json:"StartAt"`
	States          States            `json:"States"`
}

// Choice is one rule of a Choice state.
type Choice struct {
	Condition string         `json:"Condition"`
	Assign    map[string]any `json:"Assign,omitempty"`
	Output    any            `json:"Output,omitempty"`
	Next      string         `json:"Next"`
}

// Retry is one retrier of a Task.
type Retry struct {
	ErrorEquals     []string `json:"ErrorEquals"`
	IntervalSeconds int      `json:"IntervalSeconds"`
	MaxAttempts     int      `json:"MaxAttempts"`
	BackoffRate     float64  `json:"BackoffRate,omitempty"`
	MaxDelaySeconds int      `json:"MaxDelaySeconds,omitempty"`
	JitterStrategy  string   `json:"JitterStrategy,omitempty"`
}

// Catch is one catcher of a Task or Map.
type Catch struct {
	ErrorEquals []string       `json:"ErrorEquals"`
	Assign      map[string]any `json:"Assign,omitempty"`
	Output      any            `json:"Output,omitempty"`
	Next        string         `json:"Next"`
}

// JSON renders the definition: states in their order, other keys sorted, two
// spaces of indentation, the same bytes every time.
func (m Machine) JSON() []byte {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil { // only strings, numbers and maps of them are in a Machine, and names once
		panic(fmt.Sprintf("state machine does not marshal: %v", err))
	}
	return append(b, '\n')
}

// lambdaErrors are Step Functions' names for trouble between it and Lambda; the
// stages are idempotent, so asking again is safe.
// https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html
func lambdaErrors() []string {
	return []string{
		"Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.SdkClientException",
		"Lambda.TooManyRequestsException", "Lambda.Unknown", "Sandbox.Timedout",
	}
}

// timeOuts are the names of a time-out of a function: Step Functions' own, and
// that of Lambda's.
func timeOuts() []string { return []string{timedOut, "Sandbox.Timedout"} }

// anyError is what catches every error. The names beside States.ALL are those
// that it does not reach:
// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
func anyError() [][]string {
	return [][]string{{"States.DataLimitExceeded", "States.Runtime"}, {"States.ALL"}}
}

func names(codes ...failure.Code) []string {
	out := make([]string, len(codes))
	for i, c := range codes {
		out[i] = string(c)
	}
	return out
}
