package s3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/s3"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

const account = "111122223333"

type rig struct {
	service *s3.Service
	url     string
	dir     string
	now     time.Time // that signatures are compared with
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), now: time.Now()}
	service, err := s3.New(s3.Config{
		Clock: clock.NewReal(), Default: wire.Caller{Account: account, Region: "eu-west-1"}, Dir: r.dir,
	})
	require.NoError(t, err)
	r.service = service
	opts := wiretest.Options()
	opts.Authenticator.Now = func() time.Time { return r.now }
	server := httptest.NewServer(wire.Handler(opts, service.Wire()))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *rig) client(accessKey, region string) *sdk.Client {
	return sdk.New(sdk.Options{
		Region: region, BaseEndpoint: aws.String(r.url), UsePathStyle: true,
		Credentials: wiretest.Credentials(accessKey),
	})
}

// api is what can be called through both doors.
type api interface {
	CreateBucket(context.Context, *sdk.CreateBucketInput, ...func(*sdk.Options)) (*sdk.CreateBucketOutput, error)
	HeadBucket(context.Context, *sdk.HeadBucketInput, ...func(*sdk.Options)) (*sdk.HeadBucketOutput, error)
	PutObject(context.Context, *sdk.PutObjectInput, ...func(*sdk.Options)) (*sdk.PutObjectOutput, error)
	GetObject(context.Context, *sdk.GetObjectInput, ...func(*sdk.Options)) (*sdk.GetObjectOutput, error)
	HeadObject(context.Context, *sdk.HeadObjectInput, ...func(*sdk.Options)) (*sdk.HeadObjectOutput, error)
	DeleteObject(context.Context, *sdk.DeleteObjectInput, ...func(*sdk.Options)) (*sdk.DeleteObjectOutput, error)
	ListObjectsV2(context.Context, *sdk.ListObjectsV2Input, ...func(*sdk.Options)) (*sdk.ListObjectsV2Output, error)
}

// throughBothDoors runs a test with the SDK's client and in process.
func throughBothDoors(t *testing.T, test func(t *testing.T, a api)) {
	t.Helper()
	t.Run("over HTTP", func(t *testing.T) { test(t, newRig(t).client(account, "eu-west-1")) })
	t.Run("in process", func(t *testing.T) { test(t, newRig(t).service) })
}

func makeBucket(t *testing.T, a api, name string) {
	t.Helper()
	_, err := a.CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: aws.String(name), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-west-1"}})
	require.NoError(t, err)
}

func putText(t *testing.T, a api, key, text string) {
	t.Helper()
	_, err := a.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: aws.String("b-1"), Key: aws.String(key), Body: strings.NewReader(text)})
	require.NoError(t, err)
}

func read(t *testing.T, out *sdk.GetObjectOutput) string {
	t.Helper()
	defer out.Body.Close()
	raw, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	return string(raw)
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func TestAnObjectComesBackAsItWasPut(t *testing.T) {
	throughBothDoors(t, func(t *testing.T, a api) {
		makeBucket(t, a, "b-1")
		sum := sha256.Sum256([]byte("hello, world"))
		put, err := a.PutObject(t.Context(), &sdk.PutObjectInput{
			Bucket: aws.String("b-1"), Key: aws.String("runs/1/a b+c.txt"), Body: strings.NewReader("hello, world"), ContentType: aws.String("text/plain"),
			Metadata: map[string]string{"recipe": "debian"}, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		})
		require.NoError(t, err)
		assert.Equal(t, `"e4d7f1b4ed2e42d15898f4b27b019da4"`, *put.ETag)
		out, err := a.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("runs/1/a b+c.txt"), ChecksumMode: types.ChecksumModeEnabled})
		require.NoError(t, err)
		assert.Equal(t, "hello, world", read(t, out))
		assert.Equal(t, "text/plain", *out.ContentType)
		assert.Equal(t, "debian", out.Metadata["recipe"])
		assert.Equal(t, base64.StdEncoding.EncodeToString(sum[:]), aws.ToString(out.ChecksumSHA256))
		part, err := a.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("runs/1/a b+c.txt"), Range: aws.String("bytes=7-")})
		require.NoError(t, err)
		assert.Equal(t, "world", read(t, part))
		assert.Equal(t, "bytes 7-11/12", *part.ContentRange)
		head, err := a.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: aws.String("b-1"), Key: aws.String("runs/1/a b+c.txt")})
		require.NoError(t, err)
		assert.EqualValues(t, 12, *head.ContentLength)
		assert.WithinDuration(t, time.Now(), *head.LastModified, time.Hour)
	})
}

func TestWrongChecksumsAndConditionsAreRefused(t *testing.T) {
	throughBothDoors(t, func(t *testing.T, a api) {
		makeBucket(t, a, "b-1")
		put := func(change func(*sdk.PutObjectInput)) error {
			in := &sdk.PutObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k"), Body: strings.NewReader("x")}
			change(in)
			_, err := a.PutObject(t.Context(), in)
			return err
		}
		wrong := sha256.Sum256([]byte("y"))
		assert.Equal(t, "BadDigest", code(put(func(in *sdk.PutObjectInput) {
			in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(wrong[:]))
		})))
		require.NoError(t, put(func(in *sdk.PutObjectInput) { in.IfNoneMatch = aws.String("*") }), "the refused object was not stored")
		assert.Equal(t, "PreconditionFailed", code(put(func(in *sdk.PutObjectInput) { in.IfNoneMatch = aws.String("*") })))
		assert.Equal(t, "NoSuchBucket", code(put(func(in *sdk.PutObjectInput) { in.Bucket = aws.String("absent") })))
		assert.Equal(t, "PreconditionFailed", code(put(func(in *sdk.PutObjectInput) { in.IfMatch = aws.String(`"00000000000000000000000000000000"`) })))
		missing := put(func(in *sdk.PutObjectInput) {
			in.Key, in.IfMatch = aws.String("absent"), aws.String(`"00000000000000000000000000000000"`)
		})
		assert.Equal(t, "NoSuchKey", code(missing))
		var response *smithyhttp.ResponseError
		if errors.As(missing, &response) {
			assert.Equal(t, http.StatusNotFound, response.HTTPStatusCode())
		}
		_, err := a.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: aws.String("b-1"), Key: aws.String("absent")})
		assert.Error(t, err, "the refused object was not stored")
	})
}

func TestMissingThingsAreNamed(t *testing.T) {
	throughBothDoors(t, func(t *testing.T, a api) {
		makeBucket(t, a, "b-1")
		_, err := a.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
		var noKey *types.NoSuchKey
		assert.True(t, errors.As(err, &noKey), "%v", err)
		_, err = a.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-2"), Key: aws.String("k")})
		assert.Equal(t, "NoSuchBucket", code(err))
		_, err = a.HeadObject(t.Context(), &sdk.HeadObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
		var notFound *types.NotFound
		assert.True(t, errors.As(err, &notFound), "%v", err)
		_, err = a.HeadBucket(t.Context(), &sdk.HeadBucketInput{Bucket: aws.String("b-2")})
		assert.True(t, errors.As(err, &notFound), "%v", err)
		_, err = a.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
		assert.NoError(t, err, "deleting what is not there succeeds")
	})
}

func TestListingPagesAndGroups(t *testing.T) {
	throughBothDoors(t, func(t *testing.T, a api) {
		makeBucket(t, a, "b-1")
		for _, key := range []string{"a", "a/1", "a/2", "b/1", "c"} { // a file system could not hold a beside a/1
			putText(t, a, key, key)
		}
		list := func(prefix, delimiter *string) (keys []string) {
			pages := sdk.NewListObjectsV2Paginator(a, &sdk.ListObjectsV2Input{Bucket: aws.String("b-1"), Prefix: prefix, Delimiter: delimiter, MaxKeys: aws.Int32(2)})
			for pages.HasMorePages() {
				page, err := pages.NextPage(t.Context())
				require.NoError(t, err)
				require.LessOrEqual(t, len(page.Contents)+len(page.CommonPrefixes), 2)
				for _, o := range page.Contents {
					keys = append(keys, *o.Key)
				}
				for _, p := range page.CommonPrefixes {
					keys = append(keys, *p.Prefix)
				}
			}
			return keys
		}
		assert.Equal(t, []string{"a", "a/1", "a/2", "b/1", "c"}, list(nil, nil))
		assert.Equal(t, []string{"a/1", "a/2"}, list(aws.String("a/"), nil))
		assert.ElementsMatch(t, []string{"a", "a/", "b/", "c"}, list(nil, aws.String("/")))
		assert.Equal(t, []string{"a/1", "a/2"}, list(aws.String("a/"), aws.String("/")))
		_, err := a.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: aws.String("b-1"), Key: aws.String("a")})
		require.NoError(t, err)
		assert.Equal(t, []string{"a/1", "a/2", "b/1", "c"}, list(nil, nil))
	})
}

func TestBucketNamesAreUniqueOverAllAccounts(t *testing.T) {
	r := newRig(t)
	mine, other := r.client(account, "eu-west-1"), r.client("444455556666", "us-east-1")
	makeBucket(t, mine, "mine")
	_, err := mine.CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: aws.String("mine")})
	assert.Equal(t, "BucketAlreadyOwnedByYou", code(err))
	_, err = other.CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: aws.String("mine")})
	assert.Equal(t, "BucketAlreadyExists", code(err))
	_, err = other.CreateBucket(t.Context(), &sdk.CreateBucketInput{Bucket: aws.String("theirs")})
	require.NoError(t, err)
	buckets, err := mine.ListBuckets(t.Context(), &sdk.ListBucketsInput{})
	require.NoError(t, err)
	require.Len(t, buckets.Buckets, 1)
	assert.Equal(t, "mine", *buckets.Buckets[0].Name)
	location, err := mine.GetBucketLocation(t.Context(), &sdk.GetBucketLocationInput{Bucket: aws.String("mine")})
	require.NoError(t, err)
	assert.Equal(t, types.BucketLocationConstraint("eu-west-1"), location.LocationConstraint)
	location, err = other.GetBucketLocation(t.Context(), &sdk.GetBucketLocationInput{Bucket: aws.String("theirs")})
	require.NoError(t, err)
	assert.Empty(t, location.LocationConstraint)
}

func TestPresignedURLs(t *testing.T) {
	r := newRig(t)
	c := r.client(account, "eu-west-1")
	makeBucket(t, c, "b-1")
	putText(t, c, "bundle with space.tar.gz", "bytes")
	presign := sdk.NewPresignClient(c, sdk.WithPresignExpires(10*time.Minute))
	get, err := presign.PresignGetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("bundle with space.tar.gz")})
	require.NoError(t, err)
	put, err := presign.PresignPutObject(t.Context(), &sdk.PutObjectInput{Bucket: aws.String("b-1"), Key: aws.String("results.gz")})
	require.NoError(t, err)
	stranger, err := sdk.NewPresignClient(r.client("ASIAUNKNOWN", "eu-west-1")).PresignGetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
	require.NoError(t, err)
	send := func(method, target, body, host string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		require.NoError(t, err)
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(raw)
	}
	replace := func(u, name, value string) string {
		parsed, err := url.Parse(u)
		require.NoError(t, err)
		q := parsed.Query()
		q.Set(name, value)
		parsed.RawQuery = q.Encode()
		return parsed.String()
	}
	status, body := send("GET", get.URL, "", "")
	assert.Equal(t, 200, status, body)
	assert.Equal(t, "bytes", body)
	status, body = send("PUT", put.URL, "uploaded", "")
	assert.Equal(t, 200, status, body)
	stored, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("results.gz")})
	require.NoError(t, err)
	assert.Equal(t, "uploaded", read(t, stored))

	for sentence, tc := range map[string]struct {
		method, url, host string
		status            int
		code              string
	}{
		"another method":      {"PUT", get.URL, "", 403, "SignatureDoesNotMatch"},
		"another key":         {"GET", strings.Replace(get.URL, "bundle", "secret", 1), "", 403, "SignatureDoesNotMatch"},
		"a longer expiry":     {"GET", replace(get.URL, "X-Amz-Expires", "86400"), "", 403, "SignatureDoesNotMatch"},
		"another host":        {"GET", get.URL, "localcloud.internal", 403, "SignatureDoesNotMatch"},
		"an unknown key pair": {"GET", stranger.URL, "", 403, "InvalidAccessKeyId"},
		"over a week":         {"GET", replace(get.URL, "X-Amz-Expires", "604801"), "", 400, "AuthorizationQueryParametersError"},
		"a broken date":       {"GET", replace(get.URL, "X-Amz-Date", "today"), "", 400, "AuthorizationQueryParametersError"},
	} {
		t.Run(sentence+" is refused", func(t *testing.T) {
			status, body := send(tc.method, tc.url, "", tc.host)
			assert.Equal(t, tc.status, status)
			assert.Contains(t, body, "<Code>"+tc.code+"</Code>")
		})
	}
	r.now = r.now.Add(10*time.Minute + time.Second)
	status, body = send("GET", get.URL, "", "")
	assert.Equal(t, 403, status)
	assert.Contains(t, body, "Request has expired")
	r.now = r.now.Add(-time.Hour)
	_, body = send("GET", get.URL, "", "")
	assert.Contains(t, body, "not yet valid")
}

func TestAPresignedURLWorksUnderTheGuestsHostName(t *testing.T) {
	r := newRig(t)
	c := r.client(account, "eu-west-1")
	makeBucket(t, c, "b-1")
	putText(t, c, "k", "for the guest")
	inGuest := sdk.New(sdk.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String("http://localcloud.internal"), UsePathStyle: true,
		Credentials: wiretest.Credentials(account),
	})
	signed, err := sdk.NewPresignClient(inGuest).PresignGetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), "GET", strings.Replace(signed.URL, "http://localcloud.internal", r.url, 1), nil)
	require.NoError(t, err)
	request.Host = "localcloud.internal"
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, 200, response.StatusCode)
}

func TestChunkedBodiesAreDecodedAndTheirTrailersVerified(t *testing.T) {
	crc := func(text string) string {
		sum := crc32.ChecksumIEEE([]byte(text))
		return base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	}
	for sentence, tc := range map[string]struct {
		body   string
		kind   string
		status int
	}{
		"unsigned with a trailer": {"5\r\nhello\r\n3\r\n you\r\n0\r\nx-amz-checksum-crc32:" + crc("hello you") + "\r\n\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", 400},
		"unsigned, right trailer": {"5\r\nhello\r\n4\r\n you\r\n0\r\nx-amz-checksum-crc32:" + crc("hello you") + "\r\n\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", 200},
		"unsigned, wrong trailer": {"5\r\nhello\r\n4\r\n you\r\n0\r\nx-amz-checksum-crc32:" + crc("hello me") + "\r\n\r\n", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", 400},
		"signed chunks of somebody else": {"9;chunk-signature=" + strings.Repeat("a", 64) + "\r\nhello you\r\n0;chunk-signature=" + strings.Repeat("b", 64) + "\r\n\r\n",
			"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 403},
		"cut short":     {"9\r\nhello", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", 400},
		"no chunk size": {"hello you", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", 400},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			makeBucket(t, r.service, "b-1")
			request, err := http.NewRequestWithContext(t.Context(), "PUT", r.url+"/b-1/k", strings.NewReader(tc.body))
			require.NoError(t, err)
			request.Header.Set("Content-Encoding", "aws-chunked")
			request.Header.Set("X-Amz-Content-Sha256", tc.kind)
			request.Header.Set("X-Amz-Decoded-Content-Length", "9")
			request.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
			wiretest.Sign(t, request, "s3", tc.body)
			response, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			assert.Equal(t, tc.status, response.StatusCode)
			out, err := r.service.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
			if tc.status != 200 {
				assert.Equal(t, "NoSuchKey", code(err))
			} else {
				require.NoError(t, err)
				assert.Equal(t, "hello you", read(t, out))
				assert.Nil(t, out.ContentEncoding)
			}
			left, err := os.ReadDir(r.dir)
			require.NoError(t, err)
			assert.Len(t, left, map[int]int{200: 1, 400: 0, 403: 0}[tc.status], "nothing else stays on disk")
		})
	}
}

func TestVersionsAreKeptOnceVersioningIsOn(t *testing.T) {
	r := newRig(t)
	c := r.client(account, "eu-west-1")
	makeBucket(t, c, "b-1")
	putText(t, c, "k", "null")
	_, err := c.PutBucketVersioning(t.Context(), &sdk.PutBucketVersioningInput{Bucket: aws.String("b-1"), VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
	require.NoError(t, err)
	status, err := c.GetBucketVersioning(t.Context(), &sdk.GetBucketVersioningInput{Bucket: aws.String("b-1")})
	require.NoError(t, err)
	assert.Equal(t, types.BucketVersioningStatusEnabled, status.Status)
	first, err := c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k"), Body: strings.NewReader("one")})
	require.NoError(t, err)
	require.NotEmpty(t, first.VersionId)
	putText(t, c, "k", "two")
	old, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k"), VersionId: first.VersionId})
	require.NoError(t, err)
	assert.Equal(t, "one", read(t, old))

	deleted, err := c.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
	require.NoError(t, err)
	assert.True(t, *deleted.DeleteMarker)
	_, err = c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
	assert.Equal(t, "NoSuchKey", code(err))
	versions, err := c.ListObjectVersions(t.Context(), &sdk.ListObjectVersionsInput{Bucket: aws.String("b-1")})
	require.NoError(t, err)
	assert.Len(t, versions.Versions, 3)
	assert.Len(t, versions.DeleteMarkers, 1)
	_, err = c.DeleteBucket(t.Context(), &sdk.DeleteBucketInput{Bucket: aws.String("b-1")})
	assert.Equal(t, "BucketNotEmpty", code(err))
	_, err = c.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k"), VersionId: deleted.VersionId})
	require.NoError(t, err)
	current, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("k")})
	require.NoError(t, err)
	assert.Equal(t, "two", read(t, current), "without its delete marker the object is back")
}

func TestAMultipartUploadAndACopy(t *testing.T) {
	r := newRig(t)
	c := r.client(account, "eu-west-1")
	makeBucket(t, c, "b-1")
	upload, err := c.CreateMultipartUpload(t.Context(), &sdk.CreateMultipartUploadInput{Bucket: aws.String("b-1"), Key: aws.String("big"), ContentType: aws.String("text/plain")})
	require.NoError(t, err)
	var parts []types.CompletedPart
	for n, text := range []string{strings.Repeat("a", 5<<20), "the end"} {
		out, err := c.UploadPart(t.Context(), &sdk.UploadPartInput{
			Bucket: aws.String("b-1"), Key: aws.String("big"), UploadId: upload.UploadId, PartNumber: aws.Int32(int32(n + 1)), Body: strings.NewReader(text),
		})
		require.NoError(t, err)
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(int32(n + 1))})
	}
	_, err = c.CompleteMultipartUpload(t.Context(), &sdk.CompleteMultipartUploadInput{
		Bucket: aws.String("b-1"), Key: aws.String("big"), UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	require.NoError(t, err)
	_, err = c.CopyObject(t.Context(), &sdk.CopyObjectInput{Bucket: aws.String("b-1"), Key: aws.String("copy"), CopySource: aws.String("b-1/big")})
	require.NoError(t, err)
	out, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("copy")})
	require.NoError(t, err)
	assert.Equal(t, "text/plain", *out.ContentType)
	assert.True(t, strings.HasSuffix(read(t, out), "athe end"))
	gone, err := c.DeleteObjects(t.Context(), &sdk.DeleteObjectsInput{Bucket: aws.String("b-1"), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String("big")}, {Key: aws.String("copy")}}}})
	require.NoError(t, err)
	assert.Len(t, gone.Deleted, 2)
	_, err = c.DeleteBucket(t.Context(), &sdk.DeleteBucketInput{Bucket: aws.String("b-1")})
	require.NoError(t, err)
}

func TestPartsAreListedPageByPageAndBeyondTheLast(t *testing.T) {
	c := newRig(t).client(account, "eu-west-1")
	makeBucket(t, c, "b-1")
	none, err := c.ListMultipartUploads(t.Context(), &sdk.ListMultipartUploadsInput{Bucket: aws.String("b-1")})
	require.NoError(t, err, "a bucket without uploads")
	assert.Empty(t, none.Uploads)
	_, err = c.ListMultipartUploads(t.Context(), &sdk.ListMultipartUploadsInput{Bucket: aws.String("absent")})
	assert.Equal(t, "NoSuchBucket", code(err))

	upload, err := c.CreateMultipartUpload(t.Context(), &sdk.CreateMultipartUploadInput{Bucket: aws.String("b-1"), Key: aws.String("big")})
	require.NoError(t, err)
	list := func(marker string, most int32) (*sdk.ListPartsOutput, error) {
		in := &sdk.ListPartsInput{Bucket: aws.String("b-1"), Key: aws.String("big"), UploadId: upload.UploadId, MaxParts: aws.Int32(most)}
		if marker != "" {
			in.PartNumberMarker = aws.String(marker)
		}
		return c.ListParts(t.Context(), in)
	}
	numbers := func(out *sdk.ListPartsOutput) []int32 {
		found := []int32{}
		for _, part := range out.Parts {
			found = append(found, *part.PartNumber)
		}
		return found
	}
	empty, err := list("7", 10)
	require.NoError(t, err, "an upload without parts, beyond the first")
	assert.Empty(t, empty.Parts)
	for _, n := range []int32{1, 2, 5, 9} {
		_, err := c.UploadPart(t.Context(), &sdk.UploadPartInput{
			Bucket: aws.String("b-1"), Key: aws.String("big"), UploadId: upload.UploadId, PartNumber: aws.Int32(n), Body: strings.NewReader(strings.Repeat("x", int(n))),
		})
		require.NoError(t, err)
	}
	first, err := list("", 2)
	require.NoError(t, err)
	assert.Equal(t, []int32{1, 2}, numbers(first))
	require.True(t, *first.IsTruncated)
	second, err := list(*first.NextPartNumberMarker, 2)
	require.NoError(t, err)
	assert.Equal(t, []int32{5, 9}, numbers(second))
	assert.Equal(t, int64(9), *second.Parts[1].Size)
	assert.False(t, *second.IsTruncated)
	for _, marker := range []string{"9", "10", "10000", "2147483647"} {
		beyond, err := list(marker, 2)
		require.NoError(t, err, marker)
		assert.Empty(t, beyond.Parts, marker)
	}
	_, err = list("-1", 2)
	assert.Equal(t, "InvalidArgument", code(err))
	all, err := list("", 1000)
	require.NoError(t, err)
	assert.Equal(t, []int32{1, 2, 5, 9}, numbers(all))

	for sentence, tc := range map[string]struct {
		parts []types.CompletedPart
		want  string
	}{
		"a negative part":        {[]types.CompletedPart{{PartNumber: aws.Int32(-1), ETag: all.Parts[0].ETag}}, "InvalidArgument"},
		"part zero":              {[]types.CompletedPart{{PartNumber: aws.Int32(0), ETag: all.Parts[0].ETag}}, "InvalidArgument"},
		"a part beyond the last": {[]types.CompletedPart{{PartNumber: aws.Int32(77), ETag: all.Parts[0].ETag}}, "InvalidPart"},
		"parts out of order": {[]types.CompletedPart{
			{PartNumber: aws.Int32(2), ETag: all.Parts[1].ETag}, {PartNumber: aws.Int32(1), ETag: all.Parts[0].ETag},
		}, "InvalidPartOrder"},
		"no part": {nil, "MalformedXML"},
	} {
		_, err := c.CompleteMultipartUpload(t.Context(), &sdk.CompleteMultipartUploadInput{
			Bucket: aws.String("b-1"), Key: aws.String("big"), UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: tc.parts},
		})
		assert.Equal(t, tc.want, code(err), sentence)
	}
}

func TestSubResourcesOfBuckets(t *testing.T) {
	r := newRig(t)
	c := r.client(account, "eu-west-1")
	makeBucket(t, c, "b-1")
	b := aws.String("b-1")

	encryption, err := c.GetBucketEncryption(t.Context(), &sdk.GetBucketEncryptionInput{Bucket: b})
	require.NoError(t, err)
	assert.Equal(t, types.ServerSideEncryptionAes256, encryption.ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.SSEAlgorithm)
	_, err = c.PutBucketEncryption(t.Context(), &sdk.PutBucketEncryptionInput{Bucket: b, ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{
		Rules: []types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: &types.ServerSideEncryptionByDefault{SSEAlgorithm: types.ServerSideEncryptionAwsKms, KMSMasterKeyID: aws.String("alias/x")}}},
	}})
	require.NoError(t, err)
	encryption, err = c.GetBucketEncryption(t.Context(), &sdk.GetBucketEncryptionInput{Bucket: b})
	require.NoError(t, err)
	assert.Equal(t, "alias/x", *encryption.ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault.KMSMasterKeyID)

	block, err := c.GetPublicAccessBlock(t.Context(), &sdk.GetPublicAccessBlockInput{Bucket: b})
	require.NoError(t, err)
	assert.True(t, *block.PublicAccessBlockConfiguration.BlockPublicPolicy)
	_, err = c.DeletePublicAccessBlock(t.Context(), &sdk.DeletePublicAccessBlockInput{Bucket: b})
	require.NoError(t, err)
	_, err = c.GetPublicAccessBlock(t.Context(), &sdk.GetPublicAccessBlockInput{Bucket: b})
	assert.Equal(t, "NoSuchPublicAccessBlockConfiguration", code(err))
	_, err = c.PutPublicAccessBlock(t.Context(), &sdk.PutPublicAccessBlockInput{Bucket: b, PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true)}})
	require.NoError(t, err)

	_, err = c.GetBucketPolicy(t.Context(), &sdk.GetBucketPolicyInput{Bucket: b})
	assert.Equal(t, "NoSuchBucketPolicy", code(err))
	_, err = c.PutBucketPolicy(t.Context(), &sdk.PutBucketPolicyInput{Bucket: b, Policy: aws.String("nonsense")})
	assert.Equal(t, "MalformedPolicy", code(err))
	bucketPolicy := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::` + *b + `"}]}`
	_, err = c.PutBucketPolicy(t.Context(), &sdk.PutBucketPolicyInput{Bucket: b, Policy: aws.String(strings.ReplaceAll(bucketPolicy, *b, "another"))})
	assert.Equal(t, "MalformedPolicy", code(err))
	_, err = c.PutBucketPolicy(t.Context(), &sdk.PutBucketPolicyInput{Bucket: b, Policy: aws.String(bucketPolicy)})
	require.NoError(t, err)
	policy, err := c.GetBucketPolicy(t.Context(), &sdk.GetBucketPolicyInput{Bucket: b})
	require.NoError(t, err)
	assert.JSONEq(t, bucketPolicy, *policy.Policy)

	_, err = c.GetBucketLifecycleConfiguration(t.Context(), &sdk.GetBucketLifecycleConfigurationInput{Bucket: b})
	assert.Equal(t, "NoSuchLifecycleConfiguration", code(err))
	_, err = c.PutBucketLifecycleConfiguration(t.Context(), &sdk.PutBucketLifecycleConfigurationInput{Bucket: b, LifecycleConfiguration: &types.BucketLifecycleConfiguration{
		Rules: []types.LifecycleRule{{ID: aws.String("old"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("runs/")}, Expiration: &types.LifecycleExpiration{Days: aws.Int32(90)}}},
	}})
	require.NoError(t, err)
	lifecycle, err := c.GetBucketLifecycleConfiguration(t.Context(), &sdk.GetBucketLifecycleConfigurationInput{Bucket: b})
	require.NoError(t, err)
	assert.Equal(t, "old", *lifecycle.Rules[0].ID)

	_, err = c.GetBucketReplication(t.Context(), &sdk.GetBucketReplicationInput{Bucket: b})
	assert.ErrorContains(t, err, "does not serve ?replication")
	_, err = c.GetBucketEncryption(t.Context(), &sdk.GetBucketEncryptionInput{Bucket: aws.String("absent")})
	assert.Equal(t, "NoSuchBucket", code(err))
}

func TestARestoreBringsObjectsBackAndCleansUp(t *testing.T) {
	r := newRig(t)
	makeBucket(t, r.service, "b-1")
	for _, key := range []string{"kept", "lost"} {
		putText(t, r.service, key, key+" content")
	}
	raw, err := r.service.Snapshot()
	require.NoError(t, err)
	entries, err := os.ReadDir(r.dir)
	require.NoError(t, err)
	for _, e := range entries {
		content, err := os.ReadFile(r.dir + "/" + e.Name())
		require.NoError(t, err)
		if bytes.HasPrefix(content, []byte("lost")) {
			require.NoError(t, os.Remove(r.dir+"/"+e.Name()))
		}
	}
	require.NoError(t, os.WriteFile(r.dir+"/orphan", []byte("x"), 0o600))
	again, err := s3.New(s3.Config{Clock: clock.NewReal(), Default: wire.Caller{Account: account, Region: "eu-west-1"}, Dir: r.dir})
	require.NoError(t, err)
	require.NoError(t, again.Restore(raw))
	out, err := again.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("kept")})
	require.NoError(t, err)
	assert.Equal(t, "kept content", read(t, out))
	_, err = again.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String("b-1"), Key: aws.String("lost")})
	assert.Equal(t, "NoSuchKey", code(err))
	assert.NoFileExists(t, r.dir+"/orphan")
}
