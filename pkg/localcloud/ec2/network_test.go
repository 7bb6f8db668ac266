package ec2_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheDefaultNetworkCanBeLaunchedInto(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	vpcs, err := e.DescribeVpcs(ctx, &sdk.DescribeVpcsInput{Filters: []types.Filter{{Name: aws.String("is-default"), Values: []string{"true"}}}})
	require.NoError(t, err)
	require.Len(t, vpcs.Vpcs, 1)
	subnets, err := e.DescribeSubnets(ctx, &sdk.DescribeSubnetsInput{Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{*vpcs.Vpcs[0].VpcId}}}})
	require.NoError(t, err)
	require.Len(t, subnets.Subnets, 3)
	groups, err := e.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{})
	require.NoError(t, err)
	require.Len(t, groups.SecurityGroups, 1)

	second := subnets.Subnets[1]
	i := e.run(func(in *sdk.RunInstancesInput) {
		in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), SubnetId: second.SubnetId,
			Groups: []string{*groups.SecurityGroups[0].GroupId}, AssociatePublicIpAddress: aws.Bool(false)}}
	})
	assert.Equal(t, second.SubnetId, i.SubnetId)
	assert.Equal(t, second.AvailabilityZone, i.Placement.AvailabilityZone)
	assert.Equal(t, "172.31.16.10", *i.PrivateIpAddress)
	assert.Equal(t, "172.31.16.11", *e.run(func(in *sdk.RunInstancesInput) { in.SubnetId = second.SubnetId }).PrivateIpAddress)

	_, err = e.RunInstances(as(ctx, other), func() *sdk.RunInstancesInput { in := launchOf(e.base); in.SubnetId = second.SubnetId; return in }())
	requireCode(t, err, "InvalidSubnetID.NotFound")
}

func TestRegionsZonesTypesAndKeyPairs(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	regions, err := e.DescribeRegions(ctx, &sdk.DescribeRegionsInput{})
	require.NoError(t, err)
	assert.Len(t, regions.Regions, 3)
	_, err = e.DescribeRegions(ctx, &sdk.DescribeRegionsInput{RegionNames: []string{"mars-1"}})
	requireCode(t, err, "InvalidParameterValue")
	zones, err := e.DescribeAvailabilityZones(ctx, &sdk.DescribeAvailabilityZonesInput{}, inRegion("us-east-1"))
	require.NoError(t, err)
	assert.Equal(t, "use1-az3", *zones.AvailabilityZones[2].ZoneId)
	kinds, err := e.DescribeInstanceTypes(ctx, &sdk.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{types.InstanceTypeT3Medium}})
	require.NoError(t, err)
	require.Len(t, kinds.InstanceTypes, 1)
	assert.Equal(t, int64(4096), *kinds.InstanceTypes[0].MemoryInfo.SizeInMiB)
	pairs, err := e.DescribeKeyPairs(ctx, &sdk.DescribeKeyPairsInput{})
	require.NoError(t, err)
	assert.Empty(t, pairs.KeyPairs)
}
