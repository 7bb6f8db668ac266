package authz

import (
	"fmt"
	"slices"
)

// Request is what a caller wants to do to one resource.
type Request struct {
	Action   string              // such as ec2:RunInstances
	Resource string              // ARN, or * for actions that do not act on a resource
	Context  map[string][]string // by condition key; Context makes one
}

// Context returns a request's context. A key that the evaluator does not support is
// a defect of the calling code.
func Context(pairs map[string][]string) map[string][]string {
	out := make(map[string][]string, len(pairs))
	for key, values := range pairs {
		canonical, err := CanonicalKey(key)
		if err != nil {
			panic(err)
		}
		out[canonical] = values
	}
	return out
}

// Verdict is the result of evaluating a request.
type Verdict int

// The verdicts.
const (
	Allowed            Verdict = iota
	NotAllowed                 // no identity policy allows it
	Denied                     // an identity policy denies it
	OutsideTheBoundary         // the permissions boundary does not allow it
	DeniedByBoundary
	NotInResourcePolicy // the resource's policy would have to allow it and does not
	DeniedByResource    // the resource's policy denies it
)

// Because returns the reason why a request is denied, in the words of AWS.
func (v Verdict) Because(action string) string {
	switch v {
	case NotAllowed:
		return fmt.Sprintf("because no identity-based policy allows the %s action", action)
	case Denied:
		return "with an explicit deny in an identity-based policy"
	case OutsideTheBoundary:
		return fmt.Sprintf("because no permissions boundary allows the %s action", action)
	case DeniedByBoundary:
		return "with an explicit deny in a permissions boundary"
	case NotInResourcePolicy:
		return fmt.Sprintf("because no resource-based policy allows the %s action", action)
	case DeniedByResource:
		return "with an explicit deny in a resource-based policy"
	}
	return ""
}

// ResourcePolicy is the policy of a resource, with what decides how it is evaluated.
type ResourcePolicy struct {
	Document Document // empty: the resource has none
	Owner    string   // the resource's account
	// MustDelegate means that policies of identities count only if the resource's policy
	// names their account. This holds for KMS keys and for roles to be assumed.
	MustDelegate bool
}

// Evaluate evaluates a request within one account to a resource that has no policy.
func Evaluate(r Request, identity []Document, boundary *Document) Verdict {
	return Decide(Principal{RoleARN: "*"}, r, identity, boundary, nil)
}

// Decide evaluates a request as IAM does
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics.html):
// a deny in any policy wins. Within an account the policy of either the identity or the
// resource must allow the request; across accounts both must. A boundary only restricts,
// and does not restrict what a resource grants to the session itself
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html).
func Decide(who Principal, r Request, identity []Document, boundary *Document, on *ResourcePolicy) Verdict {
	denies := func(d Document) bool { return d.has(Deny, r) }
	allows := func(d Document) bool { return d.has(Allow, r) }
	if on == nil {
		on = &ResourcePolicy{Owner: who.Account}
	}
	granted, within := on.Document.reach(Allow, who, r), boundary == nil || allows(*boundary)
	same := on.Owner == who.Account && who.Service == ""
	switch {
	case slices.ContainsFunc(identity, denies):
		return Denied
	case boundary != nil && denies(*boundary):
		return DeniedByBoundary
	case on.Document.reach(Deny, who, r) != notNamed:
		return DeniedByResource
	case same && granted == asItself, same && granted == asRole && within:
		return Allowed
	case who.RoleARN != "" && !slices.ContainsFunc(identity, allows):
		return NotAllowed
	case !within:
		return OutsideTheBoundary
	case same && !on.MustDelegate, granted != notNamed:
		return Allowed
	}
	return NotInResourcePolicy
}

func (d Document) has(effect Effect, r Request) bool {
	return slices.ContainsFunc(d.Statements, func(s Statement) bool { return s.Effect == effect && s.applies(r) })
}

// onAction reports whether a pattern matches the request's action, and onResource
// whether it matches its resource.
func (r Request) onAction(pattern string) bool { return actionLike(pattern, r.Action) }

func (r Request) onResource(pattern string) bool {
	filled, ok := fill(pattern, r, true)
	return ok && resourceLike(filled, r.Resource)
}

func (s Statement) applies(r Request) bool {
	action, resource := r.onAction, r.onResource
	if len(s.Actions) > 0 && !slices.ContainsFunc(s.Actions, action) || slices.ContainsFunc(s.NotActions, action) ||
		len(s.Resources) > 0 && !slices.ContainsFunc(s.Resources, resource) || slices.ContainsFunc(s.NotResources, resource) {
		return false
	}
	return !slices.ContainsFunc(s.Conditions, func(c Condition) bool { return !c.holds(r) })
}
