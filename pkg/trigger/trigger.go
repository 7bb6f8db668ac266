// Package trigger starts executions: every night, and when a source changes, a release is
// announced, a published image has a vulnerability, or an execution ends. The decisions
// are in package decide, which is pure.
package trigger

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/trigger/decide"
)

// Settings are the settings of a deployment's triggers.
type Settings struct {
	StateMachineARN    string           // of the workflow
	EventBus           string           // the factory's own
	AnnouncementTopics []string         // ARNs of the topics whose messages are accepted
	FindingHours       int              // minimum between two builds for vulnerabilities; 0 for the default
	Reporters          decide.Reporters // of vulnerabilities
}

// maxSubject is the longest subject of a message, in characters
// (https://docs.aws.amazon.com/sns/latest/api/API_Publish.html).
const maxSubject = 100

// MessageAPI publishes messages.
type MessageAPI interface {
	Publish(context.Context, *sns.PublishInput, ...func(*sns.Options)) (*sns.PublishOutput, error)
}

// EventAPI sends events.
type EventAPI interface {
	PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error)
}
