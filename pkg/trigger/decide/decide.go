// Package decide decides what starts executions: which recipes a changed
// source concerns, which of them build now, wait, or are paused. It calls
// nothing: package trigger does.
package decide

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// Limits bounds what events may start.
type Limits struct {
	MaxRunning  int           // executions at a time; the others wait for an end
	MaxFailures int           // in a row, after which a recipe is paused
	MaxAge      time.Duration // of a published image, after which a night builds it again
	// Stagger lies between the beginnings of executions that one event starts.
	Stagger time.Duration
	// FindingLimit lies at least between two builds of a recipe that are started
	// for vulnerabilities.
	FindingLimit time.Duration
}

// DefaultLimits is that of every deployment.
func DefaultLimits() Limits {
	return Limits{MaxRunning: 3, MaxFailures: 3, MaxAge: 30 * 24 * time.Hour, Stagger: 5 * time.Minute, FindingLimit: 24 * time.Hour}
}

// Record is what is remembered of a recipe between events.
type Record struct {
	Failures int      `json:"failures"`           // in a row
	Paused   bool     `json:"paused"`             // until it is resumed, or a build by hand succeeds
	Waiting  *Waiting `json:"waiting,omitempty"`  // a build that starts when another ends
	Ended    string   `json:"ended,omitempty"`    // the execution that was counted last
	Rejected *Again   `json:"rejected,omitempty"` // the release without a bake that the gate rejected last

	Finding *Open     `json:"finding,omitempty"` // what is open of the published image
	Rebuilt time.Time `json:"rebuilt,omitzero"`  // when a build was started last for what was open
	Tried   []string  `json:"tried,omitempty"`   // the vulnerabilities that it was started for
	Futile  int       `json:"vain,omitempty"`    // rebuilds in a row that were started for nothing else
}

// Again is a release of a published image without a bake.
type Again struct {
	ImageID   string `json:"imageId"`
	ReleaseID string `json:"releaseId"`
}

// Waiting is a build that could not start yet.
type Waiting struct {
	Trigger string    `json:"trigger"` // as in the execution's name
	Since   time.Time `json:"since"`
}

// Running is an execution that runs.
type Running struct {
	Recipe string
	Name   string
	Own    bool // a trigger started it
	Idle   bool // it waits for its delay to end
	Asked  bool // it has asked people to approve its release, which may take days
}

// End is how an execution ended.
type End struct {
	Execution string // ARN
	Succeeded bool
	Failed    bool // of itself: one that was stopped by hand did neither
	ByHand    bool // on a source that the recipe does not name; says nothing about the recipe
	// Rejected is the release without a bake that the gate rejected. It is no
	// failure of the recipe's build: the next bake may pass.
	Rejected *Again
}

// After is the record after an execution has ended, and whether that pauses the
// recipe. An end that is reported twice counts once.
func (r Record) After(e End, l Limits) (after Record, pauses bool) {
	if r.Ended == e.Execution {
		return r, false
	}
	r.Ended = e.Execution
	switch {
	case e.ByHand:
	case e.Succeeded:
		r.Failures, r.Paused = 0, false
	case e.Rejected != nil:
		r.Rejected = e.Rejected
	case e.Failed:
		r.Failures++
		pauses = !r.Paused && r.Failures >= l.MaxFailures
		r.Paused = r.Paused || pauses
	}
	return r, pauses
}

// Resumed is the record of a recipe that may build again.
func (r Record) Resumed() Record {
	r.Failures, r.Paused = 0, false
	return r
}

// Situation is what a decision is made of.
type Situation struct {
	Recipe   string
	Record   Record
	UpToDate bool          // the published image has the fingerprint that a build would have
	Again    *Again        // what would be released without a bake; nil: a start bakes
	Age      time.Duration // of the published image, if it is up to date or would be released again
	Nightly  bool          // only nights look at the age
	Name     string        // of the execution that would start
	Same     string        // with what the names of executions begin that build the very same
	Running  []Running     // of all recipes
	Parent   string        // a recipe on whose image it builds, and that is about to get another; empty: none
	Flawed   bool          // the published image is the one that the record has findings of
	Now      time.Time
}

// Action is what to do about a recipe.
type Action string

// The actions.
const (
	Start Action = "start"
	Wait  Action = "wait" // and start when an execution ends
	Skip  Action = "skip"
)

// Decision says what to do, and why.
type Decision struct {
	Action Action
	Force  bool
	Why    string
	Until  time.Time // of a wait that no end of an execution shortens; else zero
	Fix    bool      // it starts for the open findings
}

// Decide says what to do about a recipe that an event concerns.
func Decide(s Situation, l Limits) Decision {
	// The gate judges kept results, so it would reject the same release again. Only a
	// bake makes new ones.
	rejected := s.Again != nil && s.Record.Rejected != nil && *s.Again == *s.Record.Rejected
	idle := s.UpToDate || rejected
	kept := s.UpToDate || s.Again != nil // a start that is not forced makes no new image
	aged := s.Nightly && kept && s.Age >= l.MaxAge
	flawed := s.Flawed && kept // other content is baked anyway
	due := s.Record.Due(l)
	fix := flawed && !s.Now.Before(due)
	switch {
	case s.Record.Paused:
		return Decision{Action: Skip, Why: fmt.Sprintf("paused after %d failures in a row; after the fix: ami-factory resume %s", s.Record.Failures, s.Recipe)}
	case rejected && !aged && !flawed:
		return Decision{Action: Skip, Why: fmt.Sprintf("the gate rejected this release of the published image %s; only a new bake may pass, which follows for its age or for findings, or by hand: ami-factory build %s --force",
			s.Again.ImageID, s.Recipe)}
	case idle && !aged && !flawed:
		return Decision{Action: Skip, Why: "the published image is up to date"}
	case idle && flawed && !aged && !fix:
		return Decision{Action: Wait, Until: due, Why: fmt.Sprintf("%s; it was built for findings at %s, and is not built for others before %s",
			s.Record.Finding.says(), s.Record.Rebuilt.UTC().Format(time.RFC3339), due.UTC().Format(time.RFC3339))}
	}
	if d, ok := inTheWay(s, l); ok {
		return d
	}
	switch {
	case fix:
		return Decision{Action: Start, Force: true, Fix: true, Why: s.Record.Finding.says()}
	case aged:
		return Decision{Action: Start, Force: true, Why: fmt.Sprintf("the published image is %d days old", int(s.Age.Hours()/24))}
	}
	if s.Again != nil {
		return Decision{Action: Start, Why: "the published image " + s.Again.ImageID + " has the content of the recipe, and is to be released otherwise"}
	}
	return Decision{Action: Start, Why: "the published image is not what would be built now"}
}

// inTheWay says which execution absorbs a build, or makes it wait. What somebody
// started by hand absorbs nothing, whatever its name, does not count against the
// limit, and is passed over as long as it does nothing but wait: else whoever may
// start executions could hold back every build. One that has asked people to approve its
// release absorbs the same build, and holds back no other.
func inTheWay(s Situation, l Limits) (Decision, bool) {
	for _, r := range s.Running {
		switch {
		case r.Recipe != s.Recipe, r.Idle && !r.Own:
		case r.Own && (r.Name == s.Same || strings.HasPrefix(r.Name, s.Same+"-")):
			return Decision{Action: Skip, Why: "execution " + r.Name + " builds it"}, true
		case r.Asked:
		default:
			return Decision{Action: Wait, Why: "execution " + r.Name + " builds the recipe from something else"}, true
		}
	}
	own := 0
	for _, r := range s.Running {
		if r.Own && !r.Asked {
			own++
		}
	}
	switch {
	case s.Parent != "":
		return Decision{Action: Wait, Why: "it builds on the image of recipe " + s.Parent + ", which is about to get another"}, true
	case own >= l.MaxRunning:
		return Decision{Action: Wait, Why: fmt.Sprintf("%d executions of triggers run, which is the limit", own)}, true
	}
	return Decision{}, false
}

// says names what is open, for people.
func (o *Open) says() string {
	more := ""
	if n := len(o.Vulnerabilities) - 1; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the published image %s has %s%s, for which there is a fix", o.ImageID, o.Vulnerabilities[0], more)
}

// Parameters are the SSM parameters that recipes build on, sorted.
func Parameters(recipes []*recipe.Recipe) []string {
	found := map[string]bool{}
	for _, r := range recipes {
		if r.Source.Parameter != "" {
			found[r.Source.Parameter] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Dependants are the names of the recipes that build on one of the parameters.
// Those that build on their images in turn follow when these are published.
func Dependants(recipes []*recipe.Recipe, parameters ...string) []string {
	var out []string
	for _, r := range recipes {
		if r.Source.Parameter != "" && slices.Contains(parameters, r.Source.Parameter) {
			out = append(out, r.Name)
		}
	}
	return out
}

// Ancestors are the names of the recipes on whose images a recipe builds, directly
// or through others.
func Ancestors(recipes []*recipe.Recipe, name string) []string {
	found := map[string]bool{}
	var climb func(of string)
	climb = func(of string) {
		i := slices.IndexFunc(recipes, func(r *recipe.Recipe) bool { return r.Name == of })
		if i < 0 || recipes[i].Source.Parameter == "" {
			return
		}
		for _, r := range recipes {
			if slices.Contains(r.Pointers.Parameters, recipes[i].Source.Parameter) && !found[r.Name] && r.Name != name {
				found[r.Name] = true
				climb(r.Name)
			}
		}
	}
	climb(name)
	return slices.Sorted(maps.Keys(found))
}

// Change is a source that moved: the detail of the event.
type Change struct {
	Parameter string `json:"parameter"`
	ImageID   string `json:"imageId"`
	Region    string `json:"region"`
}

// Changes compares what sources are with what they were. A source that is seen
// for the first time has not changed.
func Changes(was, is map[string]string, region string) []Change {
	var out []Change
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if before, known := was[name]; known && before != is[name] {
			out = append(out, Change{Parameter: name, ImageID: is[name], Region: region})
		}
	}
	return out
}
