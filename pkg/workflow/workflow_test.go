package workflow_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/workflow"
	"github.com/ami-factory/ami-factory/test/golden"
)

func TestTheDefinitionIsTheGoldenOne(t *testing.T) {
	golden.Testdata(t, "definition.asl.json", workflow.Definition().JSON())
}

// eachState visits every state, those inside Maps too.
func eachState(states workflow.States, visit func(name string, s workflow.State)) {
	for _, s := range states {
		visit(s.Name, s)
		if s.ItemProcessor != nil {
			eachState(s.ItemProcessor.States, visit)
		}
	}
}

func TestEveryStageIsInvokedAndEveryNextExists(t *testing.T) {
	m := workflow.Definition()
	invoked := map[string]bool{}
	var walk func(states workflow.States)
	walk = func(states workflow.States) {
		for _, s := range states {
			targets := []string{s.Next, s.Default}
			for _, c := range s.Choices {
				targets = append(targets, c.Next)
			}
			for _, c := range s.Catch {
				targets = append(targets, c.Next)
			}
			for _, to := range targets {
				if to != "" {
					_, exists := states.Named(to)
					assert.True(t, exists, "state %s goes to %s", s.Name, to)
				}
			}
			if a, ok := s.Arguments.(map[string]any); ok {
				invoked[a["FunctionName"].(string)] = true
			}
			if s.ItemProcessor != nil {
				walk(s.ItemProcessor.States)
			}
		}
	}
	walk(m.States)
	for _, spec := range workflow.Stages() {
		assert.True(t, invoked[workflow.Placeholder(spec.Stage)], "no state invokes %s", spec.Stage)
	}
	assert.Len(t, invoked, len(workflow.Stages()))
}

// Whoever reads the definition from its start meets every state after one that leads
// to it, and never has to go back to follow an execution in which nothing fails.
func TestTheMachineReadsFromTopToBottom(t *testing.T) {
	var walk func(start string, states workflow.States)
	walk = func(start string, states workflow.States) {
		require.Equal(t, start, states[0].Name, "the first state is that in which an execution begins")
		at := map[string]int{}
		for i, s := range states {
			at[s.Name] = i
		}
		for i, s := range states {
			targets := []string{s.Next, s.Default}
			for _, c := range s.Choices {
				targets = append(targets, c.Next)
			}
			for _, to := range targets {
				if to != "" {
					assert.Greater(t, at[to], i, "state %s leads back to %s", s.Name, to)
				}
			}
			for _, c := range s.Catch {
				assert.Greater(t, at[c.Next], i, "an error in state %s leads back to %s", s.Name, c.Next)
			}
			if s.ItemProcessor != nil {
				walk(s.ItemProcessor.StartAt, s.ItemProcessor.States)
			}
		}
	}
	m := workflow.Definition()
	walk(m.StartAt, m.States)
}

func TestStatesAreWrittenInTheirOrder(t *testing.T) {
	written, err := json.Marshal(workflow.States{{Name: "Second", Type: "Pass", Next: "First"}, {Name: "First", Type: "Succeed"}})
	require.NoError(t, err)
	assert.Equal(t, `{"Second":{"Type":"Pass","Next":"First"},"First":{"Type":"Succeed"}}`, string(written))
	for sentence, states := range map[string]workflow.States{
		"a name twice": {{Name: "A", Type: "Pass"}, {Name: "A", Type: "Succeed"}},
		"no name":      {{Type: "Succeed"}},
	} {
		_, err := json.Marshal(states)
		assert.ErrorContains(t, err, "empty or used twice", sentence)
	}
	at := -1
	rendered := string(workflow.Definition().JSON())
	for _, s := range workflow.Definition().States {
		i := strings.Index(rendered, "\n    \""+s.Name+"\": {")
		assert.Greater(t, i, at, "state %s", s.Name)
		at = i
	}
}

func TestWhateverFailsCleanupRuns(t *testing.T) {
	m := workflow.Definition()
	for _, s := range m.States {
		name := s.Name
		if s.Type != "Task" && s.Type != "Map" {
			continue
		}
		require.NotEmpty(t, s.Catch, "state %s catches nothing", name)
		last := s.Catch[len(s.Catch)-1]
		assert.Equal(t, []string{"States.ALL"}, last.ErrorEquals, "state %s", name)
		named := map[string]bool{}
		for _, c := range s.Catch {
			for _, e := range c.ErrorEquals {
				named[e] = true
			}
			assert.Equal(t, last.Next == "Outcome", c.Next == "Outcome", "state %s: catchers lead to one place", name)
		}
		// https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
		for _, e := range []string{"States.DataLimitExceeded", "States.Runtime"} {
			assert.True(t, named[e], "state %s: States.ALL does not catch %s", name, e)
		}
		switch name {
		case "Cleanup":
			assert.Equal(t, "Notify", last.Next)
		case "Notify":
			assert.Equal(t, "Outcome", last.Next)
		case "Announce": // the image is published; Notify informs consumers then
			assert.Equal(t, "Retire", last.Next)
		default:
			assert.Equal(t, "Cleanup", last.Next, "state %s", name)
		}
	}
}

func TestACatcherReadsNothingOutOfACause(t *testing.T) {
	eachState(workflow.Definition().States, func(name string, s workflow.State) {
		for _, c := range s.Catch {
			raw, err := json.Marshal(c)
			require.NoError(t, err)
			for _, function := range []string{"$parse", "$eval", "$match", "$replace", "$split"} {
				assert.NotContains(t, string(raw), function, "state %s: an error in a catcher cannot be caught", name)
			}
		}
	})
}

// Step Functions gives a time-out an empty cause.
func TestATimeOutOfEveryStageSaysWhichAndAfterHowLong(t *testing.T) {
	stages := map[string]workflow.Stage{}
	for _, spec := range workflow.Stages() {
		stages[workflow.Placeholder(spec.Stage)] = spec.Stage
	}
	eachState(workflow.Definition().States, func(name string, s workflow.State) {
		if s.Type != "Task" || name == "Notify" || name == "Announce" { // whose errors change nothing
			return
		}
		spec, ok := workflow.Lookup(stages[s.Arguments.(map[string]any)["FunctionName"].(string)])
		require.True(t, ok, name)
		i := slices.IndexFunc(s.Catch, func(c workflow.Catch) bool { return slices.Contains(c.ErrorEquals, "States.Timeout") })
		require.GreaterOrEqual(t, i, 0, "state %s", name)
		assert.Contains(t, s.Catch[i].ErrorEquals, "Sandbox.Timedout", "state %s: Lambda's own", name)
		raw, err := json.Marshal(s.Catch[i])
		require.NoError(t, err)
		assert.Contains(t, string(raw), "The function of "+name+" did not answer in time")
		assert.Contains(t, string(raw), spec.Timeout.String())
	})
}

// The costs of an execution count one transition for each state that it passes
// through: timings count those that keep their time.
func TestTheStatesThatKeepNoTimeAreTheUntimedOnes(t *testing.T) {
	states := map[string]workflow.State{}
	for _, s := range workflow.Definition().States {
		states[s.Name] = s
	}
	var untimed []string
	for name := contract.StateBegin; !slices.Contains(contract.EndStates(), name); {
		s, ok := states[name]
		require.True(t, ok, "there is no state %q", name)
		if timings, _ := s.Assign["timings"].(string); timings == "" { // Begin assigns an empty object
			untimed = append(untimed, name)
		}
		switch {
		case name == contract.StateHasInput:
			name = contract.StateResolve // its default refuses the input
		case s.Next != "":
			name = s.Next
		default:
			name = s.Default
		}
	}
	assert.Equal(t, contract.UntimedStates(), untimed)
}

func TestEveryRetryOfAPollStaysWithinTheHistoryQuota(t *testing.T) {
	// Scheduled, started and failed: three events an attempt, 25,000 an execution.
	for _, spec := range workflow.Stages() {
		if spec.Poll != nil {
			assert.LessOrEqual(t, spec.Poll.Attempts*3, 20000, "stage %s", spec.Stage)
		}
	}
}

func TestTheDefinitionIsJSONOfAtMostOneMegabyte(t *testing.T) {
	b := workflow.Definition().JSON()
	assert.True(t, json.Valid(b))
	assert.Less(t, len(b), 1<<20, "the quota of a state machine definition")
}
