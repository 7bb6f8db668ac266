package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

type placeAPI interface {
	ec2.DescribeSubnetsAPIClient
	ec2.DescribeRouteTablesAPIClient
	ec2.DescribeVpcEndpointsAPIClient
	ec2.DescribeSecurityGroupsAPIClient
	DescribeVpcAttribute(context.Context, *ec2.DescribeVpcAttributeInput, ...func(*ec2.Options)) (*ec2.DescribeVpcAttributeOutput, error)
}

// memo is a place and why it could not be read.
type memo struct {
	place
	err error
}

// place is where builders of some recipes are launched: subnets of one VPC.
type place struct{ subnets []types.Subnet }

func (p place) zones() []string {
	var out []string
	for _, s := range p.subnets {
		out = append(out, aws.ToString(s.AvailabilityZone))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// subnetIDs are those that a launch goes through: the recipe's, else the
// deployment's. None: the default VPC's.
func (e *examination) subnetIDs(own []string) []string {
	switch {
	case len(own) > 0:
		return own
	case e.deployed.env[contract.EnvSubnets] != "":
		return fields(e.deployed.env[contract.EnvSubnets])
	}
	return e.opts.Subnets
}

// groupIDs are the security groups of builders. None: the VPC's default one.
func (e *examination) groupIDs() []string {
	if given := e.deployed.env[contract.EnvSecurityGroups]; given != "" {
		return fields(given)
	}
	return e.opts.SecurityGroups
}

func fields(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// place reads the subnets of recipes that name these, once.
func (e *examination) place(ctx context.Context, own []string) memo {
	ids := e.subnetIDs(own)
	key := strings.Join(ids, ",")
	if m, ok := e.memo[key]; ok {
		return m
	}
	in := &ec2.DescribeSubnetsInput{SubnetIds: ids}
	if len(ids) == 0 {
		in.Filters = []types.Filter{{Name: aws.String("default-for-az"), Values: []string{"true"}}}
	}
	var m memo
	m.subnets, m.err = subnets(ctx, e.aws.ec2(e.region), in)
	e.memo[key] = m
	return m
}

func subnets(ctx context.Context, api ec2.DescribeSubnetsAPIClient, in *ec2.DescribeSubnetsInput) ([]types.Subnet, error) {
	var out []types.Subnet
	pages := ec2.NewDescribeSubnetsPaginator(api, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Subnets...)
	}
	return out, nil
}

func checkSubnets(ctx context.Context, e *examination) []Finding {
	var out []Finding
	api := e.aws.ec2(e.region)
	g := grouped(e.home(), func(r Recipe) string { return strings.Join(e.subnetIDs(r.Builder.SubnetIDs), ",") })
	for _, key := range g.keys {
		recipes := g.of[key]
		where := fmt.Sprintf("subnets %s (%s)", strings.ReplaceAll(key, ",", ", "), names(recipes))
		if key == "" {
			where = "subnets of the default VPC (" + names(recipes) + ")"
		}
		m := e.place(ctx, recipes[0].Builder.SubnetIDs)
		switch {
		case m.err != nil && awserr.IsNotFound(m.err):
			out = append(out, problem(where, "correct builder.subnetIds of the recipe, or the context subnetIds of the deployment; list them: aws ec2 describe-subnets",
				"%s: no builder can start", awserr.Brief(m.err)))
		case m.err != nil:
			out = append(out, unread(where, m.err))
		case len(m.subnets) == 0:
			out = append(out, problem(where, "name subnets: -c subnetIds=... of the deployment, or builder.subnetIds; or aws ec2 create-default-vpc",
				"there is none: no builder can start"))
		default:
			out = append(out, around(ctx, api, m.subnets, e.groupIDs(), e.region)...)
		}
	}
	return out
}

// around looks at subnets and what is around them, VPC by VPC.
func around(ctx context.Context, api placeAPI, subnets []types.Subnet, groupIDs []string, region string) []Finding {
	var out []Finding
	read := map[string]surroundings{}
	for _, s := range subnets {
		vpc := aws.ToString(s.VpcId)
		at, ok := read[vpc]
		if !ok {
			var err error
			if at, err = look(ctx, api, vpc, groupIDs, region); err != nil {
				f := unread("way out of "+vpc, err)
				out, at.err = append(out, f), err
			}
			read[vpc] = at
		}
		parts := []Finding{judgeAddresses(s)}
		if at.err == nil {
			parts = append(parts, judgeWay(s, at))
		}
		out = append(out, merged(fmt.Sprintf("%s in %s", aws.ToString(s.SubnetId), aws.ToString(s.AvailabilityZone)), parts))
	}
	return out
}

// merged is one finding of several about the same thing, the worst first.
func merged(looked string, parts []Finding) Finding {
	order := []Verdict{Problem, Warning, NotChecked, OK}
	slices.SortStableFunc(parts, func(a, b Finding) int { return slices.Index(order, a.Verdict) - slices.Index(order, b.Verdict) })
	out := Finding{Looked: looked, Verdict: parts[0].Verdict}
	var means, fixes []string
	for _, p := range parts {
		means = append(means, p.Means)
		if p.Fix != "" && !slices.Contains(fixes, p.Fix) {
			fixes = append(fixes, p.Fix)
		}
	}
	out.Means, out.Fix = strings.Join(means, "; "), strings.Join(fixes, "; ")
	return out
}

// surroundings are what decides, in a VPC, what builders reach.
type surroundings struct {
	vpc, region  string
	tables       []types.RouteTable
	endpoints    []types.VpcEndpoint
	groups       map[string]types.SecurityGroup // of the VPC, by id
	builders     []string                       // groups that builders are in
	dnsSupport   bool
	dnsHostnames bool
	err          error
}

func look(ctx context.Context, api placeAPI, vpc string, groupIDs []string, region string) (surroundings, error) {
	s := surroundings{vpc: vpc, region: region, groups: map[string]types.SecurityGroup{}, builders: groupIDs}
	in := []types.Filter{{Name: aws.String("vpc-id"), Values: []string{vpc}}}
	for tables := ec2.NewDescribeRouteTablesPaginator(api, &ec2.DescribeRouteTablesInput{Filters: in}); tables.HasMorePages(); {
		page, err := tables.NextPage(ctx)
		if err != nil {
			return s, err
		}
		s.tables = append(s.tables, page.RouteTables...)
	}
	for endpoints := ec2.NewDescribeVpcEndpointsPaginator(api, &ec2.DescribeVpcEndpointsInput{Filters: in}); endpoints.HasMorePages(); {
		page, err := endpoints.NextPage(ctx)
		if err != nil {
			return s, err
		}
		s.endpoints = append(s.endpoints, page.VpcEndpoints...)
	}
	groups, err := securityGroups(ctx, api, in)
	if err != nil {
		return s, err
	}
	for _, g := range groups {
		s.groups[aws.ToString(g.GroupId)] = g
		if len(groupIDs) == 0 && aws.ToString(g.GroupName) == "default" {
			s.builders = []string{aws.ToString(g.GroupId)}
		}
	}
	support, err := api.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: &vpc, Attribute: types.VpcAttributeNameEnableDnsSupport})
	if err != nil {
		return s, err
	}
	hostnames, err := api.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: &vpc, Attribute: types.VpcAttributeNameEnableDnsHostnames})
	if err != nil {
		return s, err
	}
	s.dnsSupport = support.EnableDnsSupport != nil && aws.ToBool(support.EnableDnsSupport.Value)
	s.dnsHostnames = hostnames.EnableDnsHostnames != nil && aws.ToBool(hostnames.EnableDnsHostnames.Value)
	return s, nil
}

func securityGroups(ctx context.Context, api ec2.DescribeSecurityGroupsAPIClient, filters []types.Filter) ([]types.SecurityGroup, error) {
	var out []types.SecurityGroup
	pages := ec2.NewDescribeSecurityGroupsPaginator(api, &ec2.DescribeSecurityGroupsInput{Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, page.SecurityGroups...)
	}
	return out, nil
}

// judgeAddresses: each running execution has one instance at a time.
func judgeAddresses(s types.Subnet) Finding {
	free, need := int(aws.ToInt32(s.AvailableIpAddressCount)), decide.DefaultLimits().MaxRunning
	const fix = "choose a larger subnet, or remove what takes up its addresses"
	switch {
	case s.State != "" && s.State != types.SubnetStateAvailable:
		return problem("", "wait, or choose another subnet", "the subnet is %s", s.State)
	case free == 0:
		return problem("", fix, "no address is free: no builder can start in it")
	case free < need:
		return warning("", fix, "%d addresses are free, and %d executions may run at a time", free, need)
	}
	return fine("", "%d addresses are free", free)
}

// judgeWay says whether an instance without a public address, as the factory's
// are, reaches SSM and S3: by a route to the internet through somebody else's
// address, or by endpoints. An endpoint with private DNS is where its service's
// name leads, whatever the routes are; so one that lets nobody in breaks a VPC
// with a NAT gateway too. Network ACLs, firewalls and policies of endpoints are
// not looked at.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/setup-create-vpc.html
func judgeWay(subnet types.Subnet, at surroundings) Finding {
	if !at.dnsSupport {
		return problem("", "aws ec2 modify-vpc-attribute --vpc-id "+at.vpc+" --enable-dns-support", "the VPC resolves no names: instances find neither SSM nor S3")
	}
	table := at.tableOf(aws.ToString(subnet.SubnetId))
	way, verdict := internet(table)
	var missing, closed []string
	for _, service := range []string{"ssm", "ssmmessages", "s3"} {
		found, opened := at.endpoint(service, subnet, table)
		switch {
		case !found:
			missing = append(missing, service)
		case !opened:
			closed = append(closed, service)
		}
	}
	switch {
	case len(closed) > 0:
		return problem("", fmt.Sprintf("aws ec2 authorize-security-group-ingress --protocol tcp --port 443 --cidr %s --group-id <group of the endpoint>", aws.ToString(subnet.CidrBlock)),
			"the endpoint of %s lets nobody of this subnet in on port 443: instances never come online in SSM", list(closed))
	case len(missing) == 0 && !at.dnsHostnames:
		return problem("", "aws ec2 modify-vpc-attribute --vpc-id "+at.vpc+" --enable-dns-hostnames", "endpoints have private names only in a VPC with DNS host names")
	case len(missing) == 0:
		return fine("", "SSM and S3 by endpoints (SSM agents before 3.3.40 want one of ec2messages too); for packages, %s", way)
	case verdict == OK:
		return fine("", "%s", way)
	case verdict == Warning:
		return warning("", "see that it leads to SSM and S3, or add the endpoints "+list(at.serviceNames(missing)), "%s, and whether SSM and S3 are behind it cannot be seen from here", way)
	}
	return problem("", at.fixEndpoints(subnet, table, missing), "%s, and there are no endpoints of %s: instances never come online in SSM, and executions end InstanceTimedOut", way, list(missing))
}

// tableOf is the subnet's own route table, or the VPC's main one.
func (at surroundings) tableOf(subnet string) types.RouteTable {
	var table types.RouteTable
	for _, t := range at.tables {
		for _, a := range t.Associations {
			if aws.ToString(a.SubnetId) == subnet {
				return t
			}
			if aws.ToBool(a.Main) {
				table = t
			}
		}
	}
	return table
}

// internet judges the default route: OK it leads out, Warning it leads on, and
// Problem it leads nowhere for an instance without a public address.
func internet(table types.RouteTable) (way string, verdict Verdict) {
	for _, r := range table.Routes {
		if aws.ToString(r.DestinationCidrBlock) != "0.0.0.0/0" {
			continue
		}
		gateway := aws.ToString(r.GatewayId)
		switch {
		case r.State == types.RouteStateBlackhole:
			return "the default route leads to what is no longer there", Problem
		case r.NatGatewayId != nil:
			return "goes out by NAT gateway " + *r.NatGatewayId, OK
		case strings.HasPrefix(gateway, "igw-"):
			return "the default route is to internet gateway " + gateway + ", and builders have no public address to use it with", Problem
		case r.TransitGatewayId != nil:
			return "the default route is to transit gateway " + *r.TransitGatewayId, Warning
		}
		return "the default route is to " + strings.Join(slices.DeleteFunc([]string{
			gateway, aws.ToString(r.NetworkInterfaceId), aws.ToString(r.InstanceId), aws.ToString(r.VpcPeeringConnectionId), aws.ToString(r.CoreNetworkArn),
		}, func(s string) bool { return s == "" }), " "), Warning
	}
	return "there is no route to the internet", Problem
}

// serviceName is that of the endpoint to have: of S3 the gateway, which costs nothing.
func (at surroundings) serviceName(service string) string {
	if service == "s3" {
		return partition.GatewayEndpoint(service, at.region)
	}
	return partition.InterfaceEndpoint(service, at.region)
}

// isOf says whether an endpoint is one of a service. The names of interface endpoints
// and gateways differ in some partitions.
func (at surroundings) isOf(e types.VpcEndpoint, service string) bool {
	name := partition.InterfaceEndpoint(service, at.region)
	if e.VpcEndpointType == types.VpcEndpointTypeGateway {
		name = partition.GatewayEndpoint(service, at.region)
	}
	return aws.ToString(e.ServiceName) == name
}

func (at surroundings) serviceNames(services []string) []string {
	var out []string
	for _, s := range services {
		out = append(out, at.serviceName(s))
	}
	return out
}

// endpoint says whether there is an endpoint of a service that instances in a
// subnet are led to, and whether its security groups let them in. S3's gateway
// has no groups, but must be in the subnet's route table.
func (at surroundings) endpoint(service string, subnet types.Subnet, table types.RouteTable) (found, opened bool) {
	for _, e := range at.endpoints {
		if !at.isOf(e, service) || !strings.EqualFold(string(e.State), string(types.StateAvailable)) {
			continue
		}
		if e.VpcEndpointType == types.VpcEndpointTypeGateway {
			if slices.Contains(e.RouteTableIds, aws.ToString(table.RouteTableId)) {
				return true, true
			}
			continue
		}
		if aws.ToBool(e.PrivateDnsEnabled) {
			found = true
			opened = opened || at.opens(e, subnet)
		}
	}
	return found, opened
}

// opens says whether one of an endpoint's groups lets the subnet, or the
// builders' groups, in on port 443.
func (at surroundings) opens(e types.VpcEndpoint, subnet types.Subnet) bool {
	for _, id := range e.Groups {
		for _, p := range at.groups[aws.ToString(id.GroupId)].IpPermissions {
			if !covers(p, 443) {
				continue
			}
			for _, r := range p.IpRanges {
				if contains(aws.ToString(r.CidrIp), aws.ToString(subnet.CidrBlock)) {
					return true
				}
			}
			for _, g := range p.UserIdGroupPairs {
				if slices.Contains(at.builders, aws.ToString(g.GroupId)) {
					return true
				}
			}
			if len(p.PrefixListIds) > 0 { // what is in them is not read: in doubt, nothing is wrong
				return true
			}
		}
	}
	return false
}

// covers says whether a rule is about a TCP port.
func covers(p types.IpPermission, port int32) bool {
	switch aws.ToString(p.IpProtocol) {
	case "-1":
		return true
	case "tcp", "6":
		return aws.ToInt32(p.FromPort) <= port && port <= aws.ToInt32(p.ToPort)
	}
	return false
}

// contains says whether a range of addresses holds all of another.
func contains(outer, inner string) bool {
	o, err := netip.ParsePrefix(outer)
	if err != nil {
		return false
	}
	i, err := netip.ParsePrefix(inner)
	return err == nil && o.Bits() <= i.Bits() && o.Contains(i.Addr())
}

func (at surroundings) fixEndpoints(subnet types.Subnet, table types.RouteTable, missing []string) string {
	var out []string
	for _, service := range missing {
		command := "aws ec2 create-vpc-endpoint --vpc-id " + at.vpc + " --service-name " + at.serviceName(service)
		if service == "s3" {
			out = append(out, command+" --route-table-ids "+aws.ToString(table.RouteTableId))
			continue
		}
		out = append(out, command+" --vpc-endpoint-type Interface --private-dns-enabled --subnet-ids "+aws.ToString(subnet.SubnetId)+" --security-group-ids <one that lets port 443 in>")
	}
	return strings.Join(out, "; ") + "; or a route to a NAT gateway"
}

func checkSecurityGroups(ctx context.Context, e *examination) []Finding {
	var out []Finding
	api := e.aws.ec2(e.region)
	seen := map[string]bool{}
	for _, r := range e.home() {
		m := e.place(ctx, r.Builder.SubnetIDs)
		if m.err != nil || len(m.subnets) == 0 {
			if !seen[""] {
				out = append(out, notChecked("security groups of builders", "which VPC they are in is not known: see subnets"))
			}
			seen[""] = true
			continue
		}
		if vpc := aws.ToString(m.subnets[0].VpcId); !seen[vpc] {
			seen[vpc] = true
			out = append(out, builderGroups(ctx, api, vpc, e.groupIDs())...)
		}
	}
	return out
}

// builderGroups looks at the groups that builders in a VPC are in.
func builderGroups(ctx context.Context, api ec2.DescribeSecurityGroupsAPIClient, vpc string, ids []string) []Finding {
	all, err := securityGroups(ctx, api, []types.Filter{{Name: aws.String("vpc-id"), Values: []string{vpc}}})
	if err != nil {
		return []Finding{unread("security groups of builders in "+vpc, err)}
	}
	var out []Finding
	found := map[string]bool{}
	for _, g := range all {
		id := aws.ToString(g.GroupId)
		if slices.Contains(ids, id) || len(ids) == 0 && aws.ToString(g.GroupName) == "default" {
			found[id] = true
			out = append(out, judgeGroup(g))
		}
	}
	for _, id := range ids {
		if !found[id] {
			out = append(out, problem(id, "correct the context securityGroupIds of the deployment; list them: aws ec2 describe-security-groups --filters Name=vpc-id,Values="+vpc,
				"it is not in %s, where builders are launched: no builder can start", vpc))
		}
	}
	return out
}

// judgeGroup: nothing needs to reach a builder, which is unfinished and not
// patched yet; and it must get out.
func judgeGroup(g types.SecurityGroup) Finding {
	id := aws.ToString(g.GroupId)
	looked := fmt.Sprintf("%s (%s)", id, aws.ToString(g.GroupName))
	if !slices.ContainsFunc(g.IpPermissionsEgress, func(p types.IpPermission) bool { return covers(p, 443) }) {
		return problem(looked, "aws ec2 authorize-security-group-egress --group-id "+id+" --ip-permissions IpProtocol=tcp,FromPort=443,ToPort=443,IpRanges=[{CidrIp=0.0.0.0/0}]",
			"it lets nothing out on port 443: builders reach neither SSM nor S3")
	}
	var from []string
	self := false
	for _, p := range g.IpPermissions {
		for _, r := range p.IpRanges {
			from = append(from, aws.ToString(r.CidrIp))
		}
		for _, r := range p.Ipv6Ranges {
			from = append(from, aws.ToString(r.CidrIpv6))
		}
		for _, r := range p.PrefixListIds {
			from = append(from, aws.ToString(r.PrefixListId))
		}
		for _, r := range p.UserIdGroupPairs {
			if aws.ToString(r.GroupId) == id {
				self = true
				continue
			}
			from = append(from, aws.ToString(r.GroupId))
		}
	}
	const fix = "give builders a group without rules for what comes in: -c securityGroupIds=... of the deployment"
	switch {
	case len(from) > 0:
		return warning(looked, fix, "it lets in %s: builders are reached over SSM, and need nobody to come in", list(from))
	case self:
		return warning(looked, fix, "it lets in whatever else is in the group, as default groups do: builders need nobody to come in")
	}
	return fine(looked, "lets nobody in, and builders out")
}
