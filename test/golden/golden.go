// Package golden compares what tests make with files of the repository. With
// `go test ./the/package -update` the files are written instead.
package golden

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"gotest.tools/v3/golden"
)

// Files hold the bytes that were made, line ends included.
func init() { golden.NormalizeCRLFToLF = false }

// File compares got with a file, whose path is relative to the package under test.
func File[T string | []byte](t testing.TB, path string, got T) {
	t.Helper()
	absolute, err := filepath.Abs(path) // a relative one would be below testdata
	require.NoError(t, err)
	golden.Assert(t, string(got), absolute)
}

// Testdata compares got with a file of testdata.
func Testdata[T string | []byte](t testing.TB, name string, got T) {
	t.Helper()
	File(t, filepath.Join("testdata", name), got)
}

// Updating says whether files are written: for those that are not compared byte for byte.
func Updating() bool { return golden.FlagUpdate() }
