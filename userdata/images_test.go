//go:build linux

package userdata_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The seal leaves exactly the images that the recipe names by digest.
func TestImagesOfTheRecipeOutliveTheSeal(t *testing.T) {
	g := bootGuest(t)
	wanted := newTestRegistry(t, "approved/app", program(t))
	other := newTestRegistry(t, "approved/other", []byte("no program"))
	for _, r := range []testRegistry{wanted, other} {
		for file, content := range r.files {
			g.write(t, "/srv/registry/v2/"+file, 0o644, content)
		}
	}
	g.write(t, "/srv/registry/serve.py", 0o644, []byte(registryServer))
	g.output(t, "systemd-run --unit registry python3 /srv/registry/serve.py && sleep 1")
	image := "127.0.0.1:5000/approved/app@" + wanted.digest
	components := "  - name: docker\n    parameters: {images: \"" + image + "\"}\n  - name: boot\n"
	assert.Contains(t, g.install(t, components), "changed: image "+image)
	assert.NotContains(t, g.install(t, components), "changed:", "a second run")

	g.output(t, "docker pull -q 127.0.0.1:5000/approved/other:latest && docker volume create left && docker create --name left "+image)
	g.output(t, "bash /var/lib/ami-factory/bundle/seal/arm.sh")
	forced, err := g.machine.Shutdown(t.Context(), 3*time.Minute)
	require.NoError(t, err)
	require.False(t, forced)
	g.start(t)

	assert.Contains(t, g.output(t, "cat /etc/ami-factory/sealed.json"), `"sealedAt"`)
	assert.Contains(t, g.output(t, "cat /etc/ami-factory/release.json"), `"recipe": "test"`)
	g.output(t, "timeout 90 sh -c 'until docker info >/dev/null 2>&1; do sleep 1; done'")
	assert.Equal(t, image, g.output(t, "docker image ls --digests --format '{{.Repository}}@{{.Digest}}'"))
	assert.Empty(t, g.output(t, "docker ps -aq; docker volume ls -q"))
	g.checker(t, "hygiene")
	assert.NotContains(t, g.failures(t), "HYG-11")
	g.output(t, "systemd-run --unit registry python3 /srv/registry/serve.py && sleep 1 && docker pull -q 127.0.0.1:5000/approved/other:latest")
	assert.Contains(t, g.failures(t), "HYG-11", "one more than the recipe names")
}
