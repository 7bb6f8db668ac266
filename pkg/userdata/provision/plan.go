package provision

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

//go:embed runtime.sh
var runtimeScript string

//go:embed functions.sh.tmpl
var functionsScript string

// plan collects the content of the two parts of an archive.
type plan struct {
	spec   *spec.Spec
	config CloudConfig
	steps  []step
	needs  []string // blocks of functions.sh.tmpl
	// environment of all steps, in addition to that of the script: NAME="value".
	environment []string
}

type step struct {
	Step
	body  []string // lines of bash
	needs []string // names of the steps that must succeed before this one runs
}

// newPlan puts the steps in the order of their dependencies.
func newPlan(s *spec.Spec) *plan {
	groups, users := cloudUsers(s.Users)
	p := &plan{spec: s, config: CloudConfig{Groups: groups, Users: users, Timezone: s.Timezone}}
	p.users()
	p.proxy()
	p.kernel()
	p.repositories()
	p.packages()
	p.volumes()
	p.efs()
	p.files()
	p.agents()
	p.services()
	p.commands()
	p.containers()
	return p
}

func (p *plan) dnf() bool { return p.spec.Family == "al2023" }

func (p *plan) need(blocks ...string) {
	for _, b := range blocks {
		if !slices.Contains(p.needs, b) {
			p.needs = append(p.needs, b)
		}
	}
}

func (p *plan) installs() {
	if p.dnf() {
		p.need("each", "dnf")
	} else {
		p.need("each", "apt")
	}
}

func (p *plan) add(kind, name string, must bool, body ...string) {
	p.steps = append(p.steps, step{Step: Step{kind, name, must}, body: body})
}

// after makes the last step depend on others, by their names.
func (p *plan) after(names ...string) {
	last := &p.steps[len(p.steps)-1]
	last.needs = append(last.needs, names...)
}

// named returns the names of the steps of a kind so far.
func (p *plan) named(kind string) []string {
	var out []string
	for _, s := range p.steps {
		if s.Kind == kind {
			out = append(out, s.Name)
		}
	}
	return out
}

func (p *plan) write(path, mode, content string) {
	p.config.WriteFiles = append(p.config.WriteFiles, file(path, mode, content))
}

func (p *plan) described() []Step {
	out := []Step{}
	for _, s := range p.steps {
		out = append(out, s.Step)
	}
	return out
}

// script returns the part for which cloud-init has no module.
func (p *plan) script() string {
	var b strings.Builder
	b.WriteString(strings.NewReplacer("@@NAME@@", p.spec.Name, "@@STATE@@", State, "@@REBOOT@@", reboot).Replace(runtimeScript))
	if len(p.environment) > 0 {
		b.WriteString("export " + strings.Join(p.environment, " \\\n\t") + "\n")
	}
	for _, name := range []string{"user", "each", "apt", "dnf", "service", "kernel", "repository", "mount", "efs-utils", "nfs4", "volume", "file", "command", "container"} {
		if slices.Contains(p.needs, name) {
			b.WriteString("\n" + block(name))
		}
	}
	for i, s := range p.steps {
		fmt.Fprintf(&b, "\nstep_%d() {\n", i+1)
		for _, line := range s.body {
			b.WriteString("\t" + line + "\n")
		}
		b.WriteString("}\n")
	}
	b.WriteString("\n")
	for i, s := range p.steps {
		rule := "may"
		if s.Must {
			rule = "must"
		}
		fmt.Fprintf(&b, "plan %s %s %s step_%d", s.Kind, quote(s.Name), rule, i+1)
		for j, other := range p.steps[:i] {
			if slices.Contains(s.needs, other.Name) {
				fmt.Fprintf(&b, " step_%d", j+1)
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("main\n")
	return b.String()
}

// block returns a part of functions.sh.tmpl, from its mark to the next one.
func block(name string) string {
	_, rest, _ := strings.Cut(functionsScript, "#: "+name+"\n")
	text, _, _ := strings.Cut(rest, "\n#: ")
	return strings.TrimRight(text, "\n") + "\n"
}

// kernel loads modules before it sets sysctls, which may exist only with a module. Later
// boots use the same order (systemd-modules-load.service before systemd-sysctl.service).
func (p *plan) kernel() {
	k := p.spec.Kernel
	if len(k.Modules.Block) > 0 {
		var b strings.Builder
		for _, m := range k.Modules.Block {
			fmt.Fprintf(&b, "install %s /bin/false\nblacklist %s\n", m, m)
		}
		p.write("/etc/modprobe.d/90-userdata.conf", "0644", b.String())
	}
	if modules := p.spec.ModulesToLoad(); len(modules) > 0 {
		p.write("/etc/modules-load.d/90-userdata.conf", "0644", strings.Join(modules, "\n")+"\n")
		p.add("kernel", "load kernel modules", true,
			"if in_container; then",
			"	say 'a container has the modules of its host: these are configured only'",
			"else",
			"	modprobe -a "+strings.Join(modules, " "),
			"fi")
	}
	if len(k.Sysctl) > 0 {
		p.need("kernel")
		var b strings.Builder
		b.WriteString("# From the user-data spec " + p.spec.Name + ". What hardens the image sorts later.\n")
		var settings []string
		for _, name := range sorted(k.Sysctl) {
			value := strings.Join(strings.Fields(k.Sysctl[name]), " ")
			fmt.Fprintf(&b, "%s = %s\n", name, value)
			settings = append(settings, name+"="+value)
		}
		p.write("/etc/sysctl.d/90-userdata.conf", "0644", b.String())
		p.add("kernel", "apply sysctl settings", true,
			"if in_container; then",
			"	say 'a container has the settings of its host: these are configured only'",
			"else",
			"	settings "+quoteAll(settings),
			"fi")
	}
	p.bootArguments()
}

func (p *plan) bootArguments() {
	list := p.spec.Kernel.BootArguments
	if len(list) == 0 {
		return
	}
	if !p.dnf() {
		// update-grub reads these files in the order of their names.
		p.write("/etc/default/grub.d/90-userdata.cfg", "0644",
			"GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX "+strings.Join(list, " ")+"\"\n")
	}
	body := []string{
		"local argument missing='' wanted=(" + quoteAll(list) + ")",
		"if in_container; then",
		"	say 'a container has no boot loader: the arguments are configured only'",
		"	return",
		"fi",
		`for argument in "${wanted[@]}"; do`,
		"	if [[ \" $(cat /proc/cmdline) \" != *\" $argument \"* ]]; then missing+=\" $argument\"; fi",
		"done",
		"if [[ -z $missing ]]; then return; fi",
	}
	if p.dnf() {
		body = append(body, "grubby --update-kernel=ALL --args="+quote(strings.Join(list, " ")))
	} else {
		body = append(body, "update-grub")
	}
	body = append(body, "say \"missing:$missing: the instance reboots when everything else is done\"", "touch \"$reboot\"")
	p.add("kernel", "set boot arguments", true, body...)
	p.config.PowerState = &PowerState{
		Mode: "reboot", Delay: "now", Message: "boot arguments of the user data", Timeout: 30, Condition: []string{"test", "-e", reboot},
	}
}

func (p *plan) repositories() {
	for _, r := range p.spec.Repositories {
		p.need("repository")
		// Render has checked the keys already.
		keys, _ := r.Keys()
		staged, content := State+"/repositories/"+r.Name, keys.Armoured
		p.write(staged+".asc", "0644", content)
		target, key := "/etc/apt/sources.list.d/"+r.Name+".sources", "/etc/apt/keyrings/"+r.Name+".asc"
		if p.dnf() {
			target, key = "/etc/yum.repos.d/"+r.Name+".repo", "/etc/pki/rpm-gpg/"+r.Name+".asc"
			p.write(staged+".conf", "0644", fmt.Sprintf("[%s]\nname=%s\nbaseurl=%s\nenabled=1\ngpgcheck=1\ngpgkey=file://%s\n", r.Name, r.Name, r.URI, key))
		} else {
			components := "Components: " + strings.Join(r.Components, " ") + "\n"
			if strings.HasSuffix(r.Suite, "/") { // a flat repository has no components
				components = ""
			}
			p.write(staged+".conf", "0644", fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\n%sSigned-By: %s\n", r.URI, r.Suite, components, key))
		}
		p.add("repository", "repository "+r.Name, true,
			strings.Join([]string{"repository", r.Name, strings.Join(r.AllFingerprints(), ","), fmt.Sprintf("%x", sha256.Sum256([]byte(content))), target, key}, " "))
	}
}

func (p *plan) packages() {
	if len(p.spec.Packages) == 0 {
		return
	}
	p.installs()
	separator := "="
	if p.dnf() {
		separator = "-"
	}
	var all []string
	for _, pkg := range p.spec.Packages {
		if pkg.Version != "" {
			all = append(all, pkg.Name+separator+pkg.Version)
		} else {
			all = append(all, pkg.Name)
		}
	}
	p.add("packages", "install packages", true, "install_packages "+quoteAll(all))
	// If one of the repositories is missing, a package may come from another one.
	p.after(p.named("repository")...)
}

func (p *plan) volumes() {
	list := slices.Clone(p.spec.Mounts.Volumes)
	slices.SortStableFunc(list, func(a, b spec.Volume) int { return depth(a.MountPoint) - depth(b.MountPoint) })
	for _, v := range list {
		p.need("mount", "volume")
		limit := strconv.Itoa(v.TimeoutSeconds)
		var find string
		switch {
		case v.Label != "":
			find = "by_label " + v.Label
		case v.VolumeID != "":
			find = "by_volume " + v.VolumeID
		case strings.HasPrefix(v.Device, "/dev/disk/"):
			find = "by_path " + v.Device
		case v.Device != "":
			find = "by_device " + v.Device
		default:
			find = "by_store " + strconv.Itoa(v.InstanceStore)
		}
		options := append([]string{"nodev", "nosuid", "nofail", "x-systemd.device-timeout=" + limit + "s", "x-systemd.mount-timeout=" + limit + "s"}, v.Options...)
		p.add("mount", "mount "+v.MountPoint, false,
			"local device",
			"device=$(await "+limit+" "+find+")",
			strings.Join([]string{"volume", v.MountPoint, limit, `"$device"`, v.FileSystem, strings.Join(options, ",")}, " "))
	}
}

func depth(point string) int { return strings.Count(point, "/") }

// efs writes entries as AWS documents them. It adds time-outs, because a server that does
// not answer would delay the boot for minutes:
// https://docs.aws.amazon.com/efs/latest/ug/mounting-IAM-option.html
// https://docs.aws.amazon.com/efs/latest/ug/mounting-access-points.html
// https://docs.aws.amazon.com/efs/latest/ug/mounting-fs-nfs-mount-settings.html
// https://docs.aws.amazon.com/efs/latest/ug/mounting-fs-mount-cmd-dns-name.html
func (p *plan) efs() {
	list := slices.Clone(p.spec.Mounts.EFS)
	slices.SortStableFunc(list, func(a, b spec.EFS) int { return depth(a.MountPoint) - depth(b.MountPoint) })
	for _, e := range list {
		p.installs()
		p.need("mount")
		limit := strconv.Itoa(e.TimeoutSeconds)
		options := []string{"_netdev", "nofail", "nodev", "nosuid"}
		source, kind, helper := e.FileSystemID+":"+e.Path, "efs", "efs_utils"
		if e.Transport == "nfs4" {
			p.need("nfs4")
			source, kind, helper = e.FileSystemID+"."+partition.Host("efs", e.Region)+":"+e.Path, "nfs4", "nfs_client"
			options = append(options, "nfsvers=4.1", "rsize=1048576", "wsize=1048576", "hard", "timeo=600", "retrans=2", "noresvport")
		} else {
			p.need("efs-utils")
			options = append(options, "noresvport", "tls")
			if *e.IAM {
				options = append(options, "iam")
			}
			if e.AccessPoint != "" {
				options = append(options, "accesspoint="+e.AccessPoint)
			}
			if e.Region != "" {
				options = append(options, "region="+e.Region)
			}
		}
		if e.ReadOnly {
			options = append(options, "ro")
		}
		options = append(options, "x-systemd.mount-timeout="+limit+"s")
		unit := "mount"
		if e.Automount {
			options = append(options, "x-systemd.automount", "x-systemd.idle-timeout=600s")
			unit = "automount"
		}
		p.add("mount", "mount "+e.MountPoint, false,
			helper,
			"entry "+e.MountPoint+" "+quote(strings.Join([]string{source, e.MountPoint, kind, strings.Join(options, ","), "0", "0"}, " ")),
			strings.Join([]string{"attach", e.MountPoint, limit, unit}, " "))
	}
}

func (p *plan) agents() {
	all := p.spec.Agents.ByName()
	for _, agent := range sorted(all) {
		p.write("/etc/ami-factory/agents/"+agent+".env", "0600", environment(all[agent]))
	}
}

// environment returns a file of KEY=value lines.
func environment(values map[string]string) string {
	var b strings.Builder
	for _, key := range sorted(values) {
		b.WriteString(key + "=" + values[key] + "\n")
	}
	return b.String()
}

// services changes each unit separately, so that a missing unit does not affect others.
func (p *plan) services() {
	s := p.spec.Services
	limit := strconv.Itoa(s.TimeoutSeconds)
	for _, action := range []struct {
		verb  string
		units []string
		body  func(unit string) []string
	}{
		{"enable", s.Enable, func(unit string) []string { return []string{"known " + unit, "act " + limit + " enable " + unit} }},
		{"disable", s.Disable, func(unit string) []string {
			return []string{"known " + unit, "act " + limit + " disable " + unit + " --now"}
		}},
		{"start", s.Start, func(unit string) []string { return []string{"start " + limit + " " + unit} }},
	} {
		for _, unit := range action.units {
			p.need("service")
			p.add("services", action.verb+" "+unit, true, action.body(unit)...)
		}
	}
}

func (p *plan) commands() {
	for _, c := range p.spec.Commands {
		p.need("command")
		limit := strconv.Itoa(c.TimeoutSeconds)
		before := p.named("command")
		if c.Script == "" {
			p.add("command", "command "+c.Name, true, "limited "+limit+" "+quoteAll(c.Argv))
		} else {
			target := State + "/commands/" + c.Name + ".sh"
			p.write(target, "0700", strings.TrimRight(c.Script, "\n")+"\n")
			p.add("command", "command "+c.Name, true, "script "+limit+" "+target)
		}
		// Each command may depend on the previous one.
		if len(before) > 0 {
			p.after(before[len(before)-1])
		}
	}
}

// containers stages the files that the image's service@.service reads. Only the image
// knows their final folder: the roots of services are parameters of its component
// filesystem.
func (p *plan) containers() {
	for _, c := range p.spec.Containers {
		p.need("container")
		folder := State + "/containers/" + c.Name + "/"
		lines := []string{"IMAGE=" + c.Image}
		if len(c.Ports) > 0 {
			lines = append(lines, "PORTS="+strings.Join(c.Ports, " "))
		}
		lines = append(lines, "STOP_GRACE="+strconv.Itoa(c.StopGraceSeconds))
		if c.Health.Port != 0 {
			lines = append(lines, "HEALTH_PORT="+strconv.Itoa(c.Health.Port), "HEALTH_PATH="+c.Health.Path,
				"HEALTH_WAIT="+strconv.Itoa(c.Health.WaitSeconds))
		}
		if c.Memory != "" {
			lines = append(lines, "MEMORY="+c.Memory)
		}
		if c.CPUs != "" {
			lines = append(lines, "CPUS="+c.CPUs)
		}
		p.write(folder+"service.env", "0640", strings.Join(lines, "\n")+"\n")
		p.write(folder+"container.env", "0640", environment(c.Env))
		p.add("container", "container "+c.Name, true, "container "+c.Name)
	}
}

// quote quotes a word for bash. A word without special characters is unchanged.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:@%+=,", r))
	}) {
		return s
	}
	// shellcheck reports a dollar in single quotes as a mistake.
	if strings.ContainsAny(s, "'$`") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`").Replace(s) + `"`
	}
	return "'" + s + "'"
}

func quoteAll(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = quote(w)
	}
	return strings.Join(out, " ")
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func sorted[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Base64 returns user data in the encoding of RunInstances.
func (u UserData) Base64() string { return base64.StdEncoding.EncodeToString(u.Data) }
