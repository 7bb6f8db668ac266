package iam

import (
	"maps"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Evaluate decides on a request of a role's session for a resource without a
// policy. A missing role allows nothing.
func (s *Service) Evaluate(roleARN string, r authz.Request) authz.Verdict {
	return s.Decide(authz.Principal{Account: authz.AccountOf(roleARN), RoleARN: roleARN}, r, nil)
}

// Decide decides on a request. on is nil if the resource has no policy. It
// counts the permissions of a role's own policies that allowed the request, see
// Uses.
func (s *Service) Decide(who authz.Principal, r authz.Request, on *authz.ResourcePolicy) authz.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.find(who.RoleARN)
	if known == nil {
		return authz.Decide(who, r, nil, nil, on)
	}
	policies := s.policiesOf(known)
	documents := make([]authz.Document, 0, len(policies))
	for _, p := range policies {
		documents = append(documents, p.document)
	}
	verdict := authz.Decide(who, r, documents, s.boundaryOf(known), on)
	if verdict == authz.Allowed {
		known.count(policies, r)
	}
	return verdict
}

// namedDocument is a policy of a role: an inline one by its name, a managed one
// by its ARN.
type namedDocument struct {
	name     string
	document authz.Document
}

// policiesOf returns a role's policies. The caller holds s.mu.
func (s *Service) policiesOf(r *role) []namedDocument {
	var out []namedDocument
	for _, name := range slices.Sorted(maps.Keys(r.Inline)) {
		out = append(out, namedDocument{name, r.Inline[name].parsed})
	}
	for _, arn := range r.Attached {
		if p, ok := s.managed(authz.AccountOf(r.ARN), arn); ok {
			out = append(out, namedDocument{arn, p.current().parsed})
		}
	}
	return out
}

// boundaryOf returns a role's permissions boundary, or nil. The caller holds
// s.mu.
func (s *Service) boundaryOf(r *role) *authz.Document {
	if r.OwnBoundary != nil {
		return &r.OwnBoundary.parsed
	}
	if r.Boundary == "" {
		return nil
	}
	p, ok := s.managed(authz.AccountOf(r.ARN), r.Boundary)
	if !ok { // cannot happen: a boundary cannot be deleted
		return &authz.Document{}
	}
	document := p.current().parsed
	return &document
}
