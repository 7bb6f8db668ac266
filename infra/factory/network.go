package factory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// The networks that builders and verifiers can run in.
const (
	NetworkDefault  = "default"  // the account's default VPC, and its default security group
	NetworkOwn      = "own"      // a VPC of the stack's
	NetworkExisting = "existing" // subnets that exist
)

// NetworkProps say where builders and verifiers run.
type NetworkProps struct {
	Kind             string // empty: NetworkExisting when there are SubnetIDs, else NetworkDefault
	VPCID            string // of SubnetIDs
	SubnetIDs        []string
	SecurityGroupIDs []string
	CIDR             string // of an own network
	Zones            int    // of an own network
	NAT              bool   // an own network gets a way out
	FlowLogs         bool   // of an own network
}

func (p NetworkProps) kind() string {
	switch {
	case p.Kind != "":
		return p.Kind
	case len(p.SubnetIDs) > 0:
		return NetworkExisting
	default:
		return NetworkDefault
	}
}

// contradictions are settings that do not go together.
func (p NetworkProps) contradictions() []error {
	var out []error
	kind := p.kind()
	if kind == NetworkExisting && len(p.SubnetIDs) == 0 {
		out = append(out, errors.New("context network is existing, and subnetIds is empty: name the subnets"))
	}
	if kind != NetworkExisting && (p.VPCID != "" || len(p.SubnetIDs) > 0) {
		out = append(out, fmt.Errorf("context vpcId and subnetIds are for network existing, not %s", kind))
	}
	if kind == NetworkOwn && len(p.SecurityGroupIDs) > 0 {
		out = append(out, errors.New("context securityGroupIds are not for network own, which has its own"))
	}
	if kind != NetworkOwn && (p.NAT || p.FlowLogs) {
		out = append(out, fmt.Errorf("context nat and flowLogs are for network own, not %s", kind))
	}
	return out
}

// network is where builders and verifiers run; nothing named means EC2's default.
type network struct {
	subnets, groups []string
}

// A builder in a private subnet reaches these and nothing else of AWS. It needs
// no endpoint of STS (its credentials come from the instance's metadata), of KMS
// (EC2 itself decrypts volumes; Run Command does not use it), of CloudWatch Logs
// (output goes to the bucket) or of Secrets Manager (secrets are for instances
// that are started from an image, never for builders).
var interfaceEndpoints = []struct{ service, why string }{
	{"ssm", "the agent registers the instance and reads documents"},
	{"ssmmessages", "the agent receives commands and answers them"},
	{"ec2messages", "agents before 3.3.40 receive commands by it"},
}

// storedObjects are what guests reach in S3: ARNs of objects.
type storedObjects struct {
	bucket  string   // all of the factory's bucket
	engines []string // the check engines
}

// newNetwork makes what props ask for.
func newNetwork(scope constructs.Construct, props *Props, logs logging, objects storedObjects) network {
	p := props.Network
	switch {
	case p.kind() == NetworkOwn:
		return ownNetwork(constructs.NewConstruct(scope, jsii.String("Network")), p, logs, objects)
	case len(p.SecurityGroupIDs) == 0 && p.VPCID != "":
		group := builderGroup(scope, jsii.String(p.VPCID), true)
		return network{subnets: p.SubnetIDs, groups: []string{*group.AttrGroupId()}}
	default:
		return network{subnets: p.SubnetIDs, groups: p.SecurityGroupIDs}
	}
}

func ownNetwork(scope constructs.Construct, p NetworkProps, logs logging, objects storedObjects) network {
	vpc := awsec2.NewCfnVPC(scope, jsii.String("Vpc"), &awsec2.CfnVPCProps{
		CidrBlock: &p.CIDR, EnableDnsHostnames: jsii.Bool(true), EnableDnsSupport: jsii.Bool(true), // which endpoints' private names need
		Tags: named(scope, "builders"),
	})
	routes := awsec2.NewCfnRouteTable(scope, jsii.String("Routes"), &awsec2.CfnRouteTableProps{VpcId: vpc.Ref(), Tags: named(scope, "builders")})
	var subnets []string
	var refs []any
	for i := range p.Zones {
		subnet := newSubnet(scope, fmt.Sprintf("Subnet%d", i+1), vpc, p.CIDR, i, i, routes)
		subnets, refs = append(subnets, *subnet.Ref()), append(refs, subnet.Ref())
	}
	if p.NAT {
		newNAT(scope, vpc, p.CIDR, routes)
	}
	builders := builderGroup(scope, vpc.Ref(), p.NAT)
	newEndpoints(scope, vpc, routes, builders, refs, objects)
	if p.FlowLogs {
		newFlowLogs(scope, vpc, logs)
	} else {
		except(vpc, exception{rule: "AwsSolutions-VPC7", reason: "Flow logs are the operator's choice (context flowLogs): a network without a way out carries calls to endpoints only, which CloudTrail has."})
	}
	return network{subnets: subnets, groups: []string{*builders.AttrGroupId()}}
}

// named is the tag that consoles show.
func named(scope constructs.Construct, what string) *[]*awscdk.CfnTag {
	return &[]*awscdk.CfnTag{{Key: jsii.String("Name"), Value: jsii.String(*awscdk.Stack_Of(scope).StackName() + " " + what)}}
}

// subnetRange is the nth of the eight equal parts of a range.
func subnetRange(cidr string, n int) string {
	prefix := netip.MustParsePrefix(cidr)
	bits := prefix.Bits() + 3
	first := prefix.Addr().As4()
	binary.BigEndian.PutUint32(first[:], binary.BigEndian.Uint32(first[:])+uint32(n)<<(32-bits))
	return netip.PrefixFrom(netip.AddrFrom4(first), bits).String()
}

// newSubnet makes the nth subnet of a VPC, in the zone of that number: zones are
// asked for at deployment, so that synthesis needs no account.
func newSubnet(scope constructs.Construct, id string, vpc awsec2.CfnVPC, cidr string, n, zone int, routes awsec2.CfnRouteTable) awsec2.CfnSubnet {
	subnet := awsec2.NewCfnSubnet(scope, &id, &awsec2.CfnSubnetProps{
		VpcId: vpc.Ref(), CidrBlock: jsii.String(subnetRange(cidr, n)), MapPublicIpOnLaunch: jsii.Bool(false),
		AvailabilityZone: awscdk.Fn_Select(jsii.Number(zone), awscdk.Fn_GetAzs(nil)),
		Tags:             named(scope, id),
	})
	awsec2.NewCfnSubnetRouteTableAssociation(scope, jsii.String(id+"Routes"), &awsec2.CfnSubnetRouteTableAssociationProps{
		SubnetId: subnet.Ref(), RouteTableId: routes.Ref(),
	})
	return subnet
}

// newNAT gives the private subnets a way out by one gateway in the first zone: a
// zone that fails stops builds, which the next night repeats.
func newNAT(scope constructs.Construct, vpc awsec2.CfnVPC, cidr string, private awsec2.CfnRouteTable) {
	gateway := awsec2.NewCfnInternetGateway(scope, jsii.String("InternetGateway"), &awsec2.CfnInternetGatewayProps{Tags: named(scope, "builders")})
	attachment := awsec2.NewCfnVPCGatewayAttachment(scope, jsii.String("InternetGatewayAttachment"), &awsec2.CfnVPCGatewayAttachmentProps{
		VpcId: vpc.Ref(), InternetGatewayId: gateway.Ref(),
	})
	routes := awsec2.NewCfnRouteTable(scope, jsii.String("PublicRoutes"), &awsec2.CfnRouteTableProps{VpcId: vpc.Ref(), Tags: named(scope, "gateway")})
	out := awsec2.NewCfnRoute(scope, jsii.String("PublicRoute"), &awsec2.CfnRouteProps{
		RouteTableId: routes.Ref(), DestinationCidrBlock: jsii.String("0.0.0.0/0"), GatewayId: gateway.Ref(),
	})
	out.AddResourceDependency(attachment, nil)
	subnet := newSubnet(scope, "PublicSubnet", vpc, cidr, 7, 0, routes)
	address := awsec2.NewCfnEIP(scope, jsii.String("NatAddress"), &awsec2.CfnEIPProps{Domain: jsii.String("vpc"), Tags: named(scope, "gateway")})
	address.AddResourceDependency(attachment, nil)
	nat := awsec2.NewCfnNatGateway(scope, jsii.String("NatGateway"), &awsec2.CfnNatGatewayProps{
		SubnetId: subnet.Ref(), AllocationId: address.AttrAllocationId(), Tags: named(scope, "gateway"),
	})
	nat.AddResourceDependency(out, nil)
	awsec2.NewCfnRoute(scope, jsii.String("Route"), &awsec2.CfnRouteProps{
		RouteTableId: private.Ref(), DestinationCidrBlock: jsii.String("0.0.0.0/0"), NatGatewayId: nat.Ref(),
	})
}

// builderGroup lets nobody in. What goes out goes to endpoints, whose policies
// narrow it, and to S3, whose addresses CloudFormation cannot name; only a way
// out leads further, and there repositories are read over HTTP too, being signed.
func builderGroup(scope constructs.Construct, vpcID *string, wayOut bool) awsec2.CfnSecurityGroup {
	ports := []float64{443}
	if wayOut {
		ports = append(ports, 80)
	}
	var egress []any
	for _, port := range ports {
		egress = append(egress, &awsec2.CfnSecurityGroup_EgressProperty{
			IpProtocol: jsii.String("tcp"), FromPort: jsii.Number(port), ToPort: jsii.Number(port), CidrIp: jsii.String("0.0.0.0/0"),
			Description: jsii.String("endpoints, S3 and repositories"),
		})
	}
	return awsec2.NewCfnSecurityGroup(scope, jsii.String("Builders"), &awsec2.CfnSecurityGroupProps{
		GroupDescription: jsii.String("AMI factory builders and verifiers: nobody gets in"), VpcId: vpcID, SecurityGroupEgress: &egress, Tags: named(scope, "builders"),
	})
}

func newEndpoints(scope constructs.Construct, vpc awsec2.CfnVPC, routes awsec2.CfnRouteTable, builders awsec2.CfnSecurityGroup, subnets []any, objects storedObjects) {
	stack := awscdk.Stack_Of(scope)
	group := awsec2.NewCfnSecurityGroup(scope, jsii.String("Endpoints"), &awsec2.CfnSecurityGroupProps{
		GroupDescription: jsii.String("AMI factory endpoints: builders may call"), VpcId: vpc.Ref(), Tags: named(scope, "endpoints"),
		SecurityGroupIngress: &[]any{&awsec2.CfnSecurityGroup_IngressProperty{
			IpProtocol: jsii.String("tcp"), FromPort: jsii.Number(443), ToPort: jsii.Number(443),
			SourceSecurityGroupId: builders.AttrGroupId(), Description: jsii.String("HTTPS from builders and verifiers"),
		}},
		// Without a rule EC2 would allow all: this one allows nothing.
		SecurityGroupEgress: &[]any{&awsec2.CfnSecurityGroup_EgressProperty{
			IpProtocol: jsii.String("icmp"), FromPort: jsii.Number(252), ToPort: jsii.Number(86), CidrIp: jsii.String("255.255.255.255/32"),
			Description: jsii.String("nothing"),
		}},
	})
	for _, e := range interfaceEndpoints {
		awsec2.NewCfnVPCEndpoint(scope, jsii.String(e.service), &awsec2.CfnVPCEndpointProps{
			VpcId: vpc.Ref(), ServiceName: jsii.String(partition.InterfaceEndpoint(e.service, *stack.Region())), VpcEndpointType: jsii.String("Interface"), PrivateDnsEnabled: jsii.Bool(true),
			SubnetIds: &subnets, SecurityGroupIds: &[]any{group.AttrGroupId()},
			PolicyDocument: endpointPolicy(endpointStatement{actions: []string{"*"}, resources: []string{"*"}, account: stack.Account()}),
		})
	}
	awsec2.NewCfnVPCEndpoint(scope, jsii.String("S3"), &awsec2.CfnVPCEndpointProps{
		VpcId: vpc.Ref(), ServiceName: jsii.String(partition.GatewayEndpoint("s3", *stack.Region())), VpcEndpointType: jsii.String("Gateway"), RouteTableIds: &[]any{routes.Ref()},
		PolicyDocument: endpointPolicy(
			// By addresses that functions of this account have signed.
			endpointStatement{actions: []string{"s3:GetObject", "s3:PutObject"}, resources: []string{objects.bucket}, account: stack.Account()},
			endpointStatement{actions: []string{"s3:GetObject"}, resources: objects.engines, account: stack.Account()},
			endpointStatement{actions: []string{"s3:GetObject"}, resources: publicObjects(*stack.Partition(), *stack.Region())},
		),
	})
}

// publicObjects are what AWS lets everybody read, and builders need: updates and
// modules of the SSM agent ("SSM Agent communications with AWS managed S3
// buckets" in the Systems Manager User Guide) and the repositories of Amazon
// Linux ("Update yum or install packages without internet access" of the AWS
// Knowledge Center). Nothing else in S3 can be read, and nothing else written.
func publicObjects(of, region string) []string {
	var out []string
	for _, bucket := range []string{"amazon-ssm-" + region, "aws-ssm-" + region, "al2023-repos-" + region + "-de612dc2", "amazonlinux-2-repos-" + region} {
		out = append(out, "arn:"+of+":s3:::"+bucket+"/*")
	}
	return out
}

// endpointStatement is what an endpoint lets through.
type endpointStatement struct {
	actions, resources []string
	account            *string // of the caller; nil: anybody, such as anonymous readers
}

func endpointPolicy(statements ...endpointStatement) map[string]any {
	var out []any
	for _, s := range statements {
		statement := map[string]any{"Effect": "Allow", "Principal": "*", "Action": s.actions, "Resource": s.resources}
		if s.account != nil {
			statement["Condition"] = map[string]any{"StringEquals": map[string]any{"aws:PrincipalAccount": s.account}}
		}
		out = append(out, statement)
	}
	return map[string]any{"Version": "2012-10-17", "Statement": out}
}

func newFlowLogs(scope constructs.Construct, vpc awsec2.CfnVPC, logs logging) {
	group := logs.group(scope, "FlowLogs")
	role := awsiam.NewRole(scope, jsii.String("FlowLogsRole"), &awsiam.RoleProps{
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("vpc-flow-logs.amazonaws.com"), &awsiam.ServicePrincipalOpts{
			Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Stack_Of(scope).Account()}},
		}),
		Description: jsii.String("AMI factory flow logs"),
	})
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"), Resources: &[]*string{group.LogGroupArn()},
	}))
	awsec2.NewCfnFlowLog(scope, jsii.String("FlowLog"), &awsec2.CfnFlowLogProps{
		ResourceId: vpc.Ref(), ResourceType: jsii.String("VPC"), TrafficType: jsii.String("ALL"),
		LogDestinationType: jsii.String("cloud-watch-logs"), LogGroupName: group.LogGroupName(), DeliverLogsPermissionArn: role.RoleArn(),
	})
}
