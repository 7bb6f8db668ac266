package stage

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/release"
)

// journal is what Publish of the world's execution writes first.
func (w *world) journal() release.Journal {
	return release.Journal{
		Of: bindingOf(w.in.Job, testPlan()), State: release.Committed, Started: w.in.Now, Recipe: "debian",
		Images: map[string]string{home: "ami-new", remote: "ami-copy"},
		Pointers: []release.Pointer{
			{Region: remote, Parameter: "/p/latest", ImageID: "ami-copy", Previous: "ami-old"},
			{Region: home, Parameter: "/p/latest", ImageID: "ami-new", Previous: "ami-old"},
		},
	}
}

// foreign is a public image of somebody else.
func foreign(id string) types.Image {
	i := image(id, "", false)
	i.OwnerId, i.Tags = aws.String(debian), nil
	return i
}

func TestAJournalThatThisExecutionDidNotWriteDecidesNothing(t *testing.T) {
	yearAgo := start.AddDate(-1, 0, 0)
	for name, c := range map[string]struct {
		change func(*world, *release.Journal)
		tells  string
	}{
		"of an earlier execution of the same name, committed": {func(_ *world, j *release.Journal) { j.Of.Started, j.Started = yearAgo, yearAgo }, "started at 2025-03-01"},
		"of an earlier execution of the same name, restored": {func(_ *world, j *release.Journal) {
			j.Of.Started, j.Started, j.State = yearAgo, yearAgo, release.Restored
		}, "started at 2025-03-01"},
		"of an earlier execution of the same name, half moved": {func(_ *world, j *release.Journal) {
			j.Of.Started, j.Started, j.State = yearAgo, yearAgo, release.Moving
		}, "started at 2025-03-01"},
		"of another execution":                  {func(_ *world, j *release.Journal) { j.Of.Execution = "arn:other" }, `its execution is "arn:other"`},
		"of another plan":                       {func(_ *world, j *release.Journal) { j.Of.PlanSHA256 = "0" }, "its plan is"},
		"of another fingerprint":                {func(_ *world, j *release.Journal) { j.Of.Fingerprint = "0" }, "its fingerprint is"},
		"without any binding, as it used to be": {func(_ *world, j *release.Journal) { j.Of = compliance.Binding{} }, `its execution is ""`},
		"of another recipe":                     {func(_ *world, j *release.Journal) { j.Recipe = "other" }, `recipe "other"`},
		"in a state that there is not":          {func(_ *world, j *release.Journal) { j.State = "done" }, `state is "done"`},
		"with an image less":                    {func(_ *world, j *release.Journal) { delete(j.Images, remote) }, "no image of " + remote},
		"with a pointer that the plan lacks":    {func(_ *world, j *release.Journal) { j.Pointers[1].Parameter = "/other" }, "/other"},
		"with a pointer less":                   {func(_ *world, j *release.Journal) { j.Pointers = j.Pointers[:1] }, "the plan's are"},
		"with a pointer in an account":          {func(_ *world, j *release.Journal) { j.Pointers[0].Account = target }, target},
		"with a pointer to another image":       {func(_ *world, j *release.Journal) { j.Pointers[1].ImageID = "ami-evil" }, "ami-evil"},
		"whose previous value is somebody else's": {func(w *world, j *release.Journal) {
			w.ec2[home].older = append(w.ec2[home].older, foreign("ami-evil"))
			j.Pointers[1].Previous, j.State = "ami-evil", release.Moving
		}, "is no image of this factory (its owner is " + debian + ")"},
		"whose previous value is another recipe's": {func(w *world, j *release.Journal) {
			other := image("ami-other", "earlier", true)
			other.Tags = overlay(other.Tags, []types.Tag{{Key: aws.String(contract.TagRecipe), Value: aws.String("other")}})
			w.ec2[home].older = append(w.ec2[home].older, other)
			j.Pointers[1].Previous, j.State = "ami-other", release.Moving
		}, "is an image of recipe other"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			j := w.journal()
			c.change(w, &j)
			raw, err := json.Marshal(j)
			require.NoError(t, err)
			w.s3.put(journalKey(w.in.Execution), raw)

			_, err = w.publish(t)
			requireCode(t, failure.RecordMismatch, err)
			assert.Contains(t, err.Error(), c.tells)
			out, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
			require.NoError(t, err)
			assert.Contains(t, out.Left[1], "ami-new: it is unknown whether it is published")
			assert.Equal(t, []string{"ami-new"}, w.ec2[home].imageIDs())
			assert.Equal(t, []string{"ami-copy"}, w.ec2[remote].imageIDs())
			assert.Equal(t, [2]string{"ami-old", "ami-old"}, w.pointers())
			assert.Empty(t, append(w.ssm[home].puts, w.ssm[remote].puts...))
			assert.Equal(t, raw, w.s3.get(journalKey(w.in.Execution)))
		})
	}
}

func TestAHandWrittenJournalIsRefused(t *testing.T) {
	for name, body := range map[string]string{
		"text":               "committed",
		"nothing":            "",
		"a list":             "[]",
		"a foreign image":    `{"state":"moving","recipe":"debian","images":{"eu-west-1":"ami-evil"},"pointers":[{"region":"eu-west-1","parameter":"/p/latest","imageId":"ami-evil","previous":"ami-evil"}]}`,
		"that all is done":   `{"state":"committed"}`,
		"that all is undone": `{"state":"restored"}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.s3.put(journalKey(w.in.Execution), []byte(body))
			_, err := w.publish(t)
			requireCode(t, failure.RecordMismatch, err)
			_, err = w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
			require.NoError(t, err)
			assert.Equal(t, []string{"ami-new"}, w.ec2[home].imageIDs())
			assert.Equal(t, [2]string{"ami-old", "ami-old"}, w.pointers())
		})
	}
}

func TestACommittedJournalIsBelievedOnlyIfThePointersSaySo(t *testing.T) {
	w := newWorld(t)
	raw, err := json.Marshal(w.journal())
	require.NoError(t, err)
	w.s3.put(journalKey(w.in.Execution), raw)
	_, err = w.publish(t)
	requireCode(t, failure.RecordMismatch, err)
	assert.Contains(t, err.Error(), `/p/latest names "ami-old" and not ami-`)
}

func TestResultsThatDoNotProveThisImagePublishNothing(t *testing.T) {
	p := testPlan()
	for name, c := range map[string]struct {
		change func(*world, *compliance.Report)
		body   string // in place of a report
		tells  string
	}{
		"rejected, of another image": {body: `{"verdict":"rejected","imageId":"ami-another"}`, tells: `its verdict is "rejected"`},
		"a verdict alone":            {body: `{"verdict":"passed","image_id":"ami-new"}`, tells: `its execution is ""`},
		"not JSON":                   {body: "passed", tells: "cannot be read"},
		"of another image":           {change: func(_ *world, r *compliance.Report) { r.ImageID = "ami-another" }, tells: `of image "ami-another"`},
		"of an earlier execution of the same name": {change: func(_ *world, r *compliance.Report) {
			r.Of.Started = start.AddDate(0, -4, 0)
		}, tells: "started at 2025-11-01"},
		"of another execution":   {change: func(_ *world, r *compliance.Report) { r.Of.Execution = "arn:other" }, tells: "arn:other"},
		"of another plan":        {change: func(_ *world, r *compliance.Report) { r.Of.PlanSHA256 = "0" }, tells: "its plan is"},
		"of another fingerprint": {change: func(_ *world, r *compliance.Report) { r.Of.Fingerprint = "0" }, tells: "its fingerprint is"},
		"with a lower gate":      {change: func(_ *world, r *compliance.Report) { r.Gate = "critical" }, tells: `its gate is "critical"`},
		"without a control":      {change: func(_ *world, r *compliance.Report) { r.Results = nil }, tells: "0 results of SYS-02"},
		"with a control twice":   {change: func(_ *world, r *compliance.Report) { r.Results = append(r.Results, r.Results...) }, tells: "2 results of SYS-02"},
		"with a control that is not the plan's": {change: func(_ *world, r *compliance.Report) {
			r.Results = append(r.Results, compliance.Result{ControlID: "X-01", Status: compliance.StatusPass, ImageID: "ami-new"})
		}, tells: `"X-01"`},
		"passed, with a control that failed": {change: func(_ *world, r *compliance.Report) { r.Results[0].Status = compliance.StatusFail }, tells: "SYS-02 did not pass (fail)"},
		"with a control made light of":       {change: func(_ *world, r *compliance.Report) { r.Results[0].Severity = "low" }, tells: `SYS-02 has severity "low"`},
		"with a control of another image":    {change: func(_ *world, r *compliance.Report) { r.Results[0].ImageID = "ami-another" }, tells: "SYS-02 was checked in image"},
		"at another place": {change: func(w *world, r *compliance.Report) {
			o, err := w.s3.store().PutJSON(t.Context(), "executions/other/compliance.json", r)
			require.NoError(t, err)
			w.in.Results = o
		}, tells: "executions/other/compliance.json"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.change != nil {
				r := passed(w.in.Job, p, "ami-new")
				before := w.in.Results
				c.change(w, &r)
				if w.in.Results == before {
					w.results(t, r)
				}
			} else {
				o, err := w.s3.store().Put(t.Context(), complianceKey(w.in.Execution), "application/json", []byte(c.body))
				require.NoError(t, err)
				w.in.Results = o
			}
			_, err := w.publish(t)
			requireCode(t, failure.RecordMismatch, err)
			assert.Contains(t, err.Error(), c.tells)
			assert.Equal(t, [2]string{"ami-old", "ami-old"}, w.pointers())
			assert.Nil(t, w.s3.get(journalKey(w.in.Execution)))
		})
	}
}

func TestAPointerThatNamesAForeignImageIsNotMoved(t *testing.T) {
	w := newWorld(t)
	w.ec2[home].older = append(w.ec2[home].older, foreign("ami-foreign"))
	w.ssm[home].parameters["/p/latest"] = "ami-foreign"
	_, err := w.publish(t)
	requireCode(t, failure.PointerConflict, err)
	assert.Contains(t, err.Error(), "no pointer was moved")
	assert.Equal(t, [2]string{"ami-foreign", "ami-old"}, w.pointers())
}

func TestAPointerToAnImageThatIsGoneIsMoved(t *testing.T) {
	w := newWorld(t)
	w.ssm[home].parameters["/p/latest"] = "ami-gone"
	_, err := w.publish(t)
	require.NoError(t, err)
	assert.Equal(t, [2]string{"ami-new", "ami-copy"}, w.pointers())
}

func TestCleanupSparesWhatIsTaggedPublished(t *testing.T) {
	for name, c := range map[string]struct {
		made string // of the image
		left bool   // for somebody to look at
	}{
		"by an earlier execution of the same name": {"2025-11-01T12:00:00.000Z", false},
		"by somebody, of this execution's images":  {"2026-03-01T12:30:00.000Z", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, e := range w.ec2 {
				e.images[0].Tags = tagged(*e.images[0].ImageId, "run", true)
				e.images[0].CreationDate = aws.String(c.made)
			}
			out, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
			require.NoError(t, err)
			assert.Equal(t, []string{"ami-new"}, w.ec2[home].imageIDs())
			assert.Len(t, w.ec2[home].snapshots, 1)
			assert.Empty(t, out.Removed)
			if !c.left {
				assert.Empty(t, out.Left)
				return
			}
			assert.Contains(t, out.Left, home+":ami-new: it is tagged as published, and no journal of this execution says that it is")
		})
	}
}

func TestCleanupRemovesTaggedImagesWhosePointersThisExecutionGaveBack(t *testing.T) {
	w := newWorld(t)
	w.ec2[home].faults["CreateTags"] = []error{awsErr("UnauthorizedOperation")} // the last region to be tagged, or the first
	_, err := w.publish(t)
	requireCode(t, failure.PublishFailed, err)
	w.ec2[remote].images[0].Tags = tagged("ami-copy", "run", true)
	out, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
	require.NoError(t, err)
	assert.Empty(t, out.Left)
	assert.Empty(t, w.ec2[remote].imageIDs())
}

func TestTheReportLeavesOutRecordsThatAreNotOfThisExecution(t *testing.T) {
	w := newWorld(t)
	w.s3.put(journalKey(w.in.Execution), []byte(`{"state":"committed"}`))
	r := passed(w.in.Job, testPlan(), "ami-new")
	r.Of.Started = start.Add(-time.Hour)
	w.results(t, r)
	in := NotifyInput{CleanupInput: CleanupInput{Job: w.in.Job, Outcome: "Published"}, Results: w.in.Results}
	out, err := notify(t, w.s3, &fakeTopic{}, &fakeBus{}, settings(), in)
	require.NoError(t, err, "that they are there keeps nobody from being told")
	report := readReport(t, w.s3, out.Report)
	assert.Empty(t, report.Pointers)
	assert.Nil(t, report.Compliance)
	require.Len(t, report.Logs, 2)
	assert.Contains(t, report.Logs[0].Title, "The pointers are left out: the journal of pointers s3://factory/executions/run/pointers.json does not belong to this execution")
	assert.Contains(t, report.Logs[1].Title, "The results of the checks are left out")
}

func TestAnExecutionOfAUsedNameLeavesWhatTheEarlierOnePublished(t *testing.T) {
	w := newWorld(t)
	_, err := w.publish(t)
	require.NoError(t, err)
	for _, e := range w.ec2 {
		e.images[0].CreationDate = aws.String("2025-11-01T12:00:00.000Z")
	}
	// Resolve has refused the name, so there is no plan.
	in := CleanupInput{Job: Job{Execution: w.in.Execution, State: "Cleanup", Now: w.in.Now}, Outcome: "Failed"}
	out, err := w.cleanup(t, in)
	require.NoError(t, err)
	assert.Empty(t, append(out.Removed, out.Left...), "it ends clean")
	assert.Equal(t, []string{"ami-new"}, w.ec2[home].imageIDs())
	assert.Len(t, w.ec2[home].snapshots, 1)
}

func TestANameIsOneExecutions(t *testing.T) {
	s := newS3(t)
	e := Execution{ID: "arn:run", Name: "run", StartTime: start}
	require.NoError(t, claimName(t.Context(), s.store(), e))
	require.NoError(t, claimName(t.Context(), s.store(), e), "a second attempt finds its own claim")
	before := s.get(contract.ExecutionKey("run", contract.ClaimObject))
	e.StartTime = start.AddDate(0, 0, 91)
	err := claimName(t.Context(), s.store(), e)
	requireCode(t, failure.RecordMismatch, err)
	assert.Contains(t, err.Error(), "the name run is that of the execution arn:run of 2026-03-01T12:00:00Z")
	assert.Equal(t, before, s.get(contract.ExecutionKey("run", contract.ClaimObject)))
}

// An approval can take days: what let the image pass must still hold when it is published.
func TestAnImageIsNotPublishedOnAWaiverThatEndedMeanwhile(t *testing.T) {
	for sentence, tc := range map[string]struct {
		severity, expires string
		builtIn           bool
		refused           bool
	}{
		"it ended while the image waited":              {"high", start.AddDate(0, 0, -1).Format(time.DateOnly), false, true},
		"its last day is today":                        {"high", start.Format(time.DateOnly), false, false},
		"it ended, but the gate accepts the failure":   {"low", start.AddDate(0, 0, -1).Format(time.DateOnly), false, false},
		"the component gives it, so it has no end":     {"high", "", true, false},
		"its end is no date, so it is taken for ended": {"high", "soon", false, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			p := testPlan()
			p.Controls[0].Severity = tc.severity
			w.plan(t, p)
			r := passed(w.in.Job, p, "ami-new")
			r.Results[0].Severity, r.Results[0].Status = tc.severity, compliance.StatusFail
			r.Results[0].Waiver = &compliance.Waiver{Control: "SYS-02", Approver: "security@example.com", Expires: tc.expires, BuiltIn: tc.builtIn}
			w.results(t, r)
			_, err := w.publish(t)
			if !tc.refused {
				require.NoError(t, err)
				return
			}
			requireCode(t, failure.ComplianceRejected, err)
			assert.ErrorContains(t, err, "the waiver of SYS-02 expired on "+tc.expires+", after the image was judged with it")
			assert.Equal(t, [2]string{"ami-old", "ami-old"}, w.pointers())
		})
	}
}
