package sqs

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// number is an attribute that is a number.
type number struct{ least, most, fallback int }

// numbers returns the numeric attributes, with the limits and defaults of
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html:
// in seconds, except MaximumMessageSize, which is in bytes.
func numbers() map[string]number {
	return map[string]number{
		"DelaySeconds":                  {0, 900, 0},
		"KmsDataKeyReusePeriodSeconds":  {60, 86400, 300},
		"MaximumMessageSize":            {1024, 1 << 20, 1 << 20},
		"MessageRetentionPeriod":        {60, 1209600, 345600},
		"ReceiveMessageWaitTimeSeconds": {0, 20, 0},
		"VisibilityTimeout":             {0, 43200, 30},
	}
}

// texts returns the other attributes that can be set.
func texts() []string {
	return []string{"KmsMasterKeyId", "Policy", "RedriveAllowPolicy", "RedrivePolicy", "SqsManagedSseEnabled"}
}

func invalidValue(format string, args ...any) error {
	return &types.InvalidAttributeValue{Message: aws.String(fmt.Sprintf(format, args...))}
}

func checkAttributes(attributes map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[name]
		if limits, ok := numbers()[name]; ok {
			if n, err := strconv.Atoi(value); err != nil || n < limits.least || n > limits.most {
				return invalidValue("Invalid value for the parameter %s. Reason: %q, %d to %d are allowed.", name, value, limits.least, limits.most)
			}
			continue
		}
		if !slices.Contains(texts(), name) {
			return &types.InvalidAttributeName{Message: aws.String("Unknown Attribute " + name + " (the embedded SQS has standard queues only).")}
		}
		if value == "" {
			continue
		}
		if name == "RedrivePolicy" {
			if _, err := parseRedrive(value); err != nil {
				return err
			}
		} else if name == "Policy" {
			if _, err := authz.ParseResource([]byte(value)); err != nil {
				return invalidValue("Invalid value for the parameter Policy. Reason: %s", err)
			}
		} else if name == "RedriveAllowPolicy" && !json.Valid([]byte(value)) {
			return invalidValue("Invalid value for the parameter %s. Reason: it is not JSON.", name)
		}
	}
	return nil
}

// redrive is the redrive policy: where messages go that were received too often.
type redrive struct {
	Target string      `json:"deadLetterTargetArn"`
	Most   json.Number `json:"maxReceiveCount"` // a number, or a text with a number
}

func parseRedrive(text string) (redrive, error) {
	var r redrive
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, invalidValue("Invalid value for the parameter RedrivePolicy. Reason: %s", err)
	}
	if n, err := strconv.Atoi(r.Most.String()); err != nil || n < 1 || n > 1000 || r.Target == "" {
		return r, invalidValue("Invalid value for the parameter RedrivePolicy. Reason: deadLetterTargetArn and a maxReceiveCount of 1 to 1000 are required.")
	}
	return r, nil
}

// attribute returns the effective value of an attribute.
func (q *queue) attribute(name string) string {
	if value, ok := q.Attributes[name]; ok {
		return value
	}
	if n, ok := numbers()[name]; ok && name != "KmsDataKeyReusePeriodSeconds" {
		return strconv.Itoa(n.fallback)
	}
	if name == "SqsManagedSseEnabled" {
		return strconv.FormatBool(q.Attributes["KmsMasterKeyId"] == "")
	}
	return ""
}

// seconds returns a numeric attribute, which was checked when it was set.
func (q *queue) seconds(name string) time.Duration {
	n, _ := strconv.Atoi(q.attribute(name))
	return time.Duration(n) * time.Second
}

// all returns all attributes, including the counters.
func (q *queue) all(now time.Time) map[string]string {
	out := maps.Clone(q.Attributes)
	for name := range numbers() {
		if value := q.attribute(name); value != "" {
			out[name] = value
		}
	}
	out["SqsManagedSseEnabled"] = q.attribute("SqsManagedSseEnabled")
	out["QueueArn"] = q.ARN
	out["CreatedTimestamp"] = strconv.FormatInt(q.Created.Unix(), 10)
	out["LastModifiedTimestamp"] = strconv.FormatInt(q.Modified.Unix(), 10)
	visible, hidden, delayed := 0, 0, 0
	for _, m := range q.Messages {
		switch {
		case !m.Visible.After(now):
			visible++
		case m.Receives > 0:
			hidden++
		default:
			delayed++
		}
	}
	out["ApproximateNumberOfMessages"] = strconv.Itoa(visible)
	out["ApproximateNumberOfMessagesNotVisible"] = strconv.Itoa(hidden)
	out["ApproximateNumberOfMessagesDelayed"] = strconv.Itoa(delayed)
	return out
}
