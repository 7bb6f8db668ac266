// Package guesttest is the test suite for drivers of real guests: it boots a
// base image, uses it like the factory, captures it and boots the result.
package guesttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

// Subject is a driver under test.
type Subject struct {
	// Start makes the driver. The suite closes it.
	Start func(ctx context.Context, opts network.Options, log *slog.Logger) (vm.Driver, error)
	// Base is the directory of the image to boot.
	Base string
	// Version1Status is the metadata service's status for a call without a token.
	Version1Status string
	// HasDisk is true if images can be exported.
	HasDisk bool
}

// mirror is the connection to package mirrors, which a test can cut.
type mirror struct {
	next     http.RoundTripper
	cut      atomic.Bool
	requests atomic.Int64
}

func (m *mirror) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.cut.Load() {
		return nil, errors.New("the cable is cut")
	}
	m.requests.Add(1)
	return m.next.RoundTrip(r)
}

// recorder records the status of calls of the metadata service.
type recorder struct {
	next  http.Handler
	mu    sync.Mutex
	calls []string
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	r.next.ServeHTTP(s, q)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf("%s %s %d", q.Method, q.URL.Path, s.status))
}

func (r *recorder) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.calls, "\n")
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// guest is a running machine, with helpers for tests.
type guest struct {
	vm.Machine
	in       vm.Launch
	metadata *recorder
}

// run runs a shell script in the guest and returns what it printed.
func (g *guest) run(t *testing.T, script string) vm.Result {
	t.Helper()
	result, err := g.Exec(t.Context(), vm.Command{Argv: []string{"sh", "-c", script}, Timeout: 10 * time.Minute})
	require.NoError(t, err, script)
	return result
}

func (g *guest) output(t *testing.T, script string) string {
	t.Helper()
	result := g.run(t, script)
	require.Zerof(t, result.ExitCode, "%s\n%s%s", script, result.Stdout, result.Stderr)
	return strings.TrimSpace(string(result.Stdout))
}

// boot starts a guest and waits until cloud-init has finished in it.
func boot(t *testing.T, d vm.Driver, imageDir, instanceID string, userData []byte) *guest {
	t.Helper()
	metadata := &recorder{next: imds.New(imds.Instance{
		InstanceID: instanceID, ImageID: "ami-0123456789abcdef0", InstanceType: "t3.medium",
		PrivateIP: "172.31.5.6", MAC: "0a:ff:ac:1f:05:06", Account: "123456789012",
		Region: "us-east-1", AvailabilityZone: "us-east-1a", UserData: userData, TokensRequired: true,
	})}
	in := vm.Launch{
		InstanceID: instanceID, InstanceType: "t3.medium", InstanceDir: filepath.Join(t.TempDir(), instanceID), ImageDir: imageDir,
		VCPUs: 2, MemoryMiB: 2048, VolumeGiB: 8, PrivateIP: "172.31.5.6", MAC: "0a:ff:ac:1f:05:06", Metadata: metadata,
	}
	require.NoError(t, os.Mkdir(in.InstanceDir, 0o755))
	return start(t, d, in, metadata)
}

func start(t *testing.T, d vm.Driver, in vm.Launch, metadata *recorder) *guest {
	t.Helper()
	began := time.Now()
	m, err := d.Start(t.Context(), in)
	require.NoError(t, err)
	g := &guest{Machine: m, in: in, metadata: metadata}
	t.Cleanup(func() {
		if t.Failed() {
			console, _ := m.Console()
			t.Logf("console of %s:\n%s", in.InstanceID, console[max(0, len(console)-8000):])
			t.Logf("metadata calls:\n%s", metadata.all())
		}
		assert.NoError(t, m.Kill())
	})
	for m.Ping(t.Context()) != nil {
		require.Less(t, time.Since(began), 10*time.Minute, "the agent never answered")
		time.Sleep(time.Second)
	}
	t.Logf("%s: the agent answered after %.0f s", in.InstanceID, time.Since(began).Seconds())
	g.run(t, "cloud-init status --wait")
	t.Logf("%s: cloud-init had finished after %.0f s", in.InstanceID, time.Since(began).Seconds())
	return g
}

const userData = `#cloud-config
locale: C.UTF-8
write_files:
- path: /etc/from-user-data
  content: "it was read"
runcmd:
- [sh, -c, "echo ran > /var/lib/from-runcmd"]
`

// Run runs the suite.
func Run(t *testing.T, subject Subject) {
	base, err := vm.ReadImage(subject.Base)
	require.NoError(t, err)
	assert.Positive(t, base.VolumeGiB)
	sources, err := network.HostAptSources(t.Context(), "/")
	require.NoError(t, err)
	up := &mirror{next: &http.Transport{}}
	local := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "local %s %s", r.Host, r.URL.Path)
	})
	cache := os.Getenv("AMI_FACTORY_APT_CACHE") // to run again without fetching all
	if cache == "" {
		cache = t.TempDir()
	}
	d, err := subject.Start(t.Context(), network.Options{Apt: sources, CacheDir: cache, Upstream: up, Local: local},
		slog.New(slog.NewTextHandler(t.Output(), nil)))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	t.Log(d.Description())

	g := boot(t, d, subject.Base, "i-0aaaaaaaaaaaaaaa1", []byte(userData))

	t.Run("user data came from the metadata service, with tokens, through the Ec2 data source", func(t *testing.T) {
		assert.Equal(t, "it was read", g.output(t, "cat /etc/from-user-data"))
		assert.Equal(t, "ran", g.output(t, "cat /var/lib/from-runcmd"))
		assert.Contains(t, g.output(t, "cloud-init status --long"), "DataSourceEc2")
		assert.Equal(t, "i-0aaaaaaaaaaaaaaa1", g.output(t, "cat /var/lib/cloud/data/instance-id"))
		assert.Contains(t, g.metadata.all(), "PUT /latest/api/token 200")
		assert.NotContains(t, g.metadata.all(), " 401")
	})
	t.Run("a call without token gets "+subject.Version1Status, func(t *testing.T) {
		assert.Equal(t, subject.Version1Status, g.output(t, "curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/"))
	})
	t.Run("the address is the one that was given, in a VPC's frame size", func(t *testing.T) {
		addresses := g.output(t, "ip -4 -o address; ip link")
		assert.Contains(t, addresses, "172.31.5.6/16")
		t.Log(addresses)
	})
	t.Run("the embedded AWS is reached by its name", func(t *testing.T) {
		assert.Equal(t, "local localcloud.internal /bucket/key", g.output(t, "curl -s http://localcloud.internal/bucket/key"))
	})
	t.Run("nothing else is", func(t *testing.T) {
		for _, script := range []string{
			"curl -sS -m 20 http://1.1.1.1/", "curl -sS -m 20 -k https://172.31.0.1/",
			"curl -sS -m 20 http://172.31.0.1:8080/", "curl -sSf -m 20 http://example.com/", "curl -sS -m 20 -6 http://mirror.example.com/",
		} {
			began := time.Now()
			result := g.run(t, script)
			assert.NotZero(t, result.ExitCode, script)
			t.Logf("%s: %.1f s: %s", script, time.Since(began).Seconds(), bytes.TrimSpace(result.Stderr))
		}
		assert.Contains(t, string(g.run(t, "curl -sS http://example.com/").Stdout), "example.com cannot be reached from a guest")
	})
	t.Run("commands", func(t *testing.T) { commands(t, g) })
	t.Run("apt installs with its sources unchanged, and again with the mirror cut", func(t *testing.T) {
		const install = "export DEBIAN_FRONTEND=noninteractive; apt-get -q update && apt-get -q -y install tree"
		began := time.Now()
		g.output(t, install)
		t.Logf("first install: %.0f s", time.Since(began).Seconds())
		assert.NotEmpty(t, g.output(t, "tree --version"))

		g.output(t, "apt-get -q -y purge tree && apt-get clean && rm -rf /var/lib/apt/lists/*")
		up.cut.Store(true)
		defer up.cut.Store(false)
		began = time.Now()
		g.output(t, install)
		t.Logf("install from the cache: %.0f s", time.Since(began).Seconds())
		assert.NotEmpty(t, g.output(t, "tree --version"))
	})

	machineID := g.output(t, "cat /etc/machine-id")
	hostKey := g.output(t, "cat /etc/ssh/ssh_host_ed25519_key.pub")
	g.output(t, "truncate -s 0 /etc/machine-id && rm -f /etc/ssh/ssh_host_*_key* && cloud-init clean --logs && (fstrim -v / || true) && sync")
	began := time.Now()
	forced, err := g.Shutdown(t.Context(), 2*time.Minute)
	require.NoError(t, err)
	assert.False(t, forced)
	t.Logf("shutdown: %.1f s", time.Since(began).Seconds())
	<-g.Done()
	assert.ErrorIs(t, g.Ping(t.Context()), vm.ErrNotReachable)

	imageDir := filepath.Join(t.TempDir(), "image")
	began = time.Now()
	info, err := d.Capture(t.Context(), g.in.InstanceDir, imageDir)
	require.NoError(t, err)
	t.Logf("capture: %.1f s, %d MiB", time.Since(began).Seconds(), info.SizeBytes>>20)
	assert.Equal(t, d.Kind(), info.Kind)
	assert.Equal(t, 8, info.VolumeGiB)

	t.Run("the captured image boots by itself as another instance", func(t *testing.T) {
		second := boot(t, d, imageDir, "i-0bbbbbbbbbbbbbbb2", nil)
		assert.Equal(t, "i-0bbbbbbbbbbbbbbb2", second.output(t, "cat /var/lib/cloud/data/instance-id"))
		assert.NotEqual(t, machineID, second.output(t, "cat /etc/machine-id"))
		assert.NotEqual(t, hostKey, second.output(t, "cat /etc/ssh/ssh_host_ed25519_key.pub"))
		assert.Equal(t, "it was read", second.output(t, "cat /etc/from-user-data"))
		forced, err := second.Shutdown(t.Context(), 2*time.Minute)
		require.NoError(t, err)
		assert.False(t, forced)
	})
	t.Run("an exported disk is the same", func(t *testing.T) {
		if !subject.HasDisk {
			assert.Error(t, d.Export(t.Context(), imageDir, filepath.Join(t.TempDir(), "disk.qcow2")))
			return
		}
		file := filepath.Join(t.TempDir(), "disk.qcow2")
		require.NoError(t, d.Export(t.Context(), imageDir, file))
		out, err := exec.CommandContext(t.Context(), "qemu-img", "compare", file, info.Disk).CombinedOutput()
		assert.NoError(t, err, string(out))
	})
}

func commands(t *testing.T, g *guest) {
	exec := func(timeout time.Duration, stdin string, argv ...string) vm.Result {
		result, err := g.Exec(t.Context(), vm.Command{Argv: argv, Stdin: []byte(stdin), Timeout: timeout})
		require.NoError(t, err)
		return result
	}
	t.Run("output, errors and exit code come apart", func(t *testing.T) {
		got := exec(0, "", "sh", "-c", "echo out; echo err >&2; exit 7")
		assert.Equal(t, vm.Result{ExitCode: 7, Stdout: []byte("out\n"), Stderr: []byte("err\n")}, got)
	})
	t.Run("a script comes on standard input", func(t *testing.T) {
		assert.Equal(t, "42\n", string(exec(0, "echo $((6*7))\n", "bash", "-s").Stdout))
	})
	t.Run("a program that does not exist has code 127", func(t *testing.T) {
		assert.Equal(t, 127, exec(0, "", "no-such-program").ExitCode)
	})
	t.Run("a signal is reported as the shell does", func(t *testing.T) {
		assert.Equal(t, 128+15, exec(0, "", "sh", "-c", "kill -TERM $$").ExitCode)
	})
	t.Run("a megabyte comes whole", func(t *testing.T) {
		got := exec(0, "", "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x")
		assert.Len(t, got.Stdout, 1000000)
	})
	t.Run("what runs too long is killed with its children", func(t *testing.T) {
		got := exec(3*time.Second, "", "sh", "-c", "echo begun; sleep 987654 & sleep 987654")
		assert.True(t, got.TimedOut)
		assert.Equal(t, "begun\n", string(got.Stdout))
		assert.Equal(t, 1, g.run(t, "pgrep -f '[s]leep 987654'").ExitCode, "nothing is left of it")
	})
	t.Run("what its caller gave up is killed", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := g.Exec(ctx, vm.Command{Argv: []string{"sleep", "987653"}})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 1, g.run(t, "pgrep -f '[s]leep 987653'").ExitCode, "nothing is left of it")
	})
}
