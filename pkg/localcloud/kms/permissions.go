package kms

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permission rules of KMS's calls, each of which uses
// one key.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{
		"CreateGrant":         onKey(s, "CreateGrant", func(in *kms.CreateGrantInput) *string { return in.KeyId }),
		"DescribeKey":         onKey(s, "DescribeKey", func(in *kms.DescribeKeyInput) *string { return in.KeyId }),
		"Encrypt":             onKey(s, "Encrypt", func(in *kms.EncryptInput) *string { return in.KeyId }),
		"GenerateDataKey":     onKey(s, "GenerateDataKey", func(in *kms.GenerateDataKeyInput) *string { return in.KeyId }),
		"GetKeyPolicy":        onKey(s, "GetKeyPolicy", func(in *kms.GetKeyPolicyInput) *string { return in.KeyId }),
		"ListGrants":          onKey(s, "ListGrants", func(in *kms.ListGrantsInput) *string { return in.KeyId }),
		"PutKeyPolicy":        onKey(s, "PutKeyPolicy", func(in *kms.PutKeyPolicyInput) *string { return in.KeyId }),
		"RetireGrant":         onKey(s, "RetireGrant", func(in *kms.RetireGrantInput) *string { return in.KeyId }),
		"ScheduleKeyDeletion": onKey(s, "ScheduleKeyDeletion", func(in *kms.ScheduleKeyDeletionInput) *string { return in.KeyId }),
		"Decrypt": onKey(s, "Decrypt", func(in *kms.DecryptInput) *string {
			if aws.ToString(in.KeyId) == "" {
				return aws.String(KeyOf(in.CiphertextBlob))
			}
			return in.KeyId
		}),
	}
	for _, operation := range []string{"CreateKey", "ListAliases", "ListKeys"} {
		rules[operation] = authz.OnAll("kms:" + operation)
	}
	return authz.Permissions{Service: "kms", Rules: rules, Policy: s.resourcePolicy}
}

// onKey makes a rule for an operation on the key of a reference.
func onKey[I any](s *Service, operation string, ref func(*I) *string) authz.Rule {
	return authz.Of(func(c authz.Call, in *I) []authz.Request {
		arn := aws.ToString(ref(in))
		if key, err := s.Resolve(c.Caller.Account, c.Caller.Region, arn); err == nil {
			arn = key.ARN
		} else if !strings.HasPrefix(arn, "arn:") { // the operation reports the error
			arn = c.ARN("kms", c.Caller.Account, "key/unknown")
		}
		return []authz.Request{{Action: "kms:" + operation, Resource: arn, Context: authz.Context(map[string][]string{"kms:CallerAccount": {c.Caller.Account}})}}
	})
}

// resourcePolicy returns the policy of a key, with its grants as statements. It
// leaves out grants with constraints, because they need an encryption context,
// which no call here has
// (https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html).
func (s *Service) resourcePolicy(arn string) (authz.ResourcePolicy, error) {
	text, grants, _ := s.Policy(arn)
	out, err := authz.PolicyFrom(text)
	out.MustDelegate = true
	if err != nil {
		return out, err
	}
	for _, g := range grants {
		if g.Constraints != nil {
			continue
		}
		var actions []string
		for _, o := range g.Operations {
			actions = append(actions, "kms:"+string(o))
		}
		out.Document.Statements = append(out.Document.Statements, authz.Statement{
			Effect: authz.Allow, Principals: grantee(aws.ToString(g.GranteePrincipal)), Actions: actions, Resources: []string{arn},
		})
	}
	return out, nil
}

func grantee(name string) *authz.Principals {
	if authz.IsService(name) {
		return &authz.Principals{Services: []string{name}}
	}
	return &authz.Principals{AWS: []string{name}}
}
