package baseline_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/test/golden"
	"github.com/ami-factory/ami-factory/test/schema"
)

const module = "github.com/ami-factory/ami-factory"

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	r := jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, ExpandedStruct: true}
	require.NoError(t, r.AddGoComments(module+"/pkg/baseline", "./"))
	s := r.ReflectFromType(reflect.TypeFor[baseline.Baseline]())
	s.ID = "https://" + module + "/baseline.schema.json"
	s.Title = "ami-factory baseline"
	got, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	golden.File(t, "schema.json", append(got, '\n'))
}

func TestTheBaselineOfTheProjectSatisfiesTheSchema(t *testing.T) {
	compiled := schema.Compile(t, baseline.Schema())
	data, err := os.ReadFile("../../userdata/baseline.yaml")
	require.NoError(t, err)
	for sentence, tc := range map[string]struct {
		old, new string
		good     bool
	}{
		"as it is":                    {"", "", true},
		"with an unknown key":         {"gate:\n", "gates: {}\ngate:\n", false},
		"with a wrong severity":       {"severity: medium", "severity: middling", false},
		"without components":          {"components: [hardening, hygiene]", "components: []", false},
		"without a gate":              {"gate:\n  severity: medium\n", "", false},
		"with a control that is none": {"HYG-01", "hygiene", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Contains(t, string(data), tc.old)
			edited := bytes.Replace(data, []byte(tc.old), []byte(tc.new), 1)
			assert.Equal(t, tc.good, compiled.Validate(t, edited) == nil)
		})
	}
}
