package ec2

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// RunInstances launches instances, which become running in the background.
// Parameters without an effect here are refused, not ignored.
func (s *Service) RunInstances(ctx context.Context, in *ec2.RunInstancesInput, optFns ...func(*ec2.Options)) (*ec2.RunInstancesOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	params := *in
	params.ClientToken = nil
	key, digest, reservation, err := s.replay(c, "RunInstances", in.ClientToken, params)
	if err != nil {
		return nil, err
	}
	if reservation != "" {
		return s.reservation(c, reservation), nil
	}
	l, err := s.checkLaunch(c, in)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	reservation = "r-" + scope.Hex(17)
	for n := range l.count {
		i, err := s.newInstance(l, reservation, n)
		if err != nil {
			return nil, err
		}
		s.st.Instances[*i.InstanceId] = i
		s.queuePendingEvent(i)
		s.background(func(ctx context.Context) { s.life(ctx, i, l.trouble) })
	}
	now := s.cfg.Clock.Now()
	l.image.LastLaunched = &now
	s.remember(key, digest, reservation)
	return s.reservation(c, reservation), nil
}

// reservation returns the answer of RunInstances.
func (s *Service) reservation(c wire.Caller, id string) *ec2.RunInstancesOutput {
	out := &ec2.RunInstancesOutput{ReservationId: aws.String(id), OwnerId: aws.String(c.Account), Groups: []types.GroupIdentifier{}}
	for _, i := range s.sortedInstances(c) {
		if i.ReservationID == id {
			out.Instances = append(out.Instances, i.view())
		}
	}
	return out
}

func (s *Service) newInstance(l *launch, reservation string, index int) (*instance, error) {
	ip, err := s.freeAddress(l.subnet, l.address)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Clock.Now()
	i := &instance{
		Account: l.caller.Account, Region: l.caller.Region,
		Visible:       now.Add(s.cfg.Timing.ConsistencyWindow),
		ReservationID: reservation,
		UserData:      l.userData,
		Shutdown:      l.shutdown, TerminationLocked: l.terminationLocked, StopLocked: l.stopLocked,
		Profile:   l.profile,
		ImageDir:  l.snapshot.ImageDir,
		VolumeGiB: int(l.volumeGiB),
	}
	id := instanceKind.newID()
	i.MAC = macAddress(id)
	v := s.newVolume(l, id, now)
	i.VolumeID = *v.VolumeId
	i.Instance = types.Instance{
		InstanceId: aws.String(id), ImageId: l.image.ImageId, InstanceType: types.InstanceType(l.shape.name),
		AmiLaunchIndex: aws.Int32(int32(index)), ClientToken: l.clientToken, LaunchTime: aws.Time(now),
		Architecture: l.image.Architecture, Hypervisor: types.HypervisorTypeXen, VirtualizationType: types.VirtualizationTypeHvm,
		EnaSupport: aws.Bool(true), EbsOptimized: aws.Bool(aws.ToBool(l.ebsOptimized)), SourceDestCheck: aws.Bool(true),
		PlatformDetails: aws.String("Linux/UNIX"), UsageOperation: aws.String("RunInstances"), UsageOperationUpdateTime: aws.Time(now),
		Placement:        &types.Placement{AvailabilityZone: aws.String(l.subnet.zone), GroupName: aws.String(""), Tenancy: types.TenancyDefault},
		Monitoring:       &types.Monitoring{State: types.MonitoringStateDisabled},
		PrivateIpAddress: aws.String(ip), PrivateDnsName: aws.String(privateDNSName(ip, i.Region)), PublicDnsName: aws.String(""),
		VpcId: aws.String(l.subnet.vpc), SubnetId: aws.String(l.subnet.id), SecurityGroups: l.groups, ProductCodes: []types.ProductCode{},
		RootDeviceName: l.image.RootDeviceName, RootDeviceType: types.DeviceTypeEbs,
		BlockDeviceMappings: []types.InstanceBlockDeviceMapping{{
			DeviceName: l.image.RootDeviceName,
			Ebs: &types.EbsInstanceBlockDevice{VolumeId: v.VolumeId, AttachTime: aws.Time(now), Status: types.AttachmentStatusAttached,
				DeleteOnTermination: aws.Bool(l.deleteVolume)},
		}},
		MetadataOptions:       l.metadata,
		NetworkInterfaces:     []types.InstanceNetworkInterface{l.networkInterface(i, id, ip, now)},
		StateTransitionReason: aws.String(""),
		State:                 instanceState(types.InstanceStateNamePending),
		Tags:                  l.instanceTags,
		CpuOptions:            &types.CpuOptions{CoreCount: aws.Int32(max(1, l.shape.vcpus/2)), ThreadsPerCore: aws.Int32(min(2, l.shape.vcpus))},
		BootMode:              l.image.BootMode,
	}
	if l.profile.ARN != "" {
		i.IamInstanceProfile = &types.IamInstanceProfile{Arn: aws.String(l.profile.ARN), Id: aws.String(l.profile.ID)}
	}
	if l.key != nil {
		i.KeyName, i.SSHKey = aws.String(l.key.Name), l.key.PublicKey
	}
	i.Public = aws.ToBool(l.public)
	s.st.Volumes[*v.VolumeId] = v
	return i, nil
}

func (l *launch) networkInterface(i *instance, id, ip string, now time.Time) types.InstanceNetworkInterface {
	return types.InstanceNetworkInterface{
		NetworkInterfaceId: aws.String(stableID("eni-", id)), MacAddress: aws.String(i.MAC), OwnerId: aws.String(i.Account),
		PrivateIpAddress: aws.String(ip), PrivateDnsName: aws.String(privateDNSName(ip, i.Region)),
		SubnetId: aws.String(l.subnet.id), VpcId: aws.String(l.subnet.vpc), Groups: l.groups,
		Status: types.NetworkInterfaceStatusInUse, SourceDestCheck: aws.Bool(true), InterfaceType: aws.String("interface"), Description: aws.String(""),
		Attachment: &types.InstanceNetworkInterfaceAttachment{AttachmentId: aws.String(stableID("eni-attach-", id)), AttachTime: aws.Time(now),
			DeleteOnTermination: aws.Bool(true), DeviceIndex: aws.Int32(0), NetworkCardIndex: aws.Int32(0), Status: types.AttachmentStatusAttached},
		PrivateIpAddresses: []types.InstancePrivateIpAddress{{Primary: aws.Bool(true), PrivateIpAddress: aws.String(ip),
			PrivateDnsName: aws.String(privateDNSName(ip, i.Region))}},
	}
}

// queuePendingEvent queues the first event of an instance.
func (s *Service) queuePendingEvent(i *instance) {
	i.State = nil
	s.setInstanceState(i, types.InstanceStateNamePending)
}
