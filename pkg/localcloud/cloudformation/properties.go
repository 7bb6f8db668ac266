package cloudformation

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// document is a policy or another value that a service expects as JSON text. In
// a template it can be an object or a text.
type document string

var documentType = reflect.TypeFor[document]()

// decode fills a struct with properties, and refuses properties without a field.
// Like CloudFormation, it accepts "true" for true, and numbers in quotes.
func decode(v any, into reflect.Value, path string) error {
	t := into.Type()
	if t == documentType {
		if text, ok := v.(string); ok {
			into.SetString(text)
			return nil
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		into.SetString(string(raw))
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(t.Elem())
		into.Set(fresh)
		return decode(v, fresh.Elem(), path)
	case reflect.Interface:
		if v != nil {
			into.Set(reflect.ValueOf(v))
		}
		return nil
	case reflect.Struct:
		return decodeStruct(v, into, path)
	case reflect.Slice:
		return decodeSlice(v, into, path)
	case reflect.Map:
		return decodeMap(v, into, path)
	}
	return decodeScalar(v, into, path)
}

func decodeStruct(v any, into reflect.Value, path string) error {
	members, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: an object is expected, not %s", path, kindOf(v))
	}
	for _, name := range sortedKeys(members) {
		index, ok := fieldOf(into.Type(), name)
		if !ok {
			return fmt.Errorf("%s is not served by the embedded AWS", join(path, name))
		}
		if err := decode(members[name], into.Field(index), join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// fieldOf finds the field of a property, by tag or by field name.
func fieldOf(t reflect.Type, name string) (int, bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		own := f.Name
		if tag := f.Tag.Get("json"); tag != "" {
			own, _, _ = strings.Cut(tag, ",")
		}
		if own == name {
			return i, true
		}
	}
	return 0, false
}

func decodeSlice(v any, into reflect.Value, path string) error {
	list, ok := v.([]any)
	if !ok {
		list = []any{v} // a single value is a list of one
	}
	out := reflect.MakeSlice(into.Type(), len(list), len(list))
	for i, element := range list {
		if err := decode(element, out.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	into.Set(out)
	return nil
}

func decodeMap(v any, into reflect.Value, path string) error {
	members, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: an object is expected, not %s", path, kindOf(v))
	}
	out := reflect.MakeMap(into.Type())
	for _, name := range sortedKeys(members) {
		element := reflect.New(into.Type().Elem()).Elem()
		if err := decode(members[name], element, join(path, name)); err != nil {
			return err
		}
		out.SetMapIndex(reflect.ValueOf(name).Convert(into.Type().Key()), element)
	}
	into.Set(out)
	return nil
}

func decodeScalar(v any, into reflect.Value, path string) error {
	text, err := textOf(v, path)
	if err != nil {
		return fmt.Errorf("%s: a value is expected, not %s", path, kindOf(v))
	}
	switch into.Kind() {
	case reflect.String:
		into.SetString(text)
		return nil
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%s: %q is not true or false", path, text)
		}
		into.SetBool(b)
		return nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, into.Type().Bits())
		if err != nil {
			return fmt.Errorf("%s: %q is not a whole number", path, text)
		}
		into.SetInt(n)
		return nil
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%s: %q is not a number", path, text)
		}
		into.SetFloat(f)
		return nil
	}
	return fmt.Errorf("%s: values of type %s are not supported", path, into.Type())
}

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// checkShape lists the properties of an unevaluated value for which a struct has
// no field.
func checkShape(v any, t reflect.Type, path string) []string {
	if name, argument, isCall := call(v); isCall {
		if list, ok := argument.([]any); ok && name == "Fn::If" && len(list) == 3 {
			return slices.Concat(checkShape(list[1], t, path), checkShape(list[2], t, path))
		}
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var out []string
	switch t.Kind() {
	case reflect.Struct:
		members, _ := v.(map[string]any)
		for _, name := range sortedKeys(members) {
			index, ok := fieldOf(t, name)
			if !ok {
				out = append(out, join(path, name))
				continue
			}
			out = append(out, checkShape(members[name], t.Field(index).Type, join(path, name))...)
		}
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for i, element := range list {
			out = append(out, checkShape(element, t.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return out
}
