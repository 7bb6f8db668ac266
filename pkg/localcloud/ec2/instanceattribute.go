package ec2

import (
	"context"
	"encoding/base64"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// DescribeInstanceAttribute returns one attribute of an instance to its owner.
// User data is in base64, and missing if there is none
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceAttribute.html).
func (s *Service) DescribeInstanceAttribute(ctx context.Context, in *ec2.DescribeInstanceAttributeInput, optFns ...func(*ec2.Options)) (*ec2.DescribeInstanceAttributeOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	i, err := s.instanceNamed(c, in.InstanceId)
	if err != nil {
		return nil, err
	}
	text := func(v string) *types.AttributeValue {
		if v == "" {
			return &types.AttributeValue{}
		}
		return &types.AttributeValue{Value: aws.String(v)}
	}
	truth := func(v bool) *types.AttributeBooleanValue { return &types.AttributeBooleanValue{Value: aws.Bool(v)} }
	out := &ec2.DescribeInstanceAttributeOutput{InstanceId: i.InstanceId}
	switch in.Attribute {
	case types.InstanceAttributeNameInstanceType:
		out.InstanceType = text(string(i.InstanceType))
	case types.InstanceAttributeNameUserData:
		out.UserData = text(base64.StdEncoding.EncodeToString(i.UserData))
	case types.InstanceAttributeNameRootDeviceName:
		out.RootDeviceName = text(aws.ToString(i.RootDeviceName))
	case types.InstanceAttributeNameInstanceInitiatedShutdownBehavior:
		out.InstanceInitiatedShutdownBehavior = text(string(i.Shutdown))
	case types.InstanceAttributeNameDisableApiTermination:
		out.DisableApiTermination = truth(i.TerminationLocked)
	case types.InstanceAttributeNameDisableApiStop:
		out.DisableApiStop = truth(i.StopLocked)
	case types.InstanceAttributeNameEbsOptimized:
		out.EbsOptimized = truth(aws.ToBool(i.EbsOptimized))
	case types.InstanceAttributeNameEnaSupport:
		out.EnaSupport = truth(aws.ToBool(i.EnaSupport))
	case types.InstanceAttributeNameSourceDestCheck:
		out.SourceDestCheck = truth(aws.ToBool(i.SourceDestCheck))
	case types.InstanceAttributeNameSriovNetSupport:
		out.SriovNetSupport = text(aws.ToString(i.SriovNetSupport))
	case types.InstanceAttributeNameKernel:
		out.KernelId = text("")
	case types.InstanceAttributeNameRamdisk:
		out.RamdiskId = text("")
	case types.InstanceAttributeNameBlockDeviceMapping:
		out.BlockDeviceMappings = slices.Concat([]types.InstanceBlockDeviceMapping{}, i.BlockDeviceMappings)
	case types.InstanceAttributeNameGroupSet:
		out.Groups = slices.Concat([]types.GroupIdentifier{}, i.SecurityGroups)
	case types.InstanceAttributeNameProductCodes:
		out.ProductCodes = []types.ProductCode{}
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", in.Attribute)
	}
	return out, nil
}
