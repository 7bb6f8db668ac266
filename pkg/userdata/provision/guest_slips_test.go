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

	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn/nspawntest"
	"github.com/ami-factory/ami-factory/pkg/userdata/provision"
)

const aliceKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC1gtkCq0fTEKJgMO0mzWWNYK5fi4syjfkqBUDmENQz8 alice@example.com"

// slips is what people write: users in any order, one who cannot be made, a file
// below a home, a unit that is ordered after cloud-init, another that is absent.
const slips = `kind: UserData
name: slips
target: cloud-init
family: debian-12
users:
  - {name: alice, groups: [bob, alice, web], sshKeys: ["` + aliceKey + `"]}
  - {name: bob, groups: [alice]}
  - {name: jane.doe, uid: 1001, sshKeys: ["` + aliceKey + `"], sudo: [{rule: "ALL=(root) NOPASSWD: /usr/bin/id"}]}
  - {name: taken, system: true, uid: 801}
  - {name: other, system: true, uid: 801}
  - {name: last, groups: [other], sshKeys: ["` + aliceKey + `"], sudo: [{rule: "ALL=(root) NOPASSWD: /usr/bin/id"}]}
files:
  - {path: /home/alice/.config/app/app.conf, owner: "alice:alice", mode: "0600", content: x}
  - {path: /home/bob/notes, content: y}
  - {path: /srv/jane, owner: "jane.doe:web", content: z}
  - path: /etc/systemd/system/late.service
    content: |
      [Unit]
      After=cloud-init.target
      [Service]
      ExecStart=/bin/sleep infinity
  - path: /etc/systemd/system/stuck.service
    content: |
      [Service]
      Type=oneshot
      ExecStart=/bin/sleep infinity
  - path: /etc/systemd/system/running.service
    content: |
      [Service]
      ExecStart=/bin/sleep infinity
services:
  disable: [absent.service]
  start: [late.service, stuck.service, running.service]
  timeoutSeconds: 5
proxy: {https: "http://proxy.example.com:3128", noProxy: [.example.com]}
commands:
  - name: environment
    script: |
      echo "$HOME $USER $https_proxy" >/srv/environment
      systemd-run --wait --pipe --quiet env | grep -i proxy >/srv/of-units
`

// The spec is changed after the check, which refuses two users of one number:
// in an instance it is another package's user that has it.
func TestSlipsCostNoMoreThanThemselvesOnAGuest(t *testing.T) {
	base := nspawntest.Base(t)
	d := nspawntest.Driver(t, network.Options{Local: http.NotFoundHandler()})

	s := parse(t, strings.Replace(slips, "name: other, system: true, uid: 801", "name: other, system: true, uid: 802", 1))
	s.Users[4].UID = 801
	rendered, err := provision.Render(s, s.Target)
	require.NoError(t, err)
	const id = "i-0ccccccccccccccc4"
	in := nspawntest.Launch(t, base, imds.Instance{InstanceID: id, PrivateIP: "172.31.5.18", UserData: rendered.Data})
	m, took := boot(t, d, in)
	assert.Less(t, took, 4*time.Minute, "nothing waits for ever")

	// cloud-init calls itself done with an error when a user cannot be made; its
	// later stages come nevertheless.
	m.output(`timeout 180 sh -c 'until grep -qsE "^.\"schema\".{0,60}\"status\":\"(ok|degraded|failed)\"" ` + provision.Result + `; do sleep 0.5; done'`)
	var r result
	text := m.output("cat " + provision.Result)
	require.NoError(t, json.Unmarshal([]byte(text), &r), "%s", text)
	t.Logf("%s", text)
	status, message := map[string]string{}, map[string]string{}
	for _, step := range r.Steps {
		status[step.Name], message[step.Name] = step.Status, step.Command+" "+step.Message
	}
	t.Run("each step says what became of it", func(t *testing.T) {
		assert.Equal(t, "failed", r.Status)
		assert.Equal(t, map[string]string{
			"user alice": "ok", "user bob": "ok", "user jane.doe": "ok", "user taken": "ok", "user other": "failed", "user last": "failed",
			"take the proxy into use": "ok", "file /home/alice/.config/app/app.conf": "ok", "file /home/bob/notes": "ok", "file /srv/jane": "ok",
			"read the units that were written": "ok", "disable absent.service": "failed", "start late.service": "queued", "start stuck.service": "failed",
			"start running.service": "ok", "command environment": "ok",
		}, status)
		assert.Contains(t, message["user other"], "UID 801 is not unique")
		assert.Contains(t, message["user last"], "user last is not in other, since there is no such user")
		assert.Contains(t, message["disable absent.service"], "there is no unit absent.service in this image")
		assert.Contains(t, message["start late.service"], "late.service after cloud-init.target after cloud-final.service")
		assert.Contains(t, message["start stuck.service"], "has not ended within 5 s")
	})
	t.Run("users are in their groups, whatever their order", func(t *testing.T) {
		m := machine{m.Machine, t}
		assert.Equal(t, "alice bob web", m.output("id -nG alice | tr ' ' '\\n' | sort | tr '\\n' ' '"))
		assert.Equal(t, "alice bob", m.output("id -nG bob | tr ' ' '\\n' | sort | tr '\\n' ' '"))
		assert.Equal(t, "1001", m.output("id -u jane.doe"))
		assert.Equal(t, "0", m.output("su jane.doe -c 'sudo -n /usr/bin/id -u'"))
	})
	t.Run("who comes after one that cannot be made has account, key and rules", func(t *testing.T) {
		m := machine{m.Machine, t}
		assert.NotZero(t, m.status("id other"))
		assert.Equal(t, aliceKey, m.output("cat /home/last/.ssh/authorized_keys"))
		assert.Equal(t, "600 last:last", m.output("stat -c '%a %U:%G' /home/last/.ssh/authorized_keys"))
		assert.Equal(t, "700 last:last", m.output("stat -c '%a %U:%G' /home/last/.ssh"))
		assert.Equal(t, "0", m.output("su last -c 'sudo -n /usr/bin/id -u'"))
		assert.Regexp(t, "^[!*]", m.output("getent shadow last | cut -d: -f2"))
	})
	t.Run("a home with a file of the spec is a home", func(t *testing.T) {
		m := machine{m.Machine, t}
		m.output("test -e /home/alice/.bashrc && test -e /home/bob/.bashrc")
		assert.Equal(t, "alice:alice alice:alice 755 alice:alice 600 alice:alice", m.output("stat -c %U:%G /home/alice /home/alice/.config | tr '\\n' ' '; stat -c '%a %U:%G' /home/alice/.config/app /home/alice/.config/app/app.conf | tr '\\n' ' ' | sed 's/ $//'"))
		m.output("su alice -c 'touch /home/alice/.config/app/mine'")
		assert.Equal(t, "644 root:root", m.output("stat -c '%a %U:%G' /home/bob/notes"))
		assert.Equal(t, "jane.doe:web", m.output("stat -c %U:%G /srv/jane"))
	})
	t.Run("a unit that was queued runs when the first boot is over", func(t *testing.T) {
		m := machine{m.Machine, t}
		m.output("timeout 60 sh -c 'until systemctl is-active --quiet late.service; do sleep 0.2; done'")
		assert.Equal(t, "active", m.output("systemctl is-active running.service"))
	})
	t.Run("commands have a home, and they and new units the proxy", func(t *testing.T) {
		m := machine{m.Machine, t}
		assert.Equal(t, "/root root http://proxy.example.com:3128", m.output("cat /srv/environment"))
		assert.Contains(t, m.output("cat /srv/of-units"), "https_proxy=http://proxy.example.com:3128")
		assert.Contains(t, m.output("cat /srv/of-units"), "169.254.170.2")
	})
}
