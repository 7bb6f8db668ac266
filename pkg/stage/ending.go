package stage

import (
	"strings"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// ending reads what the state machine caught. Whatever that is, the result is
// safe to show, bounded, and neither empty nor without a name where the execution
// failed.
func (in CleanupInput) ending() Ending {
	e := Ending{Error: plaintext.Clean(in.Error), Cause: readable(in.Cause)}
	if len(in.Failures) > 1 {
		e.Cause = eachRegion(in.Failures)
	}
	if e.Error == "" && (e.Cause != "" || in.Outcome != contract.Published && in.Outcome != contract.UpToDate) {
		e.Error = string(failure.Internal)
	}
	if e.Cause == "" && e.Error != "" {
		e.Cause = "The state " + orNone(in.Failed) + " ended with " + e.Error + "; no cause was given."
	}
	return e
}

// eachRegion lists what regions failed with. The first one gives the execution its
// error's name.
func eachRegion(failures []RegionFailure) string {
	texts := make([]string, len(failures))
	for i, f := range failures {
		texts[i] = plaintext.Clean(f.Region) + " (" + orNone(plaintext.Clean(f.Error)) + "): " + readable(f.Cause)
	}
	return plaintext.Clip(strings.Join(texts, "; "), failure.MaxMessage)
}

// readable is the message in an error's cause, for people.
func readable(cause string) string {
	return plaintext.Clip(strings.TrimSpace(plaintext.Clean(failure.Sentence(cause))), failure.MaxMessage)
}
