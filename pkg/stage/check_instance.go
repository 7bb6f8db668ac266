package stage

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// askAfter is how long after its launch a builder that has not reported is asked over
// SSM. Most builders report before. Those that cannot upload, because their network
// or their signature does not permit it, report nothing at all.
const askAfter = 2 * time.Minute

// CheckInstanceEC2 is what CheckInstance needs of EC2.
type CheckInstanceEC2 interface {
	ec2.DescribeInstancesAPIClient
	ConsoleAPI
}

// CheckInstanceSSM is what CheckInstance needs of SSM.
type CheckInstanceSSM interface {
	ssm.DescribeInstanceInformationAPIClient
	guest.API
}

// CheckInstance reports how far an instance is and, once it is up, how its first
// boot ended. A builder uploads that; any other instance is asked over SSM, and so is
// a builder from which nothing has come.
type CheckInstance struct {
	Store store.Store
	EC2   CheckInstanceEC2
	SSM   CheckInstanceSSM
}

// Run returns the verdict, or InstanceNotReady. The console is kept as evidence
// whatever the verdict is.
func (s CheckInstance) Run(ctx context.Context, in InstanceInput) (CheckInstanceOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return CheckInstanceOutput{}, err
	}
	if err := requireInput("instanceId", in.InstanceID, "role", in.Role); err != nil {
		return CheckInstanceOutput{}, err
	}
	timeout := time.Duration(p.Recipe.Builder.Timeout)
	instance, err := ami.DescribeInstance(ctx, s.EC2, in.InstanceID)
	if isNoInstance(err) {
		// Counted from the start of the execution, because the launch is not visible.
		return CheckInstanceOutput{}, s.notReady(ctx, in, in.Execution.StartTime, timeout, "EC2 does not know the instance yet")
	}
	if err != nil {
		return CheckInstanceOutput{}, awserr.Wrap(err, failure.InstanceFailed, "read the state of %s", in.InstanceID)
	}
	launched := aws.ToTime(instance.LaunchTime)
	state := stateOf(instance)
	if state == types.InstanceStateNamePending {
		return CheckInstanceOutput{}, s.notReady(ctx, in, launched, timeout, "it is pending")
	}
	var report *bootReport
	came := in.Role != builderRole // only builders report by themselves
	if !came {
		if report, came, err = s.uploaded(ctx, in); err != nil {
			return CheckInstanceOutput{}, err
		}
	}
	if report != nil && report.builderProblem() != "" { // which says more than that the builder is gone
		return s.judge(ctx, in, *report, launched)
	}
	if state != types.InstanceStateNameRunning {
		return CheckInstanceOutput{}, s.ended(ctx, in, failure.InstanceFailed,
			"the "+in.Role+" "+in.InstanceID+" is "+string(state)+" before its first boot was over: "+stateReason(instance))
	}
	if !came && in.Now.Sub(launched) < askAfter {
		return CheckInstanceOutput{}, s.notReady(ctx, in, launched, timeout, "it has not reported yet how it is provisioned")
	}
	online, err := guest.Online(ctx, s.SSM, in.InstanceID)
	switch {
	case err != nil:
		return CheckInstanceOutput{}, awserr.Wrap(err, failure.InstanceFailed, "ask SSM about %s", in.InstanceID)
	case !online && report != nil: // what follows needs the agent
		return CheckInstanceOutput{}, s.notReady(ctx, in, launched, timeout, "it is provisioned, but its SSM agent does not answer yet")
	case !online:
		return CheckInstanceOutput{}, s.notReady(ctx, in, launched, timeout, "its SSM agent does not answer yet")
	case report != nil:
		return s.judge(ctx, in, *report, launched)
	}
	return s.ask(ctx, in, launched, timeout)
}

// uploaded returns the builder's own report, and whether it has uploaded one. The
// report is a claim: whoever reads the builder's user data can make it. One that is
// false leads nowhere, because arm.sh looks at the builder itself before Seal stops it.
// One that cannot be read is nil, and the builder is asked over SSM.
func (s CheckInstance) uploaded(ctx context.Context, in InstanceInput) (*bootReport, bool, error) {
	key := executionKey(in.Execution, contract.ProvisionedObject)
	raw, err := s.Store.ReadAtMost(ctx, key, contract.BuilderUploadBytes)
	if errors.Is(err, store.ErrNone) {
		return nil, false, nil
	}
	var report bootReport
	if err == nil {
		report, err = parseVerdict(raw)
	} else if failure.CodeOf(err) != failure.InvalidInput { // which is that it is too large
		return nil, false, err
	}
	if err != nil {
		slog.WarnContext(ctx, "the builder's report is not usable; the builder is asked over SSM", "instance", in.InstanceID, "object", key, "error", err.Error())
		return nil, true, nil
	}
	return &report, true, nil
}

// ask has the instance say over SSM how its first boot ended.
func (s CheckInstance) ask(ctx context.Context, in InstanceInput, launched time.Time, timeout time.Duration) (CheckInstanceOutput, error) {
	result, err := guest.Do(ctx, s.SSM, guest.Step{
		InstanceID: in.InstanceID, Execution: in.Execution.Name, Name: in.Role + "-boot", Script: bootScript,
		Timeout: max(launched.Add(timeout).Sub(in.Now), time.Minute),
	})
	if awserr.Is(err, "InvalidInstanceId") { // the agent has just gone, for a restart or for good
		return CheckInstanceOutput{}, s.notReady(ctx, in, launched, timeout, "its SSM agent does not take commands")
	}
	if err != nil {
		return CheckInstanceOutput{}, awserr.Wrap(err, failure.InstanceFailed, "ask %s how its first boot ended", in.InstanceID)
	}
	if !result.Done {
		return CheckInstanceOutput{}, s.notReady(ctx, in, launched, timeout, "cloud-init is still at work")
	}
	return s.answered(ctx, in, result, launched)
}

func (s CheckInstance) answered(ctx context.Context, in InstanceInput, result guest.Result, launched time.Time) (CheckInstanceOutput, error) {
	if !result.OK() {
		code := failure.InstanceFailed
		if result.Status == "TimedOut" {
			code = failure.InstanceTimedOut
		}
		return CheckInstanceOutput{}, s.ended(ctx, in, code,
			"the question to the "+in.Role+" "+in.InstanceID+" how its first boot ended came back "+result.Status+": "+tail([]byte(result.Stderr)))
	}
	report, err := parseBoot(result.Stdout)
	if err != nil {
		return CheckInstanceOutput{}, s.ended(ctx, in, failure.InstanceFailed,
			"the "+in.Role+" "+in.InstanceID+" gave no usable account of its first boot: "+err.Error())
	}
	return s.judge(ctx, in, report, launched)
}

func (s CheckInstance) judge(ctx context.Context, in InstanceInput, report bootReport, launched time.Time) (CheckInstanceOutput, error) {
	code, problem := failure.ProvisioningFailed, report.builderProblem()
	if in.Role == verifierRole {
		// Failed units are for the checks to judge; they are named in the output.
		code, problem = failure.InstanceFailed, report.cloudInitProblem()
	}
	if problem != "" {
		return CheckInstanceOutput{}, s.ended(ctx, in, code, "the "+in.Role+" "+in.InstanceID+": "+problem)
	}
	console, _, err := s.keepConsole(ctx, in)
	if err != nil {
		return CheckInstanceOutput{}, err
	}
	return CheckInstanceOutput{
		InstanceID:  in.InstanceID,
		BootSeconds: bootSeconds(report, launched, in.Now),
		Console:     console,
		FailedUnits: report.System.units(),
	}, nil
}

// bootSeconds believes the guest's clock as long as it is between the launch
// and now, and the state machine's otherwise.
func bootSeconds(r bootReport, launched, now time.Time) float64 {
	end := time.Unix(r.System.Finished, 0)
	if end.Before(launched) || end.After(now) {
		end = now
	}
	return max(0, end.Sub(launched).Seconds())
}

// notReady is InstanceNotReady, until the time-out has passed since the launch.
func (s CheckInstance) notReady(ctx context.Context, in InstanceInput, since time.Time, timeout time.Duration, why string) error {
	age := in.Now.Sub(since)
	if age <= timeout {
		return failure.New(failure.InstanceNotReady, "the %s %s is not ready after %s: %s", in.Role, in.InstanceID, age.Round(time.Second), why)
	}
	text := "the " + in.Role + " " + in.InstanceID + " is not ready " + age.Round(time.Second).String() +
		" after its launch, the recipe allows " + timeout.String() + ": " + why
	return s.ended(ctx, in, failure.InstanceTimedOut, text)
}

// ended keeps the console and makes the error that ends the execution, with the
// console's last lines where the instance itself did not say more.
func (s CheckInstance) ended(ctx context.Context, in InstanceInput, code failure.Code, message string) error {
	object, console, err := s.keepConsole(ctx, in)
	switch {
	case err != nil:
		message += "\n(its console could not be kept: " + err.Error() + ")"
	case object != nil:
		if code != failure.ProvisioningFailed {
			message += "\nend of its console:\n" + tail(console)
		}
		message += "\nconsole: s3://" + object.Bucket + "/" + object.Key
	default:
		message += "\n(its console is empty)"
	}
	return failure.New(code, "%s", strings.TrimSpace(message))
}

func (s CheckInstance) keepConsole(ctx context.Context, in InstanceInput) (*store.Object, []byte, error) {
	console, err := readConsole(ctx, s.EC2, in.InstanceID)
	if err != nil || len(console) == 0 {
		return nil, nil, err
	}
	o, err := s.Store.Put(ctx, consoleKey(in.Execution, in.Role), "text/plain; charset=utf-8", console)
	if err != nil {
		return nil, nil, err
	}
	return &o, console, nil
}

// consoleKey is where the console of an execution's instance is kept.
func consoleKey(e Execution, role string) string {
	return executionKey(e, contract.ConsoleObject(role))
}
