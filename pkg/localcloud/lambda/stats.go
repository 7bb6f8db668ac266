package lambda

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda/native"
)

// maxSamples is the number of durations of each kind that are kept for a
// function.
const maxSamples = 10000

// Stats holds the durations of a function's latest invocations, in real time.
type Stats struct {
	Function    string // ARN
	Invocations int
	Errors      int // of the function
	MemoryMiB   int
	// Billed is the billed time of all invocations: each rounded up to a
	// millisecond, including the start of its process if it waited for one
	// (https://aws.amazon.com/lambda/pricing/).
	Billed time.Duration
	// Cold holds the times of cold starts: from the start of the process until it
	// asked for work, plus the invocation that waited for it. Warm holds the times
	// of all other invocations.
	Cold, Warm []time.Duration
	// PeakBytes is the most memory that a process of the function has had resident. It
	// is 0 for functions in this process, and on systems other than Linux.
	PeakBytes int64
}

type recorder struct {
	mu                  sync.Mutex
	invocations, errors int
	billed              time.Duration
	cold, warm          []time.Duration
	peak                int64
}

func (r *recorder) record(out native.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.invocations++
	r.billed += roundUp(out.Init + out.Duration)
	r.peak = max(r.peak, out.PeakBytes)
	if out.FunctionError != "" {
		r.errors++
	}
	if out.Cold {
		r.cold = appendSample(r.cold, out.Init+out.Duration)
		return
	}
	r.warm = appendSample(r.warm, out.Duration)
}

// roundUp rounds up to whole milliseconds.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

func appendSample(samples []time.Duration, d time.Duration) []time.Duration {
	if len(samples) == maxSamples {
		samples = slices.Delete(samples, 0, maxSamples/2)
	}
	return append(samples, d)
}

// GBSeconds returns the billed usage in Lambda's unit, GB-seconds.
func (s Stats) GBSeconds() float64 { return s.Billed.Seconds() * float64(s.MemoryMiB) / 1024 }

// Stats returns the figures of all functions, in order of their ARNs.
func (s *Service) Stats() []Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Stats
	for _, functions := range s.functions {
		for _, f := range functions {
			r := f.stats
			r.mu.Lock()
			all = append(all, Stats{
				Function: f.config.ARN, Invocations: r.invocations, Errors: r.errors,
				MemoryMiB: f.config.MemoryMiB, Billed: r.billed,
				Cold: slices.Clone(r.cold), Warm: slices.Clone(r.warm), PeakBytes: r.peak,
			})
			r.mu.Unlock()
		}
	}
	slices.SortFunc(all, func(a, b Stats) int { return cmp.Compare(a.Function, b.Function) })
	return all
}
