package ecr_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ecr"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

func TestARepositoryIsCreatedDescribedAndDeleted(t *testing.T) {
	api := client(t, newService(t, nil))
	made := create(t, api, "team/base", func(in *sdk.CreateRepositoryInput) {
		in.Tags = []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}
	})
	assert.Equal(t, "arn:aws:ecr:eu-central-1:111122223333:repository/team/base", *made.RepositoryArn)
	assert.Equal(t, "111122223333.dkr.ecr.eu-central-1.amazonaws.com/team/base", *made.RepositoryUri, "nothing listens for the registry")
	assert.Equal(t, types.ImageTagMutabilityMutable, made.ImageTagMutability)
	assert.Equal(t, types.EncryptionTypeAes256, made.EncryptionConfiguration.EncryptionType)
	assert.Equal(t, start, made.CreatedAt.UTC())
	for i := range 3 {
		create(t, api, fmt.Sprintf("r%d", i))
	}
	var names []string
	pages := sdk.NewDescribeRepositoriesPaginator(api, &sdk.DescribeRepositoriesInput{MaxResults: aws.Int32(3)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, r := range page.Repositories {
			names = append(names, *r.RepositoryName)
		}
	}
	assert.Equal(t, []string{"r0", "r1", "r2", "team/base"}, names)

	_, err := api.TagResource(t.Context(), &sdk.TagResourceInput{ResourceArn: made.RepositoryArn, Tags: []types.Tag{{Key: aws.String("c"), Value: aws.String("d")}}})
	require.NoError(t, err)
	_, err = api.UntagResource(t.Context(), &sdk.UntagResourceInput{ResourceArn: made.RepositoryArn, TagKeys: []string{"a"}})
	require.NoError(t, err)
	tags, err := api.ListTagsForResource(t.Context(), &sdk.ListTagsForResourceInput{ResourceArn: made.RepositoryArn})
	require.NoError(t, err)
	require.Len(t, tags.Tags, 1)
	assert.Equal(t, "c", *tags.Tags[0].Key)

	push(t, api, "team/base", "1", "layer", "")
	_, err = api.DeleteRepository(t.Context(), &sdk.DeleteRepositoryInput{RepositoryName: made.RepositoryName})
	assert.Equal(t, "RepositoryNotEmptyException", code(err))
	_, err = api.DeleteRepository(t.Context(), &sdk.DeleteRepositoryInput{RepositoryName: made.RepositoryName, Force: true})
	require.NoError(t, err)
	_, err = api.DescribeRepositories(t.Context(), &sdk.DescribeRepositoriesInput{RepositoryNames: []string{"team/base"}})
	assert.Equal(t, "RepositoryNotFoundException", code(err))
	assert.Equal(t, "The repository with name 'team/base' does not exist in the registry with id '111122223333'", message(err))

	create(t, api, "team/base")
	images, err := api.ListImages(t.Context(), &sdk.ListImagesInput{RepositoryName: made.RepositoryName})
	require.NoError(t, err)
	assert.Empty(t, images.ImageIds, "a repository that is created again is empty")
	layers, err := api.BatchCheckLayerAvailability(t.Context(), &sdk.BatchCheckLayerAvailabilityInput{RepositoryName: made.RepositoryName, LayerDigests: []string{digest("layer")}})
	require.NoError(t, err)
	assert.Equal(t, types.LayerAvailabilityUnavailable, layers.Layers[0].LayerAvailability)
}

func TestAnImageIsPushedAndReadByTagAndDigest(t *testing.T) {
	events := &recorder{}
	api := client(t, newService(t, func(c *ecr.Config) { c.Events = events.record }))
	create(t, api, "app")
	text := push(t, api, "app", "1", "first layer", "")
	assert.Equal(t, []string{`ECR Image Action 111122223333/eu-central-1 {"result":"SUCCESS","repository-name":"app","image-digest":"` + digest(text) + `","action-type":"PUSH","image-tag":"1"}`}, events.take())
	require.NoError(t, put(t, api, "app", "latest", text))

	for name, id := range map[string]types.ImageIdentifier{
		"by tag": {ImageTag: aws.String("latest")}, "by digest": {ImageDigest: aws.String(digest(text))}, "by both": {ImageTag: aws.String("1"), ImageDigest: aws.String(digest(text))},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := api.BatchGetImage(t.Context(), &sdk.BatchGetImageInput{RepositoryName: aws.String("app"), ImageIds: []types.ImageIdentifier{id}})
			require.NoError(t, err)
			require.Len(t, out.Images, 1, "%v", out.Failures)
			assert.Equal(t, text, *out.Images[0].ImageManifest)
			assert.Equal(t, ociManifest, *out.Images[0].ImageManifestMediaType)
			assert.Equal(t, digest(text), *out.Images[0].ImageId.ImageDigest)
		})
	}
	details, err := api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: aws.String("app")})
	require.NoError(t, err)
	require.Len(t, details.ImageDetails, 1)
	d := details.ImageDetails[0]
	assert.Equal(t, []string{"1", "latest"}, d.ImageTags)
	assert.EqualValues(t, len("{}")+len("first layer"), *d.ImageSizeInBytes)
	assert.Equal(t, ociConfig, *d.ArtifactMediaType)
	assert.Equal(t, types.ImageStatusActive, d.ImageStatus)
	assert.Equal(t, start, d.LastRecordedPullTime.UTC())
	listed, err := api.ListImages(t.Context(), &sdk.ListImagesInput{RepositoryName: aws.String("app")})
	require.NoError(t, err)
	assert.Len(t, listed.ImageIds, 2, "one for each tag")

	err = put(t, api, "app", "latest", text)
	assert.Equal(t, "ImageAlreadyExistsException", code(err))
	assert.Equal(t, "Image with digest '"+digest(text)+"' and tag 'latest' already exists in the repository with name 'app' in registry with id '111122223333'", message(err))
}

func TestAnImageThatIsNotThereFailsInTheWordsOfECR(t *testing.T) {
	api := client(t, newService(t, nil))
	create(t, api, "app")
	first := digest(push(t, api, "app", "1", "a", ""))
	second := digest(push(t, api, "app", "2", "b", ""))
	_, err := api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: aws.String("app"), ImageIds: []types.ImageIdentifier{{ImageTag: aws.String("3")}}})
	assert.Equal(t, "ImageNotFoundException", code(err))
	assert.Equal(t, "The image with imageId {imageDigest:'null', imageTag:'3'} does not exist within the repository with name 'app' in the registry with id '111122223333'", message(err))
	for want, id := range map[types.ImageFailureCode]types.ImageIdentifier{
		types.ImageFailureCodeImageNotFound:              {ImageTag: aws.String("3")},
		types.ImageFailureCodeMissingDigestAndTag:        {},
		types.ImageFailureCodeInvalidImageDigest:         {ImageDigest: aws.String("../../state.json")},
		types.ImageFailureCodeInvalidImageTag:            {ImageTag: aws.String("a b")},
		types.ImageFailureCodeImageTagDoesNotMatchDigest: {ImageTag: aws.String("1"), ImageDigest: &second},
	} {
		t.Run(string(want), func(t *testing.T) {
			got, err := api.BatchGetImage(t.Context(), &sdk.BatchGetImageInput{RepositoryName: aws.String("app"), ImageIds: []types.ImageIdentifier{id}})
			require.NoError(t, err)
			require.Len(t, got.Failures, 1)
			assert.Equal(t, want, got.Failures[0].FailureCode)
			deleted, err := api.BatchDeleteImage(t.Context(), &sdk.BatchDeleteImageInput{RepositoryName: aws.String("app"), ImageIds: []types.ImageIdentifier{id}})
			require.NoError(t, err)
			require.Len(t, deleted.Failures, 1)
			assert.Equal(t, want, deleted.Failures[0].FailureCode)
		})
	}
	got, err := api.BatchGetImage(t.Context(), &sdk.BatchGetImageInput{
		RepositoryName: aws.String("app"), ImageIds: []types.ImageIdentifier{{ImageDigest: &first}}, AcceptedMediaTypes: []string{"application/vnd.docker.distribution.manifest.v2+json"},
	})
	require.NoError(t, err)
	require.Len(t, got.Failures, 1)
	assert.Contains(t, *got.Failures[0].FailureReason, ociManifest+" is not accepted")
}

func TestAPushThatIsNotWholeIsRefused(t *testing.T) {
	api := client(t, newService(t, nil))
	create(t, api, "app")
	layer(t, api, "app", "{}")
	layer(t, api, "app", "layer")
	whole := manifest("{}", []string{"layer"}, "")
	for name, test := range map[string]struct {
		text, tag, digest, mediaType string
		want, says                   string
	}{
		"a layer is missing":              {text: manifest("{}", []string{"layer", "other"}, ""), want: "LayersNotFoundException", says: digest("other")},
		"the configuration is missing":    {text: manifest("{ }", []string{"layer"}, ""), want: "LayersNotFoundException", says: digest("{ }")},
		"an index lists what is not":      {text: index(whole), want: "ReferencedImagesNotFoundException", says: digest(whole)},
		"a layer has another size":        {text: strings.Replace(whole, `"size":5`, `"size":6`, 1), want: "InvalidParameterException", says: "has 5 bytes, and the manifest says 6"},
		"the digest is of something else": {text: whole, digest: digest("x"), want: "ImageDigestDoesNotMatchException", says: digest(whole)},
		"it is not JSON":                  {text: "{", want: "InvalidParameterException", says: "Invalid JSON syntax"},
		"it has no media type":            {text: strings.Replace(whole, `"mediaType":"`+ociManifest+`",`, "", 1), want: "InvalidParameterException", says: "must be specified for manifests without the mediaType field"},
		"it has another media type":       {text: whole, mediaType: ociIndex, want: "InvalidParameterException", says: "must be the mediaType of the manifest"},
		"it is of Docker's first schema":  {text: `{"schemaVersion":1}`, want: "InvalidParameterException", says: "schemaVersion must be 2"},
		"a digest is a path":              {text: strings.Replace(whole, digest("layer"), "sha256:../../../../etc/passwd", 1), want: "InvalidParameterException", says: "layers[0]"},
		"the tag has a space":             {text: whole, tag: "a b", want: "InvalidParameterException", says: "imageTag"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &sdk.PutImageInput{RepositoryName: aws.String("app"), ImageManifest: &test.text}
			for value, member := range map[*string]**string{&test.tag: &in.ImageTag, &test.digest: &in.ImageDigest, &test.mediaType: &in.ImageManifestMediaType} {
				if *value != "" {
					*member = value
				}
			}
			_, err := api.PutImage(t.Context(), in)
			assert.Equal(t, test.want, code(err))
			assert.Contains(t, message(err), test.says)
		})
	}
	require.NoError(t, put(t, api, "app", "1", whole), "the same image, whole, is taken")
	require.NoError(t, put(t, api, "app", "list", index(whole)))
}

func TestLayersOfOneRepositoryAreNotThoseOfAnother(t *testing.T) {
	api := client(t, newService(t, nil))
	create(t, api, "one")
	create(t, api, "two")
	text := push(t, api, "one", "1", "layer", "")
	assert.Equal(t, "LayersNotFoundException", code(put(t, api, "two", "1", text)))
}

func TestTagsMoveOnlyWhereTheRepositoryLetsThem(t *testing.T) {
	filters := func(all ...string) []types.ImageTagMutabilityExclusionFilter {
		var out []types.ImageTagMutabilityExclusionFilter
		for _, f := range all {
			out = append(out, types.ImageTagMutabilityExclusionFilter{Filter: aws.String(f), FilterType: types.ImageTagMutabilityExclusionFilterTypeWildcard})
		}
		return out
	}
	for name, test := range map[string]struct {
		mutability types.ImageTagMutability
		filters    []types.ImageTagMutabilityExclusionFilter
		moves      map[string]bool
	}{
		"mutable":                  {mutability: types.ImageTagMutabilityMutable, moves: map[string]bool{"1": true}},
		"immutable":                {mutability: types.ImageTagMutabilityImmutable, moves: map[string]bool{"1": false, "latest": false}},
		"immutable with channels":  {mutability: types.ImageTagMutabilityImmutableWithExclusion, filters: filters("latest", "channel-*"), moves: map[string]bool{"1": false, "latest": true, "latest2": false, "channel-a": true, "a-channel-": false}},
		"mutable but for releases": {mutability: types.ImageTagMutabilityMutableWithExclusion, filters: filters("v*.*"), moves: map[string]bool{"v1.0": false, "v1": true, "x": true}},
	} {
		t.Run(name, func(t *testing.T) {
			api := client(t, newService(t, nil))
			create(t, api, "app")
			_, err := api.PutImageTagMutability(t.Context(), &sdk.PutImageTagMutabilityInput{RepositoryName: aws.String("app"), ImageTagMutability: test.mutability, ImageTagMutabilityExclusionFilters: test.filters})
			require.NoError(t, err)
			second := push(t, api, "app", "other", "second", "")
			for tag, moves := range test.moves {
				push(t, api, "app", tag, "first "+tag, "")
				err := put(t, api, "app", tag, second)
				if moves {
					assert.NoError(t, err, tag)
					continue
				}
				assert.Equal(t, "ImageTagAlreadyExistsException", code(err), tag)
				assert.Equal(t, "The image tag '"+tag+"' already exists in the 'app' repository and cannot be overwritten because the tag is immutable.", message(err))
			}
		})
	}
	t.Run("bad settings", func(t *testing.T) {
		api := client(t, newService(t, nil))
		create(t, api, "app")
		for says, in := range map[string]sdk.PutImageTagMutabilityInput{
			"must be empty unless":            {ImageTagMutability: types.ImageTagMutabilityImmutable, ImageTagMutabilityExclusionFilters: filters("a")},
			"must have a length between 1":    {ImageTagMutability: types.ImageTagMutabilityImmutableWithExclusion},
			"at most 2 wildcards":             {ImageTagMutability: types.ImageTagMutabilityImmutableWithExclusion, ImageTagMutabilityExclusionFilters: filters("a*b*c*")},
			"must satisfy regular expression": {ImageTagMutability: types.ImageTagMutabilityImmutableWithExclusion, ImageTagMutabilityExclusionFilters: filters("a b")},
			"must satisfy enum value set: [MUTABLE, IMMUTABLE, IMMUTABLE_WITH_EXCLUSION, MUTABLE_WITH_EXCLUSION]": {ImageTagMutability: "SOMETIMES"},
		} {
			in.RepositoryName = aws.String("app")
			_, err := api.PutImageTagMutability(t.Context(), &in)
			assert.Equal(t, "InvalidParameterException", code(err), says)
			assert.Contains(t, message(err), says)
		}
	})
}

func TestTheLastTagTakesItsImageWithItAndAListKeepsItsMembers(t *testing.T) {
	events := &recorder{}
	api := client(t, newService(t, func(c *ecr.Config) { c.Events = events.record }))
	create(t, api, "app")
	text := push(t, api, "app", "1", "layer", "")
	require.NoError(t, put(t, api, "app", "2", text))
	require.NoError(t, put(t, api, "app", "list", index(text)))
	events.take()
	remove := func(id types.ImageIdentifier) *sdk.BatchDeleteImageOutput {
		out, err := api.BatchDeleteImage(t.Context(), &sdk.BatchDeleteImageInput{RepositoryName: aws.String("app"), ImageIds: []types.ImageIdentifier{id}})
		require.NoError(t, err)
		return out
	}
	assert.Len(t, remove(types.ImageIdentifier{ImageTag: aws.String("1")}).ImageIds, 1)
	held := remove(types.ImageIdentifier{ImageTag: aws.String("2")})
	require.Len(t, held.Failures, 1)
	assert.Equal(t, types.ImageFailureCodeImageReferencedByManifestList, held.Failures[0].FailureCode)
	assert.Len(t, remove(types.ImageIdentifier{ImageTag: aws.String("list")}).ImageIds, 1)
	assert.Len(t, remove(types.ImageIdentifier{ImageTag: aws.String("2")}).ImageIds, 1)
	action := func(digest, tag string) string {
		return fmt.Sprintf(`ECR Image Action 111122223333/eu-central-1 {"result":"SUCCESS","repository-name":"app","image-digest":%q,"action-type":"DELETE","image-tag":%q}`, digest, tag)
	}
	assert.Equal(t, []string{action(digest(text), "1"), action(digest(index(text)), "list"), action(digest(text), "2")}, events.take())
	images, err := api.ListImages(t.Context(), &sdk.ListImagesInput{RepositoryName: aws.String("app")})
	require.NoError(t, err)
	assert.Empty(t, images.ImageIds)
	layers, err := api.BatchCheckLayerAvailability(t.Context(), &sdk.BatchCheckLayerAvailabilityInput{RepositoryName: aws.String("app"), LayerDigests: []string{digest("layer"), "sha256:x"}})
	require.NoError(t, err)
	require.Len(t, layers.Layers, 1)
	assert.Equal(t, types.LayerAvailabilityUnavailable, layers.Layers[0].LayerAvailability, "no image has the layer")
	require.Len(t, layers.Failures, 1)
	assert.Equal(t, types.LayerFailureCodeInvalidLayerDigest, layers.Failures[0].FailureCode)
}

func TestReferrersAreListedByTheirSubject(t *testing.T) {
	api := client(t, newService(t, nil))
	create(t, api, "app")
	image := push(t, api, "app", "1", "layer", "")
	subject := `,"subject":` + descriptor(ociManifest, image) + `,"artifactType":`
	sbom := push(t, api, "app", "", "sbom", subject+`"application/spdx+json","annotations":{"a":"b"}`)
	signature := push(t, api, "app", "", "signature", subject+`"application/vnd.dev.sigstore.bundle.v0.3+json"`)
	list := func(kinds ...string) []types.ImageReferrer {
		in := &sdk.ListImageReferrersInput{RepositoryName: aws.String("app"), SubjectId: &types.SubjectIdentifier{ImageDigest: aws.String(digest(image))}}
		if len(kinds) > 0 {
			in.Filter = &types.ListImageReferrersFilter{ArtifactTypes: kinds}
		}
		out, err := api.ListImageReferrers(t.Context(), in)
		require.NoError(t, err)
		return out.Referrers
	}
	assert.Len(t, list(), 2)
	found := list("application/spdx+json")
	require.Len(t, found, 1)
	assert.Equal(t, digest(sbom), *found[0].Digest)
	assert.EqualValues(t, len(sbom), *found[0].Size)
	assert.Equal(t, map[string]string{"a": "b"}, found[0].Annotations)
	assert.Empty(t, list("other/type"))
	details, err := api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: aws.String("app"), ImageIds: []types.ImageIdentifier{{ImageDigest: aws.String(digest(signature))}}})
	require.NoError(t, err)
	assert.Equal(t, digest(image), *details.ImageDetails[0].SubjectManifestDigest)
}

func TestPoliciesAreKeptAndChecked(t *testing.T) {
	api := client(t, newService(t, nil))
	create(t, api, "app")
	name := aws.String("app")
	_, err := api.GetRepositoryPolicy(t.Context(), &sdk.GetRepositoryPolicyInput{RepositoryName: name})
	assert.Equal(t, "RepositoryPolicyNotFoundException", code(err))
	for says, text := range map[string]string{
		"Has prohibited field Resource": `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"ecr:*","Resource":"*"}}`,
		"is not an action of ECR":       `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*"}}`,
		"Invalid repository policy":     `{`,
	} {
		_, err = api.SetRepositoryPolicy(t.Context(), &sdk.SetRepositoryPolicyInput{RepositoryName: name, PolicyText: &text})
		assert.Equal(t, "InvalidParameterException", code(err), text)
		assert.Contains(t, message(err), says)
	}
	policy := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":["ecr:BatchGetImage"],"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-example"}}}}`
	_, err = api.SetRepositoryPolicy(t.Context(), &sdk.SetRepositoryPolicyInput{RepositoryName: name, PolicyText: &policy})
	require.NoError(t, err)
	got, err := api.GetRepositoryPolicy(t.Context(), &sdk.GetRepositoryPolicyInput{RepositoryName: name})
	require.NoError(t, err)
	assert.Equal(t, policy, *got.PolicyText)
	_, err = api.DeleteRepositoryPolicy(t.Context(), &sdk.DeleteRepositoryPolicyInput{RepositoryName: name})
	require.NoError(t, err)

	_, err = api.GetRegistryPolicy(t.Context(), &sdk.GetRegistryPolicyInput{})
	assert.Equal(t, "RegistryPolicyNotFoundException", code(err))
	wide := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"ecr:BatchGetImage","Resource":"*"}}`
	setting := func(value string) error {
		_, err := api.PutAccountSetting(t.Context(), &sdk.PutAccountSettingInput{Name: aws.String("REGISTRY_POLICY_SCOPE"), Value: &value})
		return err
	}
	_, err = api.PutRegistryPolicy(t.Context(), &sdk.PutRegistryPolicyInput{PolicyText: &wide})
	require.NoError(t, err)
	assert.Contains(t, message(setting("V1")), "unless the account setting REGISTRY_POLICY_SCOPE is V2", "the policy would have no effect")
	_, err = api.DeleteRegistryPolicy(t.Context(), &sdk.DeleteRegistryPolicyInput{})
	require.NoError(t, err)
	require.NoError(t, setting("V1"))
	_, err = api.PutRegistryPolicy(t.Context(), &sdk.PutRegistryPolicyInput{PolicyText: &wide})
	assert.Contains(t, message(err), "unless the account setting REGISTRY_POLICY_SCOPE is V2")
	held, err := api.GetAccountSetting(t.Context(), &sdk.GetAccountSettingInput{Name: aws.String("REGISTRY_POLICY_SCOPE")})
	require.NoError(t, err)
	assert.Equal(t, "V1", *held.Value)
}

func TestALifecyclePolicyExpiresImages(t *testing.T) {
	clk := clock.NewVirtual(start)
	defer clk.Hold()()
	events := &recorder{}
	s := newService(t, func(c *ecr.Config) { c.Clock, c.Events = clk, events.record })
	api := client(t, s)
	create(t, api, "app")
	name := aws.String("app")
	for says, text := range map[string]string{
		"it has no rules":                    `{"rules":[]}`,
		"needs one of tagPrefixList":         `{"rules":[{"rulePriority":1,"selection":{"tagStatus":"tagged","countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]}`,
		"countUnit is":                       `{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"sinceImagePushed","countNumber":1},"action":{"type":"expire"}}]}`,
		"countNumber must be 100000 or less": `{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"sinceImagePushed","countUnit":"days","countNumber":200000},"action":{"type":"expire"}}]}`,
		"must have the highest rulePriority": `{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}},{"rulePriority":2,"selection":{"tagStatus":"untagged","countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]}`,
		"unknown field":                      `{"rules":[{"priority":1}]}`,
	} {
		_, err := api.PutLifecyclePolicy(t.Context(), &sdk.PutLifecyclePolicyInput{RepositoryName: name, LifecyclePolicyText: &text})
		assert.Equal(t, "InvalidParameterException", code(err), text)
		assert.Contains(t, message(err), says)
	}
	for i := range 4 {
		push(t, api, "app", fmt.Sprintf("pr-%d", i), fmt.Sprint("layer ", i), "")
		require.NoError(t, clk.Sleep(t.Context(), time.Minute))
	}
	push(t, api, "app", "v1", "release", "")
	policy := `{"rules":[{"rulePriority":1,"selection":{"tagStatus":"tagged","tagPrefixList":["pr-"],"countType":"imageCountMoreThan","countNumber":2},"action":{"type":"expire"}},
		{"rulePriority":2,"selection":{"tagStatus":"tagged","tagPatternList":["pr-*"],"countType":"sinceImagePushed","countUnit":"days","countNumber":3},"action":{"type":"expire"}}]}`
	_, err := api.PutLifecyclePolicy(t.Context(), &sdk.PutLifecyclePolicyInput{RepositoryName: name, LifecyclePolicyText: &policy})
	require.NoError(t, err)
	events.take()
	tags := func() []string {
		out, err := api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: name})
		require.NoError(t, err)
		got := []string{}
		for _, d := range out.ImageDetails {
			got = append(got, d.ImageTags...)
		}
		return got
	}
	assert.ElementsMatch(t, []string{"pr-2", "pr-3", "v1"}, tags())
	require.Eventually(t, func() bool { return len(events.take()) > 0 }, time.Minute, time.Millisecond, "an event reports it")
	got, err := api.GetLifecyclePolicy(t.Context(), &sdk.GetLifecyclePolicyInput{RepositoryName: name})
	require.NoError(t, err)
	assert.Equal(t, policy, *got.LifecyclePolicyText)
	_, err = api.DeleteLifecyclePolicy(t.Context(), &sdk.DeleteLifecyclePolicyInput{RepositoryName: name})
	require.NoError(t, err)
	_, err = api.GetLifecyclePolicy(t.Context(), &sdk.GetLifecyclePolicyInput{RepositoryName: name})
	assert.Equal(t, "LifecyclePolicyNotFoundException", code(err))
}

func TestIndexesThatListTheSameIndexesAreReadOnce(t *testing.T) {
	api := client(t, newService(t, nil))
	create(t, api, "app")
	a, b := push(t, api, "app", "", "a", ""), push(t, api, "app", "", "b", "")
	for range 40 { // two paths from each level to the next are 2 to the power of 40
		a, b = index(a, b), index(b, a)
		require.NoError(t, put(t, api, "app", "", a))
		require.NoError(t, put(t, api, "app", "", b))
	}
	out, err := api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: aws.String("app"), ImageIds: []types.ImageIdentifier{{ImageDigest: aws.String(digest(a))}}})
	require.NoError(t, err)
	assert.Len(t, out.ImageDetails, 1)
}

func TestPushesAreReplicated(t *testing.T) {
	events := &recorder{}
	var asked []string
	s := newService(t, func(c *ecr.Config) {
		c.Events = events.record
		c.Replicates = func(source wire.Caller, action, arn string) error {
			asked = append(asked, source.Account+" "+action+" "+arn)
			if strings.HasSuffix(arn, "/app/no") {
				return errors.New("not allowed")
			}
			return nil
		}
	})
	api := client(t, s)
	for _, name := range []string{"app/yes", "app/no", "other"} {
		create(t, api, name)
	}
	before := push(t, api, "app/yes", "0", "before", "")
	_, err := api.PutReplicationConfiguration(t.Context(), &sdk.PutReplicationConfigurationInput{ReplicationConfiguration: &types.ReplicationConfiguration{Rules: []types.ReplicationRule{{
		Destinations:      []types.ReplicationDestination{{Region: aws.String("eu-west-1"), RegistryId: aws.String(account)}, {Region: aws.String(region), RegistryId: aws.String(elsewhere)}},
		RepositoryFilters: []types.RepositoryFilter{{Filter: aws.String("app/"), FilterType: types.RepositoryFilterTypePrefixMatch}},
	}}}})
	require.NoError(t, err)
	described, err := api.DescribeRegistry(t.Context(), &sdk.DescribeRegistryInput{})
	require.NoError(t, err)
	assert.Equal(t, account, *described.RegistryId)
	require.Len(t, described.ReplicationConfiguration.Rules, 1)

	var images []string
	for _, name := range []string{"app/yes", "app/no", "other"} {
		image := push(t, api, name, "", name, "")
		require.NoError(t, put(t, api, name, "1", index(image)))
		images = append(images, image)
	}
	other := func(o *sdk.Options) { o.Region = "eu-west-1" }
	out, err := api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: aws.String("app/yes")}, other)
	require.NoError(t, err)
	assert.Len(t, out.ImageDetails, 2, "an index and its member")
	got, err := api.BatchGetImage(t.Context(), &sdk.BatchGetImageInput{RepositoryName: aws.String("app/yes"), ImageIds: []types.ImageIdentifier{{ImageTag: aws.String("1")}, {ImageDigest: aws.String(digest(before))}}}, other)
	require.NoError(t, err)
	require.Len(t, got.Images, 1, "what was pushed before the configuration is not copied")
	assert.Equal(t, index(images[0]), *got.Images[0].ImageManifest)
	_, err = api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: aws.String("other")}, other)
	assert.Equal(t, "RepositoryNotFoundException", code(err), "the filter does not match")
	_, err = api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: aws.String("app/yes"), RegistryId: aws.String(elsewhere)})
	require.NoError(t, err)
	_, err = api.DescribeRepositories(t.Context(), &sdk.DescribeRepositoriesInput{RepositoryNames: []string{"app/no"}, RegistryId: aws.String(elsewhere)})
	assert.Equal(t, "RepositoryNotFoundException", code(err), "the destination does not let it in")
	assert.Contains(t, asked, account+" ecr:ReplicateImage arn:aws:ecr:eu-central-1:444455556666:repository/app/yes")
	assert.Contains(t, asked, account+" ecr:CreateRepository arn:aws:ecr:eu-central-1:444455556666:repository/app/yes")
	all := strings.Join(events.take(), "\n")
	assert.Contains(t, all, `ECR Replication Action 111122223333/eu-west-1 {"result":"SUCCESS","repository-name":"app/yes","image-digest":"`+digest(index(images[0]))+`","source-account":"111122223333","action-type":"REPLICATE","source-region":"eu-central-1","image-tag":"1"}`)
	assert.Contains(t, all, `ECR Replication Action 444455556666/eu-central-1 {"result":"FAILED","repository-name":"app/no"`)
}

func TestScansComeFromTheScannerAndAreUnsupportedWithoutOne(t *testing.T) {
	clk := clock.NewVirtual(start)
	defer clk.Hold()()
	events := &recorder{}
	var scanner func(ecr.ScanTarget) ([]types.ImageScanFinding, error)
	api := client(t, newService(t, func(c *ecr.Config) {
		c.Clock, c.Events = clk, events.record
		c.Scanner = func(_ context.Context, target ecr.ScanTarget) ([]types.ImageScanFinding, error) {
			return scanner(target)
		}
	}))
	plain := client(t, newService(t, nil))
	name, id := aws.String("app"), &types.ImageIdentifier{ImageTag: aws.String("1")}
	create(t, plain, "app")
	push(t, plain, "app", "1", "layer", "")
	_, err := plain.DescribeImageScanFindings(t.Context(), &sdk.DescribeImageScanFindingsInput{RepositoryName: name, ImageId: id})
	assert.Equal(t, "ScanNotFoundException", code(err))
	_, err = plain.StartImageScan(t.Context(), &sdk.StartImageScanInput{RepositoryName: name, ImageId: id})
	require.NoError(t, err)
	got, err := plain.DescribeImageScanFindings(t.Context(), &sdk.DescribeImageScanFindingsInput{RepositoryName: name, ImageId: id})
	require.NoError(t, err)
	assert.Equal(t, types.ScanStatusUnsupportedImage, got.ImageScanStatus.Status)
	assert.Nil(t, got.ImageScanFindings)

	create(t, api, "app", func(in *sdk.CreateRepositoryInput) {
		in.ImageScanningConfiguration = &types.ImageScanningConfiguration{ScanOnPush: true}
	})
	scanner = func(target ecr.ScanTarget) ([]types.ImageScanFinding, error) {
		assert.FileExists(t, target.Layer(digest("layer")))
		return []types.ImageScanFinding{{Name: aws.String("CVE-2026-0001"), Severity: types.FindingSeverityHigh}, {Name: aws.String("CVE-2026-0002"), Severity: types.FindingSeverityLow}}, nil
	}
	text := push(t, api, "app", "1", "layer", "")
	got, err = api.DescribeImageScanFindings(t.Context(), &sdk.DescribeImageScanFindingsInput{RepositoryName: name, ImageId: id, MaxResults: aws.Int32(1)})
	require.NoError(t, err)
	assert.Equal(t, types.ScanStatusComplete, got.ImageScanStatus.Status)
	assert.Equal(t, map[string]int32{"HIGH": 1, "LOW": 1}, got.ImageScanFindings.FindingSeverityCounts)
	assert.Len(t, got.ImageScanFindings.Findings, 1)
	assert.NotNil(t, got.NextToken)
	assert.Contains(t, events.take(), `ECR Image Scan 111122223333/eu-central-1 {"scan-status":"COMPLETE","repository-name":"app","finding-severity-counts":{"HIGH":1,"LOW":1},"image-digest":"`+digest(text)+`","image-tags":["1"]}`)
	_, err = api.StartImageScan(t.Context(), &sdk.StartImageScanInput{RepositoryName: name, ImageId: id})
	assert.Equal(t, "LimitExceededException", code(err), "an image is scanned once a day")
	require.NoError(t, clk.Sleep(t.Context(), 24*time.Hour))
	scanner = func(ecr.ScanTarget) ([]types.ImageScanFinding, error) { return nil, errors.New("no data") }
	_, err = api.StartImageScan(t.Context(), &sdk.StartImageScanInput{RepositoryName: name, ImageId: id})
	require.NoError(t, err)
	details, err := api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: name})
	require.NoError(t, err)
	assert.Equal(t, types.ScanStatusFailed, details.ImageDetails[0].ImageScanStatus.Status)
	assert.Nil(t, details.ImageDetails[0].ImageScanFindingsSummary, "a scan that failed found nothing")
}

func TestRequestsAreChecked(t *testing.T) {
	api := client(t, newService(t, nil))
	create(t, api, "app")
	for name, test := range map[string]struct {
		call func() error
		want string
		says string
	}{
		"a name with capitals": {func() error {
			_, err := api.CreateRepository(t.Context(), &sdk.CreateRepositoryInput{RepositoryName: aws.String("App")})
			return err
		}, "InvalidParameterException", "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression"},
		"a name that climbs": {func() error {
			_, err := api.CreateRepository(t.Context(), &sdk.CreateRepositoryInput{RepositoryName: aws.String("a/../b")})
			return err
		}, "InvalidParameterException", "repositoryName"},
		"a name of one letter": {func() error {
			_, err := api.CreateRepository(t.Context(), &sdk.CreateRepositoryInput{RepositoryName: aws.String("a")})
			return err
		}, "InvalidParameterException", "must have a length between 2 and 256"},
		"a name twice": {func() error {
			_, err := api.CreateRepository(t.Context(), &sdk.CreateRepositoryInput{RepositoryName: aws.String("app")})
			return err
		}, "RepositoryAlreadyExistsException", "The repository with name 'app' already exists in the registry with id '111122223333'"},
		"a registry that is no account": {func() error {
			_, err := api.ListImages(t.Context(), &sdk.ListImagesInput{RepositoryName: aws.String("app"), RegistryId: aws.String("me")})
			return err
		}, "InvalidParameterException", "registryId"},
		"too many results": {func() error {
			_, err := api.ListImages(t.Context(), &sdk.ListImagesInput{RepositoryName: aws.String("app"), MaxResults: aws.Int32(1001)})
			return err
		}, "InvalidParameterException", "must be between 1 and 1000"},
		"names and a page": {func() error {
			_, err := api.DescribeRepositories(t.Context(), &sdk.DescribeRepositoriesInput{RepositoryNames: []string{"app"}, MaxResults: aws.Int32(1)})
			return err
		}, "InvalidParameterException", "must be empty if maxResults or nextToken is given"},
		"a key that is not there": {func() error {
			_, err := api.CreateRepository(t.Context(), &sdk.CreateRepositoryInput{RepositoryName: aws.String("enc"), EncryptionConfiguration: &types.EncryptionConfiguration{EncryptionType: types.EncryptionTypeKms, KmsKey: aws.String("alias/x")}})
			return err
		}, "KmsException", "alias/x"},
		"a tag of AWS": {func() error {
			_, err := api.CreateRepository(t.Context(), &sdk.CreateRepositoryInput{RepositoryName: aws.String("tagged"), Tags: []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("")}}})
			return err
		}, "InvalidTagParameterException", "aws:"},
		"a part before the beginning": {func() error {
			_, err := api.UploadLayerPart(t.Context(), &sdk.UploadLayerPartInput{RepositoryName: aws.String("app"), UploadId: aws.String("x"), LayerPartBlob: []byte("x"), PartFirstByte: aws.Int64(-1), PartLastByte: aws.Int64(-1)})
			return err
		}, "InvalidParameterException", "partLastByte"},
		"an upload that is not there": {func() error {
			_, err := api.UploadLayerPart(t.Context(), &sdk.UploadLayerPartInput{RepositoryName: aws.String("app"), UploadId: aws.String("x"), LayerPartBlob: []byte("x"), PartFirstByte: aws.Int64(0), PartLastByte: aws.Int64(0)})
			return err
		}, "UploadNotFoundException", "x"},
		"replication to itself": {func() error {
			_, err := api.PutReplicationConfiguration(t.Context(), &sdk.PutReplicationConfigurationInput{ReplicationConfiguration: &types.ReplicationConfiguration{Rules: []types.ReplicationRule{
				{Destinations: []types.ReplicationDestination{{Region: aws.String(region), RegistryId: aws.String(account)}}},
			}}})
			return err
		}, "InvalidParameterException", "must not be the source registry itself"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.call()
			assert.Equal(t, test.want, code(err))
			assert.Contains(t, message(err), test.says)
		})
	}
}

func TestPartsOfALayerFollowOneAnother(t *testing.T) {
	api := client(t, newService(t, func(c *ecr.Config) { c.MaxLayer = 6 << 20 }))
	create(t, api, "app")
	name := aws.String("app")
	begin := func() *string {
		out, err := api.InitiateLayerUpload(t.Context(), &sdk.InitiateLayerUploadInput{RepositoryName: name})
		require.NoError(t, err)
		return out.UploadId
	}
	part := func(id *string, first int, content string) error {
		_, err := api.UploadLayerPart(t.Context(), &sdk.UploadLayerPartInput{
			RepositoryName: name, UploadId: id, LayerPartBlob: []byte(content), PartFirstByte: aws.Int64(int64(first)), PartLastByte: aws.Int64(int64(first + len(content) - 1)),
		})
		return err
	}
	large := strings.Repeat("x", 5<<20)
	id := begin()
	_, err := api.CompleteLayerUpload(t.Context(), &sdk.CompleteLayerUploadInput{RepositoryName: name, UploadId: id, LayerDigests: []string{digest("")}})
	assert.Equal(t, "EmptyUploadException", code(err))
	require.NoError(t, part(id, 0, large))
	assert.Equal(t, "InvalidLayerPartException", code(part(id, 1, "y")))
	require.NoError(t, part(id, len(large), "y"))
	assert.Equal(t, "LayerPartTooSmallException", code(part(id, len(large)+1, "z")))
	_, err = api.CompleteLayerUpload(t.Context(), &sdk.CompleteLayerUploadInput{RepositoryName: name, UploadId: id, LayerDigests: []string{digest("other")}})
	assert.Equal(t, "InvalidLayerException", code(err))
	_, err = api.CompleteLayerUpload(t.Context(), &sdk.CompleteLayerUploadInput{RepositoryName: name, UploadId: id, LayerDigests: []string{digest(large + "y")}})
	require.NoError(t, err)
	_, err = api.GetDownloadUrlForLayer(t.Context(), &sdk.GetDownloadUrlForLayerInput{RepositoryName: name, LayerDigest: aws.String(digest(large + "y"))})
	assert.Equal(t, "LayerInaccessibleException", code(err), "no image has it yet")

	id = begin()
	require.NoError(t, part(id, 0, large))
	assert.Equal(t, "LimitExceededException", code(part(id, len(large), large)))
	assert.Equal(t, "UploadNotFoundException", code(part(id, len(large), "y")), "an upload that became too large has ended")
}

func TestTheStateIsKeptAndWhatItDoesNotKnowIsRemoved(t *testing.T) {
	dir := t.TempDir()
	s := newService(t, func(c *ecr.Config) { c.Dir = dir })
	api := client(t, s)
	create(t, api, "kept")
	text := push(t, api, "kept", "1", "layer", "")
	raw, err := s.Snapshot()
	require.NoError(t, err)
	create(t, api, "later")
	push(t, api, "later", "1", "layer", "")

	again := newService(t, func(c *ecr.Config) { c.Dir = dir })
	require.NoError(t, again.Restore(raw))
	api = client(t, again)
	out, err := api.BatchGetImage(t.Context(), &sdk.BatchGetImageInput{RepositoryName: aws.String("kept"), ImageIds: []types.ImageIdentifier{{ImageTag: aws.String("1")}}})
	require.NoError(t, err)
	require.Len(t, out.Images, 1)
	assert.Equal(t, text, *out.Images[0].ImageManifest)
	_, err = api.ListImages(t.Context(), &sdk.ListImagesInput{RepositoryName: aws.String("later")})
	assert.Equal(t, "RepositoryNotFoundException", code(err))

	empty := newService(t, nil)
	assert.ErrorContains(t, empty.Restore(raw), "the manifest "+digest(text)+" of repository kept", "the folder is another one")
}
