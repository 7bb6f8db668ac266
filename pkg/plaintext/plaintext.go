// Package plaintext makes untrusted text safe to print. A guest's output reaches
// terminals, mail and reports, where control characters move the cursor and
// bidirectional ones change the order of the text.
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

// Clean returns s with invisible characters written as <U+001B>: control and
// escape characters, those that change the direction of text, and others. Line
// feeds and tabs stay, other line ends become line feeds, colour sequences are
// removed, and invalid UTF-8 becomes U+FFFD. Clean text is returned unchanged.
func Clean(s string) string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(colour.ReplaceAllString(s, ""))
	var b strings.Builder
	for _, r := range s { // an invalid byte becomes U+FFFD
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

// JSON cleans every string in a JSON document, including names. The escaped text
// of a document would always look clean.
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

// Clip shortens s to at most limit bytes in a JSON document of encoding/json, in
// which for example each < has six bytes. It keeps the beginning and the end,
// because they show what was tried and how it ended.
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

// encoded returns the number of bytes of r in a JSON document.
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
