package plaintext_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

func TestCleanLeavesNothingThatActsInsteadOfBeingRead(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plain text stays":                          {"docker: exit 1\n\tat line 3, größer als 5 €", "docker: exit 1\n\tat line 3, größer als 5 €"},
		"colours of a console go":                   {"[\x1b[0;32m  OK  \x1b[0m] Started ssh", "[  OK  ] Started ssh"},
		"a sequence that clears the screen shows":   {"\x1b[2Jroot", "<U+001B>[2Jroot"},
		"a sequence that sets a window's title":     {"\x1b]0;title\a", "<U+001B>]0;title<U+0007>"},
		"a C1 control sequence introducer":          {"\u009b2J", "<U+009B>2J"},
		"backspaces that overwrite":                 {"passed\b\b\b\b\b\bfailed", "passed<U+0008><U+0008><U+0008><U+0008><U+0008><U+0008>failed"},
		"a carriage return that overwrites":         {"failed\rpassed", "failed\npassed"},
		"line ends of a serial console":             {"a\r\nb\r\n", "a\nb\n"},
		"a right-to-left override":                  {"moc\u202eexe.", "moc<U+202E>exe."},
		"isolates and marks":                        {"\u2066a\u2069\u200e\u200f\u061c", "<U+2066>a<U+2069><U+200E><U+200F><U+061C>"},
		"characters without width":                  {"ami\u200b-\ufeff1", "ami<U+200B>-<U+FEFF>1"},
		"line and paragraph separators":             {"a\u2028b\u2029", "a<U+2028>b<U+2029>"},
		"delete and null":                           {"\x7f\x00", "<U+007F><U+0000>"},
		"tags that spell unseen words":              {"\U000E0041", "<U+E0041>"},
		"bytes that are no UTF-8":                   {"a\xff\xfeb", "a\ufffd\ufffdb"},
		"half of a surrogate pair in WTF-8":         {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
		"a colour sequence that hides another one":  {"\x1b\x1b[0m[2J", "<U+001B>[2J"},
		"an escape that a removed colour completes": {"\x1b\x1b[1m[0m", "<U+001B>[0m"},
	} {
		t.Run(name, func(t *testing.T) {
			got := plaintext.Clean(c.in)
			assert.Equal(t, c.want, got)
			assert.Equal(t, got, plaintext.Clean(got), "clean text stays as it is")
		})
	}
}

func TestADocumentIsCleanAlsoWhereItEscapesWhatItSays(t *testing.T) {
	got, err := plaintext.JSON([]byte(`{"err":"\u001b[2Jgone","n":12345678901234567890,"list":["\u202e",null,true],"\u0000":1}`))
	require.NoError(t, err)
	assert.JSONEq(t, `{"err":"<U+001B>[2Jgone","n":12345678901234567890,"list":["<U+202E>",null,true],"<U+0000>":1}`, string(got))
	assert.Contains(t, string(got), "12345678901234567890", "numbers keep their digits")

	for _, bad := range []string{"", "{", `{} {}`, `{"a":}`} {
		_, err := plaintext.JSON([]byte(bad))
		assert.Error(t, err, "%q", bad)
	}
}

func TestClipKeepsBothEndsWithinTheLimitOfTheDocument(t *testing.T) {
	const limit = 8 << 10
	for name, in := range map[string]string{
		"23,032 times <":         strings.Repeat("<", 23_032),
		"quotes":                 strings.Repeat(`"`, 50_000),
		"line feeds":             strings.Repeat("\n", 50_000),
		"control characters":     strings.Repeat("\x01", 50_000),
		"of four bytes each":     strings.Repeat("😀", 50_000),
		"bytes that are no text": strings.Repeat("\xff", 50_000),
		"one byte too many":      strings.Repeat("x", limit+1),
	} {
		t.Run(name, func(t *testing.T) {
			in = "first words " + in + " last words"
			got := plaintext.Clip(in, limit)
			raw, err := json.Marshal(got)
			require.NoError(t, err)
			assert.LessOrEqual(t, len(raw)-2, limit)
			assert.Greater(t, len(raw), limit-100, "no more is left out than must be")
			assert.True(t, strings.HasPrefix(got, "first words "), "%.40q", got)
			assert.True(t, strings.HasSuffix(got, " last words"), "%q", got[len(got)-40:])
			assert.Regexp(t, `\n\[\d+ bytes left out\]\n`, got)
			assert.Equal(t, utf8.ValidString(in), utf8.ValidString(got), "no character is cut")
		})
	}
	exact := strings.Repeat("<", limit/6)
	assert.Equal(t, exact, plaintext.Clip(exact, limit), "what fits stays as it is")
}
