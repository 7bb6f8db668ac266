package s3

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Permissions returns the permissions that calls of S3 need.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		rules[method] = s.requests
	}
	return authz.Permissions{Service: "s3", Denied: authz.AccessDenied, Rules: rules, Policy: s.resourcePolicy}
}

// arn returns the ARN of a bucket or of an object.
func (s *Service) arn(resource string) string {
	return partition.OrDefault(s.cfg.Default.Region).ARN("s3", "", "", resource)
}

func (s *Service) resourcePolicy(arn string) (authz.ResourcePolicy, error) {
	_, resource, _ := strings.Cut(arn, ":::")
	bucketName, _, _ := strings.Cut(resource, "/")
	text, owner, _ := s.Policy(bucketName)
	out, err := authz.PolicyFrom(text)
	out.Owner = owner
	return out, err
}

// requests returns the permissions that a request needs, whether it is signed in a
// header or in its URL.
func (s *Service) requests(c authz.Call, input any) ([]authz.Request, error) {
	r, err := authz.HTTPRequest(input)
	if err != nil {
		return nil, err
	}
	bucket, key := Address(r)
	list := authz.Request{Action: "s3:ListBucket", Resource: s.arn(bucket)}
	if bucket == "" {
		return nil, errors.New("the request names no bucket")
	}
	if request, ok := s.bucketReadRequest(r, bucket, key); ok {
		return []authz.Request{request}, nil
	}
	if request, ok := s.multipartRequest(r, bucket, key); ok {
		return []authz.Request{request}, nil
	}
	if r.Method == http.MethodPost {
		return nil, errors.New("POST is supported only for multipart uploads")
	}
	if request, ok := s.bucketPolicyRequest(r, bucket, key); ok {
		return []authz.Request{request}, nil
	}
	if action, ok := notificationAction(r, key); ok {
		return []authz.Request{{Action: action, Resource: s.arn(bucket)}}, nil
	}
	if r.Method == http.MethodDelete {
		return s.deleteRequest(r, bucket, key)
	}
	known := []string{"x-id", "partNumber"}
	for query, action := range map[string]string{"versioning": "s3:GetBucketVersioning", "publicAccessBlock": "s3:GetBucketPublicAccessBlock"} {
		if key == "" && r.Method == http.MethodGet && r.URL.Query().Has(query) && unknownParameter(r, []string{"x-id", query}) == "" {
			return []authz.Request{{Action: action, Resource: s.arn(bucket)}}, nil
		}
	}
	if key == "" {
		if r.Method == http.MethodPut {
			return nil, errors.New("the embedded AWS does not let roles create buckets")
		}
		known = []string{"x-id", "list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after", "encoding-type", "fetch-owner"}
	}
	if name := unknownParameter(r, known); name != "" {
		return nil, fmt.Errorf("the embedded AWS does not know what permissions ?%s needs", name)
	}
	if key == "" {
		return []authz.Request{list}, nil
	}
	object := authz.Request{Action: "s3:GetObject", Resource: s.arn(bucket + "/" + key)}
	if r.Method == http.MethodPut {
		for _, header := range []string{"X-Amz-Copy-Source", "X-Amz-Tagging", "X-Amz-Acl"} {
			if r.Header.Get(header) != "" {
				return nil, fmt.Errorf("the embedded AWS does not know what permissions the header %s needs", header)
			}
		}
		object.Action = "s3:PutObject"
		return []authz.Request{object}, nil
	}
	// Only callers that may list the bucket learn that a key does not exist.
	if _, err := s.HeadObject(c.Context, &s3.HeadObjectInput{Bucket: &bucket, Key: &key}); err != nil {
		return []authz.Request{object, list}, nil
	}
	return []authz.Request{object}, nil
}

// bucketPolicyRequest returns the permissions for a request about a bucket's policy.
func (s *Service) bucketPolicyRequest(r *http.Request, bucket, key string) (authz.Request, bool) {
	verb, ok := map[string]string{http.MethodGet: "Get", http.MethodPut: "Put", http.MethodDelete: "Delete"}[r.Method]
	if !ok || key != "" || !r.URL.Query().Has("policy") || unknownParameter(r, []string{"x-id", "policy"}) != "" {
		return authz.Request{}, false
	}
	return authz.Request{Action: "s3:" + verb + "BucketPolicy", Resource: s.arn(bucket)}, true
}

// unknownParameter returns a parameter of the query that is neither known nor part of a
// signature.
func unknownParameter(r *http.Request, known []string) string {
	for name := range r.URL.Query() {
		ok := strings.HasPrefix(name, "X-Amz-") || strings.HasPrefix(name, "response-")
		for _, k := range known {
			ok = ok || name == k
		}
		if !ok {
			return name
		}
	}
	return ""
}

// bucketReadRequest returns the permissions for reading a bucket's location or
// encryption.
func (s *Service) bucketReadRequest(r *http.Request, bucket, key string) (authz.Request, bool) {
	if r.Method != http.MethodGet || key != "" {
		return authz.Request{}, false
	}
	for parameter, action := range map[string]string{"location": "s3:GetBucketLocation", "encryption": "s3:GetEncryptionConfiguration"} {
		if r.URL.Query().Has(parameter) && unknownParameter(r, []string{"x-id", parameter}) == "" {
			return authz.Request{Action: action, Resource: s.arn(bucket)}, true
		}
	}
	return authz.Request{}, false
}

// deleteRequest returns the permissions for deleting an object or a version of it.
func (s *Service) deleteRequest(r *http.Request, bucket, key string) ([]authz.Request, error) {
	if key == "" {
		return nil, errors.New("the embedded AWS lets roles delete objects, but not buckets or their configurations")
	}
	if name := unknownParameter(r, []string{"x-id", "versionId"}); name != "" {
		return nil, fmt.Errorf("the embedded AWS does not know what permissions ?%s needs", name)
	}
	action := "s3:DeleteObject"
	if r.URL.Query().Has("versionId") {
		action = "s3:DeleteObjectVersion"
	}
	return []authz.Request{{Action: action, Resource: s.arn(bucket + "/" + key)}}, nil
}

// multipartRequest returns the permissions for the requests of a multipart upload
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html).
func (s *Service) multipartRequest(r *http.Request, bucket, key string) (authz.Request, bool) {
	action, known := "s3:PutObject", []string{"x-id", "partNumber", "uploadId"}
	q := r.URL.Query()
	switch {
	case key == "":
		return authz.Request{}, false
	case r.Method == http.MethodPost && q.Has("uploads"):
		known = []string{"x-id", "uploads"}
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		action = "s3:AbortMultipartUpload"
	case (r.Method == http.MethodPost || r.Method == http.MethodPut) && q.Has("uploadId") && r.Header.Get("X-Amz-Copy-Source") == "":
	default:
		return authz.Request{}, false
	}
	return authz.Request{Action: action, Resource: s.arn(bucket + "/" + key)}, unknownParameter(r, known) == ""
}

// checkBucketPolicy returns what is wrong with a bucket's policy.
func (s *Service) checkBucketPolicy(bucket, policy string) error {
	parsed, err := authz.ParseResource([]byte(policy))
	if err != nil {
		return err
	}
	own := s.arn(bucket)
	for _, statement := range parsed.Statements {
		for _, resource := range slices.Concat(statement.Resources, statement.NotResources) {
			if resource != own && !strings.HasPrefix(resource, own+"/") {
				raw, _ := json.Marshal(resource) // strings always marshal
				return fmt.Errorf("Policy has invalid resource: %s", raw)
			}
		}
	}
	return nil
}
