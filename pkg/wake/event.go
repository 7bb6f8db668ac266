package wake

import (
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
)

// Event is an event as EventBridge delivers it
// (https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html).
type Event struct {
	ID         string          `json:"id"`
	Source     string          `json:"source"`
	DetailType string          `json:"detail-type"`
	Time       time.Time       `json:"time"`
	Region     string          `json:"region"`
	Detail     json.RawMessage `json:"detail"`
}

// detail has what is read of the details of all events.
type detail struct {
	InstanceID string `json:"instance-id"` // of EC2 and Systems Manager
	ImageID    string `json:"ImageId"`
	Bucket     struct {
		Name string `json:"name"`
	} `json:"bucket"`
	Object struct {
		Key string `json:"key"`
	} `json:"object"`
}

var eventID = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// resource is what the event is about.
func (e Event) resource(bucket string) (string, error) {
	var d detail
	if err := json.Unmarshal(e.Detail, &d); err != nil {
		return "", failure.Wrap(failure.InvalidInput, err, "the event %s %q has no detail that can be read", e.Source, e.DetailType)
	}
	out := ""
	switch e.Source + " " + e.DetailType {
	case contract.EC2Source + " " + contract.InstanceStateEvent, contract.SSMSource + " " + contract.CommandEvent:
		out = contract.InstanceResource + d.InstanceID
	case contract.EC2Source + " " + contract.ImageStateEvent:
		out = contract.ImageResource + e.Region + "/" + d.ImageID
	case contract.S3Source + " " + contract.ObjectCreatedEvent:
		name, ok := strings.CutPrefix(d.Object.Key, contract.ExecutionsPrefix)
		name, uploaded := strings.CutSuffix(name, "/"+contract.ProvisionedObject)
		if d.Bucket.Name != bucket || !ok || !uploaded {
			return "", failure.New(failure.InvalidInput, "the object s3://%s/%s is none that ends a wait", d.Bucket.Name, d.Object.Key)
		}
		out = contract.ExecutionResource + name
	default:
		return "", failure.New(failure.InvalidInput, "an event %s %q ends no wait; the rule that sends it does not belong to this version", e.Source, e.DetailType)
	}
	if !resourceName.MatchString(out) {
		return "", failure.New(failure.InvalidInput, "the event %s %q names no resource that is waited for: %s", e.Source, e.DetailType, e.Detail)
	}
	if !eventID.MatchString(e.ID) || e.Time.IsZero() {
		return "", failure.New(failure.InvalidInput, "the event %s %q lacks its id or its time", e.Source, e.DetailType)
	}
	return out, nil
}
