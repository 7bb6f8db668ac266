package blueprint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

func TestEveryStageHasSettingsAndEverySettingAStage(t *testing.T) {
	assert.Len(t, stages(), len(workflow.Stages()))
	for _, row := range workflow.Stages() {
		assert.Contains(t, stages(), row.Stage)
	}
	names := map[string]bool{}
	for _, fn := range Functions() {
		assert.False(t, names[fn.Name], "%s is there twice", fn.Name)
		names[fn.Name] = true
		assert.NotEmpty(t, fn.Does, fn.Name)
		assert.Positive(t, fn.Timeout, fn.Name)
		assert.Positive(t, fn.MemoryMiB, fn.Name)
		assert.NotEmpty(t, fn.Actions, fn.Name)
	}
}

// statesOf are all states, those inside Maps too.
func statesOf(states workflow.States) []workflow.State {
	var out []workflow.State
	for _, s := range states {
		out = append(out, s)
		if s.ItemProcessor != nil {
			out = append(out, statesOf(s.ItemProcessor.States)...)
		}
	}
	return out
}

func TestNoStateInvokesATrigger(t *testing.T) {
	for _, s := range statesOf(workflow.Definition().States) {
		arguments, _ := s.Arguments.(map[string]any)
		for _, fn := range Triggers() {
			assert.NotEqual(t, workflow.Placeholder(workflow.Stage(fn.Name)), arguments["FunctionName"], "%s starts executions", fn.Name)
		}
	}
}

// declaredCodes reads the constants of package failure, so that a new code
// cannot be forgotten here.
func declaredCodes(t *testing.T) []failure.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "failure", "failure.go"), nil, 0)
	require.NoError(t, err)
	var codes []failure.Code
	ast.Inspect(file, func(n ast.Node) bool {
		if _, ok := n.(*ast.ImportSpec); ok {
			return false
		}
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if v := strings.Trim(lit.Value, `"`); v != "" && !strings.ContainsAny(v, " :%/") {
				codes = append(codes, failure.Code(v))
			}
		}
		return true
	})
	slices.Sort(codes)
	return slices.Compact(codes)
}

func TestEveryCodeIsEitherRetriedOrEndsTheExecutionByAFunctionThatDeclaresIt(t *testing.T) {
	retried := map[failure.Code]bool{}
	for _, s := range statesOf(workflow.Definition().States) {
		for _, r := range s.Retry {
			for _, e := range r.ErrorEquals {
				retried[failure.Code(e)] = true
			}
		}
		for _, c := range s.Catch { // to the state that waits before the same one looks again
			if step := contract.StepOf(c.Next); step != c.Next {
				retried[failure.Code(c.ErrorEquals[0])] = step == s.Name
			}
		}
	}
	declared := map[failure.Code]bool{}
	for _, c := range workflow.Common() {
		declared[c] = true
	}
	for _, fn := range Functions() {
		for _, c := range fn.Fails {
			declared[c] = true
		}
	}
	for _, row := range workflow.Stages() {
		if row.NotYet != "" {
			declared[row.NotYet] = true
			assert.True(t, retried[row.NotYet], "%s is not retried", row.NotYet)
		}
	}
	codes := declaredCodes(t)
	require.Greater(t, len(codes), 20)
	for _, c := range codes {
		assert.True(t, declared[c], "no function declares %s", c)
	}
	for _, c := range failure.NotYet() {
		assert.True(t, retried[c], "no state asks again after %s", c)
	}
	for _, spec := range workflow.Stages() {
		assert.True(t, spec.NotYet == "" || spec.NotYet.IsNotYet(), "stage %s", spec.Stage)
	}
}

// A state that gives up first would report a time-out, and repeat a function that still
// runs.
func TestEachStateWaitsLongerThanItsFunctionRuns(t *testing.T) {
	byStage := map[string]Function{}
	for _, fn := range Functions() {
		byStage[workflow.Placeholder(workflow.Stage(fn.Name))] = fn
	}
	invoked := map[string]bool{}
	for _, s := range statesOf(workflow.Definition().States) {
		arguments, _ := s.Arguments.(map[string]any)
		name, ok := arguments["FunctionName"].(string)
		if !ok {
			continue
		}
		fn, ok := byStage[name]
		require.True(t, ok, "%s invokes %s", s.Name, name)
		invoked[fn.Name] = true
		if strings.HasSuffix(s.Resource, ".waitForTaskToken") {
			assert.IsType(t, "", s.TimeoutSeconds, "%s waits for an event, not for its function", s.Name)
			continue
		}
		seconds, ok := s.TimeoutSeconds.(int)
		require.True(t, ok, "%s has no time-out in seconds: %v", s.Name, s.TimeoutSeconds)
		assert.Greater(t, time.Duration(seconds)*time.Second, fn.Timeout, s.Name)
	}
	for _, row := range workflow.Stages() {
		assert.True(t, invoked[string(row.Stage)], "no state invokes %s", row.Stage)
	}
	for _, fn := range Functions() {
		assert.LessOrEqual(t, fn.Timeout, 15*time.Minute, "Lambda runs %s no longer", fn.Name)
		assert.GreaterOrEqual(t, fn.MemoryMiB, 128, "Lambda has no less for %s", fn.Name)
	}
}
