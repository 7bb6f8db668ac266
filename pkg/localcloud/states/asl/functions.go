package asl

import (
	"crypto/md5"  // #nosec G501 -- $hash offers it, as AWS does
	"crypto/sha1" // #nosec G505 -- likewise
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/xiatechs/jsonata-go/jlib"
	"github.com/xiatechs/jsonata-go/jtypes"
)

// randomSource returns the pseudo-random numbers of one execution.
type randomSource func() float64

// function is a JSONata function in Go. Arguments have the types of
// encoding/json, functions are jtypes.Callable, and a missing argument is nil.
type function struct {
	name     string
	min, max int // number of arguments
	call     func(args []any) (any, error)
}

// Name implements jtypes.Callable.
func (f *function) Name() string { return f.name }

// ParamCount implements jtypes.Callable.
func (f *function) ParamCount() int { return f.max }

// Call implements jtypes.Callable.
func (f *function) Call(values []reflect.Value) (reflect.Value, error) {
	if len(values) < f.min || len(values) > f.max {
		return reflect.Value{}, fmt.Errorf("$%s takes %d to %d arguments, not %d", f.name, f.min, f.max, len(values))
	}
	args := make([]any, len(values))
	for i, v := range values {
		if v.IsValid() && v.CanInterface() {
			args[i] = v.Interface()
		}
	}
	result, err := f.call(args)
	if err != nil {
		return reflect.Value{}, fmt.Errorf("$%s: %w", f.name, err)
	}
	if result == nil {
		return reflect.Value{}, nil // undefined
	}
	return reflect.ValueOf(result), nil
}

// refused lists functions of the engine that Step Functions does not have.
var refused = []string{
	"eval", "objmerge", "sjoin", "unescape", "hashmd5", "hash256", "dateTimeDim", "dateTimeDimLite",
	"timeSince", "objectsToDocument", "oneToManyJoin", "accumulatingSlice", "renameKeys",
}

// functions returns the functions that differ from the engine's, by name.
func functions(now time.Time, rnd randomSource, w *work) map[string]any {
	all := map[string]any{}
	add := func(name string, least, most int, call func([]any) (any, error)) {
		all[name] = &function{name: name, min: least, max: most, call: call}
	}
	add("now", 0, 2, func(args []any) (any, error) { return formatNow(now, args) })
	add("millis", 0, 0, func([]any) (any, error) { return float64(now.UnixMilli()), nil })
	add("partition", 2, 2, partition)
	add("range", 3, 3, numberRange)
	add("hash", 2, 2, hash)
	add("random", 0, 1, func(args []any) (any, error) { return random(rnd, args) })
	add("uuid", 0, 0, func([]any) (any, error) { return newUUID(rnd), nil })
	add("parse", 1, 1, parseJSON)
	add("assert", 1, 2, assertion)
	add("error", 0, 1, raise)
	add("keys", 1, 1, keys)
	add("each", 2, 2, each)
	add("spread", 1, 1, spread)
	add(enterFunction, 0, 0, w.enter)
	add(rangeFunction, 2, 2, w.integers)
	for _, name := range refused {
		add(name, 0, math.MaxInt32, func([]any) (any, error) {
			return nil, errors.New("no function of Step Functions has this name (to read JSON, use $parse)")
		})
	}
	return all
}

func formatNow(now time.Time, args []any) (any, error) {
	var picture, zone jtypes.OptionalString
	for i, arg := range args {
		text, ok := arg.(string)
		if !ok {
			return nil, errors.New("picture and time zone are strings")
		}
		[]*jtypes.OptionalString{&picture, &zone}[i].Set(reflect.ValueOf(text))
	}
	return jlib.FromMillis(now.UnixMilli(), picture, zone)
}

// partition cuts a list into lists of a given size; the last may be shorter.
func partition(args []any) (any, error) {
	list, ok := asList(args[0])
	if !ok {
		return nil, nil
	}
	size, ok := asNumber(args[1])
	if !ok || size < 1 {
		return nil, errors.New("the second argument is the size of a part, a number of at least 1")
	}
	parts := []any{}
	for part := range slices.Chunk(list, int(size)) {
		parts = append(parts, part)
	}
	return parts, nil
}

const maxRange = 1000 // as in States.ArrayRange

// numberRange counts from the first number to the second, inclusive.
func numberRange(args []any) (any, error) {
	var n [3]float64
	for i := range n {
		var ok bool
		if n[i], ok = asNumber(args[i]); !ok {
			return nil, errors.New("start, end and step are numbers")
		}
	}
	first, last, step := n[0], n[1], n[2]
	if step == 0 {
		return nil, errors.New("the step is not 0")
	}
	count := int(math.Floor((last-first)/step)) + 1
	if count > maxRange {
		return nil, fmt.Errorf("%d elements; the maximum is %d", count, maxRange)
	}
	list := []any{}
	for i := range max(count, 0) {
		list = append(list, first+float64(i)*step)
	}
	if len(list) == 1 {
		return list[0], nil // a sequence of one is its element, as recordings of AWS show
	}
	return list, nil
}

func hash(args []any) (any, error) {
	text, ok := args[0].(string)
	if !ok {
		return nil, errors.New("the first argument is a string")
	}
	data := []byte(text)
	switch args[1] {
	case "MD5":
		sum := md5.Sum(data) // #nosec G401 -- offered by AWS
		return hex.EncodeToString(sum[:]), nil
	case "SHA-1":
		sum := sha1.Sum(data) // #nosec G401 -- offered by AWS
		return hex.EncodeToString(sum[:]), nil
	case "SHA-256":
		sum := sha256.Sum256(data)
		return hex.EncodeToString(sum[:]), nil
	case "SHA-384":
		sum := sha512.Sum384(data)
		return hex.EncodeToString(sum[:]), nil
	case "SHA-512":
		sum := sha512.Sum512(data)
		return hex.EncodeToString(sum[:]), nil
	default:
		return nil, errors.New("the second argument is MD5, SHA-1, SHA-256, SHA-384 or SHA-512")
	}
}

// random returns a number of at least 0 and less than 1. The same seed gives the
// same number.
func random(rnd randomSource, args []any) (any, error) {
	if len(args) == 0 {
		return rnd(), nil
	}
	seed, ok := asNumber(args[0])
	if !ok {
		return nil, errors.New("the seed is a number")
	}
	return rand.New(rand.NewPCG(math.Float64bits(seed), 0)).Float64(), nil // #nosec G404 -- not for secrets
}

func newUUID(rnd randomSource) string {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(rnd() * 256)
	}
	id[6] = id[6]&0x0f | 0x40 // version 4
	id[8] = id[8]&0x3f | 0x80 // RFC 4122
	return id.String()
}

func parseJSON(args []any) (any, error) {
	if args[0] == nil {
		return nil, nil
	}
	text, ok := args[0].(string)
	if !ok {
		return nil, errors.New("the argument is a string")
	}
	v, err := decode([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("the string is not JSON: %w", err)
	}
	return v, nil
}

func assertion(args []any) (any, error) {
	holds, ok := args[0].(bool)
	if !ok {
		return nil, errors.New("the condition is a boolean")
	}
	if holds {
		return nil, nil
	}
	return nil, message(args[1:], "$assert() statement failed")
}

func raise(args []any) (any, error) { return nil, message(args, "$error() function evaluated") }

func message(args []any, otherwise string) error {
	if len(args) == 1 {
		if text, ok := args[0].(string); ok {
			return errors.New(text)
		}
	}
	return errors.New(otherwise)
}

// keys lists the names in an object, or in all objects of a list, sorted.
func keys(args []any) (any, error) {
	names := map[string]bool{}
	for _, o := range objects(args[0]) {
		for name := range o {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		list = append(list, name)
	}
	return list, nil
}

// each calls a function with every value and its name, sorted by name.
func each(args []any) (any, error) {
	o, isObject := args[0].(map[string]any)
	f, isFunction := args[1].(jtypes.Callable)
	if !isFunction {
		return nil, errors.New("the second argument is a function")
	}
	if !isObject {
		return nil, nil
	}
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		given := []reflect.Value{reflect.ValueOf(o[name]), reflect.ValueOf(name), reflect.ValueOf(o)}
		v, err := f.Call(given[:min(len(given), max(f.ParamCount(), 1))])
		if err != nil {
			return nil, err
		}
		if v.IsValid() && v.CanInterface() {
			list = append(list, v.Interface())
		}
	}
	return list, nil
}

// spread returns an object for each member, sorted by name.
func spread(args []any) (any, error) {
	all := objects(args[0])
	if len(all) == 0 {
		return args[0], nil
	}
	list := []any{}
	for _, o := range all {
		for _, name := range slices.Sorted(maps.Keys(o)) {
			list = append(list, map[string]any{name: o[name]})
		}
	}
	return list, nil
}

func objects(v any) (all []map[string]any) {
	switch v := v.(type) {
	case map[string]any:
		return []map[string]any{v}
	case []any:
		for _, element := range v {
			if o, ok := element.(map[string]any); ok {
				all = append(all, o)
			}
		}
	}
	return all
}

// asList returns v as a list. A single value is a list of one, as in JSONata.
func asList(v any) ([]any, bool) {
	if v == nil {
		return nil, false
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Slice {
		return []any{v}, true
	}
	list := make([]any, rv.Len())
	for i := range list {
		list[i] = rv.Index(i).Interface()
	}
	return list, true
}

func asNumber(v any) (float64, bool) {
	rv := reflect.ValueOf(v)
	switch {
	case !rv.IsValid():
		return 0, false
	case rv.CanFloat():
		return rv.Float(), true
	case rv.CanInt():
		return float64(rv.Int()), true
	default:
		return 0, false
	}
}
