package ec2

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// vpcCIDR is that of every default VPC, and of the one network the guests are
// really in.
const vpcCIDR = "172.31.0.0/16"

// network is the default VPC that every account has in every region. Its ids
// derive from account and region.
type network struct {
	account, region string
	vpc             string
	group           string
	subnets         []subnet
}

type subnet struct {
	id, vpc, zone string
	cidr          netip.Prefix
}

func defaultNetwork(account, region string) network {
	n := network{account: account, region: region, vpc: stableID("vpc-", account, region), group: stableID("sg-", account, region, "default")}
	for i, letter := range []string{"a", "b", "c"} {
		zone := region + letter
		n.subnets = append(n.subnets, subnet{id: stableID("subnet-", account, zone), vpc: n.vpc, zone: zone,
			cidr: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(i * 16), 0}), 20)})
	}
	return n
}

// subnetFor picks the subnet by id, else by zone, else the first.
func (n network) subnetFor(id, zone string) (subnet, error) {
	if id != "" {
		for _, s := range n.subnets {
			if s.id == id {
				if zone != "" && zone != s.zone {
					return subnet{}, wire.Errorf("InvalidParameterValue", "The availability zone %s does not match that of subnet %s, %s", zone, id, s.zone)
				}
				return s, nil
			}
		}
		return subnet{}, wire.Errorf("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
	}
	for _, s := range n.subnets {
		if zone == "" || s.zone == zone {
			return s, nil
		}
	}
	return subnet{}, wire.Errorf("InvalidParameterValue", "Invalid availability zone: [%s]", zone)
}

// groups resolves security groups; none named means the default group.
func (n network) groups(ids, names []string) ([]types.GroupIdentifier, error) {
	for _, id := range ids {
		if id != n.group {
			return nil, wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist in VPC '%s'", id, n.vpc)
		}
	}
	for _, name := range names {
		if name != "default" {
			return nil, wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist in default VPC '%s'", name, n.vpc)
		}
	}
	return []types.GroupIdentifier{{GroupId: aws.String(n.group), GroupName: aws.String("default")}}, nil
}

// freeAddress picks an address for an instance. Accounts and regions share the
// one network that the guests are really in, so it is free everywhere.
func (s *Service) freeAddress(sub subnet, asked string) (string, error) {
	used := make(map[string]bool, len(s.st.Instances))
	for _, i := range s.st.Instances {
		if i.live() {
			used[aws.ToString(i.PrivateIpAddress)] = true
		}
	}
	if asked != "" {
		ip, err := netip.ParseAddr(asked)
		if err != nil || !sub.cidr.Contains(ip) {
			return "", wire.Errorf("InvalidParameterValue", "Address %s does not fall within the subnet's address range", asked)
		}
		if used[asked] {
			return "", wire.Errorf("InvalidIPAddress.InUse", "Address %s is in use.", asked)
		}
		return asked, nil
	}
	ip := sub.cidr.Addr()
	for range 9 { // EC2 keeps the first four; the network's own services take a few more
		ip = ip.Next()
	}
	for ip = ip.Next(); sub.cidr.Contains(ip.Next()); ip = ip.Next() {
		if !used[ip.String()] {
			return ip.String(), nil
		}
	}
	return "", wire.Errorf("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s' to satisfy the requested number of instances.", sub.id)
}

// macAddress is a locally administered address that derives from the instance.
func macAddress(instanceID string) string {
	sum := sha256.Sum256([]byte(instanceID))
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
}

func privateDNSName(ip, region string) string {
	domain := region + ".compute.internal"
	if region == "us-east-1" {
		domain = "ec2.internal"
	}
	return "ip-" + strings.ReplaceAll(ip, ".", "-") + "." + domain
}

// DescribeVpcs shows the default VPC.
func (s *Service) DescribeVpcs(ctx context.Context, in *ec2.DescribeVpcsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeVpcsOutput, error) {
	c := s.caller(ctx, optFns)
	n := defaultNetwork(c.Account, c.Region)
	for _, id := range in.VpcIds {
		if id != n.vpc {
			return nil, wire.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
		}
	}
	vpcs, err := filterTable[types.Vpc]{
		"vpc-id":     func(v types.Vpc) []string { return one(v.VpcId) },
		"isDefault":  func(types.Vpc) []string { return boolText(true) },
		"is-default": func(types.Vpc) []string { return boolText(true) },
		"state":      func(v types.Vpc) []string { return []string{string(v.State)} },
		"cidr":       func(v types.Vpc) []string { return one(v.CidrBlock) },
		"owner-id":   func(v types.Vpc) []string { return one(v.OwnerId) },
	}.apply([]types.Vpc{{VpcId: aws.String(n.vpc), CidrBlock: aws.String(vpcCIDR), IsDefault: aws.Bool(true), State: types.VpcStateAvailable,
		OwnerId: aws.String(c.Account), InstanceTenancy: types.TenancyDefault, DhcpOptionsId: aws.String("default")}}, in.Filters, noTags[types.Vpc])
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeVpcsOutput{Vpcs: vpcs}, nil
}

// DescribeSubnets shows the default VPC's subnets, one per zone.
func (s *Service) DescribeSubnets(ctx context.Context, in *ec2.DescribeSubnetsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error) {
	c := s.caller(ctx, optFns)
	n := defaultNetwork(c.Account, c.Region)
	for _, id := range in.SubnetIds {
		if _, err := n.subnetFor(id, ""); err != nil {
			return nil, err
		}
	}
	var all []types.Subnet
	for _, sub := range n.subnets {
		if len(in.SubnetIds) > 0 && !slices.Contains(in.SubnetIds, sub.id) {
			continue
		}
		all = append(all, types.Subnet{SubnetId: aws.String(sub.id), VpcId: aws.String(sub.vpc), AvailabilityZone: aws.String(sub.zone),
			AvailabilityZoneId: aws.String(zoneID(c.Region, sub.zone)), CidrBlock: aws.String(sub.cidr.String()), DefaultForAz: aws.Bool(true),
			MapPublicIpOnLaunch: aws.Bool(false), State: types.SubnetStateAvailable, OwnerId: aws.String(c.Account), AvailableIpAddressCount: aws.Int32(4091),
			SubnetArn: aws.String(fmt.Sprintf("arn:aws:ec2:%s:%s:subnet/%s", c.Region, c.Account, sub.id))})
	}
	all, err := filterTable[types.Subnet]{
		"subnet-id":         func(v types.Subnet) []string { return one(v.SubnetId) },
		"vpc-id":            func(v types.Subnet) []string { return one(v.VpcId) },
		"availability-zone": func(v types.Subnet) []string { return one(v.AvailabilityZone) },
		"default-for-az":    func(types.Subnet) []string { return boolText(true) },
		"state":             func(v types.Subnet) []string { return []string{string(v.State)} },
	}.apply(all, in.Filters, noTags[types.Subnet])
	if err != nil {
		return nil, err
	}
	subnets, next, err := page(all, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeSubnetsOutput{Subnets: subnets, NextToken: next}, nil
}

// DescribeSecurityGroups shows the default VPC's default group.
func (s *Service) DescribeSecurityGroups(ctx context.Context, in *ec2.DescribeSecurityGroupsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeSecurityGroupsOutput, error) {
	c := s.caller(ctx, optFns)
	n := defaultNetwork(c.Account, c.Region)
	if _, err := n.groups(in.GroupIds, in.GroupNames); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	everything := []types.IpPermission{{IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}
	groups, err := filterTable[types.SecurityGroup]{
		"group-id":    func(g types.SecurityGroup) []string { return one(g.GroupId) },
		"group-name":  func(g types.SecurityGroup) []string { return one(g.GroupName) },
		"vpc-id":      func(g types.SecurityGroup) []string { return one(g.VpcId) },
		"owner-id":    func(g types.SecurityGroup) []string { return one(g.OwnerId) },
		"description": func(g types.SecurityGroup) []string { return one(g.Description) },
	}.apply([]types.SecurityGroup{{GroupId: aws.String(n.group), GroupName: aws.String("default"), VpcId: aws.String(n.vpc), OwnerId: aws.String(c.Account),
		Description: aws.String("default VPC security group"), IpPermissionsEgress: everything, IpPermissions: slices.Clone(s.reach(c).Ingress),
		SecurityGroupArn: aws.String(fmt.Sprintf("arn:aws:ec2:%s:%s:security-group/%s", c.Region, c.Account, n.group))}},
		in.Filters, noTags[types.SecurityGroup])
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeSecurityGroupsOutput{SecurityGroups: groups}, nil
}

// DescribeKeyPairs finds none: the factory's instances have no key pairs.
func (s *Service) DescribeKeyPairs(_ context.Context, in *ec2.DescribeKeyPairsInput, _ ...func(*ec2.Options)) (*ec2.DescribeKeyPairsOutput, error) {
	if missing := slices.Concat(in.KeyNames, in.KeyPairIds); len(missing) > 0 {
		return nil, wire.Errorf("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", missing[0])
	}
	return &ec2.DescribeKeyPairsOutput{KeyPairs: []types.KeyPairInfo{}}, nil
}

// noTags lets describes of untagged resources accept tag filters.
func noTags[T any](T) []types.Tag { return nil }
