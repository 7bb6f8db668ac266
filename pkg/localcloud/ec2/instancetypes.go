package ec2

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// instanceType is one type, with the figures of "Amazon EC2 instance types".
type instanceType struct {
	name         string
	architecture types.ArchitectureValues
	vcpus        int32
	memoryMiB    int64
}

// instanceTypes returns the served types, sorted by name.
func instanceTypes() []instanceType {
	const x86, arm = types.ArchitectureValuesX8664, types.ArchitectureValuesArm64
	burstable := []instanceType{{"nano", "", 2, 512}, {"micro", "", 2, 1 << 10}, {"small", "", 2, 2 << 10}, {"medium", "", 2, 4 << 10},
		{"large", "", 2, 8 << 10}, {"xlarge", "", 4, 16 << 10}, {"2xlarge", "", 8, 32 << 10}}
	general := []instanceType{{"large", "", 2, 8 << 10}, {"xlarge", "", 4, 16 << 10}, {"2xlarge", "", 8, 32 << 10}, {"4xlarge", "", 16, 64 << 10}}
	compute := []instanceType{{"large", "", 2, 4 << 10}, {"xlarge", "", 4, 8 << 10}, {"2xlarge", "", 8, 16 << 10}, {"4xlarge", "", 16, 32 << 10}}
	list := []instanceType{{"m1.small", x86, 1, 1740}, {"t2.micro", x86, 1, 1 << 10}, {"t2.small", x86, 1, 2 << 10}, {"t2.medium", x86, 2, 4 << 10}}
	for _, family := range []struct {
		name         string
		architecture types.ArchitectureValues
		sizes        []instanceType
	}{
		{"t3", x86, burstable}, {"t3a", x86, burstable}, {"t4g", arm, burstable},
		{"m5", x86, general}, {"m6i", x86, general}, {"m6a", x86, general}, {"m7i", x86, general}, {"m6g", arm, general}, {"m7g", arm, general},
		{"c5", x86, compute}, {"c6i", x86, compute}, {"c7i", x86, compute}, {"c6g", arm, compute}, {"c7g", arm, compute},
	} {
		for _, size := range family.sizes {
			list = append(list, instanceType{family.name + "." + size.name, family.architecture, size.vcpus, size.memoryMiB})
		}
	}
	slices.SortFunc(list, func(a, b instanceType) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return list
}

func findInstanceType(name string) (instanceType, bool) {
	list := instanceTypes()
	n := slices.IndexFunc(list, func(t instanceType) bool { return t.name == name })
	if n < 0 {
		return instanceType{}, false
	}
	return list[n], true
}

// defaultInstanceType is EC2's default, if it has the architecture.
func defaultInstanceType(a types.ArchitectureValues) string {
	if a == types.ArchitectureValuesArm64 {
		return "t4g.small"
	}
	return "m1.small"
}

// DescribeInstanceTypes lists the served types.
func (s *Service) DescribeInstanceTypes(_ context.Context, in *ec2.DescribeInstanceTypesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstanceTypesOutput, error) {
	for _, name := range in.InstanceTypes {
		if _, ok := findInstanceType(string(name)); !ok {
			return nil, wire.Errorf("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", name)
		}
	}
	var all []types.InstanceTypeInfo
	for _, t := range instanceTypes() {
		if len(in.InstanceTypes) == 0 || slices.Contains(in.InstanceTypes, types.InstanceType(t.name)) {
			all = append(all, t.info())
		}
	}
	all, err := filterTable[types.InstanceTypeInfo]{
		"instance-type": func(t types.InstanceTypeInfo) []string { return []string{string(t.InstanceType)} },
		"processor-info.supported-architecture": func(t types.InstanceTypeInfo) []string {
			return []string{string(t.ProcessorInfo.SupportedArchitectures[0])}
		},
		"vcpu-info.default-vcpus": func(t types.InstanceTypeInfo) []string { return []string{fmt.Sprint(*t.VCpuInfo.DefaultVCpus)} },
		"memory-info.size-in-mib": func(t types.InstanceTypeInfo) []string { return []string{fmt.Sprint(*t.MemoryInfo.SizeInMiB)} },
		"current-generation":      func(t types.InstanceTypeInfo) []string { return boolText(aws.ToBool(t.CurrentGeneration)) },
	}.apply(all, in.Filters, nil)
	if err != nil {
		return nil, err
	}
	list, next, err := page(all, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeInstanceTypesOutput{InstanceTypes: list, NextToken: next}, nil
}

func (t instanceType) info() types.InstanceTypeInfo {
	current := t.name != "m1.small" && t.name[:3] != "t2."
	return types.InstanceTypeInfo{
		InstanceType: types.InstanceType(t.name), CurrentGeneration: aws.Bool(current), BareMetal: aws.Bool(false),
		ProcessorInfo:                &types.ProcessorInfo{SupportedArchitectures: []types.ArchitectureType{types.ArchitectureType(t.architecture)}},
		VCpuInfo:                     &types.VCpuInfo{DefaultVCpus: aws.Int32(t.vcpus)},
		MemoryInfo:                   &types.MemoryInfo{SizeInMiB: aws.Int64(t.memoryMiB)},
		SupportedRootDeviceTypes:     []types.RootDeviceType{types.RootDeviceTypeEbs},
		SupportedVirtualizationTypes: []types.VirtualizationType{types.VirtualizationTypeHvm},
		SupportedUsageClasses:        []types.UsageClassType{types.UsageClassTypeOnDemand},
	}
}

// DescribeInstanceTypeOfferings lists where the served types are offered: all of
// them in the whole region.
func (s *Service) DescribeInstanceTypeOfferings(ctx context.Context, in *ec2.DescribeInstanceTypeOfferingsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeInstanceTypeOfferingsOutput, error) {
	c := s.caller(ctx, optFns)
	var locations []string
	kind := in.LocationType
	switch kind {
	case "", types.LocationTypeRegion:
		kind, locations = types.LocationTypeRegion, []string{c.Region}
	case types.LocationTypeAvailabilityZone, types.LocationTypeAvailabilityZoneId:
		for _, sub := range defaultNetwork(c.Account, c.Region).subnets {
			location := sub.zone
			if kind == types.LocationTypeAvailabilityZoneId {
				location = zoneID(c.Region, sub.zone)
			}
			locations = append(locations, location)
		}
	default:
		return nil, wire.Errorf("InvalidParameterValue", "The embedded EC2 has the location types region, availability-zone and availability-zone-id, not %s", kind)
	}
	var all []types.InstanceTypeOffering
	for _, t := range instanceTypes() {
		for _, location := range locations {
			all = append(all, types.InstanceTypeOffering{InstanceType: types.InstanceType(t.name), Location: aws.String(location), LocationType: kind})
		}
	}
	all, err := filterTable[types.InstanceTypeOffering]{
		"instance-type": func(o types.InstanceTypeOffering) []string { return []string{string(o.InstanceType)} },
		"location":      func(o types.InstanceTypeOffering) []string { return one(o.Location) },
	}.apply(all, in.Filters, nil)
	if err != nil {
		return nil, err
	}
	list, next, err := page(all, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeInstanceTypeOfferingsOutput{InstanceTypeOfferings: list, NextToken: next}, nil
}
