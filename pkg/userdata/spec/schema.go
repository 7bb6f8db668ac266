package spec

import (
	_ "embed"
	"slices"
)

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema of a spec for editors. It is generated from the
// types of this package by its tests (go test ./pkg/userdata/spec -update), so that no
// program contains the generator.
func Schema() []byte { return slices.Clone(schema) }
