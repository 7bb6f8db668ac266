package cloudformation

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

type vpcProperties struct {
	CidrBlock       string
	InstanceTenancy types.Tenancy
	Tags            []tag
	// The guests share one network, which always resolves names.
	EnableDnsHostnames, EnableDnsSupport any
}

type subnetProperties struct {
	VpcID            string `json:"VpcId"`
	CidrBlock        string
	AvailabilityZone string
	Tags             []tag
	// No effect: a launch decides whether an instance gets a public address.
	MapPublicIpOnLaunch, AssignIpv6AddressOnCreation, PrivateDnsNameOptionsOnLaunch any
}

type groupProperties struct {
	GroupName, GroupDescription string
	VpcID                       string `json:"VpcId"`
	Tags                        []tag
	// The embedded AWS does not filter traffic between guests; see
	// pkg/localcloud/vm/network.
	SecurityGroupIngress, SecurityGroupEgress any
}

func ec2Kinds(api EC2) map[string]kind {
	p := ec2Provider{api}
	return map[string]kind{
		"AWS::EC2::VPC": of(changer[vpcProperties]{
			create: p.createVPC, update: unchanged[vpcProperties], remove: p.deleteVPC, replace: []string{"CidrBlock", "InstanceTenancy"},
		}),
		"AWS::EC2::Subnet": of(changer[subnetProperties]{
			create: p.createSubnet, update: unchanged[subnetProperties], remove: p.deleteSubnet, replace: []string{"VpcId", "CidrBlock", "AvailabilityZone"},
		}),
		"AWS::EC2::SecurityGroup": of(changer[groupProperties]{
			create: p.createGroup, update: unchanged[groupProperties], remove: p.deleteGroup, replace: []string{"VpcId", "GroupName", "GroupDescription"},
		}),
	}
}

// unchanged is an update of properties that have no effect.
func unchanged[P any](context.Context, *target, P, P) error { return nil }

type ec2Provider struct{ api EC2 }

// zonesOf returns the names of the zones in the caller's region.
func zonesOf(ctx context.Context, api EC2) ([]string, error) {
	if api == nil {
		return nil, invalid("Template error: Fn::GetAZs: the embedded AWS has no EC2 here")
	}
	out, err := api.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, zone := range out.AvailabilityZones {
		names = append(names, aws.ToString(zone.ZoneName))
	}
	return names, nil
}

func ec2Tags(kind types.ResourceType, tags map[string]string) []types.TagSpecification {
	if len(tags) == 0 {
		return nil
	}
	spec := types.TagSpecification{ResourceType: kind}
	for _, key := range sortedKeys(tags) {
		spec.Tags = append(spec.Tags, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return []types.TagSpecification{spec}
}

func (e ec2Provider) createVPC(ctx context.Context, t *target, p vpcProperties) error {
	out, err := e.api.CreateVpc(ctx, &ec2.CreateVpcInput{
		CidrBlock: aws.String(p.CidrBlock), InstanceTenancy: p.InstanceTenancy, TagSpecifications: ec2Tags(types.ResourceTypeVpc, t.tags(p.Tags)),
	})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.Vpc.VpcId)
	groups, err := e.api.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
		{Name: aws.String("vpc-id"), Values: []string{t.PhysicalID}}, {Name: aws.String("group-name"), Values: []string{"default"}},
	}})
	if err != nil {
		return err
	}
	t.set("VpcId", t.PhysicalID)
	t.set("CidrBlock", p.CidrBlock)
	t.set("CidrBlockAssociations", []any{"vpc-cidr-assoc-" + scope.Hex(17)})
	t.set("DefaultNetworkAcl", "acl-"+scope.Hex(17))
	t.set("Ipv6CidrBlocks", []any{})
	for _, group := range groups.SecurityGroups {
		t.set("DefaultSecurityGroup", aws.ToString(group.GroupId))
	}
	return nil
}

func (e ec2Provider) deleteVPC(ctx context.Context, t *target, _ vpcProperties) error {
	_, err := e.api.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

func (e ec2Provider) createSubnet(ctx context.Context, t *target, p subnetProperties) error {
	out, err := e.api.CreateSubnet(ctx, &ec2.CreateSubnetInput{
		VpcId: aws.String(p.VpcID), CidrBlock: aws.String(p.CidrBlock), AvailabilityZone: scope.Optional(p.AvailabilityZone),
		TagSpecifications: ec2Tags(types.ResourceTypeSubnet, t.tags(p.Tags)),
	})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.Subnet.SubnetId)
	t.set("SubnetId", t.PhysicalID)
	t.set("VpcId", p.VpcID)
	t.set("CidrBlock", p.CidrBlock)
	t.set("AvailabilityZone", aws.ToString(out.Subnet.AvailabilityZone))
	t.set("AvailabilityZoneId", aws.ToString(out.Subnet.AvailabilityZoneId))
	t.set("NetworkAclAssociationId", "aclassoc-"+scope.Hex(17))
	t.set("Ipv6CidrBlocks", []any{})
	return nil
}

func (e ec2Provider) deleteSubnet(ctx context.Context, t *target, _ subnetProperties) error {
	_, err := e.api.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

func (e ec2Provider) createGroup(ctx context.Context, t *target, p groupProperties) error {
	name := p.GroupName
	if name == "" {
		name = t.physicalName(255)
	}
	out, err := e.api.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: aws.String(name), Description: aws.String(p.GroupDescription), VpcId: scope.Optional(p.VpcID),
		TagSpecifications: ec2Tags(types.ResourceTypeSecurityGroup, t.tags(p.Tags)),
	})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.GroupId)
	t.set("GroupId", t.PhysicalID)
	t.set("Id", t.PhysicalID)
	t.set("VpcId", p.VpcID)
	return nil
}

func (e ec2Provider) deleteGroup(ctx context.Context, t *target, _ groupProperties) error {
	_, err := e.api.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}
