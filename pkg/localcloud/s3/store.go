package s3

import (
	"crypto/md5" // #nosec G501 -- S3's ETag is an MD5
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// store keeps objects as files, with an index in memory. It is the backend of gofakes3.
// The backends of gofakes3 itself either forget everything at the end (s3mem), or have
// no pages and cannot store "a" beside "a/b" (s3afero, s3bolt).
type store struct {
	clock clock.Clock
	dir   string // of the files, named by a random id

	mu       sync.RWMutex
	buckets  map[string]*bucket
	sequence uint64 // of the last change of an object
}

var (
	_ gofakes3.Backend          = (*store)(nil)
	_ gofakes3.VersionedBackend = (*store)(nil)
)

type bucket struct {
	Name       string
	Account    string
	Region     string
	Created    time.Time
	Versioning gofakes3.VersioningStatus `json:",omitempty"`
	Documents  map[string]string         `json:",omitempty"` // content by sub-resource
	Objects    map[string][]object       `json:",omitempty"` // by key, newest version last
}

// object is one version of an object.
type object struct {
	VersionID string            `json:",omitempty"` // empty for the null version
	Blob      string            `json:",omitempty"` // file name; empty for a delete marker
	Size      int64             `json:",omitempty"`
	MD5       string            `json:",omitempty"` // hex
	Meta      map[string]string `json:",omitempty"`
	Modified  time.Time
}

func (o object) marker() bool { return o.Blob == "" }

func newStore(c clock.Clock, dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of S3's objects: %w", err)
	}
	return &store{clock: c, dir: dir, buckets: map[string]*bucket{}}, nil
}

func (s *store) path(blob string) string { return filepath.Join(s.dir, blob) }

// spool writes r to a new file and returns its description.
func (s *store) spool(r io.Reader) (object, error) {
	f, err := os.CreateTemp(s.dir, "incoming-*")
	if err != nil {
		return object{}, fmt.Errorf("storing an object: %w", err)
	}
	sum := md5.New() // #nosec G401 -- S3's ETag is an MD5
	size, err := io.Copy(io.MultiWriter(f, sum), r)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	o := object{Blob: scope.Hex(32), Size: size, MD5: hex.EncodeToString(sum.Sum(nil)), Modified: s.clock.Now().Truncate(time.Millisecond)}
	if err == nil {
		err = os.Rename(f.Name(), s.path(o.Blob))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return object{}, err // not wrapped: gofakes3 checks its type
	}
	return o, nil
}

func (s *store) drop(objects ...object) {
	for _, o := range objects {
		if !o.marker() {
			_ = os.Remove(s.path(o.Blob)) // sweep removes files that are left
		}
	}
}

// sweep makes the index and the files consistent, because after a crash one may be older
// than the other. s.mu is held.
func (s *store) sweep() error {
	known := map[string]bool{}
	for _, b := range s.buckets {
		for key, versions := range b.Objects {
			kept := slices.DeleteFunc(versions, func(o object) bool {
				if o.marker() {
					return false
				}
				info, err := os.Stat(s.path(o.Blob))
				return err != nil || info.Size() != o.Size
			})
			if len(kept) == 0 {
				delete(b.Objects, key)
				continue
			}
			b.Objects[key] = kept
			for _, o := range kept {
				known[o.Blob] = true
			}
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("reading the folder of S3's objects: %w", err)
	}
	for _, e := range entries {
		if !known[e.Name()] && !e.IsDir() {
			if err := os.Remove(s.path(e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("removing a file that belongs to no object: %w", err)
			}
		}
	}
	return nil
}

// create creates a bucket. Bucket names are unique across all accounts.
func (s *store) create(name, account, region string) (owner string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, taken := s.buckets[name]; taken {
		return b.Account, false
	}
	s.buckets[name] = &bucket{
		Name: name, Account: account, Region: region, Created: s.clock.Now(),
		Documents: map[string]string{}, Objects: map[string][]object{},
	}
	return account, true
}

// list returns an account's buckets by name.
func (s *store) list(account string) []bucket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []bucket
	for _, b := range s.buckets {
		if account == "" || b.Account == account {
			out = append(out, bucket{Name: b.Name, Account: b.Account, Region: b.Region, Created: b.Created})
		}
	}
	slices.SortFunc(out, func(a, b bucket) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// bucket returns a bucket. s.mu is held.
func (s *store) bucket(name string) (*bucket, error) {
	b, ok := s.buckets[name]
	if !ok {
		return nil, gofakes3.BucketNotFound(name)
	}
	return b, nil
}

// ListBuckets implements gofakes3.Backend.
func (s *store) ListBuckets() ([]gofakes3.BucketInfo, error) {
	var out []gofakes3.BucketInfo
	for _, b := range s.list("") {
		out = append(out, gofakes3.BucketInfo{Name: b.Name, CreationDate: gofakes3.NewContentTime(b.Created)})
	}
	return out, nil
}

// CreateBucket implements gofakes3.Backend; the service itself calls create.
func (s *store) CreateBucket(name string) error {
	if _, ok := s.create(name, "", ""); !ok {
		return gofakes3.ResourceError(gofakes3.ErrBucketAlreadyExists, name)
	}
	return nil
}

// BucketExists implements gofakes3.Backend.
func (s *store) BucketExists(name string) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.buckets[name]
	return ok, nil
}

// DeleteBucket implements gofakes3.Backend.
func (s *store) DeleteBucket(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(name)
	if err != nil {
		return err
	}
	if len(b.Objects) > 0 {
		return gofakes3.ResourceError(gofakes3.ErrBucketNotEmpty, name)
	}
	delete(s.buckets, name)
	return nil
}

// ForceDeleteBucket implements gofakes3.Backend.
func (s *store) ForceDeleteBucket(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(name)
	if err != nil {
		return err
	}
	for _, versions := range b.Objects {
		s.drop(versions...)
	}
	delete(s.buckets, name)
	return nil
}

// PutObject implements gofakes3.Backend.
func (s *store) PutObject(bucketName, key string, meta map[string]string, input io.Reader, size int64, conditions *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	result, _, err := s.putObject(bucketName, key, meta, input, size, conditions)
	return result, err
}

func (s *store) putObject(bucketName, key string, meta map[string]string, input io.Reader, size int64, conditions *gofakes3.PutConditions) (gofakes3.PutObjectResult, change, error) {
	o, err := s.spool(input)
	if err != nil {
		return gofakes3.PutObjectResult{}, change{}, err
	}
	if size >= 0 && o.Size != size {
		s.drop(o)
		return gofakes3.PutObjectResult{}, change{}, gofakes3.ErrIncompleteBody
	}
	o.Meta = ownMeta(meta, o.Modified)
	made, err := s.put(bucketName, key, o, conditions)
	if err != nil {
		s.drop(o)
	}
	return gofakes3.PutObjectResult{VersionID: gofakes3.VersionID(made.version)}, made, err
}

// noSuchKey is gofakes3's error with S3's message. Without a message, boto3 prints
// "Unknown".
func noSuchKey() error {
	return gofakes3.ErrorMessage(gofakes3.ErrNoSuchKey, "The specified key does not exist.")
}

func (s *store) put(bucketName, key string, o object, conditions *gofakes3.PutConditions) (change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(bucketName)
	if err != nil {
		return change{}, err
	}
	if conditions != nil {
		info := &gofakes3.ConditionalObjectInfo{}
		if current, ok := b.current(key); ok {
			info.Exists = true
			info.Hash, _ = hex.DecodeString(current.MD5)
		}
		if conditions.IfMatch != nil && !info.Exists {
			// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html:
			// If-Match with a key that does not exist answers 404, not 412.
			return change{}, noSuchKey()
		}
		if err := gofakes3.CheckPutConditions(conditions, info); err != nil {
			return change{}, err
		}
	}
	return s.created(b, key, s.push(b, key, o)), nil
}

// push makes o the current version of key. Without versioning it replaces the
// null version. s.mu is held.
func (s *store) push(b *bucket, key string, o object) object {
	if b.Versioning == gofakes3.VersioningEnabled {
		o.VersionID = scope.Hex(32)
	} else {
		b.Objects[key] = slices.DeleteFunc(b.Objects[key], func(old object) bool {
			if old.VersionID != "" {
				return false
			}
			s.drop(old)
			return true
		})
	}
	b.Objects[key] = append(b.Objects[key], o)
	return o
}

// current returns the version that a request without a version id reads.
func (b *bucket) current(key string) (object, bool) {
	versions := b.Objects[key]
	if len(versions) == 0 || versions[len(versions)-1].marker() {
		return object{}, false
	}
	return versions[len(versions)-1], true
}

// ownMeta returns the headers of a request that S3 stores.
func ownMeta(headers map[string]string, modified time.Time) map[string]string {
	meta := map[string]string{"Last-Modified": modified.UTC().Format("Mon, 02 Jan 2006 15:04:05") + " GMT"}
	for name, value := range headers {
		name = textproto.CanonicalMIMEHeaderKey(name)
		_, checksum := algorithmOf(name)
		switch {
		case name == "Content-Type", name == "Content-Disposition", name == "Content-Encoding", checksum,
			strings.HasPrefix(name, "X-Amz-Meta-"), strings.HasPrefix(name, "X-Amz-Server-Side-Encryption"):
			meta[name] = value
		}
	}
	return meta
}

func (s *store) open(key string, o object, request *gofakes3.ObjectRangeRequest, body bool) (*gofakes3.Object, error) {
	hash, err := hex.DecodeString(o.MD5)
	if err != nil {
		return nil, fmt.Errorf("digest of object %s: %w", key, err)
	}
	out := &gofakes3.Object{
		Name: key, Metadata: o.Meta, Size: o.Size, Hash: hash, VersionID: gofakes3.VersionID(o.VersionID),
		IsDeleteMarker: o.marker(), Contents: io.NopCloser(strings.NewReader("")),
	}
	if o.marker() || !body {
		return out, nil
	}
	if out.Range, err = request.Range(o.Size); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path(o.Blob))
	if err != nil {
		return nil, fmt.Errorf("reading object %s: %w", key, err)
	}
	out.Contents = f
	if out.Range != nil {
		out.Contents = section{io.NewSectionReader(f, out.Range.Start, out.Range.Length), f}
	}
	return out, nil
}

type section struct {
	io.Reader
	io.Closer
}

func (s *store) get(bucketName, key string, request *gofakes3.ObjectRangeRequest, body bool) (*gofakes3.Object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, err := s.bucket(bucketName)
	if err != nil {
		return nil, err
	}
	o, ok := b.current(key)
	if !ok {
		return nil, noSuchKey()
	}
	return s.open(key, o, request, body)
}

// GetObject implements gofakes3.Backend.
func (s *store) GetObject(bucketName, key string, request *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	return s.get(bucketName, key, request, true)
}

// HeadObject implements gofakes3.Backend.
func (s *store) HeadObject(bucketName, key string) (*gofakes3.Object, error) {
	return s.get(bucketName, key, nil, false)
}

// DeleteObject implements gofakes3.Backend.
func (s *store) DeleteObject(bucketName, key string) (gofakes3.ObjectDeleteResult, error) {
	return (&view{store: s}).DeleteObject(bucketName, key)
}

// deleteObjects deletes objects or versions of them in one step. An id that does not
// exist is neither an error nor a change.
func (s *store) deleteObjects(bucketName string, ids ...gofakes3.ObjectID) (results []gofakes3.ObjectDeleteResult, changes []change, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(bucketName)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		var result gofakes3.ObjectDeleteResult
		var made []change
		if id.VersionID == "" {
			result, made = s.remove(b, id.Key)
		} else {
			result, made = s.removeVersion(b, id.Key, id.VersionID)
		}
		results, changes = append(results, result), append(changes, made...)
	}
	return results, changes, nil
}

// remove deletes the current version or, with versioning, hides it behind a
// delete marker. s.mu is held.
func (s *store) remove(b *bucket, key string) (gofakes3.ObjectDeleteResult, []change) {
	if b.Versioning == gofakes3.VersioningNone {
		if len(b.Objects[key]) == 0 {
			return gofakes3.ObjectDeleteResult{}, nil
		}
		s.drop(b.Objects[key]...)
		delete(b.Objects, key)
		return gofakes3.ObjectDeleteResult{}, []change{s.deleted(b, key, object{}, false)}
	}
	made := s.push(b, key, object{Modified: s.clock.Now().Truncate(time.Millisecond)})
	return gofakes3.ObjectDeleteResult{IsDeleteMarker: true, VersionID: gofakes3.VersionID(made.VersionID)}, []change{s.deleted(b, key, made, true)}
}

// DeleteMulti implements gofakes3.Backend.
func (s *store) DeleteMulti(bucketName string, keys ...string) (gofakes3.MultiDeleteResult, error) {
	return (&view{store: s}).DeleteMulti(bucketName, keys...)
}

// DeleteMultiVersions implements gofakes3.VersionedBackend.
func (s *store) DeleteMultiVersions(bucketName string, ids ...gofakes3.ObjectID) (gofakes3.MultiDeleteResult, error) {
	return (&view{store: s}).DeleteMultiVersions(bucketName, ids...)
}

// CopyObject implements gofakes3.Backend.
func (s *store) CopyObject(srcBucket, srcKey, dstBucket, dstKey string, meta map[string]string) (gofakes3.CopyObjectResult, error) {
	return gofakes3.CopyObject(s, srcBucket, srcKey, dstBucket, dstKey, meta)
}

// ListBucket implements gofakes3.Backend.
func (s *store) ListBucket(name string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	if prefix == nil {
		prefix = &gofakes3.Prefix{}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, err := s.bucket(name)
	if err != nil {
		return nil, err
	}
	out, last, count := gofakes3.NewObjectList(), "", int64(0)
	for _, key := range b.keys(prefix.Prefix) {
		o, ok := b.current(key)
		group := commonPrefix(key, prefix)
		if !ok || key <= page.Marker || group != "" && (group == last || group <= page.Marker) {
			continue
		}
		if page.MaxKeys > 0 && count == page.MaxKeys {
			out.IsTruncated, out.NextMarker = true, last
			break
		}
		count++
		if group != "" {
			out.AddPrefix(group)
			last = group
			continue
		}
		out.Add(&gofakes3.Content{Key: key, LastModified: gofakes3.NewContentTime(o.Modified), ETag: `"` + o.MD5 + `"`, Size: o.Size})
		last = key
	}
	return out, nil
}

// keys returns the keys with a prefix, sorted. s.mu is held.
func (b *bucket) keys(prefix string) []string {
	var keys []string
	for key := range b.Objects {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// commonPrefix returns the common prefix under which a key is listed, if any.
func commonPrefix(key string, prefix *gofakes3.Prefix) string {
	if !prefix.HasDelimiter || prefix.Delimiter == "" {
		return ""
	}
	head, _, found := strings.Cut(key[len(prefix.Prefix):], prefix.Delimiter)
	if !found {
		return ""
	}
	return prefix.Prefix + head + prefix.Delimiter
}
