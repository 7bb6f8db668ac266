package localcloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	locallambda "github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
)

// ruleTo makes a rule of the default bus of a region that sends what matches to a target.
func ruleTo(t *testing.T, cfg aws.Config, name, pattern string, target eventtypes.Target) {
	t.Helper()
	client := eventbridge.NewFromConfig(cfg)
	_, err := client.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: &name, EventPattern: &pattern})
	require.NoError(t, err)
	target.Id = aws.String("t")
	_, err = client.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: &name, Targets: []eventtypes.Target{target}})
	require.NoError(t, err)
}

// eventIn is the next event in a queue.
func eventIn(t *testing.T, c *localcloud.Cloud, url string) (event map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(*letter(t, c, url).Body), &event))
	return event
}

func TestARuleReceivesWhatIsPutIntoABucketOfAnotherRegion(t *testing.T) {
	c := enforcing(t)
	ctx := t.Context()
	// The event is of the bucket's owner and region, whoever writes, and from wherever.
	url, arn := inbox(t, c, "objects")
	ruleTo(t, c.AWSConfig(""), "uploads", `{"source":["aws.s3"],"detail-type":["Object Created"],"detail":{"bucket":{"name":["plans"]},"object":{"key":[{"prefix":"executions/"}]}}}`, eventtypes.Target{Arn: &arn})
	home := sdks3.NewFromConfig(c.AWSConfig(""), func(o *sdks3.Options) { o.UsePathStyle = true })
	_, err := home.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: aws.String("plans"), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: region}})
	require.NoError(t, err)
	_, err = home.PutBucketNotificationConfiguration(ctx, &sdks3.PutBucketNotificationConfigurationInput{
		Bucket: aws.String("plans"), NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
	})
	require.NoError(t, err)
	away := sdks3.NewFromConfig(c.AWSConfigFor("444455556666", "us-east-1"), func(o *sdks3.Options) { o.UsePathStyle = true })
	for _, key := range []string{"other/1", "executions/bake-1/provisioned.json"} {
		_, err = away.PutObject(ctx, &sdks3.PutObjectInput{Bucket: aws.String("plans"), Key: &key, Body: strings.NewReader("{}")})
		require.NoError(t, err)
	}
	event := eventIn(t, c, url)
	assert.Equal(t, []any{"aws.s3", "Object Created", account, region}, []any{event["source"], event["detail-type"], event["account"], event["region"]})
	assert.Equal(t, []any{"arn:aws:s3:::plans"}, event["resources"])
	detail := event["detail"].(map[string]any)
	assert.Equal(t, "executions/bake-1/provisioned.json", detail["object"].(map[string]any)["key"])
	assert.Equal(t, "444455556666", detail["requester"])
}

// forwarder is the role of targets that are buses elsewhere.
const forwarder = "arn:aws:iam::" + account + ":role/forward"

// putEvent puts an event of the source "team" onto the default bus of a configuration.
func putEvent(t *testing.T, cfg aws.Config, detail string) {
	t.Helper()
	out, err := eventbridge.NewFromConfig(cfg).PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{
		{Source: aws.String("team"), DetailType: aws.String("d"), Detail: &detail},
	}})
	require.NoError(t, err)
	require.Zero(t, out.FailedEntryCount, "%v", out.Entries)
}

const ofTeam = `{"source":["team"]}`

func TestEventsAreLostAndRepeatedByTheControlEndpoint(t *testing.T) {
	c := listening(t)
	url, arn := inbox(t, c, "events")
	ruleTo(t, c.AWSConfig(""), "all", ofTeam, eventtypes.Target{Arn: &arn})
	response, err := c.Control().Do(t.Context(), http.MethodPost, fault.Path, []byte(`[
		{"id":"lost","source":"team","pattern":{"detail":{"n":[1]}},"lose":true,"times":-1},
		{"id":"five","source":"team","detailType":"d","region":"eu-west-1","repeat":4,"nth":2}]`))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusCreated, response.StatusCode)
	for n := range 3 {
		putEvent(t, c.AWSConfig(""), fmt.Sprintf(`{"n":%d}`, n))
	}
	count := map[float64]int{}
	ids := map[string]bool{}
	for range 6 {
		event := eventIn(t, c, url)
		n := event["detail"].(map[string]any)["n"].(float64)
		count[n]++
		if n == 2 {
			ids[event["id"].(string)] = true
		}
	}
	assert.Equal(t, map[float64]int{0: 1, 2: 5}, count)
	assert.Len(t, ids, 1, "what comes again is the same event")
	assert.Equal(t, 1, c.Faults.Taken("lost"))
}

func TestARuleForwardsEventsToABusElsewhere(t *testing.T) {
	const other = "444455556666"
	bus := func(account, region, name string) string {
		return "arn:aws:events:" + region + ":" + account + ":event-bus/" + name
	}
	admits := func(sender string) string {
		return `{"Version":"2012-10-17","Statement":[{"Sid":"in","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + sender + `:root"},"Action":"events:PutEvents","Resource":"` + bus(other, region, "default") + `"}]}`
	}
	for sentence, tc := range map[string]struct {
		to     string
		role   string   // of the target; empty: none
		may    []string // what the role may
		policy string   // of the bus
		want   string   // what the dead letter says; empty: it arrives
	}{
		"of the region, without a role":             {bus(account, region, "audit"), "", nil, "", ""},
		"of another region":                         {bus(account, "us-east-1", "default"), forwarder, []string{"events:PutEvents " + bus(account, "us-east-1", "default")}, "", ""},
		"of another region, by source":              {bus(account, "us-east-1", "default"), forwarder, []string{"events:PutEvents " + bus(account, "us-east-1", "default") + ` {"StringEquals":{"events:source":"team"}}`}, "", ""},
		"of another region that the role may not":   {bus(account, "us-east-1", "default"), forwarder, []string{"events:PutEvents " + bus(account, "us-west-2", "default")}, "", "is not authorized to perform: events:PutEvents on resource: " + bus(account, "us-east-1", "default") + " because no identity-based policy allows the events:PutEvents action"},
		"of another account":                        {bus(other, region, "default"), forwarder, []string{"events:PutEvents " + bus(other, region, "default")}, admits(account), ""},
		"of another account that does not admit it": {bus(other, region, "default"), forwarder, []string{"events:PutEvents " + bus(other, region, "default")}, admits("777788889999"), "because no resource-based policy allows the events:PutEvents action"},
		"of another account that has no policy":     {bus(other, region, "default"), forwarder, []string{"events:PutEvents " + bus(other, region, "default")}, "", "because no resource-based policy allows the events:PutEvents action"},
		"of another account that the role may not":  {bus(other, region, "default"), forwarder, nil, admits(account), "because no identity-based policy allows the events:PutEvents action"},
		"that does not exist":                       {bus(account, region, "none"), forwarder, []string{"events:PutEvents *"}, "", "Event bus none does not exist."},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := enforcing(t)
			parts := strings.Split(tc.to, ":")
			there := c.AWSConfigFor(parts[4], parts[3])
			client := eventbridge.NewFromConfig(there)
			name := strings.TrimPrefix(parts[5], "event-bus/")
			if name == "audit" {
				_, err := client.CreateEventBus(t.Context(), &eventbridge.CreateEventBusInput{Name: &name})
				require.NoError(t, err)
			}
			if tc.policy != "" {
				_, err := client.PutPermission(t.Context(), &eventbridge.PutPermissionInput{Policy: &tc.policy})
				require.NoError(t, err)
			}
			allow(t, c, forwarder, tc.may...)
			url, arn := inbox(t, c, "dead")
			target := eventtypes.Target{Arn: &tc.to, DeadLetterConfig: &eventtypes.DeadLetterConfig{Arn: &arn}}
			if tc.role != "" {
				target.RoleArn = &tc.role
			}
			ruleTo(t, c.AWSConfig(""), "forward", ofTeam, target)
			if tc.want == "" {
				queue := sqs.NewFromConfig(there)
				made, err := queue.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("arrived"), Attributes: map[string]string{"Policy": anybodySends}})
				require.NoError(t, err)
				_, err = client.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String("in"), EventBusName: &name, EventPattern: aws.String(ofTeam)})
				require.NoError(t, err)
				_, err = client.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: aws.String("in"), EventBusName: &name, Targets: []eventtypes.Target{
					{Id: aws.String("t"), Arn: aws.String("arn:aws:sqs:" + parts[3] + ":" + parts[4] + ":arrived")},
				}})
				require.NoError(t, err)
				putEvent(t, c.AWSConfig(""), `{"n":1}`)
				out, err := queue.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: made.QueueUrl, WaitTimeSeconds: 20})
				require.NoError(t, err)
				require.Len(t, out.Messages, 1)
				var event map[string]any
				require.NoError(t, json.Unmarshal([]byte(*out.Messages[0].Body), &event))
				assert.Equal(t, []any{account, region}, []any{event["account"], event["region"]}, "it stays an event of where it comes from")
				return
			}
			putEvent(t, c.AWSConfig(""), `{"n":1}`)
			message := letter(t, c, url)
			assert.Contains(t, *message.MessageAttributes["ERROR_MESSAGE"].StringValue, tc.want)
		})
	}
}

func TestABusElsewhereIsATargetWithARoleOnly(t *testing.T) {
	c := listening(t)
	client := eventbridge.NewFromConfig(c.AWSConfig(""))
	_, err := client.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: aws.String("r"), EventPattern: aws.String(ofTeam)})
	require.NoError(t, err)
	for _, arn := range []string{"arn:aws:events:us-east-1:" + account + ":event-bus/default", "arn:aws:events:" + region + ":444455556666:event-bus/default"} {
		_, err = client.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: aws.String("r"), Targets: []eventtypes.Target{{Id: aws.String("t"), Arn: &arn}}})
		assert.ErrorContains(t, err, "ValidationException: RoleArn is required for target "+arn+".")
	}
}

// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-bus-to-bus.html:
// EventBridge routes an event that comes from another bus to no third bus. So two buses
// that forward to each other send no event in circles.
func TestAnEventIsForwardedOnce(t *testing.T) {
	c := enforcing(t)
	allow(t, c, forwarder, "events:PutEvents *")
	home, away := c.AWSConfig(""), c.AWSConfigFor(account, "us-east-1")
	url, arn := inbox(t, c, "home")
	toBus := func(region string) eventtypes.Target {
		return eventtypes.Target{Arn: aws.String("arn:aws:events:" + region + ":" + account + ":event-bus/default"), RoleArn: aws.String(forwarder)}
	}
	ruleTo(t, home, "there", ofTeam, toBus("us-east-1"))
	ruleTo(t, away, "back", ofTeam, toBus(region))
	ruleTo(t, home, "count", ofTeam, eventtypes.Target{Arn: &arn})
	putEvent(t, home, `{"n":1}`)
	assert.Equal(t, region, eventIn(t, c, url)["region"])
	putEvent(t, away, `{"n":2}`)
	second := eventIn(t, c, url)
	assert.Equal(t, "us-east-1", second["region"], "the first did not come back")
	putEvent(t, home, `{"n":3}`)
	assert.Equal(t, map[string]any{"n": 3.0}, eventIn(t, c, url)["detail"], "nor did the second come twice")
}

func TestTheStatementsOfABusAreAddedAndRemoved(t *testing.T) {
	c := listening(t)
	client := eventbridge.NewFromConfig(c.AWSConfig(""))
	ctx := t.Context()
	policy := func() string {
		out, err := client.DescribeEventBus(ctx, &eventbridge.DescribeEventBusInput{})
		require.NoError(t, err)
		return aws.ToString(out.Policy)
	}
	assert.Empty(t, policy())
	for _, in := range []*eventbridge.PutPermissionInput{
		{StatementId: aws.String("one"), Action: aws.String("events:PutEvents"), Principal: aws.String("444455556666")},
		{StatementId: aws.String("all"), Action: aws.String("events:PutEvents"), Principal: aws.String("*"), Condition: &eventtypes.Condition{Type: aws.String("StringEquals"), Key: aws.String("aws:PrincipalOrgID"), Value: aws.String("o-1234567890")}},
		{StatementId: aws.String("one"), Action: aws.String("events:PutEvents"), Principal: aws.String("777788889999")},
	} {
		_, err := client.PutPermission(ctx, in)
		require.NoError(t, err)
	}
	assert.JSONEq(t, `{"Version":"2012-10-17","Statement":[
		{"Sid":"all","Effect":"Allow","Principal":"*","Action":"events:PutEvents","Resource":"arn:aws:events:eu-west-1:111122223333:event-bus/default","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1234567890"}}},
		{"Sid":"one","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::777788889999:root"},"Action":"events:PutEvents","Resource":"arn:aws:events:eu-west-1:111122223333:event-bus/default"}]}`, policy())
	_, err := client.RemovePermission(ctx, &eventbridge.RemovePermissionInput{StatementId: aws.String("one")})
	require.NoError(t, err)
	assert.NotContains(t, policy(), "one")
	_, err = client.RemovePermission(ctx, &eventbridge.RemovePermissionInput{StatementId: aws.String("one")})
	assert.ErrorContains(t, err, "ResourceNotFoundException")
	_, err = client.RemovePermission(ctx, &eventbridge.RemovePermissionInput{RemoveAllPermissions: true})
	require.NoError(t, err)
	assert.Empty(t, policy())
	for sentence, tc := range map[string]struct {
		in   *eventbridge.PutPermissionInput
		want string
	}{
		"no principal":            {&eventbridge.PutPermissionInput{StatementId: aws.String("x"), Action: aws.String("events:PutEvents")}, "Parameter Principal must be specified"},
		"a policy that is none":   {&eventbridge.PutPermissionInput{Policy: aws.String(`{"Statement":1}`)}, "Parameter Policy is not valid"},
		"a bus that is not there": {&eventbridge.PutPermissionInput{EventBusName: aws.String("none"), Policy: aws.String("{}")}, "ResourceNotFoundException"},
		"a bus of another region": {&eventbridge.PutPermissionInput{EventBusName: aws.String("arn:aws:events:us-east-1:111122223333:event-bus/default"), Policy: aws.String("{}")}, "Cross-region api call is not allowed."},
	} {
		_, err := client.PutPermission(ctx, tc.in)
		assert.ErrorContains(t, err, tc.want, sentence)
	}
}

func TestARolePutsEventsOntoABusOfAnotherAccountThatAdmitsIt(t *testing.T) {
	c := enforcing(t)
	const other = "444455556666"
	bus := "arn:aws:events:" + region + ":" + other + ":event-bus/default"
	there := c.AWSConfigFor(other, region)
	client := eventbridge.NewFromConfig(there)
	queue := sqs.NewFromConfig(there)
	made, err := queue.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("arrived"), Attributes: map[string]string{"Policy": anybodySends}})
	require.NoError(t, err)
	ruleTo(t, there, "in", ofTeam, eventtypes.Target{Arn: aws.String("arn:aws:sqs:" + region + ":" + other + ":arrived")})
	allow(t, c, testRole, "events:PutEvents "+bus)
	cfg := c.AWSConfigOfRole("", testRole, "f")
	cfg.RetryMaxAttempts = 1
	put := func() error {
		out, err := eventbridge.NewFromConfig(cfg).PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{
			{EventBusName: &bus, Source: aws.String("team"), DetailType: aws.String("d"), Detail: aws.String("{}")},
		}})
		if err == nil {
			assert.Zero(t, out.FailedEntryCount, "%v", out.Entries)
		}
		return err
	}
	require.ErrorContains(t, put(), "because no resource-based policy allows the events:PutEvents action")
	_, err = client.PutPermission(t.Context(), &eventbridge.PutPermissionInput{StatementId: aws.String("in"), Action: aws.String("events:PutEvents"), Principal: aws.String(account)})
	require.NoError(t, err)
	require.NoError(t, put())
	out, err := queue.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: made.QueueUrl, WaitTimeSeconds: 20})
	require.NoError(t, err)
	require.Len(t, out.Messages, 1)
	assert.Contains(t, *out.Messages[0].Body, `"account":"`+account+`"`)
}

// The shapes are those of
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html,
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitor-ami-events.html and
// https://docs.aws.amazon.com/systems-manager/latest/userguide/monitoring-systems-manager-event-examples.html.
func TestAnInstanceAndItsImageAreFollowedByTheirEvents(t *testing.T) {
	c := listening(t)
	ctx := t.Context()
	url, arn := inbox(t, c, "events")
	ruleTo(t, c.AWSConfig(""), "all", `{"source":["aws.ec2","aws.ssm"]}`, eventtypes.Target{Arn: &arn})
	client := sdkec2.NewFromConfig(c.AWSConfig(""))
	names := map[string]string{}
	// next reads events until it has all that are wanted, in any order: EventBridge keeps none.
	next := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			event := eventIn(t, c, url)
			assert.Equal(t, []any{"0", account, region}, []any{event["version"], event["account"], event["region"]})
			detail := event["detail"].(map[string]any)
			for _, varying := range []string{"RequestId", "command-id", "requested-date-time", "expire-after"} {
				if _, ok := detail[varying]; ok {
					detail[varying] = "…"
				}
			}
			raw, err := json.Marshal([]any{event["source"], event["detail-type"], event["resources"], detail})
			require.NoError(t, err)
			text := string(raw)
			for id, name := range names {
				text = strings.ReplaceAll(text, id, name)
			}
			got = append(got, text)
		}
		assert.ElementsMatch(t, want, got)
	}
	instance := func(state string) string {
		return `["aws.ec2","EC2 Instance State-change Notification",["arn:aws:ec2:eu-west-1:111122223333:instance/I"],{"instance-id":"I","state":"` + state + `"}]`
	}
	image := func(state string) string {
		return `["aws.ec2","EC2 AMI State Change",["arn:aws:ec2:eu-west-1::image/A"],{"ErrorMessage":"","ImageId":"A","RequestId":"…","State":"` + state + `"}]`
	}
	command := func(status string) []string {
		return []string{
			`["aws.ssm","EC2 Command Invocation Status-change Notification",["arn:aws:ec2:eu-west-1:111122223333:instance/I"],{"command-id":"…","document-name":"AWS-RunShellScript","instance-id":"I","requested-date-time":"…","status":"` + status + `"}]`,
			`["aws.ssm","EC2 Command Status-change Notification",["arn:aws:ec2:eu-west-1:111122223333:instance/I"],{"command-id":"…","document-name":"AWS-RunShellScript","expire-after":"…","parameters":{"commands":["date"]},"requested-date-time":"…","status":"` + status + `"}]`,
		}
	}
	made, err := client.RunInstances(ctx, &sdkec2.RunInstancesInput{ImageId: aws.String(baseImage(t, c)), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
	require.NoError(t, err)
	id := *made.Instances[0].InstanceId
	names[id] = "I"
	next(instance("pending"), instance("running"))
	require.Eventually(t, func() bool {
		_, err = sdkssm.NewFromConfig(c.AWSConfig("")).SendCommand(ctx, &sdkssm.SendCommandInput{DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{id}, Parameters: map[string][]string{"commands": {"date"}}})
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	next(append(command("InProgress"), command("Success")...)...)
	_, err = client.StopInstances(ctx, &sdkec2.StopInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	next(instance("stopping"), instance("stopped"))
	created, err := client.CreateImage(ctx, &sdkec2.CreateImageInput{InstanceId: &id, Name: aws.String("golden")})
	require.NoError(t, err)
	names[*created.ImageId] = "A"
	next(image("available"))
	copied, err := client.CopyImage(ctx, &sdkec2.CopyImageInput{SourceImageId: created.ImageId, SourceRegion: aws.String(region), Name: aws.String("copy")})
	require.NoError(t, err)
	delete(names, *created.ImageId)
	names[*copied.ImageId] = "A"
	next(image("available"))
	_, err = client.DisableImage(ctx, &sdkec2.DisableImageInput{ImageId: copied.ImageId})
	require.NoError(t, err)
	next(image("disabled"))
	_, err = client.EnableImage(ctx, &sdkec2.EnableImageInput{ImageId: copied.ImageId})
	require.NoError(t, err)
	next(image("available"))
	_, err = client.DeregisterImage(ctx, &sdkec2.DeregisterImageInput{ImageId: copied.ImageId})
	require.NoError(t, err)
	next(image("deregistered"))
	_, err = client.StartInstances(ctx, &sdkec2.StartInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	next(instance("pending"), instance("running"))
	_, err = client.TerminateInstances(ctx, &sdkec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	next(instance("shutting-down"), instance("terminated"))
}

// A function registers the token of a task, and another one, which a rule invokes, gives
// it back: as the waits of the factory do it, with the roles and permissions they need.
func TestATaskIsWokenByAnEvent(t *testing.T) {
	const wakeRole, machineRole = "arn:aws:iam::" + account + ":role/wake", "arn:aws:iam::" + account + ":role/machine"
	const machine = "arn:aws:states:" + region + ":" + account + ":stateMachine:waits"
	const late, again = "TaskTimedOut", "TaskTimedOut"
	for sentence, tc := range map[string]struct {
		faults string
		may    string   // what the role of the function that wakes may
		want   string   // output of the execution
		sent   []string // how SendTaskSuccess ended, sorted
	}{
		"the event":                             {`[]`, "states:SendTaskSuccess " + machine, `"woken"`, []string{""}},
		"the event, five times":                 {`[{"source":"aws.s3","repeat":4,"times":-1}]`, "states:SendTaskSuccess " + machine, `"woken"`, []string{"", again, again, again, again}},
		"no event: the time-out":                {`[{"source":"aws.s3","lose":true,"times":-1}]`, "states:SendTaskSuccess " + machine, `"States.Timeout"`, nil},
		"the event after the time-out":          {`[{"source":"aws.s3","delay":"3s"}]`, "states:SendTaskSuccess " + machine, `"States.Timeout"`, []string{late}},
		"not by a role that may not":            {`[]`, "states:SendTaskSuccess " + machine + "-other", `"States.Timeout"`, []string{"AccessDeniedException"}},
		"not by a role that may something else": {`[]`, "states:SendTaskFailure " + machine, `"States.Timeout"`, []string{"AccessDeniedException"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := enforcing(t)
			ctx := t.Context()
			allow(t, c, wakeRole, tc.may)
			cfg := c.AWSConfigOfRole("", wakeRole, "wake")
			cfg.RetryMaxAttempts = 1
			registered, sent := make(chan string, 1), make(chan string, 8)
			deploy := func(name string, f func(context.Context, []byte) ([]byte, error)) {
				require.NoError(t, c.Lambda.Deploy(locallambda.Function{Name: name, Timeout: time.Minute, MemoryMiB: 128, Handler: f}))
			}
			token := ""
			deploy("register", func(_ context.Context, event []byte) ([]byte, error) {
				var in struct{ Token string }
				if err := json.Unmarshal(event, &in); err != nil {
					return nil, err
				}
				registered <- in.Token
				return []byte(`{}`), nil
			})
			deploy("wake", func(ctx context.Context, _ []byte) ([]byte, error) {
				_, err := sfn.NewFromConfig(cfg).SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: &token, Output: aws.String(`"woken"`)})
				code := ""
				var api smithy.APIError
				if errors.As(err, &api) {
					code = api.ErrorCode()
				}
				sent <- code
				return []byte(`{}`), nil
			})
			rule := "arn:aws:events:" + region + ":" + account + ":rule/uploads"
			_, err := lambda.NewFromConfig(c.AWSConfig("")).AddPermission(ctx, &lambda.AddPermissionInput{
				FunctionName: aws.String("wake"), StatementId: aws.String("events"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("events.amazonaws.com"), SourceArn: &rule,
			})
			require.NoError(t, err)
			ruleTo(t, c.AWSConfig(""), "uploads", `{"source":["aws.s3"],"detail-type":["Object Created"]}`, eventtypes.Target{Arn: aws.String("arn:aws:lambda:" + region + ":" + account + ":function:wake")})
			objects := sdks3.NewFromConfig(c.AWSConfig(""), func(o *sdks3.Options) { o.UsePathStyle = true })
			_, err = objects.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: aws.String("plans"), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: region}})
			require.NoError(t, err)
			_, err = objects.PutBucketNotificationConfiguration(ctx, &sdks3.PutBucketNotificationConfigurationInput{
				Bucket: aws.String("plans"), NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
			})
			require.NoError(t, err)
			response, err := c.Control().Do(ctx, http.MethodPost, fault.Path, []byte(tc.faults))
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusCreated, response.StatusCode)

			allow(t, c, machineRole, "lambda:InvokeFunction arn:aws:lambda:"+region+":"+account+":function:register")
			client := sfn.NewFromConfig(c.AWSConfig(""))
			_, err = client.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{Name: aws.String("waits"), RoleArn: aws.String(machineRole), Definition: aws.String(`{"QueryLanguage":"JSONata","StartAt":"A","States":{
				"A":{"Type":"Task","Resource":"arn:aws:states:::lambda:invoke.waitForTaskToken","TimeoutSeconds":"{% $states.input.net %}","Arguments":{"FunctionName":"register","Payload":{"token":"{% $states.context.Task.Token %}"}},
					"Catch":[{"ErrorEquals":["States.Timeout"],"Output":"{% $states.errorOutput.Error %}","Next":"B"}],"End":true},"B":{"Type":"Succeed"}}}`)})
			require.NoError(t, err)
			net := `{"net":600}` // seconds
			if tc.want == `"States.Timeout"` {
				net = `{"net":2}`
			}
			started, err := client.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: aws.String(machine), Input: &net})
			require.NoError(t, err)
			token = <-registered
			_, err = objects.PutObject(ctx, &sdks3.PutObjectInput{Bucket: aws.String("plans"), Key: aws.String("executions/1/provisioned.json"), Body: strings.NewReader("{}")})
			require.NoError(t, err)
			var out *sfn.DescribeExecutionOutput
			require.Eventually(t, func() bool {
				out, err = client.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: started.ExecutionArn})
				return err == nil && out.Status != sfntypes.ExecutionStatusRunning
			}, time.Minute, 5*time.Millisecond)
			require.Equal(t, sfntypes.ExecutionStatusSucceeded, out.Status, aws.ToString(out.Cause))
			assert.Equal(t, tc.want, aws.ToString(out.Output))
			var got []string
			for range tc.sent {
				got = append(got, <-sent)
			}
			slices.Sort(got)
			assert.Equal(t, tc.sent, got)
		})
	}
}
