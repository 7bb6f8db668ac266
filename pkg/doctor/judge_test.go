package doctor

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

const (
	home    = "111122223333"
	other   = "210987654321"
	region  = "eu-west-1"
	machine = "arn:aws:states:eu-west-1:111122223333:stateMachine:ami-factory"
)

// verdict is what a case expects of a finding.
type verdict struct {
	is   Verdict
	says string // part of what it means
	fix  string // part of how to fix it; empty: nothing to fix
}

func (v verdict) check(t *testing.T, f Finding) {
	t.Helper()
	assert.Equal(t, v.is, f.Verdict, f.Means)
	assert.Contains(t, f.Means, v.says)
	if v.fix == "" {
		assert.Empty(t, f.Fix)
	}
	assert.Contains(t, f.Fix, v.fix)
}

func TestRegionsByTheirStatus(t *testing.T) {
	for status, bad := range map[string]bool{"opt-in-not-required": false, "opted-in": false, "not-opted-in": true, "": true} {
		f, isBad := judgeRegion("af-south-1", status)
		assert.Equal(t, bad, isBad, status)
		if bad {
			assert.Equal(t, Problem, f.Verdict)
			assert.NotEmpty(t, f.Fix)
		}
	}
}

func TestTypesInZones(t *testing.T) {
	offered := map[string][]string{"t3.medium": {"eu-west-1a", "eu-west-1b"}, "m6i.large": {"eu-west-1c"}}
	for sentence, tc := range map[string]struct {
		types, zones []string
		want         verdict
	}{
		"all are in the zones":      {[]string{"t3.medium", "m6i.large"}, []string{"eu-west-1a", "eu-west-1c"}, verdict{OK, "eu-west-1a, eu-west-1c", ""}},
		"one is in none":            {[]string{"t3.medium", "m6i.large"}, []string{"eu-west-1a"}, verdict{Warning, "m6i.large: not offered in eu-west-1a", "instanceTypes"}},
		"none is in any":            {[]string{"p9.huge"}, []string{"eu-west-1a"}, verdict{Problem, "none of them", "instanceTypes"}},
		"there are no zones":        {[]string{"t3.medium"}, nil, verdict{NotChecked, "see subnets", ""}},
		"one zone of two is enough": {[]string{"m6i.large"}, []string{"eu-west-1a", "eu-west-1c"}, verdict{OK, "", ""}},
	} {
		t.Run(sentence, func(t *testing.T) { tc.want.check(t, judgeTypes("x", tc.types, tc.zones, offered)) })
	}
}

func TestAddressesOfASubnet(t *testing.T) {
	for sentence, tc := range map[string]struct {
		free  int32
		state types.SubnetState
		want  verdict
	}{
		"many are free":         {251, types.SubnetStateAvailable, verdict{OK, "251", ""}},
		"just enough":           {3, types.SubnetStateAvailable, verdict{OK, "3", ""}},
		"fewer than executions": {2, types.SubnetStateAvailable, verdict{Warning, "2 addresses are free, and 3 executions", "larger subnet"}},
		"none":                  {0, types.SubnetStateAvailable, verdict{Problem, "no address is free", "larger subnet"}},
		"it is not available":   {251, types.SubnetStatePending, verdict{Problem, "pending", "another subnet"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			tc.want.check(t, judgeAddresses(types.Subnet{AvailableIpAddressCount: &tc.free, State: tc.state}))
		})
	}
}

func route(change func(*types.Route)) types.RouteTable {
	r := types.Route{DestinationCidrBlock: aws.String("0.0.0.0/0"), State: types.RouteStateActive}
	change(&r)
	return types.RouteTable{
		RouteTableId: aws.String("rtb-1"), Associations: []types.RouteTableAssociation{{Main: aws.Bool(true)}},
		Routes: []types.Route{{DestinationCidrBlock: aws.String("10.0.0.0/16"), GatewayId: aws.String("local")}, r},
	}
}

func endpointOf(service string, change ...func(*types.VpcEndpoint)) types.VpcEndpoint {
	e := types.VpcEndpoint{
		ServiceName: aws.String("com.amazonaws.eu-west-1." + service), VpcEndpointType: types.VpcEndpointTypeInterface, PrivateDnsEnabled: aws.Bool(true),
		State: types.StateAvailable, Groups: []types.SecurityGroupIdentifier{{GroupId: aws.String("sg-endpoints")}},
	}
	for _, f := range change {
		f(&e)
	}
	return e
}

func gateway(table string) types.VpcEndpoint {
	return endpointOf("s3", func(e *types.VpcEndpoint) {
		e.VpcEndpointType, e.RouteTableIds, e.Groups, e.PrivateDnsEnabled = types.VpcEndpointTypeGateway, []string{table}, nil, nil
	})
}

// https is a rule that lets port 443 in from a range or a group.
func https(cidr, group string) types.IpPermission {
	p := types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(443), ToPort: aws.Int32(443)}
	if cidr != "" {
		p.IpRanges = []types.IpRange{{CidrIp: &cidr}}
	}
	if group != "" {
		p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: &group}}
	}
	return p
}

// chinese are endpoints of cn-north-1, that of S3 with a prefix and type.
func chinese(prefix string, kind types.VpcEndpointType) []types.VpcEndpoint {
	named := func(name string) func(*types.VpcEndpoint) {
		return func(e *types.VpcEndpoint) { e.ServiceName = &name }
	}
	s3 := endpointOf("s3", named(prefix+".cn-north-1.s3"))
	if kind == types.VpcEndpointTypeGateway {
		s3 = gateway("rtb-1")
		named(prefix + ".cn-north-1.s3")(&s3)
	}
	return []types.VpcEndpoint{endpointOf("ssm", named("com.amazonaws.cn-north-1.ssm")), endpointOf("ssmmessages", named("com.amazonaws.cn-north-1.ssmmessages")), s3}
}

func TestTheWayToSSMAndS3(t *testing.T) {
	inChina := func(s *surroundings) { s.region = "cn-north-1" }
	nat := func(r *types.Route) { r.NatGatewayId = aws.String("nat-1") }
	igw := func(r *types.Route) { r.GatewayId = aws.String("igw-1") }
	nowhere := func(r *types.Route) { r.DestinationCidrBlock = aws.String("10.9.0.0/16") }
	all := []types.VpcEndpoint{endpointOf("ssm"), endpointOf("ssmmessages"), gateway("rtb-1")}
	noPrivateName := func(e *types.VpcEndpoint) { e.PrivateDnsEnabled = aws.Bool(false) }
	for sentence, tc := range map[string]struct {
		route     func(*types.Route)
		endpoints []types.VpcEndpoint
		ingress   types.IpPermission
		change    func(*surroundings)
		want      verdict
	}{
		"by a NAT gateway":                         {route: nat, want: verdict{OK, "NAT gateway nat-1", ""}},
		"by an internet gateway, without address":  {route: igw, want: verdict{Problem, "no public address", "create-vpc-endpoint"}},
		"by a NAT gateway that is gone":            {route: func(r *types.Route) { nat(r); r.State = types.RouteStateBlackhole }, want: verdict{Problem, "no longer there", "create-vpc-endpoint"}},
		"by a transit gateway":                     {route: func(r *types.Route) { r.TransitGatewayId = aws.String("tgw-1") }, want: verdict{Warning, "transit gateway tgw-1", "see that it leads"}},
		"by an appliance":                          {route: func(r *types.Route) { r.NetworkInterfaceId = aws.String("eni-1") }, want: verdict{Warning, "eni-1", "see that it leads"}},
		"by nothing":                               {route: nowhere, want: verdict{Problem, "no endpoints of ssm, ssmmessages, s3", "com.amazonaws.eu-west-1.ssm "}},
		"by endpoints that let the subnet in":      {route: nowhere, endpoints: all, ingress: https("10.0.0.0/16", ""), want: verdict{OK, "by endpoints", ""}},
		"by endpoints that let the group in":       {route: nowhere, endpoints: all, ingress: https("", "sg-builders"), want: verdict{OK, "by endpoints", ""}},
		"by endpoints that let others in":          {route: nowhere, endpoints: all, ingress: https("10.1.0.0/16", "sg-others"), want: verdict{Problem, "endpoint of ssm, ssmmessages lets nobody of this subnet in", "authorize-security-group-ingress"}},
		"by endpoints that let half the subnet in": {route: nowhere, endpoints: all, ingress: https("10.0.1.0/25", ""), want: verdict{Problem, "lets nobody of this subnet in", "authorize-security-group-ingress"}},
		"a closed endpoint beside a NAT gateway":   {route: nat, endpoints: []types.VpcEndpoint{endpointOf("ssm")}, ingress: https("10.1.0.0/16", ""), want: verdict{Problem, "endpoint of ssm lets nobody", "authorize-security-group-ingress"}},
		"endpoints without private names":          {route: nowhere, endpoints: []types.VpcEndpoint{endpointOf("ssm", noPrivateName), endpointOf("ssmmessages"), gateway("rtb-1")}, ingress: https("10.0.0.0/16", ""), want: verdict{Problem, "no endpoints of ssm", "--private-dns-enabled"}},
		"endpoints that are not available":         {route: nowhere, endpoints: []types.VpcEndpoint{endpointOf("ssm", func(e *types.VpcEndpoint) { e.State = types.StatePending }), endpointOf("ssmmessages"), gateway("rtb-1")}, ingress: https("10.0.0.0/16", ""), want: verdict{Problem, "no endpoints of ssm", "create-vpc-endpoint"}},
		"S3's gateway in another route table":      {route: nowhere, endpoints: []types.VpcEndpoint{endpointOf("ssm"), endpointOf("ssmmessages"), gateway("rtb-2")}, ingress: https("10.0.0.0/16", ""), want: verdict{Problem, "no endpoints of s3", "--route-table-ids rtb-1"}},
		"S3's gateway in China":                    {route: nowhere, endpoints: chinese("com.amazonaws", types.VpcEndpointTypeGateway), ingress: https("10.0.0.0/16", ""), change: inChina, want: verdict{OK, "by endpoints", ""}},
		"S3 by an interface in China":              {route: nowhere, endpoints: chinese("cn.com.amazonaws", types.VpcEndpointTypeInterface), ingress: https("10.0.0.0/16", ""), change: inChina, want: verdict{OK, "by endpoints", ""}},
		"no endpoint in China":                     {route: nowhere, change: inChina, want: verdict{Problem, "no endpoints of ssm, ssmmessages, s3", "com.amazonaws.cn-north-1.ssm "}},
		"S3 by an interface":                       {route: nowhere, endpoints: []types.VpcEndpoint{endpointOf("ssm"), endpointOf("ssmmessages"), endpointOf("s3")}, ingress: https("10.0.0.0/16", ""), want: verdict{OK, "by endpoints", ""}},
		"endpoints in a VPC without host names":    {route: nowhere, endpoints: all, ingress: https("10.0.0.0/16", ""), change: func(s *surroundings) { s.dnsHostnames = false }, want: verdict{Problem, "DNS host names", "--enable-dns-hostnames"}},
		"a VPC that resolves no names":             {route: nat, change: func(s *surroundings) { s.dnsSupport = false }, want: verdict{Problem, "resolves no names", "--enable-dns-support"}},
		"the subnet's own route table wins": {route: nat, change: func(s *surroundings) {
			own := route(nowhere)
			own.Associations = []types.RouteTableAssociation{{SubnetId: aws.String("subnet-1")}}
			s.tables = append(s.tables, own)
		}, want: verdict{Problem, "no route to the internet", "create-vpc-endpoint"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			at := surroundings{
				vpc: "vpc-1", region: region, tables: []types.RouteTable{route(tc.route)}, endpoints: tc.endpoints, builders: []string{"sg-builders"},
				groups:     map[string]types.SecurityGroup{"sg-endpoints": {IpPermissions: []types.IpPermission{tc.ingress}}},
				dnsSupport: true, dnsHostnames: true,
			}
			if tc.change != nil {
				tc.change(&at)
			}
			tc.want.check(t, judgeWay(types.Subnet{SubnetId: aws.String("subnet-1"), CidrBlock: aws.String("10.0.1.0/24")}, at))
		})
	}
}

func TestGroupsOfBuilders(t *testing.T) {
	everything := []types.IpPermission{{IpProtocol: aws.String("-1"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}
	for sentence, tc := range map[string]struct {
		in, out []types.IpPermission
		want    verdict
	}{
		"nobody comes in":                {nil, everything, verdict{OK, "lets nobody in", ""}},
		"only HTTPS goes out":            {nil, []types.IpPermission{https("0.0.0.0/0", "")}, verdict{OK, "", ""}},
		"nothing goes out":               {nil, nil, verdict{Problem, "lets nothing out", "authorize-security-group-egress"}},
		"only SSH goes out":              {nil, []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22)}}, verdict{Problem, "lets nothing out", "authorize-security-group-egress"}},
		"the world comes in":             {[]types.IpPermission{https("0.0.0.0/0", "")}, everything, verdict{Warning, "0.0.0.0/0", "securityGroupIds"}},
		"IPv6 comes in":                  {[]types.IpPermission{{IpProtocol: aws.String("-1"), Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: aws.String("::/0")}}}}, everything, verdict{Warning, "::/0", "securityGroupIds"}},
		"the group itself, as a default": {[]types.IpPermission{https("", "sg-1")}, everything, verdict{Warning, "whatever else is in the group", "securityGroupIds"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			tc.want.check(t, judgeGroup(types.SecurityGroup{GroupId: aws.String("sg-1"), IpPermissions: tc.in, IpPermissionsEgress: tc.out}))
		})
	}
}

func TestQuotas(t *testing.T) {
	for sentence, tc := range map[string]struct {
		got  Finding
		want verdict
	}{
		"vCPUs for all executions":       {judgeVCPUs("x", region, 32, 10, 4), verdict{OK, "32, 10 in use; 3 executions at a time take up to 12", ""}},
		"vCPUs to the last":              {judgeVCPUs("x", region, 22, 10, 4), verdict{OK, "", ""}},
		"vCPUs for some executions":      {judgeVCPUs("x", region, 21, 10, 4), verdict{Warning, "too few for 3 executions", "--quota-code L-1216C47A --desired-value 22"}},
		"vCPUs for none":                 {judgeVCPUs("x", region, 13, 10, 4), verdict{Problem, "it cannot start", "request-service-quota-increase --region eu-west-1 --service-code ec2"}},
		"types of another quota":         {judgeVCPUs("x", region, 13, 10, 0), verdict{NotChecked, "no recipe launches", ""}},
		"room for images":                {judgeKept(imageQuota, region, 100, 10, 12), verdict{OK, "100, 10 in use", ""}},
		"little room for images":         {judgeKept(imageQuota, region, 20, 10, 12), verdict{Warning, "of which 10 are in use", "L-B665C33B"}},
		"no room for snapshots":          {judgeKept(snapshots, region, 20, 20, 12), verdict{Problem, "all in use", "--service-code ebs --quota-code L-309BACF6"}},
		"functions of a new account":     {judgeConcurrency("x", region, 10, 33), verdict{Warning, "may want 33", "L-B99A9384 --desired-value 1000"}},
		"functions of an account in use": {judgeConcurrency("x", region, 1000, 33), verdict{OK, "33 at most", ""}},
	} {
		t.Run(sentence, func(t *testing.T) { tc.want.check(t, tc.got) })
	}
	for name, want := range map[string]bool{
		"t3.medium": true, "m6i.large": true, "is4gen.large": true, "c7g.large": true, "z1d.large": true, "a1.large": true,
		"p5.48xlarge": false, "g5.xlarge": false, "inf2.xlarge": false, "trn1.2xlarge": false, "mac2.metal": false, "dl1.24xlarge": false, "hpc7a.12xlarge": false, "x2gd.large": false, "u-6tb1.metal": false, "": false,
	} {
		assert.Equal(t, want, standard(name), name)
	}
}

func TestKeysAsTheyAre(t *testing.T) {
	good := kmstypes.KeyMetadata{
		Arn: aws.String("arn:aws:kms:eu-west-1:111122223333:key/k"), KeyState: kmstypes.KeyStateEnabled, KeyManager: kmstypes.KeyManagerTypeCustomer,
		KeySpec: kmstypes.KeySpecSymmetricDefault, KeyUsage: kmstypes.KeyUsageTypeEncryptDecrypt, DeletionDate: aws.Time(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)),
	}
	for sentence, tc := range map[string]struct {
		change func(*kmstypes.KeyMetadata)
		shared bool
		want   verdict
	}{
		"a customer's":                      {func(*kmstypes.KeyMetadata) {}, true, verdict{OK, "customer-managed and enabled", ""}},
		"AWS's, for images that stay":       {func(k *kmstypes.KeyMetadata) { k.KeyManager = kmstypes.KeyManagerTypeAws }, false, verdict{OK, "AWS-managed", ""}},
		"AWS's, for images that are shared": {func(k *kmstypes.KeyMetadata) { k.KeyManager = kmstypes.KeyManagerTypeAws }, true, verdict{Problem, "cannot be shared", "customer-managed"}},
		"disabled":                          {func(k *kmstypes.KeyMetadata) { k.KeyState = kmstypes.KeyStateDisabled }, true, verdict{Problem, "disabled", "enable-key"}},
		"to be deleted":                     {func(k *kmstypes.KeyMetadata) { k.KeyState = kmstypes.KeyStatePendingDeletion }, true, verdict{Problem, "2026-12-01", "cancel-key-deletion"}},
		"not ready":                         {func(k *kmstypes.KeyMetadata) { k.KeyState = kmstypes.KeyStatePendingImport }, true, verdict{Problem, "PendingImport", "describe-key"}},
		"asymmetric":                        {func(k *kmstypes.KeyMetadata) { k.KeySpec = kmstypes.KeySpecRsa2048 }, true, verdict{Problem, "symmetric keys only", "symmetric"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			k, u := good, keyUse{region: region}
			tc.change(&k)
			if tc.shared {
				u.accounts = []string{other}
			}
			tc.want.check(t, judgeKey(k, u))
		})
	}
}

const (
	root     = `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}`
	otherUse = `{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::210987654321:root"]},"Action":["kms:Decrypt","kms:DescribeKey","kms:ReEncrypt*"],"Resource":"*"}`
	roleARN  = "arn:aws:iam::111122223333:role/launch"
)

func policyOf(t *testing.T, statements ...string) resourcePolicy {
	t.Helper()
	p, err := parsePolicy(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)
	require.NoError(t, err)
	return p
}

func TestWhatAKeysPolicyLetsTheFactoryDo(t *testing.T) {
	for sentence, tc := range map[string]struct {
		statements []string
		roles      []string
		want       verdict
	}{
		"the account decides":            {[]string{root}, []string{roleARN}, verdict{OK, "lets the factory's roles use it", ""}},
		"before the roles are there":     {[]string{root}, nil, verdict{OK, "lets account 111122223333 use it", ""}},
		"the role itself":                {[]string{`{"Effect":"Allow","Principal":{"AWS":"` + roleARN + `"},"Action":"kms:*","Resource":"*"}`}, []string{roleARN}, verdict{OK, "", ""}},
		"another role":                   {[]string{`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/admin"},"Action":"kms:*","Resource":"*"}`}, []string{roleARN}, verdict{Problem, "gives the factory's roles no kms:CreateGrant", "put-key-policy"}},
		"another role, before there are": {[]string{`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/admin"},"Action":"kms:*","Resource":"*"}`}, nil, verdict{Problem, "", "put-key-policy"}},
		"not all that it takes":          {[]string{`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":["kms:Decrypt","kms:DescribeKey","kms:GenerateDataKey*","kms:ReEncrypt*"],"Resource":"*"}`}, []string{roleARN}, verdict{Problem, "no kms:CreateGrant:", "put-key-policy"}},
		"for EC2 in this region":         {[]string{`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:CallerAccount":"111122223333","kms:ViaService":"ec2.eu-west-1.amazonaws.com"}}}`}, []string{roleARN}, verdict{OK, "", ""}},
		"for EC2 in another region":      {[]string{`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:ViaService":"ec2.us-east-1.amazonaws.com"}}}`}, []string{roleARN}, verdict{Problem, "", "put-key-policy"}},
		"on a condition of its own":      {[]string{`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"images"}}}`}, []string{roleARN}, verdict{Warning, "aws:PrincipalTag/team StringEquals images", "meet it"}},
		"but a denial":                   {[]string{root, `{"Effect":"Deny","Principal":"*","Action":"kms:CreateGrant","Resource":"*"}`}, []string{roleARN}, verdict{Problem, "no kms:CreateGrant", "put-key-policy"}},
		"a denial of others":             {[]string{root, `{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::210987654321:root"},"Action":"kms:*","Resource":"*"}`}, []string{roleARN}, verdict{OK, "", ""}},
		"a denial on a condition":        {[]string{root, `{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":false}}}`}, []string{roleARN}, verdict{Warning, "unless aws:SecureTransport Bool false", "meet it"}},
		"a denial of all but some":       {[]string{root, `{"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::111122223333:role/admin"},"Action":"kms:*","Resource":"*"}`}, []string{roleARN}, verdict{Warning, "NotPrincipal", "meet it"}},
		"grants for AWS's resources":     {[]string{`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"NotAction":"kms:CreateGrant","Resource":"*"}`, `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:CreateGrant","Resource":"*","Condition":{"Bool":{"kms:GrantIsForAWSResource":"true"}}}`}, []string{roleARN}, verdict{OK, "", ""}},
	} {
		t.Run(sentence, func(t *testing.T) {
			tc.want.check(t, judgeOwn(policyOf(t, tc.statements...), "arn:aws:kms:eu-west-1:111122223333:key/k", region, home, tc.roles))
		})
	}
}

func TestWhatAKeysPolicyLetsOthersDo(t *testing.T) {
	grants := `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::210987654321:root"},"Action":"kms:CreateGrant","Resource":"*"}`
	for sentence, tc := range map[string]struct {
		statements []string
		want       verdict
		named      bool
	}{
		"it is named":            {[]string{root, otherUse, grants}, verdict{OK, "names account 210987654321", ""}, true},
		"a role of it is named":  {[]string{root, `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::210987654321:role/deploy"},"Action":"kms:*","Resource":"*"}`}, verdict{OK, "", ""}, true},
		"it is not named":        {[]string{root}, verdict{Problem, "does not name account 210987654321", `"AWS":"arn:aws:iam::210987654321:root"`}, false},
		"it may not make grants": {[]string{root, otherUse}, verdict{Problem, "gives account 210987654321 no kms:CreateGrant", "put-key-policy"}, true},
		"by its organisation":    {[]string{root, `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}}`}, verdict{Warning, "aws:PrincipalOrgID StringEquals o-1", "meets it"}, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			f, named := judgeAccount(policyOf(t, tc.statements...), "arn:aws:kms:eu-west-1:111122223333:key/k", region, other)
			assert.Equal(t, tc.named, named)
			tc.want.check(t, f)
		})
	}
}

func TestWhatAKeysPolicyLetsOrganisationsDo(t *testing.T) {
	on := func(condition string) string {
		return `{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:*","Resource":"*","Condition":` + condition + `}`
	}
	const org, unit = "arn:aws:organizations::999999999999:organization/o-1", "arn:aws:organizations::999999999999:ou/o-1/ou-ab-2"
	for sentence, tc := range map[string]struct {
		statement, arn string
		want           verdict
	}{
		"the organisation":                     {on(`{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}`), org, verdict{OK, "o-1", ""}},
		"another organisation":                 {on(`{"StringEquals":{"aws:PrincipalOrgID":"o-2"}}`), org, verdict{Problem, "gives o-1 no kms:CreateGrant", "aws:PrincipalOrgID"}},
		"all but the organisation":             {on(`{"StringNotEquals":{"aws:PrincipalOrgID":"o-1"}}`), org, verdict{Problem, "", "aws:PrincipalOrgID"}},
		"nobody":                               {root, org, verdict{Problem, "", "aws:PrincipalOrgID"}},
		"a unit, of its organisation":          {on(`{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}`), unit, verdict{OK, "ou-ab-2 of o-1", ""}},
		"a unit by its path":                   {on(`{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":["o-1/r-ab/ou-ab-2/*"]}}`), unit, verdict{OK, "", ""}},
		"a unit by another's path":             {on(`{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":["o-1/r-ab/ou-ab-9/*"]}}`), unit, verdict{Warning, "cannot be judged", "meet its conditions"}},
		"a unit is not the organisation":       {on(`{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":["o-1/r-ab/ou-ab-2/*"]}}`), org, verdict{Warning, "cannot be judged", "meet its conditions"}},
		"the organisation, and something else": {on(`{"StringEquals":{"aws:PrincipalOrgID":"o-1","aws:PrincipalTag/a":"b"}}`), org, verdict{Warning, "cannot be judged", "meet its conditions"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			tc.want.check(t, judgeOrganization(policyOf(t, tc.statement), "arn:aws:kms:eu-west-1:111122223333:key/k", region, tc.arn))
		})
	}
}

func TestSettingsOfAnAccount(t *testing.T) {
	only := func(providers ...string) []types.ImageCriterion {
		return []types.ImageCriterion{{ImageProviders: providers}}
	}
	const debian = "136693071363"
	for sentence, tc := range map[string]struct {
		got  Finding
		want verdict
	}{
		"public images are blocked":         {judgeImageAccess("x", region, "block-new-sharing"), verdict{OK, "block-new-sharing", ""}},
		"public images are not blocked":     {judgeImageAccess("x", region, "unblocked"), verdict{Warning, "not blocked", "enable-image-block-public-access --region eu-west-1"}},
		"public snapshots are blocked":      {judgeSnapshotAccess("x", region, types.SnapshotBlockPublicAccessStateBlockAllSharing), verdict{OK, "block-all-sharing", ""}},
		"public snapshots are not blocked":  {judgeSnapshotAccess("x", region, types.SnapshotBlockPublicAccessStateUnblocked), verdict{Warning, "not blocked", "enable-snapshot-block-public-access"}},
		"the owner is allowed":              {judgeOwner("x", region, "enabled", debian, only("amazon", debian)), verdict{OK, "allows it", ""}},
		"the owner is not allowed":          {judgeOwner("x", region, "enabled", debian, only("444455556666")), verdict{Problem, "SourceNotFound", "replace-image-criteria"}},
		"nobody is allowed":                 {judgeOwner("x", region, "enabled", debian, only("none")), verdict{Problem, "SourceNotFound", "replace-image-criteria"}},
		"the owner would not be allowed":    {judgeOwner("x", region, "audit-mode", debian, only("444455556666")), verdict{Warning, "once the setting is enabled", "replace-image-criteria"}},
		"an alias is allowed":               {judgeOwner("x", region, "enabled", debian, only("amazon")), verdict{Warning, "alias", "describe-images"}},
		"the owner's images of some name":   {judgeOwner("x", region, "enabled", debian, []types.ImageCriterion{{ImageProviders: []string{debian}, ImageNames: []string{"debian-*"}}}), verdict{Warning, "further criteria", "describe-images"}},
		"versions of the bucket":            {judgeVersioning("b", s3types.BucketVersioningStatusEnabled), verdict{OK, "kept", ""}},
		"no versions of the bucket":         {judgeVersioning("b", s3types.BucketVersioningStatusSuspended), verdict{Warning, "not kept", "put-bucket-versioning"}},
		"a bucket where nothing expires":    {judgeExpiry("b", nil), verdict{Warning, "checks/", "deploy"}},
		"a bucket with rules for all":       {judgeExpiry("b", expirations()), verdict{OK, "expires", ""}},
		"a bucket with a rule less":         {judgeExpiry("b", expirations()[1:]), verdict{Warning, "executions/ expires", "deploy"}},
		"a bucket with a rule that is off":  {judgeExpiry("b", append(expirations()[1:], s3types.LifecycleRule{Status: s3types.ExpirationStatusDisabled, Expiration: &s3types.LifecycleExpiration{Days: aws.Int32(1)}, Filter: &s3types.LifecycleRuleFilter{Prefix: aws.String("executions/")}})), verdict{Warning, "executions/ expires", "deploy"}},
		"a bucket that is not public":       {judgeBlock("b", &s3types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: aws.Bool(true), IgnorePublicAcls: aws.Bool(true), RestrictPublicBuckets: aws.Bool(true)}), verdict{OK, "blocked", ""}},
		"a bucket that may be made public":  {judgeBlock("b", &s3types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: aws.Bool(true), IgnorePublicAcls: aws.Bool(true)}), verdict{Warning, "not blocked", "put-public-access-block"}},
		"a bucket without such a setting":   {judgeBlock("b", nil), verdict{Warning, "not blocked", "put-public-access-block"}},
		"a topic that is heard":             {judgeTopic("t", 1, 0), verdict{OK, "1 subscriptions", ""}},
		"a topic without subscribers":       {judgeTopic("t", 0, 0), verdict{Warning, "it has no subscriber", "aws sns subscribe"}},
		"a topic that nobody has confirmed": {judgeTopic("t", 0, 2), verdict{Warning, "none of them confirmed", "follow the link"}},
		"a topic that some have confirmed":  {judgeTopic("t", 1, 2), verdict{Warning, "2 are not", "follow the link"}},
		"a subscription":                    {judgeSubscription("t", "arn:aws:sns:us-east-1:1:t:2"), verdict{OK, "subscribed", ""}},
		"a subscription to be confirmed":    {judgeSubscription("t", "PendingConfirmation"), verdict{Warning, "PendingConfirmation", "deploy"}},
		"no dead letters":                   {judgeDeadLetters("q", "https://q", 0), verdict{OK, "empty", ""}},
		"dead letters":                      {judgeDeadLetters("q", "https://q", 2), verdict{Warning, "2 events", "--visibility-timeout 0 --queue-url https://q;"}},
		"dead letters of an embedded AWS":   {judgeDeadLetters("q", "http://127.0.0.1:4566/1/q", 2), verdict{Warning, "2 events", "--endpoint-url http://127.0.0.1:4566 --queue-url http://127.0.0.1:4566/1/q;"}},
	} {
		t.Run(sentence, func(t *testing.T) { tc.want.check(t, tc.got) })
	}
}

// expirations are the rules of a deployment's bucket.
func expirations() []s3types.LifecycleRule {
	var out []s3types.LifecycleRule
	for _, l := range blueprint.Lifetimes(blueprint.DefaultStorage()) {
		if l.Days > 0 {
			out = append(out, s3types.LifecycleRule{
				ID: aws.String(l.Name), Status: s3types.ExpirationStatusEnabled, Filter: &s3types.LifecycleRuleFilter{Prefix: aws.String(l.Prefix)},
				Expiration: &s3types.LifecycleExpiration{Days: aws.Int32(int32(l.Days))},
			})
		}
	}
	return out
}

func TestTheRuleOfAnEventIsFoundByItsPattern(t *testing.T) {
	want := blueprint.Rules(machine, "bucket", blueprint.FindingRules{})[1]
	raw, err := json.Marshal(want.Pattern)
	require.NoError(t, err)
	own := string(raw)
	named := func(name, pattern string) eventtypes.Rule {
		return eventtypes.Rule{Name: aws.String(name), EventPattern: aws.String(pattern)}
	}
	narrower := strings.Replace(own, `"TIMED_OUT",`, "", 1)
	for sentence, tc := range map[string]struct {
		rules []eventtypes.Rule
		found string
		other bool
	}{
		"the same pattern":               {[]eventtypes.Rule{named("a", own)}, "a", false},
		"the same, among others":         {[]eventtypes.Rule{named("a", narrower), named("b", own), named("c", narrower)}, "b", false},
		"a pattern that leaves some out": {[]eventtypes.Rule{named("a", narrower)}, "a", true},
		"that of another machine":        {[]eventtypes.Rule{named("a", strings.ReplaceAll(own, machine, machine+"-2"))}, "", false},
		"one about something else":       {[]eventtypes.Rule{named("a", `{"source":["aws.ec2"],"detail-type":["x"]}`)}, "", false},
		"a schedule":                     {[]eventtypes.Rule{{Name: aws.String("a"), ScheduleExpression: aws.String("rate(1 hour)")}}, "", false},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := rule{Rule: want}
			for _, x := range tc.rules {
				r.consider(x)
			}
			if tc.found == "" {
				assert.Nil(t, r.found)
				return
			}
			require.NotNil(t, r.found)
			assert.Equal(t, tc.found, *r.found.Name)
			assert.Equal(t, tc.other, r.other)
		})
	}
}

func TestSettingsOfAFunction(t *testing.T) {
	want, ok := blueprint.Lookup("resolve")
	require.True(t, ok)
	full := func() *lambda.GetFunctionConfigurationOutput {
		env := map[string]string{}
		for _, name := range want.Required() {
			env[name] = "x"
		}
		return &lambda.GetFunctionConfigurationOutput{
			Timeout: aws.Int32(int32(want.Timeout.Seconds())), MemorySize: aws.Int32(int32(want.MemoryMiB)), Environment: &lambdatypes.EnvironmentResponse{Variables: env},
		}
	}
	for sentence, tc := range map[string]struct {
		change func(*lambda.GetFunctionConfigurationOutput)
		want   *verdict // nil: nothing is wrong
	}{
		"as deployed":             {func(*lambda.GetFunctionConfigurationOutput) {}, nil},
		"with more memory":        {func(c *lambda.GetFunctionConfigurationOutput) { *c.MemorySize *= 2 }, nil},
		"with less memory":        {func(c *lambda.GetFunctionConfigurationOutput) { *c.MemorySize = 128 }, &verdict{Warning, "128 MiB", "deploy"}},
		"with a shorter time-out": {func(c *lambda.GetFunctionConfigurationOutput) { *c.Timeout = 3 }, &verdict{Problem, "time-out is 3s", "deploy"}},
		"without one variable":    {func(c *lambda.GetFunctionConfigurationOutput) { delete(c.Environment.Variables, contract.EnvBucket) }, &verdict{Problem, contract.EnvBucket, "deploy"}},
		"without an environment":  {func(c *lambda.GetFunctionConfigurationOutput) { c.Environment = nil }, &verdict{Problem, contract.EnvTopic, "deploy"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := full()
			tc.change(c)
			f, bad := judgeSettings("x", want, c)
			require.Equal(t, tc.want != nil, bad)
			if bad {
				tc.want.check(t, f)
			}
		})
	}
}

func TestRulesAndSchedules(t *testing.T) {
	queue := &eventtypes.DeadLetterConfig{Arn: aws.String("arn:aws:sqs:eu-west-1:111122223333:dead")}
	target := []eventtypes.Target{{Arn: aws.String("arn:aws:lambda:eu-west-1:111122223333:function:start"), DeadLetterConfig: queue}}
	enabled := &eventtypes.Rule{Name: aws.String("r"), State: eventtypes.RuleStateEnabled}
	at := func(found *eventtypes.Rule, targets []eventtypes.Target) rule {
		return rule{Rule: blueprint.Rule{Bus: "b", Does: "x"}, found: found, targets: targets}
	}
	changed := at(enabled, target)
	changed.other = true
	for sentence, tc := range map[string]struct {
		rule rule
		want verdict
	}{
		"with another pattern":         {changed, verdict{Warning, "another pattern", "deploy"}},
		"enabled":                      {at(enabled, target), verdict{OK, "enabled", ""}},
		"missing":                      {at(nil, nil), verdict{Problem, "no such rule", "deploy"}},
		"disabled":                     {at(&eventtypes.Rule{Name: aws.String("r"), State: eventtypes.RuleStateDisabled}, target), verdict{Problem, "disabled", "enable-rule --event-bus-name b --name r"}},
		"without a target":             {at(enabled, nil), verdict{Problem, "no target", "deploy"}},
		"without a queue for failures": {at(enabled, []eventtypes.Target{{Arn: target[0].Arn}}), verdict{Warning, "is lost", "deploy"}},
	} {
		t.Run(sentence, func(t *testing.T) { tc.want.check(t, judgeRule(tc.rule)) })
	}

	const start = "arn:start"
	on, off := schedulertypes.ScheduleStateEnabled, schedulertypes.ScheduleStateDisabled
	for sentence, tc := range map[string]struct {
		found []night
		want  []verdict
	}{
		"both":                 {[]night{{"n", "default", on, start}, {"w", "default", on, "arn:watch"}}, []verdict{{OK, "builds what is stale", ""}, {OK, "looks at the sources", ""}}},
		"the night is off":     {[]night{{"n", "default", off, start}, {"w", "default", on, "arn:watch"}}, []verdict{{Problem, "nothing builds what is stale", "EventBridge console"}, {OK, "", ""}}},
		"there is no night":    {[]night{{"w", "default", on, "arn:watch"}}, []verdict{{Problem, "nothing builds what is stale", "deploy"}, {OK, "", ""}}},
		"there is no watch":    {[]night{{"n", "default", on, start}}, []verdict{{OK, "", ""}, {Problem, "nothing looks", "deploy"}}},
		"there is none at all": {nil, []verdict{{Problem, "nothing builds", "deploy"}, {Problem, "nothing looks", "deploy"}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := judgeSchedules(tc.found, start)
			require.Len(t, got, len(tc.want))
			for i, w := range tc.want {
				w.check(t, got[i])
			}
		})
	}
}

func TestADeployedDefinition(t *testing.T) {
	arn := func(s workflow.Stage) string { return "arn:aws:lambda:eu-west-1:111122223333:function:x-" + string(s) }
	deployed := workflow.Substitute(workflow.Definition().JSON(), arn)
	for sentence, tc := range map[string]struct {
		definition, version string
		different           []string
		want                verdict
	}{
		"is this version's":                     {deployed, "v2", []string{}, verdict{OK, "that of this version", ""}},
		"has another time-out":                  {strings.Replace(deployed, `"TimeoutSeconds": `, `"TimeoutSeconds": 9`, 1), "v2", nil, verdict{Problem, "somebody has changed it", "deploy"}},
		"is another version's":                  {strings.Replace(deployed, `"Next": "CreateImage"`, `"Next": "Cleanup"`, 1), "v1", []string{"Seal"}, verdict{Warning, `deployed is version "v1", this program is "v2"`, "deploy"}},
		"lacks a state":                         {strings.Replace(deployed, `"Retire": {`, `"Other": {`, 1), "v2", []string{"Other", "Retire"}, verdict{Problem, "in Other, Retire", "deploy"}},
		"differs in a state of the Map":         {strings.Replace(deployed, `"Next": "AwaitCopy"`, `"Next": "CopyAfterGate"`, 1), "v2", []string{"IsCopying"}, verdict{Problem, "in IsCopying", "deploy"}},
		"begins elsewhere":                      {strings.Replace(deployed, `"StartAt": "Begin"`, `"StartAt": "Resolve"`, 1), "v2", []string{"the machine itself"}, verdict{Problem, "", "deploy"}},
		"invokes something that is no function": {strings.Replace(deployed, arn(workflow.Seal), "arn:aws:sns:x", 1), "v2", []string{"Seal"}, verdict{Problem, "in Seal", "deploy"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			functions, different, err := compareDefinition(tc.definition, workflow.Definition())
			require.NoError(t, err)
			assert.Equal(t, arn(workflow.Launch), functions[workflow.Launch])
			if tc.different == nil {
				assert.Len(t, different, 1)
			} else {
				assert.ElementsMatch(t, tc.different, different)
			}
			tc.want.check(t, judgeDefinition(machine, different, tc.version, "v2"))
		})
	}
	functions, _, err := compareDefinition(deployed, workflow.Definition())
	require.NoError(t, err)
	assert.Len(t, functions, len(workflow.Stages()))
	for _, text := range []string{`{"StartAt":"A","States":{"A":{"Type":"Succeed"}}}`, `none`} {
		_, _, err := compareDefinition(text, workflow.Definition())
		assert.Error(t, err, "what is not the factory's is told from what has changed")
	}
}

func TestFunctionsAsTheyAre(t *testing.T) {
	for sentence, tc := range map[string]struct {
		c    lambda.GetFunctionConfigurationOutput
		want *verdict // nil: nothing is wrong
	}{
		"active":        {lambda.GetFunctionConfigurationOutput{State: lambdatypes.StateActive}, nil},
		"asleep":        {lambda.GetFunctionConfigurationOutput{State: lambdatypes.StateInactive}, nil},
		"failed":        {lambda.GetFunctionConfigurationOutput{State: lambdatypes.StateFailed, StateReason: aws.String("why")}, &verdict{Problem, "Failed: why", "get-function"}},
		"badly updated": {lambda.GetFunctionConfigurationOutput{State: lambdatypes.StateActive, LastUpdateStatus: lambdatypes.LastUpdateStatusFailed}, &verdict{Problem, "update failed", "deploy"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			f, bad := judgeFunction("x", &tc.c)
			require.Equal(t, tc.want != nil, bad)
			if bad {
				tc.want.check(t, f)
			}
		})
	}
	_, bad := judgeVersions(map[string][]string{"v2": {"seal"}}, "v2")
	assert.False(t, bad)
	f, _ := judgeVersions(map[string][]string{"v1": {"seal"}}, "v2")
	verdict{Warning, `deployed is "v1", this program is "v2"`, "v1"}.check(t, f)
	f, _ = judgeVersions(map[string][]string{"v1": {"seal"}, "v2": {"launch"}}, "v2")
	verdict{Problem, `"v1": seal; "v2": launch`, "deploy"}.check(t, f)
}

func TestTheWorstVerdict(t *testing.T) {
	is := func(all ...Verdict) Verdict {
		var found []Finding
		for _, v := range all {
			found = append(found, Finding{Verdict: v})
		}
		return Worst(found)
	}
	assert.Equal(t, OK, is(OK, NotChecked), "what was not checked is not bad")
	assert.Equal(t, Warning, is(OK, Warning, NotChecked))
	assert.Equal(t, Problem, is(Warning, Problem, OK, Warning))
	f := merged("x", []Finding{fine("", "a"), warning("", "do", "b"), problem("", "fix", "c"), notChecked("", "d")})
	assert.Equal(t, Finding{Looked: "x", Verdict: Problem, Means: "c; b; d; a", Fix: "fix; do"}, f)
}
