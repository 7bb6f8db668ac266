package spec_test

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

	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	module   = "github.com/ami-factory/ami-factory"
	examples = "../../../userdata/examples"
)

// reflected is the schema that the types, their comments and their tags make.
func reflected(t *testing.T) *jsonschema.Schema {
	t.Helper()
	r := jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Mapper: func(typ reflect.Type) *jsonschema.Schema {
			if typ != reflect.TypeFor[map[string]string]() {
				return nil
			}
			return &jsonschema.Schema{
				Type: "object",
				AdditionalProperties: &jsonschema.Schema{
					OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}},
				},
			}
		},
	}
	require.NoError(t, r.AddGoComments(module+"/pkg/userdata/spec", "./"))
	s := r.ReflectFromType(reflect.TypeFor[spec.Spec]())
	s.ID = "https://" + module + "/userdata.schema.json"
	s.Title = "ami-factory user data"
	return s
}

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	got, err := json.MarshalIndent(reflected(t), "", "  ")
	require.NoError(t, err)
	got = append(got, '\n')
	if *update {
		require.NoError(t, os.WriteFile("schema.json", got, 0o600))
		return
	}
	assert.Equal(t, string(got), string(spec.Schema()), "run go test ./pkg/userdata/spec -update")
}

func compile(t *testing.T) *validator.Schema {
	t.Helper()
	doc, err := validator.UnmarshalJSON(bytes.NewReader(spec.Schema()))
	require.NoError(t, err)
	c := validator.NewCompiler()
	require.NoError(t, c.AddResource("userdata.json", doc))
	s, err := c.Compile("userdata.json")
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

func TestEveryExampleSatisfiesTheSchema(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, 3)
	s := compile(t)
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		assert.NoError(t, validate(t, s, data), f)
	}
}

func TestSchemaRefuses(t *testing.T) {
	s := compile(t)
	good, err := os.ReadFile(examples + "/web-service.yaml")
	require.NoError(t, err)
	for sentence, edit := range map[string][2]string{
		"an unknown key":                  {"timezone:", "timezon:"},
		"another kind":                    {"kind: UserData", "kind: Recipe"},
		"a password":                      {"    uid: 2001\n", "    uid: 2001\n    passwd: x\n"},
		"a file system that is none":      {"fs-0123456789abcdef0", "fs-012"},
		"a mode that is a number":         {`mode: "0640"`, "mode: 416"},
		"a port without a host port":      {`"8080:8080"`, `"8080"`},
		"a fingerprint that is too short": {"699A8B45A9768295A7A8832EE8DE369060CB80FD", "60CB80FD"},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Contains(t, string(good), edit[0])
			assert.Error(t, validate(t, s, bytes.Replace(good, []byte(edit[0]), []byte(edit[1]), 1)))
		})
	}
}
