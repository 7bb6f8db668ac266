// Package sigv4 verifies requests that are signed by Signature Version 4, in a
// header or in the address
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html),
// and the chunks of a body that is signed as it streams
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html).
//
// Signing the request again with the SDK's signer is not enough: it chooses
// itself which headers it signs (never User-Agent, nor a Content-Length of 0),
// but a verifier must follow the client's choice. Tests compare the two.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	amzTime   = "20060102T150405Z"
	// Skew is the maximum difference between the time of a signature and the
	// verifier's time.
	Skew = 5 * time.Minute
	// LongestExpiry is the longest lifetime of a presigned URL
	// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html).
	LongestExpiry = 7 * 24 * time.Hour
)

// Values of x-amz-content-sha256 other than a digest.
const (
	UnsignedPayload         = "UNSIGNED-PAYLOAD"
	unsignedPayloadTrailer  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	streamingPayload        = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamingPayloadTrailer = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
)

// Problem is the reason why a signature is refused. AWS's services have
// different codes for the same problem.
type Problem int

// Problems.
const (
	Missing           Problem = iota // the request is not signed
	Unsupported                      // it is signed in another way, such as by version 2
	Incomplete                       // the signature in the header cannot be read
	IncompleteAddress                // the signature in the address cannot be read
	Unsigned                         // a header that must be signed is not
	Mismatch                         // it is not the signature of this request
	Skewed                           // its time is too far from the verifier's
	Expired                          // a presigned address is no longer valid
	NotYetValid                      // a presigned address is not valid yet
	NoPayload                        // the digest of the body is missing
	BadPayload                       // the body does not have the digest that is signed
)

// Error is the error for a refused signature.
type Error struct {
	Problem Problem
	Message string
}

func (e *Error) Error() string { return e.Message }

func fail(p Problem, format string, args ...any) error {
	return &Error{Problem: p, Message: fmt.Sprintf(format, args...)}
}

// Signature is the parsed signature of a request.
type Signature struct {
	AccessKeyID string
	Region      string
	Service     string // signing name
	// Token is the session token of the signature, or empty.
	Token string
	// Presigned is true if the signature is in the URL.
	Presigned bool

	scope   string // date/region/service/aws4_request
	date    string
	at      time.Time
	expires time.Duration // of a presigned address
	signed  []string      // names of the headers that are signed
	value   string
	query   url.Values
}

// IsPresigned reports whether a request has parts of a signature in its URL.
func IsPresigned(r *http.Request) bool {
	if !strings.Contains(r.URL.RawQuery, "X-Amz-") {
		return false
	}
	q := r.URL.Query()
	for _, name := range []string{"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Algorithm", "X-Amz-Expires"} {
		if q.Has(name) {
			return true
		}
	}
	return false
}

// ServiceOf returns the signing name of the service in a request, or "", so that
// a refusal can have the service's own form.
func ServiceOf(r *http.Request) string {
	credential := r.URL.Query().Get("X-Amz-Credential")
	for field := range strings.FieldsFuncSeq(r.Header.Get("Authorization"), func(c rune) bool { return c == ',' || c == ' ' }) {
		if value, ok := strings.CutPrefix(field, "Credential="); ok {
			credential = value
		}
	}
	parts := strings.Split(credential, "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[len(parts)-2]
}

// Parse parses the signature of a request. Each of its parts must occur once, so
// that it is unambiguous.
func Parse(r *http.Request) (Signature, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Signature{}, fail(Incomplete, "the query of the address cannot be read: %v", err)
	}
	header := len(r.Header.Values("Authorization")) > 0
	switch {
	case header && IsPresigned(r):
		return Signature{}, fail(Incomplete, "Only one authentication mechanism is allowed: the request has an Authorization header and X-Amz parameters in its address.")
	case header && isOtherMechanism(r.Header.Get("Authorization")), !header && !IsPresigned(r) && query.Has("AWSAccessKeyId"):
		return Signature{}, fail(Unsupported, "The authorization mechanism you have provided is not supported. Please use %s.", algorithm)
	case header:
		return parseHeader(r, query)
	case IsPresigned(r):
		s, err := parseQuery(query)
		var refused *Error
		if errors.As(err, &refused) {
			refused.Problem = IncompleteAddress
		}
		return s, err
	}
	return Signature{}, fail(Missing, "Request is missing Authentication Token")
}

// isOtherMechanism reports whether an Authorization header uses another
// mechanism of AWS, which is not served: "AWS KEY:SIGNATURE" of version 2, AWS3,
// and AWS4-ECDSA-P256-SHA256 of version 4a.
func isOtherMechanism(header string) bool {
	mechanism, _, _ := strings.Cut(header, " ")
	return strings.HasPrefix(mechanism, "AWS") && mechanism != algorithm
}

func parseHeader(r *http.Request, query url.Values) (Signature, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return Signature{}, fail(Incomplete, "Authorization header is required, once.")
	}
	rest, ok := strings.CutPrefix(headers[0], algorithm+" ")
	if !ok {
		return Signature{}, fail(Incomplete, "Authorization header must begin with %s.", algorithm)
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if _, twice := fields[name]; twice {
			return Signature{}, fail(Incomplete, "Authorization header has '%s' twice.", name)
		}
		fields[name] = value
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if fields[name] == "" {
			return Signature{}, fail(Incomplete, "Authorization header requires '%s' parameter.", name)
		}
	}
	if len(fields) != 3 {
		return Signature{}, fail(Incomplete, "Authorization header must have Credential, SignedHeaders and Signature, and no other parameter.")
	}
	s := Signature{value: fields["Signature"], signed: strings.Split(fields["SignedHeaders"], ";"), query: query}
	var err error
	if s.Token, err = single(r.Header.Values("X-Amz-Security-Token"), "X-Amz-Security-Token"); err != nil {
		return Signature{}, err
	}
	if s.date, err = single(r.Header.Values("X-Amz-Date"), "X-Amz-Date"); err != nil {
		return Signature{}, err
	}
	if s.date == "" {
		return Signature{}, fail(Incomplete, "Authorization header requires existence of an 'X-Amz-Date' header.")
	}
	return s, s.readCredential(fields["Credential"])
}

func parseQuery(query url.Values) (Signature, error) {
	got := map[string]string{}
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token"} {
		value, err := single(query[name], name)
		if err != nil {
			return Signature{}, err
		}
		if value == "" && name != "X-Amz-Security-Token" {
			return Signature{}, fail(Incomplete, "Query-string authentication version 4 requires the %s parameter.", name)
		}
		got[name] = value
	}
	if got["X-Amz-Algorithm"] != algorithm {
		return Signature{}, fail(Incomplete, `X-Amz-Algorithm only supports "%s"`, algorithm)
	}
	seconds, err := strconv.Atoi(got["X-Amz-Expires"])
	if err != nil || seconds < 0 || seconds > int(LongestExpiry/time.Second) {
		return Signature{}, fail(Incomplete, "X-Amz-Expires must be a number of seconds, at most a week: 604800")
	}
	s := Signature{
		Presigned: true, Token: got["X-Amz-Security-Token"], date: got["X-Amz-Date"], expires: time.Duration(seconds) * time.Second,
		signed: strings.Split(got["X-Amz-SignedHeaders"], ";"), value: got["X-Amz-Signature"], query: query,
	}
	return s, s.readCredential(got["X-Amz-Credential"])
}

// single returns the only value of a header or parameter, or "" if it is
// missing.
func single(values []string, name string) (string, error) {
	if len(values) > 1 {
		return "", fail(Incomplete, "%s must be there once, not %d times.", name, len(values))
	}
	if len(values) == 0 {
		return "", nil
	}
	return values[0], nil
}

func (s *Signature) readCredential(credential string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[0] == "" || parts[4] != "aws4_request" {
		return fail(Incomplete, "Credential must have the form <key>/<date>/<region>/<service>/aws4_request.")
	}
	s.AccessKeyID, s.Region, s.Service = parts[0], parts[2], parts[3]
	s.scope = strings.Join(parts[1:], "/")
	var err error
	if s.at, err = time.Parse(amzTime, s.date); err != nil {
		return fail(Incomplete, "Date must be in ISO-8601 'basic format', such as %s. Got '%s'.", amzTime, s.date)
	}
	if parts[1] != s.at.Format("20060102") {
		return fail(Incomplete, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s'.", parts[1], s.at.Format("20060102"))
	}
	return nil
}

// Covers reports whether a header is signed.
func (s Signature) Covers(name string) bool { return slices.Contains(s.signed, name) }

// Payload returns the signed description of the body: a digest in hexadecimal,
// UnsignedPayload, a name that begins with STREAMING-, or "" if the request has
// none.
func (s Signature) Payload(r *http.Request) (string, error) {
	payload, err := single(r.Header.Values("X-Amz-Content-Sha256"), "X-Amz-Content-Sha256")
	switch {
	case err != nil:
		return "", err
	case !s.Presigned:
		return payload, nil
	case payload != "" && s.Covers("x-amz-content-sha256"):
		return payload, nil
	}
	if payload, err = single(s.query["X-Amz-Content-Sha256"], "X-Amz-Content-Sha256"); payload == "" && err == nil {
		payload = UnsignedPayload
	}
	return payload, err
}

// Verify compares the signature with that of the request under secret, with
// payload as the digest of the body. It does not read the body.
func (s Signature) Verify(r *http.Request, payload, secret string, now time.Time) error {
	if err := s.checkTime(now); err != nil {
		return err
	}
	if err := s.checkCoverage(r); err != nil {
		return err
	}
	if !hmac.Equal([]byte(s.compute(r, payload, secret)), []byte(s.value)) {
		return fail(Mismatch, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

func (s Signature) checkTime(now time.Time) error {
	now = now.UTC()
	if s.Presigned {
		if s.at.After(now.Add(Skew)) {
			return fail(NotYetValid, "Request is not yet valid")
		}
		if ends := s.at.Add(s.expires); !now.Before(ends) {
			return fail(Expired, "Request has expired (at %s)", ends.Format(time.RFC3339))
		}
		return nil
	}
	if s.at.Before(now.Add(-Skew)) {
		return fail(Skewed, "Signature expired: %s is now earlier than %s (%s - 5 min.)", s.date, now.Add(-Skew).Format(amzTime), now.Format(amzTime))
	}
	if s.at.After(now.Add(Skew)) {
		return fail(Skewed, "Signature not yet current: %s is still later than %s (%s + 5 min.)", s.date, now.Add(Skew).Format(amzTime), now.Format(amzTime))
	}
	return nil
}

// checkCoverage refuses unsigned headers that the service relies on.
func (s Signature) checkCoverage(r *http.Request) error {
	if !s.Covers("host") {
		return fail(Unsigned, "'host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range r.Header {
		name = strings.ToLower(name)
		// A presigned URL has the description of the body in the URL.
		if s.Presigned && name == "x-amz-content-sha256" {
			continue
		}
		if strings.HasPrefix(name, "x-amz-") && !s.Covers(name) {
			return fail(Unsigned, "'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	return nil
}

func (s Signature) compute(r *http.Request, payload, secret string) string {
	var headers strings.Builder
	for _, name := range s.signed {
		headers.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	canonical := strings.Join([]string{
		r.Method, s.path(r), canonicalQuery(s.query), headers.String(), strings.Join(s.signed, ";"), payload,
	}, "\n")
	return s.sign(secret, strings.Join([]string{algorithm, s.date, s.scope, hexDigest([]byte(canonical))}, "\n"))
}

// path returns the canonical path: encoded once for S3, and twice for other
// services.
func (s Signature) path(r *http.Request) string {
	path := r.URL.Path
	if s.Service != "s3" {
		path = r.URL.EscapedPath()
	}
	if path == "" {
		return "/"
	}
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = encode(parts[i])
	}
	return strings.Join(parts, "/")
}

// canonicalQuery returns all parameters except the signature, sorted by name and
// value.
func canonicalQuery(query url.Values) string {
	var pairs [][2]string
	for name, values := range query {
		if name == "X-Amz-Signature" {
			continue
		}
		for _, value := range values {
			pairs = append(pairs, [2]string{encode(name), encode(value)})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	out := make([]string, len(pairs))
	for i, p := range pairs {
		out[i] = p[0] + "=" + p[1]
	}
	return strings.Join(out, "&")
}

// encode is AWS's UriEncode, which encodes all but the unreserved characters of
// RFC 3986.
func encode(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(text), "+", "%20"), "%7E", "~")
}

// headerValue returns the value of a header in its signed form. net/http stores
// some headers separately.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ",")
	}
	values := slices.Clone(r.Header.Values(name))
	for i := range values {
		values[i] = strings.Join(strings.Fields(values[i]), " ")
	}
	return strings.Join(values, ",")
}

func (s Signature) sign(secret, text string) string {
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(s.scope, "/") {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, text))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexDigest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
