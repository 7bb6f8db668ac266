// Package store reads and writes the factory's bucket: objects identified by the
// digest of their content, records that one function writes once, and JSON
// documents that several functions change without losing a change.
package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

// ObjectAPI lists the calls of S3 that a Store makes.
type ObjectAPI interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
}

// Presigner makes URLs that a guest without credentials can use.
type Presigner interface {
	PresignGetObject(context.Context, *s3.GetObjectInput, ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error)
	PresignPutObject(context.Context, *s3.PutObjectInput, ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error)
}

// Object is an S3 object, identified by the digest of its content.
type Object struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	SHA256 string `json:"sha256"` // hex, of the whole object
}

// Store is the factory's bucket.
type Store struct {
	Bucket  string
	API     ObjectAPI
	Presign Presigner // nil if nothing is presigned
	Cache   *Cache    // of Load; nil: nothing is kept
}

// maxObject limits the size of an object that is read into memory, in bytes.
// Plans are the largest objects, because they contain the compiled checks.
const maxObject = 64 << 20

// ErrNone is returned by Read for a key that the bucket does not have.
var ErrNone = errors.New("no such object")

// Put stores body under key.
func (s Store) Put(ctx context.Context, key, contentType string, body []byte) (Object, error) {
	_, err := s.API.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.Bucket, Key: &key, ContentType: &contentType, Body: bytes.NewReader(body),
	})
	if err != nil {
		return Object{}, awserr.Wrap(err, failure.Internal, "store s3://%s/%s", s.Bucket, key)
	}
	return Object{Bucket: s.Bucket, Key: key, SHA256: Digest(body)}, nil
}

// Create stores body under key unless the object exists, and reports whether it
// did.
func (s Store) Create(ctx context.Context, key, contentType string, body []byte) (bool, error) {
	_, err := s.API.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.Bucket, Key: &key, ContentType: &contentType, Body: bytes.NewReader(body), IfNoneMatch: aws.String("*"),
	})
	if conditionFailed(err) {
		return false, nil
	}
	if err != nil {
		return false, awserr.Wrap(err, failure.Internal, "store s3://%s/%s", s.Bucket, key)
	}
	return true, nil
}

// PutJSON stores v as indented JSON under key.
func (s Store) PutJSON(ctx context.Context, key string, v any) (Object, error) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return Object{}, failure.Wrap(failure.Internal, err, "encode s3://%s/%s", s.Bucket, key)
	}
	return s.Put(ctx, key, "application/json", append(raw, '\n'))
}

// Get reads an object and refuses it if its content does not have the expected
// digest, so that altered content is never used.
func (s Store) Get(ctx context.Context, o Object) ([]byte, error) {
	if err := s.checkBucket(o); err != nil {
		return nil, err
	}
	body, err := s.Read(ctx, o.Key)
	if errors.Is(err, ErrNone) {
		return nil, failure.Wrap(failure.InvalidInput, err, "read s3://%s/%s", s.Bucket, o.Key)
	}
	if err != nil {
		return nil, err
	}
	if got := Digest(body); got != o.SHA256 {
		return nil, failure.New(failure.InvalidInput, "s3://%s/%s has SHA-256 %s, not %s: it was altered after it was written",
			s.Bucket, o.Key, got, o.SHA256)
	}
	return body, nil
}

func (s Store) checkBucket(o Object) error {
	if o.Bucket != s.Bucket {
		return failure.New(failure.InvalidInput, "object s3://%s/%s is not in the factory's bucket %s", o.Bucket, o.Key, s.Bucket)
	}
	return nil
}

// Read returns an object of unknown content.
func (s Store) Read(ctx context.Context, key string) ([]byte, error) {
	return s.ReadAtMost(ctx, key, maxObject)
}

// ReadAtMost is Read, limited to objects of at most limit bytes. A larger one is not
// read: the error is InvalidInput and says how large it is.
func (s Store) ReadAtMost(ctx context.Context, key string, limit int64) ([]byte, error) {
	out, err := s.API.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.Bucket, Key: &key})
	if awserr.Is(err, "NoSuchKey", "NotFound") {
		return nil, fmt.Errorf("%w: s3://%s/%s", ErrNone, s.Bucket, key)
	}
	if err != nil {
		return nil, awserr.Wrap(err, failure.Internal, "read s3://%s/%s", s.Bucket, key)
	}
	return s.body(out, key, limit)
}

// body returns what S3 answers, of at most limit bytes. Content-Length says the size
// before anything is read; what is read is bounded in any case.
func (s Store) body(out *s3.GetObjectOutput, key string, limit int64) ([]byte, error) {
	defer func() { _ = out.Body.Close() }()
	if size := aws.ToInt64(out.ContentLength); size > limit {
		return nil, failure.New(failure.InvalidInput, "s3://%s/%s has %d bytes; at most %d are read", s.Bucket, key, size, limit)
	}
	body, err := io.ReadAll(io.LimitReader(out.Body, limit+1))
	if err != nil {
		return nil, failure.Wrap(failure.ServiceUnavailable, err, "read s3://%s/%s", s.Bucket, key)
	}
	if int64(len(body)) > limit {
		return nil, failure.New(failure.InvalidInput, "s3://%s/%s is larger than %d bytes", s.Bucket, key, limit)
	}
	return body, nil
}

// GetURL returns a URL for downloading key, valid for ttl.
func (s Store) GetURL(ctx context.Context, key string, ttl time.Duration) (string, error) {
	out, err := s.Presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &s.Bucket, Key: &key}, s3.WithPresignExpires(ttl))
	if err != nil {
		return "", awserr.Wrap(err, failure.Internal, "presign s3://%s/%s", s.Bucket, key)
	}
	return out.URL, nil
}

// AnySize permits an upload of any size, up to the 5 GB of one PutObject
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html). Whoever
// reads the object must bound what is read.
const AnySize = 0

// PutOnceURL returns a URL for uploading key, valid for ttl and only until the
// object exists. The client must send the header If-None-Match: *, which is
// signed
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
// The object must have size bytes, unless size is AnySize.
func (s Store) PutOnceURL(ctx context.Context, key string, size int64, ttl time.Duration) (string, error) {
	return s.putURL(ctx, &s3.PutObjectInput{Key: &key, IfNoneMatch: aws.String("*")}, size, ttl)
}

// PutURL returns a URL for uploading key as often as it is used, valid for ttl. The
// object must have size bytes: without that, each use could add 5 GB, because the bucket
// keeps what is overwritten.
func (s Store) PutURL(ctx context.Context, key string, size int64, ttl time.Duration) (string, error) {
	if size <= 0 {
		return "", failure.New(failure.Internal, "presign s3://%s/%s: an address for any number of uploads needs their size", s.Bucket, key)
	}
	return s.putURL(ctx, &s3.PutObjectInput{Key: &key}, size, ttl)
}

// putURL signs the Content-Length, so that S3 refuses every other size.
func (s Store) putURL(ctx context.Context, in *s3.PutObjectInput, size int64, ttl time.Duration) (string, error) {
	in.Bucket = &s.Bucket
	if size != AnySize {
		in.ContentLength = &size
	}
	key := *in.Key
	out, err := s.Presign.PresignPutObject(ctx, in, s3.WithPresignExpires(ttl))
	if err != nil {
		return "", awserr.Wrap(err, failure.Internal, "presign s3://%s/%s", s.Bucket, key)
	}
	return out.URL, nil
}

// Digest is the SHA-256 of b, in hexadecimal.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
