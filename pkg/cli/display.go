package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// display shows progress on stderr: a line for each state that has ended, and for the
// running states a last line that is rewritten on a terminal, and repeated at
// intervals in a log.
type display struct {
	w        io.Writer
	terminal bool
	start    time.Time
	stop     chan struct{}
	stopped  sync.WaitGroup

	mu     sync.Mutex
	open   []running // running states, in order
	shown  time.Time // when the last line was written
	dirty  bool      // the last line is to be rewritten
	latest string    // what the youngest state waits for, or its guest does
	guest  bool      // latest is a guest's
	copies []string  // regions to which EC2 copies the image meanwhile
	over   bool
}

type running struct {
	what  string // the state, and the region if that matters
	since time.Time
}

// heartbeat is the longest silence of a log.
const heartbeat = 30 * time.Second

func newDisplay(w io.Writer) *display {
	d := &display{w: w, start: time.Now(), shown: time.Now(), stop: make(chan struct{}), terminal: isTerminal(w)}
	d.stopped.Add(1)
	go func() {
		defer d.stopped.Done()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-d.stop:
				return
			case <-tick.C:
				d.beat()
			}
		}
	}()
	return d
}

// note writes a line.
func (d *display) note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line("%s", text)
}

// event shows a step of the execution.
func (d *display) event(e execution.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	what := e.State
	if e.Region != "" {
		what += " " + e.Region
	}
	switch e.Kind {
	case execution.Entered:
		d.open = append(d.open, running{what, e.At})
		d.latest, d.guest = "", false
	case execution.Waiting:
		if !d.guest { // which says more than that it is not ready
			d.latest = e.Detail
		}
	case execution.Working:
		d.latest, d.guest = e.State+": "+e.Detail, true
	case execution.Stepped:
		d.line("%s: %s", e.State, e.Detail)
	case execution.Failing:
		d.line("%s: %s", what, e.Detail)
	case execution.Copying:
		d.copies = append(d.copies, e.Region)
		d.line("%-24s EC2 copies the image while it is verified", what)
	case execution.Exited:
		d.left(what, "done in", e.At)
	case execution.Failed:
		d.left(what, "failed after", e.At)
	}
	switch {
	case e.State == contract.StateAwaitCopy && (e.Kind == execution.Exited || e.Kind == execution.Failed):
		d.copies = slices.DeleteFunc(d.copies, func(region string) bool { return region == e.Region })
	case e.State == contract.StateCleanup: // it removes those that are not published
		d.copies = nil
	}
	if d.terminal {
		d.rewrite()
	}
}

// left shows a state that has ended, unless it took no time: such states only decide.
func (d *display) left(what, how string, at time.Time) {
	i := slices.IndexFunc(d.open, func(r running) bool { return r.what == what })
	if i < 0 {
		return
	}
	took := at.Sub(d.open[i].since)
	d.open = slices.Delete(d.open, i, i+1)
	if took >= 10*time.Millisecond {
		d.line("%-24s %s %s", what, how, seconds(took.Seconds()))
	}
}

// started shows where the embedded AWS is.
func (d *display) started(f *rehearsal.Factory) {
	if len(f.Recovered) > 0 {
		d.note("an earlier run was interrupted; removed what it left behind: " + strings.Join(f.Recovered, ", "))
	}
	if f.Unrecovered != nil {
		d.note("an earlier run was interrupted, and not all it left could be removed: " + f.Unrecovered.Error())
	}
	d.note("embedded AWS at " + f.URL + "; guests are " + f.Guests)
}

// beat says that something is still under way.
func (d *display) beat() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.terminal:
		d.rewrite()
	case len(d.open) > 0 && time.Since(d.shown) >= heartbeat:
		d.line("%s", d.underWay())
	}
}

func (d *display) underWay() string {
	if len(d.open) == 0 {
		return ""
	}
	r := d.open[len(d.open)-1]
	text := fmt.Sprintf("%-24s %s", r.what, seconds(time.Since(r.since).Seconds()))
	if len(d.copies) > 0 && !strings.HasPrefix(r.what, contract.StateAwaitCopy) {
		text += "  (copies to " + strings.Join(d.copies, ", ") + " are under way)"
	}
	if d.latest != "" {
		text += "  " + d.latest
	}
	return text
}

func (d *display) rewrite() {
	text := d.underWay()
	if text == "" || d.over {
		return
	}
	if width, _, err := term.GetSize(int(os.Stderr.Fd())); err == nil && width > 12 && len(text) > width-10 {
		text = text[:width-10]
	}
	_, _ = fmt.Fprintf(d.w, "\r\x1b[K%s  %s", d.clock(), text)
	d.dirty = true
}

func (d *display) line(format string, values ...any) {
	prefix := ""
	if d.dirty {
		prefix = "\r\x1b[K"
	}
	text := fmt.Sprintf("%s  %s\n", d.clock(), fmt.Sprintf(format, values...))
	if takesColour(d.w) {
		var b strings.Builder
		_, _ = painter{&b}.Write([]byte(text)) // a Builder takes everything
		text = b.String()
	}
	_, _ = fmt.Fprint(d.w, prefix+text)
	d.dirty, d.shown = false, time.Now()
}

// clock is the time since the start, as 2:05.
func (d *display) clock() string {
	t := int(time.Since(d.start).Seconds())
	return fmt.Sprintf("%3d:%02d", t/60, t%60)
}

// end stops the display and frees the last line.
func (d *display) end() {
	d.mu.Lock()
	if d.over {
		d.mu.Unlock()
		return
	}
	d.over = true
	if d.dirty {
		_, _ = fmt.Fprint(d.w, "\r\x1b[K")
		d.dirty = false
	}
	d.mu.Unlock()
	close(d.stop)
	d.stopped.Wait()
}
