package ec2_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func makeDir(dir string) error { return os.MkdirAll(dir, 0o700) }

func TestAnInstanceLives(t *testing.T) {
	e := setup(t, options{})
	i := e.run(func(in *sdk.RunInstancesInput) {
		in.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte("#cloud-config")))
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String("builder")}
		in.MetadataOptions = &types.InstanceMetadataOptionsRequest{
			HttpTokens: types.HttpTokensStateRequired, HttpProtocolIpv6: types.InstanceMetadataProtocolStateEnabled,
		}
		in.TagSpecifications = []types.TagSpecification{
			{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: aws.String("stage"), Value: aws.String("launch")}}},
			{ResourceType: types.ResourceTypeVolume, Tags: []types.Tag{{Key: aws.String("of"), Value: aws.String("builder")}}},
		}
	})
	id := *i.InstanceId
	assert.Equal(t, types.InstanceStateNamePending, i.State.Name)
	assert.Equal(t, int32(0), *i.State.Code)
	assert.Regexp(t, `^172\.31\.\d+\.\d+$`, *i.PrivateIpAddress)
	assert.Equal(t, "arn:aws:iam::111122223333:instance-profile/builder", *i.IamInstanceProfile.Arn)
	assert.Equal(t, types.HttpTokensStateRequired, i.MetadataOptions.HttpTokens)
	assert.Equal(t, types.InstanceMetadataProtocolStateEnabled, i.MetadataOptions.HttpProtocolIpv6)

	e.pass(time.Minute)
	running := e.describe(id)
	assert.Equal(t, types.InstanceStateNameRunning, running.State.Name)
	assert.Equal(t, "launch", *running.Tags[0].Value)
	m, state, ok := e.Machine(home, region, id)
	require.True(t, ok)
	assert.Equal(t, types.InstanceStateNameRunning, state)
	require.NoError(t, m.Ping(t.Context()))
	_, _, ok = e.Machine(other, region, id)
	assert.False(t, ok, "another account has no such instance")

	volumes, err := e.DescribeVolumes(t.Context(), &sdk.DescribeVolumesInput{Filters: []types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{id}}}})
	require.NoError(t, err)
	require.Len(t, volumes.Volumes, 1)
	assert.Equal(t, "builder", *volumes.Volumes[0].Tags[0].Value)

	_, err = e.StopInstances(t.Context(), &sdk.StopInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	assert.Equal(t, types.InstanceStateNameStopping, e.state(id))
	e.pass(time.Minute)
	assert.Equal(t, types.InstanceStateNameStopped, e.state(id))
	assert.Equal(t, "Client.UserInitiatedShutdown", *e.describe(id).StateReason.Code)
	m, _, ok = e.Machine(home, region, id)
	assert.True(t, ok)
	assert.Nil(t, m)

	_, err = e.StartInstances(t.Context(), &sdk.StartInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	e.pass(time.Minute)
	assert.Equal(t, types.InstanceStateNameRunning, e.state(id))
	assert.Equal(t, i.PrivateIpAddress, e.describe(id).PrivateIpAddress, "a restarted instance keeps its address")

	out, err := e.TerminateInstances(t.Context(), &sdk.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	assert.Equal(t, types.InstanceStateNameRunning, out.TerminatingInstances[0].PreviousState.Name)
	assert.Equal(t, types.InstanceStateNameShuttingDown, out.TerminatingInstances[0].CurrentState.Name)
	e.pass(time.Minute)
	assert.Equal(t, types.InstanceStateNameTerminated, e.state(id))
	assert.Empty(t, entries(t, filepath.Join(e.dir, "instances")), "its disk is gone")

	volumes, err = e.DescribeVolumes(t.Context(), &sdk.DescribeVolumesInput{})
	require.NoError(t, err)
	assert.Empty(t, volumes.Volumes)
	assert.Equal(t, []string{"pending", "running", "stopping", "stopped", "pending", "running", "shutting-down", "terminated"},
		e.eventStates("EC2 Instance State-change Notification"))

	console, err := e.GetConsoleOutput(t.Context(), &sdk.GetConsoleOutputInput{InstanceId: aws.String(id)})
	require.NoError(t, err)
	text, err := base64.StdEncoding.DecodeString(*console.Output)
	require.NoError(t, err)
	assert.Contains(t, string(text), "simulated guest "+id, "the console outlives the machine")

	e.pass(2 * time.Hour)
	_, err = e.DescribeInstances(t.Context(), &sdk.DescribeInstancesInput{})
	require.NoError(t, err)
	_, err = e.DescribeInstances(t.Context(), &sdk.DescribeInstancesInput{InstanceIds: []string{id}})
	requireCode(t, err, "InvalidInstanceID.NotFound")
}

func TestRunInstancesRefuses(t *testing.T) {
	cases := map[string]struct {
		code   string
		change func(*sdk.RunInstancesInput)
	}{
		"an invalid id":                 {"InvalidAMIID.Malformed", func(in *sdk.RunInstancesInput) { in.ImageId = aws.String("ami-xyz") }},
		"an unknown image":              {"InvalidAMIID.NotFound", func(in *sdk.RunInstancesInput) { in.ImageId = aws.String("ami-0123456789abcdef0") }},
		"no image":                      {"MissingParameter", func(in *sdk.RunInstancesInput) { in.ImageId = nil }},
		"no count":                      {"MissingParameter", func(in *sdk.RunInstancesInput) { in.MaxCount = nil }},
		"a minimum above the maximum":   {"InvalidParameterValue", func(in *sdk.RunInstancesInput) { in.MinCount = aws.Int32(2) }},
		"an unknown type":               {"InvalidParameterValue", func(in *sdk.RunInstancesInput) { in.InstanceType = "x9.huge" }},
		"a type of another processor":   {"InvalidParameterValue", func(in *sdk.RunInstancesInput) { in.InstanceType = types.InstanceTypeT4gMedium }},
		"user data of 16 KiB and one":   {"InvalidParameterValue", userData(16<<10 + 1)},
		"user data that is not base64":  {"InvalidParameterValue", func(in *sdk.RunInstancesInput) { in.UserData = aws.String("#cloud-config!") }},
		"an unknown subnet":             {"InvalidSubnetID.NotFound", func(in *sdk.RunInstancesInput) { in.SubnetId = aws.String("subnet-1") }},
		"an unknown security group":     {"InvalidGroup.NotFound", func(in *sdk.RunInstancesInput) { in.SecurityGroupIds = []string{"sg-1"} }},
		"a key pair":                    {"InvalidKeyPair.NotFound", func(in *sdk.RunInstancesInput) { in.KeyName = aws.String("mine") }},
		"tags of a resource not made":   {"InvalidParameterValue", tagged(types.ResourceTypeImage, "a", "b")},
		"a reserved tag":                {"InvalidParameterValue", tagged(types.ResourceTypeInstance, "aws:mine", "b")},
		"a volume below the snapshot's": {"InvalidBlockDeviceMapping", rootVolume(types.EbsBlockDevice{VolumeSize: aws.Int32(1)})},
		"a key without encryption":      {"InvalidParameterDependency", rootVolume(types.EbsBlockDevice{Encrypted: aws.Bool(false), KmsKeyId: aws.String("k")})},
		"a launch template":             {"UnsupportedOperation", func(in *sdk.RunInstancesInput) { in.LaunchTemplate = &types.LaunchTemplateSpecification{} }},
		"a dry run, with its own error": {"DryRunOperation", func(in *sdk.RunInstancesInput) { in.DryRun = aws.Bool(true) }},
		"an unknown shutdown behaviour": {"InvalidParameterValue", func(in *sdk.RunInstancesInput) { in.InstanceInitiatedShutdownBehavior = "explode" }},
	}
	e := setup(t, options{})
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			in := launchOf(e.base)
			c.change(in)
			_, err := e.RunInstances(t.Context(), in)
			requireCode(t, err, c.code)
		})
	}
	out, err := e.DescribeInstances(t.Context(), &sdk.DescribeInstancesInput{})
	require.NoError(t, err)
	assert.Empty(t, out.Reservations, "a refused call makes nothing")
}

func userData(size int) func(*sdk.RunInstancesInput) {
	return func(in *sdk.RunInstancesInput) {
		in.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", size))))
	}
}

func tagged(kind types.ResourceType, key, value string) func(*sdk.RunInstancesInput) {
	return func(in *sdk.RunInstancesInput) {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: kind, Tags: []types.Tag{{Key: aws.String(key), Value: aws.String(value)}}}}
	}
}

func rootVolume(ebs types.EbsBlockDevice) func(*sdk.RunInstancesInput) {
	return func(in *sdk.RunInstancesInput) {
		in.BlockDeviceMappings = []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &ebs}}
	}
}

func TestUserDataOfExactly16KiBIsAccepted(t *testing.T) {
	e := setup(t, options{})
	e.run(userData(16 << 10))
}

func TestAClientTokenLaunchesOnce(t *testing.T) {
	e := setup(t, options{})
	token := func(in *sdk.RunInstancesInput) { in.ClientToken = aws.String("execution-1-launch") }
	first, second := e.run(token), e.run(token)
	assert.Equal(t, first.InstanceId, second.InstanceId)
	assert.NotEqual(t, first.InstanceId, e.run().InstanceId)

	in := launchOf(e.base)
	token(in)
	in.InstanceType = types.InstanceTypeT3Small
	_, err := e.RunInstances(t.Context(), in)
	requireCode(t, err, "IdempotentParameterMismatch")

	elsewhere, err := e.RunInstances(as(t.Context(), other), func() *sdk.RunInstancesInput { in := launchOf(e.base); token(in); return in }())
	require.NoError(t, err)
	assert.NotEqual(t, first.InstanceId, elsewhere.Instances[0].InstanceId, "tokens are an account's own")
	assert.NotEqual(t, first.PrivateIpAddress, elsewhere.Instances[0].PrivateIpAddress, "guests of all accounts share a network")
}

func TestCapacityRunsOut(t *testing.T) {
	full := true
	e := setup(t, options{config: func(c *ec2.Config) {
		c.Capacity = func(_ wire.Caller, instanceType, zone string) bool {
			return !full || instanceType != "t3.medium" || zone == region+"c"
		}
	}})
	_, err := e.RunInstances(t.Context(), launchOf(e.base))
	requireCode(t, err, "InsufficientInstanceCapacity")
	assert.ErrorContains(t, err, "choosing eu-central-1c")
	e.run(func(in *sdk.RunInstancesInput) { in.InstanceType = types.InstanceTypeT3Large })
	e.run(func(in *sdk.RunInstancesInput) {
		in.Placement = &types.Placement{AvailabilityZone: aws.String(region + "c")}
	})
	full = false
	e.run()
}

func TestDescribesDoNotKnowANewInstanceAtOnce(t *testing.T) {
	e := setup(t, options{})
	id := *e.run().InstanceId
	_, err := e.DescribeInstances(t.Context(), &sdk.DescribeInstancesInput{InstanceIds: []string{id}})
	requireCode(t, err, "InvalidInstanceID.NotFound")
	out, err := e.DescribeInstances(t.Context(), &sdk.DescribeInstancesInput{})
	require.NoError(t, err)
	assert.Empty(t, out.Reservations)
	e.pass(2 * time.Second)
	assert.Equal(t, types.InstanceStateNamePending, e.state(id))
}

func TestAGuestThatPowersItselfOff(t *testing.T) {
	for behaviour, end := range map[types.ShutdownBehavior]types.InstanceStateName{
		"":                              types.InstanceStateNameStopped,
		types.ShutdownBehaviorStop:      types.InstanceStateNameStopped,
		types.ShutdownBehaviorTerminate: types.InstanceStateNameTerminated,
	} {
		t.Run("with shutdown behaviour "+string(behaviour), func(t *testing.T) {
			e := setup(t, options{machines: simulated.Options{Faults: func(vm.Launch) simulated.Faults { return simulated.Faults{DiesAfter: time.Minute} }}})
			id := *e.run(func(in *sdk.RunInstancesInput) { in.InstanceInitiatedShutdownBehavior = behaviour }).InstanceId
			e.pass(30 * time.Second)
			assert.Equal(t, types.InstanceStateNameRunning, e.state(id))
			e.pass(time.Minute)
			assert.Equal(t, end, e.state(id))
			last := []string{"stopping", "stopped"}
			if end == types.InstanceStateNameTerminated {
				last = []string{"shutting-down", "terminated"}
			}
			assert.Equal(t, append([]string{"pending", "running"}, last...), e.eventStates("EC2 Instance State-change Notification"))
			assert.Equal(t, "Client.InstanceInitiatedShutdown", *e.describe(id).StateReason.Code)
		})
	}
}

func TestAMachineThatDoesNotStartSaysWhy(t *testing.T) {
	e := setup(t, options{machines: simulated.Options{Faults: func(vm.Launch) simulated.Faults {
		return simulated.Faults{Start: errors.New("write overlay: no space left on device")}
	}}})
	id := *e.run().InstanceId
	e.pass(time.Minute)
	i := e.describe(id)
	assert.Equal(t, types.InstanceStateNameTerminated, i.State.Name)
	assert.Equal(t, "Server.InternalError: write overlay: no space left on device", *i.StateReason.Message)
	assert.Equal(t, []string{"pending", "terminated"}, e.eventStates("EC2 Instance State-change Notification"))
	assert.Empty(t, entries(t, filepath.Join(e.dir, "instances")))
}

func TestAKeyThatCannotBeUsedEndsTheLaunch(t *testing.T) {
	e := setup(t, options{config: func(c *ec2.Config) {
		c.ResolveKey = func(_, _, ref string) (ec2.Key, error) { return ec2.Key{}, errors.New("no key " + ref) }
	}})
	id := *e.run(rootVolume(types.EbsBlockDevice{Encrypted: aws.Bool(true), KmsKeyId: aws.String("alias/gone")})).InstanceId
	e.pass(time.Minute)
	i := e.describe(id)
	assert.Equal(t, types.InstanceStateNameTerminated, i.State.Name)
	assert.Contains(t, *i.StateReason.Message, "Client error on launch")
	assert.Contains(t, *i.StateReason.Message, "alias/gone")
}

func TestAGuestThatMustBeForcedIsNotPassedOffAsSealed(t *testing.T) {
	e := setup(t, options{machines: simulated.Options{Faults: func(vm.Launch) simulated.Faults { return simulated.Faults{IgnoresShutdown: true} }}})
	id := *e.run().InstanceId
	e.pass(time.Minute)
	_, err := e.StopInstances(t.Context(), &sdk.StopInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	e.pass(10 * time.Minute)
	i := e.describe(id)
	assert.Equal(t, types.InstanceStateNameStopped, i.State.Name)
	assert.Contains(t, *i.StateReason.Message, "was forced")
}

func TestStatesForbidCalls(t *testing.T) {
	e := setup(t, options{})
	id := *e.run().InstanceId
	_, err := e.StopInstances(t.Context(), &sdk.StopInstancesInput{InstanceIds: []string{id}})
	requireCode(t, err, "IncorrectInstanceState")

	// A pending instance can be terminated, and then never runs.
	_, err = e.TerminateInstances(t.Context(), &sdk.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	e.pass(time.Minute)
	assert.Equal(t, types.InstanceStateNameTerminated, e.state(id))
	assert.Equal(t, []string{"pending", "shutting-down", "terminated"}, e.eventStates("EC2 Instance State-change Notification"))

	_, err = e.StartInstances(t.Context(), &sdk.StartInstancesInput{InstanceIds: []string{id}})
	requireCode(t, err, "IncorrectInstanceState")
	_, err = e.CreateImage(t.Context(), &sdk.CreateImageInput{InstanceId: aws.String(id), Name: aws.String("late")})
	requireCode(t, err, "IncorrectInstanceState")

	locked := *e.run(func(in *sdk.RunInstancesInput) { in.DisableApiTermination = aws.Bool(true) }).InstanceId
	_, err = e.TerminateInstances(t.Context(), &sdk.TerminateInstancesInput{InstanceIds: []string{locked}})
	requireCode(t, err, "OperationNotPermitted")
	_, err = e.TerminateInstances(as(t.Context(), other), &sdk.TerminateInstancesInput{InstanceIds: []string{locked}})
	requireCode(t, err, "InvalidInstanceID.NotFound")
}

func TestInstanceStatusFollowsTheGuest(t *testing.T) {
	e := setup(t, options{machines: simulated.Options{Boot: time.Minute}})
	id := *e.run().InstanceId
	status := func() types.SummaryStatus {
		out, err := e.DescribeInstanceStatus(t.Context(), &sdk.DescribeInstanceStatusInput{InstanceIds: []string{id}})
		require.NoError(t, err)
		require.Len(t, out.InstanceStatuses, 1)
		return out.InstanceStatuses[0].InstanceStatus.Status
	}
	e.pass(30 * time.Second)
	assert.Equal(t, types.SummaryStatusInitializing, status())
	e.pass(time.Minute)
	assert.Equal(t, types.SummaryStatusOk, status())
}

func TestInstancesAreFilteredAndPaged(t *testing.T) {
	e := setup(t, options{})
	for n := range 7 {
		e.run(tagged(types.ResourceTypeInstance, "n", string(rune('a'+n))))
	}
	e.pass(time.Minute)
	pages := sdk.NewDescribeInstancesPaginator(e, &sdk.DescribeInstancesInput{MaxResults: aws.Int32(5), Filters: []types.Filter{
		{Name: aws.String("instance-state-name"), Values: []string{"running"}}, {Name: aws.String("tag:n"), Values: []string{"[abc]", "?"}}}})
	sizes := []int{}
	for pages.HasMorePages() {
		out, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		sizes = append(sizes, len(out.Reservations))
	}
	assert.Equal(t, []int{5, 2}, sizes)

	_, err := e.DescribeInstances(t.Context(), &sdk.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("colour"), Values: []string{"red"}}}})
	requireCode(t, err, "InvalidParameterValue")
	out, err := e.DescribeInstances(t.Context(), &sdk.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("tag:n"), Values: []string{"b"}}}})
	require.NoError(t, err)
	assert.Len(t, out.Reservations, 1)
}
