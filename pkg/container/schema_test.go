package container_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/container"
	"github.com/ami-factory/ami-factory/test/golden"
	"github.com/ami-factory/ami-factory/test/schema"
)

const module = "github.com/ami-factory/ami-factory"

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	r := jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, ExpandedStruct: true}
	require.NoError(t, r.AddGoComments(module+"/pkg/container", "./"))
	s := r.ReflectFromType(reflect.TypeFor[container.File]())
	s.ID = "https://" + module + "/contract.schema.json"
	s.Title = "ami-factory container contract"
	for _, definition := range s.Definitions {
		for pair := definition.Properties.Oldest(); pair != nil; pair = pair.Next() {
			_, meaning, _ := strings.Cut(pair.Value.Description, " ")
			for _, verb := range []string{"is ", "are "} {
				meaning = strings.TrimPrefix(meaning, verb)
			}
			if meaning != "" {
				pair.Value.Description = strings.ToUpper(meaning[:1]) + meaning[1:]
			}
		}
	}
	got, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	golden.File(t, "schema.json", append(got, '\n'))
}

func TestTheSchemaTakesWhatTheDecoderTakes(t *testing.T) {
	compiled := schema.Compile(t, container.Schema())
	for sentence, tc := range contracts() {
		if sentence == "an empty file" { // it has no document to give to the schema
			continue
		}
		t.Run(sentence, func(t *testing.T) {
			// The schema cannot state rules about several fields, and takes what breaks one.
			assert.Equal(t, tc.says == "" || tc.onlyDecoder, compiled.Validate(t, []byte(change(t, tc.old, tc.new))) == nil)
		})
	}
}
