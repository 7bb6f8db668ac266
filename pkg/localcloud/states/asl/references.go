package asl

import (
	"maps"
	"regexp"
	"slices"
)

var variable = regexp.MustCompile(`\$([A-Za-z_][A-Za-z0-9_]*)`)

// references lists the variables that the expressions of a state read, without
// those of states inside it.
func references(fields map[string]any, variables map[string]bool) []string {
	found := map[string]bool{}
	var look func(v any)
	look = func(v any) {
		switch v := v.(type) {
		case string:
			source, ok := isExpression(v)
			if !ok {
				return
			}
			for _, name := range variable.FindAllStringSubmatch(outsideLiterals(source), -1) {
				if variables[name[1]] {
					found[name[1]] = true
				}
			}
		case []any:
			for _, element := range v {
				look(element)
			}
		case map[string]any:
			for _, member := range v {
				look(member)
			}
		}
	}
	for name, field := range fields {
		if name != "Branches" && name != "ItemProcessor" {
			look(field)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// outsideLiterals returns an expression without its strings and comments.
func outsideLiterals(source string) string {
	prepared, err := prepare(source)
	if err != nil {
		return "" // the compiler reports it
	}
	out := []byte(nil)
	for i := 0; i < len(prepared); i++ {
		if c := prepared[i]; c == '"' || c == '\'' || c == '`' {
			if end := literalEnd(prepared, i); end > 0 {
				i = end
			}
			continue
		}
		out = append(out, prepared[i])
	}
	return string(out)
}

// VariableReferences returns the variables that each state reads, by the state's
// name. States that read none are missing; it is nil if no state reads any.
func (m *Machine) VariableReferences() map[string][]string {
	var all map[string][]string
	var walk func(g *graph)
	walk = func(g *graph) {
		for name, s := range g.states {
			if len(s.references) > 0 {
				if all == nil {
					all = map[string][]string{}
				}
				all[name] = s.references
			}
			switch b := s.body.(type) {
			case *parallel:
				for _, branch := range b.branches {
					walk(branch)
				}
			case *mapState:
				if b.processor != nil {
					walk(b.processor)
				}
			}
		}
	}
	walk(m.graph)
	return all
}
