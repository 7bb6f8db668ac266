package ec2

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// reachability holds a default VPC's routes, endpoints, DNS attributes and
// default group. It is stored and shown, and has no effect on guests.
type reachability struct {
	Routes           []types.Route        `json:"routes"` // of the main route table, without the local route
	Endpoints        []*types.VpcEndpoint `json:"endpoints"`
	DNSSupportOff    bool                 `json:"dnsSupportOff"`
	DNSHostnamesOff  bool                 `json:"dnsHostnamesOff"`
	Ingress          []types.IpPermission `json:"ingress"` // of the default group
	EndpointsCreated int                  `json:"endpointsCreated"`
}

// reach returns a VPC's reachability, and creates it at the first call. The
// caller holds s.mu. Guests reach the outside through the host, like through a
// NAT gateway, so a new route table has a route to one.
func (s *Service) reach(c wire.Caller) *reachability {
	key := scope.KeyOf(c)
	if s.st.Reach[key] == nil {
		s.st.Reach[key] = &reachability{Routes: []types.Route{{
			DestinationCidrBlock: aws.String("0.0.0.0/0"), NatGatewayId: aws.String(stableID("nat-", c.Account, c.Region)),
			State: types.RouteStateActive, Origin: types.RouteOriginCreateRoute,
		}}}
	}
	return s.st.Reach[key]
}

// routeTable returns the id of the VPC's main route table, which is its only
// one.
func (n network) routeTable() string { return stableID("rtb-", n.account, n.region) }

func (n network) checkRouteTable(id string) error {
	if id != n.routeTable() {
		return wire.Errorf("InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist", id)
	}
	return nil
}

// DescribeRouteTables returns the default VPC's main route table.
func (s *Service) DescribeRouteTables(ctx context.Context, in *ec2.DescribeRouteTablesInput, optFns ...func(*ec2.Options)) (*ec2.DescribeRouteTablesOutput, error) {
	c := s.caller(ctx, optFns)
	n := defaultNetwork(c.Account, c.Region)
	for _, id := range in.RouteTableIds {
		if err := n.checkRouteTable(id); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.unlock()
	id := n.routeTable()
	table := types.RouteTable{
		RouteTableId: &id, VpcId: aws.String(n.vpc), OwnerId: aws.String(c.Account),
		Associations: []types.RouteTableAssociation{{
			Main: aws.Bool(true), RouteTableId: &id, RouteTableAssociationId: aws.String(stableID("rtbassoc-", n.account, n.region)),
			AssociationState: &types.RouteTableAssociationState{State: types.RouteTableAssociationStateCodeAssociated},
		}},
		Routes: append([]types.Route{{
			DestinationCidrBlock: aws.String(vpcCIDR), GatewayId: aws.String("local"), State: types.RouteStateActive, Origin: types.RouteOriginCreateRouteTable,
		}}, s.reach(c).Routes...),
	}
	tables, err := filterTable[types.RouteTable]{
		"vpc-id":                func(t types.RouteTable) []string { return one(t.VpcId) },
		"route-table-id":        func(t types.RouteTable) []string { return one(t.RouteTableId) },
		"association.main":      func(types.RouteTable) []string { return boolText(true) },
		"association.subnet-id": func(types.RouteTable) []string { return nil },
	}.apply([]types.RouteTable{table}, in.Filters, noTags[types.RouteTable])
	if err != nil {
		return nil, err
	}
	tables, next, err := page(tables, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeRouteTablesOutput{RouteTables: tables, NextToken: next}, nil
}

// CreateRoute adds a route to a gateway, a NAT gateway or a transit gateway,
// which need not exist.
func (s *Service) CreateRoute(ctx context.Context, in *ec2.CreateRouteInput, optFns ...func(*ec2.Options)) (*ec2.CreateRouteOutput, error) {
	c := s.caller(ctx, optFns)
	if err := defaultNetwork(c.Account, c.Region).checkRouteTable(aws.ToString(in.RouteTableId)); err != nil {
		return nil, err
	}
	destination := aws.ToString(in.DestinationCidrBlock)
	if _, err := netip.ParsePrefix(destination); err != nil {
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block.", destination)
	}
	if in.GatewayId == nil && in.NatGatewayId == nil && in.TransitGatewayId == nil {
		return nil, wire.Errorf("MissingParameter", "The embedded EC2 supports the targets GatewayId, NatGatewayId and TransitGatewayId")
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	r := s.reach(c)
	if slices.ContainsFunc(r.Routes, func(have types.Route) bool { return aws.ToString(have.DestinationCidrBlock) == destination }) {
		return nil, wire.Errorf("RouteAlreadyExists", "The route identified by %s already exists.", destination)
	}
	r.Routes = append(r.Routes, types.Route{
		DestinationCidrBlock: in.DestinationCidrBlock, GatewayId: in.GatewayId, NatGatewayId: in.NatGatewayId, TransitGatewayId: in.TransitGatewayId,
		State: types.RouteStateActive, Origin: types.RouteOriginCreateRoute,
	})
	return &ec2.CreateRouteOutput{Return: aws.Bool(true)}, nil
}

// DeleteRoute removes a route.
func (s *Service) DeleteRoute(ctx context.Context, in *ec2.DeleteRouteInput, optFns ...func(*ec2.Options)) (*ec2.DeleteRouteOutput, error) {
	c := s.caller(ctx, optFns)
	if err := defaultNetwork(c.Account, c.Region).checkRouteTable(aws.ToString(in.RouteTableId)); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	r := s.reach(c)
	n := slices.IndexFunc(r.Routes, func(have types.Route) bool {
		return aws.ToString(have.DestinationCidrBlock) == aws.ToString(in.DestinationCidrBlock)
	})
	if n < 0 {
		return nil, wire.Errorf("InvalidRoute.NotFound", "no route with destination-cidr-block %s in route table %s", aws.ToString(in.DestinationCidrBlock), *in.RouteTableId)
	}
	r.Routes = slices.Delete(r.Routes, n, n+1)
	return &ec2.DeleteRouteOutput{}, nil
}

// CreateVpcEndpoint makes a gateway or an interface endpoint, available at once.
func (s *Service) CreateVpcEndpoint(ctx context.Context, in *ec2.CreateVpcEndpointInput, optFns ...func(*ec2.Options)) (*ec2.CreateVpcEndpointOutput, error) {
	c := s.caller(ctx, optFns)
	n := defaultNetwork(c.Account, c.Region)
	if err := n.checkEndpoint(in); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	r := s.reach(c)
	r.EndpointsCreated++
	e := &types.VpcEndpoint{
		VpcEndpointId: aws.String(stableID("vpce-", c.Account, c.Region, fmt.Sprint(r.EndpointsCreated))), VpcId: in.VpcId, ServiceName: in.ServiceName,
		VpcEndpointType: in.VpcEndpointType, State: types.StateAvailable, OwnerId: aws.String(c.Account), PolicyDocument: in.PolicyDocument,
		CreationTimestamp: aws.Time(s.cfg.Clock.Now().Truncate(time.Second)), PrivateDnsEnabled: aws.Bool(false), RequesterManaged: aws.Bool(false),
	}
	if in.VpcEndpointType == types.VpcEndpointTypeInterface {
		e.SubnetIds, e.PrivateDnsEnabled = in.SubnetIds, aws.Bool(in.PrivateDnsEnabled == nil || *in.PrivateDnsEnabled)
		groups := in.SecurityGroupIds
		if len(groups) == 0 {
			groups = []string{n.group}
		}
		for _, id := range groups {
			e.Groups = append(e.Groups, types.SecurityGroupIdentifier{GroupId: aws.String(id), GroupName: aws.String("default")})
		}
	} else {
		e.VpcEndpointType, e.RouteTableIds = types.VpcEndpointTypeGateway, in.RouteTableIds
	}
	r.Endpoints = append(r.Endpoints, e)
	return &ec2.CreateVpcEndpointOutput{VpcEndpoint: e, ClientToken: in.ClientToken}, nil
}

func (n network) checkEndpoint(in *ec2.CreateVpcEndpointInput) error {
	if vpc := aws.ToString(in.VpcId); vpc != n.vpc {
		return wire.Errorf("InvalidVpcId.NotFound", "The Vpc Id %s does not exist", vpc)
	}
	if aws.ToString(in.ServiceName) == "" {
		return wire.Errorf("InvalidServiceName", "The Vpc Endpoint Service '' does not exist")
	}
	switch in.VpcEndpointType {
	case "", types.VpcEndpointTypeGateway, types.VpcEndpointTypeInterface:
	default:
		return wire.Errorf("InvalidParameter", "The embedded EC2 has endpoints of the types Gateway and Interface, not %s", in.VpcEndpointType)
	}
	for _, id := range in.SubnetIds {
		if _, err := n.subnetFor(id, ""); err != nil {
			return err
		}
	}
	for _, id := range in.RouteTableIds {
		if err := n.checkRouteTable(id); err != nil {
			return err
		}
	}
	_, err := n.groups(n.vpc, in.SecurityGroupIds, nil)
	return err
}

// DeleteVpcEndpoints removes endpoints and reports the missing ones.
func (s *Service) DeleteVpcEndpoints(ctx context.Context, in *ec2.DeleteVpcEndpointsInput, optFns ...func(*ec2.Options)) (*ec2.DeleteVpcEndpointsOutput, error) {
	c := s.caller(ctx, optFns)
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	r, out := s.reach(c), &ec2.DeleteVpcEndpointsOutput{}
	for _, id := range in.VpcEndpointIds {
		n := r.endpoint(id)
		if n < 0 {
			out.Unsuccessful = append(out.Unsuccessful, types.UnsuccessfulItem{ResourceId: aws.String(id), Error: &types.UnsuccessfulItemError{
				Code: aws.String("InvalidVpcEndpointId.NotFound"), Message: aws.String("The Vpc Endpoint Id '" + id + "' does not exist"),
			}})
			continue
		}
		r.Endpoints = slices.Delete(r.Endpoints, n, n+1)
	}
	return out, nil
}

func (r *reachability) endpoint(id string) int {
	return slices.IndexFunc(r.Endpoints, func(e *types.VpcEndpoint) bool { return *e.VpcEndpointId == id })
}

// DescribeVpcEndpoints returns the created endpoints.
func (s *Service) DescribeVpcEndpoints(ctx context.Context, in *ec2.DescribeVpcEndpointsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeVpcEndpointsOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	r := s.reach(c)
	for _, id := range in.VpcEndpointIds {
		if r.endpoint(id) < 0 {
			return nil, wire.Errorf("InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id '%s' does not exist", id)
		}
	}
	all := []types.VpcEndpoint{}
	for _, e := range r.Endpoints {
		if len(in.VpcEndpointIds) == 0 || slices.Contains(in.VpcEndpointIds, *e.VpcEndpointId) {
			all = append(all, *e)
		}
	}
	all, err := filterTable[types.VpcEndpoint]{
		"vpc-id":             func(e types.VpcEndpoint) []string { return one(e.VpcId) },
		"service-name":       func(e types.VpcEndpoint) []string { return one(e.ServiceName) },
		"vpc-endpoint-id":    func(e types.VpcEndpoint) []string { return one(e.VpcEndpointId) },
		"vpc-endpoint-type":  func(e types.VpcEndpoint) []string { return []string{string(e.VpcEndpointType)} },
		"vpc-endpoint-state": func(e types.VpcEndpoint) []string { return []string{string(e.State)} },
	}.apply(all, in.Filters, noTags[types.VpcEndpoint])
	if err != nil {
		return nil, err
	}
	all, next, err := page(all, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeVpcEndpointsOutput{VpcEndpoints: all, NextToken: next}, nil
}

func (n network) checkVPC(id *string) error {
	if vpc := aws.ToString(id); vpc != n.vpc {
		return wire.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
	}
	return nil
}

// DescribeVpcAttribute returns one of the VPC's DNS attributes.
func (s *Service) DescribeVpcAttribute(ctx context.Context, in *ec2.DescribeVpcAttributeInput, optFns ...func(*ec2.Options)) (*ec2.DescribeVpcAttributeOutput, error) {
	c := s.caller(ctx, optFns)
	if err := defaultNetwork(c.Account, c.Region).checkVPC(in.VpcId); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	r, out := s.reach(c), &ec2.DescribeVpcAttributeOutput{VpcId: in.VpcId}
	switch in.Attribute {
	case types.VpcAttributeNameEnableDnsSupport:
		out.EnableDnsSupport = &types.AttributeBooleanValue{Value: aws.Bool(!r.DNSSupportOff)}
	case types.VpcAttributeNameEnableDnsHostnames:
		out.EnableDnsHostnames = &types.AttributeBooleanValue{Value: aws.Bool(!r.DNSHostnamesOff)}
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Allowed here: enableDnsSupport, enableDnsHostnames", in.Attribute)
	}
	return out, nil
}

// ModifyVpcAttribute sets one of the VPC's DNS attributes.
func (s *Service) ModifyVpcAttribute(ctx context.Context, in *ec2.ModifyVpcAttributeInput, optFns ...func(*ec2.Options)) (*ec2.ModifyVpcAttributeOutput, error) {
	c := s.caller(ctx, optFns)
	if err := defaultNetwork(c.Account, c.Region).checkVPC(in.VpcId); err != nil {
		return nil, err
	}
	if (in.EnableDnsSupport == nil) == (in.EnableDnsHostnames == nil) {
		return nil, wire.Errorf("InvalidParameterCombination", "Exactly one of EnableDnsSupport and EnableDnsHostnames is expected")
	}
	s.mu.Lock()
	defer s.unlock()
	r := s.reach(c)
	if v := in.EnableDnsSupport; v != nil {
		r.DNSSupportOff = !aws.ToBool(v.Value)
	}
	if v := in.EnableDnsHostnames; v != nil {
		r.DNSHostnamesOff = !aws.ToBool(v.Value)
	}
	return &ec2.ModifyVpcAttributeOutput{}, nil
}
