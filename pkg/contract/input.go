package contract

// ExecutionInput is the input of an execution of the state machine. Resolve checks
// it: see stage.ResolveInput.
type ExecutionInput struct {
	Recipe string `json:"recipe"`           // name of a recipe in userdata/recipes
	Force  bool   `json:"force,omitempty"`  // build even when nothing changed
	Source string `json:"source,omitempty"` // an AMI id to build on instead of the recipe's source
	// DelaySeconds is how long the state machine waits before it begins, so that
	// builds which one event starts do not all begin at once; 0 to MaxDelaySeconds.
	DelaySeconds int `json:"delaySeconds,omitempty"`
}

// MaxDelaySeconds is the longest delay: time-outs that count from the execution's
// start must not run out meanwhile.
const MaxDelaySeconds = 3600
