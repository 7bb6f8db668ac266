package states_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/states"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

const (
	passing = `{"QueryLanguage":"JSONata","Comment":"passes","StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}`
	waiting = `{"StartAt":"W","States":{"W":{"Type":"Wait","Seconds":3600,"End":true}}}`
	asking  = `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke.waitForTaskToken",
		"Arguments":{"FunctionName":"f","Payload":{"token":"{% $states.context.Task.Token %}"}},
		"TimeoutSeconds":1000,"HeartbeatSeconds":60,"Output":"{% $states.result %}","End":true}}}`
)

var ctx = context.Background()

func TestHistoryTellsWhatHappened(t *testing.T) {
	a := newAccount(t)
	a.functions = failsUntil("f", 1, "NotReady")
	execution := a.start(t, a.machine(t, `{"StartAt":"T","States":{
		"T":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke","Arguments":{"FunctionName":"f"},"TimeoutSeconds":9,
			"Retry":[{"ErrorEquals":["NotReady"],"IntervalSeconds":5}],"Assign":{"x":{"y":1}},"Output":"{% $states.result.Payload %}","Next":"L"},
		"L":{"Type":"Task","Resource":`+lambdaF+`,"Next":"F"},
		"F":{"Type":"Fail","Error":"Mine","Cause":"why"}}}`), `{"in":1}`)
	a.wait(t, execution)
	events := a.history(t, execution)

	require.Equal(t, []string{
		"ExecutionStarted", "TaskStateEntered", "TaskScheduled", "TaskStarted", "TaskFailed", "TaskScheduled", "TaskStarted", "TaskSucceeded", "TaskStateExited",
		"TaskStateEntered", "LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionSucceeded", "TaskStateExited",
		"FailStateEntered", "ExecutionFailed",
	}, typesOf(events))
	for i, e := range events {
		assert.EqualValues(t, i+1, e.Id)
		if i == 1 {
			assert.Zero(t, e.PreviousEventId, "the first state follows nothing, as recordings of AWS show")
			continue
		}
		assert.EqualValues(t, i, e.PreviousEventId)
	}
	assert.Equal(t, `{"in":1}`, *events[0].ExecutionStartedEventDetails.Input)
	assert.Equal(t, role, *events[0].ExecutionStartedEventDetails.RoleArn)
	assert.Equal(t, "T", *events[1].StateEnteredEventDetails.Name)
	assert.Equal(t, `{"FunctionName":"f"}`, *events[2].TaskScheduledEventDetails.Parameters)
	assert.Equal(t, "lambda", *events[2].TaskScheduledEventDetails.ResourceType)
	assert.Equal(t, "invoke", *events[2].TaskScheduledEventDetails.Resource)
	assert.EqualValues(t, 9, *events[2].TaskScheduledEventDetails.TimeoutInSeconds)
	assert.Equal(t, "NotReady", *events[4].TaskFailedEventDetails.Error)
	assert.Equal(t, `{"errorMessage":"not yet","errorType":"NotReady"}`, *events[4].TaskFailedEventDetails.Cause)
	assert.Equal(t, start, *events[4].Timestamp)
	assert.Equal(t, start.Add(5*time.Second), *events[5].Timestamp)
	assert.Equal(t, `{"ExecutedVersion":"$LATEST","Payload":"ready","StatusCode":200}`, *events[7].TaskSucceededEventDetails.Output)
	assert.Equal(t, map[string]string{"x": `{"y":1}`}, events[8].StateExitedEventDetails.AssignedVariables)
	assert.Equal(t, `"ready"`, *events[8].StateExitedEventDetails.Output)
	assert.Equal(t, "Mine", *events[15].ExecutionFailedEventDetails.Error)
	assert.Equal(t, "why", *events[15].ExecutionFailedEventDetails.Cause)

	bare, err := a.GetExecutionHistory(ctx, &sfn.GetExecutionHistoryInput{
		ExecutionArn: aws.String(execution), ReverseOrder: true, IncludeExecutionData: aws.Bool(false),
	})
	require.NoError(t, err)
	assert.Equal(t, types.HistoryEventTypeExecutionFailed, bare.Events[0].Type)
	last := bare.Events[len(bare.Events)-1]
	assert.Nil(t, last.ExecutionStartedEventDetails.Input)
	assert.Equal(t, `{"in":1}`, *a.history(t, execution)[0].ExecutionStartedEventDetails.Input, "the history itself keeps its data")

	_, err = a.GetExecutionHistory(ctx, &sfn.GetExecutionHistoryInput{ExecutionArn: aws.String(execution), NextToken: aws.String("?")})
	var bad *types.InvalidToken
	require.ErrorAs(t, err, &bad)
}

func TestDescribingAMachineNamesTheVariablesThatItsStatesRead(t *testing.T) {
	a := newAccount(t)
	arn := a.machine(t, `{"StartAt":"A","States":{
		"A":{"Type":"Pass","Assign":{"x":1,"y":"{% ($z := 2; $x2) %}","x2":3},"Next":"B"},
		"B":{"Type":"Parallel","Arguments":"{% $x + $y /* $x2 */ %}","Branches":[{"StartAt":"C","States":{"C":{"Type":"Pass","Output":["{% '$y' & $string($x) %}","$x"],"End":true}}}],"Next":"D"},
		"D":{"Type":"Succeed","Output":"{% $states.input %}"}}}`)
	d, err := a.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: aws.String(arn)})
	require.NoError(t, err)
	assert.Equal(t, map[string][]string{"A": {"x2"}, "B": {"x", "y"}, "C": {"x"}}, d.VariableReferences)
}

func TestHistoryOfParallelAndMap(t *testing.T) {
	a := newAccount(t)
	execution := a.start(t, a.machine(t, `{"StartAt":"P","States":{
		"P":{"Type":"Parallel","Branches":[{"StartAt":"B","States":{"B":{"Type":"Pass","End":true}}}],"Next":"M"},
		"M":{"Type":"Map","MaxConcurrency":1,"Items":[1,0],"ItemProcessor":{"StartAt":"C","States":{"C":{"Type":"Choice","Choices":[{"Condition":"{% $states.input = 0 %}","Next":"F"}],"Default":"S"},
			"F":{"Type":"Fail","Error":"Zero"},"S":{"Type":"Succeed"}}},"Catch":[{"ErrorEquals":["Zero"],"Next":"E"}],"End":true},
		"E":{"Type":"Succeed"}}}`), `{}`)
	a.wait(t, execution)
	assert.Equal(t, []string{
		"ExecutionStarted",
		"ParallelStateEntered", "ParallelStateStarted", "PassStateEntered", "PassStateExited", "ParallelStateSucceeded", "ParallelStateExited",
		"MapStateEntered", "MapStateStarted",
		"MapIterationStarted", "ChoiceStateEntered", "ChoiceStateExited", "SucceedStateEntered", "SucceedStateExited", "MapIterationSucceeded",
		"MapIterationStarted", "ChoiceStateEntered", "ChoiceStateExited", "FailStateEntered", "MapIterationFailed", "MapStateFailed", "MapStateExited",
		"SucceedStateEntered", "SucceedStateExited", "ExecutionSucceeded",
	}, typesOf(a.history(t, execution)))
}

func TestHistoryEndsAt25000Events(t *testing.T) {
	a := newAccount(t)
	execution := a.start(t, a.machine(t, `{"StartAt":"A","States":{"A":{"Type":"Pass","Next":"B"},"B":{"Type":"Pass","Next":"A"}}}`), `{}`)
	out := a.wait(t, execution)
	assert.Equal(t, "States.Runtime", *out.Error)
	assert.Equal(t, "The execution reached the maximum number of history events (25000).", *out.Cause)
	tail, err := a.GetExecutionHistory(ctx, &sfn.GetExecutionHistoryInput{ExecutionArn: aws.String(execution), ReverseOrder: true, MaxResults: 1})
	require.NoError(t, err)
	assert.EqualValues(t, 25000, tail.Events[0].Id)
	assert.Equal(t, types.HistoryEventTypeExecutionFailed, tail.Events[0].Type)
}

func TestNamesOfExecutionsAreIdempotent(t *testing.T) {
	a := newAccount(t)
	machine := a.machine(t, waiting)
	run := func(input string) (*sfn.StartExecutionOutput, error) {
		return a.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: aws.String(machine), Name: aws.String("e"), Input: aws.String(input)})
	}
	var exists *types.ExecutionAlreadyExists

	first, err := run(`{"a":1}`)
	require.NoError(t, err)
	require.NoError(t, a.clk.Sleep(ctx, time.Minute))
	again, err := run(`{"a":1}`)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	_, err = run(`{"a":2}`)
	require.ErrorAs(t, err, &exists)

	a.wait(t, *first.ExecutionArn)
	_, err = run(`{"a":1}`)
	require.ErrorAs(t, err, &exists, "an execution that has ended keeps its name")
	require.NoError(t, a.clk.Sleep(ctx, 90*24*time.Hour))
	later, err := run(`{"a":2}`)
	require.NoError(t, err)
	assert.Equal(t, *first.ExecutionArn, *later.ExecutionArn)
	assert.NotEqual(t, first.StartDate, later.StartDate)
}

func TestStopExecution(t *testing.T) {
	a := newAccount(t)
	execution := a.start(t, a.machine(t, waiting), `{}`)
	require.NoError(t, a.clk.Sleep(ctx, time.Minute))
	out, err := a.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: aws.String(execution), Error: aws.String("Operator"), Cause: aws.String("enough")})
	require.NoError(t, err)
	assert.Equal(t, start.Add(time.Minute), *out.StopDate)

	d := a.wait(t, execution)
	assert.Equal(t, types.ExecutionStatusAborted, d.Status)
	assert.Equal(t, "Operator", *d.Error)
	require.NoError(t, a.clk.Sleep(ctx, 2*time.Hour))
	assert.Equal(t, []string{"ExecutionStarted", "WaitStateEntered", "ExecutionAborted"}, typesOf(a.history(t, execution)))

	again, err := a.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: aws.String(execution), Error: aws.String("Other")})
	require.NoError(t, err)
	assert.Equal(t, out.StopDate, again.StopDate)
	assert.Equal(t, "Operator", *a.wait(t, execution).Error)
}

func TestStopExecutionReachesARunningTask(t *testing.T) {
	a := newAccount(t)
	stopped := make(chan struct{})
	a.functions["f"] = func(ctx context.Context, _ map[string]any) (any, error) {
		err := a.clk.Sleep(ctx, time.Hour)
		close(stopped)
		return nil, err
	}
	execution := a.start(t, a.machine(t, `{"StartAt":"T","States":{"T":{"Type":"Task","Resource":`+lambdaF+`,"End":true}}}`), `{}`)
	require.NoError(t, a.clk.Sleep(ctx, time.Minute))
	_, err := a.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: aws.String(execution)})
	require.NoError(t, err)
	<-stopped
	assert.Equal(t, start.Add(time.Minute), a.clk.Now())
}

func TestTaskTokens(t *testing.T) {
	tests := map[string]struct {
		act  func(t *testing.T, a *account, token string)
		want string
		took time.Duration
	}{
		"success": {
			act: func(t *testing.T, a *account, token string) {
				_, err := a.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: aws.String(token), Output: aws.String(`{"ok":true}`)})
				require.NoError(t, err)
			},
			want: `{"ok":true}`, took: time.Second,
		},
		"failure": {
			act: func(t *testing.T, a *account, token string) {
				_, err := a.SendTaskFailure(ctx, &sfn.SendTaskFailureInput{TaskToken: aws.String(token), Error: aws.String("Rejected"), Cause: aws.String("by me")})
				require.NoError(t, err)
			},
			want: "Rejected: by me", took: time.Second,
		},
		"silence": {
			act:  func(*testing.T, *account, string) {},
			want: "States.Timeout: ", took: time.Minute,
		},
		"heartbeats, then silence": {
			act: func(t *testing.T, a *account, token string) {
				for range 3 {
					require.NoError(t, a.clk.Sleep(ctx, 50*time.Second))
					_, err := a.SendTaskHeartbeat(ctx, &sfn.SendTaskHeartbeatInput{TaskToken: aws.String(token)})
					require.NoError(t, err)
				}
			},
			want: "States.Timeout: ", took: 211 * time.Second,
		},
		"heartbeats for too long": {
			act: func(t *testing.T, a *account, token string) {
				for range 19 {
					require.NoError(t, a.clk.Sleep(ctx, 50*time.Second))
					_, err := a.SendTaskHeartbeat(ctx, &sfn.SendTaskHeartbeatInput{TaskToken: aws.String(token)})
					require.NoError(t, err)
				}
			},
			want: "States.Timeout: ", took: 1000 * time.Second,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			var token string
			a.functions["f"] = func(_ context.Context, event map[string]any) (any, error) {
				token = event["token"].(string)
				return "asked", nil
			}
			execution := a.start(t, a.machine(t, asking), `{}`)
			require.NoError(t, a.clk.Sleep(ctx, time.Second))
			tc.act(t, a, token)
			out := a.wait(t, execution)
			got := aws.ToString(out.Output)
			if out.Error != nil {
				got = *out.Error + ": " + aws.ToString(out.Cause)
			}
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.took, out.StopDate.Sub(*out.StartDate))
			assert.Contains(t, typesOf(a.history(t, execution)), "TaskSubmitted")

			_, err := a.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: aws.String(token), Output: aws.String(`{}`)})
			var late *types.TaskTimedOut
			require.ErrorAs(t, err, &late, "the token is spent")
			_, err = a.SendTaskHeartbeat(ctx, &sfn.SendTaskHeartbeatInput{TaskToken: aws.String("other")})
			var invalid *types.InvalidToken
			require.ErrorAs(t, err, &invalid)
			_, err = a.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: aws.String(token), Output: aws.String(`{`)})
			var output *types.InvalidOutput
			require.ErrorAs(t, err, &output)
		})
	}
}

// A function of a task with a token reports by the token alone: what it returns is kept as
// the answer to the request, and only its failure ends the task
// (https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-wait-token).
func TestWhatEndsATaskWithAToken(t *testing.T) {
	const machine = `{"StartAt":"N","States":{"N":{"Type":"Pass","Assign":{"net":20},"Next":"T"},
		"T":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke.waitForTaskToken",
		"Arguments":{"FunctionName":"f","Payload":{"token":"{% $states.context.Task.Token %}"}},"TIMES"
		"Catch":[{"ErrorEquals":["States.Timeout"],"Assign":{"net":"{% $min([600, $ceil($net * 1.5)]) %}"},"Output":"{% $states.errorOutput.Error & ' after ' & $net %}","Next":"S"},
			{"ErrorEquals":["States.ALL"],"Output":"{% $states.errorOutput.Error %}","Next":"S"}],"End":true},"S":{"Type":"Succeed","Output":"{% $states.input & ', then ' & $net %}"}}}`
	answers := func(token string, a *account) error {
		_, err := a.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: &token, Output: aws.String(`"woken"`)})
		return err
	}
	for sentence, tc := range map[string]struct {
		times    string // fields of the task
		function func(a *account, token string) (any, error)
		after    func(t *testing.T, a *account, token string)
		want     string
		took     time.Duration
	}{
		"the failure of its function, at once": {`"TimeoutSeconds":60,`, func(*account, string) (any, error) { return nil, &functionError{Type: "NotAllowed"} }, nil, `"NotAllowed, then 20"`, 0},
		"not the success of its function":      {`"TimeoutSeconds":60,`, func(*account, string) (any, error) { return map[string]bool{"ok": true}, nil }, nil, `"States.Timeout after 20, then 30"`, time.Minute},
		"its token": {`"TimeoutSeconds":60,`, func(*account, string) (any, error) { return nil, nil }, func(t *testing.T, a *account, token string) {
			require.NoError(t, answers(token, a))
		}, `"woken"`, 7 * time.Second},
		"its token, given back by the function itself": {`"TimeoutSeconds":60,`, func(a *account, token string) (any, error) { return nil, answers(token, a) }, nil, `"woken"`, 0},
		"a time-out that is an expression":             {`"TimeoutSeconds":"{% $net + 5 %}",`, func(*account, string) (any, error) { return nil, nil }, nil, `"States.Timeout after 20, then 30"`, 25 * time.Second},
		"a heartbeat that is an expression":            {`"TimeoutSeconds":600,"HeartbeatSeconds":"{% $ceil($net / 3) %}",`, func(*account, string) (any, error) { return nil, nil }, nil, `"States.Timeout after 20, then 30"`, 7 * time.Second},
		"a time-out that is no whole number":           {`"TimeoutSeconds":"{% $net / 3 %}",`, func(*account, string) (any, error) { return nil, nil }, nil, `"States.QueryEvaluationError, then 20"`, 0},
		"a time-out that is not positive":              {`"TimeoutSeconds":"{% $net - 20 %}",`, func(*account, string) (any, error) { return nil, nil }, nil, `"States.QueryEvaluationError, then 20"`, 0},
		"a heartbeat that is a text":                   {`"HeartbeatSeconds":"{% 'soon' %}",`, func(*account, string) (any, error) { return nil, nil }, nil, `"States.QueryEvaluationError, then 20"`, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			a := newAccount(t)
			var token string
			a.functions["f"] = func(_ context.Context, event map[string]any) (any, error) {
				token = event["token"].(string)
				return tc.function(a, token)
			}
			execution := a.start(t, a.machine(t, strings.Replace(machine, `"TIMES"`, tc.times, 1)), `{}`)
			if tc.after != nil {
				require.NoError(t, a.clk.Sleep(ctx, 7*time.Second))
				tc.after(t, a, token)
			}
			out := a.wait(t, execution)
			require.Equal(t, types.ExecutionStatusSucceeded, out.Status, aws.ToString(out.Cause))
			assert.Equal(t, tc.want, aws.ToString(out.Output))
			assert.Equal(t, tc.took, out.StopDate.Sub(*out.StartDate))
		})
	}
}

func TestTheTokenOfATaskThatARestartEndedHasTimedOut(t *testing.T) {
	a := newAccount(t)
	var token string
	a.functions["f"] = func(_ context.Context, event map[string]any) (any, error) {
		token = event["token"].(string)
		return nil, nil
	}
	execution := a.start(t, a.machine(t, asking), `{}`)
	require.NoError(t, a.clk.Sleep(ctx, time.Second))
	raw, err := a.Snapshot()
	require.NoError(t, err)
	again := newAccount(t)
	require.NoError(t, again.Restore(raw))
	out := again.wait(t, execution)
	assert.Equal(t, types.ExecutionStatusAborted, out.Status)
	_, err = again.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: &token, Output: aws.String(`{}`)})
	var late *types.TaskTimedOut
	require.ErrorAs(t, err, &late, "not InvalidToken: there was such a task")
}

func TestWatchDeliversEverythingAsItComes(t *testing.T) {
	a := newAccount(t)
	execution := a.start(t, a.machine(t, waiting), `{}`)
	events, err := a.Watch(ctx, execution)
	require.NoError(t, err)
	assert.Equal(t, types.HistoryEventTypeExecutionStarted, (<-events).Type)
	assert.Equal(t, types.HistoryEventTypeWaitStateEntered, (<-events).Type)
	a.wait(t, execution)
	var rest []types.HistoryEvent
	for e := range events {
		rest = append(rest, e)
	}
	assert.Equal(t, []string{"WaitStateExited", "ExecutionSucceeded"}, typesOf(rest))

	left, cancel := context.WithCancel(ctx)
	unread, err := a.Watch(left, execution)
	require.NoError(t, err)
	cancel()
	for range unread { // ends, whether or not an event was under way
	}
	_, err = a.Watch(ctx, "arn:aws:states:eu-west-1:111122223333:execution:m:none")
	var missing *types.ExecutionDoesNotExist
	require.ErrorAs(t, err, &missing)
	_, err = a.Wait(ctx, "arn:aws:states:eu-west-1:111122223333:execution:m:none")
	require.ErrorAs(t, err, &missing)
}

func TestStateMachines(t *testing.T) {
	a := newAccount(t)
	arn := a.machine(t, passing)
	assert.Equal(t, "arn:aws:states:eu-west-1:111122223333:stateMachine:m", arn)
	assert.Equal(t, arn, a.machine(t, passing), "creating the same again is no error")

	create := func(name, role, definition string) error {
		_, err := a.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{Name: aws.String(name), RoleArn: aws.String(role), Definition: aws.String(definition)})
		return err
	}
	var (
		exists   *types.StateMachineAlreadyExists
		name     *types.InvalidName
		badARN   *types.InvalidArn
		invalid  *types.InvalidDefinition
		missing  *types.StateMachineDoesNotExist
		required *types.MissingRequiredParameter
		express  *types.StateMachineTypeNotSupported
		deleting *types.StateMachineDeleting
	)
	require.ErrorAs(t, create("m", role+"2", passing), &exists)
	require.ErrorAs(t, create("a b", role, passing), &name)
	require.ErrorAs(t, create("", role, passing), &name)
	require.ErrorAs(t, create(strings.Repeat("x", 81), role, passing), &name)
	require.ErrorAs(t, create("n", "factory", passing), &badARN)
	require.ErrorAs(t, create("n", role, `{}`), &invalid)
	assert.Contains(t, *invalid.Message, "Invalid State Machine Definition: 'NOT_SUPPORTED")
	_, err := a.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{Name: aws.String("x"), RoleArn: aws.String(role), Definition: aws.String(passing), Type: types.StateMachineTypeExpress})
	require.ErrorAs(t, err, &express)

	d, err := a.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: aws.String(arn)})
	require.NoError(t, err)
	assert.Equal(t, passing, *d.Definition)
	assert.Nil(t, d.Description, "that is a version's")
	assert.Equal(t, types.EncryptionTypeAwsOwnedKey, d.EncryptionConfiguration.Type)
	assert.Equal(t, types.LogLevelOff, d.LoggingConfiguration.Level)
	assert.Empty(t, d.VariableReferences)
	assert.Equal(t, types.StateMachineStatusActive, d.Status)
	assert.Nil(t, d.RevisionId)

	execution := a.start(t, arn, `{}`)
	_, err = a.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{StateMachineArn: aws.String(arn)})
	require.ErrorAs(t, err, &required)
	_, err = a.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{StateMachineArn: aws.String(arn), Definition: aws.String(`{}`)})
	require.ErrorAs(t, err, &invalid)
	changed := strings.Replace(passing, "passes", "changed", 1)
	_, err = a.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{StateMachineArn: aws.String(arn), Definition: aws.String(changed)})
	require.NoError(t, err)
	d, err = a.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: aws.String(arn)})
	require.NoError(t, err)
	assert.Equal(t, changed, *d.Definition)
	assert.NotNil(t, d.RevisionId)
	of, err := a.DescribeStateMachineForExecution(ctx, &sfn.DescribeStateMachineForExecutionInput{ExecutionArn: aws.String(execution)})
	require.NoError(t, err)
	assert.Equal(t, passing, *of.Definition)

	_, err = a.TagResource(ctx, &sfn.TagResourceInput{ResourceArn: aws.String(arn), Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}, {Key: aws.String("a"), Value: aws.String("1")}}})
	require.NoError(t, err)
	_, err = a.UntagResource(ctx, &sfn.UntagResourceInput{ResourceArn: aws.String(arn), TagKeys: []string{"b"}})
	require.NoError(t, err)
	tags, err := a.ListTagsForResource(ctx, &sfn.ListTagsForResourceInput{ResourceArn: aws.String(arn)})
	require.NoError(t, err)
	assert.Equal(t, []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}, tags.Tags)

	for _, region := range []string{"eu-west-1", "us-east-1"} {
		list, err := a.ListStateMachines(ctx, &sfn.ListStateMachinesInput{}, func(o *sfn.Options) { o.Region = region })
		require.NoError(t, err)
		assert.Len(t, list.StateMachines, map[string]int{"eu-west-1": 1, "us-east-1": 0}[region])
	}
	_, err = a.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: aws.String(arn)}, func(o *sfn.Options) { o.Region = "us-east-1" })
	require.ErrorAs(t, err, &missing)

	// A machine that is being deleted goes with its last execution.
	_, err = a.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{StateMachineArn: aws.String(arn), Definition: aws.String(`{"QueryLanguage":"JSONata",` + waiting[1:])})
	require.NoError(t, err)
	running, err := a.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: aws.String(arn)})
	require.NoError(t, err)
	_, err = a.DeleteStateMachine(ctx, &sfn.DeleteStateMachineInput{StateMachineArn: aws.String(arn)})
	require.NoError(t, err)
	_, err = a.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: aws.String(arn)})
	require.ErrorAs(t, err, &deleting)
	a.wait(t, *running.ExecutionArn)
	require.NoError(t, a.clk.Sleep(ctx, time.Second))
	_, err = a.DescribeStateMachine(ctx, &sfn.DescribeStateMachineInput{StateMachineArn: aws.String(arn)})
	require.ErrorAs(t, err, &missing)
	_, err = a.DeleteStateMachine(ctx, &sfn.DeleteStateMachineInput{StateMachineArn: aws.String(arn)})
	require.NoError(t, err)
}

func TestBadExecutionInput(t *testing.T) {
	a := newAccount(t)
	machine := a.machine(t, passing)
	var (
		input   *types.InvalidExecutionInput
		name    *types.InvalidName
		arn     *types.InvalidArn
		missing *types.StateMachineDoesNotExist
		none    *types.ExecutionDoesNotExist
	)
	tests := map[string]struct {
		in   sfn.StartExecutionInput
		want any
	}{
		"an input that is not JSON": {sfn.StartExecutionInput{StateMachineArn: &machine, Input: aws.String(`{`)}, &input},
		"an input that is too long": {sfn.StartExecutionInput{StateMachineArn: &machine, Input: aws.String(`"` + strings.Repeat("x", 256*1024) + `"`)}, &input},
		"a name with a colon":       {sfn.StartExecutionInput{StateMachineArn: &machine, Name: aws.String("a:b")}, &name},
		"an ARN of something else":  {sfn.StartExecutionInput{StateMachineArn: aws.String("arn:aws:sns:r:1:x")}, &arn},
		"no such state machine":     {sfn.StartExecutionInput{StateMachineArn: aws.String(machine + "x")}, &missing},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := a.StartExecution(ctx, &tc.in)
			require.ErrorAs(t, err, tc.want)
		})
	}
	_, err := a.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: aws.String("arn:aws:states:eu-west-1:111122223333:execution:m:x")})
	require.ErrorAs(t, err, &none)
}

func TestListExecutions(t *testing.T) {
	a := newAccount(t)
	machine := a.machine(t, waiting)
	for _, name := range []string{"one", "two", "three"} {
		_, err := a.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: aws.String(machine), Name: aws.String(name)})
		require.NoError(t, err)
	}
	_, err := a.StopExecution(ctx, &sfn.StopExecutionInput{ExecutionArn: aws.String("arn:aws:states:eu-west-1:111122223333:execution:m:two")})
	require.NoError(t, err)
	list := func(filter types.ExecutionStatus) (names []string) {
		pages := sfn.NewListExecutionsPaginator(a.Service, &sfn.ListExecutionsInput{StateMachineArn: aws.String(machine), StatusFilter: filter, MaxResults: 2})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			require.NoError(t, err)
			for _, e := range page.Executions {
				names = append(names, *e.Name)
			}
		}
		return names
	}
	assert.Equal(t, []string{"three", "two", "one"}, list(""))
	assert.Equal(t, []string{"three", "one"}, list(types.ExecutionStatusRunning))
	assert.Equal(t, []string{"two"}, list(types.ExecutionStatusAborted))
	assert.Empty(t, list(types.ExecutionStatusFailed))
}

func TestStatusChangesAreAnnounced(t *testing.T) {
	a := newAccount(t)
	execution := a.start(t, a.machine(t, waiting), `{"a":1}`)
	a.wait(t, execution)
	require.NoError(t, a.clk.Sleep(ctx, time.Second))
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Len(t, a.events, 2)
	var statuses []string
	for _, e := range a.events {
		assert.Equal(t, "aws.states", e.Source)
		assert.Equal(t, "Step Functions Execution Status Change", e.DetailType)
		assert.Equal(t, []string{execution}, e.Resources)
		var detail map[string]any
		require.NoError(t, json.Unmarshal(e.Detail, &detail))
		assert.Equal(t, `{"a":1}`, detail["input"])
		statuses = append(statuses, detail["status"].(string))
	}
	assert.Equal(t, []string{"RUNNING", "SUCCEEDED"}, statuses)
}

func TestSnapshotAndRestore(t *testing.T) {
	a := newAccount(t)
	machine := a.machine(t, waiting)
	ended := a.start(t, machine, `{"first":true}`)
	a.wait(t, ended)
	lost, err := a.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: aws.String(machine), Name: aws.String("lost")})
	require.NoError(t, err)
	require.NoError(t, a.clk.Sleep(ctx, time.Minute))
	kept, err := a.Snapshot()
	require.NoError(t, err)

	b := newAccount(t)
	require.NoError(t, b.Restore(kept))
	assert.Equal(t, a.history(t, ended), b.history(t, ended))
	out := b.wait(t, *lost.ExecutionArn)
	assert.Equal(t, types.ExecutionStatusAborted, out.Status)
	assert.Equal(t, "States.Runtime", *out.Error)
	assert.Equal(t, "the local AWS stopped while it ran", *out.Cause)
	assert.Equal(t, []string{"ExecutionStarted", "WaitStateEntered", "ExecutionAborted"}, typesOf(b.history(t, *lost.ExecutionArn)))

	again, err := b.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: aws.String(machine), Name: aws.String("after")})
	require.NoError(t, err)
	assert.Equal(t, types.ExecutionStatusSucceeded, b.wait(t, *again.ExecutionArn).Status)
	require.Error(t, b.Restore(json.RawMessage(`{"Machines":[{"ARN":"x","Definition":"{"}]}`)))
}

func TestCloseEndsTheWorkOfExecutions(t *testing.T) {
	a := newAccount(t)
	execution := a.start(t, a.machine(t, waiting), `{}`)
	require.NoError(t, a.clk.Sleep(ctx, time.Minute))
	a.Close()
	out, err := a.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: aws.String(execution)})
	require.NoError(t, err)
	assert.Equal(t, types.ExecutionStatusRunning, out.Status, "only a later Restore calls it aborted")
}

func TestTheSDKsClientOverHTTP(t *testing.T) {
	a := newAccount(t)
	var stateful wire.Stateful = a.Service
	assert.NotNil(t, stateful)
	server := httptest.NewServer(wire.Handler(wiretest.Options(), a.Wire()))
	defer server.Close()
	client := sfn.New(sfn.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL),
		Credentials: wiretest.Credentials("444455556666"),
	})
	made, err := client.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{Name: aws.String("m"), RoleArn: aws.String(role), Definition: aws.String(passing)})
	require.NoError(t, err)
	assert.Equal(t, "arn:aws:states:eu-central-1:444455556666:stateMachine:m", *made.StateMachineArn)
	started, err := client.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: made.StateMachineArn, Name: aws.String("e"), Input: aws.String(`{"a":1}`)})
	require.NoError(t, err)
	a.wait(t, *started.ExecutionArn)
	d, err := client.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
	require.NoError(t, err)
	assert.Equal(t, `{"a":1}`, *d.Output)
	assert.True(t, start.Equal(*d.StartDate))
	h, err := client.GetExecutionHistory(ctx, &sfn.GetExecutionHistoryInput{ExecutionArn: started.ExecutionArn})
	require.NoError(t, err)
	assert.Equal(t, []string{"ExecutionStarted", "PassStateEntered", "PassStateExited", "ExecutionSucceeded"}, typesOf(h.Events))
	assert.Equal(t, "A", *h.Events[1].StateEnteredEventDetails.Name)
	_, err = client.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: aws.String(*started.ExecutionArn + "x")})
	var missing *types.ExecutionDoesNotExist
	require.ErrorAs(t, err, &missing)
	v, err := client.ValidateStateMachineDefinition(ctx, &sfn.ValidateStateMachineDefinitionInput{Definition: aws.String(`{"QueryLanguage":"JSONata","StartAt":"A","States":{"A":{"Type":"Pass"}}}`)})
	require.NoError(t, err)
	assert.Equal(t, types.ValidateStateMachineDefinitionResultCodeFail, v.Result)
	assert.Equal(t, "/States/A", *v.Diagnostics[0].Location)
}

var _ states.Invoker = (*account)(nil)
