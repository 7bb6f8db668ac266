package recipe_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/test/golden"
	"github.com/ami-factory/ami-factory/test/schema"
)

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
				return &jsonschema.Schema{
					Type: "string", Pattern: `^([0-9]+d|([0-9]+(\.[0-9]+)?(h|m|s))+)$`,
					Extras: map[string]any{"x-type": "duration such as 45m, 2h or 90d"},
				}
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
	require.NoError(t, r.AddGoComments(module+"/pkg/recipe", "../waiver"))
	s := r.ReflectFromType(reflect.TypeFor[recipe.Recipe]())
	s.Definitions["Waiver"].DependentRequired = map[string][]string{"falsePositive": {"vulnerability"}}
	document(t, s, s, reflect.TypeFor[recipe.Recipe]())
	s.ID = "https://" + module + "/recipe.schema.json"
	s.Title = "ami-factory recipe"
	data, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	return append(data, '\n')
}

// document adds to a struct's schema what the comments and tags of its fields say in
// words: the meaning without the name of the Go field, what is allowed, what holds
// without the field, and an example. That of a mapping is made of its fields'.
func document(t *testing.T, root, s *jsonschema.Schema, of reflect.Type) json.RawMessage {
	t.Helper()
	var members []string // of the example, in the order of the fields
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		p, ok := s.Properties.Get(name)
		if !ok {
			continue
		}
		meaning, ok := strings.CutPrefix(p.Description, f.Name+" ")
		require.Truef(t, ok, "the comment of %s.%s begins with its name", of.Name(), f.Name)
		for _, verb := range []string{"is ", "are "} {
			if rest, ok := strings.CutPrefix(meaning, verb); ok {
				meaning = strings.ToUpper(rest[:1]) + rest[1:]
			}
		}
		require.NotEqualf(t, strings.TrimPrefix(p.Description, f.Name+" "), meaning, "the comment of %s.%s goes on with is or are", of.Name(), f.Name)
		p.Description = strings.Join(strings.Fields(meaning), " ")

		extras := map[string]any{}
		maps.Copy(extras, p.Extras)
		for tag, keyword := range map[string]string{"hint": "x-allowed", "without": "x-without"} {
			if text := f.Tag.Get(tag); text != "" {
				extras[keyword] = text
			}
		}
		if len(extras) > 0 {
			p.Extras = extras
		}
		if items := p.Items; items != nil && items.Pattern != "" && extras["x-allowed"] != nil {
			items.Extras = map[string]any{"patternErrorMessage": "allowed: " + f.Tag.Get("hint")}
		} else if p.Pattern != "" && extras["x-allowed"] != nil {
			p.Extras["patternErrorMessage"] = "allowed: " + f.Tag.Get("hint")
		}

		inner := f.Type
		for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch definition := root.Definitions[inner.Name()]; {
		case definition != nil && inner.Kind() == reflect.Struct:
			var value any = document(t, root, definition, inner)
			if f.Type.Kind() == reflect.Slice {
				value = []any{value}
			}
			p.Examples = []any{value}
		default:
			text := f.Tag.Get("example")
			require.NotEmptyf(t, text, "%s.%s has no example", of.Name(), f.Name)
			var value any
			require.NoErrorf(t, yaml.Load([]byte(text), &value), "%s.%s", of.Name(), f.Name)
			p.Examples = []any{value}
		}
		if len(s.DependentRequired[name]) > 0 {
			continue // not in the example, which has other fields
		}
		if len(s.OneOf) == 0 || slices.Contains(s.OneOf[0].Required, name) || !slices.ContainsFunc(s.OneOf, func(o *jsonschema.Schema) bool { return slices.Contains(o.Required, name) }) {
			text, err := json.Marshal(map[string]any{name: p.Examples[0]})
			require.NoError(t, err)
			members = append(members, string(text[1:len(text)-1]))
		}
	}
	return json.RawMessage("{" + strings.Join(members, ",") + "}")
}

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	golden.File(t, "schema.json", generate(t))
}

func compile(t *testing.T) schema.Schema {
	t.Helper()
	return schema.Compile(t, recipe.Schema())
}

func TestEveryRecipeOfTheProjectSatisfiesTheSchema(t *testing.T) {
	files, err := filepath.Glob(recipesDir + "/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	s := compile(t)
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		assert.NoError(t, s.Validate(t, data), f)
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
			assert.Error(t, s.Validate(t, bad))
		})
	}
}
