package asl

import (
	"fmt"
	"maps"
	"slices"
)

// template is a JSON value of a definition in which strings may be expressions.
type template struct {
	path   string // in the definition
	source string // of the expression, if the whole value is one
	build  func(evaluate) (any, error)
}

// evaluate evaluates one expression at a path of the definition.
type evaluate func(e *Expression, path string) (any, error)

// compileTemplate compiles every expression in v, a decoded JSON value.
func compileTemplate(v any, path string, report func(path, message string)) *template {
	t := &template{path: path}
	switch v := v.(type) {
	case string:
		source, ok := isExpression(v)
		if !ok {
			return constant(v, path)
		}
		e, err := compileExpression(source)
		if err != nil {
			report(path, fmt.Sprintf("the JSONata expression %q is not valid: %v", source, err))
			return constant(v, path)
		}
		t.source = e.source
		t.build = func(eval evaluate) (any, error) { return eval(e, path) }
	case map[string]any:
		members := make(map[string]*template, len(v))
		names := slices.Sorted(maps.Keys(v))
		for _, name := range names {
			members[name] = compileTemplate(v[name], path+"/"+name, report)
		}
		t.build = func(eval evaluate) (any, error) {
			out := make(map[string]any, len(members))
			for _, name := range names {
				member, err := members[name].build(eval)
				if err != nil {
					return nil, err
				}
				out[name] = member
			}
			return out, nil
		}
	case []any:
		elements := make([]*template, len(v))
		for i := range v {
			elements[i] = compileTemplate(v[i], fmt.Sprintf("%s[%d]", path, i), report)
		}
		t.build = func(eval evaluate) (any, error) {
			out := make([]any, len(elements))
			for i, element := range elements {
				built, err := element.build(eval)
				if err != nil {
					return nil, err
				}
				out[i] = built
			}
			return out, nil
		}
	default:
		return constant(v, path)
	}
	return t
}

func constant(v any, path string) *template {
	return &template{path: path, build: func(evaluate) (any, error) { return v, nil }}
}
