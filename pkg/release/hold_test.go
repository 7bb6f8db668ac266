package release_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

func (p publication) images() map[string]string {
	return map[string]string{home: p.Targets[home].ImageID, remote: p.Targets[remote].ImageID}
}

type publication struct{ release.Publication }

// attempt publishes once, now.
func (w *world) attempt(r release.Records, p *release.Publication) error {
	w.t.Helper()
	p.Now = w.clock.Now()
	_, err := w.publisher(r).Publish(w.t.Context(), *p)
	return err
}

func TestTheSecondOfTwoExecutionsWaitsAndSaysForWhich(t *testing.T) {
	w := newWorld(t)
	w.publish("before")
	first, second := publication{w.bake("first")}, publication{w.bake("second")}
	firstRecords, secondRecords := &memory{}, &memory{}
	err := w.attempt(firstRecords, &first.Publication)
	requireCode(t, failure.PublishNotReady, err)
	assert.ErrorContains(t, err, "SSM has not accepted")

	for range 3 {
		err = w.attempt(secondRecords, &second.Publication)
		requireCode(t, failure.PublishNotReady, err)
		assert.ErrorContains(t, err, "the execution arn:first has been publishing recipe debian since "+first.Now.UTC().Format(time.RFC3339))
	}
	assert.Nil(t, secondRecords.raw, "it has not begun: there is nothing to give back")

	w.pass(10 * time.Second)
	w.settle(w.publisher(firstRecords), first.Publication)
	assert.Equal(t, first.images(), w.pointers(), "the second has not disturbed the first")
	moved := w.settle(w.publisher(secondRecords), second.Publication)
	assert.Equal(t, second.images(), w.pointers())
	for _, ptr := range moved {
		assert.Equal(t, first.images()[ptr.Region], ptr.Previous, "it would give back what the first has published")
	}
	assert.Equal(t, release.Hold{}, w.holds["debian"])
}

func TestAPublicationThatFailsLetsTheNextBegin(t *testing.T) {
	w := newWorld(t)
	before := w.publish("before")
	first, second := w.bake("first"), publication{w.bake("second")}
	w.fail(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: home, Code: "ParameterLimitExceeded", Status: 400})
	err := w.attempt(&memory{}, &first)
	requireCode(t, failure.PublishFailed, err)
	w.pass(10 * time.Second)
	require.Equal(t, before, w.pointers())
	w.settle(w.publisher(&memory{}), second.Publication)
	assert.Equal(t, second.images(), w.pointers())
}

func TestUndoLetsTheNextBegin(t *testing.T) {
	w := newWorld(t)
	w.publish("before")
	first, second := w.bake("first"), publication{w.bake("second")}
	records := &memory{}
	err := w.attempt(records, &first)
	requireCode(t, failure.PublishNotReady, err)
	w.pass(10 * time.Second)
	_, err = w.undo(records).Run(t.Context(), first)
	require.NoError(t, err)
	w.settle(w.publisher(&memory{}), second.Publication)
	assert.Equal(t, second.images(), w.pointers())
}

func TestTheHoldOfAnExecutionThatDiedRunsOut(t *testing.T) {
	w := newWorld(t)
	w.publish("before")
	first, second := w.bake("first"), publication{w.bake("second")}
	err := w.attempt(&memory{}, &first)
	requireCode(t, failure.PublishNotReady, err)
	w.pass(release.HoldTime - time.Second)
	err = w.attempt(&memory{}, &second.Publication)
	requireCode(t, failure.PublishNotReady, err)
	assert.ErrorContains(t, err, "or until "+first.Now.Add(release.HoldTime).UTC().Format(time.RFC3339)+" if that execution has died")
	w.pass(time.Second)
	w.settle(w.publisher(&memory{}), second.Publication)
	assert.Equal(t, second.images(), w.pointers())
}

func TestOtherRecipesDoNotWait(t *testing.T) {
	w := newWorld(t)
	first := w.bake("first")
	err := w.attempt(&memory{}, &first)
	requireCode(t, failure.PublishNotReady, err)
	w.recipe.Name, w.recipe.Pointers.Parameters = "other", []string{"/ami-factory/other/latest"}
	w.settle(w.publisher(&memory{}), w.bake("second"))
}

func TestAnExecutionThatCannotBeginHoldsBackNobody(t *testing.T) {
	for sentence, c := range map[string]struct {
		change func(*world, *release.Publication)
		code   failure.Code
	}{
		"a copy is not what was verified": {func(_ *world, p *release.Publication) {
			p.Targets[home] = release.Target{ImageID: p.Targets[home].ImageID, SnapshotIDs: []string{"snap-0"}}
		}, failure.PublishFailed},
		"a pointer cannot be read": {func(w *world, _ *release.Publication) {
			w.fail(fault.Rule{Service: "ssm", Operation: "GetParameter", Region: remote, Code: "AccessDeniedException", Status: 400})
		}, failure.AccessDenied},
		"AWS throttles while it prepares": {func(w *world, _ *release.Publication) {
			w.fail(fault.Rule{Service: "ssm", Operation: "GetParameter", Region: remote, Code: "ThrottlingException", Status: 400})
		}, failure.Throttled},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			w.publish("before")
			first, second := publication{w.bake("first")}, w.bake("second")
			c.change(w, &first.Publication)
			err := w.attempt(&memory{}, &first.Publication)
			requireCode(t, c.code, err)
			assert.Equal(t, release.Hold{}, w.holds["debian"])
			w.settle(w.publisher(&memory{}), second)
		})
	}
}

// TestTheHoldIsTakenBeforeTheCopiesAreVerified: else the pointers could move on to what
// changed while this execution waited for another.
func TestTheHoldIsTakenBeforeTheCopiesAreVerified(t *testing.T) {
	w := newWorld(t)
	w.publish("before")
	first, second := publication{w.bake("first")}, publication{w.bake("second")}
	err := w.attempt(&memory{}, &first.Publication)
	requireCode(t, failure.PublishNotReady, err)
	w.fail(fault.Rule{Service: "ec2", Operation: "DescribeImages", Times: -1, Code: "UnauthorizedOperation", Status: 403})
	err = w.attempt(&memory{}, &second.Publication)
	requireCode(t, failure.PublishNotReady, err)
	assert.ErrorContains(t, err, "the execution arn:first has been publishing recipe debian")
}

func TestCleanUpDropsAHoldThatServesNothing(t *testing.T) {
	hold := func(w *world, p release.Publication) {
		w.holds["debian"] = release.Hold{Execution: p.Of.Execution, Since: p.Now, Until: p.Now.Add(time.Hour)}
	}
	for sentence, prepare := range map[string]func(*world, *publication, *memory){
		"no pointer was moved": func(*world, *publication, *memory) {},
		"the pointers were given back": func(w *world, p *publication, r *memory) {
			w.fail(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: home, Code: "ParameterLimitExceeded", Status: 400})
			requireCode(w.t, failure.PublishFailed, w.attempt(r, &p.Publication))
			w.pass(10 * time.Second)
		},
		"the image is published": func(w *world, p *publication, r *memory) { w.settle(w.publisher(r), p.Publication) },
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			w.publish("before")
			p, records := publication{w.bake("first")}, &memory{}
			prepare(w, &p, records)
			hold(w, p.Publication)
			_, err := w.undo(records).Run(t.Context(), p.Publication)
			require.NoError(t, err)
			assert.Equal(t, release.Hold{}, w.holds["debian"])
		})
	}
}

func TestCleanUpThatIsTriedAgainKeepsItsHold(t *testing.T) {
	w := newWorld(t)
	w.publish("before")
	p, records := publication{w.bake("first")}, &memory{}
	requireCode(t, failure.PublishNotReady, w.attempt(records, &p.Publication))
	w.pass(release.HoldTime - time.Second)
	w.fail(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: remote, Times: 1, Code: "ThrottlingException", Status: 400})
	p.Now = w.clock.Now()
	u, err := w.undo(records).Run(t.Context(), p.Publication)
	require.NoError(t, err)
	require.NotEmpty(t, u.Refused)
	assert.Equal(t, p.Now.Add(release.HoldTime), w.holds["debian"].Until)
}

func TestCleanUpLeavesTheHoldOfAnother(t *testing.T) {
	w := newWorld(t)
	p := w.bake("first")
	other := release.Hold{Execution: "arn:other", Since: start, Until: start.Add(365 * day)}
	w.holds["debian"] = other
	_, err := w.undo(&memory{}).Run(t.Context(), p)
	require.NoError(t, err)
	assert.Equal(t, other, w.holds["debian"])
}

// TestAHoldOutlivesTheWaitForTheNextAttempt reads from the machine how late an attempt
// of an execution that lives may follow another.
func TestAHoldOutlivesTheWaitForTheNextAttempt(t *testing.T) {
	found := 0
	for _, s := range workflow.Definition().States {
		if s.Name != contract.StatePublish && s.Name != contract.StateCleanup {
			continue
		}
		found++
		delay := 0.0
		for _, r := range s.Retry {
			longest := float64(r.IntervalSeconds)
			for range r.MaxAttempts - 1 {
				longest *= r.BackoffRate
			}
			if r.MaxDelaySeconds > 0 {
				longest = min(longest, float64(r.MaxDelaySeconds))
			}
			delay = max(delay, longest)
		}
		assert.Less(t, time.Duration(s.TimeoutSeconds.(int))*time.Second+time.Duration(delay*float64(time.Second)), release.HoldTime, s.Name)
	}
	assert.Equal(t, 2, found)
}
