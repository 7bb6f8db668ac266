package guest

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// Progress describes how far a builder is with the components of an image.
type Progress struct {
	Done    []Installed
	Running string // the step that is under way; empty if none
	Last    string // the last line of the console, clean and short
}

// Installed is a step that has ended: the installation of a component, or one of all
// components together.
type Installed struct {
	Name string
	OK   bool
	Took time.Duration
}

// step matches the runner's messages about a component, or a step of all components
// such as packages, anywhere in a line, because cloud-init and the kernel write a
// prefix.
var step = regexp.MustCompile(`ami-factory: (?:component )?([a-z0-9-]+): (?:(started)|(ok)|failed with exit code [0-9]+) ?(?:after ([0-9]+)s)?`)

// maxLine is the length to which the last line is cut, in bytes.
const maxLine = 120

// ReadProgress reads a builder's console. If the beginning of the console was
// cut off, components that ended there are missing.
func ReadProgress(console []byte) Progress {
	var p Progress
	for line := range strings.Lines(string(console)) {
		if line = strings.TrimSpace(plaintext.Clean(line)); line == "" {
			continue
		}
		p.Last = plaintext.Clip(line, maxLine)
		m := step.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name, started, ok := m[1], m[2] != "", m[3] != ""
		if started {
			p.Running = name
			continue
		}
		if p.Running == name {
			p.Running = ""
		}
		seconds, _ := strconv.Atoi(m[4]) // digits, or nothing
		done := Installed{Name: name, OK: ok, Took: time.Duration(seconds) * time.Second}
		// cloud-init may print a line twice: to its log and to the console.
		if len(p.Done) == 0 || p.Done[len(p.Done)-1] != done {
			p.Done = append(p.Done, done)
		}
	}
	return p
}
