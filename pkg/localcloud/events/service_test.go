package events_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// targets record what they are given, in the account and region of the caller.
type targets struct{ got chan [2]string }

func (r targets) record(ctx context.Context, arn, input string) {
	c, _ := wire.CallerFrom(ctx)
	r.got <- [2]string{c.Account + " " + arn, input}
}

func (r targets) Invoke(ctx context.Context, in *lambda.InvokeInput, _ ...func(*lambda.Options)) (*lambda.InvokeOutput, error) {
	r.record(ctx, *in.FunctionName, string(in.Payload))
	return &lambda.InvokeOutput{}, nil
}

func (r targets) StartExecution(ctx context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	r.record(ctx, *in.StateMachineArn, *in.Input)
	return &sfn.StartExecutionOutput{}, nil
}

func (r targets) Publish(ctx context.Context, in *sns.PublishInput, _ ...func(*sns.Options)) (*sns.PublishOutput, error) {
	r.record(ctx, *in.TopicArn, *in.Message)
	return &sns.PublishOutput{}, nil
}

const (
	function = "arn:aws:lambda:eu-west-1:111122223333:function:notify"
	machine  = "arn:aws:states:eu-west-1:111122223333:stateMachine:bake"
	topic    = "arn:aws:sns:eu-west-1:111122223333:news"
)

func newService(t *testing.T) (*events.Service, chan [2]string) {
	t.Helper()
	r := targets{got: make(chan [2]string, 16)}
	s := events.New(events.Config{
		Clock: clock.NewReal(), Default: wire.Caller{Account: "111122223333", Region: "eu-west-1"}, Functions: r, StateMachines: r, Topics: r,
	})
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s, r.got
}

func rule(t *testing.T, s *events.Service, name, pattern string, targets ...types.Target) {
	t.Helper()
	_, err := s.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String(name), EventPattern: aws.String(pattern)})
	require.NoError(t, err)
	_, err = s.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: aws.String(name), Targets: targets})
	require.NoError(t, err)
}

func target(arn string) types.Target { return types.Target{Id: aws.String("t"), Arn: aws.String(arn)} }

func imageEvent() events.Event {
	return events.Event{
		ID: "e1", Source: "aws.ec2", DetailType: "EC2 AMI State Change", Account: "111122223333", Region: "eu-west-1",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Resources: []string{"arn:r"},
		Detail: map[string]any{"State": "available", "ImageId": "ami-1", "sizes": []int{8, 20}},
	}
}

func TestAnEventReachesTheTargetsOfTheRulesItMatches(t *testing.T) {
	for sentence, tc := range map[string]struct {
		target    types.Target
		wantInput string
	}{
		"a function gets the whole event": {target(function),
			`{"version":"0","id":"e1","detail-type":"EC2 AMI State Change","source":"aws.ec2","account":"111122223333","time":"2026-01-02T03:04:05Z","region":"eu-west-1","resources":["arn:r"],"detail":{"ImageId":"ami-1","State":"available","sizes":[8,20]}}`},
		"a state machine gets a constant": {types.Target{Id: aws.String("t"), Arn: aws.String(machine), Input: aws.String(`{"recipe":"debian-12-docker"}`)},
			`{"recipe":"debian-12-docker"}`},
		"a topic gets a part": {types.Target{Id: aws.String("t"), Arn: aws.String(topic), InputPath: aws.String("$.detail.sizes[1]")}, `20`},
		"a template makes an object": {types.Target{Id: aws.String("t"), Arn: aws.String(machine), InputTransformer: &types.InputTransformer{
			InputPathsMap: map[string]string{"image": "$.detail.ImageId", "sizes": "$.detail.sizes", "none": "$.detail.absent"},
			InputTemplate: aws.String(`{"image": <image>, "text": "image <image> of \"<aws.events.rule-name>\" <sizes>", "sizes": <sizes>, "none": <none>}`),
		}}, `{"image":"ami-1","text":"image ami-1 of \"r\" [8,20]","sizes":[8,20],"none":""}`},
		"a template makes a string": {types.Target{Id: aws.String("t"), Arn: aws.String(topic), InputTransformer: &types.InputTransformer{
			InputPathsMap: map[string]string{"image": "$.detail.ImageId"}, InputTemplate: aws.String(`"<image> is ready"`),
		}}, `"ami-1 is ready"`},
		"a template holds the event": {types.Target{Id: aws.String("t"), Arn: aws.String(topic), InputTransformer: &types.InputTransformer{
			InputTemplate: aws.String(`{"rule": <aws.events.rule-arn>, "event": <aws.events.event>}`),
		}}, `{"rule":"arn:aws:events:eu-west-1:111122223333:rule/r","event":{"version":"0","id":"e1","detail-type":"EC2 AMI State Change","source":"aws.ec2","account":"111122223333","time":"2026-01-02T03:04:05Z","region":"eu-west-1","resources":["arn:r"]}}`},
		"a wildcard of a path makes a list": {types.Target{Id: aws.String("t"), Arn: aws.String(topic), InputPath: aws.String("$.detail.sizes[*]")}, `[8,20]`},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, got := newService(t)
			rule(t, s, "r", `{"detail":{"State":["available"]}}`, tc.target)
			rule(t, s, "other", `{"detail":{"State":["failed"]}}`, target(function))
			require.NoError(t, s.Emit(t.Context(), imageEvent()))
			delivered := <-got
			assert.Equal(t, "111122223333 "+*tc.target.Arn, delivered[0])
			assert.JSONEq(t, tc.wantInput, delivered[1])
			require.NoError(t, s.Close(t.Context()))
			assert.Empty(t, got, "nothing else is delivered")
		})
	}
}

func TestATemplateEscapesNothingBetweenQuotes(t *testing.T) {
	detail := map[string]any{"name": `say "hi"`, "path": `a\b`, "object": map[string]any{"id": "x", "n": 5}, "list": []string{"p", "q"}, "yes": true, "html": "<b>&"}
	paths := map[string]string{"name": "$.detail.name", "path": "$.detail.path", "object": "$.detail.object", "list": "$.detail.list", "yes": "$.detail.yes", "none": "$.detail.none", "html": "$.detail.html"}
	for sentence, tc := range map[string]struct{ template, want string }{
		"JSON: a string outside quotes is quoted and escaped":                {`{"v": <name>}`, `{"v":"say \"hi\""}`},
		"JSON: an object outside quotes is JSON":                             {`{"v": <object>}`, `{"v":{"id":"x","n":5}}`},
		"JSON: a string between quotes stays between quotes":                 {`{"v": "<html> of <yes>"}`, `{"v":"<b>& of true"}`},
		"JSON: a list in an array":                                           {`[<list>, 5]`, `[["p","q"],5]`},
		"JSON: the result is without spaces":                                 {"{\n  \"a\" : 1,\n  \"b\" : <yes>\n}", `{"a":1,"b":true}`},
		"JSON: a variable without a value is empty":                          {`{"v": <none>, "w": "x<none>y"}`, `{"v":"","w":"xy"}`},
		"JSON: an undefined variable is empty":                               {`{"v": <nobody>}`, `{"v":""}`},
		"JSON: quotes in a value break a string, and nothing is delivered":   {`{"v": "<name>"}`, ""},
		"JSON: quotes of an object break a string, and nothing is delivered": {`{"v": "<object>"}`, ""},
		"JSON: a variable alone":                                             {`<object>`, `{"id":"x","n":5}`},
		"text: an object loses its quotes":                                   {`"got <object>"`, `"got {id:x,n:5}"`},
		"text: a list loses its quotes":                                      {`"got <list>"`, `"got [p,q]"`},
		"text: quotes of a value stay":                                       {`"got <name>"`, `"got say "hi""`},
		"text: a backslash of a value stays":                                 {`"got <path>"`, `"got a\b"`},
		"text: escaped quotes of the template stay":                          {`"got \"<yes>\""`, `"got \"true\""`},
		"text: several lines":                                                {"\"a <yes>\"\n\"b <none>\"", "\"a true\"\n\"b \""},
		"text: a variable without a value is nothing":                        {`"x<none>y"`, `"xy"`},
	} {
		t.Run(sentence, func(t *testing.T) {
			s, got := newService(t)
			rule(t, s, "r", `{"source":["app"]}`, types.Target{Id: aws.String("t"), Arn: aws.String(topic), InputTransformer: &types.InputTransformer{
				InputPathsMap: paths, InputTemplate: aws.String(tc.template),
			}})
			require.NoError(t, s.Emit(t.Context(), events.Event{Source: "app", Account: "111122223333", Region: "eu-west-1", Detail: detail}))
			require.NoError(t, s.Close(t.Context()))
			if tc.want == "" {
				assert.Empty(t, got)
				return
			}
			assert.Equal(t, tc.want, (<-got)[1])
		})
	}
}

func TestTheTimeInATemplateIsWhenTheEventArrived(t *testing.T) {
	s, got := newService(t)
	rule(t, s, "r", `{"source":["aws.ec2"]}`, types.Target{Id: aws.String("t"), Arn: aws.String(topic), InputTransformer: &types.InputTransformer{
		InputTemplate: aws.String(`"<aws.events.event.ingestion-time>"`),
	}})
	before := time.Now().Truncate(time.Second)
	require.NoError(t, s.Emit(t.Context(), imageEvent()))
	at, err := time.Parse(`"`+time.RFC3339+`"`, (<-got)[1])
	require.NoError(t, err)
	assert.False(t, at.Before(before), "%s is the time of the event, not of its arrival", at)
}

func TestTemplatesThatCannotBecomeAnInputAreRefused(t *testing.T) {
	for sentence, template := range map[string]string{
		"text without quotes":        `instance <instance> is ready`,
		"a placeholder as a key":     `{<instance>: 1}`,
		"a quote without its end":    `"<instance>`,
		"an object without its end":  `{"a": <instance>`,
		"two values in one field":    `{"a": <instance> <instance>}`,
		"an object behind an object": `{} {}`,
	} {
		t.Run(sentence, func(t *testing.T) {
			s, _ := newService(t)
			rule(t, s, "r", `{"source":["aws.ec2"]}`, target(topic))
			_, err := s.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: aws.String("r"), Targets: []types.Target{{
				Id: aws.String("t"), Arn: aws.String(topic), InputTransformer: &types.InputTransformer{
					InputPathsMap: map[string]string{"instance": "$.detail.id"}, InputTemplate: aws.String(template),
				},
			}}})
			assert.ErrorContains(t, err, "Invalid InputTemplate for target t")
		})
	}
}

func TestRulesBelongToOneAccountAndRegionAndCanBeDisabled(t *testing.T) {
	s, got := newService(t)
	rule(t, s, "r", `{"source":["aws.ec2"]}`, target(function))
	elsewhere := imageEvent()
	elsewhere.Region = "us-east-1"
	require.NoError(t, s.Emit(t.Context(), elsewhere))
	foreign := imageEvent()
	foreign.Account = "444455556666"
	require.NoError(t, s.Emit(t.Context(), foreign))

	_, err := s.DisableRule(t.Context(), &eventbridge.DisableRuleInput{Name: aws.String("r")})
	require.NoError(t, err)
	require.NoError(t, s.Emit(t.Context(), imageEvent()))
	_, err = s.EnableRule(t.Context(), &eventbridge.EnableRuleInput{Name: aws.String("r")})
	require.NoError(t, err)
	require.NoError(t, s.Emit(t.Context(), imageEvent()))
	<-got
	require.NoError(t, s.Close(t.Context()))
	assert.Empty(t, got, "only the enabled rule's own account and region delivers")
}

func TestRulesSurviveARestore(t *testing.T) {
	s, _ := newService(t)
	rule(t, s, "r", `{"source":["aws.ec2"]}`, target(function))
	raw, err := s.Snapshot()
	require.NoError(t, err)
	again, got := newService(t)
	require.NoError(t, again.Restore(raw))
	require.NoError(t, again.Emit(t.Context(), imageEvent()))
	assert.Equal(t, "111122223333 "+function, (<-got)[0])
}

func TestAnEventCanGoOnToAnotherBus(t *testing.T) {
	s, got := newService(t)
	_, err := s.CreateEventBus(t.Context(), &eventbridge.CreateEventBusInput{Name: aws.String("audit")})
	require.NoError(t, err)
	rule(t, s, "forward", `{"source":["aws.ec2"]}`, target("arn:aws:events:eu-west-1:111122223333:event-bus/audit"))
	_, err = s.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String("keep"), EventBusName: aws.String("audit"), EventPattern: aws.String(`{"source":["aws.ec2"]}`)})
	require.NoError(t, err)
	_, err = s.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: aws.String("keep"), EventBusName: aws.String("audit"), Targets: []types.Target{target(topic)}})
	require.NoError(t, err)
	require.NoError(t, s.Emit(t.Context(), imageEvent()))
	assert.Equal(t, "111122223333 "+topic, (<-got)[0])
}

func TestRefusals(t *testing.T) {
	s, _ := newService(t)
	rule(t, s, "r", `{"source":["x"]}`, target(function))
	put := func(tg types.Target) error {
		_, err := s.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: aws.String("r"), Targets: []types.Target{tg}})
		return err
	}
	for sentence, tc := range map[string]struct {
		err  error
		want string
	}{
		"a target that is not served": {put(target("arn:aws:sqs:eu-west-1:111122223333:q")), "state machines"},
		"two kinds of input":          {put(types.Target{Id: aws.String("t"), Arn: aws.String(function), Input: aws.String("{}"), InputPath: aws.String("$")}), "only one of"},
		"an input that is not JSON":   {put(types.Target{Id: aws.String("t"), Arn: aws.String(function), Input: aws.String("{")}), "JSON syntax"},
		"a schedule": {func() error {
			_, err := s.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String("s"), ScheduleExpression: aws.String("rate(1 day)")})
			return err
		}(), "ScheduleExpression"},
		"a bad pattern": {func() error {
			_, err := s.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String("s"), EventPattern: aws.String("{}")})
			return err
		}(), "InvalidEventPatternException"},
		"an unknown rule": {func() error {
			_, err := s.DescribeRule(t.Context(), &eventbridge.DescribeRuleInput{Name: aws.String("none")})
			return err
		}(), "ResourceNotFoundException"},
		"deleting a rule with targets": {func() error {
			_, err := s.DeleteRule(t.Context(), &eventbridge.DeleteRuleInput{Name: aws.String("r")})
			return err
		}(), "has targets"},
	} {
		t.Run(sentence, func(t *testing.T) { assert.ErrorContains(t, tc.err, tc.want) })
	}
}

func TestPutEventsRefusesEntriesOneByOne(t *testing.T) {
	s, _ := newService(t)
	var seen []string
	defer s.Subscribe(func(e events.Event) { seen = append(seen, e.DetailType) })()
	entry := func(source, detail string) types.PutEventsRequestEntry {
		return types.PutEventsRequestEntry{Source: aws.String(source), DetailType: aws.String(source), Detail: aws.String(detail)}
	}
	out, err := s.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{
		entry("factory", `{"a":1}`), entry("aws.ec2", `{}`), entry("factory2", `text`),
	}})
	require.NoError(t, err)
	assert.EqualValues(t, 2, out.FailedEntryCount)
	assert.NotEmpty(t, out.Entries[0].EventId)
	assert.Equal(t, "NotAuthorizedForSourceException", aws.ToString(out.Entries[1].ErrorCode))
	assert.Equal(t, "MalformedDetail", aws.ToString(out.Entries[2].ErrorCode))
	assert.Equal(t, []string{"factory"}, seen)
}
