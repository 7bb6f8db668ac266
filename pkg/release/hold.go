package release

import (
	"context"
	"time"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// HoldTime is how long an execution holds the pointers of a recipe after its last
// attempt to move them or to give them back. It is longer than Step Functions takes
// from the beginning of one attempt to the beginning of the next, Cleanup's included,
// so that only the hold of an execution that has died runs out.
const HoldTime = 10 * time.Minute

// Hold says which execution may move the pointers of a recipe. Without it, two
// executions would each wait for SSM to accept what the other has overwritten.
type Hold struct {
	Execution string    `json:"execution"` // ARN; empty: none
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
}

// Holds keeps the hold of each recipe.
type Holds interface {
	// Update calls change with the hold that is there, again if another caller has
	// changed it meanwhile, and stores the result if change returns true.
	Update(ctx context.Context, recipe string, change func(*Hold) (bool, error)) error
}

// takeHold makes sure that this execution, and no other, moves the pointers. The
// error is PublishNotReady while another one does.
func takeHold(ctx context.Context, holds Holds, p Publication) error {
	return holds.Update(ctx, p.Recipe.Name, func(h *Hold) (bool, error) {
		if h.Execution != p.Of.Execution && h.Execution != "" && p.Now.Before(h.Until) {
			return false, failure.New(failure.PublishNotReady,
				"no pointer was moved yet: the execution %s has been publishing recipe %s since %s; this one waits until that is done, or until %s if that execution has died",
				h.Execution, p.Recipe.Name, h.Since.UTC().Format(time.RFC3339), h.Until.UTC().Format(time.RFC3339))
		}
		if h.Execution != p.Of.Execution {
			*h = Hold{Execution: p.Of.Execution, Since: p.Now}
		}
		h.Until = p.Now.Add(HoldTime)
		return true, nil
	})
}

// keepHold prolongs the hold of an execution that gives its pointers back. It leaves
// that of another alone, which has begun since this one ran out: Restore touches no
// pointer that another execution has moved. An error is no reason not to give back.
func keepHold(ctx context.Context, holds Holds, p Publication) {
	_ = holds.Update(ctx, p.Recipe.Name, func(h *Hold) (bool, error) {
		own := h.Execution == p.Of.Execution
		if own {
			h.Until = p.Now.Add(HoldTime)
		}
		return own, nil
	})
}

// dropHold lets other executions publish at once. When it fails they wait until
// the hold runs out, which is no reason to fail.
func dropHold(ctx context.Context, holds Holds, p Publication) {
	_ = holds.Update(ctx, p.Recipe.Name, func(h *Hold) (bool, error) {
		own := h.Execution == p.Of.Execution
		if own {
			*h = Hold{}
		}
		return own, nil
	})
}
