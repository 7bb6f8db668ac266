package ec2_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTags(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	image := e.made("golden")
	snapshot := *e.snapshotOf(image).SnapshotId
	instance := *e.run().InstanceId
	e.pass(time.Minute)
	tag := func(key, value string) types.Tag { return types.Tag{Key: aws.String(key), Value: aws.String(value)} }
	list := func(filters ...types.Filter) []string {
		out, err := e.DescribeTags(ctx, &sdk.DescribeTagsInput{Filters: filters})
		require.NoError(t, err)
		var all []string
		for _, d := range out.Tags {
			all = append(all, string(d.ResourceType)+" "+*d.Key+"="+*d.Value)
		}
		return all
	}
	_, err := e.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{image, snapshot, instance}, Tags: []types.Tag{tag("a", "1"), tag("b", "2")}})
	require.NoError(t, err)
	_, err = e.CreateTags(ctx, &sdk.CreateTagsInput{Resources: []string{image}, Tags: []types.Tag{tag("b", "3")}})
	require.NoError(t, err)
	assert.Equal(t, []string{"image a=1", "image b=3", "instance a=1", "instance b=2", "snapshot a=1", "snapshot b=2"}, list())
	assert.Equal(t, []string{"image b=3"}, list(types.Filter{Name: aws.String("resource-id"), Values: []string{image}}, types.Filter{Name: aws.String("key"), Values: []string{"b"}}))

	_, err = e.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{image, snapshot}, Tags: []types.Tag{{Key: aws.String("a")}, tag("b", "2")}})
	require.NoError(t, err)
	assert.Equal(t, []string{"image b=3", "instance a=1", "instance b=2"}, list())
	_, err = e.DeleteTags(ctx, &sdk.DeleteTagsInput{Resources: []string{instance}})
	require.NoError(t, err)
	assert.Equal(t, []string{"image b=3"}, list())
}

func TestCreateTagsRefuses(t *testing.T) {
	e := setup(t, options{})
	instance := *e.run().InstanceId
	many := make([]types.Tag, 51)
	for n := range many {
		many[n] = types.Tag{Key: aws.String(strings.Repeat("k", n+1))}
	}
	one := []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}
	for sentence, c := range map[string]struct {
		code, resource string
		tags           []types.Tag
	}{
		"more than fifty tags":  {"TagLimitExceeded", instance, many},
		"a reserved key":        {"InvalidParameterValue", instance, []types.Tag{{Key: aws.String("AWS:x")}}},
		"an empty key":          {"InvalidParameterValue", instance, []types.Tag{{Value: aws.String("v")}}},
		"a long value":          {"InvalidParameterValue", instance, []types.Tag{{Key: aws.String("k"), Value: aws.String(strings.Repeat("é", 257))}}},
		"a key twice":           {"InvalidParameterValue", instance, append(one, one...)},
		"an unknown instance":   {"InvalidInstanceID.NotFound", "i-0123456789abcdef0", one},
		"an unknown volume":     {"InvalidVolume.NotFound", "vol-0123456789abcdef0", one},
		"another owner's image": {"AuthFailure", e.base, one},
		"an id of no kind":      {"InvalidID", "thing-1", one},
		"no resource":           {"MissingParameter", "", one},
	} {
		t.Run(sentence, func(t *testing.T) {
			in := &sdk.CreateTagsInput{Tags: c.tags}
			if c.resource != "" {
				in.Resources = []string{c.resource}
			}
			_, err := e.CreateTags(t.Context(), in)
			requireCode(t, err, c.code)
		})
	}
}
