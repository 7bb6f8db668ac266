package localcloud_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
)

// ruleTo makes a rule of the default bus of a region that sends what matches to a target.
func ruleTo(t *testing.T, cfg aws.Config, name, pattern string, target eventtypes.Target) {
	t.Helper()
	client := eventbridge.NewFromConfig(cfg)
	_, err := client.PutRule(t.Context(), &eventbridge.PutRuleInput{Name: &name, EventPattern: &pattern})
	require.NoError(t, err)
	target.Id = aws.String("t")
	_, err = client.PutTargets(t.Context(), &eventbridge.PutTargetsInput{Rule: &name, Targets: []eventtypes.Target{target}})
	require.NoError(t, err)
}

// eventIn is the next event in a queue.
func eventIn(t *testing.T, c *localcloud.Cloud, url string) (event map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(*letter(t, c, url).Body), &event))
	return event
}

func TestARuleReceivesWhatIsPutIntoABucketOfAnotherRegion(t *testing.T) {
	c := enforcing(t)
	ctx := t.Context()
	// The event is of the bucket's owner and region, whoever writes, and from wherever.
	url, arn := inbox(t, c, "objects")
	ruleTo(t, c.AWSConfig(""), "uploads", `{"source":["aws.s3"],"detail-type":["Object Created"],"detail":{"bucket":{"name":["plans"]},"object":{"key":[{"prefix":"executions/"}]}}}`, eventtypes.Target{Arn: &arn})
	home := sdks3.NewFromConfig(c.AWSConfig(""), func(o *sdks3.Options) { o.UsePathStyle = true })
	_, err := home.CreateBucket(ctx, &sdks3.CreateBucketInput{Bucket: aws.String("plans"), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: region}})
	require.NoError(t, err)
	_, err = home.PutBucketNotificationConfiguration(ctx, &sdks3.PutBucketNotificationConfigurationInput{
		Bucket: aws.String("plans"), NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
	})
	require.NoError(t, err)
	away := sdks3.NewFromConfig(c.AWSConfigFor("444455556666", "us-east-1"), func(o *sdks3.Options) { o.UsePathStyle = true })
	for _, key := range []string{"other/1", "executions/bake-1/provisioned.json"} {
		_, err = away.PutObject(ctx, &sdks3.PutObjectInput{Bucket: aws.String("plans"), Key: &key, Body: strings.NewReader("{}")})
		require.NoError(t, err)
	}
	event := eventIn(t, c, url)
	assert.Equal(t, []any{"aws.s3", "Object Created", account, region}, []any{event["source"], event["detail-type"], event["account"], event["region"]})
	assert.Equal(t, []any{"arn:aws:s3:::plans"}, event["resources"])
	detail := event["detail"].(map[string]any)
	assert.Equal(t, "executions/bake-1/provisioned.json", detail["object"].(map[string]any)["key"])
	assert.Equal(t, "444455556666", detail["requester"])
}
