package localcloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	sdksfn "github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
)

// passing asks for the role that a call hands to a service
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html).
func passing(service, roleARN string) []iam.Request {
	if roleARN == "" {
		return nil
	}
	return []iam.Request{{Action: "iam:PassRole", Resource: roleARN, Context: iam.Context(map[string][]string{"iam:PassedToService": {service}})}}
}

// addPassingRules adds the rules of calls that hand on a role, but for those of
// EC2, Lambda and Scheduler.
func addPassingRules(out map[string]rule) {
	out["states:CreateStateMachine"] = of(func(a asker, in *sdksfn.CreateStateMachineInput) []iam.Request {
		machine := iam.Request{Action: "states:CreateStateMachine", Resource: a.arn("states", a.who.Account, "stateMachine:"+aws.ToString(in.Name))}
		return append([]iam.Request{machine}, passing(statesPrincipal, aws.ToString(in.RoleArn))...)
	})
	out["states:UpdateStateMachine"] = of(func(_ asker, in *sdksfn.UpdateStateMachineInput) []iam.Request {
		machine := iam.Request{Action: "states:UpdateStateMachine", Resource: aws.ToString(in.StateMachineArn)}
		return append([]iam.Request{machine}, passing(statesPrincipal, aws.ToString(in.RoleArn))...)
	})
	out["events:PutTargets"] = of(func(a asker, in *eventbridge.PutTargetsInput) []iam.Request {
		rule := aws.ToString(in.Rule)
		if bus := aws.ToString(in.EventBusName); bus != "" && bus != events.DefaultBus {
			rule = bus[strings.LastIndex(bus, "/")+1:] + "/" + rule
		}
		requests := []iam.Request{{Action: "events:PutTargets", Resource: a.arn("events", a.who.Account, "rule/"+rule)}}
		for _, t := range in.Targets {
			requests = append(requests, passing(events.Principal, aws.ToString(t.RoleArn))...)
		}
		return requests
	})
}

// lambdaOperations are those of Lambda's REST API that are about one function, by
// method and what follows the function's name in the path.
func lambdaOperations() map[string]string {
	return map[string]string{
		"GET ": "GetFunction", "DELETE ": "DeleteFunction", "GET /configuration": "GetFunctionConfiguration", "PUT /configuration": "UpdateFunctionConfiguration",
		"PUT /code": "UpdateFunctionCode", "POST /policy": "AddPermission", "GET /policy": "GetPolicy", "DELETE /policy": "RemovePermission",
		"PUT /concurrency": "PutFunctionConcurrency", "GET /concurrency": "GetFunctionConcurrency", "DELETE /concurrency": "DeleteFunctionConcurrency",
		"POST /invocations":        "InvokeFunction",
		"PUT /event-invoke-config": "PutFunctionEventInvokeConfig", "GET /event-invoke-config": "GetFunctionEventInvokeConfig",
		"DELETE /event-invoke-config": "DeleteFunctionEventInvokeConfig", "POST /event-invoke-config": "UpdateFunctionEventInvokeConfig",
	}
}

// largestFunction bounds what is read of a request to Lambda, in bytes: the
// service refuses what is larger.
const largestFunction = 70 << 20

// lambdaRequest decides on a request to Lambda, and whether the role of a function
// may be passed to it.
func lambdaRequest(a asker, input any) ([]iam.Request, error) {
	r, ok := input.(*http.Request)
	if !ok {
		return nil, fmt.Errorf("its input is %T", input)
	}
	_, path, ok := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/functions")
	if !ok {
		return nil, fmt.Errorf("the embedded AWS does not know what permissions %s %s takes", r.Method, r.URL.Path)
	}
	path = strings.TrimPrefix(path, "/")
	if path == "" && r.Method == http.MethodGet {
		return []iam.Request{{Action: "lambda:ListFunctions", Resource: "*"}}, nil
	}
	var body struct{ FunctionName, Role string }
	if path == "" || strings.HasSuffix(path, "/configuration") {
		if err := peek(r, largestFunction, &body); err != nil {
			return nil, err
		}
	}
	if path == "" {
		request := iam.Request{Action: "lambda:CreateFunction", Resource: a.functionARN(body.FunctionName)}
		return append([]iam.Request{request}, passing(lambdaPrincipal, body.Role)...), nil
	}
	name, rest, _ := strings.Cut(path, "/")
	rest, _, _ = strings.Cut(rest, "/")
	if rest != "" {
		rest = "/" + rest
	}
	operation, ok := lambdaOperations()[r.Method+" "+rest]
	name, err := url.PathUnescape(name)
	if !ok || err != nil {
		return nil, fmt.Errorf("the embedded AWS does not know what permissions %s %s takes", r.Method, r.URL.Path)
	}
	request := iam.Request{Action: "lambda:" + operation, Resource: a.functionARN(name)}
	return append([]iam.Request{request}, passing(lambdaPrincipal, body.Role)...), nil
}

// functionARN is the ARN of the function that a name, a partial or a full ARN means.
func (a asker) functionARN(name string) string {
	switch parts := strings.Split(name, ":"); {
	case strings.HasPrefix(name, "arn:"):
		return name
	case len(parts) >= 3 && parts[1] == "function":
		return a.arn("lambda", parts[0], strings.Join(parts[1:], ":"))
	}
	return a.arn("lambda", a.who.Account, "function:"+name)
}

// peek decodes the body of a request and puts it back, for whoever is to serve it.
func peek(r *http.Request, limit int64, into any) error {
	raw, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return err
	}
	if int64(len(raw)) > limit {
		return errors.New("its body is too large")
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("its body is not JSON: %w", err)
	}
	return nil
}
