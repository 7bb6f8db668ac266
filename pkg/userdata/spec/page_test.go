package spec_test

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/test/golden"
)

const page = examples + "/README.md"

type section struct {
	Title, Doc string
	Fields     []row
}

type row struct {
	Name, Type, Doc string
	Required        bool
}

// sections follows the schema from the top to every type that is used.
func sections(t *testing.T, root *jsonschema.Schema) []section {
	t.Helper()
	var out []section
	done := map[string]bool{}
	var visit func(title string, s *jsonschema.Schema)
	visit = func(title string, s *jsonschema.Schema) {
		here := section{Title: title, Doc: oneLine(s.Description)}
		var next []string
		for f := s.Properties.Oldest(); f != nil; f = f.Next() {
			kind, ref := typeOf(f.Value)
			require.NotEmpty(t, f.Value.Description, "%s.%s has no comment", title, f.Key)
			here.Fields = append(here.Fields, row{f.Key, kind, oneLine(f.Value.Description) + rules(f.Value), slices.Contains(s.Required, f.Key)})
			if ref != "" && !done[ref] {
				done[ref] = true
				next = append(next, ref)
			}
		}
		out = append(out, here)
		for _, ref := range next {
			visit(ref, root.Definitions[ref])
		}
	}
	visit("UserData", root)
	return out
}

// typeOf says in words what a value is, and which other type it leads to.
func typeOf(s *jsonschema.Schema) (words, ref string) {
	switch {
	case s.Ref != "":
		ref = path.Base(s.Ref)
		return fmt.Sprintf("[%s](#%s)", ref, strings.ToLower(ref)), ref
	case s.Type == "array":
		inner, ref := typeOf(s.Items)
		return "list of " + inner, ref
	case s.Type == "object":
		if s.AdditionalProperties != nil && s.AdditionalProperties.Type == "array" {
			return "mapping to lists of text", ""
		}
		return "mapping", ""
	case s.Type == "string":
		return "text", ""
	case s.Type == "integer":
		return "number", ""
	}
	return s.Type, ""
}

// rules are the values that a field takes, where they can be listed.
func rules(s *jsonschema.Schema) string {
	of := s
	if s.Items != nil {
		of = s.Items
	}
	if len(of.Enum) == 0 {
		return ""
	}
	var values []string
	for _, v := range of.Enum {
		values = append(values, fmt.Sprintf("`%v`", v))
	}
	return " Allowed: " + strings.Join(values, ", ") + "."
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func TestThePageOfTheFieldsIsUpToDate(t *testing.T) {
	source, err := os.ReadFile("testdata/page.md.tmpl")
	require.NoError(t, err)
	parsed, err := template.New("page").Parse(string(source))
	require.NoError(t, err)
	var got bytes.Buffer
	require.NoError(t, parsed.Execute(&got, sections(t, reflected(t))))
	golden.File(t, page, got.String())
	for _, field := range []string{"`sshKeys`", "`accessPoint`", "`clusterCertificate` (required)", "`newrelic-infra`"} {
		assert.Contains(t, got.String(), field)
	}
}
