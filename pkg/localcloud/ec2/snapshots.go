package ec2

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// newSnapshot makes the record of a pending snapshot of the caller.
func (s *Service) newSnapshot(c wire.Caller, tags []types.Tag) *snapshot {
	now := s.cfg.Clock.Now()
	sn := &snapshot{Region: c.Region, Visible: now.Add(s.cfg.Timing.ConsistencyWindow)}
	sn.Snapshot = types.Snapshot{
		SnapshotId: aws.String(snapshotKind.newID()), OwnerId: aws.String(c.Account), StartTime: aws.Time(now), State: types.SnapshotStatePending,
		Progress: aws.String("0%"), StorageTier: types.StorageTierStandard, Tags: tags,
	}
	s.st.Snapshots[*sn.SnapshotId] = sn
	return sn
}

// ownSnapshot finds a snapshot of the caller. The caller of ownSnapshot holds
// s.mu.
func (s *Service) ownSnapshot(c wire.Caller, id string) (*snapshot, error) {
	if err := snapshotKind.check(id); err != nil {
		return nil, err
	}
	sn, ok := s.st.Snapshots[id]
	if !ok || sn.Region != c.Region || aws.ToString(sn.OwnerId) != c.Account {
		return nil, snapshotKind.notFound(id)
	}
	return sn, nil
}

// imageUsing returns an image that uses a snapshot, or nil.
func (s *Service) imageUsing(snapshotID string) *image {
	for _, im := range s.st.Images {
		if im.rootSnapshot() == snapshotID {
			return im
		}
	}
	return nil
}

// dropSnapshot removes a snapshot, and its data if no other snapshot shares it.
func (s *Service) dropSnapshot(sn *snapshot) {
	delete(s.st.Snapshots, *sn.SnapshotId)
	if sn.State != types.SnapshotStatePending { // otherwise the running work removes it
		s.releaseImageDir(sn.ImageDir)
	}
}

// DeleteSnapshot removes a snapshot that no image uses.
func (s *Service) DeleteSnapshot(ctx context.Context, in *ec2.DeleteSnapshotInput, optFns ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error) {
	c := s.caller(ctx, optFns)
	if err := required("SnapshotId", in.SnapshotId); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	sn, err := s.ownSnapshot(c, *in.SnapshotId)
	if err != nil {
		return nil, err
	}
	if im := s.imageUsing(*in.SnapshotId); im != nil {
		return nil, wire.Errorf("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", *in.SnapshotId, *im.ImageId)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.dropSnapshot(sn)
	return &ec2.DeleteSnapshotOutput{}, nil
}

// mayRead reports whether an account owns the snapshot or may create volumes
// from it.
func (sn *snapshot) mayRead(account string) bool {
	return aws.ToString(sn.OwnerId) == account || sn.SharedToAll || slices.Contains(sn.Users, account)
}

// DescribeSnapshots lists snapshots that the caller owns or may use.
func (s *Service) DescribeSnapshots(ctx context.Context, in *ec2.DescribeSnapshotsInput, optFns ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error) {
	c := s.caller(ctx, optFns)
	s.mu.Lock()
	defer s.unlock()
	now := s.cfg.Clock.Now()
	known := func(sn *snapshot) bool {
		return sn.Region == c.Region && sn.mayRead(c.Account) && !now.Before(sn.Visible)
	}
	for _, id := range in.SnapshotIds {
		if err := snapshotKind.check(id); err != nil {
			return nil, err
		}
		if sn, ok := s.st.Snapshots[id]; !ok || !known(sn) {
			return nil, snapshotKind.notFound(id)
		}
	}
	var list []*snapshot
	for _, id := range slices.Sorted(maps.Keys(s.st.Snapshots)) {
		sn := s.st.Snapshots[id]
		if known(sn) && (len(in.SnapshotIds) == 0 || slices.Contains(in.SnapshotIds, id)) && sn.matches(in, c.Account) {
			list = append(list, sn)
		}
	}
	list, err := snapshotFilters().apply(list, in.Filters, func(sn *snapshot) []types.Tag { return sn.view(c.Account).Tags })
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.NextToken, in.MaxResults, 5)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeSnapshotsOutput{Snapshots: []types.Snapshot{}, NextToken: next}
	for _, sn := range list {
		out.Snapshots = append(out.Snapshots, sn.view(c.Account))
	}
	return out, nil
}

// matches applies the OwnerIds and RestorableByUserIds parameters.
func (sn *snapshot) matches(in *ec2.DescribeSnapshotsInput, account string) bool {
	owner := aws.ToString(sn.OwnerId)
	owned := len(in.OwnerIds) == 0 || slices.ContainsFunc(in.OwnerIds, func(o string) bool {
		return o == owner || o == "self" && owner == account || sn.OwnerAlias != nil && o == *sn.OwnerAlias
	})
	restorable := len(in.RestorableByUserIds) == 0 || slices.ContainsFunc(in.RestorableByUserIds, func(user string) bool {
		switch user {
		case "all":
			return sn.SharedToAll
		case "self":
			return sn.mayRead(account)
		}
		return slices.Contains(sn.Users, user)
	})
	return owned && restorable
}

func (sn *snapshot) view(account string) types.Snapshot {
	out := sn.Snapshot
	out.Tags = nil
	if aws.ToString(sn.OwnerId) == account {
		out.Tags = slices.Clone(sn.Tags)
	}
	return out
}

func snapshotFilters() filterTable[*snapshot] {
	return filterTable[*snapshot]{
		"snapshot-id": func(sn *snapshot) []string { return one(sn.SnapshotId) },
		"status":      func(sn *snapshot) []string { return []string{string(sn.State)} },
		"owner-id":    func(sn *snapshot) []string { return one(sn.OwnerId) },
		"owner-alias": func(sn *snapshot) []string { return one(sn.OwnerAlias) },
		"volume-id":   func(sn *snapshot) []string { return one(sn.VolumeId) },
		"volume-size": func(sn *snapshot) []string { return []string{strconv.Itoa(int(aws.ToInt32(sn.VolumeSize)))} },
		"encrypted":   func(sn *snapshot) []string { return boolText(aws.ToBool(sn.Encrypted)) },
		"description": func(sn *snapshot) []string { return one(sn.Description) },
		"progress":    func(sn *snapshot) []string { return one(sn.Progress) },
		"start-time":  func(sn *snapshot) []string { return []string{ec2Time(aws.ToTime(sn.StartTime))} },
	}
}

// FindSnapshot finds a completed snapshot that an account may read, and the size
// of its volume in GiB.
func (s *Service) FindSnapshot(c wire.Caller, id string) (gib int32, err error) {
	_, gib, err = s.snapshotData(c, id)
	return gib, err
}

// OpenSnapshot opens the data of a completed snapshot, for an account that may
// read it.
func (s *Service) OpenSnapshot(ctx context.Context, c wire.Caller, id string) (vm.Disk, error) {
	dir, _, err := s.snapshotData(c, id)
	if err != nil {
		return nil, err
	}
	return s.cfg.Driver.OpenDisk(ctx, dir)
}

func (s *Service) snapshotData(c wire.Caller, id string) (dir string, gib int32, err error) {
	if err := snapshotKind.check(id); err != nil {
		return "", 0, err
	}
	s.mu.Lock()
	defer s.unlock()
	sn, ok := s.st.Snapshots[id]
	if !ok || sn.Region != c.Region || !sn.mayRead(c.Account) || s.cfg.Clock.Now().Before(sn.Visible) {
		return "", 0, snapshotKind.notFound(id)
	}
	if sn.State != types.SnapshotStateCompleted {
		return "", 0, wire.Errorf("IncorrectState", "The snapshot %s is %s", id, sn.State)
	}
	return sn.ImageDir, aws.ToInt32(sn.VolumeSize), nil
}

// SnapshotKey returns the ARN of a snapshot's key, or "" if the snapshot is not
// encrypted. It is for permission checks, so it does not depend on who may see
// the snapshot.
func (s *Service) SnapshotKey(id string) string {
	s.mu.Lock()
	defer s.unlock()
	if sn, ok := s.st.Snapshots[id]; ok {
		return aws.ToString(sn.KmsKeyId)
	}
	return ""
}
