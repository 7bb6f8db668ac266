package ec2

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxSharing is the quota of entities with which an image can be shared.
const maxSharing = 1000

// ModifyImageAttribute changes one attribute of an image: launchPermission,
// description or imdsSupport.
func (s *Service) ModifyImageAttribute(ctx context.Context, in *ec2.ModifyImageAttributeInput, optFns ...func(*ec2.Options)) (*ec2.ModifyImageAttributeOutput, error) {
	c := s.caller(ctx, optFns)
	if err := required("ImageId", in.ImageId); err != nil {
		return nil, err
	}
	attribute, err := modifiedAttribute(in)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	im, err := s.ownImage(c, *in.ImageId)
	if err != nil {
		return nil, err
	}
	var apply func()
	switch attribute {
	case "launchPermission":
		permissions, err := s.newPermissions(c, im, in)
		if err != nil {
			return nil, err
		}
		apply = func() { im.Permissions = permissions }
	case "description":
		text := in.Value
		if in.Description != nil {
			text = in.Description.Value
		}
		if err := checkDescription(text); err != nil {
			return nil, err
		}
		apply = func() { im.Description = aws.String(aws.ToString(text)) }
	case "imdsSupport":
		value := in.Value
		if in.ImdsSupport != nil {
			value = in.ImdsSupport.Value
		}
		if aws.ToString(value) != string(types.ImdsSupportValuesV20) {
			return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter imdsSupport is invalid. The only allowed value is v2.0, and it cannot be undone.", aws.ToString(value))
		}
		apply = func() { im.ImdsSupport = types.ImdsSupportValuesV20 }
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Allowed: launchPermission, description, imdsSupport", attribute)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	apply()
	return &ec2.ModifyImageAttributeOutput{}, nil
}

// modifiedAttribute returns the one attribute that a call changes.
func modifiedAttribute(in *ec2.ModifyImageAttributeInput) (string, error) {
	var found []string
	if in.LaunchPermission != nil || len(in.UserIds)+len(in.UserGroups)+len(in.OrganizationArns)+len(in.OrganizationalUnitArns) > 0 {
		found = append(found, "launchPermission")
	}
	if in.Description != nil {
		found = append(found, "description")
	}
	if in.ImdsSupport != nil {
		found = append(found, "imdsSupport")
	}
	if len(in.ProductCodes) > 0 {
		found = append(found, "productCodes")
	}
	if named := aws.ToString(in.Attribute); named != "" && !slices.Contains(found, named) {
		found = append(found, named)
	}
	switch len(found) {
	case 0:
		return "", wire.Errorf("MissingParameter", "The request must contain one attribute to modify")
	case 1:
		return found[0], nil
	}
	return "", wire.Errorf("InvalidParameterCombination", "Only one attribute can be modified at a time, not %s", strings.Join(found, " and "))
}

// newPermissions returns the launch permissions after a call.
func (s *Service) newPermissions(c wire.Caller, im *image, in *ec2.ModifyImageAttributeInput) ([]types.LaunchPermission, error) {
	var add, remove []types.LaunchPermission
	if in.LaunchPermission != nil {
		add, remove = in.LaunchPermission.Add, in.LaunchPermission.Remove
	}
	var flat []types.LaunchPermission
	for _, id := range in.UserIds {
		flat = append(flat, types.LaunchPermission{UserId: aws.String(id)})
	}
	for _, group := range in.UserGroups {
		flat = append(flat, types.LaunchPermission{Group: types.PermissionGroup(group)})
	}
	for _, arn := range in.OrganizationArns {
		flat = append(flat, types.LaunchPermission{OrganizationArn: aws.String(arn)})
	}
	for _, arn := range in.OrganizationalUnitArns {
		flat = append(flat, types.LaunchPermission{OrganizationalUnitArn: aws.String(arn)})
	}
	switch in.OperationType {
	case types.OperationTypeRemove:
		remove = slices.Concat(remove, flat)
	case types.OperationTypeAdd:
		add = slices.Concat(add, flat)
	default:
		// EC2 accepts the flat list without OperationType next to LaunchPermission,
		// which itself has what to add and remove; Packer sends both.
		if len(flat) > 0 && in.LaunchPermission == nil {
			return nil, wire.Errorf("MissingParameter", "The request must contain the parameter OperationType")
		}
	}
	for _, p := range slices.Concat(add, remove) {
		if err := checkPermission(p); err != nil {
			return nil, err
		}
	}
	if err := s.checkSharing(c, im, add); err != nil {
		return nil, err
	}
	permissions := slices.DeleteFunc(slices.Clone(im.Permissions), func(p types.LaunchPermission) bool {
		return slices.ContainsFunc(remove, func(r types.LaunchPermission) bool { return permissionKey(r) == permissionKey(p) })
	})
	permissions = slices.Concat(permissions, add)
	slices.SortFunc(permissions, func(a, b types.LaunchPermission) int { return strings.Compare(permissionKey(a), permissionKey(b)) })
	permissions = slices.CompactFunc(permissions, func(a, b types.LaunchPermission) bool { return permissionKey(a) == permissionKey(b) })
	if len(permissions) > maxSharing {
		return nil, wire.Errorf("ResourceLimitExceeded", "An AMI can be shared with at most %d entities; this would make %d", maxSharing, len(permissions))
	}
	return permissions, nil
}

func permissionKey(p types.LaunchPermission) string {
	return strings.Join([]string{string(p.Group), aws.ToString(p.UserId), aws.ToString(p.OrganizationArn), aws.ToString(p.OrganizationalUnitArn)}, "|")
}

func checkPermission(p types.LaunchPermission) error {
	switch {
	case p.Group != "" && p.Group != types.PermissionGroupAll:
		return wire.Errorf("InvalidParameterValue", "Value (%s) for parameter group is invalid. Allowed: all", p.Group)
	case p.UserId != nil && !isAccount(*p.UserId):
		return wire.Errorf("InvalidAMIAttributeItemValue", "Invalid attribute item value %q for userId item type.", *p.UserId)
	case p.OrganizationArn != nil && !strings.Contains(*p.OrganizationArn, ":organization/o-"):
		return wire.Errorf("InvalidAMIAttributeItemValue", "Invalid attribute item value %q for organizationArn item type.", *p.OrganizationArn)
	case p.OrganizationalUnitArn != nil && !strings.Contains(*p.OrganizationalUnitArn, ":ou/o-"):
		return wire.Errorf("InvalidAMIAttributeItemValue", "Invalid attribute item value %q for organizationalUnitArn item type.", *p.OrganizationalUnitArn)
	case permissionKey(p) == "|||":
		return wire.Errorf("MissingParameter", "A launch permission must name a user, group, organization or organizational unit")
	}
	return nil
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// checkSharing refuses permissions that EC2 would not grant.
func (s *Service) checkSharing(c wire.Caller, im *image, add []types.LaunchPermission) error {
	if len(add) == 0 {
		return nil
	}
	sn := s.st.Snapshots[im.rootSnapshot()]
	if sn != nil && sn.ManagedKey {
		return wire.Errorf("InvalidParameter", "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot.")
	}
	if !slices.ContainsFunc(add, func(p types.LaunchPermission) bool { return p.Group == types.PermissionGroupAll }) {
		return nil
	}
	if s.publicAccess(c) == publicAccessBlocked {
		return wire.Errorf("OperationNotPermitted", "You can't publicly share this image because block public access for AMIs is enabled in this Region.")
	}
	if sn != nil && aws.ToBool(sn.Encrypted) {
		return wire.Errorf("OperationNotPermitted", "An image with encrypted snapshots cannot be made public.")
	}
	return nil
}

// DescribeImageAttribute shows one attribute of an image to its owner.
func (s *Service) DescribeImageAttribute(ctx context.Context, in *ec2.DescribeImageAttributeInput, optFns ...func(*ec2.Options)) (*ec2.DescribeImageAttributeOutput, error) {
	c := s.caller(ctx, optFns)
	if err := required("ImageId", in.ImageId); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	im, err := s.ownImage(c, *in.ImageId)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeImageAttributeOutput{ImageId: im.ImageId}
	switch in.Attribute {
	case types.ImageAttributeNameDescription:
		out.Description = &types.AttributeValue{Value: im.Description}
	case types.ImageAttributeNameLaunchPermission:
		out.LaunchPermissions = slices.Concat([]types.LaunchPermission{}, im.Permissions)
	case types.ImageAttributeNameBlockDeviceMapping:
		out.BlockDeviceMappings = slices.Clone(im.BlockDeviceMappings)
	case types.ImageAttributeNameImdsSupport:
		if im.ImdsSupport != "" {
			out.ImdsSupport = &types.AttributeValue{Value: aws.String(string(im.ImdsSupport))}
		}
	case types.ImageAttributeNameBootMode:
		out.BootMode = &types.AttributeValue{Value: aws.String(string(im.BootMode))}
	case types.ImageAttributeNameLastLaunchedTime:
		if im.LastLaunched != nil {
			out.LastLaunchedTime = &types.AttributeValue{Value: aws.String(ec2Time(*im.LastLaunched))}
		}
	case types.ImageAttributeNameDeregistrationProtection:
		out.DeregistrationProtection = &types.AttributeValue{Value: im.DeregistrationProtection}
	case types.ImageAttributeNameSriovNetSupport:
		out.SriovNetSupport = &types.AttributeValue{Value: im.SriovNetSupport}
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown or unsupported attribute.", in.Attribute)
	}
	return out, nil
}
