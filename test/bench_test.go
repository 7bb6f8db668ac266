package test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

// BenchmarkSimulatedBake is a whole bake on the virtual clock: what the state machine,
// the stages and the embedded AWS cost, with functions in this process, as tests run
// them, and with processes of their own, as `bake` does.
func BenchmarkSimulatedBake(b *testing.B) {
	for name, functions := range map[string]string{"in-process": "", "native": filepath.Join("..", "build", functionsIn)} {
		b.Run(name, func(b *testing.B) {
			f := simFactory(b, func(o *rehearsal.Options) { o.FunctionsDir = functions })
			bake(b, f, contract.ExecutionInput{}) // processes start with the first
			var virtual float64
			b.ReportAllocs()
			for b.Loop() {
				s := bake(b, f, contract.ExecutionInput{Force: true})
				require.Equal(b, contract.Published, s.Status, s.Cause)
				virtual += s.Seconds
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "bakes/s")
			b.ReportMetric(virtual/b.Elapsed().Seconds(), "virtual-s/s")
		})
	}
}

// BenchmarkFunctions starts the functions' own programs, as Lambda would, and
// invokes them through a bake with simulated guests that wait for nothing.
func BenchmarkFunctions(b *testing.B) {
	functions := filepath.Join("..", "build", functionsIn)
	var cold, warm []time.Duration
	for b.Loop() {
		f := simFactory(b, func(o *rehearsal.Options) {
			o.Clock, o.FunctionsDir = nil, functions
			o.Timing = ec2.Timing{PendingToRunning: time.Millisecond}
			o.Simulated = guests.Simulated{}
		})
		for range 3 {
			s := bake(b, f, contract.ExecutionInput{Force: true})
			require.Equal(b, contract.Published, s.Status, s.Cause)
		}
		for _, s := range f.Cloud.Lambda.Stats() {
			cold, warm = append(cold, s.Cold...), append(warm, s.Warm...)
		}
		require.NoError(b, f.Close(context.Background()))
	}
	b.ReportMetric(milliseconds(median(cold)), "cold-ms")
	b.ReportMetric(milliseconds(slices.Max(cold)), "cold-max-ms")
	b.ReportMetric(milliseconds(median(warm)), "warm-ms")
	var total, largest int64
	for _, fn := range blueprint.Functions() {
		info, err := os.Stat(filepath.Join(functions, fn.Name, "bootstrap"))
		require.NoError(b, err)
		total, largest = total+info.Size(), max(largest, info.Size())
	}
	b.ReportMetric(float64(total)/float64(len(blueprint.Functions()))/1e6, "MB/function")
	b.ReportMetric(float64(largest)/1e6, "MB-largest")
}

// BenchmarkRealBake bakes on virtual machines once, and reports the guests' time
// from the factory's own.
func BenchmarkRealBake(b *testing.B) { benchmarkReal(b, vm.VM) }

// BenchmarkContainerBake is the same in containers.
func BenchmarkContainerBake(b *testing.B) { benchmarkReal(b, vm.Container) }

func benchmarkReal(b *testing.B, kind vm.Kind) {
	f := open(b, realGuests(b, kind))
	for b.Loop() {
		s := bake(b, f, contract.ExecutionInput{Force: true})
		require.Equal(b, contract.Published, s.Status, s.Cause)
		for _, state := range s.States {
			b.ReportMetric(state.Seconds, state.State+"-s")
		}
		b.ReportMetric(s.Seconds, "total-s")
		b.ReportMetric(s.Functions, "functions-s")
		b.ReportMetric(s.OwnSeconds(), "own-max-s")
		b.ReportMetric(100*s.OwnSeconds()/s.Seconds, "own-max-%")
		info, err := os.Stat(s.Disk)
		require.NoError(b, err)
		if info.Mode().IsRegular() {
			b.ReportMetric(float64(info.Size())/1e6, "disk-MB")
		}
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
