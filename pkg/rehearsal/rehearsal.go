// Package rehearsal runs the whole factory on one machine: it starts the
// embedded AWS, deploys into it the functions and the state machine that would
// run on AWS, and bakes.
package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/deploy"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/try"
	"github.com/ami-factory/ami-factory/userdata"
)

// Options of a rehearsal.
type Options struct {
	Guests vm.Kind
	// Region is the home region, where the factory is deployed; its partition is that of
	// the embedded AWS. Default localcloud.DefaultRegion.
	Region string
	// StateDir keeps the embedded AWS across runs, in a folder for each kind of guests
	// and home region. Empty: nothing is kept.
	StateDir string
	// CacheDir keeps base images and packages, shared by all states.
	CacheDir string
	// FunctionsDir holds <stage>/bootstrap, the functions' programs. Empty: the
	// stages run in this process, which tests and benchmarks use.
	FunctionsDir string
	// Bare deploys nothing: the embedded AWS is bootstrapped for the CDK instead, so
	// that `cdk deploy` can. Base images, keys that recipes name, and topics that
	// the factory listens to are there.
	Bare bool
	// GossFile is the static check engine for guests.
	GossFile string
	// UserDataDir is read instead of the copy in the functions' programs.
	UserDataDir string
	// Parameters of components, for all recipes.
	Parameters component.Deployment
	// StandIns serve vendors' packages to guests, and components are pointed to
	// them. Nil: they are pointed to what they say themselves.
	StandIns *guests.StandIns
	// Schedules are active: nights build what is stale, and sources are checked. Without
	// it they are deployed and quiet, so that nothing joins a bake. On a virtual clock
	// that nothing holds, they make time run on for ever.
	Schedules bool
	// OnDemandFindings and FindingProducts are what a deployment's settings of these
	// names are: whose findings start builds in addition to those of Amazon Inspector.
	OnDemandFindings bool
	// InspectorScan is what a deployment's setting inspectorScan is. The embedded Amazon
	// Inspector knows what Feeds say.
	InspectorScan bool
	// Feeds are files of feeds of vulnerabilities. The factory's bucket gets them.
	Feeds []string
	// SecurityHub is what a deployment's setting securityHub is.
	SecurityHub     bool
	FindingProducts []string

	Version   string
	Listen    string // default 127.0.0.1:0
	Official  baseimage.Official
	Clock     clock.Clock
	Timing    ec2.Timing // default: none for real guests, ec2.AWSLike for simulated ones
	Simulated guests.Simulated
	// Decisions receives every decision on a call that a role makes. May be nil.
	Decisions func(authz.Decision)
	// Requester is the person who starts executions of recipes that want approvals.
	// Default Requester.
	Requester string
	// Asked is called when people are asked to approve the release of an execution that
	// Bake runs; it plays them. May be nil: nobody answers.
	Asked func(context.Context, *Factory, approval.Request)
	// KeepFailed keeps the guests of a failed execution running: see Kept.
	KeepFailed bool
	// Notice receives lines about what happens in the embedded AWS. May be nil.
	Notice   func(string)
	Progress func(string) // told what set-up does; may be nil
	Log      *slog.Logger
}

// Factory is a factory deployed in an embedded AWS.
type Factory struct {
	Cloud        *localcloud.Cloud
	URL          string // for AWS clients
	StateMachine string // ARN
	Bucket       string
	DeadLetters  string   // address of the queue of what the triggers could not do
	ApprovalURL  string   // where people approve releases, in sessions of the role Approver
	Approver     string   // ARN
	Guests       string   // kind and description
	StateDir     string   // of this kind of guests
	Recovered    []string // removed, since an interrupted run had left it
	Unrecovered  error    // what of it could not be removed; it is tried again at the next Open

	opts      Options
	driver    vm.Driver
	temporary string // folder to remove in the end
	bases     *guests.Bases
	deployed  *deploy.Deployment // nil: nothing is
	keeping   keeping
	feeds     []feed
}

// ErrMissing is in the chain of Open's error when this machine lacks programs
// that the kind of guests needs.
var ErrMissing = errors.New("packages are missing")

// Open starts the embedded AWS, deploys the factory in it, and removes what an
// earlier run that was killed has left. The caller must Close it.
func Open(ctx context.Context, opts Options) (_ *Factory, err error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	if err := opts.checkPrograms(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.CacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("the folder of base images and packages cannot be made: %w; name another with --cache (make bake CACHE=FOLDER)", err)
	}
	if opts.StandIns != nil {
		if opts.Parameters, err = opts.StandIns.Parameters(opts.userData(), opts.Parameters); err != nil {
			return nil, err
		}
	}
	f := &Factory{opts: opts}
	if f.feeds, err = readFeeds(opts.Feeds); err != nil {
		return nil, err
	}
	booted := f.guestOptions()
	if err := f.addSSMAgent(&booted); err != nil {
		return nil, fmt.Errorf("stand-in for the SSM agent: %w", err)
	}
	f.StateDir = opts.Dir()
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(context.WithoutCancel(ctx)))
		}
	}()
	if f.driver, err = guests.Driver(ctx, booted); err != nil {
		return nil, err
	}
	f.Guests = string(f.driver.Kind()) + ": " + guests.Describe(f.driver, opts.StandIns != nil)
	var spare func(string, vm.Machine) bool
	if opts.KeepFailed {
		spare = f.spare
	}
	f.Cloud, err = localcloud.New(ctx, localcloud.Config{
		Spare:  spare,
		Driver: f.driver, Clock: opts.Clock, StateDir: f.StateDir, Account: localcloud.DefaultAccount, Region: opts.Region,
		EnforceIAM: true, Decisions: opts.Decisions, Notice: opts.Notice, Timing: opts.Timing, Limits: ec2.Limits{VCPUs: 2, MemoryMiB: 2048}, Logger: opts.Log,
		FunctionEnvironment: f.functionEnvironment(), ScanSBOM: f.scanSBOM,
	})
	if err != nil {
		return nil, err
	}
	// A run that was killed before it ever saved its state has left folders too.
	if err := f.Cloud.EC2.Sweep(); err != nil {
		return nil, fmt.Errorf("remove the folders an interrupted run left: %w", err)
	}
	if f.URL, err = f.Cloud.Listen(ctx, opts.Listen); err != nil {
		return nil, err
	}
	f.bases = &guests.Bases{Options: booted, Images: f.Cloud.EC2, Parameters: f.Cloud.SSM}
	if opts.Guests == vm.Simulated {
		if err := f.ProvideBases(ctx, guests.Available(opts.Guests)...); err != nil {
			return nil, err
		}
	}
	if opts.Bare {
		if err := deploy.Prepare(ctx, f.Cloud, f.deployOptions()); err != nil {
			return nil, fmt.Errorf("prepare the embedded AWS for deployments: %w", err)
		}
		return f, nil
	}
	if f.deployed, err = deploy.Deploy(ctx, f.Cloud, f.deployOptions()); err != nil {
		return nil, fmt.Errorf("deploy the factory into the embedded AWS: %w", err)
	}
	f.Bucket, f.StateMachine, f.DeadLetters = f.deployed.Bucket, f.deployed.StateMachine, f.deployed.DeadLetters
	f.ApprovalURL, f.Approver = f.deployed.ApprovalURL, f.deployed.Approver
	if err := f.provideFeeds(ctx); err != nil {
		return nil, err
	}
	// What cannot be removed must not keep the next bake from running.
	f.Unrecovered = f.recover(ctx)
	return f, nil
}

// Dir is the folder of the state, of one kind of guests and one home region; empty:
// nothing is kept.
func (o *Options) Dir() string {
	if o.StateDir == "" {
		return ""
	}
	dir := filepath.Join(o.StateDir, string(o.Guests))
	if region := cmp.Or(o.Region, localcloud.DefaultRegion); region != localcloud.DefaultRegion {
		dir += "-" + region
	}
	if o.Bare { // two factories in one would have the same names
		dir += bareSuffix
	}
	return dir
}

const bareSuffix = "-bare"

// Homes are the home regions that a state folder has a state of a kind of guests for,
// sorted.
func Homes(stateDir string, guests vm.Kind) []string {
	found, _ := filepath.Glob(filepath.Join(stateDir, string(guests)+"*", stateFile)) // the pattern is valid
	var out []string
	for _, file := range found {
		of, ok := strings.CutPrefix(filepath.Base(filepath.Dir(file)), string(guests))
		region := cmp.Or(strings.TrimPrefix(of, "-"), localcloud.DefaultRegion)
		if ok && partition.Known(region) { // "bare" is none: nothing is deployed in it
			out = append(out, region)
		}
	}
	slices.Sort(out)
	return out
}

const stateFile = "state.json"

// HomeOf is the home region of recipes: that of most of those that are named, of all
// when none is named, and localcloud.DefaultRegion when no recipe has one.
func HomeOf(fsys fs.FS, now time.Time, recipes ...string) string {
	if len(recipes) == 0 {
		recipes, _ = recipe.Names(fsys)
	}
	count := map[string]int{}
	home := localcloud.DefaultRegion
	for _, name := range recipes {
		// What is wrong with a recipe, its execution reports.
		if r, _, err := recipe.Load(fsys, name, recipe.Options{Now: now}); err == nil && partition.Known(r.Home().Name) {
			count[r.Home().Name]++
		}
	}
	for _, region := range slices.Sorted(maps.Keys(count)) {
		if count[region] > count[home] {
			home = region
		}
	}
	return home
}

func (o *Options) complete() error {
	if o.Guests == "" {
		o.Guests = vm.VM
	}
	if o.Region == "" {
		o.Region = localcloud.DefaultRegion
	}
	if !partition.Known(o.Region) {
		_, message, allowed := partition.Check(o.Region)
		return fmt.Errorf("%s (allowed: %s)", message, allowed)
	}
	if err := guests.Check(o.Guests); err != nil {
		return err
	}
	if missing := baseimage.Missing(o.Guests); len(missing) > 0 && o.Official.URL == "" {
		return fmt.Errorf("%w for --guests %s: install %v, or use --guests simulated", ErrMissing, o.Guests, missing)
	}
	if o.Clock == nil {
		o.Clock = clock.NewReal()
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Guests == vm.Simulated && o.Timing == (ec2.Timing{}) {
		o.Timing = ec2.AWSLike()
	}
	if o.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("no folder for base images and packages is known: %w; name one with --cache (make bake CACHE=FOLDER)", err)
		}
		o.CacheDir = filepath.Join(dir, "ami-factory")
	}
	for _, path := range []*string{&o.CacheDir, &o.StateDir, &o.FunctionsDir, &o.GossFile, &o.UserDataDir} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	return nil
}

// checkPrograms refuses to start without what deploy will need.
func (o *Options) checkPrograms() error {
	if o.Bare {
		return nil
	}
	var missing []string
	if _, err := os.Stat(o.GossFile); err != nil {
		missing = append(missing, o.GossFile)
	}
	if o.FunctionsDir != "" {
		for _, fn := range blueprint.Functions() {
			file := filepath.Join(o.FunctionsDir, fn.Name, "bootstrap")
			if _, err := os.Stat(file); err != nil {
				missing = append(missing, file)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d of the factory's programs are not built, the first is %s: run `make build` in the project's folder, or say where they are with --functions and --goss",
			len(missing), missing[0])
	}
	return o.checkArchitecture()
}

// checkArchitecture refuses programs that cannot run here: functions run on this
// machine, and guests have its processor. Simulated guests run no engine.
func (o *Options) checkArchitecture() error {
	var files []string
	if o.FunctionsDir != "" {
		for _, fn := range blueprint.Functions() {
			files = append(files, filepath.Join(o.FunctionsDir, fn.Name, "bootstrap"))
		}
	}
	if o.Guests != vm.Simulated {
		files = append(files, o.GossFile)
	}
	for _, file := range files {
		if err := program.MustRunOn(file, runtime.GOARCH); err != nil {
			return fmt.Errorf("%w: run `make build` in the project's folder, or name others with --functions and --goss", err)
		}
	}
	return nil
}

// userData is what goes into images: the folder of the options, or the copy in
// this program.
func (o *Options) userData() fs.FS {
	if o.UserDataDir != "" {
		return os.DirFS(o.UserDataDir)
	}
	return userdata.FS
}

// guestOptions say what guests there are.
func (f *Factory) guestOptions() guests.Options {
	o := f.opts
	return guests.Options{
		Kind: o.Guests, Region: o.Region, Owners: guests.Owners(o.userData(), o.Clock.Now()), CacheDir: o.CacheDir, Official: o.Official, Simulated: o.Simulated, AWS: f.handler(), Vendors: o.StandIns,
		Clock: o.Clock, Progress: o.Progress, Log: o.Log,
	}
}

// addSSMAgent gives guests that install packages a stand-in for the SSM agent: its
// address becomes a parameter of the component.
func (f *Factory) addSSMAgent(booted *guests.Options) (err error) {
	if booted.Kind == vm.Simulated {
		return nil
	}
	if booted.Vendors == nil {
		if booted.Vendors, err = guests.NewStandIns(f.opts.StateDir); err != nil {
			return err
		}
	}
	f.opts.Parameters, err = booted.Vendors.SSMAgent(f.opts.userData(), f.opts.Parameters)
	return err
}

// deployOptions say what is deployed.
func (f *Factory) deployOptions() deploy.Options {
	o := f.opts
	return deploy.Options{
		FunctionsDir: o.FunctionsDir, GossFile: o.GossFile, Guests: f.Guests, Simulated: o.Guests == vm.Simulated, Endpoint: f.URL,
		UserData: o.userData(), UserDataDir: o.UserDataDir, Parameters: o.Parameters, Agents: o.StandIns != nil, Schedules: o.Schedules,
		OnDemandFindings: o.OnDemandFindings, FindingProducts: o.FindingProducts, InspectorScan: o.InspectorScan, SecurityHub: o.SecurityHub, Version: o.Version, Clock: o.Clock,
	}
}

// functionEnvironment is what a template cannot tell functions, since on AWS there is
// nothing to tell: what their guests are, and where those find S3.
func (f *Factory) functionEnvironment() map[string]string {
	if !f.opts.Bare {
		return nil
	}
	return map[string]string{contract.EnvGuests: f.Guests, contract.EnvGuestEndpoint: "http://" + guests.Host}
}

// ProvideBases makes the base images of distributions known under their owners and
// public parameters, building what the cache lacks. Bake does so by itself for its
// recipe; simulated guests have all of them from the start.
func (f *Factory) ProvideBases(ctx context.Context, names ...string) error {
	return f.bases.Provide(ctx, names...)
}

// Bases are the base images that recipes build on, of all recipes when none is named.
func (f *Factory) Bases(recipes ...string) []string {
	return guests.Needed(f.opts.userData(), f.opts.Guests, f.opts.Clock.Now(), recipes...)
}

// Try boots an instance, reads what became of its first boot, and terminates it.
func (f *Factory) Try(ctx context.Context, in try.Input) (try.Result, error) {
	return try.Run(ctx, try.Machine{
		Cloud: f.Cloud, Clock: f.opts.Clock, Guests: f.driver.Kind(), Description: guests.Describe(f.driver, f.opts.StandIns != nil),
	}, in)
}

// handler forwards to what guests may reach of the embedded AWS, which does not
// exist yet when their network is made.
func (f *Factory) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.Cloud == nil {
			http.Error(w, "the embedded AWS is starting", http.StatusServiceUnavailable)
			return
		}
		f.Cloud.GuestHandler().ServeHTTP(w, r)
	})
}

// closeTimeout bounds how long Close waits for guests to go.
const closeTimeout = time.Minute

// Close stops everything, running executions too, and keeps the state. Use
// Stop first to let executions clean up.
func (f *Factory) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var errs []error
	if f.Cloud != nil {
		errs = append(errs, f.Cloud.Close(ctx))
	}
	if f.driver != nil {
		errs = append(errs, f.driver.Close())
	}
	if f.temporary != "" {
		errs = append(errs, os.RemoveAll(f.temporary))
	}
	return errors.Join(errs...)
}

// Registry is the host and port of the container registry, as in names of images.
func (f *Factory) Registry() string { return strings.TrimPrefix(f.URL, "http://") }
