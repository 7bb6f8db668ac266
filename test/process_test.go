package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// patience bounds every wait in these tests; it is for machines under load.
const patience = 5 * time.Minute

// Where the factory's programs are in the folder that holds them.
var (
	functionsIn = filepath.Join("lambda", runtime.GOARCH)
	gossIn      = filepath.Join("goss", runtime.GOARCH)
)

// built is the folder of the factory's programs: the one that AMI_FACTORY_BUILD
// names, or build/, or one made for this run when that has none.
var built = sync.OnceValues(func() (string, error) {
	dir := os.Getenv("AMI_FACTORY_BUILD")
	if dir == "" {
		dir = filepath.Join("..", "build")
	}
	complete := true
	for _, file := range []string{"ami-factory", filepath.Join(functionsIn, "resolve", "bootstrap"), filepath.Join(functionsIn, "notify", "bootstrap"), filepath.Join(functionsIn, "version"), gossIn} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			complete = false
		}
	}
	if complete {
		return filepath.Abs(dir)
	}
	return buildPrograms()
})

func buildPrograms() (string, error) {
	dir, err := os.MkdirTemp("", "ami-factory-test-build-")
	if err != nil {
		return "", err
	}
	targets := map[string]string{"ami-factory": "../cmd/ami-factory", gossIn: "github.com/goss-org/goss/cmd/goss"}
	for _, fn := range blueprint.Functions() {
		targets[filepath.Join(functionsIn, fn.Name, "bootstrap")] = "../lambdas/" + fn.Name
	}
	for file, from := range targets {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc", "-o", filepath.Join(dir, file), from)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", from, err, out)
		}
	}
	return dir, os.WriteFile(filepath.Join(dir, functionsIn, "version"), []byte("test\n"), 0o600)
}

// output may be read while the process writes it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// program is a running ami-factory.
type program struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err output
	ended    chan struct{} // closed when it has
}

// launch starts ami-factory in a process group of its own, as a terminal does.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	dir, err := built()
	require.NoError(t, err)
	if args[0] != "images" {
		args = append(args, "--functions", filepath.Join(dir, functionsIn), "--goss", filepath.Join(dir, gossIn))
	}
	p := &program{t: t, cmd: exec.Command(filepath.Join(dir, "ami-factory"), args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // its state is looked at
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGINT)
		select {
		case <-p.ended:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	})
	return p
}

// signal reaches the whole process group, as Ctrl-C does.
func (p *program) signal(s syscall.Signal) {
	select {
	case <-p.ended:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, s) // it may have ended meanwhile
	}
}

func (p *program) code() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		require.Fail(p.t, "the process does not end", p.err.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits for a text on stderr.
func (p *program) says(text string) {
	p.t.Helper()
	waitFor(p.t, func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return strings.Contains(p.err.String(), text)
		}
	}, "it never said "+text)
	require.Contains(p.t, p.err.String(), text)
}

// runs waits until a command runs under the program, and returns all that do.
func (p *program) runs(command string) []process {
	p.t.Helper()
	var found []process
	waitFor(p.t, func() bool {
		select {
		case <-p.ended:
			return true
		default:
			found = under(p.t, p.cmd.Process.Pid)
			return strings.Contains(commands(found), command)
		}
	}, command+" never ran")
	require.Contains(p.t, commands(found), command, "%s%s", p.err.String(), p.out.String())
	return found
}

func waitFor(t *testing.T, done func() bool, otherwise string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), otherwise)
	}
}

// process is one that ran under a program; its start tells it from a later one
// of the same id.
type process struct {
	pid     int
	started string
	command string
}

// under are all processes that descend from pid.
func under(t *testing.T, pid int) []process {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("processes are looked up in /proc, which this system does not have")
	}
	children := map[int][]process{}
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent, p, ok := stat(id); ok {
			children[parent] = append(children[parent], p)
		}
	}
	var found []process
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			found = append(found, p)
			next = append(next, p.pid)
		}
	}
	return found
}

// stat reads a process that is not over.
func stat(pid int) (parent int, p process, ok bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, p, false
	}
	open, end := bytes.IndexByte(raw, '('), bytes.LastIndexByte(raw, ')')
	fields := strings.Fields(string(raw[end+1:])) // from the third on, see proc(5)
	parent, err = strconv.Atoi(fields[1])
	return parent, process{pid, fields[19], string(raw[open+1 : end])}, err == nil && fields[0] != "Z" && fields[0] != "X"
}

func requireGone(t *testing.T, ps []process) {
	t.Helper()
	var left []process
	waitFor(t, func() bool {
		left = nil
		for _, p := range ps {
			if _, now, ok := stat(p.pid); ok && now.started == p.started {
				left = append(left, p)
			}
		}
		return len(left) == 0
	}, fmt.Sprintf("some of %v survive", ps))
	require.Empty(t, left)
}

func commands(ps []process) string {
	var names []string
	for _, p := range ps {
		names = append(names, p.command)
	}
	return strings.Join(names, " ")
}

func notShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("bakes in processes of their own take real time: run without -short")
	}
}

// flags name guests and a state of the test's own.
func flags(kind vm.Kind, state string) []string {
	return []string{"--guests", string(kind), "--state", state}
}

// images lists what a state holds, by another process.
func images(t *testing.T, local []string) []string {
	t.Helper()
	p := launch(t, append([]string{"images", "list", "-o", "json"}, local...)...)
	require.Equal(t, 0, p.code(), p.err.String())
	var list []struct {
		ImageID string `json:"imageId"`
	}
	require.NoError(t, json.Unmarshal([]byte(p.out.String()), &list))
	ids := []string{}
	for _, i := range list {
		ids = append(ids, i.ImageID)
	}
	return ids
}

// requireNoFiles fails when a state's folder keeps anything of instances, or of
// images other than those that are wanted.
func requireNoFiles(t *testing.T, folder string, wanted int) {
	t.Helper()
	count := func(name string) int {
		entries, err := os.ReadDir(filepath.Join(folder, "ec2", name))
		if err != nil {
			require.ErrorIs(t, err, fs.ErrNotExist)
		}
		return len(entries)
	}
	assert.Zero(t, count("instances"), "folders of instances")
	assert.LessOrEqual(t, count("images"), wanted, "folders of images")
}

func published(t *testing.T, p *program) rehearsal.Summary {
	t.Helper()
	require.Equal(t, 0, p.code(), p.err.String())
	var s rehearsal.Summary
	require.NoError(t, json.Unmarshal([]byte(p.out.String()), &s), "stdout holds the summary and nothing else: %s", p.out.String())
	require.Equal(t, contract.Published, s.Status, s.Cause)
	return s
}

// killable are the kinds of guests that bakes are killed with here.
func killable(t *testing.T, kind vm.Kind) {
	t.Helper()
	notShort(t)
	if kind == vm.Container {
		realGuests(t, kind) // skips, and says why
	}
}

func TestAfterAKilledBakeNothingSurvivesAndTheNextPublishes(t *testing.T) {
	for sentence, tc := range map[string]struct {
		kind  vm.Kind
		after string // the state whose end is waited for
		runs  string // a process that must have been there
	}{
		"simulated while the builder is provisioned":     {vm.Simulated, "LaunchBuilder ", "bootstrap"},
		"simulated while the image is made":              {vm.Simulated, "CreateImage ", "bootstrap"},
		"in containers while the builder is provisioned": {vm.Container, "LaunchBuilder ", "systemd-nspawn"},
	} {
		t.Run(sentence, func(t *testing.T) {
			killable(t, tc.kind)
			state := t.TempDir()
			local := flags(tc.kind, state)
			first := launch(t, append([]string{"bake", recipeName}, local...)...)
			first.says(tc.after)
			running := first.runs(tc.runs)
			require.NoError(t, first.cmd.Process.Kill())
			assert.Equal(t, -1, first.code(), "it was killed, and did not end by itself")
			requireGone(t, running)

			next := launch(t, append([]string{"bake", recipeName, "-o", "json"}, local...)...)
			s := published(t, next)
			assert.Len(t, s.Images, 2)
			assert.Len(t, images(t, local), 2)
			requireNoFiles(t, filepath.Join(state, string(tc.kind)), 2)
		})
	}
}

func TestCtrlCEndsABakeAndRemovesWhatItMade(t *testing.T) {
	for sentence, tc := range map[string]struct {
		kind    vm.Kind
		after   string
		removed string
		runs    string
	}{
		"simulated while the builder is provisioned":     {vm.Simulated, "LaunchBuilder ", `i-[0-9a-f]{17}`, "bootstrap"},
		"simulated while the image is made":              {vm.Simulated, "CreateImage ", `ami-[0-9a-f]{17}`, "bootstrap"},
		"in containers while the builder is provisioned": {vm.Container, "LaunchBuilder ", `i-[0-9a-f]{17}`, "systemd-nspawn"},
	} {
		t.Run(sentence, func(t *testing.T) {
			killable(t, tc.kind)
			state := t.TempDir()
			local := flags(tc.kind, state)
			p := launch(t, append([]string{"bake", recipeName}, local...)...)
			p.says(tc.after)
			running := p.runs(tc.runs)
			p.signal(syscall.SIGINT)
			assert.Equal(t, 130, p.code(), p.err.String())
			assert.Regexp(t, `ami-factory: interrupted; removed .*`+tc.removed+`.*; nothing is left`, p.err.String())
			assert.Empty(t, p.out.String())
			requireGone(t, running)
			assert.Empty(t, images(t, local))
			requireNoFiles(t, filepath.Join(state, string(tc.kind)), 0)
		})
	}
}

// serving is what `local up -o json` prints.
type serving struct {
	URL, StateMachine, Guests string
	Environment               map[string]string
}

func serve(t *testing.T, local []string) (*program, serving) {
	t.Helper()
	p := launch(t, append([]string{"local", "up", "--listen", "127.0.0.1:0", "-o", "json"}, local...)...)
	p.says("serving")
	var s serving
	require.NoError(t, json.Unmarshal([]byte(p.out.String()), &s), p.out.String())
	return p, s
}

func (s serving) config(t *testing.T) aws.Config {
	t.Helper()
	cfg, err := awsconfig.LoadDefaultConfig(t.Context(), awsconfig.WithBaseEndpoint(s.URL), awsconfig.WithRegion(s.Environment["AWS_REGION"]),
		awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			s.Environment["AWS_ACCESS_KEY_ID"], s.Environment["AWS_SECRET_ACCESS_KEY"], s.Environment["AWS_SESSION_TOKEN"])))
	require.NoError(t, err)
	return cfg
}

// end waits for an execution's end.
func end(t *testing.T, api *sfn.Client, arn string) *sfn.DescribeExecutionOutput {
	t.Helper()
	var out *sfn.DescribeExecutionOutput
	waitFor(t, func() bool {
		var err error
		out, err = api.DescribeExecution(t.Context(), &sfn.DescribeExecutionInput{ExecutionArn: &arn})
		require.NoError(t, err)
		return out.Status != sfntypes.ExecutionStatusRunning
	}, "the execution does not end")
	return out
}

func TestTheSDKBakesAgainstAServedFactory(t *testing.T) {
	notShort(t)
	_, s := serve(t, flags(vm.Simulated, t.TempDir()))
	cfg := s.config(t)
	machines, instances := sfn.NewFromConfig(cfg), ec2.NewFromConfig(cfg)
	started, err := machines.StartExecution(t.Context(), &sfn.StartExecutionInput{
		StateMachineArn: &s.StateMachine, Input: aws.String(`{"recipe":"debian-12-docker"}`),
	})
	require.NoError(t, err)
	arn := aws.ToString(started.ExecutionArn)

	for sentence, tc := range map[string]struct {
		input, err string
		says       []string
	}{
		"a field that is not known": {`{"recip":"debian-12-docker"}`, "InvalidInput", []string{`unknown field "recip"`, "recipe"}},
		"not an object":             {`"debian-12-docker"`, "InvalidInput", []string{"must be an object", "recipe"}},
		"a list":                    {`["debian-12-docker"]`, "InvalidInput", []string{"must be an object", "recipe"}},
		"an unknown recipe":         {`{"recipe":"debian-99"}`, "RecipeInvalid", []string{"debian-99", recipeName}},
		"nothing":                   {`{}`, "InvalidInput", []string{"recipe"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			wrong, err := machines.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &s.StateMachine, Input: &tc.input})
			require.NoError(t, err)
			got := end(t, machines, aws.ToString(wrong.ExecutionArn))
			assert.Equal(t, sfntypes.ExecutionStatusFailed, got.Status)
			assert.Equal(t, tc.err, aws.ToString(got.Error))
			for _, text := range tc.says {
				assert.Contains(t, aws.ToString(got.Cause), text)
			}
			assert.NotRegexp(t, `^\s*\{|errorMessage`, aws.ToString(got.Cause), "the cause is a sentence, not a document")
		})
	}

	got := end(t, machines, arn)
	require.Equal(t, sfntypes.ExecutionStatusSucceeded, got.Status, aws.ToString(got.Cause))
	var out struct{ Images map[string]string }
	require.NoError(t, json.Unmarshal([]byte(aws.ToString(got.Output)), &out))
	require.Len(t, out.Images, 2)
	for region, id := range out.Images {
		found, err := instances.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}}, func(o *ec2.Options) { o.Region = region })
		require.NoError(t, err)
		require.Len(t, found.Images, 1, region)
		assert.Equal(t, id, aws.ToString(found.Images[0].ImageId))
	}
	var entered []string
	pages := sfn.NewGetExecutionHistoryPaginator(machines, &sfn.GetExecutionHistoryInput{ExecutionArn: &arn, MaxResults: 20})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, e := range page.Events {
			if d := e.StateEnteredEventDetails; d != nil {
				entered = append(entered, aws.ToString(d.Name))
			}
		}
	}
	assert.Equal(t, []string{"Begin", "HasInput", "Resolve"}, entered[:3])
	assert.Equal(t, []string{"Outcome", "Published"}, entered[len(entered)-2:])
}

func TestTheAWSCommandLineBakesAgainstAServedFactory(t *testing.T) {
	notShort(t)
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the AWS command line is not in PATH: make setup installs it into build/programs")
	}
	_, s := serve(t, flags(vm.Simulated, t.TempDir()))
	cli := func(args ...string) map[string]any {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, path, append(args, "--output", "json")...)
		cmd.Env = append(os.Environ(), "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
		for name, value := range s.Environment {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		out, err := cmd.Output()
		require.NoError(t, err, "aws %v: %s", args, stderrOf(err))
		var doc map[string]any
		require.NoError(t, json.Unmarshal(out, &doc), string(out))
		return doc
	}
	require.Len(t, cli("ec2", "describe-images", "--owners", "136693071363")["Images"], 4, "Debian 12 and 13, each for two architectures")
	arn, _ := cli("stepfunctions", "start-execution", "--state-machine-arn", s.StateMachine, "--input", `{"recipe":"debian-12-docker"}`)["executionArn"].(string)
	var execution map[string]any
	waitFor(t, func() bool {
		execution = cli("stepfunctions", "describe-execution", "--execution-arn", arn)
		return execution["status"] != "RUNNING"
	}, "the execution does not end")
	require.Equal(t, "SUCCEEDED", execution["status"], execution["cause"])
	require.Len(t, cli("ec2", "describe-images", "--owners", "self")["Images"], 1)
	events, _ := cli("stepfunctions", "get-execution-history", "--execution-arn", arn)["events"].([]any)
	assert.Greater(t, len(events), 50)
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}

func TestWhoHoldsTheStateOrThePortIsTold(t *testing.T) {
	notShort(t)
	local := flags(vm.Simulated, t.TempDir())
	first, s := serve(t, local)

	second := launch(t, append([]string{"bake", recipeName}, local...)...)
	assert.Equal(t, 1, second.code())
	assert.Contains(t, second.err.String(), "in use by pid "+strconv.Itoa(first.cmd.Process.Pid)+":")
	assert.Empty(t, second.out.String())

	port := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(s.URL)
	third := launch(t, append([]string{"local", "up", "--listen", port}, flags(vm.Simulated, t.TempDir())...)...)
	assert.Equal(t, 1, third.code())
	assert.Contains(t, third.err.String(), port+" is in use by another program")
	assert.Contains(t, third.err.String(), "--listen")

	first.signal(syscall.SIGINT)
	assert.Equal(t, 0, first.code(), first.err.String())
}

func TestAFullDiskIsToldAndNothingIsLeft(t *testing.T) {
	notShort(t)
	opts := realGuests(t, vm.Container)
	if missing := baseimage.Missing(vm.Container); len(missing) > 0 {
		t.Skipf("container guests need the packages %v", missing)
	}
	for sentence, size := range map[string]string{
		"no room to start the builder": "size=200m",
	} {
		t.Run(sentence, func(t *testing.T) {
			opts := opts
			opts.StateDir = t.TempDir()
			require.NoError(t, syscall.Mount("tmpfs", opts.StateDir, "tmpfs", 0, size), "root may mount")
			t.Cleanup(func() { assert.NoError(t, syscall.Unmount(opts.StateDir, 0)) })
			f := open(t, opts)
			s := bake(t, f, contract.ExecutionInput{})
			require.Equal(t, contract.FailedClean, s.Status, s.Cause)
			assert.Contains(t, s.Cause, "not enough free disk space")
			assert.Regexp(t, `needs \d+ MiB in .*, \d+ MiB are free`, s.Cause)
			requireNothingLeft(t, f)
		})
	}
}
