// Package schema validates YAML by JSON schemas, for the tests of those that the
// project publishes.
package schema

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

// Schema is a compiled JSON schema.
type Schema struct{ compiled *jsonschema.Schema }

// Compile reads a JSON schema.
func Compile(t testing.TB, raw []byte) Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("schema.json", doc))
	s, err := c.Compile("schema.json")
	require.NoError(t, err)
	return Schema{s}
}

// Validate says how a YAML document breaks the schema; nil if it satisfies it. A text
// that is no YAML ends the test.
func (s Schema) Validate(t testing.TB, document []byte) error {
	t.Helper()
	var v any
	require.NoError(t, yaml.Load(document, &v))
	text, err := json.Marshal(v)
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	return s.compiled.Validate(value)
}
