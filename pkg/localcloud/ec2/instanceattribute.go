package ec2

import (
	"context"
	"encoding/base64"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// DescribeInstanceAttribute shows one attribute of an instance to its owner. User
// data comes as base64, and is left out where there is none
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceAttribute.html).
func (s *Service) DescribeInstanceAttribute(ctx context.Context, in *ec2.DescribeInstanceAttributeInput, optFns ...func(*ec2.Options)) (*ec2.DescribeInstanceAttributeOutput, error) {
	c := s.caller(ctx, optFns)
	if err := required("InstanceId", in.InstanceId); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	i, err := s.instance(c, *in.InstanceId)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstanceAttributeOutput{InstanceId: i.InstanceId}
	switch in.Attribute {
	case types.InstanceAttributeNameUserData:
		out.UserData = &types.AttributeValue{}
		if len(i.UserData) > 0 {
			out.UserData.Value = aws.String(base64.StdEncoding.EncodeToString(i.UserData))
		}
	case types.InstanceAttributeNameInstanceType:
		out.InstanceType = &types.AttributeValue{Value: aws.String(string(i.InstanceType))}
	case types.InstanceAttributeNameRootDeviceName:
		out.RootDeviceName = &types.AttributeValue{Value: i.RootDeviceName}
	case types.InstanceAttributeNameEnaSupport:
		out.EnaSupport = &types.AttributeBooleanValue{Value: i.EnaSupport}
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown or unsupported attribute.", in.Attribute)
	}
	return out, nil
}
