package asl

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// lambdaFunction is a task whose Resource is the ARN of a function.
type lambdaFunction struct{ arn string }

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
	event, ok := arguments["Payload"]
	if !ok {
		event = map[string]any{}
	}
	raw, err := encode(event)
	if err != nil {
		return nil, err
	}
	out, err := invoke(ctx, v, functionARN(name, v.exec), raw)
	if err != nil {
		return nil, err
	}
	return map[string]any{"ExecutedVersion": "$LATEST", "Payload": out, "StatusCode": float64(200)}, nil
}

// functionARN completes a function's name to its ARN.
func functionARN(name string, e Execution) string {
	if strings.HasPrefix(name, "arn:") {
		return name
	}
	return fmt.Sprintf("arn:%s:lambda:%s:%s:function:%s", e.Partition, e.Region, e.Account, name)
}

func invoke(ctx context.Context, v *visit, arn string, event []byte) (any, error) {
	out, functionError, err := v.host.Invoke(ctx, arn, event)
	if err != nil {
		return nil, serviceError("Lambda", err)
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

// functionFailure makes an error of the payload with which a function fails:
// its errorType is the name, the whole payload the cause.
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

// errorPrefixes are the names of services in error names.
var errorPrefixes = map[string]string{"sns": "SNS", "events": "EventBridge"}

func (s serviceCall) perform(ctx context.Context, v *visit, request any) (any, error) {
	raw, err := encode(request)
	if err != nil {
		return nil, err
	}
	out, err := v.host.Call(ctx, s.service, s.call, raw)
	if err != nil {
		return nil, serviceError(errorPrefixes[s.service], err)
	}
	return decode(out)
}
