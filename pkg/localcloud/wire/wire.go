// Package wire makes one set of service methods callable in two ways: in process, as
// methods with the signatures of the AWS SDK's clients, and over HTTP, in the protocols
// that the SDKs and the AWS CLI use.
package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Caller is the caller of an operation: the signer of an HTTP request, or the caller in
// the context of a call in process.
type Caller struct {
	Account     string // twelve digits
	Region      string
	AccessKeyID string
	ARN         string // of the user or assumed role, or the name of a service, such as sns.amazonaws.com
	Source      string // ARN of the resource on whose behalf a service calls, such as a topic; may be empty
}

// RootARN returns the ARN of the root user of an account, in the partition of a region.
func RootARN(account, region string) string {
	return partition.OrDefault(region).ARN("iam", "", account, "root")
}

type callerKey struct{}

// WithCaller returns a context for calls by c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller in ctx, and whether there is one.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Operation is one API operation. decode fills the SDK's input struct from the request;
// the result is the SDK's output struct.
type Operation func(ctx context.Context, decode func(input any) error) (output any, err error)

// Op returns the Operation of a method that has the signature of an SDK client's method.
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

// The protocols. REST services have their own http.Handler.
const (
	EC2Query Protocol = "ec2Query" // form in, XML out, EC2's own naming
	AWSQuery Protocol = "awsQuery" // form in, XML out: STS, SNS, IAM
	AWSJSON  Protocol = "awsJson"  // JSON both ways, operation in X-Amz-Target
	REST     Protocol = "rest"
)

// Service describes one AWS service to the front.
type Service struct {
	ID           string // signing name in the credential scope: ec2, ssm, sts, states, events, kms, sns, lambda, s3
	Name         string // for error messages: EC2
	Protocol     Protocol
	Version      string // API version: of the XML namespace and the Version parameter
	TargetPrefix string // awsJson: the part before the dot in X-Amz-Target
	Operations   map[string]Operation
	Handler      http.Handler // REST only; the caller is in the request's context
	// Presigned reports whether a request may be signed in its URL. If it is nil, none may.
	Presigned func(*http.Request) bool
}

// Stateful is implemented by services whose state outlives the process.
type Stateful interface {
	// Snapshot returns the whole state. It must not contain secrets of the host.
	Snapshot() (json.RawMessage, error)
	// Restore restores a state that Snapshot returned. Work that was in progress, such as
	// a pending instance or a running execution, is ended as lost.
	Restore(json.RawMessage) error
}

// Errorf returns an error with one of AWS's codes. It is an error of the client unless
// its Fault says that it is the server's.
func Errorf(code, format string, args ...any) *smithy.GenericAPIError {
	return &smithy.GenericAPIError{Code: code, Message: fmt.Sprintf(format, args...), Fault: smithy.FaultClient}
}
