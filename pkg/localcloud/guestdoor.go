package localcloud

import (
	"net/http"
	"strings"
)

// maxGuestObject is the largest object that a guest may upload, in bytes: what
// the factory reads of a guest is no larger.
const maxGuestObject = 64 << 20

// GuestHandler serves what guests may reach of the embedded AWS: objects of S3
// by presigned address, the secrets and parameters that their role is granted,
// and nothing else. Handler trusts every caller, as it is for programs of this
// machine; a guest that could call it might deploy a function, and functions
// run as processes of this machine.
func (c *Cloud) GuestHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isPresignedObject(r) {
			r.Body = http.MaxBytesReader(w, r.Body, maxGuestObject)
			c.handler.ServeHTTP(w, r)
			return
		}
		if op, ok := guestOperation(r); ok {
			c.serveGuestCall(w, r, op)
			return
		}
		http.Error(w, "guests reach objects of S3 by presigned address (GET, HEAD or PUT), and with the credentials of their role "+
			strings.Join(guestOperationNames(), ", ")+": nothing else of the embedded AWS", http.StatusForbidden)
	})
}

// isPresignedObject says whether a request is for one object and bears its
// signature in the query, which S3 verifies. A signature in the header, or of
// another service, would be believed without.
func isPresignedObject(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut:
	default:
		return false
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if bucket == "" || key == "" || strings.HasPrefix(bucket, "_") {
		return false
	}
	if r.Header.Get("Authorization") != "" || r.Header.Get("X-Amz-Target") != "" || r.Header.Get("X-Amz-Copy-Source") != "" {
		return false
	}
	q := r.URL.Query()
	scope := strings.Split(q.Get("X-Amz-Credential"), "/")
	return q.Get("X-Amz-Signature") != "" && len(q["X-Amz-Credential"]) == 1 && len(scope) == 5 && scope[3] == "s3"
}
