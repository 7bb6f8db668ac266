package localcloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	sdksqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/scheduler"
)

// addMessageRules adds the rules of SQS, SNS and EventBridge Scheduler.
func addMessageRules(out map[string]rule) {
	queue := func(operation string, r rule) { out["sqs:"+operation] = r }
	queue("ChangeMessageVisibility", onQueue("ChangeMessageVisibility", func(in *sdksqs.ChangeMessageVisibilityInput) *string { return in.QueueUrl }))
	queue("DeleteMessage", onQueue("DeleteMessage", func(in *sdksqs.DeleteMessageInput) *string { return in.QueueUrl }))
	queue("DeleteQueue", onQueue("DeleteQueue", func(in *sdksqs.DeleteQueueInput) *string { return in.QueueUrl }))
	queue("GetQueueAttributes", onQueue("GetQueueAttributes", func(in *sdksqs.GetQueueAttributesInput) *string { return in.QueueUrl }))
	queue("ListQueueTags", onQueue("ListQueueTags", func(in *sdksqs.ListQueueTagsInput) *string { return in.QueueUrl }))
	queue("PurgeQueue", onQueue("PurgeQueue", func(in *sdksqs.PurgeQueueInput) *string { return in.QueueUrl }))
	queue("ReceiveMessage", onQueue("ReceiveMessage", func(in *sdksqs.ReceiveMessageInput) *string { return in.QueueUrl }))
	queue("SendMessage", onQueue("SendMessage", func(in *sdksqs.SendMessageInput) *string { return in.QueueUrl }))
	queue("SetQueueAttributes", onQueue("SetQueueAttributes", func(in *sdksqs.SetQueueAttributesInput) *string { return in.QueueUrl }))
	queue("TagQueue", onQueue("TagQueue", func(in *sdksqs.TagQueueInput) *string { return in.QueueUrl }))
	queue("UntagQueue", onQueue("UntagQueue", func(in *sdksqs.UntagQueueInput) *string { return in.QueueUrl }))
	queue("CreateQueue", onQueue("CreateQueue", func(in *sdksqs.CreateQueueInput) *string { return in.QueueName }))
	queue("GetQueueUrl", onQueue("GetQueueUrl", func(in *sdksqs.GetQueueUrlInput) *string { return in.QueueName }))
	queue("ListQueues", onAll("sqs:ListQueues"))

	topic := func(operation string, r rule) { out["sns:"+operation] = r }
	topic("DeleteTopic", onTopic("DeleteTopic", func(in *sdksns.DeleteTopicInput) *string { return in.TopicArn }))
	topic("GetTopicAttributes", onTopic("GetTopicAttributes", func(in *sdksns.GetTopicAttributesInput) *string { return in.TopicArn }))
	topic("ListSubscriptionsByTopic", onTopic("ListSubscriptionsByTopic", func(in *sdksns.ListSubscriptionsByTopicInput) *string { return in.TopicArn }))
	topic("SetTopicAttributes", onTopic("SetTopicAttributes", func(in *sdksns.SetTopicAttributesInput) *string { return in.TopicArn }))
	topic("Subscribe", onTopic("Subscribe", func(in *sdksns.SubscribeInput) *string { return in.TopicArn }))
	topic("ListTagsForResource", onTopic("ListTagsForResource", func(in *sdksns.ListTagsForResourceInput) *string { return in.ResourceArn }))
	topic("TagResource", onTopic("TagResource", func(in *sdksns.TagResourceInput) *string { return in.ResourceArn }))
	topic("UntagResource", onTopic("UntagResource", func(in *sdksns.UntagResourceInput) *string { return in.ResourceArn }))
	topic("CreateTopic", of(func(a asker, in *sdksns.CreateTopicInput) []iam.Request {
		return []iam.Request{{Action: "sns:CreateTopic", Resource: a.arn("sns", a.who.Account, aws.ToString(in.Name))}}
	}))
	for _, operation := range []string{"GetSubscriptionAttributes", "ListSubscriptions", "ListTopics", "SetSubscriptionAttributes", "Unsubscribe"} {
		topic(operation, onAll("sns:"+operation))
	}

	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		out["scheduler:"+method] = schedulerRequest
	}
}

// onQueue makes a rule for an operation on one queue, named by name or address.
func onQueue[I any](operation string, ref func(*I) *string) rule {
	return of(func(a asker, in *I) []iam.Request {
		name := aws.ToString(ref(in))
		account := a.who.Account
		if parts := strings.Split(name, "/"); len(parts) > 2 {
			account, name = parts[len(parts)-2], parts[len(parts)-1]
		}
		return []iam.Request{{Action: "sqs:" + operation, Resource: a.arn("sqs", account, name)}}
	})
}

func onTopic[I any](operation string, arn func(*I) *string) rule {
	return of(func(_ asker, in *I) []iam.Request {
		return []iam.Request{{Action: "sns:" + operation, Resource: aws.ToString(arn(in))}}
	})
}

// schedulerRequest decides on a request to EventBridge Scheduler, and whether the
// role of a schedule may be passed to it.
func schedulerRequest(a asker, input any) ([]iam.Request, error) {
	r, ok := input.(*http.Request)
	if !ok {
		return nil, fmt.Errorf("its input is %T", input)
	}
	mux := http.NewServeMux()
	operations := map[string]string{}
	for _, route := range scheduler.Routes() {
		pattern := route.Method + " " + route.Pattern
		operations[pattern] = route.Operation
		mux.Handle(pattern, http.NotFoundHandler())
	}
	_, pattern := mux.Handler(r)
	operation, ok := operations[pattern]
	if !ok {
		return nil, fmt.Errorf("EventBridge Scheduler has no operation for %s %s", r.Method, r.URL.Path)
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	request := iam.Request{Action: "scheduler:" + operation, Resource: "*"}
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch {
	case strings.HasPrefix(r.URL.Path, "/tags/"):
		request.Resource = strings.TrimPrefix(r.URL.Path, "/tags/")
	case strings.HasPrefix(r.URL.Path, "/schedule-groups/"):
		request.Resource = a.arn("scheduler", a.who.Account, "schedule-group/"+name)
	case strings.HasPrefix(r.URL.Path, "/schedules/"):
		group := body.GroupName
		if group == "" {
			group = r.URL.Query().Get("groupName")
		}
		if group == "" {
			group = scheduler.DefaultGroup
		}
		request.Resource = a.arn("scheduler", a.who.Account, "schedule/"+group+"/"+name)
	}
	out := []iam.Request{request}
	if body.Target.RoleArn != "" {
		out = append(out, iam.Request{
			Action: "iam:PassRole", Resource: body.Target.RoleArn, Context: iam.Context(map[string][]string{"iam:PassedToService": {scheduler.Principal}}),
		})
	}
	return out, nil
}

// scheduleBody is what decisions need of a request's body.
type scheduleBody struct {
	GroupName string
	Target    struct{ RoleArn string }
}

// readBody reads the body and puts it back, for whoever is to serve the request.
func readBody(r *http.Request) (scheduleBody, error) {
	var out scheduleBody
	raw, err := io.ReadAll(io.LimitReader(r.Body, 2<<20))
	if err != nil {
		return out, err
	}
	r.Body = io.NopCloser(bytes.NewReader(raw))
	if len(raw) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("its body is not JSON: %w", err)
	}
	return out, nil
}
