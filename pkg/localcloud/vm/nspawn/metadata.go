//go:build linux

package nspawn

import (
	"net/http"
	"net/http/httptest"
)

const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"             // #nosec G101 -- a header's name
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds" // #nosec G101 -- a header's name
	tokenTTL    = "60"
)

// tokenOptional lets calls of version 1 through to a metadata service that wants
// tokens. In a container cloud-init cannot see that it is on EC2 and, before its
// release 23.3, then never asks for a token. Calls that bring a token are
// checked as ever.
func tokenOptional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(tokenHeader) == "" && r.Method == http.MethodGet {
			r = r.Clone(r.Context())
			r.Header.Set(tokenHeader, fetchToken(next, r))
		}
		next.ServeHTTP(w, r)
	})
}

// fetchToken gets a token in the guest's stead. If it gets none, the call that
// follows is refused by the service itself.
func fetchToken(service http.Handler, r *http.Request) string {
	ask, err := http.NewRequestWithContext(r.Context(), http.MethodPut, "http://169.254.169.254/latest/api/token", nil)
	if err != nil {
		return ""
	}
	ask.RemoteAddr = r.RemoteAddr
	ask.Header.Set(ttlHeader, tokenTTL)
	answer := httptest.NewRecorder()
	service.ServeHTTP(answer, ask)
	if answer.Code != http.StatusOK {
		return ""
	}
	return answer.Body.String()
}
