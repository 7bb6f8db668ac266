package s3

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/johannesboyne/gofakes3"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/sigv4"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// errSignature is the code for a wrong signature. gofakes3 has no constant for it.
const errSignature gofakes3.ErrorCode = "SignatureDoesNotMatch"

// Handler serves S3's protocol. The caller has been verified, except for the signatures
// of chunks.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(s.serve)
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	r = pathStyle(r)
	bucketName, key := Address(r)
	q := r.URL.Query()
	if s.serveBucket(w, r, bucketName, key, q) {
		return
	}
	if name, ok := unservedOf(q); ok {
		fail(w, r, http.StatusNotImplemented, gofakes3.ErrNotImplemented, fmt.Sprintf("The embedded S3 does not serve ?%s.", name))
		return
	}
	if s.serveMultipart(w, r, bucketName, key, q) {
		return
	}
	if r.Method == http.MethodPut && key != "" {
		cleanup, ok := s.prepareBody(w, r)
		defer cleanup()
		if !ok {
			return
		}
	}
	next := s.parts
	if writes(r, key, q) && !q.Has("uploadId") && !q.Has("uploads") {
		v := &view{store: s.store}
		next = s.fake(v)
		defer func() { s.notify(r.Context(), reasonOf(r), sourceIP(r), v.taken()) }()
	}
	next.ServeHTTP(&answer{ResponseWriter: w, keepChecksums: r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" && r.Header.Get("Range") == "", key: key}, r)
}

// serveBucket answers requests to the service or to a bucket that gofakes3 does not
// support. It reports whether it has answered.
func (s *Service) serveBucket(w http.ResponseWriter, r *http.Request, bucketName, key string, q url.Values) bool {
	caller := scope.Caller(r.Context(), s.cfg.Default)
	switch {
	case key != "":
		return false
	case bucketName == "":
		if r.Method != http.MethodGet {
			return false
		}
		s.listBuckets(w, caller)
	case q.Has("location") && r.Method == http.MethodGet:
		s.location(w, r, bucketName)
	case r.Method == http.MethodHead:
		s.headBucket(w, bucketName)
	case r.Method == http.MethodPut && r.URL.RawQuery == "" || r.Method == http.MethodPut && onlySignature(q):
		s.createBucket(w, r, bucketName, caller)
	default:
		d, ok := documentOf(q)
		if ok {
			s.serveDocument(w, r, bucketName, d)
		}
		return ok
	}
	return true
}

// onlySignature reports whether a query contains only a signature and the operation name
// of the SDKs.
func onlySignature(q url.Values) bool {
	for name := range q {
		if name != "x-id" && !strings.HasPrefix(name, "X-Amz-") {
			return false
		}
	}
	return true
}

// Address returns the bucket and key of a request. Either may be empty.
func Address(r *http.Request) (bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(pathStyle(r).URL.Path, "/"), "/")
	return bucket, key
}

// isObject reports whether a request is for an object.
func isObject(r *http.Request) bool {
	bucket, key := Address(r)
	return bucket != "" && key != ""
}

// pathStyle moves a bucket in the host name into the path.
func pathStyle(r *http.Request) *http.Request {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	for _, base := range []string{".localhost", "." + wire.Host} {
		name, ok := strings.CutSuffix(host, base)
		if !ok || name == "" || name == "s3" {
			continue
		}
		moved := r.Clone(r.Context())
		moved.URL.Path = "/" + name + r.URL.Path
		moved.URL.RawPath = ""
		return moved
	}
	return r
}

// prepareBody decodes an aws-chunked body and arranges the verification of checksums. ok
// is false if it has answered the request.
func (s *Service) prepareBody(w http.ResponseWriter, r *http.Request) (cleanup func(), ok bool) {
	cleanup = func() {}
	if isChunked(r.Header) {
		file, trailers, err := s.spoolChunks(r.Body, sigv4.ChunksFrom(r.Context()))
		if file != nil {
			cleanup = func() {
				_ = file.Close()
				_ = os.Remove(file.Name())
			}
		}
		var refused *sigv4.Error
		if errors.As(err, &refused) {
			fail(w, r, http.StatusForbidden, errSignature, refused.Message)
			return cleanup, false
		}
		if err != nil {
			fail(w, r, http.StatusBadRequest, gofakes3.ErrIncompleteBody, err.Error())
			return cleanup, false
		}
		info, err := file.Stat()
		if err != nil {
			fail(w, r, http.StatusInternalServerError, gofakes3.ErrInternal, err.Error())
			return cleanup, false
		}
		if promised := r.Header.Get("X-Amz-Decoded-Content-Length"); promised != "" && promised != strconv.FormatInt(info.Size(), 10) {
			fail(w, r, http.StatusBadRequest, gofakes3.ErrIncompleteBody, fmt.Sprintf("The body has %d bytes, x-amz-decoded-content-length says %s.", info.Size(), promised))
			return cleanup, false
		}
		for name, value := range checksums(trailers) {
			r.Header.Set(name, value)
		}
		r.Body, r.ContentLength = io.NopCloser(file), info.Size()
		r.Header.Set("Content-Length", strconv.FormatInt(info.Size(), 10))
		r.Header.Del("X-Amz-Content-Sha256")
		plainEncoding(r.Header)
	}
	r.Body = io.NopCloser(verified(r.Body, checksums(r.Header)))
	return cleanup, true
}

func (s *Service) spoolChunks(body io.Reader, chunks *sigv4.Chunks) (*os.File, http.Header, error) {
	file, err := os.CreateTemp(s.store.dir, "chunked-*")
	if err != nil {
		return nil, nil, fmt.Errorf("storing an object: %w", err)
	}
	trailers, err := unchunk(body, file, chunks)
	if err != nil {
		return file, nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return file, nil, fmt.Errorf("storing an object: %w", err)
	}
	return file, trailers, nil
}

// plainEncoding removes aws-chunked from Content-Encoding, because it describes the
// transfer and not the object.
func plainEncoding(h http.Header) {
	var kept []string
	for part := range strings.SplitSeq(h.Get("Content-Encoding"), ",") {
		if part = strings.TrimSpace(part); part != "" && part != "aws-chunked" {
			kept = append(kept, part)
		}
	}
	h.Del("Content-Encoding")
	if len(kept) > 0 {
		h.Set("Content-Encoding", strings.Join(kept, ","))
	}
}

// answer removes an object's checksums where S3 does not send them: if they were not
// requested, or with a range of the object.
type answer struct {
	http.ResponseWriter
	keepChecksums bool
	key           string
	begun         bool
}

func (a *answer) begin() {
	if a.begun {
		return
	}
	a.begun = true
	if a.keepChecksums || a.key == "" {
		return
	}
	for name := range a.Header() {
		if _, ok := algorithmOf(name); ok {
			a.Header().Del(name)
		}
	}
}

func (a *answer) WriteHeader(status int) {
	a.begin()
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(p)
}

func (s *Service) createBucket(w http.ResponseWriter, r *http.Request, name string, caller wire.Caller) {
	region := caller.Region
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		fail(w, r, http.StatusBadRequest, gofakes3.ErrIncompleteBody, err.Error())
		return
	}
	if len(body) > 0 {
		var in struct{ LocationConstraint string }
		if err := xml.Unmarshal(body, &in); err != nil {
			fail(w, r, http.StatusBadRequest, gofakes3.ErrMalformedXML, err.Error())
			return
		}
		if in.LocationConstraint != "" {
			region = in.LocationConstraint
		}
	}
	if code, status, message := s.makeBucket(name, caller.Account, region); code != gofakes3.ErrNone {
		fail(w, r, status, code, message)
		return
	}
	w.Header().Set("Location", "/"+name)
	w.WriteHeader(http.StatusOK)
}

// makeBucket creates a bucket or returns why not. As on AWS, creating one's own bucket
// again succeeds in us-east-1 and fails in other regions.
func (s *Service) makeBucket(name, account, region string) (gofakes3.ErrorCode, int, string) {
	if err := gofakes3.ValidateBucketName(name); err != nil {
		return gofakes3.ErrInvalidBucketName, http.StatusBadRequest, "The specified bucket is not valid."
	}
	owner, ok := s.store.create(name, account, region)
	switch {
	case ok, owner == account && region == "us-east-1":
		return gofakes3.ErrNone, http.StatusOK, ""
	case owner == account:
		return "BucketAlreadyOwnedByYou", http.StatusConflict, "Your previous request to create the named bucket succeeded and you already own it."
	default:
		return gofakes3.ErrBucketAlreadyExists, http.StatusConflict, "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."
	}
}

func (s *Service) headBucket(w http.ResponseWriter, name string) {
	s.store.mu.RLock()
	b, ok := s.store.buckets[name]
	s.store.mu.RUnlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("X-Amz-Bucket-Region", b.Region)
	w.WriteHeader(http.StatusOK)
}

func (s *Service) listBuckets(w http.ResponseWriter, caller wire.Caller) {
	type entry struct {
		Name         string
		CreationDate string
		BucketRegion string
	}
	var out struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner   struct{ ID string }
		Buckets struct{ Bucket []entry }
	}
	out.Owner.ID = caller.Account
	for _, b := range s.store.list(caller.Account) {
		out.Buckets.Bucket = append(out.Buckets.Bucket, entry{b.Name, b.Created.UTC().Format("2006-01-02T15:04:05.000Z"), b.Region})
	}
	writeXML(w, http.StatusOK, out)
}

func (s *Service) location(w http.ResponseWriter, r *http.Request, name string) {
	s.store.mu.RLock()
	b, ok := s.store.buckets[name]
	s.store.mu.RUnlock()
	if !ok {
		fail(w, r, http.StatusNotFound, gofakes3.ErrNoSuchBucket, "The specified bucket does not exist")
		return
	}
	var out struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		Region  string   `xml:",chardata"`
	}
	if b.Region != "us-east-1" { // the location of us-east-1 is empty
		out.Region = b.Region
	}
	writeXML(w, http.StatusOK, out)
}

func fail(w http.ResponseWriter, r *http.Request, status int, code gofakes3.ErrorCode, message string) {
	if r.Method == http.MethodHead {
		w.WriteHeader(status)
		return
	}
	writeXML(w, status, struct {
		XMLName   xml.Name `xml:"Error"`
		Code      string
		Message   string
		Resource  string
		RequestID string `xml:"RequestId"`
	}{Code: string(code), Message: message, Resource: r.URL.Path, RequestID: wire.RequestIDFrom(r.Context())})
}

func writeXML(w http.ResponseWriter, status int, v any) {
	body, err := xml.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), body...)) // the client may have disconnected
}
