package release_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkscaling "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/release"
)

// retain applies retention in the home region, and returns what became of each
// image and why.
func (w *world) retain() map[string]release.Decision {
	w.t.Helper()
	decisions, err := w.retention().Apply(w.t.Context(), w.recipe, home, w.clock.Now())
	require.NoError(w.t, err)
	w.pass(2 * time.Minute) // EC2 takes times of deprecation in the future only
	out := map[string]release.Decision{}
	for _, d := range decisions {
		assert.Equal(w.t, home, d.Region)
		out[d.ImageID] = d
	}
	return out
}

func (w *world) retention() release.Retention {
	return release.Retention{
		EC2:         func(region string) release.RetentionAPI { return w.ec2(region) },
		AutoScaling: func(region string) sdkscaling.DescribeLaunchConfigurationsAPIClient { return w.scaling(region) },
		SSM:         func(account, region string) release.HistoryAPI { return w.ssm(account, region) },
	}
}

func TestRetentionSaysWhatBecameOfEachImageAndWhy(t *testing.T) {
	w := newWorld(t)
	w.recipe.Retention.Keep = 2
	a, b, c := w.publish("a")[home], w.publish("b")[home], w.publish("c")[home]
	got := w.retain()
	assert.Equal(t, release.Decision{Region: home, ImageID: c, Outcome: release.Kept, Why: home + ":" + latest + " names it"}, got[c])
	assert.Equal(t, release.Decision{Region: home, ImageID: b, Outcome: release.Kept, Why: "it is among the 2 newest, which the recipe keeps"}, got[b])
	assert.Equal(t, release.Deprecated, got[a].Outcome)
	assert.Regexp(t, `^superseded on 2026-03-01 \d\d:\d\d UTC; it may be removed from 2026-03-08 \d\d:\d\d UTC$`, got[a].Why)
	assert.NotNil(t, w.image(home, a).DeprecationTime)

	w.pass(8 * day)
	got = w.retain()
	assert.Equal(t, release.Removed, got[a].Outcome)
	assert.Regexp(t, `^superseded on 2026-03-01 \d\d:\d\d UTC, and no use of it is known for 7d$`, got[a].Why)
	assert.False(t, w.exists(home, a))
	assert.True(t, w.exists(home, b))
	got = w.retain()
	assert.Len(t, got, 2, "an image that is gone is not decided on")
}

func TestWhatUsesAnImageKeepsIt(t *testing.T) {
	for sentence, c := range map[string]struct {
		use  func(w *world, image string)
		want string
	}{
		"a running instance": {func(w *world, image string) { w.run(home, image) }, `^instance i-[0-9a-f]+ of this account uses it$`},
		"a launch template": {func(w *world, image string) {
			_, err := w.ec2(home).CreateLaunchTemplate(w.t.Context(), &sdkec2.CreateLaunchTemplateInput{
				LaunchTemplateName: aws.String("web"), LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &image},
			})
			require.NoError(w.t, err)
		}, `^launch template lt-[0-9a-f]+ of this account uses it$`},
		"a launch configuration": {func(w *world, image string) {
			_, err := w.scaling(home).CreateLaunchConfiguration(w.t.Context(), &sdkscaling.CreateLaunchConfigurationInput{
				LaunchConfigurationName: aws.String("batch"), ImageId: &image, InstanceType: aws.String("t3.micro"),
			})
			require.NoError(w.t, err)
		}, `^launch configuration batch of this account uses it$`},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := newWorld(t)
			a := w.publish("a")[home]
			w.publish("b")
			w.retain()
			w.pass(30 * day)
			c.use(w, a)
			got := w.retain()[a]
			assert.Equal(t, release.Deprecated, got.Outcome)
			assert.Regexp(t, c.want, got.Why)
			assert.Regexp(t, c.want, w.retain()[a].Why)
		})
	}
}

func TestTheGraceBeginsAgainWhenUseIsLastSeen(t *testing.T) {
	w := newWorld(t)
	w.recipe.Distribution.Accounts = nil
	a := w.publish("a")[home]
	w.publish("b")
	w.retain()
	w.pass(30 * day)
	name := aws.String("batch")
	_, err := w.scaling(home).CreateLaunchConfiguration(t.Context(), &sdkscaling.CreateLaunchConfigurationInput{LaunchConfigurationName: name, ImageId: &a, InstanceType: aws.String("t3.micro")})
	require.NoError(t, err)
	w.retain()
	_, err = w.scaling(home).DeleteLaunchConfiguration(t.Context(), &sdkscaling.DeleteLaunchConfigurationInput{LaunchConfigurationName: name})
	require.NoError(t, err)
	w.pass(6 * day)
	assert.Contains(t, w.retain()[a].Why, "deprecated since")
	w.pass(2 * day)
	assert.Equal(t, release.Removed, w.retain()[a].Outcome)
}

func TestAnImageThatAPointerNamedUntilRecentlyIsNotRemovedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.recipe.Distribution.Accounts = nil
	a := w.publish("a")[home]
	w.publish("b")
	w.retain()
	w.pass(30 * day)
	w.setByHand(home, a) // a person goes back to the older image
	assert.Equal(t, release.Decision{Region: home, ImageID: a, Outcome: release.Kept, Why: home + ":" + latest + " names it"}, w.retain()[a])
	w.pass(3 * day)
	w.publish("c") // and the next build moves the pointer
	got := w.retain()[a]
	assert.Equal(t, release.Deprecated, got.Outcome, "consumers got it until a moment ago")
	assert.Regexp(t, `^`+home+`:`+latest+` named it until 2026-04-03 \d\d:\d\d UTC; it may be removed from 2026-04-10 \d\d:\d\d UTC$`, got.Why)
	w.pass(6 * day)
	assert.Contains(t, w.retain()[a].Why, "named it until")
	w.pass(2 * day)
	assert.Equal(t, release.Removed, w.retain()[a].Outcome)
}

func TestAPointerOfAnotherAccountKeepsAnImageToo(t *testing.T) {
	w := newWorld(t)
	w.recipe.Pointers.Accounts = []string{target}
	a := w.publish("a")[home]
	w.recipe.Pointers.Accounts = nil
	w.publish("b")
	w.recipe.Pointers.Accounts = []string{target}
	w.retain()
	w.pass(120 * day)
	assert.Equal(t, target+":"+home+":"+latest+" names it", w.retain()[a].Why)
	w.publish("c")
	w.pass(time.Hour)
	assert.Regexp(t, "^"+target+":"+home+":"+latest+" named it until", w.retain()[a].Why)
}

func TestALaunchByAnyAccountKeepsAnImage(t *testing.T) {
	w := newWorld(t)
	a := w.publish("a")[home]
	w.publish("b")
	w.retain()
	w.pass(60 * day)
	id := w.run(home, a)
	w.pass(time.Hour)
	_, err := w.ec2(home).TerminateInstances(t.Context(), &sdkec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	w.pass(2 * day)
	assert.Contains(t, w.retain()[a].Why, "shared and last launched on 2026-04-30")
	w.recipe.Distribution.Accounts = nil
	assert.Contains(t, w.retain()[a].Why, "last launched on 2026-04-30")
	w.pass(8 * day)
	assert.Equal(t, release.Removed, w.retain()[a].Outcome)
}

func TestAnImageThatCannotBeRemovedIsLeft(t *testing.T) {
	w := newWorld(t)
	w.recipe.Retention.RemoveAfter = recipe.Duration(day)
	a := w.publish("a")[home]
	w.publish("b")
	w.retain()
	w.pass(30 * day)
	w.fail(fault.Rule{Service: "ec2", Operation: "DeregisterImage", Code: "OperationNotPermitted", Status: 400})
	got := w.retain()[a]
	assert.Equal(t, release.Left, got.Outcome)
	assert.Contains(t, got.Why, "OperationNotPermitted")
	assert.True(t, w.exists(home, a))
	assert.Equal(t, release.Removed, w.retain()[a].Outcome)
}

func TestNothingIsRemovedWhileItsUseIsUnknown(t *testing.T) {
	for _, rule := range []fault.Rule{
		{Service: "ec2", Operation: "DescribeImages"}, {Service: "ec2", Operation: "DescribeImageReferences"},
		{Service: "autoscaling", Operation: "DescribeLaunchConfigurations"}, {Service: "ssm", Operation: "GetParameter"}, {Service: "ssm", Operation: "GetParameterHistory"},
	} {
		t.Run(rule.Operation, func(t *testing.T) {
			w := newWorld(t)
			a := w.publish("a")[home]
			w.publish("b")
			w.retain()
			w.pass(100 * day)
			rule.Code, rule.Status = "AccessDeniedException", 400
			w.fail(rule)
			_, err := w.retention().Apply(t.Context(), w.recipe, home, w.clock.Now())
			requireCode(t, failure.AccessDenied, err)
			assert.True(t, w.exists(home, a))
		})
	}
}
