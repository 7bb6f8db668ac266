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

// vpcCIDR is the range of every default VPC, and of the one real network of all
// guests.
const vpcCIDR = "172.31.0.0/16"

// network is the default VPC of an account in a region. Its ids derive from
// both.
type network struct {
	account, region string
	vpc             string
	group           string
	subnets         []subnet
	made            madeNetworks
	ingress         []types.IpPermission // of the default group
}

type subnet struct {
	id, vpc, zone string
	cidr          netip.Prefix
	// guests is the range of the instances' addresses: that of a default subnet,
	// because all guests share one real network.
	guests netip.Prefix
}

func defaultNetwork(account, region string) network {
	n := network{account: account, region: region, vpc: stableID("vpc-", account, region), group: stableID("sg-", account, region, "default")}
	for i, letter := range []string{"a", "b", "c"} {
		zone := region + letter
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(i * 16), 0}), 20)
		n.subnets = append(n.subnets, subnet{id: stableID("subnet-", account, zone), vpc: n.vpc, zone: zone, cidr: cidr, guests: cidr})
	}
	return n
}

// subnetFor returns the subnet by id, otherwise by zone, otherwise the first.
func (n network) subnetFor(id, zone string) (subnet, error) {
	if id != "" {
		for _, s := range n.all() {
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

// groups resolves security groups of a VPC. Without names or ids it returns the
// default group.
func (n network) groups(vpc string, ids, names []string) ([]types.GroupIdentifier, error) {
	var out []types.GroupIdentifier
	find := func(what string, matches func(types.SecurityGroup) bool) error {
		for _, g := range n.securityGroups() {
			switch {
			case !matches(g):
			case aws.ToString(g.VpcId) == vpc:
				out = append(out, types.GroupIdentifier{GroupId: g.GroupId, GroupName: g.GroupName})
				return nil
			case aws.ToString(g.GroupId) == what:
				return wire.Errorf("InvalidParameter", "Security group %s and the subnet belong to different networks.", what)
			}
		}
		return wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist in VPC '%s'", what, vpc)
	}
	for _, id := range ids {
		if err := find(id, func(g types.SecurityGroup) bool { return aws.ToString(g.GroupId) == id }); err != nil {
			return nil, err
		}
	}
	if len(ids)+len(names) == 0 {
		names = []string{"default"}
	}
	for _, name := range names {
		if err := find(name, func(g types.SecurityGroup) bool {
			return aws.ToString(g.GroupName) == name && aws.ToString(g.VpcId) == vpc
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// freeAddress picks an address for an instance. All accounts and regions share
// the guests' one real network, so the address is free in all of them.
func (s *Service) freeAddress(sub subnet, asked string) (string, error) {
	used := make(map[string]bool, len(s.st.Instances))
	for _, i := range s.st.Instances {
		if i.live() {
			used[aws.ToString(i.PrivateIpAddress)] = true
		}
	}
	if asked != "" {
		ip, err := netip.ParseAddr(asked)
		if err != nil || !sub.guests.Contains(ip) {
			return "", wire.Errorf("InvalidParameterValue", "Address %s does not fall within the subnet's address range", asked)
		}
		if used[asked] {
			return "", wire.Errorf("InvalidIPAddress.InUse", "Address %s is in use.", asked)
		}
		return asked, nil
	}
	ip := sub.guests.Addr()
	for range 9 { // EC2 reserves the first four; the network's own services use a few more
		ip = ip.Next()
	}
	for ip = ip.Next(); sub.guests.Contains(ip.Next()); ip = ip.Next() {
		if !used[ip.String()] {
			return ip.String(), nil
		}
	}
	return "", wire.Errorf("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s' to satisfy the requested number of instances.", sub.id)
}

// macAddress returns a locally administered address that derives from the
// instance id.
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

// DescribeVpcs returns the default VPC and created ones.
func (s *Service) DescribeVpcs(ctx context.Context, in *ec2.DescribeVpcsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeVpcsOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	all, err := named(s.networkOf(c).vpcs(), in.VpcIds, func(v types.Vpc) *string { return v.VpcId }, "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist")
	if err != nil {
		return nil, err
	}
	vpcs, err := filterTable[types.Vpc]{
		"vpc-id":     func(v types.Vpc) []string { return one(v.VpcId) },
		"isDefault":  func(v types.Vpc) []string { return boolText(aws.ToBool(v.IsDefault)) },
		"is-default": func(v types.Vpc) []string { return boolText(aws.ToBool(v.IsDefault)) },
		"state":      func(v types.Vpc) []string { return []string{string(v.State)} },
		"cidr":       func(v types.Vpc) []string { return one(v.CidrBlock) },
		"owner-id":   func(v types.Vpc) []string { return one(v.OwnerId) },
	}.apply(all, in.Filters, func(v types.Vpc) []types.Tag { return v.Tags })
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeVpcsOutput{Vpcs: vpcs}, nil
}

// named returns the items with these ids, or all without ids.
func named[T any](all []T, ids []string, id func(T) *string, code, message string) ([]T, error) {
	if len(ids) == 0 {
		return all, nil
	}
	var out []T
	for _, want := range ids {
		i := slices.IndexFunc(all, func(item T) bool { return aws.ToString(id(item)) == want })
		if i < 0 {
			return nil, wire.Errorf(code, message, want)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// DescribeSubnets returns the default VPC's subnets, one per zone, and created
// ones.
func (s *Service) DescribeSubnets(ctx context.Context, in *ec2.DescribeSubnetsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	all, err := named(s.networkOf(c).described(), in.SubnetIds, func(v types.Subnet) *string { return v.SubnetId }, "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist")
	if err != nil {
		return nil, err
	}
	all, err = filterTable[types.Subnet]{
		"subnet-id":         func(v types.Subnet) []string { return one(v.SubnetId) },
		"vpc-id":            func(v types.Subnet) []string { return one(v.VpcId) },
		"availability-zone": func(v types.Subnet) []string { return one(v.AvailabilityZone) },
		"default-for-az":    func(v types.Subnet) []string { return boolText(aws.ToBool(v.DefaultForAz)) },
		"state":             func(v types.Subnet) []string { return []string{string(v.State)} },
	}.apply(all, in.Filters, func(v types.Subnet) []types.Tag { return v.Tags })
	if err != nil {
		return nil, err
	}
	subnets, next, err := page(all, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeSubnetsOutput{Subnets: subnets, NextToken: next}, nil
}

// DescribeSecurityGroups returns the default group of each VPC and created ones.
func (s *Service) DescribeSecurityGroups(ctx context.Context, in *ec2.DescribeSecurityGroupsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeSecurityGroupsOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	n := s.networkOf(c)
	n.ingress = slices.Clone(s.reach(c).Ingress)
	if _, err := n.groups(n.vpc, nil, in.GroupNames); err != nil {
		return nil, err
	}
	all, err := named(n.securityGroups(), in.GroupIds, func(g types.SecurityGroup) *string { return g.GroupId }, "InvalidGroup.NotFound", "The security group '%s' does not exist")
	if err != nil {
		return nil, err
	}
	if len(in.GroupNames) > 0 {
		all = slices.DeleteFunc(slices.Clone(all), func(g types.SecurityGroup) bool {
			return aws.ToString(g.VpcId) != n.vpc || !slices.Contains(in.GroupNames, aws.ToString(g.GroupName))
		})
	}
	groups, err := filterTable[types.SecurityGroup]{
		"group-id":    func(g types.SecurityGroup) []string { return one(g.GroupId) },
		"group-name":  func(g types.SecurityGroup) []string { return one(g.GroupName) },
		"vpc-id":      func(g types.SecurityGroup) []string { return one(g.VpcId) },
		"owner-id":    func(g types.SecurityGroup) []string { return one(g.OwnerId) },
		"description": func(g types.SecurityGroup) []string { return one(g.Description) },
	}.apply(all, in.Filters, func(g types.SecurityGroup) []types.Tag { return g.Tags })
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeSecurityGroupsOutput{SecurityGroups: groups}, nil
}

// noTags is for resources without tags, so that their describes accept tag
// filters.
func noTags[T any](T) []types.Tag { return nil }
