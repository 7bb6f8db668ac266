package s3

import (
	"fmt"
	"io"
	"sync"

	"github.com/johannesboyne/gofakes3"
)

// change is what a request did to an object.
type change struct {
	bucket, key string
	version     string // empty for the null version
	deleted     bool   // otherwise the object is new
	marker      bool   // a delete marker was created, or was deleted
	size        int64
	etag        string // in hexadecimal; empty for a permanent deletion
	sequencer   string
}

// emptyETag is the ETag of empty content. S3 uses it for delete markers in its events.
const emptyETag = "d41d8cd98f00b204e9800998ecf8427e"

// sequencer returns a number that increases with every change of an object, in the form
// of S3: hexadecimal digits that begin with the time. s.mu is held.
func (s *store) sequencer() string {
	now := s.clock.Now()
	s.sequence = max(s.sequence+1, uint64(now.Unix())<<32|uint64(now.Nanosecond())) // #nosec G115 -- times after 1970
	return fmt.Sprintf("%018X", s.sequence)
}

// created and deleted return the change of an object. s.mu is held.
func (s *store) created(b *bucket, key string, o object) change {
	return change{bucket: b.Name, key: key, version: o.VersionID, size: o.Size, etag: o.MD5, sequencer: s.sequencer()}
}

func (s *store) deleted(b *bucket, key string, made object, marker bool) change {
	c := change{bucket: b.Name, key: key, version: made.VersionID, deleted: true, marker: marker, sequencer: s.sequencer()}
	if marker {
		c.etag = emptyETag
	}
	return c
}

// view is the store for one request: it collects the changes that the request makes.
// Each request that writes has its own view, because gofakes3 passes no context to a
// backend.
type view struct {
	*store

	mu      sync.Mutex
	changes []change
}

var (
	_ gofakes3.Backend          = (*view)(nil)
	_ gofakes3.VersionedBackend = (*view)(nil)
)

func (v *view) note(changes ...change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes = append(v.changes, changes...)
}

// taken returns the changes so far.
func (v *view) taken() []change {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changes
}

// PutObject implements gofakes3.Backend.
func (v *view) PutObject(bucketName, key string, meta map[string]string, input io.Reader, size int64, conditions *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	result, made, err := v.putObject(bucketName, key, meta, input, size, conditions)
	if err == nil {
		v.note(made)
	}
	return result, err
}

// CopyObject implements gofakes3.Backend.
func (v *view) CopyObject(srcBucket, srcKey, dstBucket, dstKey string, meta map[string]string) (gofakes3.CopyObjectResult, error) {
	return gofakes3.CopyObject(v, srcBucket, srcKey, dstBucket, dstKey, meta)
}

// DeleteObject implements gofakes3.Backend.
func (v *view) DeleteObject(bucketName, key string) (gofakes3.ObjectDeleteResult, error) {
	return v.DeleteObjectVersion(bucketName, key, "")
}

// DeleteObjectVersion implements gofakes3.VersionedBackend.
func (v *view) DeleteObjectVersion(bucketName, key string, id gofakes3.VersionID) (gofakes3.ObjectDeleteResult, error) {
	results, changes, err := v.deleteObjects(bucketName, gofakes3.ObjectID{Key: key, VersionID: string(id)})
	if err != nil {
		return gofakes3.ObjectDeleteResult{}, err
	}
	v.note(changes...)
	return results[0], nil
}

// DeleteMulti implements gofakes3.Backend.
func (v *view) DeleteMulti(bucketName string, keys ...string) (gofakes3.MultiDeleteResult, error) {
	return v.DeleteMultiVersions(bucketName, objectIDs(keys)...)
}

// DeleteMultiVersions implements gofakes3.VersionedBackend.
func (v *view) DeleteMultiVersions(bucketName string, ids ...gofakes3.ObjectID) (gofakes3.MultiDeleteResult, error) {
	_, changes, err := v.deleteObjects(bucketName, ids...)
	if err != nil {
		return gofakes3.MultiDeleteResult{}, err
	}
	v.note(changes...)
	return gofakes3.MultiDeleteResult{Deleted: ids}, nil
}

func objectIDs(keys []string) []gofakes3.ObjectID {
	ids := make([]gofakes3.ObjectID, 0, len(keys))
	for _, key := range keys {
		ids = append(ids, gofakes3.ObjectID{Key: key})
	}
	return ids
}

// uploads is the backend of the gofakes3 that keeps the multipart uploads of all
// requests. It writes an object only while an upload is completed.
type uploads struct {
	*store

	mu   sync.Mutex // held during a completion
	view *view      // of the current completion
}

// PutObject implements gofakes3.Backend.
func (u *uploads) PutObject(bucketName, key string, meta map[string]string, input io.Reader, size int64, conditions *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	return u.view.PutObject(bucketName, key, meta, input, size, conditions)
}
