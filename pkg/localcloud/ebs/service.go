// Package ebs is the part of EBS of the embedded AWS that reads snapshots: the
// EBS direct APIs
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html).
package ebs

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	// BlockSize is the size of a block, in bytes.
	BlockSize = 512 << 10

	blocksPerGiB = (1 << 30) / BlockSize
	shortestPage = 100
	longestPage  = 10000
	keptOpen     = 4
	tokensLast   = 7 * 24 * time.Hour
)

// Snapshots gives access to EC2's snapshots. Its errors have EC2's codes.
type Snapshots interface {
	// FindSnapshot finds a snapshot that a caller may read, and the size of its
	// volume in GiB.
	FindSnapshot(c wire.Caller, id string) (gib int32, err error)
	OpenSnapshot(ctx context.Context, c wire.Caller, id string) (vm.Disk, error)
	// ReadingSnapshot returns the permissions that an action on a snapshot needs.
	ReadingSnapshot(c authz.Call, action, id string, blocks bool) []authz.Request
}

// Service implements the EBS direct APIs for reading. It is safe for concurrent
// use.
type Service struct {
	clock     clock.Clock
	fallback  wire.Caller
	snapshots Snapshots
	secret    [32]byte // key of the block tokens

	mu    sync.Mutex
	disks []*openDisk // most recently used last
}

// openDisk is a snapshot that is kept open, because opening it is expensive.
type openDisk struct {
	id    string
	once  sync.Once
	disk  vm.Disk
	err   error
	users int
	gone  bool // its last user closes it
}

// New returns a Service whose default caller is fallback.
func New(c clock.Clock, fallback wire.Caller, snapshots Snapshots) *Service {
	s := &Service{clock: c, fallback: fallback, snapshots: snapshots}
	_, _ = rand.Read(s.secret[:]) // never fails
	return s
}

// Close closes all open snapshots.
func (s *Service) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, d := range s.disks {
		errs = append(errs, s.drop(d))
	}
	s.disks = nil
	return errors.Join(errs...)
}

// drop closes a disk that is no longer kept, now or when its last user is done.
// The caller holds s.mu.
func (s *Service) drop(d *openDisk) error {
	d.gone = true
	if d.users > 0 || d.disk == nil {
		return nil
	}
	return d.disk.Close()
}

// use opens a snapshot, or reuses an open one, until release is called. gib is
// the size of its volume.
func (s *Service) use(ctx context.Context, c wire.Caller, id string) (d *openDisk, gib int32, release func(), err error) {
	if gib, err = s.snapshots.FindSnapshot(c, id); err != nil {
		return nil, 0, nil, asEBS(err, id)
	}
	s.mu.Lock()
	if i := slices.IndexFunc(s.disks, func(d *openDisk) bool { return d.id == id }); i >= 0 {
		d = s.disks[i]
		s.disks = append(slices.Delete(s.disks, i, i+1), d)
	} else {
		d = &openDisk{id: id}
		if s.disks = append(s.disks, d); len(s.disks) > keptOpen {
			_ = s.drop(s.disks[0]) // it was read only
			s.disks = slices.Delete(s.disks, 0, 1)
		}
	}
	d.users++
	s.mu.Unlock()
	release = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.users--; d.gone {
			_ = s.drop(d) // it was read only
		}
	}
	d.once.Do(func() { d.disk, d.err = s.snapshots.OpenSnapshot(ctx, c, id) })
	if d.err != nil {
		s.mu.Lock()
		s.disks = slices.DeleteFunc(s.disks, func(x *openDisk) bool { return x == d })
		s.mu.Unlock()
		release()
		return nil, 0, nil, asEBS(d.err, id)
	}
	return d, gib, release, nil
}

// asEBS converts an error of EC2 to one of EBS.
func asEBS(err error, id string) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return &types.InternalServerException{Message: aws.String(fmt.Sprintf("The snapshot %s cannot be read: %v", id, err))}
	}
	switch code := api.ErrorCode(); {
	case strings.HasSuffix(code, ".NotFound"):
		return &types.ResourceNotFoundException{Message: aws.String(fmt.Sprintf("The snapshot '%s' does not exist.", id)), Reason: types.ResourceNotFoundExceptionReasonSnapshotNotFound}
	case strings.HasSuffix(code, ".Malformed"):
		return &types.ValidationException{Message: aws.String("The snapshot id is invalid."), Reason: types.ValidationExceptionReasonInvalidSnapshotId}
	default:
		return &types.ValidationException{Message: aws.String(api.ErrorMessage()), Reason: types.ValidationExceptionReasonInvalidParameterValue}
	}
}

func (s *Service) caller(ctx context.Context, optFns []func(*ebs.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.fallback, optFns, func(o *ebs.Options) *string { return &o.Region })
}

// token returns the token of a block. Only ListSnapshotBlocks can make one.
func (s *Service) token(c wire.Caller, id string, index int32, until int64) string {
	text := fmt.Sprintf("%d/%d", index, until)
	sum := hmac.New(sha256.New, s.secret[:])
	fmt.Fprintf(sum, "%s/%s/%s/%s", c.Account, c.Region, id, text)
	return base64.RawURLEncoding.EncodeToString(sum.Sum([]byte(text + "/")))
}

func (s *Service) checkToken(c wire.Caller, id string, index int32, token string) error {
	bad := &types.ValidationException{Message: aws.String("The block token is invalid."), Reason: types.ValidationExceptionReasonInvalidBlockToken}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return bad
	}
	_, rest, ok := strings.Cut(string(raw), "/")
	expiry, _, ok2 := strings.Cut(rest, "/")
	until, err := strconv.ParseInt(expiry, 10, 64)
	if !ok || !ok2 || err != nil || !hmac.Equal([]byte(token), []byte(s.token(c, id, index, until))) || s.clock.Now().Unix() > until {
		return bad
	}
	return nil
}

// ListSnapshotBlocks lists the written blocks of a snapshot; all others are
// zeros.
func (s *Service) ListSnapshotBlocks(ctx context.Context, in *ebs.ListSnapshotBlocksInput, optFns ...func(*ebs.Options)) (*ebs.ListSnapshotBlocksOutput, error) {
	c := s.caller(ctx, optFns)
	limit := int32(longestPage)
	if in.MaxResults != nil {
		limit = min(max(*in.MaxResults, shortestPage), longestPage)
	}
	next := aws.ToInt32(in.StartingBlockIndex)
	if in.NextToken != nil {
		n, err := strconv.ParseInt(*in.NextToken, 36, 32)
		if err != nil {
			return nil, &types.ValidationException{Message: aws.String("The page token is invalid."), Reason: types.ValidationExceptionReasonInvalidPageToken}
		}
		next = int32(n)
	}
	d, gib, release, err := s.use(ctx, c, aws.ToString(in.SnapshotId))
	if err != nil {
		return nil, err
	}
	defer release()
	expiry := s.clock.Now().Add(tokensLast).Truncate(time.Second)
	out := &ebs.ListSnapshotBlocksOutput{
		BlockSize: aws.Int32(BlockSize), Blocks: []types.Block{}, ExpiryTime: aws.Time(expiry), VolumeSize: aws.Int64(int64(gib)),
	}
	count := int32((d.disk.Size() + BlockSize - 1) / BlockSize)
	for ; next < min(count, gib*blocksPerGiB); next++ {
		if int32(len(out.Blocks)) == limit {
			out.NextToken = aws.String(strconv.FormatInt(int64(next), 36))
			break
		}
		offset := int64(next) * BlockSize
		held, err := d.disk.Holds(offset, min(BlockSize, d.disk.Size()-offset))
		if err != nil {
			return nil, &types.InternalServerException{Message: aws.String(err.Error())}
		}
		if held {
			out.Blocks = append(out.Blocks, types.Block{BlockIndex: aws.Int32(next), BlockToken: aws.String(s.token(c, d.id, next, expiry.Unix()))})
		}
	}
	return out, nil
}

// GetSnapshotBlock reads a block.
func (s *Service) GetSnapshotBlock(ctx context.Context, in *ebs.GetSnapshotBlockInput, optFns ...func(*ebs.Options)) (*ebs.GetSnapshotBlockOutput, error) {
	c := s.caller(ctx, optFns)
	index := aws.ToInt32(in.BlockIndex)
	d, gib, release, err := s.use(ctx, c, aws.ToString(in.SnapshotId))
	if err != nil {
		return nil, err
	}
	defer release()
	if index < 0 || index >= gib*blocksPerGiB {
		return nil, &types.ValidationException{Message: aws.String("The block index is invalid."), Reason: types.ValidationExceptionReasonInvalidBlock}
	}
	if err := s.checkToken(c, d.id, index, aws.ToString(in.BlockToken)); err != nil {
		return nil, err
	}
	data := make([]byte, BlockSize)
	if _, err := d.disk.ReadAt(data, int64(index)*BlockSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, &types.InternalServerException{Message: aws.String(err.Error())}
	}
	sum := sha256.Sum256(data)
	return &ebs.GetSnapshotBlockOutput{
		BlockData: io.NopCloser(bytes.NewReader(data)), DataLength: aws.Int32(BlockSize),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	}, nil
}
