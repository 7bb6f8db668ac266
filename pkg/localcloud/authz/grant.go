package authz

// Grant is one allowed action of a statement on one of its resources, in the notation of
// the document. Patterns of NotAction and NotResource begin with a !.
type Grant struct {
	Statement int // counted from 1
	Action    string
	Resource  string
}

// Grants returns everything that a document allows, in its order.
func (d Document) Grants() []Grant {
	return d.grants(func(Statement) bool { return true }, func(Grant) bool { return true })
}

// GrantsFor returns the grants that allow a request; there may be none.
func (d Document) GrantsFor(r Request) []Grant {
	return d.grants(func(s Statement) bool { return s.applies(r) }, func(g Grant) bool {
		// The statement applies because the negated patterns do not match.
		return (g.Action[0] == '!' || r.onAction(g.Action)) && (g.Resource[0] == '!' || r.onResource(g.Resource))
	})
}

func (d Document) grants(of func(Statement) bool, keep func(Grant) bool) []Grant {
	var out []Grant
	for i, s := range d.Statements {
		if s.Effect != Allow || !of(s) {
			continue
		}
		for _, action := range marked(s.Actions, s.NotActions) {
			for _, resource := range marked(s.Resources, s.NotResources) {
				if g := (Grant{Statement: i + 1, Action: action, Resource: resource}); keep(g) {
					out = append(out, g)
				}
			}
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
