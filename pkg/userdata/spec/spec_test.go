package spec_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
	"github.com/ami-factory/ami-factory/userdata"
)

func example(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(examples, name))
	require.NoError(t, err)
	return string(data)
}

func parse(t *testing.T, text string) (*spec.Spec, problem.List) {
	t.Helper()
	s, problems, err := spec.Parse("web.yaml", []byte(text), userdata.FS, nil)
	require.NoError(t, err)
	return s, problems
}

func TestEveryExampleIsClean(t *testing.T) {
	for _, name := range []string{"web-service.yaml", "bottlerocket-eks.yaml", "bottlerocket-ecs.yaml"} {
		_, problems := parse(t, example(t, name))
		assert.Empty(t, problems, name)
	}
}

func TestDefaults(t *testing.T) {
	s, problems := parse(t, example(t, "web-service.yaml"))
	require.Empty(t, problems)
	efs := s.Mounts.EFS
	assert.Equal(t, "efs-utils", efs[0].Transport)
	assert.True(t, *efs[0].IAM, "efs-utils signs in by the role")
	assert.False(t, *efs[1].IAM, "nfs4 cannot")
	assert.Equal(t, "/", efs[0].Path)
	assert.Equal(t, 30, efs[0].TimeoutSeconds)
	assert.Equal(t, 20, efs[1].TimeoutSeconds)
	assert.Equal(t, "ext4", s.Mounts.Volumes[1].FileSystem)
	assert.Equal(t, "/usr/sbin/nologin", s.Users[2].Shell)
	assert.Equal(t, "/bin/bash", s.Users[0].Shell)
	assert.Equal(t, "root:root", s.Files[1].Owner)
	assert.Equal(t, "0644", s.Files[1].Mode)
	assert.Equal(t, 600, s.Commands[0].TimeoutSeconds)
}

// what is a problem: where it points, and what it says.
type what struct{ at, message string }

// found compares problems with those that are wanted, and no others.
func found(t *testing.T, text string, problems problem.List, want []what) {
	t.Helper()
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	require.Len(t, problems, len(want), "%s", strings.Join(got, "\n"))
	lines := strings.Split(text, "\n")
	for _, w := range want {
		hit := false
		for _, p := range problems {
			if !strings.Contains(p.Message, w.message) {
				continue
			}
			hit = true
			require.Positive(t, p.Line)
			rest := strings.Join(lines[p.Line-1:], "\n")
			assert.True(t, strings.HasPrefix(rest[min(p.Column-1, len(rest)):], w.at), "%s does not point at %q", p, w.at)
		}
		assert.True(t, hit, "no problem says %q in\n%s", w.message, strings.Join(got, "\n"))
	}
}

const head = "kind: UserData\nname: web\ntarget: cloud-init\nfamily: debian-12\n"

const (
	digest  = "0f9188f13cb7b2c71f2a335e3a4fc328bf5cfb4bf4be6f7e8f6f3f1d4fd2b5a1"
	ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC1gtkCq0fTEKJgMO0mzWWNYK5fi4syjfkqBUDmENQz8 alice"
)

// rsaKey is a well-formed RSA public key of so many bits.
func rsaKey(bits int) string {
	part := func(b []byte) string { return string([]byte{0, 0, byte(len(b) >> 8), byte(len(b))}) + string(b) }
	modulus := append([]byte{0}, []byte(strings.Repeat("\xff", bits/8))...)
	return "ssh-rsa " + base64Of(part([]byte("ssh-rsa"))+part([]byte{1, 0, 1})+part(modulus))
}

// Each case is a spec with one mistake: the head above, and what follows it.
func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		text string
		want []what
	}{
		// the schema
		"an unknown key is named with its nearest relative": {"timezon: UTC\n", []what{{"timezon", `unknown key "timezon"; did you mean "timezone"?`}}},
		"a password has no field":                           {"users:\n  - {name: alice, passwd: x}\n", []what{{"passwd", `unknown key "passwd" in users[0]`}}},
		"a plain password has none either":                  {"users:\n  - {name: alice, plain_text_passwd: x}\n", []what{{"plain_text_passwd", `unknown key "plain_text_passwd"`}}},
		"text where a list is wanted":                       {"packages: jq\n", []what{{"jq", "packages must be a list"}}},
		"a mode that is a number":                           {"files:\n  - {path: /etc/x.conf, mode: 0640, content: x}\n", []what{{"0640", "mode must be text"}}},

		// users
		"a user twice":                       {"users:\n  - {name: alice}\n  - {name: alice}\n", []what{{"alice}\n", "user alice is listed twice; the first is users[0].name"}}},
		"a user of the system":               {"users:\n  - {name: root}\n", []what{{"root", "user root belongs to the system"}}},
		"a uid twice":                        {"users:\n  - {name: alice, uid: 2001}\n  - {name: bob, uid: 2001}\n", []what{{"2001}\n", "uid 2001 is listed twice"}}},
		"a uid of the system":                {"users:\n  - {name: alice, uid: 33}\n", []what{{"33", "uid 33 would clash"}}},
		"the default user's uid":             {"users:\n  - {name: alice, uid: 1000}\n", []what{{"1000", "uid 1000 would clash"}}},
		"a system user with a user's uid":    {"users:\n  - {name: alice, system: true, uid: 2001}\n", []what{{"2001", "not one of a system user"}}},
		"a system user with a distro's uid":  {"users:\n  - {name: alice, system: true, uid: 33}\n", []what{{"33", "one of the distribution's own"}}},
		"uid 0":                              {"users:\n  - {name: alice, uid: 0}\n", []what{{"0", "out of range"}}},
		"a group that is root":               {"users:\n  - {name: alice, groups: [docker]}\n", []what{{"docker", "as good as root"}}},
		"a private key":                      {"users:\n  - name: alice\n    sshKeys: ['-----BEGIN OPENSSH PRIVATE KEY-----']\n", []what{{"'", "is a private key"}, {"'", "a private key in clear"}}},
		"a key with options":                 {"users:\n  - name: alice\n    sshKeys: ['command=\"x\" " + ed25519 + "']\n", []what{{"'", `is of type command="x"`}}},
		"a DSA key":                          {"users:\n  - {name: alice, sshKeys: [ssh-dss AAAA]}\n", []what{{"ssh-dss", "is of type ssh-dss"}}},
		"an RSA key of 2048 bits":            {"users:\n  - {name: alice, sshKeys: [" + rsaKey(2048) + "]}\n", []what{{"ssh-rsa", "only 2048 bits"}}},
		"an RSA key of 3072 bits":            {"users:\n  - {name: alice, sshKeys: [" + rsaKey(3072) + "]}\n", nil},
		"a key that is cut off":              {"users:\n  - {name: alice, sshKeys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5]}\n", []what{{"ssh-ed25519", "is cut off"}}},
		"a key twice":                        {"users:\n  - {name: alice, sshKeys: [" + ed25519 + ", " + ed25519 + "]}\n", []what{{ed25519 + "]", "is listed twice"}}},
		"keys for a user without a shell":    {"users:\n  - {name: alice, system: true, sshKeys: [" + ed25519 + "]}\n", []what{{"[ssh", "a shell that lets nobody in"}}},
		"all without a password":             {"users:\n  - name: alice\n    sudo: [{rule: 'ALL=(ALL) NOPASSWD: ALL'}]\n", []what{{"'ALL", "could do everything as another without a password"}}},
		"a shell without a password":         {"users:\n  - name: alice\n    sudo: [{rule: 'ALL=(root) NOPASSWD: /bin/bash'}]\n", []what{{"'ALL", "could do everything"}}},
		"all without a password, for reason": {"users:\n  - name: alice\n    sudo: [{rule: 'ALL=(ALL) NOPASSWD: ALL', reason: the pipeline deploys}]\n", nil},
		"all, for the SSM agent's user":      {"users:\n  - name: ssm-user\n    sudo: [{rule: 'ALL=(ALL) NOPASSWD: ALL'}]\n", nil},
		"one program without a password":     {"users:\n  - name: alice\n    sudo: [{rule: 'ALL=(root) NOPASSWD: /usr/bin/systemctl restart web'}]\n", nil},
		"a rule that is more than one":       {"users:\n  - name: alice\n    sudo: [{rule: \"ALL=(root) /bin/true\\nDefaults !authenticate\"}]\n", []what{{"\"ALL", "not a rule that sudo takes"}}},

		// kernel
		"a sysctl that is none":                   {"kernel:\n  sysctl:\n    somaxconn: 1\n", []what{{"somaxconn", "is not the name of a sysctl"}}},
		"a sysctl with a line break":              {"kernel:\n  sysctl:\n    net.core.somaxconn: \"1\\nkernel.x = 2\"\n", []what{{"\"1", "not a value of a sysctl"}}},
		"a sysctl of the hardening":               {"kernel:\n  sysctl:\n    net.ipv4.tcp_syncookies: 0\n", []what{{"0", "set by the hardening of the image (/etc/sysctl.d/99-zz-ami-factory.conf)"}}},
		"the same written with slashes":           {"kernel:\n  sysctl:\n    net/ipv4/tcp_syncookies: 0\n", []what{{"0", "set by the hardening"}}},
		"one that the hardening sets by pattern":  {"kernel:\n  sysctl:\n    net.ipv4.conf.eth0.send_redirects: 1\n", []what{{"1", "set by the hardening"}}},
		"one that the hardening sets in a guest":  {"kernel:\n  sysctl:\n    kernel.dmesg_restrict: 0\n", []what{{"0", "set by the hardening"}}},
		"a value that the hardening sets as well": {"kernel:\n  sysctl:\n    net.ipv4.tcp_syncookies: 1\n", nil},
		"a value of one of its variants":          {"kernel:\n  sysctl:\n    net.ipv4.ip_forward: 1\n", []what{{"1", "set otherwise by the hardening (/etc/sysctl.d/99-zz-ami-factory-variant.conf) in images of variant base,"}}},
		"a value of none of its variants":         {"kernel:\n  sysctl:\n    net.ipv4.ip_forward: 2\n", []what{{"2", "set by the hardening"}}},
		"a module that the hardening blocks":      {"kernel: {modules: {load: [usb_storage]}}\n", []what{{"usb_storage", "blocked by the hardening of the image (/etc/modprobe.d/10-ami-factory-fs.conf)"}}},
		"a module loaded and blocked":             {"kernel: {modules: {load: [nfs], block: [nfs]}}\n", []what{{"nfs]", "both loaded and blocked"}}},
		"a module that containers need":           {"kernel: {modules: {block: [overlay]}}\n", []what{{"overlay", "do not work"}}},
		"auditing switched off at boot":           {"kernel: {bootArguments: [audit=0]}\n", []what{{"audit=0", "would undo the hardening"}}},
		"auditing switched off by word":           {"kernel: {bootArguments: [audit=off]}\n", []what{{"audit=off", "would undo the hardening"}}},
		"one mitigation switched off":             {"kernel: {bootArguments: [retbleed=off]}\n", []what{{"retbleed=off", "would undo the hardening"}}},
		"mitigations switched off":                {"kernel: {bootArguments: [mitigations=off]}\n", []what{{"mitigations=off", "would undo the hardening"}}},
		"another init":                            {"kernel: {bootArguments: [init=/bin/sh]}\n", []what{{"init=", "boot something else"}}},
		"a boot argument with a quote":            {"kernel: {bootArguments: ['a=\"b']}\n", []what{{"'a", "does not have the required form"}}},

		// mounts
		"a mount over /etc":               {"mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /etc/x}]}\n", []what{{"{fileSystemId", "needs the package amazon-efs-utils"}, {"/etc/x", "the system lives in /etc"}}},
		"a mount over /usr":               {"mounts: {volumes: [{label: data, mountPoint: /usr}]}\n", []what{{"/usr", "the system lives in /usr"}}},
		"a mount over /var":               {"mounts: {volumes: [{label: data, mountPoint: /var}]}\n", []what{{"/var", "would hide what the image has"}}},
		"a mount over the root":           {"mounts: {volumes: [{label: data, mountPoint: //}]}\n", []what{{"//", "not in its shortest form"}}},
		"a mount over the audit log":      {"mounts: {volumes: [{label: data, mountPoint: /var/log/audit}]}\n", []what{{"/var/log/audit", "the system lives in"}}},
		"a mount that climbs":             {"mounts: {volumes: [{label: data, mountPoint: /mnt/../etc}]}\n", []what{{"/mnt/../etc", "not in its shortest form"}}},
		"a mount point twice":             {"mounts:\n  efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /mnt/x}]\n  volumes: [{label: data, mountPoint: /mnt/x}]\n", []what{{"{fileSystemId", "needs the package amazon-efs-utils"}, {"/mnt/x}]\n", "mount point /mnt/x is listed twice; the first is mounts.efs[0].mountPoint"}}},
		"a device twice":                  {"mounts: {volumes: [{device: /dev/sdf, mountPoint: /mnt/x}, {device: /dev/xvdf, mountPoint: /mnt/y}]}\n", []what{{"/dev/xvdf", "device /dev/sdf0 is listed twice"}}},
		"an access point over nfs4":       {"mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, transport: nfs4, region: eu-west-1, accessPoint: fsap-0123456789abcdef0, mountPoint: /mnt/x}]}\n", []what{{"fsap-", "needs efs-utils, not nfs4"}}},
		"IAM over nfs4":                   {"mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, transport: nfs4, region: eu-west-1, iam: true, mountPoint: /mnt/x}]}\n", []what{{"true", "needs efs-utils, not nfs4"}}},
		"nfs4 without a region":           {"mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, transport: nfs4, mountPoint: /mnt/x}]}\n", []what{{"nfs4", "region is required with nfs4"}}},
		"a path with an access point":     {"mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, path: /a, accessPoint: fsap-0123456789abcdef0, mountPoint: /mnt/x}]}\n", []what{{"{fileSystemId", "needs the package amazon-efs-utils"}, {"/a", "an access point has its own root"}}},
		"a file system that is none":      {"mounts: {efs: [{fileSystemId: efs-1, mountPoint: /mnt/x}]}\n", []what{{"{fileSystemId", "needs the package amazon-efs-utils"}, {"efs-1", "does not have the required form"}}},
		"a volume on nothing":             {"mounts: {volumes: [{mountPoint: /mnt/x}]}\n", []what{{"{mountPoint", "names 0 devices"}}},
		"a volume on two things":          {"mounts: {volumes: [{label: a, device: /dev/sdf, mountPoint: /mnt/x}]}\n", []what{{"{label", "names 2 devices"}}},
		"the root device":                 {"mounts: {volumes: [{device: /dev/sda, mountPoint: /mnt/x}]}\n", []what{{"/dev/sda", "does not have the required form"}}},
		"a device whose number changes":   {"mounts: {volumes: [{device: /dev/nvme1n1, mountPoint: /mnt/x}]}\n", []what{{"/dev/nvme1n1", "does not have the required form"}}},
		"an option that undoes hardening": {"mounts: {volumes: [{label: a, mountPoint: /mnt/x, options: [suid]}]}\n", []what{{"suid", "is not known"}}},
		"a limit of an hour":              {"mounts: {volumes: [{label: a, mountPoint: /mnt/x, timeoutSeconds: 3600}]}\n", []what{{"3600", "out of range"}}},

		// packages
		"a package twice":                    {"packages: [{name: jq}, {name: jq}]\n", []what{{"jq}]", "package jq is listed twice"}}},
		"a package that the hardening bans":  {"packages: [{name: telnet}]\n", []what{{"telnet", "kept out of the image"}}},
		"a package that is an option of apt": {"packages: [{name: --allow-unauthenticated}]\n", []what{{"--allow", "does not have the required form"}}},

		// files
		"a file twice":                     {"files:\n  - {path: /srv/x, content: a}\n  - {path: /srv/x, content: b}\n", []what{{"/srv/x, content: b", "file /srv/x is listed twice"}}},
		"a file of sudo":                   {"files: [{path: /etc/sudoers.d/web, content: x}]\n", []what{{"/etc/sudoers.d/web", "no file may be written to /etc/sudoers.d"}}},
		"a file of sshd":                   {"files: [{path: /etc/ssh/sshd_config.d/00-web.conf, content: x}]\n", []what{{"/etc/ssh", "no file may be written to /etc/ssh"}}},
		"a file of PAM":                    {"files: [{path: /etc/pam.d/sshd, content: x}]\n", []what{{"/etc/pam.d", "no file may be written to /etc/pam.d"}}},
		"a file of auditd":                 {"files: [{path: /etc/audit/rules.d/00.rules, content: x}]\n", []what{{"/etc/audit", "no file may be written to /etc/audit"}}},
		"a file of the container engine":   {"files: [{path: /etc/docker/daemon.json, content: x}]\n", []what{{"/etc/docker", "no file may be written to /etc/docker"}}},
		"a file of cloud-init":             {"files: [{path: /etc/cloud/cloud.cfg.d/x.cfg, content: x}]\n", []what{{"/etc/cloud", "no file may be written to /etc/cloud"}}},
		"a sysctl file":                    {"files: [{path: /etc/sysctl.d/99-zzz.conf, content: x}]\n", []what{{"/etc/sysctl.d", "no file may be written to /etc/sysctl.d"}}},
		"a folder whose name begins alike": {"files: [{path: /etc/sshguard/x, content: x}]\n", nil},
		"a file of a component":            {"files: [{path: /etc/motd, content: x}]\n", []what{{"/etc/motd", "is a file of the component hardening"}}},
		"a file with the factory's name":   {"files: [{path: /etc/example/ami-factory.conf, content: x}]\n", []what{{"/etc/example", "the factory's own"}}},
		"somebody's authorized_keys":       {"files: [{path: /home/alice/.ssh/authorized_keys, content: x}]\n", []what{{"/home", "users states who may sign in"}}},
		"a drop-in of auditd":              {"files: [{path: /etc/systemd/system/auditd.service.d/x.conf, content: x}]\n", []what{{"/etc", "unit auditd.service belongs to the hardening"}}},
		"a unit in place of the SSM agent": {"files: [{path: /etc/systemd/system/amazon-ssm-agent.service, content: x}]\n", []what{{"/etc", "unit amazon-ssm-agent.service belongs"}}},
		"the image's service@ replaced":    {"files: [{path: /etc/systemd/system/service@.service, content: x}]\n", []what{{"/etc", "/etc/systemd/system/service@.service is a file of the component filesystem"}}},
		"an instance of it replaced":       {"files: [{path: /etc/systemd/system/service@web.service, content: x}]\n", []what{{"/etc", "unit service@web.service is of the component filesystem"}}},
		"a drop-in of service@":            {"files: [{path: /etc/systemd/system/service@.service.d/x.conf, content: x}]\n", []what{{"/etc", "unit service@.service is of the component filesystem"}}},
		"a unit of the image elsewhere":    {"files: [{path: /usr/local/lib/systemd/system/service@web.service, content: x}]\n", []what{{"/usr", "unit service@web.service is of the component filesystem"}}},
		"a unit that control would set":    {"files: [{path: /etc/systemd/system.control/docker.service, content: x}]\n", []what{{"/etc", "unit docker.service is of the component docker"}}},
		"a drop-in of docker":              {"files: [{path: /etc/systemd/system/docker.service.d/x.conf, content: x}]\n", []what{{"/etc", "unit docker.service is of the component docker"}}},
		"the lock of an agent":             {"files: [{path: /etc/systemd/system/newrelic-infra.service.d/zz.conf, content: x}]\n", []what{{"/etc", "unit newrelic-infra.service is of the component newrelic-infra"}}},
		"a drop-in of all services":        {"files: [{path: /etc/systemd/system/service.d/x.conf, content: x}]\n", []what{{"/etc", "would change all units of the image"}}},
		"a program that the image owns":    {"files: [{path: /etc/logrotate.d/services, content: x}]\n", []what{{"/etc", "is a file of the component filesystem"}}},
		"a unit of the provisioner's own":  {"files: [{path: /etc/systemd/system/web@.service, content: x}, {path: /etc/systemd/system/web@a.service.d/x.conf, content: x}]\n", nil},
		"settings of a container by hand":  {"containers: [{name: web, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:" + digest + "'}]\nfiles: [{path: /srv/apps/web/conf/service.env, content: x}]\n", []what{{"/srv", "written from another field"}}},
		"a file that another field writes": {"proxy: {https: http://p.test:1}\nfiles: [{path: /etc/systemd/system/docker.service.d/50-userdata-proxy.conf, content: x}]\n", []what{{"/etc", "written from another field"}}},
		"a file that everyone may change":  {"files: [{path: /srv/x, mode: '0666', content: x}]\n", []what{{"'0666'", "everyone could change"}}},
		"a setuid file":                    {"files: [{path: /srv/x, mode: '4755', content: x}]\n", []what{{"'4755'", "does not have the required form"}}},
		"a file of nothing":                {"files: [{path: /srv/x}]\n", []what{{"{path", "needs content or contentBase64"}}},
		"a file of two things":             {"files: [{path: /srv/x, content: a, contentBase64: YQ==}]\n", []what{{"{path", "and not both"}}},
		"base64 that is none":              {"files: [{path: /srv/x, contentBase64: '*'}]\n", []what{{"'*'", "is not base64"}}},
		"PermitRootLogin":                  {"files: [{path: /srv/x, content: PermitRootLogin yes}]\n", []what{{"PermitRootLogin", "the text has PermitRootLogin"}}},
		"PermitRootLogin in base64":        {"files: [{path: /srv/x, contentBase64: " + base64Of("PermitRootLogin yes\n") + "}]\n", []what{{"", "the text has PermitRootLogin"}}},
		"sign-in by password":              {"files: [{path: /srv/x, content: PasswordAuthentication yes}]\n", []what{{"Password", "sign-in by password"}}},
		"ssh_pwauth":                       {"files: [{path: /srv/x, content: 'ssh_pwauth: true'}]\n", []what{{"'ssh", "the text has ssh_pwauth"}}},
		"a hashed password":                {"files: [{path: /srv/x, content: 'alice:$6$saltsalt$abcdefghijkl:1'}]\n", []what{{"'alice", "a password's hash"}}},
		"an unsigned repository":           {"files: [{path: /srv/x, content: 'deb [trusted=yes] http://x y'}]\n", []what{{"'deb", "packages without a signature"}}},
		"a rule of sudo in a file":         {"files: [{path: /srv/x, content: 'a ALL=(ALL) NOPASSWD: ALL'}]\n", []what{{"'a ALL", "the text has NOPASSWD"}}},
		"a service's key of AWS in a file": {"files: [{path: /srv/x, content: id AKIAIOSFODNN7EXAMPLE}]\n", []what{{"id", "an AWS access key in clear"}}},
		"a private key in a file":          {"files:\n  - path: /srv/x\n    content: |\n      -----BEGIN RSA PRIVATE KEY-----\n", []what{{"|", "a private key in clear"}}},
		"a password in a file":             {"files: [{path: /srv/x, content: db_password = hunter2hunter2}]\n", []what{{"db_", "a password or key in clear"}}},
		"a secret's name is none":          {"files: [{path: /srv/x, content: 'password_file = /run/secrets/db'}]\n", nil},
		"an address with a password":       {"files: [{path: /srv/x, content: 'postgres://web:hunter2@db/x'}]\n", []what{{"'postgres", "an address with a password in clear"}}},
		"a path beyond ASCII":              {"files: [{path: /srv/é, content: x}]\n", []what{{"/srv/é", "does not have the required form"}, {"/srv/é", "beyond plain ASCII"}}},

		"a file in a home that is none": {"users: [{name: collector, system: true}]\nfiles: [{path: /home/collector/x, content: x}]\n", []what{{"/home/collector/x", "user collector is a system user and has no home"}}},

		// services
		"auditd disabled":               {"services: {disable: [auditd.service]}\n", []what{{"auditd", "unit auditd.service belongs to the hardening"}}},
		"AppArmor disabled":             {"services: {disable: [apparmor.service]}\n", []what{{"apparmor", "belongs to the hardening"}}},
		"the journal disabled":          {"services: {disable: [systemd-journald.socket]}\n", []what{{"systemd-journald", "belongs to the hardening"}}},
		"the SSM agent disabled":        {"services: {disable: [snap.amazon-ssm-agent.amazon-ssm-agent.service]}\n", []what{{"snap", "how it is reached"}}},
		"a unit without its suffix":     {"services: {enable: [nginx]}\n", []what{{"nginx", "does not have the required form"}}},
		"a unit enabled and disabled":   {"services: {enable: [a.service], disable: [a.service]}\n", []what{{"a.service]}", "both disabled and enabled"}}},
		"a unit that is kept off":       {"services: {enable: [rpcbind.service]}\n", []what{{"rpcbind", "kept off by the hardening"}}},
		"a unit enabled twice":          {"services: {enable: [a.service, a.service]}\n", []what{{"a.service]}", "listed twice"}}},
		"a factory's own unit disabled": {"services: {disable: [ami-factory-boot.service]}\n", []what{{"ami-factory", "belongs to the hardening"}}},

		// commands
		"a command twice":             {"commands: [{name: a, argv: [a]}, {name: a, argv: [b]}]\n", []what{{"a, argv: [b]", "command a is listed twice"}}},
		"a command of nothing":        {"commands: [{name: a}]\n", []what{{"{name", "needs argv or script"}}},
		"chpasswd":                    {"commands: [{name: a, script: 'chpasswd <x'}]\n", []what{{"'chpasswd", "the text has chpasswd"}}},
		"chpasswd as a program":       {"commands: [{name: a, argv: [/usr/sbin/chpasswd]}]\n", []what{{"[/usr", "the text has chpasswd"}}},
		"usermod with a password":     {"commands: [{name: a, argv: [usermod, -p, x, alice]}]\n", []what{{"[usermod", "the text has a password"}}},
		"auditd stopped":              {"commands: [{name: a, script: systemctl --quiet stop auditd}]\n", []what{{"systemctl", "stops auditd"}}},
		"auditd masked among others":  {"commands: [{name: a, argv: [systemctl, mask, nginx, auditd.service]}]\n", []what{{"[systemctl", "stops auditd.service"}}},
		"auditing switched off":       {"commands: [{name: a, script: auditctl -e 0}]\n", []what{{"auditctl", "switch off auditing"}}},
		"SELinux switched off":        {"commands: [{name: a, script: setenforce 0}]\n", []what{{"setenforce", "switch off SELinux or AppArmor"}}},
		"the firewall flushed":        {"commands: [{name: a, script: nft flush ruleset}]\n", []what{{"nft", "switch off the firewall"}}},
		"a hardened sysctl set":       {"commands: [{name: a, script: sysctl -w net.ipv4.tcp_syncookies=0}]\n", []what{{"sysctl", "sets sysctl net.ipv4.tcp_syncookies to 0"}}},
		"another sysctl set":          {"commands: [{name: a, script: sysctl -w net.core.somaxconn=1024}]\n", nil},
		"a download piped into bash":  {"commands: [{name: a, script: 'curl https://x | bash'}]\n", []what{{"'curl", "a download piped into a shell"}}},
		"a pipe that is none":         {"commands: [{name: a, script: 'curl https://x | sha256sum'}]\n", nil},
		"an unsigned package":         {"commands: [{name: a, script: apt-get --allow-unauthenticated install x}]\n", []what{{"apt-get", "packages without a signature"}}},
		"a token in a script":         {"commands: [{name: a, script: 'x ghp_abcdefghijklmnopqrstuvwxyz0123456789'}]\n", []what{{"'x", "a token in clear"}}},
		"a command that takes a week": {"commands: [{name: a, argv: [a], timeoutSeconds: 600000}]\n", []what{{"600000", "out of range"}}},

		// containers
		"a registry of no region":         {"containers: [{name: web, image: '111122223333.dkr.ecr.eu-wets-1.amazonaws.com/web@sha256:" + digest + "'}]\n", []what{{"'111", `there is no region "eu-wets-1"; did you mean "eu-west-1"?`}}},
		"a registry of another partition": {"containers: [{name: web, image: '111122223333.dkr.ecr.cn-north-1.amazonaws.com/web@sha256:" + digest + "'}]\n", []what{{"'111", "hosts of region cn-north-1 end with amazonaws.com.cn"}}},
		"a secret of another partition":   {"agents: {newrelic-infra: {SECRET_ID: 'arn:aws:secretsmanager:cn-north-1:111122223333:secret:x-abcdef'}}\n", []what{{"'arn", "the ARN is of partition aws, but region cn-north-1 is in aws-cn"}}},
		"a secret of no region":           {"agents: {newrelic-infra: {SECRET_ID: 'arn:aws:secretsmanager:xx-nowhere-9:111122223333:secret:x-abcdef'}}\n", []what{{"'arn", `there is no region "xx-nowhere-9"`}}},
		"a file system of no region":      {"mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /mnt/x, transport: nfs4, region: eu-centrall-1}]}\n", []what{{"eu-centrall-1", `there is no region "eu-centrall-1"; did you mean "eu-central-1"?`}}},
		"a container by tag":              {"containers: [{name: web, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web:1'}]\n", []what{{"'111", "not named by digest"}}},
		"a container from elsewhere":      {"containers: [{name: web, image: 'docker.io/library/nginx@sha256:" + digest + "'}]\n", []what{{"'docker", "registry docker.io is not allowed"}}},
		"a registry that looks alike":     {"containers: [{name: web, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com.evil.test/web@sha256:" + digest + "'}]\n", []what{{"'111", "is not allowed"}}},
		"a container's secret":            {"containers: [{name: web, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:" + digest + "', env: {DB_PASSWORD: x}}]\n", []what{{"DB_PASSWORD", "a secret in clear"}}},
		"a container's variable":          {"containers: [{name: web, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:" + digest + "', env: {A-B: x}}]\n", []what{{"A-B", "not the name of a variable"}}},
		"a variable of two lines":         {"containers: [{name: web, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:" + digest + "', env: {A: \"x\\ny\"}}]\n", []what{{"\"x", "cannot be written into an environment file"}}},
		"a service that takes an hour":    {"containers: [{name: web, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:" + digest + "', health: {port: 80, waitSeconds: 3600}}]\n", []what{{"3600", "out of range"}}},
		"a port of two containers":        {"containers:\n  - {name: a, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:" + digest + "', ports: ['80:80']}\n  - {name: b, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:" + digest + "', ports: ['80:81']}\n", []what{{"'80:81'", "host port 80 is listed twice"}}},
		"a proxy with a password":         {"proxy: {https: 'http://me:hunter2@p.test:1'}\n", []what{{"'http", "does not have the required form"}, {"'http", "an address with a password"}}},
		"a time zone that does not exist": {"timezone: Europe/Zuerich\n", []what{{"Europe", `there is no time zone "Europe/Zuerich"`}}},

		// agents
		"an agent that is none":       {"agents: {datadog: {A: b}}\n", []what{{"datadog", `unknown key "datadog" in agents`}}},
		"a licence key":               {"agents: {newrelic-infra: {LICENSE_KEY: x}}\n", []what{{"LICENSE_KEY", "a secret in clear"}}},
		"a licence key in disguise":   {"agents: {newrelic-infra: {DISPLAY_NAME: 0123456789abcdef0123456789abcdef01234567}}\n", []what{{"0123", "looks like a secret in clear"}}},
		"a parameter that is none":    {"agents: {newrelic-infra: {DISPLAY: web}}\n", []what{{"DISPLAY", "takes no DISPLAY"}}},
		"another agent's parameter":   {"agents: {chef: {DISPLAY_NAME: web}}\n", []what{{"DISPLAY_NAME", "agent chef takes no DISPLAY_NAME"}}},
		"parameters of each agent":    {"agents: {chef: {ORGANISATION: a}, newrelic-infra: {DISPLAY_NAME: web}, cloudwatch-agent: {CONFIG_FILE: /etc/x.json}, appdynamics-machine-agent: {ACCOUNT: a, SECRET_TIMEOUT: '9'}}\n", nil},
		"a lower-case parameter":      {"agents: {chef: {server: x}}\n", []what{{"server", "is not the name of a parameter"}}},
		"a member of a secret":        {"agents: {newrelic-infra: {SECRET_ID: web/newrelic, SECRET_KEY: license}}\n", nil},
		"a member that is a secret":   {"agents: {newrelic-infra: {SECRET_KEY: 0123456789abcdef0123456789abcdef01234567}}\n", []what{{"SECRET_KEY", "a secret in clear"}}},
		"a secret twice":              {"agents: {chef: {SECRET_ID: a/b, SSM_PARAMETER: /a/b}}\n", []what{{"SSM_PARAMETER", "has two secrets"}}},
		"a secret's name with spaces": {"agents: {chef: {SECRET_ID: my secret}}\n", []what{{"my secret", "names no secret"}}},
		"a parameter without a slash": {"agents: {chef: {SSM_PARAMETER: chef}}\n", []what{{"chef}", "names no parameter"}}},
		"a secret by its ARN":         {"agents: {chef: {SECRET_ID: 'arn:aws:secretsmanager:eu-west-1:111122223333:secret:chef/validation-key-of-production-AbCdEf'}}\n", nil},

		"settings of Bottlerocket": {"bottlerocket: {motd: x}\n", []what{{"bottlerocket", "does not read bottlerocket"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text := head + tt.text
			_, problems := parse(t, text)
			found(t, text, problems, tt.want)
		})
	}
}

func TestRepositoriesAreVerifiedWhenTheyAreChecked(t *testing.T) {
	good := example(t, "web-service.yaml")
	for sentence, tc := range map[string]struct {
		old, new string
		want     []what
	}{
		"another fingerprint":        {"699A8B45A9768295A7A8832EE8DE369060CB80FD", "699A8B45A9768295A7A8832EE8DE369060CB80FE", []what{{"699A", "has another fingerprint"}}},
		"a key that is damaged":      {"mDMEawXX", "mDME*wXX", []what{{"|", "its base64 is damaged"}}},
		"a key cut short":            {"      TVi2V+e0J0V4YW1wbGUgcGFja2FnZXMgPHBhY2thZ2VzQGV4YW1wbGUuY29tPoiQ\n", "", []what{{"|", "cannot be read"}}},
		"a private key":              {"BEGIN PGP PUBLIC KEY", "BEGIN PGP PRIVATE KEY", []what{{"|", "cannot be read"}, {"|", "a private key in clear"}}},
		"no suite":                   {"    suite: bookworm\n", "", []what{{"name", "needs suite and components"}}},
		"a repository with a user":   {"https://packages.example.com/debian", "https://a:b@packages.example.com/debian", []what{{"https", "does not have the required form"}, {"https", "an address with a password"}}},
		"an option in the suite":     {"suite: bookworm", "suite: '[trusted=yes] bookworm'", []what{{"'[", "does not have the required form"}}},
		"dnf has suites as little":   {"family: debian-12", "family: al2023", []what{{"name", "which dnf does not know"}}},
		"no key is no repository":    {"    fingerprint: 699A8B45A9768295A7A8832EE8DE369060CB80FD\n", "", []what{{"- name: example\n", "needs either fingerprint or fingerprints"}}},
		"lower case is not the form": {"699A8B45A9768295A7A8832EE8DE369060CB80FD", "699a8b45a9768295a7a8832ee8de369060cb80fd", []what{{"699a", "does not have the required form"}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Contains(t, good, tc.old)
			text := strings.Replace(good, tc.old, tc.new, 1)
			_, problems := parse(t, text)
			if sentence == "no key is no repository" || sentence == "no suite" || sentence == "dnf has suites as little" {
				require.Len(t, problems, 1, "%v", problems)
				assert.Contains(t, problems[0].Message, tc.want[0].message)
				return
			}
			found(t, text, problems, tc.want)
		})
	}
}

func TestANodeOfEKSIsRefused(t *testing.T) {
	const node = "kind: UserData\nname: web\ntarget: cloud-init\nfamily: al2023\neks:\n  clusterName: web\n  apiServer: https://x.eks.amazonaws.com\n" +
		"  clusterCertificate: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==\n  serviceCIDR: 10.100.0.0/16\n"
	for _, text := range []string{node, strings.Replace(node, "10.100.0.0/16", "fd30:1c53:5f8a::/108", 1)} {
		_, problems, err := spec.Parse("web.yaml", []byte(text), userdata.FS, nil)
		require.NoError(t, err)
		require.Empty(t, problems)
	}
	for sentence, c := range map[string]struct{ old, now, says string }{
		"on another family":                {"family: al2023", "family: debian-12", "nodeadm, which reads this, is in EKS's images of al2023 only"},
		"with an address for a network":    {"10.100.0.0/16", "10.100.0.10/16", `"10.100.0.10/16" is not a network`},
		"with a network that is none":      {"10.100.0.0/16", "10.100.0.0/33", `"10.100.0.0/33" is not a network`},
		"with a certificate in PEM":        {"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==", "-----BEGIN CERTIFICATE-----", "is not base64"},
		"with a label of the kubelet's":    {"serviceCIDR", "nodeLabels: {kubernetes.io/role: master}\n  serviceCIDR", "kubernetes.io/role"},
		"with a taint without an effect":   {"serviceCIDR", "nodeTaints: {dedicated: [web]}\n  serviceCIDR", `"web" is not a taint`},
		"without the cluster's network":    {"  serviceCIDR: 10.100.0.0/16\n", "", "serviceCIDR is required"},
		"in the format of Bottlerocket":    {"target: cloud-init\nfamily: al2023", "target: bottlerocket", "Bottlerocket has no nodeadm"},
		"with an address that is no https": {"https://x.eks", "http://x.eks", "apiServer"},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Contains(t, node, c.old)
			s, problems, err := spec.Parse("web.yaml", []byte(strings.Replace(node, c.old, c.now, 1)), userdata.FS, nil)
			require.NoError(t, err)
			if s != nil {
				problems = append(problems, s.Unfit(s.Target)...)
			}
			assert.Contains(t, problems.Err().Error(), c.says)
		})
	}
}

func TestBottlerocketRefusesWhatItCannotDo(t *testing.T) {
	const head = "kind: UserData\nname: node\ntarget: bottlerocket\n"
	for sentence, tc := range map[string]struct {
		text string
		want []what
	}{
		"users":                     {"users: [{name: alice}]\n", []what{{"users", "Bottlerocket has no users"}}},
		"packages":                  {"packages: [{name: jq}]\n", []what{{"packages", "no package manager"}}},
		"files":                     {"files: [{path: /srv/x, content: x}]\n", []what{{"files", "read-only"}}},
		"EFS":                       {"mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /mnt/x}]}\n", []what{{"efs", "no file systems of EFS"}}},
		"volumes":                   {"mounts: {volumes: [{label: a, mountPoint: /mnt/x}]}\n", []what{{"volumes", "no volumes on the host"}}},
		"services":                  {"services: {enable: [a.service]}\n", []what{{"services", "services are its own"}}},
		"commands":                  {"commands: [{name: a, argv: [a]}]\n", []what{{"commands", "no shell"}}},
		"a time zone":               {"timezone: UTC\n", []what{{"timezone", "time zone is UTC"}}},
		"agents":                    {"agents: {chef: {ORGANISATION: b}}\n", []what{{"agents", "not part of Bottlerocket"}}},
		"containers":                {"containers: [{name: web, image: '111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:" + digest + "'}]\n", []what{{"containers", "for its orchestrator only"}}},
		"a family":                  {"family: debian-12\n", []what{{"debian-12", "takes no family"}}},
		"a proxy for http alone":    {"proxy: {http: http://p.test:1}\n", []what{{"http: http://", "one proxy"}}},
		"both orchestrators":        {"bottlerocket:\n  ecs: {cluster: a}\n  kubernetes: {clusterName: a, apiServer: https://a, clusterCertificate: YWFhYWFhYWFhYWFh}\n", []what{{"{cluster:", "joins one cluster"}}},
		"no control container":      {"bottlerocket: {hostContainers: {control: false}}\n", []what{{"false", "do not reach the instance"}}},
		"an admin container":        {"bottlerocket: {hostContainers: {admin: true}}\n", []what{{"true", "is root on the host"}}},
		"no lockdown":               {"bottlerocket: {kernelLockdown: none}\n", []what{{"none", "is not known"}}},
		"credentials of a registry": {"bottlerocket: {registryCredentials: [x]}\n", []what{{"registryCredentials", "unknown key"}}},
		"a taint without effect":    {"bottlerocket:\n  kubernetes: {clusterName: a, apiServer: https://a, clusterCertificate: YWFhYWFhYWFhYWFh, nodeTaints: {a: [b]}}\n", []what{{"b]", "is not a taint"}}},
		"a label with a space":      {"bottlerocket:\n  kubernetes: {clusterName: a, apiServer: https://a, clusterCertificate: YWFhYWFhYWFhYWFh, nodeLabels: {'a b': c}}\n", []what{{"'a b'", "not the name of a label"}}},
		"a hardened sysctl":         {"kernel: {sysctl: {kernel.randomize_va_space: 0}}\n", []what{{"0", "set by the hardening"}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, problems := parse(t, head+tc.text)
			found(t, head+tc.text, problems, tc.want)
		})
	}
	_, problems := parse(t, head+"bottlerocket: {hostContainers: {admin: true}}\n")
	assert.False(t, problems.HasErrors(), "the admin container is allowed, with a warning")
}

func TestAllProblemsComeInOnePass(t *testing.T) {
	_, problems := parse(t, head+`timezone: Mars/Base
users: [{name: root}]
kernel: {sysctl: {kernel.randomize_va_space: 0}}
files: [{path: /etc/ssh/x, content: PermitRootLogin yes}]
services: {disable: [auditd.service]}
unknown: 1
`)
	assert.Len(t, problems, 7, "%v", problems)
}

func TestCloudInitNeedsAFamily(t *testing.T) {
	const text = "kind: UserData\nname: web\ntarget: cloud-init\n"
	_, problems := parse(t, text)
	found(t, text, problems, []what{{"cloud-init", "family is required"}})
}

// Were the hardening's files to move, no sysctl would be refused any more.
func TestComponentsWithoutSettingsAreAnError(t *testing.T) {
	_, _, err := spec.Parse("web.yaml", []byte(head), fstest.MapFS{"components/x/install.sh": {}}, nil)
	assert.ErrorContains(t, err, "nothing says what the image is hardened with")
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
