package localcloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdksqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
)

// recordedMachine is a state machine that AWS ran, and what AWS answered: see NOTICE
// beside the recordings.
type recordedMachine struct {
	Case       string              `json:"case"`
	Definition json.RawMessage     `json:"definition"`
	Functions  map[string]string   `json:"functions"` // name to the file of its handler
	Executions []recordedExecution `json:"executions"`
}

type recordedExecution struct {
	Input   json.RawMessage `json:"input"`
	Status  string          `json:"status"`
	Output  any             `json:"output"`
	Error   any             `json:"error"`
	Cause   any             `json:"cause"`
	History []any           `json:"history"`
}

const recordings = "states/testdata/recorded"

// stayDifferent are the recordings that are answered otherwise here, and why that
// stays so.
var stayDifferent = map[string]string{
	"assign/assign_base.test_base_parallel_cases_BASE_SCOPE_PARALLEL":       "the recording leaves out the numbers of the branches' events, and the event ParallelStateSucceeded",
	"scenarios/base_scenarios.test_lambda_invoke_with_retry_extended_input": "recorded before $states.context.Execution had a RedriveCount, which later recordings have",
}

func TestStateMachinesAreAnsweredAsAWSAnsweredThem(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(recordings, "cases.jsonl"))
	require.NoError(t, err)
	seen := map[string]bool{}
	for line := range bytes.Lines(raw) {
		var c recordedMachine
		require.NoError(t, json.Unmarshal(line, &c))
		seen[c.Case] = true
		t.Run(c.Case, func(t *testing.T) {
			t.Parallel()
			differences := c.run(t)
			if reason, listed := stayDifferent[c.Case]; listed {
				assert.NotEmpty(t, differences, "it matches by now: take it off the list (%s)", reason)
				return
			}
			assert.Empty(t, strings.Join(differences, "\n"))
		})
	}
	assert.Len(t, seen, 149)
	for name := range stayDifferent {
		assert.True(t, seen[name], "%s is listed, and there is no such recording", name)
	}
}

// run runs the state machine over HTTP, with the stock client, and lists what was
// answered otherwise.
func (c recordedMachine) run(t *testing.T) (differences []string) {
	clk := clock.NewVirtual(time.Now())
	cloud := listening(t, func(cfg *localcloud.Config) { cfg.Clock, cfg.Driver = clk, echoing(clk) })
	for name, file := range c.Functions {
		handler, ok := recordedHandlers(clk)[file]
		require.True(t, ok, "%s is written in no Go", file)
		require.NoError(t, cloud.Lambda.Deploy(lambda.Function{Name: name, Handler: handler, Timeout: 90 * time.Second}))
	}
	c.makeTargets(t, cloud)
	wire := &capture{}
	client := sfn.NewFromConfig(cloud.AWSConfig(""), func(o *sfn.Options) { o.HTTPClient = wire })
	machine, err := client.CreateStateMachine(t.Context(), &sfn.CreateStateMachineInput{
		Name: aws.String("recorded"), RoleArn: aws.String("arn:aws:iam::" + account + ":role/machine"), Definition: aws.String(here(cloud, c.Definition)),
	})
	if err != nil {
		return []string{err.Error()}
	}
	for i, want := range c.Executions {
		release := clk.Hold() // until whoever has a task's token has answered
		started, err := client.StartExecution(t.Context(), &sfn.StartExecutionInput{
			StateMachineArn: machine.StateMachineArn, Input: aws.String(here(cloud, want.Input)),
		})
		require.NoError(t, err)
		answerTokens(t, cloud, client, want)
		release()
		got, err := cloud.States.Wait(t.Context(), *started.ExecutionArn)
		require.NoError(t, err)
		_, err = client.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: started.ExecutionArn, MaxResults: 1000})
		require.NoError(t, err)
		var history struct {
			Events []any `json:"events"`
		}
		require.NoError(t, json.Unmarshal(wire.last, &history))
		compare := comparison{path: fmt.Sprintf("execution %d", i)}
		compare.value("status", want.Status, string(got.Status))
		compare.value("output", want.Output, text(got.Output))
		compare.value("error", want.Error, text(got.Error))
		compare.value("cause", want.Cause, text(got.Cause))
		compare.history(want.History, history.Events)
		differences = append(differences, compare.differences...)
	}
	return differences
}

func text(s *string) any {
	if s == nil {
		return nil
	}
	return *s
}

// capture keeps what came over the wire last.
type capture struct{ last []byte }

func (c *capture) Do(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if c.last, err = io.ReadAll(response.Body); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(c.last))
	return response, nil
}

// here puts the addresses of this embedded AWS in the place of the recorder's.
func here(cloud *localcloud.Cloud, document []byte) string {
	return strings.NewReplacer("us-east-1", region, "http://127.0.0.1:4777", cloud.URL()).Replace(string(document))
}

var (
	topicIn = regexp.MustCompile(`arn:aws:sns:[a-z0-9-]+:\d{12}:([A-Za-z0-9_-]+)`)
	queueIn = regexp.MustCompile(`http://127.0.0.1:4777/\d{12}/([A-Za-z0-9_-]+)`)
)

// makeTargets makes the topics and queues that the inputs name.
func (c recordedMachine) makeTargets(t *testing.T, cloud *localcloud.Cloud) {
	for _, e := range c.Executions {
		for _, name := range topicIn.FindAllSubmatch(e.Input, -1) {
			_, err := cloud.SNS.CreateTopic(t.Context(), &sdksns.CreateTopicInput{Name: aws.String(string(name[1]))})
			require.NoError(t, err)
		}
		for _, name := range queueIn.FindAllSubmatch(e.Input, -1) {
			_, err := cloud.SQS.CreateQueue(t.Context(), &sdksqs.CreateQueueInput{QueueName: aws.String(string(name[1]))})
			require.NoError(t, err)
		}
	}
}

// answerTokens answers for whoever received a task's token from the queue when it
// was recorded: as the history says that the task then ended.
func answerTokens(t *testing.T, cloud *localcloud.Cloud, client *sfn.Client, want recordedExecution) {
	queue := queueIn.FindSubmatch(want.Input)
	if queue == nil {
		return
	}
	for _, raw := range want.History {
		event := raw.(map[string]any)
		succeeded, _ := event["taskSucceededEventDetails"].(map[string]any)
		failed, _ := event["taskFailedEventDetails"].(map[string]any)
		details := succeeded
		if details == nil {
			details = failed
		}
		if resource, _ := details["resource"].(string); path.Ext(resource) != ".waitForTaskToken" {
			continue
		}
		token := receiveToken(t, cloud, string(queue[1]))
		var err error
		if succeeded != nil {
			_, err = client.SendTaskSuccess(t.Context(), &sfn.SendTaskSuccessInput{TaskToken: &token, Output: aws.String(asText(t, succeeded["output"]))})
		} else {
			in := &sfn.SendTaskFailureInput{TaskToken: &token}
			if name, ok := failed["error"].(string); ok {
				in.Error = &name
			}
			if cause, ok := failed["cause"].(string); ok {
				in.Cause = &cause
			}
			_, err = client.SendTaskFailure(t.Context(), in)
		}
		require.NoError(t, err)
	}
}

func receiveToken(t *testing.T, cloud *localcloud.Cloud, queue string) string {
	var token string
	require.Eventually(t, func() bool {
		out, err := cloud.SQS.ReceiveMessage(t.Context(), &sdksqs.ReceiveMessageInput{
			QueueUrl: aws.String(cloud.URL() + "/" + account + "/" + queue), MaxNumberOfMessages: 1, VisibilityTimeout: 600,
		})
		if err != nil || len(out.Messages) == 0 {
			return false
		}
		var body struct{ TaskToken string }
		if json.Unmarshal([]byte(aws.ToString(out.Messages[0].Body)), &body) != nil {
			return false
		}
		token = body.TaskToken
		return token != ""
	}, time.Minute, 5*time.Millisecond)
	return token
}

func asText(t *testing.T, v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return string(raw)
}

// recordedHandlers do what the functions of the recordings do, by file.
func recordedHandlers(clk clock.Clock) map[string]lambda.Handler {
	raise := func(kind, message string) lambda.Handler {
		return func(context.Context, []byte) ([]byte, error) {
			return nil, messages.InvokeResponse_Error{Type: kind, Message: message}
		}
	}
	return map[string]lambda.Handler{
		"handler1.py": func(_ context.Context, event []byte) ([]byte, error) { return event, nil },
		"handler2.py": func(context.Context, []byte) ([]byte, error) {
			return []byte(`"` + strings.Repeat("a", 257*1024) + `"`), nil
		},
		"handler3.py": raise("Exception", "Some exception was raised."),
		"handler4.py": raise("CustomException", ""),
		"handler5.py": func(context.Context, []byte) ([]byte, error) { return []byte(`{"Return": "HelloWorld"}`), nil },
		"handler6.py": func(ctx context.Context, event []byte) ([]byte, error) { return event, clk.Sleep(ctx, time.Minute) },
	}
}

// comparison collects how an answer differs from the recorded one.
type comparison struct {
	path        string
	differences []string
}

func (c *comparison) say(format string, args ...any) {
	c.differences = append(c.differences, c.path+": "+fmt.Sprintf(format, args...))
}

func (c *comparison) value(name string, want, got any) {
	if want, got = plain(want), plain(got); !same(want, got) {
		c.say("%s is\n   %s, AWS answered\n   %s", name, brief(got), brief(want))
	}
}

// history compares the events one by one. Where they come in another order, as
// those of branches and iterations that run at once do on AWS as well, each must
// be there once, after the event that it was recorded after.
func (c *comparison) history(want, got []any) {
	if inOrder(want, got) {
		return
	}
	wanted, given := byID(want), byID(got)
	used := map[int]bool{}
	for _, w := range want {
		i := slices.IndexFunc(got, func(g any) bool { return !used[int(idOf(g, "id"))] && follows(wanted, given, w, g) })
		if i < 0 {
			c.say("this is not recorded here:\n   %s\nbut\n   %s", brief(plain(w)), kinds(got))
			continue
		}
		used[int(idOf(got[i], "id"))] = true
	}
	for _, g := range got {
		if !used[int(idOf(g, "id"))] {
			c.say("this AWS did not record:\n   %s\nbut\n   %s", brief(plain(g)), kinds(want))
		}
	}
}

func inOrder(want, got []any) bool {
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if !same(plain(want[i]), plain(got[i])) {
			return false
		}
	}
	return true
}

func idOf(event any, member string) float64 {
	id, _ := event.(map[string]any)[member].(float64)
	return id
}

func byID(events []any) map[float64]any {
	out := map[float64]any{}
	for _, e := range events {
		out[idOf(e, "id")] = e
	}
	return out
}

// follows says whether two events, and those that they follow, are the same but
// for their numbers.
func follows(wanted, given map[float64]any, w, g any) bool {
	for {
		if !same(withoutIDs(w), withoutIDs(g)) {
			return false
		}
		before, after := idOf(w, "previousEventId"), idOf(g, "previousEventId")
		if before == 0 || after == 0 {
			return before == after
		}
		w, g = wanted[before], given[after]
		if w == nil || g == nil {
			return false
		}
	}
}

func withoutIDs(event any) any {
	out := maps.Clone(plain(event).(map[string]any))
	delete(out, "id")
	delete(out, "previousEventId")
	return out
}

func kinds(events []any) string {
	var out []string
	for _, e := range events {
		m := e.(map[string]any)
		out = append(out, fmt.Sprintf("%v<%v:%v", m["id"], m["previousEventId"], m["type"]))
	}
	return strings.Join(out, " ")
}

func brief(v any) string {
	raw, _ := json.Marshal(v)
	if len(raw) > 1200 {
		raw = append(raw[:1200], "…"...)
	}
	return string(raw)
}

// plain reads JSON in strings, so that the order of members does not matter, and
// leaves out times and what NOTICE says is left out.
func plain(v any) any {
	switch v := v.(type) {
	case string:
		if strings.HasPrefix(v, "{") || strings.HasPrefix(v, "[") {
			var inner any
			if json.Unmarshal([]byte(v), &inner) == nil {
				return plain(inner)
			}
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name, member := range v {
			out[name] = plain(member)
		}
		delete(out, "timestamp")
		if _, isError := out["errorType"]; isError { // of a function in Python
			delete(out, "stackTrace")
			delete(out, "requestId")
		}
		return out
	}
	return v
}

var placeholder = regexp.MustCompile(`<?<[^<>]+>(:\d+>)?|lambda_function_(\d+_)?name`)

// standIns are names that the recordings have in the place of ids and times.
var standIns = []string{"snf_role_arn", "timestamp", "date", "start-time", "entered-time", "sqs_queue_url"}

// same compares with a recorded value, in which placeholders stand for any text.
func same(want, got any) bool {
	switch want := want.(type) {
	case string:
		text, ok := got.(string)
		if !ok {
			return false
		}
		if slices.Contains(standIns, strings.Trim(want, `"`)) {
			return text != ""
		}
		want = strings.ReplaceAll(want, "111111111111", account)
		var pattern strings.Builder
		last := 0
		for _, at := range placeholder.FindAllStringIndex(want, -1) {
			pattern.WriteString(regexp.QuoteMeta(want[last:at[0]]) + "(?s:.+)")
			last = at[1]
		}
		return regexp.MustCompile("^" + pattern.String() + regexp.QuoteMeta(want[last:]) + "$").MatchString(text)
	case []any:
		list, ok := got.([]any)
		return ok && slices.EqualFunc(want, list, same)
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok || len(want) != len(object) {
			return false
		}
		for name, member := range want {
			if other, ok := object[name]; !ok || !same(member, other) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, got)
}
