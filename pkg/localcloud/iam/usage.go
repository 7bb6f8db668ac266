package iam

// Permission is one action of a statement that allows it, on one of the
// statement's resources, as the policy writes them. NotAction and NotResource
// are written with a ! before each pattern.
type Permission struct {
	Policy    string // the name of an inline policy, or the ARN of a managed one
	Statement int    // counted from 1
	Action    string
	Resource  string
}

// Use is how often a permission allowed a request.
type Use struct {
	Permission
	Requests int
}

// count notes which permissions allow a request. s.mu of the service is held.
func (r *role) count(policies []namedDocument, request Request) {
	if r.used == nil {
		r.used = map[Permission]int{}
	}
	for _, p := range policies {
		for i, s := range p.document.Statements {
			if s.Effect != Allow || !s.applies(request) {
				continue
			}
			for _, each := range s.permissions() {
				if each.allows(request) {
					r.used[Permission{p.name, i + 1, each.action, each.resource}]++
				}
			}
		}
	}
}

// pair is an action and a resource of a statement; negated ones begin with !.
type pair struct{ action, resource string }

func (s Statement) permissions() []pair {
	var out []pair
	for _, action := range marked(s.Actions, s.NotActions) {
		for _, resource := range marked(s.Resources, s.NotResources) {
			out = append(out, pair{action, resource})
		}
	}
	return out
}

func marked(patterns, not []string) []string {
	out := append([]string(nil), patterns...)
	for _, n := range not {
		out = append(out, "!"+n)
	}
	return out
}

// allows is asked of statements that apply, in which what is negated does not
// match.
func (p pair) allows(r Request) bool {
	return (p.action[0] == '!' || r.onAction(p.action)) && (p.resource[0] == '!' || r.onResource(p.resource))
}

// Permissions are all that a role's own policies give it, in their order, with
// how many requests each has allowed since the embedded AWS started or the role
// was put. A permission that allowed none was not needed by what has run. Nil:
// there is no such role.
func (s *Service) Permissions(roleARN string) []Use {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(roleARN)
	if r == nil {
		return nil
	}
	out := []Use{}
	for _, p := range s.policiesOf(r) {
		for i, statement := range p.document.Statements {
			if statement.Effect != Allow {
				continue
			}
			for _, each := range statement.permissions() {
				one := Permission{p.name, i + 1, each.action, each.resource}
				out = append(out, Use{Permission: one, Requests: r.used[one]})
			}
		}
	}
	return out
}

// Roles are the ARNs of all roles, by account and name.
func (s *Service) Roles() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for _, id := range sortedKeys(s.accounts) {
		for _, name := range sortedKeys(s.accounts[id].Roles) {
			out = append(out, s.accounts[id].Roles[name].ARN)
		}
	}
	return out
}
