package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// counting counts what is read from S3.
type counting struct {
	store.ObjectAPI
	mu   sync.Mutex
	read map[string]int // by key
}

func (c *counting) GetObject(ctx context.Context, in *s3.GetObjectInput, opts ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	c.mu.Lock()
	c.read[*in.Key]++
	c.mu.Unlock()
	return c.ObjectAPI.GetObject(ctx, in, opts...)
}

type document struct{ N int }

func decode[T any](raw []byte) (*T, error) {
	var v T
	return &v, json.Unmarshal(raw, &v)
}

func openCached(t *testing.T) (store.Store, *counting) {
	t.Helper()
	s, _ := open(t)
	c := &counting{ObjectAPI: s.API, read: map[string]int{}}
	s.API, s.Cache = c, &store.Cache{}
	return s, c
}

func TestAnObjectIsDecodedOnceAndNeverForAnother(t *testing.T) {
	s, c := openCached(t)
	first, err := s.PutJSON(t.Context(), "k", document{1})
	require.NoError(t, err)
	for range 3 {
		got, err := store.Load(t.Context(), s, first, decode[document])
		require.NoError(t, err)
		assert.Equal(t, document{1}, *got)
	}
	assert.Equal(t, 1, c.read["k"])

	t.Run("other content under the key has another digest", func(t *testing.T) {
		second, err := s.PutJSON(t.Context(), "k", document{2})
		require.NoError(t, err)
		got, err := store.Load(t.Context(), s, second, decode[document])
		require.NoError(t, err)
		assert.Equal(t, document{2}, *got)
		got, err = store.Load(t.Context(), s, first, decode[document])
		require.NoError(t, err)
		assert.Equal(t, document{1}, *got, "what the digest says, though the key has something else now")
	})
	t.Run("a digest that nothing has is read and refused", func(t *testing.T) {
		_, err := store.Load(t.Context(), s, store.Object{Bucket: bucket, Key: "k", SHA256: store.Digest(nil)}, decode[document])
		requireCode(t, failure.InvalidInput, err)
	})
	t.Run("an object of another bucket is refused", func(t *testing.T) {
		_, err := store.Load(t.Context(), s, store.Object{Bucket: "other", Key: "k", SHA256: first.SHA256}, decode[document])
		requireCode(t, failure.InvalidInput, err)
	})
	t.Run("another type is decoded for itself", func(t *testing.T) {
		o, err := s.PutJSON(t.Context(), "typed", document{3})
		require.NoError(t, err)
		_, err = store.Load(t.Context(), s, o, decode[document])
		require.NoError(t, err)
		got, err := store.Load(t.Context(), s, o, decode[map[string]int])
		require.NoError(t, err)
		assert.Equal(t, map[string]int{"N": 3}, *got)
	})
	t.Run("what does not decode is not kept", func(t *testing.T) {
		o, err := s.Put(t.Context(), "broken", "application/json", []byte("no JSON"))
		require.NoError(t, err)
		for range 2 {
			_, err = store.Load(t.Context(), s, o, decode[document])
			require.Error(t, err)
		}
		assert.Equal(t, 2, c.read["broken"])
	})
	t.Run("without a cache it is read each time", func(t *testing.T) {
		s.Cache = nil
		before := c.read["typed"]
		o := store.Object{Bucket: bucket, Key: "typed", SHA256: store.Digest([]byte("{\n  \"N\": 3\n}\n"))}
		for range 2 {
			_, err := store.Load(t.Context(), s, o, decode[document])
			require.NoError(t, err)
		}
		assert.Equal(t, before+2, c.read["typed"])
	})
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Run("by the number of objects: the one unused longest goes", func(t *testing.T) {
		s, c := openCached(t)
		var objects []store.Object
		for i := range 8 {
			o, err := s.PutJSON(t.Context(), fmt.Sprint("k", i), document{i})
			require.NoError(t, err)
			objects = append(objects, o)
			for _, used := range []store.Object{o, objects[0]} {
				_, err = store.Load(t.Context(), s, used, decode[document])
				require.NoError(t, err)
			}
		}
		assert.Equal(t, 1, c.read["k0"], "used all the time")
		_, err := store.Load(t.Context(), s, objects[1], decode[document])
		require.NoError(t, err)
		assert.Equal(t, 2, c.read["k1"])
	})
	t.Run("by their size", func(t *testing.T) {
		s, c := openCached(t)
		o, err := s.Put(t.Context(), "large", "application/json", []byte(`{"N": 1}`+strings.Repeat(" ", 4<<20)))
		require.NoError(t, err)
		for range 2 {
			_, err = store.Load(t.Context(), s, o, decode[document])
			require.NoError(t, err)
		}
		assert.Equal(t, 2, c.read["large"])
	})
}

func TestTheCacheIsForSeveralCallsAtATime(t *testing.T) {
	s, _ := openCached(t)
	var wait sync.WaitGroup
	for i := range 8 {
		o, err := s.PutJSON(t.Context(), fmt.Sprint("k", i), document{i})
		require.NoError(t, err)
		for range 4 {
			wait.Go(func() {
				got, err := store.Load(t.Context(), s, o, decode[document])
				if assert.NoError(t, err) {
					assert.Equal(t, i, got.N)
				}
			})
		}
	}
	wait.Wait()
}
