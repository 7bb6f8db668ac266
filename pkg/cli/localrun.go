package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

// runName is the file in a state folder that says where "local up" serves. Its mode
// is 0600, as it holds the secret access key.
const runName = "local.json"

// localRun is a "local up" that serves.
type localRun struct {
	PID          int               `json:"pid"`
	URL          string            `json:"url"`
	Registry     string            `json:"registry"` // host and port, as in the names of container images
	State        string            `json:"state"`    // the folder, of one kind of guests
	Guests       string            `json:"guests"`
	StateMachine string            `json:"stateMachine,omitempty"` // ARN; empty: nothing is deployed
	Bucket       string            `json:"bucket,omitempty"`
	DeadLetters  string            `json:"deadLetters,omitempty"`
	Started      time.Time         `json:"started"`
	Environment  map[string]string `json:"environment"`
}

func newLocalRun(f *rehearsal.Factory, deployed bool) localRun {
	run := localRun{PID: os.Getpid(), URL: f.URL, Registry: f.Registry(), State: f.StateDir, Guests: f.Guests, Started: time.Now().UTC().Truncate(time.Second), Environment: map[string]string{}}
	for _, v := range f.Cloud.Environment() {
		name, value, _ := strings.Cut(v, "=")
		run.Environment[name] = value
	}
	if deployed {
		run.StateMachine, run.Bucket, run.DeadLetters = f.StateMachine, f.Bucket, f.DeadLetters
		run.Environment[contract.EnvBucket] = f.Bucket
		run.Environment[contract.EnvApprovalURL], run.Environment[contract.EnvApproverRole] = f.ApprovalURL, f.Approver
	}
	return run
}

// write keeps the run in its state folder.
func (r localRun) write() error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(r.State, runName+".*") // of mode 0600
	if err != nil {
		return fmt.Errorf("write what \"local env\" prints: %w", err)
	}
	_, err = temporary.Write(append(raw, '\n'))
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), filepath.Join(r.State, runName))
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
		return fmt.Errorf("write what \"local env\" prints: %w", err)
	}
	return nil
}

// forget removes what write has kept.
func (r localRun) forget() error {
	if err := os.Remove(filepath.Join(r.State, runName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// errNotRunning is in the chain of an error that says that nothing is served.
var errNotRunning = errors.New("no embedded AWS is running")

// readRun reads the run of a state folder, if its process still has the folder's
// lock. The kernel drops the lock with the process, so a recorded process id that
// has become another program's is not taken for ours.
func readRun(dir string) (localRun, error) {
	raw, err := os.ReadFile(filepath.Join(dir, runName))
	if errors.Is(err, fs.ErrNotExist) {
		return localRun{}, errNotRunning
	}
	if err != nil {
		return localRun{}, err
	}
	var run localRun
	if err := json.Unmarshal(raw, &run); err != nil {
		return localRun{}, fmt.Errorf("%s is damaged (%w): remove it", filepath.Join(dir, runName), err)
	}
	pid, err := localcloud.Holder(dir)
	if err != nil {
		return localRun{}, err
	}
	if pid == 0 || pid != run.PID {
		return localRun{}, errNotRunning
	}
	run.State = dir
	return run, nil
}

// findRun finds the one run of a state folder, which has a folder for each kind of
// guests.
func findRun(state, kind string) (localRun, error) {
	kinds := []string{string(vm.VM), string(vm.Container), string(vm.Simulated)}
	if kind != "" {
		if err := guests.Check(vm.Kind(kind)); err != nil {
			return localRun{}, usage("--guests: %w", err)
		}
		kinds = []string{kind}
	}
	absolute, err := filepath.Abs(state)
	if err != nil {
		return localRun{}, err
	}
	dirs := []string{absolute}
	for _, kind := range kinds { // and a folder for each home region, deployed or bare
		more, _ := filepath.Glob(filepath.Join(absolute, kind+"-*")) // the pattern is valid
		dirs = append(append(dirs, filepath.Join(absolute, kind)), more...)
	}
	var found []localRun
	for _, dir := range dirs {
		run, err := readRun(dir)
		if errors.Is(err, errNotRunning) {
			continue
		}
		if err != nil {
			return localRun{}, err
		}
		found = append(found, run)
	}
	switch len(found) {
	case 0:
		return localRun{}, fmt.Errorf("%w with the state folder %s: start one with `ami-factory local up`, or name its folder with --state", errNotRunning, absolute)
	case 1:
		return found[0], nil
	}
	var folders []string
	for _, run := range found {
		folders = append(folders, run.State)
	}
	return localRun{}, usage("several are running: select one with --state (allowed: %s)", strings.Join(folders, ", "))
}

// localFlags select a run.
type localFlags struct{ state, guests string }

func (l *localFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&l.state, "state", filepath.Join("build", "local"), "the `folder` of \"local up\", or the folder of one kind of guests in it")
	c.Flags().StringVar(&l.guests, "guests", "", "kind of guests, if several are running: vm, container or simulated")
}

func (a *app) localEnv() *cobra.Command {
	var l localFlags
	c := &cobra.Command{
		Use:   "env",
		Short: "Print the exports for AWS clients of the running embedded AWS",
		Long: `Print shell exports, on stdout, for AWS clients of the running embedded AWS: its
address, and the keys of the root user of its account. With another account's id as
AWS_ACCESS_KEY_ID, a client is the root user of that account.

Whoever knows these keys can run programs as you, by deploying functions. They
belong to the state folder, which keeps them in a file that only you can read, and
stay the same when the folder is used again.

Exit codes: 0 printed, 1 none is running, 2 wrong usage or several are running.`,
		Example: `  eval "$(ami-factory local env)"
  aws ec2 describe-images --owners self

  ami-factory local env --state build/local/container -o json`,
		Args: takes(),
		RunE: func(*cobra.Command, []string) error {
			run, err := findRun(l.state, l.guests)
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.json(run.Environment)
			}
			return a.exports(run)
		},
	}
	l.register(c)
	return c
}

// exports prints the environment for a shell.
func (a *app) exports(run localRun) error {
	for _, name := range slices.Sorted(maps.Keys(run.Environment)) {
		if _, err := fmt.Fprintf(a.out, "export %s=%s\n", name, run.Environment[name]); err != nil {
			return err
		}
	}
	return nil
}

// localStatus is what "local status" prints.
type localStatus struct {
	Running   bool     `json:"running"`
	Reason    string   `json:"reason,omitempty"` // why it is not
	URL       string   `json:"url,omitempty"`
	PID       int      `json:"pid,omitempty"`
	State     string   `json:"state,omitempty"`
	Guests    string   `json:"guests,omitempty"`
	Deployed  bool     `json:"deployed"`
	Started   string   `json:"started,omitempty"`
	Executing []string `json:"executing"` // names of executions that run
	// Images are the account's own, by region; regions without any are left out.
	Images map[string]int `json:"images"`
}

func (a *app) localStatus() *cobra.Command {
	var l localFlags
	c := &cobra.Command{
		Use:   "status",
		Short: "Show whether an embedded AWS runs, and what is in it",
		Long: `Show on stdout whether an embedded AWS runs, and if so its address, process, state
folder and guests, whether the factory is deployed in it, which executions run, and
how many images its account has in each region.

Exit codes: 0 it runs and answers, 1 it does not, 2 wrong usage or several are
running.`,
		Example: `  ami-factory local status
  ami-factory local status -o json | jq .images`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			run, err := findRun(l.state, l.guests)
			if err == nil {
				var status localStatus
				if status, err = run.status(c.Context()); err == nil {
					return a.printStatus(status)
				}
			}
			var usage *exitError
			if a.format == "json" && !errors.As(err, &usage) {
				if jsonErr := a.json(localStatus{Reason: err.Error(), Executing: []string{}, Images: map[string]int{}}); jsonErr != nil {
					return jsonErr
				}
			}
			return err
		},
	}
	l.register(c)
	return c
}

// config is a client's, of a run.
func (r localRun) config(region string) aws.Config {
	return aws.Config{
		Region: region, BaseEndpoint: aws.String(r.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(r.Environment["AWS_ACCESS_KEY_ID"], r.Environment["AWS_SECRET_ACCESS_KEY"], ""),
	}
}

func (r localRun) status(ctx context.Context) (localStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out := localStatus{
		Running: true, URL: r.URL, PID: r.PID, State: r.State, Guests: r.Guests, Deployed: r.StateMachine != "", Started: r.Started.Format(time.RFC3339),
		Executing: []string{}, Images: map[string]int{},
	}
	fail := func(err error) (localStatus, error) {
		return localStatus{}, fmt.Errorf("the embedded AWS of process %d does not answer at %s: %w", r.PID, r.URL, err)
	}
	home := r.config(r.Environment["AWS_REGION"])
	keys, err := home.Credentials.Retrieve(ctx)
	if err != nil {
		return fail(err)
	}
	holdings, err := localcloud.Control{URL: r.URL, Credentials: keys}.Holdings(ctx)
	if err != nil {
		return fail(err)
	}
	for _, h := range holdings {
		if h.Account == keys.AccessKeyID && h.Images > 0 { // a root user's key is its account's id
			out.Images[h.Region] = h.Images
		}
	}
	machines := sfn.NewFromConfig(home)
	all, err := machines.ListStateMachines(ctx, &sfn.ListStateMachinesInput{})
	if err != nil {
		return fail(err)
	}
	for _, m := range all.StateMachines {
		// Deployed by the CDK too, in a run that deployed nothing itself.
		out.Deployed = out.Deployed || aws.ToString(m.Name) == "ami-factory"
		pages := sfn.NewListExecutionsPaginator(machines, &sfn.ListExecutionsInput{StateMachineArn: m.StateMachineArn, StatusFilter: sfntypes.ExecutionStatusRunning})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return fail(err)
			}
			for _, e := range page.Executions {
				out.Executing = append(out.Executing, aws.ToString(e.Name))
			}
		}
	}
	slices.Sort(out.Executing)
	return out, nil
}

func (a *app) printStatus(s localStatus) error {
	if a.format == "json" {
		return a.json(s)
	}
	var images []string
	for _, region := range slices.Sorted(maps.Keys(s.Images)) {
		images = append(images, fmt.Sprintf("%s %d", region, s.Images[region]))
	}
	or := func(text, none string) string {
		if text == "" {
			return none
		}
		return text
	}
	deployed := map[bool]string{true: "yes", false: "no"}[s.Deployed]
	w := tabwriter.NewWriter(a.out, 0, 0, 3, ' ', 0)
	for _, row := range [][2]string{
		{"running", fmt.Sprintf("yes, since %s", s.Started)}, {"address", s.URL}, {"process", fmt.Sprint(s.PID)}, {"state", s.State}, {"guests", s.Guests},
		{"deployed", deployed}, {"executions", or(strings.Join(s.Executing, ", "), "none")}, {"images", or(strings.Join(images, ", "), "none")},
	} {
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	return w.Flush()
}

func (a *app) localDown() *cobra.Command {
	var l localFlags
	var wait time.Duration
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop the running embedded AWS, as Ctrl-C does",
		Long: `Stop the running embedded AWS, as Ctrl-C does, and wait until it has ended. Only the
process that holds the lock of the state folder, and that the folder records, is
stopped. State and keys are kept.

Exit codes: 0 it has ended, 1 none was running or it did not end in time, 2 wrong
usage or several are running.`,
		Example: `  ami-factory local down
  ami-factory local down --guests container --wait 2m`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			run, err := findRun(l.state, l.guests)
			if err != nil {
				return err
			}
			if err := run.stop(c.Context(), wait); err != nil {
				return err
			}
			if a.format == "json" {
				return a.json(map[string]any{"stopped": true, "pid": run.PID, "state": run.State})
			}
			_, err = fmt.Fprintf(a.out, "the embedded AWS of process %d has ended; its state is kept in %s\n", run.PID, run.State)
			return err
		},
	}
	l.register(c)
	c.Flags().DurationVar(&wait, "wait", 90*time.Second, "how long to wait for its end")
	return c
}

// stop interrupts the process of a run and waits until it gives its folder up.
func (r localRun) stop(ctx context.Context, wait time.Duration) error {
	process, err := os.FindProcess(r.PID) // by a descriptor where the kernel has them: not by the id, which others may get
	if err != nil {
		return fmt.Errorf("stopping process %d: %w", r.PID, err)
	}
	defer func() { _ = process.Release() }()
	if pid, err := localcloud.Holder(r.State); err != nil || pid != r.PID {
		return errors.Join(errNotRunning, err)
	}
	if err := process.Signal(syscall.SIGINT); err != nil {
		return fmt.Errorf("stopping process %d: %w", r.PID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		pid, err := localcloud.Holder(r.State)
		if err != nil {
			return err
		}
		if pid != r.PID {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d was interrupted and has not ended after %s: its guests may still be stopping; try again, or end it by `kill %d`", r.PID, wait, r.PID)
		case <-tick.C:
		}
	}
}
