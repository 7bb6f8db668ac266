package component_test

import (
	"encoding/json"
	"io/fs"
	"path"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
	"github.com/ami-factory/ami-factory/test/golden"
	"github.com/ami-factory/ami-factory/test/schema"
	"github.com/ami-factory/ami-factory/userdata"
)

const module = "github.com/ami-factory/ami-factory"

// checksFile is what checks.yaml holds.
type checksFile struct {
	Controls []compliance.Spec `yaml:"controls" jsonschema:"required,minItems=1"`
}

func generate(t *testing.T, of reflect.Type, name, title string) []byte {
	t.Helper()
	scalar := func() *jsonschema.Schema {
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}
	}
	r := jsonschema.Reflector{
		FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, ExpandedStruct: true,
		Mapper: func(typ reflect.Type) *jsonschema.Schema {
			switch typ {
			case reflect.TypeFor[strictyaml.Scalar]():
				return scalar()
			case reflect.TypeFor[compliance.Goss]():
				return &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{Type: "object"}}}
			}
			return nil
		},
	}
	require.NoError(t, r.AddGoComments(module+"/pkg/component", "./"))
	s := r.ReflectFromType(of)
	s.ID = jsonschema.ID("https://" + module + "/" + name)
	s.Title = title
	data, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	return append(data, '\n')
}

func TestSchemasAreThoseOfTheTypes(t *testing.T) {
	for name, tc := range map[string]struct {
		of    reflect.Type
		title string
	}{
		"component.schema.json": {reflect.TypeFor[component.Component](), "ami-factory component"},
		"checks.schema.json":    {reflect.TypeFor[checksFile](), "ami-factory checks of a component"},
	} {
		golden.File(t, name, generate(t, tc.of, name, tc.title))
	}
}

func TestEveryShippedComponentSatisfiesTheSchemas(t *testing.T) {
	names, err := component.Names(userdata.FS)
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		for file, raw := range map[string][]byte{"component.yaml": component.Schema(), "checks.yaml": component.ChecksSchema()} {
			data, err := fs.ReadFile(userdata.FS, path.Join("components", name, file))
			require.NoError(t, err)
			assert.NoError(t, schema.Compile(t, raw).Validate(t, data), "%s of %s", file, name)
		}
	}
}

func TestSchemasRefuse(t *testing.T) {
	for sentence, tc := range map[string]struct {
		schema         []byte
		text, old, new string
	}{
		"an unknown key of a component": {component.Schema(), webYAML, "services:", "service:"},
		"an unknown family":             {component.Schema(), webYAML, "debian-12", "debian-11"},
		"a component without a name":    {component.Schema(), webYAML, "name: web\n", ""},
		"an unknown type of parameter":  {component.Schema(), webYAML, "type: int", "type: integer"},
		"an unknown severity":           {component.ChecksSchema(), baseChecks, "severity: medium", "severity: severe"},
		"a control without a title":     {component.ChecksSchema(), baseChecks, "title: t", "titel: t"},
		"no controls":                   {component.ChecksSchema(), "controls: [x]", "[x]", "[]"},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Contains(t, tc.text, tc.old)
			assert.Error(t, schema.Compile(t, tc.schema).Validate(t, []byte(strings.Replace(tc.text, tc.old, tc.new, 1))))
		})
	}
}
