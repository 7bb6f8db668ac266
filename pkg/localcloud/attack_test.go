package localcloud_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// ask sends a request as it is.
func ask(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(raw)
}

func request(t *testing.T, method, address, body string, header map[string]string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	require.NoError(t, err)
	for name, value := range header {
		r.Header.Set(name, value)
	}
	return r
}

// unverified is what a client sends that nobody gave a secret.
func unverified(keyID, service string) string {
	now := time.Now().UTC()
	return "AWS4-HMAC-SHA256 Credential=" + keyID + "/" + now.Format("20060102") + "/eu-west-1/" + service + "/aws4_request, SignedHeaders=host;x-amz-date, Signature=0"
}

// TestAnotherUserOfTheMachineRunsNoCode creates and invokes a function, whose code
// runs as the user of the embedded AWS, with a signature of zeroes.
func TestAnotherUserOfTheMachineRunsNoCode(t *testing.T) {
	c := listening(t)
	for sentence, keyID := range map[string]string{"the key of a root user": account, "a key that was good once": "test", "a key of a session": "ASIA0123456789ABCDEF"} {
		t.Run(sentence, func(t *testing.T) {
			header := map[string]string{
				"Authorization": unverified(keyID, "lambda"), "X-Amz-Date": time.Now().UTC().Format("20060102T150405Z"), "Content-Type": "application/json",
			}
			code, body := ask(t, request(t, http.MethodPost, c.URL()+"/2015-03-31/functions", `{"FunctionName":"id","Runtime":"provided.al2023","Handler":"bootstrap","Role":"arn:aws:iam::111122223333:role/x","Code":{"ZipFile":"UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="}}`, header))
			assert.Equal(t, http.StatusForbidden, code, body)
			assert.Regexp(t, "InvalidSignatureException|UnrecognizedClientException", body)
			code, body = ask(t, request(t, http.MethodPost, c.URL()+"/2015-03-31/functions/id/invocations", `{}`, header))
			assert.Equal(t, http.StatusForbidden, code, body)
		})
	}
	functions, err := sdklambda.NewFromConfig(c.AWSConfig("")).ListFunctions(t.Context(), &sdklambda.ListFunctionsInput{})
	require.NoError(t, err)
	assert.Empty(t, functions.Functions)
}

// TestAPageInABrowserDoesNothing sends what an <img> of another site's page does:
// a GET without an Origin, with a key in the address.
func TestAPageInABrowserDoesNothing(t *testing.T) {
	c := listening(t)
	image := baseImage(t, c)
	presigned := func(k aws.Credentials, service string, query url.Values) string {
		r := request(t, http.MethodGet, c.URL()+"/?"+query.Encode(), "", nil)
		address, _, err := v4.NewSigner().PresignHTTP(t.Context(), k, r, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", service, region, time.Now())
		require.NoError(t, err)
		return address
	}
	deregister := url.Values{"Action": {"DeregisterImage"}, "Version": {"2016-11-15"}, "ImageId": {image}, "X-Amz-Expires": {"60"}}
	run := url.Values{"Action": {"RunInstances"}, "Version": {"2016-11-15"}, "ImageId": {image}, "MinCount": {"1"}, "MaxCount": {"1"}, "InstanceType": {"t3.medium"}, "X-Amz-Expires": {"60"}}
	role := url.Values{"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {testRole}, "RoleSessionName": {"page"}, "X-Amz-Expires": {"60"}}
	with := func(q url.Values, service string) string {
		return c.URL() + "/?" + q.Encode() + "&X-Amz-Credential=" + url.QueryEscape(account+"/20260101/eu-west-1/"+service+"/aws4_request")
	}
	for sentence, address := range map[string]string{
		"an image deregistered, with a key in the address":        with(deregister, "ec2"),
		"an instance launched, with a key in the address":         with(run, "ec2"),
		"a role assumed, with a key in the address":               with(role, "sts"),
		"an image deregistered, without a key":                    c.URL() + "/?" + deregister.Encode(),
		"an image deregistered, with a guessed secret":            presigned(aws.Credentials{AccessKeyID: account, SecretAccessKey: "test"}, "ec2", deregister),
		"an image deregistered, by an address that is signed":     presigned(c.Credentials(account), "ec2", deregister),
		"a role assumed, by an address that is signed":            presigned(c.Credentials(account), "sts", role),
		"the list of buckets, by an address that is signed":       presigned(c.Credentials(account), "s3", url.Values{"X-Amz-Expires": {"60"}}),
		"the embedded AWS's own controls, by an address as well":  strings.Replace(presigned(c.Credentials(account), "localcloud", url.Values{"X-Amz-Expires": {"60"}}), "/?", localcloud.HealthPath+"?", 1),
		"the permissions of roles, with nothing":                  c.URL() + localcloud.PermissionsPath,
		"an image deregistered, with a session that nobody has":   presigned(aws.Credentials{AccessKeyID: "ASIA0123456789ABCDEF", SecretAccessKey: "x", SessionToken: "y"}, "ec2", deregister),
		"an image deregistered, with the service named otherwise": presigned(c.Credentials(account), "s3", deregister),
	} {
		t.Run(sentence, func(t *testing.T) {
			code, body := ask(t, request(t, http.MethodGet, address, "", nil))
			assert.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, code, body)
			code, body = ask(t, request(t, http.MethodGet, address, "", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"}))
			assert.Equal(t, http.StatusForbidden, code, body)
			assert.Contains(t, body, "pages of other sites")
		})
	}
	ec2 := sdkec2.NewFromConfig(c.AWSConfig(""))
	images, err := ec2.DescribeImages(t.Context(), &sdkec2.DescribeImagesInput{ImageIds: []string{image}})
	require.NoError(t, err)
	assert.Len(t, images.Images, 1)
	instances, err := ec2.DescribeInstances(t.Context(), &sdkec2.DescribeInstancesInput{})
	require.NoError(t, err)
	assert.Empty(t, instances.Reservations)

	// A proper request is refused too when a page of another site sends it.
	signed := request(t, http.MethodGet, c.URL()+localcloud.HealthPath, "", nil)
	sum := sha256.Sum256(nil)
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), c.Credentials(account), signed, hex.EncodeToString(sum[:]), "localcloud", region, time.Now()))
	signed.Header.Set("Sec-Fetch-Site", "same-site")
	code, body := ask(t, signed)
	assert.Equal(t, http.StatusForbidden, code, body)
	signed.Header.Set("Sec-Fetch-Site", "none")
	code, body = ask(t, signed)
	assert.Equal(t, http.StatusOK, code, body)
}

// TestAGuestWritesNoPointers presigns an upload of a journal with keys that a guest
// can think of, and with its own.
func TestAGuestWritesNoPointers(t *testing.T) {
	c, now, g := guests(t, "web")
	ctx := t.Context()
	bucket, key := aws.String("factory"), aws.String("executions/e/pointers.json")
	_, err := c.S3.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: bucket})
	require.NoError(t, err)
	allow(t, c, testRole, "s3:GetObject arn:aws:s3:::factory/*")
	presign := func(k aws.Credentials) string {
		client := sdks3.NewFromConfig(aws.Config{Region: region, BaseEndpoint: aws.String("http://" + wire.Host), Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return k, nil })},
			func(o *sdks3.Options) {
				o.UsePathStyle, o.RequestChecksumCalculation = true, aws.RequestChecksumCalculationWhenRequired
			})
		signed, err := sdks3.NewPresignClient(client).PresignPutObject(ctx, &sdks3.PutObjectInput{Bucket: bucket, Key: key})
		require.NoError(t, err)
		return signed.URL
	}
	reader, err := c.AWSConfigOfRole("", testRole, "f").Credentials.Retrieve(ctx)
	require.NoError(t, err)
	own := g[0].credentials()
	tokenless, forged, otherToken := reader, reader, reader
	tokenless.SessionToken, forged.SecretAccessKey, otherToken.SessionToken = "", strings.Repeat("0", 40), own.SessionToken
	for sentence, k := range map[string]aws.Credentials{
		"test and test":                             {AccessKeyID: "test", SecretAccessKey: "test"},
		"an account id with a guessed secret":       {AccessKeyID: account, SecretAccessKey: "test"},
		"the root user's keys, had it them":         c.Credentials(account),
		"a session that nobody has minted":          {AccessKeyID: "ASIA0123456789ABCDEF", SecretAccessKey: "x", SessionToken: "y"},
		"its own role, which may not write there":   own,
		"a function's session that may read only":   reader,
		"a function's session without its token":    tokenless,
		"a function's session, the secret guessed":  forged,
		"a function's session with another's token": otherToken,
	} {
		t.Run(sentence, func(t *testing.T) {
			code, body := asGuest(c, http.MethodPut, presign(k), `{"pointers":[{"imageId":"ami-foreign"}]}`, nil)
			assert.Contains(t, []int{http.StatusForbidden, http.StatusBadRequest}, code, body)
		})
	}
	objects, err := c.S3.ListObjectsV2(ctx, &sdks3.ListObjectsV2Input{Bucket: bucket})
	require.NoError(t, err)
	assert.Empty(t, objects.Contents)

	allow(t, c, testRole, "s3:PutObject arn:aws:s3:::factory/executions/*")
	code, body := asGuest(c, http.MethodPut, presign(reader), `{}`, nil)
	require.Equal(t, http.StatusOK, code, body)
	address := presign(reader)
	now.by.Store(int64(13 * time.Hour))
	code, body = asGuest(c, http.MethodPut, address, `{}`, nil)
	assert.Equal(t, http.StatusForbidden, code, "the session has ended: %s", body)
}

// TestARequestIsVerifiedAsAWSDoes alters one proper request in one way at a time.
func TestARequestIsVerifiedAsAWSDoes(t *testing.T) {
	c := enforcing(t)
	allow(t, c, testRole, "ec2:DescribeVpcs *", "ssm:DescribeInstanceInformation *", "s3:* *", "sts:* *", "lambda:* *")
	session, err := c.AWSConfigOfRole("", testRole, "f").Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	_, err = c.S3.CreateBucket(t.Context(), &sdks3.CreateBucketInput{Bucket: aws.String("b-1")})
	require.NoError(t, err)
	query := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	services := map[string]struct {
		method, path, body string
		header             map[string]string
	}{
		"ec2":    {"POST", "/", "Action=DescribeVpcs&Version=2016-11-15", query},
		"sts":    {"POST", "/", "Action=GetCallerIdentity&Version=2011-06-15", query},
		"ssm":    {"POST", "/", "{}", map[string]string{"X-Amz-Target": "AmazonSSM.DescribeInstanceInformation", "Content-Type": "application/x-amz-json-1.1"}},
		"lambda": {"GET", "/2015-03-31/functions/", "", nil},
		"s3":     {"PUT", "/b-1/k", "content", nil},
	}
	type change struct {
		key    func(*aws.Credentials)
		at     time.Duration // off the present
		before func(*http.Request)
		after  func(*http.Request)
	}
	otherBody := func(r *http.Request) { // of the same length, which is signed
		r.ContentLength = max(r.ContentLength, 1)
		r.Body, r.GetBody = io.NopCloser(strings.NewReader(strings.Repeat("x", int(r.ContentLength)))), nil
	}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	codes := func(ec2, sts, ssm, lambda, s3 string) map[string]string {
		return map[string]string{"ec2": ec2, "sts": sts, "ssm": ssm, "lambda": lambda, "s3": s3}
	}
	const unauthenticated = "AuthFailure"
	mismatch := codes(unauthenticated, "SignatureDoesNotMatch", "InvalidSignatureException", "InvalidSignatureException", "SignatureDoesNotMatch")
	skewed := codes("RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException", "InvalidSignatureException", "RequestTimeTooSkewed")
	token := codes(unauthenticated, "InvalidClientTokenId", "UnrecognizedClientException", "UnrecognizedClientException", "InvalidToken")
	for sentence, tc := range map[string]struct {
		change change
		codes  map[string]string // by service; nil: it is served
	}{
		"as it should be":              {change{}, nil},
		"four minutes old":             {change{at: -4 * time.Minute}, nil},
		"four minutes ahead":           {change{at: 4 * time.Minute}, nil},
		"replayed after six minutes":   {change{at: -6 * time.Minute}, skewed},
		"six minutes ahead":            {change{at: 6 * time.Minute}, skewed},
		"with a forged secret":         {change{key: func(k *aws.Credentials) { k.SecretAccessKey = strings.Repeat("0", 40) }}, mismatch},
		"with another token":           {change{key: func(k *aws.Credentials) { k.SessionToken = strings.Repeat("0", 64) }}, token},
		"without its token":            {change{key: func(k *aws.Credentials) { k.SessionToken = "" }}, token},
		"with a key that nobody has":   {change{key: func(k *aws.Credentials) { k.AccessKeyID = "AKIA0123456789ABCDEF" }}, codes(unauthenticated, "InvalidClientTokenId", "UnrecognizedClientException", "UnrecognizedClientException", "InvalidAccessKeyId")},
		"with the body changed":        {change{after: otherBody}, codes(unauthenticated, "SignatureDoesNotMatch", "InvalidSignatureException", "InvalidSignatureException", "XAmzContentSHA256Mismatch")},
		"with the path changed":        {change{after: func(r *http.Request) { r.URL.Path += "x" }}, mismatch},
		"with a parameter added":       {change{after: func(r *http.Request) { r.URL.RawQuery = "a=b" }}, mismatch},
		"with another method":          {change{after: func(r *http.Request) { r.Method = http.MethodDelete }}, mismatch},
		"with another date":            {change{after: set("X-Amz-Date", time.Now().UTC().Add(-2*time.Second).Format("20060102T150405Z"))}, mismatch},
		"with another region":          {change{after: func(r *http.Request) { replaceScope(r, "/"+region+"/", "/us-east-1/") }}, mismatch},
		"without a signature":          {change{after: func(r *http.Request) { r.Header.Del("Authorization") }}, codes("MissingAuthenticationToken", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "AccessDenied", "AccessDenied")},
		"with a header of AWS's added": {change{after: set("X-Amz-Acl", "public-read")}, codes(unauthenticated, "SignatureDoesNotMatch", "InvalidSignatureException", "InvalidSignatureException", "AccessDenied")},
		"with another host":            {change{after: func(r *http.Request) { r.Host = "localhost" }}, mismatch},
		"with a signature cut short":   {change{after: func(r *http.Request) { r.Header.Set("Authorization", r.Header.Get("Authorization")[:200]) }}, nil},
		"with the body said to be unsigned": {change{before: set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), after: otherBody},
			codes(unauthenticated, "SignatureDoesNotMatch", "InvalidSignatureException", "InvalidSignatureException", "")},
	} {
		for service, r := range services {
			t.Run(service+" "+sentence, func(t *testing.T) {
				k := session
				if tc.change.key != nil {
					tc.change.key(&k)
				}
				sent := request(t, r.method, c.URL()+r.path, r.body, r.header)
				sum := sha256.Sum256([]byte(r.body))
				digest := hex.EncodeToString(sum[:])
				if service == "s3" {
					sent.Header.Set("X-Amz-Content-Sha256", digest)
				}
				if tc.change.before != nil {
					tc.change.before(sent)
				}
				if said := sent.Header.Get("X-Amz-Content-Sha256"); said != "" {
					digest = said
				}
				require.NoError(t, v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" }).SignHTTP(t.Context(), k, sent, digest, service, region, time.Now().Add(tc.change.at)))
				if tc.change.after != nil {
					tc.change.after(sent)
				}
				status, answer := ask(t, sent)
				want := tc.codes[service]
				if want == "" {
					if strings.HasSuffix(sentence, "cut short") {
						assert.GreaterOrEqual(t, status, 400, answer)
						return
					}
					assert.Equal(t, 200, status, answer)
					return
				}
				assert.GreaterOrEqual(t, status, 400, answer)
				assert.Contains(t, answer, want)
			})
		}
	}
}

// TestOtherMechanismsAreToldWhatIsNeeded sends what older clients sign, with the right
// secret, and what newer ones do.
func TestOtherMechanismsAreToldWhatIsNeeded(t *testing.T) {
	c := listening(t)
	_, err := c.S3.CreateBucket(t.Context(), &sdks3.CreateBucketInput{Bucket: aws.String("b-1")})
	require.NoError(t, err)
	k := c.Credentials(account)
	version2 := func(text string) string { // https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html
		mac := hmac.New(sha1.New, []byte(k.SecretAccessKey))
		mac.Write([]byte(text))
		return base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	expires := strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	date := time.Now().UTC().Format(http.TimeFormat)
	older := url.Values{"AWSAccessKeyId": {k.AccessKeyID}, "Expires": {expires}}
	address := func(method string) string {
		older.Set("Signature", version2(method+"\n\n\n"+expires+"\n/b-1/k"))
		return "/b-1/k?" + older.Encode()
	}
	for sentence, tc := range map[string]struct {
		method, path string
		header       map[string]string
		code         string
	}{
		"an address of version 2 to read":     {http.MethodGet, address(http.MethodGet), nil, "InvalidRequest"},
		"an address of version 2 to write":    {http.MethodPut, address(http.MethodPut), nil, "InvalidRequest"},
		"a header of version 2":               {http.MethodGet, "/b-1/k", map[string]string{"Date": date, "Authorization": "AWS " + k.AccessKeyID + ":" + version2("GET\n\n\n"+date+"\n/b-1/k")}, "InvalidRequest"},
		"a header of version 4a":              {http.MethodGet, "/b-1/k", map[string]string{"Authorization": "AWS4-ECDSA-P256-SHA256 Credential=" + account + "/20261130/s3/aws4_request, SignedHeaders=host, Signature=00"}, "InvalidRequest"},
		"a query of version 2 to a service":   {http.MethodGet, "/?Action=DescribeVpcs&Version=2016-11-15&SignatureVersion=2&SignatureMethod=HmacSHA256&Signature=x&AWSAccessKeyId=" + account, nil, "IncompleteSignature"},
		"a header of version 2 to a service":  {http.MethodPost, "/?Action=ListUsers&Version=2010-05-08", map[string]string{"Authorization": "AWS " + account + ":x"}, "IncompleteSignature"},
		"a header of version 3 to a JSON API": {http.MethodPost, "/", map[string]string{"X-Amz-Target": "AmazonSSM.GetParameter", "Authorization": "AWS3 AWSAccessKeyId=" + account + ",Algorithm=HmacSHA256,Signature=x"}, "IncompleteSignatureException"},
	} {
		t.Run(sentence, func(t *testing.T) {
			status, body := ask(t, request(t, tc.method, c.URL()+tc.path, "", tc.header))
			assert.Equal(t, http.StatusBadRequest, status, body)
			assert.Contains(t, body, tc.code)
			assert.Contains(t, body, "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
			if tc.code == "InvalidRequest" {
				assert.Contains(t, body, "aws configure set default.s3.signature_version s3v4", "the way out is that of S3's clients")
			}
		})
	}
}

func replaceScope(r *http.Request, old, with string) {
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, with, 1))
}

// TestChunksAreVerified uploads what clients send in signed chunks.
func TestChunksAreVerified(t *testing.T) {
	c := listening(t)
	_, err := c.S3.CreateBucket(t.Context(), &sdks3.CreateBucketInput{Bucket: aws.String("b-1")})
	require.NoError(t, err)
	client := sdks3.NewFromConfig(c.AWSConfig(""), func(o *sdks3.Options) { o.UsePathStyle = true })
	large := bytes.Repeat([]byte("large"), 1<<19) // more than is kept in memory
	_, err = client.PutObject(t.Context(), &sdks3.PutObjectInput{Bucket: aws.String("b-1"), Key: aws.String("large"), Body: bytes.NewReader(large)})
	require.NoError(t, err)
	out, err := client.GetObject(t.Context(), &sdks3.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("large")})
	require.NoError(t, err)
	defer out.Body.Close()
	got, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	assert.Equal(t, large, got)
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "localcloud-body-*"))
	require.NoError(t, err)
	assert.Empty(t, left, "no body stays on disk")
}

func TestASecretIsOfItsStateFolder(t *testing.T) {
	dir := t.TempDir()
	in := func(cfg *localcloud.Config) { cfg.StateDir = dir }
	first := newCloud(t, in)
	secret := first.Credentials(account).SecretAccessKey
	assert.Len(t, secret, 40)
	file := filepath.Join(dir, localcloud.SecretName)
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	kept, err := localcloud.ReadSecret(dir)
	require.NoError(t, err)
	assert.Equal(t, secret, kept)
	require.NoError(t, first.Close(t.Context()))
	again := newCloud(t, in)
	assert.Equal(t, secret, again.Credentials(account).SecretAccessKey, "the exports stay good")
	assert.Equal(t, secret, again.Credentials("444455556666").SecretAccessKey, "accounts share it")
	require.NoError(t, again.Close(t.Context()))
	assert.NotEqual(t, secret, newCloud(t).Credentials(account).SecretAccessKey, "another has another")
	assert.NotEqual(t, newCloud(t).Credentials(account), newCloud(t).Credentials(account))

	for sentence, tc := range map[string]struct {
		spoil func()
		says  string
	}{
		"others can read it": {func() { require.NoError(t, os.Chmod(file, 0o640)) }, "others may have read"},
		"it is empty":        {func() { require.NoError(t, os.WriteFile(file, nil, 0o600)) }, "40 hexadecimal digits"},
		"it is short":        {func() { require.NoError(t, os.WriteFile(file, []byte("test\n"), 0o600)) }, "40 hexadecimal digits"},
		"it is a link": {func() {
			require.NoError(t, os.Symlink("/etc/hostname", file))
		}, "reading the secret access key"},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.NoError(t, os.Remove(file))
			require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
			if sentence == "it is a link" {
				require.NoError(t, os.Remove(file))
			}
			tc.spoil()
			_, err := localcloud.New(t.Context(), localcloud.Config{Driver: echoing(clock.NewReal()), StateDir: dir})
			require.ErrorContains(t, err, tc.says)
		})
	}
}
