package trigger

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/planner/plannertest"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

// strict changes the gate of the recipe, which is no content of the image.
func (w *world) strict() {
	w.fs = plannertest.Files(plannertest.Recipe + "gate: {severity: low}\n")
}

// rejects ends an execution as the gate does that refuses an image.
func (w *world) rejects(t *testing.T, e *sfn.DescribeExecutionOutput) {
	t.Helper()
	e.Status = sfntypes.ExecutionStatusFailed
	detail, err := json.Marshal(map[string]any{"executionArn": *e.ExecutionArn, "status": e.Status, "input": *e.Input, "error": string(failure.ComplianceRejected)})
	require.NoError(t, err)
	_, err = w.send(t, contract.ExecutionChangedEvent, string(detail))
	require.NoError(t, err)
}

func (w *world) nightly(t *testing.T, at time.Time) Considered {
	t.Helper()
	out, err := w.sendAt(t, at, contract.NightlyEvent, `{}`)
	require.NoError(t, err)
	require.Len(t, out.Recipes, 1)
	return out.Recipes[0]
}

func TestARejectedReleaseIsTriedOnceAndHoldsBackNoBake(t *testing.T) {
	const day = 24 * time.Hour
	w := publishedWorld(t)
	w.strict()
	first := w.nightly(t, start)
	assert.Equal(t, decide.Start, first.Action, first.Why)
	require.Len(t, w.executions, 1)
	assert.JSONEq(t, `{"recipe":"sample"}`, *w.executions[0].Input, "the published image is released again, without a bake")
	w.rejects(t, w.executions[0])
	for n := range 5 {
		next := w.nightly(t, start.Add(time.Duration(n+1)*day))
		assert.Equal(t, decide.Skip, next.Action)
		assert.Contains(t, next.Why, "the gate rejected this release of the published image "+publishedID)
	}
	assert.Empty(t, w.messages, "it pauses nothing")

	found := w.found(t, start.Add(6*day), publishedID, "CVE-2026-0001")
	require.Len(t, found.Recipes, 1)
	assert.Equal(t, decide.Start, found.Recipes[0].Action, found.Recipes[0].Why)
	require.Len(t, w.executions, 2)
	assert.JSONEq(t, `{"recipe":"sample","force":true}`, *w.executions[1].Input, "a bake may repair it")

	w.rejects(t, w.executions[1])
	assert.Empty(t, w.messages)
	old := w.nightly(t, start.Add(40*day))
	assert.Equal(t, decide.Start, old.Action, old.Why)
	require.Len(t, w.executions, 3)
	assert.JSONEq(t, `{"recipe":"sample","force":true}`, *w.executions[2].Input)
	w.rejects(t, w.executions[2])
	assert.Equal(t, []string{"ami-factory: Paused: sample"}, w.messages, "bakes that are rejected count as before")
}

func TestAReleaseThatOthersStartedAndTheGateRejectedIsTriedByATriggerOnce(t *testing.T) {
	w := publishedWorld(t)
	w.strict()
	w.rejects(t, w.byHand("mine", `{"recipe":"sample"}`))
	assert.Equal(t, decide.Start, w.nightly(t, start).Action, "whoever may start executions holds nothing back")
	w.rejects(t, w.executions[1])
	assert.Equal(t, decide.Skip, w.nightly(t, start.Add(24*time.Hour)).Action)
}
