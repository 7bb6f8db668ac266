package ec2_test

import (
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

// overHTTP is a stock client of the Service.
func (e *env) overHTTP() *sdk.Client {
	server := httptest.NewServer(wire.Handler(wiretest.Options(), e.Wire()))
	e.t.Cleanup(server.Close)
	cfg := wiretest.Config(server.URL)
	cfg.Region = region
	return newClient(cfg)
}

func theVPC(t *testing.T, client *sdk.Client) (vpc, group string) {
	t.Helper()
	vpcs, err := client.DescribeVpcs(t.Context(), &sdk.DescribeVpcsInput{})
	require.NoError(t, err)
	groups, err := client.DescribeSecurityGroups(t.Context(), &sdk.DescribeSecurityGroupsInput{})
	require.NoError(t, err)
	return *vpcs.Vpcs[0].VpcId, *groups.SecurityGroups[0].GroupId
}

func TestRoutesOfTheDefaultVPC(t *testing.T) {
	client, ctx := setup(t, options{}).overHTTP(), t.Context()
	tables := func() types.RouteTable {
		out, err := client.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{Filters: []types.Filter{{Name: aws.String("association.main"), Values: []string{"true"}}}})
		require.NoError(t, err)
		require.Len(t, out.RouteTables, 1)
		return out.RouteTables[0]
	}
	was := tables()
	require.Len(t, was.Routes, 2)
	assert.Equal(t, "local", *was.Routes[0].GatewayId)
	assert.NotEmpty(t, was.Routes[1].NatGatewayId, "guests go out through the host")
	_, err := client.CreateRoute(ctx, &sdk.CreateRouteInput{RouteTableId: was.RouteTableId, DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: aws.String("igw-1")})
	requireCode(t, err, "RouteAlreadyExists")
	_, err = client.DeleteRoute(ctx, &sdk.DeleteRouteInput{RouteTableId: was.RouteTableId, DestinationCidrBlock: aws.String("0.0.0.0/0")})
	require.NoError(t, err)
	_, err = client.DeleteRoute(ctx, &sdk.DeleteRouteInput{RouteTableId: was.RouteTableId, DestinationCidrBlock: aws.String("0.0.0.0/0")})
	requireCode(t, err, "InvalidRoute.NotFound")
	_, err = client.CreateRoute(ctx, &sdk.CreateRouteInput{RouteTableId: was.RouteTableId, DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: aws.String("igw-1")})
	require.NoError(t, err)
	assert.Equal(t, "igw-1", *tables().Routes[1].GatewayId)
	_, err = client.DescribeRouteTables(ctx, &sdk.DescribeRouteTablesInput{RouteTableIds: []string{"rtb-0"}})
	requireCode(t, err, "InvalidRouteTableID.NotFound")
}

func TestEndpointsOfTheDefaultVPC(t *testing.T) {
	e := setup(t, options{})
	client, ctx := e.overHTTP(), t.Context()
	vpc, group := theVPC(t, client)
	made, err := client.CreateVpcEndpoint(ctx, &sdk.CreateVpcEndpointInput{
		VpcId: &vpc, VpcEndpointType: types.VpcEndpointTypeInterface, ServiceName: aws.String("com.amazonaws." + region + ".ssm"), SecurityGroupIds: []string{group},
	})
	require.NoError(t, err)
	out, err := client.DescribeVpcEndpoints(ctx, &sdk.DescribeVpcEndpointsInput{Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{vpc}}}})
	require.NoError(t, err)
	require.Len(t, out.VpcEndpoints, 1)
	got := out.VpcEndpoints[0]
	assert.True(t, *got.PrivateDnsEnabled, "as of a console's default")
	assert.Equal(t, group, *got.Groups[0].GroupId)
	assert.Equal(t, types.StateAvailable, got.State)
	raw, err := e.Snapshot()
	require.NoError(t, err)
	require.NoError(t, e.Restore(raw))
	again, err := client.DescribeVpcEndpoints(ctx, &sdk.DescribeVpcEndpointsInput{VpcEndpointIds: []string{*made.VpcEndpoint.VpcEndpointId}})
	require.NoError(t, err, "endpoints are kept")
	assert.Equal(t, got, again.VpcEndpoints[0])
	gone, err := client.DeleteVpcEndpoints(ctx, &sdk.DeleteVpcEndpointsInput{VpcEndpointIds: []string{*got.VpcEndpointId, "vpce-0"}})
	require.NoError(t, err)
	require.Len(t, gone.Unsuccessful, 1)
	assert.Equal(t, "vpce-0", *gone.Unsuccessful[0].ResourceId)
	_, err = client.DescribeVpcEndpoints(ctx, &sdk.DescribeVpcEndpointsInput{VpcEndpointIds: []string{*got.VpcEndpointId}})
	requireCode(t, err, "InvalidVpcEndpointId.NotFound")
	_, err = client.CreateVpcEndpoint(ctx, &sdk.CreateVpcEndpointInput{VpcId: aws.String("vpc-0"), ServiceName: aws.String("x")})
	requireCode(t, err, "InvalidVpcId.NotFound")
}

func TestDNSAndIngressOfTheDefaultVPC(t *testing.T) {
	client, ctx := setup(t, options{}).overHTTP(), t.Context()
	vpc, group := theVPC(t, client)
	names := func() bool {
		out, err := client.DescribeVpcAttribute(ctx, &sdk.DescribeVpcAttributeInput{VpcId: &vpc, Attribute: types.VpcAttributeNameEnableDnsHostnames})
		require.NoError(t, err)
		return *out.EnableDnsHostnames.Value
	}
	assert.True(t, names())
	_, err := client.ModifyVpcAttribute(ctx, &sdk.ModifyVpcAttributeInput{VpcId: &vpc, EnableDnsHostnames: &types.AttributeBooleanValue{Value: aws.Bool(false)}})
	require.NoError(t, err)
	assert.False(t, names())
	support, err := client.DescribeVpcAttribute(ctx, &sdk.DescribeVpcAttributeInput{VpcId: &vpc, Attribute: types.VpcAttributeNameEnableDnsSupport})
	require.NoError(t, err)
	assert.True(t, *support.EnableDnsSupport.Value)

	rule := []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}},
		UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &group}}}}
	_, err = client.AuthorizeSecurityGroupIngress(ctx, &sdk.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: rule})
	require.NoError(t, err)
	groups, err := client.DescribeSecurityGroups(ctx, &sdk.DescribeSecurityGroupsInput{GroupIds: []string{group}})
	require.NoError(t, err)
	require.Len(t, groups.SecurityGroups[0].IpPermissions, 1)
	assert.Equal(t, "10.0.0.0/8", *groups.SecurityGroups[0].IpPermissions[0].IpRanges[0].CidrIp)
	assert.Equal(t, group, *groups.SecurityGroups[0].IpPermissions[0].UserIdGroupPairs[0].GroupId)
	_, err = client.RevokeSecurityGroupIngress(ctx, &sdk.RevokeSecurityGroupIngressInput{GroupId: &group, IpPermissions: rule})
	require.NoError(t, err)
	_, err = client.RevokeSecurityGroupIngress(ctx, &sdk.RevokeSecurityGroupIngressInput{GroupId: &group, IpPermissions: rule})
	requireCode(t, err, "InvalidPermission.NotFound")
}

func TestSettingsOfAnAccountInARegion(t *testing.T) {
	client, ctx := setup(t, options{}).overHTTP(), t.Context()
	encrypted := func(opts ...func(*sdk.Options)) bool {
		out, err := client.GetEbsEncryptionByDefault(ctx, &sdk.GetEbsEncryptionByDefaultInput{}, opts...)
		require.NoError(t, err)
		return *out.EbsEncryptionByDefault
	}
	assert.False(t, encrypted())
	_, err := client.EnableEbsEncryptionByDefault(ctx, &sdk.EnableEbsEncryptionByDefaultInput{})
	require.NoError(t, err)
	assert.True(t, encrypted())
	assert.False(t, encrypted(inRegion(region2)), "regions are separate")
	_, err = client.DisableEbsEncryptionByDefault(ctx, &sdk.DisableEbsEncryptionByDefaultInput{})
	require.NoError(t, err)
	assert.False(t, encrypted())

	key := func() string {
		out, err := client.GetEbsDefaultKmsKeyId(ctx, &sdk.GetEbsDefaultKmsKeyIdInput{})
		require.NoError(t, err)
		return *out.KmsKeyId
	}
	assert.Equal(t, "alias/aws/ebs", key())
	_, err = client.ModifyEbsDefaultKmsKeyId(ctx, &sdk.ModifyEbsDefaultKmsKeyIdInput{KmsKeyId: aws.String("alias/images")})
	require.NoError(t, err)
	assert.Contains(t, key(), "arn:aws:kms:")

	snapshots := func() types.SnapshotBlockPublicAccessState {
		out, err := client.GetSnapshotBlockPublicAccessState(ctx, &sdk.GetSnapshotBlockPublicAccessStateInput{})
		require.NoError(t, err)
		return out.State
	}
	assert.Equal(t, types.SnapshotBlockPublicAccessStateUnblocked, snapshots())
	_, err = client.EnableSnapshotBlockPublicAccess(ctx, &sdk.EnableSnapshotBlockPublicAccessInput{State: types.SnapshotBlockPublicAccessStateBlockAllSharing})
	require.NoError(t, err)
	assert.Equal(t, types.SnapshotBlockPublicAccessStateBlockAllSharing, snapshots())
	_, err = client.DisableSnapshotBlockPublicAccess(ctx, &sdk.DisableSnapshotBlockPublicAccessInput{})
	require.NoError(t, err)
	assert.Equal(t, types.SnapshotBlockPublicAccessStateUnblocked, snapshots())

	allowed := func() *sdk.GetAllowedImagesSettingsOutput {
		out, err := client.GetAllowedImagesSettings(ctx, &sdk.GetAllowedImagesSettingsInput{})
		require.NoError(t, err)
		return out
	}
	assert.Equal(t, "disabled", *allowed().State)
	_, err = client.EnableAllowedImagesSettings(ctx, &sdk.EnableAllowedImagesSettingsInput{AllowedImagesSettingsState: types.AllowedImagesSettingsEnabledStateAuditMode})
	require.NoError(t, err)
	_, err = client.ReplaceImageCriteriaInAllowedImagesSettings(ctx, &sdk.ReplaceImageCriteriaInAllowedImagesSettingsInput{
		ImageCriteria: []types.ImageCriterionRequest{{ImageProviders: []string{"amazon", debian}}},
	})
	require.NoError(t, err)
	assert.Equal(t, "audit-mode", *allowed().State)
	assert.Equal(t, []string{"amazon", debian}, allowed().ImageCriteria[0].ImageProviders)
	_, err = client.DisableAllowedImagesSettings(ctx, &sdk.DisableAllowedImagesSettingsInput{})
	require.NoError(t, err)
	assert.Equal(t, "disabled", *allowed().State)
}

func TestWhereTypesAreOffered(t *testing.T) {
	client, ctx := setup(t, options{}).overHTTP(), t.Context()
	out, err := client.DescribeInstanceTypeOfferings(ctx, &sdk.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone,
		Filters:      []types.Filter{{Name: aws.String("instance-type"), Values: []string{"t3.medium", "p5.48xlarge"}}},
	})
	require.NoError(t, err)
	var at []string
	for _, o := range out.InstanceTypeOfferings {
		at = append(at, string(o.InstanceType)+" "+*o.Location)
	}
	assert.Equal(t, []string{"t3.medium " + region + "a", "t3.medium " + region + "b", "t3.medium " + region + "c"}, at)
	region, err := client.DescribeInstanceTypeOfferings(ctx, &sdk.DescribeInstanceTypeOfferingsInput{Filters: []types.Filter{{Name: aws.String("instance-type"), Values: []string{"t3.medium"}}}})
	require.NoError(t, err)
	assert.Len(t, region.InstanceTypeOfferings, 1)
}
