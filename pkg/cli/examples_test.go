package cli

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// whole is a line of an example without what a shell adds: a redirection, a pipe, or
// a comment.
var whole = regexp.MustCompile(`^ami-factory ((?:"[^"]*"|[^|>#])*)`)

// quoted is a word that a shell makes from several, or of what a command prints.
var quoted = regexp.MustCompile(`"[^"]*"`)

// TestTheExamplesOfEveryHelpRun runs, in the project's folder, each example of a
// command that needs no factory, no image and no guest. Of the others it checks
// commands, arguments and flags, and the specs that they boot against their image.
func TestTheExamplesOfEveryHelpRun(t *testing.T) {
	withoutAWS(t)
	t.Chdir(filepath.Join("..", ".."))
	quiet := []string{"lint", "schema", "recipes", "components", "userdata check", "userdata render", "version"}
	ran, checked := 0, 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			visit(child)
		}
		for line := range strings.Lines(c.Example) {
			line = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "\\"))
			m := whole.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			words := expand(t, strings.Fields(quoted.ReplaceAllString(m[1], "quoted")))
			command, given, err := (&app{}).root().Find(words)
			if !assert.NoError(t, err, line) {
				continue
			}
			path := strings.TrimPrefix(command.CommandPath(), "ami-factory ")
			if path == "userdata try" && !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "ami-") }) {
				words[1], path = "check", "userdata check" // what try does before it boots anything
			}
			if slices.ContainsFunc(quiet, func(q string) bool { return path == q || strings.HasPrefix(path, q+" ") }) {
				r := callAsIs(t.Context(), t, nil, words...)
				assert.Equal(t, exitOK, r.code, "%s: %s", line, r.err)
				ran++
				continue
			}
			checked++
			if assert.NoError(t, command.ParseFlags(given), line) {
				assert.NoError(t, command.ValidateArgs(command.Flags().Args()), line)
			}
		}
	}
	visit((&app{}).root())
	assert.Greater(t, ran, 20)
	assert.Greater(t, checked, 15)
}

// expand does what a shell does with patterns of files.
func expand(t *testing.T, words []string) []string {
	t.Helper()
	var out []string
	for _, w := range words {
		if !strings.Contains(w, "*") {
			out = append(out, w)
			continue
		}
		files, err := filepath.Glob(w)
		require.NoError(t, err)
		require.NotEmpty(t, files, w)
		out = append(out, files...)
	}
	return out
}
