package cloudformation

import (
	"cmp"
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// repositoryProperties are those of AWS::ECR::Repository
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ecr-repository.html).
type repositoryProperties struct {
	RepositoryName          string
	EmptyOnDelete           bool
	EncryptionConfiguration *struct {
		EncryptionType ecrtypes.EncryptionType
		Key            string `json:"KmsKey"`
	}
	ImageScanningConfiguration         *struct{ ScanOnPush bool }
	ImageTagMutability                 ecrtypes.ImageTagMutability
	ImageTagMutabilityExclusionFilters []struct {
		ImageTagMutabilityExclusionFilterType  ecrtypes.ImageTagMutabilityExclusionFilterType
		ImageTagMutabilityExclusionFilterValue string
	}
	LifecyclePolicy      *struct{ LifecyclePolicyText string }
	RepositoryPolicyText document
	Tags                 []tag
}

func ecrKinds(api ECR) map[string]kind {
	p := ecrProvider{api}
	return map[string]kind{
		"AWS::ECR::Repository": of(changer[repositoryProperties]{create: p.create, update: p.update, remove: p.delete, replace: []string{"RepositoryName", "EncryptionConfiguration"}}),
	}
}

type ecrProvider struct{ api ECR }

func (p repositoryProperties) filters() []ecrtypes.ImageTagMutabilityExclusionFilter {
	var out []ecrtypes.ImageTagMutabilityExclusionFilter
	for _, f := range p.ImageTagMutabilityExclusionFilters {
		out = append(out, ecrtypes.ImageTagMutabilityExclusionFilter{FilterType: f.ImageTagMutabilityExclusionFilterType, Filter: aws.String(f.ImageTagMutabilityExclusionFilterValue)})
	}
	return out
}

func (p repositoryProperties) mutability() ecrtypes.ImageTagMutability {
	return cmp.Or(p.ImageTagMutability, ecrtypes.ImageTagMutabilityMutable)
}

func (p repositoryProperties) scanning() *ecrtypes.ImageScanningConfiguration {
	return &ecrtypes.ImageScanningConfiguration{ScanOnPush: p.ImageScanningConfiguration != nil && p.ImageScanningConfiguration.ScanOnPush}
}

func (p repositoryProperties) lifecycle() string {
	if p.LifecyclePolicy == nil {
		return ""
	}
	return p.LifecyclePolicy.LifecyclePolicyText
}

func ecrTags(all map[string]string) []ecrtypes.Tag {
	var out []ecrtypes.Tag
	for _, key := range sortedKeys(all) {
		out = append(out, ecrtypes.Tag{Key: aws.String(key), Value: aws.String(all[key])})
	}
	return out
}

// create makes a repository, whose Ref is its name.
func (e ecrProvider) create(ctx context.Context, t *target, p repositoryProperties) error {
	in := &ecr.CreateRepositoryInput{
		RepositoryName: aws.String(p.RepositoryName), ImageTagMutability: p.mutability(), ImageTagMutabilityExclusionFilters: p.filters(),
		ImageScanningConfiguration: p.scanning(), Tags: ecrTags(t.tags(p.Tags)),
	}
	if p.RepositoryName == "" {
		in.RepositoryName = aws.String(strings.ToLower(t.physicalName(256)))
	}
	if c := p.EncryptionConfiguration; c != nil {
		in.EncryptionConfiguration = &ecrtypes.EncryptionConfiguration{EncryptionType: c.EncryptionType, KmsKey: scope.Optional(c.Key)}
	}
	out, err := e.api.CreateRepository(ctx, in)
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.Repository.RepositoryName)
	t.set("Arn", aws.ToString(out.Repository.RepositoryArn))
	t.set("RepositoryUri", aws.ToString(out.Repository.RepositoryUri))
	return e.policies(ctx, t, repositoryProperties{}, p)
}

// policies sets and removes the policies that differ.
func (e ecrProvider) policies(ctx context.Context, t *target, old, p repositoryProperties) error {
	name := aws.String(t.PhysicalID)
	if text := string(p.RepositoryPolicyText); text != string(old.RepositoryPolicyText) {
		var err error
		if text != "" {
			_, err = e.api.SetRepositoryPolicy(ctx, &ecr.SetRepositoryPolicyInput{RepositoryName: name, PolicyText: &text})
		} else {
			_, err = e.api.DeleteRepositoryPolicy(ctx, &ecr.DeleteRepositoryPolicyInput{RepositoryName: name})
			err = ignoreMissing(err)
		}
		if err != nil {
			return err
		}
	}
	if text := p.lifecycle(); text != old.lifecycle() {
		if text != "" {
			_, err := e.api.PutLifecyclePolicy(ctx, &ecr.PutLifecyclePolicyInput{RepositoryName: name, LifecyclePolicyText: &text})
			return err
		}
		_, err := e.api.DeleteLifecyclePolicy(ctx, &ecr.DeleteLifecyclePolicyInput{RepositoryName: name})
		return ignoreMissing(err)
	}
	return nil
}

func (e ecrProvider) update(ctx context.Context, t *target, old, p repositoryProperties) error {
	name := aws.String(t.PhysicalID)
	if _, err := e.api.PutImageTagMutability(ctx, &ecr.PutImageTagMutabilityInput{
		RepositoryName: name, ImageTagMutability: p.mutability(), ImageTagMutabilityExclusionFilters: p.filters(),
	}); err != nil {
		return err
	}
	if _, err := e.api.PutImageScanningConfiguration(ctx, &ecr.PutImageScanningConfigurationInput{RepositoryName: name, ImageScanningConfiguration: p.scanning()}); err != nil {
		return err
	}
	arn, before, after := aws.String(t.arn("ecr", "repository/"+t.PhysicalID)), t.tags(old.Tags), t.tags(p.Tags)
	if gone := without(before, after); len(gone) > 0 {
		if _, err := e.api.UntagResource(ctx, &ecr.UntagResourceInput{ResourceArn: arn, TagKeys: gone}); err != nil {
			return err
		}
	}
	if len(after) > 0 {
		if _, err := e.api.TagResource(ctx, &ecr.TagResourceInput{ResourceArn: arn, Tags: ecrTags(after)}); err != nil {
			return err
		}
	}
	return e.policies(ctx, t, old, p)
}

func (e ecrProvider) delete(ctx context.Context, t *target, p repositoryProperties) error {
	_, err := e.api.DeleteRepository(ctx, &ecr.DeleteRepositoryInput{RepositoryName: aws.String(t.PhysicalID), Force: p.EmptyOnDelete})
	return ignoreMissing(err)
}
