package stage

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/store"
)

const (
	armScript  = "bash /var/lib/ami-factory/bundle/seal/arm.sh\n"
	armTimeout = 5 * time.Minute
)

// SealEC2 lists the calls of EC2 that Seal makes.
type SealEC2 interface {
	ec2.DescribeInstancesAPIClient
	ConsoleAPI
	StopInstances(context.Context, *ec2.StopInstancesInput, ...func(*ec2.Options)) (*ec2.StopInstancesOutput, error)
}

// Seal lets the builder prepare the removal of its own identity, and stops it. The removal
// itself runs in the guest after all other processes have ended.
type Seal struct {
	Store store.Store
	EC2   SealEC2
	SSM   guest.API
}

// Run makes the next step towards a sealed, stopped builder, and returns SealNotReady until
// the builder is sealed.
func (s Seal) Run(ctx context.Context, in InstanceInput) (SealOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return SealOutput{}, err
	}
	if err := requireInput("instanceId", in.InstanceID); err != nil {
		return SealOutput{}, err
	}
	instance, err := ami.DescribeInstance(ctx, s.EC2, in.InstanceID)
	if isNoInstance(err) {
		return SealOutput{}, failure.New(failure.InstanceFailed, "the builder %s is gone before it was sealed", in.InstanceID)
	}
	if err != nil {
		return SealOutput{}, awserr.Wrap(err, failure.SealFailed, "read the state of %s", in.InstanceID)
	}
	switch state := stateOf(instance); state {
	case types.InstanceStateNameRunning:
		return SealOutput{}, s.armAndStop(ctx, in, aws.ToTime(instance.LaunchTime), time.Duration(p.Recipe.Builder.Timeout))
	case types.InstanceStateNameStopping:
		return SealOutput{}, failure.New(failure.SealNotReady, "the builder %s is stopping", in.InstanceID)
	case types.InstanceStateNameStopped:
		return s.verify(ctx, in, instance)
	default:
		return SealOutput{}, failure.New(failure.InstanceFailed, "the builder %s is %s before it was sealed: %s",
			in.InstanceID, state, stateReason(instance))
	}
}

func armStep(in InstanceInput) guest.Step {
	return guest.Step{
		InstanceID: in.InstanceID, Execution: in.Execution.Name, Name: "seal", Script: armScript, Timeout: armTimeout,
	}
}

// armAndStop always returns an error; without a fault this is SealNotReady.
func (s Seal) armAndStop(ctx context.Context, in InstanceInput, launched time.Time, timeout time.Duration) error {
	result, err := guest.Do(ctx, s.SSM, armStep(in))
	if awserr.Is(err, "InvalidInstanceId") && in.Now.Sub(launched) <= timeout {
		// The provisioning was short: the builder has reported before its agent is online.
		return failure.New(failure.SealNotReady, "the SSM agent of the builder %s does not take commands yet", in.InstanceID)
	}
	if err != nil {
		return awserr.Wrap(err, failure.SealFailed, "have the builder %s prepare its seal", in.InstanceID)
	}
	if err := armed(in, result); err != nil {
		return err
	}
	_, err = s.EC2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{in.InstanceID}})
	if err != nil && !awserr.Is(err, "IncorrectInstanceState") { // it is stopping already
		return awserr.Wrap(err, failure.SealFailed, "stop the builder %s", in.InstanceID)
	}
	return failure.New(failure.SealNotReady, "the builder %s is armed and told to stop", in.InstanceID)
}

func armed(in InstanceInput, r guest.Result) error {
	switch {
	case !r.Done:
		return failure.New(failure.SealNotReady, "the builder %s is preparing its seal", in.InstanceID)
	case !r.OK():
		said := tail([]byte(r.Stderr))
		if said == "" {
			said = tail([]byte(r.Stdout))
		}
		return failure.New(failure.SealFailed, "the builder %s could not be sealed: arm.sh ended %s with exit code %d: %s",
			in.InstanceID, r.Status, r.ExitCode, said)
	}
	return nil
}

// verify checks that the builder was shut down in order, which the seal needs.
func (s Seal) verify(ctx context.Context, in InstanceInput, instance types.Instance) (SealOutput, error) {
	id, err := guest.Find(ctx, s.SSM, armStep(in))
	if err != nil {
		return SealOutput{}, awserr.Wrap(err, failure.SealFailed, "find the seal's command of %s", in.InstanceID)
	}
	if id == "" {
		return SealOutput{}, failure.New(failure.SealFailed, "the builder %s stopped before it was sealed: %s",
			in.InstanceID, stateReason(instance))
	}
	result, err := guest.Poll(ctx, s.SSM, in.InstanceID, id)
	if err != nil {
		return SealOutput{}, awserr.Wrap(err, failure.SealFailed, "read the result of the seal's command of %s", in.InstanceID)
	}
	if !result.OK() {
		return SealOutput{}, failure.New(failure.SealFailed, "the builder %s stopped while it prepared its seal (%s): %s",
			in.InstanceID, result.Status, stateReason(instance))
	}
	// Only a complete shutdown runs the seal's script. For an orderly stop, the reason in
	// EC2 is the requester; otherwise it is a fault or a forced stop.
	if code := reasonCode(instance); code != "" && !strings.HasPrefix(code, "Client.UserInitiatedShutdown") &&
		!strings.HasPrefix(code, "Client.InstanceInitiatedShutdown") {
		return SealOutput{}, failure.New(failure.SealFailed,
			"the builder %s did not shut down in order, so its seal is not certain: %s", in.InstanceID, stateReason(instance))
	}
	console, err := readConsole(ctx, s.EC2, in.InstanceID)
	if err != nil {
		return SealOutput{}, err
	}
	if said := sealComplaints(console); said != "" {
		return SealOutput{}, failure.New(failure.SealFailed, "the seal of the builder %s is incomplete:\n%s", in.InstanceID, said)
	}
	return SealOutput{InstanceID: in.InstanceID}, nil
}

// sealComplaints returns the lines in which the script that runs at shutdown reports what
// it could not clean. EC2 may show the end of the console late, so no line proves nothing:
// the verifier checks the seal itself.
func sealComplaints(console []byte) string {
	var out []string
	for line := range bytes.Lines(console) {
		if bytes.Contains(line, []byte("ami-factory: seal: ")) && bytes.Contains(line, []byte("FAILED")) {
			out = append(out, strings.TrimSpace(string(line)))
		}
	}
	return strings.Join(out, "\n")
}

func reasonCode(i types.Instance) string {
	if i.StateReason == nil {
		return ""
	}
	return aws.ToString(i.StateReason.Code)
}
