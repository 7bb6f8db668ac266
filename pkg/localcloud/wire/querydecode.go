package wire

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// fill sets v from the parameters below n. Like AWS, it ignores parameters without a
// member.
func (c queryCodec) fill(v reflect.Value, n *formNode, path string) error {
	if v.Kind() == reflect.Pointer {
		fresh := reflect.New(v.Type().Elem())
		if err := c.fill(fresh.Elem(), n, path); err != nil {
			return err
		}
		v.Set(fresh)
		return nil
	}
	if v.Type() == timeType {
		t, err := time.Parse(time.RFC3339Nano, n.text)
		if err != nil {
			return fmt.Errorf("%s: %q is not an ISO 8601 time", path, n.text)
		}
		v.Set(reflect.ValueOf(t.UTC()))
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return c.fillStruct(v, n, path)
	case reflect.Slice:
		return c.fillSlice(v, n, path)
	case reflect.Map:
		return c.fillMap(v, n, path)
	case reflect.String:
		v.SetString(n.text)
		return nil
	case reflect.Bool:
		b, err := strconv.ParseBool(n.text)
		if err != nil {
			//lint:ignore ST1005 the sentence is EC2's
			return fmt.Errorf("Value (%s) for parameter %s is invalid. Expected: 'true' or 'false'", n.text, path)
		}
		v.SetBool(b)
		return nil
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Float32, reflect.Float64:
		return setNumber(v, n.text, path)
	}
	return fmt.Errorf("%s: no query form for a %s", path, v.Type())
}

func (c queryCodec) fillStruct(v reflect.Value, n *formNode, path string) error {
	for _, f := range members(v.Type()) {
		name := c.requestName(v.Type(), f)
		if child := n.child(name); child != nil {
			if err := c.fill(v.FieldByIndex(f.Index), child, join(path, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c queryCodec) requestName(t reflect.Type, f reflect.StructField) string {
	if c.ec2 {
		return ec2RequestName(t.Name(), f.Name)
	}
	return f.Name
}

func (c queryCodec) fillSlice(v reflect.Value, n *formNode, path string) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		blob, err := base64.StdEncoding.DecodeString(n.text)
		if err != nil {
			return fmt.Errorf("%s: not base64: %w", path, err)
		}
		v.SetBytes(blob)
		return nil
	}
	// Lists are sent as Name.member.1, flattened lists and those of EC2 as Name.1, and
	// an empty list as "Name=".
	if wrapped, ok := n.children["member"]; ok && !c.ec2 {
		n = wrapped
	}
	elements, err := n.elements()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	slice := reflect.MakeSlice(v.Type(), len(elements), len(elements))
	for i, element := range elements {
		if err := c.fill(slice.Index(i), element, fmt.Sprintf("%s.%d", path, i+1)); err != nil {
			return err
		}
	}
	v.Set(slice)
	return nil
}

// fillMap reads Name.entry.1.key and .value. The message attributes of SNS have Name and
// Value instead.
func (c queryCodec) fillMap(v reflect.Value, n *formNode, path string) error {
	if wrapped, ok := n.children["entry"]; ok {
		n = wrapped
	}
	entries, err := n.elements()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	result := reflect.MakeMapWithSize(v.Type(), len(entries))
	for i, entry := range entries {
		key := entry.child("key")
		if key == nil {
			key = entry.child("Name")
		}
		value := entry.child("value")
		if key == nil || value == nil {
			return fmt.Errorf("%s: entry %d lacks its key or value", path, i+1)
		}
		element := reflect.New(v.Type().Elem()).Elem()
		if err := c.fill(element, value, join(path, key.text)); err != nil {
			return err
		}
		result.SetMapIndex(reflect.ValueOf(key.text).Convert(v.Type().Key()), element)
	}
	v.Set(result)
	return nil
}
