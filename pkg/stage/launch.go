package stage

import (
	"context"
	"encoding/base64"
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
	"github.com/ami-factory/ami-factory/pkg/userdata"
)

// bundleTTL is how long the builder may take to fetch its bundle.
const bundleTTL = time.Hour

// LaunchEC2 is what Launch needs of EC2.
type LaunchEC2 interface {
	ec2.DescribeImagesAPIClient
	ec2.DescribeInstancesAPIClient
	RunInstances(context.Context, *ec2.RunInstancesInput, ...func(*ec2.Options)) (*ec2.RunInstancesOutput, error)
}

// Launch starts the builder, or a verifier from the new image.
type Launch struct {
	Settings Settings
	Store    Store
	EC2      LaunchEC2
}

// place is one way to get an instance.
type place struct{ instanceType, subnet string }

func (p place) String() string {
	if p.subnet == "" {
		return p.instanceType
	}
	return p.instanceType + " in " + p.subnet
}

// Run starts the instance, or finds it started by an earlier attempt.
func (s Launch) Run(ctx context.Context, in LaunchInput) (LaunchOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return LaunchOutput{}, err
	}
	run, err := s.request(ctx, in, p)
	if err != nil {
		return LaunchOutput{}, err
	}
	// The presigned address differs at every attempt, so a client token alone
	// would be refused for other parameters: look first.
	out, found, err := s.find(ctx, ami.ByExecution(in.Execution.Name), ami.ByStage(in.Stage))
	if err != nil || found {
		return out, err
	}
	var tried []string
	var last error
	for _, at := range s.places(p) {
		out, err := s.launch(ctx, in, run, at)
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
		awserr.Is(err, "Unsupported") // the type does not exist in the subnet's zone
}

func launchError(err error, role string, at place) error {
	if awserr.Is(err, "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable") && role == verifierRole {
		// EC2 knew the image a moment ago: not every endpoint does yet.
		return failure.Wrap(failure.ServiceUnavailable, err, "launch the %s", role)
	}
	return awserr.Wrap(err, failure.InstanceFailed, "launch the %s as %s", role, at)
}

// find returns the oldest instance that matches and still exists.
func (s Launch) find(ctx context.Context, filters ...types.Filter) (LaunchOutput, bool, error) {
	found, err := ami.ListInstances(ctx, s.EC2, filters...)
	if err != nil {
		return LaunchOutput{}, false, awserr.Wrap(err, failure.ServiceUnavailable, "look for an instance of an earlier attempt")
	}
	if len(found) == 0 {
		return LaunchOutput{}, false, nil
	}
	return LaunchOutput{InstanceID: aws.ToString(found[0].InstanceId), InstanceType: string(found[0].InstanceType)}, true, nil
}

// places lists every type in the first subnet, then every type in the next.
func (s Launch) places(p plan.BuildPlan) []place {
	subnets := p.Recipe.Builder.SubnetIDs
	if len(subnets) == 0 {
		subnets = s.Settings.SubnetIDs
	}
	if len(subnets) == 0 {
		subnets = []string{""} // the default VPC's
	}
	var out []place
	for _, subnet := range subnets {
		for _, t := range p.Recipe.Builder.InstanceTypes {
			out = append(out, place{t, subnet})
		}
	}
	return out
}

func (s Launch) launch(ctx context.Context, in LaunchInput, run ec2.RunInstancesInput, at place) (LaunchOutput, error) {
	token := ami.ClientToken(in.Execution.ID, in.Execution.Name, in.Stage, at.instanceType, at.subnet)
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
		// An earlier attempt's request went through after all.
		found, ok, findErr := s.find(ctx, ami.ByClientToken(token))
		if findErr == nil && !ok {
			findErr = failure.Wrap(failure.ServiceUnavailable, err, "the instance of an earlier attempt is not to be seen yet")
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

// request is all of the call that does not depend on where it runs.
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
			// It has no effect where the subnet has no IPv6 addresses.
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
		err = s.builder(ctx, &run, root, p)
	case verifierRole:
		err = s.verifier(ctx, &run, root, in.ImageID)
	default:
		err = failure.New(failure.InvalidInput, "role %q is neither %s nor %s", in.Role, builderRole, verifierRole)
	}
	return run, err
}

func (s Launch) builder(ctx context.Context, run *ec2.RunInstancesInput, root *types.EbsBlockDevice, p plan.BuildPlan) error {
	url, err := s.Store.GetURL(ctx, contract.BundleKey(p.Bundle.SHA256), bundleTTL)
	if err != nil {
		return err
	}
	data, err := userdata.Fill(p.UserData, url)
	if err != nil {
		return failure.Wrap(failure.RecipeInvalid, err, "make the builder's user data")
	}
	run.ImageId = aws.String(p.Source.ImageID)
	run.UserData = aws.String(base64.StdEncoding.EncodeToString(data))
	// A builder that powers itself off is a failure to look into, not one to lose.
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
	// The snapshot says how its volume is encrypted; naming a key here would
	// verify something else than what consumers launch.
	root.Encrypted, root.KmsKeyId = nil, nil
	run.BlockDeviceMappings = mapping(aws.ToString(img.RootDeviceName), root)
	return nil
}

func mapping(device string, root *types.EbsBlockDevice) []types.BlockDeviceMapping {
	return []types.BlockDeviceMapping{{DeviceName: aws.String(device), Ebs: root}}
}
