package workflow_test

import (
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
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
				if to != "" && contract.StepOf(to) != contract.StepOf(s.Name) { // a step that waits goes round
					assert.Greater(t, at[to], i, "state %s leads back to %s", s.Name, to)
				}
			}
			for _, c := range s.Catch {
				if step := contract.StepOf(s.Name); contract.StepOf(c.Next) == step {
					for between := min(i, at[c.Next]); between <= max(i, at[c.Next]); between++ {
						assert.Equal(t, step, contract.StepOf(states[between].Name), "the states of a step are side by side")
					}
					continue
				}
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
			if contract.StepOf(c.Next) != contract.StepOf(name) {
				assert.Equal(t, last.Next == "Outcome", c.Next == "Outcome", "state %s: catchers lead to one place", name)
			}
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
		case contract.WaitState(contract.StepOf(name)): // an event is only a hint
			assert.Equal(t, contract.PauseState(contract.StepOf(name)), last.Next)
		default:
			assert.Equal(t, "Cleanup", last.Next, "state %s", name)
		}
	}
}

// If an iteration failed its Map, Cleanup would begin while functions of the other
// regions still run.
func TestARegionThatFailsEndsNoOtherRegion(t *testing.T) {
	m := workflow.Definition()
	maps := 0
	for i, s := range m.States {
		if s.Type != "Map" {
			continue
		}
		maps++
		after := m.States[i+1]
		require.Equal(t, after.Name, s.Next)
		require.Equal(t, "Choice", after.Type, "what follows %s asks whether all regions have succeeded", s.Name)
		assert.Equal(t, "{% $count($failures) > 0 %}", after.Choices[0].Condition)
		assert.Equal(t, contract.StateCleanup, after.Choices[0].Next)
		assert.Equal(t, s.Name, after.Choices[0].Assign["failed"])
		for _, inside := range s.ItemProcessor.States {
			assert.NotEqual(t, "Fail", inside.Type, inside.Name)
			if inside.Type != "Task" || contract.StepOf(inside.Name) != inside.Name {
				continue
			}
			caught := map[string]string{}
			for _, c := range inside.Catch {
				for _, e := range c.ErrorEquals {
					caught[e] = c.Next
				}
			}
			for _, e := range []string{"States.ALL", "States.DataLimitExceeded", "States.Runtime"} {
				end, ok := s.ItemProcessor.States.Named(caught[e])
				require.True(t, ok, "%s does not catch %s", inside.Name, e)
				assert.Equal(t, "Pass", end.Type, end.Name)
				assert.True(t, end.End, end.Name)
			}
		}
	}
	assert.Equal(t, 3, maps)
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
		// Those whose errors change nothing, and those whose time-out ends a wait.
		if s.Type != "Task" || name == contract.StateApprove || name == "Notify" || name == "Announce" || contract.StepOf(name) != name {
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
	counted := false
	for name := contract.StateBegin; !slices.Contains(contract.EndStates(), name); {
		s, ok := states[name]
		require.True(t, ok, "there is no state %q", name)
		if timings, _ := s.Assign["timings"].(string); timings == "" && contract.StepOf(name) == name && !counted { // a wait's time is its step's; Begin assigns an empty object
			untimed = append(untimed, name)
		}
		counted = s.Type == "Map" || name == contract.StateSign // the choice that follows is counted with it
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

// waits are the states that wait, by step.
func waits(t *testing.T) map[string]workflow.State {
	t.Helper()
	out := map[string]workflow.State{}
	eachState(workflow.Definition().States, func(name string, s workflow.State) {
		if step := contract.StepOf(name); name == contract.WaitState(step) {
			out[step] = s
		}
	})
	require.ElementsMatch(t, contract.WaitingSteps(), slices.Collect(maps.Keys(out)))
	return out
}

// A function that says "not yet" is asked again after a wait, by the state whose name
// users know.
func TestAStepThatIsNotDoneWaitsForAnEventOrItsNetAndLooksAgain(t *testing.T) {
	for step, w := range waits(t) {
		var look workflow.State
		eachState(workflow.Definition().States, func(name string, s workflow.State) {
			if name == step {
				look = s
			}
		})
		require.Equal(t, "Task", look.Type, step)
		assert.Equal(t, w.Name, look.Catch[0].Next, step)
		require.Len(t, look.Catch[0].ErrorEquals, 1, step)
		assert.True(t, failure.Code(look.Catch[0].ErrorEquals[0]).IsNotYet(), step)
		for _, r := range look.Retry {
			for _, e := range r.ErrorEquals {
				assert.False(t, failure.Code(e).IsNotYet(), "%s retries %s", step, e)
			}
		}
		assert.Equal(t, step, w.Next)
		assert.True(t, strings.HasSuffix(w.Resource, ":::lambda:invoke.waitForTaskToken"), w.Resource)
		assert.Equal(t, workflow.Placeholder(workflow.Wake), w.Arguments.(map[string]any)["FunctionName"])
		assert.Equal(t, contract.InTimeState(step), w.Catch[0].Next, "the time-out is the net")
		assert.Contains(t, w.Catch[0].ErrorEquals, "States.Timeout")
		for _, r := range w.Retry {
			assert.NotContains(t, r.ErrorEquals, "States.Timeout", step)
		}
		eachState(workflow.Definition().States, func(name string, s workflow.State) {
			switch name {
			case contract.PauseState(step):
				assert.Equal(t, "Wait", s.Type, name)
				assert.Equal(t, contract.InTimeState(step), s.Next)
			case contract.InTimeState(step):
				assert.Equal(t, "Choice", s.Type, name)
				assert.Equal(t, step, s.Default)
				require.Len(t, s.Choices, 1)
				assert.Equal(t, s.Choices[0].Condition, w.Arguments.(map[string]any)["Payload"].(map[string]any)["over"], "who asks makes no difference")
			}
		})
		assert.Equal(t, "{% $states.input %}", w.Output, "a wait changes nothing for the look after it")
		assert.Equal(t, "{% $states.input %}", w.Catch[0].Output, step)
		assert.Equal(t, "{% $states.input %}", look.Catch[0].Output, step)
	}
}

// All other functions that say "not yet" are retried.
func TestWhatNoEventAnnouncesIsPolled(t *testing.T) {
	waiting := map[string]bool{}
	for step := range waits(t) {
		eachState(workflow.Definition().States, func(name string, s workflow.State) {
			if name == step {
				waiting[s.Arguments.(map[string]any)["FunctionName"].(string)] = true
			}
		})
	}
	for _, row := range workflow.Stages() {
		assert.Equal(t, row.NotYet != "" && !waiting[workflow.Placeholder(row.Stage)], row.Poll != nil, row.Stage)
	}
}

// history is what the machine lets waits leave in the history of an execution.
type history struct {
	most, each int // of all waits: most less each for every region
	look, wait int // of one attempt
}

const quota = 25000 // https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html

func numbers(t *testing.T, pattern string, in any) []int {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(in.(string))
	require.NotNil(t, m, "%s in %s", pattern, in)
	var out []int
	for _, s := range m[1:] {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		out = append(out, n)
	}
	return out
}

func historyOf(t *testing.T) history {
	t.Helper()
	resolve, _ := workflow.Definition().States.Named(contract.StateResolve)
	n := numbers(t, `'left': (\d+) - (\d+) \* \$count\(`, resolve.Assign["wait"])
	var h history
	for step, w := range waits(t) {
		over := w.Arguments.(map[string]any)["Payload"].(map[string]any)["over"]
		costs := numbers(t, ` > \d+ or (\d+) \* \$\w+\.asked \+ (\d+) \* \$\w+\.waits > `, over)
		h = history{n[0], n[1], costs[0], costs[1]}
		assert.LessOrEqual(t, 5, h.look, step)
	}
	return h
}

// attempts are the events of a state that is tried as often as it may be: entered,
// exited, and scheduled, started and failed for each attempt.
func attempts(s workflow.State) int {
	n := 1
	for _, r := range s.Retry {
		n += r.MaxAttempts
	}
	return 2 + 3*n
}

// leaves are the most events of a state with all its retries, and, in a Map over
// regions, of each region. A step that waits is counted with its last look alone.
func leaves(s workflow.State) (own, region int) {
	switch {
	case contract.StepOf(s.Name) != s.Name:
		return 0, 0
	case s.Type == "Task":
		return attempts(s), 0
	case s.Type == "Map":
		region = 2 // the iteration began and ended
		for _, inside := range s.ItemProcessor.States {
			n, _ := leaves(inside)
			region += n
		}
		return 4, region
	}
	return 2, 0
}

// A history of 25,000 events ends an execution at once, without Cleanup. The steps
// that wait give up before, whatever happens to them.
func TestNoExecutionFillsItsHistory(t *testing.T) {
	h := historyOf(t)
	own, region, once := 2, 0, 0 // the execution began and ended
	for _, s := range workflow.Definition().States {
		n, r := leaves(s)
		own, region = own+n, region+r
	}
	eachState(workflow.Definition().States, func(name string, s workflow.State) {
		if contract.StepOf(name) != name && s.Type == "Task" {
			once = max(once, attempts(s)) // of the wait that finds the allowance used up
			assert.LessOrEqual(t, attempts(s)+4, h.wait*(attempts(s)-2)/3, "%s: each attempt is charged for", name)
		}
	})
	look := 0
	eachState(workflow.Definition().States, func(name string, s workflow.State) {
		if slices.Contains(contract.WaitingSteps(), name) {
			look = max(look, attempts(s))
		}
	})
	once += 4 + look // and the pause, the question whether to go on, and the look before it
	t.Logf("of %d events, %d are of states that do not wait and %d of each region; one wait leaves at most %d", quota, own, region, once)
	assert.LessOrEqual(t, own+once, quota-h.most-1, "what the allowance leaves for other states")
	assert.LessOrEqual(t, region+once, h.each, "and for each region")
}

// The bound is for floods of events and functions that fail: it ends no step before its
// hours, if no event ever comes, in as many regions.
func TestAStepWhoseEventsAreAllLostHasItsHours(t *testing.T) {
	const regions = 20
	h := historyOf(t)
	left := h.most - regions*h.each
	all := waits(t)
	for _, step := range contract.WaitingSteps() {
		w := all[step]
		hours := numbers(t, ` > (\d+)000 or `, w.Arguments.(map[string]any)["Payload"].(map[string]any)["over"])[0]
		n := netted(t, w, time.Duration(hours)*time.Second) * (h.look + h.wait)
		most := left / 2
		if step == contract.StateAwaitCopy {
			most = left / regions
		}
		assert.LessOrEqual(t, n, most, step)
		t.Logf("%s: at most %d of %d events in %d s", step, n, most, hours)
		left -= n
	}
}

// netted is how often a step waits if no event ever comes, by the expressions of its
// state.
func netted(t *testing.T, w workflow.State, limit time.Duration) int {
	t.Helper()
	grown := regexp.MustCompile(`\$min\(\[\$ceil\([^)]*net \* ([0-9.]+)\), \$max\(\[(\d+), \$floor\(.* / (\d+)\)\]\)\]\)`)
	var m []string
	for _, assigned := range w.Catch[0].Assign {
		m = grown.FindStringSubmatch(assigned.(string))
	}
	require.Len(t, m, 4, w.Name)
	number := func(s string) float64 {
		out, err := strconv.ParseFloat(s, 64)
		require.NoError(t, err)
		return out
	}
	net, elapsed, n := 2.0, 0.0, 0 // the shortest there is
	for elapsed < limit.Seconds() {
		elapsed += net
		n++
		net = min(math.Ceil(net*number(m[1])), max(number(m[2]), math.Floor(1000*elapsed/number(m[3]))))
	}
	return n
}

func TestTheDefinitionIsJSONOfAtMostOneMegabyte(t *testing.T) {
	b := workflow.Definition().JSON()
	assert.True(t, json.Valid(b))
	assert.Less(t, len(b), 1<<20, "the quota of a state machine definition")
}
