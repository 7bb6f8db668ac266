package authz

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Permissions are what a service contributes to decisions on its calls. A rule
// looks up what it needs in its own service only.
type Permissions struct {
	Service string          // signing name
	Rules   map[string]Rule // by operation; what is not here is refused to roles
	// Denied words the service's error; nil: AccessDeniedException.
	Denied func(message string) error
	// Policy is the policy of one of the service's resources. Nil: they have none.
	Policy func(arn string) (ResourcePolicy, error)
}

// Call is a call that is to be decided on.
type Call struct {
	Context context.Context
	Caller  wire.Caller
}

// ARN is the ARN of a resource in the caller's region.
func (c Call) ARN(service, account, resource string) string {
	return partition.ARN(service, c.Caller.Region, account, resource)
}

// A Rule says what an operation asks of IAM: which actions, on which resources,
// under which condition keys. The facts are those of the Service Authorization
// Reference (https://docs.aws.amazon.com/service-authorization/latest/reference/).
type Rule func(c Call, input any) ([]Request, error)

// Of makes a rule of a function for the operation's input.
func Of[I any](ask func(Call, *I) []Request) Rule {
	return func(c Call, input any) ([]Request, error) {
		in, ok := input.(*I)
		if !ok {
			return nil, fmt.Errorf("its input is %T", input)
		}
		return ask(c, in), nil
	}
}

// On makes a rule that asks for one action on one resource.
func On[I any](action string, resource func(Call, *I) string) Rule {
	return Of(func(c Call, in *I) []Request { return []Request{{Action: action, Resource: resource(c, in)}} })
}

// OnAll makes a rule for a call that is allowed on all resources or on none.
func OnAll(action string) Rule {
	return func(Call, any) ([]Request, error) { return []Request{{Action: action, Resource: "*"}}, nil }
}

// PassRole asks for the role that a call hands to a service; nothing without one
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html).
func PassRole(service, roleARN string) []Request {
	if roleARN == "" {
		return nil
	}
	return []Request{{Action: "iam:PassRole", Resource: roleARN, Context: Context(map[string][]string{"iam:PassedToService": {service}})}}
}

// AddTag adds the keys of a tag that a request gives or that a resource has.
func AddTag(pairs map[string][]string, prefix string, key, value *string) {
	pairs[prefix+aws.ToString(key)] = []string{aws.ToString(value)}
	pairs["aws:TagKeys"] = append(pairs["aws:TagKeys"], aws.ToString(key))
}

// HTTPRequest is the input of a REST service's rule.
func HTTPRequest(input any) (*http.Request, error) {
	r, ok := input.(*http.Request)
	if !ok {
		return nil, fmt.Errorf("its input is %T", input)
	}
	return r, nil
}

// PeekJSON decodes the body of a request of at most limit bytes, and puts it back
// for whoever serves the request. An empty body leaves into as it is.
func PeekJSON(r *http.Request, limit int64, into any) error {
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
