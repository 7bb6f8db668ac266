package asl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	"github.com/google/uuid"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// lambdaFunction is a task whose Resource is the ARN of a function.
type lambdaFunction struct{ arn string }

func (l lambdaFunction) name() string { return l.arn }

func (l lambdaFunction) perform(ctx context.Context, v *visit, request any) (any, error) {
	raw, err := encode(request)
	if err != nil {
		return nil, err
	}
	return invoke(ctx, v, l.arn, raw)
}

// lambdaInvoke is arn:aws:states:::lambda:invoke.
type lambdaInvoke struct{ serviceEvents }

func (l lambdaInvoke) perform(ctx context.Context, v *visit, request any) (any, error) {
	arguments, _ := request.(map[string]any)
	name, ok := arguments["FunctionName"].(string)
	if !ok || name == "" {
		return nil, &Error{Name: ErrRuntime, Cause: "The FunctionName of lambda:invoke must be a string that is not empty."}
	}
	raw, err := eventOf(arguments["Payload"])
	if err != nil {
		return nil, err
	}
	arn := functionARN(name, v.exec)
	out, err := invoke(ctx, v, arn, raw)
	if err != nil {
		if failed := AsError(err); strings.HasPrefix(failed.Cause, "Function not found: "+arn+" ") { // recorded with its version
			failed.Cause = strings.Replace(failed.Cause, arn, arn+":$LATEST", 1)
		}
		return nil, err
	}
	return map[string]any{"ExecutedVersion": "$LATEST", "Payload": out, "StatusCode": float64(200)}, nil
}

// eventOf returns a function's event for Payload: an empty object if it is
// missing or null, and the text itself if it is a string that contains JSON.
func eventOf(payload any) ([]byte, error) {
	if payload == nil || payload == null {
		return []byte("{}"), nil
	}
	if text, ok := payload.(string); ok && json.Valid([]byte(text)) {
		return []byte(text), nil
	}
	return encode(payload)
}

// functionARN returns a function's ARN from its name or ARN.
func functionARN(name string, e Execution) string {
	if strings.HasPrefix(name, "arn:") {
		return name
	}
	return fmt.Sprintf("arn:%s:lambda:%s:%s:function:%s", e.Partition, e.Region, e.Account, name)
}

func invoke(ctx context.Context, v *visit, arn string, event []byte) (any, error) {
	out, functionError, err := v.host.Invoke(ctx, arn, event)
	if err != nil {
		return nil, serviceError("lambda", err)
	}
	if functionError != "" {
		return nil, functionFailure(out)
	}
	if len(out) == 0 {
		return null, nil
	}
	result, err := decode(out)
	if err != nil {
		return nil, &Error{Name: "Lambda.Unknown", Cause: fmt.Sprintf("%s returned something that is not JSON: %v", arn, err)}
	}
	return result, nil
}

// functionFailure makes an error from the payload of a failed function: its
// errorType is the name, the whole payload the cause.
func functionFailure(out []byte) *Error {
	var p struct {
		ErrorType string `json:"errorType"`
	}
	name := "Lambda.Unknown"
	if err := json.Unmarshal(out, &p); err == nil && p.ErrorType != "" {
		name = p.ErrorType
	}
	return &Error{Name: name, Cause: string(out)}
}

// serviceCall is a task that calls an action of another service.
type serviceCall struct {
	serviceEvents
	call string // the action without .waitForTaskToken
}

func (s serviceEvents) name() string { return s.service }

func (s serviceCall) perform(ctx context.Context, v *visit, request any) (any, error) {
	raw, err := encode(request)
	if err != nil {
		return nil, err
	}
	out, err := v.host.Call(ctx, s.service, s.call, raw)
	if err != nil {
		return nil, serviceError(s.service, err)
	}
	if s.service == "events" {
		if err := failedEntry(out); err != nil {
			return nil, err
		}
	}
	return decode(out)
}

// failedEntry returns the error of events:putEvents if EventBridge did not
// accept all entries, with its answer as the cause
// (https://docs.aws.amazon.com/step-functions/latest/dg/connect-eventbridge.html).
func failedEntry(out []byte) error {
	var answer struct{ FailedEntryCount int }
	if err := json.Unmarshal(out, &answer); err != nil {
		return err
	}
	if answer.FailedEntryCount == 0 {
		return nil
	}
	return &Error{Name: "EventBridge.FailedEntry", Cause: string(out)}
}

// family has the names in a service's errors: its client in the AWS SDK for
// Java, the service in the cause, and the name for errors without a class in
// that client.
type family struct{ prefix, service, other string }

func familyOf(service string) family {
	switch service {
	case "sns":
		return family{"SNS", "AmazonSNS", ""}
	case "sqs":
		return family{"SQS", "AmazonSQS", "AmazonSQSException"}
	case "events":
		return family{"EventBridge", "AmazonEventBridge", ""}
	}
	return family{"Lambda", "AWSLambda", ""}
}

// class returns the name of an error code's class in the client.
func (f family) class(code string) string {
	code = code[strings.LastIndexAny(code, ".#")+1:]
	known := []string{"QueueDoesNotExist", "InvalidMessageContents", "UnsupportedOperation", "RequestThrottled"} // errors of SendMessage that have a class
	if f.other != "" && !slices.Contains(known, code) {
		return f.other
	}
	if !strings.HasSuffix(code, "Exception") {
		code += "Exception"
	}
	return code
}

// serviceError names an error of a service like Step Functions: the service, a
// point, and the error's class in the SDK.
func serviceError(service string, err error) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	f := familyOf(service)
	var api smithy.APIError
	if !errors.As(err, &api) {
		if f.prefix == "Lambda" {
			return &Error{Name: "Lambda.Unknown", Cause: err.Error()}
		}
		return &Error{Name: f.prefix + ".SdkClientException", Cause: err.Error()}
	}
	cause := fmt.Sprintf("%s (Service: %s; Status Code: %d; Error Code: %s; Request ID: %s; Proxy: null)",
		api.ErrorMessage(), f.service, statusOf(err, api), api.ErrorCode(), uuid.NewString())
	return &Error{Name: f.prefix + "." + f.class(api.ErrorCode()), Cause: cause}
}

// statusOf returns the HTTP status of an error.
func statusOf(err error, api smithy.APIError) int {
	var known interface{ HTTPStatusCode() int }
	switch {
	case errors.As(err, &known):
		return known.HTTPStatusCode()
	case strings.Contains(api.ErrorCode(), "NotFound"):
		return 404
	case strings.Contains(api.ErrorCode(), "AccessDenied"), strings.Contains(api.ErrorCode(), "Authorization"):
		return 403
	case api.ErrorFault() == smithy.FaultServer:
		return 500
	}
	return 400
}
