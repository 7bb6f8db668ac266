package execution

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/guest"
)

// GuestProgress is what was reported of one guest of an execution.
type GuestProgress struct {
	Role    string // builder or verifier
	done    int
	running string
	since   time.Time // when the running step was first seen
	last    string
}

// Update returns what is new.
func (p *GuestProgress) Update(now guest.Progress, at time.Time) []Event {
	var out []Event
	report := func(kind EventKind, format string, values ...any) {
		out = append(out, Event{State: p.Role, Kind: kind, At: at, Detail: fmt.Sprintf(format, values...)})
	}
	// A console that is cut at its beginning has fewer than were counted.
	for _, d := range now.Done[min(p.done, len(now.Done)):] {
		how := "ok"
		if !d.OK {
			how = "FAILED"
		}
		report(Stepped, "%s %s after %s", d.Name, how, d.Took)
	}
	p.done = max(p.done, len(now.Done))
	if now.Running != p.running {
		p.running, p.since = now.Running, at
	}
	if now.Last == p.last && now.Running == "" {
		return out
	}
	p.last = now.Last
	if now.Running != "" {
		text := fmt.Sprintf("%s running %s", now.Running, at.Sub(p.since).Round(time.Second))
		if now.Last != "" {
			text += ": " + now.Last
		}
		report(Working, "%s", text)
	} else if now.Last != "" {
		report(Working, "%s", now.Last)
	}
	return out
}

// ObjectReader reads an object of the factory's bucket; nil without an error when
// there is none.
type ObjectReader func(ctx context.Context, bucket, key string) ([]byte, error)

// builderSteps looks at the steps that the builder of an execution uploads.
type builderSteps struct {
	read     ObjectReader
	bucket   string // empty until the execution's history names it
	key      string
	progress GuestProgress
	told     bool // that the steps cannot be read
}

// look returns what is new.
func (b *builderSteps) look(ctx context.Context) []Event {
	if b.read == nil || b.bucket == "" {
		return nil
	}
	now := time.Now()
	raw, err := b.read(ctx, b.bucket, b.key)
	if err == nil && raw == nil {
		return nil
	}
	var steps guest.Progress
	if err == nil {
		steps, err = guest.ReadSteps(raw)
	}
	if err == nil {
		return b.progress.Update(steps, now)
	}
	if b.told || ctx.Err() != nil {
		return nil
	}
	b.told = true
	return []Event{{State: b.progress.Role, Kind: Stepped, At: now, Detail: "its steps cannot be shown: " + awserr.Brief(err)}}
}

// bucketIn is the bucket of the plan that an event of the history names; empty
// where it names none.
func bucketIn(e sfntypes.HistoryEvent) string {
	if e.TaskSucceededEventDetails == nil {
		return ""
	}
	var out struct {
		Payload struct{ Plan struct{ Bucket string } }
	}
	if err := json.Unmarshal([]byte(aws.ToString(e.TaskSucceededEventDetails.Output)), &out); err != nil {
		return ""
	}
	return out.Payload.Plan.Bucket
}

// provisions says whether a state comes before the builder is provisioned, or ends it.
func provisions(state string) bool {
	switch state {
	case "", contract.StateBegin, contract.StateHasInput, contract.StateStagger, contract.StateResolve, contract.StateIsUpToDate,
		contract.StateLaunchBuilder, contract.StateAwaitProvisioned:
		return true
	}
	return false
}
