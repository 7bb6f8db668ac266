package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sources are packages of a small module, each a test file.
var sources = map[string]string{
	"passes": `import "testing"
func TestPasses(t *testing.T) { t.Log("not printed") }
func TestSkipped(t *testing.T) { t.Skip("the moon is not full:\nwait a week") }
func TestWithParts(t *testing.T) {
	t.Run("one part", func(t *testing.T) { t.Skip("there is no part") })
	t.Run("another", func(t *testing.T) {})
}`,
	"fails": `import "testing"
func TestFails(t *testing.T) {
	t.Parallel()
	t.Log("what came before")
	t.Run("a part", func(t *testing.T) { t.Error("the part is broken") })
}
func TestBeside(t *testing.T) { t.Parallel() }`,
	"panics":   "import \"testing\"\nfunc TestPanics(t *testing.T) { panic(\"at the disco\") }",
	"compiles": "import \"testing\"\nfunc TestNot(t *testing.T) { undefined() }",
	"main":     "import (\"os\"; \"testing\")\nfunc TestMain(m *testing.M) { os.Exit(7) }\nfunc TestNever(t *testing.T) {}",
}

// events are what go test -json prints for packages of that module.
func events(t *testing.T, packages ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+strings.TrimSuffix(module, "/")+"\n\ngo 1.26\n"), 0o600))
	args := []string{"test", "-json"}
	for _, name := range packages {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "x_test.go"), []byte("package x\n"+sources[name]+"\n"), 0o600))
		args = append(args, "./"+name)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit, "%s", errs.String())
	}
	return out.Bytes()
}

func summarise(t *testing.T, in []byte, list string, more ...string) (out, errs string, code int) {
	t.Helper()
	args := more
	if list != "" {
		file := filepath.Join(t.TempDir(), "skips.yaml")
		require.NoError(t, os.WriteFile(file, []byte(list), 0o600))
		args = append(args, "-skips", file)
	}
	var stdout, stderr bytes.Buffer
	code = run(args, bytes.NewReader(in), &stdout, &stderr)
	return stdout.String(), stderr.String(), code
}

const listed = `skips:
  - {package: passes, test: TestSkipped, says: the moon is not full, why: nobody waits for it}
  - {package: passes, test: TestWithParts/one_part, says: there is no part, why: parts are dear}
`

func TestSkipsAreListedAndInStrictModeMustBeAccepted(t *testing.T) {
	in := events(t, "passes")
	out, errs, code := summarise(t, in, "")
	assert.Zero(t, code, errs)
	assert.Contains(t, out, "ok  \t"+module+"passes\t")
	assert.NotContains(t, out, "not printed")
	assert.Contains(t, out, "  passes TestSkipped\n      the moon is not full:\n      wait a week\n")
	assert.Contains(t, out, "  passes TestWithParts/one_part\n      there is no part\n")
	assert.Contains(t, out, "1 package, 0 failed; 5 tests, 0 failed, 2 skipped\n")

	out, _, code = summarise(t, in, listed, "-strict")
	assert.Zero(t, code, out)
	assert.Contains(t, out, "accepted: parts are dear")

	for sentence, list := range map[string]string{
		"a skip that the list does not name":    strings.Join(strings.SplitAfter(listed, "\n")[:2], ""),
		"a listed test, for another reason":     strings.Replace(listed, "there is no part", "it is too late", 1),
		"a test of that name, of other package": strings.Replace(listed, "package: passes, test: TestWithParts", "package: fails, test: TestWithParts", 1),
		"a listed test that does not exist":     listed + "  - {package: passes, test: TestGone, says: anything, why: it was here once}\n",
	} {
		out, _, code = summarise(t, in, list, "-strict")
		assert.Equal(t, 1, code, "%s: %s", sentence, out)
		_, _, code = summarise(t, in, list)
		assert.Zero(t, code, "%s: only -strict fails", sentence)
	}
	out, _, _ = summarise(t, in, listed+"  - {package: passes, test: TestGone, says: anything, why: it was here once}\n", "-strict")
	assert.Contains(t, out, "no such test ran or was skipped:\n  passes TestGone\n")
}

func TestWhatFailsIsShownInFullAndNamedAtTheEnd(t *testing.T) {
	out, errs, code := summarise(t, events(t, "passes", "fails", "panics", "compiles", "main"), "")
	assert.Equal(t, 1, code, errs)
	shown, end, _ := strings.Cut(out, "\nfailed (in full above):\n")
	for _, text := range []string{"what came before", "the part is broken", "panic: at the disco", "undefined: undefined", "FAIL\t" + module + "main\t"} {
		assert.Equal(t, 1, strings.Count(shown, text), "%s\n%s", text, out)
	}
	for _, text := range []string{"fails TestFails\n", "fails TestFails/a_part\n", "panics TestPanics\n", "  compiles\n", "  main\n"} {
		assert.Contains(t, end, text)
	}
	assert.NotContains(t, end, "TestBeside")
	assert.Contains(t, end, "5 packages, 4 failed; ")
}

func TestNothingToReadIsAFailure(t *testing.T) {
	_, errs, code := summarise(t, nil, "")
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "no package was tested")
	_, errs, code = summarise(t, []byte("go: no such tool\n"), "")
	assert.Equal(t, 1, code)
	assert.Contains(t, errs, "go: no such tool")
}

func TestTheListIsReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		"skips: [{package: a, test: b, says: something}]\n":                    "why",
		"skips: [{package: a, test: b, says: something, why: 12345678, x: 1}]": "x",
		"skips: [{package: a, test: b, says: '', why: because it is so}]":      "says",
	} {
		_, errs, code := summarise(t, nil, text)
		assert.Equal(t, 2, code)
		assert.Contains(t, errs, want)
	}
}

func TestTheListOfTheRepositoryNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "skips.yaml"))
	require.NoError(t, err)
	allowed, problems := parseSkips("skips.yaml", text)
	require.Empty(t, problems)
	for _, a := range allowed {
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(a.Package), "*_test.go"))
		require.NoError(t, err)
		var sources strings.Builder
		for _, file := range files {
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			sources.Write(source)
		}
		name, _, _ := strings.Cut(a.Test, "/")
		assert.Contains(t, sources.String(), "func "+name+"(t *testing.T)", "%s %s", a.Package, a.Test)
	}
}
