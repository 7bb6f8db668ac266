package stage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	scaling "github.com/ami-factory/ami-factory/pkg/localcloud/autoscaling"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
)

func builderOf(execution, id string) types.Instance {
	return types.Instance{
		InstanceId: aws.String(id), State: &types.InstanceState{Name: types.InstanceStateNameStopped}, Tags: tagged(id, execution, false),
		ClientToken: aws.String(ami.LaunchToken(launchOwner(Execution{ID: "arn:" + execution, Name: execution, StartTime: start}, "s"), "t3.medium", "")),
	}
}

func TestCleanupRemovesWhatTheExecutionMadeAndNothingElse(t *testing.T) {
	w := newWorld(t)
	e := w.ec2[home]
	gone := builderOf("run", "i-gone")
	gone.State.Name = types.InstanceStateNameTerminated
	e.instances = []types.Instance{builderOf("run", "i-builder"), builderOf("other", "i-other"), gone}
	e.images = append(e.images, image("ami-other", "other", false))
	e.snapshots = append(e.snapshots, snapshot("snap-ami-other", "other"), snapshot("snap-orphan", "run"))

	in := CleanupInput{Job: w.in.Job, Outcome: "Failed", Error: "SealFailed", Cause: "why", Failed: "Seal"}
	ending := Ending{Error: "SealFailed", Cause: "why"}
	out, err := w.cleanup(t, in)
	require.NoError(t, err)
	assert.Equal(t, CleanupOutput{Ending: ending, Removed: []string{
		remote + ":ami-copy", remote + ":snap-ami-copy",
		home + ":ami-new", home + ":i-builder", home + ":snap-ami-new", home + ":snap-orphan",
	}, Left: []string{}}, out)
	assert.Equal(t, []string{"i-builder"}, e.terminated)
	assert.Equal(t, []string{"ami-other"}, e.imageIDs())
	assert.Len(t, e.snapshots, 1)

	e.instances = nil
	again, err := w.cleanup(t, in)
	require.NoError(t, err)
	assert.Equal(t, CleanupOutput{Ending: ending, Removed: []string{}, Left: []string{}}, again)
}

// EC2 may show the snapshot of a copy after the copy itself.
func TestCleanupLooksAgainForTheSnapshotOfAPendingCopy(t *testing.T) {
	w := newWorld(t)
	e := w.ec2[remote]
	late := e.snapshots[0]
	e.snapshots = nil
	e.images[0].State, e.images[0].BlockDeviceMappings = types.ImageStatePending, nil

	in := CleanupInput{Job: w.in.Job, Outcome: "Rejected", Error: "ComplianceRejected", Cause: "why", Failed: "EvaluateGate"}
	out, err := w.cleanup(t, in)
	requireCode(t, failure.CleanupIncomplete, err)
	assert.Equal(t, []string{remote + ":ami-copy: it was deregistered while it was pending, and its snapshot is not visible yet"}, out.Left)
	assert.Empty(t, e.images)

	e.snapshots = []types.Snapshot{late}
	out, err = w.cleanup(t, in)
	require.NoError(t, err)
	assert.Empty(t, out.Left)
	assert.Equal(t, []string{remote + ":snap-ami-copy"}, out.Removed)
	assert.Empty(t, e.snapshots)
}

// EC2 may not show a copy in the moment after it was started, neither by its tags nor
// by its id.
func TestCleanupLooksAgainForACopyThatEC2DoesNotShowYet(t *testing.T) {
	for sentence, tc := range map[string]struct {
		copy  StartedCopy
		after time.Duration // from its start to Cleanup
		again bool
	}{
		"that was started a moment ago":                           {StartedCopy{remote, "ami-copy", start}, time.Second, true},
		"whose function did not answer, so that it may have been": {StartedCopy{remote, "", start}, time.Second, true},
		"that was started long ago, so that it is gone":           {StartedCopy{remote, "ami-copy", start}, time.Minute, false},
		"that has been awaited already, so that it is gone":       {StartedCopy{Region: remote, ImageID: "ami-copy"}, time.Second, false},
		"that was refused": {StartedCopy{Region: remote}, time.Second, false},
		"in a region where there is no other trace of a started one":    {StartedCopy{"eu-south-1", "ami-copy", start}, time.Second, true},
		"that is the image itself, which is there, in its home region":  {StartedCopy{home, "ami-new", start}, time.Second, false},
		"that may have been started, as the function of it was stopped": {StartedCopy{remote, "", start}, time.Minute, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			e := w.ec2[remote]
			hidden, snapshots := e.images, e.snapshots
			e.images, e.snapshots = nil, nil
			w.ec2["eu-south-1"] = newEC2("eu-south-1")
			in := CleanupInput{Job: w.in.Job, Outcome: "Failed", Copies: []StartedCopy{tc.copy}}
			in.Now = start.Add(tc.after)
			out, err := w.cleanup(t, in)
			if !tc.again {
				require.NoError(t, err)
				assert.Empty(t, out.Left)
				return
			}
			requireCode(t, failure.CleanupIncomplete, err)
			require.Len(t, out.Left, 1)
			assert.Contains(t, out.Left[0], tc.copy.Region+":")
			w.ec2[tc.copy.Region].images, w.ec2[tc.copy.Region].snapshots = hidden, snapshots
			in.Now = in.Now.Add(5 * time.Second)
			out, err = w.cleanup(t, in)
			require.NoError(t, err)
			assert.Contains(t, out.Removed, tc.copy.Region+":ami-copy")
		})
	}
}

// A copy of an image that is released again may be an image that existed.
func TestCleanupFindsACopyByItsIDAndRemovesNoneOfAnotherExecution(t *testing.T) {
	for sentence, tc := range map[string]struct {
		execution string
		removed   bool
	}{"its own": {"run", true}, "another's": {"other", false}} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			e := w.ec2[remote]
			e.images, e.older = nil, []types.Image{image("ami-copy", tc.execution, false)} // which only its id finds
			out, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed", Copies: []StartedCopy{{remote, "ami-copy", w.in.Now}}})
			require.NoError(t, err)
			assert.Equal(t, tc.removed, slices.Contains(out.Removed, remote+":ami-copy"))
		})
	}
}

func TestCleanupLeavesAnInstanceThatOnlyBearsTheTags(t *testing.T) {
	w := newWorld(t)
	foreign := builderOf("run", "i-foreign")
	foreign.ClientToken = aws.String("theirs")
	copied := builderOf("run", "i-copied")
	copied.ClientToken = builderOf("other", "i").ClientToken
	w.ec2[home].instances = []types.Instance{builderOf("run", "i-builder"), foreign, copied}
	out, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
	require.NoError(t, err)
	assert.Equal(t, []string{"i-builder"}, w.ec2[home].terminated)
	assert.Equal(t, []string{
		home + ":i-copied: it bears the tags of this execution, but was not launched by it",
		home + ":i-foreign: it bears the tags of this execution, but was not launched by it",
	}, out.Left)
}

// People may take days to approve a release.
func TestInstancesEndBeforePeopleAreAsked(t *testing.T) {
	w := newWorld(t)
	e := w.ec2[home]
	foreign := builderOf("run", "i-foreign")
	foreign.ClientToken = aws.String("theirs")
	e.instances = []types.Instance{builderOf("run", "i-builder"), builderOf("run", "i-verifier"), builderOf("other", "i-other"), foreign}
	images, in := e.imageIDs(), CleanupInput{Job: w.in.Job, Instances: true}

	e.faults["TerminateInstances"] = []error{awsErr("UnauthorizedOperation"), nil}
	_, err := w.cleanup(t, in)
	requireCode(t, failure.CleanupIncomplete, err)
	assert.ErrorContains(t, err, "i-builder")
	assert.NotContains(t, err.Error(), "i-foreign", "the clean-up at the end reports what is not the execution's")

	e.terminated = nil
	out, err := w.cleanup(t, in)
	require.NoError(t, err)
	assert.Equal(t, CleanupOutput{Removed: []string{home + ":i-builder", home + ":i-verifier"}, Left: []string{}}, out)
	assert.Equal(t, []string{"i-builder", "i-verifier"}, e.terminated)
	assert.Equal(t, images, e.imageIDs(), "the image waits for people")
}

func TestCleanupWithoutAPlanLooksInTheHomeRegion(t *testing.T) {
	w := newWorld(t)
	w.ec2[home].instances = []types.Instance{builderOf("run", "i-builder")}
	in := CleanupInput{Job: Job{Execution: Execution{Name: "run"}}, Outcome: "Failed"}
	out, err := w.cleanup(t, in)
	require.NoError(t, err)
	assert.Contains(t, out.Removed, home+":i-builder")
	assert.Equal(t, []string{"ami-copy"}, w.ec2[remote].imageIDs(), "nothing says that there is another region")
}

func TestCleanupGivesPointersBackThatPublishLeft(t *testing.T) {
	w := newWorld(t)
	w.ssm[home].faults["PutParameter"] = []error{awsErr("ThrottlingException"), nil}
	_, err := w.publish(t)
	requireCode(t, failure.Throttled, err)
	require.Equal(t, [2]string{"ami-old", "ami-copy"}, w.pointers())

	out, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
	require.NoError(t, err)
	assert.Equal(t, [2]string{"ami-old", "ami-old"}, w.pointers())
	assert.Empty(t, out.Left)
	assert.Empty(t, w.ec2[remote].imageIDs())

	_, err = w.publish(t)
	require.Error(t, err, "a publish that comes late finds its images gone")
	assert.Equal(t, [2]string{"ami-old", "ami-old"}, w.pointers())
}

func TestCleanupTellsWhatIsLeft(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		left   string
		want   failure.Code // empty: no error
		keeps  []string     // images in the remote region
	}{
		"an instance that may not be terminated": {
			change: func(w *world) {
				w.ec2[home].instances = []types.Instance{builderOf("run", "i-b")}
				w.ec2[home].faults["TerminateInstances"] = []error{awsErr("OperationNotPermitted")}
			},
			left: home + ":i-b: api error OperationNotPermitted: said AWS",
		},
		"a region that denies": {
			change: func(w *world) { w.ec2[remote].faults["DescribeImages"] = []error{awsErr("UnauthorizedOperation")} },
			left:   "images and snapshots in " + remote, keeps: []string{"ami-copy"},
		},
		"an image that may not be deregistered": {
			change: func(w *world) { w.ec2[remote].faults["DeregisterImage"] = []error{awsErr("OperationNotPermitted")} },
			left:   remote + ":ami-copy: deregister image ami-copy", keeps: []string{"ami-copy"},
		},
		"a snapshot that stays in use for a moment": {
			change: func(w *world) { w.ec2[remote].faults["DeleteSnapshot"] = []error{awsErr("InvalidSnapshot.InUse")} },
			left:   "snap-ami-copy", want: failure.CleanupIncomplete,
		},
		"a plan that cannot be read": {
			change: func(w *world) { w.s3.put("plans/p.json", []byte("x")) },
			left:   "regions other than " + home, keeps: []string{"ami-copy"},
		},
		"images of which nothing says whether they are published": {
			change: func(w *world) { w.s3.put("executions/run/pointers.json", []byte("x")) },
			left:   remote + ":ami-copy: it is unknown whether it is published", keeps: []string{"ami-copy"},
		},
		"an image that a pointer still names": {
			change: func(w *world) {
				j := release.Journal{
					Of: bindingOf(w.in.Job, testPlan()), State: release.Moving, Started: start, Recipe: "debian", Images: map[string]string{home: "ami-new", remote: "ami-copy"},
					Pointers: []release.Pointer{
						{Region: remote, Parameter: "/p/latest", ImageID: "ami-copy", Previous: "ami-old"},
						{Region: home, Parameter: "/p/latest", ImageID: "ami-new", Previous: "ami-old"},
					},
				}
				if _, err := w.s3.store().PutJSON(t.Context(), journalKey(w.in.Execution), j); err != nil {
					panic(err)
				}
				w.ssm[remote].parameters["/p/latest"] = "ami-copy"
				w.ssm[remote].faults["PutParameter"] = []error{awsErr("AccessDeniedException")}
			},
			left: remote + ":ami-copy: a pointer may still name it", keeps: []string{"ami-copy"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			out, err := w.cleanup(t, CleanupInput{Job: w.in.Job, Outcome: "Failed"})
			if c.want == "" {
				require.NoError(t, err)
			} else {
				requireCode(t, c.want, err)
				assert.Contains(t, err.Error(), c.left)
			}
			found := ""
			for _, l := range out.Left {
				found += l + "\n"
			}
			assert.Contains(t, found, c.left)
			if !strings.Contains(found, home+":ami-new") {
				assert.Contains(t, out.Removed, home+":ami-new", "the rest is removed all the same")
			}
			assert.ElementsMatch(t, c.keeps, w.ec2[remote].imageIDs())
			if len(c.keeps) > 0 {
				assert.Len(t, w.ec2[remote].snapshots, 1, "what stays keeps its snapshots")
			}
		})
	}
}

// retired is what became of images other than those that are kept.
type retired struct{ Retired, Deprecated, Left []string }

func retire(t *testing.T, w *world) (retired, error) {
	t.Helper()
	run, err := Retire{
		Store:       w.s3.store(),
		EC2:         func(r string) RetireEC2 { return w.ec2[r] },
		AutoScaling: func(string) autoscaling.DescribeLaunchConfigurationsAPIClient { return scaling.New(scaling.Config{}) },
		SSM:         func(account, r string) release.HistoryAPI { return w.ssm[account+r] },
	}.Run(t.Context(), RetireInput{Job: w.in.Job})
	if err != nil {
		return retired{}, err
	}
	out := retired{Retired: []string{}, Deprecated: []string{}, Left: []string{}}
	decisions, err := readRetention(t.Context(), w.s3.store(), w.in.Job, w.loaded(t))
	require.NoError(t, err)
	kept := 0
	for _, d := range decisions {
		id := d.Region + ":" + d.ImageID
		switch d.Outcome {
		case release.Removed:
			out.Retired = append(out.Retired, id)
		case release.Deprecated:
			out.Deprecated = append(out.Deprecated, id+": "+d.Why)
		case release.Left:
			out.Left = append(out.Left, id+": "+d.Why)
		case release.Kept:
			kept++
		}
	}
	assert.Equal(t, []int{kept, len(out.Deprecated), len(out.Retired), len(out.Left)}, []int{run.Kept, run.Deprecated, run.Removed, run.Left})
	return out, nil
}

// loaded is the plan of the world's job.
func (w *world) loaded(t *testing.T) plan.BuildPlan {
	t.Helper()
	p, err := loadPlan(t.Context(), w.s3.store(), w.in.Job)
	require.NoError(t, err)
	return p
}

// aged is a published image of an earlier execution, deprecated a month ago.
func aged(id string, created time.Time) types.Image {
	i := image(id, "earlier", true)
	i.CreationDate = aws.String(created.Format("2006-01-02T15:04:05.000Z"))
	i.DeprecationTime = aws.String(start.AddDate(0, -1, 0).Format(time.RFC3339))
	i.Tags = overlay(i.Tags, ami.PublishedTags(created, start))
	return i
}

func TestRetire(t *testing.T) {
	old := aged("ami-old", start.AddDate(0, -2, 0))
	const id = home + ":ami-old"
	ago := func(d time.Duration) *string { return aws.String(start.Add(-d).Format("2006-01-02T15:04:05.000Z")) }
	const day = 24 * time.Hour
	runs := func(states ...types.InstanceStateName) func(*world, *types.Image) {
		return func(w *world, _ *types.Image) {
			for i, s := range states {
				w.ec2[home].instances = append(w.ec2[home].instances, types.Instance{
					InstanceId: aws.String(fmt.Sprintf("i-app%d", i)), ImageId: aws.String("ami-old"), State: &types.InstanceState{Name: s},
				})
			}
		}
	}
	superseded := func(at time.Time) func(*world, *types.Image) {
		return func(w *world, _ *types.Image) {
			w.ec2[home].images[0].Tags = overlay(w.ec2[home].images[0].Tags, ami.PublishedTags(at, start))
		}
	}
	for name, c := range map[string]struct {
		change           func(*world, *types.Image)
		unshared, shared string // why it stays; empty: it is removed
		deprecates       bool
	}{
		"an old image that nothing uses goes": {},
		"one that was superseded a moment ago is deprecated": {
			change:   func(w *world, i *types.Image) { superseded(start)(w, i); i.DeprecationTime = nil },
			unshared: "superseded on 2026-03-01 12:00 UTC; it may be removed from 2026-03-08 12:00 UTC", deprecates: true,
		},
		"one that is to be deprecated some day is deprecated": {
			change: func(w *world, i *types.Image) {
				superseded(start)(w, i)
				i.DeprecationTime = aws.String("2026-05-30T12:00:00.000Z")
			},
			unshared: "superseded on 2026-03-01 12:00 UTC; it may be removed from 2026-03-08 12:00 UTC", deprecates: true,
		},
		"one that was deprecated long before it was superseded stays": {
			change: superseded(start.Add(-7*day + time.Minute)), unshared: "superseded on 2026-02-22 12:01 UTC; it may be removed from 2026-03-01 12:01 UTC",
		},
		"one that was superseded long ago and is not deprecated yet is deprecated": {
			change:   func(_ *world, i *types.Image) { i.DeprecationTime = nil },
			unshared: "deprecated now; it may be removed from 2026-03-08 12:01 UTC", deprecates: true,
		},
		"one that was deprecated lately stays": {
			change:   func(_ *world, i *types.Image) { i.DeprecationTime = aws.String("2026-02-22T12:01:00.000Z") },
			unshared: "deprecated since 2026-02-22 12:01 UTC; it may be removed from 2026-03-01 12:01 UTC",
		},
		"one whose grace has just passed goes": {
			change: func(w *world, i *types.Image) {
				superseded(start.Add(-7*day))(w, i)
				i.DeprecationTime = aws.String("2026-02-22T12:00:00.000Z")
			},
		},
		"one whose superseder says no time of publication stays": {
			change: func(w *world, _ *types.Image) {
				w.ec2[home].images[0].Tags = overlay(w.ec2[home].images[0].Tags, []types.Tag{{Key: aws.String(contract.TagPublished), Value: aws.String("yes")}})
			},
			unshared: "its tags do not say when it and newer images were published",
		},
		"one that an instance runs stays, and its use is noted": {
			change: runs(types.InstanceStateNameRunning), unshared: "instance i-app0 of this account uses it", deprecates: true,
		},
		"one that a stopped instance will run again stays": {
			change: runs(types.InstanceStateNameStopped, types.InstanceStateNamePending), unshared: "2 instances, launch templates and launch configurations of this account use it, instance i-app0 among them", deprecates: true,
		},
		"one that a launch template would launch stays, and its use is noted": {
			change:   func(w *world, _ *types.Image) { w.ec2[home].templates = map[string]string{"lt-web": "ami-old"} },
			unshared: "launch template lt-web of this account uses it", deprecates: true,
		},
		"one that only terminated instances ran goes": {change: runs(types.InstanceStateNameTerminated)},
		"one that was launched an hour ago stays": {
			change:   func(_ *world, i *types.Image) { i.LastLaunchedTime = ago(time.Hour) },
			unshared: "last launched on 2026-03-01 11:00 UTC; it may be removed from 2026-03-09 11:00 UTC",
			shared:   "shared and last launched on 2026-03-01 11:00 UTC; it may be removed from 2026-05-31 11:00 UTC",
		},
		"one that was launched within the grace and EC2's lag stays": {
			change:   func(_ *world, i *types.Image) { i.LastLaunchedTime = ago(8*day - time.Minute) },
			unshared: "last launched on 2026-02-21 12:01 UTC; it may be removed from 2026-03-01 12:01 UTC",
			shared:   "shared and last launched on 2026-02-21 12:01 UTC; it may be removed from 2026-05-23 12:01 UTC",
		},
		"one that was launched before that stays only if other accounts may use it": {
			change: func(_ *world, i *types.Image) { i.LastLaunchedTime = ago(8 * day) },
			shared: "shared and last launched on 2026-02-21 12:00 UTC; it may be removed from 2026-05-23 12:00 UTC",
		},
		"one whose last launch cannot be read stays": {
			change:   func(_ *world, i *types.Image) { i.LastLaunchedTime = aws.String("lately") },
			unshared: `EC2 reports its last launch at "lately", which is no time`,
		},
		"one that only its own verifier launched goes": {
			change: func(_ *world, i *types.Image) { i.LastLaunchedTime = aws.String("2026-01-01T11:00:00Z") },
		},
		"one that was launched long ago goes": {
			change: func(_ *world, i *types.Image) {
				i.LastLaunchedTime = aws.String("2025-11-20T00:00:00Z")
				i.Tags = overlay(i.Tags, ami.PublishedTags(start.AddDate(0, -8, 0), start))
			},
		},
	} {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, shared %t", name, shared), func(t *testing.T) {
				w := newWorld(t)
				p := testPlan()
				why := c.unshared
				if shared {
					why = cmp.Or(c.shared, why)
				} else {
					p.Recipe.Distribution.Accounts, p.Recipe.Distribution.Organizations, p.Recipe.Pointers.Accounts = nil, nil, nil
				}
				w.in.Job = job(t, w.s3, "Retire", p)
				w.in.Now = start
				img := w.withOld(t, old, c.change)
				out, err := retire(t, w)
				require.NoError(t, err)
				want, keeps := retired{Retired: []string{id}, Deprecated: []string{}, Left: []string{}}, []string{"ami-new"}
				if why != "" {
					want, keeps = retired{Retired: []string{}, Deprecated: []string{id + ": " + why}, Left: []string{}}, []string{"ami-new", *img.ImageId}
				}
				assert.Equal(t, want, out)
				assert.Equal(t, keeps, w.ec2[home].imageIDs())
				assert.Len(t, w.ec2[home].snapshots, len(keeps))
				deprecated := map[string]time.Time{}
				if c.deprecates {
					deprecated["ami-old"] = start.Add(time.Minute)
				}
				assert.Equal(t, deprecated, w.ec2[home].deprecated)
			})
		}
	}
}

// withOld has the world's images published, and adds an older one to the home
// region, as changed.
func (w *world) withOld(t *testing.T, img types.Image, change func(*world, *types.Image)) types.Image {
	t.Helper()
	for _, e := range w.ec2 {
		e.images[0].Tags = overlay(tagged(*e.images[0].ImageId, "run", true), ami.PublishedTags(start.AddDate(0, -1, 0), start))
	}
	w.ssm[home].parameters["/p/latest"], w.ssm[remote].parameters["/p/latest"] = "ami-new", "ami-copy"
	if change != nil {
		change(w, &img)
	}
	w.ec2[home].images = append(w.ec2[home].images, img)
	w.ec2[home].snapshots = append(w.ec2[home].snapshots, snapshot("snap-ami-old", "earlier"))
	return img
}

func TestRetireLeavesAlone(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world, *types.Image)
		left   []string
	}{
		"what a pointer names": {
			change: func(w *world, _ *types.Image) { w.ssm[home].parameters["/p/latest"] = "ami-old" }, left: []string{},
		},
		"what was never published": {
			change: func(_ *world, i *types.Image) { i.Tags = tagged("ami-old", "earlier", false) }, left: []string{},
		},
		"what cannot be deregistered": {
			change: func(w *world, _ *types.Image) {
				w.ec2[home].faults["DeregisterImage"] = []error{awsErr("OperationNotPermitted")}
			},
			left: []string{home + ":ami-old: deregister image ami-old: api error OperationNotPermitted: said AWS"},
		},
		"what cannot be deprecated": {
			change: func(w *world, i *types.Image) {
				i.DeprecationTime = nil
				w.ec2[home].faults["EnableImageDeprecation"] = []error{awsErr("OperationNotPermitted")}
			},
			left: []string{home + ":ami-old: api error OperationNotPermitted: said AWS"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.withOld(t, aged("ami-old", start.AddDate(0, -2, 0)), c.change)
			out, err := retire(t, w)
			require.NoError(t, err)
			assert.Equal(t, retired{Retired: []string{}, Deprecated: []string{}, Left: c.left}, out)
			assert.Equal(t, []string{"ami-new", "ami-old"}, w.ec2[home].imageIDs())
			assert.Len(t, w.ec2[home].snapshots, 2)
		})
	}
}

func TestRetireKeepsTheNewest(t *testing.T) {
	w := newWorld(t)
	p := testPlan()
	p.Recipe.Retention.Keep = 2
	w.in.Job = job(t, w.s3, "Retire", p)
	w.ec2[home].images = []types.Image{
		aged("ami-3", start.AddDate(0, -3, 0)), aged("ami-1", start.AddDate(0, -1, 0)), aged("ami-2", start.AddDate(0, -2, 0)),
	}
	w.ec2[home].snapshots = nil
	out, err := retire(t, w)
	require.NoError(t, err)
	assert.Equal(t, []string{home + ":ami-3"}, out.Retired)
}

func TestRetireFails(t *testing.T) {
	for op, want := range map[string]failure.Code{"DescribeImages": failure.Throttled, "DescribeImageReferences": failure.Throttled} {
		w := newWorld(t)
		w.withOld(t, aged("ami-old", start.AddDate(0, -2, 0)), nil)
		w.ec2[home].faults[op] = []error{awsErr("RequestLimitExceeded")}
		_, err := retire(t, w)
		requireCode(t, want, err)
	}
	w := newWorld(t)
	w.ssm[home].faults["GetParameter"] = []error{awsErr("AccessDeniedException")}
	_, err := retire(t, w)
	requireCode(t, failure.AccessDenied, err)
}

func TestASecondAttemptOfRetireStillSaysWhatTheFirstRemoved(t *testing.T) {
	w := newWorld(t)
	w.withOld(t, aged("ami-old", start.AddDate(0, -2, 0)), nil)
	p := testPlan()
	p.Recipe.Distribution.Accounts = nil
	w.in.Job = job(t, w.s3, "Retire", p)
	w.ec2[remote].faults["DescribeImages"] = []error{awsErr("RequestLimitExceeded"), nil} // after the home region is done
	_, err := retire(t, w)
	requireCode(t, failure.Throttled, err)
	require.NotContains(t, w.ec2[home].imageIDs(), "ami-old")
	out, err := retire(t, w)
	require.NoError(t, err)
	assert.Equal(t, []string{home + ":ami-old"}, out.Retired)
}

func TestRetireDoesNotActOnARecordThatIsNotItsOwn(t *testing.T) {
	w := newWorld(t)
	w.withOld(t, aged("ami-old", start.AddDate(0, -2, 0)), nil)
	w.s3.put(retentionKey(w.in.Execution), []byte(`{"images":[{"outcome":"removed"}]}`))
	_, err := retire(t, w)
	requireCode(t, failure.RecordMismatch, err)
	assert.Contains(t, w.ec2[home].imageIDs(), "ami-old")
}
