package awserr_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

func api(code string, fault smithy.ErrorFault) error {
	return &smithy.GenericAPIError{Code: code, Message: "said AWS", Fault: fault}
}

func status(code int, err error) error {
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: code}}, Err: err}
}

func TestErrorsOfAWSHaveOneCodeEach(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want failure.Code
	}{
		"EC2 throttles":                         {api("RequestLimitExceeded", smithy.FaultClient), failure.Throttled},
		"SSM throttles":                         {api("ThrottlingException", smithy.FaultClient), failure.Throttled},
		"S3 throttles":                          {api("SlowDown", smithy.FaultServer), failure.Throttled},
		"status 429 throttles":                  {status(429, errors.New("x")), failure.Throttled},
		"EC2 denies":                            {api("UnauthorizedOperation", smithy.FaultClient), failure.AccessDenied},
		"IAM denies":                            {api("AccessDeniedException", smithy.FaultClient), failure.AccessDenied},
		"a bare 403 denies":                     {status(403, errors.New("x")), failure.AccessDenied},
		"a zone is out of instances":            {api("InsufficientInstanceCapacity", smithy.FaultServer), failure.CapacityUnavailable},
		"a launch fails inside":                 {api("Server.InsufficientInstanceCapacity", smithy.FaultServer), failure.CapacityUnavailable},
		"the vCPU quota is used up":             {api("VcpuLimitExceeded", smithy.FaultClient), failure.QuotaExceeded},
		"the snapshot quota is used up":         {api("SnapshotLimitExceeded", smithy.FaultClient), failure.QuotaExceeded},
		"a service quota is used up":            {api("ServiceQuotaExceededException", smithy.FaultClient), failure.QuotaExceeded},
		"credentials expired":                   {api("ExpiredTokenException", smithy.FaultClient), failure.ServiceUnavailable},
		"AWS has an internal error":             {api("InternalError", smithy.FaultUnknown), failure.ServiceUnavailable},
		"an unknown fault of the server":        {api("Whatever", smithy.FaultServer), failure.ServiceUnavailable},
		"status 503":                            {status(503, errors.New("x")), failure.ServiceUnavailable},
		"the connection breaks":                 {&net.OpError{Op: "read", Err: errors.New("reset")}, failure.ServiceUnavailable},
		"the request cannot be sent":            {&smithyhttp.RequestSendError{Err: errors.New("no route")}, failure.ServiceUnavailable},
		"the time is up":                        {fmt.Errorf("call: %w", context.DeadlineExceeded), failure.ServiceUnavailable},
		"a client's own fault has the fallback": {api("InvalidParameterValue", smithy.FaultClient), failure.CopyFailed},
		"so has an error of no known origin":    {errors.New("x"), failure.CopyFailed},
		"a code of the factory's stays":         {fmt.Errorf("y: %w", failure.New(failure.SealFailed, "x")), failure.SealFailed},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, awserr.Classify(c.err, failure.CopyFailed))
			assert.Equal(t, c.want, failure.CodeOf(awserr.Wrap(c.err, failure.CopyFailed, "do it")))
		})
	}
}

func TestWrapTellsWhatHappenedInAWSsWords(t *testing.T) {
	assert.NoError(t, awserr.Wrap(nil, failure.Internal, "nothing"))

	op := &smithy.OperationError{ServiceID: "EC2", OperationName: "RunInstances", Err: status(403, api("UnauthorizedOperation", smithy.FaultClient))}
	err := awserr.Wrap(op, failure.Internal, "launch the %s", "builder")
	assert.EqualError(t, err, "launch the builder (the function's role or the key's policy lacks a permission): EC2 RunInstances: UnauthorizedOperation: said AWS")
	require.ErrorIs(t, err, op, "the whole chain stays reachable")
	assert.Equal(t, "x: EC2 RunInstances: UnauthorizedOperation: said AWS", awserr.Brief(fmt.Errorf("x: %w", op)))
}

func TestNotFound(t *testing.T) {
	for code, want := range map[string]bool{
		"InvalidAMIID.NotFound": true, "InvalidInstanceID.NotFound": true, "InvalidSnapshot.NotFound": true,
		"ParameterNotFound": true, "NoSuchKey": true, "InvocationDoesNotExist": true, "InvalidAMIID.Malformed": false,
	} {
		assert.Equal(t, want, awserr.IsNotFound(api(code, smithy.FaultClient)), code)
	}
	assert.False(t, awserr.IsNotFound(nil))
	assert.False(t, awserr.Is(nil, ""))
}
