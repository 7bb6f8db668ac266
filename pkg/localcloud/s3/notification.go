package s3

import (
	"context"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/johannesboyne/gofakes3"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Event is an event that S3 sends to EventBridge: to the default bus of the bucket's
// owner, in the bucket's region
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html).
type Event struct {
	DetailType string // Object Created or Object Deleted
	Account    string // that owns the bucket
	Region     string // of the bucket
	Resources  []string
	Detail     any
}

// eventDetail is the detail of an event. A deletion has no Size, a permanent deletion no
// ETag, and the null version no VersionID.
type eventDetail struct {
	Version      string      `json:"version"`
	EventVersion string      `json:"event-version"`
	Bucket       eventBucket `json:"bucket"`
	Object       eventObject `json:"object"`
	RequestID    string      `json:"request-id"`
	Requester    string      `json:"requester"`
	SourceIP     string      `json:"source-ip-address"`
	Reason       string      `json:"reason"`
	DeletionType string      `json:"deletion-type,omitempty"`
}

type eventBucket struct {
	Name string `json:"name"`
}

type eventObject struct {
	Key       string `json:"key"`
	Size      *int64 `json:"size,omitempty"`
	ETag      string `json:"etag,omitempty"`
	VersionID string `json:"version-id,omitempty"`
	Sequencer string `json:"sequencer"`
}

// The reasons for which an object is created or deleted.
const (
	reasonPut      = "PutObject"
	reasonPost     = "POST Object"
	reasonCopy     = "CopyObject"
	reasonComplete = "CompleteMultipartUpload"
	reasonDelete   = "DeleteObject"
)

// reasonOf returns the reason for which a request creates an object.
func reasonOf(r *http.Request) string {
	switch {
	case r.Header.Get("X-Amz-Copy-Source") != "":
		return reasonCopy
	case r.Method == http.MethodPost:
		return reasonPost
	}
	return reasonPut
}

// loopback is the source address of calls in process.
const loopback = "127.0.0.1"

func sourceIP(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return loopback
}

// notify sends an event for each change, if the bucket's notification configuration asks
// for it.
func (s *Service) notify(ctx context.Context, reason, sourceIP string, changes []change) {
	if s.cfg.Events == nil || len(changes) == 0 {
		return
	}
	requestID := wire.RequestIDFrom(ctx)
	if requestID == "" {
		requestID = strings.ToUpper(scope.Hex(16))
	}
	requester := scope.Caller(ctx, s.cfg.Default).Account
	for _, c := range changes {
		account, region, on := s.store.notifies(c.bucket)
		if !on {
			continue
		}
		e := Event{DetailType: "Object Created", Account: account, Region: region, Resources: []string{partition.OrDefault(region).ARN("s3", "", "", c.bucket)}}
		detail := eventDetail{
			Version: "0", EventVersion: "1.0", Bucket: eventBucket{Name: c.bucket},
			Object:    eventObject{Key: c.key, Size: aws.Int64(c.size), ETag: c.etag, VersionID: c.version, Sequencer: c.sequencer},
			RequestID: requestID, Requester: requester, SourceIP: sourceIP, Reason: reason,
		}
		if c.deleted {
			e.DetailType, detail.Reason, detail.Object.Size, detail.DeletionType = "Object Deleted", reasonDelete, nil, "Permanently Deleted"
			if c.marker {
				detail.DeletionType = "Delete Marker Created"
			}
		}
		e.Detail = detail
		s.cfg.Events(ctx, e)
	}
}

// notifies reports whether a bucket sends its events to EventBridge, and from which
// account.
func (s *store) notifies(bucketName string) (account, region string, on bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b, err := s.bucket(bucketName)
	if err != nil {
		return "", "", false
	}
	configuration, err := parseNotification([]byte(b.Documents[notificationQuery]))
	return b.Account, b.Region, err == nil && configuration.EventBridge != nil
}

// notificationQuery is the sub-resource of a bucket's notification configuration.
const notificationQuery = "notification"

const notificationRoot = "NotificationConfiguration"

// noNotification is the configuration of a bucket without notifications.
const noNotification = `<NotificationConfiguration xmlns="` + namespace + `"></NotificationConfiguration>`

// toEventBridge is the configuration of a bucket that notifies EventBridge.
const toEventBridge = `<NotificationConfiguration xmlns="` + namespace + `"><EventBridgeConfiguration></EventBridgeConfiguration></NotificationConfiguration>`

type notification struct {
	XMLName     xml.Name
	EventBridge *struct{}                    `xml:"EventBridgeConfiguration"`
	Others      []struct{ XMLName xml.Name } `xml:",any"`
}

// parseNotification reads a notification configuration. An empty text is an empty
// configuration.
func parseNotification(text []byte) (notification, error) {
	var n notification
	if len(text) == 0 {
		return n, nil
	}
	return n, xml.Unmarshal(text, &n)
}

// checkNotification refuses a configuration that S3 would refuse, or that has targets
// which the embedded S3 does not support.
func checkNotification(body []byte) (gofakes3.ErrorCode, string) {
	n, err := parseNotification(body)
	if err != nil || n.XMLName.Local != notificationRoot {
		return gofakes3.ErrMalformedXML, "The XML you provided was not well-formed or did not validate against our published schema: a " + notificationRoot + " element is expected."
	}
	for _, other := range n.Others {
		switch name := other.XMLName.Local; name {
		case "TopicConfiguration", "QueueConfiguration", "CloudFunctionConfiguration":
			return gofakes3.ErrNotImplemented, "The embedded S3 sends notifications to EventBridge only: " + name + " is not served, EventBridgeConfiguration is. A rule of EventBridge can send the events to a topic, a queue or a function."
		default:
			return gofakes3.ErrMalformedXML, "The XML you provided was not well-formed or did not validate against our published schema: " + name + " is not a part of " + notificationRoot + "."
		}
	}
	return gofakes3.ErrNone, ""
}

// PutBucketNotificationConfiguration replaces a bucket's notification configuration;
// an empty one turns notifications off. The only supported target is EventBridge.
func (s *Service) PutBucketNotificationConfiguration(_ context.Context, in *s3.PutBucketNotificationConfigurationInput, _ ...func(*s3.Options)) (*s3.PutBucketNotificationConfigurationOutput, error) {
	n := in.NotificationConfiguration
	if n == nil {
		return nil, wire.Errorf("MissingRequestBodyError", "Request Body is empty")
	}
	for name, count := range map[string]int{
		"TopicConfiguration": len(n.TopicConfigurations), "QueueConfiguration": len(n.QueueConfigurations), "CloudFunctionConfiguration": len(n.LambdaFunctionConfigurations),
	} {
		if count > 0 {
			code, message := checkNotification(fmt.Appendf(nil, "<%s><%s/></%s>", notificationRoot, name, notificationRoot))
			return nil, wire.Errorf(string(code), "%s", message)
		}
	}
	text := noNotification
	if n.EventBridgeConfiguration != nil {
		text = toEventBridge
	}
	return &s3.PutBucketNotificationConfigurationOutput{}, s.setDocument(in.Bucket, notificationQuery, text)
}

// GetBucketNotificationConfiguration returns a bucket's notification configuration, which
// is empty unless one was put.
func (s *Service) GetBucketNotificationConfiguration(_ context.Context, in *s3.GetBucketNotificationConfigurationInput, _ ...func(*s3.Options)) (*s3.GetBucketNotificationConfigurationOutput, error) {
	name := aws.ToString(in.Bucket)
	if found, _ := s.store.BucketExists(name); !found {
		return nil, noSuchBucket()
	}
	out := &s3.GetBucketNotificationConfigurationOutput{}
	if _, _, on := s.store.notifies(name); on {
		out.EventBridgeConfiguration = &types.EventBridgeConfiguration{}
	}
	return out, nil
}

// notificationAction returns the permission that a request for a bucket's notification
// configuration needs.
func notificationAction(r *http.Request, key string) (action string, ok bool) {
	verb, ok := map[string]string{http.MethodGet: "Get", http.MethodPut: "Put"}[r.Method]
	if !ok || key != "" || !r.URL.Query().Has(notificationQuery) || unknownParameter(r, []string{"x-id", notificationQuery}) != "" {
		return "", false
	}
	return "s3:" + verb + "BucketNotification", true
}

// writes reports whether gofakes3 may change objects in a request.
func writes(r *http.Request, key string, q url.Values) bool {
	post := r.Method == http.MethodPost && (key == "" || q.Has("delete"))
	return post || key != "" && slices.Contains([]string{http.MethodPut, http.MethodDelete}, r.Method)
}
