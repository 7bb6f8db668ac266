package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go/document"
)

// writeOutput appends the output of a call. in is nil for a REST service.
func (c jsonCodec) writeOutput(b *bytes.Buffer, in *call, v reflect.Value) error {
	return c.writeMembers(b, in, v, true)
}

// write appends v in the form of AWS: without nil members, times in epoch seconds, blobs
// in base64.
func (c jsonCodec) write(b *bytes.Buffer, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			b.WriteString("null")
			return nil
		}
		return c.write(b, v.Elem())
	case reflect.Interface:
		return c.writeInterface(b, v)
	case reflect.Struct:
		return c.writeStruct(b, v)
	case reflect.Slice:
		return c.writeSlice(b, v)
	case reflect.Map:
		return c.writeMap(b, v)
	case reflect.String:
		return writeJSONString(b, v.String())
	case reflect.Bool:
		b.WriteString(strconv.FormatBool(v.Bool()))
		return nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
		return nil
	case reflect.Float32, reflect.Float64:
		b.WriteString(strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits()))
		return nil
	}
	return fmt.Errorf("no JSON form for a %s", v.Type())
}

func (c jsonCodec) writeStruct(b *bytes.Buffer, v reflect.Value) error {
	if v.Type() == timeType {
		t, ok := v.Interface().(time.Time)
		if !ok {
			return fmt.Errorf("%s is not a time", v.Type())
		}
		b.WriteString(epochSeconds(t))
		return nil
	}
	return c.writeMembers(b, nil, v, false)
}

func (c jsonCodec) writeMembers(b *bytes.Buffer, in *call, v reflect.Value, top bool) error {
	b.WriteByte('{')
	first := true
	for _, f := range members(v.Type()) {
		value := v.FieldByIndex(f.Index)
		if !sends(in, v.Type(), f, value, top) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		fmt.Fprintf(b, "%q:", c.name(v.Type(), f.Name))
		if err := c.write(b, value); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	b.WriteByte('}')
	return nil
}

func (c jsonCodec) writeSlice(b *bytes.Buffer, v reflect.Value) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return writeJSONString(b, base64.StdEncoding.EncodeToString(v.Bytes()))
	}
	b.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := c.write(b, v.Index(i)); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

func (c jsonCodec) writeMap(b *bytes.Buffer, v reflect.Value) error {
	keys := v.MapKeys()
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	b.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeJSONString(b, key.String()); err != nil {
			return err
		}
		b.WriteByte(':')
		if err := c.write(b, v.MapIndex(key)); err != nil {
			return fmt.Errorf("%s: %w", key.String(), err)
		}
	}
	b.WriteByte('}')
	return nil
}

// writeInterface writes a document unchanged, and a union as an object whose only member
// names the variant: the SDK's type NodeTypeMemberInstance becomes {"Instance": value}.
func (c jsonCodec) writeInterface(b *bytes.Buffer, v reflect.Value) error {
	if v.IsNil() {
		b.WriteString("null")
		return nil
	}
	if doc, ok := v.Interface().(document.Marshaler); ok {
		text, err := doc.MarshalSmithyDocument()
		if err != nil {
			return fmt.Errorf("document: %w", err)
		}
		b.Write(text)
		return nil
	}
	variant := reflect.Indirect(v.Elem())
	_, name, isUnion := strings.Cut(variant.Type().Name(), "Member")
	if !isUnion || variant.Kind() != reflect.Struct || !variant.FieldByName("Value").IsValid() {
		return fmt.Errorf("no JSON form for a %s", variant.Type())
	}
	if c.lowerCamel {
		name = lowerFirst(name)
	}
	fmt.Fprintf(b, "{%q:", name)
	if err := c.write(b, variant.FieldByName("Value")); err != nil {
		return err
	}
	b.WriteByte('}')
	return nil
}

func writeJSONString(b *bytes.Buffer, s string) error {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		return fmt.Errorf("string: %w", err)
	}
	b.Truncate(b.Len() - 1) // Encode ends with a newline
	return nil
}

// epochSeconds formats a time with milliseconds, as AWS does.
func epochSeconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', -1, 64)
}
