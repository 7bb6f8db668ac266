package s3

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/johannesboyne/gofakes3"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Put stores an object, for the other services of the embedded AWS.
func (s *Service) Put(ctx context.Context, bucketName, key, contentType string, body io.Reader) error {
	v := &view{store: s.store}
	_, err := v.PutObject(bucketName, key, map[string]string{"Content-Type": contentType}, body, -1, nil)
	s.notify(ctx, reasonPut, loopback, v.taken())
	return apiError(err)
}

// CreateBucket creates a bucket in the region of its configuration, by default the
// caller's.
func (s *Service) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, optFns ...func(*s3.Options)) (*s3.CreateBucketOutput, error) {
	c := s.caller(ctx, optFns)
	region := c.Region
	if in.CreateBucketConfiguration != nil && in.CreateBucketConfiguration.LocationConstraint != "" {
		region = string(in.CreateBucketConfiguration.LocationConstraint)
	}
	name := aws.ToString(in.Bucket)
	switch code, _, message := s.makeBucket(name, c.Account, region); code {
	case gofakes3.ErrNone:
		return &s3.CreateBucketOutput{Location: aws.String("/" + name)}, nil
	case "BucketAlreadyOwnedByYou":
		return nil, &types.BucketAlreadyOwnedByYou{Message: aws.String(message)}
	case gofakes3.ErrBucketAlreadyExists:
		return nil, &types.BucketAlreadyExists{Message: aws.String(message)}
	default:
		return nil, wire.Errorf(string(code), "%s", message)
	}
}

// HeadBucket returns whether a bucket exists, and its region.
func (s *Service) HeadBucket(_ context.Context, in *s3.HeadBucketInput, _ ...func(*s3.Options)) (*s3.HeadBucketOutput, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	b, ok := s.store.buckets[aws.ToString(in.Bucket)]
	if !ok {
		return nil, &types.NotFound{Message: aws.String("Not Found")}
	}
	return &s3.HeadBucketOutput{BucketRegion: aws.String(b.Region)}, nil
}

// PutObject stores an object. Its checksums, if given, are verified.
func (s *Service) PutObject(ctx context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	headers := map[string]string{}
	for name, value := range map[string]*string{
		"Content-Type": in.ContentType, "Content-Disposition": in.ContentDisposition, "Content-Encoding": in.ContentEncoding,
		checksumPrefix + "Crc32": in.ChecksumCRC32, checksumPrefix + "Crc32c": in.ChecksumCRC32C, checksumPrefix + "Crc64nvme": in.ChecksumCRC64NVME,
		checksumPrefix + "Sha1": in.ChecksumSHA1, checksumPrefix + "Sha256": in.ChecksumSHA256,
	} {
		if value != nil {
			headers[name] = *value
		}
	}
	expected := map[string]string{}
	for name, value := range headers {
		if _, ok := algorithmOf(name); ok {
			expected[name] = value
		}
	}
	for name, value := range in.Metadata {
		headers["X-Amz-Meta-"+name] = value
	}
	if in.ServerSideEncryption != "" {
		headers["X-Amz-Server-Side-Encryption"] = string(in.ServerSideEncryption)
	}
	if in.SSEKMSKeyId != nil {
		headers["X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"] = *in.SSEKMSKeyId
	}
	var conditions *gofakes3.PutConditions
	if in.IfMatch != nil || in.IfNoneMatch != nil {
		conditions = &gofakes3.PutConditions{IfMatch: in.IfMatch, IfNoneMatch: in.IfNoneMatch}
	}
	body := in.Body
	if body == nil {
		body = strings.NewReader("")
	}
	bucketName, key := aws.ToString(in.Bucket), aws.ToString(in.Key)
	if key == "" {
		return nil, wire.Errorf("InvalidArgument", "An object needs a key.")
	}
	size := int64(-1)
	if in.ContentLength != nil {
		size = *in.ContentLength
	}
	v := &view{store: s.store}
	result, err := v.PutObject(bucketName, key, headers, verified(body, expected), size, conditions)
	if err != nil {
		return nil, apiError(err)
	}
	s.notify(ctx, reasonPut, loopback, v.taken())
	head, err := s.store.HeadObjectVersion(bucketName, key, result.VersionID)
	if err != nil {
		return nil, apiError(err)
	}
	out := &s3.PutObjectOutput{ETag: aws.String(gofakes3.FormatETag(head.Hash)), Size: nil, ServerSideEncryption: in.ServerSideEncryption}
	if result.VersionID != "" {
		out.VersionId = aws.String(string(result.VersionID))
	}
	return out, nil
}

// GetObject reads an object, or the requested byte range of it.
func (s *Service) GetObject(_ context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	byteRange, err := parseRange(aws.ToString(in.Range))
	if err != nil {
		return nil, err
	}
	o, err := s.store.GetObjectVersion(aws.ToString(in.Bucket), aws.ToString(in.Key), gofakes3.VersionID(aws.ToString(in.VersionId)), byteRange)
	if err != nil {
		return nil, apiError(err)
	}
	if o.IsDeleteMarker {
		return nil, wire.Errorf("MethodNotAllowed", "The specified version is a delete marker.")
	}
	d := describe(o)
	out := &s3.GetObjectOutput{
		Body: o.Contents, ContentLength: aws.Int64(o.Size), ETag: d.etag, LastModified: d.modified, ContentType: d.header("Content-Type"),
		ContentEncoding: d.header("Content-Encoding"), ContentDisposition: d.header("Content-Disposition"), Metadata: d.metadata, VersionId: d.version,
		ServerSideEncryption: types.ServerSideEncryption(o.Metadata["X-Amz-Server-Side-Encryption"]),
	}
	if o.Range != nil {
		out.ContentLength = aws.Int64(o.Range.Length)
		out.ContentRange = aws.String(fmt.Sprintf("bytes %d-%d/%d", o.Range.Start, o.Range.Start+o.Range.Length-1, o.Size))
	} else {
		out.ChecksumSHA256, out.ChecksumCRC32 = d.header(checksumPrefix+"Sha256"), d.header(checksumPrefix+"Crc32")
	}
	return out, nil
}

// HeadObject describes an object.
func (s *Service) HeadObject(_ context.Context, in *s3.HeadObjectInput, _ ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	o, err := s.store.HeadObjectVersion(aws.ToString(in.Bucket), aws.ToString(in.Key), gofakes3.VersionID(aws.ToString(in.VersionId)))
	if err != nil {
		// The answer to HEAD has no body for an error code, so the code is NotFound.
		return nil, &types.NotFound{Message: aws.String(err.Error())}
	}
	d := describe(o)
	return &s3.HeadObjectOutput{
		ContentLength: aws.Int64(o.Size), ETag: d.etag, LastModified: d.modified, ContentType: d.header("Content-Type"),
		ContentEncoding: d.header("Content-Encoding"), ContentDisposition: d.header("Content-Disposition"), Metadata: d.metadata, VersionId: d.version,
		ChecksumSHA256: d.header(checksumPrefix + "Sha256"), ChecksumCRC32: d.header(checksumPrefix + "Crc32"),
		ServerSideEncryption: types.ServerSideEncryption(o.Metadata["X-Amz-Server-Side-Encryption"]),
	}, nil
}

// DeleteObject deletes an object or one version of it.
func (s *Service) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput, _ ...func(*s3.Options)) (*s3.DeleteObjectOutput, error) {
	v := &view{store: s.store}
	result, err := v.DeleteObjectVersion(aws.ToString(in.Bucket), aws.ToString(in.Key), gofakes3.VersionID(aws.ToString(in.VersionId)))
	if err != nil {
		return nil, apiError(err)
	}
	s.notify(ctx, reasonDelete, loopback, v.taken())
	out := &s3.DeleteObjectOutput{DeleteMarker: aws.Bool(result.IsDeleteMarker)}
	if result.VersionID != "" {
		out.VersionId = aws.String(string(result.VersionID))
	}
	return out, nil
}

// ListObjectsV2 lists a bucket by key.
func (s *Service) ListObjectsV2(_ context.Context, in *s3.ListObjectsV2Input, _ ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	prefix := gofakes3.NewPrefix(in.Prefix, in.Delimiter)
	page := gofakes3.ListBucketPage{Marker: aws.ToString(in.StartAfter), MaxKeys: 1000}
	if in.MaxKeys != nil && *in.MaxKeys > 0 && *in.MaxKeys < 1000 {
		page.MaxKeys = int64(*in.MaxKeys)
	}
	if in.ContinuationToken != nil {
		marker, err := base64.URLEncoding.DecodeString(*in.ContinuationToken)
		if err != nil {
			return nil, wire.Errorf("InvalidArgument", "The continuation token provided is incorrect")
		}
		page.Marker = string(marker)
	}
	list, err := s.store.ListBucket(aws.ToString(in.Bucket), &prefix, page)
	if err != nil {
		return nil, apiError(err)
	}
	out := &s3.ListObjectsV2Output{
		Name: in.Bucket, Prefix: in.Prefix, Delimiter: in.Delimiter, IsTruncated: aws.Bool(list.IsTruncated),
		KeyCount: aws.Int32(int32(len(list.Contents) + len(list.CommonPrefixes))), MaxKeys: aws.Int32(int32(page.MaxKeys)), // at most 1,000
	}
	if list.IsTruncated {
		out.NextContinuationToken = aws.String(base64.URLEncoding.EncodeToString([]byte(list.NextMarker)))
	}
	for _, c := range list.Contents {
		out.Contents = append(out.Contents, types.Object{
			Key: aws.String(c.Key), ETag: aws.String(c.ETag), Size: aws.Int64(c.Size), LastModified: aws.Time(c.LastModified.Time),
			StorageClass: types.ObjectStorageClassStandard,
		})
	}
	for _, p := range list.CommonPrefixes {
		out.CommonPrefixes = append(out.CommonPrefixes, types.CommonPrefix{Prefix: aws.String(p.Prefix)})
	}
	return out, nil
}

// description is the part of the output that GetObject and HeadObject share.
type description struct {
	headers  map[string]string
	etag     *string
	modified *time.Time
	version  *string
	metadata map[string]string
}

func describe(o *gofakes3.Object) description {
	d := description{headers: maps.Clone(o.Metadata), etag: aws.String(gofakes3.FormatETag(o.Hash)), metadata: map[string]string{}}
	for name, value := range o.Metadata {
		if rest, ok := strings.CutPrefix(name, "X-Amz-Meta-"); ok {
			d.metadata[strings.ToLower(rest)] = value
		}
	}
	if t, err := time.Parse(time.RFC1123, o.Metadata["Last-Modified"]); err == nil {
		d.modified = aws.Time(t.UTC())
	}
	if o.VersionID != "" {
		d.version = aws.String(string(o.VersionID))
	}
	return d
}

func (d description) header(name string) *string {
	if value, ok := d.headers[name]; ok {
		return aws.String(value)
	}
	return nil
}

// parseRange reads "bytes=first-last", "bytes=first-" or "bytes=-count".
func parseRange(text string) (*gofakes3.ObjectRangeRequest, error) {
	if text == "" {
		return nil, nil // the whole object
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	start, startErr := strconv.ParseInt(first, 10, 64)
	end, endErr := strconv.ParseInt(last, 10, 64)
	switch {
	case ok && first == "" && endErr == nil:
		return &gofakes3.ObjectRangeRequest{FromEnd: true, End: end}, nil
	case ok && last == "" && startErr == nil:
		return &gofakes3.ObjectRangeRequest{Start: start, End: gofakes3.RangeNoEnd}, nil
	case ok && startErr == nil && endErr == nil && start <= end:
		return &gofakes3.ObjectRangeRequest{Start: start, End: end}, nil
	}
	return nil, wire.Errorf("InvalidRange", "The requested range %q is not satisfiable", text)
}

// apiError converts errors of gofakes3 into errors of the SDK.
func apiError(err error) error {
	var coded gofakes3.Error
	if err == nil || !errors.As(err, &coded) {
		return err
	}
	message := coded.Error()
	switch coded.ErrorCode() {
	case gofakes3.ErrNoSuchBucket:
		return &types.NoSuchBucket{Message: aws.String(message)}
	case gofakes3.ErrNoSuchKey:
		return &types.NoSuchKey{Message: aws.String(message)}
	default:
		return wire.Errorf(string(coded.ErrorCode()), "%s", message)
	}
}
