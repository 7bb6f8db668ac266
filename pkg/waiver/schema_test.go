package waiver_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/waiver"
	"github.com/ami-factory/ami-factory/test/golden"
	"github.com/ami-factory/ami-factory/test/schema"
)

const module = "github.com/ami-factory/ami-factory"

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	r := jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, ExpandedStruct: true}
	require.NoError(t, r.AddGoComments(module+"/pkg/waiver", "./"))
	s := r.ReflectFromType(reflect.TypeFor[waiver.File]())
	s.ID = "https://" + module + "/waivers.schema.json"
	s.Title = "ami-factory waivers"
	s.Definitions["Entry"].DependentRequired = map[string][]string{"falsePositive": {"vulnerability"}}
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
	compiled := schema.Compile(t, waiver.Schema())
	for sentence, tc := range map[string]struct {
		old, new string
		good     bool
	}{
		"a control":                             {"", "", true},
		"a vulnerability in a package":          {"control: SYS-02", "vulnerability: CVE-2026-0001, package: openssl", true},
		"a false positive":                      {"control: SYS-02", "vulnerability: CVE-2026-0001, package: openssl, falsePositive: {justification: vulnerable_code_not_present}", true},
		"a false positive of a control":         {"control: SYS-02", "control: SYS-02, falsePositive: {justification: vulnerable_code_not_present}", false},
		"a false positive without a reason":     {"control: SYS-02", "vulnerability: CVE-2026-0001, package: openssl, falsePositive: {}", false},
		"families alone":                        {"recipes: [web]", "families: [debian-12]", true},
		"a vulnerability everywhere":            {"control: SYS-02", "vulnerability: CVE-2026-0001", false},
		"a control and a vulnerability":         {"control: SYS-02", "control: SYS-02, vulnerability: CVE-2026-0001, package: openssl", false},
		"nothing":                               {"control: SYS-02, ", "", false},
		"no author":                             {"author: one, ", "", false},
		"no day of creation":                    {"created: 2026-11-20, ", "", false},
		"no scope":                              {", scope: {recipes: [web]}", "", false},
		"a scope of nothing":                    {"{recipes: [web]}", "{}", false},
		"an unknown family":                     {"recipes: [web]", "families: [debian-11]", false},
		"a key that is not of a waiver":         {"author: one", "author: one, forever: true", false},
		"a reason that says nothing":            {"because of the test", "because", false},
		"a vulnerability in another's notation": {"control: SYS-02", "vulnerability: 2026-0001, package: openssl", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			// Plain YAML makes timestamps of dates; the decoder of waivers does not.
			text := strings.NewReplacer("2026-11-20", "'2026-11-20'", "2026-12-24", "'2026-12-24'").Replace(good)
			require.Contains(t, good, tc.old)
			text = strings.Replace(text, strings.ReplaceAll(tc.old, "2026-11-20", "'2026-11-20'"), tc.new, 1)
			assert.Equal(t, tc.good, compiled.Validate(t, []byte(text)) == nil)
		})
	}
}
