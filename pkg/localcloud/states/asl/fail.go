package asl

// fail is the Fail state: it ends its strand with an error.
type fail struct{ name, cause *template }

func (p *parser) fail(o *object, _ *state, _ map[string]bool) body {
	return &fail{name: o.scalar("Error", "a string"), cause: o.scalar("Cause", "a string")}
}

func (f *fail) run(v *visit) (step, error) {
	name, err := f.text(v, f.name)
	if err != nil {
		return step{}, err
	}
	cause, err := f.text(v, f.cause)
	if err != nil {
		return step{}, err
	}
	return step{}, &Error{Name: name, Cause: cause, Causeless: f.cause == nil}
}

func (f *fail) text(v *visit, t *template) (string, error) {
	if t == nil {
		return "", nil
	}
	got, err := v.evaluate(t, nil)
	if err != nil {
		return "", err
	}
	s, ok := got.(string)
	if !ok {
		return "", v.mismatch(t, "string", got)
	}
	return s, nil
}
