package authz

import (
	"strings"
)

// PolicyFrom parses the policy of a resource. An empty text means that it has none.
func PolicyFrom(text string) (ResourcePolicy, error) {
	if text == "" {
		return ResourcePolicy{}, nil
	}
	document, err := ParseResource([]byte(text))
	return ResourcePolicy{Document: document}, err
}

// policyOn returns the policy of a resource and its owner. A resource of a service
// without resource policies belongs to the account in its ARN, and no other account may
// use it.
func (a *Authorizer) policyOn(p Principal, resource string) *ResourcePolicy {
	var out ResourcePolicy
	parts := strings.SplitN(resource, ":", 6)
	if len(parts) < 6 {
		return &ResourcePolicy{Owner: p.Account}
	}
	if of := a.services[parts[2]].Policy; of != nil {
		var err error
		if out, err = of(resource); err != nil {
			// Policies are checked when they are set. One that an earlier version of the
			// program stored and that cannot be parsed allows nothing.
			a.cfg.Logger.Error("the policy of a resource cannot be read", "resource", resource, "error", err)
			out.Document, out.MustDelegate = Document{}, true
		}
	}
	if out.Owner == "" {
		out.Owner = parts[4]
	}
	if out.Owner == "" { // such as an image, which has no account in its ARN
		out.Owner = p.Account
	}
	return &out
}
