package ecr

import (
	"maps"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

// Permissions returns the permission rules of ECR's calls, of the JSON API and of the
// registry
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html).
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{
		"BatchCheckLayerAvailability": on(s, "BatchCheckLayerAvailability", func(in *ecr.BatchCheckLayerAvailabilityInput) (id, name *string) {
			return in.RegistryId, in.RepositoryName
		}),
		"BatchDeleteImage":       on(s, "BatchDeleteImage", func(in *ecr.BatchDeleteImageInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"BatchGetImage":          on(s, "BatchGetImage", func(in *ecr.BatchGetImageInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"CompleteLayerUpload":    on(s, "CompleteLayerUpload", func(in *ecr.CompleteLayerUploadInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"DeleteLifecyclePolicy":  on(s, "DeleteLifecyclePolicy", func(in *ecr.DeleteLifecyclePolicyInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"DeleteRepository":       on(s, "DeleteRepository", func(in *ecr.DeleteRepositoryInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"DeleteRepositoryPolicy": on(s, "DeleteRepositoryPolicy", func(in *ecr.DeleteRepositoryPolicyInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"DescribeImageScanFindings": on(s, "DescribeImageScanFindings", func(in *ecr.DescribeImageScanFindingsInput) (id, name *string) {
			return in.RegistryId, in.RepositoryName
		}),
		"DescribeImages":         on(s, "DescribeImages", func(in *ecr.DescribeImagesInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"GetDownloadUrlForLayer": on(s, "GetDownloadUrlForLayer", func(in *ecr.GetDownloadUrlForLayerInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"GetLifecyclePolicy":     on(s, "GetLifecyclePolicy", func(in *ecr.GetLifecyclePolicyInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"GetRepositoryPolicy":    on(s, "GetRepositoryPolicy", func(in *ecr.GetRepositoryPolicyInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"InitiateLayerUpload":    on(s, "InitiateLayerUpload", func(in *ecr.InitiateLayerUploadInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"ListImageReferrers":     on(s, "ListImageReferrers", func(in *ecr.ListImageReferrersInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"ListImages":             on(s, "ListImages", func(in *ecr.ListImagesInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"PutImage":               on(s, "PutImage", func(in *ecr.PutImageInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"PutImageScanningConfiguration": on(s, "PutImageScanningConfiguration", func(in *ecr.PutImageScanningConfigurationInput) (id, name *string) {
			return in.RegistryId, in.RepositoryName
		}),
		"PutImageTagMutability": on(s, "PutImageTagMutability", func(in *ecr.PutImageTagMutabilityInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"PutLifecyclePolicy":    on(s, "PutLifecyclePolicy", func(in *ecr.PutLifecyclePolicyInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"SetRepositoryPolicy":   on(s, "SetRepositoryPolicy", func(in *ecr.SetRepositoryPolicyInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"StartImageScan":        on(s, "StartImageScan", func(in *ecr.StartImageScanInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),
		"UploadLayerPart":       on(s, "UploadLayerPart", func(in *ecr.UploadLayerPartInput) (id, name *string) { return in.RegistryId, in.RepositoryName }),

		"CreateRepository":     authz.Of(s.create),
		"DescribeRepositories": authz.Of(s.describing),
		"ListTagsForResource": authz.Of(func(_ authz.Call, in *ecr.ListTagsForResourceInput) []authz.Request {
			return []authz.Request{s.request("ListTagsForResource", aws.ToString(in.ResourceArn), nil)}
		}),
		"TagResource": authz.Of(func(_ authz.Call, in *ecr.TagResourceInput) []authz.Request {
			keys := map[string][]string{}
			addTags(keys, in.Tags)
			return []authz.Request{s.request("TagResource", aws.ToString(in.ResourceArn), keys)}
		}),
		"UntagResource": authz.Of(func(_ authz.Call, in *ecr.UntagResourceInput) []authz.Request {
			return []authz.Request{s.request("UntagResource", aws.ToString(in.ResourceArn), map[string][]string{"aws:TagKeys": in.TagKeys})}
		}),
	}
	for _, operation := range []string{
		"DeleteRegistryPolicy", "DescribeRegistry", "GetAccountSetting", "GetAuthorizationToken", "GetRegistryPolicy", "PutAccountSetting", "PutRegistryPolicy", "PutReplicationConfiguration",
	} {
		rules[operation] = authz.OnAll("ecr:" + operation)
	}
	return authz.Permissions{Service: "ecr", Rules: rules, Policy: s.policyOn}
}

// registryOf is the registry that a request names.
func registryOf(c authz.Call, id *string) scope.Key { return keyOf(c.Caller, id) }

// on makes a rule for an operation on one repository.
func on[I any](s *Service, operation string, names func(*I) (id, name *string)) authz.Rule {
	return authz.Of(func(c authz.Call, in *I) []authz.Request {
		id, name := names(in)
		return []authz.Request{s.request(operation, arn(registryOf(c, id), aws.ToString(name)), nil)}
	})
}

// request has the tags of the repository as condition keys.
func (s *Service) request(operation, resource string, keys map[string][]string) authz.Request {
	all := map[string][]string{}
	maps.Copy(all, keys)
	if k, name, ok := parseARN(resource); ok {
		s.mu.Lock()
		if held := s.registries[k]; held != nil && held.Repositories[name] != nil {
			for key, value := range held.Repositories[name].Tags {
				all["aws:ResourceTag/"+key], all["ecr:ResourceTag/"+key] = []string{value}, []string{value}
			}
		}
		s.mu.Unlock()
	}
	return authz.Request{Action: "ecr:" + operation, Resource: resource, Context: authz.Context(all)}
}

// create also requires TagResource if the repository is created with tags.
func (s *Service) create(c authz.Call, in *ecr.CreateRepositoryInput) []authz.Request {
	keys := map[string][]string{}
	addTags(keys, in.Tags)
	resource := arn(registryOf(c, in.RegistryId), aws.ToString(in.RepositoryName))
	out := []authz.Request{{Action: "ecr:CreateRepository", Resource: resource, Context: authz.Context(keys)}}
	if len(in.Tags) > 0 {
		out = append(out, authz.Request{Action: "ecr:TagResource", Resource: resource, Context: authz.Context(keys)})
	}
	return out
}

// addTags adds the tags of a request. The operation refuses a tag without a key.
func addTags(keys map[string][]string, tags []types.Tag) {
	for _, t := range tags {
		if aws.ToString(t.Key) != "" {
			authz.AddTag(keys, "aws:RequestTag/", t.Key, t.Value)
		}
	}
}

// describing is about each repository that is named, or about all.
func (s *Service) describing(c authz.Call, in *ecr.DescribeRepositoriesInput) []authz.Request {
	k := registryOf(c, in.RegistryId)
	if len(in.RepositoryNames) == 0 {
		return []authz.Request{s.request("DescribeRepositories", arn(k, "*"), nil)}
	}
	var out []authz.Request
	for _, name := range in.RepositoryNames {
		out = append(out, s.request("DescribeRepositories", arn(k, name), nil))
	}
	return out
}
