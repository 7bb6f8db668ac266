package ami_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/ami"
)

// fakeBlocks is a snapshot of 1 GiB in which every seventh block was written.
type fakeBlocks struct {
	gets   int
	change func(*ebs.GetSnapshotBlockOutput) error
}

const blockSize = 512 << 10

func block(index int32) []byte { return bytes.Repeat([]byte{byte(index), 1}, blockSize/2) }

func (f *fakeBlocks) ListSnapshotBlocks(_ context.Context, in *ebs.ListSnapshotBlocksInput, _ ...func(*ebs.Options)) (*ebs.ListSnapshotBlocksOutput, error) {
	out := &ebs.ListSnapshotBlocksOutput{BlockSize: aws.Int32(blockSize), VolumeSize: aws.Int64(1)}
	first := int32(0)
	if in.NextToken != nil {
		first = 1001
	} else {
		out.NextToken = aws.String("more")
	}
	for i := first; i < min(2048, first+1001); i++ {
		if i%7 == 0 {
			out.Blocks = append(out.Blocks, types.Block{BlockIndex: aws.Int32(i), BlockToken: aws.String("t")})
		}
	}
	return out, nil
}

func (f *fakeBlocks) GetSnapshotBlock(_ context.Context, in *ebs.GetSnapshotBlockInput, _ ...func(*ebs.Options)) (*ebs.GetSnapshotBlockOutput, error) {
	f.gets++
	data := block(*in.BlockIndex)
	sum := sha256.Sum256(data)
	out := &ebs.GetSnapshotBlockOutput{
		BlockData: io.NopCloser(bytes.NewReader(data)), DataLength: aws.Int32(blockSize),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	}
	if f.change != nil {
		return out, f.change(out)
	}
	return out, nil
}

func TestASnapshotIsReadLikeItsVolume(t *testing.T) {
	api := &fakeBlocks{}
	b, err := ami.OpenBlocks(t.Context(), api, "snap-1")
	require.NoError(t, err)
	assert.EqualValues(t, 1<<30, b.Size())
	got := make([]byte, 2*blockSize)
	n, err := b.ReadAt(got, 7*blockSize-100)
	require.NoError(t, err)
	assert.Equal(t, len(got), n)
	want := append(make([]byte, 100), append(block(7), make([]byte, blockSize-100)...)...)
	assert.True(t, bytes.Equal(want, got))
	_, err = b.ReadAt(got[:10], 1995*blockSize)
	require.NoError(t, err)
	assert.Equal(t, block(1995 % 256)[:2][1], got[1])
	for range 3 {
		_, err = b.ReadAt(got[:10], 7*blockSize)
		require.NoError(t, err)
	}
	assert.Equal(t, 2, api.gets, "what was read is kept")
	for i := range int64(290) {
		_, err = b.ReadAt(got[:10], i*7*blockSize)
		require.NoError(t, err)
	}
	before := b.Fetched
	_, err = b.ReadAt(got[:10], 7*blockSize)
	require.NoError(t, err)
	assert.Equal(t, before+1, b.Fetched, "not everything is kept")
	n, err = b.ReadAt(got, 1<<30-blockSize)
	assert.Equal(t, blockSize, n)
	require.ErrorIs(t, err, io.EOF)
}

func TestABlockThatIsNotAsAnnouncedIsAnError(t *testing.T) {
	for sentence, tc := range map[string]struct {
		change func(*ebs.GetSnapshotBlockOutput) error
		want   string
	}{
		"another content": {func(o *ebs.GetSnapshotBlockOutput) error {
			o.BlockData = io.NopCloser(bytes.NewReader(block(14)))
			return nil
		}, "has the checksum"},
		"another algorithm": {func(o *ebs.GetSnapshotBlockOutput) error { o.ChecksumAlgorithm = "CRC32"; return nil }, "announced CRC32"},
		"cut off": {func(o *ebs.GetSnapshotBlockOutput) error {
			o.BlockData = io.NopCloser(bytes.NewReader(make([]byte, 10)))
			return nil
		}, "unexpected EOF"},
		"refused": {func(*ebs.GetSnapshotBlockOutput) error { return errors.New("denied") }, "read block 7 of snap-1: denied"},
	} {
		t.Run(sentence, func(t *testing.T) {
			b, err := ami.OpenBlocks(t.Context(), &fakeBlocks{change: tc.change}, "snap-1")
			require.NoError(t, err)
			_, err = b.ReadAt(make([]byte, 10), 7*blockSize)
			require.ErrorContains(t, err, tc.want)
		})
	}
}
