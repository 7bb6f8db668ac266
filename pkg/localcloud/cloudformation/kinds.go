package cloudformation

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// kinds returns the types that templates may have, by name: the types of the
// available services, and the records. Ref and GetAtt return what the reference
// documents
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/).
func kinds(services Services) map[string]kind {
	out := records()
	add := func(there bool, more func() map[string]kind) {
		if there {
			maps.Copy(out, more())
		}
	}
	add(services.IAM != nil, func() map[string]kind { return iamKinds(services.IAM) })
	add(services.Lambda != nil, func() map[string]kind { return lambdaKinds(services.Lambda) })
	add(services.States != nil, func() map[string]kind { return statesKinds(services.States) })
	add(services.Events != nil, func() map[string]kind { return eventsKinds(services.Events) })
	add(services.Scheduler != nil, func() map[string]kind { return schedulerKinds(services.Scheduler) })
	add(services.SNS != nil, func() map[string]kind { return snsKinds(services.SNS) })
	add(services.SQS != nil, func() map[string]kind { return sqsKinds(services.SQS) })
	add(services.S3 != nil, func() map[string]kind { return s3Kinds(services.S3) })
	add(services.KMS != nil, func() map[string]kind { return kmsKinds(services.KMS) })
	add(services.SSM != nil, func() map[string]kind { return ssmKinds(services.SSM) })
	add(services.Secrets != nil, func() map[string]kind { return secretsKinds(services.Secrets) })
	add(services.EC2 != nil, func() map[string]kind { return ec2Kinds(services.EC2) })
	add(services.ECR != nil, func() map[string]kind { return ecrKinds(services.ECR) })
	return out
}

// Types returns the types that templates may have. The value is true for a type
// that is only kept as a record, with the right Ref and GetAtt but without
// behaviour.
func (s *Service) Types() map[string]bool {
	out := make(map[string]bool, len(s.kinds))
	for name, k := range s.kinds {
		out[name] = k.record
	}
	return out
}

// recorded describes a type without behaviour in the embedded AWS.
type recorded struct {
	properties []string // allowed properties
	replace    []string // properties whose change replaces the resource
	// id returns the value of Ref; values are the resource's properties.
	id func(t *target, values map[string]any) string
	// attributes returns the values of GetAtt.
	attributes func(t *target, values map[string]any) map[string]any
}

func (r recorded) kind() kind {
	fill := func(t *target, values map[string]any) {
		if t.PhysicalID == "" {
			t.PhysicalID = r.id(t, values)
		}
		if r.attributes != nil {
			for name, value := range r.attributes(t, values) {
				if old, known := t.Attributes[name]; !known || !reflect.DeepEqual(old, value) {
					t.set(name, value)
				}
			}
		}
	}
	return kind{
		record: true, names: r.properties, replace: r.replace,
		create: func(_ context.Context, t *target, values map[string]any) error { fill(t, values); return nil },
		update: func(_ context.Context, t *target, _, values map[string]any) error { fill(t, values); return nil },
		remove: func(context.Context, *target, map[string]any) error { return nil },
	}
}

// named returns the value of a property, or a generated name.
func named(property string, most int) func(*target, map[string]any) string {
	return func(t *target, values map[string]any) string {
		if text, err := textOf(values[property], ""); err == nil {
			return text
		}
		return t.physicalName(most)
	}
}

// numbered returns an id in EC2's form, such as rtb-0123456789abcdef0.
func numbered(prefix string) func(*target, map[string]any) string {
	return func(*target, map[string]any) string { return prefix + "-" + scope.Hex(17) }
}

// withID returns the physical id as these attributes.
func withID(names ...string) func(*target, map[string]any) map[string]any {
	return func(t *target, _ map[string]any) map[string]any {
		out := map[string]any{}
		for _, name := range names {
			out[name] = t.PhysicalID
		}
		return out
	}
}

// withARN returns an ARN that ends with the physical id.
func withARN(service, before, after string) func(*target, map[string]any) map[string]any {
	return func(t *target, _ map[string]any) map[string]any {
		return map[string]any{"Arn": t.arn(service, before+t.PhysicalID+after)}
	}
}

// joined returns an id that joins several properties.
func joined(names ...string) func(*target, map[string]any) string {
	return func(_ *target, values map[string]any) string {
		out := ""
		for _, name := range names {
			if text, err := textOf(values[name], ""); err == nil {
				if out != "" {
					out += "|"
				}
				out += text
			}
		}
		return out
	}
}

// records returns the types without behaviour: the embedded AWS has no log
// groups, metrics, alarms, routes or filters. A template can contain these types
// and refer to them.
func records() map[string]kind {
	alarm := []string{
		"ActionsEnabled", "AlarmActions", "AlarmDescription", "AlarmName", "AlarmRule", "ComparisonOperator", "DatapointsToAlarm", "Dimensions",
		"EvaluateLowSampleCountPercentile", "EvaluationPeriods", "ExtendedStatistic", "InsufficientDataActions", "MetricName", "Metrics", "Namespace",
		"OKActions", "Period", "Statistic", "Tags", "Threshold", "ThresholdMetricId", "TreatMissingData", "Unit",
		"ActionsSuppressor", "ActionsSuppressorExtensionPeriod", "ActionsSuppressorWaitPeriod",
	}
	rules := []string{
		"CidrIp", "CidrIpv6", "Description", "DestinationPrefixListId", "DestinationSecurityGroupId", "FromPort", "GroupId", "GroupName", "IpProtocol",
		"SourcePrefixListId", "SourceSecurityGroupId", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId", "ToPort",
	}
	table := map[string]recorded{
		"AWS::CDK::Metadata":                       {properties: []string{"Analytics"}, id: named("", 128)},
		"AWS::CloudFormation::WaitConditionHandle": {id: named("", 128)},
		"AWS::CloudWatch::Alarm":                   {properties: alarm, replace: []string{"AlarmName"}, id: named("AlarmName", 255), attributes: withARN("cloudwatch", "alarm:", "")},
		"AWS::CloudWatch::CompositeAlarm":          {properties: alarm, replace: []string{"AlarmName"}, id: named("AlarmName", 255), attributes: withARN("cloudwatch", "alarm:", "")},
		"AWS::CloudWatch::Dashboard":               {properties: []string{"DashboardBody", "DashboardName"}, replace: []string{"DashboardName"}, id: named("DashboardName", 255)},
		"AWS::EC2::EIP": {
			properties: []string{"Domain", "InstanceId", "NetworkBorderGroup", "PublicIpv4Pool", "Tags"}, id: address,
			attributes: func(t *target, _ map[string]any) map[string]any {
				return keep(t, map[string]any{"AllocationId": "eipalloc-" + scope.Hex(17), "PublicIp": t.PhysicalID})
			},
		},
		"AWS::EC2::FlowLog": {
			properties: []string{
				"DeliverLogsPermissionArn", "DestinationOptions", "LogDestination", "LogDestinationType", "LogFormat", "LogGroupName", "MaxAggregationInterval",
				"ResourceId", "ResourceType", "Tags", "TrafficType", "DeliverCrossAccountRole",
			}, id: numbered("fl"), attributes: withID("Id"),
		},
		"AWS::EC2::InternetGateway": {properties: []string{"Tags"}, id: numbered("igw"), attributes: withID("InternetGatewayId")},
		"AWS::EC2::LaunchTemplate": {
			properties: []string{"LaunchTemplateData", "LaunchTemplateName", "TagSpecifications", "VersionDescription"}, replace: []string{"LaunchTemplateName"},
			id: numbered("lt"), attributes: func(t *target, _ map[string]any) map[string]any {
				return map[string]any{"LaunchTemplateId": t.PhysicalID, "DefaultVersionNumber": "1", "LatestVersionNumber": nextVersion(t)}
			},
		},
		"AWS::EC2::NatGateway": {
			properties: []string{"AllocationId", "ConnectivityType", "MaxDrainDurationSeconds", "PrivateIpAddress", "SubnetId", "Tags", "VpcId"},
			replace:    []string{"SubnetId", "AllocationId"}, id: numbered("nat"), attributes: withID("NatGatewayId"),
		},
		"AWS::EC2::Route": {
			properties: []string{"DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId", "EgressOnlyInternetGatewayId", "GatewayId", "InstanceId", "NatGatewayId", "NetworkInterfaceId", "RouteTableId", "TransitGatewayId", "VpcEndpointId", "VpcPeeringConnectionId"},
			replace:    []string{"DestinationCidrBlock", "RouteTableId"}, id: joined("RouteTableId", "DestinationCidrBlock"),
		},
		"AWS::EC2::RouteTable":           {properties: []string{"Tags", "VpcId"}, replace: []string{"VpcId"}, id: numbered("rtb"), attributes: withID("RouteTableId")},
		"AWS::EC2::SecurityGroupEgress":  {properties: rules, replace: rules, id: numbered("sgr"), attributes: withID("Id")},
		"AWS::EC2::SecurityGroupIngress": {properties: rules, replace: rules, id: numbered("sgr"), attributes: withID("Id")},
		"AWS::EC2::SubnetRouteTableAssociation": {
			properties: []string{"RouteTableId", "SubnetId"}, replace: []string{"SubnetId"}, id: numbered("rtbassoc"), attributes: withID("Id"),
		},
		"AWS::EC2::VPCEndpoint": {
			properties: []string{"DnsOptions", "IpAddressType", "PolicyDocument", "PrivateDnsEnabled", "RouteTableIds", "SecurityGroupIds", "ServiceName", "ServiceRegion", "SubnetIds", "Tags", "VpcEndpointType", "VpcId"},
			replace:    []string{"ServiceName", "VpcId", "VpcEndpointType"}, id: numbered("vpce"),
			attributes: func(t *target, _ map[string]any) map[string]any {
				return map[string]any{"Id": t.PhysicalID, "DnsEntries": []any{}, "NetworkInterfaceIds": []any{}}
			},
		},
		"AWS::EC2::VPCGatewayAttachment": {properties: []string{"InternetGatewayId", "VpcId", "VpnGatewayId"}, replace: []string{"VpcId"}, id: joined("InternetGatewayId", "VpcId")},
		"AWS::Logs::LogGroup": {
			properties: []string{"DataProtectionPolicy", "DeletionProtectionEnabled", "FieldIndexPolicies", "KmsKeyId", "LogGroupClass", "LogGroupName", "ResourcePolicyDocument", "RetentionInDays", "Tags"},
			replace:    []string{"LogGroupName", "LogGroupClass"}, id: named("LogGroupName", 512), attributes: withARN("logs", "log-group:", ":*"),
		},
		"AWS::Logs::MetricFilter": {
			properties: []string{"ApplyOnTransformedLogs", "FilterName", "FilterPattern", "LogGroupName", "MetricTransformations"},
			replace:    []string{"FilterName", "LogGroupName"}, id: named("FilterName", 512),
		},
		"AWS::Logs::QueryDefinition": {properties: []string{"LogGroupNames", "Name", "QueryString", "QueryLanguage", "Parameters"}, id: func(*target, map[string]any) string { return scope.Hex(32) }, attributes: withID("QueryDefinitionId")},
		"AWS::Logs::ResourcePolicy":  {properties: []string{"PolicyDocument", "PolicyName"}, replace: []string{"PolicyName"}, id: named("PolicyName", 255)},
	}
	out := map[string]kind{}
	for name, r := range table {
		out[name] = r.kind()
	}
	return out
}

// address returns an address reserved for documentation (RFC 5737).
func address(*target, map[string]any) string {
	raw := []byte(scope.Hex(2))
	return fmt.Sprintf("203.0.113.%d", hexDigit(raw[0])<<4|hexDigit(raw[1]))
}

// keep keeps attributes that were generated before.
func keep(t *target, made map[string]any) map[string]any {
	for name := range made {
		if old, ok := t.Attributes[name]; ok {
			made[name] = old
		}
	}
	return made
}

// nextVersion returns the next version number of a launch template.
func nextVersion(t *target) string {
	latest, _ := t.Attributes["LatestVersionNumber"].(string)
	n := 0
	if _, err := fmt.Sscan(latest, &n); err != nil {
		return "1"
	}
	return fmt.Sprint(n + 1)
}

// without returns the keys of before that are not in after, sorted.
func without[V any](before, after map[string]V) []string {
	return slices.DeleteFunc(sortedKeys(before), func(name string) bool {
		_, ok := after[name]
		return ok
	})
}
