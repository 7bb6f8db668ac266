package states_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const role = "arn:aws:iam::111122223333:role/factory"

// functionError is an error that a Lambda function reports.
type functionError struct{ Type, Message string }

func (e *functionError) Error() string { return e.Type }

// account is a Service with functions, on a virtual clock that the test holds.
type account struct {
	*states.Service
	clk *clock.Virtual

	mu        sync.Mutex
	functions map[string]func(ctx context.Context, event map[string]any) (any, error)
	calls     []string // "<time since start> <function> <event>"
	events    []states.Event
}

func newAccount(t *testing.T) *account {
	t.Helper()
	a := &account{clk: clock.NewVirtual(start), functions: map[string]func(context.Context, map[string]any) (any, error){}}
	t.Cleanup(a.clk.Hold())
	a.Service = states.New(states.Config{
		Clock: a.clk, Invoker: a, Integrations: a,
		Default: wire.Caller{Account: "111122223333", Region: "eu-west-1"},
		Events: func(e states.Event) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.events = append(a.events, e)
		},
	})
	t.Cleanup(a.Close)
	return a
}

func (a *account) Invoke(ctx context.Context, arn string, payload []byte) ([]byte, string, error) {
	name := arn[strings.LastIndex(arn, ":")+1:]
	a.mu.Lock()
	a.calls = append(a.calls, fmt.Sprintf("%v %s %s", a.clk.Now().Sub(start), name, payload))
	f := a.functions[name]
	a.mu.Unlock()
	if f == nil {
		return nil, "", wire.Errorf("ResourceNotFoundException", "Function not found: %s", arn)
	}
	var event map[string]any
	if err := json.Unmarshal(payload, &event); err != nil {
		event = map[string]any{"value": json.RawMessage(payload)}
	}
	out, err := f(ctx, event)
	var failed *functionError
	if errors.As(err, &failed) {
		raw, _ := json.Marshal(map[string]string{"errorType": failed.Type, "errorMessage": failed.Message})
		return raw, "Unhandled", nil
	}
	if err != nil {
		return nil, "", err
	}
	raw, err := json.Marshal(out)
	return raw, "", err
}

func (a *account) Call(_ context.Context, service, action string, arguments []byte) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprintf("%v %s:%s %s", a.clk.Now().Sub(start), service, action, arguments))
	if strings.Contains(string(arguments), "nobody") {
		return nil, &smithy.GenericAPIError{Code: "NotFoundException", Message: "no such topic"}
	}
	return []byte(`{"MessageId":"m-1"}`), nil
}

func (a *account) seen() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.calls...)
}

func (a *account) machine(t *testing.T, definition string) string {
	t.Helper()
	if !strings.Contains(definition, `"QueryLanguage"`) {
		definition = `{"QueryLanguage":"JSONata",` + strings.TrimPrefix(strings.TrimSpace(definition), "{")
	}
	out, err := a.CreateStateMachine(context.Background(), &sfn.CreateStateMachineInput{
		Name: aws.String("m"), RoleArn: aws.String(role), Definition: aws.String(definition),
	})
	require.NoError(t, err)
	return *out.StateMachineArn
}

func (a *account) start(t *testing.T, machine, input string) string {
	t.Helper()
	out, err := a.StartExecution(context.Background(), &sfn.StartExecutionInput{
		StateMachineArn: aws.String(machine), Name: aws.String("e"), Input: aws.String(input),
	})
	require.NoError(t, err)
	return *out.ExecutionArn
}

func (a *account) wait(t *testing.T, execution string) *sfn.DescribeExecutionOutput {
	t.Helper()
	out, err := a.Wait(context.Background(), execution)
	require.NoError(t, err)
	return out
}

func (a *account) history(t *testing.T, execution string) []types.HistoryEvent {
	t.Helper()
	var all []types.HistoryEvent
	pages := sfn.NewGetExecutionHistoryPaginator(a.Service, &sfn.GetExecutionHistoryInput{ExecutionArn: aws.String(execution), MaxResults: 7})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		require.NoError(t, err)
		all = append(all, page.Events...)
	}
	return all
}

func typesOf(events []types.HistoryEvent) (all []string) {
	for _, e := range events {
		all = append(all, string(e.Type))
	}
	return all
}

const lambdaF = `"arn:aws:lambda:eu-west-1:111122223333:function:f"`

// TestStates runs one definition per feature of the language.
func TestStates(t *testing.T) {
	tests := map[string]struct {
		definition string
		input      string
		functions  map[string]func(ctx context.Context, event map[string]any) (any, error)
		want       string // the output, or "error: cause"
		calls      []string
		took       time.Duration
	}{
		"Pass hands its input on": {
			definition: `{"StartAt":"P","States":{"P":{"Type":"Pass","End":true}}}`,
			input:      `{"a":null}`,
			want:       `{"a":null}`,
		},
		"Pass puts out and assigns, both from what was before": {
			definition: `{"StartAt":"A","States":{
				"A":{"Type":"Pass","Assign":{"x":1},"Next":"B"},
				"B":{"Type":"Pass","Assign":{"x":"{% $x + 1 %}"},"Output":{"was":"{% $x %}"},"Next":"C"},
				"C":{"Type":"Succeed","Output":{"is":"{% $x %}","input":"{% $states.input %}"}}}}`,
			want: `{"input":{"was":1},"is":2}`,
		},
		"strings that only look like expressions are strings": {
			definition: `{"StartAt":"A","States":{"A":{"Type":"Pass","Output":[" {% 1 %}","{% 1 + 1 %}"],"End":true}}}`,
			want:       `[" {% 1 %}",2]`,
		},
		"the context object": {
			definition: `{"StartAt":"A","States":{"A":{"Type":"Pass","Output":"{% $states.context %}","End":true}}}`,
			input:      `{"k":1}`,
			want: `{"Execution":{"Id":"arn:aws:states:eu-west-1:111122223333:execution:m:e","Input":{"k":1},"Name":"e","RedriveCount":0,"RoleArn":"` + role + `","StartTime":"2026-03-01T12:00:00.000Z"},` +
				`"State":{"EnteredTime":"2026-03-01T12:00:00.000Z","Name":"A"},"StateMachine":{"Id":"arn:aws:states:eu-west-1:111122223333:stateMachine:m","Name":"m"}}`,
		},
		"Wait for seconds": {
			definition: `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":90,"Output":"{% $now() %}","End":true}}}`,
			want:       `"2026-03-01T12:01:30.000Z"`,
			took:       90 * time.Second,
		},
		"Wait for computed seconds": {
			definition: `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":"{% $states.input.n * 2 %}","End":true}}}`,
			input:      `{"n":15}`,
			want:       `{"n":15}`,
			took:       30 * time.Second,
		},
		"Wait until a moment": {
			definition: `{"StartAt":"W","States":{"W":{"Type":"Wait","Timestamp":"{% $states.input %}","End":true}}}`,
			input:      `"2026-03-01T13:00:00Z"`,
			want:       `"2026-03-01T13:00:00Z"`,
			took:       time.Hour,
		},
		"Wait until a moment that has passed": {
			definition: `{"StartAt":"W","States":{"W":{"Type":"Wait","Timestamp":"2020-01-01T00:00:00Z","End":true}}}`,
			want:       `{}`,
		},
		"Wait for something that is not a number": {
			definition: `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":"{% 'x' %}","End":true}}}`,
			want:       `States.QueryEvaluationError: An error occurred while executing the state 'W' (entered at the event id #2). The JSONata expression ''x'' specified for the field 'Seconds' returned an unexpected result type. Expected 'number', but was 'string' for value: "x"`,
		},
		"Choice takes the first rule that holds": {
			definition: `{"StartAt":"C","States":{
				"C":{"Type":"Choice","Choices":[
					{"Condition":"{% $states.input.n > 9 %}","Next":"Big"},
					{"Condition":"{% $states.input.n > 4 %}","Next":"Middle","Assign":{"rule":2},"Output":"chosen"},
					{"Condition":true,"Next":"Big"}]},
				"Big":{"Type":"Succeed"},
				"Middle":{"Type":"Succeed","Output":{"rule":"{% $rule %}","input":"{% $states.input %}"}}}}`,
			input: `{"n":5}`,
			want:  `{"input":"chosen","rule":2}`,
		},
		"Choice takes its default": {
			definition: `{"StartAt":"C","States":{"C":{"Type":"Choice","Default":"D","Output":"default","Choices":[{"Condition":"{% 1 = 2 %}","Next":"D"}]},"D":{"Type":"Succeed"}}}`,
			want:       `"default"`,
		},
		"Choice without a default fails": {
			definition: `{"StartAt":"C","States":{"C":{"Type":"Choice","Choices":[{"Condition":false,"Next":"D"}]},"D":{"Type":"Succeed"}}}`,
			want:       `States.NoChoiceMatched: No rule of the Choice state C holds, and it has no Default.`,
		},
		"a condition must be boolean": {
			definition: `{"StartAt":"C","States":{"C":{"Type":"Choice","Choices":[{"Condition":"{% 1 %}","Next":"D"}]},"D":{"Type":"Succeed"}}}`,
			want:       `States.QueryEvaluationError: An error occurred while executing the state 'C' (entered at the event id #2). The JSONata expression '1' specified for the field 'Choices[0]/Condition' returned an unexpected result type. Expected 'boolean', but was 'number' for value: 1`,
		},
		"Fail with computed error and cause": {
			definition: `{"StartAt":"F","States":{"F":{"Type":"Fail","Error":"{% $states.input.e %}","Cause":"{% 'because of ' & $states.input.why %}"}}}`,
			input:      `{"e":"Mine","why":"rain"}`,
			want:       `Mine: because of rain`,
		},
		"an undefined result is an error": {
			definition: `{"StartAt":"A","States":{"A":{"Type":"Pass","Output":"{% $states.input.nothing %}","End":true}}}`,
			want:       `States.QueryEvaluationError: An error occurred while executing the state 'A' (entered at the event id #2). The JSONata expression '$states.input.nothing' specified for the field 'Output' returned nothing (undefined).`,
		},
		"Task calls a function by its ARN with the input": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"End":true}}}`,
			input:      `{"in":1}`,
			functions:  answers("f", map[string]any{"out": 2}),
			want:       `{"out":2}`,
			calls:      []string{`0s f {"in":1}`},
		},
		"Task calls a function by integration with arguments": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke",
				"Arguments":{"FunctionName":"f","Payload":{"id":"{% $states.input.id %}"}},
				"Assign":{"code":"{% $states.result.StatusCode %}"},"Output":"{% $states.result.Payload.out %}","Next":"S"},
				"S":{"Type":"Succeed","Output":["{% $states.input %}","{% $code %}"]}}}`,
			input:     `{"id":"i-1"}`,
			functions: answers("f", map[string]any{"out": 2}),
			want:      `[2,200]`,
			calls:     []string{`0s f {"id":"i-1"}`},
		},
		"a function that does not exist": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"End":true}}}`,
			want:       `Lambda.ResourceNotFoundException: Function not found: arn:aws:lambda:eu-west-1:111122223333:function:f (Service: AWSLambda; Status Code: 404; Error Code: ResourceNotFoundException; Request ID: …; Proxy: null)`,
			calls:      []string{`0s f {}`},
		},
		"an error of a function that nobody catches": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"End":true}}}`,
			functions:  fails("f", "Broken", "it broke"),
			want:       `Broken: {"errorMessage":"it broke","errorType":"Broken"}`,
			calls:      []string{`0s f {}`},
		},
		"Retry backs off up to a limit, and evaluates the arguments each time": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,
				"Arguments":{"n":"{% $states.context.State.RetryCount %}","at":"{% $now('[m01]:[s01]') %}"},
				"Retry":[{"ErrorEquals":["NotReady"],"IntervalSeconds":2,"BackoffRate":2,"MaxDelaySeconds":5,"MaxAttempts":9}],"End":true}}}`,
			functions: failsUntil("f", 4, "NotReady"),
			want:      `"ready"`,
			calls: []string{
				`0s f {"at":"00:00","n":0}`, `2s f {"at":"00:02","n":1}`, `6s f {"at":"00:06","n":2}`,
				`11s f {"at":"00:11","n":3}`, `16s f {"at":"00:16","n":4}`,
			},
			took: 16 * time.Second,
		},
		"Retry gives up after its attempts, each retrier for itself": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,
				"Retry":[{"ErrorEquals":["Other"]},{"ErrorEquals":["States.TaskFailed"],"MaxAttempts":2,"IntervalSeconds":1,"BackoffRate":1}],"End":true}}}`,
			functions: fails("f", "Broken", "still"),
			want:      `Broken: {"errorMessage":"still","errorType":"Broken"}`,
			calls:     []string{`0s f {}`, `1s f {}`, `2s f {}`},
			took:      2 * time.Second,
		},
		"full jitter waits less, and alike in every run": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"Output":"{% $millis() < 1772366420000 %}",
				"Retry":[{"ErrorEquals":["NotReady"],"IntervalSeconds":20,"BackoffRate":1,"JitterStrategy":"FULL"}],"End":true}}}`,
			functions: failsUntil("f", 1, "NotReady"),
			want:      `true`,
			took:      -1,
		},
		"Catch gives the error on, assigns and goes where it says": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"Next":"Never",
				"Catch":[{"ErrorEquals":["Other"],"Next":"Never"},
					{"ErrorEquals":["States.ALL"],"Assign":{"e":"{% $states.errorOutput.Error %}"},"Output":"{% $parse($states.errorOutput.Cause).errorMessage %}","Next":"Caught"}]},
				"Never":{"Type":"Fail"},
				"Caught":{"Type":"Succeed","Output":["{% $e %}","{% $states.input %}"]}}}`,
			functions: fails("f", "Broken", "it broke"),
			want:      `["Broken","it broke"]`,
			calls:     []string{`0s f {}`},
		},
		"Catch puts out the error where it says nothing": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"End":true,"Catch":[{"ErrorEquals":["Broken"],"Next":"S"}]},"S":{"Type":"Succeed"}}}`,
			functions:  fails("f", "Broken", "it broke"),
			want:       `{"Cause":"{\"errorMessage\":\"it broke\",\"errorType\":\"Broken\"}","Error":"Broken"}`,
			calls:      []string{`0s f {}`},
		},
		"a failed evaluation can be caught": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"Arguments":"{% $nothing %}","End":true,
				"Catch":[{"ErrorEquals":["States.QueryEvaluationError"],"Output":"caught","Next":"S"}]},"S":{"Type":"Succeed"}}}`,
			want: `"caught"`,
		},
		"a task that takes longer than its time-out": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"TimeoutSeconds":"{% 6 * 5 %}","End":true,
				"Catch":[{"ErrorEquals":["States.TaskFailed"],"Next":"No"},{"ErrorEquals":["States.Timeout"],"Output":"{% $states.errorOutput.Error %}","Next":"S"}]},
				"No":{"Type":"Fail"},"S":{"Type":"Succeed"}}}`,
			functions: sleeps("f", time.Hour),
			want:      `"States.Timeout"`,
			calls:     []string{`0s f {}`},
			took:      30 * time.Second,
		},
		"a task within its time-out": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"TimeoutSeconds":30,"End":true}}}`,
			functions:  sleeps("f", 29*time.Second),
			want:       `"slept"`,
			calls:      []string{`0s f {}`},
			took:       29 * time.Second,
		},
		"States.ALL does not catch what is terminal": {
			definition: `{"StartAt":"T","States":{"T":{"Type":"Pass","Output":{"x":"{% $join($map($range(1,1000,1), function($v) { '` + strings.Repeat("x", 300) + `' })) %}"},"Next":"P"},
				"P":{"Type":"Parallel","Branches":[{"StartAt":"B","States":{"B":{"Type":"Succeed"}}}],"Catch":[{"ErrorEquals":["States.ALL"],"Next":"S"}],"End":true},"S":{"Type":"Succeed"}}}`,
			want: `States.DataLimitExceeded: the output of the state T has 300008 bytes; the maximum is 262144. Pass large data through S3.`,
		},
		"Parallel runs its branches at once, on the same input": {
			definition: `{"StartAt":"P","States":{"P":{"Type":"Parallel","Arguments":{"s":5},"Branches":[
				{"StartAt":"A","States":{"A":{"Type":"Wait","Seconds":10,"Output":"{% $states.input.s + $outer %}","End":true}}},
				{"StartAt":"B","States":{"B":{"Type":"Pass","Assign":{"inner":2},"Next":"C"},"C":{"Type":"Wait","Seconds":"{% $states.input.s %}","Output":"{% $inner %}","End":true}}}],
				"Output":{"all":"{% $states.result %}"},"End":true},"Begin":{"Type":"Pass","Assign":{"outer":1},"Next":"P"}},"StartAt":"Begin"}`,
			want: `{"all":[6,2]}`,
			took: 10 * time.Second,
		},
		"a branch that fails ends the others": {
			definition: `{"StartAt":"P","States":{"P":{"Type":"Parallel","Branches":[
				{"StartAt":"A","States":{"A":{"Type":"Wait","Seconds":1000,"End":true}}},
				{"StartAt":"B","States":{"B":{"Type":"Wait","Seconds":3,"Next":"F"},"F":{"Type":"Fail","Error":"Mine","Cause":"why"}}}],
				"Catch":[{"ErrorEquals":["Mine"],"Output":"{% $states.errorOutput.Cause %}","Next":"S"}],"End":true},"S":{"Type":"Succeed"}}}`,
			want: `"why"`,
			took: 3 * time.Second,
		},
		"Parallel is retried as a whole": {
			definition: `{"StartAt":"P","States":{"P":{"Type":"Parallel","Branches":[{"StartAt":"T","States":{"T":{"Type":"Task","Resource":` + lambdaF + `,"End":true}}}],
				"Retry":[{"ErrorEquals":["NotReady"],"IntervalSeconds":7}],"End":true}}}`,
			functions: failsUntil("f", 1, "NotReady"),
			want:      `["ready"]`,
			calls:     []string{`0s f {}`, `7s f {}`},
			took:      7 * time.Second,
		},
		"Map selects for each item": {
			definition: `{"StartAt":"M","States":{"M":{"Type":"Map","Items":"{% $states.input.regions %}",
				"ItemSelector":{"i":"{% $states.context.Map.Item.Index %}","r":"{% $states.context.Map.Item.Value %}","k":"{% $states.input.k %}"},
				"ItemProcessor":{"ProcessorConfig":{"Mode":"INLINE"},"StartAt":"A","States":{"A":{"Type":"Pass","Output":"{% $states.input.k & $states.input.r & $states.context.Map.Item.Index %}","End":true}}},
				"End":true}}}`,
			input: `{"k":"in ","regions":["a","b"]}`,
			want:  `["in a0","in b1"]`,
		},
		"Map takes its input without Items": {
			definition: `{"StartAt":"M","States":{"M":{"Type":"Map","ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Succeed"}}},"End":true}}}`,
			input:      `[1,2]`,
			want:       `[1,2]`,
		},
		"Map over nothing": {
			definition: `{"StartAt":"M","States":{"M":{"Type":"Map","Items":[],"ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Succeed"}}},"End":true}}}`,
			want:       `[]`,
		},
		"Map over what is no list": {
			definition: `{"StartAt":"M","States":{"M":{"Type":"Map","Items":"{% 1 %}","ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Succeed"}}},"End":true}}}`,
			want:       `States.QueryEvaluationError: An error occurred while executing the state 'M' (entered at the event id #2). The JSONata expression '1' specified for the field 'Items' returned an unexpected result type. Expected 'array', but was 'number' for value: 1`,
		},
		"Map runs so many at a time": {
			definition: `{"StartAt":"M","States":{"M":{"Type":"Map","Items":[1,2,3,4,5],"MaxConcurrency":2,
				"ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Wait","Seconds":10,"End":true}}},"End":true}}}`,
			want: `[1,2,3,4,5]`,
			took: 30 * time.Second,
		},
		"one failed iteration fails the Map": {
			definition: `{"StartAt":"M","States":{"M":{"Type":"Map","Items":[1,2,3],` + oddFails + `,"End":true}}}`,
			want:       `Odd`,
			took:       time.Second,
		},
		"as many failures as are tolerated": {
			definition: `{"StartAt":"M","States":{"M":{"Type":"Map","Items":[1,2,3,4],"ToleratedFailureCount":2,` + oddFails + `,"End":true}}}`,
			want:       `[2,4]`,
			took:       4 * time.Second,
		},
		"more failures than are tolerated": {
			definition: `{"StartAt":"M","States":{"M":{"Type":"Map","Items":[1,2,3,4],"ToleratedFailurePercentage":25,` + oddFails + `,"End":true}}}`,
			want:       `States.ExceedToleratedFailureThreshold: 2 iterations failed, 1 are tolerated; the latest: Odd`,
			took:       3 * time.Second,
		},
		"sns:publish and events:putEvents": {
			definition: `{"StartAt":"A","States":{
				"A":{"Type":"Task","Resource":"arn:aws:states:::sns:publish","Arguments":{"TopicArn":"t","Message":"{% $states.input.m %}"},"Next":"B"},
				"B":{"Type":"Task","Resource":"arn:aws:states:::events:putEvents","Arguments":{"Entries":[]},"End":true}}}`,
			input: `{"m":"hello"}`,
			want:  `{"MessageId":"m-1"}`,
			calls: []string{`0s sns:publish {"Message":"hello","TopicArn":"t"}`, `0s events:putEvents {"Entries":[]}`},
		},
		"an integration's error has the service's name": {
			definition: `{"StartAt":"A","States":{"A":{"Type":"Task","Resource":"arn:aws:states:::sns:publish","Arguments":{"TopicArn":"nobody"},"End":true}}}`,
			want:       `SNS.NotFoundException: no such topic (Service: AmazonSNS; Status Code: 404; Error Code: NotFoundException; Request ID: …; Proxy: null)`,
			calls:      []string{`0s sns:publish {"TopicArn":"nobody"}`},
		},
		"the state machine's own time-out": {
			definition: `{"TimeoutSeconds":60,"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":61,"End":true}}}`,
			want:       ``, // neither error nor cause: its status says it
			took:       time.Minute,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			for name, f := range tc.functions {
				a.functions[name] = func(ctx context.Context, event map[string]any) (any, error) {
					return f(context.WithValue(ctx, clockKey{}, a.clk), event)
				}
			}
			input := tc.input
			if input == "" {
				input = `{}`
			}
			out := a.wait(t, a.start(t, a.machine(t, tc.definition), input))
			if out.Status == types.ExecutionStatusSucceeded {
				assert.Equal(t, tc.want, aws.ToString(out.Output))
			} else {
				got := aws.ToString(out.Error)
				if out.Cause != nil {
					got += ": " + *out.Cause
				}
				assert.Equal(t, tc.want, requestID.ReplaceAllString(got, "Request ID: …"))
			}
			if tc.calls != nil {
				assert.Equal(t, tc.calls, a.seen())
			}
			if tc.took >= 0 {
				assert.Equal(t, tc.took, out.StopDate.Sub(*out.StartDate))
			}
		})
	}
}

var requestID = regexp.MustCompile(`Request ID: [0-9a-f-]+`)

// oddFails waits as many seconds as the item says, and fails if that is odd.
const oddFails = `"ItemProcessor":{"StartAt":"A","States":{"A":{"Type":"Wait","Seconds":"{% $states.input %}","Next":"C"},
	"C":{"Type":"Choice","Choices":[{"Condition":"{% $states.input % 2 = 1 %}","Next":"F"}],"Default":"S"},"F":{"Type":"Fail","Error":"Odd"},"S":{"Type":"Succeed"}}}`

type clockKey struct{}

type functions = map[string]func(ctx context.Context, event map[string]any) (any, error)

func answers(name string, value any) functions {
	return functions{name: func(context.Context, map[string]any) (any, error) { return value, nil }}
}

func fails(name, errorType, message string) functions {
	return functions{name: func(context.Context, map[string]any) (any, error) {
		return nil, &functionError{Type: errorType, Message: message}
	}}
}

func failsUntil(name string, times int, errorType string) functions {
	var mu sync.Mutex
	return functions{name: func(context.Context, map[string]any) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		if times == 0 {
			return "ready", nil
		}
		times--
		return nil, &functionError{Type: errorType, Message: "not yet"}
	}}
}

func sleeps(name string, d time.Duration) functions {
	return functions{name: func(ctx context.Context, _ map[string]any) (any, error) {
		if err := ctx.Value(clockKey{}).(clock.Clock).Sleep(ctx, d); err != nil {
			return nil, err
		}
		return "slept", nil
	}}
}
