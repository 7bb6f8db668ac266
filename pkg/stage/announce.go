package stage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

// Announcement is the detail of contract.ImagePublishedEvent.
type Announcement struct {
	Execution   string            `json:"execution"` // ARN
	Name        string            `json:"name"`
	Simulated   bool              `json:"simulated"` // no guest was really run
	Recipe      string            `json:"recipe"`
	Fingerprint string            `json:"fingerprint"`
	SourceImage string            `json:"sourceImage"`
	Action      string            `json:"action"`        // contract.ActionBake or ActionRelease
	Why         string            `json:"why,omitempty"` // reason of the action
	Changed     []string          `json:"changed"`       // what differs from the release before
	Images      map[string]string `json:"images"`        // image id by region
	Pointers    []string          `json:"pointers"`      // "region:parameter name", or "account:region:parameter name"; sorted
	Report      string            `json:"report"`        // where the HTML report is written when the execution ends
	// Diff summarises what differs from the release before, in sentences.
	Diff []string `json:"diff,omitempty"`
	// WaiversEnding says which waivers of the image end within 14 days.
	WaiversEnding []string `json:"waiversEnding,omitempty"`
}

// announce informs consumers that the pointers name the new image. Retention,
// clean-up and report follow, which consumers need not wait for. A repeated call
// sends message and event again.
func (s Notify) announce(ctx context.Context, in NotifyInput) (NotifyOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return NotifyOutput{}, err
	}
	r := evidence.ForPlan(&p)
	if r.Pointers, err = s.pointers(ctx, in, &p); err != nil {
		return NotifyOutput{}, err
	}
	// The report says so if the diff cannot be used.
	found, err := s.diff(ctx, in, &p)
	if err != nil && failure.CodeOf(err) != failure.RecordMismatch {
		return NotifyOutput{}, err
	}
	a := s.announcement(in, r, found)
	err = errors.Join(
		s.event(ctx, contract.ImagePublishedEvent, a, in),
		s.message(ctx, contract.Published, subject(a.Simulated, contract.Published, a.Recipe), a.text()),
	)
	if err != nil {
		return NotifyOutput{}, failure.Wrap(failure.CodeOf(err), err, "the image is published, but not all consumers were informed")
	}
	return NotifyOutput{Status: contract.Published, Left: []string{}}, nil
}

// announceLate sends the event of a published image whose announcement failed: the
// message about the end says the same.
func (s Notify) announceLate(ctx context.Context, in NotifyInput, r evidence.Report, found *diff.Diff) error {
	if in.Outcome != contract.Published || in.Announced {
		return nil
	}
	return s.event(ctx, contract.ImagePublishedEvent, s.announcement(in, r, found), in)
}

func (s Notify) announcement(in NotifyInput, r evidence.Report, found *diff.Diff) Announcement {
	a := Announcement{
		Execution: in.Execution.ID, Name: in.Execution.Name, Simulated: s.Settings.guests().Simulated(),
		Recipe: r.Recipe, Fingerprint: r.Fingerprint, SourceImage: r.Source.ImageID, Action: actionOf(r), Why: r.Why, Changed: append([]string{}, r.Changed...),
		Images: map[string]string{}, Pointers: append([]string{}, r.Pointers...),
		Report:        "s3://" + s.Store.Bucket + "/" + executionKey(in.Execution, contract.PageObject),
		WaiversEnding: compliance.EndingSoon(r.Waivers, in.Now), Diff: diffLines(found),
	}
	maps.Copy(a.Images, in.Images)
	return a
}

func (a Announcement) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Execution %s of recipe %s has published an image.\n", a.Name, a.Recipe)
	writeOrigin(&b, a.Simulated, a.Action, a.Why, a.Changed)
	writeImages(&b, a.Images)
	writeDiff(&b, a.Diff)
	if len(a.Pointers) > 0 {
		b.WriteString("\nPointers that name it:\n")
	}
	for i, name := range a.Pointers {
		if i == maxListed {
			fmt.Fprintf(&b, "and %d more; the report lists all\n", len(a.Pointers)-i)
			break
		}
		b.WriteString(name + "\n")
	}
	writeEnding(&b, a.WaiversEnding)
	fmt.Fprintf(&b, "\nReport, when the execution has ended: %s\n", a.Report)
	return b.String()
}

// subject is that of a message: what has happened to a recipe.
func subject(simulated bool, what, recipe string) string {
	text := "ami-factory: " + what
	if simulated {
		text = "[SIMULATED] " + text
	}
	if recipe != "" {
		text += ": " + recipe
	}
	return text
}

// writeOrigin writes what an execution did, and why.
func writeOrigin(b *strings.Builder, simulated bool, action, why string, changed []string) {
	if simulated {
		b.WriteString("No guest was really run: everything below is simulated.\n")
	}
	if action == contract.ActionRelease {
		b.WriteString("The published image was to be released again; nothing was built.\n")
	}
	if why != "" {
		fmt.Fprintf(b, "Why: %s.\n", why)
	}
	if len(changed) > 0 {
		fmt.Fprintf(b, "Changed: %s.\n", strings.Join(changed, ", "))
	}
}

// writeDiff writes what differs from the release before.
func writeDiff(b *strings.Builder, lines []string) {
	if len(lines) > 0 {
		fmt.Fprintf(b, "\nDifferences:\n%s\n", strings.Join(lines, "\n"))
	}
}

// writeEnding writes which waivers end soon.
func writeEnding(b *strings.Builder, waivers []string) {
	if len(waivers) > 0 {
		fmt.Fprintf(b, "\nWaivers that end soon:\n%s\n", strings.Join(waivers, "\n"))
	}
}

func writeImages(b *strings.Builder, byRegion map[string]string) {
	for _, region := range slices.Sorted(maps.Keys(byRegion)) {
		fmt.Fprintf(b, "%s: %s\n", region, byRegion[region])
	}
}
