package ami

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// cachedBlocks is how many blocks of 512 KiB are kept in memory.
const cachedBlocks = 96

// BlocksAPI lists the EBS direct APIs that read a snapshot
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-accessing-snapshot.html).
type BlocksAPI interface {
	ebs.ListSnapshotBlocksAPIClient
	GetSnapshotBlock(context.Context, *ebs.GetSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.GetSnapshotBlockOutput, error)
}

// Blocks gives access to the volume in a snapshot, as an io.ReaderAt that
// fetches blocks when they are read. Blocks that the snapshot does not have are
// zeros. It is not safe for concurrent use.
type Blocks struct {
	ctx      context.Context
	api      BlocksAPI
	snapshot string
	tokens   map[int64]string // of the blocks that were written
	block    int64            // bytes
	size     int64

	cache map[int64]*list.Element
	order *list.List // of *cached, the newest first

	// Fetched is the number of blocks that were read from EBS.
	Fetched int
}

type cached struct {
	index int64
	data  []byte
}

// OpenBlocks lists the blocks of a snapshot. Later reads use ctx too.
func OpenBlocks(ctx context.Context, api BlocksAPI, snapshotID string) (*Blocks, error) {
	b := &Blocks{ctx: ctx, api: api, snapshot: snapshotID, tokens: map[int64]string{}, cache: map[int64]*list.Element{}, order: list.New()}
	pages := ebs.NewListSnapshotBlocksPaginator(api, &ebs.ListSnapshotBlocksInput{SnapshotId: &snapshotID})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the blocks of %s: %w", snapshotID, err)
		}
		b.block, b.size = int64(aws.ToInt32(page.BlockSize)), aws.ToInt64(page.VolumeSize)<<30
		if b.block <= 0 || b.block > 16<<20 || b.size <= 0 {
			return nil, fmt.Errorf("the snapshot %s has blocks of %d bytes, and a volume of %d", snapshotID, b.block, b.size)
		}
		for _, block := range page.Blocks {
			b.tokens[int64(aws.ToInt32(block.BlockIndex))] = aws.ToString(block.BlockToken)
		}
	}
	return b, nil
}

// Size is the size of the volume, in bytes.
func (b *Blocks) Size() int64 { return b.size }

// ReadAt implements io.ReaderAt.
func (b *Blocks) ReadAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) {
		at := offset + int64(n)
		if at < 0 || at >= b.size {
			return n, io.EOF
		}
		data, err := b.read(at / b.block)
		if err != nil {
			return n, err
		}
		part := p[n:min(int64(len(p)), int64(n)+min(b.block-at%b.block, b.size-at))]
		if data == nil {
			clear(part)
		} else {
			copy(part, data[at%b.block:])
		}
		n += len(part)
	}
	return n, nil
}

// read returns a block, or nil if it is all zeros.
func (b *Blocks) read(index int64) ([]byte, error) {
	token, written := b.tokens[index]
	if !written {
		return nil, nil
	}
	if e, ok := b.cache[index]; ok {
		if kept, ok := e.Value.(*cached); ok {
			b.order.MoveToFront(e)
			return kept.data, nil
		}
	}
	out, err := b.api.GetSnapshotBlock(b.ctx, &ebs.GetSnapshotBlockInput{SnapshotId: &b.snapshot, BlockIndex: aws.Int32(int32(index)), BlockToken: &token})
	if err != nil {
		return nil, fmt.Errorf("read block %d of %s: %w", index, b.snapshot, err)
	}
	defer func() { _ = out.BlockData.Close() }()
	data := make([]byte, b.block)
	if _, err := io.ReadFull(out.BlockData, data); err != nil {
		return nil, fmt.Errorf("read block %d of %s: %w", index, b.snapshot, err)
	}
	sum := sha256.Sum256(data)
	if got := base64.StdEncoding.EncodeToString(sum[:]); out.ChecksumAlgorithm != types.ChecksumAlgorithmChecksumAlgorithmSha256 || got != aws.ToString(out.Checksum) {
		return nil, fmt.Errorf("block %d of %s has the checksum %s, but EBS announced %s %s", index, b.snapshot, got, out.ChecksumAlgorithm, aws.ToString(out.Checksum))
	}
	b.Fetched++
	b.cache[index] = b.order.PushFront(&cached{index, data})
	if b.order.Len() > cachedBlocks {
		if oldest, ok := b.order.Remove(b.order.Back()).(*cached); ok {
			delete(b.cache, oldest.index)
		}
	}
	return data, nil
}

// RootSnapshot returns the id of the snapshot of an image's root volume.
func RootSnapshot(ctx context.Context, api ec2.DescribeImagesAPIClient, imageID string) (string, error) {
	img, err := Describe(ctx, api, imageID)
	if err != nil {
		return "", err
	}
	root := aws.ToString(img.RootDeviceName)
	for _, d := range img.BlockDeviceMappings {
		if root != "" && aws.ToString(d.DeviceName) == root && d.Ebs != nil && aws.ToString(d.Ebs.SnapshotId) != "" {
			return *d.Ebs.SnapshotId, nil
		}
	}
	return "", fmt.Errorf("image %s has no snapshot for its root device %q", imageID, root)
}
