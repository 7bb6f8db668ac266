package release_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/release"
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
	w.pass(5*time.Minute - time.Second)
	err = w.attempt(&memory{}, &second.Publication)
	requireCode(t, failure.PublishNotReady, err)
	assert.ErrorContains(t, err, "or until "+first.Now.Add(5*time.Minute).UTC().Format(time.RFC3339)+" if that execution has died")
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
