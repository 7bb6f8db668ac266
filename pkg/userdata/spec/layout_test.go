package spec

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Which files an image of a family and a variant has is layout.sh's to say.
func TestTreesAreLaidAsTheHardeningDoes(t *testing.T) {
	const hardening = "../../../userdata/components/hardening"
	userdata := os.DirFS("../../../userdata")
	variants, err := variantsOf(userdata, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"base", "docker", "ecs", "eks"}, variants)
	trees, err := filepath.Glob(hardening + "/files/*/etc")
	require.NoError(t, err)
	require.NotEmpty(t, trees)
	for _, family := range []string{"debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "al2023"} {
		for _, variant := range variants {
			command := exec.CommandContext(t.Context(), "bash", "layout.sh", family, variant, "x86_64") // #nosec G204 -- a test's own table
			command.Dir = hardening
			output, err := command.Output()
			require.NoError(t, err)
			laid := map[string]bool{}
			for line := range strings.Lines(string(output)) {
				laid[strings.Split(strings.Fields(line)[1], "/")[1]] = true
			}
			for _, folder := range trees {
				tree := filepath.Base(filepath.Dir(folder))
				if slices.Contains([]string{"x86_64", "arm64", "aarch64"}, tree) {
					continue // a spec does not say its architecture
				}
				assert.Equal(t, laid[tree], inTree(tree, family, variant), "%s of %s, variant %s", tree, family, variant)
			}
		}
	}
}
