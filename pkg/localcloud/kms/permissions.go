package kms

import (
	"cmp"
	"maps"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

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
	rules["GetPublicKey"] = onKey(s, "GetPublicKey", func(in *kms.GetPublicKeyInput) *string { return in.KeyId })
	rules["Sign"] = onKeyWith(s, "Sign", func(in *kms.SignInput) *string { return in.KeyId }, func(in *kms.SignInput) map[string][]string {
		return signingKeys(in.SigningAlgorithm, in.MessageType)
	})
	rules["Verify"] = onKeyWith(s, "Verify", func(in *kms.VerifyInput) *string { return in.KeyId }, func(in *kms.VerifyInput) map[string][]string {
		return signingKeys(in.SigningAlgorithm, in.MessageType)
	})
	rules["CreateKey"] = authz.Of(func(c authz.Call, in *kms.CreateKeyInput) []authz.Request {
		keys := map[string][]string{"kms:CallerAccount": {c.Caller.Account}}
		if spec, usage, err := checkSpec(in); err == nil { // else the operation reports the error
			keys["kms:KeySpec"], keys["kms:KeyUsage"] = []string{string(spec)}, []string{string(usage)}
		}
		return []authz.Request{{Action: "kms:CreateKey", Resource: "*", Context: authz.Context(keys)}}
	})
	for _, operation := range []string{"ListAliases", "ListKeys"} {
		rules[operation] = authz.OnAll("kms:" + operation)
	}
	return authz.Permissions{Service: "kms", Rules: rules, Policy: s.resourcePolicy}
}

// signingKeys are the condition keys of Sign and Verify, whose default message
// type is RAW
// (https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html).
func signingKeys(algorithm types.SigningAlgorithmSpec, kind types.MessageType) map[string][]string {
	return map[string][]string{
		"kms:SigningAlgorithm": {string(algorithm)}, "kms:MessageType": {string(cmp.Or(kind, types.MessageTypeRaw))},
	}
}

// onKey makes a rule for an operation on the key of a reference.
func onKey[I any](s *Service, operation string, ref func(*I) *string) authz.Rule {
	return onKeyWith(s, operation, ref, func(*I) map[string][]string { return nil })
}

// onKeyWith is onKey for an operation with condition keys of its own.
func onKeyWith[I any](s *Service, operation string, ref func(*I) *string, own func(*I) map[string][]string) authz.Rule {
	return authz.Of(func(c authz.Call, in *I) []authz.Request {
		named := aws.ToString(ref(in))
		arn, keys := named, map[string][]string{"kms:CallerAccount": {c.Caller.Account}}
		if key, err := s.Resolve(c.Caller.Account, c.Caller.Region, named); err == nil {
			arn = key.ARN
			keys["kms:KeySpec"], keys["kms:KeyUsage"] = []string{string(key.Spec)}, []string{string(key.Usage)}
			if len(key.Aliases) > 0 {
				keys["kms:ResourceAliases"] = key.Aliases
			}
		} else if !strings.HasPrefix(arn, "arn:") { // the operation reports the error
			arn = c.ARN("kms", c.Caller.Account, "key/unknown")
		}
		if i := strings.Index(named, "alias/"); i == 0 || i > 0 && named[i-1] == ':' {
			keys["kms:RequestAlias"] = []string{named[i:]}
		}
		maps.Copy(keys, own(in))
		return []authz.Request{{Action: "kms:" + operation, Resource: arn, Context: authz.Context(keys)}}
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
