package rehearsal

import (
	"context"
	"encoding/base64"
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

// lookEvery is how often guests are looked at, by this machine's clock.
const lookEvery = time.Second

// watchGuests reports what the guests of an execution do until ctx ends: the steps
// that a builder uploads, and what both write to their consoles.
func (f *Factory) watchGuests(ctx context.Context, name string, watch func(execution.Event)) {
	seen := map[string]*execution.GuestProgress{}
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
				seen[id] = &execution.GuestProgress{Role: roleOf(i)}
			}
			out, err := f.Cloud.EC2.GetConsoleOutput(ctx, &ec2api.GetConsoleOutputInput{InstanceId: &id})
			if err != nil {
				continue // the guest has gone; the stages say so
			}
			console, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
			if err != nil {
				continue
			}
			now := guest.ReadProgress(console)
			if steps, ok := f.stepsOf(ctx, name); ok && seen[id].Role == "builder" {
				// The console may lack lines, and print others twice.
				now.Done, now.Running = steps.Done, steps.Running
			}
			for _, e := range seen[id].Update(now, time.Now()) {
				watch(e)
			}
		}
	}
}

// stepsOf are the steps that the builder of an execution has uploaded, if it has. The
// console is the fallback.
func (f *Factory) stepsOf(ctx context.Context, name string) (guest.Progress, bool) {
	raw, err := f.bucket().ReadAtMost(ctx, contract.ExecutionKey(name, contract.StepsObject), contract.BuilderUploadBytes)
	if err != nil {
		return guest.Progress{}, false
	}
	steps, err := guest.ReadSteps(raw)
	return steps, err == nil
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
