package component

import (
	_ "embed"
	"slices"
)

var (
	//go:embed component.schema.json
	schema []byte
	//go:embed checks.schema.json
	checksSchema []byte
)

// Schema is the JSON Schema of component.yaml for editors. The package's tests
// generate it from the types (go test ./pkg/component -update).
func Schema() []byte { return slices.Clone(schema) }

// ChecksSchema is the JSON Schema of checks.yaml for editors.
func ChecksSchema() []byte { return slices.Clone(checksSchema) }
