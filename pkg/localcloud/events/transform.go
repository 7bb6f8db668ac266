package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
)

// targetInput is what a target gets for an event: the event itself, a constant,
// a part of it, or what a template makes of it. event is its JSON, document the
// same decoded.
func targetInput(t types.Target, rule *rule, event []byte, document any, received time.Time) ([]byte, error) {
	switch {
	case t.Input != nil:
		return []byte(*t.Input), nil
	case t.InputPath != nil:
		value, ok, err := lookup(document, *t.InputPath)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("the event has nothing at the input path %s", *t.InputPath)
		}
		return json.Marshal(value)
	case t.InputTransformer != nil:
		return transform(t.InputTransformer, rule, event, document, received)
	}
	return event, nil
}

// checkTarget refuses inputs that could never be made.
func checkTarget(t types.Target) error {
	given := 0
	if t.Input != nil {
		given++
		if !json.Valid([]byte(*t.Input)) {
			return errors.New("JSON syntax error in input for target " + aws.ToString(t.Id))
		}
	}
	if t.InputPath != nil {
		given++
		if _, err := steps(*t.InputPath); err != nil {
			return err
		}
	}
	if t.InputTransformer != nil {
		given++
		for name, path := range t.InputTransformer.InputPathsMap {
			if _, err := steps(path); err != nil {
				return fmt.Errorf("input path %s: %w", name, err)
			}
		}
		if aws.ToString(t.InputTransformer.InputTemplate) == "" {
			return errors.New("InputTemplate is required in an InputTransformer")
		}
		if err := checkTemplate(aws.ToString(t.Id), *t.InputTransformer.InputTemplate); err != nil {
			return err
		}
	}
	if given > 1 {
		return fmt.Errorf("only one of Input, InputPath, or InputTransformer must be provided for target %s", aws.ToString(t.Id))
	}
	return nil
}

// transform fills the placeholders of a template
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html).
// received is when the event arrived.
//
// A template is JSON (an object, an array or one variable) or text (one or more strings in
// quotes, a line each). EventBridge escapes no value that it puts between
// quotes. So in JSON a value with quotes of its own, such as an object, breaks
// the result, and nothing is delivered; in text an object loses its quotes, and
// the result need not be JSON.
func transform(in *types.InputTransformer, rule *rule, event []byte, document any, received time.Time) ([]byte, error) {
	values, err := predefined(rule, event, received)
	if err != nil {
		return nil, err
	}
	for name, path := range in.InputPathsMap {
		value, ok, err := lookup(document, path)
		if err != nil {
			return nil, err
		}
		if ok {
			values[name] = value
		}
	}
	template := aws.ToString(in.InputTemplate)
	if !isJSONTemplate(template) {
		return []byte(fill(template, func(name string, _ bool) string { return plainText(values[name]) })), nil
	}
	filled := fill(template, func(name string, inString bool) string {
		value, ok := values[name]
		if text, isText := value.(string); inString && (isText || !ok) {
			return text
		}
		if !ok {
			value = "" // a variable without a value
		}
		return jsonText(value)
	})
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(filled)); err != nil {
		return nil, fmt.Errorf("the input template does not give JSON (%w); EventBridge escapes nothing between quotes: %s", err, filled)
	}
	return out.Bytes(), nil
}

// predefined are the variables that every template has.
func predefined(rule *rule, event []byte, received time.Time) (map[string]any, error) {
	var withoutDetail map[string]json.RawMessage
	if err := json.Unmarshal(event, &withoutDetail); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	delete(withoutDetail, "detail")
	return map[string]any{
		"aws.events.rule-arn":             rule.ARN,
		"aws.events.rule-name":            rule.Name,
		"aws.events.event.json":           json.RawMessage(event),
		"aws.events.event":                withoutDetail,
		"aws.events.event.ingestion-time": received.UTC().Format(time.RFC3339),
	}, nil
}

func isJSONTemplate(template string) bool {
	trimmed := strings.TrimSpace(template)
	return strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[") || strings.HasPrefix(trimmed, "<")
}

// fill replaces each <name> by what value gives for it. inString says whether
// the placeholder stands between quotes.
func fill(template string, value func(name string, inString bool) string) string {
	var out strings.Builder
	inString := false
	for i := 0; i < len(template); i++ {
		c := template[i]
		switch {
		case c == '\\' && inString && i+1 < len(template):
			out.WriteString(template[i : i+2])
			i++
		case c == '"':
			inString = !inString
			out.WriteByte(c)
		case c == '<':
			name, _, ok := strings.Cut(template[i+1:], ">")
			if !ok || !isPlaceholder(name) {
				out.WriteByte(c)
				continue
			}
			out.WriteString(value(name, inString))
			i += len(name) + 1
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

func isPlaceholder(name string) bool {
	for _, c := range name {
		if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return name != ""
}

// jsonText is a value of an event in JSON.
func jsonText(value any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "" // not reached: the value was decoded from JSON
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// plainText is a value of an event in a text template: objects and arrays
// without the quotes of their JSON, nothing for a variable without a value.
func plainText(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	return strings.ReplaceAll(jsonText(value), `"`, "")
}

// checkTemplate refuses a template that gives neither JSON nor quoted text,
// whatever the values are.
func checkTemplate(id, template string) error {
	sample := fill(template, func(_ string, inString bool) string {
		if inString {
			return "x"
		}
		return "0" // a value, but no name of a member
	})
	decoder := json.NewDecoder(strings.NewReader(sample))
	for values := 0; ; values++ {
		var value any
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) && values > 0 {
			return nil
		}
		_, isText := value.(string)
		if err != nil || values > 0 && !isText {
			return fmt.Errorf("Invalid InputTemplate for target %s : [Source: (String)%q; offset %d]: "+ //lint:ignore ST1005 the sentence is EventBridge's
				"a template is a JSON object or array, or text between double quotes", id, template, decoder.InputOffset())
		}
	}
}

// lookup follows a JSON path of names, indices and wildcards:
// $.detail.list[0].name, $.resources[*]. A path with a wildcard gives a list.
func lookup(document any, path string) (value any, ok bool, err error) {
	parts, err := steps(path)
	if err != nil {
		return nil, false, err
	}
	values, several := []any{document}, false
	for _, part := range parts {
		several = several || part == "*"
		var next []any
		for _, value := range values {
			next = append(next, step(value, part)...)
		}
		values = next
	}
	if several {
		return append([]any{}, values...), true, nil
	}
	if len(values) == 0 {
		return nil, false, nil
	}
	return values[0], true, nil
}

// step returns what one part of a path leads to.
func step(value any, part string) []any {
	switch v := value.(type) {
	case map[string]any:
		if part == "*" {
			var out []any
			for _, name := range slices.Sorted(maps.Keys(v)) {
				out = append(out, v[name])
			}
			return out
		}
		if member, ok := v[part]; ok {
			return []any{member}
		}
	case []any:
		if part == "*" {
			return v
		}
		if index, err := strconv.Atoi(part); err == nil && index >= 0 && index < len(v) {
			return v[index : index+1]
		}
	}
	return nil
}

// steps takes a JSON path apart.
func steps(path string) ([]string, error) {
	rest, ok := strings.CutPrefix(path, "$")
	if !ok {
		return nil, fmt.Errorf("the JSON path %q does not begin with $", path)
	}
	var out []string
	for rest != "" {
		var step string
		switch {
		case rest[0] == '[':
			inside, after, closed := strings.Cut(rest[1:], "]")
			if !closed {
				return nil, fmt.Errorf("the JSON path %q has a [ without a ]", path)
			}
			step, rest = strings.Trim(inside, `'"`), after
		case rest[0] == '.':
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			step, rest = rest[1:end+1], rest[end+1:]
		}
		if step == "" {
			return nil, fmt.Errorf("the JSON path %q is not served: names, indices and * are, such as $.detail.list[0]", path)
		}
		out = append(out, step)
	}
	return out, nil
}
