package stage

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/trigger"
)

// triggerWorld is what triggers talk to: Step Functions, a topic and a bus.
type triggerWorld struct {
	*resolveWorld
	faults
	executions []*sfn.DescribeExecutionOutput
	messages   []string
	events     []eventtypes.PutEventsRequestEntry
	reporters  trigger.Reporters
}

func newTriggerWorld() *triggerWorld {
	return &triggerWorld{resolveWorld: newResolveWorld(), faults: faults{}}
}

func triggerPolicy() trigger.Policy {
	return trigger.Policy{MaxRunning: 2, MaxFailures: 2, MaxAge: 40 * 24 * time.Hour, Stagger: 5 * time.Minute, FindingLimit: 24 * time.Hour}
}

const machineARN = "arn:aws:states:eu-west-1:111122223333:stateMachine:ami-factory"

func (w *triggerWorld) StartExecution(_ context.Context, in *sfn.StartExecutionInput, _ ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error) {
	if err := w.next("StartExecution"); err != nil {
		return nil, err
	}
	for _, e := range w.executions {
		if *e.Name == *in.Name {
			if e.Status == sfntypes.ExecutionStatusRunning && *e.Input == *in.Input {
				return &sfn.StartExecutionOutput{ExecutionArn: e.ExecutionArn}, nil
			}
			return nil, awsErr("ExecutionAlreadyExists")
		}
	}
	arn := aws.String(executionARN(machineARN, *in.Name))
	w.executions = append(w.executions, &sfn.DescribeExecutionOutput{
		Name: in.Name, ExecutionArn: arn, StartDate: aws.Time(start), Input: in.Input, Status: sfntypes.ExecutionStatusRunning,
	})
	return &sfn.StartExecutionOutput{ExecutionArn: arn}, nil
}

// byHand starts an execution that no trigger started.
func (w *triggerWorld) byHand(name, input string) *sfn.DescribeExecutionOutput {
	e := &sfn.DescribeExecutionOutput{
		Name: &name, ExecutionArn: aws.String(executionARN(machineARN, name)), Input: &input, Status: sfntypes.ExecutionStatusRunning, StartDate: aws.Time(start),
	}
	w.executions = append(w.executions, e)
	return e
}

// byTrigger is the same of one that a trigger has started.
func (w *triggerWorld) byTrigger(name, input string) *sfn.DescribeExecutionOutput {
	raw, _ := json.Marshal(startedExecution{Inputs: []string{input}})
	w.s3.objects[startedKey(name)] = raw
	return w.byHand(name, input)
}

func (w *triggerWorld) DescribeExecution(_ context.Context, in *sfn.DescribeExecutionInput, _ ...func(*sfn.Options)) (*sfn.DescribeExecutionOutput, error) {
	for _, e := range w.executions {
		if *e.ExecutionArn == *in.ExecutionArn {
			return e, nil
		}
	}
	return nil, awsErr("ExecutionDoesNotExist")
}

func (w *triggerWorld) ListExecutions(context.Context, *sfn.ListExecutionsInput, ...func(*sfn.Options)) (*sfn.ListExecutionsOutput, error) {
	out := &sfn.ListExecutionsOutput{}
	for _, e := range w.executions {
		out.Executions = append(out.Executions, sfntypes.ExecutionListItem{ExecutionArn: e.ExecutionArn, Name: e.Name})
	}
	return out, w.next("ListExecutions")
}

func (w *triggerWorld) Publish(_ context.Context, in *sns.PublishInput, _ ...func(*sns.Options)) (*sns.PublishOutput, error) {
	w.messages = append(w.messages, *in.Subject)
	return &sns.PublishOutput{}, w.next("Publish")
}

func (w *triggerWorld) PutEvents(_ context.Context, in *eventbridge.PutEventsInput, _ ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error) {
	if err := w.next("PutEvents"); err != nil {
		return nil, err
	}
	w.events = append(w.events, in.Entries...)
	return &eventbridge.PutEventsOutput{}, nil
}

func (w *triggerWorld) GetParameters(_ context.Context, in *ssm.GetParametersInput, _ ...func(*ssm.Options)) (*ssm.GetParametersOutput, error) {
	out := &ssm.GetParametersOutput{}
	for _, name := range in.Names {
		if value, ok := w.ssm[home].parameters[name]; ok {
			out.Parameters = append(out.Parameters, ssmtypes.Parameter{Name: &name, Value: &value})
		}
	}
	return out, w.next("GetParameters")
}

func (w *triggerWorld) tell(t *testing.T, kind, detail string) (StartBuildsOutput, error) {
	t.Helper()
	return w.tellAt(t, start, kind, detail)
}

func (w *triggerWorld) tellAt(t *testing.T, at time.Time, kind, detail string) (StartBuildsOutput, error) {
	t.Helper()
	return w.tellOf(t, at, sources()[kind], kind, detail)
}

// sources are those that AWS sends events about vulnerabilities from.
func sources() map[string]string {
	return map[string]string{
		contract.InspectorEvent: "aws.inspector2", contract.OnDemandEvent: "inspector2.ami.ondemand",
		contract.SecurityHubEvent: "aws.securityhub", contract.SecurityHubV2Event: "aws.securityhub",
	}
}

func (w *triggerWorld) tellOf(t *testing.T, at time.Time, from, kind, detail string) (StartBuildsOutput, error) {
	t.Helper()
	settings := Settings{Region: home, Version: "1.0.0", Guests: "simulated: of a test", StateMachineARN: machineARN, TopicARN: "arn:topic", Engines: engines(), Reporters: w.reporters}
	return StartBuilds{
		Resolve: Resolve{
			Settings: settings, Store: w.s3.store(), Planner: w.planner(),
		},
		Executions: w, SNS: w, Policy: triggerPolicy(),
	}.Run(t.Context(), EventInput{Source: from, DetailType: kind, Time: at, Region: home, Detail: json.RawMessage(detail)})
}

func (w *triggerWorld) moved(t *testing.T) Considered {
	t.Helper()
	out, err := w.tell(t, contract.SourceChangedEvent, `{"parameter":"/aws/base"}`)
	require.NoError(t, err)
	require.Len(t, out.Recipes, 1)
	return out.Recipes[0]
}

func (w *triggerWorld) ends(t *testing.T, e *sfn.DescribeExecutionOutput, status sfntypes.ExecutionStatus) StartBuildsOutput {
	t.Helper()
	e.Status = status
	detail, err := json.Marshal(map[string]any{"executionArn": *e.ExecutionArn, "status": status, "input": *e.Input, "output": nil})
	require.NoError(t, err)
	out, err := w.tell(t, contract.ExecutionChangedEvent, string(detail))
	require.NoError(t, err)
	return out
}

func TestASourceThatMovesAgainIsBuiltOnceMoreAfterTheBuildThatRuns(t *testing.T) {
	w := newTriggerWorld()
	assert.Equal(t, trigger.Start, w.moved(t).Action)
	assert.Equal(t, trigger.Skip, w.moved(t).Action, "the build that runs absorbs it")

	w.ssm[home].parameters["/aws/base"] = "ami-0123456789abcdef1"
	w.ec2[home].images = append(w.ec2[home].images, base("ami-0123456789abcdef1"))
	for range 3 {
		assert.Equal(t, trigger.Wait, w.moved(t).Action)
	}
	require.Len(t, w.executions, 1)

	after := w.ends(t, w.executions[0], sfntypes.ExecutionStatusFailed)
	require.Len(t, after.Recipes, 1)
	assert.Equal(t, trigger.Start, after.Recipes[0].Action, after.Recipes[0].Why)
	require.Len(t, w.executions, 2)
	assert.NotEqual(t, *w.executions[0].Name, *w.executions[1].Name)
	assert.JSONEq(t, `{"recipe":"sample"}`, *w.executions[1].Input)

	again := w.ends(t, w.executions[0], sfntypes.ExecutionStatusFailed)
	assert.Empty(t, again.Recipes, "there was one follow-up")
	assert.Len(t, w.executions, 2)
}

func TestBeyondTheLimitABuildWaitsForAnEnd(t *testing.T) {
	w := newTriggerWorld()
	first := w.byTrigger("other-1", `{"recipe":"other"}`)
	w.byTrigger("other-2", `{"recipe":"other"}`)
	assert.Equal(t, trigger.Wait, w.moved(t).Action)
	require.Len(t, w.executions, 2)
	// Step Functions may still say that the one runs whose end it tells of.
	_, err := w.tell(t, contract.ExecutionChangedEvent, `{"executionArn":"`+*first.ExecutionArn+`","status":"SUCCEEDED","input":"{\"recipe\":\"other\"}"}`)
	require.NoError(t, err)
	assert.Len(t, w.executions, 3)
}

func TestTheSecondFailureInARowPausesAndIsToldOnce(t *testing.T) {
	w := newTriggerWorld()
	for n, name := range []string{"first", "first", "second", "second", "third"} {
		e := w.byTrigger(name, `{"recipe":"sample"}`)
		w.ends(t, e, sfntypes.ExecutionStatusFailed)
		assert.Len(t, w.messages, min(n/2, 1), name)
	}
	assert.Equal(t, []string{"ami-factory: Paused: sample"}, w.messages)
	assert.Contains(t, w.moved(t).Why, "ami-factory resume sample")

	was, err := Resume(t.Context(), w.s3.store(), "sample")
	require.NoError(t, err)
	assert.True(t, was)
	assert.Equal(t, trigger.Start, w.moved(t).Action)
}

// TestWhoeverStartsExecutionsPausesNoRecipe is the attack as it was made, and its
// like: wrong inputs, delays, and names that a trigger would give.
func TestWhoeverStartsExecutionsPausesNoRecipe(t *testing.T) {
	record := func(w *triggerWorld) (r trigger.Record) {
		_, err := w.s3.store().ReadJSON(t.Context(), contract.RecordKey("sample"), &r)
		require.NoError(t, err)
		return r
	}
	t.Run("three wrong inputs", func(t *testing.T) {
		w := newTriggerWorld()
		for _, name := range []string{"a", "b", "c"} {
			w.ends(t, w.byHand(name, `{"recipe":"sample","colour":"red"}`), sfntypes.ExecutionStatusFailed)
		}
		assert.Zero(t, record(w).Failures)
		assert.Empty(t, w.messages)
		assert.Equal(t, trigger.Start, w.moved(t).Action)
	})
	t.Run("the name of a trigger's execution with another input", func(t *testing.T) {
		w := newTriggerWorld()
		own := w.byTrigger("own", `{"recipe":"sample"}`)
		own.Input = aws.String(`{"recipe":"sample","force":true}`)
		w.ends(t, own, sfntypes.ExecutionStatusFailed)
		assert.Zero(t, record(w).Failures)
	})
	t.Run("what a trigger started wrongly, or somebody stopped, says nothing of the recipe", func(t *testing.T) {
		w := newTriggerWorld()
		e := w.byTrigger("own", `{"recipe":"sample"}`)
		detail, err := json.Marshal(map[string]any{"executionArn": *e.ExecutionArn, "status": "FAILED", "input": *e.Input, "error": "InvalidInput"})
		require.NoError(t, err)
		_, err = w.tell(t, contract.ExecutionChangedEvent, string(detail))
		require.NoError(t, err)
		w.ends(t, w.byTrigger("stopped", `{"recipe":"sample"}`), sfntypes.ExecutionStatusAborted)
		assert.Zero(t, record(w).Failures)
	})
	t.Run("three that are delayed", func(t *testing.T) {
		w := newTriggerWorld()
		for _, name := range []string{"a", "b", "c"} {
			w.byHand(name, `{"recipe":"other","delaySeconds":3600}`)
		}
		w.byHand("d", `{"recipe":"sample","delaySeconds":3599.5}`)
		assert.Equal(t, trigger.Start, w.moved(t).Action)
	})
	t.Run("the name that the trigger is about to give", func(t *testing.T) {
		probe := newTriggerWorld()
		name := probe.moved(t).Execution
		w := newTriggerWorld()
		w.byHand(name, `{"recipe":"sample","colour":"red"}`).Status = sfntypes.ExecutionStatusFailed
		got := w.moved(t)
		assert.Equal(t, trigger.Start, got.Action)
		assert.NotEqual(t, name, got.Execution)
		assert.True(t, strings.HasPrefix(got.Execution, name+"-"))
		require.Len(t, w.executions, 2)
		w.ends(t, w.executions[1], sfntypes.ExecutionStatusFailed)
		assert.Equal(t, 1, record(w).Failures, "its end is counted under the other name")
	})
	t.Run("its own name, which has run, is not started again", func(t *testing.T) {
		w := newTriggerWorld()
		w.moved(t)
		w.executions[0].Status = sfntypes.ExecutionStatusFailed
		assert.Equal(t, trigger.Skip, w.moved(t).Action)
		assert.Len(t, w.executions, 1)
	})
}

func TestStartBuildsFails(t *testing.T) {
	for sentence, tc := range map[string]struct {
		kind, detail, fault, code string
		want                      failure.Code
	}{
		"an event that nobody sends":       {"Other", `{}`, "", "", failure.InvalidInput},
		"a source without a parameter":     {contract.SourceChangedEvent, `{}`, "", "", failure.InvalidInput},
		"an end of no execution":           {contract.ExecutionChangedEvent, `{}`, "", "", failure.InvalidInput},
		"a finding that is none":           {contract.InspectorEvent, `{}`, "", "", failure.InvalidInput},
		"Step Functions throttles":         {contract.NightlyEvent, `{}`, "StartExecution", "ThrottlingException", failure.Throttled},
		"too many executions":              {contract.NightlyEvent, `{}`, "StartExecution", "ExecutionLimitExceeded", failure.QuotaExceeded},
		"the list of executions is denied": {contract.NightlyEvent, `{}`, "ListExecutions", "AccessDeniedException", failure.AccessDenied},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newTriggerWorld()
			if tc.fault != "" {
				w.faults[tc.fault] = []error{awsErr(tc.code)}
			}
			_, err := w.tell(t, tc.kind, tc.detail)
			require.Error(t, err)
			assert.Equal(t, tc.want, failure.CodeOf(err))
		})
	}
}

func (w *triggerWorld) watcher() WatchSources {
	return WatchSources{Settings: Settings{Region: home, EventBus: "bus"}, Store: w.s3.store(), SSM: w, Events: w, UserData: w.fs, Policy: triggerPolicy()}
}

func TestAnEventThatWasNotTakenIsSentAgain(t *testing.T) {
	w := newTriggerWorld()
	_, err := w.watcher().Run(t.Context(), WatchInput{})
	require.NoError(t, err)
	w.ssm[home].parameters["/aws/base"] = "ami-0123456789abcdef1"
	w.faults["PutEvents"] = []error{awsErr("ThrottlingException")}
	_, err = w.watcher().Run(t.Context(), WatchInput{})
	assert.Equal(t, failure.Throttled, failure.CodeOf(err))
	delete(w.faults, "PutEvents")
	out, err := w.watcher().Run(t.Context(), WatchInput{})
	require.NoError(t, err)
	assert.Len(t, out.Changed, 1)
	require.Len(t, w.events, 1)
	assert.Equal(t, "bus", *w.events[0].EventBusName)
}

func TestAnAnnouncementThatComesFiveTimesMakesTheWatcherLookOnce(t *testing.T) {
	w := newTriggerWorld()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})

	const topic, id = "arn:aws:sns:us-east-1:137112412989:updates", "95df01b4-ee98-5cb9-9903-4c221d41eb5e"
	sum := sha256.Sum256([]byte("Message\nm\nMessageId\n" + id + "\nTimestamp\nt\nTopicArn\n" + topic + "\nType\nNotification\n"))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	require.NoError(t, err)
	payload := `{"Records":[{"contract.EventSource":"aws:sns","Sns":{"Type":"Notification","MessageId":"` + id + `","TopicArn":"` + topic + `",
		"Subject":null,"Message":"m","Timestamp":"t","SignatureVersion":"2","Signature":"` + base64.StdEncoding.EncodeToString(signature) + `",
		"SigningCertUrl":"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem"}}]}`
	var fetched []string
	var down error
	hear := func(payload string) (AnnouncedOutput, error) {
		var in Announcements
		require.NoError(t, json.Unmarshal([]byte(payload), &in))
		return ReleaseAnnounced{
			Settings: Settings{AnnouncementTopics: []string{topic}}, Store: w.s3.store(), Watch: w.watcher(),
			Certificate: func(_ context.Context, address string) ([]byte, error) {
				fetched = append(fetched, address)
				return certificate, down
			},
		}.Run(t.Context(), in)
	}

	down = errors.New("no route to host")
	_, err = hear(payload)
	assert.Equal(t, failure.ServiceUnavailable, failure.CodeOf(err))
	down = nil
	looks := 0
	for range 5 {
		out, err := hear(payload)
		require.NoError(t, err)
		if out.Watched != nil {
			looks++
			assert.Equal(t, 1, out.Watched.Sources)
		}
	}
	assert.Equal(t, 1, looks)

	_, err = hear(strings.Replace(payload, `"Message":"m"`, `"Message":"another"`, 1))
	assert.Equal(t, failure.AnnouncementRefused, failure.CodeOf(err))
	fetched = nil
	_, err = hear(strings.Replace(payload, "sns.us-east-1.amazonaws.com", "sns.example.org", 1))
	assert.Equal(t, failure.AnnouncementRefused, failure.CodeOf(err))
	assert.Empty(t, fetched, "nothing is fetched from anybody's address")
}
