package store

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

// updateAttempts is how often Update tries again when somebody else wrote the
// object in between.
const updateAttempts = 5

// conditionFailed reports whether somebody else wrote the object first. An
// object that was deleted in between answers If-Match with NoSuchKey.
func conditionFailed(err error) bool {
	return awserr.Is(err, "PreconditionFailed", "ConditionalRequestConflict")
}

// Update changes a JSON object without losing other writers' changes: if
// somebody else wrote it in between, it calls change again with the new value.
// change returns whether there is anything to write. An object that does not
// exist is the zero value.
func Update[T any](ctx context.Context, s Store, key string, change func(*T) (bool, error)) (T, error) {
	var value T
	for range updateAttempts {
		value = *new(T)
		etag, err := s.ReadJSON(ctx, key, &value)
		if err != nil {
			return value, err
		}
		if write, err := change(&value); err != nil || !write {
			return value, err
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return value, failure.Wrap(failure.Internal, err, "encode s3://%s/%s", s.Bucket, key)
		}
		if replaced, err := s.Replace(ctx, key, "application/json", raw, etag); err != nil || replaced {
			return value, err
		}
	}
	return value, failure.New(failure.ServiceUnavailable, "s3://%s/%s was changed by somebody else in each of %d attempts", s.Bucket, key, updateAttempts)
}

// ReadJSON reads a JSON object and returns its ETag, or "" if it does not exist.
func (s Store) ReadJSON(ctx context.Context, key string, into any) (etag string, err error) {
	raw, etag, err := s.ReadTagged(ctx, key)
	if err != nil || etag == "" {
		return "", err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return "", failure.Wrap(failure.Internal, err, "decode s3://%s/%s", s.Bucket, key)
	}
	return etag, nil
}

// ReadTagged returns an object of unknown content with its ETag, which is "" if the
// object does not exist.
func (s Store) ReadTagged(ctx context.Context, key string) (body []byte, etag string, err error) {
	out, err := s.API.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.Bucket, Key: &key})
	if awserr.Is(err, "NoSuchKey", "NotFound") {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", awserr.Wrap(err, failure.Internal, "read s3://%s/%s", s.Bucket, key)
	}
	if body, err = s.body(out, key, maxObject); err != nil {
		return nil, "", err
	}
	return body, aws.ToString(out.ETag), nil
}

// Replace stores body under key if the object's ETag is still etag. If etag is "", it
// stores body only if there is no such object. It reports whether it has stored it.
func (s Store) Replace(ctx context.Context, key, contentType string, body []byte, etag string) (bool, error) {
	in := &s3.PutObjectInput{Bucket: &s.Bucket, Key: &key, ContentType: &contentType, Body: bytes.NewReader(body)}
	if etag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &etag
	}
	_, err := s.API.PutObject(ctx, in)
	if gone := etag != "" && awserr.Is(err, "NoSuchKey"); gone || conditionFailed(err) {
		return false, nil
	}
	return err == nil, awserr.Wrap(err, failure.Internal, "store s3://%s/%s", s.Bucket, key)
}
