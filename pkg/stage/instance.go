package stage

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// consoleTail is the number of bytes that a message quotes from a console or log.
const consoleTail = 1500

// ConsoleAPI reads the serial console of an instance.
type ConsoleAPI interface {
	GetConsoleOutput(context.Context, *ec2.GetConsoleOutputInput, ...func(*ec2.Options)) (*ec2.GetConsoleOutputOutput, error)
}

// readConsole returns the output on the console so far, which may be empty.
func readConsole(ctx context.Context, api ConsoleAPI, instanceID string) ([]byte, error) {
	out, err := api.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &instanceID, Latest: aws.Bool(true)})
	if awserr.Is(err, "UnsupportedOperation", "InvalidParameterCombination") { // not an instance on Nitro
		out, err = api.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &instanceID})
	}
	if err != nil {
		return nil, awserr.Wrap(err, failure.Internal, "read the console of %s", instanceID)
	}
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
	if err != nil {
		return nil, failure.Wrap(failure.Internal, err, "decode the console of %s", instanceID)
	}
	return raw, nil
}

// tail returns the end of a log, safe to show. It begins with a whole line if possible.
func tail(log []byte) string {
	log = bytes.TrimSpace(log)
	if len(log) > consoleTail {
		log = log[len(log)-consoleTail:]
		if i := bytes.IndexByte(log, '\n'); i >= 0 && i < len(log)-1 {
			log = log[i+1:]
		}
	}
	return plaintext.Clean(string(log))
}

// stateReason returns EC2's reason for the state of an instance.
func stateReason(i types.Instance) string {
	if r := i.StateReason; r != nil && (r.Code != nil || r.Message != nil) {
		return strings.TrimSpace(aws.ToString(r.Code) + " " + aws.ToString(r.Message))
	}
	if r := aws.ToString(i.StateTransitionReason); r != "" {
		return r
	}
	return "EC2 gives no reason"
}

func stateOf(i types.Instance) types.InstanceStateName {
	if i.State == nil {
		return types.InstanceStateNamePending
	}
	return i.State.Name
}
