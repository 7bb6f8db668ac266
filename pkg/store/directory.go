package store

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

// DirectoryAPI is what a Directory needs of S3.
type DirectoryAPI interface {
	s3.ListObjectsV2APIClient
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
}

// Directory is the keys of the factory's bucket, without what is under them.
type Directory struct {
	Bucket string
	API    DirectoryAPI
}

// Keys lists the keys that begin with a prefix, sorted. A key that was written, or
// deleted, before the call is in the answer, or is not: S3 is strongly consistent
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel).
func (d Directory) Keys(ctx context.Context, prefix string) ([]string, error) {
	var out []string
	pages := s3.NewListObjectsV2Paginator(d.API, &s3.ListObjectsV2Input{Bucket: &d.Bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, awserr.Wrap(err, failure.Internal, "list s3://%s/%s", d.Bucket, prefix)
		}
		for _, o := range page.Contents {
			out = append(out, aws.ToString(o.Key))
		}
	}
	return out, nil
}

// Delete deletes an object. One that is not there is no error.
func (d Directory) Delete(ctx context.Context, key string) error {
	if _, err := d.API.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &d.Bucket, Key: &key}); err != nil {
		return awserr.Wrap(err, failure.Internal, "delete s3://%s/%s", d.Bucket, key)
	}
	return nil
}
