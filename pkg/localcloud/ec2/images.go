package ec2

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// errCutOff is the reason for which images fail that were pending when the
// Service was closed.
var errCutOff = errors.New("the image was being made when the embedded AWS ended")

// imageName matches the names that CreateImage allows.
var imageName = regexp.MustCompile(`^[A-Za-z0-9()\[\] ./\-'@_]{3,128}$`)

// visibleImage finds an image that the caller may launch. The caller of
// visibleImage holds s.mu.
func (s *Service) visibleImage(c wire.Caller, id string) (*image, error) {
	if err := amiKind.check(id); err != nil {
		return nil, err
	}
	im, ok := s.st.Images[imageKey{c.Region, id}]
	if !ok || !s.mayLaunch(im, c.Account) || s.cfg.Clock.Now().Before(im.Visible) {
		return nil, amiKind.notFound(id)
	}
	return im, nil
}

// ownImage finds an image for a call that only the image's owner may make.
func (s *Service) ownImage(c wire.Caller, id string) (*image, error) {
	if err := amiKind.check(id); err != nil {
		return nil, err
	}
	im, ok := s.st.Images[imageKey{c.Region, id}]
	if !ok || !s.mayLaunch(im, c.Account) {
		return nil, amiKind.notFound(id)
	}
	if aws.ToString(im.OwnerId) != c.Account {
		return nil, wire.Errorf("AuthFailure", "Not authorized for image:%s", id)
	}
	return im, nil
}

// mayLaunch reports whether an account owns the image or has launch permission.
func (s *Service) mayLaunch(im *image, account string) bool {
	if aws.ToString(im.OwnerId) == account {
		return true
	}
	var organizations []string
	if s.cfg.Organizations != nil {
		organizations = s.cfg.Organizations(account)
	}
	return slices.ContainsFunc(im.Permissions, func(p types.LaunchPermission) bool {
		return p.Group == types.PermissionGroupAll || aws.ToString(p.UserId) == account ||
			p.OrganizationArn != nil && slices.Contains(organizations, *p.OrganizationArn) ||
			p.OrganizationalUnitArn != nil && slices.Contains(organizations, *p.OrganizationalUnitArn)
	})
}

func (im *image) public() bool {
	return slices.ContainsFunc(im.Permissions, func(p types.LaunchPermission) bool { return p.Group == types.PermissionGroupAll })
}

// checkImageName refuses a name that is malformed or that another image of the
// caller in the region has.
func (s *Service) checkImageName(c wire.Caller, name *string) error {
	if err := required("Name", name); err != nil {
		return err
	}
	if !imageName.MatchString(*name) {
		return wire.Errorf("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, spaces, "+
			"and the characters ( ) [ ] . / - ' @ _")
	}
	for key, im := range s.st.Images {
		if key.Region == c.Region && aws.ToString(im.OwnerId) == c.Account && aws.ToString(im.Name) == *name {
			return wire.Errorf("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", *name, key.ID)
		}
	}
	return nil
}

// asciiOnly refuses names and descriptions that are not ASCII. Tags can be
// Unicode. The message is EC2's own.
func asciiOnly(parameter string, value *string) error {
	if strings.ContainsFunc(aws.ToString(value), func(r rune) bool { return r > unicode.MaxASCII }) {
		return wire.Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Character sets beyond ASCII are not supported.", *value, parameter)
	}
	return nil
}

// checkDescription refuses an invalid description of an image.
func checkDescription(text *string) error {
	if err := asciiOnly("Description", text); err != nil {
		return err
	}
	if len(aws.ToString(text)) > maxDescription {
		return wire.Errorf("InvalidParameterValue", "The description must be at most %d characters long", maxDescription)
	}
	return nil
}

// maxDescription is the maximum length of an image's description, in characters.
const maxDescription = 255

// CreateImage captures the disk of a stopped instance as an image, in the
// background. Unlike EC2 it does not reboot a running instance to do so.
func (s *Service) CreateImage(ctx context.Context, in *ec2.CreateImageInput, optFns ...func(*ec2.Options)) (*ec2.CreateImageOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	i, err := s.instanceNamed(c, in.InstanceId)
	if err != nil {
		return nil, err
	}
	if err := s.checkImageName(c, in.Name); err != nil {
		return nil, err
	}
	if err := checkDescription(in.Description); err != nil {
		return nil, err
	}
	v, err := s.capturable(i, in)
	if err != nil {
		return nil, err
	}
	allowed := []types.ResourceType{types.ResourceTypeImage, types.ResourceTypeSnapshot}
	imageTags, err := specifiedTags(in.TagSpecifications, types.ResourceTypeImage, allowed...)
	if err != nil {
		return nil, err
	}
	snapshotTags, err := specifiedTags(in.TagSpecifications, types.ResourceTypeSnapshot, allowed...)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}

	sn := s.newSnapshot(c, snapshotTags)
	im := s.newImage(c, *in.Name, in.Description, sn, imageTags)
	sn.Description = aws.String("Created by CreateImage(" + *i.InstanceId + ") for " + *im.ImageId)
	sn.VolumeId, sn.VolumeSize = v.VolumeId, v.Size
	sn.Encrypted, sn.KmsKeyId, sn.ManagedKey = v.Encrypted, v.KmsKeyId, s.isManaged(c, v)
	sn.ImageDir = s.imageDir(*sn.SnapshotId)
	im.Architecture, im.BootMode, im.RootDeviceName = i.Architecture, i.BootMode, i.RootDeviceName
	im.SourceInstanceId = i.InstanceId
	if source, ok := s.st.Images[imageKey{c.Region, aws.ToString(i.ImageId)}]; ok {
		im.ImdsSupport = source.ImdsSupport
		im.SourceImageId, im.SourceImageRegion = source.ImageId, aws.String(c.Region)
	}
	im.BlockDeviceMappings = rootMapping(i.RootDeviceName, sn, v.VolumeType)
	if i.captures++; i.captured == nil {
		i.captured = make(chan struct{})
	}
	s.background(func(ctx context.Context) { s.capture(ctx, i, im, sn) })
	return &ec2.CreateImageOutput{ImageId: im.ImageId}, nil
}

// capturable returns the volume that CreateImage captures.
func (s *Service) capturable(i *instance, in *ec2.CreateImageInput) (*volume, error) {
	switch i.State.Name {
	case types.InstanceStateNameStopped:
	case types.InstanceStateNameRunning:
		return nil, wire.Errorf("UnsupportedOperation", "the embedded AWS makes images of stopped instances only: stop %s first", *i.InstanceId)
	default:
		return nil, wire.Errorf("IncorrectInstanceState", "Instance '%s' is not in a state from which it can be imaged (%s)", *i.InstanceId, i.State.Name)
	}
	if len(in.BlockDeviceMappings) > 0 {
		return nil, wire.Errorf("UnsupportedOperation", "the embedded AWS does not support the parameter BlockDeviceMappings of CreateImage")
	}
	v, ok := s.st.Volumes[i.VolumeID]
	if !ok {
		return nil, volumeKind.notFound(i.VolumeID)
	}
	return v, nil
}

func (s *Service) isManaged(c wire.Caller, v *volume) bool {
	if v.KmsKeyId == nil {
		return false
	}
	key, err := s.cfg.ResolveKey(c.Account, c.Region, *v.KmsKeyId)
	return err == nil && key.Managed
}

// newImage makes the record of a pending image of the caller.
func (s *Service) newImage(c wire.Caller, name string, description *string, sn *snapshot, tags []types.Tag) *image {
	now := s.cfg.Clock.Now()
	im := &image{Region: c.Region, Visible: now.Add(s.cfg.Timing.ConsistencyWindow)}
	im.Image = types.Image{
		ImageId: aws.String(amiKind.newID()), Name: aws.String(name), Description: description, OwnerId: aws.String(c.Account),
		ImageLocation: aws.String(c.Account + "/" + name), ImageType: types.ImageTypeValuesMachine, State: types.ImageStatePending,
		CreationDate: aws.String(ec2Time(now)), RootDeviceType: types.DeviceTypeEbs, VirtualizationType: types.VirtualizationTypeHvm,
		Hypervisor: types.HypervisorTypeXen, EnaSupport: aws.Bool(true), SriovNetSupport: aws.String("simple"),
		PlatformDetails: aws.String("Linux/UNIX"), UsageOperation: aws.String("RunInstances"), Tags: tags,
		DeregistrationProtection: aws.String(protectionOff),
	}
	s.st.Images[imageKey{c.Region, *im.ImageId}] = im
	return im
}

func rootMapping(device *string, sn *snapshot, volumeType types.VolumeType) []types.BlockDeviceMapping {
	return []types.BlockDeviceMapping{{DeviceName: device, Ebs: &types.EbsBlockDevice{SnapshotId: sn.SnapshotId, VolumeSize: sn.VolumeSize,
		VolumeType: volumeType, Encrypted: sn.Encrypted, DeleteOnTermination: aws.Bool(true)}}}
}

// capture does the work of CreateImage.
func (s *Service) capture(ctx context.Context, i *instance, im *image, sn *snapshot) {
	took := s.cfg.Timing.ImageBase + time.Duration(*sn.VolumeSize)*s.cfg.Timing.ImagePerGiB
	var info vm.ImageInfo
	err := s.cfg.Clock.Sleep(ctx, took)
	if err == nil {
		info, err = s.cfg.Driver.Capture(ctx, s.instanceDir(*i.InstanceId), sn.ImageDir)
	}
	if ctx.Err() != nil {
		err = errCutOff
	}
	s.mu.Lock()
	defer s.unlock()
	sn.Info = info
	if i.captures--; i.captures == 0 {
		close(i.captured)
		i.captured = nil
	}
	s.releaseInstanceDir(i)
	s.finishImage(im, sn, err)
	if err != nil {
		s.remove(sn.ImageDir)
	}
}

// finishImage sets the final state of a pending image and its snapshot.
func (s *Service) finishImage(im *image, sn *snapshot, err error) {
	if _, kept := s.st.Snapshots[*sn.SnapshotId]; !kept {
		s.releaseImageDir(sn.ImageDir) // deleted meanwhile
	}
	if err != nil {
		s.cfg.Logger.Error("an image could not be made", "image", *im.ImageId, "snapshot", *sn.SnapshotId, "error", err)
		sn.State, sn.StateMessage = types.SnapshotStateError, aws.String(err.Error())
	} else {
		sn.State, sn.Progress, sn.CompletionTime = types.SnapshotStateCompleted, aws.String("100%"), aws.Time(s.cfg.Clock.Now())
		if size := sn.Info.SizeBytes; size > 0 { // the size of a simulated one is unknown
			sn.FullSnapshotSizeInBytes = aws.Int64(size)
		}
	}
	if _, kept := s.st.Images[imageKey{im.Region, *im.ImageId}]; !kept {
		return // deregistered meanwhile
	}
	if err != nil {
		im.State, im.StateReason = types.ImageStateFailed, serverFault(err.Error())
		s.queueImageEvent(im, "failed", err.Error())
		return
	}
	im.State = types.ImageStateAvailable
	s.queueImageEvent(im, "available", "")
}

// view returns the image in the form that describes show to an account.
func (im *image) view(account string) types.Image {
	out := im.Image
	out.Public = aws.Bool(im.public())
	out.Tags = nil
	if aws.ToString(im.OwnerId) == account {
		out.Tags = slices.Clone(im.Tags)
		if im.LastLaunched != nil {
			out.LastLaunchedTime = aws.String(ec2Time(*im.LastLaunched))
		}
	} else {
		out.DeregistrationProtection = nil
		out.SourceInstanceId = nil
	}
	out.BlockDeviceMappings = slices.Clone(im.BlockDeviceMappings)
	return out
}

// deprecated reports whether the image's deprecation time has passed.
func (im *image) deprecated(now time.Time) bool {
	if im.DeprecationTime == nil {
		return false
	}
	t, err := time.Parse(time.RFC3339, *im.DeprecationTime)
	return err == nil && !now.Before(t)
}

func sortImages(list []*image) {
	slices.SortFunc(list, func(a, b *image) int { return strings.Compare(*a.ImageId, *b.ImageId) })
}
