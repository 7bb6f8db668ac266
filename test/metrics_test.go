package test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/metric"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

// metricsOf are the figures that functions gave from the nth on, without their
// values, sorted.
func metricsOf(f *rehearsal.Factory, n int) []string {
	var out []string
	for _, d := range f.Cloud.Lambda.Metrics()[n:] {
		text := d.Namespace + " " + d.Name
		for _, s := range metric.Table() {
			if s.Name == d.Name {
				for _, name := range s.Dimensions {
					text += " " + d.Dimensions[name]
				}
			}
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// durations are the metrics of how long states took.
func durations(states ...string) []string {
	var out []string
	for _, s := range states {
		out = append(out, "AmiFactory StageDuration "+s)
	}
	return out
}

func TestExecutionsEmitExactlyTheseMetrics(t *testing.T) {
	t.Parallel()
	built := []string{
		"Resolve", "LaunchBuilder", "AwaitProvisioned", "Seal", "CreateImage", "AwaitImage", "StartCopies", "LaunchVerifier", "AwaitBoot", "RunCompliance", "EvaluateGate",
	}
	for sentence, tc := range map[string]struct {
		input  contract.ExecutionInput
		guest  func(*guests.Simulated)
		status string
		stages []string
		want   []string
	}{
		"an image that is published": {
			status: contract.Published, stages: append(slices.Clone(built), "Distribute", "Sign", "Share", "Publish", "Announce", "Retire", "Cleanup"),
			want: []string{"AmiFactory BakeDuration " + recipeName, "AmiFactory Executions Published", "AmiFactory ImageCost " + recipeName},
		},
		"one that the gate refuses": {
			guest:  func(g *guests.Simulated) { g.FailControls = []string{"SSH-03"} },
			status: contract.Rejected, stages: append(slices.Clone(built), "Cleanup"),
			want: []string{
				"AmiFactory BakeDuration " + recipeName, "AmiFactory Executions Rejected", "AmiFactory Failures ComplianceRejected", "AmiFactory ImageCost " + recipeName,
			},
		},
		"a builder that fails": {
			guest:  func(g *guests.Simulated) { g.FailComponent = "docker" },
			status: contract.FailedClean, stages: []string{"Resolve", "LaunchBuilder", "AwaitProvisioned", "Cleanup"},
			want: []string{
				"AmiFactory BakeDuration " + recipeName, "AmiFactory Executions FailedClean", "AmiFactory Failures ProvisioningFailed", "AmiFactory ImageCost " + recipeName,
			},
		},
		"an unknown recipe, about which nothing is known": {
			input: contract.ExecutionInput{Recipe: "debian-99"}, status: contract.FailedClean, stages: []string{"Resolve", "Cleanup"},
			want: []string{"AmiFactory Executions FailedClean", "AmiFactory Failures RecipeInvalid"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			f := simFactory(t, func(o *rehearsal.Options) {
				if tc.guest != nil {
					tc.guest(&o.Simulated)
				}
			})
			s := bake(t, f, tc.input)
			require.Equal(t, tc.status, s.Status, s.Cause)
			want := append(durations(tc.stages...), tc.want...)
			slices.Sort(want)
			assert.Equal(t, want, metricsOf(f, 0))
			requireMetricsAgree(t, f, s)

			if tc.status != contract.Published {
				return
			}
			n := len(f.Cloud.Lambda.Metrics())
			s = bake(t, f, tc.input)
			require.Equal(t, contract.UpToDate, s.Status)
			assert.Equal(t, []string{"AmiFactory Executions UpToDate"}, metricsOf(f, n), "nothing else was done")
		})
	}
}

// requireMetricsAgree holds the figures to what the embedded AWS has recorded of
// the execution itself.
func requireMetricsAgree(t *testing.T, f *rehearsal.Factory, s rehearsal.Summary) {
	t.Helper()
	seconds := map[string]float64{}
	for _, state := range s.States {
		seconds[state.State] = state.Seconds
	}
	for _, d := range f.Cloud.Lambda.Metrics() {
		switch d.Name {
		case metric.StageDuration:
			state := d.Dimensions[metric.Stage]
			if took, invokes := seconds[state]; invokes {
				assert.InDelta(t, took, d.Value, 0.01, state)
			} else { // the states inside it do
				assert.Contains(t, []string{contract.StateStartCopies, contract.StateDistribute, contract.StateShare}, state)
			}
		case metric.BakeDuration:
			assert.InDelta(t, s.Seconds, d.Value, 0.01)
		case metric.ImageCost:
			require.NotNil(t, s.Cost)
			assert.InDelta(t, s.Cost.USD, d.Value, 1e-9)
			assert.Positive(t, d.Value)
		case metric.Executions, metric.Failures:
			assert.InDelta(t, 1, d.Value, 0)
		}
		assert.WithinDuration(t, f.Cloud.Lambda.Metrics()[0].At, d.At, time.Hour, "of the state machine's clock")
	}
	if s.Cost == nil {
		return
	}
	quantities := map[string]float64{}
	for _, l := range s.Cost.Lines {
		quantities[l.Item] = l.Quantity
	}
	transitions, invocations := historyOf(t, f, s.ARN)
	assert.InDelta(t, transitions, quantities["Step Functions"], 0, "transitions")
	assert.InDelta(t, invocations, quantities["Lambda, invocations"], 0, "invocations")
}

// historyOf counts the transitions of an execution, which are states entered and
// retries of them, and the invocations of functions by the state machine and by the
// events that have ended waits
// (https://aws.amazon.com/step-functions/pricing/).
func historyOf(t testing.TB, f *rehearsal.Factory, arn string) (transitions, invocations int) {
	t.Helper()
	states := 0
	pages := sfn.NewGetExecutionHistoryPaginator(f.Cloud.States, &sfn.GetExecutionHistoryInput{ExecutionArn: &arn})
	entered := map[int64]bool{} // tasks that were entered, and not yet scheduled
	in := map[int64]string{}    // states by event
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		require.NoError(t, err)
		for _, e := range page.Events {
			in[e.Id] = in[e.PreviousEventId]
			switch {
			case e.StateEnteredEventDetails != nil:
				states++
				entered[e.Id], in[e.Id] = true, aws.ToString(e.StateEnteredEventDetails.Name)
			case e.TaskSucceededEventDetails != nil && contract.StepOf(in[e.Id]) != in[e.Id]:
				invocations++
			case e.Type == sfntypes.HistoryEventTypeTaskScheduled:
				invocations++
				if !entered[e.PreviousEventId] {
					states++ // again, after a failure
				}
			}
		}
	}
	return states, invocations
}

func TestANightTellsTheAgeOfEachImageAndHowManyRecipesArePaused(t *testing.T) {
	t.Parallel()
	f := familyFactory(t, nil)
	s := bake(t, f, contract.ExecutionInput{})
	require.Equal(t, contract.Published, s.Status, s.Cause)
	executions(t, f, 2) // and what builds on it
	n := len(f.Cloud.Lambda.Metrics())
	_, err := invoke(t, f, blueprint.StartBuilds, nightAt("2026-11-02T03:00:00Z"))
	require.NoError(t, err)
	published := slices.DeleteFunc(metricsOf(f, n), func(s string) bool {
		return !strings.Contains(s, "NewestImageAge") && !strings.Contains(s, "RecipesPaused")
	})
	assert.Equal(t, []string{"AmiFactory NewestImageAge child", "AmiFactory NewestImageAge " + recipeName, "AmiFactory RecipesPaused"}, published)
	for _, d := range f.Cloud.Lambda.Metrics()[n:] {
		switch d.Name {
		case metric.NewestImageAge:
			assert.InDelta(t, 24*3600, d.Value, 3600, "of yesterday's bake")
		case metric.RecipesPaused:
			assert.Zero(t, d.Value)
		}
	}
}

// callsOf are the calls that functions made of AWS's APIs, by service.
func callsOf(f *rehearsal.Factory) map[string]int {
	out := map[string]int{}
	for _, c := range f.Cloud.Calls() {
		if strings.Contains(c.ARN, ":assumed-role/ami-factory-") {
			out[c.Service] += c.Count
		}
	}
	return out
}

func TestCallsOfFunctionsAreCounted(t *testing.T) {
	t.Parallel()
	f := simFactory(t, nil)
	require.Empty(t, callsOf(f), "nothing ran yet")
	require.Equal(t, contract.Published, bake(t, f, contract.ExecutionInput{}).Status)
	calls := callsOf(f)
	for _, service := range []string{"ec2", "ssm", "s3", "sns", "events"} {
		assert.Positive(t, calls[service], service)
	}
	assert.Equal(t, 1, calls["sns"], "one message")
	assert.NotContains(t, fmt.Sprint(calls), "lambda", "the state machine invokes, not over HTTP")
}
