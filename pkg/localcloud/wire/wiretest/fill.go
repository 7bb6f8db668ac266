package wiretest

import (
	"fmt"
	"reflect"
	"time"
)

// maxNesting ends the filling of types that contain themselves.
const maxNesting = 12

// Fill sets every member of the struct that target points to, each to another
// value: lists get two elements, maps two entries. Interfaces stay nil.
func Fill(target any) {
	f := filler{}
	f.fill(reflect.ValueOf(target).Elem(), "", 0)
}

type filler struct{ next int64 }

func (f *filler) fill(v reflect.Value, name string, depth int) {
	f.next++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.UnixMilli(1_700_000_000_000 + f.next*1001).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if depth < maxNesting {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), name, depth)
		}
	case reflect.Struct:
		f.fillStruct(v, depth)
	case reflect.Slice:
		f.fillSlice(v, name, depth)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			f.next++
			key := reflect.ValueOf(fmt.Sprintf("key<%d>", f.next)).Convert(v.Type().Key())
			value := reflect.New(v.Type().Elem()).Elem()
			f.fill(value, name, depth+1)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("%s & <é> %d", name, f.next))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(f.next)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(f.next) + 0.5)
	}
}

func (f *filler) fillStruct(v reflect.Value, depth int) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		// EventBridge's EndpointId becomes part of the host name instead.
		if field.IsExported() && field.Name != "ResultMetadata" && field.Name != "EndpointId" {
			f.fill(v.Field(i), field.Name, depth+1)
		}
	}
}

func (f *filler) fillSlice(v reflect.Value, name string, depth int) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes([]byte{0, byte(f.next), 0xff})
		return
	}
	if depth >= maxNesting || v.Type().Elem().Kind() == reflect.Interface {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 2, 2))
	for i := range 2 {
		f.fill(v.Index(i), name, depth+1)
	}
}
