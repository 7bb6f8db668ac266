package sigv4_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/encoding/httpbinding"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/sigv4"
)

// The key of the examples in AWS's documents.
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	emptyDigest   = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

var exampleTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

// arrived is a request as a server sees it.
func arrived(method, target, host, body string, header map[string]string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = host
	for name, value := range header {
		r.Header.Set(name, value)
	}
	return r
}

func exampleAuthorization(headers, signature string) string {
	return "AWS4-HMAC-SHA256 Credential=" + exampleKey + "/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + headers + ",Signature=" + signature
}

// TestAWSsOwnExamples are those of the S3 API Reference, "Signature calculations
// for the Authorization header" and "Authenticating requests using query
// parameters".
func TestAWSsOwnExamples(t *testing.T) {
	const host = "examplebucket.s3.amazonaws.com"
	for sentence, r := range map[string]*http.Request{
		"GET an object": arrived("GET", "/test.txt", host, "", map[string]string{
			"Range": "bytes=0-9", "X-Amz-Date": "20130524T000000Z", "X-Amz-Content-Sha256": emptyDigest,
			"Authorization": exampleAuthorization("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
		}),
		"PUT an object with a $ in its key": arrived("PUT", "/test$file.text", host, "Welcome to Amazon S3.", map[string]string{
			"Date": "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Date": "20130524T000000Z", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY",
			"X-Amz-Content-Sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
			"Authorization":        exampleAuthorization("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
		}),
		"GET a parameter without a value": arrived("GET", "/?lifecycle", host, "", map[string]string{
			"X-Amz-Date": "20130524T000000Z", "X-Amz-Content-Sha256": emptyDigest,
			"Authorization": exampleAuthorization("host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
		}),
		"GET a list": arrived("GET", "/?max-keys=2&prefix=J", host, "", map[string]string{
			"X-Amz-Date": "20130524T000000Z", "X-Amz-Content-Sha256": emptyDigest,
			"Authorization": exampleAuthorization("host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
		}),
		"GET a presigned address": arrived("GET", "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", host, "", nil),
	} {
		t.Run(sentence, func(t *testing.T) {
			s, err := sigv4.Parse(r)
			require.NoError(t, err)
			assert.Equal(t, exampleKey, s.AccessKeyID)
			payload, err := s.Payload(r)
			require.NoError(t, err)
			require.NoError(t, s.Verify(r, payload, exampleSecret, exampleTime))
			require.Error(t, s.Verify(r, payload, exampleSecret+"x", exampleTime))
			r.URL.Path += "x"
			require.Error(t, s.Verify(r, payload, exampleSecret, exampleTime))
		})
	}
}

// TestAWSsOwnExamplesOfChunks are those of "Signature calculations for the
// Authorization header: transferring payload in multiple chunks", with and without
// trailing headers.
func TestAWSsOwnExamplesOfChunks(t *testing.T) {
	for sentence, tc := range map[string]struct {
		payload, headers, seed string
		extra                  map[string]string
		chunks                 [3]string // signatures
		trailer                http.Header
	}{
		"signed chunks": {
			"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
			"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", map[string]string{"X-Amz-Storage-Class": "REDUCED_REDUNDANCY"},
			[3]string{"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"}, nil,
		},
		"signed chunks and a trailer": {
			"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer",
			"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", map[string]string{"X-Amz-Storage-Class": "REDUCED_REDUNDANCY", "X-Amz-Trailer": "x-amz-checksum-crc32c"},
			[3]string{"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2", "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7", "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"},
			http.Header{"X-Amz-Checksum-Crc32c": {"sOO8/Q=="}, "X-Amz-Trailer-Signature": {"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"}},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := arrived("PUT", "/examplebucket/chunkObject.txt", "s3.amazonaws.com", "", map[string]string{
				"X-Amz-Date": "20130524T000000Z", "X-Amz-Content-Sha256": tc.payload, "Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "66560",
				"Authorization": exampleAuthorization(tc.headers, tc.seed),
			})
			r.ContentLength = 66824
			for name, value := range tc.extra {
				r.Header.Set(name, value)
			}
			s, err := sigv4.Parse(r)
			require.NoError(t, err)
			require.NoError(t, s.Verify(r, tc.payload, exampleSecret, exampleTime))
			c, err := s.Chunks(tc.payload, exampleSecret)
			require.NoError(t, err)
			for i, size := range []int{65536, 1024, 0} {
				sum := sha256.Sum256(bytes.Repeat([]byte("a"), size))
				other := sha256.Sum256([]byte("b"))
				require.Error(t, c.Verify(tc.chunks[i], other[:]))
				require.NoError(t, c.Verify(tc.chunks[i], sum[:]))
			}
			require.NoError(t, c.VerifyTrailer(tc.trailer))
			if tc.trailer != nil {
				tc.trailer.Set("X-Amz-Checksum-Crc32c", "AAAA/Q==")
				require.Error(t, c.VerifyTrailer(tc.trailer))
			}
		})
	}
}

// TestWhatTheSDKSignsIsVerified holds this package to the signer of the SDK, for
// paths and queries that are easy to encode in two ways.
func TestWhatTheSDKSignsIsVerified(t *testing.T) {
	now := time.Now()
	k := aws.Credentials{AccessKeyID: "111122223333", SecretAccessKey: "s", SessionToken: "a token/+="}
	for _, service := range []string{"s3", "lambda"} {
		for _, target := range []string{
			"/", "/a/b", "//a//b/", "/a b+c", "/a%2Fb", "/a:b@c,d;e=f&g$h!i*j'k(l)", "/%C3%A9/%25", "/~a_b-c.d",
			"/?b=2&a=1&a=0&A=x", "/?q=a%20b%2Bc&empty&e2=", "/k?x=%C3%A9~*'()!", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Afunction%3Af/policy?Qualifier=%24LATEST",
		} {
			t.Run(service+" "+target, func(t *testing.T) {
				body := "body"
				sum := sha256.Sum256([]byte(body))
				digest := hex.EncodeToString(sum[:])
				signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
				sent, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:4566"+target, strings.NewReader(body))
				require.NoError(t, err)
				if service == "s3" {
					sent.URL.RawPath = httpbinding.EscapePath(sent.URL.Path, false) // as the SDK writes paths
					sent.Header.Set("X-Amz-Content-Sha256", digest)
				}
				sent.Header.Add("X-Amz-Meta-A", " one   two ")
				sent.Header.Add("X-Amz-Meta-A", "three")
				require.NoError(t, signer.SignHTTP(t.Context(), k, sent, digest, service, "eu-west-1", now))
				verify(t, sent, digest, k, now)

				sent.Header = http.Header{}
				address, _, err := signer.PresignHTTP(t.Context(), k, withExpiry(sent), sigv4.UnsignedPayload, service, "eu-west-1", now)
				require.NoError(t, err)
				presigned, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
				require.NoError(t, err)
				verify(t, presigned, sigv4.UnsignedPayload, k, now)
			})
		}
	}
}

func withExpiry(r *http.Request) *http.Request {
	q := r.URL.Query()
	q.Set("X-Amz-Expires", "60")
	r.URL.RawQuery = q.Encode()
	return r
}

// verify sends a request, and verifies what arrives.
func verify(t *testing.T, sent *http.Request, payload string, k aws.Credentials, now time.Time) {
	t.Helper()
	var got error
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		r.Host = "127.0.0.1:4566"
		s, err := sigv4.Parse(r)
		if err != nil {
			got = err
			return
		}
		if s.Token != k.SessionToken {
			got = errors.New("another token: " + s.Token)
			return
		}
		got = s.Verify(r, payload, k.SecretAccessKey, now)
	}))
	defer server.Close()
	sent.URL.Host = strings.TrimPrefix(server.URL, "http://")
	response, err := http.DefaultTransport.RoundTrip(sent) // which changes nothing
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.NoError(t, got, sent.URL.String())
}

// TestWhatOnlyOtherClientsSignIsVerified has headers that the signer of the SDK
// never signs.
func TestWhatOnlyOtherClientsSignIsVerified(t *testing.T) {
	now := time.Now()
	k := aws.Credentials{AccessKeyID: "111122223333", SecretAccessKey: "s"}
	r := httptest.NewRequest(http.MethodPut, "/b", http.NoBody)
	r.Host, r.ContentLength = "127.0.0.1", 0
	// In lower case they are signed, and a length that is not in ContentLength is not left out.
	canonical := "User-Agent"
	lower := strings.ToLower(canonical)
	r.Header[lower] = []string{"curl/8"}
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), k, r, emptyDigest, "sts", "eu-west-1", now))
	require.Contains(t, r.Header.Get("Authorization"), lower)
	r.Header = http.Header{canonical: r.Header[lower], "Authorization": r.Header["Authorization"], "X-Amz-Date": r.Header["X-Amz-Date"]}
	s, err := sigv4.Parse(r)
	require.NoError(t, err)
	require.NoError(t, s.Verify(r, emptyDigest, k.SecretAccessKey, now))
	r.Header.Set(canonical, "curl/9")
	require.Error(t, s.Verify(r, emptyDigest, k.SecretAccessKey, now))
}

func TestASignatureThatCanBeReadInTwoWaysIsRefused(t *testing.T) {
	const address = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F20130524%2Fr%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
	authorization := exampleAuthorization("host", "00")
	with := func(target string, header http.Header) *http.Request {
		r := arrived("GET", target, "127.0.0.1", "", nil)
		r.Header = header
		return r
	}
	date := []string{"20130524T000000Z"}
	for sentence, tc := range map[string]struct {
		r       *http.Request
		problem sigv4.Problem
	}{
		"no signature":                       {with("/b/k", nil), sigv4.Missing},
		"a header and an address":            {with(address, http.Header{"Authorization": {authorization}, "X-Amz-Date": date}), sigv4.Incomplete},
		"two headers":                        {with("/b/k", http.Header{"Authorization": {authorization, authorization}, "X-Amz-Date": date}), sigv4.Incomplete},
		"two credentials in one header":      {with("/b/k", http.Header{"Authorization": {authorization + ",Credential=b/20130524/r/lambda/aws4_request"}, "X-Amz-Date": date}), sigv4.Incomplete},
		"two dates":                          {with("/b/k", http.Header{"Authorization": {authorization}, "X-Amz-Date": append(date, date...)}), sigv4.Incomplete},
		"no date":                            {with("/b/k", http.Header{"Authorization": {authorization}}), sigv4.Incomplete},
		"the date of another day":            {with("/b/k", http.Header{"Authorization": {authorization}, "X-Amz-Date": {"20130525T000000Z"}}), sigv4.Incomplete},
		"two tokens":                         {with("/b/k", http.Header{"Authorization": {authorization}, "X-Amz-Date": date, "X-Amz-Security-Token": {"a", "b"}}), sigv4.Incomplete},
		"another algorithm":                  {with("/b/k", http.Header{"Authorization": {"AWS4-ECDSA-P256-SHA256 Credential=a/b"}, "X-Amz-Date": date}), sigv4.Unsupported},
		"version 2":                          {with("/b/k", http.Header{"Authorization": {"AWS AKID:00"}}), sigv4.Unsupported},
		"an address of version 2":            {with("/b/k?AWSAccessKeyId=a&Expires=1&Signature=x", nil), sigv4.Unsupported},
		"a scope that is too long":           {with("/b/k", http.Header{"Authorization": {strings.Replace(authorization, "/s3/", "/s3/s3/", 1)}, "X-Amz-Date": date}), sigv4.Incomplete},
		"two credentials in the address":     {with(address+"&X-Amz-Credential=b%2F20130524%2Fr%2Fs3%2Faws4_request", nil), sigv4.IncompleteAddress},
		"two signatures in the address":      {with(address+"&X-Amz-Signature=01", nil), sigv4.IncompleteAddress},
		"an address without a signature":     {with(strings.Split(address, "&X-Amz-Signature")[0], nil), sigv4.IncompleteAddress},
		"an address with the key alone":      {with("/?Action=DescribeImages&X-Amz-Credential=test%2F20260101%2Feu-west-1%2Fec2%2Faws4_request", nil), sigv4.IncompleteAddress},
		"an address that lasts over a week":  {with(strings.Replace(address, "Expires=60", "Expires=604801", 1), nil), sigv4.IncompleteAddress},
		"a query that is read in two ways":   {with("/b/k?a=1;b=2", http.Header{"Authorization": {authorization}, "X-Amz-Date": date}), sigv4.Incomplete},
		"a query that cannot be decoded":     {with("/b/k?a=%zz", http.Header{"Authorization": {authorization}, "X-Amz-Date": date}), sigv4.Incomplete},
		"a parameter that the header lacks":  {with("/b/k", http.Header{"Authorization": {strings.Replace(authorization, "SignedHeaders=host,", "", 1)}, "X-Amz-Date": date}), sigv4.Incomplete},
		"a parameter that nobody knows":      {with("/b/k", http.Header{"Authorization": {authorization + ",Region=x"}, "X-Amz-Date": date}), sigv4.Incomplete},
		"an expiry that is no whole seconds": {with(strings.Replace(address, "Expires=60", "Expires=6e1", 1), nil), sigv4.IncompleteAddress},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := sigv4.Parse(tc.r)
			var refused *sigv4.Error
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, tc.problem, refused.Problem, refused.Message)
		})
	}
}
