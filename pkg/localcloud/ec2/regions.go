package ec2

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// enabledRegions returns the regions of a partition that are enabled in every
// account.
func enabledRegions(of partition.Partition) []string {
	if of.ID != partition.Default {
		return of.Regions
	}
	return []string{
		"ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1",
		"eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
	}
}

// DescribeRegions lists the served regions.
func (s *Service) DescribeRegions(_ context.Context, in *ec2.DescribeRegionsInput, _ ...func(*ec2.Options)) (*ec2.DescribeRegionsOutput, error) {
	for _, name := range in.RegionNames {
		if !slices.Contains(s.cfg.Regions, name) {
			return nil, wire.Errorf("InvalidParameterValue", "Invalid region names provided: %s", name)
		}
	}
	var all []types.Region
	for _, name := range slices.Sorted(slices.Values(s.cfg.Regions)) {
		if len(in.RegionNames) == 0 || slices.Contains(in.RegionNames, name) {
			all = append(all, types.Region{RegionName: aws.String(name), Endpoint: aws.String(partition.Host("ec2", name)), OptInStatus: aws.String("opt-in-not-required")})
		}
	}
	all, err := filterTable[types.Region]{
		"region-name":   func(r types.Region) []string { return one(r.RegionName) },
		"endpoint":      func(r types.Region) []string { return one(r.Endpoint) },
		"opt-in-status": func(r types.Region) []string { return one(r.OptInStatus) },
	}.apply(all, in.Filters, nil)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeRegionsOutput{Regions: all}, nil
}

// DescribeAvailabilityZones lists the zones of the caller's region.
func (s *Service) DescribeAvailabilityZones(ctx context.Context, in *ec2.DescribeAvailabilityZonesInput, optFns ...func(*ec2.Options)) (*ec2.DescribeAvailabilityZonesOutput, error) {
	c := s.caller(ctx, optFns)
	var all []types.AvailabilityZone
	for _, sub := range defaultNetwork(c.Account, c.Region).subnets {
		if len(in.ZoneNames) == 0 || slices.Contains(in.ZoneNames, sub.zone) {
			all = append(all, types.AvailabilityZone{ZoneName: aws.String(sub.zone), ZoneId: aws.String(zoneID(c.Region, sub.zone)), RegionName: aws.String(c.Region),
				State: types.AvailabilityZoneStateAvailable, ZoneType: aws.String("availability-zone"), OptInStatus: types.AvailabilityZoneOptInStatusOptInNotRequired,
				GroupName: aws.String(c.Region), NetworkBorderGroup: aws.String(c.Region)})
		}
	}
	all, err := filterTable[types.AvailabilityZone]{
		"zone-name":   func(z types.AvailabilityZone) []string { return one(z.ZoneName) },
		"zone-id":     func(z types.AvailabilityZone) []string { return one(z.ZoneId) },
		"region-name": func(z types.AvailabilityZone) []string { return one(z.RegionName) },
		"state":       func(z types.AvailabilityZone) []string { return []string{string(z.State)} },
		"zone-type":   func(z types.AvailabilityZone) []string { return one(z.ZoneType) },
	}.apply(all, in.Filters, nil)
	if err != nil {
		return nil, err
	}
	return &ec2.DescribeAvailabilityZonesOutput{AvailabilityZones: all}, nil
}

// zoneID returns the id of a zone, such as use1-az1. EC2 maps zones differently
// for each account; here all accounts have the same.
func zoneID(region, zone string) string {
	if len(zone) <= len(region) {
		return ""
	}
	short := strings.NewReplacer("northeast", "ne", "northwest", "nw", "southeast", "se", "southwest", "sw",
		"north", "n", "south", "s", "east", "e", "west", "w", "central", "c", "-", "").Replace(region)
	return fmt.Sprintf("%s-az%d", short, zone[len(region)]-'a'+1)
}
