package inspector_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/inspector"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
)

const bom = `{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"type":"application","name":"a"}]}`

// sent records requests instead of sending them.
type sent struct {
	requests []*http.Request
	bodies   []string
	answer   func(n int) (status int, header, body string)
}

func (s *sent) Do(r *http.Request) (*http.Response, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(raw))
	status, code, body := s.answer(len(s.requests))
	out := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
	if code != "" {
		out.Header.Set("X-Amzn-Errortype", code)
	}
	return out, nil
}

func client(s *sent, region string) inspector.Client {
	return inspector.Client{Config: aws.Config{
		Region: region, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""), HTTPClient: s,
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 4, time.Nanosecond })
		},
	}}
}

func good(int) (int, string, string) { return http.StatusOK, "", `{"sbom":{"specVersion":"1.5"}}` }

func TestEachPartitionHasItsEndpoint(t *testing.T) {
	for region, want := range map[string]string{
		"eu-west-1": "inspector-scan.eu-west-1.amazonaws.com", "us-gov-west-1": "inspector-scan.us-gov-west-1.amazonaws.com", "cn-north-1": "inspector-scan.cn-north-1.amazonaws.com.cn",
	} {
		s := &sent{answer: good}
		out, err := client(s, region).ScanSBOM(t.Context(), []byte(bom))
		require.NoError(t, err)
		assert.JSONEq(t, `{"specVersion":"1.5"}`, string(out))
		r := s.requests[0]
		assert.Equal(t, "POST https://"+want+"/scan/sbom", r.Method+" "+r.URL.String())
		assert.Contains(t, r.Header.Get("Authorization"), "/"+region+"/inspector-scan/aws4_request")
		assert.JSONEq(t, `{"sbom":`+bom+`,"outputFormat":"CYCLONE_DX_1_5"}`, s.bodies[0])
	}
	s := &sent{answer: good}
	dual := client(s, "eu-west-1")
	dual.DualStack = true
	_, err := dual.ScanSBOM(t.Context(), []byte(bom))
	require.NoError(t, err)
	assert.Equal(t, "inspector-scan.eu-west-1.api.aws", s.requests[0].URL.Host)
}

func TestErrorsAreClassifiedAndRetried(t *testing.T) {
	for sentence, c := range map[string]struct {
		answer   func(n int) (int, string, string)
		requests int
		want     failure.Code // empty: it succeeds
	}{
		"throttled once": {func(n int) (int, string, string) {
			if n == 1 {
				return 429, "ThrottlingException", `{"message":"slow"}`
			}
			return good(n)
		}, 2, ""},
		"throttled for ever":             {func(int) (int, string, string) { return 429, "ThrottlingException:http://x/", `{}` }, 4, failure.Throttled},
		"a fault of the service":         {func(int) (int, string, string) { return 500, "InternalServerException", `{"message":"x"}` }, 4, failure.ServiceUnavailable},
		"a fault of a proxy":             {func(int) (int, string, string) { return 502, "", `<html>` }, 4, failure.ServiceUnavailable},
		"no permission":                  {func(int) (int, string, string) { return 403, "AccessDeniedException", `{"message":"no"}` }, 1, failure.AccessDenied},
		"a request that is not valid":    {func(int) (int, string, string) { return 400, "", `{"__type":"x#ValidationException","message":"no"}` }, 1, failure.ComplianceFailed},
		"an answer without a document":   {func(int) (int, string, string) { return 200, "", `{}` }, 1, failure.ComplianceFailed},
		"an answer that is not complete": {func(int) (int, string, string) { return 200, "", `{"sbom":{` }, 1, failure.ComplianceFailed},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := &sent{answer: c.answer}
			_, err := client(s, "eu-west-1").ScanSBOM(t.Context(), []byte(bom))
			assert.Len(t, s.requests, c.requests)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			assert.Equal(t, c.want, awserr.Classify(err, failure.ComplianceFailed), err.Error())
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &sent{answer: func(int) (int, string, string) { cancel(); return 429, "ThrottlingException", `{}` }}
	_, err := client(s, "eu-west-1").ScanSBOM(ctx, []byte(bom))
	require.Error(t, err)
	assert.Len(t, s.requests, 1, "nobody waits for the answer any more")
}

func TestAServerThatDoesNotAnswerIsUnavailable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	c := client(nil, "eu-west-1")
	c.Config.HTTPClient, c.Config.BaseEndpoint = nil, aws.String(server.URL)
	_, err := c.ScanSBOM(t.Context(), []byte(bom))
	assert.Equal(t, failure.ServiceUnavailable, awserr.Classify(err, failure.ComplianceFailed))
}

func TestTheEmbeddedInspectorVerifiesSignaturesAndAnswers(t *testing.T) {
	var asked atomic.Int32
	known := true
	for _, scan := range []bool{true, false} {
		known = scan
		cfg := localcloud.Config{Driver: simulated.New(simulated.Options{Clock: clock.NewReal()})}
		if known {
			cfg.ScanSBOM = func(_ context.Context, in []byte) ([]byte, error) {
				asked.Add(1)
				assert.JSONEq(t, bom, string(in))
				return []byte(`{"specVersion":"1.5","components":[]}`), nil
			}
		}
		cloud, err := localcloud.New(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, cloud.Close(context.Background())) })
		_, err = cloud.Listen(t.Context(), "127.0.0.1:0")
		require.NoError(t, err)
		c := inspector.Client{Config: cloud.AWSConfig("")}
		out, err := c.ScanSBOM(t.Context(), []byte(bom))
		if !known {
			assert.Equal(t, "AccessDeniedException", awserr.Code(err))
			continue
		}
		require.NoError(t, err)
		assert.JSONEq(t, `{"specVersion":"1.5","components":[]}`, string(out))

		many := make([]map[string]any, 5001)
		for i := range many {
			many[i] = map[string]any{"name": fmt.Sprint(i)}
		}
		large, err := json.Marshal(map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": many})
		require.NoError(t, err)
		for sentence, refused := range map[string]string{"too many components": string(large), "another version": `{"bomFormat":"CycloneDX","specVersion":"1.6"}`, "another format": `{"spdxVersion":"2.3"}`} {
			_, err = c.ScanSBOM(t.Context(), []byte(refused))
			assert.Equal(t, "ValidationException", awserr.Code(err), sentence)
		}
		c.Config.Credentials = credentials.NewStaticCredentialsProvider(cloud.Credentials(localcloud.DefaultAccount).AccessKeyID, "another", "")
		_, err = c.ScanSBOM(t.Context(), []byte(bom))
		assert.Equal(t, "InvalidSignatureException", awserr.Code(err), "a forged signature")
	}
	assert.EqualValues(t, 1, asked.Load())
}
