package stage

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/metric"
	"github.com/ami-factory/ami-factory/pkg/plan"
)

// figures returns the figures of an execution that has ended.
func figures(in NotifyInput, r evidence.Report) []metric.Value {
	out := []metric.Value{metric.Of(metric.Executions, 1, r.Status)}
	if r.Status != contract.Published {
		// If an image was published, resources can be left without an error.
		code := cmp.Or(in.Error, string(failure.CleanupIncomplete))
		out = append(out, metric.Of(metric.Failures, 1, code))
	}
	if r.Recipe != "" && r.Again == nil {
		waited := in.Timings[contract.StateStagger]
		noticed := in.Now
		if t, ok := in.Timings[contract.StateAnnounce]; ok && in.Announced {
			noticed = t.Left
		}
		took := noticed.Sub(in.Execution.StartTime) - waited.Left.Sub(waited.Entered)
		out = append(out, metric.Of(metric.BakeDuration, took.Seconds(), r.Recipe))
	}
	if r.Cost != nil {
		out = append(out, metric.Of(metric.ImageCost, r.Cost.USD, r.Recipe))
	}
	for _, s := range r.States {
		out = append(out, metric.Of(metric.StageDuration, s.Seconds, s.Name))
	}
	return out
}

// stages returns the states in the order in which they were entered.
func stages(started time.Time, timings map[string]Timing) []evidence.State {
	var out []evidence.State
	for _, name := range slices.Sorted(maps.Keys(timings)) {
		t := timings[name]
		out = append(out, evidence.State{Name: name, After: max(t.Entered.Sub(started).Seconds(), 0), Seconds: t.Left.Sub(t.Entered).Seconds(), Attempts: 1 + t.Retries})
	}
	slices.SortStableFunc(out, func(a, b evidence.State) int { return timings[a.Name].Entered.Compare(timings[b.Name].Entered) })
	return out
}

// The assumed use of one invocation, because a function does not know its bill: the mean of
// all functions, including the network time to AWS's services. The number of invocations is
// known.
const (
	invocationSeconds = 0.3
	invocationGB      = 0.3
	// The most objects that an execution writes: bundle, plan, consoles, results, the
	// journal twice, and the report in two forms.
	objectsWritten = 10
	// For a wait, Wake writes the token and its index, and lists the marks of events. For an
	// event it writes a mark, lists the tokens and reads one. S3 charges lists like writes.
	// An execution has a few events for which no state waits.
	writesAWait   = 3
	writesAnEvent = 2
)

// usage estimates what an execution used on AWS, from its timings. Instances run from their
// launch until they are stopped or terminated.
func usage(in NotifyInput, p plan.BuildPlan, s Settings) cost.Usage {
	size := float64(p.Recipe.Builder.RootVolume.SizeGiB)
	u := cost.Usage{
		Region: s.Region, Architecture: s.Architecture, SnapshotGiB: size, KeptIn: slices.Sorted(maps.Keys(in.Images)),
		Transitions: len(contract.UntimedStates()) + 1, // and the state that it ends in
		Requests:    1, S3Writes: objectsWritten,       // Notify's own request
	}
	if bytes := in.Timings[contract.StateAwaitImage].SnapshotBytes; bytes > 0 {
		u.SnapshotGiB, u.SnapshotKnown = float64(bytes)/(1<<30), true
	}
	gone := in.Now // when instances and their volumes were at the latest
	if t, ok := in.Timings[contract.StateTerminateInstances]; ok && in.Failed != contract.StateTerminateInstances {
		gone = t.Left
	}
	instance := func(role, launch, until string) {
		t, launched := in.Timings[launch]
		if !launched || t.InstanceType == "" {
			return
		}
		end := gone
		if stop, stopped := in.Timings[until]; stopped && in.Failed != until {
			end = stop.Left
		}
		u.Instances = append(u.Instances, cost.Instance{
			Role: role, Type: t.InstanceType, Seconds: end.Sub(t.Left).Seconds(),
			VolumeGiB: size, VolumeSeconds: gone.Sub(t.Left).Seconds(),
		})
	}
	instance(builderRole, contract.StateLaunchBuilder, contract.StateSeal)
	instance(verifierRole, contract.StateLaunchVerifier, "")
	if _, signed := in.Timings[contract.StateSign]; signed && in.Failed != contract.StateSign {
		u.Transitions++ // whether people must approve
	}
	waits, events := 0, 0
	for _, t := range in.Timings {
		u.Transitions += 1 + t.Retries + t.Waits + t.Detours
		u.Requests += 1 + t.Retries
		waits += t.Waits + t.CopyWaits
		events += t.Events + t.CopyEvents
	}
	if _, ok := in.Timings[contract.StateStagger]; ok {
		u.Requests-- // it only waits
	}
	if t, ok := in.Timings[contract.StateCreateImage]; ok && in.Failed != contract.StateCreateImage && len(in.Images) == 0 {
		u.SnapshotSeconds = in.Now.Sub(t.Left).Seconds()
	}
	countRegions(&u, in, p)
	u.S3Reads = u.Requests + events // each reads the plan, or a token
	u.S3Writes += waits*writesAWait + events*writesAnEvent
	u.Requests += waits + events
	u.GBSeconds = float64(u.Requests) * invocationSeconds * invocationGB
	return u
}

// countRegions adds what the states take that pass over the regions, each of which
// is a transition itself and invokes no function, and the copies.
func countRegions(u *cost.Usage, in NotifyInput, p plan.BuildPlan) {
	regions := len(p.Recipe.Distribution.Regions)
	early, late := regions, 0 // copies that StartCopies starts, and Distribute
	if p.Reuse != nil || p.Recipe.Distribution.Copies == contract.CopiesAfterGate {
		early, late = 0, regions
	}
	for _, s := range []struct {
		name               string
		decisions, invokes int // of all regions together, without what is tried again
	}{
		{contract.StateStartCopies, 0, early},
		{contract.StateDistribute, regions, late + regions}, // IsCopying; CopyAfterGate, AwaitCopy
		{contract.StateShare, 0, regions},
	} {
		if t, ok := in.Timings[s.name]; ok {
			// Beside them, the state that asks whether all regions have succeeded, and one
			// for each that has not.
			u.Transitions += 1 + s.decisions + s.invokes + t.CopyRetries + t.CopyWaits + t.CopyDetours + t.CopyFailures - t.CopySkipped
			u.Requests += s.invokes + t.CopyRetries - t.CopySkipped - 1
		}
	}
	began, ok := in.Timings[contract.StateStartCopies]
	if early == 0 {
		began, ok = in.Timings[contract.StateDistribute]
	}
	if !ok {
		return
	}
	u.Copies = regions - 1
	if p.Reuse != nil { // the home region's image is one of its images
		u.Copies = regions - len(p.Reuse.Images)
	}
	if len(in.Images) == 0 { // they are removed again
		u.SnapshotSeconds += float64(u.Copies) * in.Now.Sub(began.Entered).Seconds()
	}
}
