package golden

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recorder is a test that a test looks at.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) FailNow()              { r.failed = true }
func (r *recorder) Fail()                 { r.failed = true }
func (r *recorder) Log(...any)            {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Logf(string, ...any)   {}
func (r *recorder) Helper()               {}

func TestBytesAreComparedAsTheyAre(t *testing.T) {
	require.False(t, Updating(), "this test compares only")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("a\r\nb\n"), 0o600))
	File(t, file, "a\r\nb\n")
	for sentence, got := range map[string]string{"another text": "c\n", "other line ends": "a\nb\n", "less": "a\r\n", "nothing": ""} {
		r := &recorder{TB: t}
		File(r, file, []byte(got))
		assert.True(t, r.failed, sentence)
	}
	r := &recorder{TB: t}
	File(r, file+".not", "a")
	assert.True(t, r.failed, "a file that does not exist")
}
