package cli

import (
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/container"
)

const demoContract = `contract:
  entrypoint: [/app/server]
  user: 950
  ports: [{env: PORT, default: 8080}]
  health: {path: /healthz}
`

// labelled is an image without files that carries a contract.
func labelled(t *testing.T) v1.Image {
	t.Helper()
	c, problems := container.Parse("contract.yaml", []byte(demoContract))
	require.Empty(t, problems)
	labels, err := c.Labels()
	require.NoError(t, err)
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Config: v1.Config{Labels: labels, Entrypoint: c.Entrypoint}})
	require.NoError(t, err)
	return img
}

func layoutOf(t *testing.T, img v1.Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	require.NoError(t, l.AppendImage(img))
	return dir
}

func TestContainerCheckTellsByItsExitCode(t *testing.T) {
	dir := layoutOf(t, labelled(t))
	other := filepath.Join(t.TempDir(), "contract.yaml")
	require.NoError(t, os.WriteFile(other, []byte(strings.Replace(demoContract, "healthz", "ready", 1)), 0o600))
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	require.NoError(t, os.WriteFile(wrong, []byte("contract: {user: 0}\n"), 0o600))
	for sentence, tc := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"rejected":                        {[]string{dir}, exitRejected, []string{"OCI-01 high, rejects", "no user, which is root", "OCI-03", "fix: ", "verdict   rejected", "is rejected"}},
		"below the gate":                  {[]string{dir, "--gate", "critical"}, exitOK, []string{"OCI-01 high, below the gate", "verdict   passed"}},
		"another contract":                {[]string{dir, "--contract", other}, exitRejected, []string{"OCI-15", "/ready"}},
		"a contract with mistakes":        {[]string{dir, "--contract", wrong}, exitFailed, []string{"wrong.yaml:1:18: error: contract.user is out of range", "entrypoint is required"}},
		"a base":                          {[]string{dir, "--approved-base", "sha256:" + strings.Repeat("a", 64)}, exitRejected, []string{"OCI-10", "no label org.opencontainers.image.base.digest"}},
		"a base that is no digest":        {[]string{dir, "--approved-base", "sha256:12"}, exitUsage, []string{"is no digest"}},
		"a file of bases that is absent":  {[]string{dir, "--approved-base", "bases.yaml"}, exitUsage, []string{"bases.yaml does not exist"}},
		"an unknown gate":                 {[]string{dir, "--gate", "none"}, exitUsage, []string{`--gate is "none" (allowed: low, medium, high, critical)`}},
		"no base and a base":              {[]string{dir, "--reference", "--approved-base", "sha256:" + strings.Repeat("a", 64)}, exitUsage, []string{"give one of them"}},
		"no image":                        {[]string{"./none.tar"}, exitUsage, []string{"there is no file ./none.tar", "an image is a folder with an OCI layout"}},
		"a registry that does not answer": {[]string{"127.0.0.1:1/demo:1"}, exitFailed, []string{"read 127.0.0.1:1/demo:1"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := call(t, nil, append([]string{"container", "check"}, tc.args...)...)
			assert.Equal(t, tc.code, r.code, r.err)
			for _, part := range tc.says {
				assert.Contains(t, r.out+r.err, part)
			}
		})
	}
	r := call(t, nil, "container", "check", dir, "--reference", "--output", "json")
	assert.Equal(t, exitRejected, r.code)
	var views []containerView
	require.NoError(t, json.Unmarshal([]byte(r.out), &views), r.out)
	require.Len(t, views, 1)
	assert.Equal(t, "linux/amd64", views[0].Platform)
	assert.Len(t, views[0].Report.Results, len(container.Controls())-1)
}

func TestContainerContractOfImagesAndFiles(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	reference := strings.TrimPrefix(server.URL, "http://") + "/team/demo:1"
	ref, err := name.ParseReference(reference)
	require.NoError(t, err)
	img := labelled(t)
	require.NoError(t, remote.Write(ref, img))
	digest, err := img.Digest()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "contract.yaml")
	require.NoError(t, os.WriteFile(file, []byte(demoContract), 0o600))
	bare := layoutOf(t, empty.Image)
	for sentence, tc := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"the environment of a service":  {[]string{reference, "--format", "env"}, exitOK, []string{"IMAGE=" + ref.Context().Name() + "@" + digest.String(), "HEALTH_PATH=/healthz"}},
		"a task of ECS":                 {[]string{reference, "--format", "ecs"}, exitOK, []string{`"name": "demo"`, "note: the contract has no health.command"}},
		"a pod":                         {[]string{file, "--format", "kubernetes", "--name", "web", "--image", "r/web@sha256:1"}, exitOK, []string{"name: web", "image: r/web@sha256:1"}},
		"labels":                        {[]string{file, "--format", "labels"}, exitOK, []string{"io.ami-factory.contract"}},
		"a file whose image is unknown": {[]string{file, "--format", "env"}, exitOK, []string{"IMAGE=" + container.Unknown, "note: the image's place in a registry is not known"}},
		"no format":                     {[]string{file}, exitUsage, []string{"allowed: env, ecs, kubernetes, labels"}},
		"a wrong name":                  {[]string{file, "--format", "ecs", "--name", "Web"}, exitUsage, []string{"--name is"}},
		"an image without a contract":   {[]string{bare, "--format", "ecs"}, exitFailed, []string{"the image has no label io.ami-factory.contract"}},
		"in JSON":                       {[]string{file, "--format", "labels", "--output", "json"}, exitOK, []string{`"notes": []`, `"user": 950`}},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := call(t, nil, append([]string{"container", "contract"}, tc.args...)...)
			assert.Equal(t, tc.code, r.code, r.err)
			for _, part := range tc.says {
				assert.Contains(t, r.out+r.err, part)
			}
		})
	}
}
