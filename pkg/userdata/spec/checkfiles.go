package spec

import (
	"encoding/base64"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// closed lists folders in which a spec may not write files, and what to use instead.
var closed = [][2]string{
	{"/etc/sudoers.d", "users[].sudo"},
	{"/etc/ssh", "nothing: how sshd is set belongs to the image"},
	{"/etc/pam.d", "nothing: how users sign in belongs to the image"},
	{"/etc/security", "nothing: limits and sign-in belong to the image"},
	{"/etc/audit", "nothing: what is audited belongs to the image"},
	{"/etc/apparmor.d", "nothing: profiles belong to the image"},
	{"/etc/selinux", "nothing: the policy belongs to the image"},
	{"/etc/sysctl.d", "kernel.sysctl"},
	{"/etc/modprobe.d", "kernel.modules"},
	{"/etc/modules-load.d", "kernel.modules"},
	{"/etc/default/grub.d", "kernel.bootArguments"},
	{"/etc/cloud", "the fields of the spec"},
	{"/etc/ami-factory", "agents"},
	{"/etc/apt", "repositories and proxy"},
	{"/etc/yum.repos.d", "repositories"},
	{"/etc/docker", "containers; how the engine is set belongs to the image"},
	{"/etc/chrony", "nothing: the time belongs to the image"},
	{"/etc/chrony.conf", "nothing: the time belongs to the image"},
	{"/etc/amazon/ssm", "nothing: how the instance is reached belongs to the image"},
	{"/etc/sysconfig/nftables.conf", "nothing: the firewall belongs to the image"},
	{"/etc/dnf", "repositories and proxy"},
	{"/etc/pki/rpm-gpg", "repositories"},
	{"/etc/cron.d", "a systemd timer"},
	{"/etc/crontab", "a systemd timer"},
	{"/etc/fstab", "mounts"},
	{"/etc/passwd", "users"},
	{"/etc/shadow", "users"},
	{"/etc/group", "users"},
	{"/etc/gshadow", "users"},
	{"/etc/sudoers", "users[].sudo"},
	{"/etc/login.defs", "nothing: ageing belongs to the image"},
	{"/etc/sysctl.conf", "kernel.sysctl"},
	{"/etc/ld.so.preload", "nothing"},
	{"/boot", "kernel.bootArguments"},
	{"/dev", "a path that stays"},
	{"/proc", "kernel.sysctl"},
	{"/sys", "kernel.sysctl"},
	{"/run", "a path that stays"},
	{"/tmp", "a path that stays"},
	{"/var/lib/cloud", "the fields of the spec"},
	{"/var/lib/ami-factory", "the fields of the spec"},
	{"/var/lib/ami-factory-userdata", "the fields of the spec"},
	{"/usr/bin", "/usr/local/bin"},
	{"/usr/sbin", "/usr/local/sbin"},
	{"/usr/lib", "/usr/local/lib, or /etc"},
	{"/bin", "/usr/local/bin"},
	{"/sbin", "/usr/local/sbin"},
	{"/lib", "/usr/local/lib"},
}

func (c *checker) files() {
	list := c.spec.Files
	c.once("file", index("files", ".path"), names(list, func(f File) string { return f.Path }))
	for i, f := range list {
		at := strictyaml.Index("files", i)
		c.filePath(at+".path", f.Path)
		if c.spec.Has(at+".content") == c.spec.Has(at+".contentBase64") {
			c.fail(at, "either content or contentBase64", "file %s needs content or contentBase64, and not both", f.Path)
		}
		if c.valid(at+".mode") && (f.Mode[3] == '2' || f.Mode[3] == '3' || f.Mode[3] == '6' || f.Mode[3] == '7') {
			c.fail(at+".mode", "a mode whose last digit is 0, 1, 4 or 5", "with mode %s everyone could change %s", f.Mode, f.Path)
		}
		if c.valid(at + ".contentBase64") {
			decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(f.ContentBase64), ""))
			if err != nil {
				c.fail(at+".contentBase64", "base64", "the content of %s is not base64", f.Path)
			}
			c.forbidden(at+".contentBase64", string(decoded))
			c.secrets(at+".contentBase64", string(decoded))
		}
		c.unitFile(at+".path", f.Path)
		c.inHome(at+".path", f.Path)
	}
}

// inHome refuses a file in the home of a user that has no home.
func (c *checker) inHome(at, name string) {
	for _, u := range c.spec.Users {
		if u.System && u.Name != "" && below(name, "/home/"+u.Name) {
			c.fail(at, "a folder such as /var/lib/"+u.Name, "user %s is a system user and has no home", u.Name)
		}
	}
}

func (c *checker) filePath(at, name string) {
	if !c.valid(at) {
		return
	}
	if path.Clean(name) != name || strings.HasSuffix(name, "/") {
		c.fail(at, path.Clean(name), "path %s is not in its shortest form", name)
		return
	}
	for _, folder := range closed {
		if below(name, folder[0]) {
			c.fail(at, folder[1], "no file may be written to %s: it would change what the hardening of the image has set", folder[0])
			return
		}
	}
	if component, ok := c.image.files[name]; ok {
		c.fail(at, "another path", "%s is a file of the component %s", name, component)
		return
	}
	if below(name, "/etc") && strings.Contains(path.Base(name), "ami-factory") {
		c.fail(at, "another name", "names with ami-factory in /etc are the factory's own")
	}
	if strings.Contains(name, "/.ssh/") {
		c.fail(at, "users[].sshKeys", "users states who may sign in")
	}
	if c.spec.writes(name) {
		c.fail(at, "another path", "%s is written from another field of the spec", name)
	}
}

// Files that are rendered from the proxy.
const (
	ProxyOfSystemd = "/etc/systemd/system.conf.d/50-userdata-proxy.conf"
	ProxyOfDocker  = "/etc/systemd/system/docker.service.d/50-userdata-proxy.conf"
)

// writes reports whether another field of the spec writes a file. It recognises settings
// of a container by the end of their path, because an image may rename the root of
// services.
func (s *Spec) writes(name string) bool {
	return slices.Contains([]string{ProxyOfSystemd, ProxyOfDocker}, name) || slices.ContainsFunc(s.Containers, func(c Container) bool {
		folder := "/" + c.Name + "/conf/"
		return strings.HasSuffix(name, folder+"service.env") || strings.HasSuffix(name, folder+"container.env")
	})
}

// unitPath matches the folders from which systemd reads units, apart from those in /usr/lib
// and /run, which are closed: https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html
var unitPath = regexp.MustCompile(`^(?:/etc/systemd/system(?:\.control|\.attached)?|/usr/local/lib/systemd/system)/([^/]+?)(\.d/[^/]+)?$`)

// unitFile refuses files that replace or change a unit that a spec may not stop, or a unit
// of the image's components.
func (c *checker) unitFile(at, name string) {
	if m := unitPath.FindStringSubmatch(name); m != nil && c.image.files[name] == "" && !c.spec.writes(name) {
		unit, dropIn := m[1], m[2] != ""
		component, owned := c.image.unit(unit)
		switch {
		case guarded.MatchString(stem(unit)):
			c.fail(at, "another unit", "unit %s belongs to the hardening of the image, or to how it is reached", unit)
		case owned:
			c.fail(at, "another unit; a container's settings are in containers", "unit %s is of the component %s, which the image was approved with", unit, component)
		case dropIn && !strings.Contains(unit, "."):
			c.fail(at, "a drop-in of one unit", "a drop-in in %s.d would change all units of the image", unit)
		}
	}
	if below(name, "/etc/systemd") && (strings.Contains(name, "journald") || strings.Contains(name, "coredump")) {
		c.fail(at, "another path", "%s would change what the hardening of the image has set", name)
	}
}

// rule forbids a text anywhere in a spec.
type rule struct {
	form      *regexp.Regexp
	what, why string
}

// forbiddenTexts are searched for in files, scripts and arguments. They catch mistakes and
// can be evaded on purpose; the controls that run on the instance catch the rest.
var forbiddenTexts = []rule{
	{regexp.MustCompile(`(?m)\bchpasswd\b`), "chpasswd", "nobody has a password on a golden image"},
	{regexp.MustCompile(`\b(plain_text_passwd|hashed_passwd|lock_passwd)\b`), "a password for cloud-init", "nobody has a password on a golden image"},
	{passwordCommand, "a password", "nobody has a password on a golden image"},
	{regexp.MustCompile(`\$(1|5|6|y|2[aby])\$[A-Za-z0-9./$=,]{8,}`), "a password's hash", "nobody has a password on a golden image"},
	{regexp.MustCompile(`(?i)\bssh_pwauth\s*[:=]\s*["']?(true|yes|1|unchanged)`), "ssh_pwauth", "nobody signs in by password"},
	{regexp.MustCompile(`(?i)\b(PasswordAuthentication|KbdInteractiveAuthentication|ChallengeResponseAuthentication|PermitEmptyPasswords)\s*[ =]\s*yes`), "sign-in by password", "nobody signs in by password"},
	{regexp.MustCompile(`(?i)\bPermitRootLogin\s*[ =]\s*(yes|prohibit-password|without-password|forced-commands-only)`), "PermitRootLogin", "root does not sign in over SSH"},
	{regexp.MustCompile(`(?i)\bdisable_root\s*:\s*(false|no|0)`), "disable_root", "root does not sign in over SSH"},
	{regexp.MustCompile(`\bNOPASSWD\s*:`), "NOPASSWD", "rules of sudo are in users[].sudo, where they are checked"},
	{regexp.MustCompile(`(?i)\bsetenforce\s+(0|permissive)|\bSELINUX=(disabled|permissive)|\baa-(teardown|disable|complain)\b|\bapparmor_parser\s+(-R|--remove)`), "to switch off SELinux or AppArmor", "it is part of the hardening"},
	{regexp.MustCompile(`\bauditctl\s+(-e\s*0|-D)\b`), "to switch off auditing", "it is part of the hardening"},
	{regexp.MustCompile(`\bnft\s+flush\s+ruleset|\bufw\s+(disable|reset)|\biptables\s+(-F|--flush)|\biptables\s+-P\s+INPUT\s+ACCEPT`), "to switch off the firewall", "it is part of the hardening"},
	{regexp.MustCompile(`(?i)\btrusted\s*[=:]\s*yes|--allow-unauthenticated|--no-?gpg-?checks?|\bgpgcheck\s*=\s*(0|no|false)|AllowUnauthenticated|\bapt-key\b`), "packages without a signature", "repositories are in `repositories`, with key and fingerprint"},
	{regexp.MustCompile(`\b(curl|wget)\b[^\n;]*\|\s*(sudo\s+)?(ba|da|z)?sh\b`), "a download piped into a shell", "what runs on an instance is pinned"},
}

var (
	systemctl = regexp.MustCompile(`\bsystemctl\s+(?:-\S+\s+)*(?:stop|disable|mask|kill)\s+(?:-\S+\s+)*([A-Za-z0-9@._ -]+)`)
	sysctlSet = regexp.MustCompile(`\bsysctl\s+(?:-\S+\s+)*([a-z]+(?:[./][A-Za-z0-9_-]+)+)\s*=\s*["']?([A-Za-z0-9 -]+)`)
)

// forbidden searches a text for commands and settings that undo the golden image.
func (c *checker) forbidden(at, text string) {
	for _, r := range forbiddenTexts {
		if r.form.MatchString(text) {
			c.fail(at, "", "the text has %s: %s", r.what, r.why)
		}
	}
	for _, found := range systemctl.FindAllStringSubmatch(text, -1) {
		for unit := range strings.FieldsSeq(found[1]) {
			if guarded.MatchString(stem(unit)) || guarded.MatchString(unit) {
				c.fail(at, "", "the text stops %s, which belongs to the hardening of the image, or to how it is reached", unit)
			}
		}
	}
	for _, found := range sysctlSet.FindAllStringSubmatch(text, -1) {
		value := strings.TrimSpace(found[2])
		c.hardened(at, "the text sets sysctl "+found[1]+" to "+value+", which is", found[1], value)
	}
}

// secretName matches the name of a variable that would hold a secret.
var secretName = regexp.MustCompile(`(?i)(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|LICEN[CS]E_?KEY|PRIVATE_?KEY|ACCESS_?KEY)$`)

// texts visits every text of the spec, in all fields.
func (c *checker) texts() {
	walk(reflect.ValueOf(*c.spec), "", func(at, text string) {
		if !c.spec.Has(at) {
			return
		}
		c.secrets(at, text)
		if free := at == "bottlerocket.motd" || strings.HasSuffix(at, ".content") || strings.HasSuffix(at, ".script"); !free {
			if strings.ContainsFunc(text, func(r rune) bool { return r > '~' || r < ' ' && r != '\n' && r != '\t' && r != '\r' }) {
				c.fail(at, "plain ASCII", "the value has characters beyond plain ASCII")
			}
		}
		if strings.ContainsRune(text, 0) {
			c.fail(at, "contentBase64", "the value has a NUL character")
		}
		if strings.HasSuffix(at, ".content") || strings.HasSuffix(at, ".script") || strings.HasPrefix(at, "containers[") {
			c.forbidden(at, text)
		}
	})
	for i, command := range c.spec.Commands {
		if len(command.Argv) > 0 {
			c.forbidden(strictyaml.Index("commands", i)+".argv", strings.Join(command.Argv, " "))
		}
	}
	for i, container := range c.spec.Containers {
		at := strictyaml.Index("containers", i) + ".env"
		for _, name := range sorted(container.Env) {
			if secretName.MatchString(name) && container.Env[name] != "" {
				c.keyFail(strictyaml.Join(at, name), "the name of a secret, which the service reads by the instance's role", "%s would be a secret in clear", name)
			}
		}
	}
}

// walk visits every text below a value, with its path in the file.
func walk(v reflect.Value, at string, visit func(at, text string)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walk(v.Elem(), at, visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.IsExported() {
				key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
				walk(v.Field(i), strictyaml.Join(at, key), visit)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), strictyaml.Index(at, i), visit)
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range keys {
			walk(v.MapIndex(key), strictyaml.Join(at, key.String()), visit)
		}
	case reflect.String:
		visit(at, v.String())
	}
}
