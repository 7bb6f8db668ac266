package scheduler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	sdk "github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/scheduler"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	account  = "111122223333"
	region   = "eu-west-1"
	function = "arn:aws:lambda:eu-west-1:111122223333:function:start-builds"
	role     = "arn:aws:iam::111122223333:role/schedules"
	dead     = "arn:aws:sqs:eu-west-1:111122223333:dead"
)

// world is all that a schedule can call. It notes each call with its time.
type world struct {
	t     *testing.T
	clock *clock.Virtual
	fail  func(n int) error // of the nth call of a target, from 1 on

	mu    sync.Mutex
	calls []string
	tried int
	dead  []*sqs.SendMessageInput
}

func (w *world) note(ctx context.Context, format string, args ...any) error {
	who, _ := wire.CallerFrom(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tried++
	if w.fail != nil {
		if err := w.fail(w.tried); err != nil {
			return err
		}
	}
	w.calls = append(w.calls, w.clock.Now().Format("2006-01-02 15:04:05 ")+who.ARN+" "+who.Region+" "+fmt.Sprintf(format, args...))
	return nil
}

func (w *world) Invoke(ctx context.Context, in *lambda.InvokeInput, _ ...func(*lambda.Options)) (*lambda.InvokeOutput, error) {
	return &lambda.InvokeOutput{}, w.note(ctx, "%s %s %s", in.InvocationType, *in.FunctionName, in.Payload)
}

func (w *world) StartExecution(ctx context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	return &sfn.StartExecutionOutput{}, w.note(ctx, "execution of %s %s", *in.StateMachineArn, *in.Input)
}

func (w *world) Publish(ctx context.Context, in *sns.PublishInput, _ ...func(*sns.Options)) (*sns.PublishOutput, error) {
	return &sns.PublishOutput{}, w.note(ctx, "message to %s %s", *in.TopicArn, *in.Message)
}

func (w *world) SendMessage(ctx context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	if strings.HasSuffix(*in.QueueUrl, "/dead") {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dead = append(w.dead, in)
		return &sqs.SendMessageOutput{}, nil
	}
	return &sqs.SendMessageOutput{}, w.note(ctx, "message in %s %s", *in.QueueUrl, *in.MessageBody)
}

func (w *world) PutEvents(ctx context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	e := in.Entries[0]
	return &eventbridge.PutEventsOutput{}, w.note(ctx, "event %s %s %s on %s", *e.Source, *e.DetailType, *e.Detail, *e.EventBusName)
}

// newWorld makes a service that rings, on a virtual clock that the test holds.
func newWorld(t *testing.T, start string) (*scheduler.Service, *world) {
	t.Helper()
	at, err := time.Parse(time.RFC3339, start)
	require.NoError(t, err)
	w := &world{t: t, clock: clock.NewVirtual(at)}
	release := w.clock.Hold()
	s := scheduler.New(scheduler.Config{
		Clock: w.clock, Default: wire.Caller{Account: account, Region: region}, Functions: w, StateMachines: w, Topics: w, Queues: w, Buses: w,
		Assume: func(ctx context.Context, at wire.Caller, roleARN, _ string) (context.Context, error) {
			if roleARN != role {
				return nil, wire.Errorf("AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", scheduler.Principal, roleARN)
			}
			return wire.WithCaller(ctx, wire.Caller{Account: at.Account, Region: at.Region, ARN: "as " + roleARN[strings.LastIndex(roleARN, "/")+1:]}), nil
		},
	})
	s.Start()
	t.Cleanup(func() {
		require.NoError(t, s.Close(context.Background()))
		release()
	})
	return s, w
}

// until lets time pass.
func (w *world) until(at string) {
	w.t.Helper()
	end, err := time.Parse(time.RFC3339, at)
	require.NoError(w.t, err)
	require.NoError(w.t, w.clock.Sleep(w.t.Context(), end.Sub(w.clock.Now())))
}

// take returns the calls since the last time.
func (w *world) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.calls
	w.calls = nil
	return out
}

// nightly is a schedule of three o'clock.
func nightly() *sdk.CreateScheduleInput {
	return &sdk.CreateScheduleInput{
		Name: aws.String("nightly"), ScheduleExpression: aws.String("cron(0 3 * * ? *)"), FlexibleTimeWindow: &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeOff},
		Target: &types.Target{Arn: aws.String(function), RoleArn: aws.String(role), Input: aws.String(`{"time":"<aws.scheduler.scheduled-time>"}`)},
	}
}

func create(t *testing.T, s *scheduler.Service, in *sdk.CreateScheduleInput) string {
	t.Helper()
	out, err := s.CreateSchedule(t.Context(), in)
	require.NoError(t, err)
	return *out.ScheduleArn
}

func TestAScheduleCallsItsTargetAtItsTimeWithItsRole(t *testing.T) {
	s, w := newWorld(t, "2026-11-01T12:00:00Z")
	assert.Equal(t, "arn:aws:scheduler:eu-west-1:111122223333:schedule/default/nightly", create(t, s, nightly()))
	w.until("2026-11-02T02:59:59Z")
	assert.Empty(t, w.take())
	w.until("2026-11-03T12:00:00Z")
	assert.Equal(t, []string{
		`2026-11-02 03:00:00 as schedules eu-west-1 Event ` + function + ` {"time":"2026-11-02T03:00:00Z"}`,
		`2026-11-03 03:00:00 as schedules eu-west-1 Event ` + function + ` {"time":"2026-11-03T03:00:00Z"}`,
	}, w.take())
}

func TestEveryKindOfTargetIsCalled(t *testing.T) {
	s, w := newWorld(t, "2026-11-01T12:00:00Z")
	for name, target := range map[string]*types.Target{
		"machine": {Arn: aws.String("arn:aws:states:eu-west-1:111122223333:stateMachine:m"), Input: aws.String(`{"a":1}`)},
		"topic":   {Arn: aws.String("arn:aws:sns:us-east-1:111122223333:news"), Input: aws.String("attempt <aws.scheduler.attempt-number> of <aws.scheduler.schedule-arn>")},
		"queue":   {Arn: aws.String("arn:aws:sqs:eu-west-1:111122223333:jobs"), Input: aws.String("x")},
		"bus": {Arn: aws.String("arn:aws:events:eu-west-1:111122223333:event-bus/factory"), Input: aws.String(`{"n":1}`),
			EventBridgeParameters: &types.EventBridgeParameters{Source: aws.String("me"), DetailType: aws.String("Night")}},
	} {
		in := nightly()
		in.Name, in.Target = aws.String(name), target
		target.RoleArn = aws.String(role)
		create(t, s, in)
	}
	w.until("2026-11-02T03:00:01Z")
	assert.ElementsMatch(t, []string{
		`2026-11-02 03:00:00 as schedules eu-west-1 execution of arn:aws:states:eu-west-1:111122223333:stateMachine:m {"a":1}`,
		`2026-11-02 03:00:00 as schedules us-east-1 message to arn:aws:sns:us-east-1:111122223333:news attempt 1 of arn:aws:scheduler:eu-west-1:111122223333:schedule/default/topic`,
		`2026-11-02 03:00:00 as schedules eu-west-1 message in https://sqs.eu-west-1.amazonaws.com/111122223333/jobs x`,
		`2026-11-02 03:00:00 as schedules eu-west-1 event me Night {"n":1} on arn:aws:events:eu-west-1:111122223333:event-bus/factory`,
	}, w.take())
}

func TestWithoutAnInputTheTargetGetsAnEvent(t *testing.T) {
	s, w := newWorld(t, "2026-11-01T12:00:00Z")
	in := nightly()
	in.Target.Input = nil
	create(t, s, in)
	w.until("2026-11-02T04:00:00Z")
	calls := w.take()
	require.Len(t, calls, 1)
	var event map[string]any
	require.NoError(t, json.Unmarshal([]byte(calls[0][strings.Index(calls[0], "{"):]), &event))
	assert.Equal(t, "Scheduled Event", event["detail-type"])
	assert.Equal(t, "aws.scheduler", event["source"])
	assert.Equal(t, "2026-11-02T03:00:00Z", event["time"])
}

func TestWhenAScheduleRings(t *testing.T) {
	at := func(text string) *time.Time {
		v, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return &v
	}
	for sentence, tc := range map[string]struct {
		change func(*sdk.CreateScheduleInput)
		want   []string // hours and minutes, until midnight of the second day
	}{
		"a rate begins at once": {func(in *sdk.CreateScheduleInput) { in.ScheduleExpression = aws.String("rate(9 hours)") }, []string{"01 12:00", "01 21:00", "02 06:00", "02 15:00"}},
		"a rate begins at its start": {func(in *sdk.CreateScheduleInput) {
			in.ScheduleExpression = aws.String("rate(9 hours)")
			in.StartDate = at("2026-11-01T20:00:00Z")
		}, []string{"01 20:00", "02 05:00", "02 14:00", "02 23:00"}},
		"nothing rings before its start":   {func(in *sdk.CreateScheduleInput) { in.StartDate = at("2026-11-02T03:01:00Z") }, nil},
		"nothing rings after its end":      {func(in *sdk.CreateScheduleInput) { in.EndDate = at("2026-11-02T02:59:00Z") }, nil},
		"its end is part of it":            {func(in *sdk.CreateScheduleInput) { in.EndDate = at("2026-11-02T03:00:00Z") }, []string{"02 03:00"}},
		"what is disabled does not ring":   {func(in *sdk.CreateScheduleInput) { in.State = types.ScheduleStateDisabled }, nil},
		"its time is that of its zone":     {func(in *sdk.CreateScheduleInput) { in.ScheduleExpressionTimezone = aws.String("Asia/Tokyo") }, []string{"01 18:00", "02 18:00"}},
		"once is once":                     {func(in *sdk.CreateScheduleInput) { in.ScheduleExpression = aws.String("at(2026-11-02T07:30:00)") }, []string{"02 07:30"}},
		"what is past does not come again": {func(in *sdk.CreateScheduleInput) { in.ScheduleExpression = aws.String("at(2026-10-31T07:30:00)") }, nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, w := newWorld(t, "2026-11-01T12:00:00Z")
			in := nightly()
			tc.change(in)
			create(t, s, in)
			w.until("2026-11-03T00:00:00Z")
			var got []string
			for _, call := range w.take() {
				got = append(got, call[8:16])
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestAFlexibleScheduleRingsOnceAndAlwaysAtTheSamePlaceInItsWindow(t *testing.T) {
	var got []string
	for range 2 {
		s, w := newWorld(t, "2026-11-01T12:00:00Z")
		in := nightly()
		in.FlexibleTimeWindow = &types.FlexibleTimeWindow{Mode: types.FlexibleTimeWindowModeFlexible, MaximumWindowInMinutes: aws.Int32(60)}
		create(t, s, in)
		w.until("2026-11-02T03:00:00Z")
		require.Empty(t, w.take(), "this name's place is not the beginning")
		w.until("2026-11-02T04:00:00Z")
		calls := w.take()
		require.Len(t, calls, 1)
		assert.Contains(t, calls[0], `{"time":"2026-11-02T03:00:00Z"}`, "the time that it was scheduled for")
		got = append(got, calls[0])
	}
	assert.Equal(t, got[0], got[1])
}

func TestWhatFailsIsTriedAgainAndThenIsADeadLetter(t *testing.T) {
	throttled := wire.Errorf("TooManyRequestsException", "Rate Exceeded.")
	gone := wire.Errorf("ResourceNotFoundException", "Function not found")
	for sentence, tc := range map[string]struct {
		policy *types.RetryPolicy
		fail   func(n int) error
		calls  int
		want   map[string]string // of the dead letter; nil: there is none
	}{
		"a moment's failure is made good": {nil, func(n int) error {
			if n < 4 {
				return throttled
			}
			return nil
		}, 4, nil},
		"its retries are counted": {&types.RetryPolicy{MaximumRetryAttempts: aws.Int32(5)}, func(int) error { return throttled }, 6,
			map[string]string{"ERROR_CODE": "TooManyRequestsException", "ERROR_MESSAGE": "Rate Exceeded.", "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts", "RETRY_ATTEMPTS": "5"}},
		"its age is counted": {&types.RetryPolicy{MaximumEventAgeInSeconds: aws.Int32(60)}, func(int) error { return throttled }, 6, // after 0, 1, 3, 7, 15 and 31 seconds
			map[string]string{"ERROR_CODE": "TooManyRequestsException", "EXHAUSTED_RETRY_CONDITION": "MaximumEventAgeInSeconds", "RETRY_ATTEMPTS": "5"}},
		"what is not there is not tried again": {nil, func(int) error { return gone }, 1,
			map[string]string{"ERROR_CODE": "ResourceNotFoundException", "EXHAUSTED_RETRY_CONDITION": "", "RETRY_ATTEMPTS": "0"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, w := newWorld(t, "2026-11-01T12:00:00Z")
			w.fail = tc.fail
			in := nightly()
			in.Target.RetryPolicy, in.Target.DeadLetterConfig = tc.policy, &types.DeadLetterConfig{Arn: aws.String(dead)}
			arn := create(t, s, in)
			w.until("2026-11-02T10:00:00Z")
			assert.Equal(t, tc.calls, w.tried)
			if tc.want == nil {
				assert.Empty(t, w.dead)
				return
			}
			require.Len(t, w.dead, 1)
			attributes := map[string]string{}
			for name, a := range w.dead[0].MessageAttributes {
				attributes[name] = *a.StringValue
			}
			for name, value := range tc.want {
				assert.Equal(t, value, attributes[name], name)
			}
			assert.Equal(t, "2026-11-02T03:00:00Z", attributes["SCHEDULED_TIME"])
			assert.Equal(t, arn, attributes["SCHEDULE_ARN"])
			assert.Equal(t, function, attributes["TARGET_ARN"])
			assert.JSONEq(t, `{"FunctionName":"`+function+`","InvocationType":"Event","Payload":"{\"time\":\"2026-11-02T03:00:00Z\"}"}`, *w.dead[0].MessageBody)
		})
	}
}

func TestAScheduleIsUpdatedDisabledAndDeleted(t *testing.T) {
	s, w := newWorld(t, "2026-11-01T12:00:00Z")
	create(t, s, nightly())
	in := nightly()
	_, err := s.UpdateSchedule(t.Context(), &sdk.UpdateScheduleInput{
		Name: in.Name, ScheduleExpression: aws.String("cron(0 5 * * ? *)"), FlexibleTimeWindow: in.FlexibleTimeWindow, Target: in.Target,
	})
	require.NoError(t, err)
	w.until("2026-11-02T12:00:00Z")
	calls := w.take()
	require.Len(t, calls, 1)
	assert.Contains(t, calls[0], "2026-11-02 05:00:00")
	_, err = s.DeleteSchedule(t.Context(), &sdk.DeleteScheduleInput{Name: in.Name})
	require.NoError(t, err)
	w.until("2026-11-04T12:00:00Z")
	assert.Empty(t, w.take())
	_, err = s.DeleteSchedule(t.Context(), &sdk.DeleteScheduleInput{Name: in.Name})
	var missing *types.ResourceNotFoundException
	assert.ErrorAs(t, err, &missing)
}

func TestAScheduleThatIsCompleteGoesIfItSaysSo(t *testing.T) {
	s, w := newWorld(t, "2026-11-01T12:00:00Z")
	for name, after := range map[string]types.ActionAfterCompletion{"goes": types.ActionAfterCompletionDelete, "stays": types.ActionAfterCompletionNone} {
		in := nightly()
		in.Name, in.ScheduleExpression, in.ActionAfterCompletion = aws.String(name), aws.String("at(2026-11-02T07:30:00)"), after
		create(t, s, in)
	}
	w.until("2026-11-02T12:00:00Z")
	assert.Len(t, w.take(), 2)
	list, err := s.ListSchedules(t.Context(), &sdk.ListSchedulesInput{})
	require.NoError(t, err)
	require.Len(t, list.Schedules, 1)
	assert.Equal(t, "stays", *list.Schedules[0].Name)
}

func TestWhatPassedWhileNothingRanIsNotReplayed(t *testing.T) {
	s, _ := newWorld(t, "2026-11-01T12:00:00Z")
	create(t, s, nightly())
	raw, err := s.Snapshot()
	require.NoError(t, err)

	again, w := newWorld(t, "2026-11-04T12:00:00Z")
	require.NoError(t, again.Restore(raw))
	w.until("2026-11-05T12:00:00Z")
	calls := w.take()
	require.Len(t, calls, 1)
	assert.Contains(t, calls[0], "2026-11-05 03:00:00")
}

// suspended is the clock of a machine that sleeps: its timers stand still then.
type suspended struct {
	*clock.Virtual
	slept atomic.Int64
}

func (s *suspended) Now() time.Time { return s.Virtual.Now().Add(time.Duration(s.slept.Load())) }

func TestWhatPassedWhileTheMachineSleptIsNotReplayed(t *testing.T) {
	w := &world{t: t, clock: clock.NewVirtual(time.Date(2026, 11, 1, 22, 0, 0, 0, time.UTC))}
	defer w.clock.Hold()()
	machine := &suspended{Virtual: w.clock}
	s := scheduler.New(scheduler.Config{Clock: machine, Default: wire.Caller{Account: account, Region: region}, Functions: w})
	s.Start()
	create(t, s, nightly())
	machine.slept.Store(int64(10 * time.Hour))
	w.until("2026-11-01T23:00:00Z") // the machine's clock shows nine in the morning
	assert.Empty(t, w.take())
	w.until("2026-11-02T18:00:00Z") // and now four in the morning
	assert.Len(t, w.take(), 1, "the next night rings")
	require.NoError(t, s.Close(t.Context()))
}

func TestSchedulesAreQuietUntilTheServiceStarts(t *testing.T) {
	w := &world{t: t, clock: clock.NewVirtual(time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC))}
	defer w.clock.Hold()()
	s := scheduler.New(scheduler.Config{Clock: w.clock, Default: wire.Caller{Account: account, Region: region}, Functions: w})
	create(t, s, nightly())
	w.until("2026-11-02T12:00:00Z")
	assert.Empty(t, w.take())
	s.Start()
	w.until("2026-11-03T12:00:00Z")
	assert.Len(t, w.take(), 1)
	require.NoError(t, s.Close(t.Context()))
	w.until("2026-11-05T12:00:00Z")
	assert.Empty(t, w.take())
}

func TestSchedulesThatAreRefused(t *testing.T) {
	s, _ := newWorld(t, "2026-11-01T12:00:00Z")
	for sentence, tc := range map[string]struct {
		change func(*sdk.CreateScheduleInput)
		says   string
	}{
		"a name with a slash":      {func(in *sdk.CreateScheduleInput) { in.Name = aws.String("a/b") }, "not a name for a schedule"},
		"no expression":            {func(in *sdk.CreateScheduleInput) { in.ScheduleExpression = aws.String("at 3") }, "invalid Schedule Expression"},
		"a zone that nobody knows": {func(in *sdk.CreateScheduleInput) { in.ScheduleExpressionTimezone = aws.String("Europe/Atlantis") }, "Europe/Atlantis"},
		"a window without minutes": {func(in *sdk.CreateScheduleInput) { in.FlexibleTimeWindow.Mode = types.FlexibleTimeWindowModeFlexible }, "1 to 1440"},
		"minutes without a window": {func(in *sdk.CreateScheduleInput) { in.FlexibleTimeWindow.MaximumWindowInMinutes = aws.Int32(5) }, "FLEXIBLE only"},
		"a target that is not served": {func(in *sdk.CreateScheduleInput) {
			in.Target.Arn = aws.String("arn:aws:ecs:eu-west-1:111122223333:cluster/c")
		}, "the embedded Scheduler calls"},
		"a universal target": {func(in *sdk.CreateScheduleInput) {
			in.Target.Arn = aws.String("arn:aws:scheduler:::aws-sdk:sqs:sendMessage")
		}, "the embedded Scheduler calls"},
		"a bus without a source": {func(in *sdk.CreateScheduleInput) {
			in.Target.Arn = aws.String("arn:aws:events:eu-west-1:111122223333:event-bus/b")
		}, "EventBridgeParameters"},
		"no role": {func(in *sdk.CreateScheduleInput) { in.Target.RoleArn = nil }, "not the ARN of a role"},
		"a role that does not trust": {func(in *sdk.CreateScheduleInput) {
			in.Target.RoleArn = aws.String("arn:aws:iam::111122223333:role/other")
		}, "must allow AWS EventBridge Scheduler to assume the role"},
		"a dead letter topic": {func(in *sdk.CreateScheduleInput) {
			in.Target.DeadLetterConfig = &types.DeadLetterConfig{Arn: aws.String("arn:aws:sns:eu-west-1:111122223333:t")}
		}, "not the ARN of a queue"},
		"too many retries": {func(in *sdk.CreateScheduleInput) {
			in.Target.RetryPolicy = &types.RetryPolicy{MaximumRetryAttempts: aws.Int32(186)}
		}, "0 to 185"},
		"a group that is not there": {func(in *sdk.CreateScheduleInput) { in.GroupName = aws.String("nights") }, "Schedule group nights does not exist"},
		"an end before its beginning": {func(in *sdk.CreateScheduleInput) {
			in.StartDate, in.EndDate = aws.Time(time.Unix(2, 0)), aws.Time(time.Unix(1, 0))
		}, "must come before"},
	} {
		t.Run(sentence, func(t *testing.T) {
			in := nightly()
			tc.change(in)
			_, err := s.CreateSchedule(t.Context(), in)
			assert.ErrorContains(t, err, tc.says)
		})
	}
	in := nightly()
	in.ClientToken = aws.String("once")
	create(t, s, in)
	create(t, s, in)
	in.ClientToken = aws.String("again")
	_, err := s.CreateSchedule(t.Context(), in)
	var conflict *types.ConflictException
	assert.ErrorAs(t, err, &conflict)
}
