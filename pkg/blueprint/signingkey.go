package blueprint

import (
	"slices"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// The key that signs evidence. KMS never gives its private half away.
const (
	SigningKeyAlias = contract.SigningKeyAlias
	SigningKeyDoes  = "AMI factory: signs the evidence of releases"
	SigningKeySpec  = "ECC_NIST_P256" // what KMS, OpenSSL and cosign all verify
	SigningKeyUsage = "SIGN_VERIFY"
)

// KeyStatement is a statement of the signing key's policy. Its principal is the account,
// which leaves the rest to the policies of its roles
// (https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html).
type KeyStatement struct {
	Sid        string
	Actions    []string
	Conditions Conditions // nil: none
}

// SigningKeyPolicy is the policy of the signing key. Whoever administers the account
// manages the key and reads its public half. Only the role of Sign signs, and only what
// DSSE signs: SHA-256 digests with ECDSA. No other role's policy can allow that,
// because the key's own policy names the one role.
func SigningKeyPolicy(signer string) []KeyStatement {
	return []KeyStatement{
		{Sid: "Manage", Actions: []string{
			"kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey", "kms:EnableKey", "kms:GetKeyPolicy",
			"kms:ListAliases", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion",
			"kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
		}},
		{Sid: "Verify", Actions: []string{"kms:GetPublicKey", "kms:Verify"}},
		{Sid: "Sign", Actions: []string{"kms:Sign"}, Conditions: Conditions{
			"ArnEquals":    {"aws:PrincipalArn": signer},
			"StringEquals": {"kms:MessageType": "DIGEST", "kms:SigningAlgorithm": "ECDSA_SHA_256"},
		}},
	}
}

// Signer is the function whose role signs.
const Signer = string(workflow.Sign)

// usesSigningKey says whether the function does anything with the signing key.
func (f Function) usesSigningKey() bool {
	return slices.ContainsFunc(f.Actions, func(a Action) bool { return a.On == SigningKey })
}
