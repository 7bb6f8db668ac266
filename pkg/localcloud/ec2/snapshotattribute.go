package ec2

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// ModifySnapshotAttribute changes who may create volumes from a snapshot.
func (s *Service) ModifySnapshotAttribute(ctx context.Context, in *ec2.ModifySnapshotAttributeInput, optFns ...func(*ec2.Options)) (*ec2.ModifySnapshotAttributeOutput, error) {
	c := s.caller(ctx, optFns)
	if err := required("SnapshotId", in.SnapshotId); err != nil {
		return nil, err
	}
	add, remove, err := volumePermissions(in)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	sn, err := s.ownSnapshot(c, *in.SnapshotId)
	if err != nil {
		return nil, err
	}
	for _, p := range add {
		switch {
		case sn.ManagedKey:
			return nil, wire.Errorf("InvalidParameter", "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot.")
		case p.Group == types.PermissionGroupAll && aws.ToBool(sn.Encrypted):
			return nil, wire.Errorf("OperationNotPermitted", "Encrypted snapshots cannot be made public.")
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	for _, p := range remove {
		if p.Group == types.PermissionGroupAll {
			sn.SharedToAll = false
		}
		sn.Users = slices.DeleteFunc(slices.Clone(sn.Users), func(user string) bool { return user == aws.ToString(p.UserId) })
	}
	for _, p := range add {
		if p.Group == types.PermissionGroupAll {
			sn.SharedToAll = true
		} else if !slices.Contains(sn.Users, *p.UserId) {
			sn.Users = append(sn.Users, *p.UserId)
		}
	}
	slices.Sort(sn.Users)
	return &ec2.ModifySnapshotAttributeOutput{}, nil
}

// volumePermissions reads the two ways in which a call can name permissions.
func volumePermissions(in *ec2.ModifySnapshotAttributeInput) (add, remove []types.CreateVolumePermission, err error) {
	if in.Attribute != "" && in.Attribute != types.SnapshotAttributeNameCreateVolumePermission {
		return nil, nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Allowed: createVolumePermission", in.Attribute)
	}
	if in.CreateVolumePermission != nil {
		add, remove = in.CreateVolumePermission.Add, in.CreateVolumePermission.Remove
	}
	var flat []types.CreateVolumePermission
	for _, id := range in.UserIds {
		flat = append(flat, types.CreateVolumePermission{UserId: aws.String(id)})
	}
	for _, group := range in.GroupNames {
		flat = append(flat, types.CreateVolumePermission{Group: types.PermissionGroup(group)})
	}
	switch in.OperationType {
	case types.OperationTypeRemove:
		remove = slices.Concat(remove, flat)
	case types.OperationTypeAdd:
		add = slices.Concat(add, flat)
	default:
		// As with images, CreateVolumePermission itself has what to add and remove.
		if len(flat) > 0 && in.CreateVolumePermission == nil {
			return nil, nil, wire.Errorf("MissingParameter", "The request must contain the parameter OperationType")
		}
	}
	if len(add)+len(remove) == 0 {
		return nil, nil, wire.Errorf("MissingParameter", "The request must contain a permission to add or remove")
	}
	for _, p := range slices.Concat(add, remove) {
		if p.Group != types.PermissionGroupAll && !isAccount(aws.ToString(p.UserId)) {
			return nil, nil, wire.Errorf("InvalidParameterValue", "Value (%s%s) for parameter createVolumePermission is invalid. Allowed: the group all, or a user id of twelve digits",
				p.Group, aws.ToString(p.UserId))
		}
	}
	return add, remove, nil
}

// DescribeSnapshotAttribute returns who may create volumes from a snapshot.
func (s *Service) DescribeSnapshotAttribute(ctx context.Context, in *ec2.DescribeSnapshotAttributeInput, optFns ...func(*ec2.Options)) (*ec2.DescribeSnapshotAttributeOutput, error) {
	c := s.caller(ctx, optFns)
	if err := required("SnapshotId", in.SnapshotId); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	sn, err := s.ownSnapshot(c, *in.SnapshotId)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeSnapshotAttributeOutput{SnapshotId: sn.SnapshotId}
	switch in.Attribute {
	case types.SnapshotAttributeNameCreateVolumePermission:
		out.CreateVolumePermissions = []types.CreateVolumePermission{}
		if sn.SharedToAll {
			out.CreateVolumePermissions = append(out.CreateVolumePermissions, types.CreateVolumePermission{Group: types.PermissionGroupAll})
		}
		for _, user := range sn.Users {
			out.CreateVolumePermissions = append(out.CreateVolumePermissions, types.CreateVolumePermission{UserId: aws.String(user)})
		}
	case types.SnapshotAttributeNameProductCodes:
		out.ProductCodes = []types.ProductCode{}
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", in.Attribute)
	}
	return out, nil
}
