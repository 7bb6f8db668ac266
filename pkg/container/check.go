package container

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
	"github.com/ami-factory/ami-factory/pkg/secret"
)

// Engine is the name of these checks in results.
const Engine = "container-static"

// Options are what an image is checked against.
type Options struct {
	// Contract that the image must keep; nil: that of the image's own label.
	Contract *Contract
	// Bases that are approved; nil: it is not checked which base the image has.
	Bases *Bases
	// Reference says that the image was made from packages and has no base.
	Reference bool
	Gate      string // lowest severity whose failure rejects the image
	Waivers   compliance.Waivers
	Now       time.Time
	Limits    Limits // zero: DefaultLimits
	RunID     string
}

// CheckImage checks an image and returns its results in the form of the compliance checks
// of hosts. An image whose layers cannot be read fails the checks that read them; the
// error is for an image whose manifest or configuration cannot be read.
func CheckImage(i Image, o Options) (compliance.Report, error) {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	s := &subject{Options: o, image: i}
	if err := s.read(); err != nil {
		return compliance.Report{}, err
	}
	properties := map[string][]compliance.PropertyResult{}
	var controls []compliance.Control
	for _, c := range checks() {
		if c.ID == baseControl && o.Reference {
			continue
		}
		controls = append(controls, c.Control)
		properties[c.ID] = s.run(c)
	}
	report, err := compliance.Judge(compliance.Input{
		Controls: controls, Gate: o.Gate, Waivers: o.Waivers, Now: o.Now, RunID: o.RunID,
		ImageID: i.ID, RecipeDigest: s.label(LabelRecipeDigest), Results: s.rawConfig,
		Engine: compliance.Engine{Name: Engine, Version: "1"},
	}, properties)
	report.Warnings = append(report.Warnings, s.warnings...)
	slices.Sort(report.Warnings)
	return report, err
}

// subject is an image under check.
type subject struct {
	Options
	image       Image
	rawConfig   []byte
	config      *v1.ConfigFile
	annotations map[string]string
	contract    *Contract
	noContract  error // why there is none
	tree        *tree
	noTree      error // why the layers cannot be read
	warnings    []string
}

// maxConfig bounds manifest and configuration, in bytes. Registries bound manifests to 4 MiB.
const maxConfig = 8 << 20

func (s *subject) read() error {
	var err error
	if s.rawConfig, err = s.image.RawConfigFile(); err != nil {
		return fmt.Errorf("read the configuration of the image: %w", err)
	}
	if len(s.rawConfig) > maxConfig {
		return fmt.Errorf("the configuration of the image has %d bytes, %d are allowed", len(s.rawConfig), maxConfig)
	}
	s.config = &v1.ConfigFile{}
	if err := json.Unmarshal(s.rawConfig, s.config); err != nil {
		return fmt.Errorf("read the configuration of the image: %w", err)
	}
	if s.image.Manifested {
		m, err := s.image.Manifest()
		if err != nil {
			return fmt.Errorf("read the manifest of the image: %w", err)
		}
		s.annotations = m.Annotations
		if got, want := sum(s.rawConfig), m.Config.Digest.String(); got != want {
			return fmt.Errorf("the configuration of the image has the digest %s, the manifest says %s", got, want)
		}
	}
	own, err := FromLabels(s.config.Config.Labels)
	switch {
	case s.Contract != nil:
		s.contract = s.Contract
	case err == nil:
		s.contract = &own
	}
	s.noContract = err
	s.tree, s.noTree = unpack(s.image, s.config.RootFS.DiffIDs, s.Limits)
	return nil
}

func (s *subject) label(name string) string { return s.config.Config.Labels[name] }

// env is a variable of the image's environment.
func (s *subject) env(name string) (string, bool) {
	for _, pair := range slices.Backward(s.config.Config.Env) {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// user is the number of user and group as whom the image runs.
func (s *subject) user() (uid, gid int, err error) {
	given := s.config.Config.User
	name, group, grouped := strings.Cut(given, ":")
	uid, err = strconv.Atoi(name)
	// Larger numbers become others in some runtimes, 4294967296 becomes 0 (CVE-2024-40635).
	if err != nil || uid < 0 || uid > math.MaxInt32 {
		return 0, 0, fmt.Errorf("the user is %q", given)
	}
	// Runtimes compare names first, so a user whose name is a number is that user.
	for _, f := range s.accounts("/etc/passwd") {
		if f[0] == name {
			return 0, 0, fmt.Errorf("the user is %q, and /etc/passwd has a user of this name", given)
		}
	}
	if grouped {
		if gid, err = strconv.Atoi(group); err != nil || gid < 0 || gid > math.MaxInt32 {
			return 0, 0, fmt.Errorf("the group is %q", group)
		}
		for _, f := range s.accounts("/etc/group") {
			if f[0] == group {
				return 0, 0, fmt.Errorf("the group is %q, and /etc/group has a group of this name", group)
			}
		}
		return uid, gid, nil
	}
	// Runtimes take the group from the image's own list of users, otherwise 0.
	for _, f := range s.accounts("/etc/passwd") {
		if len(f) < 4 {
			continue
		}
		// Runtimes compare numbers: 0950 is 950.
		if number, err := strconv.Atoi(f[2]); err == nil && number == uid {
			gid, _ = strconv.Atoi(f[3]) // 0 if it is no number, as in runtimes
			return uid, gid, nil
		}
	}
	return uid, 0, nil
}

// accounts are the fields of each line of the image's list of users or groups.
func (s *subject) accounts(file string) [][]string {
	if s.tree == nil {
		return nil
	}
	n, err := s.tree.walk(file, false, 0)
	if err != nil {
		return nil
	}
	var out [][]string
	for line := range strings.Lines(string(n.content)) {
		out = append(out, strings.Split(strings.TrimSpace(line), ":"))
	}
	return out
}

// runUser is the user for questions about files: the contract's, else the image's.
func (s *subject) runUser() (uid, gid int, err error) {
	if s.contract != nil {
		return s.contract.User, s.contract.Group, nil
	}
	return s.user()
}

// check is one control with the way to check it.
type check struct {
	compliance.Control
	expected string
	files    bool // it reads the layers
	promised bool // it needs a contract
	run      func(*subject) []string
}

// most is how many deviations of one control are listed.
const most = 20

// run returns what was compared.
func (s *subject) run(c check) []compliance.PropertyResult {
	one := func(status, actual string) []compliance.PropertyResult {
		return []compliance.PropertyResult{{Rule: c.Resources[0].ID, Status: status, Expected: c.expected, Actual: actual}}
	}
	if c.files && s.noTree != nil {
		return one(compliance.StatusError, "the layers cannot be read: "+plaintext.Clean(s.noTree.Error()))
	}
	if c.promised && s.contract == nil {
		return one(compliance.StatusError, "there is no contract: "+plaintext.Clean(s.noContract.Error()))
	}
	deviations := c.run(s)
	if len(deviations) == 0 {
		return one(compliance.StatusPass, c.expected)
	}
	var out []compliance.PropertyResult
	for i, d := range deviations {
		if i == most {
			out = append(out, one(compliance.StatusFail, fmt.Sprintf("and %d more", len(deviations)-most))...)
			break
		}
		out = append(out, one(compliance.StatusFail, plaintext.Clip(plaintext.Clean(d), 500))...)
	}
	return out
}

// listed are deviations of which the first are kept: an image can have a million.
type listed struct {
	out  []string
	more int
}

func (l *listed) add(format string, args ...any) {
	if len(l.out) >= maxListed {
		l.more++
		return
	}
	l.out = append(l.out, fmt.Sprintf(format, args...))
}

func (l *listed) all() []string {
	if l.more > 0 {
		return append(l.out, fmt.Sprintf("and %d more", l.more))
	}
	return l.out
}

// baseControl is the control of the approved base.
const baseControl = "OCI-10"

// Controls lists what CheckImage checks.
func Controls() []compliance.Control {
	var out []compliance.Control
	for _, c := range checks() {
		out = append(out, c.Control)
	}
	return out
}

func control(id, severity, title, fix string) compliance.Control {
	return compliance.Control{
		ID: id, Title: title, Severity: severity, Component: "container", Fix: fix, Engine: Engine,
		Resources: []compliance.Resource{{ID: strings.ToLower(id), Type: "image", Properties: []string{"static"}}},
	}
}

func checks() []check {
	c := control
	return []check{
		{c("OCI-01", "high", "The image runs as a numeric user other than root", "Write USER 950:950, with the numbers of the contract: Kubernetes cannot verify a name."),
			"a number other than 0, such as 950:950", false, false, (*subject).checkUser},
		{c("OCI-02", "high", "The entrypoint is a list that starts a program without a shell", `Write ENTRYPOINT ["/app/server"], a list with the program's absolute path.`),
			"a list that begins with the absolute path of a program", false, false, (*subject).checkVector},
		{c("OCI-03", "high", "The entrypoint's program exists, and the user can execute it", "Copy the program into the image with mode 0755."),
			"a file that the user can execute", true, false, (*subject).checkProgram},
		{c("OCI-04", "high", "The interpreter and all libraries of the program are in the image", "Link the program statically, or add the packages of its libraries."),
			"each interpreter and library resolves within the image", true, false, (*subject).checkLibraries},
		{c("OCI-05", "medium", "The image names the signal that ends the service", "Write STOPSIGNAL SIGTERM, or the signal of the contract."),
			"the signal of the contract", false, false, (*subject).checkSignal},
		{c("OCI-06", "high", "No file gives other rights to who executes it", "Remove the bits: RUN find / -xdev -perm /6000 -exec chmod a-s {} +, in the layer that adds the files."),
			"no file with setuid, setgid or capabilities", true, false, (*subject).checkPrivileged},
		{c("OCI-07", "high", "Not everybody can write outside /tmp", "Remove the bit: chmod o-w, in the layer that adds the file."),
			"nothing that everybody can write but the sticky folders /tmp and /var/tmp", true, false, (*subject).checkWorldWritable},
		{c("OCI-08", "critical", "No layer has a secret, deleted files included", "Replace the secret: it is in the image's history for everybody who can pull it. Build without it, with a secret mount."),
			"no secret in any layer", true, false, (*subject).checkSecrets},
		{c("OCI-09", "critical", "The configuration of the image has no secret", "Replace the secret, and pass it when the service runs. An ARG stays in the history."),
			"no secret in environment, arguments, labels, annotations and history", false, false, (*subject).checkConfigSecrets},
		{c(baseControl, "high", "The image was built on an approved base", "Build FROM an approved reference image by digest, and label the image with that digest."),
			"label " + labelBaseDigest + " with the digest of an approved base, whose layers come first", false, false, (*subject).checkBase},
		{c("OCI-11", "medium", "The image says for which platform it is, and its program is for it", "Build with --platform linux/amd64 or linux/arm64."),
			"operating system linux, an architecture, and a program for it", false, false, (*subject).checkPlatform},
		{c("OCI-12", "low", "The image says what it is and where it comes from", "Set the labels org.opencontainers.image.*; docker/metadata-action and buildx do."),
			"labels " + strings.Join(wantedLabels(), ", ") + "; annotations agree", false, false, (*subject).checkLabels},
		{c("OCI-13", "high", "The image is still maintained", "Rebuild on a maintained base, and set the label to its last day."),
			"label " + LabelEOL + " with a day to come, YYYY-MM-DD", false, false, (*subject).checkEOL},
		{c("OCI-14", "low", "Somebody answers for the image", "Set the label to a team or a mail address."),
			"label " + LabelOwner, false, false, (*subject).checkOwner},
		{c("OCI-15", "high", "The image carries its contract", "Set the label that `ami-factory container contract FILE --format labels` prints. An image inherits that of its base, which is not its own."),
			"label " + LabelContract + " with the contract", false, false, (*subject).checkContractLabel},
		{c("OCI-16", "high", "The image does what its contract says", "Change the image or the contract: entrypoint, arguments, user, signal."),
			"entrypoint, arguments, user and signal of the contract", false, true, (*subject).checkContract},
		{c("OCI-17", "high", "The image has the ports of its contract", "Write ENV PORT=8080 and EXPOSE 8080, with the default of the contract."),
			"environment and exposed ports of the contract", false, true, (*subject).checkPorts},
		{c("OCI-18", "medium", "The user can write where the contract says", "Make each folder with the user as its owner: COPY --chown, or install -d -o 950 -g 950."),
			"a folder of the user for each path in writable", true, true, (*subject).checkWritable},
		{c("OCI-19", "low", "No package manager left its cache", "Remove the cache in the layer that fills it: rm -rf /var/lib/apt/lists/*, or --no-cache."),
			"no lists, archives and caches of package managers", true, false, (*subject).checkCaches},
		{c("OCI-20", "medium", "No symbolic link leads out of the image", "Make the link relative, or let it end within the image."),
			"each link stays within the image", true, false, (*subject).checkLinks},
		{c("OCI-21", "critical", "The layers can be unpacked safely", "Build the image with a usual tool: names do not lead upwards, hard links have targets."),
			"names within the image, hard links with targets, digests as stated", true, false, func(s *subject) []string { return s.tree.problems }},
		{c("OCI-22", "high", "The image has no device files", "Remove them: runtimes make those that a container may use."),
			"no device and no named pipe", true, false, (*subject).checkDevices},
		{c("OCI-23", "medium", "The service cannot change its own program", "Let root own the program and its folder: COPY without --chown."),
			"program and libraries that the user cannot write", true, false, (*subject).checkOwnProgram},
	}
}

func (s *subject) checkUser() []string {
	given := s.config.Config.User
	if given == "" {
		return []string{"no user, which is root"}
	}
	uid, gid, err := s.user()
	switch {
	case err != nil:
		return []string{err.Error() + ", not a number"}
	case uid == 0:
		return []string{fmt.Sprintf("user %q, which is root", given)}
	case gid == 0:
		return []string{fmt.Sprintf("user %q, whose group is root's", given)}
	}
	return nil
}

func (s *subject) checkVector() []string {
	vector := s.config.Config.Entrypoint
	if len(vector) == 0 {
		return []string{fmt.Sprintf("no entrypoint (the command is %q)", s.config.Config.Cmd)}
	}
	// The command is the end of the same vector.
	vector = append(slices.Clone(vector), s.config.Config.Cmd...)
	if wrong := wrongEntrypoint(vector); len(wrong) > 0 || s.tree == nil {
		return wrong
	}
	// A link may give an init or a shell another name.
	vector[0] = s.real(vector[0])
	program, rest := throughInit(vector)
	if real := s.real(program); path.Base(real) != "busybox" { // which goes by the link's name
		return shellCommand(real, rest)
	}
	return nil
}

// real is where the name of a program leads to; the name itself if it leads nowhere.
func (s *subject) real(name string) string {
	found, _, why := s.find(name)
	if why != "" {
		return name
	}
	if _, real, _, err := s.tree.follow(found, false, 0); err == nil {
		return real
	}
	return name
}

// entrypoint is the vector that is looked for in the image: its own, else the contract's.
func (s *subject) entrypoint() []string {
	if len(s.config.Config.Entrypoint) > 0 {
		return s.config.Config.Entrypoint
	}
	if s.contract != nil {
		return s.contract.Entrypoint
	}
	return s.config.Config.Cmd
}

// programs are the files that the entrypoint starts: an init, and what that starts.
func (s *subject) programs() []string {
	vector := s.entrypoint()
	if len(vector) == 0 {
		return nil
	}
	out := []string{vector[0]}
	if inner, _ := throughInit(vector); inner != vector[0] {
		out = append(out, inner)
	}
	if s.contract != nil && s.contract.Health != nil && len(s.contract.Health.Command) > 0 {
		out = append(out, s.contract.Health.Command[0])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// find looks for a program as execvp does.
func (s *subject) find(name string) (string, *node, string) {
	uid, gid, err := s.runUser()
	if err != nil {
		uid, gid = -1, -1 // nobody: the bits of others
	}
	if strings.Contains(name, "/") {
		if !strings.HasPrefix(name, "/") {
			name = path.Join("/", s.config.Config.WorkingDir, name)
		}
		n, why := s.tree.executable(name, uid, gid)
		return name, n, why
	}
	search, ok := s.env("PATH")
	if !ok {
		search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" // of runtimes
	}
	for dir := range strings.SplitSeq(search, ":") {
		if n, why := s.tree.executable(path.Join("/", dir, name), uid, gid); why == "" {
			return path.Join("/", dir, name), n, ""
		}
	}
	return name, nil, "is in no folder of PATH, " + search
}

// executable finds a file that a user can execute, or says why there is none.
func (t *tree) executable(name string, uid, gid int) (*node, string) {
	n, _, through, err := t.follow(name, false, 0)
	if err != nil {
		return nil, err.Error()
	}
	for _, dir := range through {
		if !dir.may(uid, gid, 1) {
			return nil, fmt.Sprintf("is in a folder that the user %d:%d cannot enter", uid, gid)
		}
	}
	switch {
	case !n.regular():
		return nil, "is no regular file"
	case !n.may(uid, gid, 1):
		return nil, fmt.Sprintf("has mode %04o of %d:%d, so that the user %d:%d cannot execute it", n.mode, n.uid, n.gid, uid, gid)
	case n.size == 0:
		return nil, "is empty"
	}
	return n, ""
}

func (s *subject) checkProgram() []string {
	programs := s.programs()
	if len(programs) == 0 {
		return []string{"no entrypoint"}
	}
	var out []string
	for _, p := range programs {
		if _, _, why := s.find(p); why != "" {
			out = append(out, p+" "+why)
		}
	}
	return out
}

func (s *subject) checkLibraries() []string {
	programs := s.programs()
	if len(programs) == 0 {
		return []string{"no entrypoint"}
	}
	l := linker{s: s, seen: map[*node]bool{}}
	for _, p := range programs {
		if name, n, why := s.find(p); why == "" {
			l.start(name, n, 0)
		} else {
			l.say("%s %s", p, why)
		}
	}
	return l.wrong
}

// signals are the names and numbers of Linux.
func signals() map[string]string {
	return map[string]string{"1": "SIGHUP", "2": "SIGINT", "3": "SIGQUIT", "10": "SIGUSR1", "12": "SIGUSR2", "15": "SIGTERM"}
}

// signal is a stop signal by its whole name.
func signal(given string) string {
	given = strings.ToUpper(given)
	if name, ok := signals()[given]; ok {
		return name
	}
	if given != "" && !strings.HasPrefix(given, "SIG") {
		return "SIG" + given
	}
	return given
}

func (s *subject) checkSignal() []string {
	given := s.config.Config.StopSignal
	if given == "" {
		return []string{"no STOPSIGNAL"}
	}
	for _, name := range signals() {
		if signal(given) == name {
			return nil
		}
	}
	return []string{fmt.Sprintf("%q, which a service cannot answer", given)}
}

func (s *subject) checkPrivileged() []string {
	var out listed
	s.tree.each(func(name string, n *node) {
		switch {
		case n.dir(): // setgid of a folder gives new files its group
		case n.mode&0o4000 != 0:
			out.add("%s is setuid of %d (layer %d)", name, n.uid, n.layer)
		case n.mode&0o2000 != 0:
			out.add("%s is setgid of %d (layer %d)", name, n.gid, n.layer)
		case n.capabilities:
			out.add("%s has capabilities (layer %d)", name, n.layer)
		}
	})
	return out.all()
}

func (s *subject) checkWorldWritable() []string {
	var out listed
	s.tree.each(func(name string, n *node) {
		if !n.dir() && !n.regular() || n.mode&0o002 == 0 {
			return // devices and pipes are another control's
		}
		if n.dir() && n.mode&0o1000 != 0 && (name == "/tmp" || name == "/var/tmp") {
			return
		}
		out.add("%s has mode %04o (layer %d)", name, n.mode, n.layer)
	})
	return out.all()
}

func (s *subject) checkSecrets() []string {
	var out []string
	for _, f := range s.tree.secrets {
		text := fmt.Sprintf("%s of layer %d has %s", f.path, f.layer, f.what)
		if n, err := s.tree.walk(f.path, false, 0); err != nil || n.layer != f.layer {
			text += "; a later layer removes it, but everybody who pulls the image has it"
		}
		out = append(out, text)
	}
	if s.tree.moreSecrets > 0 {
		out = append(out, fmt.Sprintf("and %d more", s.tree.moreSecrets))
	}
	return out
}

func (s *subject) checkConfigSecrets() []string {
	var out []string
	look := func(where, text string) {
		if what := secret.InText(text); what != "" {
			out = append(out, where+" has "+what)
		}
	}
	for _, pair := range s.config.Config.Env {
		name, _, _ := strings.Cut(pair, "=")
		look("variable "+name, pair)
	}
	look("the entrypoint", strings.Join(s.config.Config.Entrypoint, " "))
	look("the command", strings.Join(s.config.Config.Cmd, " "))
	look("the shell", strings.Join(s.config.Config.Shell, " "))
	look("a command of ONBUILD", strings.Join(s.config.Config.OnBuild, "\n"))
	if h := s.config.Config.Healthcheck; h != nil {
		look("the health check", strings.Join(h.Test, " "))
	}
	for i, h := range s.config.History {
		look(fmt.Sprintf("step %d of the history", i+1), h.CreatedBy+"\n"+h.Comment+"\n"+h.Author)
	}
	for _, all := range []struct {
		what string
		of   map[string]string
	}{{"label", s.config.Config.Labels}, {"annotation", s.annotations}} {
		for _, name := range sorted(all.of) {
			look(all.what+" "+name, name+"="+all.of[name])
		}
	}
	return out
}

const (
	labelPrefix     = "org.opencontainers.image."
	labelBaseDigest = labelPrefix + "base.digest"
)

// wantedLabels are the parts of names of labels, in the words of
// https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md
func wantedLabels() []string {
	return []string{"created", "licenses", "revision", "source", "title", "vendor", "version"}
}

func (s *subject) checkLabels() []string {
	var out []string
	for _, part := range wantedLabels() {
		name := labelPrefix + part
		value := strings.TrimSpace(s.label(name))
		if value == "" {
			out = append(out, "no label "+name)
			continue
		}
		switch part {
		case "created":
			if _, err := time.Parse(time.RFC3339, value); err != nil {
				out = append(out, fmt.Sprintf("label %s is %q, no time of RFC 3339", name, value))
			}
		case "source":
			if u, err := url.Parse(value); err != nil || u.Scheme == "" || u.Host == "" {
				out = append(out, fmt.Sprintf("label %s is %q, no address", name, value))
			}
		}
	}
	for _, name := range sorted(s.annotations) {
		ours := strings.HasPrefix(name, labelPrefix) || strings.HasPrefix(name, "io.ami-factory.")
		if value, ok := s.config.Config.Labels[name]; ours && ok && value != s.annotations[name] {
			out = append(out, fmt.Sprintf("annotation %s is %q, the label is %q", name, s.annotations[name], value))
		}
	}
	return out
}

func (s *subject) checkBase() []string {
	digest := s.label(labelBaseDigest)
	hash, err := v1.NewHash(digest)
	switch {
	case digest == "":
		return []string{"no label " + labelBaseDigest}
	case err != nil:
		return []string{fmt.Sprintf("label %s is %q, no digest", labelBaseDigest, digest)}
	case s.Bases == nil:
		s.warnings = append(s.warnings, "no list of approved bases was given: it was not checked whether the base "+digest+" is approved")
		return nil
	}
	why, warning := s.Bases.judge(hash.String(), s.config.RootFS.DiffIDs, s.Now)
	if warning != "" {
		s.warnings = append(s.warnings, warning)
	}
	if why != "" {
		return []string{why}
	}
	return nil
}

func (s *subject) checkPlatform() []string {
	var out []string
	if s.config.OS != "linux" {
		out = append(out, fmt.Sprintf("operating system %q", s.config.OS))
	}
	if s.config.Architecture == "" {
		return append(out, "no architecture")
	}
	if p := s.image.Platform; p != nil && (p.OS != s.config.OS || p.Architecture != s.config.Architecture) {
		out = append(out, fmt.Sprintf("the index lists it as %s, its configuration as %s/%s", p, s.config.OS, s.config.Architecture))
	}
	if s.tree == nil {
		return out
	}
	for _, p := range s.programs() {
		name, n, why := s.find(p)
		if why == "" && n.elf != nil && n.elf.unreadable == "" && architecture(n.elf) != s.config.Architecture {
			out = append(out, fmt.Sprintf("%s is for %s, the image for %s", name, architecture(n.elf), s.config.Architecture))
		}
	}
	return out
}

func (s *subject) checkEOL() []string {
	text := s.label(LabelEOL)
	if text == "" {
		return []string{"no label " + LabelEOL}
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return []string{fmt.Sprintf("%q, no day", text)}
	}
	left := day.AddDate(0, 0, 1).Sub(s.Now)
	if left <= 0 {
		return []string{text + ", which is past"}
	}
	if left <= 30*24*time.Hour {
		s.warnings = append(s.warnings, "the image is maintained until "+text+", for less than a month")
	}
	return nil
}

func (s *subject) checkOwner() []string {
	if strings.TrimSpace(s.label(LabelOwner)) == "" {
		return []string{"no label " + LabelOwner}
	}
	return nil
}

func (s *subject) checkContractLabel() []string {
	if s.noContract != nil {
		return []string{s.noContract.Error()}
	}
	if s.Contract == nil {
		return nil
	}
	want, err := s.Contract.Labels()
	if err != nil {
		return []string{err.Error()}
	}
	own, err := FromLabels(s.config.Config.Labels)
	if err != nil {
		return []string{err.Error()}
	}
	have, err := own.Labels()
	if err != nil {
		return []string{err.Error()}
	}
	if have[LabelContract] != want[LabelContract] {
		return []string{fmt.Sprintf("the label says %s, the contract that was given is %s", have[LabelContract], want[LabelContract])}
	}
	return nil
}

func (s *subject) checkContract() []string {
	var out []string
	config, c := s.config.Config, s.contract
	if !slices.Equal(config.Entrypoint, c.Entrypoint) {
		out = append(out, fmt.Sprintf("entrypoint %q, the contract says %q", config.Entrypoint, c.Entrypoint))
	}
	if !slices.Equal(config.Cmd, c.Arguments) {
		out = append(out, fmt.Sprintf("command %q, the contract says arguments %q", config.Cmd, c.Arguments))
	}
	if uid, gid, err := s.user(); err != nil || uid != c.User || gid != c.Group {
		out = append(out, fmt.Sprintf("user %q, the contract says %s", config.User, c.Owner()))
	}
	if got := signal(config.StopSignal); got != c.Stop.Signal {
		out = append(out, fmt.Sprintf("stop signal %q, the contract says %s", config.StopSignal, c.Stop.Signal))
	}
	return out
}

func (s *subject) checkPorts() []string {
	var out []string
	exposed := map[string]bool{}
	for _, p := range s.contract.Ports {
		number := strconv.Itoa(p.Default)
		switch value, ok := s.env(p.Env); {
		case !ok:
			out = append(out, fmt.Sprintf("no variable %s, the contract says %s=%s", p.Env, p.Env, number))
		case value != number:
			out = append(out, fmt.Sprintf("%s=%s, the contract says %s=%s", p.Env, value, p.Env, number))
		}
		exposed[number+"/"+p.Protocol] = true
	}
	for _, port := range sorted(s.config.Config.ExposedPorts) {
		full := port
		if !strings.Contains(full, "/") {
			full += "/tcp"
		}
		if !exposed[full] {
			out = append(out, fmt.Sprintf("EXPOSE %s, which is no port of the contract", port))
		}
	}
	return out
}

func (s *subject) checkWritable() []string {
	var out []string
	c := s.contract
	for _, w := range c.Writable {
		n, real, _, err := s.tree.follow(w, false, 0)
		switch {
		case err != nil:
			out = append(out, w+" "+err.Error())
		case !n.dir():
			out = append(out, w+" is no folder")
		case real != w:
			out = append(out, fmt.Sprintf("%s is a link to %s, where no volume would be mounted", w, real))
		case !n.may(c.User, c.Group, 3):
			out = append(out, fmt.Sprintf("%s has mode %04o of %d:%d, so that %s cannot write to it", w, n.mode, n.uid, n.gid, c.Owner()))
		}
	}
	return out
}

func (s *subject) checkCaches() []string {
	var out []string
	for _, dir := range []string{
		"/var/lib/apt/lists", "/var/cache/apt", "/var/cache/debconf", "/var/cache/dnf", "/var/cache/yum", "/var/cache/libdnf5", "/var/cache/apk", "/etc/apk/cache",
		"/root/.cache", "/root/.npm", "/root/.m2", "/usr/local/share/.cache",
	} {
		n, err := s.tree.walk(dir, false, 0)
		if err != nil || !n.dir() {
			continue
		}
		files, bytes := 0, int64(0)
		(&tree{root: n}).each(func(_ string, n *node) {
			if n.regular() && n.size > 0 {
				files, bytes = files+1, bytes+n.size
			}
		})
		if files > 0 {
			out = append(out, fmt.Sprintf("%s has %d files of %d bytes", dir, files, bytes))
		}
	}
	return out
}

// checkLinks finds links that lead above the root, where they end in the root within the
// container, and in another file wherever the image is unpacked to.
func (s *subject) checkLinks() []string {
	var out listed
	s.tree.each(func(name string, n *node) {
		if n.kind != tar.TypeSymlink {
			return
		}
		depth := strings.Count(path.Dir(name), "/")
		if path.Dir(name) == "/" {
			depth = 0
		}
		if strings.HasPrefix(n.link, "/") {
			depth = 0
		}
		for part := range strings.SplitSeq(n.link, "/") {
			switch part {
			case "", ".":
			case "..":
				depth--
			default:
				depth++
			}
			if depth < 0 {
				out.add("%s leads to %s, above the root (layer %d)", name, n.link, n.layer)
				return
			}
		}
		if strings.HasPrefix(name, "/dev/") {
			return // the kernel's own links of /dev lead to /proc/self/fd
		}
		target := path.Clean(n.link)
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		if harmless(target) {
			return
		}
		// Other links may be on the way.
		_, real, err := s.tree.trace(name, false, 0, nil)
		if ofHost(target) || (err == nil || errors.Is(err, errNoFile)) && ofHost(real) && !harmless(real) {
			out.add("%s leads to %s, which is the host's (layer %d)", name, n.link, n.layer)
		}
	})
	return out.all()
}

// ofHost reports whether a path is in a file system that a runtime mounts.
func ofHost(name string) bool {
	return slices.ContainsFunc([]string{"/proc", "/sys", "/dev"}, func(dir string) bool {
		return name == dir || strings.HasPrefix(name, dir+"/")
	})
}

// harmless reports whether a path is one of the container's own in such a file system.
func harmless(name string) bool {
	return slices.Contains([]string{
		"/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "/proc/mounts", "/proc/self/mounts",
	}, name)
}

func (s *subject) checkDevices() []string {
	var out listed
	s.tree.each(func(name string, n *node) {
		switch n.kind {
		case tar.TypeChar, tar.TypeBlock:
			out.add("%s is a device (layer %d)", name, n.layer)
		case tar.TypeFifo:
			out.add("%s is a named pipe (layer %d)", name, n.layer)
		}
	})
	return out.all()
}

func (s *subject) checkOwnProgram() []string {
	uid, gid, err := s.runUser()
	if err != nil {
		return []string{err.Error()}
	}
	l := linker{s: s, seen: map[*node]bool{}, names: map[string]*node{}}
	for _, p := range s.programs() {
		if name, n, why := s.find(p); why == "" {
			l.start(name, n, 0)
		}
	}
	var out []string
	for _, name := range sorted(l.names) {
		n := l.names[name]
		if n.may(uid, gid, 2) || n.uid == uid {
			out = append(out, fmt.Sprintf("%s is the user's own or can be written by it: mode %04o of %d:%d", name, n.mode, n.uid, n.gid))
		}
	}
	// Whoever can change a folder on the way can put another program in this one's place.
	for _, w := range l.ways {
		for _, dir := range sorted(w.through) {
			p := w.through[dir]
			sticky := p.dir.mode&0o1000 != 0 && p.child.uid != uid
			if p.dir.uid == uid || p.dir.may(uid, gid, 2) && !sticky {
				out = append(out, fmt.Sprintf("%s is in a folder that the user can change, %s: mode %04o of %d:%d", w.name, dir, p.dir.mode, p.dir.uid, p.dir.gid))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
