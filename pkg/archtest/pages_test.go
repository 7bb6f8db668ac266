package archtest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheREADMEFitsOnTwoScreens(t *testing.T) {
	assert.LessOrEqual(t, strings.Count(read(t, "README.md"), "\n"), 130, "move what grows to a page below infra/docs or userdata")
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	// noAnchor is what GitHub leaves out of the anchor of a heading.
	noAnchor = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	fenced   = regexp.MustCompile("(?s)```.*?```")
)

// anchors are the names by which links reach the headings of a page.
func anchors(page string) []string {
	var out []string
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		out = append(out, strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return out
}

func TestEveryLinkOfAPageLeadsSomewhere(t *testing.T) {
	links := 0
	for _, file := range trackedFiles(t) {
		if path.Ext(file) != ".md" {
			continue
		}
		page := read(t, file)
		for _, m := range link.FindAllStringSubmatch(page, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			target, anchor, _ := strings.Cut(m[1], "#")
			at := file
			if target != "" {
				at = path.Join(path.Dir(file), target)
				_, err := os.Stat(filepath.Join(repository(t), at))
				if !assert.NoErrorf(t, err, "%s links to %s", file, m[1]) {
					continue
				}
			}
			if anchor != "" {
				assert.Containsf(t, anchors(read(t, at)), anchor, "%s links to a heading that %s does not have: %s", file, at, m[1])
			}
		}
	}
	require.Greater(t, links, 50)
}

// TestEveryPageIsReachedFromTheREADME follows links from page to page.
func TestEveryPageIsReachedFromTheREADME(t *testing.T) {
	reached := map[string]bool{}
	var follow func(string)
	follow = func(file string) {
		if reached[file] || path.Ext(file) != ".md" {
			return
		}
		reached[file] = true
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if target, _, _ := strings.Cut(m[1], "#"); target != "" && !strings.Contains(target, "://") {
				follow(path.Join(path.Dir(file), target))
			}
		}
	}
	follow("README.md")
	for _, file := range trackedFiles(t) {
		if path.Ext(file) == ".md" && !strings.Contains(file, "/testdata/") {
			assert.Truef(t, reached[file], "no page leads to %s: link to it", file)
		}
	}
}

// step is a line of the walk, whose code is named as (`Symbol`, [package](file)).
var step = regexp.MustCompile("`((?:[A-Z][A-Za-z]*\\.)?[A-Z][A-Za-z]*)`[^`]*?\\]\\(\\.\\./\\.\\./(pkg/[a-z_/]+\\.go)\\)")

func TestTheWalkOfARecipeIsTrueOfTheCode(t *testing.T) {
	_, walk, found := strings.Cut(read(t, "infra/docs/architecture.md"), "## A walk of one recipe\n")
	require.True(t, found)
	walk, _, _ = strings.Cut(walk, "\n## ")
	assert.Len(t, regexp.MustCompile(`(?m)^[0-9]+\. `).FindAllString(walk, -1), 10)
	states := read(t, "pkg/contract/states.go")
	named := regexp.MustCompile(`\*\*([A-Za-z]+)\*\*`).FindAllStringSubmatch(walk, -1)
	for _, m := range named {
		assert.Containsf(t, states, `"`+m[1]+`"`, "there is no state %s", m[1])
	}
	assert.GreaterOrEqual(t, len(named), 15)
	symbols := step.FindAllStringSubmatch(walk, -1)
	for _, m := range symbols {
		name := m[1][strings.LastIndex(m[1], ".")+1:]
		assert.Regexpf(t, `(?m)^(func (\([a-z]+ \*?[A-Za-z]+\) )?|type )`+name+`\b`, read(t, m[2]), "%s declares no %s", m[2], name)
	}
	assert.GreaterOrEqual(t, len(symbols), 12)
}

func TestTheTableOfPackagesIsComplete(t *testing.T) {
	_, table, found := strings.Cut(read(t, "infra/docs/architecture.md"), "\n## Packages\n")
	require.True(t, found)
	var named []string
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || strings.Contains(cells[1], "**") {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z]+)(?:/[a-z]+)?`").FindAllStringSubmatch(cells[1], -1) {
			named = append(named, m[1])
		}
	}
	folders, err := os.ReadDir(filepath.Join(repository(t), "pkg"))
	require.NoError(t, err)
	for _, folder := range folders {
		assert.Contains(t, named, folder.Name(), "pkg/%s is in no row", folder.Name())
	}
}
