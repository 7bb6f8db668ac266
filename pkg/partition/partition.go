// Package partition has AWS's partitions: groups of regions that share accounts,
// an ARN prefix and a DNS suffix. Nothing can be copied or shared between
// partitions.
// https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html
package partition

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

// Default is the ID of AWS's commercial partition.
const Default = "aws"

// Partition is a partition of AWS.
type Partition struct {
	ID                 string   // the second field of its ARNs, such as aws-cn
	DNSSuffix          string   // of its endpoints and its host names, such as amazonaws.com.cn
	DualStackDNSSuffix string   // of its endpoints that have IPv4 and IPv6 addresses
	GlobalRegion       string   // region for signing calls of services without regions, such as us-east-1
	RegionPattern      string   // regular expression for the names of its regions, including future ones
	Regions            []string // sorted
}

// All returns the partitions, sorted by ID.
func All() []Partition {
	out := slices.Clone(partitions)
	for i := range out {
		out[i].Regions = slices.Clone(out[i].Regions)
	}
	return out
}

// Regions returns all known regions of all partitions, sorted.
func Regions() []string {
	var out []string
	for _, p := range partitions {
		out = append(out, p.Regions...)
	}
	slices.Sort(out)
	return out
}

// IDs returns the IDs of all partitions, sorted.
func IDs() []string {
	out := make([]string, 0, len(partitions))
	for _, p := range partitions {
		out = append(out, p.ID)
	}
	return out
}

// ByID finds a partition by the second field of its ARNs.
func ByID(id string) (Partition, bool) {
	for _, p := range partitions {
		if p.ID == id {
			return p, true
		}
	}
	return Partition{}, false
}

// Known reports whether the data has a region.
func Known(region string) bool {
	for _, p := range partitions {
		if slices.Contains(p.Regions, region) {
			return true
		}
	}
	return false
}

// Of returns the partition of a region. A region that the data does not list
// belongs to the partition whose pattern its name matches.
func Of(region string) (Partition, bool) {
	for _, p := range partitions {
		if slices.Contains(p.Regions, region) {
			return p, true
		}
	}
	for _, p := range partitions {
		if regexp.MustCompile(p.RegionPattern).MatchString(region) {
			return p, true
		}
	}
	return Partition{}, false
}

// OrDefault returns the partition of a region, or like the SDKs the commercial
// one for an unknown name.
func OrDefault(region string) Partition {
	p, ok := Of(region)
	if !ok {
		p, _ = ByID(Default)
	}
	return p
}

// AccountOf returns the account in an ARN; empty if there is none.
func AccountOf(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 4 {
		return parts[4]
	}
	return ""
}

// ARN returns an ARN in the partition of a region.
func ARN(service, region, account, resource string) string {
	return OrDefault(region).ARN(service, region, account, resource)
}

// ARN returns an ARN of the partition; region and account are empty for services
// that have none.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
func (p Partition) ARN(service, region, account, resource string) string {
	return "arn:" + p.ID + ":" + service + ":" + region + ":" + account + ":" + resource
}

// Host returns the host name of a service's endpoint in a region, such as
// sns.cn-north-1.amazonaws.com.cn.
func Host(service, region string) string {
	return service + "." + region + "." + OrDefault(region).DNSSuffix
}

// Principal returns the name of a service in policies. EC2's name depends on the
// partition, CloudWatch Logs' on the region and the partition; the others have
// one name in all partitions.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html#principal-services
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
func Principal(service, region string) string {
	switch service {
	case "ec2":
		return "ec2." + OrDefault(region).DNSSuffix
	case "logs":
		return Host("logs", region)
	default:
		return service + ".amazonaws.com"
	}
}

// ViaService returns the value of the condition key kms:ViaService for a service
// in a region. The region may be * for all regions of a partition; of is then
// one of its regions.
// https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-via-service
func ViaService(service, region, of string) string {
	return service + "." + region + "." + OrDefault(of).DNSSuffix
}

// Verdict is the result of a check of a region's name.
type Verdict int

// Verdicts.
const (
	Exists    Verdict = iota // the data lists it
	Plausible                // it may be newer than the data
	Nowhere                  // no region has this name
)

// newer matches the form of region names: an area, optionally a country or a
// kind, a direction, a number.
var newer = regexp.MustCompile(`^[a-z]+(-[a-z]+)?-(central|north|south|east|west|northeast|northwest|southeast|southwest)-[1-9][0-9]?$`)

// Check checks a region's name. A name that matches a partition's pattern and
// has AWS's form can be newer than this program's data. The message is empty for
// an existing region; allowed has the most similar regions.
func Check(region string) (verdict Verdict, message, allowed string) {
	if Known(region) {
		return Exists, "", ""
	}
	near := nearest(region)
	allowed = strings.Join(near, ", ")
	if _, ok := Of(region); ok && newer.MatchString(region) {
		return Plausible, fmt.Sprintf("region %s is not known to this version of ami-factory: it is taken for a newer one", region), allowed
	}
	message = fmt.Sprintf("there is no region %q", region)
	if found := problem.Nearest(region, Regions()); found != "" {
		message += fmt.Sprintf("; did you mean %q?", found)
	}
	return Nowhere, message, allowed
}

// nearest returns up to five known regions with similar names, the most similar
// first, or an example.
func nearest(region string) []string {
	const most = 5
	left := Regions()
	if area, _, ok := strings.Cut(region, "-"); ok {
		same := slices.DeleteFunc(slices.Clone(left), func(name string) bool { return !strings.HasPrefix(name, area+"-") })
		if len(same) > 0 {
			left = same
		}
	}
	var out []string
	for len(out) < most {
		found := problem.Nearest(region, left)
		if found == "" {
			break
		}
		out = append(out, found)
		left = slices.DeleteFunc(left, func(name string) bool { return name == found })
	}
	if len(out) == 0 {
		return []string{"a region's name, such as eu-west-1"}
	}
	return out
}
