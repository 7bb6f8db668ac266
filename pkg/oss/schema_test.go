package oss_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/oss"
	"github.com/ami-factory/ami-factory/test/golden"
)

const module = "github.com/ami-factory/ami-factory"

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	r := jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, ExpandedStruct: true}
	require.NoError(t, r.AddGoComments(module+"/pkg/oss", "./"))
	s := r.ReflectFromType(reflect.TypeFor[oss.File]())
	s.ID = "https://" + module + "/oss.schema.json"
	s.Title = "ami-factory allowed packages"
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
