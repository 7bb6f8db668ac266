package strictyaml_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

type inner struct {
	Mode  string `yaml:"mode" jsonschema:"required,enum=fast,enum=slow"`
	Count int    `yaml:"count" jsonschema:"minimum=1,maximum=9"`
	On    bool   `yaml:"on"`
}

type outer struct {
	Name  string                    `yaml:"name" jsonschema:"required,maxLength=5"`
	Items []inner                   `yaml:"items"`
	Tags  map[string]string         `yaml:"tags"`
	Free  map[string]map[string]any `yaml:"free"`
	Codes []string                  `yaml:"codes" jsonschema:"pattern=^[0-9]{2\\,3}$" hint:"two or three digits"`
	Nope  string                    `yaml:"-"`
}

func TestDecode(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
	}{
		"good": {"name: a\nitems: [{mode: fast, count: 3, on: true}]\ntags: {a: 1, b: true}\nfree: {x: {y: [1, {z: null}]}}\ncodes: ['12']\n", nil},
		"rules hold inside lists": {
			"name: abcdef\nitems:\n  - {mode: fats}\n  - {count: 10}\ncodes: ['1234']\n",
			[]string{
				`f:1:7: error: name is too long: 6 characters (allowed: 0 to 5 characters)`,
				`f:3:12: error: items[0].mode: "fats" is not known; did you mean "fast"? (allowed: fast, slow)`,
				`f:4:5: error: items[1].mode is required but missing (allowed: fast, slow)`,
				`f:4:13: error: items[1].count is out of range: 10 (allowed: 1 to 9)`,
				`f:5:9: error: codes[0]: "1234" does not have the required form (allowed: two or three digits)`,
			},
		},
		"a document that is a list":  {"- a\n", []string{`f:1:1: error: the file must be a mapping of keys, not a list (allowed: name, items, tags, free, codes)`}},
		"an empty document":          {"  \n", []string{`f:1:1: error: the file is empty`}},
		"only a comment":             {"# x\n", []string{`f:1:1: error: not valid YAML: no documents in stream`}},
		"a tab that indents":         {"name: a\nitems:\n\t- {mode: fast}\n", []string{`f:3:1: error: not valid YAML: there is a tab where only spaces may indent (allowed: spaces)`}},
		"a tab after spaces":         {"name: a\nitems:\n  - mode: fast\n  \tcount: 3\n", []string{`f:4:3: error: not valid YAML: there is a tab where only spaces may indent (allowed: spaces)`}},
		"a value of many characters": {"name: a\nitems: [{mode: " + strings.Repeat("x", 5000) + "}]\n", []string{`f:2:16: error: items[0].mode: "` + strings.Repeat("x", 79) + `…" is not known (allowed: fast, slow)`}},
		"two documents":              {"name: a\n---\nname: b\n", []string{`f:1:1: error: not valid YAML: expected single document, found multiple`}},
		"an alias":                   {"name: &a x\ntags: {k: *a}\n", []string{`f:1:7: error: name: YAML anchors are not supported; write the value out where it is needed`, `f:2:11: error: tags.k must be a single value, not an alias`}},
		"a merge key":                {"name: a\ntags: {<<: {b: c}}\n", []string{`f:2:8: error: YAML merge keys are not supported; write the values out`}},
		"a mapping as a key":         {"name: a\n? {b: c}\n: d\n", []string{`f:2:3: error: a key of the file must be a plain word, not a mapping`}},
		"a duplicate in a free part": {"name: a\nfree: {x: {y: 1, y: 2}}\n", []string{`f:2:18: error: duplicate key "y"; the first is on line 2`}},
		"a boolean in quotes":        {"name: a\nitems: [{mode: slow, on: 'true'}]\n", []string{`f:2:26: error: items[0].on must be true or false, not "true" (allowed: true, false)`}},
		"text over several lines":    {"name: |\n  ab\n  cd\n", []string{"f:1:7: error: name is too long: 6 characters (allowed: 0 to 5 characters)"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out outer
			_, problems := strictyaml.Decode("f", []byte(tt.text), &out)
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestValuesArrive(t *testing.T) {
	var out outer
	doc, problems := strictyaml.Decode("f", []byte("name: a\nitems: [{mode: fast, count: 3, on: true}]\ntags: {a: 007, b: yes}\nfree: {x: {y: [1, 2026-01-02]}}\n"), &out)
	require.Empty(t, problems)
	assert.Equal(t, []inner{{"fast", 3, true}}, out.Items)
	assert.Equal(t, map[string]string{"a": "007", "b": "yes"}, out.Tags)
	assert.Equal(t, map[string]map[string]any{"x": {"y": []any{1, "2026-01-02"}}}, out.Free)
	assert.Equal(t, `f:3:11: error: no (allowed: 1)`, doc.Problem("tags.a", "1", "no").String())
	assert.Equal(t, `f:2:1: error: gone`, doc.Problem("items[7].mode", "", "gone").String(), "an absent value points at what is around it")
	assert.True(t, doc.Valid("items[0].mode"))
	assert.False(t, doc.Has("codes"))
}

func FuzzDecodeNeverPanics(f *testing.F) {
	for _, s := range []string{"name: a", "[", "a: &x [*x]", "? ? a", "name: !!binary aGk=", "items: !x y", "{<<: *a}", "tags: {null: 1}", "\x00", "%YAML 9"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		var out outer
		_, _ = strictyaml.Decode("f", data, &out)
	})
}
