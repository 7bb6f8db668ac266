package compliance

import (
	"errors"
	"fmt"
	"io"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/snapshot"
)

// Snapshot holds the findings on an image's snapshot, which was read from outside.
type Snapshot struct {
	ID       string
	Findings map[string][]snapshot.Finding // by control
	// Unreadable is the reason why the snapshot, or a required part of it, cannot
	// be read. Every control with rules then fails.
	Unreadable string
}

// JudgeSnapshot checks the controls' rules on a disk. A disk that cannot be read
// reliably is a result too: every control with rules fails. An error means that
// a read failed, for example on the network; it says nothing about the disk.
func JudgeSnapshot(id string, disk io.ReaderAt, size int64, controls []Control) (*Snapshot, snapshot.Cost, error) {
	out := &Snapshot{ID: id, Findings: map[string][]snapshot.Finding{}}
	var ids []string
	var rules [][]snapshot.Rule
	for _, c := range controls {
		if len(c.Snapshot) > 0 && c.SwitchedOff == "" {
			ids, rules = append(ids, c.ID), append(rules, c.Snapshot)
		}
	}
	source := &source{ReaderAt: disk}
	findings, cost, err := snapshot.Judge(source, size, snapshot.DefaultLimits(), rules)
	if source.err != nil {
		return nil, cost, source.err
	}
	if err != nil {
		out.Unreadable = err.Error()
		return out, cost, nil
	}
	for i, id := range ids {
		out.Findings[id] = findings[i]
	}
	return out, cost, nil
}

// source remembers the error of a read, such as a network error, to distinguish
// it from a fault of the disk.
type source struct {
	io.ReaderAt
	err error
}

// ReadAt implements io.ReaderAt.
func (s *source) ReadAt(p []byte, offset int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(p, offset)
	if err != nil && n < len(p) && !errors.Is(err, io.EOF) && s.err == nil {
		s.err = err
	}
	return n, err
}

// HasSnapshotRules reports whether any control has rules for the snapshot.
func HasSnapshotRules(controls []Control) bool {
	for _, c := range controls {
		if len(c.Snapshot) > 0 && c.SwitchedOff == "" {
			return true
		}
	}
	return false
}

// checkSnapshot fails closed if rules were not checked.
func (in Input) checkSnapshot() error {
	if in.Snapshot == nil && HasSnapshotRules(in.Controls) {
		return failure.New(failure.ComplianceFailed, "controls have rules for the image's snapshot, which was not read")
	}
	return nil
}

// properties returns the results of a control's rules.
func (s *Snapshot) properties(c Control) []PropertyResult {
	var out []PropertyResult
	if len(c.Snapshot) == 0 {
		return nil
	}
	if s.Unreadable != "" {
		return []PropertyResult{{Rule: "on the snapshot", Status: StatusFail, Expected: "files that can be read from outside", Actual: fmt.Sprintf("%s: %s", s.ID, s.Unreadable)}}
	}
	findings := s.Findings[c.ID]
	if len(findings) == 0 {
		return []PropertyResult{{Rule: "on the snapshot", Status: StatusNotChecked, Expected: "a result", Actual: "none: the rules were not checked"}}
	}
	for _, f := range findings {
		p := PropertyResult{Rule: "on the snapshot: " + f.Statement, Status: StatusPass, Expected: f.Expected, Actual: f.Found}
		if !f.OK {
			p.Status = StatusFail
		}
		out = append(out, p)
	}
	return out
}
