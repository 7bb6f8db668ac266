package stage

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/distribution"
	"github.com/ami-factory/ami-factory/pkg/failure"
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
			change: func(w *world) { w.s3.objects["plans/p.json"] = []byte("x") },
			left:   "regions other than " + home, keeps: []string{"ami-copy"},
		},
		"images of which nothing says whether they are published": {
			change: func(w *world) { w.s3.objects["executions/run/pointers.json"] = []byte("x") },
			left:   remote + ":ami-copy: it is unknown whether it is published", keeps: []string{"ami-copy"},
		},
		"an image that a pointer still names": {
			change: func(w *world) {
				j := &journal{
					Of: bindingOf(w.in.Job, testPlan()), Started: start, Recipe: "debian", Images: map[string]string{home: "ami-new", remote: "ami-copy"},
					Pointers: []distribution.Pointer{
						{Region: remote, Parameter: "/p/latest", ImageID: "ami-copy", Previous: "ami-old"},
						{Region: home, Parameter: "/p/latest", ImageID: "ami-new", Previous: "ami-old"},
					},
				}
				if err := j.write(t.Context(), w.s3.store(), w.in.Execution, journalMoving); err != nil {
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

func retire(t *testing.T, w *world) (RetireOutput, error) {
	t.Helper()
	return Retire{
		Store: w.s3.store(),
		EC2:   func(r string) RetireEC2 { return w.ec2[r] },
		SSM:   func(account, r string) distribution.ParameterReader { return w.ssm[account+r] },
	}.Run(t.Context(), RetireInput{Job: w.in.Job})
}

// aged is a published image of an earlier execution.
func aged(id string, created time.Time) types.Image {
	i := image(id, "earlier", true)
	i.CreationDate = aws.String(created.Format("2006-01-02T15:04:05.000Z"))
	i.Tags = overlay(i.Tags, ami.PublishedTags(created, start))
	return i
}

func TestRetire(t *testing.T) {
	old := aged("ami-old", start.AddDate(0, -2, 0))
	for name, c := range map[string]struct {
		change func(*world, *types.Image)
		want   RetireOutput
		keeps  []string
	}{
		"an old image that nothing uses goes": {
			want: RetireOutput{Retired: []string{home + ":ami-old"}, Deprecated: []string{}, Left: []string{}}, keeps: []string{"ami-new"},
		},
		"one that a pointer names stays": {
			change: func(w *world, _ *types.Image) { w.ssm[home].parameters["/p/latest"] = "ami-old" },
			want:   RetireOutput{Retired: []string{}, Deprecated: []string{}, Left: []string{}}, keeps: []string{"ami-new", "ami-old"},
		},
		"one that was never published is not touched": {
			change: func(_ *world, i *types.Image) { i.Tags = tagged("ami-old", "earlier", false) },
			want:   RetireOutput{Retired: []string{}, Deprecated: []string{}, Left: []string{}}, keeps: []string{"ami-new", "ami-old"},
		},
		"one that an instance runs is deprecated": {
			change: func(w *world, _ *types.Image) {
				w.ec2[home].instances = []types.Instance{{InstanceId: aws.String("i-app"), ImageId: aws.String("ami-old"), State: &types.InstanceState{Name: types.InstanceStateNameRunning}}}
			},
			want: RetireOutput{Retired: []string{}, Deprecated: []string{home + ":ami-old: 1 instances of this account run it, i-app among them"}, Left: []string{}}, keeps: []string{"ami-new", "ami-old"},
		},
		"a shared one that was launched lately is deprecated": {
			change: func(_ *world, i *types.Image) { i.LastLaunchedTime = aws.String("2026-02-20T00:00:00Z") },
			want:   RetireOutput{Retired: []string{}, Deprecated: []string{home + ":ami-old: it is shared and was last launched 2026-02-20"}, Left: []string{}}, keeps: []string{"ami-new", "ami-old"},
		},
		"one that only its own verifier launched goes": {
			change: func(_ *world, i *types.Image) { i.LastLaunchedTime = aws.String("2026-01-01T11:00:00Z") },
			want:   RetireOutput{Retired: []string{home + ":ami-old"}, Deprecated: []string{}, Left: []string{}}, keeps: []string{"ami-new"},
		},
		"one that was launched long ago goes": {
			change: func(_ *world, i *types.Image) { i.LastLaunchedTime = aws.String("2025-02-20T00:00:00Z") },
			want:   RetireOutput{Retired: []string{home + ":ami-old"}, Deprecated: []string{}, Left: []string{}}, keeps: []string{"ami-new"},
		},
		"one that cannot be deregistered is told of": {
			change: func(w *world, _ *types.Image) {
				w.ec2[home].faults["DeregisterImage"] = []error{awsErr("OperationNotPermitted")}
			},
			want: RetireOutput{Retired: []string{}, Deprecated: []string{}, Left: []string{home + ":ami-old: deregister image ami-old: api error OperationNotPermitted: said AWS"}}, keeps: []string{"ami-new", "ami-old"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, e := range w.ec2 {
				e.images[0].Tags = tagged(*e.images[0].ImageId, "run", true)
			}
			w.ssm[home].parameters["/p/latest"], w.ssm[remote].parameters["/p/latest"] = "ami-new", "ami-copy"
			img := old
			if c.change != nil {
				c.change(w, &img)
			}
			w.ec2[home].images = append(w.ec2[home].images, img)
			w.ec2[home].snapshots = append(w.ec2[home].snapshots, snapshot("snap-ami-old", "earlier"))
			out, err := retire(t, w)
			require.NoError(t, err)
			assert.Equal(t, c.want, out)
			assert.Equal(t, c.keeps, w.ec2[home].imageIDs())
			assert.Len(t, w.ec2[home].snapshots, len(c.keeps))
			assert.Len(t, w.ec2[home].deprecated, len(c.want.Deprecated))
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
	for op, want := range map[string]failure.Code{"DescribeImages": failure.Throttled} {
		w := newWorld(t)
		w.ec2[home].faults[op] = []error{awsErr("RequestLimitExceeded")}
		_, err := retire(t, w)
		requireCode(t, want, err)
	}
	w := newWorld(t)
	w.ssm[home].faults["GetParameter"] = []error{awsErr("AccessDeniedException")}
	_, err := retire(t, w)
	requireCode(t, failure.AccessDenied, err)
}
