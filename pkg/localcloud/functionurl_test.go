package localcloud_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
)

const (
	approveARN = "arn:aws:lambda:" + region + ":" + account + ":function:approve"
	viaURL     = `{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}`
)

// urlRequest is a request to a function URL, and how it is signed.
type urlRequest struct {
	method, path, body, contentType string
	service, region                 string    // that the signature names; default lambda and the function's
	at                              time.Time // default now
	digest                          string    // default the body's
	unsigned                        bool
	change                          func(*http.Request) // after the signature
}

// send sends a request as any HTTP client with the SDK's signer would.
func (in urlRequest) send(t *testing.T, cfg aws.Config, base string) (status int, body string, header http.Header) {
	t.Helper()
	method := in.method
	if method == "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(t.Context(), method, base+in.path, strings.NewReader(in.body))
	require.NoError(t, err)
	if in.contentType != "" {
		r.Header.Set("Content-Type", in.contentType)
	}
	if !in.unsigned {
		service, where, at, digest := "lambda", region, time.Now(), in.digest
		if in.service != "" {
			service = in.service
		}
		if in.region != "" {
			where = in.region
		}
		if !in.at.IsZero() {
			at = in.at
		}
		if digest == "" {
			sum := sha256.Sum256([]byte(in.body))
			digest = hex.EncodeToString(sum[:])
		}
		r.Header.Set("X-Amz-Content-Sha256", digest)
		keys, err := cfg.Credentials.Retrieve(t.Context())
		require.NoError(t, err)
		require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), keys, r, digest, service, where, at))
	}
	if in.change != nil {
		in.change(r)
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(raw), response.Header
}

// withURL is an embedded AWS that enforces policies, with a function that has a URL
// and answers its event.
func withURL(t *testing.T, auth lambdatypes.FunctionUrlAuthType, answer func(event []byte) ([]byte, error)) (c *localcloud.Cloud, url string) {
	t.Helper()
	c = enforcing(t)
	require.NoError(t, c.Lambda.Deploy(lambda.Function{Name: "approve", Handler: func(_ context.Context, event []byte) ([]byte, error) { return answer(event) }}))
	out, err := sdklambda.NewFromConfig(c.AWSConfig("")).CreateFunctionUrlConfig(t.Context(), &sdklambda.CreateFunctionUrlConfigInput{FunctionName: aws.String("approve"), AuthType: auth})
	require.NoError(t, err)
	return c, strings.TrimSuffix(*out.FunctionUrl, "/")
}

func echo(event []byte) ([]byte, error) { return event, nil }

func TestAFunctionURLPassesTheRequestAndItsCaller(t *testing.T) {
	c, url := withURL(t, lambdatypes.FunctionUrlAuthTypeAwsIam, echo)
	allow(t, c, testRole, "lambda:InvokeFunctionUrl "+approveARN, "lambda:InvokeFunction "+approveARN+" "+viaURL)
	cfg := sessionIn(t, c, testRole)
	status, body, header := urlRequest{path: "/builds/a%20b?x=1&y=2&x=3", body: `{"a":1}`, contentType: "application/json", change: func(r *http.Request) {
		r.Header.Add("Cookie", "one=1; two=2")
		r.Header.Set("User-Agent", "stock")
	}}.send(t, cfg, url)
	require.Equal(t, 200, status, body)
	assert.Equal(t, "application/json", header.Get("Content-Type"))
	var got events.LambdaFunctionURLRequest
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	keys, err := cfg.Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "2.0", got.Version)
	assert.Equal(t, "/builds/a b", got.RawPath)
	assert.Equal(t, "x=1&x=3&y=2", got.RawQueryString, "as the signer wrote it")
	assert.Equal(t, map[string]string{"x": "1,3", "y": "2"}, got.QueryStringParameters)
	assert.Equal(t, `{"a":1}`, got.Body)
	assert.False(t, got.IsBase64Encoded)
	assert.Equal(t, []string{"one=1", "two=2"}, got.Cookies)
	assert.NotContains(t, got.Headers, "authorization", "the function does not learn its caller's credentials")
	assert.NotContains(t, got.Headers, "x-amz-security-token")
	assert.Equal(t, got.RequestContext.DomainName, got.Headers["host"])
	assert.Equal(t, http.MethodPost, got.RequestContext.HTTP.Method)
	assert.Equal(t, "127.0.0.1", got.RequestContext.HTTP.SourceIP)
	who := got.RequestContext.Authorizer.IAM
	assert.Equal(t, keys.AccessKeyID, who.AccessKey)
	assert.Equal(t, account, who.AccountID)
	assert.Equal(t, "arn:aws:sts::"+account+":assumed-role/stage/s1", who.UserARN)
	assert.Regexp(t, "^AROA[A-Z0-9]+:s1$", who.UserID)
	assert.Equal(t, who.UserID, who.CallerID)
}

func TestARequestThatIsNotSignedForThisFunctionURLIsRefused(t *testing.T) {
	for sentence, tc := range map[string]struct {
		request urlRequest
		want    string
	}{
		"without a signature":                 {urlRequest{unsigned: true}, "missing Authentication Token"},
		"for another service":                 {urlRequest{service: "execute-api"}, "correct service: 'lambda'"},
		"for another region":                  {urlRequest{region: "us-east-1"}, "valid region"},
		"six minutes ago":                     {urlRequest{at: time.Now().Add(-6 * time.Minute)}, "Signature expired"},
		"in six minutes":                      {urlRequest{at: time.Now().Add(6 * time.Minute)}, "Signature not yet current"},
		"with another body than was signed":   {urlRequest{body: "a", change: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("b")) }}, "does not match"},
		"with a body that was not signed":     {urlRequest{body: "a", digest: "UNSIGNED-PAYLOAD"}, "does not match what was computed"},
		"with another path than was signed":   {urlRequest{path: "/a", change: func(r *http.Request) { r.URL.Path = strings.TrimSuffix(r.URL.Path, "a") + "b" }}, "signature"},
		"with another method than was signed": {urlRequest{change: func(r *http.Request) { r.Method = http.MethodPut }}, "signature"},
		"with the key of somebody who is gone": {urlRequest{change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "ASIA", "AKIA", 1))
		}}, "invalid"},
		"with a session token that was changed": {urlRequest{change: func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "other") }}, "security token"},
	} {
		t.Run(sentence, func(t *testing.T) {
			called := false
			c, url := withURL(t, lambdatypes.FunctionUrlAuthTypeAwsIam, func(e []byte) ([]byte, error) { called = true; return e, nil })
			allow(t, c, testRole, "lambda:* *")
			status, body, _ := tc.request.send(t, sessionIn(t, c, testRole), url)
			assert.Equal(t, http.StatusForbidden, status, body)
			assert.Contains(t, body, tc.want)
			assert.False(t, called, "the function does not run")
		})
	}
}

func TestAFunctionURLNeedsBothPermissions(t *testing.T) {
	const useURL, invoke = "lambda:InvokeFunctionUrl " + approveARN, "lambda:InvokeFunction " + approveARN
	for sentence, tc := range map[string]struct {
		role   string
		needs  []string
		add    []*sdklambda.AddPermissionInput
		status int
		plain  bool // Invoke is allowed too
	}{
		"both": {testRole, []string{useURL, invoke}, nil, 200, true},
		"both, the second for function URLs only":      {testRole, []string{useURL, invoke + " " + viaURL}, nil, 200, false},
		"not the first alone":                          {testRole, []string{useURL}, nil, 403, false},
		"not the second alone":                         {testRole, []string{invoke}, nil, 403, true},
		"for the AuthType":                             {testRole, []string{useURL + ` {"StringEquals":{"lambda:FunctionUrlAuthType":"AWS_IAM"}}`, invoke}, nil, 200, true},
		"not for another AuthType":                     {testRole, []string{useURL + ` {"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}`, invoke}, nil, 403, true},
		"another account's by its own policies only":   {otherRole, []string{useURL, invoke}, nil, 403, false},
		"another account's that the function lets in":  {otherRole, []string{useURL, invoke}, letIn(other), 200, false},
		"not another account's without policies of it": {otherRole, []string{"ec2:X *"}, letIn(other), 403, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			c, url := withURL(t, lambdatypes.FunctionUrlAuthTypeAwsIam, echo)
			allow(t, c, tc.role, tc.needs...)
			for _, in := range tc.add {
				_, err := sdklambda.NewFromConfig(c.AWSConfig("")).AddPermission(t.Context(), in)
				require.NoError(t, err)
			}
			cfg := sessionIn(t, c, tc.role)
			status, body, _ := urlRequest{}.send(t, cfg, url)
			assert.Equal(t, tc.status, status, body)
			_, err := sdklambda.NewFromConfig(cfg).Invoke(t.Context(), &sdklambda.InvokeInput{FunctionName: aws.String(approveARN), Payload: []byte("{}")})
			if tc.plain {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "lambda:InvokeFunction", "a plain Invoke could forge the caller in its event")
			}
		})
	}
}

// letIn are the permissions that let an account use the function's URL.
func letIn(principal string) []*sdklambda.AddPermissionInput {
	auth := lambdatypes.FunctionUrlAuthTypeAwsIam
	if principal == "*" {
		auth = lambdatypes.FunctionUrlAuthTypeNone
	}
	return []*sdklambda.AddPermissionInput{
		{FunctionName: aws.String("approve"), StatementId: aws.String("url"), Action: aws.String("lambda:InvokeFunctionUrl"), Principal: &principal, FunctionUrlAuthType: auth},
		{FunctionName: aws.String("approve"), StatementId: aws.String("invoke"), Action: aws.String("lambda:InvokeFunction"), Principal: &principal, InvokedViaFunctionUrl: aws.Bool(true)},
	}
}

func TestAFunctionURLForEverybodyNeedsAPolicyThatSaysSo(t *testing.T) {
	c, url := withURL(t, lambdatypes.FunctionUrlAuthTypeNone, echo)
	status, _, _ := urlRequest{unsigned: true}.send(t, aws.Config{}, url)
	assert.Equal(t, 403, status)
	for _, in := range letIn("*") {
		_, err := sdklambda.NewFromConfig(c.AWSConfig("")).AddPermission(t.Context(), in)
		require.NoError(t, err)
	}
	status, body, _ := urlRequest{unsigned: true, body: "\xff\x00"}.send(t, aws.Config{}, url)
	require.Equal(t, 200, status)
	var got events.LambdaFunctionURLRequest
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	assert.Nil(t, got.RequestContext.Authorizer)
	assert.True(t, got.IsBase64Encoded)
	assert.Equal(t, base64.StdEncoding.EncodeToString([]byte("\xff\x00")), got.Body)
}

func TestWhatAFunctionReturnsBecomesTheResponse(t *testing.T) {
	for sentence, tc := range map[string]struct {
		returned any
		err      error
		status   int
		body     string
		header   map[string]string
	}{
		"status, headers, cookies and body": {events.LambdaFunctionURLResponse{StatusCode: 201, Headers: map[string]string{"X-A": "b", "Content-Type": "text/plain"}, Body: "made", Cookies: []string{"c=1"}}, nil, 201, "made", map[string]string{"X-A": "b", "Content-Type": "text/plain", "Set-Cookie": "c=1"}},
		"a body in base64":                  {events.LambdaFunctionURLResponse{StatusCode: 200, Body: "/wA=", IsBase64Encoded: true}, nil, 200, "\xff\x00", nil},
		"no status code":                    {map[string]any{"a": 1}, nil, 200, `{"a":1}`, map[string]string{"Content-Type": "application/json"}},
		"a text":                            {"hello", nil, 200, "hello", nil},
		"a status code that is none":        {map[string]any{"statusCode": 7}, nil, 502, "Internal Server Error", nil},
		"a body that is not text":           {map[string]any{"statusCode": 200, "body": 7}, nil, 502, "Internal Server Error", nil},
		"a function that fails":             {nil, errors.New("secret"), 502, "Internal Server Error", nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			c, url := withURL(t, lambdatypes.FunctionUrlAuthTypeAwsIam, func([]byte) ([]byte, error) {
				raw, err := json.Marshal(tc.returned)
				return raw, errors.Join(err, tc.err)
			})
			status, body, header := urlRequest{}.send(t, c.AWSConfig(""), url)
			assert.Equal(t, tc.status, status)
			assert.Equal(t, tc.body, body)
			for name, want := range tc.header {
				assert.Equal(t, want, header.Get(name))
			}
		})
	}
}

func TestFunctionURLConfigsOverTheWire(t *testing.T) {
	c, url := withURL(t, lambdatypes.FunctionUrlAuthTypeAwsIam, echo)
	client, name, ctx := sdklambda.NewFromConfig(c.AWSConfig("")), aws.String("approve"), t.Context()
	_, err := client.CreateFunctionUrlConfig(ctx, &sdklambda.CreateFunctionUrlConfigInput{FunctionName: name, AuthType: lambdatypes.FunctionUrlAuthTypeNone})
	var exists *lambdatypes.ResourceConflictException
	require.ErrorAs(t, err, &exists)
	got := must[*sdklambda.GetFunctionUrlConfigOutput](t)(client.GetFunctionUrlConfig(ctx, &sdklambda.GetFunctionUrlConfigInput{FunctionName: name}))
	assert.Equal(t, url+"/", *got.FunctionUrl)
	assert.Equal(t, approveARN, *got.FunctionArn)
	updated := must[*sdklambda.UpdateFunctionUrlConfigOutput](t)(client.UpdateFunctionUrlConfig(ctx, &sdklambda.UpdateFunctionUrlConfigInput{FunctionName: name, AuthType: lambdatypes.FunctionUrlAuthTypeNone}))
	assert.Equal(t, got.FunctionUrl, updated.FunctionUrl, "the URL stays")
	listed := must[*sdklambda.ListFunctionUrlConfigsOutput](t)(client.ListFunctionUrlConfigs(ctx, &sdklambda.ListFunctionUrlConfigsInput{FunctionName: name}))
	require.Len(t, listed.FunctionUrlConfigs, 1)
	assert.Equal(t, lambdatypes.FunctionUrlAuthTypeNone, listed.FunctionUrlConfigs[0].AuthType)
	_, err = client.AddPermission(ctx, &sdklambda.AddPermissionInput{FunctionName: name, StatementId: aws.String("x"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("*"), FunctionUrlAuthType: lambdatypes.FunctionUrlAuthTypeNone})
	require.ErrorContains(t, err, "only supported for lambda:InvokeFunctionUrl")
	_, err = client.CreateFunctionUrlConfig(ctx, &sdklambda.CreateFunctionUrlConfigInput{FunctionName: aws.String("none"), AuthType: lambdatypes.FunctionUrlAuthTypeNone})
	var missing *lambdatypes.ResourceNotFoundException
	require.ErrorAs(t, err, &missing)
	_, err = client.UpdateFunctionUrlConfig(ctx, &sdklambda.UpdateFunctionUrlConfigInput{FunctionName: name, InvokeMode: lambdatypes.InvokeModeResponseStream})
	require.ErrorContains(t, err, "BUFFERED")
	must[*sdklambda.DeleteFunctionUrlConfigOutput](t)(client.DeleteFunctionUrlConfig(ctx, &sdklambda.DeleteFunctionUrlConfigInput{FunctionName: name}))
	_, err = client.GetFunctionUrlConfig(ctx, &sdklambda.GetFunctionUrlConfigInput{FunctionName: name})
	require.ErrorAs(t, err, &missing)
	status, _, _ := urlRequest{}.send(t, c.AWSConfig(""), url)
	assert.Equal(t, 404, status)
}

func TestAFunctionURLIsServedUnderItsHostToo(t *testing.T) {
	c, url := withURL(t, lambdatypes.FunctionUrlAuthTypeAwsIam, echo)
	id := url[strings.LastIndex(url, "/")+1:]
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+id+".lambda-url."+region+".localhost/x", bytes.NewReader(nil))
	require.NoError(t, err)
	cfg := c.AWSConfigInProcess("", "")
	keys, err := cfg.Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	sum := sha256.Sum256(nil)
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), keys, r, hex.EncodeToString(sum[:]), "lambda", region, time.Now()))
	response, err := cfg.HTTPClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, 200, response.StatusCode)
	var got events.LambdaFunctionURLRequest
	require.NoError(t, json.NewDecoder(response.Body).Decode(&got))
	assert.Equal(t, "/x", got.RawPath)
	assert.Equal(t, "arn:aws:iam::"+account+":root", got.RequestContext.Authorizer.IAM.UserARN)
}
