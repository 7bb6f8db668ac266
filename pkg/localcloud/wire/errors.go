package wire

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
)

// apiError is an error in the form that protocols render.
type apiError struct {
	code    string
	message string
	status  int
}

func (e apiError) serverFault() bool { return e.status >= http.StatusInternalServerError }

// statusByCode holds the error codes whose HTTP status differs from the default, which
// is 400 for an error of the client and 500 for one of the server.
var statusByCode = map[string]int{
	// EC2 API Reference, "Error codes": server errors and throttling.
	"RequestLimitExceeded":         http.StatusServiceUnavailable,
	"Unavailable":                  http.StatusServiceUnavailable,
	"ServiceUnavailable":           http.StatusServiceUnavailable,
	"ServiceUnavailableException":  http.StatusServiceUnavailable,
	"SlowDown":                     http.StatusServiceUnavailable,
	"InsufficientInstanceCapacity": http.StatusInternalServerError,
	"InsufficientHostCapacity":     http.StatusInternalServerError,
	"InsufficientVolumeCapacity":   http.StatusInternalServerError,
	"InsufficientAddressCapacity":  http.StatusInternalServerError,
	"InternalError":                http.StatusInternalServerError,
	"InternalFailure":              http.StatusInternalServerError,
	"InternalServerError":          http.StatusInternalServerError,
	"InternalServerException":      http.StatusInternalServerError,
	"UnauthorizedOperation":        http.StatusForbidden,
	"DryRunOperation":              http.StatusPreconditionFailed,
	"AuthFailure":                  http.StatusForbidden,
	"RequestEntityTooLarge":        http.StatusRequestEntityTooLarge,
	// Common errors of the query protocol, and those of SNS and IAM.
	"AccessDenied":               http.StatusForbidden,
	"AuthorizationError":         http.StatusForbidden,
	"InvalidClientTokenId":       http.StatusForbidden,
	"MissingAuthenticationToken": http.StatusForbidden,
	"SignatureDoesNotMatch":      http.StatusForbidden,
	"ExpiredToken":               http.StatusForbidden,
	// Refused signatures, of S3 and the REST services.
	"InvalidAccessKeyId":                  http.StatusForbidden,
	"RequestTimeTooSkewed":                http.StatusForbidden,
	"MissingAuthenticationTokenException": http.StatusForbidden,
	"UnrecognizedClientException":         http.StatusForbidden,
	"InvalidSignatureException":           http.StatusForbidden,
	"ExpiredTokenException":               http.StatusForbidden,
	"NotFound":                            http.StatusNotFound,
	"NoSuchEntity":                        http.StatusNotFound,
	"NoSuchBucket":                        http.StatusNotFound,
	"NoSuchKey":                           http.StatusNotFound,
	"EntityAlreadyExists":                 http.StatusConflict,
	"DeleteConflict":                      http.StatusConflict,
	"LimitExceeded":                       http.StatusConflict,
	"UnknownOperationException":           http.StatusBadRequest,
	"TooManyRequestsException":            http.StatusTooManyRequests,
	"ResourceNotFoundException":           http.StatusNotFound,
	"ResourceConflictException":           http.StatusConflict,
	"CodeStorageExceededException":        http.StatusBadRequest,
}

// toAPIError converts an error of a service into a code, message and status. An error
// that is not an API error is a defect of the embedded AWS: it becomes a server fault
// with the error's text.
func toAPIError(err error, protocol Protocol) apiError {
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		return apiError{code: api.ErrorCode(), message: api.ErrorMessage(), status: statusOf(err, api, protocol)}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return apiError{code: "ServiceUnavailable", message: err.Error(), status: http.StatusServiceUnavailable}
	}
	code := "InternalFailure"
	if protocol == EC2Query {
		code = "InternalError"
	}
	return apiError{code: code, message: err.Error(), status: http.StatusInternalServerError}
}

func statusOf(err error, api smithy.APIError, protocol Protocol) int {
	// An injected fault brings its own status.
	var own interface{ HTTPStatusCode() int }
	if errors.As(err, &own) && own.HTTPStatusCode() >= http.StatusBadRequest {
		return own.HTTPStatusCode()
	}
	code := api.ErrorCode()
	// awsJson answers every fault of the client with 400, whatever its code.
	if protocol == AWSJSON {
		switch {
		case strings.HasPrefix(code, "ServiceUnavailable"):
			return http.StatusServiceUnavailable
		case api.ErrorFault() == smithy.FaultServer, statusByCode[code] == http.StatusInternalServerError:
			return http.StatusInternalServerError
		case code == "RequestEntityTooLarge":
			return http.StatusRequestEntityTooLarge
		}
		return http.StatusBadRequest
	}
	if status, known := statusByCode[code]; known {
		return status
	}
	if api.ErrorFault() == smithy.FaultServer {
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}
