package userdata_test

import (
	"bytes"
	_ "embed"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/userdata"
)

//go:embed testdata/control-ids.txt
var controlIDs string

type parameter struct {
	Type        string   `yaml:"type"`
	Default     *string  `yaml:"default"`
	Allowed     []string `yaml:"allowed"`
	Description string   `yaml:"description"`
}

type component struct {
	Name        string               `yaml:"name"`
	Description string               `yaml:"description"`
	Families    []string             `yaml:"families"`
	Order       int                  `yaml:"order"`
	Parameters  map[string]parameter `yaml:"parameters"`
	Services    []string             `yaml:"services"`
}

type control struct {
	ID       string                               `yaml:"id"`
	Title    string                               `yaml:"title"`
	Severity string                               `yaml:"severity"`
	CIS      []string                             `yaml:"cis"`
	When     map[string][]string                  `yaml:"when"`
	Goss     map[string]map[string]map[string]any `yaml:"goss"`
}

// decode reads one YAML file strictly.
func decode(t *testing.T, name string, into any) {
	t.Helper()
	content, err := fs.ReadFile(userdata.FS, name)
	require.NoError(t, err)
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(into), name)
}

// names returns the directories under components/.
func names(t *testing.T) []string {
	t.Helper()
	entries, err := fs.ReadDir(userdata.FS, "components")
	require.NoError(t, err)
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	require.NotEmpty(t, found)
	return found
}

func checks(t *testing.T, name string) []control {
	t.Helper()
	var file struct {
		Controls []control `yaml:"controls"`
	}
	decode(t, path.Join("components", name, "checks.yaml"), &file)
	return file.Controls
}

func TestEveryComponentIsDescribed(t *testing.T) {
	orders := map[int]string{}
	for _, name := range names(t) {
		t.Run(name, func(t *testing.T) {
			var c component
			decode(t, path.Join("components", name, "component.yaml"), &c)
			assert.Equal(t, name, c.Name)
			assert.NotEmpty(t, c.Description)
			assert.NotEmpty(t, c.Families)
			assert.Empty(t, orders[c.Order], "another component has the same order")
			orders[c.Order] = name
			for key, p := range c.Parameters {
				assert.Contains(t, []string{"string", "bool", "int"}, p.Type, key)
				assert.NotNil(t, p.Default, "%s has no default", key)
				assert.NotEmpty(t, p.Description, key)
				if len(p.Allowed) > 0 && p.Default != nil {
					assert.Contains(t, p.Allowed, *p.Default, key)
				}
			}
			_, err := fs.Stat(userdata.FS, path.Join("components", name, "install.sh"))
			assert.NoError(t, err)
		})
	}
}

func TestEveryControlIsOfTheCatalogueAndCheckable(t *testing.T) {
	catalogue := strings.Fields(controlIDs)
	owner := map[string]string{}
	for _, name := range names(t) {
		var c component
		decode(t, path.Join("components", name, "component.yaml"), &c)
		for _, control := range checks(t, name) {
			t.Run(control.ID, func(t *testing.T) {
				assert.Contains(t, catalogue, control.ID)
				assert.Empty(t, owner[control.ID], "the id is used twice")
				owner[control.ID] = name
				assert.NotEmpty(t, control.Title)
				assert.Contains(t, []string{"low", "medium", "high", "critical"}, control.Severity)
				for parameter, values := range control.When {
					declared, ok := c.Parameters[parameter]
					require.True(t, ok, "when names the parameter %s, which %s does not have", parameter, name)
					for _, value := range values {
						assert.Contains(t, declared.Allowed, value)
					}
				}
				assert.NotEmpty(t, control.Goss)
				for kind, resources := range control.Goss {
					assert.NotEmpty(t, resources, kind)
					for key, properties := range resources {
						assert.NotEmpty(t, properties, "%s %s asks for nothing", kind, key)
						assert.NotContains(t, key, "|", "the bar parts the control id from the key")
						if kind == "command" {
							assert.NotEmpty(t, properties["exec"], key)
							assert.NotNil(t, properties["stdout"], "%s: what a command prints is the evidence", key)
							assert.Contains(t, properties, "exit-status", key)
						}
					}
				}
			})
		}
	}
}

// goss runs its file through text/template: an unintended brace pair would end
// every check of an image.
func TestChecksHoldNoTemplate(t *testing.T) {
	for _, name := range names(t) {
		content, err := fs.ReadFile(userdata.FS, path.Join("components", name, "checks.yaml"))
		require.NoError(t, err)
		assert.NotContains(t, string(content), "{{", name)
	}
}

func TestHardeningCoversAtLeastThirtyControlsInEachVariant(t *testing.T) {
	for _, variant := range []string{"base", "docker"} {
		count := 0
		for _, control := range checks(t, "hardening") {
			if values, ok := control.When["variant"]; !ok || slices.Contains(values, variant) {
				count++
			}
		}
		assert.GreaterOrEqual(t, count, 30, variant)
	}
}

// A setting without the id of its control cannot be traced when it gets in the
// way of somebody.
func TestEveryHardeningFileNamesItsControls(t *testing.T) {
	ids := map[string]bool{}
	for _, control := range checks(t, "hardening") {
		ids[control.ID] = true
	}
	err := fs.WalkDir(userdata.FS, "components/hardening/files", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || slices.Contains([]string{"issue", "issue.net", "motd"}, path.Base(name)) {
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
