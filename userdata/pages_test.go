package userdata_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
)

func TestEveryComponentHasItsPage(t *testing.T) {
	for _, c := range load(t) {
		file := filepath.Join("components", c.Name, component.PageFile)
		if *update {
			require.NoError(t, os.WriteFile(file, c.Page(), 0o644)) //nolint:gosec // documentation
		}
		page, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, string(c.Page()), string(page), "%s is not up to date: go test ./userdata -update", file)
	}
}
