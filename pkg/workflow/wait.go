package workflow

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

// A step that has to wait is several states. One looks: it invokes the step's function,
// which asks AWS once. Another waits: it hands a task token to Wake and stays until
// Wake returns it, because an event says that something has changed, or until its
// time-out, the net. Whichever it was, the first state looks again, so that an event
// that is lost, repeated or false costs time and nothing else. If Wake cannot keep the
// token, a third state pauses in place of the wait. A fourth ends the step when it has
// taken too long, unless an event has just ended the wait; then Wake refuses the next.

// net is how long a wait lasts at most. Each wait is longer than the one before, until
// an event comes: the thing that it announces may not be visible yet.
type net struct {
	first  time.Duration // of the step
	again  time.Duration // of a wait after one that an event has ended
	growth float64       // from wait to wait
	most   time.Duration // until share allows more
	share  int           // of the step's time, in a step that takes long: one in so many
	limit  time.Duration // of the step; a function with a time-out of its own ends it before
}

// slow is the net of a step whose end is an event. first is longer than it mostly
// takes.
func slow(first, limit time.Duration) net {
	return net{first: first, again: 2 * time.Second, growth: 1.5, most: 10 * time.Minute, share: 20, limit: limit}
}

// fast is the net of a step whose end may be no event: Systems Manager sends none when
// an agent comes online
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/reference-eventbridge-events.html).
func fast(limit time.Duration) net {
	return net{first: 2 * time.Second, again: 2 * time.Second, growth: 1.25, most: 10 * time.Second, share: 60, limit: limit}
}

// The history of an execution holds 25,000 events
// (https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html). An
// execution that exceeds them ends at once, without Cleanup. So steps that wait share
// what other states leave of them: a flood of foreign events, or a function that is
// throttled for hours, ends a step and not the execution. An attempt of a look leaves at
// most lookEvents: entered, scheduled, started, failed, exited. An attempt to register
// a wait leaves at most waitEvents: the same, two of the pause and two of the state that
// asks whether the step may go on.
const (
	historyEvents = 25_000
	otherEvents   = 1_000 // of all states that do not wait, with all their retries
	regionEvents  = 225   // of each region, likewise, and one wait beyond its part
	lookEvents    = 5
	waitEvents    = 9
)

// allowance is how many events of the history all waits together may leave. regions is
// an expression for the regions.
func allowance(regions string) string {
	return fmt.Sprintf("%d - %d * $count(%s)", historyEvents-otherEvents, regionEvents, regions)
}

// waitsBegin is what the first step that waits finds: what is left of the allowance.
func waitsBegin(regions string) string {
	return "{% {'seen': '', 'left': " + allowance(regions) + ", 'asked': 0, 'waits': 0} %}"
}

// spent is how many events a step's attempts have left at most.
func spent(variable string) string {
	return fmt.Sprintf("%d * $%s.asked + %d * $%[2]s.waits", lookEvents, variable, waitEvents)
}

// wait is a step that waits.
type wait struct {
	step     string   // the state that looks
	stage    Stage    // whose function it invokes
	on       []string // the resources whose events end it, as JSONata expressions
	net      net
	variable string // what it remembers; of its own in each scope of variables
}

// awaitProvisioned waits for what the builder uploads. A builder that could not upload
// is asked by a command, whose end is an event too.
func awaitProvisioned() wait {
	return wait{contract.StateAwaitProvisioned, CheckInstance, []string{instanceOf("builder"), verdict}, slow(time.Minute, 7*time.Hour), "wait"} // a recipe allows 6 hours
}

// awaitSeal waits twice: for a command, and then for the builder to stop, which takes
// it longer than what an event announces takes to be visible.
func awaitSeal() wait {
	n := slow(time.Minute, 2*time.Hour)
	n.again = 30 * time.Second
	return wait{contract.StateSeal, Seal, []string{instanceOf("builder")}, n, "wait"}
}

func awaitImage() wait {
	home := "$split($states.context.StateMachine.Id, ':')[3]"
	return wait{contract.StateAwaitImage, CheckImage, []string{"'" + contract.ImageResource + "' & " + home + " & '/' & $image"}, slow(3*time.Minute, 24*time.Hour), "wait"}
}

func awaitBoot() wait {
	return wait{contract.StateAwaitBoot, CheckInstance, []string{instanceOf("verifier")}, fast(7 * time.Hour), "wait"}
}

func awaitResults() wait {
	return wait{contract.StateEvaluateGate, CheckCompliance, []string{instanceOf("verifier")}, slow(2*time.Minute, 3*time.Hour), "wait"} // a recipe allows 2 hours
}

// awaitRegion is the wait for a copy, in the Map. Large encrypted copies take hours,
// and all regions share the events of the history.
func awaitRegion() wait {
	image := "'" + contract.ImageResource + "' & $states.input.region & '/' & $states.input.copyId"
	n := slow(time.Minute, 46*time.Hour)
	n.share = 6
	return wait{contract.StateAwaitCopy, CheckDistribution, []string{image}, n, "copyWait"}
}

// verdict is what a guest of the execution uploads.
const verdict = "'" + contract.ExecutionResource + "' & $states.context.Execution.Name"

// instanceOf is an instance that a variable names.
func instanceOf(variable string) string { return "'" + contract.InstanceResource + "' & $" + variable }

func (w wait) state() string { return contract.WaitState(w.step) }

// firstPause is how long a step pauses at first if Wake could not register its wait.
const firstPause = 2 * time.Second

// begin is assigned by the state before the step. since is the moment from which on
// events count: those before it are of what the state before has seen. A step has half
// of the events that the steps before have left, and a region its share of what is left.
func (w wait) begin() string {
	left := "($wait.left - " + spent("wait") + ")"
	members := []string{
		"'entered': $now()", "'since': $states.context.State.EnteredTime", "'net': " + whole(w.net.first), "'pause': " + whole(firstPause),
		"'asked': 0", "'waits': 0", "'events': 0", "'detours': 0",
	}
	if w.variable == "wait" {
		members = append(members, "'seen': $wait.seen", "'left': "+left, "'most': $floor("+left+" / 2)")
	} else {
		members = append(members, "'seen': ''", "'most': $floor("+left+" / $count($regions))")
	}
	return "{% {" + strings.Join(members, ", ") + "} %}"
}

// over is whether the step may not wait any more.
func (w wait) over() string {
	return fmt.Sprintf("%s > %d or %s > %s", w.elapsed(), w.net.limit.Milliseconds(), spent(w.variable), w.member("most"))
}

// elapsed is the step's time so far, in milliseconds.
func (w wait) elapsed() string { return "($millis() - $toMillis(" + w.member("entered") + "))" }

// with is the variable with some members changed.
func (w wait) with(members ...string) map[string]any {
	return map[string]any{w.variable: "{% $merge([$" + w.variable + ", {" + strings.Join(members, ", ") + "}]) %}"}
}

func (w wait) member(name string) string { return "$" + w.variable + "." + name }

// counts are how often the function was asked before, how often the step waited, how
// many of its waits events have ended, and how many states it passed through beside.
// now is what the state itself adds to the first.
func (w wait) counts(now string) string {
	return "'retries': " + w.member("asked") + " " + now + ", 'waits': " + w.member("waits") + ", 'events': " + w.member("events") + ", 'detours': " + w.member("detours")
}

// What the state that looks and one that does not add to the attempts. Those of
// the state that looks have been counted when it was left to wait.
const (
	looked    = "+ $states.context.State.RetryCount"
	notLooked = "- 1" // as the first attempt is no retry
)

// timed adds to the timings how long the step took, its waits included.
func (w wait) timed(special ...string) string { return w.timedAt(looked, special...) }

func (w wait) timedAt(now string, special ...string) string {
	members := append([]string{"'entered': " + w.member("entered"), "'left': $now()", w.counts(now)}, special...)
	return "{% $merge([$timings, {'" + w.step + "': {" + strings.Join(members, ", ") + "}}]) %}"
}

// looking is the state that looks.
func (w wait) looking(payload any, assign map[string]any, next string) State {
	s := invoke(w.stage, w.step, payload)
	s.Assign, s.Next = map[string]any{"timings": w.timed()}, next
	maps.Copy(s.Assign, assign)
	s.Catch = append([]Catch{w.notYet()}, failedAfter(w.step, w.timed(), tooLate(w.step, w.stage))...)
	return s
}

// notYet leads from the state that looks to the one that waits. Events since the look
// began count: it may not have seen what they announce.
func (w wait) notYet() Catch {
	return Catch{
		ErrorEquals: names(w.code()), Next: w.state(), Output: "{% $states.input %}",
		Assign: w.with("'since': $states.context.State.EnteredTime", "'asked': "+w.member("asked")+" + 1 + $states.context.State.RetryCount"),
	}
}

// code is that with which the function says "not yet".
func (w wait) code() failure.Code {
	spec, _ := Lookup(w.stage)
	return spec.NotYet
}

// waiting are the states that the step is in while it waits, in a Map over regions if in
// is given.
func (w wait) waiting(in ...inRegion) []State {
	return []State{w.registered(), w.paused(), w.inTime(in...)}
}

// registered is the state that waits.
func (w wait) registered() State {
	s := invoke(Wake, w.state(), map[string]any{
		"execution": map[string]any{
			"id":        "{% $states.context.Execution.Id %}",
			"name":      "{% $states.context.Execution.Name %}",
			"startTime": "{% $states.context.Execution.StartTime %}",
		},
		"stage":     w.step,
		"now":       "{% $now() %}",
		"token":     "{% $states.context.Task.Token %}",
		"resources": resources(w.on),
		"since":     "{% " + w.member("since") + " %}",
		"seen":      "{% " + w.member("seen") + " %}",
		"waits":     "{% " + w.member("waits") + " %}",
		"over":      "{% " + w.over() + " %}",
	})
	s.Comment = "waits for an event before " + w.step + " looks again"
	s.Resource += ".waitForTaskToken"
	s.TimeoutSeconds = "{% " + w.member("net") + " %}"
	// Not its time-out, which is the net. Soon the step pauses instead and looks: an
	// event is only a hint.
	retry := passing(lambdaErrors())
	retry.MaxAttempts = 2
	s.Retry = []Retry{retry}
	s.Output = "{% $states.input %}"
	waits := "'waits': " + w.member("waits") + " + 1 + $states.context.State.RetryCount"
	detours := func(n int) string { return fmt.Sprintf("'detours': %s + %d", w.member("detours"), n) }
	s.Assign = w.with(waits, "'events': "+w.member("events")+" + 1", "'net': "+whole(w.net.again), "'seen': "+w.member("seen")+" & $states.result.event & ' '")
	s.Catch = []Catch{{ErrorEquals: timeOuts(), Assign: w.with(waits, detours(1), "'net': "+w.longer("net")), Output: "{% $states.input %}", Next: contract.InTimeState(w.step)}}
	for _, names := range anyError() {
		s.Catch = append(s.Catch, Catch{
			ErrorEquals: names, Assign: w.with(waits, detours(2), "'pause': "+w.longer("pause")), Output: "{% $states.input %}", Next: contract.PauseState(w.step),
		})
	}
	s.Next = w.step
	return s
}

// paused follows where Wake could not keep the token.
func (w wait) paused() State {
	return State{
		Name: contract.PauseState(w.step), Type: "Wait", Comment: "No event can end the wait: " + w.step + " looks again after a pause, which grows.",
		Seconds: "{% " + w.member("pause") + " %}", Next: contract.InTimeState(w.step),
	}
}

// inTime ends a step that has waited too long.
func (w wait) inTime(in ...inRegion) State {
	cause := "'" + w.step + " is given up after ' & $string($round(" + w.elapsed() + " / 1000)) & ' s, ' & $string(" + w.member("asked") + ") & ' looks and ' & $string(" + w.member("waits") +
		") & ' waits. What it waits for: ' & $join([" + strings.Join(w.on, ", ") + "], ', ')"
	c := Choice{Condition: "{% " + w.over() + " %}", Next: contract.StateCleanup}
	if len(in) > 0 {
		c.Output, c.Next = in[0].failure("'"+string(w.code())+"'", cause, copyKnown, w.counts(notLooked)), in[0].failedAt
	} else {
		c.Assign = map[string]any{
			"outcome": contract.Failed, "failed": w.step, "timings": w.timedAt(notLooked), "code": string(w.code()), "cause": "{% " + cause + " %}",
		}
	}
	return State{
		Name: contract.InTimeState(w.step), Type: "Choice", Comment: "The hours of the step, and its part of the events of the history, are bounded.",
		Choices: []Choice{c}, Default: w.step,
	}
}

func resources(on []string) []any {
	out := make([]any, len(on))
	for i, expression := range on {
		out[i] = "{% " + expression + " %}"
	}
	return out
}

// longer is the next wait's net after one that no event has ended, or the next pause.
func (w wait) longer(member string) string {
	return fmt.Sprintf("$min([$ceil(%s * %s), $max([%s, $floor(%s / %d)])])", w.member(member),
		strconv.FormatFloat(w.net.growth, 'g', -1, 64), whole(w.net.most), w.elapsed(), 1000*w.net.share)
}

func whole(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }
