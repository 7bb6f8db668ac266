//go:build linux

package provision_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn/nspawntest"
	"github.com/ami-factory/ami-factory/pkg/userdata/provision"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// guestSpec asks for a little of everything; its three mounts cannot succeed.
const guestSpec = `kind: UserData
name: guest-test
target: cloud-init
family: debian-12
users:
  - name: alice
    uid: 2001
    groups: [web]
    sshKeys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC1gtkCq0fTEKJgMO0mzWWNYK5fi4syjfkqBUDmENQz8 alice@example.com"]
    sudo:
      - rule: "ALL=(root) NOPASSWD: /usr/bin/systemctl restart web.service, /usr/bin/id"
      - rule: "ALL=(collector) NOPASSWD: /usr/bin/touch"
  - {name: collector, system: true, uid: 801}
kernel:
  sysctl: {net.core.somaxconn: 4096}
  modules: {load: [nf_conntrack], block: [floppy]}
  bootArguments: [transparent_hugepage=madvise]
mounts:
  efs:
    - {fileSystemId: fs-0123456789abcdef0, transport: nfs4, region: eu-west-1, mountPoint: /mnt/shared, timeoutSeconds: 10}
    - {fileSystemId: fs-0fedcba9876543210, mountPoint: /mnt/helper}
  volumes:
    - {label: nothing, mountPoint: /data, timeoutSeconds: 5}
packages: [{name: tree}]
files:
  - path: /srv/collector.conf
    mode: "0640"
    owner: collector:web
    content: "café = \"$HOME\"\n"
  - path: /etc/systemd/system/sleeper.service
    content: |
      [Service]
      ExecStart=/bin/sleep infinity
      [Install]
      WantedBy=multi-user.target
services: {enable: [sleeper.service], start: [sleeper.service]}
commands:
  - name: count
    script: |
      date +%Z >>/var/lib/count
  - {name: program, argv: [touch, /srv/it is here]}
timezone: Europe/Zurich
agents:
  newrelic-infra: {SECRET_ID: web/newrelic, DISPLAY_NAME: web}
`

// renderWithEFS renders a spec for an image that says that it has the mount helper
// of EFS.
func renderWithEFS(t *testing.T, text string) provision.UserData {
	t.Helper()
	out, err := provision.Render(parseFor(t, text, &spec.Image{Recipe: "web", Family: "debian-12", Components: []component.Selected{
		{Component: &component.Component{Name: "hardening"}, Values: map[string]string{"variant": "docker"}},
		{Component: &component.Component{Name: "newrelic-infra"}},
		{Component: &component.Component{Name: "storage", Packages: []component.Package{{Name: "amazon-efs-utils"}}}},
	}}), spec.CloudInit)
	require.NoError(t, err)
	return out
}

// machine is a guest that the tests ask questions.
type machine struct {
	vm.Machine
	t *testing.T
}

// output runs a script that must succeed.
func (m machine) output(script string) string {
	m.t.Helper()
	result, err := m.Exec(m.t.Context(), vm.Command{Argv: []string{"sh", "-c", script}, Timeout: 10 * time.Minute})
	require.NoError(m.t, err, script)
	require.Zerof(m.t, result.ExitCode, "%s\n%s%s", script, result.Stdout, result.Stderr)
	return strings.TrimSpace(string(result.Stdout))
}

func (m machine) status(script string) int {
	m.t.Helper()
	result, err := m.Exec(m.t.Context(), vm.Command{Argv: []string{"sh", "-c", script}, Timeout: time.Minute})
	require.NoError(m.t, err, script)
	require.False(m.t, result.TimedOut, script)
	return result.ExitCode
}

// boot starts a machine and waits until cloud-init is through.
func boot(t *testing.T, d vm.Driver, in vm.Launch) (machine, time.Duration) {
	t.Helper()
	began := time.Now()
	started, err := d.Start(t.Context(), in)
	require.NoError(t, err)
	m := machine{started, t}
	t.Cleanup(func() {
		if t.Failed() {
			console, _ := m.Console()
			t.Logf("console:\n%s", console[max(0, len(console)-12000):])
		}
		assert.NoError(t, m.Kill())
	})
	for m.Ping(t.Context()) != nil {
		require.Less(t, time.Since(began), 5*time.Minute, "the guest never answered")
		time.Sleep(500 * time.Millisecond)
	}
	// 1 and 2 say that something failed, which result.json tells in full; more is
	// no answer of cloud-init's.
	m.output("cloud-init status --wait || test $? -le 2")
	return m, time.Since(began)
}

// The whole way: an instance of a base image, its metadata service, cloud-init.
func TestAGuestBootsWithTheUserData(t *testing.T) {
	base := nspawntest.Base(t)
	d := nspawntest.Driver(t, network.Options{Local: http.NotFoundHandler()})

	const id = "i-0ccccccccccccccc3"
	rendered := renderWithEFS(t, guestSpec)
	in := nspawntest.Launch(t, base, imds.Instance{InstanceID: id, PrivateIP: "172.31.5.17", UserData: rendered.Data})
	m, took := boot(t, d, in)
	t.Logf("first boot: %.0f s", took.Seconds())

	var r result
	text := m.output("cat " + provision.Result)
	require.NoError(t, json.Unmarshal([]byte(text), &r), "%s", text)
	t.Logf("%s", text)
	t.Run("result.json lists every step", func(t *testing.T) {
		require.Len(t, r.Steps, len(rendered.Steps))
		for i, s := range rendered.Steps {
			assert.Equal(t, s.Name, r.Steps[i].Name)
			want := "ok"
			if !s.Must {
				want = "failed"
			}
			assert.Equal(t, want, r.Steps[i].Status, "%s: %s", s.Name, r.Steps[i].Message)
		}
		assert.Equal(t, "degraded", r.Status, "mounts failed, and nothing else")
		assert.False(t, r.Reboot, "a container has no boot arguments")
	})
	t.Run("mounts whose server or device is absent end within their limits", func(t *testing.T) {
		for _, s := range r.Steps {
			switch s.Name {
			case "mount /mnt/shared": // the client is installed first
				assert.Contains(t, s.Message, "/mnt/shared is not mounted")
				assert.Less(t, s.Seconds, 90)
			case "mount /mnt/helper":
				assert.Contains(t, s.Message, "mount.efs is missing")
				assert.Less(t, s.Seconds, 10)
			case "mount /data":
				assert.Contains(t, s.Message, "there is no such device: by_label nothing")
				assert.Less(t, s.Seconds, 15)
			}
		}
		assert.Contains(t, m.output("cat /etc/fstab"), "fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com:/ /mnt/shared nfs4 _netdev,nofail,")
	})
	t.Run("the NFS client's package starts nothing that the hardening keeps off", func(t *testing.T) {
		// is-enabled ends with 1 for what is masked; its words are compared.
		assert.Equal(t, "masked masked", m.output("echo $(systemctl is-enabled rpcbind.service rpcbind.socket || true)"))
		assert.NotZero(t, m.status("pgrep -x rpcbind"))
	})
	t.Run("users have keys and no passwords", func(t *testing.T) {
		assert.Equal(t, "uid=2001(alice) gid=2001(alice) groups=2001(alice),"+m.output("getent group web | cut -d: -f3")+"(web)", m.output("id alice"))
		assert.Contains(t, m.output("cat /home/alice/.ssh/authorized_keys"), "alice@example.com")
		assert.Equal(t, "600 alice", m.output("stat -c '%a %U' /home/alice/.ssh/authorized_keys"))
		for _, user := range []string{"alice", "collector"} {
			assert.Regexp(t, "^[!*]", m.output("getent shadow "+user+" | cut -d: -f2"), user)
		}
		assert.Equal(t, "801:/usr/sbin/nologin", m.output("getent passwd collector | cut -d: -f3,7"))
		m.output("visudo --check --quiet")
		assert.Equal(t, "0", m.output("su alice -c 'sudo -n /usr/bin/id -u'"))
		assert.Zero(t, m.status("su alice -c 'sudo -n -u collector /usr/bin/touch /tmp/by-collector'"))
		assert.NotZero(t, m.status("su alice -c 'sudo -n /usr/bin/cat /etc/shadow'"), "and nothing more")
		// Either of the two tells; that none does fails here.
		assert.Contains(t, m.output("sshd -T 2>/dev/null | grep -i ^passwordauthentication; cat /etc/ssh/sshd_config.d/50-cloud-init.conf 2>/dev/null || true"), "no")
	})
	t.Run("files have their content, mode and owner", func(t *testing.T) {
		assert.Equal(t, `café = "$HOME"`, m.output("cat /srv/collector.conf"))
		assert.Equal(t, "640 collector:web", m.output("stat -c '%a %U:%G' /srv/collector.conf"))
		assert.Equal(t, "600 root:root", m.output("stat -c '%a %U:%G' /etc/ami-factory/agents/newrelic-infra.env"))
		assert.Equal(t, "DISPLAY_NAME=web\nSECRET_ID=web/newrelic", m.output("cat /etc/ami-factory/agents/newrelic-infra.env"))
	})
	t.Run("the kernel's settings are configured", func(t *testing.T) {
		assert.Contains(t, m.output("cat /etc/sysctl.d/90-userdata.conf"), "net.core.somaxconn = 4096")
		assert.Equal(t, "nf_conntrack", m.output("cat /etc/modules-load.d/90-userdata.conf"))
		assert.Contains(t, m.output("modprobe --showconfig | grep floppy"), "install floppy /bin/false")
		assert.Equal(t, "x transparent_hugepage=madvise", m.output("GRUB_CMDLINE_LINUX=x; . /etc/default/grub.d/90-userdata.cfg; echo $GRUB_CMDLINE_LINUX"))
	})
	t.Run("time zone, packages, commands and services", func(t *testing.T) {
		assert.Equal(t, "/usr/share/zoneinfo/Europe/Zurich", m.output("readlink -f /etc/localtime"))
		assert.NotEmpty(t, m.output("tree --version"))
		m.output("test -e '/srv/it is here'")
		assert.Equal(t, "active", m.output("systemctl is-active sleeper.service"))
		assert.Equal(t, "enabled", m.output("systemctl is-enabled sleeper.service"))
	})
	ran := m.output("cat /var/lib/count")
	assert.Len(t, strings.Fields(ran), 1)
	assert.Contains(t, []string{"CET", "CEST"}, ran, "the time zone was set before")

	t.Run("a mount helper that hangs is given up", func(t *testing.T) {
		m := machine{m.Machine, t}
		m.output("printf '#!/bin/sh\\nexec sleep 1000\\n' >/sbin/mount.efs && chmod 755 /sbin/mount.efs")
		hanging := renderWithEFS(t, head+"mounts: {efs: [{fileSystemId: fs-0fedcba9876543210, mountPoint: /mnt/helper, timeoutSeconds: 5}]}\n")
		began := time.Now()
		ended, err := m.Exec(t.Context(), vm.Command{
			Argv: []string{"bash", "-s"}, Stdin: []byte(strings.ReplaceAll(hanging.Script, provision.State, "/var/lib/hanging")), Timeout: 5 * time.Minute,
		})
		require.NoError(t, err)
		assert.Zero(t, ended.ExitCode, "%s%s", ended.Stdout, ended.Stderr)
		assert.Less(t, time.Since(began), 20*time.Second)
		var r result
		require.NoError(t, json.Unmarshal([]byte(m.output("cat /var/lib/hanging/result.json")), &r))
		assert.Equal(t, "degraded", r.Status)
		assert.Equal(t, "/mnt/helper is not mounted", r.Steps[0].Command)
		// Which of systemd's two lines about it are among the last ones depends on when
		// it reports the helper's child that is left.
		assert.Regexp(t, `timed out|result 'timeout'`, r.Steps[0].Message)
		assert.Contains(t, m.output("cat /etc/fstab"), "fs-0fedcba9876543210:/ /mnt/helper efs _netdev,nofail,nodev,nosuid,noresvport,tls,iam,x-systemd.mount-timeout=5s 0 0")
	})

	forced, err := m.Shutdown(t.Context(), 2*time.Minute)
	require.NoError(t, err)
	assert.False(t, forced)
	<-m.Done()
	before := text
	m, took = boot(t, d, in)
	t.Logf("second boot: %.0f s", took.Seconds())
	t.Run("the second boot of the instance runs nothing again, and does not hang", func(t *testing.T) {
		m := machine{m.Machine, t}
		m.output("timeout 60 sh -c 'while systemctl is-active --quiet mnt-helper.mount || systemctl list-jobs | grep -q mnt-helper; do sleep 1; done'")
		assert.Equal(t, "failed", m.output("systemctl show --property ActiveState --value mnt-helper.mount"), "the boot tried it, and gave up")
		assert.Equal(t, ran, m.output("cat /var/lib/count"))
		assert.Equal(t, before, m.output("cat "+provision.Result))
		assert.Equal(t, "active", m.output("systemctl is-active sleeper.service"))
		assert.Less(t, took, 60*time.Second)
	})
}
