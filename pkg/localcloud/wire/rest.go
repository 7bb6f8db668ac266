package wire

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"reflect"
)

// restCodec renders only errors, because REST services encode their own answers.
type restCodec struct{ s3 bool }

var errREST = errors.New("a REST service decodes and encodes itself")

func (c restCodec) operation(in *call) (string, error)              { return in.request.Method, nil }
func (c restCodec) decoder(*call) func(any) error                   { return func(any) error { return errREST } }
func (c restCodec) encode(_ *call, _ reflect.Value) ([]byte, error) { return nil, errREST }

func (c restCodec) contentType(*call) string {
	if c.s3 {
		return "application/xml"
	}
	return "application/json"
}

func (c restCodec) encodeError(in *call, e apiError) []byte {
	if !c.s3 {
		body, err := json.Marshal(map[string]string{"message": e.message, "Message": e.message, "Code": e.code})
		if err != nil {
			return []byte(`{"message":"InternalFailure"}`)
		}
		return body
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	b.WriteString("<Error>")
	writeElement(&b, "Code", e.code)
	writeElement(&b, "Message", e.message)
	writeElement(&b, "Resource", in.request.URL.Path)
	writeElement(&b, "RequestId", in.id)
	b.WriteString("</Error>")
	return b.Bytes()
}

// DecodeJSON fills an input struct of the SDK with members by name: those that restJson
// services read from a body, a path and a query. Numbers are json.Number, and times are
// in epoch seconds.
func DecodeJSON(members map[string]any, input any) error {
	target, err := decodeTarget(input)
	if err != nil {
		return err
	}
	return fillJSON(target, members, "")
}

// EncodeJSON writes an output struct of the SDK as restJson services do.
func EncodeJSON(output any) ([]byte, error) {
	v := reflect.ValueOf(output)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	var b bytes.Buffer
	if err := (jsonCodec{}).writeOutput(&b, nil, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
