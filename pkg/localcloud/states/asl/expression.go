package asl

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	jsonata "github.com/xiatechs/jsonata-go"
	"github.com/xiatechs/jsonata-go/jtypes"
)

// Expression is one compiled JSONata expression, without its "{%" and "%}". It
// is safe for concurrent use.
//
// The engine implements JSONata 1.5.4. This type adds what state machines need
// of Step Functions' 2.0.6: nulls are values, $keys, $each and $spread are
// ordered, $assert exists, and $partition, $range, $hash, $random, $uuid and
// $parse do what AWS documents. $eval and the engine's own extensions are
// refused, as on AWS.
type Expression struct {
	source   string
	compiled jsonata.Expr
}

// engine serialises evaluation, because the library stores the context of a
// running call in the built-in function, which all expressions share.
var engine sync.Mutex

// compileExpression compiles source, the text between "{%" and "%}".
func compileExpression(source string) (*Expression, error) {
	source = strings.TrimSpace(source)
	if len(source) > maxExpression {
		return nil, fmt.Errorf("it has %d bytes, but at most %d are allowed", len(source), maxExpression)
	}
	prepared, err := prepare(source)
	if err != nil {
		return nil, err
	}
	if prepared, err = bounded(prepared); err != nil {
		return nil, err
	}
	compiled, err := jsonata.Compile(prepared)
	if err != nil {
		return nil, err
	}
	return &Expression{source: source, compiled: *compiled}, nil
}

// isExpression reports whether a string in a definition is an expression, and
// returns its source.
func isExpression(s string) (source string, ok bool) {
	inner, ok := strings.CutPrefix(s, "{%")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(inner, "%}")
}

// eval evaluates with variables, including "states". now is the time of $now()
// and $millis(). The error describes the result, such as "returned nothing
// (undefined).".
func (e *Expression) eval(variables map[string]any, now time.Time, rnd randomSource) (result any, err error) {
	engine.Lock()
	defer engine.Unlock()
	defer func() {
		if p := recover(); p != nil { // the engine panics on some type errors
			result, err = nil, threw(fmt.Sprint(p))
		}
	}()

	run := e.compiled // a copy, so that registered functions only last for this evaluation
	w := &work{left: maxWork}
	if err := run.RegisterVars(functions(now, rnd, w)); err != nil {
		return nil, threw(err.Error())
	}
	if err := run.RegisterExts(map[string]jsonata.Extension{"pad": w.pad()}); err != nil {
		return nil, threw(err.Error())
	}
	if err := run.RegisterVars(variables); err != nil {
		return nil, threw(err.Error())
	}
	v, err := run.Eval(nil)
	switch {
	case errors.Is(err, jsonata.ErrUndefined):
		return nil, answered("returned nothing (undefined).")
	case err != nil:
		return nil, threw(err.Error())
	}
	if _, isFunction := jtypes.AsCallable(reflect.ValueOf(v)); isFunction {
		return nil, answered("returned a function, which is not JSON.")
	}
	// Encode to JSON and decode, to convert the engine's own number and list types.
	raw, err := encode(v)
	if err != nil {
		return nil, threw(err.Error())
	}
	return decode(raw)
}

// threw returns AWS's error for a failed evaluation. The reason is the engine's
// text.
func threw(why string) error {
	return fmt.Errorf("threw an error during evaluation. %s", strings.TrimSpace(why))
}

// answered is an error with Step Functions' own text, which ends with a full
// stop.
type answered string

func (a answered) Error() string { return string(a) }

// prepare removes comments. In string literals, it escapes characters that the
// library's own preprocessing would mistake for a quoted path step or a comment.
// It refuses operators that were added in JSONata 2.1.
func prepare(source string) (string, error) {
	var b strings.Builder
	last := byte('(') // the last character outside literals that is not a space
	for i := 0; i < len(source); {
		c := source[i]
		switch {
		case c == '"' || c == '\'':
			end := literalEnd(source, i)
			if end < 0 {
				return "", fmt.Errorf("the string that begins at character %d has no end", i)
			}
			body := strings.NewReplacer(".", `\u002e`, "/", `\u002f`, "*", `\u002a`).Replace(unescapeSlash(source[i+1 : end]))
			b.WriteByte(c)
			b.WriteString(body)
			b.WriteByte(c)
			i, last = end+1, c
			continue
		case c == '`':
			end := strings.IndexByte(source[i+1:], '`')
			if end < 0 {
				return "", fmt.Errorf("the quoted name that begins at character %d has no end", i)
			}
			b.WriteString(source[i : i+end+2])
			i, last = i+end+2, c
			continue
		case strings.HasPrefix(source[i:], "/*"):
			end := strings.Index(source[i+2:], "*/")
			if end < 0 {
				return "", fmt.Errorf("the comment that begins at character %d has no end", i)
			}
			b.WriteByte(' ')
			i += end + 4
			continue
		case c == '/' && strings.IndexByte("(,[{:?=~>&|;!<", last) >= 0:
			end := literalEnd(source, i)
			if end < 0 {
				return "", fmt.Errorf("the regular expression that begins at character %d has no end", i)
			}
			b.WriteString(source[i : end+1])
			i, last = end+1, c
			continue
		case strings.HasPrefix(source[i:], "??"), strings.HasPrefix(source[i:], "?:"):
			return "", fmt.Errorf("the operator %q at character %d is not part of JSONata 2.0.6, the version of Step Functions: use $exists(x) ? x : y", source[i:i+2], i)
		}
		b.WriteByte(c)
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			last = c
		}
		i++
	}
	return b.String(), nil
}

// unescapeSlash removes the escape of a slash, which is optional in JSON.
func unescapeSlash(s string) string { return strings.ReplaceAll(s, `\/`, "/") }

// literalEnd returns the index of the closing delimiter of the literal that
// begins at start, or -1.
func literalEnd(s string, start int) int {
	for i := start + 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[start]:
			return i
		}
	}
	return -1
}
