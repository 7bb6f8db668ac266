package stage

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/userdata"
)

// bundleTTL is the time within which the builder must fetch its bundle.
const bundleTTL = time.Hour

// LaunchEC2 lists the calls of EC2 that Launch makes.
type LaunchEC2 interface {
	ec2.DescribeImagesAPIClient
	ec2.DescribeInstancesAPIClient
	DescribeInstanceAttribute(context.Context, *ec2.DescribeInstanceAttributeInput, ...func(*ec2.Options)) (*ec2.DescribeInstanceAttributeOutput, error)
	RunInstances(context.Context, *ec2.RunInstancesInput, ...func(*ec2.Options)) (*ec2.RunInstancesOutput, error)
}

// Launch starts the builder, or a verifier from the new image.
type Launch struct {
	Settings Settings
	Store    store.Store
	EC2      LaunchEC2
}

// place is one instance type in one subnet.
type place struct{ instanceType, subnet string }

func (p place) String() string {
	if p.subnet == "" {
		return p.instanceType
	}
	return p.instanceType + " in " + p.subnet
}

// Run starts the instance, or finds the one that an earlier attempt started.
func (s Launch) Run(ctx context.Context, in LaunchInput) (LaunchOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return LaunchOutput{}, err
	}
	run, err := s.request(ctx, in, p)
	if err != nil {
		return LaunchOutput{}, err
	}
	// Look for an instance first: the presigned address differs at every attempt, so EC2
	// would refuse the same client token because of different parameters.
	mine := attempt{Launch: s, in: in, plan: p, run: run}
	out, found, err := mine.find(ctx, ami.ByExecution(in.Execution.Name), ami.ByStage(in.State))
	if err != nil || found {
		return out, err
	}
	var tried []string
	var last error
	for _, at := range s.places(p) {
		out, err := mine.launch(ctx, run, at)
		if err == nil {
			return out, nil
		}
		if !lacksCapacity(err) {
			return LaunchOutput{}, launchError(err, in.Role, at)
		}
		tried, last = append(tried, at.String()+" ("+awserr.Code(err)+")"), err
	}
	return LaunchOutput{}, failure.Wrap(failure.CapacityUnavailable, last, "no capacity for the %s; tried %s", in.Role, strings.Join(tried, ", "))
}

func lacksCapacity(err error) bool {
	return awserr.Classify(err, failure.InstanceFailed) == failure.CapacityUnavailable ||
		awserr.Is(err, "Unsupported") // the subnet's zone does not have the type
}

func launchError(err error, role string, at place) error {
	if awserr.Is(err, "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable") && role == verifierRole {
		// The image exists, but not every endpoint of EC2 knows it yet.
		return failure.Wrap(failure.ServiceUnavailable, err, "launch the %s", role)
	}
	return awserr.Wrap(err, failure.InstanceFailed, "launch the %s as %s", role, at)
}

// attempt describes what one stage of an execution launches.
type attempt struct {
	Launch
	in   LaunchInput
	plan plan.BuildPlan
	run  ec2.RunInstancesInput // the parameters that do not depend on the place
}

// find returns the oldest instance that matches and still exists. Tags and client tokens
// alone prove nothing: if an instance differs from what this execution launches, find
// returns an error and leaves the instance unchanged.
func (s attempt) find(ctx context.Context, filters ...types.Filter) (LaunchOutput, bool, error) {
	found, err := ami.ListInstances(ctx, s.EC2, filters...)
	if err != nil {
		return LaunchOutput{}, false, awserr.Wrap(err, failure.ServiceUnavailable, "look for an instance of an earlier attempt")
	}
	if len(found) == 0 {
		return LaunchOutput{}, false, nil
	}
	for _, i := range found {
		wrong, err := s.deviations(ctx, i)
		if err != nil {
			return LaunchOutput{}, false, err
		}
		if len(wrong) > 0 {
			return LaunchOutput{}, false, failure.New(failure.InstanceMismatch,
				"instance %s bears the tags or the client token of this execution's %s, but was not launched by it, and is left alone: %s",
				aws.ToString(i.InstanceId), s.in.Role, strings.Join(wrong, "; "))
		}
	}
	return LaunchOutput{InstanceID: aws.ToString(found[0].InstanceId), InstanceType: string(found[0].InstanceType)}, true, nil
}

// places lists every type in the first subnet, then every type in the next one.
func (s Launch) places(p plan.BuildPlan) []place {
	subnets := p.Recipe.Builder.SubnetIDs
	if len(subnets) == 0 {
		subnets = s.Settings.SubnetIDs
	}
	if len(subnets) == 0 {
		subnets = []string{""} // those of the default VPC
	}
	var out []place
	for _, subnet := range subnets {
		for _, t := range p.Recipe.Builder.InstanceTypes {
			out = append(out, place{t, subnet})
		}
	}
	return out
}

// launchOwner returns what identifies an execution's stage in client tokens. It includes
// the start of the execution, because a later execution can have the same ARN.
func launchOwner(e Execution, stage string) []string {
	return []string{e.ID, e.StartTime.UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano), stage}
}

func (s attempt) token(at place) string {
	return ami.LaunchToken(launchOwner(s.in.Execution, s.in.State), at.instanceType, at.subnet)
}

// deviations returns the differences between an instance and what this execution launches.
func (s attempt) deviations(ctx context.Context, i types.Instance) ([]string, error) {
	var wrong []string
	differs := func(what, got, want string) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("its %s is %q, not %q", what, got, want))
		}
	}
	differs("image", aws.ToString(i.ImageId), aws.ToString(s.run.ImageId))
	differs("key pair", aws.ToString(i.KeyName), "")
	differs("public address", aws.ToString(i.PublicIpAddress), "")
	if got := profileOf(i); !s.hasProfile(got) {
		wrong = append(wrong, fmt.Sprintf("its instance profile is %q, not %q", got, s.Settings.InstanceProfile))
	}
	places := s.places(s.plan)
	at := slices.IndexFunc(places, func(p place) bool { return s.token(p) == aws.ToString(i.ClientToken) })
	if at < 0 {
		wrong = append(wrong, fmt.Sprintf("its client token is %q, which this execution did not send", aws.ToString(i.ClientToken)))
	} else {
		differs("type", string(i.InstanceType), places[at].instanceType)
		if places[at].subnet != "" {
			differs("subnet", aws.ToString(i.SubnetId), places[at].subnet)
		}
	}
	if want := ami.SortedIDs(s.Settings.SecurityGroupIDs); len(want) > 0 {
		var got []string
		for _, g := range i.SecurityGroups {
			got = append(got, aws.ToString(g.GroupId))
		}
		differs("security groups", strings.Join(ami.SortedIDs(got), ","), strings.Join(want, ","))
	}
	if m, want := i.MetadataOptions, s.run.MetadataOptions; m == nil {
		wrong = append(wrong, "it has no metadata options")
	} else {
		differs("metadata service", string(m.HttpTokens), string(want.HttpTokens))
		differs("metadata endpoint", string(m.HttpEndpoint), string(want.HttpEndpoint))
		differs("metadata hop limit", strconv.Itoa(int(aws.ToInt32(m.HttpPutResponseHopLimit))), strconv.Itoa(int(aws.ToInt32(want.HttpPutResponseHopLimit))))
	}
	if len(wrong) > 0 {
		return wrong, nil
	}
	same, err := s.sameUserData(ctx, aws.ToString(i.InstanceId))
	if err == nil && !same {
		wrong = append(wrong, "its user data is not what this execution sent")
	}
	return wrong, err
}

// sameUserData compares an instance's user data with what this attempt sends, apart from
// the signatures in the addresses, which differ at every attempt.
func (s attempt) sameUserData(ctx context.Context, id string) (bool, error) {
	out, err := s.EC2.DescribeInstanceAttribute(ctx, &ec2.DescribeInstanceAttributeInput{InstanceId: &id, Attribute: types.InstanceAttributeNameUserData})
	if err != nil {
		return false, awserr.Wrap(err, failure.ServiceUnavailable, "read the user data of %s", id)
	}
	encoded := ""
	if out.UserData != nil {
		encoded = aws.ToString(out.UserData.Value)
	}
	if s.run.UserData == nil {
		return encoded == "", nil
	}
	var sent [2]userdata.Addresses // without signatures
	for n, text := range []string{encoded, *s.run.UserData} {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return false, nil
		}
		signed, ok := userdata.AddressesIn(s.plan.UserData, data)
		if !ok {
			return false, nil
		}
		sent[n] = userdata.Addresses{Bundle: unsigned(signed.Bundle), Verdict: unsigned(signed.Verdict), Steps: unsigned(signed.Steps)}
	}
	return sent[0] == sent[1], nil
}

// unsigned returns a presigned address without its query, which contains the signature.
func unsigned(address string) string {
	path, _, _ := strings.Cut(address, "?")
	return path
}

func profileOf(i types.Instance) string {
	if i.IamInstanceProfile == nil {
		return ""
	}
	return aws.ToString(i.IamInstanceProfile.Arn)
}

// hasProfile compares an ARN with the setting, which may be a name.
func (s attempt) hasProfile(arn string) bool {
	want := s.Settings.InstanceProfile
	if want == "" || strings.HasPrefix(want, "arn:") {
		return arn == want
	}
	return strings.Contains(arn, ":instance-profile/") && strings.HasSuffix(arn, "/"+want)
}

func (s attempt) launch(ctx context.Context, run ec2.RunInstancesInput, at place) (LaunchOutput, error) {
	token := s.token(at)
	run.ClientToken = &token
	run.InstanceType = types.InstanceType(at.instanceType)
	nic := types.InstanceNetworkInterfaceSpecification{
		DeviceIndex:              aws.Int32(0),
		AssociatePublicIpAddress: aws.Bool(false),
		DeleteOnTermination:      aws.Bool(true),
		Groups:                   s.Settings.SecurityGroupIDs,
	}
	if at.subnet != "" {
		nic.SubnetId = &at.subnet
	}
	run.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{nic}

	out, err := s.EC2.RunInstances(ctx, &run)
	if awserr.Is(err, "IdempotentParameterMismatch") {
		// The request of an earlier attempt succeeded.
		found, ok, findErr := s.find(ctx, ami.ByClientToken(token))
		if findErr == nil && !ok {
			findErr = failure.Wrap(failure.ServiceUnavailable, err, "the instance of an earlier attempt is not visible yet")
		}
		return found, findErr
	}
	if err != nil {
		return LaunchOutput{}, err
	}
	if len(out.Instances) == 0 {
		return LaunchOutput{}, failure.New(failure.Internal, "RunInstances succeeded and named no instance")
	}
	return LaunchOutput{InstanceID: aws.ToString(out.Instances[0].InstanceId), InstanceType: at.instanceType}, nil
}

// request returns the parameters of RunInstances that do not depend on the place.
func (s Launch) request(ctx context.Context, in LaunchInput, p plan.BuildPlan) (ec2.RunInstancesInput, error) {
	root := &types.EbsBlockDevice{
		VolumeType:          types.VolumeTypeGp3,
		VolumeSize:          aws.Int32(p.Recipe.Builder.RootVolume.SizeGiB),
		Encrypted:           aws.Bool(true),
		DeleteOnTermination: aws.Bool(true),
	}
	if key := p.Recipe.Builder.RootVolume.KMSKey; key != "" {
		root.KmsKeyId = &key
	}
	run := ec2.RunInstancesInput{
		MinCount: aws.Int32(1),
		MaxCount: aws.Int32(1),
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpEndpoint:            types.InstanceMetadataEndpointStateEnabled,
			HttpTokens:              types.HttpTokensStateRequired,
			HttpPutResponseHopLimit: aws.Int32(1),
			// This has no effect in a subnet without IPv6 addresses.
			HttpProtocolIpv6: types.InstanceMetadataProtocolStateEnabled,
		},
		TagSpecifications: labels(in.Job, p, "ami-factory "+in.Role+" "+p.Recipe.Name).Specifications(
			types.ResourceTypeInstance, types.ResourceTypeNetworkInterface, types.ResourceTypeVolume),
	}
	if profile := s.Settings.InstanceProfile; strings.HasPrefix(profile, "arn:") {
		run.IamInstanceProfile = &types.IamInstanceProfileSpecification{Arn: &profile}
	} else if profile != "" {
		run.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: &profile}
	}
	var err error
	switch in.Role {
	case builderRole:
		err = s.builder(ctx, in, &run, root, p)
	case verifierRole:
		err = s.verifier(ctx, &run, root, in.ImageID)
	default:
		err = failure.New(failure.InvalidInput, "role %q is neither %s nor %s", in.Role, builderRole, verifierRole)
	}
	return run, err
}

// addresses returns the presigned addresses for the builder: to read its bundle, and to
// write two objects of its execution. They expire with the recipe's time-out.
func (s Launch) addresses(ctx context.Context, e Execution, p plan.BuildPlan) (userdata.Addresses, error) {
	ttl := time.Duration(p.Recipe.Builder.Timeout) + urlSlack
	bundle, bundleErr := s.Store.GetURL(ctx, contract.BundleKey(p.Bundle.SHA256), bundleTTL)
	verdict, verdictErr := s.Store.PutOnceURL(ctx, executionKey(e, contract.ProvisionedObject), contract.BuilderUploadBytes, ttl)
	steps, stepsErr := s.Store.PutURL(ctx, executionKey(e, contract.StepsObject), contract.BuilderUploadBytes, ttl)
	return userdata.Addresses{Bundle: bundle, Verdict: verdict, Steps: steps}, errors.Join(bundleErr, verdictErr, stepsErr)
}

func (s Launch) builder(ctx context.Context, in LaunchInput, run *ec2.RunInstancesInput, root *types.EbsBlockDevice, p plan.BuildPlan) error {
	to, err := s.addresses(ctx, in.Execution, p)
	if err != nil {
		return err
	}
	data, err := userdata.Fill(p.UserData, to)
	if err != nil {
		return failure.Wrap(failure.RecipeInvalid, err, "make the builder's user data")
	}
	run.ImageId = aws.String(p.Source.ImageID)
	run.UserData = aws.String(base64.StdEncoding.EncodeToString(data))
	// A builder that powers itself off stops, so that the failure can be examined.
	run.InstanceInitiatedShutdownBehavior = types.ShutdownBehaviorStop
	run.BlockDeviceMappings = mapping(p.Source.RootDevice, root)
	return nil
}

func (s Launch) verifier(ctx context.Context, run *ec2.RunInstancesInput, root *types.EbsBlockDevice, imageID string) error {
	if err := requireInput("imageId", imageID); err != nil {
		return err
	}
	img, err := ami.Describe(ctx, s.EC2, imageID)
	if isNoImage(err) {
		return failure.Wrap(failure.ServiceUnavailable, err, "read the image to verify")
	}
	if err != nil {
		return awserr.Wrap(err, failure.InstanceFailed, "read the image to verify")
	}
	run.ImageId = &imageID
	run.InstanceInitiatedShutdownBehavior = types.ShutdownBehaviorTerminate
	// The snapshot decides the encryption of the volume. With a key of its own, the
	// verifier would differ from what consumers launch.
	root.Encrypted, root.KmsKeyId = nil, nil
	run.BlockDeviceMappings = mapping(aws.ToString(img.RootDeviceName), root)
	return nil
}

func mapping(device string, root *types.EbsBlockDevice) []types.BlockDeviceMapping {
	return []types.BlockDeviceMapping{{DeviceName: aws.String(device), Ebs: root}}
}
