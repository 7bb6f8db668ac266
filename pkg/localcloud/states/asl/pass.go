package asl

// pass is the Pass state: it only assigns variables and returns an output.
type pass struct{}

func (p *parser) pass(o *object, s *state, _ map[string]bool) body {
	p.transition(o, s)
	p.leaving(o, &s.clause)
	return pass{}
}

func (pass) run(v *visit) (step, error) { return v.through(v.state.clause, v.input, nil) }
