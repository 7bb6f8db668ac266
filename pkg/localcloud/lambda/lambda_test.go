package lambda_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

const role = "arn:aws:iam::111122223333:role/function"

var (
	ctx = context.Background()
	// The states' Invoker is what this package gives them.
	_ states.Invoker = lambda.Invoker{}
	_ wire.Stateful  = (*lambda.Service)(nil)
)

// codeDir is the folder of the test's bootstrap, built once for all tests.
var codeDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if dir := os.Getenv("TEST_PARENT_OF"); dir != "" {
		return beParent(dir)
	}
	dir, err := os.MkdirTemp("", "bootstrap")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", filepath.Join(dir, "bootstrap"), "./testdata/function")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	codeDir = dir
	return m.Run()
}

// beParent runs a function of dir, prints its process id and waits to be killed.
func beParent(dir string) int {
	s := lambda.New(lambda.Config{Clock: clock.NewReal(), Default: wire.Caller{Account: "111122223333", Region: "eu-west-1"}})
	if err := s.Deploy(lambda.Function{Name: "f", Dir: dir, Timeout: time.Minute}); err != nil {
		panic(err)
	}
	out, err := s.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`{"Do":"sleep"}`)})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(out.Payload))
	select {}
}

func TestProcessesDieWithTheirParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends processes with their parent")
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "TEST_PARENT_OF="+codeDir)
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	defer func() { _ = parent.Process.Kill() }()
	var pid int
	_, err = fmt.Fscan(out, &pid)
	require.NoError(t, err)
	require.True(t, alive(t, pid))
	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait())
	require.Eventually(t, func() bool { return !alive(t, pid) }, time.Minute, time.Millisecond)
}

func newService(t *testing.T, edit func(*lambda.Config)) *lambda.Service {
	t.Helper()
	c := lambda.Config{
		Clock:   clock.NewReal(),
		Default: wire.Caller{Account: "111122223333", Region: "eu-west-1"},
		Dir:     t.TempDir(),
	}
	if edit != nil {
		edit(&c)
	}
	s := lambda.New(c)
	t.Cleanup(s.Close)
	return s
}

// client is the SDK's client of a service that is served over HTTP.
func client(t *testing.T, s *lambda.Service) *awslambda.Client {
	t.Helper()
	server := httptest.NewServer(wire.Handler(wiretest.Options(), s.Wire()))
	t.Cleanup(server.Close)
	return awslambda.New(awslambda.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1,
		Credentials: wiretest.Credentials(wiretest.Account),
	})
}

func deploy(t *testing.T, s *lambda.Service, edit func(*lambda.Function)) {
	t.Helper()
	f := lambda.Function{Name: "f", Dir: codeDir, Timeout: time.Minute, MemoryMiB: 256, Role: role}
	if edit != nil {
		edit(&f)
	}
	require.NoError(t, s.Deploy(f))
}

type invoker interface {
	Invoke(context.Context, *awslambda.InvokeInput, ...func(*awslambda.Options)) (*awslambda.InvokeOutput, error)
}

func invoke(t *testing.T, c invoker, event string) *awslambda.InvokeOutput {
	t.Helper()
	out, err := c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(event)})
	require.NoError(t, err)
	return out
}

// alive reports whether a process still runs; a zombie does not.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	if err := syscall.Kill(pid, 0); err != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func itoa(n int) string { raw, _ := json.Marshal(n); return string(raw) }

func TestNativeFunctionsAnswer(t *testing.T) {
	s := newService(t, nil)
	deploy(t, s, nil)
	c := client(t, s)
	tests := map[string]struct {
		event, want, functionError string
		contains                   []string
	}{
		"an answer":                     {event: `{"Do":"echo"}`, want: `{"Do":"echo","Seconds":0,"Bytes":0}`},
		"an error known by its type":    {event: `{"Do":"typed error"}`, functionError: "Unhandled", want: `{"errorMessage":"no capacity","errorType":"CapacityUnavailable"}`},
		"an error with a name":          {event: `{"Do":"named error"}`, functionError: "Unhandled", want: `{"errorMessage":"booting","errorType":"InstanceNotReady"}`},
		"an error that was wrapped":     {event: `{"Do":"wrapped error"}`, functionError: "Unhandled", want: `{"errorMessage":"outer: inner","errorType":"wrapError"}`},
		"a panic":                       {event: `{"Do":"panic"}`, functionError: "Unhandled", contains: []string{`"errorMessage":"out of luck"`, `"errorType":"string"`}},
		"an exit":                       {event: `{"Do":"exit"}`, functionError: "Unhandled", contains: []string{`"errorType":"Runtime.ExitError"`, `Runtime exited with error: exit status 7`, `last words`}},
		"a response of nearly 6 MB":     {event: `{"Do":"large","Bytes":6291454}`, contains: []string{"xxx"}},
		"a response of more than 6 MB":  {event: `{"Do":"large","Bytes":6291455}`, functionError: "Unhandled", contains: []string{`"errorType":"Function.ResponseSizeTooLarge"`}},
		"an event that does not decode": {event: `{"Bytes":"x"}`, functionError: "Unhandled", contains: []string{`UnmarshalTypeError`}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			out := invoke(t, c, tc.event)
			assert.Equal(t, tc.functionError, aws.ToString(out.FunctionError))
			assert.EqualValues(t, 200, out.StatusCode)
			if tc.want != "" {
				assert.JSONEq(t, tc.want, string(out.Payload))
			}
			for _, part := range tc.contains {
				assert.Contains(t, string(out.Payload), part)
			}
			again := invoke(t, c, `{"Do":"echo"}`)
			assert.Nil(t, again.FunctionError, "the function works afterwards")
		})
	}
}

// TestNobodyTakesInvocationsOfAFunction does what another user of this machine, or a
// page in a browser of it, can do: who waits for work first gets the next event, and
// who knows an invocation answers it.
func TestNobodyTakesInvocationsOfAFunction(t *testing.T) {
	s := newService(t, nil)
	deploy(t, s, nil)
	var env []string
	require.NoError(t, json.Unmarshal(invoke(t, s, `{"Do":"environment"}`).Payload, &env))
	api := map[string]string{}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		api[name] = value
	}
	address := api["AWS_LAMBDA_RUNTIME_API"]
	host, secret, _ := strings.Cut(address, "/")
	require.NotEmpty(t, host)
	const path = "/2018-06-01/runtime/invocation/"
	wrong := strings.Repeat("0", len(secret))
	tests := map[string]struct {
		method, path string
		header       http.Header
		host         string
	}{
		"work taken, without the secret":                      {http.MethodGet, path + "next", nil, ""},
		"work taken, with another secret":                     {http.MethodGet, "/" + wrong + path + "next", nil, ""},
		"work taken, with a part of the secret":               {http.MethodGet, "/" + secret[:max(len(secret)-1, 0)] + path + "next", nil, ""},
		"work taken, through an empty element":                {http.MethodGet, "//" + path + "next", nil, ""},
		"work taken, around an element":                       {http.MethodGet, "/" + wrong + "/.." + path + "next", nil, ""},
		"an invocation answered, without the secret":          {http.MethodPost, path + "1/response", nil, ""},
		"an invocation failed, without the secret":            {http.MethodPost, path + "1/error", nil, ""},
		"the function declared broken, without the secret":    {http.MethodPost, "/2018-06-01/runtime/init/error", nil, ""},
		"work taken by a page whose name points at loopback":  {http.MethodGet, "/" + secret + path + "next", nil, "page.example:80"},
		"work taken by another name of this machine":          {http.MethodGet, "/" + secret + path + "next", nil, "localhost"},
		"work taken by a page of another site, with a secret": {http.MethodGet, "/" + secret + path + "next", http.Header{"Sec-Fetch-Site": {"cross-site"}}, ""},
		"work taken by a script of another site":              {http.MethodGet, "/" + secret + path + "next", http.Header{"Origin": {"https://page.example"}}, ""},
		"the root":                                            {http.MethodGet, "/", nil, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			answered := make(chan string, 1)
			go func() {
				r, err := http.NewRequestWithContext(t.Context(), tc.method, "http://"+host+tc.path, strings.NewReader("{}"))
				if err != nil {
					answered <- err.Error()
					return
				}
				maps.Copy(r.Header, tc.header)
				if tc.host != "" {
					r.Host = tc.host
				}
				// Redirects are not followed: the answer itself counts.
				res, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					answered <- err.Error()
					return
				}
				defer func() { _ = res.Body.Close() }()
				body, err := io.ReadAll(res.Body)
				answered <- fmt.Sprint(res.StatusCode, " ", string(body), err)
			}()
			// The function works, whoever waits. An attack that is not refused waits
			// for the work of a later invocation.
			var answer string
			for answer == "" {
				out := invoke(t, s, `{"Do":"echo"}`)
				require.Nil(t, out.FunctionError)
				assert.JSONEq(t, `{"Do":"echo","Seconds":0,"Bytes":0}`, string(out.Payload))
				select {
				case answer = <-answered:
				default:
				}
			}
			assert.Equal(t, "404 404 page not found\n<nil>", answer)
		})
	}
	assert.GreaterOrEqual(t, len(secret), 32, "the address holds 128 bits in hexadecimal digits")
	other := newService(t, nil)
	deploy(t, other, nil)
	require.NoError(t, json.Unmarshal(invoke(t, other, `{"Do":"environment"}`).Payload, &env))
	assert.NotContains(t, strings.Join(env, "\n"), secret, "each process has its own")
}

func TestATimeOutEndsTheInvocation(t *testing.T) {
	s := newService(t, nil)
	deploy(t, s, func(f *lambda.Function) { f.Timeout = time.Second })
	out := invoke(t, client(t, s), `{"Do":"sleep","Seconds":600}`)
	assert.Equal(t, "Unhandled", aws.ToString(out.FunctionError))
	assert.Contains(t, string(out.Payload), `"errorType":"Sandbox.Timedout"`)
	assert.Contains(t, string(out.Payload), `Task timed out after 1.00 seconds`)
}

func TestTheEnvironmentIsLambdasAndTheFunctionsOwn(t *testing.T) {
	t.Setenv("SECRET_OF_THE_HOST", "x")
	s := newService(t, func(c *lambda.Config) {
		c.Credentials = func(account, region, roleARN, function string) (lambda.Credentials, error) {
			assert.Equal(t, []string{"111122223333", "eu-west-1", role, "f"}, []string{account, region, roleARN, function})
			return lambda.Credentials{AccessKeyID: "ASIA1", SecretAccessKey: "s", SessionToken: "t"}, nil
		}
	})
	deploy(t, s, func(f *lambda.Function) { f.Env = map[string]string{"MINE": "1", "TZ": ":Europe/Berlin"} })
	var env []string
	require.NoError(t, json.Unmarshal(invoke(t, s, `{"Do":"environment"}`).Payload, &env))
	var got []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_LOG_STREAM_NAME", "LAMBDA_TASK_ROOT":
			got = append(got, name)
		case "_X_AMZN_TRACE_ID": // set by the function's own runtime
		default:
			got = append(got, e)
		}
	}
	assert.Equal(t, []string{
		"AWS_ACCESS_KEY=ASIA1", "AWS_ACCESS_KEY_ID=ASIA1", "AWS_DEFAULT_REGION=eu-west-1",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256", "AWS_LAMBDA_FUNCTION_NAME=f", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand", "AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/f", "AWS_LAMBDA_LOG_STREAM_NAME",
		"AWS_LAMBDA_RUNTIME_API", "AWS_REGION=eu-west-1", "AWS_SECRET_ACCESS_KEY=s", "AWS_SESSION_TOKEN=t",
		"LAMBDA_RUNTIME_DIR=/var/runtime", "LAMBDA_TASK_ROOT", "LANG=en_US.UTF-8",
		"LD_LIBRARY_PATH=/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
		"MINE=1", "PATH=/usr/local/bin:/usr/bin/:/bin:/opt/bin", "TZ=:Europe/Berlin", "_HANDLER=bootstrap",
	}, got)
}

func TestProcessesAreReusedAndDescribeTheirInvocation(t *testing.T) {
	s := newService(t, nil)
	deploy(t, s, nil)
	var first, second struct {
		ARN, ID, Directory string
		Calls, PID         int
		Left               bool
	}
	require.NoError(t, json.Unmarshal(invoke(t, s, `{"Do":"context"}`).Payload, &first))
	require.NoError(t, json.Unmarshal(invoke(t, s, `{"Do":"context"}`).Payload, &second))
	assert.Equal(t, "arn:aws:lambda:eu-west-1:111122223333:function:f", first.ARN)
	assert.Equal(t, codeDir, first.Directory)
	assert.True(t, first.Left)
	assert.Equal(t, first.PID, second.PID)
	assert.Equal(t, 2, second.Calls)
	assert.NotEqual(t, first.ID, second.ID)

	stats := s.Stats()
	require.Len(t, stats, 1)
	assert.Equal(t, first.ARN, stats[0].Function)
	assert.Equal(t, 2, stats[0].Invocations)
	assert.Len(t, stats[0].Cold, 1)
	assert.Len(t, stats[0].Warm, 1)
}

func TestConcurrentInvocationsGetProcessesOfTheirOwnUpToTheBound(t *testing.T) {
	s := newService(t, func(c *lambda.Config) { c.MaxProcesses = 2 })
	deploy(t, s, nil)
	var mu sync.Mutex
	pids := map[string]int{}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			out, err := s.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`{"Do":"sleep","Seconds":0.5}`)})
			if !assert.NoError(t, err) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			pids[string(out.Payload)]++
		})
	}
	group.Wait()
	assert.Len(t, pids, 2)
}

func TestIdleProcessesEnd(t *testing.T) {
	s := newService(t, func(c *lambda.Config) { c.Idle = time.Millisecond })
	deploy(t, s, nil)
	var pid int
	require.NoError(t, json.Unmarshal(invoke(t, s, `{"Do":"sleep"}`).Payload, &pid))
	require.Eventually(t, func() bool { return !alive(t, pid) }, time.Minute, time.Millisecond)
	assert.Nil(t, invoke(t, s, `{"Do":"echo"}`).FunctionError)
}

func TestAProcessGetsNoWorkWhenItsCredentialsAreAboutToEnd(t *testing.T) {
	virtual := clock.NewVirtual(time.Now())
	s := newService(t, func(c *lambda.Config) { c.Clock, c.Life = virtual, 11*time.Hour })
	deploy(t, s, nil)
	process := func() (pid int) {
		require.NoError(t, json.Unmarshal(invoke(t, s, `{"Do":"sleep"}`).Payload, &pid))
		return pid
	}
	first := process()
	require.NoError(t, virtual.Sleep(ctx, 10*time.Hour))
	assert.Equal(t, first, process())
	require.NoError(t, virtual.Sleep(ctx, time.Hour))
	assert.NotEqual(t, first, process())
	assert.False(t, alive(t, first))
}

func TestCloseAndReplacementEndProcessesAndTheirChildren(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	tests := map[string]func(t *testing.T, s *lambda.Service){
		"Close": func(t *testing.T, s *lambda.Service) { s.Close() },
		"DeleteFunction": func(t *testing.T, s *lambda.Service) {
			_, err := s.DeleteFunction(ctx, &awslambda.DeleteFunctionInput{FunctionName: aws.String("f")})
			require.NoError(t, err)
		},
		"Deploy": func(t *testing.T, s *lambda.Service) { deploy(t, s, nil) },
		"a time-out": func(t *testing.T, s *lambda.Service) {
			assert.Contains(t, string(invoke(t, s, `{"Do":"sleep","Seconds":60}`).Payload), "Sandbox.Timedout")
		},
		"a caller that gives up": func(t *testing.T, s *lambda.Service) {
			given, cancel := context.WithCancel(ctx)
			go cancel()
			_, err := s.Invoke(given, &awslambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`{"Do":"sleep","Seconds":60}`)})
			require.ErrorIs(t, err, context.Canceled)
			s.Close()
		},
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			s := newService(t, nil)
			deploy(t, s, func(f *lambda.Function) { f.Timeout = 2 * time.Second })
			var pid, child int
			require.NoError(t, json.Unmarshal(invoke(t, s, `{"Do":"sleep"}`).Payload, &pid))
			require.NoError(t, json.Unmarshal(invoke(t, s, `{"Do":"child"}`).Payload, &child))
			require.True(t, alive(t, pid))
			require.True(t, alive(t, child))
			end(t, s)
			require.Eventually(t, func() bool { return !alive(t, pid) && !alive(t, child) }, time.Minute, time.Millisecond)
		})
	}
}

func TestAFunctionThatCannotStart(t *testing.T) {
	s := newService(t, nil)
	deploy(t, s, func(f *lambda.Function) { f.Env = map[string]string{"INIT": "exit"} })
	out := invoke(t, s, `{}`)
	assert.Equal(t, "Unhandled", aws.ToString(out.FunctionError))
	assert.Contains(t, string(out.Payload), "Runtime.ExitError")
	assert.Contains(t, string(out.Payload), "exit status 3")
	assert.Contains(t, string(out.Payload), "cannot begin")

	err := s.Deploy(lambda.Function{Name: "g", Dir: t.TempDir()})
	require.ErrorContains(t, err, "build its bootstrap first")
	require.Error(t, s.Deploy(lambda.Function{Name: "g"}))
	require.Error(t, s.Deploy(lambda.Function{Name: "g g", Dir: codeDir}))
	require.Error(t, s.Deploy(lambda.Function{Name: "g", Dir: codeDir, Timeout: time.Hour}))
}

func TestLogs(t *testing.T) {
	s := newService(t, nil)
	deploy(t, s, nil)
	c := client(t, s)
	out, err := c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), LogType: types.LogTypeTail, Payload: []byte(`{"Do":"first"}`)})
	require.NoError(t, err)
	tail, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	require.NoError(t, err)
	lines := strings.Split(string(tail), "\n")
	require.Len(t, lines, 5)
	assert.Contains(t, lines[0], "START RequestId: ")
	assert.Equal(t, "doing first", lines[1])
	assert.Contains(t, lines[3], "Init Duration: ")
	invoke(t, c, `{"Do":"second"}`)
	log, err := s.Log(ctx, "f")
	require.NoError(t, err)
	assert.Equal(t, []string{"doing first", "doing second"}, log)
}

func TestHandlersInThisProcess(t *testing.T) {
	tests := map[string]struct {
		handler             lambda.Handler
		want, functionError string
	}{
		"an answer": {
			handler: func(ctx context.Context, event []byte) ([]byte, error) {
				lc, _ := lambdacontext.FromContext(ctx)
				return json.Marshal(map[string]any{"got": json.RawMessage(event), "arn": lc.InvokedFunctionArn})
			},
			want: `{"got":{"in":1},"arn":"arn:aws:lambda:eu-west-1:111122223333:function:f"}`,
		},
		"an error with a name": {
			handler: func(context.Context, []byte) ([]byte, error) {
				return nil, messages.InvokeResponse_Error{Type: "NotReady", Message: "booting"}
			},
			want: `{"errorType":"NotReady","errorMessage":"booting"}`, functionError: "Unhandled",
		},
		"another error": {
			handler: func(context.Context, []byte) ([]byte, error) { return nil, errors.New("broken") },
			want:    `{"errorType":"errorString","errorMessage":"broken"}`, functionError: "Unhandled",
		},
		"a panic": {
			handler: func(context.Context, []byte) ([]byte, error) { panic("out of luck") },
			want:    `{"errorType":"string","errorMessage":"out of luck"}`, functionError: "Unhandled",
		},
		"a response of more than 6 MB": {
			handler: func(context.Context, []byte) ([]byte, error) { return make([]byte, 6*1024*1024+1), nil },
			want:    `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291456 bytes)."}`, functionError: "Unhandled",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := newService(t, nil)
			require.NoError(t, s.Deploy(lambda.Function{Name: "f", Handler: tc.handler}))
			out, functionError, err := s.Invoker().Invoke(ctx, "arn:aws:lambda:eu-west-1:111122223333:function:f", []byte(`{"in":1}`))
			require.NoError(t, err)
			assert.Equal(t, tc.functionError, functionError)
			assert.JSONEq(t, tc.want, string(out))
		})
	}
}

func TestAHandlersTimeOutIsTheClocks(t *testing.T) {
	clk := clock.NewVirtual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	defer clk.Hold()()
	s := newService(t, func(c *lambda.Config) { c.Clock = clk })
	require.NoError(t, s.Deploy(lambda.Function{Name: "f", Timeout: time.Minute, Handler: func(ctx context.Context, _ []byte) ([]byte, error) {
		return nil, clk.Sleep(ctx, time.Hour)
	}}))
	begun := clk.Now()
	out := invoke(t, s, `{}`)
	assert.Contains(t, string(out.Payload), "Task timed out after 60.00 seconds")
	assert.Equal(t, time.Minute, clk.Now().Sub(begun))
}

// On AWS a function does not notice that the state or the client that invoked it is gone.
func TestAFunctionRunsToItsEndWhenItsCallerGoesAway(t *testing.T) {
	clk := clock.NewVirtual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	defer clk.Hold()()
	s := newService(t, func(c *lambda.Config) { c.Clock = clk })
	begun := clk.Now()
	ended := make(chan time.Duration, 1)
	require.NoError(t, s.Deploy(lambda.Function{Name: "f", Timeout: time.Minute, Handler: func(ctx context.Context, _ []byte) ([]byte, error) {
		err := clk.Sleep(ctx, 30*time.Second)
		ended <- clk.Now().Sub(begun)
		return []byte("{}"), err
	}}))
	caller, leave := context.WithCancel(t.Context())
	clk.AfterFunc(10*time.Second, leave)
	_, err := s.Invoke(caller, &awslambda.InvokeInput{FunctionName: aws.String("f")})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 10*time.Second, clk.Now().Sub(begun))
	require.NoError(t, clk.Sleep(t.Context(), time.Minute))
	assert.Equal(t, 30*time.Second, <-ended)
}

func TestAsynchronousInvocationsAreRetriedTwice(t *testing.T) {
	clk := clock.NewVirtual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	defer clk.Hold()()
	s := newService(t, func(c *lambda.Config) { c.Clock = clk })
	begun := clk.Now()
	var mu sync.Mutex
	var at []time.Duration
	require.NoError(t, s.Deploy(lambda.Function{Name: "f", Handler: func(context.Context, []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, clk.Now().Sub(begun))
		return nil, errors.New("broken")
	}}))
	out, err := s.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), InvocationType: types.InvocationTypeEvent})
	require.NoError(t, err)
	assert.EqualValues(t, 202, out.StatusCode)
	require.NoError(t, clk.Sleep(ctx, time.Hour))
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []time.Duration{0, time.Minute, 3 * time.Minute}, at)
}

func TestReservedConcurrency(t *testing.T) {
	s := newService(t, nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	require.NoError(t, s.Deploy(lambda.Function{Name: "f", Reserved: 1, Timeout: time.Minute, Handler: func(context.Context, []byte) ([]byte, error) {
		entered <- struct{}{}
		<-leave
		return []byte("1"), nil
	}}))
	c := client(t, s)
	done := make(chan error, 1)
	go func() {
		_, err := s.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f")})
		done <- err
	}()
	<-entered
	_, err := c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f")})
	var throttled *types.TooManyRequestsException
	require.ErrorAs(t, err, &throttled)
	assert.Equal(t, types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded, throttled.Reason)
	close(leave)
	require.NoError(t, <-done)

	_, err = c.PutFunctionConcurrency(ctx, &awslambda.PutFunctionConcurrencyInput{FunctionName: aws.String("f"), ReservedConcurrentExecutions: aws.Int32(0)})
	require.NoError(t, err)
	got, err := c.GetFunctionConcurrency(ctx, &awslambda.GetFunctionConcurrencyInput{FunctionName: aws.String("f")})
	require.NoError(t, err)
	assert.EqualValues(t, 0, *got.ReservedConcurrentExecutions)
	_, err = c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f")})
	require.ErrorAs(t, err, &throttled)
	_, err = c.DeleteFunctionConcurrency(ctx, &awslambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String("f")})
	require.NoError(t, err)
	go func() { <-entered }()
	assert.Equal(t, "1", string(invoke(t, c, `{}`).Payload))
}

func TestPayloadsThatAreRefused(t *testing.T) {
	s := newService(t, nil)
	require.NoError(t, s.Deploy(lambda.Function{Name: "f", Handler: func(context.Context, []byte) ([]byte, error) { return []byte("1"), nil }}))
	c := client(t, s)
	text := func(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }
	var tooLarge *types.RequestTooLargeException
	var content *types.InvalidRequestContentException
	var parameter *types.InvalidParameterValueException
	var missing *types.ResourceNotFoundException

	_, err := c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), Payload: text(6 * 1024 * 1024)})
	require.NoError(t, err)
	_, err = c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), Payload: text(6*1024*1024 + 1)})
	require.ErrorAs(t, err, &tooLarge)
	assert.Equal(t, "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)", *tooLarge.Message)
	_, err = c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte("{")})
	require.ErrorAs(t, err, &content)
	_, err = c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), InvocationType: "Never"})
	require.ErrorAs(t, err, &parameter)
	_, err = c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("g")})
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:g", *missing.Message)
	_, err = c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), Qualifier: aws.String("7")})
	require.ErrorAs(t, err, &missing)
	out, err := c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String("f"), InvocationType: types.InvocationTypeDryRun})
	require.NoError(t, err)
	assert.EqualValues(t, 204, out.StatusCode)
	for _, name := range []string{"f:$LATEST", "111122223333:function:f", "arn:aws:lambda:eu-west-1:111122223333:function:f"} {
		_, err := c.Invoke(ctx, &awslambda.InvokeInput{FunctionName: aws.String(name)})
		require.NoError(t, err, name)
	}
}

// archive packs files; the modes of executables are kept.
func archive(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range files {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o755)
		f, err := w.CreateHeader(h)
		require.NoError(t, err)
		_, err = f.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestFunctionsMadeOverTheAPI(t *testing.T) {
	code, err := os.ReadFile(filepath.Join(codeDir, "bootstrap"))
	require.NoError(t, err)
	packed := archive(t, map[string][]byte{"bootstrap": code, "data/a.txt": []byte("a")})
	dir := t.TempDir()
	s := newService(t, func(c *lambda.Config) {
		c.Dir = dir
		c.Object = func(_ context.Context, bucket, key string) ([]byte, error) {
			if bucket != "code" || key != "f.zip" {
				return nil, errors.New("NoSuchKey")
			}
			return packed, nil
		}
	})
	c := client(t, s)
	create := func(edit func(*awslambda.CreateFunctionInput)) (*awslambda.CreateFunctionOutput, error) {
		in := &awslambda.CreateFunctionInput{
			FunctionName: aws.String("f"), Role: aws.String(role), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
			Code: &types.FunctionCode{ZipFile: packed}, Timeout: aws.Int32(20), MemorySize: aws.Int32(512), Tags: map[string]string{"a": "1"},
			Environment: &types.Environment{Variables: map[string]string{"MINE": "1"}},
		}
		if edit != nil {
			edit(in)
		}
		return c.CreateFunction(ctx, in)
	}
	var (
		parameter *types.InvalidParameterValueException
		exists    *types.ResourceConflictException
		missing   *types.ResourceNotFoundException
		revision  *types.PreconditionFailedException
	)
	bad := map[string]func(*awslambda.CreateFunctionInput){
		"another runtime":     func(in *awslambda.CreateFunctionInput) { in.Runtime = types.RuntimeNodejs20x },
		"a reserved variable": func(in *awslambda.CreateFunctionInput) { in.Environment.Variables["AWS_REGION"] = "x" },
		"an environment of more than 4 KB": func(in *awslambda.CreateFunctionInput) {
			in.Environment.Variables["LARGE"] = strings.Repeat("x", 4096)
		},
		"an environment of more than 4 KB in many variables": func(in *awslambda.CreateFunctionInput) {
			for n := range 200 {
				in.Environment.Variables[fmt.Sprintf("VARIABLE_%d", n)] = "0123456789"
			}
		},
		"no archive": func(in *awslambda.CreateFunctionInput) { in.Code = &types.FunctionCode{ZipFile: []byte("x")} },
		"no code":    func(in *awslambda.CreateFunctionInput) { in.Code = &types.FunctionCode{} },
		"code that is not there": func(in *awslambda.CreateFunctionInput) {
			in.Code = &types.FunctionCode{S3Bucket: aws.String("code"), S3Key: aws.String("g.zip")}
		},
		"a container image":     func(in *awslambda.CreateFunctionInput) { in.PackageType = types.PackageTypeImage },
		"a way out of the root": func(in *awslambda.CreateFunctionInput) { in.Code.ZipFile = archive(t, map[string][]byte{"../x": nil}) },
		"a name with a space":   func(in *awslambda.CreateFunctionInput) { in.FunctionName = aws.String("f f") },
		"an account that leads out of the folder of code": func(in *awslambda.CreateFunctionInput) {
			in.FunctionName = aws.String("arn:aws:lambda:..:..:function:f")
		},
		"an invalid role": func(in *awslambda.CreateFunctionInput) { in.Role = aws.String("x") },
	}
	small := archive(t, map[string][]byte{"bootstrap": nil})
	for name, edit := range bad {
		t.Run(name, func(t *testing.T) {
			_, err := create(func(in *awslambda.CreateFunctionInput) {
				in.Code.ZipFile = small
				edit(in)
			})
			require.ErrorAs(t, err, &parameter)
		})
	}

	for sentence, tc := range map[string]struct {
		edit       func(*awslambda.CreateFunctionInput)
		code, want string
	}{
		"too long a time-out":           {func(in *awslambda.CreateFunctionInput) { in.Timeout = aws.Int32(901) }, "ValidationException", "Member must have value less than or equal to 900"},
		"no time":                       {func(in *awslambda.CreateFunctionInput) { in.Timeout = aws.Int32(0) }, "ValidationException", "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		"too much memory":               {func(in *awslambda.CreateFunctionInput) { in.MemorySize = aws.Int32(10241) }, "ValidationException", "Member must have value less than or equal to 10240"},
		"too little memory":             {func(in *awslambda.CreateFunctionInput) { in.MemorySize = aws.Int32(127) }, "ValidationException", "Member must have value greater than or equal to 128"},
		"a variable that is no name":    {func(in *awslambda.CreateFunctionInput) { in.Environment.Variables["A-B"] = "x" }, "ValidationException", "environment.variables"},
		"an archive of more than 50 MB": {func(in *awslambda.CreateFunctionInput) { in.Code.ZipFile = make([]byte, 53*1024*1024) }, "RequestEntityTooLargeException", "70167211"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := create(func(in *awslambda.CreateFunctionInput) {
				in.Code.ZipFile = small
				tc.edit(in)
			})
			var api smithy.APIError
			require.ErrorAs(t, err, &api)
			assert.Equal(t, tc.code, api.ErrorCode())
			assert.Contains(t, api.ErrorMessage(), tc.want)
		})
	}
	_, err = create(func(in *awslambda.CreateFunctionInput) {
		in.FunctionName, in.Code.ZipFile = aws.String("full"), small
		in.Environment.Variables = map[string]string{"VALUE": strings.Repeat("x", 4096-len(`{"VALUE":""}`))}
	})
	require.NoError(t, err, "an environment of just 4 KB")
	_, err = c.DeleteFunction(ctx, &awslambda.DeleteFunctionInput{FunctionName: aws.String("full")})
	require.NoError(t, err)

	made, err := create(nil)
	require.NoError(t, err)
	assert.Equal(t, "arn:aws:lambda:eu-west-1:111122223333:function:f", *made.FunctionArn)
	assert.Equal(t, types.StateActive, made.State)
	assert.EqualValues(t, len(packed), made.CodeSize)
	_, err = create(nil)
	require.ErrorAs(t, err, &exists)
	assert.Contains(t, string(invoke(t, c, `{"Do":"environment"}`).Payload), "MINE=1")

	_, err = c.UpdateFunctionConfiguration(ctx, &awslambda.UpdateFunctionConfigurationInput{
		FunctionName: aws.String("f"), Environment: &types.Environment{Variables: map[string]string{"MINE": "2"}}, Timeout: aws.Int32(30),
	})
	require.NoError(t, err)
	assert.Contains(t, string(invoke(t, c, `{"Do":"environment"}`).Payload), "MINE=2")
	d, err := c.GetFunctionConfiguration(ctx, &awslambda.GetFunctionConfigurationInput{FunctionName: aws.String("f")})
	require.NoError(t, err)
	assert.EqualValues(t, 30, *d.Timeout)
	assert.EqualValues(t, 512, *d.MemorySize)

	updated, err := c.UpdateFunctionCode(ctx, &awslambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), S3Bucket: aws.String("code"), S3Key: aws.String("f.zip"), RevisionId: d.RevisionId})
	require.NoError(t, err)
	assert.Equal(t, made.CodeSha256, updated.CodeSha256)
	_, err = c.UpdateFunctionCode(ctx, &awslambda.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: packed, RevisionId: d.RevisionId})
	require.ErrorAs(t, err, &revision)
	assert.Nil(t, invoke(t, c, `{"Do":"echo"}`).FunctionError)

	_, err = c.GetPolicy(ctx, &awslambda.GetPolicyInput{FunctionName: aws.String("f")})
	require.ErrorAs(t, err, &missing)
	permission := &awslambda.AddPermissionInput{
		FunctionName: aws.String("f"), StatementId: aws.String("events"), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("events.amazonaws.com"), SourceArn: aws.String("arn:aws:events:eu-west-1:111122223333:rule/r"),
	}
	_, err = c.AddPermission(ctx, permission)
	require.NoError(t, err)
	_, err = c.AddPermission(ctx, permission)
	require.ErrorAs(t, err, &exists)
	policy, err := c.GetPolicy(ctx, &awslambda.GetPolicyInput{FunctionName: aws.String("f")})
	require.NoError(t, err)
	assert.JSONEq(t, `{"Version":"2012-10-17","Id":"default","Statement":[{"Sid":"events","Effect":"Allow","Principal":{"Service":"events.amazonaws.com"},
		"Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:eu-west-1:111122223333:function:f",
		"Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:events:eu-west-1:111122223333:rule/r"}}}]}`, *policy.Policy)

	_, err = c.TagResource(ctx, &awslambda.TagResourceInput{Resource: made.FunctionArn, Tags: map[string]string{"b": "2"}})
	require.NoError(t, err)
	_, err = c.UntagResource(ctx, &awslambda.UntagResourceInput{Resource: made.FunctionArn, TagKeys: []string{"a"}})
	require.NoError(t, err)
	tags, err := c.ListTags(ctx, &awslambda.ListTagsInput{Resource: made.FunctionArn})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"b": "2"}, tags.Tags)

	deploy(t, s, func(f *lambda.Function) { f.Name = "g" })
	var names []string
	pages := awslambda.NewListFunctionsPaginator(c, &awslambda.ListFunctionsInput{MaxItems: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		for _, f := range page.Functions {
			names = append(names, *f.FunctionName)
		}
	}
	assert.Equal(t, []string{"f", "g"}, names)

	kept, err := s.Snapshot()
	require.NoError(t, err)
	again := newService(t, func(c *lambda.Config) { c.Dir = dir })
	require.NoError(t, again.Restore(kept))
	assert.Contains(t, string(invoke(t, again, `{"Do":"environment"}`).Payload), "MINE=2")
	_, err = again.GetPolicy(ctx, &awslambda.GetPolicyInput{FunctionName: aws.String("f")})
	require.NoError(t, err)
	_, err = again.GetFunction(ctx, &awslambda.GetFunctionInput{FunctionName: aws.String("g")})
	require.ErrorAs(t, err, &missing, "what was deployed is deployed again")

	_, err = c.RemovePermission(ctx, &awslambda.RemovePermissionInput{FunctionName: aws.String("f"), StatementId: aws.String("events")})
	require.NoError(t, err)
	_, err = c.RemovePermission(ctx, &awslambda.RemovePermissionInput{FunctionName: aws.String("f"), StatementId: aws.String("events")})
	require.ErrorAs(t, err, &missing)
	_, err = c.DeleteFunction(ctx, &awslambda.DeleteFunctionInput{FunctionName: aws.String("f")})
	require.NoError(t, err)
	_, err = c.GetFunction(ctx, &awslambda.GetFunctionInput{FunctionName: aws.String("f")})
	require.ErrorAs(t, err, &missing)
	left, err := filepath.Glob(filepath.Join(dir, "*", "*", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
	require.ErrorContains(t, newService(t, func(c *lambda.Config) { c.Dir = dir }).Restore(kept), "its code is missing")
}
