package asl

import "time"

// Machine is a valid state machine.
type Machine struct {
	// Timeout is the time limit of an execution; 0 means no limit.
	Timeout time.Duration
	graph   *graph
}

// graph is a set of states with one start: a whole machine, a branch of a
// Parallel state or the processor of a Map state.
type graph struct {
	startAt string
	states  map[string]*state
}

// state is one state of a graph.
type state struct {
	name string
	typ  string // Task, Pass, …
	path string // in the definition
	clause
	arguments *template // of Task and Parallel; nil means the input
	retry     []retrier
	catch     []catcher
	body      body
	// references lists the variables that its expressions read, sorted.
	references []string
}

// body is the part of a state that depends on its type.
type body interface {
	// run does the state's work, once for every attempt, and returns the next state
	// and its input.
	run(v *visit) (step, error)
}

// clause describes how a state is left: by the state itself, a rule of a Choice,
// or a catcher.
type clause struct {
	next   string // empty at the end
	assign map[string]*template
	output *template // nil means the type's default
}

// step is the way in which a state was left.
type step struct {
	next     string
	output   any
	assigned map[string]any
}
