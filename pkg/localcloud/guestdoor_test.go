package localcloud_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// asGuest asks as a guest does, by way of the gateway.
func asGuest(c *localcloud.Cloud, method, url, body string, header http.Header) (int, string) {
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	r.Host, r.RemoteAddr = wire.Host, "172.31.0.2:1024"
	r.Header.Set("Content-Length", strconv.Itoa(len(body))) // as a server shows it
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	c.GuestHandler().ServeHTTP(w, r)
	answer, _ := io.ReadAll(w.Result().Body) // a recorder's body cannot fail
	return w.Code, string(answer)
}

func TestGuestsReachObjectsByPresignedAddressAndNothingElse(t *testing.T) {
	c := listening(t)
	ctx := t.Context()
	bucket, key := aws.String("guests"), aws.String("a/b.txt")
	_, err := c.S3.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: bucket})
	require.NoError(t, err)
	_, err = c.S3.PutObject(ctx, &sdks3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("hello")})
	require.NoError(t, err)
	client := sdks3.NewFromConfig(c.AWSConfigOfRole("", testRole, "f"), func(o *sdks3.Options) {
		o.BaseEndpoint, o.UsePathStyle = aws.String("http://"+wire.Host), true
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	})
	presign := sdks3.NewPresignClient(client, sdks3.WithPresignExpires(time.Minute))
	get, err := presign.PresignGetObject(ctx, &sdks3.GetObjectInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	put, err := presign.PresignPutObject(ctx, &sdks3.PutObjectInput{Bucket: bucket, Key: aws.String("c.txt")})
	require.NoError(t, err)

	size := aws.Int64(7)
	exact, err := presign.PresignPutObject(ctx, &sdks3.PutObjectInput{Bucket: bucket, Key: aws.String("d.txt"), ContentLength: size})
	require.NoError(t, err)

	rootGet, err := sdks3.NewPresignClient(sdks3.NewFromConfig(c.AWSConfig(""), func(o *sdks3.Options) {
		o.BaseEndpoint, o.UsePathStyle = aws.String("http://"+wire.Host), true
	})).PresignGetObject(ctx, &sdks3.GetObjectInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	code, body := asGuest(c, http.MethodGet, get.URL, "", nil)
	assert.Equal(t, http.StatusOK, code, body)
	assert.Equal(t, "hello", body)
	code, body = asGuest(c, http.MethodPut, put.URL, "results", nil)
	assert.Equal(t, http.StatusOK, code, body)
	code, body = asGuest(c, http.MethodPut, exact.URL, "results", nil)
	assert.Equal(t, http.StatusOK, code, body)

	signed := func(service string) http.Header {
		return http.Header{"Authorization": {"AWS4-HMAC-SHA256 Credential=" + c.Account() + "/20260101/" + c.Region() + "/" + service + "/aws4_request, SignedHeaders=host, Signature=00"}}
	}
	with := func(h http.Header, name, value string) http.Header {
		h.Set(name, value)
		return h
	}
	base := "http://" + wire.Host
	for name, ask := range map[string]struct {
		method, url, body string
		header            http.Header
	}{
		"a function, whose code would run on this machine": {http.MethodPost, base + "/2015-03-31/functions", "{}", signed("lambda")},
		"a function by PUT":                                  {http.MethodPut, base + "/2015-03-31/functions/f/code", "{}", signed("lambda")},
		"an EC2 call":                                        {http.MethodPost, base + "/", "Action=DescribeInstances&Version=2016-11-15", with(signed("ec2"), "Content-Type", "application/x-www-form-urlencoded")},
		"a command in another guest":                         {http.MethodPost, base + "/", "{}", with(signed("ssm"), "X-Amz-Target", "AmazonSSM.SendCommand")},
		"the embedded AWS's own controls":                    {http.MethodGet, base + localcloud.HealthPath, "", nil},
		"an object without a signature":                      {http.MethodGet, base + "/guests/a/b.txt", "", nil},
		"an object with a signature nobody checks":           {http.MethodGet, base + "/guests/a/b.txt", "", signed("s3")},
		"a presigned address with a second signature":        {http.MethodGet, get.URL, "", signed("lambda")},
		"another service with the signature in the query":    {http.MethodGet, strings.Replace(get.URL, "%2Fs3%2F", "%2Flambda%2F", 1), "", nil},
		"the list of a bucket":                               {http.MethodGet, base + "/guests?" + strings.SplitN(get.URL, "?", 2)[1], "", nil},
		"a presigned address of another object":              {http.MethodGet, strings.Replace(get.URL, "b.txt", "c.txt", 1), "", nil},
		"an upload to where it may only read":                {http.MethodPut, get.URL, "x", nil},
		"what the root user has presigned":                   {http.MethodGet, rootGet.URL, "", nil},
		"a byte more than the size that is signed":           {http.MethodPut, exact.URL, "results!", nil},
		"a byte less than the size that is signed":           {http.MethodPut, exact.URL, "result", nil},
		"nothing, where a size is signed":                    {http.MethodPut, exact.URL, "", nil},
		"a removal":                                          {http.MethodDelete, put.URL, "", nil},
		"a copy of what it may not read, to its own address": {http.MethodPut, put.URL, "", http.Header{"X-Amz-Copy-Source": {"/guests/a/b.txt"}}},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := asGuest(c, ask.method, ask.url, ask.body, ask.header)
			assert.Equal(t, http.StatusForbidden, code, body)
		})
	}
}
