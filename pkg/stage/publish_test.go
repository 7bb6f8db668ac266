package stage

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
)

// world is both regions, with the image in each, shared as the plan says.
type world struct {
	s3  *fakeS3
	ec2 map[string]*fakeEC2
	ssm map[string]*fakeSSM
	in  PublishInput
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{s3: newS3(t), ec2: map[string]*fakeEC2{}, ssm: map[string]*fakeSSM{}}
	for region, id := range map[string]string{home: "ami-new", remote: "ami-copy"} {
		e := newEC2(region)
		e.images, e.snapshots = []types.Image{image(id, "run", false)}, []types.Snapshot{snapshot("snap-"+id, "run")}
		e.audience[id] = []types.LaunchPermission{{UserId: aws.String("210987654321")}}
		w.ec2[region], w.ssm[region] = e, newSSM()
		w.ssm[region].parameters["/p/latest"] = "ami-old"
		e.older = []types.Image{image("ami-old", "earlier", true)}
		w.in.Copies = append(w.in.Copies, ShareOutput{Region: region, ImageID: id, SnapshotIDs: []string{"snap-" + id}})
	}
	w.plan(t, testPlan())
	return w
}

// plan has the world publish what a plan says, with results that let it pass.
func (w *world) plan(t *testing.T, p plan.BuildPlan) {
	t.Helper()
	w.in.Job = job(t, w.s3, "Publish", p)
	w.results(t, passed(w.in.Job, p, "ami-new"))
}

// results stores what the checks are to have said.
func (w *world) results(t *testing.T, r any) {
	t.Helper()
	var err error
	w.in.Results, err = w.s3.store().PutJSON(t.Context(), complianceKey(w.in.Execution), r)
	require.NoError(t, err)
}

func (w *world) publish(t *testing.T) (PublishOutput, error) {
	t.Helper()
	return Publish{
		Store: w.s3.store(), Evidence: genuine{},
		EC2: func(r string) PublishEC2 { return w.ec2[r] },
		SSM: func(account, r string) release.ParameterAPI { return w.ssm[account+r] },
	}.Run(t.Context(), w.in)
}

func (w *world) cleanup(t *testing.T, in CleanupInput) (CleanupOutput, error) {
	t.Helper()
	return Cleanup{
		Settings: Settings{Region: home}, Store: w.s3.store(), Keys: w.s3.directory(),
		EC2: func(r string) CleanupEC2 { return w.ec2[r] },
		SSM: func(account, r string) release.ParameterAPI { return w.ssm[account+r] },
	}.Run(t.Context(), in)
}

func (w *world) pointers() [2]string {
	return [2]string{w.ssm[home].parameters["/p/latest"], w.ssm[remote].parameters["/p/latest"]}
}

func TestPublishMovesAllPointers(t *testing.T) {
	w := newWorld(t)
	out, err := w.publish(t)
	require.NoError(t, err)
	assert.Equal(t, PublishOutput{
		Images:   map[string]string{home: "ami-new", remote: "ami-copy"},
		Pointers: []string{remote + ":/p/latest", home + ":/p/latest"},
	}, out)
	assert.Equal(t, [2]string{"ami-new", "ami-copy"}, w.pointers())
	for _, e := range w.ec2 {
		assert.True(t, ami.IsPublished(e.images[0]))
		assert.NotEmpty(t, ami.TagValue(e.snapshots[0].Tags, contract.TagPublished))
		assert.Equal(t, "2026-05-30T12:00:00Z", ami.TagValue(e.images[0].Tags, contract.TagExpires), "no janitor comes before the deprecation")
	}

	again, err := w.publish(t)
	require.NoError(t, err, "a repeated call finds everything done")
	assert.Equal(t, out, again)
	assert.Len(t, w.ssm[home].puts, 1)

	clean, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Published"})
	require.NoError(t, err)
	assert.Equal(t, CleanupOutput{Removed: []string{}, Left: []string{}}, clean)
	assert.Equal(t, []string{"ami-new"}, w.ec2[home].imageIDs())
}

func TestCleanupKeepsAPublishedImageWhoseTagDoesNotShowYet(t *testing.T) {
	w := newWorld(t)
	_, err := w.publish(t)
	require.NoError(t, err)
	for _, e := range w.ec2 { // what a late endpoint of EC2 says
		e.images[0].Tags = slices.DeleteFunc(e.images[0].Tags, func(tag types.Tag) bool { return *tag.Key == contract.TagPublished })
	}
	clean, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Published"})
	require.NoError(t, err)
	assert.Equal(t, CleanupOutput{Removed: []string{}, Left: []string{}}, clean)
	assert.Equal(t, []string{"ami-new"}, w.ec2[home].imageIDs())
	assert.Equal(t, []string{"ami-copy"}, w.ec2[remote].imageIDs())
}

func TestFirstPublishMakesThePointers(t *testing.T) {
	w := newWorld(t)
	delete(w.ssm[home].parameters, "/p/latest")
	_, err := w.publish(t)
	require.NoError(t, err)
	assert.Equal(t, [2]string{"ami-new", "ami-copy"}, w.pointers())
}

func TestNoPointerMovesBeforeAllCopiesAreVerified(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		want   failure.Code
		tells  string
	}{
		"a copy is missing":   {func(w *world) { w.in.Copies = w.in.Copies[:1] }, failure.InvalidInput, "missing"},
		"a copy is gone":      {func(w *world) { w.ec2[remote].images = nil }, failure.PublishFailed, "is gone"},
		"a copy was disabled": {func(w *world) { w.ec2[remote].images[0].State = types.ImageStateDisabled }, failure.PublishFailed, "disabled"},
		"a snapshot was swapped": {func(w *world) {
			w.ec2[remote].images[0].BlockDeviceMappings[0].Ebs.SnapshotId = aws.String("snap-evil")
		}, failure.PublishFailed, "snap-evil"},
		"a copy was made public": {func(w *world) {
			w.ec2[remote].audience["ami-copy"] = append(w.ec2[remote].audience["ami-copy"], types.LaunchPermission{Group: types.PermissionGroupAll})
		}, failure.PublishFailed, "everyone (public)"},
		"an account lost its permission":   {func(w *world) { w.ec2[home].audience = nil }, failure.PublishFailed, "not shared with 210987654321"},
		"a tag was changed":                {func(w *world) { w.ec2[home].images[0].Tags = tagged("x", "other", false) }, failure.PublishFailed, contract.TagExecution},
		"IMDSv1 is possible again":         {func(w *world) { w.ec2[home].images[0].ImdsSupport = "" }, failure.PublishFailed, "IMDSv2"},
		"the results were altered":         {func(w *world) { w.s3.put("executions/run/compliance.json", []byte("[]")) }, failure.InvalidInput, "without its compliance results"},
		"EC2 throttles the verification":   {func(w *world) { w.ec2[remote].faults["DescribeImages"] = []error{awsErr("RequestLimitExceeded")} }, failure.Throttled, ""},
		"the permissions cannot be read":   {func(w *world) { w.ec2[remote].faults["DescribeImageAttribute"] = []error{awsErr("InvalidRequest")} }, failure.PublishFailed, ""},
		"a pointer cannot be read":         {func(w *world) { w.ssm[remote].faults["GetParameter"] = []error{awsErr("AccessDeniedException")} }, failure.AccessDenied, "no pointer was moved"},
		"the intention cannot be recorded": {func(w *world) { w.s3.faults["PutObject"] = []error{awsErr("AccessDenied")} }, failure.AccessDenied, "publishing/debian.json"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			_, err := w.publish(t)
			requireCode(t, c.want, err)
			assert.Contains(t, err.Error(), c.tells)
			assert.Equal(t, [2]string{"ami-old", "ami-old"}, w.pointers())
			assert.Empty(t, append(w.ssm[home].puts, w.ssm[remote].puts...))
		})
	}
}

func TestPointersAreGivenBack(t *testing.T) {
	later := func(w *world) { w.in.Now = w.in.Now.Add(2 * time.Minute) }
	for name, c := range map[string]struct {
		change func(*world)
		first  failure.Code // of a first attempt, if there is one
		then   func(*world) // between the attempts
		tells  string
	}{
		"one cannot be written":  {change: func(w *world) { w.ssm[home].faults["PutParameter"] = []error{awsErr("ParameterLimitExceeded")} }, tells: "ParameterLimitExceeded"},
		"one may not be written": {change: func(w *world) { w.ssm[home].faults["PutParameter"] = []error{awsErr("AccessDeniedException")} }, tells: "previous values again"},
		"SSM never accepts one":  {change: func(w *world) { w.ssm[home].lag = true }, first: failure.PublishNotReady, then: func(w *world) { w.in.Now = w.in.Now.Add(6 * time.Minute) }, tells: "within 5m0s"},
		"SSM throttles for too long": {change: func(w *world) {
			w.ssm[home].faults["PutParameter"] = []error{awsErr("ThrottlingException"), awsErr("ThrottlingException"), nil}
		}, first: failure.Throttled, then: later},
		"an image cannot be marked":            {change: func(w *world) { w.ec2[home].faults["CreateTags"] = []error{awsErr("UnauthorizedOperation")} }, tells: "mark image ami-new"},
		"an image cannot be marked in the end": {change: func(w *world) { w.ec2[home].faults["CreateTags"] = []error{awsErr("RequestLimitExceeded")} }, first: failure.Throttled, then: later},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			if c.first != "" {
				_, err := w.publish(t)
				requireCode(t, c.first, err)
				c.then(w)
			}
			_, err := w.publish(t)
			requireCode(t, failure.PublishFailed, err)
			assert.Contains(t, err.Error(), c.tells)
			assert.Equal(t, [2]string{"ami-old", "ami-old"}, w.pointers())

			_, err = w.publish(t)
			requireCode(t, failure.PublishFailed, err)
			assert.Contains(t, err.Error(), "earlier attempt")
			assert.Equal(t, [2]string{"ami-old", "ami-old"}, w.pointers())
		})
	}
}

func TestPointerThatDidNotExistIsDeletedAgain(t *testing.T) {
	w := newWorld(t)
	delete(w.ssm[remote].parameters, "/p/latest") // the first to be written
	w.ssm[home].faults["PutParameter"] = []error{awsErr("ParameterLimitExceeded"), nil}
	_, err := w.publish(t)
	requireCode(t, failure.PublishFailed, err)
	assert.NotContains(t, w.ssm[remote].parameters, "/p/latest")
}

func TestSecondAttemptGoesOnWhereTheFirstStopped(t *testing.T) {
	w := newWorld(t)
	w.ssm[home].faults["PutParameter"] = []error{awsErr("ThrottlingException"), nil}
	_, err := w.publish(t)
	requireCode(t, failure.Throttled, err)
	assert.Equal(t, [2]string{"ami-old", "ami-copy"}, w.pointers(), "regions are in order of their names")
	_, err = w.publish(t)
	require.NoError(t, err)
	assert.Equal(t, [2]string{"ami-new", "ami-copy"}, w.pointers())
	assert.Len(t, w.ssm[remote].puts, 1)
}

func TestPointerThatIsBeingValidatedIsNotWrittenAgain(t *testing.T) {
	w := newWorld(t)
	w.ssm[home].lag = true
	for range 3 {
		_, err := w.publish(t)
		requireCode(t, failure.PublishNotReady, err)
		w.in.Now = w.in.Now.Add(time.Minute)
	}
	assert.Len(t, w.ssm[home].puts, 1)
	w.ssm[home].parameters["/p/latest"] = "ami-new"
	_, err := w.publish(t)
	require.NoError(t, err)
}

// inTarget lets the plan keep its pointers in another account as well.
func (w *world) inTarget(t *testing.T) {
	t.Helper()
	p := testPlan()
	p.Recipe.Pointers.Accounts = []string{target}
	w.plan(t, p)
	for _, region := range []string{home, remote} {
		w.ssm[target+region] = newSSM()
		w.ssm[target+region].parameters["/p/latest"] = "ami-old"
	}
}

const target = "210987654321"

func TestPointersOfAnotherAccountMoveWithTheFactorysOwn(t *testing.T) {
	w := newWorld(t)
	w.inTarget(t)
	out, err := w.publish(t)
	require.NoError(t, err)
	assert.Equal(t, []string{target + ":" + remote + ":/p/latest", target + ":" + home + ":/p/latest", remote + ":/p/latest", home + ":/p/latest"}, out.Pointers)
	assert.Equal(t, "ami-new", w.ssm[target+home].parameters["/p/latest"])
	assert.Equal(t, "ami-copy", w.ssm[target+remote].parameters["/p/latest"])
}

func TestWhenAnotherAccountRefusesNoPointerStaysMoved(t *testing.T) {
	w := newWorld(t)
	w.inTarget(t)
	w.ssm[target+home].faults["PutParameter"] = []error{awsErr("AccessDeniedException")}
	_, err := w.publish(t)
	requireCode(t, failure.PublishFailed, err)
	assert.Contains(t, err.Error(), target+":"+home+":/p/latest")
	for place, api := range w.ssm {
		assert.Equal(t, "ami-old", api.parameters["/p/latest"], place)
	}
	assert.NotContains(t, w.ssm[home].puts, "/p/latest=ami-new", "who refuses is asked before anybody at home follows")
}

// other is a second account that gets pointers.
const other = "444455556666"

func TestCleanupTriesAgainWhereOneAccountRefusesAndAnotherIsBusy(t *testing.T) {
	w := newWorld(t)
	p := testPlan()
	p.Recipe.Pointers.Accounts = []string{target, other}
	w.plan(t, p)
	for _, place := range []string{target + home, target + remote, other + home, other + remote} {
		w.ssm[place] = newSSM()
		w.ssm[place].parameters["/p/latest"] = "ami-old"
	}
	w.ssm[home].lag = true // all others are moved
	_, err := w.publish(t)
	requireCode(t, failure.PublishNotReady, err)
	w.ssm[home].lag = false
	w.ssm[target+home].faults["GetParameter"] = []error{awsErr("AccessDenied")} // its trust is withdrawn
	w.ssm[other+home].faults["GetParameter"] = []error{awsErr("ThrottlingException"), awsErr("ThrottlingException"), nil}

	out, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
	requireCode(t, failure.CleanupIncomplete, err)
	require.Len(t, out.Left, 3, "two pointers, and the image that they may name")

	out, err = w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
	require.NoError(t, err, "no further attempt would do better")
	assert.Equal(t, []string{
		home + ":ami-new: a pointer may still name it",
		"pointer " + target + ":" + home + ":/p/latest, which was ami-old: api error AccessDenied: said AWS",
	}, out.Left)
	for place, api := range w.ssm {
		if place != target+home {
			assert.Equal(t, "ami-old", api.parameters["/p/latest"], place)
		}
	}
	assert.Contains(t, string(w.s3.get(journalKey(w.in.Execution))), `"state": "moving"`, "what is to be given back is still written down")
}

func TestAnImageThatOnlyAnotherAccountsPointerNamesIsNotRetired(t *testing.T) {
	w := newWorld(t)
	w.inTarget(t)
	for _, e := range w.ec2 {
		e.images[0].Tags = overlay(tagged(*e.images[0].ImageId, "run", true), ami.PublishedTags(start.AddDate(0, -1, 0), start))
		e.images = append(e.images, aged("ami-old", start.AddDate(0, -2, 0)))
		e.snapshots = append(e.snapshots, snapshot("snap-ami-old", "earlier"))
	}
	w.ssm[home].parameters["/p/latest"], w.ssm[remote].parameters["/p/latest"] = "ami-new", "ami-copy"
	w.ssm[target+remote].parameters["/p/latest"] = "ami-copy"
	out, err := retire(t, w)
	require.NoError(t, err)
	assert.Equal(t, []string{remote + ":ami-old"}, out.Retired)
	assert.Contains(t, w.ec2[home].imageIDs(), "ami-old")
	assert.NotContains(t, w.ec2[remote].imageIDs(), "ami-old")
}

func TestCleanupGivesPointersOfAnotherAccountBack(t *testing.T) {
	w := newWorld(t)
	w.inTarget(t)
	w.ssm[target+home].lag = true // a publication that was killed while it waited
	_, err := w.publish(t)
	requireCode(t, failure.PublishNotReady, err)
	require.Equal(t, "ami-copy", w.ssm[target+remote].parameters["/p/latest"])
	w.ssm[target+home].lag = false
	out, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
	require.NoError(t, err)
	assert.Contains(t, out.Removed, "pointer "+target+":"+remote+":/p/latest to ami-copy")
	for place, api := range w.ssm {
		assert.Equal(t, "ami-old", api.parameters["/p/latest"], place)
	}
}
