package localcloud

import (
	"net/http"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/sigv4"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
)

// maxGuestObject is the largest object that a guest may upload, in bytes: what
// the factory reads of a guest is no larger.
const maxGuestObject = 64 << 20

// GuestHandler serves what guests may reach of the embedded AWS: objects of S3
// by an address that a function or the guest's role has presigned, the secrets and
// parameters that their role is granted, and nothing else. A guest that could call
// all of it might deploy a function, and functions run as processes of this
// machine; so not even who has the secret of the root users gets in here.
func (c *Cloud) GuestHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isPresignedObject(r) {
			if !c.isForGuests(r) {
				http.Error(w, "guests reach objects of S3 by what a function or an instance has presigned with the credentials of its role, and by nothing else", http.StatusForbidden)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxGuestObject)
			c.handler.ServeHTTP(w, r)
			return
		}
		if op, ok := guestOperation(r); ok {
			c.serveGuestCall(w, r, op)
			return
		}
		http.Error(w, "guests reach objects of S3 by address presigned by signature version 4 (GET, HEAD or PUT), and with the credentials of their role "+
			strings.Join(guestOperationNames(), ", ")+": nothing else of the embedded AWS", http.StatusForbidden)
	})
}

// isForGuests says whether the key of a presigned address is of a session that a
// function or an instance has, and that has not ended. What is signed is verified
// behind the door.
func (c *Cloud) isForGuests(r *http.Request) bool {
	signature, err := sigv4.Parse(r)
	if err != nil {
		return false
	}
	session, ok := c.STS.Session(signature.AccessKeyID)
	return ok && (session.SourceARN == lambda.Principal || authz.IsEC2(session.SourceARN)) && c.cfg.Clock.Now().Before(session.Expires)
}

// isPresignedObject says whether a request is for one object and bears its
// signature in the query.
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
