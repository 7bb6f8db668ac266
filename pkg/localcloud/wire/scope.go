package wire

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Host is the name under which guests reach the embedded AWS.
const Host = "localcloud.internal"

// scope is the credential scope of a signed request: who signed it, for which
// region and service. The signature itself is not checked: the embedded AWS
// listens on loopback only and holds nothing worth a key.
type scope struct {
	accessKeyID string
	region      string
	service     string
}

// scopeOf reads the SigV4 Authorization header or, in a presigned request, the
// X-Amz-Credential parameter. ok is false for an unsigned request.
func scopeOf(r *http.Request) (s scope, ok bool) {
	credential := ""
	if header := r.Header.Get("Authorization"); strings.HasPrefix(header, "AWS4-") {
		_, fields, _ := strings.Cut(header, " ")
		for field := range strings.SplitSeq(fields, ",") {
			if value, found := strings.CutPrefix(strings.TrimSpace(field), "Credential="); found {
				credential = value
			}
		}
	} else {
		credential = queryParameter(r.URL, "X-Amz-Credential")
	}
	return parseScope(credential, r.Header.Get("X-Amz-Region-Set"))
}

// parseScope splits AKID/date/region/service/aws4_request, or SigV4A's form
// without a region. An access key id may itself hold slashes, so it is read
// from the end.
func parseScope(credential, regionSet string) (scope, bool) {
	parts := strings.Split(credential, "/")
	n := len(parts)
	if n < 4 || parts[n-1] != "aws4_request" {
		return scope{}, false
	}
	if regionSet != "" {
		region, _, _ := strings.Cut(regionSet, ",")
		if region == "*" {
			region = ""
		}
		return scope{accessKeyID: strings.Join(parts[:n-3], "/"), region: region, service: parts[n-2]}, true
	}
	if n < 5 {
		return scope{}, false
	}
	return scope{accessKeyID: strings.Join(parts[:n-4], "/"), region: parts[n-3], service: parts[n-2]}, true
}

func queryParameter(u *url.URL, name string) string {
	if !strings.Contains(u.RawQuery, name) {
		return ""
	}
	return u.Query().Get(name)
}

// isAccountID says whether s is twelve digits.
func isAccountID(s string) bool {
	if len(s) != 12 {
		return false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// isOwnHost says whether host, of a Host or Origin header, is this machine's
// loopback or the name the guests use. Any other name reached us by DNS
// rebinding or by mistake.
func isOwnHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	for _, own := range []string{"localhost", Host} {
		if host == own || strings.HasSuffix(host, "."+own) {
			return true
		}
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// isOwnOrigin refuses pages of other sites: a browser would send their requests
// to loopback, and the signature does not stop them.
func isOwnOrigin(origin string) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && isOwnHost(u.Host)
}
