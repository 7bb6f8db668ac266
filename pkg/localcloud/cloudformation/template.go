package cloudformation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/texts"
)

// Limits of templates
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html).
const (
	mostBodyBytes = 51200   // in a request
	mostURLBytes  = 1 << 20 // in S3
	mostResources = 500
)

// template is a parsed template. Values are those of encoding/json, with
// json.Number for numbers.
type template struct {
	Body        string
	Description string
	Parameters  map[string]parameter
	Mappings    map[string]map[string]map[string]any
	Conditions  map[string]any
	Rules       map[string]rule
	Resources   map[string]resource
	Outputs     map[string]output
}

type parameter struct {
	Type          string
	Default       any
	AllowedValues []any
	Description   string
	NoEcho        any

	AllowedPattern, ConstraintDescription          string
	MinLength, MaxLength, MinValue, MaxValue, Note any `json:",omitempty"`
}

type rule struct {
	RuleCondition any
	Assertions    []assertion
}

type assertion struct {
	Assert            any
	AssertDescription string
}

type resource struct {
	Type                string
	Properties          map[string]any
	DependsOn           texts.List
	Condition           string
	DeletionPolicy      string
	UpdateReplacePolicy string
	Metadata            map[string]any
	UpdatePolicy        any
	CreationPolicy      any
}

type output struct {
	Value       any
	Description any
	Condition   string
	Export      struct{ Name any }
}

var logicalID = regexp.MustCompile(`^[A-Za-z0-9]{1,255}$`)

// parseTemplate reads a template in JSON or YAML and refuses sections that
// would be ignored.
func parseTemplate(body string) (*template, error) {
	var document any
	if strings.HasPrefix(strings.TrimSpace(body), "{") {
		decoder := json.NewDecoder(strings.NewReader(body))
		decoder.UseNumber()
		if err := decoder.Decode(&document); err != nil {
			return nil, invalid("Template format error: JSON not well-formed. (%v)", err)
		}
	} else {
		var err error
		if document, err = parseYAML(body); err != nil {
			return nil, invalid("Template format error: YAML not well-formed. (%v)", err)
		}
	}
	sections, ok := document.(map[string]any)
	if !ok {
		return nil, invalid("Template format error: unsupported structure.")
	}
	for name := range sections {
		switch name {
		case "AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Mappings", "Conditions", "Rules", "Resources", "Outputs":
		default:
			return nil, invalid("Template format error: the section %s is not served by the embedded AWS", name)
		}
	}
	raw, err := json.Marshal(sections)
	if err != nil {
		return nil, invalid("Template format error: %v", err)
	}
	t := &template{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(t); err != nil {
		return nil, invalid("Template format error: %v", err)
	}
	t.Body = body
	return t, t.check()
}

func (t *template) check() error {
	if len(t.Resources) == 0 {
		return invalid("Template format error: At least one Resources member must be defined.")
	}
	if len(t.Resources) > mostResources {
		return invalid("Template format error: Number of resources, %d, is greater than maximum allowed, %d", len(t.Resources), mostResources)
	}
	for _, id := range sortedKeys(t.Resources) {
		r := t.Resources[id]
		switch {
		case !logicalID.MatchString(id):
			return invalid("Template format error: Resource name %s is non alphanumeric.", id)
		case r.Type == "":
			return invalid("Template format error: [/Resources/%s] Every Resources object must contain a Type member.", id)
		case r.Condition != "" && t.Conditions[r.Condition] == nil:
			return invalid("Template format error: Unresolved condition dependency %s in the Resources block of the template", r.Condition)
		}
		for _, policy := range []string{r.DeletionPolicy, r.UpdateReplacePolicy} {
			switch policy {
			case "", "Delete", "Retain", "RetainExceptOnCreate":
			case "Snapshot":
				return invalid("Template error: resource %s: the policy Snapshot is not served by the embedded AWS (allowed: Delete, Retain, RetainExceptOnCreate)", id)
			default:
				return invalid("Template format error: Unrecognized DeletionPolicy %s for resource %s", policy, id)
			}
		}
	}
	return nil
}

// parseYAML reads YAML with CloudFormation's short forms of functions.
func parseYAML(body string) (any, error) {
	var node yaml.Node
	if err := yaml.Unmarshal([]byte(body), &node); err != nil {
		return nil, err
	}
	if len(node.Content) != 1 {
		return nil, errors.New("it is empty")
	}
	return fromYAML(node.Content[0])
}

func fromYAML(n *yaml.Node) (any, error) {
	if n.Kind == yaml.AliasNode {
		return fromYAML(n.Alias)
	}
	var value any
	switch n.Kind {
	case yaml.MappingNode:
		fields := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			field, err := fromYAML(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			fields[n.Content[i].Value] = field
		}
		value = fields
	case yaml.SequenceNode:
		items := make([]any, 0, len(n.Content))
		for _, element := range n.Content {
			item, err := fromYAML(element)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		value = items
	default:
		value = yamlScalar(n)
	}
	if !strings.HasPrefix(n.Tag, "!") || strings.HasPrefix(n.Tag, "!!") {
		return value, nil
	}
	return shortForm(n, value)
}

func yamlScalar(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		return json.Number(n.Value)
	case "!!null":
		return nil
	}
	return n.Value
}

// shortForm returns the long form of a short form such as !Ref X.
func shortForm(n *yaml.Node, value any) (any, error) {
	name := strings.TrimPrefix(n.Tag, "!")
	switch name {
	case "Ref", "Condition":
	case "GetAtt":
		if text, ok := value.(string); ok {
			id, attribute, _ := strings.Cut(text, ".")
			value = []any{id, attribute}
		}
		name = "Fn::GetAtt"
	default:
		if !slices.Contains(functions, "Fn::"+name) {
			return nil, fmt.Errorf("line %d: the tag !%s is not known", n.Line, name)
		}
		name = "Fn::" + name
	}
	return map[string]any{name: value}, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
