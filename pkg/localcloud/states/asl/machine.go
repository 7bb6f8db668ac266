package asl

import "time"

// Machine is a state machine that has been read and found valid.
type Machine struct {
	// Timeout is how long an execution may take; 0 is no limit.
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
	arguments *template // Task and Parallel; nil means the input
	retry     []retrier
	catch     []catcher
	body      body
	// references are the variables that its expressions read, sorted.
	references []string
}

// body is what distinguishes the types of states.
type body interface {
	// run does the state's work, once for every attempt, and says where the
	// execution goes and with what.
	run(v *visit) (step, error)
}

// clause is what a state, a rule of a Choice or a catcher says about leaving.
type clause struct {
	next   string // empty: the end
	assign map[string]*template
	output *template // nil means the type's default
}

// step is how a state was left.
type step struct {
	next     string
	output   any
	assigned map[string]any
}
