// Package awserr maps errors of AWS to the factory's failure codes, in one
// place, so that all stages retry and fail in the same way.
package awserr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// Wrap makes a *failure.Error from err, with the formatted sentence and AWS's
// message. A code in err's chain is kept; an error without a general meaning
// gets the fallback. nil stays nil.
func Wrap(err error, fallback failure.Code, format string, args ...any) error {
	if err == nil {
		return nil
	}
	message := fmt.Sprintf(format, args...)
	if known := (*failure.Error)(nil); errors.As(err, &known) {
		return failure.Wrap(known.Code, err, "%s", message)
	}
	code := Classify(err, fallback)
	if hint := hintFor(code); hint != "" {
		message += " (" + hint + ")"
	}
	return failure.Wrap(code, &brief{err}, "%s", message)
}

// Classify returns the failure code for an error of an AWS call.
func Classify(err error, fallback failure.Code) failure.Code {
	var known *failure.Error
	if errors.As(err, &known) {
		return known.Code
	}
	code := Code(err)
	switch {
	case slices.Contains(throttles(), code):
		return failure.Throttled
	case slices.Contains(denials(), code):
		return failure.AccessDenied
	case slices.Contains(shortages(), code):
		return failure.CapacityUnavailable
	case slices.Contains(outages(), code):
		return failure.ServiceUnavailable
	case isQuota(code):
		return failure.QuotaExceeded
	}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		switch status := response.HTTPStatusCode(); {
		case status == http.StatusTooManyRequests:
			return failure.Throttled
		case status >= http.StatusInternalServerError:
			return failure.ServiceUnavailable
		case status == http.StatusForbidden && code == "":
			return failure.AccessDenied
		}
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		if api.ErrorFault() == smithy.FaultServer {
			return failure.ServiceUnavailable
		}
		return fallback
	}
	if isNetwork(err) {
		return failure.ServiceUnavailable
	}
	return fallback
}

// Code returns AWS's own code of an error, such as InvalidAMIID.NotFound, or ""
// if AWS did not answer.
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		// EC2 prefixes some codes when they come from inside another service.
		return strings.TrimPrefix(strings.TrimPrefix(api.ErrorCode(), "Client."), "Server.")
	}
	return ""
}

// Is reports whether AWS's code is one of codes.
func Is(err error, codes ...string) bool {
	return err != nil && slices.Contains(codes, Code(err))
}

// IsNotFound reports whether a resource of the call does not exist. Shortly
// after its creation that may only mean "not yet".
func IsNotFound(err error) bool {
	code := Code(err)
	return strings.HasSuffix(code, ".NotFound") || slices.Contains([]string{
		"InvalidAMIID.Unavailable", "NoSuchKey", "NotFound", "ParameterNotFound", "ParameterVersionNotFound",
		"InvocationDoesNotExist", "InvalidCommandId",
	}, code)
}

func throttles() []string {
	return []string{
		"RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
		"RequestThrottled", "RequestThrottledException", "SlowDown", "TooManyUpdates", "BandwidthLimitExceeded",
		"PriorRequestNotComplete", "EC2ThrottledException", "Throttled",
	}
}

func denials() []string {
	return []string{
		"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure", "AuthorizationError",
		"NotAuthorized", "UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch",
		"KMSAccessDenied", "KMSAccessDeniedException", "Blocked", "OptInRequired",
	}
}

func shortages() []string {
	return []string{
		"InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
		"InsufficientCapacity", "InsufficientCapacityOnHost", "InsufficientFreeAddressesInSubnet",
	}
}

func outages() []string {
	return []string{
		"ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeout", "RequestTimeoutException",
		"InternalError", "InternalFailure", "InternalServerError", "InternalServiceError", "ServiceUnavailable",
		"ServiceUnavailableException", "Unavailable",
	}
}

func isQuota(code string) bool {
	if slices.Contains([]string{"ResourceCountExceeded", "MaxConfigLimitExceededException", "TooManyCopies"}, code) {
		return true
	}
	code = strings.TrimSuffix(code, "Exception")
	return strings.HasSuffix(code, "LimitExceeded") || strings.HasSuffix(code, "QuotaExceeded")
}

func isNetwork(err error) bool {
	var send *smithyhttp.RequestSendError
	var canceled *smithy.CanceledError
	var network net.Error
	return errors.As(err, &send) || errors.As(err, &canceled) || errors.As(err, &network) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func hintFor(code failure.Code) string {
	switch code {
	case failure.AccessDenied:
		return "the function's role or the key's policy lacks a permission"
	case failure.QuotaExceeded:
		return "raise the service quota, or remove what uses it up"
	default:
		return ""
	}
}

// brief is an error whose text has no endpoints and request ids of the SDK. The
// whole chain stays accessible.
type brief struct{ err error }

func (b *brief) Error() string { return Brief(b.err) }
func (b *brief) Unwrap() error { return b.err }

// Brief returns an error's text, in which AWS's errors are reduced to operation,
// code and message.
func Brief(err error) string {
	text := err.Error()
	for _, op := range operations(err) {
		var api smithy.APIError
		if errors.As(op, &api) {
			said := op.Service() + " " + op.Operation() + ": " + api.ErrorCode()
			if m := api.ErrorMessage(); m != "" {
				said += ": " + m
			}
			text = strings.ReplaceAll(text, op.Error(), said)
		}
	}
	return text
}

// operations finds the SDK's errors in a tree of errors.
func operations(err error) []*smithy.OperationError {
	var out []*smithy.OperationError
	switch x := any(err).(type) { // this walks the tree itself, because errors.As stops at the first
	case *smithy.OperationError:
		return []*smithy.OperationError{x}
	case interface{ Unwrap() []error }:
		for _, e := range x.Unwrap() {
			out = append(out, operations(e)...)
		}
	case interface{ Unwrap() error }:
		if inner := x.Unwrap(); inner != nil {
			out = operations(inner)
		}
	}
	return out
}
