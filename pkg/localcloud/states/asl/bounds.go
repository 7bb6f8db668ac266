package asl

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	jsonata "github.com/xiatechs/jsonata-go"
	"github.com/xiatechs/jsonata-go/jlib"
	"github.com/xiatechs/jsonata-go/jtypes"
)

// The engine evaluates on the stack of its goroutine, and a stack overflow ends
// the process without recovery. So expressions that nest too deeply are not
// compiled, and compiled ones count their work.
const (
	maxExpression = 256 << 10 // bytes
	maxNesting    = 500       // nested brackets
	maxConditions = 1000      // question marks in one expression
	maxSigns      = 100       // in a row
	maxFrames     = 5_000     // stack frames of nested function calls
	maxWork       = 200_000   // calls, elements of ranges and characters of padding, in one evaluation
)

// Names of the functions that bounded inserts into expressions.
const (
	enterFunction = "__enter"
	rangeFunction = "__range"
)

// bounded rewrites an expression so that every function reports its entry, and a
// counting function makes every range. source must have no comments and no
// unterminated literals.
func bounded(source string) (string, error) {
	if strings.Contains(source, "$"+enterFunction) || strings.Contains(source, "$"+rangeFunction) {
		return "", fmt.Errorf("the names $%s and $%s are taken", enterFunction, rangeFunction)
	}
	b := bounding{source: source, last: '('}
	out, err := b.group(0, 0)
	if err != nil {
		return "", err
	}
	return out + source[b.at:], nil // the parser refuses the rest
}

// bounding is one pass over an expression.
type bounding struct {
	source            string
	at                int
	last              rune // the last character outside literals that is not a space
	conditions, signs int
}

// group copies up to, but without, the closing bracket; closing 0 means the end
// of the source.
func (b *bounding) group(closing byte, depth int) (string, error) {
	if depth > maxNesting {
		return "", fmt.Errorf("brackets may be nested at most %d deep", maxNesting)
	}
	var done, item strings.Builder // item has the text since the last comma
	upto := ""                     // start of a range
	isRange := false
	flush := func() {
		if isRange {
			fmt.Fprintf(&done, "$%s((%s),(%s))", rangeFunction, upto, item.String())
		} else {
			done.WriteString(item.String())
		}
		item.Reset()
		isRange = false
	}
	for b.at < len(b.source) {
		c := b.source[b.at]
		rest := b.source[b.at:]
		if c == '-' && !unicode.IsLetter(b.last) && !unicode.IsDigit(b.last) && strings.IndexByte(")]}\"'`_", byte(b.last)) < 0 {
			if b.signs++; b.signs > maxSigns {
				return "", fmt.Errorf("there may be at most %d signs in a row", maxSigns)
			}
		} else if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			b.signs = 0
		}
		switch {
		case closing != 0 && c == closing:
			flush()
			return done.String(), nil
		case c == '"' || c == '\'' || c == '`' || c == '/' && strings.IndexByte("(,[{:?=~>&|;!<", byte(b.last)) >= 0:
			end := literalEnd(b.source, b.at)
			if end < 0 {
				return "", errors.New("a literal has no end")
			}
			item.WriteString(b.source[b.at : end+1])
			b.at, b.last = end+1, '"'
			continue
		case c == '(' || c == '[' || c == '{':
			inner, err := b.bracketed(c, depth)
			if err != nil {
				return "", err
			}
			item.WriteString(inner)
			continue
		case closing == ']' && strings.HasPrefix(rest, "..") && !isRange:
			upto, isRange = item.String(), true
			item.Reset()
			b.at, b.last = b.at+2, ','
			continue
		case c == ',':
			flush()
			done.WriteByte(c)
			b.at, b.last = b.at+1, ','
			continue
		case c == '?':
			if b.conditions++; b.conditions > maxConditions {
				return "", fmt.Errorf("there may be at most %d conditions in an expression", maxConditions)
			}
		}
		r, size := utf8.DecodeRuneInString(rest)
		if header := b.header(); header != "" {
			item.WriteString(header)
			b.at += len(header)
			body, err := b.bracketed('{', depth)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&item, "{($%s();%s)}", enterFunction, body[1:len(body)-1])
			continue
		}
		item.WriteString(rest[:size])
		b.at += size
		if !unicode.IsSpace(r) {
			b.last = r
		}
	}
	flush()
	return done.String(), nil
}

// bracketed copies a group with its brackets.
func (b *bounding) bracketed(open byte, depth int) (string, error) {
	closing := map[byte]byte{'(': ')', '[': ']', '{': '}'}[open]
	b.at, b.last = b.at+1, rune(open)
	inner, err := b.group(closing, depth+1)
	if err != nil {
		return "", err
	}
	if b.at >= len(b.source) {
		return "", fmt.Errorf("a %q has no %q", open, closing)
	}
	b.at, b.last = b.at+1, rune(closing)
	return string(open) + inner + string(closing), nil
}

// header returns the beginning of a function definition, up to its body.
func (b *bounding) header() string {
	rest := b.source[b.at:]
	if unicode.IsLetter(b.last) && b.at > 0 && isName(b.source[b.at-1]) || b.last == '$' && b.source[b.at-1] == '$' {
		return "" // inside a name
	}
	after, ok := strings.CutPrefix(rest, "function")
	if !ok {
		if after, ok = strings.CutPrefix(rest, "λ"); !ok {
			return ""
		}
	}
	after = strings.TrimLeft(after, " \t\r\n")
	if !strings.HasPrefix(after, "(") {
		return ""
	}
	end := strings.IndexByte(after, ')')
	if end < 0 {
		return ""
	}
	after = strings.TrimLeft(after[end+1:], " \t\r\n")
	if strings.HasPrefix(after, "<") {
		open := 0
		for i := range len(after) {
			switch after[i] {
			case '<':
				open++
			case '>':
				open--
			}
			if open == 0 {
				after = strings.TrimLeft(after[i+1:], " \t\r\n")
				break
			}
		}
	}
	if !strings.HasPrefix(after, "{") {
		return ""
	}
	return rest[:len(rest)-len(after)]
}

func isName(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}

// work counts how much one evaluation may still do.
type work struct{ left int }

var errTooMuch = fmt.Errorf("the expression does too much: at most %d calls, elements of ranges and characters of padding are allowed", maxWork)

func (w *work) charge(n float64) error {
	if n > float64(w.left) {
		return errTooMuch
	}
	w.left -= int(n)
	return nil
}

// enter is called at the start of every function of the expression.
func (w *work) enter([]any) (any, error) {
	if err := w.charge(1); err != nil {
		return nil, err
	}
	if runtime.Callers(maxFrames, make([]uintptr, 1)) > 0 {
		return nil, errors.New("a function of the expression calls itself too deeply")
	}
	return nil, nil
}

// integers returns the range from one number to another, as in [1..3].
func (w *work) integers(args []any) (any, error) {
	var n [2]float64
	for i, side := range []string{"left", "right"} {
		if args[i] == nil {
			return nil, nil
		}
		var ok bool
		if n[i], ok = asNumber(args[i]); !ok || n[i] != math.Trunc(n[i]) {
			return nil, fmt.Errorf("the %s side of the range operator (..) must evaluate to an integer", side)
		}
	}
	if n[0] > n[1] {
		return nil, nil
	}
	if err := w.charge(n[1] - n[0] + 1); err != nil {
		return nil, err
	}
	list := make([]any, 0, int(n[1]-n[0])+1)
	for v := n[0]; v <= n[1]; v++ {
		list = append(list, v)
	}
	return list, nil
}

// pad is $pad with counting. As in the engine's own $pad, a missing text means
// the context.
func (w *work) pad() jsonata.Extension {
	return jsonata.Extension{
		Func: func(s string, width int, chars jtypes.OptionalString) (string, error) {
			if err := w.charge(math.Abs(float64(width))); err != nil {
				return "", err
			}
			return jlib.Pad(s, width, chars), nil
		},
		UndefinedHandler: jtypes.ArgUndefined(0),
		EvalContextHandler: func(args []reflect.Value) bool {
			return len(args) == 1 || len(args) == 2 && jtypes.IsNumber(args[0])
		},
	}
}
