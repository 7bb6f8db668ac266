package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// Pattern is a compiled event pattern
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern.html).
type Pattern struct{ root node }

// node is a part of a pattern: it looks at all values that the event has in its
// place. None means that the field is absent.
type node interface{ match(values []any) bool }

// ParsePattern compiles a pattern, or says what is wrong with it.
func ParsePattern(text string) (Pattern, error) {
	var raw any
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return Pattern{}, fmt.Errorf("the event pattern is not JSON: %w", err)
	}
	fields, ok := raw.(map[string]any)
	if !ok {
		return Pattern{}, errors.New("the event pattern must be a JSON object")
	}
	root, err := parseObject(fields, "")
	if err != nil {
		return Pattern{}, err
	}
	return Pattern{root: root}, nil
}

// Match says whether an event, as encoding/json decodes it into an any, fits.
func (p Pattern) Match(event any) bool { return p.root.match([]any{event}) }

// objectNode holds when all its fields and at least one of its alternatives do.
type objectNode struct {
	fields       map[string]node
	alternatives []objectNode // $or; none: nothing to choose
}

func parseObject(fields map[string]any, path string) (objectNode, error) {
	if len(fields) == 0 {
		return objectNode{}, fmt.Errorf("%s: empty objects are not allowed", where(path))
	}
	out := objectNode{fields: map[string]node{}}
	for name, value := range fields {
		at := strings.TrimPrefix(path+"."+name, ".")
		if list, isList := value.([]any); isList && name == "$or" && len(list) > 1 && allObjects(list) {
			for i, item := range list {
				alternative, err := parseObject(item.(map[string]any), fmt.Sprintf("%s[%d]", at, i)) // allObjects
				if err != nil {
					return objectNode{}, err
				}
				out.alternatives = append(out.alternatives, alternative)
			}
			continue
		}
		var err error
		switch v := value.(type) {
		case map[string]any:
			out.fields[name], err = parseObject(v, at)
		case []any:
			out.fields[name], err = parseLeaf(v, at)
		default:
			err = fmt.Errorf("%s: %q must be an object or an array", where(path), name)
		}
		if err != nil {
			return objectNode{}, err
		}
	}
	return out, nil
}

func where(path string) string {
	if path == "" {
		return "event pattern"
	}
	return "event pattern at " + path
}

func allObjects(list []any) bool {
	for _, item := range list {
		if _, ok := item.(map[string]any); !ok {
			return false
		}
	}
	return true
}

func (n objectNode) match(values []any) bool {
	if len(values) == 0 {
		// The object is absent: only a pattern of absent fields holds.
		return n.matchObject(nil)
	}
	for _, value := range flatten(values) {
		if object, ok := value.(map[string]any); ok && n.matchObject(object) {
			return true
		}
	}
	return false
}

func (n objectNode) matchObject(object map[string]any) bool {
	for name, field := range n.fields {
		var values []any
		if value, ok := object[name]; ok {
			values = []any{value}
		}
		if !field.match(values) {
			return false
		}
	}
	for _, alternative := range n.alternatives {
		if alternative.matchObject(object) {
			return true
		}
	}
	return len(n.alternatives) == 0
}

// flatten replaces arrays by their elements.
func flatten(values []any) []any {
	var out []any
	for _, value := range values {
		if list, ok := value.([]any); ok {
			out = append(out, flatten(list)...)
		} else {
			out = append(out, value)
		}
	}
	return out
}

// leafNode holds when one of its tests does.
type leafNode struct{ tests []test }

// test looks at one value; present is false when the field is absent.
type test func(value any, present bool) bool

func (n leafNode) match(values []any) bool {
	flat := flatten(values)
	for _, holds := range n.tests {
		if len(flat) == 0 && holds(nil, false) {
			return true
		}
		for _, value := range flat {
			if holds(value, true) {
				return true
			}
		}
	}
	return false
}

func parseLeaf(list []any, path string) (node, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: empty arrays are not allowed", where(path))
	}
	var out leafNode
	for _, item := range list {
		var holds test
		var err error
		switch v := item.(type) {
		case map[string]any:
			holds, err = parseFilter(v, path)
		case []any:
			err = fmt.Errorf("%s: an array in an array is not allowed", where(path))
		default:
			holds = equals(v)
		}
		if err != nil {
			return nil, err
		}
		out.tests = append(out.tests, holds)
	}
	return out, nil
}

func equals(want any) test {
	return func(value any, present bool) bool { return present && value == want } // strings, numbers, booleans, null
}

func onString(holds func(string) bool) test {
	return func(value any, present bool) bool {
		text, ok := value.(string)
		return present && ok && holds(text)
	}
}

func parseFilter(filter map[string]any, path string) (test, error) {
	if len(filter) != 1 {
		return nil, fmt.Errorf("%s: a content filter has exactly one key", where(path))
	}
	for name, value := range filter {
		switch name {
		case "prefix", "suffix", "equals-ignore-case", "wildcard":
			holds, err := parseText(name, value, path)
			if err != nil {
				return nil, err
			}
			return onString(holds), nil
		case "exists":
			want, ok := value.(bool)
			if !ok {
				return nil, fmt.Errorf("%s: exists must be true or false", where(path))
			}
			return func(value any, present bool) bool {
				_, object := value.(map[string]any)
				return want == (present && !object) // only leaves exist
			}, nil
		case "numeric":
			return parseNumeric(value, path)
		case "cidr":
			text, _ := value.(string)
			network, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("%s: cidr: %w", where(path), err)
			}
			return onString(func(text string) bool {
				address, err := netip.ParseAddr(text)
				return err == nil && network.Contains(address)
			}), nil
		case "anything-but":
			return parseAnythingBut(value, path)
		default:
			return nil, fmt.Errorf("%s: unrecognized match type %q (allowed: anything-but, cidr, equals-ignore-case, exists, numeric, prefix, suffix, wildcard)", where(path), name)
		}
	}
	return nil, nil // not reached: there is one key
}

// parseText compiles the filters on strings. prefix and suffix also take
// {"equals-ignore-case": …}.
func parseText(name string, value any, path string) (func(string) bool, error) {
	fold := false
	if inner, ok := value.(map[string]any); ok && (name == "prefix" || name == "suffix") && len(inner) == 1 {
		if folded, ok := inner["equals-ignore-case"]; ok {
			value, fold = folded, true
		}
	}
	want, ok := value.(string)
	if !ok {
		return nil, fmt.Errorf("%s: %s must be a string", where(path), name)
	}
	switch name {
	case "equals-ignore-case":
		return func(text string) bool { return strings.EqualFold(text, want) }, nil
	case "wildcard":
		if strings.Contains(want, "**") {
			return nil, fmt.Errorf("%s: consecutive wildcards are not allowed", where(path))
		}
		parts, err := wildcardParts(want)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where(path), err)
		}
		return func(text string) bool { return matchWildcard(parts, text) }, nil
	}
	has := strings.HasPrefix
	if name == "suffix" {
		has = strings.HasSuffix
	}
	if fold {
		want = strings.ToLower(want)
		return func(text string) bool { return has(strings.ToLower(text), want) }, nil
	}
	return func(text string) bool { return has(text, want) }, nil
}

// wildcardParts splits at each * that no backslash escapes.
func wildcardParts(pattern string) ([]string, error) {
	parts, escaped := []string{""}, false
	for _, c := range pattern {
		last := len(parts) - 1
		switch {
		case escaped:
			if c != '*' && c != '\\' {
				return nil, fmt.Errorf(`invalid escape \%c in wildcard %q`, c, pattern)
			}
			parts[last] += string(c)
			escaped = false
		case c == '\\':
			escaped = true
		case c == '*':
			parts = append(parts, "")
		default:
			parts[last] += string(c)
		}
	}
	if escaped {
		return nil, fmt.Errorf("wildcard %q ends in a backslash", pattern)
	}
	return parts, nil
}

func matchWildcard(parts []string, text string) bool {
	if len(parts) == 1 {
		return text == parts[0]
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[last])
}

func parseNumeric(value any, path string) (test, error) {
	list, ok := value.([]any)
	if !ok || len(list) != 2 && len(list) != 4 {
		return nil, fmt.Errorf("%s: numeric must be an array of one or two comparisons, such as [\">\", 0, \"<=\", 5]", where(path))
	}
	var checks []func(float64) bool
	for i := 0; i < len(list); i += 2 {
		operator, _ := list[i].(string)
		bound, ok := list[i+1].(float64)
		if !ok || math.Abs(bound) > 5e9 {
			return nil, fmt.Errorf("%s: numeric compares with numbers from -5e9 to 5e9", where(path))
		}
		check, ok := map[string]func(float64) bool{
			"=":  func(n float64) bool { return n == bound },
			"<":  func(n float64) bool { return n < bound },
			"<=": func(n float64) bool { return n <= bound },
			">":  func(n float64) bool { return n > bound },
			">=": func(n float64) bool { return n >= bound },
		}[operator]
		if !ok {
			return nil, fmt.Errorf("%s: unrecognized numeric operator %q (allowed: = < <= > >=)", where(path), operator)
		}
		checks = append(checks, check)
	}
	return func(value any, present bool) bool {
		number, ok := value.(float64)
		if !present || !ok {
			return false
		}
		for _, check := range checks {
			if !check(number) {
				return false
			}
		}
		return true
	}, nil
}

// parseAnythingBut compiles a filter that holds for every value but those
// given. An absent field does not match it.
func parseAnythingBut(value any, path string) (test, error) {
	var excluded []test
	switch v := value.(type) {
	case []any:
		if len(v) == 0 {
			return nil, fmt.Errorf("%s: anything-but must not be empty", where(path))
		}
		for _, item := range v {
			switch item.(type) {
			case string, float64:
				excluded = append(excluded, equals(item))
			default:
				return nil, fmt.Errorf("%s: anything-but lists strings or numbers", where(path))
			}
		}
	case map[string]any:
		if len(v) != 1 {
			return nil, fmt.Errorf("%s: anything-but has exactly one key", where(path))
		}
		for name, wanted := range v {
			if name != "prefix" && name != "suffix" && name != "equals-ignore-case" && name != "wildcard" {
				return nil, fmt.Errorf("%s: unrecognized anything-but filter %q (allowed: equals-ignore-case, prefix, suffix, wildcard)", where(path), name)
			}
			list, ok := wanted.([]any)
			if !ok {
				list = []any{wanted}
			}
			for _, item := range list {
				holds, err := parseText(name, item, path)
				if err != nil {
					return nil, err
				}
				excluded = append(excluded, onString(holds))
			}
		}
	case string, float64:
		excluded = append(excluded, equals(v))
	default:
		return nil, fmt.Errorf("%s: anything-but takes a string, a number, a list of them, or a filter", where(path))
	}
	return func(value any, present bool) bool {
		if !present {
			return false
		}
		for _, holds := range excluded {
			if holds(value, true) {
				return false
			}
		}
		return true
	}, nil
}
