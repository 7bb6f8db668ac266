package lambda

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Principal is the service that assumes the roles of functions.
const Principal = "lambda.amazonaws.com"

// Permissions returns the permission rules of Lambda's calls. The rule of Invoke
// is for callers in this process, whose input is the function's ARN.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{"Invoke": invokeRequests, "InvokeFunctionUrl": authz.Of(urlRequests)}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		rules[method] = requests
	}
	return authz.Permissions{Service: "lambda", Rules: rules, Policy: s.resourcePolicy}
}

func (s *Service) resourcePolicy(arn string) (authz.ResourcePolicy, error) {
	text, _, err := s.Policy(arn)
	if err != nil {
		return authz.ResourcePolicy{}, err
	}
	return authz.PolicyFrom(text)
}

func invokeRequests(_ authz.Call, input any) ([]authz.Request, error) {
	arn, ok := input.(string)
	if !ok {
		return nil, errors.New("a function's ARN is expected")
	}
	return []authz.Request{{Action: "lambda:InvokeFunction", Resource: arn}}, nil
}

// urlRequests requires both permissions that a request to a function URL needs
// since October 2025. The second can be granted for function URLs only
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html).
func urlRequests(_ authz.Call, t *Target) []authz.Request {
	auth := []string{string(t.AuthType)}
	return []authz.Request{
		{Action: "lambda:InvokeFunctionUrl", Resource: t.ARN, Context: authz.Context(map[string][]string{"lambda:FunctionUrlAuthType": auth})},
		{Action: "lambda:InvokeFunction", Resource: t.ARN, Context: authz.Context(map[string][]string{"lambda:InvokedViaFunctionUrl": {"true"}})},
	}
}

// restOperations returns the operations of Lambda's REST API on one function, by
// method and the path after the function's name.
func restOperations() map[string]string {
	return map[string]string{
		"GET ": "GetFunction", "DELETE ": "DeleteFunction", "GET /configuration": "GetFunctionConfiguration", "PUT /configuration": "UpdateFunctionConfiguration",
		"PUT /code": "UpdateFunctionCode", "POST /policy": "AddPermission", "GET /policy": "GetPolicy", "DELETE /policy": "RemovePermission",
		"PUT /concurrency": "PutFunctionConcurrency", "GET /concurrency": "GetFunctionConcurrency", "DELETE /concurrency": "DeleteFunctionConcurrency",
		"POST /invocations":        "InvokeFunction",
		"PUT /event-invoke-config": "PutFunctionEventInvokeConfig", "GET /event-invoke-config": "GetFunctionEventInvokeConfig",
		"POST /url": "CreateFunctionUrlConfig", "GET /url": "GetFunctionUrlConfig", "PUT /url": "UpdateFunctionUrlConfig", "DELETE /url": "DeleteFunctionUrlConfig",
		"GET /urls":                   "ListFunctionUrlConfigs",
		"DELETE /event-invoke-config": "DeleteFunctionEventInvokeConfig", "POST /event-invoke-config": "UpdateFunctionEventInvokeConfig",
	}
}

// largestFunction limits how much of a request to Lambda is read, in bytes. The
// service refuses larger requests.
const largestFunction = 70 << 20

// requests requires the operation of a request, and iam:PassRole for a
// function's role in the request.
func requests(c authz.Call, input any) ([]authz.Request, error) {
	r, err := authz.HTTPRequest(input)
	if err != nil {
		return nil, err
	}
	_, path, ok := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/functions")
	if !ok {
		return nil, fmt.Errorf("the embedded AWS does not know which permissions %s %s needs", r.Method, r.URL.Path)
	}
	path = strings.TrimPrefix(path, "/")
	if path == "" && r.Method == http.MethodGet {
		return []authz.Request{{Action: "lambda:ListFunctions", Resource: "*"}}, nil
	}
	var body struct{ FunctionName, Role, AuthType string }
	if path == "" || strings.HasSuffix(path, "/configuration") || strings.HasSuffix(path, "/url") {
		if err := authz.PeekJSON(r, largestFunction, &body); err != nil {
			return nil, err
		}
	}
	if path == "" {
		request := authz.Request{Action: "lambda:CreateFunction", Resource: functionFor(c, body.FunctionName)}
		return append([]authz.Request{request}, authz.PassRole(Principal, body.Role)...), nil
	}
	name, rest, _ := strings.Cut(path, "/")
	rest, _, _ = strings.Cut(rest, "/")
	if rest != "" {
		rest = "/" + rest
	}
	operation, ok := restOperations()[r.Method+" "+rest]
	name, err = url.PathUnescape(name)
	if !ok || err != nil {
		return nil, fmt.Errorf("the embedded AWS does not know which permissions %s %s needs", r.Method, r.URL.Path)
	}
	request := authz.Request{Action: "lambda:" + operation, Resource: functionFor(c, name)}
	if body.AuthType != "" {
		request.Context = authz.Context(map[string][]string{"lambda:FunctionUrlAuthType": {body.AuthType}})
	}
	return append([]authz.Request{request}, authz.PassRole(Principal, body.Role)...), nil
}

// functionFor returns the ARN of a function from its name, or a partial or full
// ARN.
func functionFor(c authz.Call, name string) string {
	switch parts := strings.Split(name, ":"); {
	case strings.HasPrefix(name, "arn:"):
		return name
	case len(parts) >= 3 && parts[1] == "function":
		return c.ARN("lambda", parts[0], strings.Join(parts[1:], ":"))
	}
	return c.ARN("lambda", c.Caller.Account, "function:"+name)
}
