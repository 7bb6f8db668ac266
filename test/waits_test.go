package test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	localec2 "github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// wait is how the waits of one step ended.
type wait struct{ woken, netted int }

// waitsOf are those of an execution, by step.
func waitsOf(t testing.TB, f *rehearsal.Factory, arn string) map[string]wait {
	t.Helper()
	out := map[string]wait{}
	states := map[int64]string{} // by event
	pages := sfn.NewGetExecutionHistoryPaginator(f.Cloud.States, &sfn.GetExecutionHistoryInput{ExecutionArn: &arn, IncludeExecutionData: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		require.NoError(t, err)
		for _, e := range page.Events {
			state := states[e.PreviousEventId]
			if e.StateEnteredEventDetails != nil {
				state = aws.ToString(e.StateEnteredEventDetails.Name)
			}
			states[e.Id] = state
			step := contract.StepOf(state)
			if step == state {
				continue
			}
			w := out[step]
			switch {
			case e.TaskSucceededEventDetails != nil:
				w.woken++
			case e.TaskTimedOutEventDetails != nil:
				w.netted++
			}
			out[step] = w
		}
	}
	return out
}

// keysOf are the keys of the bucket below a prefix.
func keysOf(t testing.TB, f *rehearsal.Factory, prefix string) []string {
	t.Helper()
	var out []string
	pages := s3.NewListObjectsV2Paginator(f.Cloud.S3, &s3.ListObjectsV2Input{Bucket: &f.Bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		require.NoError(t, err)
		for _, o := range page.Contents {
			out = append(out, aws.ToString(o.Key))
		}
	}
	return out
}

// hints are the names of the rules whose events end waits.
func hints(f *rehearsal.Factory) []string {
	var out []string
	for _, r := range blueprint.Rules(f.StateMachine, f.Bucket, blueprint.FindingRules{}) {
		if r.Hint {
			out = append(out, "ami-factory-"+r.Name)
		}
	}
	return out
}

// loseEvents has no event end a wait.
func loseEvents(t testing.TB, f *rehearsal.Factory) {
	for _, name := range hints(f) {
		_, err := f.Cloud.Events.DisableRule(t.Context(), &eventbridge.DisableRuleInput{Name: &name})
		require.NoError(t, err)
	}
}

// repeatEvents delivers each event that ends a wait five times.
func repeatEvents(t testing.TB, f *rehearsal.Factory) {
	for _, name := range hints(f) {
		listed, err := f.Cloud.Events.ListTargetsByRule(t.Context(), &eventbridge.ListTargetsByRuleInput{Rule: &name})
		require.NoError(t, err)
		require.Len(t, listed.Targets, 1)
		for n := range 4 {
			again := listed.Targets[0]
			again.Id = aws.String(fmt.Sprintf("again-%d", n))
			_, err := f.Cloud.Events.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: &name, Targets: []eventtypes.Target{again}})
			require.NoError(t, err)
		}
	}
}

func TestABakeIsPublishedWhateverBecomesOfEvents(t *testing.T) {
	t.Parallel()
	at := func(timing localec2.Timing) func(*rehearsal.Options) {
		return func(o *rehearsal.Options) { o.Timing = timing }
	}
	certain := []string{contract.StateSeal, contract.StateAwaitImage, contract.StateEvaluateGate}
	for sentence, tc := range map[string]struct {
		options func(*rehearsal.Options)
		change  func(testing.TB, *rehearsal.Factory)
		check   func(*testing.T, map[string]wait, rehearsal.Summary)
	}{
		"each comes once, when EC2 takes its time": {at(localec2.AWSLike()), nil, func(t *testing.T, waits map[string]wait, _ rehearsal.Summary) {
			for _, step := range certain {
				assert.Positive(t, waits[step].woken, step)
				assert.Zero(t, waits[step].netted, step)
			}
			assert.Equal(t, 1, waits[contract.StateAwaitCopy].woken, "the other region's rule forwards the event")
			for _, step := range []string{contract.StateAwaitProvisioned, contract.StateAwaitBoot} {
				assert.Positive(t, waits[step].woken, "%s: the end of the command", step)
			}
		}},
		"each comes before the token is kept": {at(localec2.Timing{PendingToRunning: time.Millisecond}), nil, func(t *testing.T, waits map[string]wait, s rehearsal.Summary) {
			assert.Equal(t, wait{woken: 1}, waits[contract.StateAwaitImage], "the image is available when it is created")
			assert.Zero(t, secondsOf(s, contract.StateAwaitImage))
		}},
		"each comes five times": {at(localec2.AWSLike()), repeatEvents, func(t *testing.T, waits map[string]wait, s rehearsal.Summary) {
			for _, step := range certain {
				assert.Zero(t, waits[step].netted, step)
			}
			assert.LessOrEqual(t, waits[contract.StateAwaitImage].woken, 1, "the repetitions wake nobody")
		}},
		"none comes": {at(localec2.AWSLike()), loseEvents, func(t *testing.T, waits map[string]wait, s rehearsal.Summary) {
			for step, w := range waits {
				assert.Zero(t, w.woken, step)
				assert.Positive(t, w.netted, step)
			}
			assert.LessOrEqual(t, waits[contract.StateAwaitImage].netted, 3, "its net grows")
		}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			f := simFactory(t, tc.options)
			if tc.change != nil {
				tc.change(t, f)
			}
			s := bake(t, f, contract.ExecutionInput{})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			waits := waitsOf(t, f, s.ARN)
			tc.check(t, waits, s)
			for _, key := range keysOf(t, f, contract.WaitsPrefix) {
				assert.True(t, strings.HasPrefix(key, contract.WaitMarksPrefix), "%s: tokens are deleted", key)
			}
			t.Logf("%v, %.0f s", waits, s.Seconds)
		})
	}
}

// Events are hints: a function that keeps no token costs time and ends no bake.
func TestABakeIsPublishedThoughNoWaitCanBeRegistered(t *testing.T) {
	t.Parallel()
	wake := aws.String("ami-factory-" + string(workflow.Wake))
	for sentence, tc := range map[string]struct {
		change func(testing.TB, *rehearsal.Factory)
		says   string // in the history of the waits
		slow   bool   // what follows the announcement takes long too, which no metric has
	}{
		"it may not write tokens": {func(t testing.TB, f *rehearsal.Factory) {
			fn, err := f.Cloud.Lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: wake})
			require.NoError(t, err)
			_, role, _ := strings.Cut(aws.ToString(fn.Role), ":role/")
			_, err = f.Cloud.IAM.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{
				RoleName: &role, PolicyName: aws.String("deny"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:PutObject","Resource":"*"}]}`),
			})
			require.NoError(t, err)
		}, "AccessDenied", false},
		"it is throttled each time": {func(t testing.TB, f *rehearsal.Factory) {
			_, err := f.Cloud.Lambda.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: wake, ReservedConcurrentExecutions: aws.Int32(0)})
			require.NoError(t, err)
		}, "Lambda.TooManyRequestsException", false},
		"it never answers": {func(t testing.TB, f *rehearsal.Factory) {
			_, err := f.Cloud.Lambda.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: wake, Timeout: aws.Int32(1)})
			require.NoError(t, err)
			_, err = f.Cloud.Faults.Add(fault.Rule{Service: "s3", Delay: fault.Duration(2 * time.Second), Times: -1})
			require.NoError(t, err)
		}, "Sandbox.Timedout", true},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			f := simFactory(t, nil)
			tc.change(t, f)
			s := bake(t, f, contract.ExecutionInput{})
			require.Equal(t, contract.Published, s.Status, s.Cause)
			for step, w := range waitsOf(t, f, s.ARN) {
				assert.Zero(t, w.woken, step)
			}
			assert.Contains(t, failuresOf(t, f, s.ARN), tc.says)
			if !tc.slow {
				requireMetricsAgree(t, f, s)
			}
			t.Logf("%.0f s", s.Seconds)
		})
	}
}

// failuresOf are the errors of an execution's tasks.
func failuresOf(t testing.TB, f *rehearsal.Factory, arn string) []string {
	t.Helper()
	var out []string
	pages := sfn.NewGetExecutionHistoryPaginator(f.Cloud.States, &sfn.GetExecutionHistoryInput{ExecutionArn: &arn, IncludeExecutionData: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		require.NoError(t, err)
		for _, e := range page.Events {
			if d := e.TaskFailedEventDetails; d != nil {
				out = append(out, aws.ToString(d.Error))
			}
		}
	}
	return out
}

func secondsOf(s rehearsal.Summary, step string) float64 {
	for _, st := range s.States {
		if st.State == step {
			return st.Seconds
		}
	}
	return -1
}
