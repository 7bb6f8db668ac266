package iam

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sync"
)

// Role is what the sessions of a role are held to.
type Role struct {
	ARN      string
	Policies map[string]json.RawMessage // inline policies, by name
	Boundary json.RawMessage            `json:",omitempty"` // nil: none
}

// Service keeps roles.
type Service struct {
	mu    sync.RWMutex
	roles map[string]role // by ARN
}

type role struct {
	Role
	documents []Document
	boundary  *Document
}

// New returns a Service without roles.
func New() *Service { return &Service{roles: map[string]role{}} }

var roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$`)

// PutRole makes a role, or gives it other policies.
func (s *Service) PutRole(r Role) error {
	made, err := parseRole(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[r.ARN] = made
	return nil
}

func parseRole(r Role) (role, error) {
	if !roleARN.MatchString(r.ARN) {
		return role{}, fmt.Errorf("%q is not the ARN of a role: arn:aws:iam::<account>:role/<name> is expected", r.ARN)
	}
	out := role{Role: r}
	for _, name := range sortedKeys(r.Policies) {
		d, err := Parse(r.Policies[name])
		if err != nil {
			return role{}, fmt.Errorf("role %s: policy %s: %w", r.ARN, name, err)
		}
		out.documents = append(out.documents, d)
	}
	if r.Boundary != nil {
		d, err := Parse(r.Boundary)
		if err != nil {
			return role{}, fmt.Errorf("role %s: permissions boundary: %w", r.ARN, err)
		}
		out.boundary = &d
	}
	return out, nil
}

// Role returns a role as it was put.
func (s *Service) Role(arn string) (Role, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	known, ok := s.roles[arn]
	return known.Role, ok
}

// Evaluate decides on a request of a role's session. A role that is not there
// allows nothing.
func (s *Service) Evaluate(roleARN string, r Request) Verdict {
	s.mu.RLock()
	known := s.roles[roleARN]
	s.mu.RUnlock()
	return Evaluate(r, known.documents, known.boundary)
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	roles := make([]Role, 0, len(s.roles))
	for _, arn := range sortedKeys(s.roles) {
		roles = append(roles, s.roles[arn].Role)
	}
	return json.Marshal(roles)
}

// Restore implements wire.Stateful.
func (s *Service) Restore(raw json.RawMessage) error {
	var roles []Role
	if err := json.Unmarshal(raw, &roles); err != nil {
		return fmt.Errorf("restoring IAM: %w", err)
	}
	restored := map[string]role{}
	for _, r := range roles {
		made, err := parseRole(r)
		if err != nil {
			return fmt.Errorf("restoring IAM: %w", err)
		}
		restored[r.ARN] = made
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles = restored
	return nil
}
