package userdata_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/test/golden"
)

// layout is what the hardening lays over the root, a line per file.
func layout(t *testing.T, family, variant, architecture string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "layout.sh", family, variant, architecture)
	cmd.Dir = filepath.Join("components", "hardening")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// Most families have no guest to be tried on: the golden files are where a
// reviewer sees what each of them gets.
func TestWhatEachFamilyAndVariantGetsIsWrittenDown(t *testing.T) {
	for _, family := range hardening(t).Families {
		for _, variant := range variants {
			lines := layout(t, family, variant, "x86_64")
			targets := map[string]string{}
			for _, line := range lines {
				fields := strings.Fields(line)
				require.Len(t, fields, 3, line)
				assert.Empty(t, targets[fields[2]], "%s comes twice in %s %s", fields[2], family, variant)
				targets[fields[2]] = fields[1]
			}
			got := strings.Join(lines, "\n") + "\n"
			golden.Testdata(t, filepath.Join("layout", family+"-"+variant+".txt"), got)
		}
	}
}

func TestFamiliesDifferWhereTheyMust(t *testing.T) {
	has := func(target string) func(family string) bool {
		return func(family string) bool {
			return slices.ContainsFunc(layout(t, family, "eks", "aarch64"), func(line string) bool { return strings.HasSuffix(line, " "+target) })
		}
	}
	cases := map[string]struct {
		target string
		who    []string
	}{
		"squashfs is blocked where there are no snaps":    {"/etc/modprobe.d/12-ami-factory-squashfs.conf", []string{"debian-12", "debian-13", "al2023"}},
		"PAM profiles are Debian's and Ubuntu's":          {"/usr/share/pam-configs/ami-factory-unix", []string{"debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04"}},
		"kubelet's kernel settings are everywhere on eks": {"/etc/sysctl.d/99-zz-ami-factory-z-eks.conf", hardening(t).Families},
		"calls of x86_64 alone are not audited elsewhere": {"/etc/audit/rules.d/51-ami-factory-x86_64.rules", nil},
	}
	for sentence, tt := range cases {
		t.Run(sentence, func(t *testing.T) {
			for _, family := range hardening(t).Families {
				assert.Equal(t, slices.Contains(tt.who, family), has(tt.target)(family), family)
			}
		})
	}
}
