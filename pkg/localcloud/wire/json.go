package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// jsonCodec is awsJson 1.0 and 1.1. The two differ only in the content type; an answer
// has that of its request.
type jsonCodec struct {
	// lowerCamel means that members begin with a small letter on the wire.
	lowerCamel bool
}

// name returns a member's name on the wire.
func (c jsonCodec) name(shape reflect.Type, member string) string {
	if c.lowerCamel && shapeName(shape) != ecrTag || lowerCamelShapes[shape.Name()] {
		return lowerFirst(member)
	}
	return member
}

// lowerCamelServices are the awsJson services whose member names begin with a
// small letter; the SDK capitalises them in its structs.
var lowerCamelServices = map[string]bool{"states": true, "ecr": true, "ecs": true, "logs": true}

// ecrTag is the one shape of ECR whose members begin with a capital letter: Key and Value.
const ecrTag = "ecr.Tag"

// lowerCamelShapes are EventBridge's ECS parameters: they begin with small letters as in
// ECS, although the other members of EventBridge do not.
var lowerCamelShapes = map[string]bool{
	"CapacityProviderStrategyItem": true,
	"NetworkConfiguration":         true,
	"PlacementConstraint":          true,
	"PlacementStrategy":            true,
}

func (c jsonCodec) operation(in *call) (string, error) {
	target := in.request.Header.Get("X-Amz-Target")
	if name, ok := strings.CutPrefix(target, in.service.TargetPrefix+"."); ok {
		return name, nil
	}
	return target, nil
}

func (c jsonCodec) decoder(in *call) func(any) error {
	return func(input any) error {
		body := in.body
		target, err := decodeTarget(input)
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(body)) == 0 {
			return nil
		}
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			return Errorf("SerializationException", "the request body is not JSON: %v", err)
		}
		if _, err := decoder.Token(); err != io.EOF {
			return Errorf("SerializationException", "the request body has text after its JSON value")
		}
		if err := fillJSON(target, value, ""); err != nil {
			return Errorf("SerializationException", "%v", err)
		}
		return nil
	}
}

// fillJSON sets v from the decoded JSON of the request. It ignores the case of members'
// names, because the wire has "stateMachineArn" where the SDK has StateMachineArn. Like
// AWS, it ignores unknown members.
func fillJSON(v reflect.Value, value any, path string) error {
	if value == nil {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		fresh := reflect.New(v.Type().Elem())
		if err := fillJSON(fresh.Elem(), value, path); err != nil {
			return err
		}
		v.Set(fresh)
		return nil
	}
	if v.Type() == timeType {
		t, err := jsonTime(value)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		v.Set(reflect.ValueOf(t))
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return fillJSONStruct(v, value, path)
	case reflect.Slice:
		return fillJSONSlice(v, value, path)
	case reflect.Map:
		return fillJSONMap(v, value, path)
	}
	return fillJSONScalar(v, value, path)
}

func fillJSONStruct(v reflect.Value, value any, path string) error {
	object, ok := value.(map[string]any)
	if !ok {
		return mismatch(path, "an object", value)
	}
	folded := make(map[string]any, len(object))
	for name, member := range object {
		folded[strings.ToLower(name)] = member
	}
	for _, f := range members(v.Type()) {
		if member, present := folded[strings.ToLower(f.Name)]; present {
			if err := fillJSON(v.FieldByIndex(f.Index), member, join(path, f.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func fillJSONSlice(v reflect.Value, value any, path string) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		text, ok := value.(string)
		if !ok {
			return mismatch(path, "a base64 string", value)
		}
		blob, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("%s: not base64: %w", path, err)
		}
		v.SetBytes(blob)
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		return mismatch(path, "a list", value)
	}
	slice := reflect.MakeSlice(v.Type(), len(list), len(list))
	for i, element := range list {
		if err := fillJSON(slice.Index(i), element, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	v.Set(slice)
	return nil
}

func fillJSONMap(v reflect.Value, value any, path string) error {
	object, ok := value.(map[string]any)
	if !ok {
		return mismatch(path, "an object", value)
	}
	result := reflect.MakeMapWithSize(v.Type(), len(object))
	for key, element := range object {
		e := reflect.New(v.Type().Elem()).Elem()
		if err := fillJSON(e, element, join(path, key)); err != nil {
			return err
		}
		result.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), e)
	}
	v.Set(result)
	return nil
}

func fillJSONScalar(v reflect.Value, value any, path string) error {
	switch value := value.(type) {
	case string:
		if v.Kind() == reflect.String {
			v.SetString(value)
			return nil
		}
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(value)
			return nil
		}
	case json.Number:
		return setNumber(v, value.String(), path)
	}
	return mismatch(path, "a "+v.Type().String(), value)
}

// setNumber sets an integer or a float from decimal text.
func setNumber(v reflect.Value, text, path string) error {
	switch v.Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%s: %q is not an integer of %d bits", path, text, v.Type().Bits())
		}
		v.SetInt(n)
		return nil
	case reflect.Float32, reflect.Float64:
		n, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return fmt.Errorf("%s: %q is not a number", path, text)
		}
		v.SetFloat(n)
		return nil
	}
	return fmt.Errorf("%s: a number instead of a %s", path, v.Type())
}

func jsonTime(value any) (time.Time, error) {
	switch value := value.(type) {
	case json.Number:
		seconds, err := value.Float64()
		if err != nil {
			return time.Time{}, fmt.Errorf("%q is not a time in epoch seconds", value)
		}
		return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), nil
	case string:
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return time.Time{}, fmt.Errorf("%q is not a time: epoch seconds are expected", value)
		}
		return t.UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%v is not a time: epoch seconds are expected", value)
}

func mismatch(path, want string, value any) error {
	if path == "" {
		path = "the request"
	}
	got := "an object"
	switch value.(type) {
	case string:
		got = "a string"
	case bool:
		got = "a boolean"
	case json.Number:
		got = "a number"
	case []any:
		got = "a list"
	}
	return fmt.Errorf("%s: %s instead of %s", path, got, want)
}

func (c jsonCodec) encode(in *call, output reflect.Value) ([]byte, error) {
	var body bytes.Buffer
	if err := c.writeOutput(&body, in, output); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

func (c jsonCodec) encodeError(_ *call, e apiError) []byte {
	// Some services name the member "message" and some "Message"; clients read both.
	body, err := json.Marshal(map[string]string{"__type": e.code, "message": e.message, "Message": e.message})
	if err != nil {
		return []byte(`{"__type":"InternalFailure"}`)
	}
	return body
}

func (c jsonCodec) contentType(in *call) string {
	if strings.HasPrefix(in.request.Header.Get("Content-Type"), "application/x-amz-json-1.0") {
		return "application/x-amz-json-1.0"
	}
	return "application/x-amz-json-1.1"
}
