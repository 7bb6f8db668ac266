package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
)

// targetInput is what a target gets for an event: the event itself, a constant,
// a part of it, or what a template makes of it. event is its JSON, document the
// same decoded.
func targetInput(t types.Target, rule *rule, event []byte, document any) ([]byte, error) {
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
		return transform(t.InputTransformer, rule, event, document)
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
	}
	if given > 1 {
		return fmt.Errorf("only one of Input, InputPath, or InputTransformer must be provided for target %s", aws.ToString(t.Id))
	}
	return nil
}

// transform fills the placeholders of a template
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html).
func transform(in *types.InputTransformer, rule *rule, event []byte, document any) ([]byte, error) {
	values := map[string]any{
		"aws.events.rule-arn":             rule.ARN,
		"aws.events.rule-name":            rule.Name,
		"aws.events.event.json":           json.RawMessage(event),
		"aws.events.event":                json.RawMessage(event),
		"aws.events.event.ingestion-time": ingestionTime(document),
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
	out, err := fill(aws.ToString(in.InputTemplate), values)
	if err != nil {
		return nil, err
	}
	if !json.Valid(out) {
		return nil, fmt.Errorf("the input template does not give JSON: %s", out)
	}
	return out, nil
}

func ingestionTime(document any) any {
	if event, ok := document.(map[string]any); ok {
		return event["time"]
	}
	return nil
}

// fill replaces <name>: inside a JSON string by the value's text, elsewhere by
// its JSON. A name without a value gives nothing in a string and null elsewhere.
func fill(template string, values map[string]any) ([]byte, error) {
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
			text, err := render(values[name], inString)
			if err != nil {
				return nil, fmt.Errorf("placeholder <%s>: %w", name, err)
			}
			out.WriteString(text)
			i += len(name) + 1
		default:
			out.WriteByte(c)
		}
	}
	return []byte(out.String()), nil
}

func isPlaceholder(name string) bool {
	for _, c := range name {
		if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return name != ""
}

func render(value any, inString bool) (string, error) {
	if !inString {
		raw, err := json.Marshal(value)
		return string(raw), err
	}
	var text string
	switch v := value.(type) {
	case nil:
	case string:
		text = v
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			return "", err
		}
		text = string(raw)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return "", err
	}
	return string(quoted[1 : len(quoted)-1]), nil
}

// lookup follows a JSON path of names and indices: $.detail.list[0].name.
func lookup(document any, path string) (value any, ok bool, err error) {
	parts, err := steps(path)
	if err != nil {
		return nil, false, err
	}
	value = document
	for _, part := range parts {
		switch v := value.(type) {
		case map[string]any:
			if value, ok = v[part]; !ok {
				return nil, false, nil
			}
		case []any:
			index, err := strconv.Atoi(part)
			if err != nil || index < 0 || index >= len(v) {
				return nil, false, nil // a list has no such field
			}
			value = v[index]
		default:
			return nil, false, nil
		}
	}
	return value, true, nil
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
		if step == "" || step == "*" {
			return nil, fmt.Errorf("the JSON path %q is not served: names and indices are, such as $.detail.list[0]", path)
		}
		out = append(out, step)
	}
	return out, nil
}
