package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

// local are the flags of commands that start the embedded AWS.
type local struct {
	guests, state, cache, functions, goss string
	region                                string   // home region; empty: that of most of the recipes
	recipes                               []string // that the command is about; empty: all
	official                              baseimage.Official
	verbose                               bool
	given                                 parameters
	standIns, keepFailed                  bool
	feeds                                 []string
	local                                 bool // --state or --guests is given: the embedded AWS is meant, whatever the environment says
}

// registerState adds the flags of commands that read what an embedded AWS keeps.
func (l *local) registerState(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&l.guests, "guests", string(vm.VM), "what instances are: vm (QEMU), container (systemd-nspawn, needs root) or simulated")
	_ = c.RegisterFlagCompletionFunc("guests", cobra.FixedCompletions(guestKinds(), cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	f.StringVar(&l.state, "state", filepath.Join("build", "local"), "`folder` that keeps the embedded AWS between runs")
}

// registerRegion adds the flag for the home region.
func (l *local) registerRegion(c *cobra.Command, recipes string) {
	c.Flags().StringVar(&l.region, "region", "", "home `region`, where the factory is deployed (default: that of "+recipes+")")
	_ = c.RegisterFlagCompletionFunc("region", cobra.FixedCompletions(partition.Regions(), cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// registerGoss adds the flag for the check engine.
func (l *local) registerGoss(c *cobra.Command) {
	c.Flags().StringVar(&l.goss, "goss", defaultGoss(runtime.GOARCH), "the check engine's `file`, which \"make goss\" builds")
}

// defaultGoss is where "make goss" puts the check engine for guests of an
// architecture, in Go's words.
func defaultGoss(goarch string) string { return filepath.Join("build", "goss", goarch) }

// register adds the flags of commands that start the embedded AWS.
func (l *local) register(c *cobra.Command) {
	l.registerState(c)
	f := c.Flags()
	f.StringVar(&l.cache, "cache", "", "`folder` of base images and packages (default: the user's cache folder)")
	f.StringVar(&l.functions, "functions", filepath.Join("build", "lambda", runtime.GOARCH), "`folder` of the functions' programs, which \"make functions\" builds")
	l.registerGoss(c)
	f.StringVar(&l.official.URL, "base-url", "", "use a distribution's official cloud image instead of building a base")
	f.StringVar(&l.official.SHA256, "base-sha256", "", "SHA-256 of the file at --base-url")
	f.BoolVarP(&l.verbose, "verbose", "v", false, "log what the embedded AWS does, on stderr")
}

// registerDeployment adds the flags of commands that deploy the factory.
func (l *local) registerDeployment(c *cobra.Command) {
	l.given.register(c)
	c.Flags().BoolVar(&l.standIns, "stand-in-agents", false, "serve stand-ins for the vendors of agents to the guests, point the agents' components to them, and make secrets for them")
}

// registerFeeds adds the flag of commands whose gate reads feeds of vulnerabilities.
func (l *local) registerFeeds(c *cobra.Command) {
	c.Flags().StringArrayVar(&l.feeds, "feed", nil, "`file` of a feed of vulnerabilities that recipes pin; Amazon Inspector's scan is answered from it too (may be repeated)")
	_ = c.MarkFlagFilename("feed") // the flag exists
}

func (a *app) options(l local) (rehearsal.Options, error) {
	if err := guests.Check(vm.Kind(l.guests)); err != nil {
		return rehearsal.Options{}, usage("--guests: %w", err)
	}
	if (l.official.URL == "") != (l.official.SHA256 == "") {
		return rehearsal.Options{}, usage("--base-url and --base-sha256 go together: nothing is downloaded without a digest to verify it")
	}
	if sum := l.official.SHA256; sum != "" && !sha256Hex.MatchString(sum) {
		return rehearsal.Options{}, usage("--base-sha256 is %q, which is not a SHA-256: 64 hexadecimal digits", sum)
	}
	if u, err := url.Parse(l.official.URL); l.official.URL != "" && (err != nil || u.Scheme == "" || u.Scheme != "file" && u.Host == "") {
		return rehearsal.Options{}, usage("--base-url is %q, which is not a URL such as https://example.org/image.qcow2", l.official.URL)
	}
	dir, err := a.userdataDir()
	if err != nil {
		return rehearsal.Options{}, err
	}
	fsys, err := a.userdataFS()
	if err != nil {
		return rehearsal.Options{}, err
	}
	region := l.region
	if region == "" {
		region = rehearsal.HomeOf(fsys, time.Now(), l.recipes...)
	}
	if !partition.Known(region) { // the embedded AWS has no region that may be newer
		_, message, allowed := partition.Check(region)
		return rehearsal.Options{}, usage("--region: %s (allowed: %s)", message, allowed)
	}
	var standIns *guests.StandIns
	if l.standIns {
		if standIns, err = guests.NewStandIns(l.state); err != nil {
			return rehearsal.Options{}, err
		}
	}
	log := slog.New(slog.DiscardHandler)
	if l.verbose {
		log = slog.New(slog.NewTextHandler(a.err, nil))
	}
	opts := rehearsal.Options{
		Guests: vm.Kind(l.guests), Region: region, StateDir: l.state, CacheDir: l.cache, FunctionsDir: l.functions, GossFile: l.goss,
		UserDataDir: dir, Version: version(), Official: l.official, Parameters: l.given.values, StandIns: standIns, KeepFailed: l.keepFailed, Log: log,
		InspectorScan: true, Feeds: l.feeds,
		// Simulated guests show the workflow: waiting for them shows nothing more.
		Timing: simulatedTiming(vm.Kind(l.guests)),
		Simulated: guests.Simulated{
			Boot: time.Second, Provision: 3 * time.Second, Check: time.Second,
		},
	}
	if a.tune != nil {
		a.tune(&opts)
	}
	return opts, nil
}

var sha256Hex = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)

func simulatedTiming(kind vm.Kind) ec2.Timing {
	if kind != vm.Simulated {
		return ec2.Timing{}
	}
	return ec2.Timing{
		PendingToRunning: time.Second, Stop: time.Second, ImageBase: 2 * time.Second, CopyBase: 2 * time.Second,
		ConsistencyWindow: 200 * time.Millisecond,
	}
}

func (a *app) bake() *cobra.Command {
	var l local
	var in contract.ExecutionInput
	var people []string
	c := &cobra.Command{
		Use:   "bake RECIPE",
		Short: "Bake an image on this machine, against the embedded AWS",
		Long: `Bake an image on this machine: start the embedded AWS, deploy the factory in it,
and run one execution of its state machine. Progress goes to stderr, the summary
(status, images, checks, cost, report) to stdout.

If nothing changed since the last bake, the execution ends UpToDate; --force bakes
again. Ctrl-C stops and removes everything that the execution has made; after a
second Ctrl-C the next run removes it.

The steps of the components are shown as they happen. The consoles of builder and
verifier are kept beside the report. With --keep-failed, the builder or verifier of
a failed bake keeps running after everything else is removed: each line of standard
input runs in it as root, until "exit" or the end of the input.

Exit codes: 0 published or up to date, 1 failed and nothing is left,
2 wrong usage, 3 rejected by the gate or not approved, 4 something is left behind,
130 interrupted.`,
		Example: `  ami-factory bake debian-12-docker
  ami-factory bake debian-12-docker --guests container --force
  ami-factory bake debian-12-docker --guests container --keep-failed
  ami-factory bake my-recipe --region cn-north-1
  ami-factory bake my-recipe --approve-as anna --approve-as bert
  ami-factory bake debian-12-docker --output json > summary.json`,
		Args: takes("one RECIPE"),
		RunE: func(c *cobra.Command, given []string) error {
			in.Recipe = given[0]
			return a.runBake(c.Context(), l, in, people)
		},
	}
	c.ValidArgsFunction = once(a.recipes)
	l.register(c)
	l.registerDeployment(c)
	l.registerFeeds(c)
	l.registerRegion(c, "the recipe")
	a.registerUserData(c)
	c.Flags().BoolVar(&in.Force, "force", false, "bake even if nothing changed")
	c.Flags().BoolVar(&l.keepFailed, "keep-failed", false, "keep the builder or verifier of a failed bake running, and run what you type in it, until \"exit\"")
	c.Flags().StringArrayVar(&people, "approve-as", nil, "play a person of this `name` who approves the release, where the recipe wants that (may be repeated)")
	c.Flags().StringVar(&in.Source, "source", "", "AMI id to build on instead of the recipe's source")
	return c
}

func (a *app) runBake(ctx context.Context, l local, in contract.ExecutionInput, people []string) (err error) {
	if err := checkInput(in); err != nil {
		return err
	}
	l.recipes = []string{in.Recipe}
	opts, err := a.options(l)
	if err != nil {
		return err
	}
	if err := a.mustBeSound(in.Recipe, opts); err != nil {
		return err
	}
	show := newDisplay(a.err)
	opts.Progress = show.note
	opts.Asked = a.asked(show, people)
	show.note("starting the embedded AWS (guests: " + l.guests + ")")
	factory, err := rehearsal.Open(ctx, opts)
	if err != nil {
		show.end()
		return openError(ctx, err)
	}
	defer func() { err = errors.Join(err, factory.Close(ctx)) }()
	show.started(factory)
	stop := context.AfterFunc(ctx, func() { show.note("interrupted: stopping, and removing what was made") })
	defer stop()
	summary, err := factory.Bake(ctx, in, show.event)
	show.end()
	if err != nil {
		if errors.Is(err, rehearsal.ErrInterrupted) {
			return &exitError{exitInterrupted, err}
		}
		return err
	}
	if a.format == "json" {
		err = a.json(summary)
	} else {
		err = writeSummary(a.coloured(a.out), summary)
	}
	if err == nil {
		err = a.lookInto(ctx, factory.Kept())
	}
	if code := exitCode(summary.Status); err == nil && code != exitOK {
		return &exitError{code: code}
	}
	return err
}

// mustBeSound refuses a recipe with problems before anything is started.
func (a *app) mustBeSound(name string, opts rehearsal.Options) error {
	fsys, err := a.userdataFS()
	if err != nil {
		return err
	}
	given := opts.Parameters
	if opts.StandIns != nil {
		if given, err = opts.StandIns.Parameters(fsys, given); err != nil {
			return err
		}
	}
	problems, err := plan.Lint(fsys, given, time.Now(), name)
	if err != nil {
		return err
	}
	if err := problems.Err(); err != nil {
		return err
	}
	if home := rehearsal.HomeOf(fsys, time.Now(), name); home != opts.Region {
		return usage("--region is %s, and recipe %s is built in %s, the first of its distribution.regions (allowed: %s)", opts.Region, name, home, home)
	}
	return nil
}

func openError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &exitError{exitInterrupted, errors.New("interrupted before the execution was started; nothing is left running")}
	}
	return err
}

func exitCode(status string) int {
	switch status {
	case contract.Published, contract.UpToDate:
		return exitOK
	case contract.Rejected, contract.ApprovalRefused, contract.ApprovalTimedOut:
		return exitRejected
	case contract.FailedDirty:
		return exitLeft
	}
	return exitFailed
}

// rows writes rows of a label and a text.
func rows(w io.Writer) func(label, format string, values ...any) {
	return func(label, format string, values ...any) {
		_, _ = fmt.Fprintf(w, "%-13s %s\n", label, fmt.Sprintf(format, values...))
	}
}

// writeOutcome writes the rows that tell how an execution ended, wherever it ran.
func writeOutcome(row func(label, format string, values ...any), recipe string, r execution.Result) {
	row("status", "%s in %s", r.Status, seconds(r.Seconds))
	if r.Error != "" {
		row("error", "%s", r.Error)
		row("cause", "%s", strings.ReplaceAll(strings.TrimSpace(r.Cause), "\n", "\n             "))
	}
	row("recipe", "%s", recipe)
	if r.Fingerprint != "" {
		row("fingerprint", "%s", r.Fingerprint)
		row("source", "%s", r.SourceImage)
	}
	for i, region := range slices.Sorted(maps.Keys(r.Images)) {
		row(first(i, "images"), "%s %s", region, r.Images[region])
	}
}

// simulatedNotice begins every result of simulated guests.
const simulatedNotice = "SIMULATED: no guest was booted and nothing below is proved\n"

// writeReason writes why an image was baked or released again.
func writeReason(row func(label, format string, values ...any), why string, changed []string) {
	if why != "" {
		row("why", "%s", why)
	}
	if len(changed) > 0 {
		row("changed", "%s", strings.Join(changed, ", "))
	}
}

// first is a label for the first of several rows.
func first(i int, label string) string {
	if i > 0 {
		return ""
	}
	return label
}

func writeSummary(w io.Writer, s rehearsal.Summary) error {
	var b strings.Builder
	row := rows(&b)
	if s.Guests == vm.Simulated {
		b.WriteString(simulatedNotice)
	}
	if s.StandInAgents {
		b.WriteString("STAND-IN AGENTS: the agents' components installed stand-ins, not the vendors' agents\n")
	}
	writeOutcome(row, s.Recipe, s.Result)
	if a := s.Again; a != nil {
		row("action", "release of image %s again, without a bake; %s baked it", a.ImageID, a.Execution)
	}
	writeReason(row, s.Why, s.Changed)
	row("guests", "%s (%s)", s.Guests, s.Description)
	if c := s.Checks; c.Passed+c.Failed+c.Waived > 0 {
		row("checks", "%d passed, %d failed, %d waived", c.Passed, c.Failed, c.Waived)
	}
	label := "stages"
	for _, state := range s.States {
		row(label, "%8s  %s", seconds(state.Seconds), state.State)
		label = ""
	}
	row("factory's own", "at most %s; the rest is the guests' and EC2's", seconds(s.OwnSeconds()))
	if e := s.Cost; e != nil {
		row("cost on AWS", "about $%.2f, and $%.2f a month to keep the image, at list prices; see the report", e.USD, e.MonthlyUSD)
	}
	if s.Report != "" {
		row("report", "%s", relative(s.Report))
	}
	if s.Evidence != "" {
		row("evidence", "%s", relative(s.Evidence))
		row("verify it", "ami-factory evidence verify %s --key %s", relative(s.Evidence), relative(s.EvidenceKey))
	}
	for i, file := range s.Consoles {
		row(first(i, "consoles"), "%s", relative(file))
	}
	if s.Disk != "" {
		row("disk", "%s", relative(s.Disk))
	}
	row("execution", "%s", s.Execution)
	_, err := io.WriteString(w, b.String())
	return err
}

// seconds is a duration as people read it: 4ms, 7.8s, 3m42s.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Second:
		return max(d, 0).Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// relative is the shorter way to say where a file is.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}
