package partition

import "slices"

// prefixed are the services of a region whose interface endpoints have another prefix
// than com.amazonaws.
type prefixed struct {
	prefix   string
	services []string // sorted
}

// InterfaceEndpoint returns the service name of an interface VPC endpoint, such as
// com.amazonaws.eu-west-1.ssm. Outside the commercial partition the prefix depends on
// the service: cn.com.amazonaws.cn-north-1.sts, but com.amazonaws.cn-north-1.ssm. The
// names are those of
// https://docs.aws.amazon.com/vpc/latest/privatelink/aws-services-privatelink-support.html
// as the CDK has collected them.
func InterfaceEndpoint(service, region string) string {
	prefix := GatewayPrefix
	if in := endpoints[region]; slices.Contains(in.services, service) {
		prefix = in.prefix
	}
	return prefix + "." + region + "." + service
}

// GatewayPrefix begins the names of gateway endpoints in every partition.
const GatewayPrefix = "com.amazonaws"

// GatewayEndpoint returns the service name of a gateway VPC endpoint, which S3 and
// DynamoDB have. Its prefix is the same in all partitions, as
// GatewayVpcEndpointAwsService of aws-cdk-lib has it.
// https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-s3.html
func GatewayEndpoint(service, region string) string {
	return GatewayPrefix + "." + region + "." + service
}
