package asl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// MaxPayload is the maximum size of an input, an output, the arguments or the
// result of a state, in bytes of UTF-8 JSON.
const MaxPayload = 256 * 1024

// null is JSON's null in this package. For the JSONata engine, a plain nil means
// a value that does not exist.
var null any = (*any)(nil)

// decode reads one JSON value.
func decode(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is more after the JSON value, at byte %d", d.InputOffset())
	}
	return markNulls(v), nil
}

func markNulls(v any) any {
	switch v := v.(type) {
	case nil:
		return null
	case float64:
		return v + 0 // -0 is 0, as recordings of AWS show
	case map[string]any:
		for k, member := range v {
			v[k] = markNulls(member)
		}
	case []any:
		for i, element := range v {
			v[i] = markNulls(element)
		}
	}
	return v
}

// encode writes v as compact JSON, with sorted keys and without the escapes
// that encoding/json makes for HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// payload encodes v, and refuses a value that is too large.
func payload(what string, v any) ([]byte, error) {
	raw, err := encode(v)
	if err != nil {
		return nil, &Error{Name: ErrRuntime, Cause: fmt.Sprintf("%s is not JSON: %v", what, err)}
	}
	if len(raw) > MaxPayload {
		return nil, &Error{
			Name:  ErrDataLimitExceeded,
			Cause: fmt.Sprintf("%s has %d bytes; the maximum is %d. Pass large data through S3.", what, len(raw), MaxPayload),
		}
	}
	return raw, nil
}
