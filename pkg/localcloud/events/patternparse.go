package events

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// mostAlternatives is how many combinations the $or of a pattern may have.
const mostAlternatives = 1000

// reservedInOr are the words that no field may have inside $or; with one of
// them, $or is a field's name like any other.
var reservedInOr = []string{
	"exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard", "numeric", "cidr",
	"=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case",
	"date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range",
	"ip-address-in-range", "ip-address-not-in-range",
}

// ParsePattern compiles a pattern. Its error is worded as EventBridge words the
// reason, with the place: line and column behind what was read last.
func ParsePattern(text string) (Pattern, error) {
	p := patternParser{text: text, decoder: json.NewDecoder(strings.NewReader(text))}
	p.decoder.UseNumber()
	first, err := p.next()
	if err != nil || first != json.Delim('{') {
		return Pattern{}, p.failf("Filter is not an object")
	}
	alternatives, err := p.object([]conjunction{{}}, "")
	if err != nil {
		return Pattern{}, err
	}
	if err := checkComplexity(p.wildcards); err != nil {
		return Pattern{}, err
	}
	return Pattern{alternatives: alternatives}, nil
}

type patternParser struct {
	text    string
	decoder *json.Decoder
	// wildcards are the wildcard filters by the field's path.
	wildcards map[string][]string
}

// next returns the next token: a json.Delim, string, json.Number, bool or nil.
func (p *patternParser) next() (json.Token, error) {
	token, err := p.decoder.Token()
	if err != nil {
		return nil, p.failf("%s", sentence(err))
	}
	return token, nil
}

func sentence(err error) string {
	text := strings.TrimPrefix(err.Error(), "invalid character ")
	if text == "EOF" || text == "unexpected EOF" || text == "unexpected end of JSON input" {
		return "Unexpected end-of-input: the JSON is incomplete"
	}
	if text != err.Error() {
		return "Unexpected character (" + text + ")"
	}
	return text
}

// sourceLength is how much of a pattern an error quotes, in characters.
const sourceLength = 500

func (p *patternParser) failf(format string, args ...any) error {
	offset := min(int(p.decoder.InputOffset()), len(p.text))
	before := p.text[:offset]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndex(before, "\n")+1:]) + 1
	source := `"` + p.text + `"`
	if runes := []rune(p.text); len(runes) > sourceLength {
		source = fmt.Sprintf(`"%s"[truncated %d chars]`, string(runes[:sourceLength]), len(runes)-sourceLength)
	}
	return refusef("%s\n at [Source: (String)%s; line: %d, column: %d]", fmt.Sprintf(format, args...), source, line, column)
}

// object reads the members behind a "{" and gives every alternative each of
// them. It returns the alternatives, which $or multiplies.
func (p *patternParser) object(rules []conjunction, path string) ([]conjunction, error) {
	empty := true
	for {
		name, end, err := p.member()
		if err != nil {
			return nil, err
		}
		if end {
			break
		}
		empty = false
		if rules, err = p.field(rules, path, name); err != nil {
			return nil, err
		}
	}
	if empty {
		return nil, p.failf("Empty objects are not allowed")
	}
	return rules, nil
}

// member reads the name of an object's next member, or its end.
func (p *patternParser) member() (name string, end bool, err error) {
	token, err := p.next()
	if err != nil {
		return "", false, err
	}
	if token == json.Delim('}') {
		return "", true, nil
	}
	name, ok := token.(string)
	if !ok {
		return "", false, p.failf("a name was expected")
	}
	return name, false, nil
}

func (p *patternParser) field(rules []conjunction, path, name string) ([]conjunction, error) {
	if name == "$or" && p.isOr() {
		return p.or(rules, path)
	}
	token, err := p.next()
	if err != nil {
		return nil, err
	}
	at := joinPath(path, name)
	switch token {
	case json.Delim('{'):
		return p.object(rules, at)
	case json.Delim('['):
		one, err := p.leaf(at)
		if err != nil {
			return nil, err
		}
		for _, rule := range rules {
			rule[at] = one // the last one wins, as in AWS's matcher
		}
		return rules, nil
	}
	return nil, p.failf("%q must be an object or an array", name)
}

// isOr says whether the value that follows makes $or an operator: an array of
// two or more objects without reserved names.
func (p *patternParser) isOr() bool {
	rest := strings.TrimLeft(p.text[p.decoder.InputOffset():], " \t\r\n")
	rest, ok := strings.CutPrefix(rest, ":")
	if !ok {
		return false
	}
	var list []map[string]json.RawMessage
	if err := json.NewDecoder(strings.NewReader(rest)).Decode(&list); err != nil || len(list) < 2 {
		return false
	}
	for _, object := range list {
		if object == nil {
			return false
		}
		for _, reserved := range reservedInOr {
			if _, used := object[reserved]; used {
				return false
			}
		}
	}
	return true
}

func (p *patternParser) or(rules []conjunction, path string) ([]conjunction, error) {
	if _, err := p.next(); err != nil { // the "[" that isOr saw
		return nil, err
	}
	var out []conjunction
	for {
		token, err := p.next()
		if err != nil {
			return nil, err
		}
		if token == json.Delim(']') {
			return out, nil
		}
		branch := make([]conjunction, len(rules))
		for i, rule := range rules {
			branch[i] = maps.Clone(rule)
		}
		if branch, err = p.object(branch, path); err != nil {
			return nil, err
		}
		if out = append(out, branch...); len(out) > mostAlternatives {
			return nil, p.failf("The $or of the pattern has more than %d combinations", mostAlternatives)
		}
	}
}

// leaf reads what may stand in the array behind a field.
func (p *patternParser) leaf(path string) (leaf, error) {
	var out leaf
	for {
		token, err := p.next()
		if err != nil {
			return leaf{}, err
		}
		switch v := token.(type) {
		case json.Delim:
			switch v {
			case '{':
				holds, absent, err := p.filter(path)
				if err != nil {
					return leaf{}, err
				}
				if absent {
					out.absent = true
				} else {
					out.tests = append(out.tests, holds)
				}
				continue
			case ']':
				if len(out.tests) == 0 && !out.absent {
					return leaf{}, p.failf("Empty arrays are not allowed")
				}
				return out, nil
			}
			return leaf{}, p.failf("Match value must be String, number, true, false, or null")
		case string:
			out.tests = append(out.tests, exactString(v))
		case json.Number:
			number, err := v.Float64()
			if err != nil {
				return leaf{}, p.failf("Match value must be String, number, true, false, or null")
			}
			out.tests = append(out.tests, equals(number))
		default:
			out.tests = append(out.tests, equals(v))
		}
	}
}

// filter reads a match expression behind its "{".
func (p *patternParser) filter(path string) (holds test, absent bool, err error) {
	name, end, err := p.member()
	if err != nil {
		return nil, false, err
	}
	if end {
		return nil, false, p.failf("Match expression name not found")
	}
	switch name {
	case "exactly", "prefix", "suffix", "equals-ignore-case", "wildcard", "cidr":
		holds, err = p.stringFilter(name, path)
	case "numeric":
		holds, err = p.numeric()
		if err == nil {
			err = p.end("Too many elements in numeric expression")
		}
		return holds, false, err
	case "anything-but":
		holds, err = p.anythingBut(path)
		return holds, false, err
	case "exists":
		token, tokenErr := p.next()
		if tokenErr != nil {
			return nil, false, tokenErr
		}
		want, ok := token.(bool)
		if !ok {
			return nil, false, p.failf("exists match pattern must be either true or false.")
		}
		absent = !want
		holds = func(any) bool { return true }
	default:
		return nil, false, p.failf("Unrecognized match type %s", name)
	}
	if err != nil {
		return nil, false, err
	}
	return holds, absent, p.end("Only one key allowed in match expression")
}

// end reads the "}" of an expression.
func (p *patternParser) end(otherwise string) error {
	token, err := p.next()
	if err != nil {
		return err
	}
	if token != json.Delim('}') {
		return p.failf("%s", otherwise)
	}
	return nil
}

// stringFilter reads a filter that takes one string; prefix and suffix also take
// {"equals-ignore-case": string}.
func (p *patternParser) stringFilter(name, path string) (test, error) {
	token, err := p.next()
	if err != nil {
		return nil, err
	}
	if token == json.Delim('{') && (name == "prefix" || name == "suffix") {
		inner, end, err := p.member()
		if err != nil {
			return nil, err
		}
		title := strings.ToUpper(name[:1]) + name[1:]
		if end {
			return nil, p.failf("%s expression name not found", title)
		}
		if inner != "equals-ignore-case" {
			return nil, p.failf("Unsupported %s pattern: %s", name, inner)
		}
		if token, err = p.next(); err != nil {
			return nil, err
		}
		want, ok := token.(string)
		if !ok {
			return nil, p.failf("equals-ignore-case match pattern must be a string")
		}
		return onString(affix(name, want, true)), p.end("Only one key allowed in match expression")
	}
	want, ok := token.(string)
	if !ok {
		switch name {
		case "exactly":
			name = "exact"
		case "cidr":
			name = "prefix" // so says AWS
		}
		return nil, p.failf("%s match pattern must be a string", name)
	}
	switch name {
	case "exactly":
		return equals(want), nil
	case "equals-ignore-case":
		return onString(func(text string) bool { return strings.EqualFold(text, want) }), nil
	case "cidr":
		return parseCIDR(want)
	case "wildcard":
		return p.wildcard(want, path)
	}
	return onString(affix(name, want, false)), nil
}

func (p *patternParser) wildcard(want, path string) (test, error) {
	parts, err := wildcardParts(want)
	if err != nil {
		return nil, p.failf("%s", err)
	}
	if p.wildcards == nil {
		p.wildcards = map[string][]string{}
	}
	if !slices.Contains(p.wildcards[path], want) {
		p.wildcards[path] = append(p.wildcards[path], want)
	}
	return onString(func(text string) bool { return matchWildcard(parts, text) }), nil
}

// numeric reads ["<", n] or [">", n, "<=", m], behind which the object ends.
func (p *patternParser) numeric() (test, error) {
	token, err := p.next()
	if err != nil {
		return nil, err
	}
	if token != json.Delim('[') {
		return nil, p.failf("Value of numeric must be an array.")
	}
	if token, err = p.next(); err != nil {
		return nil, err
	}
	operator, ok := token.(string)
	if !ok {
		return nil, p.failf("Invalid member in numeric match: %s", tokenText(token))
	}
	compare, known := comparisons[operator]
	if !known {
		return nil, p.failf("Unrecognized numeric range operator: %s", operator)
	}
	word := operator
	if word == "=" {
		word = "equals"
	}
	bound, err := p.number(word)
	if err != nil {
		return nil, err
	}
	first := func(n float64) bool { return compare(n, bound) }
	if token, err = p.next(); err != nil {
		return nil, err
	}
	if token == json.Delim(']') {
		return onNumber(first), nil
	}
	if operator != ">" && operator != ">=" {
		return nil, p.failf("Too many elements in numeric expression")
	}
	upper, ok := token.(string)
	if !ok {
		return nil, p.failf("Bad value in numeric range: %s", tokenText(token))
	}
	if upper != "<" && upper != "<=" {
		return nil, p.failf("Bad numeric range operator: %s", upper)
	}
	top, err := p.number(upper)
	if err != nil {
		return nil, err
	}
	if token, err = p.next(); err != nil {
		return nil, err
	}
	if token != json.Delim(']') {
		return nil, p.failf("Too many terms in numeric range expression")
	}
	if bound >= top {
		return nil, p.failf("Bottom must be less than top")
	}
	within := comparisons[upper]
	return onNumber(func(n float64) bool { return first(n) && within(n, top) }), nil
}

func tokenText(token json.Token) string {
	if token == nil {
		return "null"
	}
	return fmt.Sprint(token)
}

// number reads a number that can be compared.
func (p *patternParser) number(operator string) (float64, error) {
	token, err := p.next()
	if err != nil {
		return 0, err
	}
	literal, ok := token.(json.Number)
	if !ok {
		return 0, p.failf("Value of %s must be numeric", operator)
	}
	return p.comparable(literal)
}

func (p *patternParser) comparable(literal json.Number) (float64, error) {
	number, err := literal.Float64()
	if err != nil || number < -mostNumber || number > mostNumber {
		return 0, p.failf("Value must be between -5.0E9 and 5.0E9, inclusive")
	}
	return number, nil
}

// anythingBut reads what does not match. An absent field does not match it.
func (p *patternParser) anythingBut(path string) (test, error) {
	token, err := p.next()
	if err != nil {
		return nil, err
	}
	kind := ""
	if token == json.Delim('{') {
		var end bool
		if kind, end, err = p.member(); err != nil {
			return nil, err
		}
		if end {
			return nil, p.failf("Anything-But expression name not found")
		}
		if !slices.Contains([]string{"equals-ignore-case", "prefix", "suffix", "wildcard"}, kind) {
			return nil, p.failf("Unsupported anything-but pattern: %s", kind)
		}
		if token, err = p.next(); err != nil {
			return nil, err
		}
	}
	values := []json.Token{token}
	switch token.(type) {
	case string, json.Number:
	default:
		if token != json.Delim('[') {
			return nil, p.failf("Value of anything-but must be an array or single string/number value.")
		}
		if values, err = p.list(); err != nil {
			return nil, err
		}
	}
	excluded, err := p.excluded(kind, values, path)
	if err != nil {
		return nil, err
	}
	depth := 1
	if kind != "" {
		depth = 2
	}
	for range depth {
		if err := p.end("Too many elements in numeric expression"); err != nil { // AWS's wording
			return nil, err
		}
	}
	return func(value any) bool {
		return !slices.ContainsFunc(excluded, func(holds test) bool { return holds(value) })
	}, nil
}

// list reads the values of an array behind its "[".
func (p *patternParser) list() ([]json.Token, error) {
	var out []json.Token
	for {
		token, err := p.next()
		if err != nil {
			return nil, err
		}
		if token == json.Delim(']') {
			return out, nil
		}
		out = append(out, token)
		if _, nested := token.(json.Delim); nested {
			return out, nil // the caller refuses it
		}
	}
}

func (p *patternParser) excluded(kind string, values []json.Token, path string) ([]test, error) {
	var out []test
	texts := 0
	for _, value := range values {
		text, isText := value.(string)
		if isText {
			texts++
		}
		switch kind {
		case "":
			if isText {
				out = append(out, equals(text))
				continue
			}
			literal, ok := value.(json.Number)
			if !ok {
				return nil, p.failf("Inside anything but list, start|null|boolean is not supported.")
			}
			number, err := p.comparable(literal)
			if err != nil {
				return nil, err
			}
			out = append(out, equals(number))
		case "equals-ignore-case":
			if !isText {
				return nil, p.failf("Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.")
			}
			out = append(out, onString(func(have string) bool { return strings.EqualFold(have, text) }))
		case "wildcard":
			if !isText {
				return nil, p.failf("wildcard match pattern must be a string")
			}
			holds, err := p.wildcard(text, path)
			if err != nil {
				return nil, err
			}
			out = append(out, holds)
		default:
			if !isText {
				return nil, p.failf("prefix/suffix match pattern must be a string")
			}
			if text == "" {
				return nil, p.failf("Null prefix/suffix not allowed")
			}
			out = append(out, onString(affix(kind, text, false)))
		}
	}
	if kind == "" && (len(out) == 0 || texts != 0 && texts != len(out)) {
		return nil, p.failf("Inside anything but list, either all values are number or string, mixed type is not supported")
	}
	return out, nil
}
