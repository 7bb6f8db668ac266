package cloudformation

import (
	"slices"
	"strings"
)

// references returns the names to which a value refers: resources, parameters
// and pseudo-parameters, sorted.
func references(v any) []string {
	found := map[string]bool{}
	collect(v, found)
	return sortedKeys(found)
}

func collect(v any, found map[string]bool) {
	name, argument, isCall := call(v)
	switch {
	case isCall && name == "Ref":
		if id, ok := argument.(string); ok {
			found[id] = true
		}
		return
	case isCall && name == "Fn::GetAtt":
		if id, _, err := attributeOf(argument); err == nil {
			found[id] = true
		}
		return
	case isCall && name == "Fn::Sub":
		collectSub(argument, found)
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			collect(member, found)
		}
	case []any:
		for _, element := range v {
			collect(element, found)
		}
	}
}

func collectSub(argument any, found map[string]bool) {
	text, _ := argument.(string)
	variables := map[string]any{}
	if list, ok := argument.([]any); ok && len(list) == 2 {
		text, _ = list[0].(string)
		variables, _ = list[1].(map[string]any)
		collect(list[1], found)
	}
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		name := strings.TrimSpace(m[1])
		if _, own := variables[name]; own || strings.HasPrefix(name, "!") {
			continue
		}
		id, _, _ := strings.Cut(name, ".")
		found[id] = true
	}
}

// dependencies returns, for each resource of a template, the resources that it
// needs. An unknown name is an error.
func (t *template) dependencies() (map[string][]string, error) {
	out := make(map[string][]string, len(t.Resources))
	var unresolved []string
	known := func(name string) bool {
		_, isParameter := t.Parameters[name]
		_, isPseudo := (&evaluator{}).pseudo(name)
		return isParameter || isPseudo
	}
	for _, id := range sortedKeys(t.Resources) {
		needs := references(map[string]any(t.Resources[id].Properties))
		for _, name := range slices.Concat(needs, t.Resources[id].DependsOn) {
			if _, isResource := t.Resources[name]; isResource {
				out[id] = append(out[id], name)
			} else if !known(name) {
				unresolved = append(unresolved, name)
			}
		}
		slices.Sort(out[id])
		out[id] = slices.Compact(out[id])
	}
	for _, o := range t.Outputs {
		for _, name := range references(o.Value) {
			if _, isResource := t.Resources[name]; !isResource && !known(name) {
				unresolved = append(unresolved, name)
			}
		}
	}
	if len(unresolved) > 0 {
		slices.Sort(unresolved)
		return nil, invalid("Template format error: Unresolved resource dependencies [%s] in the Resources block of the template", strings.Join(slices.Compact(unresolved), ", "))
	}
	return out, nil
}

// order sorts ids so that each comes after the ids that it needs. Otherwise they
// are in alphabetical order.
func order(needs map[string][]string, ids []string) ([]string, error) {
	var out []string
	left := map[string]bool{}
	for _, id := range ids {
		left[id] = true
	}
	for len(left) > 0 {
		var ready []string
		for _, id := range sortedKeys(left) {
			if !slices.ContainsFunc(needs[id], func(other string) bool { return left[other] }) {
				ready = append(ready, id)
			}
		}
		if len(ready) == 0 {
			return nil, invalid("Circular dependency between resources: [%s]", strings.Join(sortedKeys(left), ", "))
		}
		for _, id := range ready {
			delete(left, id)
		}
		out = append(out, ready...)
	}
	return out, nil
}
