package events

import (
	"fmt"
	"maps"
	"slices"
)

// Pattern is a compiled event pattern
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern.html).
// It behaves as AWS's own matcher, https://github.com/aws/event-ruler, says it
// does: paths are joined with dots, so that the key "a.b" and an object b in an
// object a are the same field in patterns and in events.
type Pattern struct {
	// alternatives are what $or leaves: the pattern holds when one of them does.
	alternatives []conjunction
}

// conjunction maps the path of a field to what it must be. It holds when every
// field does.
type conjunction map[string]leaf

// leaf holds for a field when one of its tests does for one of the field's
// values, or when absent is set and the field has no value.
type leaf struct {
	tests  []test
	absent bool
}

// test looks at one value: a string, float64, bool or nil.
type test func(value any) bool

// Match says whether an event, as encoding/json decodes it into an any, fits.
func (p Pattern) Match(event any) bool {
	fields := map[string][]fieldValue{}
	flattener := flattener{fields: fields}
	flattener.add("", event, nil)
	for _, alternative := range p.alternatives {
		if alternative.match(fields) {
			return true
		}
	}
	return false
}

// fieldValue is a value of a field. membership says in which element of which
// array of the event it is.
type fieldValue struct {
	value      any
	membership membership
}

// membership maps the number of an array to the index of an element.
type membership map[int]int

// with adds what other says. ok is false when the two name different elements
// of one array: fields from different elements do not match together.
func (m membership) with(other membership) (merged membership, ok bool) {
	for array, index := range other {
		if have, given := m[array]; given && have != index {
			return nil, false
		}
	}
	merged = maps.Clone(m)
	if merged == nil {
		merged = membership{}
	}
	maps.Copy(merged, other)
	return merged, true
}

// flattener turns an event into its fields.
type flattener struct {
	fields map[string][]fieldValue
	arrays int
}

func (f *flattener) add(path string, value any, m membership) {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			f.add(joinPath(path, name), v[name], m)
		}
	case []any:
		array := f.arrays
		f.arrays++
		for i, element := range v {
			inside := m
			switch element.(type) {
			case map[string]any, []any:
				inside, _ = m.with(membership{array: i}) // array is new
			}
			f.add(path, element, inside)
		}
	default:
		f.fields[path] = append(f.fields[path], fieldValue{value: v, membership: m})
	}
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// match looks at the fields by their paths in order, and keeps every choice of
// array elements that is possible so far.
func (c conjunction) match(fields map[string][]fieldValue) bool {
	possible := []membership{{}}
	for _, path := range slices.Sorted(maps.Keys(c)) {
		next := map[string]membership{}
		for _, so := range possible {
			absent := true
			for _, field := range fields[path] {
				merged, consistent := so.with(field.membership)
				if !consistent {
					continue
				}
				absent = false
				if c[path].holds(field.value) {
					next[fmt.Sprint(merged)] = merged // fmt prints maps sorted
				}
			}
			if absent && c[path].absent {
				next[fmt.Sprint(so)] = so
			}
		}
		if len(next) == 0 {
			return false
		}
		possible = slices.Collect(maps.Values(next))
	}
	return true
}

func (l leaf) holds(value any) bool {
	for _, holds := range l.tests {
		if holds(value) {
			return true
		}
	}
	return false
}
