package iam

import (
	"errors"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permission rules of IAM's calls. A call needs its
// action on the role, policy or instance profile that it names.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{}
	for operation := range s.Wire().Operations {
		rules[operation] = func(c authz.Call, input any) ([]authz.Request, error) { return s.requests(c, operation, input) }
	}
	return authz.Permissions{Service: "iam", Denied: authz.AccessDenied, Rules: rules}
}

func (s *Service) requests(c authz.Call, operation string, input any) ([]authz.Request, error) {
	request := authz.Request{Action: "iam:" + operation, Resource: "*"}
	entity := func(kind, name string) string {
		return s.arn(c.Caller.Account, kind, "/"+strings.TrimPrefix(member(input, "Path"), "/"), name)
	}
	profile, role, policy := member(input, "InstanceProfileName"), member(input, "RoleName"), member(input, "PolicyArn")
	switch {
	case strings.HasPrefix(operation, "List") && role == "" && policy == "":
	case profile != "":
		request.Resource = entity("instance-profile", profile)
	case operation == "CreateRole":
		request.Resource = entity("role", role)
	case role != "":
		request.Resource = s.RoleARN(c.Caller.Account, role)
	case operation == "CreatePolicy":
		request.Resource = entity("policy", member(input, "PolicyName"))
	case policy != "":
		request.Resource = policy
	case operation == "SimulatePrincipalPolicy":
		request.Resource = member(input, "PolicySourceArn")
	default:
		return nil, errors.New("it has no role, policy or instance profile")
	}
	pairs := map[string][]string{}
	if boundary := member(input, "PermissionsBoundary"); boundary != "" {
		pairs["iam:PermissionsBoundary"] = []string{boundary}
	}
	if policy != "" && role != "" {
		pairs["iam:PolicyARN"] = []string{policy}
	}
	request.Context = authz.Context(pairs)
	return []authz.Request{request}, nil
}

// member returns a text member of an SDK input, or "" if there is none with that
// name.
func member(input any, name string) string {
	v := reflect.Indirect(reflect.ValueOf(input))
	if v.Kind() != reflect.Struct {
		return ""
	}
	field := v.FieldByName(name)
	if !field.IsValid() {
		return ""
	}
	text, _ := field.Interface().(*string)
	return aws.ToString(text)
}
