package container_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/container"
)

var blocks = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestThePageSaysWhatIsChecked holds the page for application teams to the code.
func TestThePageSaysWhatIsChecked(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "infra", "docs", "containers.md"))
	require.NoError(t, err)
	text := string(raw)
	var table strings.Builder
	for _, c := range container.Controls() {
		fmt.Fprintf(&table, "| %s | %s | %s |\n", c.ID, c.Severity, c.Title)
	}
	assert.Contains(t, text, "|---|---|---|\n"+table.String()+"\n")
	found := blocks.FindAllStringSubmatch(text, -1)
	require.Len(t, found, 2)
	_, problems := container.Parse("contract.yaml", []byte(found[0][1]))
	assert.Empty(t, problems)
	_, problems = container.ParseBases("bases.yaml", []byte(found[1][1]))
	assert.Empty(t, problems)
}
