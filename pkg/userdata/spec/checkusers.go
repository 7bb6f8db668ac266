package spec

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// rootLike lists groups whose members can become root.
var rootLike = []string{"root", "sudo", "wheel", "admin", "shadow", "disk", "kmem", "docker", "lxd", "libvirt", "incus", "systemd-journal-remote"}

// withoutPassword lists the users that may do everything without a password: those of the
// distributions and of the SSM agent.
var withoutPassword = []string{"ssm-user", "debian", "admin", "ubuntu", "ec2-user"}

func (c *checker) users() {
	systemNumbers := fmt.Sprintf("%d to %d", firstFree, lastFree)
	list := c.spec.Users
	c.once("user", index("users", ".name"), names(list, func(u User) string { return u.Name }))
	uids := names(list, func(u User) string {
		if u.UID == 0 {
			return ""
		}
		return fmt.Sprint(u.UID)
	})
	c.once("uid", index("users", ".uid"), uids)
	for i, u := range list {
		at := strictyaml.Index("users", i)
		c.account(at, u)
		switch {
		case !c.valid(at + ".uid"):
		case u.System && u.UID >= 1000:
			c.fail(at+".uid", systemNumbers, "uid %d is not one of a system user", u.UID)
		case !u.System && u.UID <= 1000:
			// 1000 is the number of the image's own default user.
			c.fail(at+".uid", "1001 to 59999", "uid %d would clash with a system user, or with the image's default user", u.UID)
		case u.System && u.UID != 0 && (u.UID < firstFree || u.UID > lastFree):
			c.fail(at+".uid", systemNumbers, "uid %d may be one of the distribution's own: packages get these numbers in the order of their installation", u.UID)
		}
		c.once("group", index(at+".groups", ""), u.Groups)
		for j, g := range u.Groups {
			if slices.Contains(rootLike, g) {
				c.fail(strictyaml.Index(at+".groups", j), "a sudo rule with what the user needs", "members of group %s are as good as root", g)
			}
		}
		c.once("key", index(at+".sshKeys", ""), u.SSHKeys)
		for j, key := range u.SSHKeys {
			if err := checkKey(key); err != nil {
				c.fail(strictyaml.Index(at+".sshKeys", j), "ssh-ed25519, ecdsa-sha2-nistp*, sk-* or ssh-rsa of 3072 bits and more, without options", "the SSH key %v", err)
			}
		}
		if len(u.SSHKeys) > 0 && (u.Shell == "/usr/sbin/nologin" || u.Shell == "/bin/false") {
			c.fail(at+".sshKeys", "a shell, or no keys", "user %s has keys, but a shell that lets nobody in", u.Name)
		}
		for j, rule := range u.Sudo {
			c.sudo(strictyaml.Index(at+".sudo", j), u.Name, rule)
		}
	}
}

var (
	sudoRule = regexp.MustCompile(`^ALL *= *\(([a-z_][a-z0-9_.-]*|ALL)(:([a-z_][a-z0-9_.-]*|ALL))?\) *((NOPASSWD|PASSWD|NOEXEC|EXEC|LOG_OUTPUT|NOSETENV): *)*(ALL|/[A-Za-z0-9._@/ *-]+)(, *(ALL|/[A-Za-z0-9._@/ *-]+))*$`)
	// sudoAll matches a command that lets its user do anything: a shell, an interpreter,
	// an editor, or ALL.
	sudoAll = regexp.MustCompile(`(^|[ ,)])(ALL|/(usr/)?(local/)?s?bin/(ba|da|z|k|c)?sh|/(usr/)?s?bin/(su|sudo|env|vim?|nano|less|more|python[0-9.]*|perl|awk|find|tee|cp|mv|dd|chmod|chown|visudo|docker|systemd-run|tar|\*)|/\*)( |,|$)`)
)

func (c *checker) sudo(at, user string, s SudoRule) {
	if !c.valid(at + ".rule") {
		return
	}
	if !sudoRule.MatchString(s.Rule) {
		c.fail(at+".rule", "ALL=(USER) [NOPASSWD:] /path/of/a/program ARGUMENTS, ...", "%q is not a rule that sudo takes here", s.Rule)
		return
	}
	_, commands, _ := strings.Cut(s.Rule, ")")
	if strings.LastIndex(commands, "NOPASSWD:") <= strings.LastIndex(withoutNo(commands), "PASSWD:") {
		c.fail(at+".rule", strings.Replace(s.Rule, ")"+commands, ") NOPASSWD: "+strings.TrimSpace(withoutTag(commands)), 1), "sudo would ask user %s for a password, and no user has one, so nobody could use this rule", user)
		return
	}
	if strings.Contains(commands, "NOPASSWD:") && sudoAll.MatchString(commands) && s.Reason == "" && !slices.Contains(withoutPassword, user) {
		c.fail(at+".rule", "the programs that are needed, or a reason", "user %s could do everything as another without a password", user)
	}
}

// withoutNo replaces NOPASSWD with blanks, so that only PASSWD itself is found.
func withoutNo(commands string) string { return strings.ReplaceAll(commands, "NOPASSWD:", "         ") }

// withoutTag removes PASSWD.
func withoutTag(commands string) string {
	return strings.ReplaceAll(strings.ReplaceAll(commands, "NOPASSWD:", ""), "PASSWD:", "")
}

// checkKey checks a line of authorized_keys.
func checkKey(line string) error {
	fields := strings.Fields(line)
	switch {
	case strings.ContainsAny(line, "\r\n"):
		return fmt.Errorf("has more than one line")
	case strings.Contains(line, "PRIVATE KEY"):
		return fmt.Errorf("is a private key, which is now known to whoever read this file")
	case len(fields) < 2:
		return fmt.Errorf("is not of the form TYPE BASE64 COMMENT")
	}
	kind := fields[0]
	if !slices.Contains([]string{
		"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
		"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
	}, kind) {
		return fmt.Errorf("is of type %s", kind)
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return fmt.Errorf("is not base64")
	}
	inner, rest, ok := sshString(blob)
	if !ok || string(inner) != kind {
		return fmt.Errorf("says %s, but is something else", kind)
	}
	if kind != "ssh-rsa" {
		if body, _, ok := sshString(rest); !ok || len(body) == 0 {
			return fmt.Errorf("is cut off")
		}
		return nil
	}
	_, rest, ok = sshString(rest)
	modulus, _, found := sshString(rest)
	if !ok || !found {
		return fmt.Errorf("is cut off")
	}
	if bits := 8 * len(strings.TrimLeft(string(modulus), "\x00")); bits < 3072 {
		return fmt.Errorf("is an RSA key of only %d bits", bits)
	}
	return nil
}

// sshString splits a length-prefixed string off (RFC 4251, 5).
func sshString(data []byte) (value, rest []byte, ok bool) {
	if len(data) < 4 {
		return nil, nil, false
	}
	length := int64(binary.BigEndian.Uint32(data))
	if length > int64(len(data)-4) {
		return nil, nil, false
	}
	return data[4 : 4+length], data[4+length:], true
}
