package userdata_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An agent's component that goes wrong leaves the agent off, and says so.
func TestAnAgentThatCannotBeConfiguredStaysOffAndTellsNoSecret(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed, and agents need it")
	}
	cases := map[string]struct {
		verb, configure string
		baked           string
		code            int
		reason, says    string
	}{
		"its component finds fault":             {"start", `raise agent.problem("no host")`, "", 1, "no host", "x: no host"},
		"its component meets what nobody knew":  {"start", `raise OSError("s3cr3t")`, "", 1, "unexpected OSError", "x: unexpected OSError"},
		"a condition that cannot be decided":    {"requested", "pass", "-", 255, "", "this image has no agent"},
		"a condition of a file that is damaged": {"requested", "pass", "{", 255, "", "unexpected JSONDecodeError"},
		"a condition that is not met":           {"requested", "pass", "", 1, "", "stays off"},
	}
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			dir := onTmpfs(t)
			write := func(name, content string) {
				file := filepath.Join(dir, name)
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
				require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
			}
			for _, name := range []string{"agent", "aws.py"} {
				content, err := os.ReadFile("lib/agents/" + name)
				require.NoError(t, err)
				write("lib/"+name, strings.NewReplacer(`"/etc/`, `"`+dir+`/etc/`, `"/run/`, `"`+dir+`/run/`).Replace(string(content)))
			}
			if c.baked != "-" {
				write("lib/agents/x.json", c.baked+`{"unit":"x.service","secret":"","settings":{},"startWithoutUserData":false}`)
			}
			write("lib/agents/x.py", "SETTINGS = {}\ndef configure(agent):\n    agent.environment({'KEY': 's3cr3t'})\n    "+c.configure+"\n")
			write("bin/systemctl", "#!/bin/sh\n")
			require.NoError(t, os.Chmod(filepath.Join(dir, "bin/systemctl"), 0o700)) // #nosec G302 -- a program
			command := exec.CommandContext(t.Context(), python, "-I", filepath.Join(dir, "lib/agent"), c.verb, "x")
			command.Env = append(os.Environ(), "AMI_FACTORY_IMDS_URL="+newFakeAWS(t).URL, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
			output, err := command.CombinedOutput()
			var ended *exec.ExitError
			require.True(t, errors.As(err, &ended), "%v: %s", err, output)
			assert.Equal(t, c.code, ended.ExitCode(), "%s", output)
			assert.Contains(t, string(output), c.says)
			assert.NotContains(t, string(output), "s3cr3t")
			assert.NoFileExists(t, filepath.Join(dir, "run/ami-factory/secrets/x.env"), "the lock is closed")
			if c.reason != "" {
				var told struct{ State, Reason string }
				content, err := os.ReadFile(filepath.Join(dir, "run/ami-factory/agents/x.json"))
				require.NoError(t, err)
				require.NoError(t, json.Unmarshal(content, &told))
				assert.Equal(t, "failed", told.State)
				assert.Equal(t, c.reason, told.Reason)
			}
		})
	}
}
