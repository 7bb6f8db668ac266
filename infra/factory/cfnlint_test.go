package factory

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cfnLint is the linter of templates, which `.tools/programs.sh` installs.
func cfnLint(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("cfn-lint")
	if err != nil {
		t.Skipf("cfn-lint is not installed, so templates are not checked against CloudFormation's schemas: run `make lint-template`, which installs it (%v)", err)
	}
	return program
}

// lint returns what the linter says of templates; anything counts.
func lint(t *testing.T, templates map[string]map[string]any) (said string, clean bool) {
	t.Helper()
	program, dir := cfnLint(t), t.TempDir()
	args := []string{"--format", "parseable", "--regions", "eu-west-1", "--"}
	for name, tpl := range templates {
		file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".json")
		writeFile(t, file, written(t, tpl))
		args = append(args, file)
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit, "%s", out)
	}
	return string(out), err == nil
}

func TestTheTemplatesAreCleanUnderCfnLint(t *testing.T) {
	cfnLint(t) // or skip, before templates are made
	templates := map[string]map[string]any{"target": targetTemplate(t), "forward": forwardTemplate(t)}
	for _, sentence := range []string{"everything", "as little as can be"} { // the others are parts of these
		templates[sentence] = template(t, variants()[sentence])
	}
	said, clean := lint(t, templates)
	assert.True(t, clean, said)
}

// The linter is told to pass over the definition of the state machine for one thing
// that it does not know, and over the content of the document, which it reads only as a
// mapping.
func TestCfnLintFindsNothingElseInTheStateMachine(t *testing.T) {
	cfnLint(t)
	tpl := template(t, nil)
	machines := ofType(tpl, "AWS::StepFunctions::StateMachine")
	require.Len(t, machines, 1)
	for _, m := range machines {
		require.Contains(t, m, "Metadata")
		delete(m["Metadata"].(map[string]any), "cfn-lint")
	}
	documents := ofType(tpl, "AWS::SSM::Document")
	require.Len(t, documents, 1)
	for _, d := range documents {
		require.Contains(t, d, "Metadata")
		delete(d["Metadata"].(map[string]any), "cfn-lint")
		var content map[string]any
		require.NoError(t, json.Unmarshal([]byte(properties(d)["Content"].(string)), &content))
		properties(d)["Content"] = content
	}
	said, _ := lint(t, map[string]map[string]any{"machine": tpl})
	lines := strings.Split(strings.TrimSpace(said), "\n")
	require.NotEmpty(t, lines)
	for _, line := range lines {
		assert.Regexp(t, `E3601:'\{% \$(\w+\.net|summary\.approvalSeconds) %\}' is not of type 'number' at 'States/(.*Wait|Approve)/TimeoutSeconds'$`, line)
	}
}

// Without this, a linter that does not run finds nothing either.
func TestCfnLintFindsWhatIsWrong(t *testing.T) {
	tpl := targetTemplate(t)
	for _, r := range ofType(tpl, "AWS::IAM::Role") {
		properties(r)["SessionHours"] = 1
	}
	said, clean := lint(t, map[string]map[string]any{"wrong": tpl})
	assert.False(t, clean)
	assert.Contains(t, said, "SessionHours")
}
