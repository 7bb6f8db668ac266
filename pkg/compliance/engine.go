package compliance

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// Names of the engines. Goss checks the controls of components, in every image;
// a recipe can add the others.
const (
	EngineGoss         = "goss"
	EngineScript       = "script"
	EngineOpenSCAP     = "openscap"
	EngineBottlerocket = "bottlerocket"
)

// Engines are the engines that check an image beside goss; nil ones do not.
type Engines struct {
	Script       *Script       `json:"script,omitempty"`
	OpenSCAP     *OpenSCAP     `json:"openscap,omitempty"`
	Bottlerocket *Bottlerocket `json:"bottlerocket,omitempty"`
}

// engine turns what a program printed in a guest into results.
type engine interface {
	name() string
	// controls are those that the engine proves. Without a result each has failed.
	controls() []Control
	// content identifies what the program was given.
	content() Content
	// most is the largest output that is read, unpacked, in bytes.
	most() int64
	// judge reads the output and returns one result for each control, and one for
	// each thing in the output that belongs to none. The error is ComplianceFailed
	// if the output as a whole cannot be trusted. A guest wrote the output, which
	// may be hostile.
	judge(output io.Reader, blank func(Control) Result) ([]Result, error)
}

// list returns the engines in a fixed order.
func (e Engines) list() []engine {
	var out []engine
	if e.Script != nil {
		out = append(out, e.Script)
	}
	if e.OpenSCAP != nil {
		out = append(out, e.OpenSCAP)
	}
	if e.Bottlerocket != nil {
		out = append(out, e.Bottlerocket)
	}
	return out
}

// Names returns the names of the engines, in a fixed order.
func (e Engines) Names() []string {
	var out []string
	for _, one := range e.list() {
		out = append(out, one.name())
	}
	return out
}

// Controls returns what the engines prove.
func (e Engines) Controls() []Control {
	var out []Control
	for _, one := range e.list() {
		out = append(out, one.controls()...)
	}
	return out
}

// Output is what an engine other than goss printed in the guest.
type Output struct {
	Packed []byte // gzip
	URI    string // where it is stored
}

// MaxPacked limits the packed output of an engine other than goss, in bytes.
const MaxPacked = 32 << 20

// judge returns the results of one engine.
func (e *evaluator) judge(one engine) ([]Result, error) {
	out, ok := e.in.Outputs[one.name()]
	if !ok || len(out.Packed) == 0 {
		return nil, failure.New(failure.ComplianceFailed, "the engine %s gave no results, so nothing that it should prove is proved", one.name())
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(out.Packed))
	if err != nil {
		return nil, failure.Wrap(failure.ComplianceFailed, err, "the output of %s is not packed as expected", one.name())
	}
	sum := digest(out.Packed)
	blank := func(c Control) Result {
		r := e.result(c)
		r.Engine, r.Content = Engine{Name: one.name()}, one.content()
		r.Evidence = Evidence{URI: out.URI, SHA256: sum}
		return r
	}
	limited := &limit{Reader: unpacked, left: one.most()}
	results, err := one.judge(limited, blank)
	if limited.left < 0 {
		return nil, failure.New(failure.ComplianceFailed, "the output of %s has more than %d bytes; it is not used", one.name(), one.most())
	}
	if err != nil {
		return nil, failure.Wrap(failure.ComplianceFailed, err, "the output of %s cannot be trusted", one.name())
	}
	return results, nil
}

// limit is a reader that ends with an error after a number of bytes.
type limit struct {
	io.Reader
	left int64 // negative: there was more
}

// Read implements io.Reader.
func (l *limit) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("there is more output than is read")
	}
	return n, err
}

// stranger is a result for something in the output that belongs to no control.
func stranger(blank func(Control) Result, what, found string) Result {
	what = shorten(text(what), 200)
	r := blank(Control{ID: "UNKNOWN " + what, Title: "A result that belongs to no control of the plan", Severity: "critical"})
	r.Status = StatusError
	r.Evidence.Expected, r.Evidence.Actual = "only results of the plan's controls", text(found)
	r.Properties = []PropertyResult{{Rule: what, Status: StatusError, Expected: r.Evidence.Expected, Actual: r.Evidence.Actual}}
	return r
}
