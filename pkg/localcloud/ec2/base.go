package ec2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// BaseImage is a public image of another owner, such as Debian's.
type BaseImage struct {
	// ImageID is used in every region. If it is empty, each region gets an id
	// derived from owner, name, digest and region.
	ImageID      string
	Name         string // required
	Description  string
	OwnerID      string                   // required: twelve digits, such as 136693071363 for Debian
	OwnerAlias   string                   // amazon, aws-marketplace, or empty
	Architecture types.ArchitectureValues // default x86_64
	ImageDir     string                   // required; the caller keeps ownership
	Digest       string                   // default: SHA256 of the directory's image.json
	RootDevice   string                   // default /dev/xvda
	VolumeGiB    int                      // default: from the directory's image.json
	Regions      []string                 // default: all served regions
	Created      time.Time                // default: now
}

// RegisterBase registers a public image and returns its id by region.
// Registering it again replaces the image's directory.
func (s *Service) RegisterBase(b BaseImage) (map[string]string, error) {
	if b.Name == "" || b.ImageDir == "" || !isAccount(b.OwnerID) {
		return nil, errors.New("ec2: a base image needs a name, an image directory and a twelve-digit owner id")
	}
	info, err := vm.ReadImage(b.ImageDir)
	if err != nil {
		return nil, fmt.Errorf("register base image %s: %w", b.Name, err)
	}
	if b.Digest == "" {
		b.Digest = info.SHA256
	}
	if b.VolumeGiB == 0 {
		b.VolumeGiB = max(1, info.VolumeGiB)
	}
	if b.RootDevice == "" {
		b.RootDevice = "/dev/xvda"
	}
	if b.Architecture == "" {
		b.Architecture = types.ArchitectureValuesX8664
	}
	if b.Created.IsZero() {
		b.Created = s.cfg.Clock.Now()
	}
	regions := b.Regions
	if len(regions) == 0 {
		regions = s.cfg.Regions
	}
	s.mu.Lock()
	defer s.unlock()
	ids := make(map[string]string, len(regions))
	for _, region := range regions {
		ids[region] = s.registerBaseIn(region, b, info)
	}
	return ids, nil
}

func (s *Service) registerBaseIn(region string, b BaseImage, info vm.ImageInfo) string {
	id := b.ImageID
	if id == "" {
		id = stableID(amiKind.prefix, b.OwnerID, b.Name, b.Digest, region)
	}
	snapshotID := stableID(snapshotKind.prefix, id, region)
	if known, ok := s.st.Snapshots[snapshotID]; ok {
		if _, ok := s.st.Images[imageKey{region, id}]; ok {
			known.ImageDir, known.Info = b.ImageDir, info
			return id
		}
	}
	sn := &snapshot{Region: region, ImageDir: b.ImageDir, External: true, Info: info}
	sn.Snapshot = types.Snapshot{SnapshotId: aws.String(snapshotID), OwnerId: aws.String(b.OwnerID), State: types.SnapshotStateCompleted,
		Progress: aws.String("100%"), StartTime: aws.Time(b.Created), CompletionTime: aws.Time(b.Created), VolumeSize: aws.Int32(int32(b.VolumeGiB)),
		Encrypted: aws.Bool(false), StorageTier: types.StorageTierStandard, Description: aws.String(b.Name)}
	s.st.Snapshots[snapshotID] = sn
	im := &image{Region: region, Permissions: []types.LaunchPermission{{Group: types.PermissionGroupAll}}}
	im.Image = types.Image{
		ImageId: aws.String(id), Name: aws.String(b.Name), Description: aws.String(b.Description), OwnerId: aws.String(b.OwnerID),
		ImageLocation: aws.String(b.OwnerID + "/" + b.Name), ImageType: types.ImageTypeValuesMachine, State: types.ImageStateAvailable,
		Architecture: b.Architecture, CreationDate: aws.String(ec2Time(b.Created)), RootDeviceName: aws.String(b.RootDevice),
		RootDeviceType: types.DeviceTypeEbs, VirtualizationType: types.VirtualizationTypeHvm, Hypervisor: types.HypervisorTypeXen,
		EnaSupport: aws.Bool(true), SriovNetSupport: aws.String("simple"), PlatformDetails: aws.String("Linux/UNIX"), UsageOperation: aws.String("RunInstances"),
		BlockDeviceMappings: rootMapping(aws.String(b.RootDevice), sn, types.VolumeTypeGp3), DeregistrationProtection: aws.String(protectionOff),
	}
	if b.OwnerAlias != "" {
		im.ImageOwnerAlias = aws.String(b.OwnerAlias)
	}
	s.st.Images[imageKey{region, id}] = im
	return id
}

// ImageData returns the data of an available image that an account may launch.
func (s *Service) ImageData(account, region, imageID string) (dir string, info vm.ImageInfo, err error) {
	s.mu.Lock()
	defer s.unlock()
	im, err := s.visibleImage(wire.Caller{Account: account, Region: region}, imageID)
	if err != nil {
		return "", vm.ImageInfo{}, err
	}
	sn, ok := s.st.Snapshots[im.rootSnapshot()]
	if !ok || im.State != types.ImageStateAvailable {
		return "", vm.ImageInfo{}, wire.Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is not available (state %s)", imageID, im.State)
	}
	return sn.ImageDir, sn.Info, nil
}

// ExportImage writes an image's disk as one qcow2 file.
func (s *Service) ExportImage(ctx context.Context, account, region, imageID, file string) error {
	dir, _, err := s.ImageData(account, region, imageID)
	if err != nil {
		return err
	}
	if err := s.cfg.Driver.Export(ctx, dir, file); err != nil {
		return fmt.Errorf("export %s: %w", imageID, err)
	}
	return nil
}
