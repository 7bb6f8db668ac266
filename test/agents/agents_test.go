//go:build linux

// Package agents_test installs the agents' components in real guests, from a
// vendor's repository of its own, and boots instances of the result.
package agents_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn/nspawntest"
	"github.com/ami-factory/ami-factory/test/breaks"
	"github.com/ami-factory/ami-factory/userdata"
)

const (
	newRelicKey    = "nr-canary-0123456789abcdef"
	appDynamicsKey = "appd-canary-0123456789abcdef"
	validationKey  = "-----BEGIN RSA PRIVATE KEY-----\nchef-canary-0123456789abcdef\n-----END RSA PRIVATE KEY-----\n"
	canaries       = "(nr|appd|chef)-canary-"
)

// vendors serves guests what agents need of the world: packages, secrets and
// parameters.
type vendors struct {
	files http.Handler
	mu    sync.Mutex
	asked []string
}

func (v *vendors) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		v.files.ServeHTTP(w, r)
		return
	}
	var in struct{ SecretId, Name string } //nolint:revive // as on the wire
	_ = json.NewDecoder(r.Body).Decode(&in)
	v.mu.Lock()
	v.asked = append(v.asked, in.SecretId+in.Name)
	v.mu.Unlock()
	secrets := map[string]string{
		"ami-factory/agents/newrelic": newRelicKey, "ami-factory/agents/chef": validationKey,
		"own/appdynamics": `{"accessKey":"` + appDynamicsKey + `"}`,
	}
	target := r.Header.Get("X-Amz-Target")
	value, ok := secrets[in.SecretId]
	switch {
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=ASIAROLE/"):
		w.WriteHeader(403)
		fmt.Fprint(w, `{"__type":"AccessDeniedException"}`)
	case target == "AmazonSSM.GetParameter" && in.Name == "AmazonCloudWatch-linux":
		fmt.Fprint(w, `{"Parameter":{"Value":"{\"metrics\":{}}"}}`)
	case target == "secretsmanager.GetSecretValue" && ok:
		_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": value})
	default:
		w.WriteHeader(400)
		fmt.Fprint(w, `{"__type":"ResourceNotFoundException"}`)
	}
}

// agentGuest is a container with what the tests ask it.
type agentGuest struct {
	vm.Machine
	dir string
}

func (g *agentGuest) run(t *testing.T, script string) (string, int) {
	t.Helper()
	result, err := g.Exec(t.Context(), vm.Command{Argv: []string{"bash", "-c", script}, Timeout: 5 * time.Minute})
	require.NoError(t, err, script)
	return strings.TrimSpace(string(result.Stdout) + string(result.Stderr)), result.ExitCode
}

func (g *agentGuest) output(t *testing.T, script string) string {
	t.Helper()
	out, code := g.run(t, script)
	require.Zero(t, code, "%s\n%s", script, out)
	return out
}

func bootAgentGuest(t *testing.T, d vm.Driver, image, id, ip string, userData string) *agentGuest {
	t.Helper()
	launch := nspawntest.Launch(t, image, imds.Instance{
		InstanceID: id, PrivateIP: ip, UserData: []byte(userData), Profile: "arn:aws:iam::123456789012:instance-profile/web", Role: "web",
		Credentials: func(context.Context, string) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ASIAROLE", SecretAccessKey: "s", SessionToken: "t", CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
		},
	})
	m, err := d.Start(t.Context(), launch)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Kill() })
	g := &agentGuest{Machine: m, dir: launch.InstanceDir}
	require.Eventually(t, func() bool { return m.Ping(t.Context()) == nil }, 5*time.Minute, time.Second, "the guest's agent never answered")
	g.output(t, "cloud-init status --wait >/dev/null; true")
	return g
}

// upload puts the components and their library into the guest, as a bundle does.
func (g *agentGuest) upload(t *testing.T) {
	t.Helper()
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	require.NoError(t, fs.WalkDir(userdata.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(userdata.FS, name)
		if err != nil {
			return err
		}
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = archive.Write(content)
		return err
	}))
	require.NoError(t, archive.Close())
	result, err := g.Exec(t.Context(), vm.Command{Argv: []string{"sh", "-c", "mkdir -p /var/lib/bundle && tar -xC /var/lib/bundle"}, Stdin: packed.Bytes()})
	require.NoError(t, err)
	require.Zero(t, result.ExitCode, "%s", result.Stderr)
}

// install installs a component by run.sh, with the component's own defaults where
// values has none.
func (g *agentGuest) install(t *testing.T, name string, values map[string]string) (string, int) {
	t.Helper()
	c, problems, err := component.Load(userdata.FS, name)
	require.NoError(t, err)
	require.Empty(t, problems)
	all := map[string]string{}
	for parameter, p := range c.Parameters {
		if p.Default != nil {
			all[parameter] = string(*p.Default)
		}
	}
	maps.Copy(all, values)
	c.Services = nil // an agent that is refused has none
	files, err := component.Files(userdata.FS, "debian-12", []component.Selected{{Component: c, Family: "debian-12", Values: all}})
	require.NoError(t, err)
	i := slices.IndexFunc(files, func(f component.File) bool { return f.Path == "manifest.json" })
	result, err := g.Exec(t.Context(), vm.Command{
		Argv:    []string{"sh", "-c", "cd /var/lib/bundle && cat >manifest.json && cp runner/run.sh . && exec bash run.sh 2>&1"},
		Stdin:   files[i].Data,
		Timeout: 5 * time.Minute,
	})
	require.NoError(t, err)
	return string(result.Stdout), result.ExitCode
}

func TestAgentsAreOffInTheImageAndStartWithASecretOnAnInstance(t *testing.T) {
	base := nspawntest.Base(t)
	source := newPackageSource(t)
	debs := map[string][]byte{}
	for name, p := range standIns() {
		debs[name+".deb"] = p.build(t)
	}
	decoy := standIn{name: "adduser", version: "99", scripts: map[string]string{"usr/sbin/decoy": "#!/bin/sh\n"}}
	source.repository(t, "good", map[string][]byte{"n.deb": debs["newrelic.deb"], "a.deb": debs["appdynamics.deb"], "c.deb": debs["cinc.deb"], "decoy.deb": decoy.build(t)}, nil)
	source.repository(t, "tampered", map[string][]byte{"n.deb": debs["newrelic.deb"]}, func(deb []byte) []byte {
		return append(deb[:len(deb)-1:len(deb)-1], deb[len(deb)-1]^1)
	})
	source.repository(t, "forged", map[string][]byte{"n.deb": debs["newrelic.deb"]}, nil)
	release := filepath.Join(source.dir, "forged/dists/bookworm/InRelease")
	text, err := os.ReadFile(release)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(release, bytes.Replace(text, []byte("Origin: vendor"), []byte("Origin: wendor"), 1), 0o600))
	for name, deb := range map[string][]byte{"cwa/good.deb": debs["cloudwatch.deb"], "cwa/other.deb": debs["newrelic.deb"], "cwa/tampered.deb": debs["cloudwatch.deb"]} {
		source.write(t, name, string(deb))
		source.sign(t, name)
	}
	source.write(t, "cwa/tampered.deb", string(debs["cloudwatch.deb"])+"x")

	world := &vendors{files: source.handler()}
	driver := nspawntest.Driver(t, network.Options{Local: world})

	const at = "http://localcloud.internal/"
	given := func(more map[string]string) map[string]string {
		all := map[string]string{"repository": at + "good", "keyUrl": at + "key.asc", "keyFingerprint": source.Fingerprint, "version": "1.57.0"}
		maps.Copy(all, more)
		return all
	}
	builder := bootAgentGuest(t, driver, base, "i-0ddddddddddddddd1", "172.31.5.11", "")
	builder.upload(t)

	refused := map[string]struct {
		component string
		values    map[string]string
		want      string
	}{
		"a key with another fingerprint":         {"newrelic-infra", map[string]string{"keyFingerprint": strings.Repeat("0", 40)}, "expected " + strings.Repeat("0", 40) + "; it is not trusted"},
		"an invalid key":                         {"newrelic-infra", map[string]string{"keyUrl": at + "good/dists/bookworm/Release"}, "is not an OpenPGP key"},
		"a repository changed after its signing": {"newrelic-infra", map[string]string{"repository": at + "forged"}, "invalid"},
		"a package changed after its signing":    {"newrelic-infra", map[string]string{"repository": at + "tampered"}, "Hash Sum mismatch"},
		"a version that is not there any more":   {"newrelic-infra", map[string]string{"version": "1.56.0"}, "Version '1.56.0' for 'newrelic-infra' was not found"},
		"Chef without its licence":               {"chef", map[string]string{"distribution": "chef"}, "the distribution chef needs acceptChefLicense: true"},
		"Cinc without a repository":              {"chef", map[string]string{"distribution": "cinc", "repository": ""}, "parameter repository has no value"},
		"AppDynamics without a repository":       {"appdynamics-machine-agent", map[string]string{"repository": ""}, "parameter repository has no value"},
		"a single package that was changed": {"cloudwatch-agent", map[string]string{"repository": "", "version": "1.300064.0b1337-1", "packageUrl": at + "cwa/tampered.deb"},
			"is not signed by the key"},
		"a single package that is another": {"cloudwatch-agent", map[string]string{"repository": "", "version": "1.300064.0b1337-1", "packageUrl": at + "cwa/other.deb"},
			"holds newrelic-infra=1.57.0, expected amazon-cloudwatch-agent=1.300064.0b1337-1"},
	}
	for _, sentence := range slices.Sorted(maps.Keys(refused)) {
		c := refused[sentence]
		t.Run(sentence, func(t *testing.T) {
			out, code := builder.install(t, c.component, given(c.values))
			assert.NotZero(t, code)
			assert.Contains(t, out, c.want)
			out, _ = builder.run(t, "dpkg-query -W -f '${Package} ' newrelic-infra cinc amazon-cloudwatch-agent appdynamics-machine-agent 2>/dev/null")
			assert.Empty(t, out, "nothing is installed")
			builder.output(t, "rm -f /etc/apt/*/ami-factory-* && apt-get -q update")
		})
	}

	agents := []struct {
		component, unit, identity string
		values                    map[string]string
	}{
		{"newrelic-infra", "newrelic-infra.service", "/var/db/newrelic-infra/data", given(map[string]string{"keyUrl": at + "key.gpg"})},
		{"appdynamics-machine-agent", "appdynamics-machine-agent.service", "/opt/appdynamics/machine-agent/logs",
			given(map[string]string{"version": "24.9.0", "controllerHost": "c.example.test", "account": "acme"})},
		{"chef", "ami-factory-chef.service", "/var/cinc/cache", given(map[string]string{
			"version": "18.5.0-1", "distribution": "cinc", "serverUrl": "https://chef.example.test", "organisation": "acme", "policyName": "web"})},
		{"cloudwatch-agent", "amazon-cloudwatch-agent.service", "/opt/aws/amazon-cloudwatch-agent/var",
			given(map[string]string{"version": "1.300064.0b1337-1", "repository": "", "packageUrl": at + "cwa/good.deb"})},
	}
	for _, a := range agents {
		t.Run(a.component+" is installed without ever running, and a second run changes nothing", func(t *testing.T) {
			out, code := builder.install(t, a.component, a.values)
			require.Zero(t, code, out)
			assert.Regexp(t, a.component+": [1-9][0-9]* changes", out)
			_, code = builder.run(t, "test -e "+a.identity)
			assert.NotZero(t, code, "the agent's scripts started it, and it made an identity")
			assert.Equal(t, "0", builder.output(t, "systemctl show --value -p ExecMainStartTimestampMonotonic "+a.unit))
			out, code = builder.install(t, a.component, a.values)
			require.Zero(t, code, out)
			assert.Contains(t, out, a.component+": 0 changes")
			assert.NotRegexp(t, "[1-9][0-9]* changes", out)
			builder.output(t, "systemctl enable -q ami-factory-agent@"+a.component+".service")
		})
	}
	t.Run("a repository delivers nothing but its agent", func(t *testing.T) {
		policy := builder.output(t, "apt-cache policy adduser")
		assert.Contains(t, policy, "99", "the decoy is offered")
		assert.NotContains(t, policy, "Candidate: 99")
	})
	if t.Failed() {
		return
	}

	builder.output(t, `mkdir -p /var/lib/ami-factory && echo '{"status":"ok",}' >/var/lib/ami-factory/provision.json && bash /var/lib/bundle/seal/arm.sh && rm -rf /var/lib/bundle`)
	_, err = builder.Shutdown(t.Context(), 2*time.Minute)
	require.NoError(t, err)
	<-builder.Done()
	image := filepath.Join(t.TempDir(), "image")
	_, err = driver.Capture(t.Context(), builder.dir, image)
	require.NoError(t, err)

	t.Run("an instance whose user data asks for agents runs them with its secrets and identity", func(t *testing.T) {
		const id = "i-0bbbbbbbbbbbbbbb2"
		g := bootAgentGuest(t, driver, image, id, "172.31.5.12", `#cloud-config
write_files:
- {path: /etc/ami-factory/agents/newrelic-infra.env, permissions: '0600', content: "AWS_ENDPOINT_URL=http://localcloud.internal\n"}
- {path: /etc/ami-factory/agents/appdynamics-machine-agent.env, permissions: '0600', content: "AWS_ENDPOINT_URL=http://localcloud.internal\nSECRET_ID=own/appdynamics\nSECRET_KEY=accessKey\n"}
- {path: /etc/ami-factory/agents/chef.env, permissions: '0600', content: "AWS_ENDPOINT_URL=http://localcloud.internal\nPOLICY_GROUP=production\n"}
- {path: /etc/ami-factory/agents/cloudwatch-agent.env, permissions: '0600', content: "AWS_ENDPOINT_URL=http://localcloud.internal\n"}
`)
		for _, a := range agents {
			state := g.output(t, "timeout 60 sh -c 'until test -s /run/ami-factory/agents/"+a.component+".json; do sleep 1; done'; cat /run/ami-factory/agents/"+a.component+".json")
			journal, _ := g.run(t, "journalctl --no-pager -u ami-factory-agent@"+a.component+" -u "+a.unit)
			assert.Contains(t, state, `"state": "started"`, journal)
			assert.Contains(t, state, id)
			assert.Equal(t, "active", g.output(t, "systemctl is-active ami-factory-agent@"+a.component))
		}
		cycles, _ := g.run(t, "journalctl --no-pager -b | grep -i 'ordering cycle'")
		assert.Empty(t, cycles)
		environment := func(unit string) string {
			return g.output(t, `tr '\0' '\n' </proc/$(systemctl show --value -p MainPID `+unit+`)/environ`)
		}
		newRelic := environment("newrelic-infra")
		assert.Contains(t, newRelic, "NRIA_LICENSE_KEY="+newRelicKey+"\n")
		assert.Contains(t, newRelic, "NRIA_DISPLAY_NAME="+id+"\n")
		assert.Contains(t, newRelic, `NRIA_CUSTOM_ATTRIBUTES={"instanceId": "`+id+`", "region": "eu-west-1"}`+"\n")
		appDynamics := environment("appdynamics-machine-agent")
		assert.Contains(t, appDynamics, "APPDYNAMICS_AGENT_ACCOUNT_ACCESS_KEY="+appDynamicsKey+"\n")
		assert.Contains(t, appDynamics, "APPDYNAMICS_AGENT_UNIQUE_HOST_ID="+id+"\n")
		assert.Contains(t, appDynamics, "APPDYNAMICS_CONTROLLER_HOST_NAME=c.example.test\n")
		assert.Equal(t, id+" web production https://chef.example.test/organizations/acme", g.output(t, "cat /var/cinc/cache/runs"))
		assert.Equal(t, "600 key of "+id, g.output(t, "echo $(stat -c %a /etc/cinc/client.pem) $(cat /etc/cinc/client.pem)"))
		assert.Equal(t, "active", g.output(t, "systemctl is-active ami-factory-chef.timer"))
		assert.Equal(t, `{"metrics":{}}`, g.output(t, "cat /opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d/file_config.json"))

		assert.Equal(t, "700 root", g.output(t, "stat -c '%a %U' /run/ami-factory/secrets"))
		assert.Equal(t, "600", g.output(t, "stat -c %a /run/ami-factory/secrets/newrelic-infra.env"))
		assert.NotContains(t, g.output(t, "ls /run/ami-factory/secrets"), "chef\n", "the validation key is gone once the node is registered")
		found, _ := g.run(t, "sync; grep -rlaE '"+canaries+"' / --exclude-dir=proc --exclude-dir=sys --exclude-dir=run --exclude-dir=dev")
		assert.Empty(t, found, "a secret is on the disk")
		found, _ = g.run(t, "journalctl --no-pager -o export | grep -aE '"+canaries+"'")
		assert.Empty(t, found, "a secret is in the journal")

		// A later boot of a registered node needs no validation key.
		world.mu.Lock()
		world.asked = nil
		world.mu.Unlock()
		g.output(t, "systemctl restart ami-factory-agent@chef ami-factory-agent@newrelic-infra")
		assert.Equal(t, []string{"ami-factory/agents/newrelic"}, world.asked)
		assert.Equal(t, "active", g.output(t, "systemctl is-active newrelic-infra"))
		// A copy of the disk in another instance is another node.
		g.output(t, "echo i-other >/etc/cinc/ami-factory-node; echo old >/etc/cinc/client.pem; systemctl restart ami-factory-agent@chef")
		assert.Equal(t, "key of "+id, g.output(t, "cat /etc/cinc/client.pem"))

		g.output(t, "systemctl stop ami-factory-agent@newrelic-infra")
		out, code := g.run(t, "timeout 30 sh -c 'until [ \"$(systemctl is-active newrelic-infra)\" = inactive ] && ! ls /run/ami-factory/secrets | grep newrelic; do sleep 0.2; done'")
		assert.Zero(t, code, "the agent goes on, or its secret stays: %s", out)
	})

	t.Run("an instance whose user data does not ask runs none, as the checks say, and fails closed without a secret", func(t *testing.T) {
		g := bootAgentGuest(t, driver, image, "i-0eeeeeeeeeeeeeee3", "172.31.5.13", "")
		var sets []compliance.Set
		for _, a := range agents {
			c, _, err := component.Load(userdata.FS, a.component)
			require.NoError(t, err)
			sets = append(sets, compliance.Set{Component: a.component, Specs: c.Controls, Values: map[string]string{"startWithoutUserData": "false"}})
		}
		check := newChecker(t, g, sets)
		assert.Empty(t, check.failing(t, ""))
		journal := g.output(t, "journalctl --no-pager -u ami-factory-agent@newrelic-infra")
		assert.Contains(t, journal, "not configured on this instance: there is no /etc/ami-factory/agents/newrelic-infra.env")

		report, err := fs.ReadFile(userdata.FS, "components/boot/files/boot-report.py")
		require.NoError(t, err)
		g.output(t, "cat >/root/boot-report <<'PYTHON'\n"+string(report)+"PYTHON\necho '{\"wait\": 30, \"services\": []}' >/root/boot.json")
		// reported is what the component boot says of this boot.
		reported := func() string {
			return g.output(t, "AMI_FACTORY_BOOT_FILE=/root/boot.json AMI_FACTORY_BOOT_RESULT=/root/report.json python3 -I /root/boot-report && cat /root/report.json")
		}
		assert.Contains(t, reported(), `"status": "ok"`, "not to ask for an agent is no failure")

		env := "/etc/ami-factory/agents/newrelic-infra.env"
		for sentence, c := range map[string]struct{ content, mode, want string }{
			"no such secret":           {"AWS_ENDPOINT_URL=http://localcloud.internal\nSECRET_ID=nope\n", "600", "secret nope: GetSecretValue ended with ResourceNotFoundException"},
			"no way to the secret":     {"AWS_ENDPOINT_URL=https://localcloud.internal\nSECRET_TIMEOUT=2\n", "600", "cannot be reached"},
			"a key that is not known":  {"LICENSE_KEY=" + newRelicKey + "\n", "600", env + ":1: not one of the keys"},
			"a value that is wrong":    {"LOG_LEVEL=" + newRelicKey + "\n", "600", env + ":1: LOG_LEVEL does not match"},
			"a file that all can read": {"", "644", env + " must be a file of root with mode 0600"},
		} {
			t.Run(sentence, func(t *testing.T) {
				g.output(t, fmt.Sprintf("printf %%s '%s' >%s && chmod %s %s", c.content, env, c.mode, env))
				_, code := g.run(t, "systemctl restart ami-factory-agent@newrelic-infra")
				assert.NotZero(t, code)
				status, _ := g.run(t, "systemctl status --no-pager ami-factory-agent@newrelic-infra; cat /run/ami-factory/agents/newrelic-infra.json")
				assert.Contains(t, status, "Active: failed")
				assert.Contains(t, status, c.want)
				assert.Contains(t, status, `"state": "failed"`)
				boot := reported()
				assert.Contains(t, boot, "DEGRADED: agent newrelic-infra is off: ")
				assert.Contains(t, boot, c.want)
				assert.Contains(t, boot, `"status": "degraded"`)
				assert.NotContains(t, boot, newRelicKey)
				out, _ := g.run(t, "systemctl start newrelic-infra; systemctl is-active newrelic-infra; ls -A /run/ami-factory/secrets")
				assert.Equal(t, "inactive", out, "the agent does not start without its secret, not even by hand")
				out, _ = g.run(t, "journalctl --no-pager | grep "+newRelicKey)
				assert.Empty(t, out)
			})
		}
		// Without its settings the unit is skipped, which older systemctl calls a failure.
		g.output(t, "rm "+env+"; systemctl reset-failed; systemctl restart ami-factory-agent@newrelic-infra || true")

		assert.Equal(t, len(check.controls), breaks.Each(t, check.controls, func(t *testing.T, script string) (string, int) {
			result, err := g.Exec(t.Context(), vm.Command{Argv: []string{"bash", "-c", script}, Timeout: 5 * time.Minute})
			require.NoError(t, err)
			return string(result.Stdout) + string(result.Stderr), result.ExitCode
		}, check.failing))
	})

	t.Run("the image holds no secret and no identity", func(t *testing.T) {
		root := filepath.Join(image, vm.RootFSDir)
		out, _ := exec.CommandContext(t.Context(), "grep", "-rlaE", canaries, root).CombinedOutput()
		assert.Empty(t, string(out))
		for _, a := range agents {
			left, _ := filepath.Glob(filepath.Join(root, a.identity, "*"))
			assert.Empty(t, left)
		}
	})
}

// checker runs compiled checks in a guest.
type checker struct {
	guest    *agentGuest
	checks   []byte
	compiled []compliance.Control
	controls []string
}

func newChecker(t *testing.T, g *agentGuest, sets []compliance.Set) checker {
	t.Helper()
	checks, compiled, err := compliance.Compile(sets)
	require.NoError(t, err)
	c := checker{guest: g, checks: checks, compiled: compiled}
	for i, control := range compiled {
		compiled[i].Snapshot = nil // it is about the image, and this is a guest that has run
		c.controls = append(c.controls, control.ID)
	}
	program, err := os.ReadFile("../../build/goss/" + runtime.GOARCH)
	require.NoError(t, err, "`make build` makes it")
	for file, content := range map[string][]byte{"/root/goss": program, "/root/checks.yaml": checks} {
		result, err := g.Exec(t.Context(), vm.Command{Argv: []string{"sh", "-c", "cat >" + file + " && chmod 700 " + file}, Stdin: content})
		require.NoError(t, err)
		require.Zero(t, result.ExitCode)
	}
	return c
}

// failing are the controls that fail, with what was found.
func (c checker) failing(t *testing.T, _ string) map[string]string {
	t.Helper()
	result, err := c.guest.Exec(t.Context(), vm.Command{Argv: []string{"sh", "-c", "cd / && PATH=/usr/sbin:/usr/bin:/sbin:/bin /root/goss --gossfile /root/checks.yaml validate --format json --no-color"}, Timeout: 10 * time.Minute})
	require.NoError(t, err)
	report, err := compliance.Evaluate(compliance.Input{Controls: c.compiled, Checks: c.checks, Results: result.Stdout, Now: time.Now(), Gate: "low"})
	require.NoError(t, err, "%s", result.Stderr)
	failed := map[string]string{}
	for _, r := range report.Results {
		if r.Status != compliance.StatusPass {
			failed[r.ControlID] = "expected " + r.Evidence.Expected + ", found " + r.Evidence.Actual
		}
	}
	return failed
}
