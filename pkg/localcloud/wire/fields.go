package wire

import (
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var timeType = reflect.TypeFor[time.Time]()

// members returns the fields of an SDK struct that are sent: the exported ones, without
// ResultMetadata, which only the SDK's middleware fills.
func members(t reflect.Type) []reflect.StructField {
	fields := make([]reflect.StructField, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		if f.IsExported() && f.Name != "ResultMetadata" {
			fields = append(fields, f)
		}
	}
	return fields
}

// absent reports whether a member is left out: a nil pointer, slice, map or interface,
// or an empty enum. Plain numbers and booleans are never left out.
func absent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return v.IsNil()
	case reflect.String:
		return v.Len() == 0
	}
	return false
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[n:]
}

// decodeTarget checks the value that an Operation passes to decode.
func decodeTarget(input any) (reflect.Value, error) {
	v := reflect.ValueOf(input)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, fmt.Errorf("decode needs a pointer to an input struct, not %T", input)
	}
	return v.Elem(), nil
}

// join returns the path of a member in a request, for error messages.
func join(path, name string) string {
	return strings.TrimPrefix(path+"."+name, ".")
}
