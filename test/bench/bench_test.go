package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const output = `goos: linux
goarch: amd64
pkg: github.com/ami-factory/ami-factory/test
cpu: AMD EPYC
BenchmarkSimulatedBake/in-process-2         	       1	 615000000 ns/op	         1.626 bakes/s	14130000 B/op	  477589 allocs/op
BenchmarkCosts-2                            	what       transitions
published  31
2026/11/30 22:52:12 INFO the snapshot was read from outside snapshot=snap-1 blocks=1

       1	5123456789 ns/op
PASS
ok  	github.com/ami-factory/ami-factory/test	3.2s
`

func TestWhatBenchmarksPrintBecomesRows(t *testing.T) {
	rows, rest := parse(strings.NewReader(strings.Replace(output, "\twhat ", "\nwhat ", 1)))
	assert.Equal(t, []row{
		{name: "SimulatedBake/in-process", took: 615 * time.Millisecond, other: []string{"1.626 bakes/s", "14.1 MB allocated"}},
		{name: "Costs", took: 5123456789},
	}, rows)
	assert.Equal(t, []string{"what       transitions", "published  31", ""}, rest)
	var table bytes.Buffer
	writeTable(&table, rows)
	assert.Contains(t, table.String(), "SimulatedBake/in-process  615ms  a whole bake")
	assert.Contains(t, table.String(), "1.626 bakes/s, 14.1 MB allocated\n")
	assert.Contains(t, table.String(), "Costs                     5.12s  time to measure")
}

func TestALineThatIsNoFigureIsKept(t *testing.T) {
	for _, line := range []string{"--- FAIL: BenchmarkPlan", "    x_test.go:1: it failed", "BenchmarkPlan 1 x ns/op", "FAIL"} {
		rows, rest := parse(strings.NewReader(line + "\n"))
		assert.Empty(t, rows, line)
		assert.Equal(t, []string{line}, rest)
	}
}

// Whoever writes a benchmark says here what it is, and that it runs.
func TestEachBenchmarkIsInTheTable(t *testing.T) {
	root := filepath.Join("..", "..")
	declared := regexp.MustCompile(`(?m)^func Benchmark(\w+)\(`)
	var found []string
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "build" || d.Name() == "cdk.out" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != root):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			pkg, err := filepath.Rel(root, filepath.Dir(path))
			require.NoError(t, err)
			found = append(found, m[1])
			if elsewhere()[m[1]] == "" {
				assert.True(t, slices.ContainsFunc(suites(), func(s suite) bool {
					return s.pkg == "./"+filepath.ToSlash(pkg) && regexp.MustCompile(s.pattern()).MatchString("Benchmark"+m[1])
				}), "Benchmark%s of %s is in no suite", m[1], pkg)
			}
		}
		return nil
	}))
	for _, s := range suites() {
		for _, m := range s.means {
			assert.Contains(t, found, m.benchmark, "there is no such benchmark")
			assert.NotEmpty(t, m.text)
		}
	}
}
