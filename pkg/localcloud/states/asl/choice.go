package asl

import "fmt"

// choice is the Choice state: the first rule whose condition is true determines
// the next state.
type choice struct {
	rules     []rule
	otherwise string // Default
}

type rule struct {
	clause
	condition *template
}

func (p *parser) choice(o *object, s *state, _ map[string]bool) body {
	c := &choice{otherwise: o.text("Default", false)}
	p.leaving(o, &s.clause) // with Default
	list := o.list("Choices")
	if len(list) == 0 {
		p.problems.add(CodeSchema, o.path, "\"Choices\" must list at least one rule")
	}
	for i, v := range list {
		ro, ok := newObject(v, fmt.Sprintf("%s[%d]", o.at("Choices"), i), p.problems)
		if !ok {
			continue
		}
		var r rule
		r.next = ro.text("Next", true)
		if r.condition = ro.scalar("Condition", "a boolean"); r.condition == nil {
			p.problems.add(CodeSchema, ro.path, "the required field \"Condition\" is missing")
		}
		p.leaving(ro, &r.clause)
		ro.done()
		c.rules = append(c.rules, r)
	}
	return c
}

func (c *choice) run(v *visit) (step, error) {
	for _, r := range c.rules {
		got, err := v.evaluate(r.condition, nil)
		if err != nil {
			return step{}, err
		}
		holds, ok := got.(bool)
		if !ok {
			return step{}, v.mismatch(r.condition, "boolean", got)
		}
		if holds {
			return v.through(r.clause, v.input, nil)
		}
	}
	if c.otherwise == "" {
		return step{}, &Error{
			Name:  ErrNoChoiceMatched,
			Cause: fmt.Sprintf("No rule of the Choice state %s holds, and it has no Default.", v.state.name),
		}
	}
	byDefault := v.state.clause
	byDefault.next = c.otherwise
	return v.through(byDefault, v.input, nil)
}
