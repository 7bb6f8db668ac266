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
