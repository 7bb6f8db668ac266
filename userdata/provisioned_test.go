//go:build linux

package userdata_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	firstboot "github.com/ami-factory/ami-factory/pkg/userdata/provision"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
	"github.com/ami-factory/ami-factory/userdata"
)

// ownRegistry is the name of a registry that a spec may name, which the guest
// serves to itself.
const ownRegistry = "111122223333.dkr.ecr.eu-west-1.amazonaws.com"

// The roots are renamed, and user data does not know it.
const renamedComponents = `  - name: docker
    parameters: {images: "` + ownRegistry + `/web@DIGEST"}
  - name: filesystem
    parameters: {registries: "` + ownRegistry + `", services: /srv/apps, logs: /var/log/apps, state: /var/lib/apps, user: app, group: app, uid: 960}
  - name: boot
    parameters: {services: "docker.service=docker info", wait: 180}
`

const provisionersSpec = `kind: UserData
name: provisioned
target: cloud-init
family: debian-12
containers:
  - name: web
    image: ` + ownRegistry + `/web@DIGEST
    ports: ['127.0.0.1:18080:8080']
    env: {GREETING: hello}
    health: {port: 8080, path: /health, waitSeconds: 30}
    stopGraceSeconds: 20
    memory: 64m
    cpus: '0.5'
  - name: sick
    image: ` + ownRegistry + `/web@DIGEST
    env: {HEALTH: bad}
    health: {port: 8080, path: /health, waitSeconds: 2}
    stopGraceSeconds: 5
`

// The whole way of a container: an image that was baked with it by digest, a
// spec, a first boot, docker.
func TestAProvisionersContainersRunOnTheImagesServices(t *testing.T) {
	g := bootGuest(t)
	registry := newTestRegistry(t, "web", program(t))
	for file, content := range registry.files {
		g.write(t, "/srv/registry/v2/"+file, 0o644, content)
	}
	authority, served := certificateFor(t, ownRegistry)
	g.write(t, "/srv/registry/tls.pem", 0o600, served)
	g.write(t, "/etc/docker/certs.d/"+ownRegistry+"/ca.crt", 0o644, authority)
	g.write(t, "/srv/registry/serve.py", 0o644, []byte(registryServer))
	g.output(t, "echo 127.0.0.1 "+ownRegistry+" >>/etc/hosts && systemd-run --unit registry python3 /srv/registry/serve.py && sleep 1")
	image := ownRegistry + "/web@" + registry.digest
	named := func(text string) string {
		return string(bytes.ReplaceAll([]byte(text), []byte("DIGEST"), []byte(registry.digest)))
	}
	assert.Contains(t, g.install(t, named(renamedComponents)), "changed: image "+image)
	g.permitContainers(t)
	g.checker(t, "docker")

	s, problems, err := spec.Parse("provisioned.yaml", []byte(named(provisionersSpec)), userdata.FS, nil)
	require.NoError(t, err)
	require.Empty(t, problems)
	rendered, err := firstboot.Render(s, s.Target)
	require.NoError(t, err)
	// The registry is not there any more: what runs was baked.
	g.again(t, "i-0aaaaaaaaaaaaaaa2", rendered.Data)

	t.Run("the image that the recipe names is there", func(t *testing.T) {
		g.output(t, "timeout 90 sh -c 'until docker info >/dev/null 2>&1; do sleep 1; done'")
		assert.NotContains(t, g.failures(t), "DOCK-15")
	})
	t.Run("a healthy one is active, where the image has its services", func(t *testing.T) {
		assert.Equal(t, "active enabled", g.output(t, "echo $(systemctl is-active service@web.service) $(systemctl is-enabled service@web.service)"))
		assert.Equal(t, "healthy, "+image, g.output(t, "systemctl show --value -p StatusText service@web.service"))
		assert.Equal(t, "640 root:root", g.output(t, "stat -c '%a %U:%G' /srv/apps/web/conf/service.env"))
		assert.Equal(t, "750 app:app", g.output(t, "stat -c '%a %U:%G' /var/lib/apps/web"))
		assert.Equal(t, "none", g.output(t, "test -e /opt/services && echo some || echo none"))
	})
	t.Run("it is read-only, without privileges to gain or capabilities", func(t *testing.T) {
		var probe map[string]any
		require.NoError(t, json.Unmarshal([]byte(g.output(t, "curl -sS http://127.0.0.1:18080/probe")), &probe))
		assert.Equal(t, map[string]any{
			"uid": 960.0, "gid": 960.0, "greeting": "hello", "root": "open /written: read-only file system", "tmp": "writable",
			"state": "writable", "log": "writable", "NoNewPrivs": "1", "CapEff": "0000000000000000", "CapBnd": "0000000000000000",
		}, probe)
		assert.Equal(t, "67108864 500000000 20", g.output(t,
			"docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.Config.StopTimeout}}' service-web"))
	})
	const reason = "not healthy 2 seconds after its start: port 8080, path /health: it answers with HTTP status 503"
	t.Run("one that is not healthy fails the user data, with the reason", func(t *testing.T) {
		var result struct {
			Status string
			Steps  []struct{ Name, Status, Message string }
		}
		g.json(t, firstboot.Result, &result)
		assert.Equal(t, "failed", result.Status)
		require.Len(t, result.Steps, 2)
		assert.Equal(t, "ok", result.Steps[0].Status, "%+v", result)
		assert.Equal(t, "failed", result.Steps[1].Status)
		assert.Contains(t, result.Steps[1].Message, "service@sick.service did not start: "+reason)
	})
	t.Run("and the boot, with its report", func(t *testing.T) {
		var report bootReport
		assert.Equal(t, "failed", g.boot(t, &report), "%+v", report)
		assert.Equal(t, "failed", report.Status)
		require.Len(t, report.Services, 3)
		assert.Equal(t, []string{"docker.service", "service@sick.service", "service@web.service"},
			[]string{report.Services[0].Unit, report.Services[1].Unit, report.Services[2].Unit})
		assert.Equal(t, []bool{true, false, true}, []bool{report.Services[0].Healthy, report.Services[1].Healthy, report.Services[2].Healthy})
		assert.Equal(t, "failed (failed)", report.Services[1].State)
		assert.Equal(t, reason, report.Services[1].Message)
		assert.Equal(t, "failed", g.output(t, "systemctl is-failed service@sick.service"))
		assert.Contains(t, g.console(t), "ami-factory: boot: FAILED: service@sick.service is failed (failed): "+reason)
	})
	t.Run("a service with more rights than it needs is noticed", func(t *testing.T) {
		g.checker(t, "filesystem")
		assert.NotContains(t, g.failures(t), "FSYS-06")
		g.output(t, "docker run -d --name weak --label ami-factory.service=weak --cap-add NET_ADMIN "+image)
		assert.Contains(t, g.failures(t)["FSYS-06"], "/weak has too much")
		g.output(t, "docker rm -f weak && cp /usr/lib/ami-factory/service-run /root/")
		options := []string{"--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--user "}
		for _, option := range options {
			g.output(t, "sed -i 's/"+option+"/--label weak=/' /usr/lib/ami-factory/service-run")
		}
		found := g.failures(t)["FSYS-06"]
		for _, option := range options {
			assert.Contains(t, found, option, "it is missed")
		}
		g.output(t, "cp /root/service-run /usr/lib/ami-factory/")
	})
	t.Run("a healthy one has its grace to end in", func(t *testing.T) {
		began := time.Now()
		g.output(t, "systemctl stop service@web.service")
		assert.Greater(t, time.Since(began), 2500*time.Millisecond, "the program takes three seconds to end")
		assert.Contains(t, g.output(t, "journalctl --no-pager -u service@web.service -n 5 -o cat"), "ended with exit code 0")
	})
	t.Run("a removed image is noticed", func(t *testing.T) {
		g.checker(t, "docker")
		g.output(t, "docker ps -aq | xargs -r docker rm -f >/dev/null; docker rmi --force "+image)
		assert.Contains(t, g.failures(t)["DOCK-15"], "missing")
	})
}
