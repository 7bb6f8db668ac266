package strictyaml

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// rules holds the requirements of a field's jsonschema tag.
type rules struct {
	required             bool
	enum                 []string
	minimum, maximum     *int64
	minLength, maxLength int
	minItems, maxItems   int
	pattern              *regexp.Regexp
	hint                 string // tag `hint`: what is allowed, in words
}

type field struct {
	index []int
	rules
}

// item returns the rules for the elements of a list.
func (r rules) item() rules {
	return rules{
		enum: r.enum, minimum: r.minimum, maximum: r.maximum,
		minLength: r.minLength, maxLength: r.maxLength, pattern: r.pattern, hint: r.hint,
	}
}

// allowed describes what the rules accept, or returns "" if they accept
// anything.
func (r rules) allowed() string {
	switch {
	case len(r.enum) > 0:
		return strings.Join(r.enum, ", ")
	case r.minimum != nil && r.maximum != nil:
		return fmt.Sprintf("%d to %d", *r.minimum, *r.maximum)
	case r.minimum != nil:
		return fmt.Sprintf("at least %d", *r.minimum)
	case r.maximum != nil:
		return fmt.Sprintf("at most %d", *r.maximum)
	case r.pattern != nil:
		return r.patternHint()
	case r.maxLength > 0:
		return fmt.Sprintf("%d to %d characters", r.minLength, r.maxLength)
	}
	return r.hint
}

func (r rules) patternHint() string {
	if r.hint != "" {
		return r.hint
	}
	if r.pattern != nil {
		return r.pattern.String()
	}
	return ""
}

// fieldNames returns the keys of a struct, in the order of its fields.
func fieldNames(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		if key := keyOf(t.Field(i)); key != "" {
			out = append(out, key)
		}
	}
	return out
}

func fieldsOf(t reflect.Type) map[string]field {
	out := map[string]field{}
	for i := range t.NumField() {
		f := t.Field(i)
		if key := keyOf(f); key != "" {
			out[key] = field{index: f.Index, rules: parseRules(f)}
		}
	}
	return out
}

func keyOf(f reflect.StructField) string {
	if !f.IsExported() {
		return ""
	}
	key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if key == "-" {
		return ""
	}
	return key
}

// parseRules reads the tag like github.com/invopop/jsonschema. An invalid tag is
// a defect of the program, which any test finds, so it panics.
func parseRules(f reflect.StructField) rules {
	r := rules{hint: f.Tag.Get("hint")}
	for _, part := range splitTag(f.Tag.Get("jsonschema")) {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "required":
			r.required = true
		case "enum":
			r.enum = append(r.enum, value)
		case "minimum":
			r.minimum = new(mustInt(f, value))
		case "maximum":
			r.maximum = new(mustInt(f, value))
		case "minLength":
			r.minLength = int(mustInt(f, value))
		case "maxLength":
			r.maxLength = int(mustInt(f, value))
		case "minItems":
			r.minItems = int(mustInt(f, value))
		case "maxItems":
			r.maxItems = int(mustInt(f, value))
		case "pattern":
			r.pattern = regexp.MustCompile(value)
		}
	}
	return r
}

func mustInt(f reflect.StructField, s string) int64 {
	i, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("strictyaml: tag of %s: %v", f.Name, err))
	}
	return i
}

// splitTag splits at commas without a backslash before them.
func splitTag(tag string) []string {
	var out []string
	var b strings.Builder
	for i := 0; i < len(tag); i++ {
		switch {
		case tag[i] == '\\' && i+1 < len(tag) && tag[i+1] == ',':
			b.WriteByte(',')
			i++
		case tag[i] == ',':
			out = append(out, b.String())
			b.Reset()
		default:
			b.WriteByte(tag[i])
		}
	}
	return append(out, b.String())
}
