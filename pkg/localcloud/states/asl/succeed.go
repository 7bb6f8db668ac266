package asl

// succeed is the Succeed state: it ends its strand successfully.
type succeed struct{}

func (p *parser) succeed(o *object, s *state, _ map[string]bool) body {
	p.leaving(o, &s.clause)
	if s.assign != nil {
		o.bad("Assign", "a Succeed state assigns nothing")
	}
	return succeed{}
}

func (succeed) run(v *visit) (step, error) { return v.through(v.state.clause, v.input, nil) }
