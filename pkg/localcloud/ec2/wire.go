package ec2

import "github.com/ami-factory/ami-factory/pkg/localcloud/wire"

// Wire describes the service to the HTTP front. Operations served here are
// listed in wire/internal/ec2names/operations.txt too, which the names on the
// wire are generated for.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "ec2", Name: "EC2", Protocol: wire.EC2Query, Version: "2016-11-15",
		Operations: map[string]wire.Operation{
			"CopyImage":                            wire.Op(s.CopyImage),
			"CreateImage":                          wire.Op(s.CreateImage),
			"CreateTags":                           wire.Op(s.CreateTags),
			"DeleteSnapshot":                       wire.Op(s.DeleteSnapshot),
			"DeleteTags":                           wire.Op(s.DeleteTags),
			"DeregisterImage":                      wire.Op(s.DeregisterImage),
			"DescribeAvailabilityZones":            wire.Op(s.DescribeAvailabilityZones),
			"DescribeImageAttribute":               wire.Op(s.DescribeImageAttribute),
			"DescribeImages":                       wire.Op(s.DescribeImages),
			"DescribeInstanceStatus":               wire.Op(s.DescribeInstanceStatus),
			"DescribeInstanceTypes":                wire.Op(s.DescribeInstanceTypes),
			"DescribeInstances":                    wire.Op(s.DescribeInstances),
			"DescribeKeyPairs":                     wire.Op(s.DescribeKeyPairs),
			"DescribeRegions":                      wire.Op(s.DescribeRegions),
			"DescribeSecurityGroups":               wire.Op(s.DescribeSecurityGroups),
			"DescribeSnapshotAttribute":            wire.Op(s.DescribeSnapshotAttribute),
			"DescribeSnapshots":                    wire.Op(s.DescribeSnapshots),
			"DescribeSubnets":                      wire.Op(s.DescribeSubnets),
			"DescribeTags":                         wire.Op(s.DescribeTags),
			"DescribeVolumes":                      wire.Op(s.DescribeVolumes),
			"DescribeVpcs":                         wire.Op(s.DescribeVpcs),
			"DisableImageBlockPublicAccess":        wire.Op(s.DisableImageBlockPublicAccess),
			"DisableImageDeprecation":              wire.Op(s.DisableImageDeprecation),
			"DisableImageDeregistrationProtection": wire.Op(s.DisableImageDeregistrationProtection),
			"EnableImageBlockPublicAccess":         wire.Op(s.EnableImageBlockPublicAccess),
			"EnableImageDeprecation":               wire.Op(s.EnableImageDeprecation),
			"EnableImageDeregistrationProtection":  wire.Op(s.EnableImageDeregistrationProtection),
			"GetConsoleOutput":                     wire.Op(s.GetConsoleOutput),
			"GetImageBlockPublicAccessState":       wire.Op(s.GetImageBlockPublicAccessState),
			"ModifyImageAttribute":                 wire.Op(s.ModifyImageAttribute),
			"ModifySnapshotAttribute":              wire.Op(s.ModifySnapshotAttribute),
			"RunInstances":                         wire.Op(s.RunInstances),
			"StartInstances":                       wire.Op(s.StartInstances),
			"StopInstances":                        wire.Op(s.StopInstances),
			"TerminateInstances":                   wire.Op(s.TerminateInstances),
		},
	}
}
