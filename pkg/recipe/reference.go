package recipe

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// Field is one field of a recipe, as the schema describes it.
type Field struct {
	Path     string `json:"field"`             // such as builder.timeout; of lists of mappings, such as components[].name
	Type     string `json:"type"`              // in words
	Required bool   `json:"required"`          //
	Default  string `json:"default,omitempty"` // the value without the field; empty if there is none
	Without  string `json:"without,omitempty"` // what holds without the field, in words; empty if required, or if there is a default
	Allowed  string `json:"allowed,omitempty"` // in words
	Meaning  string `json:"meaning"`           //
	Example  string `json:"example"`           // in YAML, on one line
	Fields   bool   `json:"-"`                 // it has fields of its own, which follow it
}

// node is the part of a JSON Schema that the fields are read from. Properties are
// a YAML node, which keeps their order: JSON is YAML.
type node struct {
	Ref         string           `yaml:"$ref"`
	Defs        map[string]*node `yaml:"$defs"`
	Type        string           `yaml:"type"`
	Properties  yaml.Node        `yaml:"properties"`
	Items       *node            `yaml:"items"`
	Required    []string         `yaml:"required"`
	Description string           `yaml:"description"`
	Default     yaml.Node        `yaml:"default"`
	Examples    yaml.Node        `yaml:"examples"`
	Enum        []string         `yaml:"enum"`
	Minimum     *int64           `yaml:"minimum"`
	Maximum     *int64           `yaml:"maximum"`
	MinLength   int              `yaml:"minLength"`
	MaxLength   int              `yaml:"maxLength"`
	Words       string           `yaml:"x-type"`    // the type in words, where its JSON type says too little
	Allowed     string           `yaml:"x-allowed"` // what is allowed, in words
	Without     string           `yaml:"x-without"` // what holds without the field
}

// fields reads the embedded schema once: it is part of the program and never changes.
var fields = sync.OnceValue(func() []Field {
	var root node
	if err := yaml.Load(schema, &root); err != nil {
		panic(fmt.Sprintf("recipe: schema.json: %v", err)) // the tests read it
	}
	return root.fields(root.Defs, "")
})

// Fields describes every field of a recipe, in the order of the schema: each field
// that has fields of its own comes before them.
func Fields() []Field { return append([]Field{}, fields()...) }

func (n *node) fields(defs map[string]*node, prefix string) []Field {
	var out []Field
	for i := 0; i+1 < len(n.Properties.Content); i += 2 {
		name := n.Properties.Content[i].Value
		var p node
		if err := n.Properties.Content[i+1].Decode(&p); err != nil {
			panic(fmt.Sprintf("recipe: schema.json: %s%s: %v", prefix, name, err)) // the tests read it
		}
		f := Field{
			Path: prefix + name, Type: p.words(), Meaning: p.Description, Allowed: p.allowed(), Without: p.Without,
		}
		for _, required := range n.Required {
			f.Required = f.Required || required == name
		}
		if p.Default.Kind != 0 {
			f.Default = oneLine(&p.Default)
		}
		if len(p.Examples.Content) > 0 {
			f.Example = oneLine(p.Examples.Content[0])
		}
		within, inside := p.Ref, prefix+name+"."
		if p.Items != nil && p.Items.Ref != "" {
			within, inside = p.Items.Ref, prefix+name+"[]."
		}
		f.Fields = within != ""
		out = append(out, f)
		if f.Fields {
			out = append(out, defs[path.Base(within)].fields(defs, inside)...)
		}
	}
	return out
}

// words says what a value is.
func (n *node) words() string {
	switch {
	case n.Words != "":
		return n.Words
	case n.Ref != "", n.Type == "object":
		return "mapping"
	case n.Type == "array" && n.Items.Ref != "":
		return "list of mappings"
	case n.Type == "array":
		return "list of " + n.Items.words() + "s"
	case n.Type == "string":
		return "text"
	case n.Type == "integer":
		return "number"
	case n.Type == "boolean":
		return "true or false"
	}
	return n.Type
}

// allowed says in words which values are taken.
func (n *node) allowed() string {
	switch {
	case n.Allowed != "":
		return n.Allowed
	case len(n.Enum) > 0:
		return strings.Join(n.Enum, ", ")
	case n.Minimum != nil && n.Maximum != nil:
		return fmt.Sprintf("%d to %d", *n.Minimum, *n.Maximum)
	case n.MaxLength > 0:
		return fmt.Sprintf("%d to %d characters", n.MinLength, n.MaxLength)
	case n.Type == "boolean":
		return "true, false"
	}
	return ""
}

// oneLine writes a value as YAML on one line.
func oneLine(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode && !strings.Contains(n.Value, "\n") {
		return scalar(n)
	}
	var b strings.Builder
	flow(&b, n)
	return b.String()
}

// flow writes a value in YAML's flow style.
func flow(b *strings.Builder, n *yaml.Node) {
	open, closing := "[", "]"
	if n.Kind == yaml.MappingNode {
		open, closing = "{", "}"
	}
	if n.Kind == yaml.ScalarNode {
		b.WriteString(scalar(n))
		return
	}
	b.WriteString(open)
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			b.WriteString(": ")
		} else if i > 0 {
			b.WriteString(", ")
		}
		flow(b, child)
	}
	b.WriteString(closing)
}

// scalar writes a value so that YAML reads it as what it is: a text that looks like
// something else, or has characters that mean something, in quotes.
func scalar(n *yaml.Node) string {
	if n.ShortTag() != "!!str" {
		return n.Value
	}
	var plain any
	if err := yaml.Load([]byte("["+n.Value+"]"), &plain); err == nil {
		if list, ok := plain.([]any); ok && len(list) == 1 && list[0] == any(n.Value) {
			return n.Value
		}
	}
	quoted, _ := json.Marshal(n.Value) // never fails for a text
	return string(quoted)
}
