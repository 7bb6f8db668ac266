package ec2_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

func askFor(kind types.ImageReferenceResourceType, option types.ImageReferenceOptionName, values ...string) types.ResourceTypeRequest {
	r := types.ResourceTypeRequest{ResourceType: kind}
	if len(values) > 0 {
		r.ResourceTypeOptions = []types.ResourceTypeOption{{OptionName: option, OptionValues: values}}
	}
	return r
}

func TestImageReferencesOverTheWire(t *testing.T) {
	e := setup(t, options{})
	ctx := t.Context()
	server := httptest.NewServer(wire.Handler(wiretest.Options(), e.Wire()))
	t.Cleanup(server.Close)
	client := newClient(wiretest.Config(server.URL))
	id := e.made("golden")
	next := e.made("next")
	of := func(in *sdk.RunInstancesInput) { in.ImageId = &id }
	running, gone := *e.run(of).InstanceId, *e.run(of).InstanceId
	_, err := client.TerminateInstances(ctx, &sdk.TerminateInstancesInput{InstanceIds: []string{gone}})
	require.NoError(t, err)
	e.pass(time.Minute)

	template, err := client.CreateLaunchTemplate(ctx, &sdk.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("web"), VersionDescription: aws.String("first"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &id, InstanceType: types.InstanceTypeT3Medium, SecurityGroupIds: []string{"sg-1"}},
	})
	require.NoError(t, err)
	web := template.LaunchTemplate.LaunchTemplateId
	for range 10 {
		_, err := client.CreateLaunchTemplateVersion(ctx, &sdk.CreateLaunchTemplateVersionInput{
			LaunchTemplateName: aws.String("web"), LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &next},
		})
		require.NoError(t, err)
	}
	versions, err := client.DescribeLaunchTemplateVersions(ctx, &sdk.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: web, Versions: []string{"$Default", "$Latest"}})
	require.NoError(t, err)
	require.Len(t, versions.LaunchTemplateVersions, 2)
	assert.Equal(t, int64(11), *versions.LaunchTemplateVersions[0].VersionNumber)
	first := versions.LaunchTemplateVersions[1]
	assert.Equal(t, "first", *first.VersionDescription)
	assert.True(t, *first.DefaultVersion)
	assert.Equal(t, id, *first.LaunchTemplateData.ImageId)
	assert.Equal(t, []string{"sg-1"}, first.LaunchTemplateData.SecurityGroupIds)

	const instance, launchTemplate = types.ImageReferenceResourceTypeEc2Instance, types.ImageReferenceResourceTypeEc2LaunchTemplate
	const state, depth = types.ImageReferenceOptionNameStateName, types.ImageReferenceOptionNameVersionDepth
	for sentence, tc := range map[string]struct {
		ask   []types.ResourceTypeRequest
		image string
		want  []string
	}{
		"instances in every state":                    {[]types.ResourceTypeRequest{askFor(instance, "")}, id, []string{"instance/" + running, "instance/" + gone}},
		"instances in some states":                    {[]types.ResourceTypeRequest{askFor(instance, state, "running", "stopped")}, id, []string{"instance/" + running}},
		"launch templates by their ten newest":        {[]types.ResourceTypeRequest{askFor(launchTemplate, "")}, id, nil},
		"launch templates by their eleven newest":     {[]types.ResourceTypeRequest{askFor(launchTemplate, depth, "11")}, id, []string{"launch-template/" + *web}},
		"a launch template of many versions once":     {[]types.ResourceTypeRequest{askFor(launchTemplate, depth, "10000")}, next, []string{"launch-template/" + *web}},
		"an image that does not exist":                {[]types.ResourceTypeRequest{askFor(instance, ""), askFor(launchTemplate, "")}, "ami-0123456789abcdef0", nil},
		"image recipes, of which there are none here": {[]types.ResourceTypeRequest{askFor(types.ImageReferenceResourceTypeImageBuilderImageRecipe, "")}, id, nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			out, err := client.DescribeImageReferences(ctx, &sdk.DescribeImageReferencesInput{ImageIds: []string{tc.image}, ResourceTypes: tc.ask})
			require.NoError(t, err)
			var found []string
			for _, r := range out.ImageReferences {
				assert.Equal(t, tc.image, *r.ImageId)
				found = append(found, (*r.Arn)[len("arn:aws:ec2:"+region+":"+home+":"):])
			}
			assert.ElementsMatch(t, tc.want, found)
		})
	}

	for sentence, in := range map[string]*sdk.DescribeImageReferencesInput{
		"no kind of resource":     {ImageIds: []string{id}},
		"eleven images":           {ImageIds: []string{id, id, id, id, id, id, id, id, id, id, id}, IncludeAllResourceTypes: aws.Bool(true)},
		"an unknown kind":         {ImageIds: []string{id}, ResourceTypes: []types.ResourceTypeRequest{askFor("autoscaling:Group", "")}},
		"another kind's option":   {ImageIds: []string{id}, ResourceTypes: []types.ResourceTypeRequest{askFor(instance, depth, "1")}},
		"a depth that is too far": {ImageIds: []string{id}, ResourceTypes: []types.ResourceTypeRequest{askFor(launchTemplate, depth, "10001")}},
		"an invalid state":        {ImageIds: []string{id}, ResourceTypes: []types.ResourceTypeRequest{askFor(instance, state, "asleep")}},
		"an invalid id":           {ImageIds: []string{"golden"}, IncludeAllResourceTypes: aws.Bool(true)},
	} {
		t.Run(sentence+" is refused", func(t *testing.T) {
			_, err := client.DescribeImageReferences(ctx, in)
			require.Error(t, err)
		})
	}

	all, err := e.DescribeImageReferences(as(ctx, other), &sdk.DescribeImageReferencesInput{ImageIds: []string{id}, IncludeAllResourceTypes: aws.Bool(true)})
	require.NoError(t, err)
	assert.Empty(t, all.ImageReferences, "another account's use is not visible")
	_, err = client.DeleteLaunchTemplate(ctx, &sdk.DeleteLaunchTemplateInput{LaunchTemplateId: web})
	require.NoError(t, err)
	_, err = client.DescribeLaunchTemplateVersions(ctx, &sdk.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: web})
	requireCode(t, err, "InvalidLaunchTemplateId.NotFound")
}
