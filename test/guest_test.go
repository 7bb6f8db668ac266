package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/workflow"
	"github.com/ami-factory/ami-factory/userdata"
)

// realGuests are the options of a bake with real guests, by the programs that
// `make build` makes.
func realGuests(t testing.TB, kind vm.Kind) rehearsal.Options {
	t.Helper()
	if os.Getenv("AMI_FACTORY_GUEST_TESTS") == "" {
		t.Skip("tests with real guests take minutes: set AMI_FACTORY_GUEST_TESTS=1, as `make test` does")
	}
	if kind == vm.Container && os.Geteuid() != 0 {
		t.Skip("container guests need root")
	}
	if missing := baseimage.Missing(kind); len(missing) > 0 {
		t.Skipf("%s guests need the packages %v: `make setup` installs them", kind, missing)
	}
	return rehearsal.Options{
		Guests: kind, StateDir: t.TempDir(), CacheDir: os.Getenv("AMI_FACTORY_CACHE"),
		FunctionsDir: filepath.Join("..", "build", "lambda"), GossFile: filepath.Join("..", "build", "tools", "goss"),
		Version: "test", Progress: func(text string) { t.Log(text) },
	}
}

// edited is a copy of the project's user data with one file changed.
func edited(t *testing.T, file string, change func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, userdata.FS))
	path := filepath.Join(dir, file)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	after := change(string(before))
	require.NotEqual(t, string(before), after, "nothing was changed in %s", file)
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, []byte(after), 0o600))
	return dir
}

func TestAnImageBakedInContainersHasWhatItPromises(t *testing.T) {
	f := open(t, realGuests(t, vm.Container))
	s := bake(t, f, rehearsal.BakeInput{})
	require.Equal(t, workflow.Published, s.Status, s.Cause)
	assert.Equal(t, vm.Container, s.Guests)
	assert.Zero(t, s.Checks.Failed)
	root := s.Disk

	id, err := os.ReadFile(filepath.Join(root, "etc/machine-id"))
	require.NoError(t, err)
	assert.Empty(t, strings.TrimSpace(strings.ReplaceAll(string(id), "uninitialized", "")), "the builder's machine-id is gone")
	keys, err := filepath.Glob(filepath.Join(root, "etc/ssh/ssh_host_*"))
	require.NoError(t, err)
	assert.Empty(t, keys, "no host keys of the builder")
	for _, gone := range []string{"var/lib/cloud/instance", "var/lib/ami-factory/bundle", "root/.bash_history"} {
		_, err := os.Lstat(filepath.Join(root, gone))
		assert.ErrorIs(t, err, fs.ErrNotExist, gone)
	}
	for _, there := range []string{"usr/sbin/dockerd", "etc/docker/daemon.json", "etc/ami-factory/sealed.json"} {
		_, err := os.Stat(filepath.Join(root, there))
		assert.NoError(t, err, there)
	}
	again := bake(t, f, rehearsal.BakeInput{})
	assert.Equal(t, workflow.UpToDate, again.Status)
}

func TestAHardeningBrokenOnPurposeIsRejectedByTheControlsName(t *testing.T) {
	opts := realGuests(t, vm.Container)
	opts.UserDataDir = edited(t, "components/hardening/install.sh", func(s string) string {
		return s + "\nsed -i 's/^PermitRootLogin.*/PermitRootLogin yes/' /etc/ssh/sshd_config\n"
	})
	f := open(t, opts)
	s := bake(t, f, rehearsal.BakeInput{})
	require.Equal(t, workflow.Rejected, s.Status, s.Cause)
	assert.Equal(t, "ComplianceRejected", s.Error)
	assert.Contains(t, s.Cause, "SSH-03")
	assert.Contains(t, s.Cause, "permitrootlogin", "expected and found are told")
	page, err := os.ReadFile(s.Report)
	require.NoError(t, err)
	assert.Contains(t, string(page), "SSH-03")
	requireNothingLeft(t, f)
}

func TestAComponentThatFailsInTheGuestIsToldByItsOwnWords(t *testing.T) {
	opts := realGuests(t, vm.Container)
	opts.UserDataDir = edited(t, "components/docker/install.sh", func(s string) string {
		head, rest, ok := strings.Cut(s, "set -euo pipefail\n")
		require.True(t, ok)
		return head + "set -euo pipefail\necho 'the licence server said no' >&2\nfalse --on-purpose\n" + rest
	})
	f := open(t, opts)
	s := bake(t, f, rehearsal.BakeInput{})
	require.Equal(t, workflow.FailedClean, s.Status, s.Cause)
	assert.Equal(t, "ProvisioningFailed", s.Error)
	for _, text := range []string{"component docker", "exit code 1", "false --on-purpose", "the licence server said no"} {
		assert.Contains(t, s.Cause, text)
	}
	requireNothingLeft(t, f)
}

func TestAnImageBakedInVirtualMachinesIsPublished(t *testing.T) {
	f := open(t, realGuests(t, vm.VM))
	s := bake(t, f, rehearsal.BakeInput{})
	require.Equal(t, workflow.Published, s.Status, s.Cause)
	assert.Equal(t, vm.VM, s.Guests)
	assert.Zero(t, s.Checks.Failed)
	assert.Len(t, s.Images, 2)
	info, err := os.Stat(s.Disk)
	require.NoError(t, err)
	assert.Greater(t, info.Size(), int64(100<<20))
	left := take(t, f)
	assert.Empty(t, left.Alive)
	assert.Len(t, left.Images, 2)
}
