// Package breaks undoes the controls of an image in a guest, one at a time, so that a
// test sees the check of each fail.
package breaks

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"mvdan.cc/sh/v3/syntax"

	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

//go:embed breaks.yaml
var list []byte

// Break undoes one control; breaks.yaml says what the fields mean.
type Break struct {
	Control string   `yaml:"control" jsonschema:"required,pattern=^[A-Z]+-[0-9]+$"`
	Command string   `yaml:"break" jsonschema:"required,minLength=1"`
	Wait    string   `yaml:"wait"`
	Keep    []string `yaml:"keep"`
	Sysctl  []string `yaml:"sysctl"`
	Undo    string   `yaml:"undo"`
	With    []string `yaml:"with"`
}

// Load returns all breaks, each control once and each with a way back.
func Load(t testing.TB) []Break {
	t.Helper()
	var file struct {
		Breaks []Break `yaml:"breaks" jsonschema:"required"`
	}
	_, problems := strictyaml.Decode("breaks.yaml", list, &file)
	require.Empty(t, problems)
	seen := map[string]bool{}
	for _, b := range file.Breaks {
		require.False(t, seen[b.Control], "%s is broken twice", b.Control)
		seen[b.Control] = true
		require.False(t, len(b.Keep)+len(b.Sysctl) == 0 && b.Undo == "", "%s is not undone", b.Control)
	}
	return file.Breaks
}

// saved is the folder of a guest that holds what is restored.
const saved = "/run/ami-factory-break"

// Apply is the script that puts the break in force: it ends when it is so.
func (b Break) Apply() string {
	var s strings.Builder
	fmt.Fprintf(&s, `set -eu
rm -rf %[1]s && mkdir -m 700 %[1]s && : >%[1]s/present && : >%[1]s/absent
for path in %[2]s; do
	if [ -e "$path" ] || [ -L "$path" ]; then
		printf '%%s\0' "$path" >>%[1]s/present
	else
		while parent=$(dirname "$path") && [ ! -e "$parent" ]; do path=$parent; done
		printf '%%s\n' "$path" >>%[1]s/absent
	fi
done
tar --create --file=%[1]s/files.tar --absolute-names --no-recursion --acls --xattrs --null --files-from=%[1]s/present
`, saved, strings.Join(b.Keep, " ")) // patterns are the shell's to match
	if len(b.Sysctl) > 0 {
		var names []string
		for _, name := range b.Sysctl {
			names = append(names, regexp.QuoteMeta(name))
		}
		fmt.Fprintf(&s, "sysctl --all --pattern '^(%s)([.]|$)' >%s/sysctl 2>/dev/null\n", strings.Join(names, "|"), saved)
	}
	fmt.Fprintf(&s, "set +e\n%s\ncode=$?\n[ $code = 0 ] || exit $code\n", b.Command)
	if b.Wait != "" {
		s.WriteString(until(b.Wait))
	}
	return s.String()
}

// until is the part of a script that waits a minute for a command to succeed.
func until(command string) string {
	quoted, err := syntax.Quote(command, syntax.LangBash)
	if err != nil {
		panic(err) // a NUL byte, which YAML has none of
	}
	return fmt.Sprintf("timeout 60 bash -c 'until bash -c \"$1\"; do sleep 0.1; done' _ %s\n", quoted)
}

// Restore is the script that takes the break back.
func (b Break) Restore() string {
	s := fmt.Sprintf(`set -eu
while read -r path; do rm -rf -- "$path"; done <%[1]s/absent
tar --extract --file=%[1]s/files.tar --absolute-names --same-permissions --same-owner --acls --xattrs
`, saved)
	if len(b.Sysctl) > 0 {
		// Twice: setting ip_forward sets others. What a container may not set did not change.
		s += fmt.Sprintf("for i in 1 2; do sysctl -q --load=%s/sysctl || systemd-detect-virt --container --quiet; done\n", saved)
	}
	return s + "set +e\n" + b.Undo + "\n"
}

// Run runs a script in a guest as root.
type Run func(t *testing.T, script string) (output string, code int)

// Failing runs the checks of the controls, or at least of a group of them such as SSH
// ("" stands for all), and returns those that fail, with what it found.
type Failing func(t *testing.T, group string) map[string]string

// Each applies the breaks of the controls alone and undoes each. All checks must hold
// before and afterwards, and in between those of the same group that are not broken.
// It returns how many breaks it tested.
func Each(t *testing.T, controls []string, run Run, failing Failing) int {
	t.Helper()
	wanted := map[string]bool{}
	for _, id := range controls {
		wanted[id] = true
	}
	require.Empty(t, failing(t, ""), "before anything is broken")
	tested := 0
	for _, b := range Load(t) {
		if !wanted[b.Control] {
			continue
		}
		tested++
		t.Run(b.Control, func(t *testing.T) {
			output, code := run(t, b.Apply())
			require.Zero(t, code, "%s: %s", b.Command, output)
			group, _, _ := strings.Cut(b.Control, "-")
			found := failing(t, group)
			assert.Contains(t, found, b.Control, "the check does not notice: %s", b.Command)
			delete(found, b.Control)
			for _, id := range b.With {
				if wanted[id] {
					assert.Contains(t, found, id, "the break is said to make it fail too")
					delete(found, id)
				}
			}
			assert.Empty(t, found, "other controls fail with: %s", b.Command)
			output, code = run(t, b.Restore())
			require.Zero(t, code, "%s: %s", b.Undo, output)
		})
	}
	assert.Empty(t, failing(t, ""), "after everything was undone")
	return tested
}
