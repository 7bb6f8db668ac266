package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/try"
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
		FunctionsDir: filepath.Join("..", "build", functionsIn), GossFile: filepath.Join("..", "build", gossIn),
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

// full is the recipe with everything; its agents are stand-ins here.
const full = "debian-12-full"

// debian13 is baked on guests of its own family.
const debian13 = "debian-13-docker"

// What component.yaml states as proven is what tests run: the recipes that are
// baked here on real guests, and the tests of single components, all of them on
// guests of Debian 12.
func TestTheFamiliesThatTestsRunAreStatedAsProven(t *testing.T) {
	ran := map[string][]string{}
	for _, name := range []string{recipeName, full, debian13} {
		r, problems, err := recipe.Load(userdata.FS, name, recipe.Options{Now: time.Now()})
		require.NoError(t, err)
		require.Empty(t, problems)
		for _, c := range r.Components {
			ran[c.Name] = append(ran[c.Name], r.Family)
		}
	}
	ran["cloudwatch-agent"] = []string{"debian-12"} // test/agents
	names, err := component.Names(userdata.FS)
	require.NoError(t, err)
	for _, name := range names {
		c, problems, err := component.Load(userdata.FS, name)
		require.NoError(t, err)
		require.Empty(t, problems)
		families := ran[name]
		slices.Sort(families)
		assert.Equal(t, slices.Compact(families), c.Proven, "%s: proven in component.yaml is what tests run", name)
	}
}

func TestAnImageBakedInContainersHasWhatItPromises(t *testing.T) {
	opts := realGuests(t, vm.Container)
	standIns, err := guests.NewStandIns(opts.StateDir)
	require.NoError(t, err)
	opts.StandIns = standIns
	f := open(t, opts)
	s := bake(t, f, contract.ExecutionInput{Recipe: full})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Equal(t, vm.Container, s.Guests)
	assert.True(t, s.StandInAgents, "the summary says that the agents are stand-ins")
	assert.Zero(t, s.Checks.Failed)
	assert.Greater(t, s.Checks.Passed, 140)
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
	requireReported(t, f, s)
	assert.True(t, inTree(t, root, s.Fingerprint), "the search finds what is in the image")
	assert.False(t, inTree(t, root, contract.ExecutionKey(s.Execution, contract.ProvisionedObject)), "an address of the builder is in the image")
	assert.False(t, inTree(t, root, contract.ExecutionKey(s.Execution, contract.StepsObject)), "an address of the builder is in the image")
	again := bake(t, f, contract.ExecutionInput{Recipe: full})
	assert.Equal(t, contract.UpToDate, again.Status)

	first, second := boots(t, f, s, greeting), boots(t, f, s, nil)
	for _, agent := range []string{"newrelic-infra", "appdynamics-machine-agent", "chef"} {
		assert.Equal(t, "started", first.Agents[agent].State, "%s: %s", agent, first.Agents[agent].Reason)
		assert.Equal(t, first.Instance, first.Agents[agent].HostID)
		assert.Equal(t, "not-configured", second.Agents[agent].State, agent)
	}
	require.NotNil(t, first.Boot, "the component boot reports the services")
	assert.Equal(t, "ok", first.Boot.Status)
	assert.Equal(t, "hello\n", first.Inspected, "the instance's user data was carried out")
	assert.NotEqual(t, first.MachineID, second.MachineID)
	assert.Len(t, first.MachineID, 64)
	require.NotEmpty(t, first.HostKeys)
	for _, key := range first.HostKeys {
		assert.NotContains(t, second.HostKeys, key, "two instances of an image share no host key")
	}
	assert.Empty(t, take(t, f).Alive, "an instance that was tried is terminated")
}

// requireReported requires that the builder has uploaded its verdict and its steps.
func requireReported(t *testing.T, f *rehearsal.Factory, s rehearsal.Summary) {
	t.Helper()
	read := func(object string, into any) {
		out, err := f.Cloud.S3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &f.Bucket, Key: aws.String(contract.ExecutionKey(s.Execution, object))})
		require.NoError(t, err, object)
		defer func() { _ = out.Body.Close() }()
		require.NoError(t, json.NewDecoder(out.Body).Decode(into), object)
	}
	type component struct{ Name, Status string }
	var verdict struct {
		Schema    int
		CloudInit struct{ Status string }
		Provision struct {
			Status     string
			Components []component
		}
	}
	read(contract.ProvisionedObject, &verdict)
	assert.Equal(t, 1, verdict.Schema)
	assert.Equal(t, "done", verdict.CloudInit.Status)
	assert.Equal(t, "ok", verdict.Provision.Status)
	var steps struct{ Steps []component }
	read(contract.StepsObject, &steps)
	assert.Equal(t, verdict.Provision.Components, steps.Steps, "the steps that are uploaded last are all of them")
	assert.NotEmpty(t, steps.Steps)
	for _, c := range steps.Steps {
		assert.Equal(t, "ok", c.Status, c.Name)
	}
}

// inTree says whether a text is in any file of a tree.
func inTree(t *testing.T, root, text string) bool {
	t.Helper()
	found := false
	require.NoError(t, filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || found {
			return err
		}
		found = holds(t, file, text)
		return nil
	}))
	return found
}

// A hostile image puts its owner's login key back when the seal is done. The file
// is newer than the seal, so that the check inside of the image sees nothing.
func TestALoginKeyThatComesBackAfterTheSealIsSeenOnTheSnapshot(t *testing.T) {
	opts := realGuests(t, vm.Container)
	opts.UserDataDir = edited(t, "components/hygiene/install.sh", func(text string) string {
		return text + `
cat >/usr/lib/systemd/system-shutdown/zz-back <<'HOOK'
#!/bin/bash
for ((i = 0; i < 800; i++)); do
	if [[ -s /etc/ami-factory/sealed.json ]]; then break; fi
	sleep 0.1
done
mkdir -p /root/.ssh
echo "ssh-ed25519 AAAA back" >/root/.ssh/authorized_keys
touch --date='+1 day' /root/.ssh/authorized_keys
HOOK
chmod 755 /usr/lib/systemd/system-shutdown/zz-back
`
	})
	f := open(t, opts)
	s := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.Rejected, s.Status, s.Cause)
	assert.Contains(t, s.Cause, "1 of ", "no other control fails")
	assert.Contains(t, s.Cause, "HYG-02 (critical)")
	assert.Contains(t, s.Cause, "on the snapshot: ~/.ssh/** absent")
	assert.Contains(t, s.Cause, "/root/.ssh/authorized_keys")
	assert.NotContains(t, s.Cause, "command keys of the builder", "the check inside of the image passes")
}

func TestAnImageOfDebian13IsBakedInContainersOnItsOwnBase(t *testing.T) {
	if os.Getenv("AMI_FACTORY_DEBIAN_13") == "" {
		t.Skip("a second base image takes minutes to build: set AMI_FACTORY_DEBIAN_13=1, as `make test-debian-13` does")
	}
	f := open(t, realGuests(t, vm.Container))
	s := bake(t, f, contract.ExecutionInput{Recipe: debian13})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Zero(t, s.Checks.Failed)
	for file, want := range map[string]string{
		"etc/os-release":                        "VERSION_CODENAME=trixie\n",
		"etc/apt/sources.list.d/debian.sources": "Suites: trixie-security\n",
		"etc/ami-factory/release.json":          debian13,
	} {
		text, err := os.ReadFile(filepath.Join(s.Disk, file))
		require.NoError(t, err)
		assert.Contains(t, string(text), want, file)
	}
	assert.Equal(t, []string{"debian-13-amd64"}, debianImages(t, f), "no base is built but the one the recipe builds on")
	assert.Equal(t, "hello\n", boots(t, f, s, greeting).Inspected, "an instance carries out its user data")
}

// greeting is user data that leaves a trace, and asks for the agents, which read
// their secrets by the role of the instance.
var greeting = []byte(`#cloud-config
write_files:
  - {path: /etc/greeting, content: "hello\n"}
  - path: /etc/ami-factory/agents/newrelic-infra.env
    permissions: "0600"
    content: |
      AWS_ENDPOINT_URL=http://localcloud.internal
  - path: /etc/ami-factory/agents/appdynamics-machine-agent.env
    permissions: "0600"
    content: |
      AWS_ENDPOINT_URL=http://localcloud.internal
      CONTROLLER_HOST=example.saas.appdynamics.com
      ACCOUNT=example
  - path: /etc/ami-factory/agents/chef.env
    permissions: "0600"
    content: |
      AWS_ENDPOINT_URL=http://localcloud.internal
      SERVER_URL=https://chef.example.com
      ORGANISATION=example
      POLICY_NAME=web
      POLICY_GROUP=production
`)

// boots an instance of what was baked, and requires that all is well in it.
func boots(t *testing.T, f *rehearsal.Factory, s rehearsal.Summary, userData []byte) try.Result {
	t.Helper()
	result, err := f.Try(t.Context(), try.Input{
		ImageID: s.Images[f.Cloud.Region()], UserData: userData, Profile: "ami-factory-instance", Inspect: "cat /etc/greeting 2>/dev/null || echo none",
	})
	require.NoError(t, err, result.Console)
	require.True(t, result.OK, result.Problems)
	var stages []string
	for _, step := range result.Steps {
		assert.Equal(t, "ok", step.Status, step.Name)
		stages = append(stages, step.Name)
	}
	assert.Subset(t, stages, []string{"init-local", "init", "modules-config", "modules-final"})
	return result
}

func TestATryThatFailsSaysWhereAndLeavesNothing(t *testing.T) {
	f := open(t, realGuests(t, vm.Container))
	require.NoError(t, f.ProvideBases(t.Context(), "debian-12"))
	base, err := f.Cloud.EC2.DescribeImages(wire.WithCaller(t.Context(), wire.Caller{Account: f.Cloud.Account(), Region: f.Cloud.Region()}),
		&ec2.DescribeImagesInput{Owners: []string{"136693071363"}})
	require.NoError(t, err)
	require.NotEmpty(t, base.Images)
	result, err := f.Try(t.Context(), try.Input{
		ImageID:  *base.Images[0].ImageId,
		UserData: []byte("#cloud-config\nruncmd: [[sh, -c, 'exit 7']]\n"),
	})
	require.NoError(t, err)
	assert.False(t, result.OK)
	assert.Contains(t, strings.Join(result.Problems, "\n"), "modules-final")
	requireNothingLeft(t, f)
}

func TestAHardeningBrokenOnPurposeIsRejectedByTheControlsName(t *testing.T) {
	opts := realGuests(t, vm.Container)
	opts.UserDataDir = edited(t, "components/hardening/install.sh", func(s string) string {
		return s + "\nsed -i 's/^PermitRootLogin.*/PermitRootLogin yes/' /etc/ssh/sshd_config\n"
	})
	f := open(t, opts)
	s := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.Rejected, s.Status, s.Cause)
	assert.Equal(t, "ComplianceRejected", s.Error)
	assert.Contains(t, s.Cause, "SSH-03")
	assert.Contains(t, s.Cause, "permitrootlogin", "expected and found are in the cause")
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
	s := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.FailedClean, s.Status, s.Cause)
	assert.Equal(t, "ProvisioningFailed", s.Error)
	for _, text := range []string{"component docker", "exit code 1", "false --on-purpose", "the licence server said no"} {
		assert.Contains(t, s.Cause, text)
	}
	requireNothingLeft(t, f)
}

// Secrets that a component leaves behind on a builder, against the rules: the
// seal removes the files, and nothing of them is in the snapshot's blocks.
// The last one is where the seal does not look, and shows that the scan finds.
const (
	canary = "canary-7d0c5e1f4b"
	kept   = "canary-9a2b6f8c3d"
	plant  = `
mkdir -p /root/.aws /opt/kept
for i in {1..200}; do echo "secret=` + canary + `"; done | tee /root/.aws/credentials /root/.bash_history /var/tmp/x.pem >/var/log/x.log
echo "` + kept + `" >/opt/kept/file
sync
`
)

func TestAnImageBakedInVirtualMachinesIsPublished(t *testing.T) {
	opts := realGuests(t, vm.VM)
	opts.UserDataDir = edited(t, "components/hygiene/install.sh", func(s string) string { return s + plant })
	f := open(t, opts)
	s := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	assert.Equal(t, vm.VM, s.Guests)
	assert.Zero(t, s.Checks.Failed)
	assert.Len(t, s.Images, 2)
	info, err := os.Stat(s.Disk)
	require.NoError(t, err)
	assert.Greater(t, info.Size(), int64(100<<20))
	assert.True(t, holds(t, s.Disk, kept), "the scan finds what is in the image")
	assert.False(t, holds(t, s.Disk, canary), "a secret of the builder is in the snapshot's blocks")
	requireReported(t, f, s)
	for _, object := range []string{contract.ProvisionedObject, contract.StepsObject} {
		assert.False(t, holds(t, s.Disk, contract.ExecutionKey(s.Execution, object)), "an address of the builder is in the snapshot's blocks")
	}
	left := take(t, f)
	assert.Empty(t, left.Alive)
	assert.Len(t, left.Images, 2)
}

// holds says whether a text is anywhere in a file.
func holds(t *testing.T, file, text string) bool {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	const window = 1 << 20
	buffer := make([]byte, window)
	keep := 0
	for {
		n, err := io.ReadFull(f, buffer[keep:])
		if bytes.Contains(buffer[:keep+n], []byte(text)) {
			return true
		}
		if err != nil {
			require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), err)
			return false
		}
		keep = copy(buffer, buffer[window-len(text):])
	}
}
