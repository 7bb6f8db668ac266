package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/userdata/provision"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

const (
	webService = "../../userdata/examples/web-service.yaml"
	node       = "../../userdata/examples/bottlerocket-eks.yaml"
)

func TestCompressedUserDataIsNotWrittenToATerminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminal can be opened here: %v", err)
	}
	defer func() { _ = terminal.Close() }()
	require.True(t, isTerminal(terminal))

	a := &app{out: terminal, err: io.Discard, format: "text"}
	err = a.renderUserData(webService, onImage{}, "", false)
	require.ErrorContains(t, err, "the user data is compressed, and standard output is a terminal")
	assert.ErrorContains(t, err, "--base64")
}

func TestTheListOfComponentsHasOneSentenceEach(t *testing.T) {
	r := call(t, nil, "components", "list")
	require.Equal(t, exitOK, r.code, r.err)
	assert.Contains(t, r.out, "Docker Engine with safe defaults of the daemon, running at first boot\n")
	for line := range strings.Lines(r.out) {
		assert.NotContains(t, strings.TrimSpace(line), ". ", "one sentence")
	}
}

func TestUserDataIsRendered(t *testing.T) {
	plain := call(t, nil, "userdata", "render", node)
	assert.Equal(t, exitOK, plain.code, plain.err)
	assert.Contains(t, plain.out, "cluster-name = 'production'")

	encoded := call(t, nil, "userdata", "render", node, "--base64")
	assert.Equal(t, exitOK, encoded.code, encoded.err)
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded.out))
	require.NoError(t, err)
	assert.Equal(t, plain.out, string(decoded))

	data := call(t, nil, "userdata", "render", webService)
	assert.Equal(t, exitOK, data.code, data.err)
	described := call(t, nil, "userdata", "render", webService, "--output", "json")
	var got struct {
		Name, Format, UserData string
		Bytes, MaxBytes        int
		Steps                  []provision.Step
	}
	require.NoError(t, json.Unmarshal([]byte(described.out), &got), described.out)
	assert.Equal(t, "web-service", got.Name)
	assert.Equal(t, "cloud-init", got.Format)
	assert.Equal(t, len(data.out), got.Bytes)
	assert.Equal(t, 16384, got.MaxBytes)
	assert.Equal(t, base64.StdEncoding.EncodeToString([]byte(data.out)), got.UserData)
	assert.NotEmpty(t, got.Steps)
}

func TestUserDataOfAFormatThatDoesNotFit(t *testing.T) {
	r := call(t, nil, "userdata", "render", webService, "--format", "bottlerocket")
	assert.Equal(t, exitFailed, r.code)
	assert.Empty(t, r.out)
	assert.Contains(t, r.err, webService+":8:1: error: Bottlerocket has no users")
}

func TestUserDataIsChecked(t *testing.T) {
	r := call(t, nil, "userdata", "check", webService, node)
	assert.Equal(t, exitOK, r.code, r.err)
	assert.Equal(t, "no errors\n", r.out)

	t.Setenv("PATH", t.TempDir())
	r = call(t, nil, "userdata", "check", webService)
	assert.Equal(t, exitOK, r.code, r.err)
	assert.Contains(t, r.err, "cloud-init is not installed here", "what was not checked is reported")
	r = call(t, nil, "userdata", "check", node)
	assert.Equal(t, exitOK, r.code, r.err)
	assert.Empty(t, r.err, "Bottlerocket has no cloud-init, so nothing was left out")
}

// A stand-in for cloud-init that refuses shows that its verdict counts.
func TestWhatCloudInitRefusesIsAProblem(t *testing.T) {
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "cloud-init"), []byte("#!/bin/sh\necho \"refused: $1 $2\"\nexit 1\n"), 0o700)) // #nosec G306 -- a program
	t.Setenv("PATH", bin+":/bin:/usr/bin")
	r := call(t, nil, "userdata", "check", webService)
	assert.Equal(t, exitFailed, r.code)
	assert.Empty(t, r.out)
	assert.Contains(t, r.err, webService+": error: cloud-init refuses its cloud-config: refused: schema --config-file")
}

func TestBadUserDataIsReportedWithPositions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`kind: UserData
name: bad
target: cloud-init
family: debian-12
services:
  disable: [auditd.service]
commands:
  - name: passwords
    script: echo root:root | chpasswd
`), 0o600))
	for _, command := range []string{"check", "render"} {
		r := call(t, nil, "userdata", command, file)
		assert.Equal(t, exitFailed, r.code, command)
		assert.Empty(t, r.out, command)
		assert.Contains(t, r.err, file+":6:13: error: unit auditd.service belongs to the hardening", command)
		assert.Contains(t, r.err, file+":9:13: error: the text has chpasswd", command)
		assert.Contains(t, r.err, "2 errors, 0 warnings", command)
	}
	r := call(t, nil, "userdata", "check", file, "--output", "json")
	assert.Equal(t, exitFailed, r.code)
	var got struct {
		Errors   int
		Problems problem.List
	}
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	assert.Equal(t, 2, got.Errors)
}

// What holds on one image only until its next boot is an error for that image, a
// warning where it is not known, and nothing where the image takes it.
func TestUserDataIsCheckedForTheImageOfARecipe(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("../../userdata")))
	text, err := os.ReadFile(filepath.Join(dir, "recipes/debian-12-docker.yaml"))
	require.NoError(t, err)
	base := strings.NewReplacer("debian-12-docker", "debian-12-base", "variant: docker", "variant: base", "  - name: docker\n", "").Replace(string(text))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "recipes/debian-12-base.yaml"), []byte(base), 0o600))
	file := filepath.Join(t.TempDir(), "router.yaml")
	require.NoError(t, os.WriteFile(file, []byte("kind: UserData\nname: router\ntarget: cloud-init\nfamily: debian-12\nkernel:\n  sysctl:\n    net.ipv4.ip_forward: 1\n"), 0o600))
	for _, command := range []string{"check", "render"} {
		of := func(image ...string) result {
			return call(t, nil, append([]string{"userdata", command, file, "--userdata", dir}, image...)...)
		}
		r := of("--image", "debian-12-base")
		assert.Equal(t, exitFailed, r.code, command)
		assert.Contains(t, r.err, file+":7:26: error: sysctl net.ipv4.ip_forward is set by the hardening of the image of recipe debian-12-base, variant base", command)
		r = of()
		assert.Equal(t, exitOK, r.code, command)
		assert.Contains(t, r.err, file+":7:26: warning: sysctl net.ipv4.ip_forward is set otherwise by the hardening", command)
		assert.Contains(t, r.err, "in images of variant base", command)
		r = of("--image", "debian-12-docker")
		assert.Equal(t, exitOK, r.code, command)
		assert.NotContains(t, r.err, "ip_forward", command)
		r = of("--image", "debian-12-dokcer")
		assert.NotEqual(t, exitOK, r.code, command)
		assert.Contains(t, r.err, `did you mean "debian-12-docker"?`, command)
	}
	r := call(t, nil, "userdata", "check", webService, "--image", "debian-12-docker")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, "the image of recipe debian-12-docker has no component filesystem")
}

// A spec is checked for the image that it is tried on, before anything is started.
func TestASpecThatItsImageForbidsIsNotTried(t *testing.T) {
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.CopyFS(dir, os.DirFS("../../userdata")))
	text, err := os.ReadFile(filepath.Join(dir, "recipes/debian-12-docker.yaml"))
	require.NoError(t, err)
	base := strings.NewReplacer("debian-12-docker", "debian-12-base", "variant: docker", "variant: base", "  - name: docker\n", "").Replace(string(text))
	recipe := filepath.Join(dir, "recipes/debian-12-base.yaml")
	require.NoError(t, os.WriteFile(recipe, []byte(base), 0o600))
	file := filepath.Join(t.TempDir(), "router.yaml")
	require.NoError(t, os.WriteFile(file, []byte("kind: UserData\nname: router\ntarget: cloud-init\nfamily: debian-12\nkernel:\n  sysctl:\n    net.ipv4.ip_forward: 1\n"), 0o600))
	inside := inProcess(t)
	simulated := func(o *rehearsal.Options) { // --guests simulated is refused, so nothing but a test comes here with it
		inside(o)
		o.Guests = vm.Simulated
	}
	r := call(t, simulated, "bake", "debian-12-base", "--guests", "simulated", "--state", state, "--userdata", dir, "-o", "json")
	require.Equal(t, exitOK, r.code, r.err)
	image := summaryOf(t, r.out).Images["eu-west-1"]
	try := func(image string, more ...string) result {
		return call(t, simulated, append([]string{"userdata", "try", file, "--userdata", dir, "--state", state, "--image", image}, more...)...)
	}
	for _, name := range []string{"debian-12-base", image} {
		r := try(name)
		assert.Equal(t, exitFailed, r.code, name)
		assert.Contains(t, r.err, file+":7:26: error: sysctl net.ipv4.ip_forward is set by the hardening of the image of recipe debian-12-base, variant base", name)
		assert.NotContains(t, r.err, "starting the embedded AWS", name)
	}
	r = try("debian-12-dokcer")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.err, `there is no image of recipe "debian-12-dokcer" in eu-west-1 (there are images of: debian-12-base)`)

	require.NoError(t, os.Remove(recipe))
	for name, says := range map[string]string{
		image:                   image + " was made from the recipe debian-12-base, which is not among the recipes any more",
		"ami-00000000000000000": "ami-00000000000000000 was not made from a recipe here",
	} {
		r := try(name, "--timeout", "1ms")
		assert.Contains(t, r.err, says+": the spec is checked for any image of its family")
		assert.Contains(t, r.err, file+":7:26: warning: sysctl net.ipv4.ip_forward is set otherwise by the hardening")
		assert.Contains(t, r.err, "starting the embedded AWS", "a warning stops nothing")
	}
}

func TestUserDataThatIsTooLargeIsAProblem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "large.yaml")
	text := "kind: UserData\nname: node\ntarget: bottlerocket\nbottlerocket:\n  kubernetes:\n    clusterName: a\n    apiServer: https://a\n    clusterCertificate: YWFhYWFhYWFhYWFh\n    nodeLabels:\n"
	for i := range 400 {
		text += fmt.Sprintf("      label-%d-%s: value\n", i, strings.Repeat("x", 40))
	}
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	for _, command := range []string{"check", "render"} {
		r := call(t, nil, "userdata", command, file)
		assert.Equal(t, exitFailed, r.code, command)
		assert.Contains(t, r.err, "EC2 takes at most 16384", command)
		assert.Contains(t, r.err, file+": ", command)
	}
}

func TestWrongUseOfUserData(t *testing.T) {
	for sentence, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no spec to render":          {[]string{"userdata", "render"}, exitUsage, "takes one SPEC.yaml, and none was given"},
		"no spec to check":           {[]string{"userdata", "check"}, exitUsage, "takes at least one SPEC.yaml, and none was given"},
		"a format that is not known": {[]string{"userdata", "render", webService, "--format", "ignition"}, exitUsage, `--format is "ignition" (allowed: cloud-init, bottlerocket)`},
		"a spec that does not exist": {[]string{"userdata", "check", "no/such.yaml"}, exitUsage, "no/such.yaml does not exist"},
		"a schema that is not known": {[]string{"schema", "recipes"}, exitUsage, `there is no schema of "recipes" (allowed: recipe, baseline, userdata, component, checks, waivers, oss, contract)`},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := call(t, nil, tc.args...)
			assert.Equal(t, tc.code, r.code)
			assert.Empty(t, r.out)
			assert.Contains(t, r.err, tc.says)
		})
	}
}

func TestSchemaOfUserData(t *testing.T) {
	r := call(t, nil, "schema", "userdata")
	assert.Equal(t, result{exitOK, string(spec.Schema()), ""}, r)
}
