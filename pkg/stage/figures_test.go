package stage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/metric"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// told are the figures in lines of the embedded metric format, sorted.
func told(t *testing.T, lines string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(lines) {
		var doc map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &doc))
		for _, s := range metric.Table() {
			value, ok := doc[s.Name]
			if !ok {
				continue
			}
			text := s.Name
			for _, d := range s.Dimensions {
				text += " " + fmt.Sprint(doc[d])
			}
			out = append(out, text+" "+fmt.Sprint(value))
		}
	}
	slices.Sort(out)
	return out
}

func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

func stay(from, to float64, retries int) Timing {
	return Timing{Entered: at(from), Left: at(to), Retries: retries}
}

func launched(from, to float64, kind string) Timing {
	t := stay(from, to, 0)
	t.InstanceType = kind
	return t
}

// publishedTimings are those of a bake that was published, in 927 seconds. Its
// copies were started while it was verified, at 505 seconds.
func publishedTimings() map[string]Timing {
	copied := stay(608, 907, 0)
	copied.CopyRetries = 12
	return map[string]Timing{
		"Resolve": stay(0, 1, 0), "LaunchBuilder": launched(1, 3, "t3.medium"), "AwaitProvisioned": stay(3, 363, 30), "Seal": stay(363, 383, 5),
		"CreateImage": stay(383, 385, 0), "AwaitImage": stay(385, 505, 20), "StartCopies": stay(505, 505, 0), "LaunchVerifier": launched(505, 507, "t3a.medium"),
		"AwaitBoot": stay(507, 567, 10), "RunCompliance": stay(567, 568, 0), "EvaluateGate": stay(568, 608, 6), "Distribute": copied,
		"Share": stay(907, 908, 0), "Publish": stay(908, 920, 1), "Retire": stay(920, 922, 0), "Cleanup": stay(922, 927, 0),
	}
}

// without drops what an execution that failed in a state has not come to.
func without(timings map[string]Timing, names ...string) map[string]Timing {
	for _, name := range names {
		delete(timings, name)
	}
	return timings
}

func TestWhatAnExecutionUsed(t *testing.T) {
	s := Settings{Region: home, Architecture: "arm64"}
	for sentence, tc := range map[string]struct {
		in   NotifyInput
		want cost.Usage
		plan func(*plan.BuildPlan)
	}{
		// 16 states and 72 retries; in two regions Copy, IsCopying, AwaitCopy with 12
		// retries and ShareImage; after each of the three Maps a state that asks whether all
		// regions have succeeded; and the six states that no timing covers. All but the
		// Maps, IsCopying and these invoke a function, and so does Notify.
		"a published image": {
			in: NotifyInput{Images: map[string]string{home: "ami-1", remote: "ami-2"}, Timings: publishedTimings()},
			want: cost.Usage{
				Instances: []cost.Instance{
					{Role: "builder", Type: "t3.medium", Seconds: 380, VolumeGiB: 8, VolumeSeconds: 927},
					{Role: "verifier", Type: "t3a.medium", Seconds: 423, VolumeGiB: 8, VolumeSeconds: 423},
				},
				KeptIn: []string{remote, home}, SnapshotGiB: 8, Copies: 1, Transitions: 16 + 72 + 8 + 12 + 3 + 6, Requests: 13 + 72 + 6 + 12 + 1,
			},
		},
		"copies that start after the gate: CopyAfterGate in place of Copy": {
			in: NotifyInput{Images: map[string]string{home: "ami-1", remote: "ami-2"}, Timings: publishedTimings()},
			want: cost.Usage{
				Instances: []cost.Instance{
					{Role: "builder", Type: "t3.medium", Seconds: 380, VolumeGiB: 8, VolumeSeconds: 927},
					{Role: "verifier", Type: "t3a.medium", Seconds: 423, VolumeGiB: 8, VolumeSeconds: 423},
				},
				KeptIn: []string{remote, home}, SnapshotGiB: 8, Copies: 1, Transitions: 16 + 72 + 8 + 12 + 3 + 6, Requests: 13 + 72 + 6 + 12 + 1,
			},
			plan: func(p *plan.BuildPlan) { p.Recipe.Distribution.Copies = contract.CopiesAfterGate },
		},
		"a rejected one whose copies would have started after the gate": {
			in: NotifyInput{
				CleanupInput: CleanupInput{Failed: "EvaluateGate"}, Timings: without(publishedTimings(), "Distribute", "Share", "Publish", "Retire"),
			},
			want: cost.Usage{
				Instances: []cost.Instance{
					{Role: "builder", Type: "t3.medium", Seconds: 380, VolumeGiB: 8, VolumeSeconds: 927},
					{Role: "verifier", Type: "t3a.medium", Seconds: 423, VolumeGiB: 8, VolumeSeconds: 423},
				},
				SnapshotGiB: 8, SnapshotSeconds: 545, Transitions: 12 + 71 + 1 + 6, Requests: 11 + 71 + 1,
			},
			plan: func(p *plan.BuildPlan) { p.Recipe.Distribution.Copies = contract.CopiesAfterGate },
		},
		"a release without a bake, which makes the copy that is missing": {
			in: NotifyInput{
				Images:  map[string]string{home: "ami-1", remote: "ami-2"},
				Timings: map[string]Timing{"Resolve": stay(0, 1, 0), "EvaluateGateAgain": stay(1, 2, 0), "Distribute": stay(2, 302, 0), "Share": stay(302, 303, 0)},
			},
			want: cost.Usage{
				KeptIn: []string{remote, home}, SnapshotGiB: 8, Copies: 1, Transitions: 4 + 8 + 2 + 6, Requests: 2 + 6 + 1,
			},
			plan: func(p *plan.BuildPlan) { p.Reuse = &plan.Reuse{Images: map[string]plan.ReusedImage{home: {}}} },
		},
		"people who took a day to approve: instances and volumes end before they are asked": {
			in: NotifyInput{Timings: map[string]Timing{
				"Resolve": stay(0, 1, 0), "LaunchBuilder": launched(1, 3, "t3.medium"), "Seal": stay(3, 103, 0), "LaunchVerifier": launched(103, 107, "t3a.medium"),
				"EvaluateGate": stay(107, 200, 0), "Sign": stay(200, 201, 0), "TerminateInstances": stay(201, 203, 0), "Approve": stay(203, 86603, 0),
			}},
			want: cost.Usage{
				Instances: []cost.Instance{
					{Role: "builder", Type: "t3.medium", Seconds: 100, VolumeGiB: 8, VolumeSeconds: 200},
					{Role: "verifier", Type: "t3a.medium", Seconds: 96, VolumeGiB: 8, VolumeSeconds: 96},
				},
				SnapshotGiB: 8, Transitions: 8 + 1 + 6, Requests: 8 + 1,
			},
		},
		"EC2 says how much the snapshot holds": {
			in: NotifyInput{
				CleanupInput: CleanupInput{Failed: "LaunchVerifier"},
				Timings: map[string]Timing{
					"Resolve": stay(0, 1, 0), "AwaitImage": {Entered: at(1), Left: at(2), SnapshotBytes: 3 << 29}, "Cleanup": stay(2, 3, 0),
				},
			},
			want: cost.Usage{SnapshotGiB: 1.5, SnapshotKnown: true, Transitions: 3 + 6, Requests: 3 + 1},
		},
		"a rejected one: its snapshot goes again, and so does its copy": {
			in: NotifyInput{
				CleanupInput: CleanupInput{Failed: "EvaluateGate"}, Timings: without(publishedTimings(), "Distribute", "Share", "Publish", "Retire"),
			},
			want: cost.Usage{
				Instances: []cost.Instance{
					{Role: "builder", Type: "t3.medium", Seconds: 380, VolumeGiB: 8, VolumeSeconds: 927},
					{Role: "verifier", Type: "t3a.medium", Seconds: 423, VolumeGiB: 8, VolumeSeconds: 423},
				},
				SnapshotGiB: 8, SnapshotSeconds: 545 + 425, Copies: 1, Transitions: 12 + 71 + 2 + 1 + 6, Requests: 11 + 71 + 2 + 1,
			},
		},
		"a builder that could not be sealed runs until it is cleaned up": {
			in: NotifyInput{
				CleanupInput: CleanupInput{Failed: "Seal"},
				Timings: without(publishedTimings(), "CreateImage", "AwaitImage", "StartCopies", "LaunchVerifier", "AwaitBoot", "RunCompliance", "EvaluateGate",
					"Distribute", "Share", "Publish", "Retire"),
			},
			want: cost.Usage{
				Instances:   []cost.Instance{{Role: "builder", Type: "t3.medium", Seconds: 927, VolumeGiB: 8, VolumeSeconds: 927}},
				SnapshotGiB: 8, Transitions: 5 + 35 + 6, Requests: 5 + 35 + 1,
			},
		},
		"a delay is a transition more, and no invocation": {
			in:   NotifyInput{Timings: map[string]Timing{"Stagger": stay(0, 60, 0), "Resolve": stay(60, 61, 0), "Cleanup": stay(61, 62, 0)}},
			want: cost.Usage{SnapshotGiB: 8, Transitions: 3 + 6, Requests: 2 + 1},
		},
		"each wait is a transition and an invocation more, and each event that ends one is an invocation": {
			NotifyInput{Timings: map[string]Timing{
				"Resolve":    stay(0, 1, 0),
				"AwaitImage": {Entered: at(1), Left: at(61), Retries: 1, Waits: 2, Events: 1},
				"Distribute": {Entered: at(61), Left: at(90), CopyRetries: 2, CopyWaits: 4, CopyEvents: 3},
				"Cleanup":    stay(90, 91, 0),
			}},
			// Distribute decides once and invokes once for each of two regions, whose copies
			// StartCopies has started.
			cost.Usage{SnapshotGiB: 8, Transitions: 4 + 6 + 1 + 2 + 2 + 2 + 2 + 4 + 1, Requests: 3 + 1 + 1 + 2 + 1 + 2 + 2 + 4 + 3},
			nil,
		},
		"a region whose copy could not be started after the gate is not waited for": {
			NotifyInput{Timings: map[string]Timing{
				"Resolve":    stay(0, 1, 0),
				"Distribute": {Entered: at(1), Left: at(9), CopyFailures: 1, CopySkipped: 1},
				"Cleanup":    stay(9, 10, 0),
			}},
			// Distribute decides and copies in two regions, and waits in one.
			cost.Usage{SnapshotGiB: 8, SnapshotSeconds: 929, Copies: 1, Transitions: 3 + 6 + 2 + 2 + 1 + 1 + 1, Requests: 2 + 1 + 2 + 1},
			func(p *plan.BuildPlan) { p.Recipe.Distribution.Copies = contract.CopiesAfterGate },
		},
		"without capacity there was no builder": {
			in: NotifyInput{
				CleanupInput: CleanupInput{Failed: "LaunchBuilder"},
				Timings:      map[string]Timing{"Resolve": stay(0, 1, 0), "LaunchBuilder": stay(1, 400, 3), "Cleanup": stay(400, 402, 0)},
			},
			want: cost.Usage{SnapshotGiB: 8, Transitions: 3 + 3 + 6, Requests: 3 + 3 + 1},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			tc.in.Now = at(930)
			waits, events := 0, 0
			for _, timing := range tc.in.Timings {
				waits, events = waits+timing.Waits+timing.CopyWaits, events+timing.Events+timing.CopyEvents
			}
			// Each invocation reads the plan but those of Wake, and each event a token.
			tc.want.Region, tc.want.Architecture, tc.want.S3Writes, tc.want.S3Reads = home, "arm64", 10+3*waits+2*events, tc.want.Requests-waits
			tc.want.GBSeconds = float64(tc.want.Requests) * 0.09
			p := testPlan()
			if tc.plan != nil {
				tc.plan(&p)
			}
			got := usage(tc.in, p, s)
			assert.InDelta(t, tc.want.GBSeconds, got.GBSeconds, 1e-9)
			got.GBSeconds = tc.want.GBSeconds
			if len(got.KeptIn) == 0 {
				got.KeptIn = nil
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func listPrices(t *testing.T) cost.Table {
	t.Helper()
	prices, err := cost.ListPrices("")
	require.NoError(t, err)
	return prices
}

func TestMetricsOfAnExecution(t *testing.T) {
	durations := []string{
		"StageDuration AwaitBoot 60", "StageDuration AwaitImage 120", "StageDuration AwaitProvisioned 360", "StageDuration Cleanup 5",
		"StageDuration CreateImage 2", "StageDuration StartCopies 0", "StageDuration Distribute 299", "StageDuration Share 1", "StageDuration EvaluateGate 40", "StageDuration LaunchBuilder 2",
		"StageDuration LaunchVerifier 2", "StageDuration Publish 12", "StageDuration Resolve 1", "StageDuration Retire 2",
		"StageDuration RunCompliance 1", "StageDuration Seal 20",
	}
	short := map[string]Timing{"Resolve": stay(0, 1, 0), "Cleanup": stay(1, 3, 0)}
	for sentence, tc := range map[string]struct {
		planned bool
		in      NotifyInput
		want    []string // but for the cost, which is checked apart
		costs   bool
	}{
		"published": {
			true, NotifyInput{CleanupInput: CleanupInput{Outcome: "Published"}, Images: map[string]string{home: "a", remote: "b"}, Timings: publishedTimings()},
			append([]string{"BakeDuration debian 930", "Executions Published 1"}, durations...), true,
		},
		"rejected": {
			true, NotifyInput{CleanupInput: CleanupInput{Outcome: "Rejected", Error: "ComplianceFailed", Failed: "EvaluateGate"}, Timings: short},
			[]string{"BakeDuration debian 930", "Executions Rejected 1", "Failures ComplianceFailed 1", "StageDuration Cleanup 2", "StageDuration Resolve 1"}, true,
		},
		"failed before there was a plan: of no recipe that is known": {
			false, NotifyInput{CleanupInput: CleanupInput{Outcome: "Failed", Error: "RecipeInvalid", Failed: "Resolve"}, Timings: short},
			[]string{"Executions FailedClean 1", "Failures RecipeInvalid 1", "StageDuration Cleanup 2", "StageDuration Resolve 1"}, false,
		},
		"published, and something is left": {
			true, NotifyInput{CleanupInput: CleanupInput{Outcome: "Published"}, Images: map[string]string{home: "a", remote: "b"}, Left: []string{"i-1: no"}, Timings: short},
			[]string{"BakeDuration debian 930", "Executions FailedDirty 1", "Failures CleanupIncomplete 1", "StageDuration Cleanup 2", "StageDuration Resolve 1"}, true,
		},
		"one that was to wait for a minute first": {
			true, NotifyInput{
				CleanupInput: CleanupInput{Outcome: "Failed", Error: "SealFailed"}, Timings: map[string]Timing{"Stagger": stay(0, 60, 0)},
			},
			[]string{"BakeDuration debian 870", "Executions FailedClean 1", "Failures SealFailed 1", "StageDuration Stagger 60"}, true,
		},
		"without timings, as one that was stopped": {
			true, NotifyInput{CleanupInput: CleanupInput{Outcome: "Failed", Error: "States.Timeout"}},
			[]string{"BakeDuration debian 930", "Executions FailedClean 1", "Failures States.Timeout 1"}, true,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := newS3(t)
			tc.in.Job = job(t, s, "Notify", testPlan())
			if !tc.planned {
				tc.in.Plan = store.Object{}
			}
			tc.in.Now = at(930)
			set := settings()
			set.Prices, set.Architecture, set.Region = listPrices(t), "arm64", home
			var lines bytes.Buffer
			out, err := Notify{Settings: set, Store: s.store(), Keys: s.directory(), SNS: &fakeTopic{}, Events: &fakeBus{}, Metrics: &lines}.Run(t.Context(), tc.in)
			require.NoError(t, err)
			assert.Contains(t, lines.String(), fmt.Sprintf(`"Timestamp":%d`, at(930).UnixMilli()))

			r := readReport(t, s, out.Report)
			got := told(t, lines.String())
			if tc.costs {
				require.NotNil(t, r.Cost)
				assert.Positive(t, r.Cost.USD)
				costs := "ImageCost debian " + fmt.Sprint(r.Cost.USD)
				assert.Contains(t, got, costs, "the metric is what the report says")
				got = slices.DeleteFunc(got, func(s string) bool { return s == costs })
			} else {
				assert.Nil(t, r.Cost)
			}
			slices.Sort(tc.want)
			assert.Equal(t, tc.want, got)
			var stages []string
			for _, x := range r.States {
				stages = append(stages, fmt.Sprintf("StageDuration %s %v", x.Name, x.Seconds))
			}
			slices.Sort(stages)
			assert.Subset(t, got, stages)
		})
	}
}

func TestStatesOfTheReportAreInTheOrderOfExecution(t *testing.T) {
	timings := without(publishedTimings(), "AwaitBoot")
	got := stages(timings["Resolve"].Entered, timings)
	assert.Equal(t, evidence.State{Name: "Resolve", Seconds: 1, Attempts: 1}, got[0])
	assert.Equal(t, evidence.State{Name: "AwaitProvisioned", After: timings["AwaitProvisioned"].Entered.Sub(timings["Resolve"].Entered).Seconds(), Seconds: 360, Attempts: 31}, got[2])
	assert.Equal(t, "Cleanup", got[len(got)-1].Name)
}

func TestMetricsAreToldOnceThoughTheMessageIsTriedAgain(t *testing.T) {
	for sentence, tc := range map[string]struct {
		code string
		want failure.Code
		told bool
	}{
		"another attempt follows, which tells": {"ThrottlingException", failure.Throttled, false},
		"no other attempt follows":             {"AuthorizationError", failure.AccessDenied, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := newS3(t)
			var lines bytes.Buffer
			in := NotifyInput{CleanupInput: CleanupInput{Job: job(t, s, "Notify", testPlan()), Outcome: "Failed", Error: "SealFailed"}}
			_, err := Notify{
				Settings: settings(), Store: s.store(), Keys: s.directory(), SNS: &fakeTopic{faults: faults{"Publish": {awsErr(tc.code)}}}, Events: &fakeBus{}, Metrics: &lines,
			}.Run(t.Context(), in)
			requireCode(t, tc.want, err)
			assert.Equal(t, tc.told, strings.Contains(lines.String(), "SealFailed"))
		})
	}
}
