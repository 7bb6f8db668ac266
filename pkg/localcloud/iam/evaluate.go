package iam

import (
	"fmt"
	"slices"
)

// Request is what a caller wants to do to one resource.
type Request struct {
	Action   string              // such as ec2:RunInstances
	Resource string              // ARN, or * for actions that know no resources
	Context  map[string][]string // by condition key; NewContext makes one
}

// Context makes a request's context; keys that the evaluator does not know are
// defects of the caller.
func Context(pairs map[string][]string) map[string][]string {
	out := make(map[string][]string, len(pairs))
	for key, values := range pairs {
		canonical, err := canonicalKey(key)
		if err != nil {
			panic(err)
		}
		out[canonical] = values
	}
	return out
}

// Verdict of a request.
type Verdict int

// The verdicts.
const (
	Allowed            Verdict = iota
	NotAllowed                 // no identity policy allows it
	Denied                     // an identity policy denies it
	OutsideTheBoundary         // the permissions boundary does not allow it
	DeniedByBoundary
)

// Because says why a request is denied, in AWS's words.
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
	}
	return ""
}

// Evaluate decides as IAM does within one account: what is denied anywhere is
// denied; else an identity policy must allow it, and the boundary too, if there
// is one (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html).
func Evaluate(r Request, identity []Document, boundary *Document) Verdict {
	denies := func(d Document) bool { return d.has(Deny, r) }
	allows := func(d Document) bool { return d.has(Allow, r) }
	switch {
	case slices.ContainsFunc(identity, denies):
		return Denied
	case boundary != nil && denies(*boundary):
		return DeniedByBoundary
	case !slices.ContainsFunc(identity, allows):
		return NotAllowed
	case boundary != nil && !allows(*boundary):
		return OutsideTheBoundary
	}
	return Allowed
}

func (d Document) has(effect Effect, r Request) bool {
	return slices.ContainsFunc(d.Statements, func(s Statement) bool { return s.Effect == effect && s.applies(r) })
}

func (s Statement) applies(r Request) bool {
	action := func(pattern string) bool { return actionLike(pattern, r.Action) }
	resource := func(pattern string) bool {
		filled, ok := fill(pattern, r, true)
		return ok && resourceLike(filled, r.Resource)
	}
	if len(s.Actions) > 0 && !slices.ContainsFunc(s.Actions, action) || slices.ContainsFunc(s.NotActions, action) ||
		len(s.Resources) > 0 && !slices.ContainsFunc(s.Resources, resource) || slices.ContainsFunc(s.NotResources, resource) {
		return false
	}
	return !slices.ContainsFunc(s.Conditions, func(c Condition) bool { return !c.holds(r) })
}
