package store_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/s3"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/store"
)

const bucket = "factory"

// open is the factory's bucket in an embedded S3, and the S3 itself.
func open(t *testing.T) (store.Store, *s3.Service) {
	t.Helper()
	service, err := s3.New(s3.Config{Clock: clock.NewVirtual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)), Default: wire.Caller{Account: "111122223333", Region: "eu-west-1"}, Dir: t.TempDir()})
	require.NoError(t, err)
	_, err = service.CreateBucket(t.Context(), &sdks3.CreateBucketInput{
		Bucket: aws.String(bucket), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-west-1"},
	})
	require.NoError(t, err)
	return store.Store{Bucket: bucket, API: service}, service
}

func requireCode(t *testing.T, want failure.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, failure.CodeOf(err), "%v", err)
}

func TestAnObjectIsReadBackOnlyAsItWasWritten(t *testing.T) {
	s, _ := open(t)
	o, err := s.PutJSON(t.Context(), "plans/p.json", map[string]int{"a": 1})
	require.NoError(t, err)
	body, err := s.Get(t.Context(), o)
	require.NoError(t, err)
	assert.JSONEq(t, `{"a":1}`, string(body))
	assert.Equal(t, store.Digest(body), o.SHA256)

	for what, altered := range map[string]store.Object{
		"an object of another bucket":   {Bucket: "other", Key: o.Key, SHA256: o.SHA256},
		"an object that does not exist": {Bucket: bucket, Key: "plans/q.json", SHA256: o.SHA256},
		"an object of another digest":   {Bucket: bucket, Key: o.Key, SHA256: store.Digest(nil)},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := s.Get(t.Context(), altered)
			requireCode(t, failure.InvalidInput, err)
		})
	}
}

func TestAnObjectIsCreatedOnce(t *testing.T) {
	s, _ := open(t)
	created, err := s.Create(t.Context(), "k", "text/plain", []byte("first"))
	require.NoError(t, err)
	assert.True(t, created)
	created, err = s.Create(t.Context(), "k", "text/plain", []byte("second"))
	require.NoError(t, err)
	assert.False(t, created)
	body, err := s.Read(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, "first", string(body))
}

func TestWhatIsReadIsBounded(t *testing.T) {
	s, _ := open(t)
	_, err := s.Put(t.Context(), "k", "text/plain", []byte("four"))
	require.NoError(t, err)
	body, err := s.ReadAtMost(t.Context(), "k", 4)
	require.NoError(t, err)
	assert.Equal(t, "four", string(body))
	_, err = s.ReadAtMost(t.Context(), "k", 3)
	requireCode(t, failure.InvalidInput, err)
	_, err = s.Read(t.Context(), "none")
	require.ErrorIs(t, err, store.ErrNone)
}

// hostile is an S3 whose objects are of some size, and must not be read.
type hostile struct {
	store.ObjectAPI
	t    *testing.T
	size int64
}

func (h hostile) GetObject(context.Context, *sdks3.GetObjectInput, ...func(*sdks3.Options)) (*sdks3.GetObjectOutput, error) {
	return &sdks3.GetObjectOutput{ContentLength: &h.size, Body: io.NopCloser(h)}, nil
}

func (h hostile) Read([]byte) (int, error) {
	assert.Fail(h.t, "the object is read")
	return 0, io.ErrUnexpectedEOF
}

func TestNothingIsReadOfAnObjectThatIsTooLarge(t *testing.T) {
	const most = 64 << 20
	for what, c := range map[string]struct {
		size int64
		read func(store.Store) error
	}{
		"an object of unknown content": {most + 1, func(s store.Store) error {
			_, err := s.Read(t.Context(), "k")
			return err
		}},
		"an object with a limit of its own": {4, func(s store.Store) error {
			_, err := s.ReadAtMost(t.Context(), "k", 3)
			return err
		}},
		"an object of a digest": {5 << 30, func(s store.Store) error {
			_, err := s.Get(t.Context(), store.Object{Bucket: bucket, Key: "k", SHA256: store.Digest(nil)})
			return err
		}},
		"an object that is decoded": {most + 1, func(s store.Store) error {
			_, err := store.Load(t.Context(), s, store.Object{Bucket: bucket, Key: "k", SHA256: store.Digest(nil)}, decode[document])
			return err
		}},
		"a document": {most + 1, func(s store.Store) error {
			_, err := s.ReadJSON(t.Context(), "k", new(document))
			return err
		}},
		"a document with its tag": {most + 1, func(s store.Store) error {
			_, _, err := s.ReadTagged(t.Context(), "k")
			return err
		}},
	} {
		t.Run(what, func(t *testing.T) {
			err := c.read(store.Store{Bucket: bucket, API: hostile{t: t, size: c.size}})
			requireCode(t, failure.InvalidInput, err)
			assert.Contains(t, err.Error(), fmt.Sprintf("s3://factory/k has %d bytes", c.size))
		})
	}
}

func TestADocumentThatIsNoJSONIsAnError(t *testing.T) {
	s, _ := open(t)
	_, err := s.Put(t.Context(), "k", "text/plain", []byte("no JSON"))
	require.NoError(t, err)
	var n int
	_, err = s.ReadJSON(t.Context(), "k", &n)
	requireCode(t, failure.Internal, err)
	etag, err := s.ReadJSON(t.Context(), "none", &n)
	require.NoError(t, err)
	assert.Empty(t, etag)
}

func TestUpdateLosesNoChangeOfAnybodyElse(t *testing.T) {
	put := func(value string) func(context.Context, *s3.Service) error {
		return func(ctx context.Context, service *s3.Service) error {
			return service.Put(ctx, bucket, "k", "application/json", strings.NewReader(value))
		}
	}
	for what, tc := range map[string]struct {
		before    string // empty: no object
		meanwhile func(context.Context, *s3.Service) error
		want      int
		tries     int
	}{
		"nobody else writes":             {"", nil, 1, 1},
		"somebody else creates it first": {"", put("41"), 42, 2},
		"somebody else changes it first": {"7", put("50"), 51, 2},
		"one that is deleted in between is begun again": {"7", func(ctx context.Context, service *s3.Service) error {
			_, err := service.DeleteObject(ctx, &sdks3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
			return err
		}, 1, 2},
	} {
		t.Run(what, func(t *testing.T) {
			s, service := open(t)
			if tc.before != "" {
				require.NoError(t, put(tc.before)(t.Context(), service))
			}
			tries := 0
			got, err := store.Update(t.Context(), s, "k", func(n *int) (bool, error) {
				if tries++; tries == 1 && tc.meanwhile != nil {
					require.NoError(t, tc.meanwhile(t.Context(), service))
				}
				*n++
				return true, nil
			})
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.tries, tries)
			var there int
			_, err = s.ReadJSON(t.Context(), "k", &there)
			require.NoError(t, err)
			assert.Equal(t, tc.want, there)
		})
	}
}

func TestUpdateEndsThoughOthersWriteAllTheTime(t *testing.T) {
	s, service := open(t)
	n := 0
	_, err := store.Update(t.Context(), s, "k", func(*int) (bool, error) {
		n++
		return true, service.Put(t.Context(), bucket, "k", "application/json", strings.NewReader(string(rune('0'+n))))
	})
	requireCode(t, failure.ServiceUnavailable, err)
}
