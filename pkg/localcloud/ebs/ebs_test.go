package ebs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ebs"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const id = "snap-0123456789abcdef0"

// memory is a disk of 3 GiB, of which two blocks were written.
type memory struct{ closed *int }

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for _, block := range []int64{1, 4000} {
		if at := block*ebs.BlockSize - off; at >= 0 && at < int64(len(p)) {
			p[at] = byte(block)
		}
	}
	if end := m.Size() - off; end < int64(len(p)) {
		return int(end), io.EOF
	}
	return len(p), nil
}
func (m memory) Close() error { *m.closed++; return nil }
func (memory) Size() int64    { return 3<<30 - 100 }
func (memory) Holds(offset, length int64) (bool, error) {
	return offset <= ebs.BlockSize && ebs.BlockSize < offset+length || offset <= 4000*ebs.BlockSize && 4000*ebs.BlockSize < offset+length, nil
}

type snapshots struct{ opened, closed int }

func (s *snapshots) FindSnapshot(c wire.Caller, asked string) (int32, error) {
	switch {
	case !strings.HasPrefix(asked, "snap-"):
		return 0, wire.Errorf("InvalidSnapshotID.Malformed", "malformed")
	case asked == "snap-pending":
		return 0, wire.Errorf("IncorrectState", "The snapshot is pending")
	case c.Account != "111122223333" || asked == "snap-gone":
		return 0, wire.Errorf("InvalidSnapshot.NotFound", "The snapshot does not exist")
	}
	return 3, nil
}

func (*snapshots) ReadingSnapshot(authz.Call, string, string, bool) []authz.Request { return nil }

func (s *snapshots) OpenSnapshot(_ context.Context, _ wire.Caller, asked string) (vm.Disk, error) {
	if asked == "snap-broken" {
		return nil, errors.New("the disk is broken")
	}
	s.opened++
	return memory{&s.closed}, nil
}

func client(t *testing.T, s *ebs.Service, account string) *sdk.Client {
	t.Helper()
	h := s.Wire().Handler
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return sdk.NewFromConfig(aws.Config{
		Region: "eu-west-1", BaseEndpoint: aws.String(server.URL),
		Credentials: credentials.NewStaticCredentialsProvider(account, "secret", ""),
	}, func(o *sdk.Options) { o.RetryMaxAttempts = 1 })
}

func newService(account string) (*ebs.Service, *snapshots, *clock.Virtual) {
	c := clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	all := &snapshots{}
	return ebs.New(c, wire.Caller{Account: account, Region: "eu-west-1"}, all), all, c
}

func TestWrittenBlocksAreListedAndRead(t *testing.T) {
	s, all, _ := newService("111122223333")
	api := client(t, s, "111122223333")
	list, err := api.ListSnapshotBlocks(t.Context(), &sdk.ListSnapshotBlocksInput{SnapshotId: aws.String(id)})
	require.NoError(t, err)
	assert.EqualValues(t, 524288, *list.BlockSize)
	assert.EqualValues(t, 3, *list.VolumeSize)
	assert.Nil(t, list.NextToken)
	require.Len(t, list.Blocks, 2)
	assert.EqualValues(t, 4000, *list.Blocks[1].BlockIndex)
	got, err := api.GetSnapshotBlock(t.Context(), &sdk.GetSnapshotBlockInput{SnapshotId: aws.String(id), BlockIndex: list.Blocks[1].BlockIndex, BlockToken: list.Blocks[1].BlockToken})
	require.NoError(t, err)
	data, err := io.ReadAll(got.BlockData)
	require.NoError(t, err)
	assert.Len(t, data, 524288)
	assert.Equal(t, byte(4000&0xff), data[0])
	assert.Empty(t, bytes.Trim(data[1:], "\x00"))
	assert.Equal(t, types.ChecksumAlgorithmChecksumAlgorithmSha256, got.ChecksumAlgorithm)
	assert.EqualValues(t, 524288, *got.DataLength)
	assert.Len(t, *got.Checksum, 44)
	list, err = api.ListSnapshotBlocks(t.Context(), &sdk.ListSnapshotBlocksInput{SnapshotId: aws.String(id), StartingBlockIndex: aws.Int32(2)})
	require.NoError(t, err)
	assert.Len(t, list.Blocks, 1)
	assert.Equal(t, 1, all.opened, "the disk is opened once")
	require.NoError(t, s.Close())
	assert.Equal(t, 1, all.closed)
}

func TestOnlyAFewSnapshotsStayOpen(t *testing.T) {
	s, all, _ := newService("111122223333")
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "a"} {
		_, err := s.ListSnapshotBlocks(t.Context(), &sdk.ListSnapshotBlocksInput{SnapshotId: aws.String("snap-" + name)})
		require.NoError(t, err)
	}
	assert.Equal(t, 7, all.opened)
	assert.Equal(t, 3, all.closed)
	require.NoError(t, s.Close())
	assert.Equal(t, 7, all.closed)
}

func TestARequestThatCannotBeAnsweredIsRefusedAsAWSDoes(t *testing.T) {
	for sentence, tc := range map[string]struct {
		account  string
		snapshot string
		block    int32
		token    string // empty: the right one
		later    time.Duration
		want     string
	}{
		"another account's snapshot": {account: "444455556666", snapshot: id, want: "ResourceNotFoundException"},
		"no snapshot":                {snapshot: "snap-gone", want: "ResourceNotFoundException"},
		"no id":                      {snapshot: "ami-1", want: "ValidationException"},
		"a snapshot that is pending": {snapshot: "snap-pending", want: "ValidationException"},
		"a disk that cannot be read": {snapshot: "snap-broken", want: "InternalServerException"},
		"another block's token":      {snapshot: id, block: 2, want: "ValidationException"},
		"a forged token":             {snapshot: id, block: 1, token: "MS8xLzE", want: "ValidationException"},
		"a token that has expired":   {snapshot: id, block: 1, later: 8 * 24 * time.Hour, want: "ValidationException"},
		"a block beyond the volume":  {snapshot: id, block: 3 * 2048, want: "ValidationException"},
	} {
		t.Run(sentence, func(t *testing.T) {
			account := tc.account
			if account == "" {
				account = "111122223333"
			}
			s, _, c := newService(account)
			api := client(t, s, account)
			list, err := api.ListSnapshotBlocks(t.Context(), &sdk.ListSnapshotBlocksInput{SnapshotId: aws.String(tc.snapshot)})
			if err == nil {
				token := list.Blocks[0].BlockToken
				if tc.token != "" {
					token = aws.String(tc.token)
				}
				require.NoError(t, c.Sleep(t.Context(), tc.later))
				_, err = api.GetSnapshotBlock(t.Context(), &sdk.GetSnapshotBlockInput{SnapshotId: aws.String(tc.snapshot), BlockIndex: aws.Int32(tc.block), BlockToken: token})
			}
			require.ErrorContains(t, err, tc.want)
		})
	}
}
