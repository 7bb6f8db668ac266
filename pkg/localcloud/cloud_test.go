package localcloud_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sns"
)

// listen sends the texts of a topic's messages to heard.
func listen(c *localcloud.Cloud, topic string, heard chan<- string) (cancel func()) {
	return c.SNS.Listen(topic, func(m sns.Message) { heard <- m.Body })
}

func TestAnInstancesStateChangesReachATopicThroughARule(t *testing.T) {
	c := newCloud(t)
	ctx := t.Context()
	topic := must[*sdksns.CreateTopicOutput](t)(c.SNS.CreateTopic(ctx, &sdksns.CreateTopicInput{Name: aws.String("states")})).TopicArn
	heard := make(chan string, 8)
	defer listen(c, *topic, heard)()
	_, err := c.Events.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String("r"), EventPattern: aws.String(`{"source":["aws.ec2"],"detail-type":["EC2 Instance State-change Notification"],"detail":{"state":["running","terminated"]}}`)})
	require.NoError(t, err)
	_, err = c.Events.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("r"), Targets: []eventtypes.Target{{Id: aws.String("t"), Arn: topic, InputPath: aws.String("$.detail.state")}}})
	require.NoError(t, err)
	instance := running(t, c)
	assert.Equal(t, `"running"`, <-heard)
	_, err = c.EC2.TerminateInstances(ctx, &sdkec2.TerminateInstancesInput{InstanceIds: []string{instance}})
	require.NoError(t, err)
	assert.Equal(t, `"terminated"`, <-heard)
}

func TestACapacityFaultFailsOneInstanceType(t *testing.T) {
	c := newCloud(t)
	_, err := c.Faults.Add(fault.Rule{InstanceType: "t3.medium", Times: -1})
	require.NoError(t, err)
	image := baseImage(t, c)
	run := func(kind ec2types.InstanceType) error {
		_, err := c.EC2.RunInstances(t.Context(), &sdkec2.RunInstancesInput{ImageId: aws.String(image), InstanceType: kind, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
		return err
	}
	assert.ErrorContains(t, run(ec2types.InstanceTypeT3Medium), "InsufficientInstanceCapacity")
	assert.NoError(t, run(ec2types.InstanceTypeT3Large))
}

func TestFaultsAndHealthAreForProgramsOnThisMachine(t *testing.T) {
	c := listening(t)
	call := func(k aws.Credentials, method, path, body string) (int, string) {
		response, err := localcloud.Control{URL: c.URL(), Credentials: k}.Do(t.Context(), method, path, []byte(body))
		require.NoError(t, err)
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(raw)
	}
	root := c.Credentials(account)
	status, body := call(root, http.MethodGet, localcloud.HealthPath, "")
	assert.Equal(t, 200, status)
	var health localcloud.Health
	require.NoError(t, json.Unmarshal([]byte(body), &health))
	assert.Equal(t, "ok", health.Status)
	assert.Equal(t, "simulated", health.Guests)
	assert.Equal(t, []string{"autoscaling", "cloudformation", "ebs", "ec2", "ecr", "events", "iam", "inspector-scan", "kms", "lambda", "s3", "scheduler", "secretsmanager", "securityhub", "servicequotas", "sns", "sqs", "ssm", "states", "sts"}, health.Services)

	status, body = call(root, http.MethodPost, fault.Path, `[{"service":"ssm","operation":"GetParameter","code":"ThrottlingException","times":-1}]`)
	assert.Equal(t, 201, status, body)
	cfg := c.AWSConfig("")
	cfg.RetryMaxAttempts = 1
	_, err := sdkssm.NewFromConfig(cfg).GetParameter(t.Context(), &sdkssm.GetParameterInput{Name: aws.String("/x")})
	assert.ErrorContains(t, err, "ThrottlingException")

	role, err := c.AWSConfigOfRole("", testRole, "f").Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	for sentence, k := range map[string]aws.Credentials{
		"who has no key":          {AccessKeyID: "test", SecretAccessKey: "test"},
		"who guesses the secret":  {AccessKeyID: account, SecretAccessKey: "test"},
		"the session of any role": role,
	} {
		t.Run(sentence+" is kept out", func(t *testing.T) {
			for _, path := range []string{localcloud.HealthPath, localcloud.HoldingsPath, localcloud.PermissionsPath, fault.Path} {
				status, body := call(k, http.MethodGet, path, "")
				assert.Equal(t, http.StatusForbidden, status, body)
			}
		})
	}
	for sentence, change := range map[string]func(*http.Request){
		"who does not sign":           func(*http.Request) {},
		"a picture in a page":         func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"a guest":                     func(r *http.Request) { r.RemoteAddr = "172.31.0.10:1234" },
		"a request by the guest name": func(r *http.Request) { r.Host = "localcloud.internal" },
		"a page of another site":      func(r *http.Request) { r.Header.Set("Origin", "https://example.com") },
		"a rebound name":              func(r *http.Request) { r.Host = "evil.example.com" },
	} {
		t.Run(sentence+" is kept out", func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "http://127.0.0.1"+fault.Path, nil)
			r.RemoteAddr = "127.0.0.1:1"
			change(r)
			w := httptest.NewRecorder()
			c.Handler().ServeHTTP(w, r)
			assert.Equal(t, http.StatusForbidden, w.Code)
		})
	}
}

func TestListenRefusesWhatOthersCouldReach(t *testing.T) {
	c := newCloud(t)
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "[::]:0", "example.com:80", "127.0.0.1"} {
		t.Run(addr, func(t *testing.T) {
			_, err := c.Listen(t.Context(), addr)
			assert.ErrorContains(t, err, "only loopback addresses are allowed")
		})
	}
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, err = c.Listen(t.Context(), taken.Addr().String())
	require.ErrorContains(t, err, "is in use by another program")
	assert.ErrorContains(t, err, "--listen")
	_, err = c.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err, "a refused address does no harm")
	assert.Contains(t, c.Environment(), "AWS_ENDPOINT_URL="+c.URL())
}

func TestAStateFolderHasOneUser(t *testing.T) {
	dir := t.TempDir()
	first := newCloud(t, func(cfg *localcloud.Config) { cfg.StateDir = dir })
	_, err := localcloud.New(t.Context(), localcloud.Config{Driver: echoing(clock.NewReal()), StateDir: dir})
	assert.ErrorContains(t, err, fmt.Sprintf("is in use by pid %d", os.Getpid()))
	require.NoError(t, first.Close(t.Context()))
	newCloud(t, func(cfg *localcloud.Config) { cfg.StateDir = dir })
}

func TestADamagedStateIsNamedAndLeftAlone(t *testing.T) {
	for sentence, tc := range map[string]struct{ content, want string }{
		"not JSON":           {`{"version":1,`, "is damaged"},
		"of another version": {`{"version":99}`, "has version 99"},
		"of a broken part":   {`{"version":1,"services":{"kms":[]}}`, "the state of kms"},
	} {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "state.json")
			require.NoError(t, os.WriteFile(file, []byte(tc.content), 0o600))
			_, err := localcloud.New(t.Context(), localcloud.Config{Driver: echoing(clock.NewReal()), StateDir: dir})
			require.ErrorContains(t, err, tc.want)
			assert.ErrorContains(t, err, "move the file away")
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, tc.content, string(raw))
		})
	}
}

func TestATemporaryStateIsRemoved(t *testing.T) {
	c := newCloud(t)
	assert.DirExists(t, c.Dir())
	require.NoError(t, c.Close(t.Context()))
	assert.NoDirExists(t, c.Dir())
}

// childDir tells this test's binary to be the process that is killed.
const childDir = "LOCALCLOUD_TEST_CHILD_STATE"

// TestMain runs the tests or, started by TestAKilledProcessLosesNothingSaved,
// an embedded AWS that fills its state and waits to be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := fill(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("filled")
		select {}
	}
	os.Exit(m.Run())
}

func fill(dir string) error {
	ctx := context.Background()
	c, err := localcloud.New(ctx, localcloud.Config{Driver: echoing(clock.NewReal()), StateDir: dir})
	if err != nil {
		return err
	}
	if _, err := c.SSM.PutParameter(ctx, &sdkssm.PutParameterInput{Name: aws.String("/p"), Type: "String", Value: aws.String("v")}); err != nil {
		return err
	}
	if _, err := c.S3.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: aws.String("b-1")}); err != nil {
		return err
	}
	_, err = c.S3.PutObject(ctx, &sdks3.PutObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k"), Body: strings.NewReader("content")})
	return err
}

func TestAKilledProcessLosesNothingSaved(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "filled\n", line)
	_, err = localcloud.New(t.Context(), localcloud.Config{Driver: echoing(clock.NewReal()), StateDir: dir})
	require.ErrorContains(t, err, fmt.Sprintf("is in use by pid %d", child.Process.Pid))
	require.Eventually(t, func() bool { // the autosave, without anybody calling Save
		raw, err := os.ReadFile(filepath.Join(dir, "state.json"))
		return err == nil && strings.Contains(string(raw), `"b-1"`) && strings.Contains(string(raw), `"/p"`) && strings.Contains(string(raw), `"k"`)
	}, time.Minute, 50*time.Millisecond)
	require.NoError(t, child.Process.Kill())
	_ = child.Wait() // it was killed

	c := newCloud(t, func(cfg *localcloud.Config) { cfg.StateDir = dir })
	p, err := c.SSM.GetParameter(t.Context(), &sdkssm.GetParameterInput{Name: aws.String("/p")})
	require.NoError(t, err)
	assert.Equal(t, "v", *p.Parameter.Value)
	o, err := c.S3.GetObject(t.Context(), &sdks3.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
	require.NoError(t, err)
	defer o.Body.Close()
	raw, err := io.ReadAll(o.Body)
	require.NoError(t, err)
	assert.Equal(t, "content", string(raw))
}

func TestAnInstanceIsTerminatedAfterARestart(t *testing.T) {
	dir := t.TempDir()
	first := newCloud(t, func(cfg *localcloud.Config) { cfg.StateDir = dir })
	id := running(t, first)
	require.NoError(t, first.Save())
	require.NoError(t, first.Close(t.Context()))
	second := newCloud(t, func(cfg *localcloud.Config) { cfg.StateDir = dir })
	out, err := second.EC2.DescribeInstances(t.Context(), &sdkec2.DescribeInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	assert.Equal(t, ec2types.InstanceStateNameTerminated, out.Reservations[0].Instances[0].State.Name)
}
