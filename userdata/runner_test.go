package userdata_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type provision struct {
	Status     string `json:"status"`
	Components []struct {
		Name    string `json:"name"`
		Status  string `json:"status"`
		Seconds int    `json:"seconds"`
		Exit    int    `json:"exit"`
	} `json:"components"`
	Failed *struct {
		Component string `json:"component"`
		Script    string `json:"script"`
		Exit      int    `json:"exit"`
		Line      int    `json:"line"`
		Command   string `json:"command"`
		LogTail   string `json:"logTail"`
	} `json:"failed"`
}

// bench is a bundle with run.sh and the scripts of a test, in a directory of
// its own.
type bench struct {
	dir string
}

func newBench(t *testing.T, manifest string, installs map[string]string) bench {
	t.Helper()
	for _, tool := range []string{"bash", "python3", "flock"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed, and run.sh needs it", tool)
		}
	}
	b := bench{dir: t.TempDir()}
	script, err := os.ReadFile("runner/run.sh")
	require.NoError(t, err)
	b.write(t, "bundle/run.sh", string(script))
	b.write(t, "bundle/manifest.json", manifest)
	for _, name := range []string{"lib.sh", "packages.sh", "boot-files.sh", "key-fingerprints.py"} {
		content, err := os.ReadFile("lib/" + name)
		require.NoError(t, err)
		b.write(t, "bundle/lib/"+name, string(content))
	}
	for name, install := range installs {
		b.write(t, "bundle/components/"+name+"/install.sh", install)
	}
	return b
}

func (b bench) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(b.dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
}

// run runs run.sh and returns its result, its output and whether it ended well.
func (b bench) run(t *testing.T) (provision, string, bool) {
	t.Helper()
	state := filepath.Join(b.dir, "state")
	command := exec.CommandContext(t.Context(), "bash", filepath.Join(b.dir, "bundle/run.sh"))
	command.Env = append(os.Environ(),
		"AMI_FACTORY_STATE_DIR="+state, "AMI_FACTORY_LOG_DIR="+filepath.Join(b.dir, "logs"))
	output, err := command.CombinedOutput()
	content, readErr := os.ReadFile(filepath.Join(state, "provision.json"))
	require.NoError(t, readErr, "%s", output)
	var result provision
	require.NoError(t, json.Unmarshal(content, &result), "%s", content)
	return result, string(output), err == nil
}

func TestRunnerRunsComponentsInOrderWithTheirParameters(t *testing.T) {
	b := newBench(t,
		`{"family":"debian-12","components":[
			{"name":"second","parameters":{"registryMirror":"https://a b","logMaxFiles":3,"quiet":true}},
			{"name":"first"}]}`,
		map[string]string{
			"second": `set -eu
[[ -f install.sh ]]
echo "$AMI_FACTORY_COMPONENT on $AMI_FACTORY_FAMILY umask $(umask) mirror $AMI_FACTORY_PARAM_REGISTRY_MIRROR files $AMI_FACTORY_PARAM_LOG_MAX_FILES quiet $AMI_FACTORY_PARAM_QUIET"
bash -c 'echo "inner shell has no trap: [${BASH_ENV-}]"'
`,
			"first": "echo '{one}'\n",
		})

	result, output, ok := b.run(t)

	require.True(t, ok, output)
	assert.Equal(t, "ok", result.Status)
	assert.Nil(t, result.Failed)
	require.Len(t, result.Components, 2)
	assert.Equal(t, "second", result.Components[0].Name)
	assert.Equal(t, "first", result.Components[1].Name)
	assert.Contains(t, output, "second on debian-12 umask 0022 mirror https://a b files 3 quiet true\n")
	assert.Contains(t, output, "inner shell has no trap: []\n")
	assert.Contains(t, output, "ami-factory: component first: started\n")
	log, err := os.ReadFile(filepath.Join(b.dir, "logs", "first.log"))
	require.NoError(t, err)
	assert.Equal(t, "{one}\n", string(log))
}

// noPackage stands in for apt, which does not know one package.
const noPackage = `apt_get() { printf '%s\n' 'Reading package lists...' 'E: Unable to locate package nope'; return 100; }
package_manager() { echo apt; }
lists_are_fresh() { true; }
installed_version() { true; }
sleep() { true; }
`

func TestRunnerTellsWhichCommandFailed(t *testing.T) {
	cases := map[string]struct {
		install string
		exit    int
		line    int
		command string
	}{
		"a plain command": {
			"set -euo pipefail\necho before\nls /nonexistent-\"dir\"\necho after\n", 2, 3, `ls /nonexistent-"dir"`,
		},
		"a command in a function, which is where the mistake is": {
			"set -euo pipefail\nf() {\n\ttrue\n\t(exit 7)\n}\n\nf\n", 7, 4, "( exit 7 )",
		},
		"a command substitution": {
			"set -euo pipefail\n\nx=$(cat /nonexistent)\necho \"$x\"\n", 1, 3, "x=$(cat /nonexistent)",
		},
		"a pipeline, whose last command bash names": {
			"set -euo pipefail\nfalse | cat\n", 1, 2, "cat",
		},
		"an unset variable, which the shell itself reports": {
			"set -euo pipefail\ntrue\necho \"$NOT_SET_ANYWHERE\"\n", 1, 3, "NOT_SET_ANYWHERE: unbound variable",
		},
		"a failure that the script forgave is not the one reported": {
			"set -euo pipefail\nif ! false; then true; fi\nx=$(false || echo y)\ntest \"$x\" = z\n", 1, 4, `test "$x" = z`,
		},
		"a package, whose name and not a line of lib.sh is what matters": {
			"set -euo pipefail\n. \"$AMI_FACTORY_LIB/lib.sh\"\n" + noPackage + "packages_install wget nope\n",
			1, 8, "package nope cannot be installed: E: Unable to locate package nope",
		},
		"a refusal of lib.sh": {
			"set -euo pipefail\n. \"$AMI_FACTORY_LIB/lib.sh\"\nfail 'the port is taken'\n", 1, 3, "the port is taken",
		},
		"a refusal of lib.sh that was forgiven is not the one reported": {
			"set -euo pipefail\n. \"$AMI_FACTORY_LIB/lib.sh\"\nif ! fail 'never mind'; then true; fi\nfalse\n", 1, 4, "false",
		},
		"a message with every awkward character": {
			"set -e\nfalse '\"\\\t€'\n", 1, 2, "false '\"\\\t€'",
		},
	}
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			b := newBench(t, `{"family":"f","components":[{"name":"good"},{"name":"bad"},{"name":"never"}]}`,
				map[string]string{"good": "true\n", "bad": "echo 'line of the log'\n" + c.install, "never": "echo NEVER\n"})

			result, output, ok := b.run(t)

			require.False(t, ok, "a failed component must make the runner fail:\n%s", output)
			assert.Equal(t, "failed", result.Status)
			require.NotNil(t, result.Failed)
			assert.Equal(t, "bad", result.Failed.Component)
			assert.Equal(t, c.exit, result.Failed.Exit)
			assert.Equal(t, c.line+1, result.Failed.Line)
			assert.Equal(t, c.command, result.Failed.Command)
			tail, err := base64.StdEncoding.DecodeString(result.Failed.LogTail)
			require.NoError(t, err)
			assert.Contains(t, string(tail), "line of the log\n")
			require.Len(t, result.Components, 2)
			assert.Equal(t, "ok", result.Components[0].Status)
			assert.Equal(t, "failed", result.Components[1].Status)
			assert.Equal(t, c.exit, result.Components[1].Exit)
			assert.NotContains(t, output, "NEVER")
			assert.Contains(t, output, "ami-factory: component bad: failed with exit code ")
		})
	}
}

func TestRunnerCanBeRunAgainAfterAFailure(t *testing.T) {
	b := newBench(t, `{"family":"f","components":[{"name":"c"}]}`, map[string]string{"c": "false\n"})
	_, _, ok := b.run(t)
	require.False(t, ok)

	b.write(t, "bundle/components/c/install.sh", "true\n")
	result, output, ok := b.run(t)

	require.True(t, ok, output)
	assert.Equal(t, "ok", result.Status)
	assert.Nil(t, result.Failed)
}

func TestRunnerReportsABrokenBundle(t *testing.T) {
	cases := map[string]struct{ manifest, command string }{
		"a manifest that is no JSON":   {`{`, "the bundle's manifest.json cannot be read"},
		"a component without a script": {`{"components":[{"name":"ghost"}]}`, "the bundle has no components/ghost/install.sh"},
	}
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			result, output, ok := newBench(t, c.manifest, nil).run(t)
			require.False(t, ok)
			require.NotNil(t, result.Failed)
			assert.Equal(t, c.command, result.Failed.Command)
			assert.Contains(t, output, c.command)
		})
	}
}

func TestRunnerFailsOnAServiceThatIsNotThere(t *testing.T) {
	if _, err := exec.LookPath("systemctl"); err != nil {
		t.Skip("systemctl is not installed, and run.sh needs it to enable services")
	}
	b := newBench(t, `{"components":[{"name":"web","services":["ami-factory-no-such.service"]}]}`,
		map[string]string{"web": "true\n"})

	result, output, ok := b.run(t)

	require.False(t, ok, output)
	require.NotNil(t, result.Failed)
	assert.Equal(t, "web", result.Failed.Component)
	assert.Equal(t, "systemctl enable ami-factory-no-such.service", result.Failed.Command)
	tail, err := base64.StdEncoding.DecodeString(result.Failed.LogTail)
	require.NoError(t, err)
	assert.Contains(t, string(tail), "ami-factory-no-such.service")
}
