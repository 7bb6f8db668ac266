package ec2

import (
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxCopies is the quota of concurrent image copies into a region.
const maxCopies = 300

// CopyImage copies an image into the caller's region, in the background. The
// copy shares the data of its source.
func (s *Service) CopyImage(ctx context.Context, in *ec2.CopyImageInput, optFns ...func(*ec2.Options)) (*ec2.CopyImageOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	params := *in
	params.ClientToken = nil
	key, digest, earlier, err := s.replay(c, "CopyImage", in.ClientToken, params)
	if err != nil {
		return nil, err
	}
	if earlier != "" {
		return &ec2.CopyImageOutput{ImageId: aws.String(earlier)}, nil
	}
	source, sourceSnapshot, err := s.copySource(c, in)
	if err != nil {
		return nil, err
	}
	if err := s.checkImageName(c, in.Name); err != nil {
		return nil, err
	}
	if err := checkDescription(in.Description); err != nil {
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
	if aws.ToBool(in.CopyImageTags) {
		imageTags = mergeTags(source.view(c.Account).Tags, imageTags)
	}
	cipher, err := s.copyEncryption(c, in, sourceSnapshot)
	if err != nil {
		return nil, err
	}
	if err := s.checkCopyQuota(c); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}

	sn := s.newSnapshot(c, snapshotTags)
	sn.ImageDir, sn.External, sn.Info = sourceSnapshot.ImageDir, sourceSnapshot.External, sourceSnapshot.Info
	sn.VolumeSize, sn.VolumeId = sourceSnapshot.VolumeSize, aws.String("vol-ffffffff")
	sn.Encrypted, sn.ManagedKey = aws.Bool(cipher.Encrypted), cipher.Managed
	if cipher.Encrypted {
		sn.KmsKeyId = aws.String(cipher.KeyARN)
	}
	im := s.newImage(c, *in.Name, in.Description, sn, imageTags)
	sn.Description = aws.String("Copied for DestinationAmi " + *im.ImageId + " from SourceAmi " + *source.ImageId +
		" for SourceSnapshot " + *sourceSnapshot.SnapshotId + ". Task created on " + ec2Time(s.cfg.Clock.Now()) + ".")
	im.Architecture, im.BootMode, im.RootDeviceName, im.ImdsSupport = source.Architecture, source.BootMode, source.RootDeviceName, source.ImdsSupport
	im.SourceImageId, im.SourceImageRegion = source.ImageId, aws.String(source.Region)
	im.BlockDeviceMappings = rootMapping(source.RootDeviceName, sn, rootVolumeType(source))
	if im.Description == nil {
		im.Description = aws.String("[Copied " + *source.ImageId + " from " + source.Region + "] " + aws.ToString(source.Name))
	}
	s.remember(key, digest, *im.ImageId)
	s.background(func(ctx context.Context) { s.copyImage(ctx, im, sn, cipher.Trouble) })
	return &ec2.CopyImageOutput{ImageId: im.ImageId}, nil
}

func (s *Service) copySource(c wire.Caller, in *ec2.CopyImageInput) (*image, *snapshot, error) {
	if err := required("SourceImageId", in.SourceImageId); err != nil {
		return nil, nil, err
	}
	if err := required("SourceRegion", in.SourceRegion); err != nil {
		return nil, nil, err
	}
	if !slices.Contains(s.cfg.Regions, *in.SourceRegion) {
		return nil, nil, wire.Errorf("InvalidRegion", "The region '%s' does not exist or is not enabled.", *in.SourceRegion)
	}
	source, err := s.visibleImage(wire.Caller{Account: c.Account, Region: *in.SourceRegion}, *in.SourceImageId)
	if err != nil {
		return nil, nil, err
	}
	if source.State != types.ImageStateAvailable {
		return nil, nil, wire.Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is not available (state %s)", *source.ImageId, source.State)
	}
	sn, ok := s.st.Snapshots[source.rootSnapshot()]
	if !ok {
		return nil, nil, wire.Errorf("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", source.rootSnapshot())
	}
	return source, sn, nil
}

// copyEncryption returns the encryption of a copy: with the named key, otherwise
// with EBS's own key of the region if encryption is requested or the source is
// encrypted.
func (s *Service) copyEncryption(c wire.Caller, in *ec2.CopyImageInput, source *snapshot) (encryption, error) {
	named := aws.ToString(in.KmsKeyId)
	switch {
	case named != "" && !aws.ToBool(in.Encrypted):
		return encryption{}, wire.Errorf("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	case in.Encrypted != nil && !*in.Encrypted && aws.ToBool(source.Encrypted):
		return encryption{}, wire.Errorf("InvalidParameterValue", "You cannot create an unencrypted copy of an encrypted snapshot")
	case aws.ToBool(in.Encrypted) || aws.ToBool(source.Encrypted):
		return s.resolveEncryption(c.Account, c.Region, named), nil
	}
	return encryption{}, nil
}

func (s *Service) checkCopyQuota(c wire.Caller) error {
	pending := 0
	for _, im := range s.st.Images {
		if im.Region == c.Region && aws.ToString(im.OwnerId) == c.Account && im.State == types.ImageStatePending && im.SourceInstanceId == nil {
			pending++
		}
	}
	if pending >= maxCopies {
		return wire.Errorf("ResourceLimitExceeded", "Too many image copies in progress into %s: at most %d", c.Region, maxCopies)
	}
	return nil
}

func rootVolumeType(im *image) types.VolumeType {
	for _, m := range im.BlockDeviceMappings {
		if m.Ebs != nil {
			return m.Ebs.VolumeType
		}
	}
	return types.VolumeTypeGp3
}

// copyImage does the work of CopyImage.
func (s *Service) copyImage(ctx context.Context, im *image, sn *snapshot, trouble string) {
	err := s.cfg.Clock.Sleep(ctx, s.cfg.Timing.CopyBase+time.Duration(*sn.VolumeSize)*s.cfg.Timing.CopyPerGiB)
	if err != nil {
		err = errCutOff
	}
	if err == nil && trouble != "" {
		err = wire.Errorf("InvalidKMSKey.InvalidState", "%s", trouble)
	}
	s.mu.Lock()
	defer s.unlock()
	s.finishImage(im, sn, err)
}
