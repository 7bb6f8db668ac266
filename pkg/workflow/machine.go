package workflow

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
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
	provisioned, seal, image, boot, gate := awaitProvisioned(), awaitSeal(), awaitImage(), awaitBoot(), awaitResults()
	states := slices.Concat(States{
		{
			Name:    contract.StateBegin,
			Type:    "Pass",
			Comment: "Every variable that Cleanup reads exists from the start.",
			Assign: map[string]any{
				"plan":      map[string]any{"bucket": "", "key": "", "sha256": ""},
				"results":   map[string]any{"bucket": "", "key": "", "sha256": ""},
				"evidence":  map[string]any{"bucket": "", "key": "", "sha256": ""},
				"manifest":  map[string]any{"bucket": "", "key": "", "sha256": ""},
				"summary":   map[string]any{},
				"images":    map[string]any{},
				"copies":    []any{},
				"failures":  []any{},
				"removed":   []any{},
				"timings":   map[string]any{},
				"outcome":   contract.Failed,
				"announced": false,
				// Not "error": JSONata has a function of that name.
				"code": "", "cause": "", "failed": "", "cleanupCause": "",
			},
			Next: contract.StateHasInput,
		},
		{
			Name:    contract.StateHasInput,
			Type:    "Choice",
			Comment: "Only objects have keys; Resolve says what else is wrong with one.",
			Choices: []Choice{
				{Condition: "{% $type(" + delay + ") = 'number' ? (" + delay + " >= 1 and " + delay + fmt.Sprintf(" <= %d) : false %%}", contract.MaxDelaySeconds), Next: contract.StateStagger},
				{Condition: "{% $count($keys($states.context.Execution.Input)) > 0 %}", Next: contract.StateResolve},
			},
			Default: contract.StateRefuseInput,
		},
		{
			Name:    contract.StateStagger,
			Type:    "Wait",
			Comment: "Builds that one event starts do not all begin at once. What they build from is looked up afterwards.",
			Seconds: "{% $floor(" + delay + ") %}",
			Assign:  map[string]any{"timings": passed(contract.StateStagger)},
			Next:    contract.StateResolve,
		},
		{
			Name: contract.StateRefuseInput,
			Type: "Pass",
			Assign: map[string]any{
				"code":   string(failure.InvalidInput),
				"cause":  `The execution's input must be an object with the name of a recipe, such as {"recipe": "debian-12-docker"}.`,
				"failed": contract.StateResolve,
			},
			Next: contract.StateCleanup,
		},
		task(Resolve, contract.StateResolve, "{% $merge([$states.context.Execution.Input, "+resolveContext+"]) %}",
			map[string]any{
				"plan":    "{% $states.result.Payload.plan %}",
				"regions": "{% $states.result.Payload.regions %}",
				"summary": "{% $states.result.Payload %}",
				"image":   "{% $states.result.Payload.imageId %}",
				"wait":    waitsBegin("$states.result.Payload.regions"),
			}, contract.StateIsUpToDate),
		{
			Name:    contract.StateIsUpToDate,
			Type:    "Choice",
			Comment: "Only the content of an image takes a bake; what is done with it changes without one.",
			Choices: []Choice{
				{Condition: "{% $summary.upToDate %}", Next: contract.UpToDate},
				{Condition: "{% $summary.action = '" + contract.ActionRelease + "' %}", Next: contract.StateEvaluateGateAgain},
			},
			Default: contract.StateLaunchBuilder,
		},
		evaluateGateAgain(),
		task(Launch, contract.StateLaunchBuilder, job(map[string]any{"role": "builder"}),
			map[string]any{"builder": "{% $states.result.Payload.instanceId %}", "timings": timed(contract.StateLaunchBuilder, launchedType), "wait": provisioned.begin()}, provisioned.state()),
	}, provisioned.waiting(), States{
		provisioned.looking(job(map[string]any{"role": "builder", "instanceId": "{% $builder %}"}),
			map[string]any{"wait": seal.begin()}, contract.StateSeal),
		seal.looking(job(map[string]any{"role": "builder", "instanceId": "{% $builder %}"}), nil, contract.StateCreateImage),
	}, seal.waiting(), States{
		task(CreateImage, contract.StateCreateImage, job(map[string]any{"role": "builder", "instanceId": "{% $builder %}"}),
			map[string]any{"image": "{% $states.result.Payload.imageId %}", "wait": image.begin()}, image.state()),
	}, image.waiting(), States{
		image.looking(job(map[string]any{"imageId": "{% $image %}"}),
			map[string]any{"timings": image.timed(snapshotBytes)}, contract.StateStartCopies),
		startCopies(),
		allSucceeded(contract.StateAreCopiesStarted, contract.StateStartCopies, contract.StateLaunchVerifier),
		task(Launch, contract.StateLaunchVerifier, job(map[string]any{"role": "verifier", "imageId": "{% $image %}"}),
			map[string]any{"verifier": "{% $states.result.Payload.instanceId %}", "timings": timed(contract.StateLaunchVerifier, launchedType), "wait": boot.begin()}, boot.state()),
	}, boot.waiting(), States{
		boot.looking(job(map[string]any{"role": "verifier", "instanceId": "{% $verifier %}"}), nil, contract.StateRunCompliance),
		task(RunCompliance, contract.StateRunCompliance,
			job(map[string]any{"imageId": "{% $image %}", "instanceId": "{% $verifier %}"}),
			map[string]any{"command": "{% $states.result.Payload.commandId %}", "wait": gate.begin()},
			contract.StateEvaluateGate), // it looks first: it reads the snapshot while the checks run
	}, gate.waiting(), States{
		gate.looking(
			job(map[string]any{"imageId": "{% $image %}", "instanceId": "{% $verifier %}", "commandId": "{% $command %}"}),
			map[string]any{"results": "{% $states.result.Payload.results %}"}, contract.StateDistribute),
		distribute(),
		allSucceeded(contract.StateAreCopiesMade, contract.StateDistribute, contract.StateSign),
		task(Sign, contract.StateSign, job(map[string]any{"copies": "{% $copies %}", "results": "{% $results %}"}),
			map[string]any{"evidence": "{% $states.result.Payload.evidence %}", "manifest": "{% $states.result.Payload.manifest %}", "approvals": "{% $states.result.Payload.approvals %}"}, contract.StateNeedsApproval),
		{
			Name:    contract.StateNeedsApproval,
			Type:    "Choice",
			Comment: "Whether people must approve is the recipe's to say, and may depend on the diff that the manifest names.",
			Choices: []Choice{{Condition: "{% $approvals > 0 %}", Next: contract.StateTerminateInstances}},
			Default: contract.StateShare,
		},
		terminateInstances(),
		approve(),
		task(Sign, contract.StateSignApproval, job(map[string]any{"copies": "{% $copies %}", "results": "{% $results %}", "manifest": "{% $manifest %}"}),
			map[string]any{"evidence": "{% $states.result.Payload.evidence %}"}, contract.StateShare),
		share(),
		allSucceeded(contract.StateAreImagesShared, contract.StateShare, contract.StatePublish),
		task(Publish, contract.StatePublish, job(map[string]any{"copies": "{% $copies %}", "results": "{% $results %}", "evidence": "{% $evidence %}"}),
			map[string]any{"images": "{% $states.result.Payload.images %}", "outcome": contract.Published}, contract.StateAnnounce),
		announce(),
		retire(),
		cleanup(),
		notify(),
		{
			Name: contract.StateOutcome,
			Type: "Choice",
			Choices: []Choice{
				{Condition: "{% $count($left) > 0 %}", Next: contract.FailedDirty},
				{Condition: "{% $outcome = '" + contract.Published + "' %}", Next: contract.Published},
				{Condition: "{% $outcome = '" + contract.Rejected + "' %}", Next: contract.Rejected},
				{Condition: "{% $outcome = '" + contract.ApprovalRefused + "' %}", Next: contract.ApprovalRefused},
				{Condition: "{% $outcome = '" + contract.ApprovalTimedOut + "' %}", Next: contract.ApprovalTimedOut},
			},
			Default: contract.FailedClean,
		},
		{Name: contract.Published, Type: "Succeed", Output: map[string]any{
			"status": contract.Published, "recipe": "{% $summary.recipe %}", "fingerprint": "{% $summary.fingerprint %}",
			"sourceImage": "{% $summary.sourceImage %}", "images": "{% $images %}", "report": "{% $report %}", "action": "{% $summary.action %}",
		}},
		{Name: contract.UpToDate, Type: "Succeed", Output: map[string]any{
			"status": contract.UpToDate, "recipe": "{% $summary.recipe %}", "fingerprint": "{% $summary.fingerprint %}",
			"sourceImage": "{% $summary.sourceImage %}", "images": "{% $summary.published %}",
		}},
		{Name: contract.Rejected, Type: "Fail", Error: "{% $code %}", Cause: "{% $cause %}"},
		{Name: contract.ApprovalRefused, Type: "Fail", Error: "{% $code %}", Cause: "{% $cause %}"},
		{Name: contract.ApprovalTimedOut, Type: "Fail", Error: "{% $code %}", Cause: "{% $cause %}"},
		{Name: contract.FailedClean, Type: "Fail", Error: "{% $code %}", Cause: "{% $cause %}"},
		{
			Name:  contract.FailedDirty,
			Type:  "Fail",
			Error: "{% $code = '' ? '" + string(failure.CleanupIncomplete) + "' : $code %}",
			// Without a cause Cleanup has failed, which gives every failure one.
			Cause: "{% $substring($join([$outcome = '" + contract.Published + "' ? 'The image is published.', " +
				"$cause != '' ? $cause : ($outcome != '" + contract.Published + "' ? 'The state ' & $failed & ' ended with ' & $code & '; no cause was given.'), " +
				"'Left behind: ' & $join($left, '; ')], ' '), 0, " + strconv.Itoa(maxCause) + ") %}",
		},
	})
	return Machine{
		Comment:       "Bakes, verifies and publishes one golden image.",
		QueryLanguage: "JSONata",
		StartAt:       contract.StateBegin,
		States:        states,
	}
}

// delay is what the input says of it. Anything but a number in its bounds goes to
// Resolve at once, which refuses it.
const delay = "$states.context.Execution.Input.delaySeconds"

const resolveContext = "{'execution': {'id': $states.context.Execution.Id, 'name': $states.context.Execution.Name, " +
	"'startTime': $states.context.Execution.StartTime}, 'stage': '" + contract.StateResolve + "', 'now': $now()}"

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

// evaluateGateAgain is what a release without a bake begins with: a gate that
// rejects changes nothing for consumers.
func evaluateGateAgain() State {
	s := task(CheckCompliance, contract.StateEvaluateGateAgain, job(map[string]any{"imageId": "{% $image %}"}),
		map[string]any{"results": "{% $states.result.Payload.results %}"}, contract.StateDistribute)
	s.Comment = "applies the gate to the results that were kept of the published image"
	return s
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
	copiesCounts  = "'copyRetries': $sum($states.result.retries), 'copyWaits': $sum($states.result.waits), 'copyEvents': $sum($states.result.events), 'copyDetours': $sum($states.result.detours), " +
		"'copyFailures': $count($states.result[$exists(error)]), 'copySkipped': $sum($states.result.skipped)"
)

// overRegions is a Map whose items have a region each. It always runs to its end: an
// iteration that fails keeps its failure as its output, see failedInside. If an
// iteration failed the Map instead, Step Functions would abort the others but not their
// functions, which Lambda lets run for up to two minutes: what they started or shared
// would come after Cleanup.
func overRegions(name, comment, items string, inside States, next string) State {
	return State{
		Name: name, Type: "Map", Comment: comment, Items: items, MaxConcurrency: 10,
		ItemProcessor: &Processor{ProcessorConfig: map[string]string{"Mode": "INLINE"}, StartAt: inside[0].Name, States: inside},
		Assign: map[string]any{
			"copies": "{% $states.result %}", "failures": "{% [$states.result[$exists(error)].{'region': region, 'error': error, 'cause': cause}] %}",
			"timings": timed(name, copiesCounts),
		},
		Catch: failed(name, ""), // of the Map itself, before or after all iterations
		Next:  next,
	}
}

// allSucceeded follows a Map over regions: the first region that failed, in the
// recipe's order, gives the execution its error.
func allSucceeded(name, over, next string) State {
	return State{
		Name: name, Type: "Choice", Comment: "No function of a region runs any more: Cleanup misses nothing.",
		Choices: []Choice{{
			Condition: "{% $count($failures) > 0 %}",
			Assign:    map[string]any{"outcome": contract.Failed, "failed": over, "code": "{% $failures[0].error %}", "cause": "{% $failures[0].cause %}"},
			Next:      contract.StateCleanup,
		}},
		Default: next,
	}
}

// inRegion is the part of a Map over regions that a task of it needs.
type inRegion struct {
	region   string       // of the iteration, as an expression
	fails    failure.Code // with which a time-out ends it
	failedAt string       // the state that ends an iteration which fails
}

// end is the state that ends an iteration which fails.
func (r inRegion) end() State {
	return State{Name: r.failedAt, Type: "Pass", Comment: "What the region failed with is its result, so that the other regions end too.", End: true}
}

// startCopies does not wait for the copies: EC2 makes them while the image is
// verified. They are private, and Cleanup removes them when the image is rejected.
func startCopies() State {
	r := inRegion{"$states.input", failure.CopyFailed, contract.StateCopyNotStarted}
	start := r.last(r.task(Distribute, contract.StateCopy, job(map[string]any{"imageId": "{% $image %}", "region": "{% $states.input %}"}), ""), startedNow)
	return overRegions(contract.StateStartCopies,
		"One private copy a region, which EC2 makes while the image is verified; none where the recipe wants copies after the gate.",
		"{% $summary.copies = '"+contract.CopiesAfterGate+"' ? [] : $regions %}", States{start, r.end()}, contract.StateAreCopiesStarted)
}

func distribute() State {
	payload := func(region string) map[string]any {
		return map[string]any{"imageId": "{% $image %}", "region": "{% " + region + " %}"}
	}
	w := awaitRegion()
	begin := map[string]any{w.variable: w.begin()}
	await := payload("$states.input.region")
	await["copyId"] = "{% $states.input.copyId %}"
	first := inRegion{"$states.input", failure.CopyFailed, contract.StateCopyNotMade}
	r := inRegion{"$states.input.region", failure.CopyFailed, contract.StateCopyNotMade}
	return overRegions(contract.StateDistribute, "The gate has let the image pass: copies that were not started yet are, and all are awaited. They stay private.",
		"{% $count($copies) > 0 ? $copies : $regions %}", slices.Concat(States{
			{
				Name: contract.StateIsCopying, Type: "Choice", Comment: "The item is what Copy said, or a region.",
				Choices: []Choice{{Condition: "{% $type($states.input) = 'object' %}", Assign: begin, Next: contract.StateAwaitCopy}},
				Assign:  begin,
				Default: contract.StateCopyAfterGate,
			},
			first.task(Distribute, contract.StateCopyAfterGate, job(payload("$states.input")), contract.StateAwaitCopy, "'skipped': 1"),
			awaitCopy(w, r, job(await)),
		}, w.waiting(r), States{r.end()}), contract.StateAreCopiesMade)
}

// terminateInstances comes before people are asked, who may take days: nothing that
// follows needs the verifier or the stopped builder.
func terminateInstances() State {
	s := task(Cleanup, contract.StateTerminateInstances, job(map[string]any{"instances": true, "outcome": "{% $outcome %}"}), nil, contract.StateApprove)
	s.Comment = "terminates the verifier and the builder"
	s.Retry = append([]Retry{notClean()}, s.Retry...)
	return s
}

// approve waits until people have decided. Their answers reach another function, which
// returns the task's token; that decides nothing, because what shares and publishes
// reads the answers again.
func approve() State {
	s := invoke(RequestApproval, contract.StateApprove, job(map[string]any{"manifest": "{% $manifest %}", "token": "{% $states.context.Task.Token %}"}))
	s.Comment = "asks people to approve the release, and waits for them"
	s.Resource += ".waitForTaskToken"
	s.TimeoutSeconds = "{% $summary.approvalSeconds %}"
	s.Retry = []Retry{passing(lambdaErrors())} // not its time-out
	s.Assign, s.Next = map[string]any{"timings": timed(contract.StateApprove)}, contract.StateSignApproval
	late := caught(contract.StateApprove, contract.ApprovalTimedOut, timed(contract.StateApprove), "'Too few people approved the release in time.'")
	late["code"] = string(failure.ApprovalTimedOut)
	s.Catch = append([]Catch{
		{ErrorEquals: names(failure.ApprovalRefused), Assign: caught(contract.StateApprove, contract.ApprovalRefused, timed(contract.StateApprove), caughtCause), Next: contract.StateCleanup},
		{ErrorEquals: append(timeOuts(), names(failure.ApprovalTimedOut)...), Assign: late, Next: contract.StateCleanup},
	}, failed(contract.StateApprove, "")...)
	return s
}

// share follows when every region has its copy: what fails before is shared with
// nobody.
func share() State {
	r := inRegion{"$states.input.region", failure.ShareFailed, contract.StateImageNotShared}
	return overRegions(contract.StateShare, "Consumers may launch the image in every region. No pointer names it yet.", "{% $copies %}", States{
		r.last(r.task(Share, contract.StateShareImage, job(map[string]any{
			"region": "{% $states.input.region %}", "imageId": "{% $states.input.imageId %}", "snapshotIds": "{% $states.input.snapshotIds %}", "evidence": "{% $evidence %}",
		}), "", imageKnown)),
		r.end(),
	}, contract.StateAreImagesShared)
}

// awaitCopy is last of a step that waits: it adds the counts of its waits too.
func awaitCopy(w wait, r inRegion, payload map[string]any) State {
	s := invoke(CheckDistribution, contract.StateAwaitCopy, payload)
	s.Comment = contract.StateAwaitCopy + ": " + s.Comment
	s.Output = "{% $merge([$states.result.Payload, {" + w.counts(looked) + "}]) %}"
	s.Catch = append([]Catch{w.notYet()}, r.caught(tooLate(contract.StateAwaitCopy, CheckDistribution), copyKnown, w.counts(looked))...)
	s.End = true
	return s
}

// Members of an iteration's output.
const (
	// startedNow is when a copy was started: EC2 may not show it yet.
	startedNow = "'startedAt': $now()"
	copyKnown  = "'copyId': $states.input.copyId"
	imageKnown = "'imageId': $states.input.imageId"
	retried    = "'retries': $states.context.State.RetryCount"
)

// task is a task inside a Map. known are members of the iteration's output if it fails,
// for Cleanup and the costs.
func (r inRegion) task(stage Stage, name string, payload map[string]any, next string, known ...string) State {
	s := invoke(stage, name, payload)
	s.Comment = name + ": " + s.Comment
	s.Output = "{% $states.result.Payload %}"
	s.Catch = r.caught(tooLate(name, stage), append([]string{retried}, known...)...)
	s.Next, s.End = next, next == ""
	return s
}

// caught catches every error inside a Map. Step Functions gives a time-out no cause, so
// late says what happened. What the function has done until then is not known.
func (r inRegion) caught(late string, known ...string) []Catch {
	out := []Catch{{
		ErrorEquals: timeOuts(), Next: r.failedAt,
		Output: r.failure("'"+string(r.fails)+"'", r.region+" & ': "+late+"'", append([]string{startedNow}, known...)...),
	}}
	for _, names := range anyError() {
		out = append(out, Catch{ErrorEquals: names, Output: r.failure(caughtError, sharedCause, known...), Next: r.failedAt})
	}
	return out
}

// failure is the output of an iteration that fails. code and cause are expressions.
func (r inRegion) failure(code, cause string, known ...string) string {
	members := append([]string{"'region': " + r.region, "'error': (" + code + ")", "'cause': (" + cause + ")"}, known...)
	return "{% {" + strings.Join(members, ", ") + "} %}"
}

// last ends an iteration of a Map. It adds its count of retries, which the state
// around it cannot read, and further members.
func (r inRegion) last(s State, special ...string) State {
	s.Output = "{% $merge([$states.result.Payload, {" + strings.Join(append([]string{retried}, special...), ", ") + "}]) %}"
	return s
}

// announce informs consumers before anything that they need not wait for. If it
// fails, Notify informs them.
func announce() State {
	s := task(Notify, contract.StateAnnounce, job(map[string]any{"announce": true, "outcome": "{% $outcome %}", "images": "{% $images %}"}),
		map[string]any{"announced": true}, contract.StateRetire)
	s.Comment = "informs consumers that the pointers name the image"
	s.Catch = catchers("", func(string) map[string]any { return map[string]any{"timings": timed(contract.StateAnnounce)} }, contract.StateRetire)
	return s
}

// retire runs when the image is published: whatever fails here must not undo that.
func retire() State {
	s := task(Retire, contract.StateRetire, job(nil), nil, contract.StateCleanup)
	s.Catch = catchAll(contract.StateRetire, contract.Published, timed(contract.StateRetire), tooLate(contract.StateRetire, Retire))
	return s
}

func retries(spec Row) []Retry {
	var out []Retry
	if p := spec.Poll; p != nil {
		out = append(out, Retry{
			ErrorEquals: names(spec.NotYet), IntervalSeconds: int(p.Interval.Seconds()), MaxAttempts: p.Attempts,
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
	return append(out, passing(append(lambdaErrors(), timedOut)))
}

// timedOut is Step Functions' name for a task that took longer than its time-out.
const timedOut = "States.Timeout"

// passing retries what goes by: trouble of AWS itself, and between Step Functions
// and Lambda.
func passing(lambda []string) Retry {
	return Retry{
		ErrorEquals:     append(names(failure.Throttled, failure.ServiceUnavailable), lambda...),
		IntervalSeconds: 2, MaxAttempts: 6, BackoffRate: 2, MaxDelaySeconds: 60, JitterStrategy: "FULL",
	}
}

// failed are the catchers of a state whose error ends the execution. late is the
// cause of a time-out, see catchAll.
func failed(state, late string) []Catch { return failedAfter(state, timed(state), late) }

// failedAfter is failed of a state whose timings are given.
func failedAfter(state, timings, late string) []Catch {
	rejected := Catch{ErrorEquals: names(failure.ComplianceRejected), Assign: caught(state, contract.Rejected, timings, caughtCause), Next: contract.StateCleanup}
	return append([]Catch{rejected}, catchAll(state, contract.Failed, timings, late)...)
}

// catchAll are the catchers of every error. Step Functions gives a time-out an
// empty cause, so late says what happened; empty, the state has none of its own.
func catchAll(state, outcome, timings, late string) []Catch {
	return catchers(late, func(cause string) map[string]any { return caught(state, outcome, timings, cause) }, contract.StateCleanup)
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

func caught(state, outcome, timings, cause string) map[string]any {
	return map[string]any{
		"outcome": outcome,
		"failed":  state,
		"timings": timings,
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

// sharedCause is caughtCause inside a Map: the causes of all regions together are as
// long as one of another state.
const sharedCause = "$type($states.errorOutput.Cause) = 'string' ? $substring($states.errorOutput.Cause, 0, $floor(16384 / $count($regions))) : ''"

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

// notClean tries again what Cleanup could not remove yet.
func notClean() Retry {
	return Retry{ErrorEquals: names(failure.CleanupIncomplete), IntervalSeconds: 5, MaxAttempts: 5, BackoffRate: 2}
}

func cleanup() State {
	payload := ending()
	payload["failures"] = "{% $failures %}"
	payload["copies"] = "{% [$copies.{'region': region, 'imageId': $exists(copyId) ? copyId : imageId, 'startedAt': startedAt}] %}"
	s := invoke(Cleanup, contract.StateCleanup, payload)
	s.Assign = ended(map[string]any{"removed": "{% $states.result.Payload.removed %}", "timings": timed(contract.StateCleanup)})
	s.Retry = append([]Retry{notClean()}, s.Retry...)
	s.Catch = catchers(tooLate(contract.StateCleanup, Cleanup), func(cause string) map[string]any {
		text := "($type($states.errorOutput.Cause) = 'string' and $states.errorOutput.Cause != '' ? (" + cause + ") : (" + caughtError + "))"
		if cause != caughtCause {
			text = cause
		}
		return map[string]any{
			"left": []any{"{% 'unknown, clean-up failed: ' & " + text + " %}"}, "cleanupCause": "{% " + text + " %}", "timings": timed(contract.StateCleanup),
		}
	}, contract.StateNotify)
	s.Next = contract.StateNotify
	return s
}

func notify() State {
	payload := ending()
	payload["images"], payload["results"] = "{% $images %}", "{% $results %}"
	payload["removed"], payload["left"], payload["timings"] = "{% $removed %}", "{% $left %}", "{% $timings %}"
	payload["cleanupCause"], payload["announced"] = "{% $cleanupCause %}", "{% $announced %}"
	s := invoke(Notify, contract.StateNotify, payload)
	s.Assign = ended(map[string]any{"report": "{% $states.result.Payload.report %}"})
	// A lost message changes nothing about the image.
	s.Catch = catchers("", func(string) map[string]any {
		return map[string]any{"report": map[string]any{"bucket": "", "key": "", "sha256": ""}}
	}, contract.StateOutcome)
	s.Next = contract.StateOutcome
	return s
}
