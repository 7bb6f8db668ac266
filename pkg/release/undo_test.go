package release_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/release"
)

func (w *world) undo(r release.Records) release.Undo {
	return release.Undo{
		Records: r, Holds: w.holds,
		Images: func(region string) ec2.DescribeImagesAPIClient { return w.ec2(region) },
		SSM:    func(account, region string) release.ParameterAPI { return w.ssm(account, region) },
	}
}

func TestUndoBeforeThePublicationBegan(t *testing.T) {
	w := newWorld(t)
	u, err := w.undo(&memory{}).Run(t.Context(), w.bake("first"))
	require.NoError(t, err)
	assert.Equal(t, release.Undone{}, u)
}

func TestUndoGivesBackWhatWasHalfMoved(t *testing.T) {
	w := newWorld(t)
	first, p := w.publish("first"), w.bake("second")
	records := &memory{}
	_, err := w.publisher(records).Publish(t.Context(), p)
	requireCode(t, failure.PublishNotReady, err)
	w.pass(10 * time.Second)
	require.NotEqual(t, first, w.pointers())

	u, err := w.undo(records).Run(t.Context(), p)
	require.NoError(t, err)
	assert.True(t, u.Restored)
	assert.Len(t, u.GivenBack, 2)
	assert.Empty(t, u.Refused)
	w.pass(10 * time.Second)
	assert.Equal(t, first, w.pointers())

	u, err = w.undo(records).Run(t.Context(), p)
	require.NoError(t, err)
	assert.Equal(t, release.Undone{Restored: true}, u, "a second call finds it done")
}

func TestUndoLeavesWhatSomebodyElseMovedMeanwhile(t *testing.T) {
	w := newWorld(t)
	oldest := w.publish("oldest")
	w.publish("first")
	p, records := w.bake("second"), &memory{}
	_, err := w.publisher(records).Publish(t.Context(), p)
	requireCode(t, failure.PublishNotReady, err)
	w.pass(10 * time.Second)
	w.setByHand(home, oldest[home])
	_, err = w.undo(records).Run(t.Context(), p)
	require.NoError(t, err)
	assert.Equal(t, oldest[home], w.pointer("", home))
}

func TestUndoKeepsWhatWasPublished(t *testing.T) {
	w := newWorld(t)
	p, records := w.bake("first"), &memory{}
	w.settle(w.publisher(records), p)
	u, err := w.undo(records).Run(t.Context(), p)
	require.NoError(t, err)
	assert.Equal(t, release.Undone{Published: w.pointers()}, u)
}

func TestUndoReportsThePointersThatRefuse(t *testing.T) {
	w := newWorld(t)
	w.publish("first")
	p, records := w.bake("second"), &memory{}
	_, err := w.publisher(records).Publish(t.Context(), p)
	requireCode(t, failure.PublishNotReady, err)
	w.pass(10 * time.Second)
	w.fail(fault.Rule{Service: "ssm", Operation: "PutParameter", Region: remote, Times: -1, Code: "AccessDeniedException", Status: 400})
	u, err := w.undo(records).Run(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, u.Refused, 1)
	assert.Equal(t, remote, u.Refused[0].Pointer.Region)
	assert.ErrorContains(t, u.Refused[0].Err, "AccessDeniedException")
	assert.Contains(t, u.Named, p.Targets[remote].ImageID)
	assert.False(t, u.Restored)
	assert.Contains(t, string(records.raw), `"state": "moving"`, "another attempt still finds what to give back")
}

func TestAJournalThatIsNotThisPublicationsDecidesNothing(t *testing.T) {
	for sentence, c := range map[string]struct {
		change func(*world, *release.Journal)
		says   string
	}{
		"of another execution":                       {func(_ *world, j *release.Journal) { j.Of.Execution = "arn:other" }, `its execution is "arn:other"`},
		"of an earlier execution with the same name": {func(_ *world, j *release.Journal) { j.Of.Started, j.Started = start, start }, "before the execution"},
		"of another plan":                            {func(_ *world, j *release.Journal) { j.Of.PlanSHA256 = "0" }, "its plan is"},
		"in an unknown state":                        {func(_ *world, j *release.Journal) { j.State = "done" }, `its state is "done"`},
		"of another recipe":                          {func(_ *world, j *release.Journal) { j.Recipe = "other" }, `it is of recipe "other"`},
		"without the image of a region":              {func(_ *world, j *release.Journal) { delete(j.Images, remote) }, "no image of " + remote},
		"with another parameter":                     {func(_ *world, j *release.Journal) { j.Pointers[0].Parameter = "/other" }, "/other"},
		"with an image to go back to that was never published": {func(w *world, j *release.Journal) {
			_, err := w.ec2(home).DeleteTags(w.t.Context(), &ec2.DeleteTagsInput{Resources: []string{j.Pointers[1].Previous}, Tags: []types.Tag{{Key: aws.String(contract.TagPublished)}}})
			require.NoError(w.t, err)
		}, "was never published"},
		"with a foreign image to go back to": {func(w *world, j *release.Journal) { j.Pointers[1].Previous = w.base }, "is no image of this factory"},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			w.pass(day)
			first := w.publish("first")
			p, records := w.bake("second"), &memory{}
			_, err := w.publisher(records).Publish(t.Context(), p)
			requireCode(t, failure.PublishNotReady, err)
			w.pass(10 * time.Second)
			moved := w.pointers()
			require.NotEqual(t, first, moved)
			var j release.Journal
			require.NoError(t, json.Unmarshal(records.raw, &j))
			c.change(w, &j)
			records.raw, err = json.Marshal(j)
			require.NoError(t, err)

			_, err = w.undo(records).Run(t.Context(), p)
			requireCode(t, failure.RecordMismatch, err)
			assert.ErrorContains(t, err, c.says)
			_, err = w.publisher(records).Publish(t.Context(), p)
			requireCode(t, failure.RecordMismatch, err)
			assert.Equal(t, moved, w.pointers())
		})
	}
	t.Run("that is no JSON", func(t *testing.T) {
		w := newWorld(t)
		_, err := w.undo(&memory{raw: []byte("committed")}).Run(t.Context(), w.bake("first"))
		requireCode(t, failure.RecordMismatch, err)
	})
}

func TestACommittedJournalIsBelievedOnlyIfThePointersNameTheImages(t *testing.T) {
	w := newWorld(t)
	first, p, records := w.publish("first"), w.bake("second"), &memory{}
	w.settle(w.publisher(records), p)
	w.setByHand(home, first[home])
	_, err := w.publisher(records).Publish(t.Context(), p)
	requireCode(t, failure.RecordMismatch, err)
	assert.ErrorContains(t, err, "it says that all pointers are moved, but "+home+":"+latest+" names")
}
