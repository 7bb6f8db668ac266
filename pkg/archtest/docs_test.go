package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// constants are the names of a type's constants in one file of the repository.
func constants(t *testing.T, file, kind string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(repository(t), file), nil, 0)
	require.NoError(t, err)
	var names []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == kind {
			for _, name := range spec.Names {
				names = append(names, name.Name)
			}
		}
		return true
	})
	require.NotEmpty(t, names, "%s has no constants of type %s", file, kind)
	return names
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository(t), file))
	require.NoError(t, err)
	return string(b)
}

func TestEveryFailureCodeAndEndStateHasARunbook(t *testing.T) {
	text := read(t, "infra/docs/runbooks.md")
	for _, name := range slices.Concat(
		constants(t, "pkg/failure/failure.go", "Code"),
		contract.EndStates(),
	) {
		assert.Contains(t, text, "\n### "+name+"\n")
	}
}

var alarmID = regexp.MustCompile(`\bid: (?:fmt\.Sprintf\()?"([A-Za-z]+)(?:%d)?"`)

func TestEveryAlarmHasARunbook(t *testing.T) {
	text := read(t, "infra/docs/runbooks.md")
	alarms := alarmID.FindAllStringSubmatch(read(t, "infra/factory/alarms.go"), -1)
	require.GreaterOrEqual(t, len(alarms), 9)
	for _, alarm := range alarms {
		assert.Contains(t, text, "\n### Alarm "+alarm[1]+"\n")
	}
}

var testName = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")

func TestTheThreatModelNamesTestsThatThereAre(t *testing.T) {
	var tests strings.Builder
	for _, file := range trackedFiles(t) {
		if strings.HasSuffix(file, "_test.go") {
			tests.WriteString(read(t, file))
		}
	}
	text := read(t, "infra/docs/threat-model.md")
	rows := 0
	for _, line := range strings.Split(text, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !regexp.MustCompile(`^ [0-9]+ $`).MatchString(cells[1]) {
			continue
		}
		rows++
		names := testName.FindAllStringSubmatch(cells[4], -1)
		assert.NotEmpty(t, names, "abuse%sis proved by nothing", cells[1])
		for _, name := range names {
			assert.Contains(t, tests.String(), "func "+name[1]+"(t *testing.T)", "abuse%s", cells[1])
		}
	}
	assert.Equal(t, 13, rows)
}
