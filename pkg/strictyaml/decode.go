package strictyaml

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

// Decode reads one YAML document into the struct to which out points. An invalid
// value leaves its field at the zero value. The Document is never nil.
func Decode(file string, data []byte, out any) (*Document, problem.List) {
	doc := newDocument(file, data)
	var root yaml.Node
	if err := yaml.Load(data, &root); err != nil {
		return doc, problem.List{doc.syntax(data, err)}
	}
	node := &root
	if node.Kind == yaml.DocumentNode && len(node.Content) == 1 {
		node = node.Content[0]
	}
	d := decoder{doc: doc, fields: map[reflect.Type]map[string]field{}}
	d.value(node, reflect.ValueOf(out).Elem(), "", rules{})
	return doc, d.problems.Sort()
}

// syntax turns the YAML library's error into a problem with a position.
func (d *Document) syntax(data []byte, err error) problem.Problem {
	if len(strings.TrimSpace(string(data))) == 0 {
		return d.at(position{1, 1}, "", "the file is empty")
	}
	var load *yaml.LoadError
	if errors.As(err, &load) {
		mark := load.Mark
		if mark.Line == 0 {
			mark = load.ContextMark
		}
		if mark.Line == 0 {
			mark.Line, mark.Column = 1, 1
		}
		if tab, ok := d.tabAt(mark.Line, mark.Column, load.Message); ok {
			return d.at(tab, "spaces", "not valid YAML: there is a tab where only spaces may indent")
		}
		message := "not valid YAML: " + strings.TrimPrefix(load.Message, "yaml: ")
		if load.ContextMsg != "" {
			message += " (" + load.ContextMsg + ")"
		}
		return d.at(position{mark.Line, mark.Column}, "", message)
	}
	return d.at(position{1, 1}, "", "not valid YAML: "+err.Error())
}

// tabAt finds the tab that causes a syntax error: in the indentation of the
// line, or at the given position.
func (d *Document) tabAt(line, column int, message string) (position, bool) {
	if line < 1 || line > len(d.lines) {
		return position{}, false
	}
	text := d.lines[line-1]
	indentation := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	if i := strings.IndexByte(indentation, '\t'); i >= 0 {
		return position{line, i + 1}, true
	}
	if runes := []rune(text); column >= 1 && column <= len(runes) && runes[column-1] == '\t' {
		return position{line, column}, true
	}
	if strings.Contains(message, "tab character") {
		return position{line, max(column, 1)}, true
	}
	return position{}, false
}

type decoder struct {
	doc      *Document
	problems problem.List
	fields   map[reflect.Type]map[string]field // of the structs so far: a list has many of one type
}

func (d *decoder) fail(n *yaml.Node, allowed, format string, args ...any) {
	d.problems = append(d.problems, d.doc.atNode(n, allowed, format, args...))
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, r rules) {
	d.doc.values[path] = position{n.Line, n.Column}
	before := len(d.problems)
	defer func() {
		if len(d.problems) > before {
			d.doc.bad[path] = true
		}
	}()
	switch {
	case n.Kind == yaml.AliasNode:
		d.fail(n, "", "%s: YAML aliases are not supported; write the value out", name(path))
		return
	case n.Anchor != "":
		d.fail(n, "", "%s: YAML anchors are not supported; write the value out where it is needed", name(path))
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && v.Kind() != reflect.Interface:
		d.fail(n, r.allowed(), "%s is empty; give it a value or remove the key", name(path))
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if isText(v.Type()) {
		d.unmarshalText(n, v, path, r)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Slice:
		d.list(n, v, path, r)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Interface:
		d.anything(n, v, path)
	default:
		d.scalar(n, v, path, r)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, strings.Join(fieldNames(v.Type()), ", "), "%s must be a mapping of keys, not %s", name(path), describe(n))
		return
	}
	fields, ok := d.fields[v.Type()]
	if !ok {
		fields = fieldsOf(v.Type())
		d.fields[v.Type()] = fields
	}
	given := d.pairs(n, path, func(key string, keyNode, valueNode *yaml.Node) {
		f, ok := fields[key]
		if !ok {
			d.unknown(keyNode, key, path, fieldNames(v.Type()))
			return
		}
		d.value(valueNode, v.FieldByIndex(f.index), Join(path, key), f.rules)
	})
	for _, key := range fieldNames(v.Type()) {
		if fields[key].required && !given[key] {
			d.problems = append(d.problems, d.missing(n, path, key, fields[key].rules))
		}
	}
}

// missing reports a missing key at the key of the mapping that should have it,
// because the mapping's own position is that of its first key.
func (d *decoder) missing(n *yaml.Node, path, key string, r rules) problem.Problem {
	at := position{n.Line, n.Column}
	if p, ok := d.doc.keys[path]; ok && path != "" {
		at = p
	}
	return d.doc.at(at, r.allowed(), fmt.Sprintf("%s is required but missing", Join(path, key)))
}

func (d *decoder) unknown(keyNode *yaml.Node, key, path string, known []string) {
	message := fmt.Sprintf("unknown key %q", key)
	if path != "" {
		message += " in " + path
	}
	if near := problem.Nearest(key, known); near != "" {
		message += fmt.Sprintf("; did you mean %q?", near)
	}
	d.fail(keyNode, strings.Join(known, ", "), "%s", message)
}

// pairs calls visit for each key that is a string and not a duplicate, and
// returns all keys.
func (d *decoder) pairs(n *yaml.Node, path string, visit func(key string, keyNode, valueNode *yaml.Node)) map[string]bool {
	first := map[string]*yaml.Node{}
	given := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		keyNode, valueNode := n.Content[i], n.Content[i+1]
		switch {
		case keyNode.Kind != yaml.ScalarNode:
			d.fail(keyNode, "", "a key of %s must be a plain word, not %s", name(path), describe(keyNode))
			continue
		case keyNode.ShortTag() == "!!merge":
			d.fail(keyNode, "", "YAML merge keys are not supported; write the values out")
			continue
		}
		key := keyNode.Value
		if earlier, ok := first[key]; ok {
			d.fail(keyNode, "", "duplicate key %q; the first is on line %d", key, earlier.Line)
			continue
		}
		first[key], given[key] = keyNode, true
		d.doc.keys[Join(path, key)] = position{keyNode.Line, keyNode.Column}
		visit(key, keyNode, valueNode)
	}
	return given
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, r rules) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "", "%s must be a list, not %s", name(path), describe(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(item, out.Index(i), Index(path, i), r.item())
	}
	v.Set(out)
	if r.minItems > len(n.Content) {
		d.fail(n, "", "%s needs at least %d, but has %d", name(path), r.minItems, len(n.Content))
	}
	if r.maxItems > 0 && r.maxItems < len(n.Content) {
		d.fail(n.Content[r.maxItems], "", "%s may have at most %d, but has %d", name(path), r.maxItems, len(n.Content))
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, "", "%s must be a mapping of keys, not %s", name(path), describe(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	elem := v.Type().Elem()
	d.pairs(n, path, func(key string, _, valueNode *yaml.Node) {
		at := Join(path, key)
		item := reflect.New(elem).Elem()
		if elem.Kind() == reflect.String && !isText(elem) {
			// A map of strings accepts any scalar as text, so that parameters need no
			// quotes; their types are checked elsewhere.
			d.doc.values[at] = position{valueNode.Line, valueNode.Column}
			if valueNode.Kind != yaml.ScalarNode || valueNode.ShortTag() == "!!null" {
				d.fail(valueNode, "", "%s must be a single value, not %s", name(at), describe(valueNode))
				return
			}
			item.SetString(valueNode.Value)
		} else {
			d.value(valueNode, item, at, rules{})
		}
		v.SetMapIndex(reflect.ValueOf(key), item)
	})
}

func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textUnmarshaler) }

// anything decodes into an interface value: map[string]any, []any or a scalar.
func (d *decoder) anything(n *yaml.Node, v reflect.Value, path string) {
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		d.mapping(n, reflect.ValueOf(&out).Elem(), path)
		v.Set(reflect.ValueOf(out))
	case yaml.SequenceNode:
		out := []any{}
		d.list(n, reflect.ValueOf(&out).Elem(), path, rules{})
		v.Set(reflect.ValueOf(out))
	default:
		var out any
		if n.ShortTag() == "!!timestamp" {
			out = n.Value // a date becomes text, as in JSON
		} else if err := n.Decode(&out); err != nil {
			d.fail(n, "", "%s: %v", name(path), err)
			return
		}
		if out != nil {
			v.Set(reflect.ValueOf(out))
		}
	}
}

func (d *decoder) unmarshalText(n *yaml.Node, v reflect.Value, path string, r rules) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, r.allowed(), "%s must be a single value, not %s", name(path), describe(n))
		return
	}
	u, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	if !ok {
		return
	}
	if err := u.UnmarshalText([]byte(n.Value)); err != nil {
		d.fail(n, r.allowed(), "%s: %v", name(path), err)
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string, r rules) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, r.allowed(), "%s must be %s, not %s", name(path), wanted(v), describe(n))
		return
	}
	tag := n.ShortTag()
	switch v.Kind() {
	case reflect.String:
		if tag != "!!str" && tag != "!!timestamp" {
			d.fail(n, r.allowed(), "%s must be text, not %s; put it in quotes: %q", name(path), describe(n), problem.Cut(n.Value))
			return
		}
		v.SetString(n.Value)
		d.checkText(n, path, r)
	case reflect.Bool:
		if tag != "!!bool" {
			d.fail(n, "true, false", "%s must be true or false, not %s", name(path), describe(n))
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int, reflect.Int32, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		if tag != "!!int" || err != nil {
			d.fail(n, r.allowed(), "%s must be a whole number, not %s", name(path), describe(n))
			return
		}
		v.SetInt(i)
		d.number(n, i, path, r)
	default:
		panic(fmt.Sprintf("strictyaml: unsupported type %s at %s", v.Type(), path))
	}
}

func (d *decoder) number(n *yaml.Node, i int64, path string, r rules) {
	if r.minimum != nil && i < *r.minimum || r.maximum != nil && i > *r.maximum {
		d.fail(n, r.allowed(), "%s is out of range: %d", name(path), i)
	}
}

// checkText checks a string against its rules.
func (d *decoder) checkText(n *yaml.Node, path string, r rules) {
	length := len([]rune(n.Value))
	switch {
	case len(r.enum) > 0 && !slices.Contains(r.enum, n.Value):
		message := fmt.Sprintf("%s: %q is not known", name(path), problem.Cut(n.Value))
		if near := problem.Nearest(n.Value, r.enum); near != "" {
			message += fmt.Sprintf("; did you mean %q?", near)
		}
		d.fail(n, r.allowed(), "%s", message)
	case length < r.minLength && length == 0:
		d.fail(n, "", "%s must not be empty", name(path))
	case length < r.minLength:
		d.fail(n, r.allowed(), "%s is too short: %d characters", name(path), length)
	case r.maxLength > 0 && length > r.maxLength:
		d.fail(n, r.allowed(), "%s is too long: %d characters", name(path), length)
	case r.pattern != nil && !r.pattern.MatchString(n.Value):
		d.fail(n, r.patternHint(), "%s: %q does not have the required form", name(path), problem.Cut(n.Value))
	}
}

func name(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func wanted(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	default:
		return "a whole number"
	}
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!int", "!!float":
		return "the number " + problem.Cut(n.Value)
	case "!!bool":
		return "the boolean " + n.Value
	default:
		return strconv.Quote(problem.Cut(n.Value))
	}
}
