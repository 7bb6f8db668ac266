package test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/workflow"
	"github.com/ami-factory/ami-factory/userdata"
)

// record is what the embedded AWS has recorded of functions and calls so far.
type record struct {
	invocations, cold int
	gbSeconds         float64
	calls             map[string]int // by service
	s3Reads           int
	s3Writes          int
}

func recordOf(f *rehearsal.Factory) record {
	r := record{calls: callsOf(f)}
	for _, s := range f.Cloud.Lambda.Stats() {
		r.invocations += s.Invocations
		r.cold += len(s.Cold)
		r.gbSeconds += s.GBSeconds()
	}
	for _, c := range f.Cloud.Calls() {
		switch {
		case c.Service != "s3" || !strings.Contains(c.ARN, ":assumed-role/ami-factory-"):
		case c.Operation == "GET" || c.Operation == "HEAD":
			r.s3Reads += c.Count
		default:
			r.s3Writes += c.Count
		}
	}
	return r
}

// minus is what came since an earlier record.
func (r record) minus(earlier record) record {
	out := record{
		invocations: r.invocations - earlier.invocations, cold: r.cold - earlier.cold, gbSeconds: r.gbSeconds - earlier.gbSeconds,
		s3Reads: r.s3Reads - earlier.s3Reads, s3Writes: r.s3Writes - earlier.s3Writes, calls: map[string]int{},
	}
	for service, n := range r.calls {
		if d := n - earlier.calls[service]; d > 0 {
			out.calls[service] = d
		}
	}
	return out
}

// dollars are the costs of the factory itself: the state machine, its functions
// and the bucket.
func (r record) dollars(t testing.TB, transitions int) float64 {
	t.Helper()
	prices, err := cost.ListPrices("")
	require.NoError(t, err)
	return cost.Of(cost.Usage{
		Region: home, Architecture: "arm64", Transitions: transitions, Requests: r.invocations, GBSeconds: r.gbSeconds, S3Reads: r.s3Reads, S3Writes: r.s3Writes,
	}, prices).USD
}

func (r record) String() string {
	var calls []string
	for _, service := range slices.Sorted(maps.Keys(r.calls)) {
		calls = append(calls, fmt.Sprintf("%s %d", service, r.calls[service]))
	}
	return strings.Join(calls, ", ")
}

// BenchmarkCosts is what an execution, and a night, take of AWS, from what the
// embedded AWS has recorded. Functions are the deployed programs in processes of
// their own; guests are simulated, on the virtual clock, and take five and a half
// minutes. It prints tables.
func BenchmarkCosts(b *testing.B) {
	for b.Loop() {
		dir := oneRecipe(b)
		programs := func(o *rehearsal.Options) {
			o.FunctionsDir, o.UserDataDir = filepath.Join("..", "build", functionsIn), dir
		}
		rejecting := func(o *rehearsal.Options) {
			programs(o)
			o.Simulated.FailControls = []string{"SSH-03"}
		}
		var table strings.Builder
		w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
		row := func(cells ...any) {
			text := make([]string, len(cells))
			for i, c := range cells {
				text[i] = fmt.Sprint(c)
			}
			_, _ = fmt.Fprintln(w, strings.Join(text, "\t")) // to memory
		}
		row("what", "transitions", "invocations", "of them cold", "GB-seconds", "$ of the factory", "$ with EC2 and EBS", "$ a month", "calls")
		execution := func(f *rehearsal.Factory, name, status string, in contract.ExecutionInput) {
			before, ended := recordOf(f), invocationsOf(f, blueprint.StartBuilds)
			s := bake(b, f, in)
			require.Equal(b, status, s.Status, s.Cause)
			require.Eventually(b, func() bool { return invocationsOf(f, blueprint.StartBuilds) > ended }, time.Minute, 10*time.Millisecond, "the trigger receives the end")
			r := recordOf(f).minus(before)
			transitions, _ := historyOf(b, f, s.ARN)
			all, monthly := r.dollars(b, transitions), 0.0
			factory := all
			if s.Cost != nil {
				for _, l := range s.Cost.Lines {
					if !l.Monthly && (strings.HasPrefix(l.Item, "E") || strings.HasPrefix(l.Item, "Copies")) { // EC2, EBS
						all += l.USD
					}
				}
				monthly = s.Cost.MonthlyUSD
			}
			row(name, transitions, r.invocations, r.cold, fmt.Sprintf("%.2f", r.gbSeconds), fmt.Sprintf("%.5f", factory),
				fmt.Sprintf("%.4f", all), fmt.Sprintf("%.3f", monthly), r)
		}
		f := simFactory(b, programs)
		execution(f, "published, all functions cold", contract.Published, contract.ExecutionInput{})
		execution(f, "published", contract.Published, contract.ExecutionInput{Force: true})
		execution(f, "up to date", contract.UpToDate, contract.ExecutionInput{})
		cold := coldStarts(f.Cloud.Lambda.Stats())
		refusing := simFactory(b, rejecting)
		execution(refusing, "rejected, all functions cold", contract.Rejected, contract.ExecutionInput{})
		execution(refusing, "rejected", contract.Rejected, contract.ExecutionInput{})

		for _, call := range []struct {
			name, payload string
			function      workflow.Stage
		}{
			{"a night with nothing stale, and one recipe", nightAt("2026-11-02T03:00:00Z"), blueprint.StartBuilds},
			{"a look at the sources, for the first time", "{}", blueprint.WatchSources},
			{"a look at the sources", "{}", blueprint.WatchSources},
		} {
			before := recordOf(f)
			said, err := invoke(b, f, call.function, call.payload)
			require.NoError(b, err)
			require.NotContains(b, said, `"action":"start"`, "nothing is stale")
			r := recordOf(f).minus(before)
			row(call.name, 0, r.invocations, r.cold, fmt.Sprintf("%.3f", r.gbSeconds), fmt.Sprintf("%.7f", r.dollars(b, 0)), "", "", r)
		}
		require.NoError(b, w.Flush())
		// Not b.Log, which cuts it off.
		fmt.Printf("\nat list prices of %s, functions on arm64; the guests are simulated, and the snapshot is its whole volume\n%s\n%s\n", home, table.String(), cold)
		require.NoError(b, refusing.Close(context.Background()))
		require.NoError(b, f.Close(context.Background()))
	}
}

// oneRecipe is a folder of user data whose only recipe is recipeName's.
func oneRecipe(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	require.NoError(b, os.CopyFS(dir, userdata.FS))
	recipes, err := filepath.Glob(filepath.Join(dir, "recipes", "*.yaml"))
	require.NoError(b, err)
	for _, file := range recipes {
		if filepath.Base(file) != recipeName+".yaml" {
			require.NoError(b, os.Remove(file))
		}
	}
	return dir
}

// coldStarts is a table of how long functions take that no process waits for.
func coldStarts(all []lambda.Stats) string {
	all = slices.DeleteFunc(all, func(s lambda.Stats) bool { return len(s.Cold) == 0 })
	slices.SortFunc(all, func(a, b lambda.Stats) int { return cmp.Compare(slices.Max(b.Cold), slices.Max(a.Cold)) })
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "function\tMiB\tat most used, MiB\tcold starts\tthe longest, ms\tinvocations\twarm, median, ms\tGB-seconds")
	for _, s := range all {
		warm := "-"
		if len(s.Warm) > 0 {
			warm = fmt.Sprintf("%.1f", milliseconds(median(s.Warm)))
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.0f\t%d\t%s\t%.3f\n", s.Function[strings.LastIndex(s.Function, ":")+1:], s.MemoryMiB, s.PeakBytes>>20,
			len(s.Cold), milliseconds(slices.Max(s.Cold)), s.Invocations, warm, s.GBSeconds())
	}
	_ = w.Flush() // to memory
	return table.String()
}
