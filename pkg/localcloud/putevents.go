package localcloud

import (
	"encoding/json"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
)

// putEventsArguments are those of the state events:putEvents
// (https://docs.aws.amazon.com/step-functions/latest/dg/connect-eventbridge.html).
type putEventsArguments struct{ Entries []putEventsEntry }

type putEventsEntry struct {
	Source       string
	DetailType   string
	EventBusName *string
	Resources    []string
	Time         *time.Time
	Detail       json.RawMessage // an object, or the text of one
}

func (e putEventsEntry) entry() types.PutEventsRequestEntry {
	detail := string(e.Detail)
	var text string
	if json.Unmarshal(e.Detail, &text) == nil {
		detail = text
	}
	return types.PutEventsRequestEntry{
		Source: aws.String(e.Source), DetailType: aws.String(e.DetailType), EventBusName: e.EventBusName,
		Resources: e.Resources, Time: e.Time, Detail: aws.String(detail),
	}
}
