package spec

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // the known time zones must not depend on the machine

	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// checker checks the rules that tags cannot express: those between fields, those of the
// operating system, and those of the golden image. It ignores values that are missing or
// malformed, because the decoder has reported them.
type checker struct {
	spec     *Spec
	image    image
	accounts accounts
	problems problem.List
}

func (c *checker) fail(at, allowed, format string, args ...any) {
	c.problems = append(c.problems, c.spec.Problem(at, allowed, format, args...))
}

func (c *checker) warn(at, allowed, format string, args ...any) {
	p := c.spec.Problem(at, allowed, format, args...)
	p.Severity = problem.Warning
	c.problems = append(c.problems, p)
}

// keyFail reports a problem with the key at a path, such as the name of a sysctl.
func (c *checker) keyFail(at, allowed, format string, args ...any) {
	c.problems = append(c.problems, c.spec.doc.KeyProblem(at, allowed, format, args...))
}

// valid reports whether the file has a value at a path that the decoder accepted.
func (c *checker) valid(at string) bool { return c.spec.doc.Valid(at) }

func (c *checker) check() {
	c.target()
	c.users()
	c.kernel()
	c.mounts()
	c.repositories()
	c.packages()
	c.files()
	c.services()
	c.commands()
	c.containers()
	c.timezone()
	c.agents()
	c.bottlerocket()
	c.eks()
	c.texts()
}

func (c *checker) target() {
	s := c.spec
	switch {
	case s.Target == "cloud-init" && !s.Has("family"):
		c.fail("target", "debian-12, debian-13, ubuntu-22.04, ubuntu-24.04, al2023", "family is required with target cloud-init: package managers differ")
	case s.Target == "bottlerocket" && s.Has("family"):
		c.fail("family", "no family", "target bottlerocket takes no family")
	}
	c.problems = append(c.problems, s.Unfit(s.Target)...)
	if of := c.image.of; of != nil {
		switch {
		case s.Target == BottlerocketFmt:
			c.fail("target", CloudInit, "recipe %s makes an image of %s, which does not read Bottlerocket's settings", of.Recipe, of.Family)
		case c.valid("family") && s.Family != of.Family:
			c.fail("family", of.Family, "the spec is for images of %s, and recipe %s makes one of %s", s.Family, of.Recipe, of.Family)
		}
	}
}

// once reports values that are in a list twice.
func (c *checker) once(what string, at func(int) string, values []string) {
	seen := map[string]int{}
	for i, v := range values {
		if j, dup := seen[v]; dup && v != "" {
			c.fail(at(i), "", "%s %s is listed twice; the first is %s", what, v, at(j))
			continue
		}
		seen[v] = i
	}
}

func index(list, field string) func(int) string {
	return func(i int) string { return strictyaml.Index(list, i) + field }
}

// names returns one field of each element.
func names[T any](list []T, name func(T) string) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = name(e)
	}
	return out
}

var sysctlForm = regexp.MustCompile(`^(abi|crypto|debug|dev|fs|kernel|net|sunrpc|user|vm)([./][A-Za-z0-9_-]+)+$`)

var sysctlValue = regexp.MustCompile(`^[A-Za-z0-9 ._|/%@,:-]{1,200}$`)

func (c *checker) kernel() {
	k := c.spec.Kernel
	table := sysctls()
	for _, name := range sorted(k.Sysctl) {
		at, value := strictyaml.Join("kernel.sysctl", name), strings.Join(strings.Fields(k.Sysctl[name]), " ")
		if !sysctlForm.MatchString(name) {
			c.keyFail(at, "a name such as net.core.somaxconn, below abi, crypto, debug, dev, fs, kernel, net, sunrpc, user or vm", "%q is not the name of a sysctl", name)
			continue
		}
		if !sysctlValue.MatchString(value) {
			c.fail(at, "letters, digits, spaces and . _ | / % @ , : -", "%q is not a value of a sysctl", k.Sysctl[name])
			continue
		}
		if c.hardened(at, "sysctl "+name+" is", name, value) {
			continue
		}
		c.knownSysctl(table, at, name, value)
	}
	c.once("kernel module", index("kernel.modules.load", ""), k.Modules.Load)
	c.once("kernel module", index("kernel.modules.block", ""), k.Modules.Block)
	for i, m := range k.Modules.Load {
		at := strictyaml.Index("kernel.modules.load", i)
		if file, blocked := c.image.blocked[moduleName(m)]; blocked {
			c.fail(at, "", "module %s is blocked by the hardening of the image (%s)", m, file)
		}
		if slices.Contains(k.Modules.Block, m) {
			c.fail(at, "", "module %s is both loaded and blocked", m)
		}
	}
	for i, m := range k.Modules.Block {
		if slices.Contains([]string{"ext4", "xfs", "nvme", "nvme_core", "ena", "overlay", "br_netfilter", "virtio_blk", "virtio_net", "virtio_pci"}, moduleName(m)) {
			c.fail(strictyaml.Index("kernel.modules.block", i), "", "without module %s the instance or its containers do not work", m)
		}
	}
	c.bootArguments()
}

// hardened reports a sysctl that the hardening sets to another value. Such a setting would
// last only until the next boot. It is an error, and hardened returns true, if the image's
// variant or every variant sets another value. It is a warning if only some variants do
// and the variant of the image is unknown. The message begins with what.
func (c *checker) hardened(at, what, name, value string) (refused bool) {
	v := c.image.judge(name, value)
	switch {
	case len(v.refused) == 0:
		return false
	case len(v.taken) > 0:
		c.warn(at, strings.Join(v.values, ", "), "%s set otherwise by the hardening (%s) in images of variant %s, where %s would hold until the next boot only; --image RECIPE checks for one image",
			what, v.file, strings.Join(v.refused, ", "), value)
		return false
	}
	of := ""
	if c.image.of != nil {
		of = " of recipe " + c.image.of.Recipe + ", variant " + v.refused[0]
	}
	c.fail(at, strings.Join(v.values, ", "), "%s set by the hardening of the image%s (%s), and a spec may not change it to %s", what, of, v.file, value)
	return true
}

// weakening lists boot arguments that undo the hardening of the image or boot something
// else.
var weakening = regexp.MustCompile(`^(apparmor=0|selinux=0|enforcing=0|audit=(0|off)|security(=.*)?|lsm(=.*)?|no(kaslr|smep|smap|pti|spectre_v1|spectre_v2|exec.*|lockdown|module)|(mitigations|pti|spectre_v2|spectre_v2_user|spectre_bhi|spec_store_bypass_disable|l1tf|mds|tsx_async_abort|mmio_stale_data|retbleed|srbds|spec_rstack_overflow|gather_data_sampling|reg_file_data_sampling)=off|init=.*|rdinit=.*|root=.*|rw|ro|single|emergency|rescue|rd\..*|systemd\..*|module\.sig_enforce=0|lockdown=none|cgroup_disable=.*|module_blacklist=.*|ipe\..*|ima_.*|cloud-init=.*|ds=.*)$`)

func (c *checker) bootArguments() {
	list := c.spec.Kernel.BootArguments
	c.once("boot argument", index("kernel.bootArguments", ""), list)
	for i, a := range list {
		if weakening.MatchString(a) {
			c.fail(strictyaml.Index("kernel.bootArguments", i), "", "boot argument %s would undo the hardening of the image, or boot something else", a)
		}
	}
}

// shadowed lists folders that a mount would hide, and deep those below which nothing may
// be mounted either.
var (
	shadowed = []string{"/", "/home", "/media", "/mnt", "/opt", "/opt/services", "/root", "/srv", "/tmp", "/var", "/var/cache", "/var/lib", "/var/log", "/var/spool", "/var/tmp"}
	deep     = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/proc", "/run", "/sbin", "/sys", "/usr",
		"/var/lib/amazon", "/var/lib/ami-factory", "/var/lib/ami-factory-userdata", "/var/lib/apt", "/var/lib/cloud", "/var/lib/dnf", "/var/lib/dpkg", "/var/lib/rpm",
		"/var/lib/systemd", "/var/log/amazon", "/var/log/audit", "/var/log/journal", "/var/run"}
)

func below(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }

func (c *checker) mountPoint(at, point string) {
	if !c.valid(at) {
		return
	}
	const allowed = "a folder of its own, such as /mnt/NAME, /srv/NAME, /data or /var/lib/NAME"
	switch {
	case path.Clean(point) != point:
		c.fail(at, path.Clean(point), "mount point %s is not in its shortest form", point)
	case slices.Contains(shadowed, point):
		c.fail(at, allowed, "a mount at %s would hide what the image has there", point)
	default:
		for _, folder := range deep {
			if below(point, folder) {
				c.fail(at, allowed, "nothing may be mounted at %s: the system lives in %s", point, folder)
				return
			}
		}
	}
}

func (c *checker) mounts() {
	m := c.spec.Mounts
	points, places := []string{}, []string{}
	for i, e := range m.EFS {
		at := strictyaml.Index("mounts.efs", i)
		c.mountPoint(at+".mountPoint", e.MountPoint)
		points, places = append(points, e.MountPoint), append(places, at+".mountPoint")
		if c.valid(at + ".region") {
			c.region(at+".region", e.Region)
		}
		if e.Transport != "nfs4" {
			c.efsUtils(at)
			if e.AccessPoint != "" && e.Path != "/" {
				c.fail(at+".path", "/", "an access point has its own root: path must be left out with accessPoint")
			}
			continue
		}
		if e.AccessPoint != "" {
			c.fail(at+".accessPoint", "transport: efs-utils", "an access point needs efs-utils, not nfs4")
		}
		if e.IAM != nil && *e.IAM {
			c.fail(at+".iam", "false, or transport: efs-utils", "to sign in by IAM needs efs-utils, not nfs4")
		}
		if !c.spec.Has(at + ".region") {
			c.fail(at+".transport", "", "region is required with nfs4: it is part of the server's name, such as fs-ID.efs.eu-west-1.amazonaws.com")
		}
	}
	devices, deviceAt := []string{}, []string{}
	for i, v := range m.Volumes {
		at := strictyaml.Index("mounts.volumes", i)
		c.mountPoint(at+".mountPoint", v.MountPoint)
		points, places = append(points, v.MountPoint), append(places, at+".mountPoint")
		var given []string
		for _, key := range []string{"label", "volumeId", "device", "instanceStore"} {
			if c.spec.Has(at + "." + key) {
				given = append(given, key)
			}
		}
		if len(given) != 1 {
			c.fail(at, "exactly one of label, volumeId, device and instanceStore", "mounts.volumes[%d] names %d devices", i, len(given))
			continue
		}
		devices = append(devices, fmt.Sprintf("%s%s%s%d", v.Label, v.VolumeID, strings.Replace(v.Device, "/dev/xvd", "/dev/sd", 1), v.InstanceStore))
		deviceAt = append(deviceAt, at+"."+given[0])
		c.maker(at, v)
		c.once("option", index(at+".options", ""), v.Options)
	}
	c.once("mount point", func(i int) string { return places[i] }, points)
	c.once("device", func(i int) string { return deviceAt[i] }, devices)
}

// apt reports whether the family is Debian or Ubuntu.
func (c *checker) apt() bool {
	return strings.HasPrefix(c.spec.Family, "debian-") || strings.HasPrefix(c.spec.Family, "ubuntu-")
}

// brings reports whether the spec or the known image installs a package.
func (c *checker) brings(name string) bool {
	return c.image.installs(name) || slices.ContainsFunc(c.spec.Packages, func(p Package) bool { return p.Name == name })
}

// unlessKnown ends the list of what is allowed if more could be allowed for a known image.
func (c *checker) unlessKnown(text string) string {
	if c.image.of == nil {
		return text + "; or check with --image RECIPE, when the image has it"
	}
	return text
}

// maker checks that the program for making a file system on an empty device is installed.
// Debian and Ubuntu do not install xfsprogs by default. Amazon Linux does, because its
// root is XFS. A file system with a label exists already.
func (c *checker) maker(at string, v Volume) {
	if v.FileSystem == "xfs" && v.Label == "" && c.apt() && !c.brings("xfsprogs") {
		c.fail(at+".fileSystem", c.unlessKnown("ext4, or {name: xfsprogs} in packages"),
			"fileSystem xfs needs the package xfsprogs, whose mkfs.xfs images of %s do not have", c.spec.Family)
	}
}

const efsPackage = "amazon-efs-utils"

// efsUtils checks that the mount helper of EFS is installed. Debian and Ubuntu have no
// package of it: https://docs.aws.amazon.com/efs/latest/ug/installing-amazon-efs-utils.html
func (c *checker) efsUtils(at string) {
	if !c.apt() || c.brings(efsPackage) || c.image.of != nil && c.image.has("mount.efs") {
		return
	}
	if c.spec.Has(at + ".transport") {
		at += ".transport"
	}
	c.fail(at, c.unlessKnown("transport: nfs4 with region; or {name: "+efsPackage+"} in packages, from one of the spec's repositories"),
		"transport efs-utils needs the package %s, which %s does not have", efsPackage, c.spec.Family)
}

func (c *checker) repositories() {
	apt := c.spec.Family != "al2023"
	list := c.spec.Repositories
	c.once("repository", index("repositories", ".name"), names(list, func(r Repository) string { return r.Name }))
	for i, r := range list {
		at := strictyaml.Index("repositories", i)
		switch {
		case apt && (r.Suite == "" || len(r.Components) == 0):
			c.fail(at, "suite and components", "repository %s needs suite and components for apt", r.Name)
		case !apt && (c.spec.Has(at+".suite") || c.spec.Has(at+".components")):
			c.fail(at, "no suite and components", "repository %s has suite or components, which dnf does not know", r.Name)
		case !apt && strings.HasPrefix(r.URI, "http://"):
			c.fail(at+".uri", "an https address", "repository %s is fetched by http, and dnf's indexes need not be signed", r.Name)
		}
		c.repositoryKeys(at, r)
	}
}

func (c *checker) packages() {
	c.once("package", index("packages", ".name"), names(c.spec.Packages, func(p Package) string { return p.Name }))
	for i, p := range c.spec.Packages {
		if slices.Contains([]string{"telnet", "rsh-client", "rsh-redone-client", "talk", "nis", "ftp", "telnetd", "rsh-server", "tftpd", "xinetd", "avahi-daemon", "prelink", "apport"}, p.Name) {
			c.fail(strictyaml.Index("packages", i)+".name", "", "package %s is kept out of the image by its hardening", p.Name)
		}
		if slices.Contains([]string{efsPackage, "efs-utils"}, p.Name) && c.apt() && len(c.spec.Repositories) == 0 && !c.image.installs(p.Name) {
			c.fail(strictyaml.Index("packages", i)+".name", "an NFS mount, which is mounts.efs with transport: nfs4; or a repository in repositories that has it",
				"package %s is not in %s", p.Name, c.spec.Family)
		}
	}
}

// guarded lists units that a spec may not stop: without them the instance is not what the
// security team approved.
var guarded = regexp.MustCompile(`^(auditd|audit-rules|apparmor|systemd-journald.*|rsyslog|amazon-ssm-agent|snap\.amazon-ssm-agent.*|nftables|ufw|firewalld|chrony|chronyd|systemd-timesyncd|systemd-sysctl|systemd-modules-load|systemd-udevd.*|dbus.*|ami-factory.*|cloud-(init|config|final).*|dailyaidecheck|aidecheck)$`)

// unwanted lists units that the hardening masks or removes.
var unwanted = regexp.MustCompile(`^(telnet.*|rsh.*|tftp.*|avahi-daemon|cups|rpcbind|nfs-server|debug-shell|bluetooth|xinetd|apt-daily.*|dnf-automatic.*|serial-getty@.*)$`)

func stem(unit string) string { return strings.TrimSuffix(unit, path.Ext(unit)) }

func (c *checker) services() {
	s := c.spec.Services
	c.once("unit", index("services.enable", ""), s.Enable)
	c.once("unit", index("services.disable", ""), s.Disable)
	c.once("unit", index("services.start", ""), s.Start)
	for i, unit := range s.Disable {
		at := strictyaml.Index("services.disable", i)
		if guarded.MatchString(stem(unit)) {
			c.fail(at, "", "unit %s belongs to the hardening of the image, or to how it is reached, and may not be disabled", unit)
		}
		if slices.Contains(s.Enable, unit) || slices.Contains(s.Start, unit) {
			c.fail(at, "", "unit %s is both disabled and enabled or started", unit)
		}
	}
	for list, units := range map[string][]string{"services.enable": s.Enable, "services.start": s.Start} {
		for i, unit := range units {
			if unwanted.MatchString(stem(unit)) {
				c.fail(strictyaml.Index(list, i), "", "unit %s is kept off by the hardening of the image", unit)
			}
		}
	}
}

func (c *checker) commands() {
	list := c.spec.Commands
	c.once("command", index("commands", ".name"), names(list, func(x Command) string { return x.Name }))
	for i := range list {
		at := strictyaml.Index("commands", i)
		if c.spec.Has(at+".argv") == c.spec.Has(at+".script") {
			c.fail(at, "either argv or script", "command %s needs argv or script, and not both", list[i].Name)
		}
	}
}

var (
	imageForm = regexp.MustCompile(`^([A-Za-z0-9.-]+(:[0-9]+)?)/[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?@sha256:[0-9a-f]{64}$`)
	ecr       = regexp.MustCompile(`^[0-9]{12}\.dkr\.ecr(-fips)?\.([a-z0-9-]+)\.([a-z0-9.-]+)$`)
	envName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func (c *checker) containers() {
	list := c.spec.Containers
	if of := c.image.of; of != nil && len(list) > 0 && of.component("filesystem") == nil {
		for i, container := range list {
			c.fail(strictyaml.Index("containers", i), "an image whose recipe has the component filesystem",
				"the image of recipe %s has no component filesystem, whose service@.service would run container %s", of.Recipe, container.Name)
		}
	}
	c.once("container", index("containers", ".name"), names(list, func(x Container) string { return x.Name }))
	hosts, at := []string{}, []string{}
	for i, container := range list {
		here := strictyaml.Index("containers", i)
		c.imageName(here+".image", container.Image)
		for _, name := range sorted(container.Env) {
			key := strictyaml.Join(here+".env", name)
			if !envName.MatchString(name) {
				c.keyFail(key, "letters, digits and _", "%q is not the name of a variable", name)
			}
			c.oneLine(key, container.Env[name])
		}
		for j, p := range container.Ports {
			if !c.valid(strictyaml.Index(here+".ports", j)) {
				continue
			}
			hosts, at = append(hosts, hostPort(p)), append(at, strictyaml.Index(here+".ports", j))
		}
	}
	c.once("host port", func(i int) string { return at[i] }, hosts)
}

// hostPort returns the part of a published port that two containers cannot share.
func hostPort(port string) string {
	port, protocol, _ := strings.Cut(port, "/")
	parts := strings.Split(port, ":")
	if protocol == "udp" {
		return parts[len(parts)-2] + "/udp"
	}
	return parts[len(parts)-2]
}

func (c *checker) imageName(at, name string) {
	if !c.valid(at) {
		return
	}
	const allowed = "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:DIGEST"
	found := imageForm.FindStringSubmatch(name)
	switch {
	case !strings.Contains(name, "@sha256:"):
		c.fail(at, allowed, "image %s is not named by digest, so it could be another one tomorrow", name)
	case found == nil:
		c.fail(at, allowed, "%q is not the name of a container image", name)
	default:
		c.registry(at, found[1], allowed)
	}
}

// registry checks that a registry is a private one of ECR, and that its host name ends
// with the DNS suffix of its region's partition.
// https://docs.aws.amazon.com/general/latest/gr/ecr.html
func (c *checker) registry(at, host, allowed string) {
	m := ecr.FindStringSubmatch(host)
	if m == nil {
		c.fail(at, allowed, "registry %s is not allowed: images come from the organisation's private registries of ECR", host)
		return
	}
	suffixes := map[string]bool{}
	for _, p := range partition.All() {
		suffixes[p.DNSSuffix] = true
	}
	if !suffixes[m[3]] {
		c.fail(at, allowed, "registry %s is not allowed: images come from the organisation's private registries of ECR", host)
		return
	}
	if c.region(at, m[2]) {
		if want := partition.OrDefault(m[2]).DNSSuffix; m[3] != want {
			c.fail(at, strings.TrimSuffix(host, m[3])+want, "there is no registry %s: hosts of region %s end with %s", host, m[2], want)
		}
	}
}

// region reports whether a region is known.
func (c *checker) region(at, name string) bool {
	verdict, message, allowed := partition.Check(name)
	switch verdict {
	case partition.Nowhere:
		c.fail(at, allowed, "%s", message)
		return false
	case partition.Plausible:
		c.warn(at, allowed, "%s", message)
	case partition.Exists:
	}
	return true
}

// arn checks that the region of an ARN exists and is in the ARN's partition.
func (c *checker) arn(at, arn string) {
	parts := strings.SplitN(arn, ":", 6)
	if parts[0] != "arn" || !c.region(at, parts[3]) {
		return
	}
	if of := partition.OrDefault(parts[3]); of.ID != parts[1] {
		c.fail(at, "arn:"+of.ID+":"+strings.Join(parts[2:], ":"), "the ARN is of partition %s, but region %s is in %s", parts[1], parts[3], of.ID)
	}
}

func (c *checker) oneLine(at, value string) {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		c.fail(at, "printable ASCII on one line", "the value cannot be written into an environment file")
	}
}

func (c *checker) timezone() {
	if !c.valid("timezone") {
		return
	}
	if _, err := time.LoadLocation(c.spec.Timezone); err != nil || c.spec.Timezone == "Local" {
		c.fail("timezone", "a name of the tz database, such as UTC or Europe/Zurich", "there is no time zone %q", c.spec.Timezone)
	}
}

var (
	agentKey   = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
	secretKey  = regexp.MustCompile(`(KEY|TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?)$`)
	memberName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
	secretID   = regexp.MustCompile(`^(arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+|[A-Za-z0-9/_+=.@-]{1,512})$`)
	ssmName    = regexp.MustCompile(`^(arn:aws[a-z-]*:ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9/_.-]+|/[A-Za-z0-9/_.-]+)$`)
)

func (c *checker) agents() {
	all := c.spec.Agents.ByName()
	for _, agent := range sorted(all) {
		at := "agents." + agent
		parameters := all[agent]
		if of := c.image.of; of != nil && of.component(agent) == nil {
			c.problems = append(c.problems, c.spec.doc.KeyProblem(at, "an image whose recipe has the component "+agent, "the image of recipe %s has no component %s", of.Recipe, agent))
			continue
		}
		for _, key := range sorted(parameters) {
			c.agent(strictyaml.Join(at, key), key, parameters[key])
			if takes := c.image.agents[agent]; agentKey.MatchString(key) && !secretKey.MatchString(key) && !slices.Contains(takes, key) {
				c.keyFail(strictyaml.Join(at, key), strings.Join(takes, ", "), "agent %s takes no %s, and would not start", agent, key)
			}
		}
		_, secret := parameters["SECRET_ID"]
		if _, parameter := parameters["SSM_PARAMETER"]; secret && parameter {
			c.keyFail(at+".SSM_PARAMETER", "one of SECRET_ID and SSM_PARAMETER", "agent %s has two secrets", agent)
		}
	}
}

func (c *checker) agent(at, key, value string) {
	const reference = "SECRET_ID: ARN or name of a secret, or SSM_PARAMETER: name of a parameter"
	c.oneLine(at, value)
	switch {
	case !agentKey.MatchString(key):
		c.keyFail(at, "upper-case letters, digits and _", "%q is not the name of a parameter", key)
	case key == "SECRET_ID":
		if !secretID.MatchString(value) {
			c.fail(at, "ARN or name of a secret in Secrets Manager", "%q names no secret", value)
		} else if strings.HasPrefix(value, "arn:") {
			c.arn(at, value)
		}
	case key == "SSM_PARAMETER":
		if !ssmName.MatchString(value) {
			c.fail(at, "a parameter's name such as /ami-factory/newrelic, or its ARN", "%q names no parameter of Parameter Store", value)
		} else if strings.HasPrefix(value, "arn:") {
			c.arn(at, value)
		}
	case key == "SECRET_KEY" && !looksSecret(value):
		if !memberName.MatchString(value) {
			c.fail(at, "letters, digits, _ . and -", "%q is not the name of a member of a secret", value)
		}
	case secretKey.MatchString(key):
		c.keyFail(at, reference, "%s would be a secret in clear: user data is readable by all on the instance", key)
	case looksSecret(value):
		c.fail(at, reference, "the value of %s looks like a secret in clear", key)
	}
}

var taint = regexp.MustCompile(`^[A-Za-z0-9._-]*:(NoSchedule|PreferNoSchedule|NoExecute)$`)

func (c *checker) bottlerocket() {
	b := c.spec.Bottlerocket
	if b.Kubernetes != nil && b.ECS != nil {
		c.fail("bottlerocket.ecs", "either kubernetes or ecs", "a node joins one cluster, not a Kubernetes and an ECS one")
	}
	if b.HostContainers.Admin != nil && *b.HostContainers.Admin {
		c.warn("bottlerocket.hostContainers.admin", "false", "the admin container is root on the host: enable it by hand for the time it is needed")
	}
	if b.HostContainers.Control != nil && !*b.HostContainers.Control {
		c.fail("bottlerocket.hostContainers.control", "true", "without the control container Session Manager and Run Command do not reach the instance")
	}
	if k := b.Kubernetes; k != nil {
		c.cluster("bottlerocket.kubernetes", k.ClusterCertificate, k.NodeLabels, k.NodeTaints)
	}
}

// eks checks that the family can have nodeadm, which only some images have.
func (c *checker) eks() {
	e := c.spec.EKS
	if e == nil {
		return
	}
	if c.spec.Family != "" && c.spec.Family != "al2023" {
		c.keyFail("eks", "family: al2023, or bottlerocket.kubernetes", "nodeadm, which reads this, is in EKS's images of al2023 only, not in those of %s", c.spec.Family)
	}
	if network, err := netip.ParsePrefix(e.ServiceCIDR); c.valid("eks.serviceCIDR") && (err != nil || network != network.Masked()) {
		c.fail("eks.serviceCIDR", "a network such as 10.100.0.0/16 or fd30:1c53::/108", "%q is not a network", e.ServiceCIDR)
	}
	c.cluster("eks", e.ClusterCertificate, e.NodeLabels, e.NodeTaints)
}

// cluster checks the fields that all nodes of Kubernetes have.
func (c *checker) cluster(of, certificate string, labels map[string]string, taints map[string][]string) {
	if !base64Text.MatchString(certificate) && c.valid(of+".clusterCertificate") {
		c.fail(of+".clusterCertificate", "base64 on one line", "clusterCertificate is not base64")
	}
	for _, key := range sorted(labels) {
		at := strictyaml.Join(of+".nodeLabels", key)
		if c.labelName(at, key) {
			c.kubeletLabel(at, key)
		}
		if !labelValue.MatchString(labels[key]) {
			c.fail(at, "up to 63 letters, digits, - _ and .", "%q is not the value of a label", labels[key])
		}
	}
	for _, key := range sorted(taints) {
		at := strictyaml.Join(of+".nodeTaints", key)
		c.labelName(at, key)
		for i, t := range taints[key] {
			if !taint.MatchString(t) {
				c.fail(strictyaml.Index(at, i), "VALUE:NoSchedule, VALUE:PreferNoSchedule or VALUE:NoExecute", "%q is not a taint", t)
			}
		}
	}
}

var (
	base64Text = regexp.MustCompile(`^[A-Za-z0-9+/]+={0,2}$`)
	labelForm  = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$`)
)

func (c *checker) labelName(at, key string) bool {
	ok := labelForm.MatchString(key)
	if !ok {
		c.keyFail(at, "NAME or DOMAIN/NAME", "%q is not the name of a label or a taint", key)
	}
	return ok
}

func sorted[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
