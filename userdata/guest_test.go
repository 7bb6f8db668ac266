//go:build linux

package userdata_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/userdata"
)

// guestFamily is that of the base image that these tests boot.
const guestFamily = "debian-12"

// guest is a container with a base image, in which components are installed as
// a builder does.
type guest struct {
	driver  vm.Driver
	launch  vm.Launch
	machine vm.Machine
}

func bootGuest(t *testing.T) *guest { return bootGuestBeside(t, nil) }

// bootGuestBeside has hosts that the guest reaches by name, beside the mirrors.
func bootGuestBeside(t *testing.T, hosts map[string]http.Handler) *guest {
	t.Helper()
	g := &guest{launch: nspawntest.Launch(t, nspawntest.Base(t), instance("i-0aaaaaaaaaaaaaaa1", nil))}
	g.driver = nspawntest.Driver(t, network.Options{Hosts: hosts})
	g.start(t)
	t.Cleanup(func() {
		if t.Failed() {
			console, _ := g.machine.Console()
			t.Logf("console:\n%s", console[max(0, len(console)-4000):])
		}
		// What the guest made in the control groups of this machine is its own to remove.
		g.try(context.Background(), "docker ps -q | xargs -r docker rm -f; rmdir /sys/fs/cgroup/*/docker")
		assert.NoError(t, g.machine.Kill())
	})
	return g
}

func instance(id string, userData []byte) imds.Instance {
	return imds.Instance{InstanceID: id, PrivateIP: "172.31.5.16", TokensRequired: true, UserData: userData}
}

func (g *guest) start(t *testing.T) {
	t.Helper()
	m, err := g.driver.Start(t.Context(), g.launch)
	require.NoError(t, err)
	g.machine = m
	limit := time.Now().Add(3 * time.Minute)
	for m.Ping(t.Context()) != nil {
		require.True(t, time.Now().Before(limit), "the guest does not come up")
		time.Sleep(100 * time.Millisecond)
	}
	// Where control groups are of version 1, a container sees them read-only, and
	// its docker could not run containers.
	g.try(t.Context(), `for group in /sys/fs/cgroup/*; do if mountpoint -q "$group"; then mount -o remount,rw,bind "$group"; fi; done`)
	g.try(t.Context(), "cloud-init status --wait")
}

func (g *guest) reboot(t *testing.T) {
	t.Helper()
	forced, err := g.machine.Shutdown(t.Context(), 3*time.Minute)
	require.NoError(t, err)
	require.False(t, forced, "the guest does not end by itself")
	g.start(t)
}

// again boots what the guest has become as a new instance's first boot, with
// user data.
func (g *guest) again(t *testing.T, id string, userData []byte) {
	t.Helper()
	g.output(t, "cloud-init clean --logs")
	g.launch.Metadata = nspawntest.Metadata(instance(id, userData))
	g.reboot(t)
}

// permitContainers lowers the limit of open files to this machine's own, which a
// container cannot raise: docker would run nothing with DOCK-10 in force.
func (g *guest) permitContainers(t *testing.T) {
	t.Helper()
	g.output(t, `limit=$(ulimit -Hn)
if [[ $limit != unlimited ]] && ((limit < 64000)); then
	sed -i "s/: 64000/: $limit/" /etc/docker/daemon.json
	systemctl restart docker.service
fi`)
}

func (g *guest) exec(ctx context.Context, stdin []byte, script string) (vm.Result, error) {
	return g.machine.Exec(ctx, vm.Command{Argv: []string{"bash", "-c", script}, Stdin: stdin, Timeout: 15 * time.Minute})
}

func (g *guest) try(ctx context.Context, script string) { _, _ = g.exec(ctx, nil, script) }

// run returns what a script printed, and its exit code.
func (g *guest) run(t *testing.T, script string) (string, int) {
	t.Helper()
	result, err := g.exec(t.Context(), nil, "exec 2>&1\n"+script)
	require.NoError(t, err, script)
	return strings.TrimSpace(string(result.Stdout)), result.ExitCode
}

// output is of a script that must end well.
func (g *guest) output(t *testing.T, script string) string {
	t.Helper()
	text, code := g.run(t, script)
	require.Zerof(t, code, "%s\n%s", script, text)
	return text
}

// write puts a file into the guest.
func (g *guest) write(t *testing.T, file string, mode fs.FileMode, content []byte) {
	t.Helper()
	result, err := g.exec(t.Context(), content, fmt.Sprintf("mkdir -p %q && cat >%q && chmod %o %q", filepath.Dir(file), file, mode, file))
	require.NoError(t, err)
	require.Zero(t, result.ExitCode, "%s", result.Stderr)
}

// install runs the components of a recipe in the guest by run.sh and returns the
// log. The component texts are those of a recipe's list.
func (g *guest) install(t *testing.T, components string) string {
	t.Helper()
	log, code := g.installOf(t, userdata.FS, components)
	require.Zero(t, code, log)
	return log
}

// installOf installs components of a tree, and returns the log and the exit code.
func (g *guest) installOf(t *testing.T, fsys fs.FS, components string) (string, int) {
	t.Helper()
	text := `name: test
description: of a test
family: ` + guestFamily + `
architecture: x86_64
source: {parameter: /a/b, owner: "136693071363"}
builder: {instanceTypes: [t3.medium], rootVolume: {sizeGiB: 8}}
components:
` + components + `distribution: {regions: [{name: eu-west-1}]}
pointers: {parameters: [/ami-factory/test/latest]}
`
	r, problems := recipe.Parse("test.yaml", []byte(text), recipe.Options{Now: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)})
	require.Empty(t, problems)
	selected, problems, err := component.Select(fsys, r, nil)
	require.NoError(t, err)
	require.Empty(t, problems)
	files, err := component.Files(fsys, r.Family, selected)
	require.NoError(t, err)
	bundle, err := component.Bundle(files)
	require.NoError(t, err)
	g.write(t, "/var/lib/ami-factory/bundle.tar.gz", 0o600, bundle)
	began := time.Now()
	log, code := g.run(t, `cd /var/lib/ami-factory && rm -rf bundle && mkdir bundle && tar -xzf bundle.tar.gz -C bundle
export AMI_FACTORY_RECIPE=test AMI_FACTORY_FINGERPRINT=`+strings.Repeat("0b", 32)+` AMI_FACTORY_SOURCE_AMI=ami-0123456789abcdef0
export AMI_FACTORY_VERSION=1.2.3 AMI_FACTORY_IMAGE_NAME=test-1 AMI_FACTORY_BAKED=2026-11-23T17:41:55Z
bash bundle/run.sh`)
	t.Logf("components installed in %.0f s", time.Since(began).Seconds())
	return log, code
}

// program builds the program that services of the tests run, without a C
// library, so that it is an image by itself.
func program(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "service")
	command := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", file, "./testdata/service")
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return content
}

// json reads a file of the guest.
func (g *guest) json(t *testing.T, file string, into any) {
	t.Helper()
	text := g.output(t, "cat "+file)
	require.NoError(t, json.NewDecoder(bytes.NewBufferString(text)).Decode(into), text)
}
