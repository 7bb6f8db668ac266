package rehearsal

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/guest"
)

// lookEvery is how often a guest's console is read, by this machine's clock.
const lookEvery = time.Second

// watchGuests reports what the guests of an execution write to their consoles,
// until ctx ends. Simulated guests write nothing worth it.
func (f *Factory) watchGuests(ctx context.Context, name string, watch func(execution.Event)) {
	seen := map[string]*progress{}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, i := range f.guestsOf(ctx, name) {
			id := aws.ToString(i.InstanceId)
			if seen[id] == nil {
				seen[id] = &progress{role: roleOf(i)}
			}
			out, err := f.Cloud.EC2.GetConsoleOutput(ctx, &ec2api.GetConsoleOutputInput{InstanceId: &id})
			if err != nil {
				continue // the guest has gone; the stages say so
			}
			console, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
			if err != nil {
				continue
			}
			for _, e := range seen[id].update(guest.ReadProgress(console), time.Now()) {
				watch(e)
			}
		}
	}
}

// guestsOf are the running instances of an execution.
func (f *Factory) guestsOf(ctx context.Context, name string) []types.Instance {
	all, err := ami.ListInstances(ctx, f.Cloud.EC2, ami.ByExecution(name))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(i types.Instance) bool { return i.State == nil || i.State.Name != types.InstanceStateNameRunning })
}

// roleOf is what an instance of an execution is for.
func roleOf(i types.Instance) string {
	if ami.TagValue(i.Tags, contract.TagStage) == "LaunchVerifier" {
		return "verifier"
	}
	return "builder"
}

// progress is what was reported of one guest.
type progress struct {
	role    string
	done    int
	running string
	since   time.Time // when the running component was first seen
	last    string
}

// update returns what is new.
func (p *progress) update(now guest.Progress, at time.Time) []execution.Event {
	var out []execution.Event
	report := func(kind execution.EventKind, format string, values ...any) {
		out = append(out, execution.Event{State: p.role, Kind: kind, At: at, Detail: fmt.Sprintf(format, values...)})
	}
	// A console that is cut at its beginning has fewer than were counted.
	for _, d := range slices.Clone(now.Done)[min(p.done, len(now.Done)):] {
		how := "ok"
		if !d.OK {
			how = "FAILED"
		}
		report(execution.Stepped, "%s %s after %s", d.Component, how, d.Took)
	}
	p.done = len(now.Done)
	if now.Running != p.running {
		p.running, p.since = now.Running, at
	}
	if now.Last == p.last && now.Running == "" {
		return out
	}
	p.last = now.Last
	if now.Running != "" {
		report(execution.Working, "%s running %s: %s", now.Running, at.Sub(p.since).Round(time.Second), now.Last)
	} else if now.Last != "" {
		report(execution.Working, "%s", now.Last)
	}
	return out
}

// whileWatching runs do, with reports of guests in addition to those that it makes itself.
func (f *Factory) whileWatching(ctx context.Context, name string, watch func(execution.Event), do func(watch func(execution.Event))) {
	if watch == nil {
		do(func(execution.Event) {})
		return
	}
	var mu sync.Mutex
	one := func(e execution.Event) {
		mu.Lock()
		defer mu.Unlock()
		watch(e)
	}
	ctx, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { f.watchGuests(ctx, name, one) })
	do(one)
	stop()
	looking.Wait()
}
