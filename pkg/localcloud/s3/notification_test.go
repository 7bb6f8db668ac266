package s3_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/s3"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

// notified is a rig whose service sends events, which it keeps.
type notified struct {
	*rig
	mu     sync.Mutex
	events []s3.Event
}

func newNotified(t *testing.T) *notified {
	t.Helper()
	n := &notified{rig: &rig{dir: t.TempDir(), now: time.Now()}}
	var err error
	n.service, err = s3.New(s3.Config{
		Clock: clock.NewReal(), Default: wire.Caller{Account: account, Region: "eu-west-1"}, Dir: n.dir,
		Events: func(_ context.Context, e s3.Event) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.events = append(n.events, e)
		},
	})
	require.NoError(t, err)
	opts := wiretest.Options()
	opts.Authenticator.Now = func() time.Time { return n.now }
	server := httptest.NewServer(wire.Handler(opts, n.service.Wire()))
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

// notifier is api with the notification configuration.
type notifier interface {
	api
	PutBucketNotificationConfiguration(context.Context, *sdk.PutBucketNotificationConfigurationInput, ...func(*sdk.Options)) (*sdk.PutBucketNotificationConfigurationOutput, error)
	GetBucketNotificationConfiguration(context.Context, *sdk.GetBucketNotificationConfigurationInput, ...func(*sdk.Options)) (*sdk.GetBucketNotificationConfigurationOutput, error)
}

// notifying turns a bucket's events on.
func notifying(t *testing.T, a notifier, bucket string, on bool) {
	t.Helper()
	in := &sdk.PutBucketNotificationConfigurationInput{Bucket: aws.String(bucket), NotificationConfiguration: &types.NotificationConfiguration{}}
	if on {
		in.NotificationConfiguration.EventBridgeConfiguration = &types.EventBridgeConfiguration{}
	}
	_, err := a.PutBucketNotificationConfiguration(t.Context(), in)
	require.NoError(t, err)
}

// sent waits until count events were sent, and returns them: one over HTTP follows the
// answer.
func (n *notified) sent(t *testing.T, count int) []s3.Event {
	t.Helper()
	require.Eventually(t, func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.events) >= count
	}, 10*time.Second, time.Millisecond)
	n.mu.Lock()
	defer n.mu.Unlock()
	require.Len(t, n.events, count)
	return n.events
}

func md5Of(parts ...string) string {
	sum := md5.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// The shapes are those of
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html.
func TestChangesOfObjectsAreEvents(t *testing.T) {
	part := strings.Repeat("p", 5<<20)
	first, _ := hex.DecodeString(md5Of(part))
	second, _ := hex.DecodeString(md5Of("end"))
	bucket, key := aws.String("b-1"), aws.String("runs/1/a b+c.txt")
	put := func(t *testing.T, c *sdk.Client) {
		t.Helper()
		_, err := c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("hello")})
		require.NoError(t, err)
	}
	created := func(size int, etag, version, reason string) string {
		if version != "" {
			version = `"version-id":"` + version + `",`
		}
		return fmt.Sprintf(`Object Created {"version":"0","event-version":"1.0","bucket":{"name":"b-1"},"object":{"key":"runs/1/a b+c.txt","size":%d,"etag":"%s",%s"sequencer":"…"},"request-id":"…","requester":"111122223333","source-ip-address":"127.0.0.1","reason":"%s"}`, size, etag, version, reason)
	}
	deleted := func(object, deletion string) string {
		return fmt.Sprintf(`Object Deleted {"version":"0","event-version":"1.0","bucket":{"name":"b-1"},"object":{"key":"runs/1/a b+c.txt",%s"sequencer":"…"},"request-id":"…","requester":"111122223333","source-ip-address":"127.0.0.1","reason":"DeleteObject","deletion-type":"%s"}`, object, deletion)
	}
	for sentence, tc := range map[string]struct {
		versioned bool
		do        func(t *testing.T, n *notified, c *sdk.Client)
		want      []string // detail type and detail; V is for the ids of versions
	}{
		"an object that is put": {false, func(t *testing.T, _ *notified, c *sdk.Client) { put(t, c) }, []string{created(5, md5Of("hello"), "", "PutObject")}},
		"a version that is put": {true, func(t *testing.T, _ *notified, c *sdk.Client) { put(t, c) }, []string{created(5, md5Of("hello"), "V", "PutObject")}},
		"an object that is put through a presigned address": {false, func(t *testing.T, n *notified, c *sdk.Client) {
			signed, err := sdk.NewPresignClient(c).PresignPutObject(t.Context(), &sdk.PutObjectInput{Bucket: bucket, Key: key})
			require.NoError(t, err)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, signed.URL, strings.NewReader("hello"))
			require.NoError(t, err)
			response, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusOK, response.StatusCode)
		}, []string{created(5, md5Of("hello"), "", "PutObject")}},
		"a copy": {false, func(t *testing.T, n *notified, c *sdk.Client) {
			makeBucket(t, c, "source")
			_, err := c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: aws.String("source"), Key: aws.String("k"), Body: strings.NewReader("hello")})
			require.NoError(t, err)
			_, err = c.CopyObject(t.Context(), &sdk.CopyObjectInput{Bucket: bucket, Key: key, CopySource: aws.String("source/k")})
			require.NoError(t, err)
		}, []string{created(5, md5Of("hello"), "", "CopyObject")}},
		"an upload in parts, once it is complete": {false, func(t *testing.T, _ *notified, c *sdk.Client) {
			begun, err := c.CreateMultipartUpload(t.Context(), &sdk.CreateMultipartUploadInput{Bucket: bucket, Key: key})
			require.NoError(t, err)
			done := &types.CompletedMultipartUpload{}
			for i, body := range []string{part, "end"} {
				number := aws.Int32(int32(i + 1))
				out, err := c.UploadPart(t.Context(), &sdk.UploadPartInput{Bucket: bucket, Key: key, UploadId: begun.UploadId, PartNumber: number, Body: strings.NewReader(body)})
				require.NoError(t, err)
				done.Parts = append(done.Parts, types.CompletedPart{ETag: out.ETag, PartNumber: number})
			}
			_, err = c.CompleteMultipartUpload(t.Context(), &sdk.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: begun.UploadId, MultipartUpload: done})
			require.NoError(t, err)
		}, []string{created(5<<20+3, md5Of(string(first), string(second))+"-2", "", "CompleteMultipartUpload")}},
		"an object that is deleted": {false, func(t *testing.T, _ *notified, c *sdk.Client) {
			put(t, c)
			_, err := c.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: bucket, Key: key})
			require.NoError(t, err)
		}, []string{created(5, md5Of("hello"), "", "PutObject"), deleted("", "Permanently Deleted")}},
		"an object that is hidden by a delete marker, and then deleted with it": {true, func(t *testing.T, _ *notified, c *sdk.Client) {
			put(t, c)
			marker, err := c.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: bucket, Key: key})
			require.NoError(t, err)
			_, err = c.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: bucket, Key: key, VersionId: marker.VersionId})
			require.NoError(t, err)
		}, []string{
			created(5, md5Of("hello"), "V", "PutObject"),
			deleted(`"etag":"d41d8cd98f00b204e9800998ecf8427e","version-id":"V",`, "Delete Marker Created"),
			deleted(`"version-id":"V",`, "Permanently Deleted"),
		}},
		"several objects that are deleted in one call": {false, func(t *testing.T, _ *notified, c *sdk.Client) {
			put(t, c)
			_, err := c.DeleteObjects(t.Context(), &sdk.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: key}, {Key: aws.String("none")}}}})
			require.NoError(t, err)
		}, []string{created(5, md5Of("hello"), "", "PutObject"), deleted("", "Permanently Deleted")}},
		"nothing for an object that was refused": {false, func(t *testing.T, _ *notified, c *sdk.Client) {
			put(t, c)
			_, err := c.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("other"), IfNoneMatch: aws.String("*")})
			require.Error(t, err)
		}, []string{created(5, md5Of("hello"), "", "PutObject")}},
		"in process as over HTTP": {false, func(t *testing.T, n *notified, _ *sdk.Client) {
			_, err := n.service.PutObject(t.Context(), &sdk.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("hello")})
			require.NoError(t, err)
			require.NoError(t, n.service.Put(t.Context(), "b-1", *key, "text/plain", strings.NewReader("hello")))
			_, err = n.service.DeleteObject(t.Context(), &sdk.DeleteObjectInput{Bucket: bucket, Key: key})
			require.NoError(t, err)
		}, []string{created(5, md5Of("hello"), "", "PutObject"), created(5, md5Of("hello"), "", "PutObject"), deleted("", "Permanently Deleted")}},
	} {
		t.Run(sentence, func(t *testing.T) {
			n := newNotified(t)
			c := n.client(account, "eu-west-1")
			makeBucket(t, c, "b-1")
			if tc.versioned {
				_, err := c.PutBucketVersioning(t.Context(), &sdk.PutBucketVersioningInput{Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
				require.NoError(t, err)
			}
			notifying(t, c, "b-1", true)
			tc.do(t, n, c)
			var got []string
			before := ""
			for _, e := range n.sent(t, len(tc.want)) {
				assert.Equal(t, "111122223333 eu-west-1 [arn:aws:s3:::b-1]", fmt.Sprint(e.Account, " ", e.Region, " ", e.Resources))
				raw, err := json.Marshal(e.Detail)
				require.NoError(t, err)
				var named struct {
					RequestID string `json:"request-id"`
					Object    struct {
						Sequencer string `json:"sequencer"`
						VersionID string `json:"version-id"`
					} `json:"object"`
				}
				require.NoError(t, json.Unmarshal(raw, &named))
				assert.Regexp(t, `^[0-9A-F]{18}$`, named.Object.Sequencer)
				assert.Greater(t, named.Object.Sequencer, before, "the sequencer grows")
				before = named.Object.Sequencer
				text := strings.NewReplacer(named.RequestID, "…", named.Object.Sequencer, "…").Replace(string(raw))
				if named.Object.VersionID != "" {
					text = strings.Replace(text, named.Object.VersionID, "V", 1)
				}
				got = append(got, e.DetailType+" "+text)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestABucketNotifiesOnceItIsToldTo(t *testing.T) {
	for sentence, client := range map[string]func(*notified) notifier{
		"over HTTP":  func(n *notified) notifier { return n.client(account, "eu-west-1") },
		"in process": func(n *notified) notifier { return n.service },
	} {
		t.Run(sentence, func(t *testing.T) {
			n := newNotified(t)
			a := client(n)
			makeBucket(t, a, "b-1")
			notifies := func() bool {
				out, err := a.GetBucketNotificationConfiguration(t.Context(), &sdk.GetBucketNotificationConfigurationInput{Bucket: aws.String("b-1")})
				require.NoError(t, err)
				return out.EventBridgeConfiguration != nil
			}
			assert.False(t, notifies(), "a new bucket notifies nobody")
			putText(t, a, "before", "x")
			notifying(t, a, "b-1", true)
			assert.True(t, notifies())
			putText(t, a, "while", "x")
			n.sent(t, 1)
			notifying(t, a, "b-1", false)
			assert.False(t, notifies())
			putText(t, a, "after", "x")
			n.sent(t, 1)

			_, err := a.GetBucketNotificationConfiguration(t.Context(), &sdk.GetBucketNotificationConfigurationInput{Bucket: aws.String("none")})
			assert.Equal(t, "NoSuchBucket", code(err))
			for kind, refused := range map[string]*types.NotificationConfiguration{
				"TopicConfiguration":         {TopicConfigurations: []types.TopicConfiguration{{TopicArn: aws.String("arn:aws:sns:eu-west-1:111122223333:t"), Events: []types.Event{"s3:ObjectCreated:*"}}}},
				"QueueConfiguration":         {QueueConfigurations: []types.QueueConfiguration{{QueueArn: aws.String("arn:aws:sqs:eu-west-1:111122223333:q"), Events: []types.Event{"s3:ObjectCreated:*"}}}},
				"CloudFunctionConfiguration": {LambdaFunctionConfigurations: []types.LambdaFunctionConfiguration{{LambdaFunctionArn: aws.String("arn:aws:lambda:eu-west-1:111122223333:function:f"), Events: []types.Event{"s3:ObjectCreated:*"}}}},
			} {
				_, err := a.PutBucketNotificationConfiguration(t.Context(), &sdk.PutBucketNotificationConfigurationInput{Bucket: aws.String("b-1"), NotificationConfiguration: refused})
				assert.Equal(t, "NotImplemented", code(err), kind)
				assert.ErrorContains(t, err, kind+" is not served, EventBridgeConfiguration is")
			}
		})
	}
}

func TestANotificationConfigurationSurvivesARestart(t *testing.T) {
	n := newNotified(t)
	makeBucket(t, n.service, "b-1")
	notifying(t, n.service, "b-1", true)
	raw, err := n.service.Snapshot()
	require.NoError(t, err)
	again := newNotified(t)
	require.NoError(t, again.service.Restore(raw))
	putText(t, again.service, "k", "x")
	again.sent(t, 1)
}

func TestConcurrentUploadsInPartsAreOneEventEach(t *testing.T) {
	n := newNotified(t)
	c := n.client(account, "eu-west-1")
	makeBucket(t, c, "b-1")
	notifying(t, c, "b-1", true)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			key := aws.String(fmt.Sprint("k", i))
			begun, err := c.CreateMultipartUpload(t.Context(), &sdk.CreateMultipartUploadInput{Bucket: aws.String("b-1"), Key: key})
			if !assert.NoError(t, err) {
				return
			}
			out, err := c.UploadPart(t.Context(), &sdk.UploadPartInput{Bucket: aws.String("b-1"), Key: key, UploadId: begun.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte(*key))})
			if !assert.NoError(t, err) {
				return
			}
			_, err = c.CompleteMultipartUpload(t.Context(), &sdk.CompleteMultipartUploadInput{Bucket: aws.String("b-1"), Key: key, UploadId: begun.UploadId,
				MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: out.ETag, PartNumber: aws.Int32(1)}}}})
			assert.NoError(t, err)
		})
	}
	group.Wait()
	keys := map[string]bool{}
	for _, e := range n.sent(t, 8) {
		raw, err := json.Marshal(e.Detail)
		require.NoError(t, err)
		var d struct{ Object struct{ Key string } }
		require.NoError(t, json.Unmarshal(raw, &d))
		keys[d.Object.Key] = true
	}
	assert.Len(t, keys, 8)
}
