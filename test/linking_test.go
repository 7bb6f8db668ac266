package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
)

// A program that can call any method by its name keeps every exported method of
// every type in it: the command line was 133 MB, and is 46 MB without. Two
// packages do that to a program which links them: net/rpc, which the tag lambda.norpc
// leaves out of the Lambda library, and the templates of the standard library.
func TestNoProgramKeepsWhatNothingCalls(t *testing.T) {
	dir, err := built()
	require.NoError(t, err)
	programs := []string{"ami-factory"}
	for _, fn := range blueprint.Functions() {
		programs = append(programs, filepath.Join(functionsIn, fn.Name, "bootstrap"))
	}
	for _, program := range programs {
		content, err := os.ReadFile(filepath.Join(dir, program))
		require.NoError(t, err)
		// The names of linked functions stay in a program without symbols.
		require.True(t, strings.Contains(string(content), "main.main"), program)
		for _, name := range []string{"net/rpc.suitableMethods", "text/template.(*state).evalField"} {
			assert.False(t, strings.Contains(string(content), name), "%s links %s", program, name)
		}
	}
}
