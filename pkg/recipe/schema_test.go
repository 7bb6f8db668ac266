package recipe_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/recipe"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	module     = "github.com/ami-factory/ami-factory"
	recipesDir = "../../userdata/recipes"
)

// generate makes the schema from the types, their comments and their tags.
func generate(t *testing.T) []byte {
	t.Helper()
	r := jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Mapper: func(typ reflect.Type) *jsonschema.Schema {
			switch typ {
			case reflect.TypeFor[recipe.Duration]():
				return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+d|([0-9]+(\.[0-9]+)?(h|m|s))+)$`}
			case reflect.TypeFor[map[string]string]():
				return &jsonschema.Schema{
					Type: "object",
					AdditionalProperties: &jsonschema.Schema{
						OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}},
					},
				}
			}
			return nil
		},
	}
	require.NoError(t, r.AddGoComments(module+"/pkg/recipe", "./"))
	s := r.ReflectFromType(reflect.TypeFor[recipe.Recipe]())
	source := s.Definitions["Source"]
	require.NotNil(t, source)
	source.OneOf = []*jsonschema.Schema{{Required: []string{"parameter"}}, {Required: []string{"filters"}}}
	s.ID = "https://" + module + "/recipe.schema.json"
	s.Title = "ami-factory recipe"
	data, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	return append(data, '\n')
}

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	got := generate(t)
	if *update {
		require.NoError(t, os.WriteFile("schema.json", got, 0o600))
		return
	}
	assert.Equal(t, string(got), string(recipe.Schema()), "run go test ./pkg/recipe -update")
}

func compile(t *testing.T) *validator.Schema {
	t.Helper()
	doc, err := validator.UnmarshalJSON(bytes.NewReader(recipe.Schema()))
	require.NoError(t, err)
	c := validator.NewCompiler()
	require.NoError(t, c.AddResource("recipe.json", doc))
	s, err := c.Compile("recipe.json")
	require.NoError(t, err)
	return s
}

func validate(t *testing.T, s *validator.Schema, data []byte) error {
	t.Helper()
	var v any
	require.NoError(t, yaml.Load(data, &v))
	text, err := json.Marshal(v)
	require.NoError(t, err)
	doc, err := validator.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	return s.Validate(doc)
}

func TestEveryRecipeOfTheProjectSatisfiesTheSchema(t *testing.T) {
	files, err := filepath.Glob(recipesDir + "/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	s := compile(t)
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		assert.NoError(t, validate(t, s, data), f)
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compile(t)
	good, err := os.ReadFile("testdata/debian-12-docker.yaml")
	require.NoError(t, err)
	tests := map[string][2]string{
		"an unknown key":              {"gate:\n", "gates:\n"},
		"an unknown severity":         {"severity: medium", "severity: middling"},
		"an owner that is a number":   {`"136693071363"`, `136693071363`},
		"an account that is too long": {`"210987654321"`, `"2109876543210"`},
		"a duration without a unit":   {"timeout: 45m", `timeout: "45"`},
		"a missing name":              {"name: debian-12-docker\n", ""},
		"an empty list of components": {"components:\n  - name: hardening\n    parameters:\n      variant: docker\n  - name: docker\n", "components: []\n"},
		"a base image twice":          {"  owner: \"136", "  filters: [{name: name, values: [x]}]\n  owner: \"136"},
		"no base image":               {"  parameter: /aws/service/debian/release/12/latest/amd64\n", ""},
		"an unknown family":           {"family: debian-12", "family: debian-11"},
		"an unknown architecture":     {"architecture: x86_64", "architecture: amd64"},
		"a volume of no size":         {"sizeGiB: 8", "sizeGiB: 0"},
	}
	for name, edit := range tests {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, string(good), edit[0])
			bad := bytes.Replace(good, []byte(edit[0]), []byte(edit[1]), 1)
			assert.Error(t, validate(t, s, bad))
		})
	}
}
