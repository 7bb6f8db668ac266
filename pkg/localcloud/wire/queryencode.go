package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"time"
)

func (c queryCodec) writeMembers(b *bytes.Buffer, in *call, v reflect.Value, top bool) error {
	for _, f := range members(v.Type()) {
		value := v.FieldByIndex(f.Index)
		if !sends(in, v.Type(), f, value, top) {
			continue
		}
		name, item := f.Name, "member"
		if c.ec2 {
			name, item = ec2ResponseName(v.Type().Name(), f.Name)
		}
		if err := c.writeMember(b, name, item, value); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return nil
}

// writeMember writes one element. item is the name of a list's elements.
func (c queryCodec) writeMember(b *bytes.Buffer, name, item string, v reflect.Value) error {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if t, ok := v.Interface().(time.Time); ok {
		writeElement(b, name, t.UTC().Format("2006-01-02T15:04:05.000Z"))
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		fmt.Fprintf(b, "<%s>", name)
		if err := c.writeMembers(b, nil, v, false); err != nil {
			return err
		}
		fmt.Fprintf(b, "</%s>", name)
	case reflect.Slice:
		return c.writeList(b, name, item, v)
	case reflect.Map:
		return c.writeMap(b, name, v)
	case reflect.String:
		writeElement(b, name, v.String())
	case reflect.Bool:
		writeElement(b, name, strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int32, reflect.Int64:
		writeElement(b, name, strconv.FormatInt(v.Int(), 10))
	case reflect.Float32, reflect.Float64:
		writeElement(b, name, strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits()))
	default:
		return fmt.Errorf("no XML form for a %s", v.Type())
	}
	return nil
}

func (c queryCodec) writeList(b *bytes.Buffer, name, item string, v reflect.Value) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		writeElement(b, name, base64.StdEncoding.EncodeToString(v.Bytes()))
		return nil
	}
	fmt.Fprintf(b, "<%s>", name)
	for i := range v.Len() {
		if err := c.writeMember(b, item, item, v.Index(i)); err != nil {
			return err
		}
	}
	fmt.Fprintf(b, "</%s>", name)
	return nil
}

func (c queryCodec) writeMap(b *bytes.Buffer, name string, v reflect.Value) error {
	keys := v.MapKeys()
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	fmt.Fprintf(b, "<%s>", name)
	for _, key := range keys {
		b.WriteString("<entry>")
		writeElement(b, "key", key.String())
		if err := c.writeMember(b, "value", "member", v.MapIndex(key)); err != nil {
			return err
		}
		b.WriteString("</entry>")
	}
	fmt.Fprintf(b, "</%s>", name)
	return nil
}
