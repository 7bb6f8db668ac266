//go:build linux

package userdata_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const serviceComponents = `  - {name: docker}
  - name: filesystem
    parameters: {registries: "127.0.0.1:5000/approved"}
  - name: boot
    parameters: {services: "docker.service=docker info; service@web.service", wait: 60}
`

// bootReport is /run/ami-factory/boot.json.
type bootReport struct {
	Status    string  `json:"status"`
	BootID    string  `json:"bootId"`
	Seconds   float64 `json:"seconds"`
	CloudInit struct {
		DataSource string   `json:"datasource"`
		Errors     []string `json:"errors"`
	} `json:"cloudInit"`
	Services []struct {
		Unit    string  `json:"unit"`
		Healthy bool    `json:"healthy"`
		State   string  `json:"state"`
		Seconds float64 `json:"seconds"`
		Message string  `json:"message"`
	} `json:"services"`
}

func TestServicesInARealGuest(t *testing.T) {
	g := bootGuest(t)
	log := g.install(t, serviceComponents)
	for _, name := range []string{"docker", "filesystem", "boot"} {
		assert.Regexp(t, name+`: [1-9][0-9]* changes`, log)
	}
	t.Run("a second run changes nothing", func(t *testing.T) {
		log := g.install(t, serviceComponents)
		for _, name := range []string{"docker", "filesystem", "boot"} {
			assert.Contains(t, log, name+": 0 changes")
		}
		assert.NotContains(t, log, "changed:")
	})
	t.Run("the image lists what it is made of", func(t *testing.T) {
		var release struct {
			Recipe, Fingerprint, Source, Baked, Image, Family string
			Components                                        []struct {
				Name, Version string
				Parameters    map[string]string
			}
		}
		g.json(t, "/etc/ami-factory/release.json", &release)
		assert.Equal(t, "test", release.Recipe)
		assert.Equal(t, strings.Repeat("0b", 32), release.Fingerprint)
		assert.Equal(t, "ami-0123456789abcdef0", release.Source)
		assert.Equal(t, "2026-11-23T17:41:55Z", release.Baked)
		require.Len(t, release.Components, 3)
		assert.Equal(t, "127.0.0.1:5000/approved", release.Components[1].Parameters["registries"])
		assert.Regexp(t, "^[0-9a-f]{64}$", release.Components[1].Version)
	})
	t.Run("cloud-init takes its settings", func(t *testing.T) {
		const file = "/etc/cloud/cloud.cfg.d/98-ami-factory-boot.cfg"
		assert.Contains(t, g.output(t, "(echo '#cloud-config'; grep -v datasource_list "+file+") >/tmp/x.cfg && cloud-init schema --config-file /tmp/x.cfg"), "Valid")
	})

	g.permitContainers(t)
	program := program(t)
	registry := newTestRegistry(t, "approved/app", program)
	for file, content := range registry.files {
		g.write(t, "/srv/registry/v2/"+file, 0o644, content)
	}
	g.write(t, "/srv/registry/serve.py", 0o644, []byte(registryServer))
	g.write(t, "/etc/systemd/system/registry.service", 0o644,
		[]byte("[Service]\nExecStart=/usr/bin/python3 /srv/registry/serve.py\n[Install]\nWantedBy=multi-user.target\n"))
	g.output(t, "systemctl daemon-reload && systemctl enable --now registry.service && timeout 30 bash -c 'until (: </dev/tcp/127.0.0.1/5000) 2>/dev/null; do sleep 0.1; done'")
	image := "127.0.0.1:5000/approved/app@" + registry.digest

	// settings makes a service with a service.env.
	settings := func(t *testing.T, name, service, container string) {
		t.Helper()
		g.output(t, "/usr/lib/ami-factory/service-create "+name+" && rm -f /opt/services/"+name+"/conf/*")
		g.write(t, "/opt/services/"+name+"/conf/service.env", 0o640, []byte(service))
		g.write(t, "/opt/services/"+name+"/conf/container.env", 0o640, []byte(container))
	}
	const web = "\nPORTS=127.0.0.1:18080:8080\nSTOP_GRACE=20\nHEALTH_PORT=8080\nHEALTH_PATH=/health\nHEALTH_WAIT=30\nMEMORY=64m\nCPUS=0.5\n"
	settings(t, "web", "# of the test\nIMAGE="+image+web, "GREETING=hello\n")

	t.Run("the directories of a service are made once", func(t *testing.T) {
		const list = "cd / && find opt/services/web var/log/services/web var/lib/services/web ! -name '*.env' -printf '%p %m %u:%g %l\\n' | sed 's/ $//' | LC_ALL=C sort"
		want := strings.Join([]string{
			"opt/services/web 755 root:root", "opt/services/web/bin 755 root:root", "opt/services/web/conf 750 root:svc",
			"opt/services/web/current 777 root:root releases/none", "opt/services/web/releases 755 root:root",
			"opt/services/web/releases/none 755 root:root", "var/lib/services/web 750 svc:svc", "var/log/services/web 750 svc:svc",
		}, "\n")
		assert.Equal(t, want, g.output(t, list))
		g.output(t, "ln -sfn releases/1 /opt/services/web/current && /usr/lib/ami-factory/service-create web")
		assert.Equal(t, "releases/1", g.output(t, "readlink /opt/services/web/current"), "a release stays")
		text, code := g.run(t, "/usr/lib/ami-factory/service-create ../web")
		assert.Equal(t, 64, code, text)
	})
	t.Run("a service starts and is healthy", func(t *testing.T) {
		// As after user data, which writes settings only.
		g.output(t, "rmdir /var/log/services/web /var/lib/services/web")
		g.output(t, "systemctl start service@web.service || { journalctl --no-pager -n 30 -u service@web.service; exit 1; }")
		assert.Equal(t, "active", g.output(t, "systemctl is-active service@web.service"))
		assert.Equal(t, "healthy, "+image, g.output(t, "systemctl show --value -p StatusText service@web.service"))
		assert.Equal(t, image, g.output(t, `docker inspect -f '{{index .Config.Labels "ami-factory.image"}}' service-web`))
	})
	t.Run("it has no more rights than it needs", func(t *testing.T) {
		var probe map[string]any
		require.NoError(t, json.Unmarshal([]byte(g.output(t, "curl -sS http://127.0.0.1:18080/probe")), &probe))
		assert.Equal(t, map[string]any{
			"uid": 950.0, "gid": 950.0, "greeting": "hello", "root": "open /written: read-only file system", "tmp": "writable",
			"state": "writable", "log": "writable", "NoNewPrivs": "1", "CapEff": "0000000000000000", "CapBnd": "0000000000000000",
		}, probe)
		assert.Equal(t, "67108864 500000000 20 json-file", g.output(t,
			"docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.Config.StopTimeout}} {{.HostConfig.LogConfig.Type}}' service-web"))
		assert.Equal(t, "svc svc", g.output(t, "stat -c '%U %G' /var/lib/services/web/written"))
	})
	t.Run("it lives through a restart of the daemon", func(t *testing.T) {
		started := g.output(t, "docker inspect -f '{{.State.StartedAt}}' service-web")
		g.output(t, "systemctl restart docker.service && timeout 30 sh -c 'until pgrep -f \"^docker wait service-web\"; do sleep 0.2; done'")
		assert.Equal(t, "active", g.output(t, "systemctl is-active service@web.service"))
		assert.Equal(t, started, g.output(t, "docker inspect -f '{{.State.StartedAt}}' service-web"))
	})
	t.Run("it has its grace to end in", func(t *testing.T) {
		began := time.Now()
		g.output(t, "systemctl stop service@web.service")
		took := time.Since(began)
		assert.Greater(t, took, 2500*time.Millisecond, "the program takes three seconds to end")
		assert.Less(t, took, 15*time.Second)
		assert.Contains(t, g.output(t, "journalctl --no-pager -u service@web.service -n 5 -o cat"), "ended with exit code 0")
		assert.Equal(t, "inactive", g.output(t, "systemctl is-active service@web.service || true"))
		assert.Empty(t, g.output(t, "docker ps -aq"), "nothing is left")
	})
	t.Run("without enough grace it is killed", func(t *testing.T) {
		settings(t, "hasty", "IMAGE="+image+"\nSTOP_GRACE=1\nHEALTH_PORT=8080\nHEALTH_PATH=/health\n", "")
		g.output(t, "systemctl start service@hasty.service && systemctl stop service@hasty.service")
		assert.Contains(t, g.output(t, "journalctl --no-pager -u service@hasty.service -n 5 -o cat"), "ended with exit code 137")
	})
	t.Run("one that crashes is started again", func(t *testing.T) {
		g.output(t, "systemctl start service@web.service && docker kill service-web")
		g.output(t, "timeout 60 sh -c 'until [ \"$(systemctl show --value -p NRestarts service@web.service)\" = 1 ] && systemctl is-active --quiet service@web.service; do sleep 0.2; done'")
		assert.Equal(t, "active 1", g.output(t, "echo $(systemctl show --value -p ActiveState -p NRestarts service@web.service | sort -r)"))
	})
	t.Run("one that is not healthy makes its unit fail, with the reason", func(t *testing.T) {
		settings(t, "sick", "IMAGE="+image+"\nSTOP_GRACE=5\nHEALTH_PORT=8080\nHEALTH_PATH=/health\nHEALTH_WAIT=2\n", "HEALTH=bad\n")
		_, code := g.run(t, "systemctl start service@sick.service")
		assert.NotZero(t, code)
		const reason = "not healthy 2 seconds after its start: port 8080, path /health: it answers with HTTP status 503"
		assert.Contains(t, g.output(t, "journalctl --no-pager -u service@sick.service -o cat"), "service sick: "+reason)
		assert.Equal(t, reason, g.output(t, "cat /run/ami-factory/services/sick.reason"))
		assert.Equal(t, "failed", g.output(t, "for i in {1..90}; do systemctl is-failed --quiet service@sick.service && break; sleep 1; done; systemctl is-failed service@sick.service"))
		assert.Equal(t, "5", g.output(t, "journalctl --no-pager -u service@sick.service -o cat | grep -c 'not healthy 2'"), "after five starts systemd gives up")
	})
	refusals := map[string]struct{ settings, reason string }{
		"an image without a digest": {
			"IMAGE=127.0.0.1:5000/approved/app:latest\n", "without a digest",
		},
		"a registry that is not approved": {
			"IMAGE=" + strings.Replace(image, "127.0.0.1", "elsewhere.example.com", 1) + "\n", "whose registry is not approved; approved: 127.0.0.1:5000/approved",
		},
		"a path beside the approved one": {
			"IMAGE=" + strings.Replace(image, "approved", "approved-not", 1) + "\n", "whose registry is not approved",
		},
		"an unknown key":            {"IMAGE=" + image + "\nPRIVILEGED=1\n", "service.env:2: unknown key 'PRIVILEGED'"},
		"a port that is an option":  {"IMAGE=" + image + "\nPORTS=80:80 --privileged\n", "PORTS has '--privileged'"},
		"a grace of nothing":        {"IMAGE=" + image + "\nSTOP_GRACE=0\n", "STOP_GRACE is '0'; allowed: 1 to 600"},
		"memory without a unit":     {"IMAGE=" + image + "\nMEMORY=64\n", "MEMORY is '64'"},
		"no image at all":           {"PORTS=80:80\n", "has no IMAGE"},
		"a command for an image":    {"IMAGE=$(reboot)@sha256:" + strings.Repeat("0", 64) + "\n", "allowed: REGISTRY/REPOSITORY@sha256:DIGEST"},
		"a health path with spaces": {"IMAGE=" + image + "\nHEALTH_PATH=/ -o /etc/passwd\n", "HEALTH_PATH is '/ -o /etc/passwd'"},
	}
	for sentence, c := range refusals {
		t.Run("refused is "+sentence, func(t *testing.T) {
			settings(t, "refused", c.settings, "")
			_, code := g.run(t, "systemctl reset-failed service@refused.service 2>/dev/null; systemctl start service@refused.service")
			assert.NotZero(t, code)
			assert.Equal(t, "failed 78 0", g.output(t, "for p in ActiveState ExecMainStatus NRestarts; do systemctl show --value -p $p service@refused.service; done | xargs"), "and not tried again")
			assert.Contains(t, g.output(t, "cat /run/ami-factory/services/refused.reason"), c.reason)
		})
	}
	t.Run("refused are settings that others may write", func(t *testing.T) {
		settings(t, "refused", "IMAGE="+image+"\n", "")
		g.output(t, "chown svc /opt/services/refused/conf/service.env; systemctl reset-failed service@refused.service")
		_, code := g.run(t, "systemctl start service@refused.service")
		assert.NotZero(t, code)
		assert.Contains(t, g.output(t, "cat /run/ami-factory/services/refused.reason"), "must be root's")
	})
	t.Run("a missing image in the registry is reported", func(t *testing.T) {
		settings(t, "refused", "IMAGE=127.0.0.1:5000/approved/app@sha256:"+strings.Repeat("0", 64)+"\n", "")
		g.output(t, "systemctl reset-failed service@refused.service")
		_, code := g.run(t, "systemctl start service@refused.service")
		assert.NotZero(t, code)
		assert.Contains(t, g.output(t, "cat /run/ami-factory/services/refused.reason"), "cannot get the image")
		g.output(t, "systemctl stop service@refused.service")
	})

	var report bootReport
	t.Run("a boot ends with every declared service healthy", func(t *testing.T) {
		g.reboot(t)
		assert.Equal(t, "active", g.boot(t, &report), "%+v", report)
		assert.Equal(t, "ok", report.Status)
		require.Len(t, report.Services, 2)
		assert.Equal(t, "service@web.service", report.Services[1].Unit)
		assert.True(t, report.Services[1].Healthy)
		assert.Equal(t, "active (running)", report.Services[1].State)
		assert.Contains(t, report.CloudInit.DataSource, "DataSourceEc2")
		assert.True(t, strings.Contains(g.console(t), "ami-factory: boot: ok, 2 services healthy after"))
	})
	t.Run("a boot in which one is not says so", func(t *testing.T) {
		g.write(t, "/opt/services/web/conf/container.env", 0o640, []byte("HEALTH=bad\n"))
		g.output(t, "sed -i s/HEALTH_WAIT=30/HEALTH_WAIT=3/ /opt/services/web/conf/service.env")
		first := report.BootID
		g.reboot(t)
		report = bootReport{}
		assert.Equal(t, "failed", g.boot(t, &report))
		assert.NotEqual(t, first, report.BootID, "it is of this boot")
		assert.Equal(t, "failed", report.Status)
		assert.True(t, report.Services[0].Healthy)
		assert.False(t, report.Services[1].Healthy)
		assert.Contains(t, report.Services[1].Message, "it answers with HTTP status 503")
		assert.True(t, strings.Contains(g.console(t), "ami-factory: boot: FAILED: service@web.service is "))
	})
	t.Run("and is right again when it is", func(t *testing.T) {
		g.write(t, "/opt/services/web/conf/container.env", 0o640, []byte("GREETING=again\n"))
		g.reboot(t)
		report = bootReport{}
		assert.Equal(t, "active", g.boot(t, &report), "%+v", report)
		assert.Equal(t, "ok", report.Status)
	})
}

// boot waits for the end of the boot and returns the state of the unit that
// reports on it.
func (g *guest) boot(t *testing.T, report *bootReport) string {
	t.Helper()
	state := g.output(t, `for i in {1..120}; do
	state=$(systemctl show --value -p ActiveState ami-factory-boot.service)
	if [[ $state == active || $state == failed ]]; then break; fi
	sleep 1
done
echo "$state"`)
	g.json(t, "/run/ami-factory/boot.json", report)
	return state
}

func (g *guest) console(t *testing.T) string {
	t.Helper()
	console, err := g.machine.Console()
	require.NoError(t, err)
	return string(console)
}

func TestABootDoesNotHangOnVolumesThatAreAway(t *testing.T) {
	g := bootGuest(t)
	components := `  - name: boot
    parameters: {dataVolumes: "data=/srv/data:ext4 big-one=/var/lib/big:xfs", deviceTimeout: 3, instanceStore: /mnt/scratch, services: cron.service}
`
	g.install(t, components)
	assert.NotContains(t, g.install(t, components), "changed:", "a second run")
	began := time.Now()
	g.reboot(t)
	var report bootReport
	assert.Equal(t, "active", g.boot(t, &report), "%+v", report)
	assert.Less(t, time.Since(began), time.Minute)
	assert.Equal(t, "ok", report.Status)
	for _, unit := range []string{"srv-data.mount", `var-lib-big.mount`} {
		assert.Equal(t, "enabled", g.output(t, "systemctl is-enabled "+unit))
		// A container has no udev: the mount fails at once. Elsewhere its device is
		// waited for, as long as this says.
		assert.Equal(t, "failed", g.output(t, "systemctl is-active "+unit+" || true"))
	}
	assert.Equal(t, "3s", g.output(t, `systemctl show --value -p JobRunningTimeoutUSec 'dev-disk-by\x2dlabel-data.device'`))
	assert.Equal(t, "3s", g.output(t, `systemctl show --value -p JobRunningTimeoutUSec 'dev-disk-by\x2dlabel-big\x2done.device'`))
	assert.Equal(t, "active", g.output(t, "systemctl is-active ami-factory-instance-store.service"))
	assert.Contains(t, g.output(t, "journalctl --no-pager -b -o cat -u ami-factory-instance-store.service"), "instance-store: 0 disks")
}
