package iam

import (
	"maps"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permission is one action on one resource that a policy of a role allows.
type Permission struct {
	Policy string // name of an inline policy, or ARN of a managed one
	authz.Grant
}

// Use is the number of requests that a permission has allowed.
type Use struct {
	Permission
	Requests int
}

// count records which permissions allow a request. The caller holds the
// service's mu.
func (r *role) count(policies []namedDocument, request authz.Request) {
	if r.used == nil {
		r.used = map[Permission]int{}
	}
	for _, p := range policies {
		for _, g := range p.document.GrantsFor(request) {
			r.used[Permission{p.name, g}]++
		}
	}
}

// Uses returns all permissions of a role's own policies, in their order, with
// the number of requests that each has allowed since the embedded AWS started or
// the role was put. A permission with none was not needed so far. The result is
// nil if the role does not exist.
func (s *Service) Uses(roleARN string) []Use {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(roleARN)
	if r == nil {
		return nil
	}
	out := []Use{}
	for _, p := range s.policiesOf(r) {
		for _, g := range p.document.Grants() {
			one := Permission{p.name, g}
			out = append(out, Use{Permission: one, Requests: r.used[one]})
		}
	}
	return out
}

// Roles returns the ARNs of all roles, by account and name.
func (s *Service) Roles() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for _, id := range slices.Sorted(maps.Keys(s.accounts)) {
		for _, name := range slices.Sorted(maps.Keys(s.accounts[id].Roles)) {
			out = append(out, s.accounts[id].Roles[name].ARN)
		}
	}
	return out
}
