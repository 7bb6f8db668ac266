package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// page is a page of the repository, by its path there.
func page(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(file)))
	require.NoError(t, err)
	return string(text)
}

// TestTheFirstRecipeOfTheREADME saves the README's recipe as the README says, and
// expects the output that it shows.
func TestTheFirstRecipeOfTheREADME(t *testing.T) {
	readme := page(t, "README.md")
	_, recipe, found := strings.Cut(readme, "```yaml\n")
	require.True(t, found)
	recipe, rest, _ := strings.Cut(recipe, "```\n")
	shown, found := regexp.MustCompile(`(?m)(?:^    .*\n)+`).FindString(rest), strings.Contains(rest, "exits with 1")
	require.True(t, found)

	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "userdata"))))
	file := filepath.Join(dir, "recipes", "my-image.yaml")
	require.NoError(t, os.WriteFile(file, []byte(recipe), 0o600))
	r := call(t, nil, "lint", "my-image", "--userdata", dir)
	assert.Equal(t, exitFailed, r.code)
	assert.Equal(t, strings.ReplaceAll(shown[4:], "\n    ", "\n"), r.err+r.out)

	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(recipe, "20MB", "20m", 1)), 0o600))
	r = call(t, nil, "lint", "my-image", "--userdata", dir)
	assert.Equal(t, exitOK, r.code)
	assert.Equal(t, "no errors\n", r.err+r.out)
}

// invocation is a call of the program in a page: in a line of a code block, or
// between backticks.
var invocation = regexp.MustCompile("(?m)(?:^ {4,}(?:\\$ )?(?:[A-Z_]+=\\S+ )*(?:sudo -E )?|`|\"\\$\\()(?:build/)?ami-factory ([a-z][^`\\n#|>)]*)")

// TestTheCommandsOfThePagesExist holds every call of the program in the
// documentation to its commands and flags.
func TestTheCommandsOfThePagesExist(t *testing.T) {
	root := filepath.Join("..", "..")
	calls := 0
	for _, pattern := range []string{"*.md", "infra/*.md", "infra/docs/*.md", "userdata/*.md", "userdata/*/*.md", "userdata/*/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, m := range invocation.FindAllStringSubmatch(string(text), -1) {
				words := strings.Fields(strings.TrimRight(strings.SplitN(m[1], "  ", 2)[0], ",.:;"))
				calls++
				command, given, err := (&app{}).root().Find(words)
				if !assert.NoErrorf(t, err, "%s: %s", file, m[0]) {
					continue
				}
				if command.Name() == "completion" || command.Name() == "help" {
					continue
				}
				assert.Truef(t, command.Runnable() && !command.HasSubCommands() || len(given) == 0, "%s: %s: there is no command %s of %s", file, m[0], strings.Join(given, " "), command.CommandPath())
				for _, word := range given {
					if name, _, _ := strings.Cut(word, "="); strings.HasPrefix(name, "--") && name != "--help" {
						assert.NotNilf(t, flagOf(command, strings.TrimPrefix(name, "--")), "%s: %s has no flag %s", file, command.CommandPath(), name)
					}
				}
			}
		}
	}
	require.Greater(t, calls, 30)
}

func flagOf(c *cobra.Command, name string) any {
	if f := c.Flags().Lookup(name); f != nil {
		return f
	}
	if f := c.InheritedFlags().Lookup(name); f != nil {
		return f
	}
	return nil
}

// TestTheREADMENamesEveryCommand looks for each in the table of commands.
func TestTheREADMENamesEveryCommand(t *testing.T) {
	_, table, found := strings.Cut(page(t, "README.md"), "\n## Commands\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\nEach has")
	var look func(*cobra.Command)
	look = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			look(child)
		}
		if c.HasSubCommands() || c.Name() == "help" {
			return
		}
		name := strings.TrimPrefix(c.CommandPath(), "ami-factory ")
		assert.Regexpf(t, "`"+regexp.QuoteMeta(name)+"[ `]", table, "the table has no %s", name)
	}
	look((&app{}).root())
}
