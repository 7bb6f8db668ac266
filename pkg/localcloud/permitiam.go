package localcloud

import (
	"errors"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
)

// addIAMRules adds the rules of IAM. What is asked for is the role, the policy or
// the instance profile that a call names.
func addIAMRules(out map[string]rule) {
	for operation := range (&iam.Service{}).Wire().Operations {
		out["iam:"+operation] = func(a asker, input any) ([]iam.Request, error) { return a.iamRequest(operation, input) }
	}
}

func (a asker) iamRequest(operation string, input any) ([]iam.Request, error) {
	request := iam.Request{Action: "iam:" + operation, Resource: "*"}
	entity := func(kind, name string) string {
		return "arn:aws:iam::" + a.who.Account + ":" + kind + "/" + strings.TrimPrefix(member(input, "Path"), "/") + name
	}
	profile, role, policy := member(input, "InstanceProfileName"), member(input, "RoleName"), member(input, "PolicyArn")
	switch {
	case strings.HasPrefix(operation, "List") && role == "" && policy == "":
	case profile != "":
		request.Resource = entity("instance-profile", profile)
	case operation == "CreateRole":
		request.Resource = entity("role", role)
	case role != "":
		request.Resource = a.c.IAM.RoleARN(a.who.Account, role)
	case operation == "CreatePolicy":
		request.Resource = entity("policy", member(input, "PolicyName"))
	case policy != "":
		request.Resource = policy
	case operation == "SimulatePrincipalPolicy":
		request.Resource = member(input, "PolicySourceArn")
	default:
		return nil, errors.New("it names nothing")
	}
	pairs := map[string][]string{}
	if boundary := member(input, "PermissionsBoundary"); boundary != "" {
		pairs["iam:PermissionsBoundary"] = []string{boundary}
	}
	if policy != "" && role != "" {
		pairs["iam:PolicyARN"] = []string{policy}
	}
	request.Context = iam.Context(pairs)
	return []iam.Request{request}, nil
}
