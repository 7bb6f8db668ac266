package s3

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/johannesboyne/gofakes3"
)

const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// document is a sub-resource of a bucket whose content is stored unchanged. Only the
// policy and the notification configuration have an effect.
type document struct {
	query   string             // in the URL: ?policy
	root    string             // XML element; empty for JSON
	missing gofakes3.ErrorCode // the answer to GET if there is none
	initial string             // content in a new bucket; may be empty
	keeps   bool               // it cannot be deleted
}

// policyQuery is the sub-resource of a bucket's policy.
const policyQuery = "policy"

// documents lists all of them. The initial contents are those of S3 since April 2023
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/create-bucket-faq.html).
func documents() []document {
	return []document{
		{query: "encryption", root: "ServerSideEncryptionConfiguration", missing: "ServerSideEncryptionConfigurationNotFoundError",
			initial: `<ServerSideEncryptionConfiguration xmlns="` + namespace + `"><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>`},
		{query: "publicAccessBlock", root: "PublicAccessBlockConfiguration", missing: "NoSuchPublicAccessBlockConfiguration",
			initial: `<PublicAccessBlockConfiguration xmlns="` + namespace + `"><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>`},
		{query: "ownershipControls", root: "OwnershipControls", missing: "OwnershipControlsNotFoundError",
			initial: `<OwnershipControls xmlns="` + namespace + `"><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>`},
		{query: policyQuery, missing: "NoSuchBucketPolicy"},
		{query: "lifecycle", root: "LifecycleConfiguration", missing: "NoSuchLifecycleConfiguration"},
		{query: notificationQuery, root: notificationRoot, initial: noNotification, keeps: true},
		{query: "tagging", root: "Tagging", missing: "NoSuchTagSet"},
	}
}

// unserved lists sub-resources that gofakes3 would mistake for something else.
func unserved() []string {
	return []string{
		"accelerate", "acl", "analytics", "attributes", "cors", "intelligent-tiering", "inventory", "legal-hold", "logging",
		"metrics", "notification", "object-lock", "policyStatus", "replication", "requestPayment", "restore", "retention",
		"select", "tagging", "torrent", "website",
	}
}

func documentOf(q url.Values) (document, bool) {
	for _, d := range documents() {
		if q.Has(d.query) {
			return d, true
		}
	}
	return document{}, false
}

func unservedOf(q url.Values) (string, bool) {
	for _, name := range unserved() {
		if q.Has(name) {
			return name, true
		}
	}
	return "", false
}

// removed marks a document that was deleted, in contrast to one that was never put.
const removed = "-"

// serveDocument answers GET, PUT and DELETE of a bucket's sub-resource.
func (s *Service) serveDocument(w http.ResponseWriter, r *http.Request, bucketName string, d document) {
	if !slices.Contains([]string{http.MethodGet, http.MethodPut, http.MethodDelete}, r.Method) || d.keeps && r.Method == http.MethodDelete {
		fail(w, r, http.StatusMethodNotAllowed, gofakes3.ErrMethodNotAllowed, "The specified method is not allowed against this resource.")
		return
	}
	var body []byte
	if r.Method == http.MethodPut {
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, 1<<20)); err != nil {
			fail(w, r, http.StatusBadRequest, gofakes3.ErrIncompleteBody, err.Error())
			return
		}
		if code, message := s.checkDocument(d, bucketName, body); code != gofakes3.ErrNone {
			status := http.StatusBadRequest
			if code == gofakes3.ErrNotImplemented {
				status = http.StatusNotImplemented
			}
			fail(w, r, status, code, message)
			return
		}
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	b, ok := s.store.buckets[bucketName]
	if !ok {
		fail(w, r, http.StatusNotFound, gofakes3.ErrNoSuchBucket, "The specified bucket does not exist")
		return
	}
	switch r.Method {
	case http.MethodPut:
		b.Documents[d.query] = string(body)
		if d.root == "" {
			w.WriteHeader(http.StatusNoContent)
		}
	case http.MethodDelete:
		b.Documents[d.query] = removed
		w.WriteHeader(http.StatusNoContent)
	default:
		content, put := b.Documents[d.query]
		if !put {
			content = d.initial
		}
		if content == removed || content == "" {
			fail(w, r, http.StatusNotFound, d.missing, fmt.Sprintf("The bucket %s has no %s configuration.", bucketName, d.query))
			return
		}
		contentType := "application/xml"
		if d.root == "" {
			contentType = "application/json"
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, content) // the client may have disconnected
	}
}

// checkDocument is check with additional checks of policies and notification
// configurations, which the embedded S3 evaluates.
func (s *Service) checkDocument(d document, bucketName string, body []byte) (gofakes3.ErrorCode, string) {
	if d.query == notificationQuery {
		return checkNotification(body)
	}
	code, message := d.check(body)
	if code == gofakes3.ErrNone && d.query == policyQuery {
		if err := s.checkBucketPolicy(bucketName, string(body)); err != nil {
			return "MalformedPolicy", err.Error()
		}
	}
	return code, message
}

// check checks the syntax of a document.
func (d document) check(body []byte) (gofakes3.ErrorCode, string) {
	if d.root == "" {
		var policy struct{ Statement any }
		if err := json.Unmarshal(body, &policy); err != nil || policy.Statement == nil {
			return "MalformedPolicy", "Policies must be valid JSON with a Statement."
		}
		return gofakes3.ErrNone, ""
	}
	var root struct{ XMLName xml.Name }
	if err := xml.Unmarshal(body, &root); err != nil || root.XMLName.Local != d.root {
		return gofakes3.ErrMalformedXML, "The XML you provided was not well-formed or did not validate against our published schema: a " + d.root + " element is expected."
	}
	return gofakes3.ErrNone, ""
}
