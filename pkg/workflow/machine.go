package workflow

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// The ways an execution can end; they are the names of its last states.
const (
	Published   = "Published"   // every region has the image and every pointer names it
	UpToDate    = "UpToDate"    // the published image already has this fingerprint
	Rejected    = "Rejected"    // the gate refused the image; nothing is left
	FailedClean = "FailedClean" // a stage failed; nothing is left
	FailedDirty = "FailedDirty" // something could not be removed, whatever the outcome was
)

// MachineName is the state machine's name in every deployment.
const MachineName = "ami-factory"

// PlaceholderName is the name under which a deployment substitutes a stage's
// function ARN, such as CheckInstanceFunctionArn. CloudFormation takes letters
// and digits only.
func PlaceholderName(s Stage) string {
	var b strings.Builder
	for word := range strings.SplitSeq(string(s), "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String() + "FunctionArn"
}

// Placeholder is what stands in the definition for a stage's function ARN.
func Placeholder(s Stage) string { return "${" + PlaceholderName(s) + "}" }

// integrations begins the ARNs of what Step Functions itself calls. It is that of
// the commercial partition in the definition.
const integrations = "arn:aws:states:::"

// InPartition is the rendered definition for a partition, such as aws-cn, whose
// integrations have ARNs of their own.
// https://docs.aws.amazon.com/step-functions/latest/dg/integrate-optimized.html
func InPartition(definition []byte, partition string) string {
	return strings.ReplaceAll(string(definition), integrations, "arn:"+partition+":states:::")
}

// Substitute fills the placeholders of a rendered definition.
func Substitute(definition []byte, functionARN func(Stage) string) string {
	var pairs []string
	for _, spec := range Stages() {
		pairs = append(pairs, Placeholder(spec.Stage), functionARN(spec.Stage))
	}
	return strings.NewReplacer(pairs...).Replace(string(definition))
}

// Definition is the factory's state machine, with placeholders for the
// functions.
func Definition() Machine {
	states := States{
		{
			Name:    "Begin",
			Type:    "Pass",
			Comment: "Every variable that Cleanup reads exists from the start.",
			Assign: map[string]any{
				"plan":    map[string]any{"bucket": "", "key": "", "sha256": ""},
				"results": map[string]any{"bucket": "", "key": "", "sha256": ""},
				"summary": map[string]any{},
				"images":  map[string]any{},
				"removed": []any{},
				"timings": map[string]any{},
				"outcome": "Failed",
				// Not "error": JSONata has a function of that name.
				"code": "", "cause": "", "failed": "", "cleanupCause": "",
			},
			Next: "HasInput",
		},
		{
			Name:    "HasInput",
			Type:    "Choice",
			Comment: "Only objects have keys; Resolve says what else is wrong with one.",
			Choices: []Choice{
				{Condition: "{% $type(" + delay + ") = 'number' ? (" + delay + " >= 1 and " + delay + fmt.Sprintf(" <= %d) : false %%}", MaxDelaySeconds), Next: "Stagger"},
				{Condition: "{% $count($keys($states.context.Execution.Input)) > 0 %}", Next: "Resolve"},
			},
			Default: "RefuseInput",
		},
		{
			Name:    "Stagger",
			Type:    "Wait",
			Comment: "Builds that one event starts do not all begin at once. What they build from is looked up afterwards.",
			Seconds: "{% $floor(" + delay + ") %}",
			Assign:  map[string]any{"timings": passed("Stagger")},
			Next:    "Resolve",
		},
		{
			Name: "RefuseInput",
			Type: "Pass",
			Assign: map[string]any{
				"code":   string(failure.InvalidInput),
				"cause":  `The execution's input must be an object with the name of a recipe, such as {"recipe": "debian-12-docker"}.`,
				"failed": "Resolve",
			},
			Next: "Cleanup",
		},
		task(Resolve, "Resolve", "{% $merge([$states.context.Execution.Input, "+resolveContext+"]) %}",
			map[string]any{
				"plan":    "{% $states.result.Payload.plan %}",
				"regions": "{% $states.result.Payload.regions %}",
				"summary": "{% $states.result.Payload %}",
			}, "IsUpToDate"),
		{
			Name:    "IsUpToDate",
			Type:    "Choice",
			Choices: []Choice{{Condition: "{% $summary.upToDate %}", Next: UpToDate}},
			Default: "LaunchBuilder",
		},
		task(Launch, "LaunchBuilder", job(map[string]any{"role": "builder"}),
			map[string]any{"builder": "{% $states.result.Payload.instanceId %}", "timings": timed("LaunchBuilder", launchedType)}, "AwaitProvisioned"),
		task(CheckInstance, "AwaitProvisioned",
			job(map[string]any{"role": "builder", "instanceId": "{% $builder %}"}), nil, "Seal"),
		task(Seal, "Seal", job(map[string]any{"role": "builder", "instanceId": "{% $builder %}"}), nil, "CreateImage"),
		task(CreateImage, "CreateImage", job(map[string]any{"role": "builder", "instanceId": "{% $builder %}"}),
			map[string]any{"image": "{% $states.result.Payload.imageId %}"}, "AwaitImage"),
		task(CheckImage, "AwaitImage", job(map[string]any{"imageId": "{% $image %}"}),
			map[string]any{"timings": timed("AwaitImage", snapshotBytes)}, "LaunchVerifier"),
		task(Launch, "LaunchVerifier", job(map[string]any{"role": "verifier", "imageId": "{% $image %}"}),
			map[string]any{"verifier": "{% $states.result.Payload.instanceId %}", "timings": timed("LaunchVerifier", launchedType)}, "AwaitBoot"),
		task(CheckInstance, "AwaitBoot",
			job(map[string]any{"role": "verifier", "instanceId": "{% $verifier %}"}), nil, "RunCompliance"),
		task(RunCompliance, "RunCompliance",
			job(map[string]any{"imageId": "{% $image %}", "instanceId": "{% $verifier %}"}),
			map[string]any{"command": "{% $states.result.Payload.commandId %}"}, "EvaluateGate"),
		task(CheckCompliance, "EvaluateGate",
			job(map[string]any{"imageId": "{% $image %}", "instanceId": "{% $verifier %}", "commandId": "{% $command %}"}),
			map[string]any{"results": "{% $states.result.Payload.results %}"}, "Distribute"),
		{
			Name:           "Distribute",
			Type:           "Map",
			Comment:        "One copy a region; nothing points at any of them yet.",
			Items:          "{% $regions %}",
			MaxConcurrency: 10,
			ItemProcessor: &Processor{
				ProcessorConfig: map[string]string{"Mode": "INLINE"},
				StartAt:         "Copy",
				States: States{
					inner(Distribute, "Copy", "$states.input",
						job(map[string]any{"imageId": "{% $image %}", "region": "{% $states.input %}"}), "AwaitCopy"),
					awaitCopy(),
					{Name: copyTimedOut, Type: "Fail", Error: string(failure.CopyFailed), Cause: "{% $states.input %}"},
				},
			},
			Assign: map[string]any{"copies": "{% $states.result %}", "timings": timed("Distribute", copiesRetries)},
			Catch:  failed("Distribute", ""), // its functions' time-outs are caught inside
			Next:   "Publish",
		},
		task(Publish, "Publish", job(map[string]any{"copies": "{% $copies %}", "results": "{% $results %}"}),
			map[string]any{"images": "{% $states.result.Payload.images %}", "outcome": Published}, "Retire"),
		retire(),
		cleanup(),
		notify(),
		{
			Name: "Outcome",
			Type: "Choice",
			Choices: []Choice{
				{Condition: "{% $count($left) > 0 %}", Next: FailedDirty},
				{Condition: "{% $outcome = '" + Published + "' %}", Next: Published},
				{Condition: "{% $outcome = '" + Rejected + "' %}", Next: Rejected},
			},
			Default: FailedClean,
		},
		{Name: Published, Type: "Succeed", Output: map[string]any{
			"status": Published, "recipe": "{% $summary.recipe %}", "fingerprint": "{% $summary.fingerprint %}",
			"sourceImage": "{% $summary.sourceImage %}", "images": "{% $images %}", "report": "{% $report %}",
		}},
		{Name: UpToDate, Type: "Succeed", Output: map[string]any{
			"status": UpToDate, "recipe": "{% $summary.recipe %}", "fingerprint": "{% $summary.fingerprint %}",
			"sourceImage": "{% $summary.sourceImage %}", "images": "{% $summary.published %}",
		}},
		{Name: Rejected, Type: "Fail", Error: "{% $code %}", Cause: "{% $cause %}"},
		{Name: FailedClean, Type: "Fail", Error: "{% $code %}", Cause: "{% $cause %}"},
		{
			Name:  FailedDirty,
			Type:  "Fail",
			Error: "{% $code = '' ? '" + string(failure.CleanupIncomplete) + "' : $code %}",
			// Without a cause Cleanup has failed, which gives every failure one.
			Cause: "{% $substring($join([$outcome = '" + Published + "' ? 'The image is published.', " +
				"$cause != '' ? $cause : ($outcome != '" + Published + "' ? 'The state ' & $failed & ' ended with ' & $code & '; no cause was given.'), " +
				"'Left behind: ' & $join($left, '; ')], ' '), 0, " + strconv.Itoa(maxCause) + ") %}",
		},
	}
	return Machine{
		Comment:       "Bakes, verifies and publishes one golden image.",
		QueryLanguage: "JSONata",
		StartAt:       "Begin",
		States:        states,
	}
}

// MaxDelaySeconds is the most that an execution's input may have it wait before it
// begins: time-outs that count from its start must not run out meanwhile.
const MaxDelaySeconds = 3600

// delay is what the input says of it. Anything but a number in its bounds goes to
// Resolve at once, which refuses it.
const delay = "$states.context.Execution.Input.delaySeconds"

const resolveContext = "{'execution': {'id': $states.context.Execution.Id, 'name': $states.context.Execution.Name, " +
	"'startTime': $states.context.Execution.StartTime}, 'stage': 'Resolve', 'now': $now()}"

// job is the payload every stage after Resolve gets, and what is special to one.
func job(special map[string]any) map[string]any {
	p := map[string]any{
		"execution": map[string]any{
			"id":        "{% $states.context.Execution.Id %}",
			"name":      "{% $states.context.Execution.Name %}",
			"startTime": "{% $states.context.Execution.StartTime %}",
		},
		"stage": "{% $states.context.State.Name %}",
		// Evaluated on every attempt: stages measure time-outs by the state
		// machine's clock, not by that of the machine they happen to run on.
		"now":  "{% $now() %}",
		"plan": "{% $plan %}",
	}
	for k, v := range special {
		p[k] = v
	}
	return p
}

// grace is how much longer Step Functions waits than Lambda lets a function run.
const grace = 30 * time.Second

func invoke(stage Stage, name string, payload any) State {
	spec, ok := Lookup(stage)
	if !ok {
		panic(fmt.Sprintf("stage %q is not in the table", stage))
	}
	return State{
		Name:           name,
		Type:           "Task",
		Comment:        spec.Does,
		Resource:       integrations + "lambda:invoke",
		Arguments:      map[string]any{"FunctionName": Placeholder(stage), "Payload": payload},
		TimeoutSeconds: int((spec.Timeout + grace).Seconds()),
		Retry:          retries(spec),
	}
}

func task(stage Stage, name string, payload any, assign map[string]any, next string) State {
	s := invoke(stage, name, payload)
	s.Assign, s.Catch, s.Next = map[string]any{"timings": timed(name)}, failed(name, tooLate(name, stage)), next
	maps.Copy(s.Assign, assign)
	return s
}

// timed adds to the timings how long the execution was in a state that it
// leaves: Notify makes metrics and the costs of them. special are further
// members. Nothing in it can fail: what is not there is left out, and an error
// here could not be caught.
func timed(state string, special ...string) string {
	return passed(state, append([]string{"'retries': $states.context.State.RetryCount"}, special...)...)
}

// passed is timed for a state that cannot be retried: its context has no count
// of retries.
func passed(state string, special ...string) string {
	members := append([]string{"'entered': $states.context.State.EnteredTime", "'left': $now()"}, special...)
	return "{% $merge([$timings, {'" + state + "': {" + strings.Join(members, ", ") + "}}]) %}"
}

// What some states' timings have beside.
const (
	launchedType  = "'instanceType': $states.result.Payload.instanceType"
	snapshotBytes = "'snapshotBytes': $states.result.Payload.snapshotBytes"
	copiesRetries = "'copyRetries': $sum($states.result.retries)"
)

// copyTimedOut is where a copy ends whose function does not answer. Step Functions
// gives a time-out no cause, so that the Map around it could not say whose it was.
const copyTimedOut = "CopyTimedOut"

// inner is a task inside the Map, whose own catcher deals with what fails. region
// is an expression for its region.
func inner(stage Stage, name, region string, payload map[string]any, next string) State {
	s := invoke(stage, name, payload)
	s.Comment = name + ": " + s.Comment
	s.Output = "{% $states.result.Payload %}"
	s.Catch = []Catch{{
		ErrorEquals: timeOuts(), Output: "{% " + region + " & ': " + tooLate(name, stage) + "' %}", Next: copyTimedOut,
	}}
	s.Next, s.End = next, next == ""
	return s
}

// awaitCopy ends an iteration of the Map. It adds its count of retries, which the
// state around it cannot read.
func awaitCopy() State {
	s := inner(CheckDistribution, "AwaitCopy", "$states.input.region", job(map[string]any{
		"imageId": "{% $image %}", "region": "{% $states.input.region %}", "copyId": "{% $states.input.copyId %}",
	}), "")
	s.Output = "{% $merge([$states.result.Payload, {'retries': $states.context.State.RetryCount}]) %}"
	return s
}

// retire runs when the image is published: whatever fails here must not undo that.
func retire() State {
	s := task(Retire, "Retire", job(nil), nil, "Cleanup")
	s.Catch = catchAll("Retire", Published, tooLate("Retire", Retire))
	return s
}

func retries(spec Row) []Retry {
	var out []Retry
	if p := spec.Poll; p != nil {
		out = append(out, Retry{
			ErrorEquals: names(p.Code), IntervalSeconds: int(p.Interval.Seconds()), MaxAttempts: p.Attempts,
			BackoffRate: 1.25, MaxDelaySeconds: int(p.MaxDelay.Seconds()),
		})
	}
	if spec.Stage == Launch {
		// Every listed type in every listed subnet was tried; capacity comes
		// back within minutes or not tonight.
		out = append(out, Retry{
			ErrorEquals: names(failure.CapacityUnavailable), IntervalSeconds: 60, MaxAttempts: 3, BackoffRate: 2,
		})
	}
	return append(out, Retry{
		ErrorEquals:     append(names(failure.Throttled, failure.ServiceUnavailable), lambdaErrors()...),
		IntervalSeconds: 2, MaxAttempts: 6, BackoffRate: 2, MaxDelaySeconds: 60, JitterStrategy: "FULL",
	})
}

// failed are the catchers of a state whose error ends the execution. late is the
// cause of a time-out, see catchAll.
func failed(state, late string) []Catch {
	rejected := Catch{ErrorEquals: names(failure.ComplianceRejected), Assign: caught(state, Rejected, caughtCause), Next: "Cleanup"}
	return append([]Catch{rejected}, catchAll(state, "Failed", late)...)
}

// catchAll are the catchers of every error. Step Functions gives a time-out an
// empty cause, so late says what happened; empty, the state has none of its own.
func catchAll(state, outcome, late string) []Catch {
	return catchers(late, func(cause string) map[string]any { return caught(state, outcome, cause) }, "Cleanup")
}

// catchers catch every error, and assign what depends on its cause.
func catchers(late string, assign func(cause string) map[string]any, next string) []Catch {
	var out []Catch
	if late != "" {
		out = append(out, Catch{ErrorEquals: timeOuts(), Assign: assign("'" + late + "'"), Next: next})
	}
	for _, names := range anyError() {
		out = append(out, Catch{ErrorEquals: names, Assign: assign(caughtCause), Next: next})
	}
	return out
}

func caught(state, outcome, cause string) map[string]any {
	return map[string]any{
		"outcome": outcome,
		"failed":  state,
		"timings": timed(state),
		"code":    "{% " + caughtError + " %}",
		"cause":   "{% " + cause + " %}",
	}
}

// tooLate says that a function did not answer in time.
func tooLate(state string, stage Stage) string {
	spec, _ := Lookup(stage)
	return fmt.Sprintf("The function of %s did not answer in time: Lambda stops it after %v, and Step Functions waits %v.",
		state, spec.Timeout, spec.Timeout+grace)
}

// What was caught, as it is: an error in a catcher cannot be caught, and nothing
// would be cleaned up. So nothing is read out of it here, which is Cleanup's part,
// what is absent or null is an empty string, and a cause is short enough for two
// of them to be passed on, whatever characters it has: each takes at most six
// bytes, and the whole input of a state at most 256 KiB.
const (
	caughtError = "$type($states.errorOutput.Error) = 'string' ? $states.errorOutput.Error : ''"
	caughtCause = "$type($states.errorOutput.Cause) = 'string' ? $substring($states.errorOutput.Cause, 0, 16384) : ''"
)

// maxCause is the most characters that Step Functions keeps of a cause.
const maxCause = 32768

// ended takes over what Cleanup or Notify made of what was caught.
func ended(assign map[string]any) map[string]any {
	maps.Copy(assign, map[string]any{
		"code": "{% $states.result.Payload.error %}", "cause": "{% $states.result.Payload.cause %}", "left": "{% $states.result.Payload.left %}",
	})
	return assign
}

func ending() map[string]any {
	return job(map[string]any{
		"outcome": "{% $outcome %}", "error": "{% $code %}", "cause": "{% $cause %}", "failed": "{% $failed %}",
	})
}

func cleanup() State {
	s := invoke(Cleanup, "Cleanup", ending())
	s.Assign = ended(map[string]any{"removed": "{% $states.result.Payload.removed %}", "timings": timed("Cleanup")})
	s.Retry = append([]Retry{{
		ErrorEquals: names(failure.CleanupIncomplete), IntervalSeconds: 5, MaxAttempts: 5, BackoffRate: 2,
	}}, s.Retry...)
	s.Catch = catchers(tooLate("Cleanup", Cleanup), func(cause string) map[string]any {
		text := "($type($states.errorOutput.Cause) = 'string' and $states.errorOutput.Cause != '' ? (" + cause + ") : (" + caughtError + "))"
		if cause != caughtCause {
			text = cause
		}
		return map[string]any{
			"left": []any{"{% 'unknown, clean-up failed: ' & " + text + " %}"}, "cleanupCause": "{% " + text + " %}", "timings": timed("Cleanup"),
		}
	}, "Notify")
	s.Next = "Notify"
	return s
}

func notify() State {
	payload := ending()
	payload["images"], payload["results"] = "{% $images %}", "{% $results %}"
	payload["removed"], payload["left"], payload["timings"] = "{% $removed %}", "{% $left %}", "{% $timings %}"
	payload["cleanupCause"] = "{% $cleanupCause %}"
	s := invoke(Notify, "Notify", payload)
	s.Assign = ended(map[string]any{"report": "{% $states.result.Payload.report %}"})
	// A lost message changes nothing about the image.
	s.Catch = catchers("", func(string) map[string]any {
		return map[string]any{"report": map[string]any{"bucket": "", "key": "", "sha256": ""}}
	}, "Outcome")
	s.Next = "Outcome"
	return s
}
