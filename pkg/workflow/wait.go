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

// A step that has to wait is two states. One looks: it invokes the step's function,
// which asks AWS once. The other waits: it hands a task token to Wake and stays until
// Wake returns it, because an event says that something has changed, or until its
// time-out, the net. Whichever it was, the first state looks again, so that an event
// that is lost, repeated or false costs time and nothing else.

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

// mostWaits bounds how often a step waits: a wait and a look leave eleven events in the
// execution's history, which holds 25,000
// (https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html). It holds
// off a flood of foreign events in one step. It does not bound all steps together:
// there, only time-outs are known to stay within the history.
const mostWaits = 500

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
// and all regions share the history's 25,000 events.
func awaitRegion() wait {
	image := "'" + contract.ImageResource + "' & $states.input.region & '/' & $states.input.copyId"
	n := slow(time.Minute, 46*time.Hour)
	n.share = 10
	return wait{contract.StateAwaitCopy, CheckDistribution, []string{image}, n, "copyWait"}
}

// verdict is what a guest of the execution uploads.
const verdict = "'" + contract.ExecutionResource + "' & $states.context.Execution.Name"

// instanceOf is an instance that a variable names.
func instanceOf(variable string) string { return "'" + contract.InstanceResource + "' & $" + variable }

func (w wait) state() string { return contract.WaitState(w.step) }

// begin is assigned by the state before the step. since is the moment from which on
// events count: those before it are of what the state before has seen.
func (w wait) begin() string {
	seen := "$wait.seen"
	if w.variable != "wait" {
		seen = "''"
	}
	return "{% {'entered': $now(), 'since': $states.context.State.EnteredTime, 'net': " + whole(w.net.first) +
		", 'asked': 0, 'waits': 0, 'events': 0, 'seen': " + seen + "} %}"
}

// with is the variable with some members changed.
func (w wait) with(members ...string) map[string]any {
	return map[string]any{w.variable: "{% $merge([$" + w.variable + ", {" + strings.Join(members, ", ") + "}]) %}"}
}

func (w wait) member(name string) string { return "$" + w.variable + "." + name }

// counts are how often the function was asked before, how often the step waited, and
// how many of its waits events have ended.
func (w wait) counts() string {
	return "'retries': " + w.member("asked") + " + $states.context.State.RetryCount, 'waits': " + w.member("waits") + ", 'events': " + w.member("events")
}

// timed adds to the timings how long the step took, its waits included.
func (w wait) timed(special ...string) string {
	members := append([]string{"'entered': " + w.member("entered"), "'left': $now()", w.counts()}, special...)
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

// waiting is the state that waits, in a Map over regions if in is given.
func (w wait) waiting(in ...inRegion) State {
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
		"entered":   "{% " + w.member("entered") + " %}",
		"waits":     "{% " + w.member("waits") + " %}",
		"limit":     map[string]any{"seconds": int(w.net.limit.Seconds()), "waits": mostWaits, "code": string(w.code())},
	})
	s.Comment = "waits for an event before " + w.step + " looks again"
	s.Resource += ".waitForTaskToken"
	s.TimeoutSeconds = "{% " + w.member("net") + " %}"
	s.Retry = []Retry{passing(lambdaErrors())} // not its time-out, which is the net
	s.Output = "{% $states.input %}"
	waits := "'waits': " + w.member("waits") + " + 1 + $states.context.State.RetryCount"
	s.Assign = w.with(waits, "'events': "+w.member("events")+" + 1", "'net': "+whole(w.net.again), "'seen': "+w.member("seen")+" & $states.result.event & ' '")
	s.Catch = []Catch{{ErrorEquals: timeOuts(), Assign: w.with(waits, "'net': "+w.longer()), Output: "{% $states.input %}", Next: w.step}}
	if len(in) > 0 {
		s.Catch = append(s.Catch, in[0].caught("", copyKnown, w.counts())...)
	} else {
		s.Catch = append(s.Catch, catchAll(w.step, contract.Failed, w.timed(), "")...)
	}
	s.Next = w.step
	return s
}

func resources(on []string) []any {
	out := make([]any, len(on))
	for i, expression := range on {
		out[i] = "{% " + expression + " %}"
	}
	return out
}

// longer is the next wait's net after one that no event has ended.
func (w wait) longer() string {
	elapsed := "($millis() - $toMillis(" + w.member("entered") + "))"
	return fmt.Sprintf("$min([$ceil(%s * %s), $max([%s, $floor(%s / %d)])])", w.member("net"),
		strconv.FormatFloat(w.net.growth, 'g', -1, 64), whole(w.net.most), elapsed, 1000*w.net.share)
}

func whole(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }
