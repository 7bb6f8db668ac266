package asl

import (
	"maps"
	"math"
	"slices"
	"strings"
)

// object is one JSON object of a definition while it is read. Its methods remove
// fields and record problems; done reports the remaining fields.
type object struct {
	path     string
	fields   map[string]any
	read     map[string]bool
	problems *Problems
}

func newObject(v any, path string, problems *Problems) (*object, bool) {
	fields, ok := v.(map[string]any)
	if !ok {
		problems.add(CodeSchema, path, "expected an object, got %s", kindOf(v))
		return nil, false
	}
	return &object{path: path, fields: fields, read: map[string]bool{"Comment": true}, problems: problems}, true
}

func (o *object) at(field string) string { return o.path + "/" + field }

func (o *object) take(field string) (any, bool) {
	o.read[field] = true
	v, ok := o.fields[field]
	return v, ok
}

func (o *object) bad(field, format string, args ...any) {
	o.problems.add(CodeSchema, o.at(field), format, args...)
}

// jsonPathFields maps fields of the JSONPath query language to their JSONata
// replacements.
var jsonPathFields = map[string]string{
	"InputPath": "Arguments or Output", "OutputPath": "Output", "ResultPath": "Output or Assign",
	"ResultSelector": "Output", "Parameters": "Arguments", "Result": "Output", "ItemsPath": "Items",
	"SecondsPath": "Seconds", "TimestampPath": "Timestamp", "TimeoutSecondsPath": "TimeoutSeconds",
	"HeartbeatSecondsPath": "HeartbeatSeconds", "MaxConcurrencyPath": "MaxConcurrency",
	"ErrorPath": "Error", "CausePath": "Cause", "Variable": "Condition",
	"ToleratedFailureCountPath": "ToleratedFailureCount", "ToleratedFailurePercentagePath": "ToleratedFailurePercentage",
}

// done reports every field that was not read.
func (o *object) done() {
	for _, field := range slices.Sorted(maps.Keys(o.fields)) {
		if o.read[field] {
			continue
		}
		if instead, ok := jsonPathFields[field]; ok {
			o.bad(field, "the field %q belongs to the JSONPath query language; with JSONata use %s", field, instead)
			continue
		}
		o.bad(field, "the field %q is not supported here", field)
	}
}

// text reads a string that is not an expression.
func (o *object) text(field string, required bool) string {
	v, ok := o.take(field)
	if !ok {
		if required {
			o.problems.add(CodeSchema, o.path, "the required field %q is missing", field)
		}
		return ""
	}
	s, ok := v.(string)
	switch {
	case !ok:
		o.bad(field, "expected a string, got %s", kindOf(v))
	case strings.HasPrefix(s, "{%"):
		o.bad(field, "this field is fixed; a JSONata expression is not allowed")
	case s == "" && required:
		o.bad(field, "must not be empty")
	}
	return s
}

func (o *object) boolean(field string) bool {
	v, ok := o.take(field)
	if !ok {
		return false
	}
	b, ok := v.(bool)
	if !ok {
		o.bad(field, "expected true or false, got %s", kindOf(v))
	}
	return b
}

// number reads a number within limits that is not an expression.
func (o *object) number(field string, otherwise, least, most float64) float64 {
	v, ok := o.take(field)
	if !ok {
		return otherwise
	}
	n, ok := v.(float64)
	if !ok {
		o.bad(field, "expected a number, got %s", kindOf(v))
		return otherwise
	}
	if n < least || n > most {
		o.bad(field, "%v is not between %v and %v", n, least, most)
	}
	return n
}

// integer is number for whole numbers.
func (o *object) integer(field string, otherwise, least, most float64) int {
	n := o.number(field, otherwise, least, most)
	if n != math.Trunc(n) {
		o.bad(field, "%v is not a whole number", n)
	}
	return int(n)
}

// list reads a list. A missing field is an empty list.
func (o *object) list(field string) []any {
	v, ok := o.take(field)
	if !ok {
		return nil
	}
	l, ok := v.([]any)
	if !ok {
		o.bad(field, "expected a list, got %s", kindOf(v))
	}
	return l
}

// template reads a value in which strings may be expressions. A missing field is
// nil.
func (o *object) template(field string) *template {
	v, ok := o.take(field)
	if !ok {
		return nil
	}
	return compileTemplate(v, o.at(field), func(path, message string) {
		o.problems.add(CodeInvalidExpression, path, "%s", message)
	})
}

// scalar is template for a field that is an expression or a constant of one
// kind.
func (o *object) scalar(field, kind string) *template {
	v, ok := o.fields[field]
	if ok {
		s, isString := v.(string)
		_, isExpr := isExpression(s)
		if !isExpr && kindOf(v) != kind || isString && strings.HasPrefix(s, "{%") && !isExpr {
			o.bad(field, "expected %s or a JSONata expression \"{%% … %%}\", got %s", kind, kindOf(v))
		}
	}
	return o.template(field)
}

// kindOf names the JSON type of v.
func kindOf(v any) string {
	switch v := v.(type) {
	case string:
		return "a string"
	case float64:
		return "a number"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		if v == nil || v == null {
			return "null"
		}
		return "an unknown value"
	}
}

// typeOf returns AWS's name for the JSON type of v in errors.
func typeOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		return "null"
	}
}
