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

// Permissions are the rules of Lambda's calls. Invoke is for callers within this
// process, whose input is the function's ARN.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{"Invoke": invokeRequests}
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

// restOperations are those of Lambda's REST API that are about one function, by
// method and what follows the function's name in the path.
func restOperations() map[string]string {
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

// requests asks for the operation of a request, and for the role of a function
// that the request hands to the service.
func requests(c authz.Call, input any) ([]authz.Request, error) {
	r, err := authz.HTTPRequest(input)
	if err != nil {
		return nil, err
	}
	_, path, ok := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/functions")
	if !ok {
		return nil, fmt.Errorf("the embedded AWS does not know what permissions %s %s takes", r.Method, r.URL.Path)
	}
	path = strings.TrimPrefix(path, "/")
	if path == "" && r.Method == http.MethodGet {
		return []authz.Request{{Action: "lambda:ListFunctions", Resource: "*"}}, nil
	}
	var body struct{ FunctionName, Role string }
	if path == "" || strings.HasSuffix(path, "/configuration") {
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
		return nil, fmt.Errorf("the embedded AWS does not know what permissions %s %s takes", r.Method, r.URL.Path)
	}
	request := authz.Request{Action: "lambda:" + operation, Resource: functionFor(c, name)}
	return append([]authz.Request{request}, authz.PassRole(Principal, body.Role)...), nil
}

// functionFor is the ARN of the function that a name, a partial or a full ARN means.
func functionFor(c authz.Call, name string) string {
	switch parts := strings.Split(name, ":"); {
	case strings.HasPrefix(name, "arn:"):
		return name
	case len(parts) >= 3 && parts[1] == "function":
		return c.ARN("lambda", parts[0], strings.Join(parts[1:], ":"))
	}
	return c.ARN("lambda", c.Caller.Account, "function:"+name)
}
