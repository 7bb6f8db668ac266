package ec2

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxUserData is the limit of user data before base64, in bytes.
const maxUserData = 16 << 10

// launch is a checked RunInstances call.
type launch struct {
	caller            wire.Caller
	image             *image
	snapshot          *snapshot
	shape             instanceType
	subnet            subnet
	address           string // requested, or empty
	groups            []types.GroupIdentifier
	count             int
	userData          []byte
	volumeGiB         int32
	volumeType        types.VolumeType
	iops, throughput  *int32
	deleteVolume      bool
	encryption        encryption
	profile           InstanceProfile
	key               *keyPair
	public            *bool // whether a public address is wanted
	metadata          *types.InstanceMetadataOptionsResponse
	shutdown          types.ShutdownBehavior
	terminationLocked bool
	stopLocked        bool
	ebsOptimized      *bool
	clientToken       *string
	instanceTags      []types.Tag
	volumeTags        []types.Tag
	trouble           string // why the launch fails after the call was accepted
}

func (s *Service) checkLaunch(c wire.Caller, in *ec2.RunInstancesInput) (*launch, error) {
	l := &launch{caller: c, clientToken: in.ClientToken, ebsOptimized: in.EbsOptimized, stopLocked: aws.ToBool(in.DisableApiStop),
		terminationLocked: aws.ToBool(in.DisableApiTermination), shutdown: in.InstanceInitiatedShutdownBehavior}
	steps := []func(wire.Caller, *launch, *ec2.RunInstancesInput) error{
		s.checkUnsupported, s.checkImage, s.checkShape, s.checkNetwork, s.checkCount,
		s.checkUserData, s.checkVolume, s.checkProfile, s.checkKey, s.checkMetadata, s.checkLaunchTags, s.checkCapacity,
	}
	for _, step := range steps {
		if err := step(c, l, in); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// checkUnsupported refuses parameters that would have no effect here.
func (s *Service) checkUnsupported(_ wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	switch l.shutdown {
	case "":
		l.shutdown = types.ShutdownBehaviorStop
	case types.ShutdownBehaviorStop, types.ShutdownBehaviorTerminate:
	default:
		return wire.Errorf("InvalidParameterValue", "Invalid value '%s' for InstanceInitiatedShutdownBehavior.", l.shutdown)
	}
	refused := ""
	switch {
	case in.LaunchTemplate != nil:
		refused = "LaunchTemplate"
	case in.InstanceMarketOptions != nil:
		refused = "InstanceMarketOptions"
	case in.HibernationOptions != nil && aws.ToBool(in.HibernationOptions.Configured):
		refused = "HibernationOptions"
	}
	if refused != "" {
		return wire.Errorf("UnsupportedOperation", "the embedded AWS does not support the parameter %s of RunInstances", refused)
	}
	return nil
}

func (s *Service) checkImage(c wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	if err := required("ImageId", in.ImageId); err != nil {
		return err
	}
	im, err := s.visibleImage(c, *in.ImageId)
	if err != nil {
		return err
	}
	if im.State != types.ImageStateAvailable {
		return wire.Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is not available (state %s)", *in.ImageId, im.State)
	}
	sn, ok := s.st.Snapshots[im.rootSnapshot()]
	if !ok {
		return wire.Errorf("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", im.rootSnapshot())
	}
	l.image, l.snapshot = im, sn
	return nil
}

func (s *Service) checkShape(_ wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	name := string(in.InstanceType)
	if name == "" {
		name = defaultInstanceType(l.image.Architecture)
	}
	shape, ok := findInstanceType(name)
	if !ok {
		return wire.Errorf("InvalidParameterValue", "Invalid value '%s' for InstanceType.", name)
	}
	if shape.architecture != l.image.Architecture {
		return wire.Errorf("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. "+
			"Specify an instance type and an AMI that have matching architectures, and try again. You can use 'describe-instance-types' or "+
			"'describe-images' to discover the architecture of the instance type or AMI.", shape.architecture, l.image.Architecture)
	}
	l.shape = shape
	return nil
}

func (s *Service) checkNetwork(c wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	subnetID, groupIDs, address := in.SubnetId, in.SecurityGroupIds, in.PrivateIpAddress
	switch len(in.NetworkInterfaces) {
	case 0:
	case 1:
		n := in.NetworkInterfaces[0]
		if subnetID != nil || len(groupIDs) > 0 {
			return wire.Errorf("InvalidParameterCombination", "Network interfaces and an instance-level subnet ID or security groups may not be specified on the same request")
		}
		subnetID, groupIDs, address = n.SubnetId, n.Groups, n.PrivateIpAddress
	default:
		return wire.Errorf("UnsupportedOperation", "the embedded AWS gives an instance one network interface, not %d", len(in.NetworkInterfaces))
	}
	zone := ""
	if in.Placement != nil {
		zone = aws.ToString(in.Placement.AvailabilityZone)
	}
	net := s.networkOf(c)
	sub, err := net.subnetFor(aws.ToString(subnetID), zone)
	if err != nil {
		return err
	}
	groups, err := net.groups(sub.vpc, groupIDs, in.SecurityGroups)
	if err != nil {
		return err
	}
	l.subnet, l.groups, l.address = sub, groups, aws.ToString(address)
	return nil
}

func (s *Service) checkCount(_ wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	least, most := aws.ToInt32(in.MinCount), aws.ToInt32(in.MaxCount)
	switch {
	case in.MinCount == nil || in.MaxCount == nil:
		return wire.Errorf("MissingParameter", "The request must contain the parameters MinCount and MaxCount")
	case least < 1 || most < least:
		return wire.Errorf("InvalidParameterValue", "MinCount (%d) must be at least 1 and not above MaxCount (%d)", least, most)
	case most > 1 && l.address != "":
		return wire.Errorf("InvalidParameterCombination", "A private IP address can be given to one instance only")
	case most > 100:
		return wire.Errorf("InstanceLimitExceeded", "You have requested more instances (%d) than your current instance limit of 100 allows.", most)
	}
	l.count = int(most)
	return nil
}

func (s *Service) checkUserData(_ wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	if aws.ToString(in.UserData) == "" {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(*in.UserData)
	if err != nil {
		return wire.Errorf("InvalidParameterValue", "Invalid BASE64 encoding of user data.")
	}
	if len(data) > maxUserData {
		return wire.Errorf("InvalidParameterValue", "User data is limited to %d bytes", maxUserData)
	}
	l.userData = data
	return nil
}

func (s *Service) checkVolume(c wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	least := aws.ToInt32(l.snapshot.VolumeSize)
	l.volumeGiB, l.deleteVolume, l.volumeType = least, true, types.VolumeTypeGp3
	asked := &types.EbsBlockDevice{}
	for _, m := range in.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) != aws.ToString(l.image.RootDeviceName) || m.Ebs == nil {
			return wire.Errorf("UnsupportedOperation", "the embedded AWS gives an instance its root volume %s only, not %s",
				aws.ToString(l.image.RootDeviceName), aws.ToString(m.DeviceName))
		}
		asked = m.Ebs
	}
	if asked.VolumeSize != nil {
		if *asked.VolumeSize < least {
			return wire.Errorf("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s', expect size >= %dGB",
				*asked.VolumeSize, *l.snapshot.SnapshotId, least)
		}
		l.volumeGiB = *asked.VolumeSize
	}
	if asked.DeleteOnTermination != nil {
		l.deleteVolume = *asked.DeleteOnTermination
	}
	if asked.VolumeType != "" {
		l.volumeType = asked.VolumeType
	}
	l.iops, l.throughput = asked.Iops, asked.Throughput
	encrypted := aws.ToBool(asked.Encrypted)
	switch {
	case aws.ToString(asked.KmsKeyId) != "" && asked.Encrypted != nil && !encrypted:
		return wire.Errorf("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	case encrypted, aws.ToString(asked.KmsKeyId) != "":
		l.encryption = s.resolveEncryption(c.Account, c.Region, aws.ToString(asked.KmsKeyId))
	case aws.ToBool(l.snapshot.Encrypted):
		l.encryption = encryption{Encrypted: true, KeyARN: aws.ToString(l.snapshot.KmsKeyId), Managed: l.snapshot.ManagedKey}
	}
	if l.encryption.Trouble != "" {
		l.trouble = "Client.InvalidKMSKey.InvalidState: " + l.encryption.Trouble
	}
	return nil
}

func (s *Service) checkProfile(c wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	if in.IamInstanceProfile == nil {
		return nil
	}
	ref := aws.ToString(in.IamInstanceProfile.Arn)
	what := "iamInstanceProfile.arn"
	if name := aws.ToString(in.IamInstanceProfile.Name); name != "" {
		if ref != "" {
			return wire.Errorf("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'")
		}
		ref, what = name, "iamInstanceProfile.name"
	}
	if ref == "" {
		return nil
	}
	profile, err := s.cfg.Profile(c.Account, ref)
	if err != nil {
		return wire.Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Invalid IAM Instance Profile: %v", ref, what, err)
	}
	l.profile = profile
	return nil
}

func (s *Service) checkMetadata(_ wire.Caller, l *launch, in *ec2.RunInstancesInput) error {
	m := &types.InstanceMetadataOptionsResponse{
		State: types.InstanceMetadataOptionsStateApplied, HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
		HttpTokens: types.HttpTokensStateOptional, HttpPutResponseHopLimit: aws.Int32(1),
		HttpProtocolIpv6: types.InstanceMetadataProtocolStateDisabled, InstanceMetadataTags: types.InstanceMetadataTagsStateDisabled,
	}
	if l.image.ImdsSupport == types.ImdsSupportValuesV20 {
		m.HttpTokens, m.HttpPutResponseHopLimit = types.HttpTokensStateRequired, aws.Int32(2)
	}
	if o := in.MetadataOptions; o != nil {
		if o.HttpTokens != "" {
			m.HttpTokens = o.HttpTokens
		}
		if o.HttpEndpoint != "" {
			m.HttpEndpoint = o.HttpEndpoint
		}
		if o.HttpPutResponseHopLimit != nil {
			if *o.HttpPutResponseHopLimit < 1 || *o.HttpPutResponseHopLimit > 64 {
				return wire.Errorf("InvalidParameterValue", "The HttpPutResponseHopLimit must be from 1 to 64, not %d", *o.HttpPutResponseHopLimit)
			}
			m.HttpPutResponseHopLimit = o.HttpPutResponseHopLimit
		}
		if o.HttpProtocolIpv6 != "" {
			m.HttpProtocolIpv6 = o.HttpProtocolIpv6
		}
		if o.InstanceMetadataTags != "" {
			m.InstanceMetadataTags = o.InstanceMetadataTags
		}
	}
	l.metadata = m
	return nil
}

func (s *Service) checkLaunchTags(_ wire.Caller, l *launch, in *ec2.RunInstancesInput) (err error) {
	allowed := []types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface}
	if l.instanceTags, err = specifiedTags(in.TagSpecifications, types.ResourceTypeInstance, allowed...); err != nil {
		return err
	}
	l.volumeTags, err = specifiedTags(in.TagSpecifications, types.ResourceTypeVolume, allowed...)
	return err
}

func (s *Service) checkCapacity(c wire.Caller, l *launch, _ *ec2.RunInstancesInput) error {
	return s.capacity(c, l.shape.name, l.subnet.zone)
}

func (s *Service) capacity(c wire.Caller, name, zone string) error {
	if s.cfg.Capacity == nil || s.cfg.Capacity(c, name, zone) {
		return nil
	}
	var others []string
	for _, sub := range defaultNetwork(c.Account, c.Region).subnets {
		if sub.zone != zone && s.cfg.Capacity(c, name, sub.zone) {
			others = append(others, sub.zone)
		}
	}
	hint := ""
	if len(others) > 0 {
		hint = fmt.Sprintf(" You can currently get %s capacity by not specifying an Availability Zone in your request or choosing %s.", name, strings.Join(others, ", "))
	}
	return wire.Errorf("InsufficientInstanceCapacity", "We currently do not have sufficient %s capacity in the Availability Zone you requested (%s). "+
		"Our system will be working on provisioning additional capacity.%s", name, zone, hint)
}

// vmLaunch returns the driver's input for starting an instance.
func (s *Service) vmLaunch(i *instance) vm.Launch {
	shape, _ := findInstanceType(string(i.InstanceType))
	in := vm.Launch{
		InstanceID: *i.InstanceId, InstanceType: string(i.InstanceType), InstanceDir: s.instanceDir(*i.InstanceId), ImageDir: i.ImageDir,
		VCPUs: int(shape.vcpus), MemoryMiB: int(shape.memoryMiB), VolumeGiB: i.VolumeGiB,
		PrivateIP: *i.PrivateIpAddress, MAC: i.MAC, Metadata: s.metadata(i),
	}
	if limit := s.cfg.Limits.VCPUs; limit > 0 {
		in.VCPUs = min(in.VCPUs, limit)
	}
	if limit := s.cfg.Limits.MemoryMiB; limit > 0 {
		in.MemoryMiB = min(in.MemoryMiB, limit)
	}
	return in
}
