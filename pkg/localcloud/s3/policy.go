package s3

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/johannesboyne/gofakes3"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Policy returns a bucket's policy, which may be empty, and the bucket's account. ok is
// false if the bucket does not exist.
func (s *Service) Policy(bucketName string) (policy, owner string, ok bool) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	b, ok := s.store.buckets[bucketName]
	if !ok {
		return "", "", false
	}
	if policy = b.Documents[policyQuery]; policy == removed {
		policy = ""
	}
	return policy, b.Account, true
}

func noSuchBucket() error {
	return &types.NoSuchBucket{Message: aws.String("The specified bucket does not exist")}
}

// setDocument stores a document of a bucket, or the mark that it was deleted.
func (s *Service) setDocument(bucketName *string, query, text string) error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	b, ok := s.store.buckets[aws.ToString(bucketName)]
	if !ok {
		return noSuchBucket()
	}
	b.Documents[query] = text
	return nil
}

// PutBucketPolicy sets a bucket's policy, or returns MalformedPolicy.
func (s *Service) PutBucketPolicy(_ context.Context, in *s3.PutBucketPolicyInput, _ ...func(*s3.Options)) (*s3.PutBucketPolicyOutput, error) {
	d := document{query: policyQuery}
	if code, message := s.checkDocument(d, aws.ToString(in.Bucket), []byte(aws.ToString(in.Policy))); code != gofakes3.ErrNone {
		return nil, wire.Errorf(string(code), "%s", message)
	}
	return &s3.PutBucketPolicyOutput{}, s.setDocument(in.Bucket, policyQuery, *in.Policy)
}

// GetBucketPolicy returns a bucket's policy, or NoSuchBucketPolicy.
func (s *Service) GetBucketPolicy(_ context.Context, in *s3.GetBucketPolicyInput, _ ...func(*s3.Options)) (*s3.GetBucketPolicyOutput, error) {
	name := aws.ToString(in.Bucket)
	policy, _, ok := s.Policy(name)
	switch {
	case !ok:
		return nil, noSuchBucket()
	case policy == "":
		return nil, wire.Errorf("NoSuchBucketPolicy", "%s", fmt.Sprintf("The bucket %s has no policy.", name))
	}
	return &s3.GetBucketPolicyOutput{Policy: aws.String(policy)}, nil
}

// DeleteBucketPolicy removes a bucket's policy. It succeeds if there is none.
func (s *Service) DeleteBucketPolicy(_ context.Context, in *s3.DeleteBucketPolicyInput, _ ...func(*s3.Options)) (*s3.DeleteBucketPolicyOutput, error) {
	return &s3.DeleteBucketPolicyOutput{}, s.setDocument(in.Bucket, policyQuery, removed)
}
