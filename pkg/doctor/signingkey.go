package doctor

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

const signingKeyLooked = "key that signs evidence"

// signingKey looks at the key that the function Sign names; nil while there is no such
// function, of which other findings tell.
func signingKey(ctx context.Context, e *examination) []Finding {
	arn := e.deployed.functions[workflow.Sign]
	if arn == "" {
		return nil
	}
	c, err := e.aws.lambda().GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &arn})
	if err != nil || c.Environment == nil || c.Environment.Variables[contract.EnvSigningKey] == "" {
		return nil
	}
	return []Finding{judgeSigningKey(ctx, e.aws.kms(e.region), c.Environment.Variables[contract.EnvSigningKey], e.account, aws.ToString(c.Role), e.region)}
}

// judgeSigningKey says whether the key can sign, and whether its policy lets the role of
// Sign do so and nobody else of the account.
func judgeSigningKey(ctx context.Context, api keyAPI, key, account, role, region string) Finding {
	described, err := api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key})
	switch {
	case awserr.Is(err, "NotFoundException"):
		return problem(signingKeyLooked, redeploy, "there is no key %s: nothing is released, and earlier evidence is verified with a copy of its public key only", key)
	case err != nil:
		return unread(signingKeyLooked, err)
	}
	switch k := *described.KeyMetadata; {
	case k.KeyState == types.KeyStatePendingDeletion:
		return problem(signingKeyLooked, "aws kms cancel-key-deletion --region "+region+" --key-id "+key+", then aws kms enable-key", "it is to be deleted on %s: nothing is released until then, and no new evidence is verified afterwards", aws.ToTime(k.DeletionDate).Format("2006-01-02"))
	case k.KeyState != types.KeyStateEnabled:
		return problem(signingKeyLooked, "aws kms enable-key --region "+region+" --key-id "+key, "it is %s: nothing is released", k.KeyState)
	case string(k.KeySpec) != blueprint.SigningKeySpec || string(k.KeyUsage) != blueprint.SigningKeyUsage:
		return problem(signingKeyLooked, redeploy, "it is %s for %s (allowed: %s for %s)", k.KeySpec, k.KeyUsage, blueprint.SigningKeySpec, blueprint.SigningKeyUsage)
	}
	got, err := api.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &key})
	if err != nil {
		return unread(signingKeyLooked, err)
	}
	p, err := parsePolicy(aws.ToString(got.Policy))
	if err != nil {
		return notChecked(signingKeyLooked, "its policy is not understood: %v", err)
	}
	// The policy names the role in a condition, which is not judged for other callers.
	if a := p.allows(caller{account: account, arn: role, region: region}, "kms:Sign"); !a.given {
		return problem(signingKeyLooked, redeploy, "its policy does not let the role of Sign sign: nothing is released")
	}
	for _, s := range p.Statement {
		if s.Effect == "Allow" && s.about("kms:Sign") && !s.onlyFor(role) {
			return problem(signingKeyLooked, redeploy, "its policy lets others than the role of Sign sign: evidence proves nothing while they can")
		}
	}
	return fine(signingKeyLooked, "enabled; its policy lets only the role of Sign sign")
}

// onlyFor says whether a statement allows no other caller than a role.
func (s statement) onlyFor(role string) bool {
	for _, operator := range []string{"ArnEquals", "StringEquals"} {
		if only := s.Condition[operator]["aws:PrincipalArn"]; len(only) == 1 && only[0] == role {
			return true
		}
	}
	return len(s.NotPrincipal) == 0 && len(s.Principal) == 1 && s.Principal[0] == role
}
