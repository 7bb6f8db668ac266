package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/johannesboyne/gofakes3"
)

// Error codes of presigned requests that gofakes3 does not name.
const (
	errAccessDenied    gofakes3.ErrorCode = "AccessDenied"
	errSignature       gofakes3.ErrorCode = "SignatureDoesNotMatch"
	errInvalidKey      gofakes3.ErrorCode = "InvalidAccessKeyId"
	errQueryParameters gofakes3.ErrorCode = "AuthorizationQueryParametersError"
)

const (
	amzTime       = "20060102T150405Z"
	longestExpiry = 7 * 24 * time.Hour
	clockSkew     = 15 * time.Minute
)

func isPresigned(r *http.Request) bool {
	q := r.URL.Query()
	return q.Has("X-Amz-Signature") || q.Has("X-Amz-Expires") || q.Has("X-Amz-Algorithm")
}

// checkPresigned verifies the time limit and the signature of a presigned
// request (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html).
// host is what the client asked for. Time is this machine's, since the URL was
// made by a client that knows no other.
func checkPresigned(r *http.Request, path, host string, now time.Time, secretOf func(accessKeyID string) (string, bool)) (code gofakes3.ErrorCode, message string) {
	q := r.URL.Query()
	if q.Get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" {
		return errQueryParameters, `X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"`
	}
	signed, err := time.Parse(amzTime, q.Get("X-Amz-Date"))
	if err != nil {
		return errQueryParameters, `X-Amz-Date must be in the ISO8601 Long Format "yyyyMMdd'T'HHmmss'Z'"`
	}
	seconds, err := strconv.Atoi(q.Get("X-Amz-Expires"))
	if err != nil || seconds < 0 || time.Duration(seconds)*time.Second > longestExpiry {
		return errQueryParameters, "X-Amz-Expires must be a number of seconds, at most a week: 604800"
	}
	scope := strings.Split(q.Get("X-Amz-Credential"), "/")
	if len(scope) != 5 || scope[3] != "s3" || scope[4] != "aws4_request" || scope[1] != signed.Format("20060102") {
		return errQueryParameters, "Error parsing the X-Amz-Credential parameter; <key>/<date>/<region>/s3/aws4_request is expected"
	}
	if signed.After(now.Add(clockSkew)) {
		return errAccessDenied, "Request is not yet valid"
	}
	if expires := signed.Add(time.Duration(seconds) * time.Second); !now.Before(expires) {
		return errAccessDenied, fmt.Sprintf("Request has expired (at %s)", expires.Format(time.RFC3339))
	}
	secret, ok := secretOf(scope[0])
	if !ok {
		return errInvalidKey, "The AWS Access Key Id you provided does not exist in our records, or has expired."
	}
	names := strings.Split(q.Get("X-Amz-SignedHeaders"), ";")
	if !slices.Contains(names, "host") {
		return errQueryParameters, "X-Amz-SignedHeaders must name host"
	}
	want := presignedSignature(r, path, host, names, scope, secret)
	if !hmac.Equal([]byte(want), []byte(q.Get("X-Amz-Signature"))) {
		return errSignature, "The request signature we calculated does not match the signature you provided. Check your key, the method, and the path and headers that were signed."
	}
	return gofakes3.ErrNone, ""
}

func presignedSignature(r *http.Request, path, host string, names, scope []string, secret string) string {
	q := r.URL.Query()
	date := q.Get("X-Amz-Date")
	q.Del("X-Amz-Signature")
	var headers strings.Builder
	for _, name := range names {
		value := host
		if name != "host" {
			values := slices.Clone(r.Header.Values(name))
			for i := range values {
				values[i] = strings.Join(strings.Fields(values[i]), " ")
			}
			value = strings.Join(values, ",")
			if name == "content-length" {
				value = strconv.FormatInt(r.ContentLength, 10)
			}
		}
		headers.WriteString(name + ":" + value + "\n")
	}
	payload := "UNSIGNED-PAYLOAD"
	if hash := r.Header.Get("X-Amz-Content-Sha256"); hash != "" && slices.Contains(names, "x-amz-content-sha256") {
		payload = hash
	}
	canonical := strings.Join([]string{
		r.Method, path, strings.ReplaceAll(canonicalQuery(q), "+", "%20"), headers.String(), strings.Join(names, ";"), payload,
	}, "\n")
	digest := sha256.Sum256([]byte(canonical))
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", date, strings.Join(scope[1:], "/"), hex.EncodeToString(digest[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range scope[1:] {
		key = sign(key, part)
	}
	return hex.EncodeToString(sign(key, toSign))
}

// canonicalQuery is q.Encode with the values of a name sorted as well.
func canonicalQuery(q url.Values) string {
	for _, values := range q {
		slices.Sort(values)
	}
	return q.Encode()
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
