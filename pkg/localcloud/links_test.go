package localcloud_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	sdksns "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAStateMachineStartedByARulePublishesAndPutsEvents(t *testing.T) {
	c := newCloud(t)
	ctx := t.Context()
	topic := must[*sdksns.CreateTopicOutput](t)(c.SNS.CreateTopic(ctx, &sdksns.CreateTopicInput{Name: aws.String("news")})).TopicArn
	heard := make(chan string, 4)
	defer listen(c, *topic, heard)()
	machine := must[*sfn.CreateStateMachineOutput](t)(c.States.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
		Name: aws.String("m"), RoleArn: aws.String("arn:aws:iam::" + account + ":role/m"),
		Definition: aws.String(`{"QueryLanguage":"JSONata","StartAt":"Publish","States":{
			"Publish":{"Type":"Task","Resource":"arn:aws:states:::sns:publish","Arguments":{"TopicArn":"` + *topic + `","Message":"{% $states.input.detail.image %}"},"Output":"{% $states.input %}","Next":"Put"},
			"Put":{"Type":"Task","Resource":"arn:aws:states:::events:putEvents","Arguments":{"Entries":[{"Source":"factory","DetailType":"done","Detail":{"image":"{% $states.input.detail.image %}"}}]},"End":true}}}`),
	})).StateMachineArn
	rule := func(name, pattern string, target eventtypes.Target) {
		_, err := c.Events.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String(name), EventPattern: aws.String(pattern)})
		require.NoError(t, err)
		target.Id = aws.String("t")
		_, err = c.Events.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String(name), Targets: []eventtypes.Target{target}})
		require.NoError(t, err)
	}
	rule("start", `{"detail-type":["released"]}`, eventtypes.Target{Arn: machine})
	rule("done", `{"detail-type":["done"]}`, eventtypes.Target{Arn: topic, InputPath: aws.String("$.detail")})
	rule("status", `{"source":["aws.states"],"detail":{"status":["SUCCEEDED"]}}`, eventtypes.Target{Arn: topic, InputPath: aws.String("$.detail.status")})

	_, err := c.Events.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{
		Source: aws.String("vendor"), DetailType: aws.String("released"), Detail: aws.String(`{"image":"ami-1"}`),
	}}})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"ami-1", `{"image":"ami-1"}`, `"SUCCEEDED"`}, []string{<-heard, <-heard, <-heard})
	list := must[*sfn.ListExecutionsOutput](t)(c.States.ListExecutions(ctx, &sfn.ListExecutionsInput{StateMachineArn: machine}))
	require.Len(t, list.Executions, 1)
	assert.Equal(t, sfntypes.ExecutionStatusSucceeded, list.Executions[0].Status)
}
