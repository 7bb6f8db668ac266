// Package wire lets one set of service methods be called through two doors: in
// process, as methods with the signatures of the AWS SDK's clients, and over
// HTTP in the protocols that the SDKs and the AWS CLI speak.
package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Caller is who makes a call: who has signed an HTTP request, or who is named in
// the context of a call in process.
type Caller struct {
	Account     string // twelve digits
	Region      string
	AccessKeyID string
	ARN         string // of the user or assumed role, or the name of a service, such as sns.amazonaws.com
	Source      string // ARN of what a service calls for, such as a topic; empty where it says nothing
}

// RootARN is the ARN of the root user of an account, in the partition of a region.
func RootARN(account, region string) string {
	return partition.OrDefault(region).ARN("iam", "", account, "root")
}

type callerKey struct{}

// WithCaller returns a context for calls as c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns ctx's caller, and whether it has one.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Operation is one API operation behind the HTTP door: decode fills the input
// struct of the SDK from the request, the result is the SDK's output struct.
type Operation func(ctx context.Context, decode func(input any) error) (output any, err error)

// Op makes an Operation of a method with an SDK client's signature.
func Op[I, O, Opt any](method func(context.Context, *I, ...func(*Opt)) (*O, error)) Operation {
	return func(ctx context.Context, decode func(any) error) (any, error) {
		in := new(I)
		if err := decode(in); err != nil {
			return nil, err
		}
		out, err := method(ctx, in)
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// Protocol is a wire format of AWS.
type Protocol string

// The protocols. REST services bring their own http.Handler.
const (
	EC2Query Protocol = "ec2Query" // form in, XML out, EC2's own naming
	AWSQuery Protocol = "awsQuery" // form in, XML out: STS, SNS, IAM
	AWSJSON  Protocol = "awsJson"  // JSON both ways, operation in X-Amz-Target
	REST     Protocol = "rest"
)

// Service is one AWS service as the front serves it.
type Service struct {
	ID           string // signing name in the credential scope: ec2, ssm, sts, states, events, kms, sns, lambda, s3
	Name         string // as error messages print it: EC2
	Protocol     Protocol
	Version      string // API version: of the XML namespace and the Version parameter
	TargetPrefix string // awsJson: what stands before the dot in X-Amz-Target
	Operations   map[string]Operation
	Handler      http.Handler // REST only; the caller is in the request's context
	// Presigned says whether a request may be signed in its address; nil: none may.
	Presigned func(*http.Request) bool
}

// Stateful is implemented by services whose state outlives the process.
type Stateful interface {
	// Snapshot returns the whole state; it must not hold secrets of the host.
	Snapshot() (json.RawMessage, error)
	// Restore takes what Snapshot returned. What was in flight then (a pending
	// instance, a running execution) is settled as lost.
	Restore(json.RawMessage) error
}

// Errorf makes an error with one of AWS's own codes. Server-side faults are
// those that Fault names so; everything else is the client's.
func Errorf(code, format string, args ...any) *smithy.GenericAPIError {
	return &smithy.GenericAPIError{Code: code, Message: fmt.Sprintf(format, args...), Fault: smithy.FaultClient}
}
