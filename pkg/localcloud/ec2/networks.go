package ec2

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// madeNetworks holds the VPCs, subnets and security groups that clients have
// created. Instances can be launched into them, but all guests have addresses of
// one real network, and groups do not filter traffic.
type madeNetworks struct {
	VPCs    []types.Vpc
	Subnets []types.Subnet
	Groups  []types.SecurityGroup
}

// networkOf returns the caller's networks in the region. The caller of networkOf
// holds s.mu.
func (s *Service) networkOf(c wire.Caller) network {
	n := defaultNetwork(c.Account, c.Region)
	n.made = s.st.Networks[scope.KeyOf(c)]
	return n
}

// all returns the default subnets and created ones.
func (n network) all() []subnet {
	out := slices.Clone(n.subnets)
	for _, made := range n.made.Subnets {
		sub := subnet{id: aws.ToString(made.SubnetId), vpc: aws.ToString(made.VpcId), zone: aws.ToString(made.AvailabilityZone)}
		sub.cidr, _ = netip.ParsePrefix(aws.ToString(made.CidrBlock)) // checked when it was created
		for _, own := range n.subnets {
			if own.zone == sub.zone {
				sub.guests = own.cidr
			}
		}
		out = append(out, sub)
	}
	return out
}

func (n network) vpcs() []types.Vpc {
	return append([]types.Vpc{{
		VpcId: aws.String(n.vpc), CidrBlock: aws.String(vpcCIDR), IsDefault: aws.Bool(true), State: types.VpcStateAvailable,
		OwnerId: aws.String(n.account), InstanceTenancy: types.TenancyDefault, DhcpOptionsId: aws.String("default"),
	}}, n.made.VPCs...)
}

func (n network) described() []types.Subnet {
	var out []types.Subnet
	for _, sub := range n.subnets {
		out = append(out, n.describe(sub.id, sub.vpc, sub.zone, sub.cidr, true))
	}
	return append(out, n.made.Subnets...)
}

func (n network) describe(id, vpc, zone string, cidr netip.Prefix, isDefault bool) types.Subnet {
	return types.Subnet{
		SubnetId: aws.String(id), VpcId: aws.String(vpc), AvailabilityZone: aws.String(zone), AvailabilityZoneId: aws.String(zoneID(n.region, zone)),
		CidrBlock: aws.String(cidr.String()), DefaultForAz: aws.Bool(isDefault), MapPublicIpOnLaunch: aws.Bool(false),
		State: types.SubnetStateAvailable, OwnerId: aws.String(n.account),
		AvailableIpAddressCount: aws.Int32(int32(1)<<(32-cidr.Bits()) - 5), // EC2 reserves five; the prefix has 16 to 28 bits
		SubnetArn:               aws.String(partition.ARN("ec2", n.region, n.account, "subnet/"+id)),
	}
}

func (n network) securityGroups() []types.SecurityGroup {
	own := n.group0(n.group, "default", "default VPC security group", n.vpc)
	own.IpPermissions = n.ingress
	return append([]types.SecurityGroup{own}, n.made.Groups...)
}

// group0 returns a new group, which allows all outgoing traffic.
func (n network) group0(id, name, description, vpc string) types.SecurityGroup {
	return types.SecurityGroup{
		GroupId: aws.String(id), GroupName: aws.String(name), VpcId: aws.String(vpc), OwnerId: aws.String(n.account), Description: aws.String(description),
		IpPermissionsEgress: []types.IpPermission{{IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}},
		SecurityGroupArn:    aws.String(partition.ARN("ec2", n.region, n.account, "security-group/"+id)),
	}
}

// change edits the networks that the caller has created in the region.
func (s *Service) change(c wire.Caller, edit func(n network, made *madeNetworks) error) error {
	s.mu.Lock()
	defer s.unlock()
	n := s.networkOf(c)
	made := n.made
	if err := edit(n, &made); err != nil {
		return err
	}
	s.st.Networks[scope.KeyOf(c)] = made
	return nil
}

func tagsFor(kind types.ResourceType, specified []types.TagSpecification) ([]types.Tag, error) {
	var out []types.Tag
	for _, spec := range specified {
		if spec.ResourceType != kind {
			return nil, wire.Errorf("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", spec.ResourceType)
		}
		out = append(out, spec.Tags...)
	}
	return out, checkTags(out)
}

// block parses a CIDR block with a prefix of 16 to 28 bits, as EC2 requires for
// VPCs and subnets
// (https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html).
func block(text *string, code string) (netip.Prefix, error) {
	cidr, err := netip.ParsePrefix(aws.ToString(text))
	if err != nil || !cidr.Addr().Is4() || cidr != cidr.Masked() {
		return netip.Prefix{}, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter cidrBlock is invalid. This is not a valid CIDR block.", aws.ToString(text))
	}
	if cidr.Bits() < 16 || cidr.Bits() > 28 {
		return netip.Prefix{}, wire.Errorf(code, "The CIDR '%s' is invalid.", cidr)
	}
	return cidr, nil
}

// CreateVpc makes a VPC with its default security group.
func (s *Service) CreateVpc(ctx context.Context, in *ec2.CreateVpcInput, optFns ...func(*ec2.Options)) (*ec2.CreateVpcOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	cidr, err := block(in.CidrBlock, "InvalidVpc.Range")
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(types.ResourceTypeVpc, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	tenancy := in.InstanceTenancy
	if tenancy == "" {
		tenancy = types.TenancyDefault
	}
	vpc := types.Vpc{
		VpcId: aws.String("vpc-" + scope.Hex(17)), CidrBlock: aws.String(cidr.String()), IsDefault: aws.Bool(false), State: types.VpcStateAvailable,
		InstanceTenancy: tenancy, DhcpOptionsId: aws.String("default"), Tags: tags,
	}
	err = s.change(s.caller(ctx, optFns), func(n network, made *madeNetworks) error {
		vpc.OwnerId = aws.String(n.account)
		made.VPCs = append(slices.Clone(made.VPCs), vpc)
		made.Groups = append(slices.Clone(made.Groups), n.group0("sg-"+scope.Hex(17), "default", "default VPC security group", *vpc.VpcId))
		return nil
	})
	return &ec2.CreateVpcOutput{Vpc: &vpc}, err
}

// DeleteVpc deletes a VPC without subnets and without groups other than the
// default one.
func (s *Service) DeleteVpc(ctx context.Context, in *ec2.DeleteVpcInput, optFns ...func(*ec2.Options)) (*ec2.DeleteVpcOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	id := aws.ToString(in.VpcId)
	return &ec2.DeleteVpcOutput{}, s.change(s.caller(ctx, optFns), func(_ network, made *madeNetworks) error {
		if !slices.ContainsFunc(made.VPCs, func(v types.Vpc) bool { return *v.VpcId == id }) {
			return wire.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
		}
		used := slices.ContainsFunc(made.Subnets, func(v types.Subnet) bool { return *v.VpcId == id }) ||
			slices.ContainsFunc(made.Groups, func(g types.SecurityGroup) bool { return *g.VpcId == id && *g.GroupName != "default" })
		if used {
			return wire.Errorf("DependencyViolation", "The vpc '%s' has dependencies and cannot be deleted.", id)
		}
		made.VPCs = slices.DeleteFunc(slices.Clone(made.VPCs), func(v types.Vpc) bool { return *v.VpcId == id })
		made.Groups = slices.DeleteFunc(slices.Clone(made.Groups), func(g types.SecurityGroup) bool { return *g.VpcId == id })
		return nil
	})
}

// CreateSubnet makes a subnet in a created VPC.
func (s *Service) CreateSubnet(ctx context.Context, in *ec2.CreateSubnetInput, optFns ...func(*ec2.Options)) (*ec2.CreateSubnetOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	cidr, err := block(in.CidrBlock, "InvalidSubnet.Range")
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(types.ResourceTypeSubnet, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	var sub types.Subnet
	err = s.change(s.caller(ctx, optFns), func(n network, made *madeNetworks) error {
		vpc := aws.ToString(in.VpcId)
		i := slices.IndexFunc(made.VPCs, func(v types.Vpc) bool { return *v.VpcId == vpc })
		if i < 0 {
			return wire.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist, or is the default VPC, to which no subnets can be added", vpc)
		}
		if whole, err := netip.ParsePrefix(*made.VPCs[i].CidrBlock); err != nil || whole.Bits() > cidr.Bits() || !whole.Contains(cidr.Addr()) {
			return wire.Errorf("InvalidSubnet.Range", "The CIDR '%s' is invalid.", cidr)
		}
		for _, other := range made.Subnets {
			if taken, err := netip.ParsePrefix(*other.CidrBlock); err == nil && *other.VpcId == vpc && taken.Overlaps(cidr) {
				return wire.Errorf("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", cidr)
			}
		}
		zone := aws.ToString(in.AvailabilityZone)
		own, err := n.subnetFor("", zone)
		if err != nil {
			return err
		}
		sub = n.describe("subnet-"+scope.Hex(17), vpc, own.zone, cidr, false)
		sub.Tags = tags
		made.Subnets = append(slices.Clone(made.Subnets), sub)
		return nil
	})
	return &ec2.CreateSubnetOutput{Subnet: &sub}, err
}

// DeleteSubnet deletes a subnet without instances.
func (s *Service) DeleteSubnet(ctx context.Context, in *ec2.DeleteSubnetInput, optFns ...func(*ec2.Options)) (*ec2.DeleteSubnetOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	id := aws.ToString(in.SubnetId)
	return &ec2.DeleteSubnetOutput{}, s.change(s.caller(ctx, optFns), func(_ network, made *madeNetworks) error {
		if !slices.ContainsFunc(made.Subnets, func(v types.Subnet) bool { return *v.SubnetId == id }) {
			return wire.Errorf("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
		}
		for _, i := range s.st.Instances {
			if i.live() && aws.ToString(i.SubnetId) == id {
				return wire.Errorf("DependencyViolation", "The subnet '%s' has dependencies and cannot be deleted.", id)
			}
		}
		made.Subnets = slices.DeleteFunc(slices.Clone(made.Subnets), func(v types.Subnet) bool { return *v.SubnetId == id })
		return nil
	})
}

// CreateSecurityGroup makes a security group in a VPC, by default in the default
// VPC.
func (s *Service) CreateSecurityGroup(ctx context.Context, in *ec2.CreateSecurityGroupInput, optFns ...func(*ec2.Options)) (*ec2.CreateSecurityGroupOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	tags, err := tagsFor(types.ResourceTypeSecurityGroup, in.TagSpecifications)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(asciiOnly("GroupName", in.GroupName), asciiOnly("GroupDescription", in.Description)); err != nil {
		return nil, err
	}
	id, name := "sg-"+scope.Hex(17), aws.ToString(in.GroupName)
	var group types.SecurityGroup
	err = s.change(s.caller(ctx, optFns), func(n network, made *madeNetworks) error {
		vpc := aws.ToString(in.VpcId)
		if vpc == "" {
			vpc = n.vpc
		}
		if vpc != n.vpc && !slices.ContainsFunc(made.VPCs, func(v types.Vpc) bool { return *v.VpcId == vpc }) {
			return wire.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
		}
		for _, other := range n.securityGroups() {
			if *other.VpcId == vpc && *other.GroupName == name {
				return wire.Errorf("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, vpc)
			}
		}
		group = n.group0(id, name, aws.ToString(in.Description), vpc)
		group.Tags = tags
		made.Groups = append(slices.Clone(made.Groups), group)
		return nil
	})
	return &ec2.CreateSecurityGroupOutput{GroupId: aws.String(id), Tags: tags, SecurityGroupArn: group.SecurityGroupArn}, err
}

// DeleteSecurityGroup deletes a group that no instance uses.
func (s *Service) DeleteSecurityGroup(ctx context.Context, in *ec2.DeleteSecurityGroupInput, optFns ...func(*ec2.Options)) (*ec2.DeleteSecurityGroupOutput, error) {
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	id, name := aws.ToString(in.GroupId), aws.ToString(in.GroupName)
	if id == "" && name == "" {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter GroupName or GroupId")
	}
	err := s.change(s.caller(ctx, optFns), func(n network, made *madeNetworks) error {
		if id == "" && name == "default" {
			id = n.group
		}
		i := slices.IndexFunc(made.Groups, func(g types.SecurityGroup) bool {
			return *g.GroupId == id || id == "" && *g.GroupName == name && *g.VpcId == n.vpc
		})
		if i >= 0 {
			id = *made.Groups[i].GroupId
		}
		switch {
		case id == n.group:
			return wire.Errorf("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", id)
		case i < 0:
			return wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", id+name)
		case *made.Groups[i].GroupName == "default":
			return wire.Errorf("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", id)
		}
		for _, instance := range s.st.Instances {
			if instance.live() && slices.ContainsFunc(instance.SecurityGroups, func(g types.GroupIdentifier) bool { return aws.ToString(g.GroupId) == id }) {
				return wire.Errorf("DependencyViolation", "resource %s has a dependent object", id)
			}
		}
		made.Groups = slices.Delete(slices.Clone(made.Groups), i, i+1)
		return nil
	})
	return &ec2.DeleteSecurityGroupOutput{GroupId: aws.String(id), Return: aws.Bool(err == nil)}, err
}
