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

// tokenOptional allows calls of IMDSv1 to a metadata service that requires
// tokens. In a container, cloud-init before 23.3 cannot detect EC2 and then
// never requests a token. Tokens that calls do have are checked.
func tokenOptional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(tokenHeader) == "" && r.Method == http.MethodGet {
			r = r.Clone(r.Context())
			r.Header.Set(tokenHeader, fetchToken(next, r))
		}
		next.ServeHTTP(w, r)
	})
}

// fetchToken gets a token on the guest's behalf. If it gets none, the service
// refuses the following call.
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
