package ec2

import (
	"context"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// DescribeImages lists images that the caller owns or may launch. Deprecated
// images of other owners are shown by id, or with IncludeDeprecated.
func (s *Service) DescribeImages(ctx context.Context, in *ec2.DescribeImagesInput, optFns ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	now := s.cfg.Clock.Now()
	known := func(im *image) bool {
		return im.Region == c.Region && !now.Before(im.Visible) && s.mayLaunch(im, c.Account)
	}
	var missing []string
	for _, id := range in.ImageIds {
		if err := amiKind.check(id); err != nil {
			return nil, err
		}
		if im, ok := s.st.Images[imageKey{c.Region, id}]; !ok || !known(im) {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return nil, amiKind.notFound(missing...)
	}
	var list []*image
	for _, im := range s.st.Images {
		switch {
		case !known(im):
		case len(in.ImageIds) > 0 && !slices.Contains(in.ImageIds, *im.ImageId):
		case im.deprecated(now) && !aws.ToBool(in.IncludeDeprecated) && len(in.ImageIds) == 0 && aws.ToString(im.OwnerId) != c.Account:
		case im.State == types.ImageStateDisabled && !aws.ToBool(in.IncludeDisabled) && len(in.ImageIds) == 0:
		case !ownedBy(im, in.Owners, c.Account):
		case !executableBy(im, in.ExecutableUsers, c.Account):
		default:
			list = append(list, im)
		}
	}
	sortImages(list)
	list, err := imageFilters().apply(list, in.Filters, func(im *image) []types.Tag { return im.view(c.Account).Tags })
	if err != nil {
		return nil, err
	}
	if len(in.ImageIds) > 0 && in.MaxResults != nil {
		return nil, wire.Errorf("InvalidParameterCombination", "The parameter imageIdSet cannot be used with the parameter maxResults")
	}
	list, next, err := page(list, in.NextToken, in.MaxResults, 1)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeImagesOutput{Images: []types.Image{}, NextToken: next}
	for _, im := range list {
		out.Images = append(out.Images, im.view(c.Account))
	}
	return out, nil
}

// ownedBy matches the Owners parameter: self, an alias, or an account id.
func ownedBy(im *image, owners []string, account string) bool {
	if len(owners) == 0 {
		return true
	}
	owner := aws.ToString(im.OwnerId)
	return slices.ContainsFunc(owners, func(o string) bool {
		return o == owner || o == "self" && owner == account || im.ImageOwnerAlias != nil && o == *im.ImageOwnerAlias
	})
}

// executableBy matches the ExecutableUsers parameter: all means public, self
// and account ids mean explicit launch permission.
func executableBy(im *image, users []string, account string) bool {
	if len(users) == 0 {
		return true
	}
	return slices.ContainsFunc(users, func(user string) bool {
		if user == "all" {
			return im.public()
		}
		if user == "self" {
			user = account
		}
		return slices.ContainsFunc(im.Permissions, func(p types.LaunchPermission) bool { return aws.ToString(p.UserId) == user })
	})
}

func imageFilters() filterTable[*image] {
	root := func(pick func(*types.EbsBlockDevice) []string) func(*image) []string {
		return func(im *image) []string {
			var values []string
			for _, m := range im.BlockDeviceMappings {
				if m.Ebs != nil {
					values = append(values, pick(m.Ebs)...)
				}
			}
			return values
		}
	}
	return filterTable[*image]{
		"image-id":                         func(im *image) []string { return one(im.ImageId) },
		"name":                             func(im *image) []string { return one(im.Name) },
		"description":                      func(im *image) []string { return one(im.Description) },
		"owner-id":                         func(im *image) []string { return one(im.OwnerId) },
		"owner-alias":                      func(im *image) []string { return one(im.ImageOwnerAlias) },
		"state":                            func(im *image) []string { return []string{string(im.State)} },
		"architecture":                     func(im *image) []string { return []string{string(im.Architecture)} },
		"boot-mode":                        func(im *image) []string { return []string{string(im.BootMode)} },
		"creation-date":                    func(im *image) []string { return one(im.CreationDate) },
		"ena-support":                      func(im *image) []string { return boolText(aws.ToBool(im.EnaSupport)) },
		"hypervisor":                       func(im *image) []string { return []string{string(im.Hypervisor)} },
		"image-type":                       func(im *image) []string { return []string{string(im.ImageType)} },
		"imds-support":                     func(im *image) []string { return []string{string(im.ImdsSupport)} },
		"is-public":                        func(im *image) []string { return boolText(im.public()) },
		"manifest-location":                func(im *image) []string { return one(im.ImageLocation) },
		"platform-details":                 func(im *image) []string { return one(im.PlatformDetails) },
		"root-device-name":                 func(im *image) []string { return one(im.RootDeviceName) },
		"root-device-type":                 func(im *image) []string { return []string{string(im.RootDeviceType)} },
		"source-image-id":                  func(im *image) []string { return one(im.SourceImageId) },
		"source-image-region":              func(im *image) []string { return one(im.SourceImageRegion) },
		"source-instance-id":               func(im *image) []string { return one(im.SourceInstanceId) },
		"virtualization-type":              func(im *image) []string { return []string{string(im.VirtualizationType)} },
		"block-device-mapping.snapshot-id": root(func(e *types.EbsBlockDevice) []string { return one(e.SnapshotId) }),
		"block-device-mapping.encrypted":   root(func(e *types.EbsBlockDevice) []string { return boolText(aws.ToBool(e.Encrypted)) }),
		"block-device-mapping.volume-type": root(func(e *types.EbsBlockDevice) []string { return []string{string(e.VolumeType)} }),
		"block-device-mapping.volume-size": root(func(e *types.EbsBlockDevice) []string { return []string{strconv.Itoa(int(aws.ToInt32(e.VolumeSize)))} }),
	}
}
