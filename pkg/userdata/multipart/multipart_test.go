package multipart_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"mime"
	stdmultipart "mime/multipart"
	"net/mail"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/userdata/multipart"
)

var parts = []multipart.Part{
	{ContentType: "text/cloud-config", Name: "a.yaml", Body: "#cloud-config\nlocale: C.UTF-8\n"},
	{ContentType: "text/x-shellscript", Name: "b.sh", Body: "#!/bin/sh\n\techo --not-a-boundary--\n"},
	{ContentType: "text/x-shellscript", Name: "empty.sh"},
}

// read takes an archive apart as another program would, by MIME's own rules.
func read(t *testing.T, archive string) []multipart.Part {
	t.Helper()
	message, err := mail.ReadMessage(strings.NewReader(archive))
	require.NoError(t, err)
	assert.Equal(t, "1.0", message.Header.Get("MIME-Version"))
	kind, parameters, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	require.NoError(t, err)
	assert.Equal(t, "multipart/mixed", kind)
	var out []multipart.Part
	for reader := stdmultipart.NewReader(message.Body, parameters["boundary"]); ; {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		body, err := io.ReadAll(part)
		require.NoError(t, err)
		kind, parameters, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		require.NoError(t, err)
		assert.Equal(t, "us-ascii", parameters["charset"])
		assert.Equal(t, "7bit", part.Header.Get("Content-Transfer-Encoding"))
		out = append(out, multipart.Part{ContentType: kind, Name: part.FileName(), Body: string(body)})
	}
}

func TestAnArchiveIsReadAsItWasWritten(t *testing.T) {
	archive, err := multipart.Archive(parts)
	require.NoError(t, err)
	got := read(t, archive)
	require.Len(t, got, len(parts))
	for i, want := range parts {
		assert.Equal(t, want.ContentType, got[i].ContentType)
		assert.Equal(t, want.Name, got[i].Name)
		// The line break before a boundary is the boundary's (RFC 2046, 5.1.1).
		assert.Equal(t, strings.TrimSuffix(want.Body, "\n"), got[i].Body)
	}
	again, err := multipart.Archive(parts)
	require.NoError(t, err)
	assert.Equal(t, archive, again, "the same parts are the same bytes")
	turned, err := multipart.Archive([]multipart.Part{parts[1], parts[0], parts[2]})
	require.NoError(t, err)
	assert.NotEqual(t, archive, turned, "their order counts")
}

func TestAnArchiveRefusesWhatWouldNotArrive(t *testing.T) {
	for sentence, tc := range map[string]struct{ body, says string }{
		"the boundary in a part":     {"a\n--==ami-factory-part==\nb", "holds the boundary of the archive"},
		"the boundary within a line": {"x ==ami-factory-part== y", "holds the boundary of the archive"},
		"what is not ASCII":          {"caf\u00e9", "is not plain ASCII at byte 3"},
		"a carriage return":          {"a\r\n", "is not plain ASCII at byte 1"},
		"a NUL":                      {"\x00", "is not plain ASCII at byte 0"},
		"a byte of no text":          {"ab\xff", "is not plain ASCII at byte 2"},
		"the character DEL":          {"\x7f", "is not plain ASCII at byte 0"},
	} {
		t.Run(sentence, func(t *testing.T) {
			archive, err := multipart.Archive([]multipart.Part{parts[0], {ContentType: "text/x-shellscript", Name: "bad.sh", Body: tc.body}})
			require.ErrorContains(t, err, "part bad.sh of the user data")
			assert.ErrorContains(t, err, tc.says)
			assert.Empty(t, archive)
		})
	}
}

// noise is text that compresses to three quarters at best: so many characters
// of a base64 alphabet, always the same.
func noise(length int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	source := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- the same each time
	out := make([]byte, length)
	for i := range out {
		out[i] = alphabet[source.IntN(len(alphabet))]
	}
	return string(out)
}

func TestTextIsCompressedWhenItIsTooLongAndGetsShorter(t *testing.T) {
	const limit = multipart.MaxSize
	require.Equal(t, 16384, limit, "EC2's limit, before base64")
	for sentence, tc := range map[string]struct {
		text   string
		plain  int
		packed bool
	}{
		"nothing":                            {"", limit, false},
		"one byte less than the limit":       {strings.Repeat("a", limit-1), limit, false},
		"the limit exactly":                  {strings.Repeat("a", limit), limit, false},
		"one byte more":                      {strings.Repeat("a", limit+1), limit, true},
		"noise of one byte more":             {noise(limit + 1), limit, true},
		"what a lower limit leaves plain":    {strings.Repeat("a", 100), 100, false},
		"what a lower limit does not":        {strings.Repeat("a", 101), 100, true},
		"short text that would grow":         {"abc", 2, false},
		"text of which nothing may be plain": {"", 0, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			data, err := multipart.Pack(tc.text, tc.plain)
			require.NoError(t, err)
			again, err := multipart.Pack(tc.text, tc.plain)
			require.NoError(t, err)
			assert.Equal(t, data, again, "the same text is the same bytes")
			if !tc.packed {
				assert.Equal(t, tc.text, string(data))
				return
			}
			assert.Less(t, len(data), len(tc.text))
			zip, err := gzip.NewReader(bytes.NewReader(data))
			require.NoError(t, err)
			assert.True(t, zip.ModTime.IsZero(), "a time would make each rendering another one")
			assert.Empty(t, zip.Name)
			text, err := io.ReadAll(zip)
			require.NoError(t, err)
			assert.Equal(t, tc.text, string(text))
		})
	}
}

// Whoever launches instances refuses what is over the limit; what is under it by
// one byte, plain or packed, must pass.
func TestTheLimitIsMetToTheByte(t *testing.T) {
	size := func(length int) int {
		data, err := multipart.Pack(noise(length), multipart.MaxSize)
		require.NoError(t, err)
		return len(data)
	}
	// The longest noise whose packed form still fits.
	low, high := multipart.MaxSize, 2*multipart.MaxSize
	require.LessOrEqual(t, size(low), multipart.MaxSize)
	require.Greater(t, size(high), multipart.MaxSize)
	for high-low > 1 {
		if middle := (low + high) / 2; size(middle) <= multipart.MaxSize {
			low = middle
		} else {
			high = middle
		}
	}
	assert.InDelta(t, multipart.MaxSize+1, size(high), 2, "the next byte of text is the first that does not fit")
	assert.InDelta(t, multipart.MaxSize, size(low), 2)
	assert.Greater(t, low, multipart.MaxSize*5/4, "compression wins a fifth at the least")
}
