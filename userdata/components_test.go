package userdata_test

import (
	_ "embed"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/test/breaks"
	"github.com/ami-factory/ami-factory/userdata"
)

//go:embed testdata/control-ids.txt
var controlIDs string

var variants = []string{"base", "docker", "ecs", "eks"}

// load returns every component of the tree.
func load(t *testing.T) []*component.Component {
	t.Helper()
	names, err := component.Names(userdata.FS)
	require.NoError(t, err)
	require.Contains(t, names, "hardening")
	var all []*component.Component
	for _, name := range names {
		c, problems, err := component.Load(userdata.FS, name)
		require.NoError(t, err)
		require.Empty(t, problems, name)
		all = append(all, c)
	}
	return all
}

func hardening(t *testing.T) *component.Component {
	t.Helper()
	c, problems, err := component.Load(userdata.FS, "hardening")
	require.NoError(t, err)
	require.Empty(t, problems)
	return c
}

func TestEveryComponentHasAPlaceOfItsOwnInTheOrder(t *testing.T) {
	orders := map[int]string{}
	for _, c := range load(t) {
		assert.Empty(t, orders[c.Order], "%s has the same order", c.Name)
		orders[c.Order] = c.Name
	}
}

func TestEveryControlIsOfTheCatalogueAndLeavesEvidence(t *testing.T) {
	catalogue := strings.Fields(controlIDs)
	owner := map[string]string{}
	for _, c := range load(t) {
		for _, control := range c.Controls {
			assert.Contains(t, catalogue, control.ID)
			assert.Empty(t, owner[control.ID], "%s is in another component too", control.ID)
			owner[control.ID] = c.Name
			for key, properties := range control.Goss["command"] {
				assert.NotNil(t, properties["stdout"], "%s: what %s prints is the evidence", control.ID, key)
				assert.Contains(t, properties, "exit-status", "%s: %s", control.ID, key)
				assert.Contains(t, properties, "timeout", "%s: %s has ten seconds, too few for an emulated machine", control.ID, key)
			}
		}
	}
}

// A hostile image can answer its own checks as it likes. What is critical is
// therefore also read from the snapshot, from outside.
func TestEveryCriticalControlIsReadFromTheSnapshot(t *testing.T) {
	// Controls whose effect no file shows, with the reason. There is none today.
	reasons := map[string]string{}
	critical := 0
	for _, c := range load(t) {
		for _, spec := range c.Controls {
			if spec.Severity != "critical" {
				continue
			}
			critical++
			_, excepted := reasons[spec.ID]
			assert.NotEqual(t, len(spec.Snapshot) > 0, excepted, "%s of %s: it has rules for the snapshot, or a reason not to", spec.ID, c.Name)
		}
	}
	assert.GreaterOrEqual(t, critical, 11)
}

func TestHardeningChecksAtLeastNinetyControlsInEachFamilyAndVariant(t *testing.T) {
	c := hardening(t)
	for _, family := range c.Families {
		for _, variant := range variants {
			checked, waived := 0, 0
			for _, control := range c.Controls {
				values := map[string]string{"variant": variant, "aide": "false"}
				switch {
				case !control.AppliesTo(family, values):
				case control.SwitchedOff(family, values) != "":
					waived++
				default:
					checked++
				}
			}
			assert.GreaterOrEqual(t, checked, 90, "%s %s", family, variant)
			assert.LessOrEqual(t, waived, 7, "%s %s", family, variant)
		}
	}
}

// A setting without the id of its control cannot be traced when it gets in the
// way of somebody.
func TestEveryHardeningFileNamesItsControls(t *testing.T) {
	ids := map[string]bool{}
	for _, control := range hardening(t).Controls {
		ids[control.ID] = true
	}
	err := fs.WalkDir(userdata.FS, "components/hardening/files", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || slices.Contains([]string{"issue", "issue.net", "motd", "amazon-ssm-agent.json"}, path.Base(name)) {
			return err
		}
		content, err := fs.ReadFile(userdata.FS, name)
		require.NoError(t, err)
		named := false
		for id := range ids {
			named = named || strings.Contains(string(content), id)
		}
		assert.True(t, named, "%s names no control that the component checks", name)
		return nil
	})
	require.NoError(t, err)
}

// test/breaks/breaks.yaml lists what end-to-end tests do to a guest; the check of a
// control that it leaves out has not been seen to fail.
func TestEveryControlHasABreak(t *testing.T) {
	absences := []string{"PKG-06", "PKG-07", "SVC-01", "SVC-02", "SVC-03", "SVC-07", "BOOT-05"} // a package would have to be downloaded
	exempt := append(absences, "SYS-18",                                                        // needs a kernel without user namespaces
		"BOOT-02", "MNT-08", "LOG-05", "AIDE-01", // waived by the component itself, unless a parameter says otherwise
		"BOOT-03", "CRYP-01", // of a family that has no guest here
		"DOCK-04") // of the parameter usernsRemap
	broken := map[string]bool{}
	for _, b := range breaks.Load(t) {
		broken[b.Control] = true
	}
	for _, c := range load(t) {
		for _, control := range c.Controls {
			assert.NotEqual(t, slices.Contains(exempt, control.ID), broken[control.ID],
				"%s needs either an entry in test/breaks/breaks.yaml or a reason here", control.ID)
			delete(broken, control.ID)
		}
	}
	assert.Empty(t, broken, "breaks of controls that no component has")
}

// The law of the catalogue's last column: what would cut the factory's channel
// or containers is off where it would.
func TestWhatWouldBreakAVariantIsWaivedInItByTheComponent(t *testing.T) {
	cases := map[string]struct {
		control  string
		families []string // that waive; nil: all
		variants []string // that waive
	}{
		"forwarding is needed by container networks":        {"SYS-01", nil, variants[1:]},
		"a firewall's default deny cuts container networks": {"FWL-01", nil, variants[1:]},
		"snaps are squashfs":                                {"KMOD-03", []string{"ubuntu-22.04", "ubuntu-24.04"}, variants},
		"a boot loader's password blocks unattended boots":  {"BOOT-02", nil, variants},
	}
	c := hardening(t)
	for sentence, tt := range cases {
		t.Run(sentence, func(t *testing.T) {
			i := slices.IndexFunc(c.Controls, func(s compliance.Spec) bool { return s.ID == tt.control })
			require.GreaterOrEqual(t, i, 0)
			for _, family := range c.Families {
				for _, variant := range variants {
					values := map[string]string{"variant": variant, "aide": "false"}
					want := slices.Contains(tt.variants, variant) && (tt.families == nil || slices.Contains(tt.families, family))
					assert.Equal(t, want, c.Controls[i].SwitchedOff(family, values) != "", "%s %s", family, variant)
					assert.True(t, c.Controls[i].AppliesTo(family, values), "it is in the report of %s %s all the same", family, variant)
				}
			}
		})
	}
}
