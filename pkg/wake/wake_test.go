package wake_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	s3door "github.com/ami-factory/ami-factory/pkg/localcloud/s3"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/wake"
)

const bucket = "factory"

var start = time.Date(2026, 3, 1, 12, 0, 0, 500e6, time.UTC)

// tasks are Step Functions' tasks by token: what each was returned with. A token of no
// task, or one that was returned before, is refused as AWS does.
type tasks map[string]string

func (s tasks) SendTaskSuccess(_ context.Context, in *sfn.SendTaskSuccessInput, _ ...func(*sfn.Options)) (*sfn.SendTaskSuccessOutput, error) {
	output, known := s[*in.TaskToken]
	switch {
	case !known:
		return nil, &sfntypes.TaskDoesNotExist{}
	case output != "":
		return nil, &sfntypes.TaskTimedOut{}
	}
	s[*in.TaskToken] = *in.Output
	return &sfn.SendTaskSuccessOutput{}, nil
}

// world is a bucket on the embedded S3, and tasks.
type world struct {
	*testing.T
	wake.Wake
	s3    *s3door.Service
	tasks tasks
}

func newWorld(t *testing.T) *world {
	t.Helper()
	service, err := s3door.New(s3door.Config{Clock: clock.NewVirtual(start), Default: wire.Caller{Account: "111122223333", Region: "eu-west-1"}, Dir: t.TempDir()})
	require.NoError(t, err)
	_, err = service.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	require.NoError(t, err)
	w := &world{T: t, s3: service, tasks: tasks{}}
	w.Wake = wake.Wake{Store: store.Store{Bucket: bucket, API: service}, Keys: store.Directory{Bucket: bucket, API: service}, Tasks: w.tasks}
	return w
}

// wait is a state that waits; change alters what it hands over.
func (w *world) wait(token string, change func(map[string]any)) error {
	w.Helper()
	w.tasks[token] = ""
	in := map[string]any{
		"execution": map[string]any{"id": "arn", "name": "bake-1", "startTime": start}, "stage": "AwaitImage", "now": start, "token": token,
		"resources": []string{"image/eu-west-1/ami-0a"}, "since": start, "seen": "", "waits": 0, "over": false,
	}
	if change != nil {
		change(in)
	}
	raw, err := json.Marshal(in)
	require.NoError(w, err)
	_, err = w.Wake.Run(w.Context(), raw)
	return err
}

// event is of the image, some seconds after the start.
func (w *world) event(id string, after float64) wake.Output {
	w.Helper()
	at := start.Add(time.Duration(after * float64(time.Second))).Truncate(time.Second)
	out, err := w.Wake.Run(w.Context(), json.RawMessage(fmt.Sprintf(
		`{"version":"0","id":%q,"source":"aws.ec2","detail-type":"EC2 AMI State Change","account":"111122223333","time":%q,"region":"eu-west-1","resources":[],"detail":{"ImageId":"ami-0a","State":"available"}}`,
		id, at.Format(time.RFC3339))))
	require.NoError(w, err)
	return out
}

func (w *world) keys(prefix string) []string {
	w.Helper()
	keys, err := w.Keys.Keys(w.Context(), prefix)
	require.NoError(w, err)
	return keys
}

func TestAWaitIsWokenByItsEventWhicheverComesFirst(t *testing.T) {
	for sentence, tc := range map[string]struct {
		do   func(*world)
		want tasks
	}{
		"the event comes after the token": {
			func(w *world) { require.NoError(w, w.wait("a", nil)); w.event("e1", 5) },
			tasks{"a": `{"event":"e1"}`},
		},
		"it comes before": {
			func(w *world) { w.event("e1", 5); require.NoError(w, w.wait("a", nil)) },
			tasks{"a": `{"event":"e1"}`},
		},
		"it comes in the second in which the look began": {
			func(w *world) { w.event("e1", 0); require.NoError(w, w.wait("a", nil)) },
			tasks{"a": `{"event":"e1"}`},
		},
		"it came long before the look": {
			func(w *world) { w.event("e1", -40); require.NoError(w, w.wait("a", nil)) },
			tasks{"a": ""},
		},
		"it has ended a wait of the execution": {
			func(w *world) {
				w.event("e1", 0)
				require.NoError(w, w.wait("a", func(in map[string]any) { in["seen"] = "e0 e1 " }))
			},
			tasks{"a": ""},
		},
		"a late one does not hide a newer one": {
			func(w *world) {
				w.event("e2", 5)
				w.event("e1", -45)
				require.NoError(w, w.wait("a", nil))
			},
			tasks{"a": `{"event":"e2"}`},
		},
		"it comes five times": {
			func(w *world) {
				require.NoError(w, w.wait("a", nil))
				for range 5 {
					w.event("e1", 5)
				}
			},
			tasks{"a": `{"event":"e1"}`},
		},
		"it comes again when the next wait has begun": {
			func(w *world) {
				require.NoError(w, w.wait("a", nil))
				w.event("e1", 5)
				require.NoError(w, w.wait("b", func(in map[string]any) { in["seen"], in["waits"], in["since"] = "e1 ", 1, start.Add(6*time.Second) }))
			},
			tasks{"a": `{"event":"e1"}`, "b": ""},
		},
		"it is a little older than the look, and is delivered before the next wait begins": {
			func(w *world) {
				w.event("e1", 5)
				require.NoError(w, w.wait("a", func(in map[string]any) { in["since"] = start.Add(7 * time.Second) }))
			},
			tasks{"a": `{"event":"e1"}`},
		},
		"it is lost, and the next look waits again": {
			func(w *world) {
				require.NoError(w, w.wait("a", nil))
				w.tasks["a"] = "timed out"
				require.NoError(w, w.wait("b", func(in map[string]any) { in["waits"] = 1 }))
				w.event("e1", 90)
			},
			tasks{"a": "timed out", "b": `{"event":"e1"}`},
		},
		"two executions wait": {
			func(w *world) {
				require.NoError(w, w.wait("a", nil))
				require.NoError(w, w.wait("b", func(in map[string]any) { in["execution"].(map[string]any)["name"] = "bake-2" }))
				w.event("e1", 5)
			},
			tasks{"a": `{"event":"e1"}`, "b": `{"event":"e1"}`},
		},
		"the execution has ended": {
			func(w *world) {
				require.NoError(w, w.wait("a", nil))
				delete(w.tasks, "a")
				assert.Equal(w, []string{"bake-1 AwaitImage"}, w.event("e1", 5).Late)
			},
			tasks{},
		},
		"a wait for two things is woken by either": {
			func(w *world) {
				require.NoError(w, w.wait("a", func(in map[string]any) { in["resources"] = []string{"execution/bake-1", "image/eu-west-1/ami-0a"} }))
				w.event("e1", 5)
			},
			tasks{"a": `{"event":"e1"}`},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			tc.do(w)
			assert.Equal(t, tc.want, w.tasks)
			kept := 0
			for _, output := range tc.want {
				if output == "" {
					kept++
				}
			}
			assert.Len(t, w.keys(contract.WaitTokensPrefix), kept, "tokens that were used, or are of no use, are deleted")
			assert.Len(t, w.keys(contract.WaitIndexPrefix), kept)
		})
	}
}

func TestAStepThatHasWaitedTooLongIsNotWokenAgain(t *testing.T) {
	w := newWorld(t)
	w.event("e1", 5)
	err := w.wait("a", func(in map[string]any) { in["over"] = true })
	require.ErrorContains(t, err, "AwaitImage has waited too long")
	assert.Equal(t, tasks{"a": ""}, w.tasks)
	assert.Empty(t, w.keys(contract.WaitTokensPrefix))
}

func TestWhatIsNeitherAWaitNorAnEventIsRefused(t *testing.T) {
	event := func(source, kind, detail string) string {
		return `{"id":"e1","source":"` + source + `","detail-type":"` + kind + `","time":"2026-03-01T12:00:00Z","region":"eu-west-1","detail":` + detail + `}`
	}
	for sentence, tc := range map[string]struct{ payload, say string }{
		"no JSON":                  {`x`, "neither an event nor a wait"},
		"a field too many":         {`{"tocken":"a"}`, "tocken"},
		"nothing":                  {`{}`, `execution.name is ""`},
		"an event of another kind": {event("aws.ec2", "EBS Volume Notification", `{}`), "ends no wait"},
		"an id with a slash":       {event("aws.ec2", "EC2 AMI State Change", `{"ImageId":"ami-0a/../x"}`), "names no resource"},
		"an instance elsewhere":    {event("aws.ssm", "EC2 Command Invocation Status-change Notification", `{"instance-id":"mi-0a"}`), "names no resource"},
		"an object that no guest uploads": {
			event("aws.s3", "Object Created", `{"bucket":{"name":"factory"},"object":{"key":"executions/x/report.json"}}`), "none that ends a wait",
		},
		"an object of another bucket": {
			event("aws.s3", "Object Created", `{"bucket":{"name":"other"},"object":{"key":"executions/x/provisioned.json"}}`), "none that ends a wait",
		},
		"an event without its time": {strings.Replace(event("aws.ec2", "EC2 AMI State Change", `{"ImageId":"ami-0a"}`), `"time":"2026-03-01T12:00:00Z",`, "", 1), "lacks its id or its time"},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.Wake.Run(t.Context(), json.RawMessage(tc.payload))
			require.Error(t, err)
			assert.Equal(t, failure.InvalidInput, failure.CodeOf(err))
			assert.ErrorContains(t, err, tc.say)
			assert.Empty(t, w.keys(""))
		})
	}
}

func TestEachEventNamesItsResource(t *testing.T) {
	for _, tc := range []struct{ source, kind, detail, want string }{
		{"aws.ec2", "EC2 Instance State-change Notification", `{"instance-id":"i-0a","state":"stopped"}`, "instance/i-0a"},
		{"aws.ec2", "EC2 AMI State Change", `{"ImageId":"ami-0a","State":"failed","ErrorMessage":"x"}`, "image/eu-central-1/ami-0a"},
		{"aws.ssm", "EC2 Command Invocation Status-change Notification", `{"command-id":"c","instance-id":"i-0a","status":"Success"}`, "instance/i-0a"},
		{"aws.s3", "Object Created", `{"version":"0","bucket":{"name":"factory"},"object":{"key":"executions/bake-1/provisioned.json","size":2}}`, "execution/bake-1"},
	} {
		w := newWorld(t)
		out, err := w.Wake.Run(t.Context(), json.RawMessage(`{"id":"e1","source":"`+tc.source+`","detail-type":"`+tc.kind+`","time":"2026-03-01T12:00:00Z","region":"eu-central-1","detail":`+tc.detail+`}`))
		require.NoError(t, err, tc.kind)
		assert.Equal(t, tc.want, out.Resource)
		assert.Equal(t, []string{"waits/marks/" + tc.want + "/20260301T120000Z-e1"}, w.keys(""))
	}
}

// ownOnly is an S3 that refuses to read what guests upload.
type ownOnly struct {
	store.ObjectAPI
	t *testing.T
}

func (o ownOnly) GetObject(ctx context.Context, in *s3.GetObjectInput, opts ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	assert.True(o.t, strings.HasPrefix(*in.Key, "waits/"), "wake reads %s", *in.Key)
	return o.ObjectAPI.GetObject(ctx, in, opts...)
}

// The state that is woken looks at the object, and bounds what it reads.
func TestAnUploadWakesWhateverItsSizeAndIsNotRead(t *testing.T) {
	for _, size := range []int64{0, 1, contract.BuilderUploadBytes, 5 << 30} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := newWorld(t)
			w.Store.API = ownOnly{w.Store.API, t}
			require.NoError(t, w.wait("a", func(in map[string]any) { in["resources"] = []string{"execution/bake-1"} }))
			out, err := w.Wake.Run(t.Context(), json.RawMessage(fmt.Sprintf(
				`{"version":"0","id":"e1","source":"aws.s3","detail-type":"Object Created","time":%q,"region":"eu-west-1","detail":{"bucket":{"name":%q},"object":{"key":"executions/bake-1/provisioned.json","size":%d}}}`,
				start.Add(time.Second).Format(time.RFC3339), bucket, size)))
			require.NoError(t, err)
			assert.Equal(t, []string{"bake-1 AwaitImage"}, out.Woken)
		})
	}
}
