package ec2

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// newVolume makes the root volume of an instance.
func (s *Service) newVolume(l *launch, instanceID string, now time.Time) *volume {
	v := &volume{Account: l.caller.Account, Region: l.caller.Region, Visible: now.Add(s.cfg.Timing.ConsistencyWindow)}
	v.Volume = types.Volume{
		VolumeId: aws.String(volumeKind.newID()), Size: aws.Int32(l.volumeGiB), SnapshotId: l.snapshot.SnapshotId,
		VolumeType: l.volumeType, Iops: l.iops, Throughput: l.throughput,
		AvailabilityZone: aws.String(l.subnet.zone), CreateTime: aws.Time(now), State: types.VolumeStateInUse,
		Encrypted: aws.Bool(l.encryption.Encrypted), MultiAttachEnabled: aws.Bool(false), Tags: l.volumeTags,
		Attachments: []types.VolumeAttachment{{InstanceId: aws.String(instanceID), Device: l.image.RootDeviceName, AttachTime: aws.Time(now),
			State: types.VolumeAttachmentStateAttached, DeleteOnTermination: aws.Bool(l.deleteVolume)}},
	}
	v.Attachments[0].VolumeId = v.VolumeId
	if l.encryption.Encrypted {
		v.KmsKeyId = aws.String(l.encryption.KeyARN)
	}
	return v
}

// releaseVolumes deletes or detaches the volumes of a terminated instance.
func (s *Service) releaseVolumes(i *instance) {
	v, ok := s.st.Volumes[i.VolumeID]
	if !ok {
		return
	}
	for _, a := range v.Attachments {
		if !aws.ToBool(a.DeleteOnTermination) {
			v.Attachments, v.State = nil, types.VolumeStateAvailable
			return
		}
	}
	delete(s.st.Volumes, i.VolumeID)
}

// DescribeVolumes lists the caller's volumes.
func (s *Service) DescribeVolumes(ctx context.Context, in *ec2.DescribeVolumesInput, optFns ...func(*ec2.Options)) (*ec2.DescribeVolumesOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	now := s.cfg.Clock.Now()
	mine := func(v *volume) bool { return v.Account == c.Account && v.Region == c.Region && !now.Before(v.Visible) }
	for _, id := range in.VolumeIds {
		if err := volumeKind.check(id); err != nil {
			return nil, err
		}
		if v, ok := s.st.Volumes[id]; !ok || !mine(v) {
			return nil, volumeKind.notFound(id)
		}
	}
	var list []*volume
	for _, id := range slices.Sorted(maps.Keys(s.st.Volumes)) {
		if v := s.st.Volumes[id]; mine(v) && (len(in.VolumeIds) == 0 || slices.Contains(in.VolumeIds, id)) {
			list = append(list, v)
		}
	}
	list, err := volumeFilters().apply(list, in.Filters, func(v *volume) []types.Tag { return v.Tags })
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeVolumesOutput{Volumes: []types.Volume{}, NextToken: next}
	for _, v := range list {
		out.Volumes = append(out.Volumes, v.Volume)
	}
	return out, nil
}

func volumeFilters() filterTable[*volume] {
	attached := func(pick func(types.VolumeAttachment) string) func(*volume) []string {
		return func(v *volume) []string {
			var values []string
			for _, a := range v.Attachments {
				values = append(values, pick(a))
			}
			return values
		}
	}
	return filterTable[*volume]{
		"volume-id":              func(v *volume) []string { return one(v.VolumeId) },
		"status":                 func(v *volume) []string { return []string{string(v.State)} },
		"size":                   func(v *volume) []string { return []string{strconv.Itoa(int(aws.ToInt32(v.Size)))} },
		"snapshot-id":            func(v *volume) []string { return one(v.SnapshotId) },
		"volume-type":            func(v *volume) []string { return []string{strings.ToLower(string(v.VolumeType))} },
		"availability-zone":      func(v *volume) []string { return one(v.AvailabilityZone) },
		"encrypted":              func(v *volume) []string { return boolText(aws.ToBool(v.Encrypted)) },
		"attachment.instance-id": attached(func(a types.VolumeAttachment) string { return aws.ToString(a.InstanceId) }),
		"attachment.status":      attached(func(a types.VolumeAttachment) string { return string(a.State) }),
		"attachment.device":      attached(func(a types.VolumeAttachment) string { return aws.ToString(a.Device) }),
		"attachment.delete-on-termination": attached(func(a types.VolumeAttachment) string {
			return strconv.FormatBool(aws.ToBool(a.DeleteOnTermination))
		}),
	}
}
