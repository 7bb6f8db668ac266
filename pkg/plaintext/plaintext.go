// Package plaintext makes text that others wrote safe to show. What a guest
// prints reaches terminals, mail and reports, where control characters move the
// cursor, and bidirectional ones swap what is read.
package plaintext

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// colour is an escape sequence that only sets colours (ECMA-48, "Select Graphic
// Rendition"). Consoles are full of them, and they carry no content.
var colour = regexp.MustCompile("\x1b\\[[0-9;:]*m")

// Clean returns s without characters that act instead of being read: control and
// escape characters, those that change the direction of text, and others that
// are not visible are written as <U+001B>. Line feeds and tabs stay, other ends
// of lines become line feeds, sequences that set colours go, and bytes that are
// no UTF-8 become U+FFFD. Text that is clean comes back as it is.
func Clean(s string) string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(colour.ReplaceAllString(s, ""))
	var b strings.Builder
	for _, r := range s { // a byte that is no UTF-8 comes as U+FFFD
		if hidden(r) {
			fmt.Fprintf(&b, "<U+%04X>", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func hidden(r rune) bool {
	switch r {
	case '\n', '\t':
		return false
	}
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// JSON cleans every string in a JSON document, names included. A document
// escapes what it says, so that its own text always looks clean.
func JSON(document []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the JSON value, at byte %d", dec.InputOffset())
	}
	return json.Marshal(cleaned(v))
}

func cleaned(v any) any {
	switch v := v.(type) {
	case string:
		return Clean(v)
	case []any:
		for i := range v {
			v[i] = cleaned(v[i])
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			out[Clean(name)] = cleaned(member)
		}
		return out
	}
	return v
}

// Clip shortens s so that it takes at most limit bytes in a JSON document, as
// encoding/json writes it: there, each < takes six. The beginning and the end
// stay, which say what was tried and how it ended.
func Clip(s string, limit int) string {
	total := 0
	for _, r := range s {
		total += encoded(r)
	}
	if total <= limit {
		return s
	}
	note := func(n int) string { return fmt.Sprintf("\n[%d bytes left out]\n", n) }
	room := max(limit-len(note(len(s)))-4, 0) // a line feed takes two bytes
	head, taken := 0, 0
	for i, r := range s {
		if taken += encoded(r); taken > room/2 {
			head = i
			break
		}
	}
	tail := len(s)
	for taken = 0; tail > head; {
		r, size := utf8.DecodeLastRuneInString(s[:tail])
		if taken += encoded(r); taken > room/2 {
			break
		}
		tail -= size
	}
	return s[:head] + note(tail-head) + s[tail:]
}

// encoded is how many bytes r takes in a JSON document.
func encoded(r rune) int {
	switch r {
	case '"', '\\', '\n', '\r', '\t', '\b', '\f':
		return 2
	case '<', '>', '&', '\u2028', '\u2029', utf8.RuneError:
		return 6
	}
	if r < ' ' {
		return 6
	}
	return utf8.RuneLen(r)
}
