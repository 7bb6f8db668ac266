package lambda

import (
	"context"
	"slices"
	"sync"
)

// maxLines is the number of lines of a function's log that are kept.
const maxLines = 2000

// ring keeps the latest lines of a function's log.
type ring struct {
	mu    sync.Mutex
	lines []string
	next  int // position of the next line once the ring is full
}

func newRing() *ring { return &ring{} }

func (r *ring) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) < maxLines {
		r.lines = append(r.lines, line)
		return
	}
	r.lines[r.next] = line
	r.next = (r.next + 1) % maxLines
}

func (r *ring) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.lines[r.next:], r.lines[:r.next])
}

// Log returns the latest lines that a function's processes wrote, oldest first.
// function is a name or an ARN.
func (s *Service) Log(ctx context.Context, function string) ([]string, error) {
	f, err := s.find(function, s.caller(ctx, nil))
	if err != nil {
		return nil, err
	}
	return f.log.all(), nil
}
