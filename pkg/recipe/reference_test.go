package recipe_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/test/golden"
)

const reference = recipesDir + "/README.md"

func TestEveryFieldIsDescribed(t *testing.T) {
	fields := recipe.Fields()
	require.Greater(t, len(fields), 40)
	seen := map[string]bool{}
	for _, f := range fields {
		assert.Falsef(t, seen[f.Path], "%s is listed twice", f.Path)
		seen[f.Path] = true
		assert.NotEmptyf(t, f.Meaning, "%s has no meaning", f.Path)
		assert.Truef(t, strings.HasSuffix(f.Meaning, "."), "%s: %q is no sentence", f.Path, f.Meaning)
		assert.NotEmptyf(t, f.Type, "%s has no type", f.Path)
		assert.NotEmptyf(t, f.Example, "%s has no example", f.Path)
		assert.Equalf(t, 1, count(f.Required, f.Default != "", f.Without != ""), "%s is required, has a default, or says what holds without it: one of them", f.Path)
		if !f.Fields {
			assert.NotEmptyf(t, f.Allowed, "%s does not say what is allowed", f.Path)
		}
	}
}

func count(conditions ...bool) (n int) {
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

// at finds the value at a field's path, whose lists have one element.
func at(t *testing.T, n *yaml.Node, field string) *yaml.Node {
	t.Helper()
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	for _, name := range strings.Split(field, ".") {
		name, list := strings.CutSuffix(name, "[]")
		var found *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == name {
				found = n.Content[i+1]
			}
		}
		if found == nil {
			return nil
		}
		n = found
		if list {
			n = n.Content[0]
		}
	}
	return n
}

// whole is the recipe of all examples; with filters in place of the parameter if
// that is wanted.
func whole(t *testing.T, filters bool) *yaml.Node {
	t.Helper()
	var b strings.Builder
	b.WriteString("{")
	for _, f := range recipe.Fields() {
		if !strings.Contains(f.Path, ".") {
			fmt.Fprintf(&b, "%s: %s,\n", f.Path, f.Example)
		}
	}
	b.WriteString("}")
	var doc yaml.Node
	require.NoError(t, yaml.Load([]byte(b.String()), &doc))
	block(&doc)
	if filters {
		source := at(t, &doc, "source")
		for _, f := range recipe.Fields() {
			if f.Path == "source.filters" {
				require.Equal(t, "parameter", source.Content[0].Value)
				source.Content[0].Value = "filters"
				var value yaml.Node
				require.NoError(t, yaml.Load([]byte(f.Example), &value))
				source.Content[1] = value.Content[0]
			}
		}
	}
	return &doc
}

// block writes mappings, and lists of them, on lines of their own.
func block(n *yaml.Node) {
	if n.Kind == yaml.DocumentNode || n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode && n.Content[0].Kind == yaml.MappingNode {
		n.Style = 0
	}
	for _, child := range n.Content {
		if n.Kind == yaml.MappingNode && strings.Contains(child.Value, "\n") {
			child.Style = yaml.LiteralStyle
		}
		block(child)
	}
}

func text(t *testing.T, doc *yaml.Node) string {
	t.Helper()
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	require.NoError(t, e.Encode(doc))
	require.NoError(t, e.Close())
	return b.String()
}

func TestARecipeOfAllExamplesIsValid(t *testing.T) {
	s := compile(t)
	for sentence, filters := range map[string]bool{"with a parameter": false, "with filters": true} {
		t.Run(sentence, func(t *testing.T) {
			data := []byte(text(t, whole(t, filters)))
			_, problems := recipe.Parse("debian-12-docker.yaml", data, recipe.Options{Now: now})
			assert.Empty(t, problems)
			assert.NoError(t, s.Validate(t, data))
		})
	}
}

// TestDefaultsAndBoundsAreThoseOfTheReference leaves out each field that has a
// default, and takes each field to its bounds and beyond.
func TestDefaultsAndBoundsAreThoseOfTheReference(t *testing.T) {
	parse := func(t *testing.T, edit func(*yaml.Node)) (map[string]any, problem.List) {
		t.Helper()
		doc := whole(t, false)
		edit(doc)
		r, problems := recipe.Parse("debian-12-docker.yaml", []byte(text(t, doc)), recipe.Options{Now: now})
		data, err := json.Marshal(r)
		require.NoError(t, err)
		var out map[string]any
		require.NoError(t, json.Unmarshal(data, &out))
		return out, problems
	}
	tried := 0
	for _, f := range recipe.Fields() {
		parent, name := "", f.Path
		if i := strings.LastIndex(f.Path, "."); i >= 0 {
			parent, name = f.Path[:i], f.Path[i+1:]
		}
		if f.Default != "" {
			t.Run("default of "+f.Path, func(t *testing.T) {
				got, problems := parse(t, func(doc *yaml.Node) {
					n := doc.Content[0]
					if parent != "" {
						n = at(t, doc, parent)
					}
					for i := 0; i+1 < len(n.Content); i += 2 {
						if n.Content[i].Value == name {
							n.Content = append(n.Content[:i:i], n.Content[i+2:]...)
							break
						}
					}
				})
				assert.Empty(t, problems)
				value := any(got)
				for _, key := range strings.Split(f.Path, ".") {
					value = value.(map[string]any)[key]
				}
				if value == nil {
					value = false // left out of the JSON
				}
				assert.Equal(t, f.Default, fmt.Sprint(value))
			})
			tried++
		}
		from, to, found := strings.Cut(f.Allowed, " to ")
		if !found || strings.Contains(to, " ") {
			continue
		}
		tried++
		t.Run("bounds of "+f.Path, func(t *testing.T) {
			for value, good := range map[string]bool{from: true, to: true, below(t, from): false, beyond(t, to): false, "soon": false} {
				_, problems := parse(t, func(doc *yaml.Node) { at(t, doc, f.Path).Value = value })
				assert.Equalf(t, good, len(problems) == 0, "%s: %s", f.Path, value)
				for _, p := range problems {
					assert.Equal(t, f.Allowed, p.Allowed)
				}
			}
		})
	}
	assert.GreaterOrEqual(t, tried, 13)
}

func below(t *testing.T, value string) string { return moved(t, value, -1) }

func beyond(t *testing.T, value string) string { return moved(t, value, 1) }

// moved is a number or a duration that is off by the smallest step.
func moved(t *testing.T, value string, by int) string {
	t.Helper()
	var n int
	if _, err := fmt.Sscanf(value+" ", "%d ", &n); err == nil && fmt.Sprint(n) == value {
		return fmt.Sprint(n + by)
	}
	d, err := recipe.ParseDuration(value)
	require.NoError(t, err)
	return (d + recipe.Duration(by)*1e9).String()
}

func TestThePageOfTheFieldsIsUpToDate(t *testing.T) {
	type row struct{ Name, Type, Default, Allowed, Meaning, Example, Decides string }
	type section struct {
		Title  string
		Fields []row
	}
	sides := map[string]plan.Side{}
	for _, f := range plan.Fields() {
		sides[f.Path] = f.Side
	}
	var sections []section
	places := map[string]int{}
	for _, f := range recipe.Fields() {
		parent, name := "Recipe", f.Path
		if i := strings.LastIndex(f.Path, "."); i >= 0 {
			parent, name = f.Path[:i], f.Path[i+1:]
		}
		if _, ok := places[parent]; !ok {
			places[parent] = len(sections)
			sections = append(sections, section{Title: parent})
		}
		r := row{Name: name, Type: f.Type, Allowed: cell(f.Allowed), Meaning: cell(f.Meaning), Example: "`" + cell(f.Example) + "`", Default: "required", Decides: string(sides[strings.ReplaceAll(f.Path, "[]", "")])}
		require.Equalf(t, f.Fields, r.Decides == "", "package plan says whether %s is content or release", f.Path)
		switch {
		case f.Default != "":
			r.Default = "`" + f.Default + "`"
		case f.Without != "":
			r.Default = cell(f.Without)
		}
		if f.Fields {
			r.Allowed, r.Example = "the fields below", "below"
		}
		s := &sections[places[parent]]
		s.Fields = append(s.Fields, r)
	}
	source, err := os.ReadFile("testdata/reference.md.tmpl")
	require.NoError(t, err)
	parsed, err := template.New("page").Parse(string(source))
	require.NoError(t, err)
	var got bytes.Buffer
	require.NoError(t, parsed.Execute(&got, map[string]any{"Sections": sections, "Whole": text(t, whole(t, false))}))
	golden.File(t, reference, got.String())
}

// cell keeps text within one cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`, "\n", " ").Replace(text)
}
