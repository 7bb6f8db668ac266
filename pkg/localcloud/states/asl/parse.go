package asl

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

const (
	maxSeconds         = 99999999 // of every time-out and wait
	maxDefinitionBytes = 1024 * 1024
	maxStateName       = 80
)

// Parse reads a definition, and returns all of its problems at once.
func Parse(definition []byte) (*Machine, Problems) {
	var problems Problems
	if len(definition) > maxDefinitionBytes {
		problems.add(CodeSchema, "", "the definition has %d bytes; the maximum is %d", len(definition), maxDefinitionBytes)
		return nil, problems
	}
	v, err := decode(definition)
	if err != nil {
		problems.add(CodeInvalidJSON, "", "the definition is not JSON: %v", err)
		return nil, problems
	}
	o, ok := newObject(v, "", &problems)
	if !ok {
		return nil, problems
	}
	p := &parser{problems: &problems}
	switch language := o.text("QueryLanguage", false); language {
	case "JSONata":
	case "", "JSONPath":
		problems.add(CodeNotSupported, "/QueryLanguage",
			"only the JSONata query language is available here, but a definition without \"QueryLanguage\" uses JSONPath: set \"QueryLanguage\": \"JSONata\"")
		return nil, problems
	default:
		o.bad("QueryLanguage", "%q is not JSONata or JSONPath", language)
	}
	if version := o.text("Version", false); version != "" && version != "1.0" {
		o.bad("Version", "%q is not 1.0", version)
	}
	m := &Machine{
		Timeout: time.Duration(o.number("TimeoutSeconds", 0, 1, maxSeconds) * float64(time.Second)),
		graph:   p.graph(o, nil),
	}
	o.done()
	if len(problems) > 0 {
		return nil, problems
	}
	return m, nil
}

// parser reads graphs and their states.
type parser struct{ problems *Problems }

// graph reads StartAt and States of o. outer has the variables that enclosing
// graphs assign.
func (p *parser) graph(o *object, outer map[string]bool) *graph {
	g := &graph{startAt: o.text("StartAt", true), states: map[string]*state{}}
	raw, ok := o.take("States")
	if !ok {
		p.problems.add(CodeSchema, o.path, "the required field \"States\" is missing")
		return g
	}
	states, ok := newObject(raw, o.at("States"), p.problems)
	if !ok {
		return g
	}
	names := slices.Sorted(maps.Keys(states.fields))
	if len(names) == 0 {
		p.problems.add(CodeSchema, states.path, "there is no state")
	}
	assigned := maps.Clone(outer)
	if assigned == nil {
		assigned = map[string]bool{}
	}
	objects := map[string]*object{}
	for _, name := range names {
		so, ok := newObject(states.fields[name], states.at(name), p.problems)
		if !ok {
			continue
		}
		if len(name) > maxStateName {
			p.problems.add(CodeSchema, so.path, "the name of a state has at most %d characters", maxStateName)
		}
		objects[name] = so
		for _, variable := range assignedBy(so.fields) {
			if outer[variable] {
				p.problems.add(CodeSchema, so.at("Assign"), "the variable %q is assigned outside of this branch too; give it another name", variable)
			}
			assigned[variable] = true
		}
	}
	for _, name := range names {
		if so := objects[name]; so != nil {
			g.states[name] = p.state(so, name, assigned)
		}
	}
	p.checkTransitions(g, states.path)
	return g
}

// assignedBy lists the variables that a state assigns, including its catchers
// and choice rules.
func assignedBy(fields map[string]any) (names []string) {
	collect := func(v any) {
		if m, ok := v.(map[string]any); ok {
			names = append(names, slices.Sorted(maps.Keys(m))...)
		}
	}
	collect(fields["Assign"])
	for _, field := range []string{"Catch", "Choices"} {
		list, _ := fields[field].([]any)
		for _, v := range list {
			if m, ok := v.(map[string]any); ok {
				collect(m["Assign"])
			}
		}
	}
	return names
}

func (p *parser) state(o *object, name string, variables map[string]bool) *state {
	s := &state{name: name, typ: o.text("Type", true), path: o.path, references: references(o.fields, variables)}
	if language := o.text("QueryLanguage", false); language != "" && language != "JSONata" {
		o.problems.add(CodeNotSupported, o.at("QueryLanguage"), "only JSONata is available here")
	}
	read, ok := p.types()[s.typ]
	if !ok {
		if s.typ != "" {
			o.bad("Type", "%q is not a type of state (allowed: Task, Pass, Choice, Wait, Parallel, Map, Succeed, Fail)", s.typ)
		}
		return s
	}
	s.body = read(o, s, variables)
	o.done()
	return s
}

// types returns the readers of each type of state.
func (p *parser) types() map[string]func(o *object, s *state, variables map[string]bool) body {
	return map[string]func(*object, *state, map[string]bool) body{
		"Task":     p.task,
		"Pass":     p.pass,
		"Choice":   p.choice,
		"Wait":     p.wait,
		"Parallel": p.parallel,
		"Map":      p.mapState,
		"Succeed":  p.succeed,
		"Fail":     p.fail,
	}
}

// transition reads Next or End.
func (p *parser) transition(o *object, s *state) {
	_, hasNext := o.fields["Next"]
	s.next = o.text("Next", false)
	end := o.boolean("End")
	switch {
	case hasNext && end:
		o.problems.add(CodeSchema, o.path, "a state has either \"Next\" or \"End\": true, not both")
	case !hasNext && !end:
		o.problems.add(CodeSchema, o.path, "a state needs \"Next\" or \"End\": true")
	}
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,79}$`)

// leaving reads Assign and Output.
func (p *parser) leaving(o *object, c *clause) {
	c.output = o.template("Output")
	raw, ok := o.take("Assign")
	if !ok {
		return
	}
	assign, ok := newObject(raw, o.at("Assign"), p.problems)
	if !ok {
		return
	}
	c.assign = map[string]*template{}
	for _, name := range slices.Sorted(maps.Keys(assign.fields)) {
		if !variableName.MatchString(name) || name == "states" {
			assign.bad(name, "%q is not a name for a variable: letters, digits and _, not beginning with a digit, at most 80, and not \"states\"", name)
		}
		c.assign[name] = assign.template(name)
	}
}

// checkTransitions reports targets that do not exist, and states that cannot be
// reached.
func (p *parser) checkTransitions(g *graph, path string) {
	if g.startAt != "" && g.states[g.startAt] == nil {
		p.problems.add(CodeMissingTarget, parent(path)+"/StartAt", "there is no state %q to start at", g.startAt)
		return
	}
	reached := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		s := g.states[name]
		if s == nil || reached[name] {
			return
		}
		reached[name] = true
		for _, t := range s.targets() {
			if t.name != "" && g.states[t.name] == nil {
				p.problems.add(CodeMissingTarget, t.path, "there is no state %q here", t.name)
			}
			visit(t.name)
		}
	}
	visit(g.startAt)
	if g.startAt == "" {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(g.states)) {
		if !reached[name] {
			p.problems.add(CodeMissingTarget, path+"/"+name, "no transition leads to the state %q", name)
		}
	}
}

func parent(path string) string { return path[:len(path)-len("/States")] }

// target is a transition from a state.
type target struct{ path, name string }

func (s *state) targets() []target {
	all := []target{{s.path + "/Next", s.next}}
	for i, c := range s.catch {
		all = append(all, target{fmt.Sprintf("%s/Catch[%d]/Next", s.path, i), c.next})
	}
	if c, ok := s.body.(*choice); ok {
		for i, r := range c.rules {
			all = append(all, target{fmt.Sprintf("%s/Choices[%d]/Next", s.path, i), r.next})
		}
		all = append(all, target{s.path + "/Default", c.otherwise})
	}
	return all
}
