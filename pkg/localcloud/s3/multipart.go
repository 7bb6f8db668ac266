package s3

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/johannesboyne/gofakes3"
)

// serveMultipart answers the calls of multipart uploads in which gofakes3 panics or
// differs from S3. It reports whether it has answered.
func (s *Service) serveMultipart(w http.ResponseWriter, r *http.Request, bucketName, key string, q url.Values) bool {
	next := s.parts
	switch {
	case r.Method == http.MethodGet && key != "" && q.Get("uploadId") != "":
		listParts(w, r, q, next)
	case r.Method == http.MethodGet && key == "" && q.Has("uploads"):
		listUploads(w, r, bucketName, q, next)
	case r.Method == http.MethodPost && key != "" && q.Get("uploadId") != "":
		if checkCompletion(w, r) {
			s.complete(w, r)
		}
	default:
		return false
	}
	return true
}

// recorder records an answer of gofakes3.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (c *recorder) Header() http.Header         { return c.header }
func (c *recorder) WriteHeader(status int)      { c.status = status }
func (c *recorder) Write(p []byte) (int, error) { return c.body.Write(p) }

// ask calls gofakes3 with another query.
func ask(r *http.Request, q url.Values, next http.Handler) *recorder {
	inner := r.Clone(r.Context())
	inner.URL.RawQuery = q.Encode()
	out := &recorder{header: http.Header{}, status: http.StatusOK}
	next.ServeHTTP(out, inner)
	return out
}

func (c *recorder) replay(w http.ResponseWriter) {
	for name, values := range c.header {
		w.Header()[name] = values
	}
	w.WriteHeader(c.status)
	_, _ = w.Write(c.body.Bytes()) // the client may have disconnected
}

// listParts answers ListParts. gofakes3 panics if the marker is behind the last part,
// and counts from the marker if it is not zero. Therefore listParts asks it for all
// parts, page by page.
func listParts(w http.ResponseWriter, r *http.Request, q url.Values, next http.Handler) {
	marker, ok := pageNumber(w, r, q, "part-number-marker", 0, 1<<31-1)
	if !ok {
		return
	}
	most, ok := pageNumber(w, r, q, "max-parts", gofakes3.DefaultMaxUploadParts, gofakes3.MaxUploadPartsLimit)
	if !ok {
		return
	}
	var all gofakes3.ListMultipartUploadPartsResult
	var parts []gofakes3.ListMultipartUploadPartItem
	for from := 0; ; {
		answer := ask(r, url.Values{"uploadId": {q.Get("uploadId")}, "part-number-marker": {strconv.Itoa(from)}}, next)
		all = gofakes3.ListMultipartUploadPartsResult{}
		if answer.status != http.StatusOK || xml.Unmarshal(answer.body.Bytes(), &all) != nil {
			answer.replay(w)
			return
		}
		for _, part := range all.Parts {
			part.PartNumber += from
			parts = append(parts, part)
		}
		if !all.IsTruncated || all.NextPartNumberMarker == 0 {
			break
		}
		from += all.NextPartNumberMarker
	}
	all.PartNumberMarker, all.MaxParts, all.IsTruncated, all.NextPartNumberMarker, all.Parts = marker, int64(most), false, 0, nil
	for _, part := range parts {
		if part.PartNumber <= marker {
			continue
		}
		if len(all.Parts) == most {
			all.IsTruncated = true
			break
		}
		all.Parts = append(all.Parts, part)
		all.NextPartNumberMarker = part.PartNumber
	}
	writeXML(w, http.StatusOK, all)
}

// pageNumber reads a number from a query. ok is false if it has answered the request.
func pageNumber(w http.ResponseWriter, r *http.Request, q url.Values, name string, otherwise, most int) (n int, ok bool) {
	text := q.Get(name)
	if text == "" {
		return otherwise, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		fail(w, r, http.StatusBadRequest, gofakes3.ErrInvalidArgument, fmt.Sprintf("Provided %s not an integer or within integer range", name))
		return 0, false
	}
	return min(n, most), true
}

// listUploads answers ListMultipartUploads. For a bucket that never had an upload,
// gofakes3 answers NoSuchUpload and S3 an empty list.
func listUploads(w http.ResponseWriter, r *http.Request, bucketName string, q url.Values, next http.Handler) {
	most, ok := pageNumber(w, r, q, "max-uploads", gofakes3.DefaultMaxUploads, gofakes3.MaxUploadsLimit)
	if !ok {
		return
	}
	answer := ask(r, q, next)
	var refused struct{ Code string }
	if answer.status == http.StatusNotFound && xml.Unmarshal(answer.body.Bytes(), &refused) == nil && refused.Code == string(gofakes3.ErrNoSuchUpload) {
		writeXML(w, http.StatusOK, struct {
			XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
			gofakes3.ListMultipartUploadsResult
		}{ListMultipartUploadsResult: gofakes3.ListMultipartUploadsResult{
			Bucket: bucketName, Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), KeyMarker: q.Get("key-marker"), MaxUploads: int64(most),
		}})
		return
	}
	answer.replay(w)
}

// complete answers CompleteMultipartUpload.
func (s *Service) complete(w http.ResponseWriter, r *http.Request) {
	v := &view{store: s.store}
	answer := func() *recorder {
		s.uploads.mu.Lock()
		defer s.uploads.mu.Unlock()
		s.uploads.view = v
		defer func() { s.uploads.view = nil }()
		return ask(r, r.URL.Query(), s.parts)
	}()
	answer.replay(w)
	changes := v.taken()
	var out struct{ ETag string }
	if xml.Unmarshal(answer.body.Bytes(), &out) == nil {
		for i := range changes {
			changes[i].etag = strings.Trim(out.ETag, `"`) // of the multipart upload, not of the object's content
		}
	}
	s.notify(r.Context(), reasonComplete, sourceIP(r), changes)
}

// maxCompletion is the largest body of CompleteMultipartUpload, in bytes:
// 10,000 parts with their ETags and checksums.
const maxCompletion = 4 << 20

// checkCompletion refuses lists of parts that make gofakes3 panic, or that it accepts and
// S3 does not. It reports whether the request may continue.
func checkCompletion(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "" {
		fail(w, r, http.StatusNotImplemented, gofakes3.ErrNotImplemented, "The embedded S3 does not serve conditions of CompleteMultipartUpload.")
		return false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCompletion))
	if err != nil {
		fail(w, r, http.StatusBadRequest, gofakes3.ErrIncompleteBody, err.Error())
		return false
	}
	var in gofakes3.CompleteMultipartUploadRequest
	if err := xml.Unmarshal(body, &in); err != nil || len(in.Parts) == 0 {
		fail(w, r, http.StatusBadRequest, gofakes3.ErrMalformedXML, "The XML you provided was not well-formed or did not validate against our published schema")
		return false
	}
	last := 0
	for _, part := range in.Parts {
		if part.PartNumber < 1 || part.PartNumber > gofakes3.MaxUploadPartNumber {
			fail(w, r, http.StatusBadRequest, gofakes3.ErrInvalidArgument, fmt.Sprintf("PartNumber must be >= 1 and <= %d", gofakes3.MaxUploadPartNumber))
			return false
		}
		if part.PartNumber <= last {
			fail(w, r, http.StatusBadRequest, gofakes3.ErrInvalidPartOrder, "The list of parts was not in ascending order. Parts must be ordered by part number.")
			return false
		}
		last = part.PartNumber
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return true
}
