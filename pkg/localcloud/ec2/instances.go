package ec2

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// keepTerminated is the time for which describes still show a terminated
// instance.
const keepTerminated = time.Hour

// instance finds one of the caller's instances. The caller of instance holds
// s.mu.
func (s *Service) instance(c wire.Caller, id string) (*instance, error) {
	if err := instanceKind.check(id); err != nil {
		return nil, err
	}
	i, ok := s.st.Instances[id]
	if !ok || i.realm() != scope.KeyOf(c) {
		return nil, instanceKind.notFound(id)
	}
	return i, nil
}

// instanceNamed returns the instance whose id a call requires. The caller holds
// s.mu.
func (s *Service) instanceNamed(c wire.Caller, id *string) (*instance, error) {
	if err := required("InstanceId", id); err != nil {
		return nil, err
	}
	return s.instance(c, *id)
}

// sortedInstances returns the caller's instances in order of launch, and forgets
// those that were terminated long ago.
func (s *Service) sortedInstances(c wire.Caller) []*instance {
	forget := s.cfg.Clock.Now().Add(-keepTerminated)
	var list []*instance
	for id, i := range s.st.Instances {
		if !i.live() && i.Terminated.Before(forget) && i.captures == 0 {
			delete(s.st.Instances, id)
			continue
		}
		if i.realm() == scope.KeyOf(c) {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b *instance) int {
		if order := a.LaunchTime.Compare(*b.LaunchTime); order != 0 {
			return order
		}
		if order := strings.Compare(a.ReservationID, b.ReservationID); order != 0 {
			return order
		}
		return int(*a.AmiLaunchIndex - *b.AmiLaunchIndex)
	})
	return list
}

// view returns a copy of the instance in the form that describes show.
func (i *instance) view() types.Instance {
	out := i.Instance
	if out.Tags = slices.Clone(i.Tags); len(out.Tags) == 0 {
		out.Tags = nil // EC2 leaves out an empty list of tags
	}
	return out
}

// selectInstances returns the instances for a describe.
func (s *Service) selectInstances(c wire.Caller, ids []string, filters []types.Filter) ([]*instance, error) {
	now := s.cfg.Clock.Now()
	var missing []string
	for _, id := range ids {
		if err := instanceKind.check(id); err != nil {
			return nil, err
		}
		if i, ok := s.st.Instances[id]; !ok || i.realm() != scope.KeyOf(c) || now.Before(i.Visible) {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return nil, instanceKind.notFound(missing...)
	}
	list := slices.DeleteFunc(s.sortedInstances(c), func(i *instance) bool {
		return now.Before(i.Visible) || len(ids) > 0 && !slices.Contains(ids, *i.InstanceId)
	})
	return instanceFilters().apply(list, filters, func(i *instance) []types.Tag { return i.Tags })
}

// DescribeInstances lists the caller's instances, one reservation per launch.
func (s *Service) DescribeInstances(ctx context.Context, in *ec2.DescribeInstancesInput, optFns ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	c := s.caller(ctx, optFns)
	if len(in.InstanceIds) > 0 && in.MaxResults != nil {
		return nil, wire.Errorf("InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults")
	}
	s.mu.Lock()
	defer s.unlock()
	list, err := s.selectInstances(c, in.InstanceIds, in.Filters)
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstancesOutput{NextToken: next, Reservations: []types.Reservation{}}
	for _, i := range list {
		last := len(out.Reservations) - 1
		if last < 0 || aws.ToString(out.Reservations[last].ReservationId) != i.ReservationID {
			out.Reservations = append(out.Reservations, types.Reservation{ReservationId: aws.String(i.ReservationID),
				OwnerId: aws.String(i.Account), Groups: []types.GroupIdentifier{}})
			last++
		}
		out.Reservations[last].Instances = append(out.Reservations[last].Instances, i.view())
	}
	return out, nil
}

func instanceFilters() filterTable[*instance] {
	return filterTable[*instance]{
		"instance-id":                  func(i *instance) []string { return one(i.InstanceId) },
		"instance-state-name":          func(i *instance) []string { return []string{string(i.State.Name)} },
		"instance-type":                func(i *instance) []string { return []string{string(i.InstanceType)} },
		"image-id":                     func(i *instance) []string { return one(i.ImageId) },
		"architecture":                 func(i *instance) []string { return []string{string(i.Architecture)} },
		"availability-zone":            func(i *instance) []string { return one(i.Placement.AvailabilityZone) },
		"client-token":                 func(i *instance) []string { return one(i.ClientToken) },
		"owner-id":                     func(i *instance) []string { return []string{i.Account} },
		"ip-address":                   func(i *instance) []string { return one(i.PublicIpAddress) },
		"key-name":                     func(i *instance) []string { return one(i.KeyName) },
		"private-ip-address":           func(i *instance) []string { return one(i.PrivateIpAddress) },
		"private-dns-name":             func(i *instance) []string { return one(i.PrivateDnsName) },
		"reservation-id":               func(i *instance) []string { return []string{i.ReservationID} },
		"root-device-name":             func(i *instance) []string { return one(i.RootDeviceName) },
		"subnet-id":                    func(i *instance) []string { return one(i.SubnetId) },
		"vpc-id":                       func(i *instance) []string { return one(i.VpcId) },
		"metadata-options.http-tokens": func(i *instance) []string { return []string{string(i.MetadataOptions.HttpTokens)} },
		"iam-instance-profile.arn": func(i *instance) []string {
			if i.Profile.ARN == "" {
				return nil
			}
			return []string{i.Profile.ARN}
		},
		"instance.group-id": func(i *instance) []string {
			var ids []string
			for _, g := range i.SecurityGroups {
				ids = append(ids, aws.ToString(g.GroupId))
			}
			return ids
		},
		"block-device-mapping.volume-id": func(i *instance) []string { return []string{i.VolumeID} },
	}
}

// instancesNamed returns the instances that a call changes, or an error if one
// is missing.
func (s *Service) instancesNamed(c wire.Caller, ids []string) ([]*instance, error) {
	if len(ids) == 0 {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter InstanceId")
	}
	list := make([]*instance, 0, len(ids))
	for _, id := range ids {
		i, err := s.instance(c, id)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, i) {
			list = append(list, i)
		}
	}
	return list, nil
}

// change returns an instance's state before and after a call.
func change(i *instance, before types.InstanceState) types.InstanceStateChange {
	now := *i.State
	return types.InstanceStateChange{InstanceId: i.InstanceId, PreviousState: &before, CurrentState: &now}
}
