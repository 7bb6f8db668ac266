// Package sigv4 verifies requests that are signed in their header, Signature
// Version 4 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	amzTime   = "20060102T150405Z"
	clockSkew = 15 * time.Minute
)

// Signature is the Authorization header of a request, taken apart.
type Signature struct {
	AccessKeyID string
	Region      string
	Service     string

	scope  string   // date/region/service/aws4_request
	signed []string // names of the headers that are signed
	value  string
}

// Parse reads the Authorization header. Each of its fields must be there once.
func Parse(r *http.Request) (Signature, error) {
	incomplete := func(what string) (Signature, error) {
		return Signature{}, wire.Errorf("IncompleteSignatureException", "Authorization header %s", what)
	}
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return incomplete("is required, once.")
	}
	rest, ok := strings.CutPrefix(headers[0], algorithm+" ")
	if !ok {
		return incomplete("must begin with " + algorithm + ".")
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if _, twice := fields[name]; twice {
			return incomplete("has '" + name + "' twice.")
		}
		fields[name] = value
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if fields[name] == "" {
			return incomplete("requires '" + name + "' parameter.")
		}
	}
	keyID, scope, _ := strings.Cut(fields["Credential"], "/")
	parts := strings.Split(scope, "/")
	if len(fields) != 3 || len(parts) != 4 || parts[3] != "aws4_request" {
		return incomplete("must have Credential=<key>/<date>/<region>/<service>/aws4_request, SignedHeaders and Signature.")
	}
	return Signature{
		AccessKeyID: keyID, Region: parts[1], Service: parts[2],
		scope: scope, signed: strings.Split(fields["SignedHeaders"], ";"), value: fields["Signature"],
	}, nil
}

// Covers says whether a header is signed.
func (s Signature) Covers(name string) bool { return slices.Contains(s.signed, name) }

// Verify computes the signature of a request to "/" without a query, as the
// protocols of AWS that have no paths make them, and compares.
func (s Signature) Verify(r *http.Request, body []byte, secret string, now time.Time) error {
	date := r.Header.Get("X-Amz-Date")
	signed, err := time.Parse(amzTime, date)
	if err != nil || !strings.HasPrefix(s.scope, signed.Format("20060102")+"/") {
		return wire.Errorf("IncompleteSignatureException", "Date must be in ISO-8601 'basic format', and that of the credential scope. Got '%s'.", date)
	}
	if signed.Before(now.Add(-clockSkew)) {
		return wire.Errorf("InvalidSignatureException", "Signature expired: %s is now earlier than %s (%s - 15 min.)", date, now.UTC().Add(-clockSkew).Format(amzTime), now.UTC().Format(amzTime))
	}
	if signed.After(now.Add(clockSkew)) {
		return wire.Errorf("InvalidSignatureException", "Signature not yet current: %s is still later than %s (%s + 15 min.)", date, now.UTC().Add(clockSkew).Format(amzTime), now.UTC().Format(amzTime))
	}
	for _, name := range []string{"host", "x-amz-date"} {
		if !s.Covers(name) {
			return wire.Errorf("InvalidSignatureException", "'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	if !hmac.Equal([]byte(s.compute(r, body, secret, date)), []byte(s.value)) {
		return wire.Errorf("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

func (s Signature) compute(r *http.Request, body []byte, secret, date string) string {
	var headers strings.Builder
	for _, name := range s.signed {
		headers.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	payload := sha256.Sum256(body)
	canonical := strings.Join([]string{
		http.MethodPost, "/", "", headers.String(), strings.Join(s.signed, ";"), hex.EncodeToString(payload[:]),
	}, "\n")
	digest := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(s.scope, "/") {
		key = sign(key, part)
	}
	return hex.EncodeToString(sign(key, strings.Join([]string{algorithm, date, s.scope, hex.EncodeToString(digest[:])}, "\n")))
}

// headerValue is the value of a header as it is signed. net/http keeps two
// headers apart from the others.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i := range values {
		values[i] = strings.Join(strings.Fields(values[i]), " ")
	}
	return strings.Join(values, ",")
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
