package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

type keyAPI interface {
	DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
	GetKeyPolicy(context.Context, *kms.GetKeyPolicyInput, ...func(*kms.Options)) (*kms.GetKeyPolicyOutput, error)
	kms.ListGrantsAPIClient
}

type defaultKeyAPI interface {
	GetEbsDefaultKmsKeyId(context.Context, *ec2.GetEbsDefaultKmsKeyIdInput, ...func(*ec2.Options)) (*ec2.GetEbsDefaultKmsKeyIdOutput, error)
}

// keyUse is a key and what recipes want of it.
type keyUse struct {
	region, ref   string // ref as in the recipe; empty: the region's default
	recipes       []Recipe
	accounts      []string // that launch what it encrypts
	organizations []string // ARNs of organisations and units whose accounts do
}

func (u keyUse) looked() string {
	ref := u.ref
	if ref == "" {
		ref = "the default key of volumes"
	}
	return fmt.Sprintf("%s in %s (%s)", ref, u.region, names(u.recipes))
}

func (u keyUse) shared() bool { return len(u.accounts)+len(u.organizations) > 0 }

// keyUses are the keys of recipes, each once a region.
func keyUses(recipes []Recipe) []keyUse {
	var out []keyUse
	add := func(region, ref string, r Recipe) {
		i := slices.IndexFunc(out, func(u keyUse) bool { return u.region == region && u.ref == ref })
		if i < 0 {
			out, i = append(out, keyUse{region: region, ref: ref}), len(out)
		}
		u := &out[i]
		u.recipes = append(u.recipes, r)
		for _, a := range r.Distribution.Accounts {
			if !slices.Contains(u.accounts, a) {
				u.accounts = append(u.accounts, a)
			}
		}
		for _, o := range r.Distribution.Organizations {
			if !slices.Contains(u.organizations, o) {
				u.organizations = append(u.organizations, o)
			}
		}
	}
	for _, r := range recipes {
		for i, to := range r.Distribution.Regions {
			ref := to.KMSKey
			if i == 0 { // built there, not copied
				ref = r.Builder.RootVolume.KMSKey
			}
			add(to.Name, ref, r)
		}
	}
	return out
}

func checkKeys(ctx context.Context, e *examination) []Finding {
	var out []Finding
	for _, u := range keyUses(e.home()) {
		out = append(out, keyOf(ctx, e.aws.kms(u.region), e.aws.ec2(u.region), u, e.account, e.deployed.roles))
	}
	return append(out, signingKey(ctx, e)...)
}

// keyOf looks at one key of recipes.
func keyOf(ctx context.Context, api keyAPI, defaults defaultKeyAPI, u keyUse, account string, roles []string) Finding {
	ref := u.ref
	if ref == "" {
		out, err := defaults.GetEbsDefaultKmsKeyId(ctx, &ec2.GetEbsDefaultKmsKeyIdInput{})
		if err != nil {
			return unread(u.looked(), err)
		}
		if ref = aws.ToString(out.KmsKeyId); strings.Contains(ref, "alias/aws/ebs") {
			return fine(u.looked(), "the AWS-managed key, which needs no policy; what it encrypts is shared with nobody")
		}
	}
	described, err := api.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &ref})
	switch {
	case awserr.Is(err, "NotFoundException"):
		return problem(u.looked(), fmt.Sprintf("aws kms create-key --region %s, and aws kms create-alias; or correct the kmsKey of the recipes", u.region),
			"there is no such key in %s: builds and copies that are to be encrypted under it fail", u.region)
	case err != nil:
		return unread(u.looked(), err)
	}
	parts := []Finding{judgeKey(*described.KeyMetadata, u)}
	if parts[0].Verdict == Problem || described.KeyMetadata.KeyManager == types.KeyManagerTypeAws {
		return merged(u.looked(), parts)
	}
	return merged(u.looked(), append(parts, keyPolicy(ctx, api, *described.KeyMetadata, u, account, roles)...))
}

// judgeKey says whether EBS can encrypt with a key
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html).
func judgeKey(k types.KeyMetadata, u keyUse) Finding {
	id := aws.ToString(k.Arn)
	switch {
	case k.KeyState == types.KeyStatePendingDeletion:
		return problem("", "aws kms cancel-key-deletion --region "+u.region+" --key-id "+id+", then aws kms enable-key", "it is to be deleted on %s, and with it every image that it encrypts", aws.ToTime(k.DeletionDate).Format("2006-01-02"))
	case k.KeyState == types.KeyStateDisabled:
		return problem("", "aws kms enable-key --region "+u.region+" --key-id "+id, "it is disabled: nothing can be built or copied, and no image that it encrypts can be launched")
	case k.KeyState != types.KeyStateEnabled:
		return problem("", "aws kms describe-key --region "+u.region+" --key-id "+id, "it is %s", k.KeyState)
	case k.KeySpec != types.KeySpecSymmetricDefault || k.KeyUsage != types.KeyUsageTypeEncryptDecrypt:
		return problem("", "name a symmetric key for encryption", "it is %s for %s: volumes take symmetric keys only", k.KeySpec, k.KeyUsage)
	case k.KeyManager == types.KeyManagerTypeAws && u.shared():
		return problem("", "name a customer-managed key", "it is AWS-managed: what it encrypts cannot be shared")
	case k.KeyManager == types.KeyManagerTypeAws:
		return fine("", "AWS-managed and enabled")
	}
	return fine("", "customer-managed and enabled")
}

// keyPolicy looks at the policy of a customer key, and at its grants where the
// policy does not name an account.
func keyPolicy(ctx context.Context, api keyAPI, k types.KeyMetadata, u keyUse, account string, roles []string) []Finding {
	if owner := aws.ToString(k.AWSAccountId); owner != account {
		return []Finding{notChecked("", "its policy can be read in its own account %s only", owner)}
	}
	got, err := api.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: k.Arn})
	if err != nil {
		return []Finding{unread("", err)}
	}
	p, err := parsePolicy(aws.ToString(got.Policy))
	if err != nil {
		return []Finding{notChecked("", "its policy is not understood: %v", err)}
	}
	out := []Finding{judgeOwn(p, aws.ToString(k.Arn), u.region, account, roles)}
	for _, a := range u.accounts {
		f, named := judgeAccount(p, aws.ToString(k.Arn), u.region, a)
		if !named {
			if granted, err := grantedTo(ctx, api, aws.ToString(k.Arn), a); err != nil {
				f = unread("", err)
			} else if granted {
				f = fine("", "a grant lets account %s use it", a)
			}
		}
		out = append(out, f)
	}
	for _, o := range u.organizations {
		out = append(out, judgeOrganization(p, aws.ToString(k.Arn), u.region, o))
	}
	return out
}

// own are the actions that EC2 takes in the name of the factory's roles, which
// these must be allowed; theirs are those of whoever launches a shared image
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html).
func own() []string {
	return []string{"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"}
}

func theirs() []string {
	return []string{"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:ReEncryptFrom"}
}

// missing are the actions that a policy does not give a caller, and the
// conditions on those that it does.
func (p resourcePolicy) missing(c caller, actions []string) (missing, under []string) {
	for _, action := range actions {
		a := p.allows(c, action)
		if !a.given {
			missing = append(missing, action)
		}
		for _, u := range a.under {
			if !slices.Contains(under, u) {
				under = append(under, u)
			}
		}
	}
	return missing, under
}

// judgeOwn says whether the key's policy lets the factory's roles use it, or the
// policies of the account decide. No roles: they are not known yet.
func judgeOwn(p resourcePolicy, key, region, account string, roles []string) Finding {
	callers := []caller{}
	for _, r := range roles {
		callers = append(callers, caller{account: account, arn: r, region: region})
	}
	who := "the factory's roles"
	if len(callers) == 0 {
		// A role that does not exist yet is covered by what names its account.
		callers, who = []caller{{account: account, arn: "a role to come", region: region}}, "account "+account
	}
	var under []string
	for _, c := range callers {
		missing, conditions := p.missing(c, own())
		if len(missing) > 0 {
			return problem("", fixPolicy(key, region, partition.OrDefault(region).ARN("iam", "", account, "root")), "its policy gives %s no %s: nothing can be built or copied under it", who, list(missing))
		}
		under = append(under, conditions...)
	}
	if len(under) > 0 {
		return warning("", "see that "+who+" meet it", "its policy lets %s use it under a condition that cannot be judged from here: %s", who, list(slices.Compact(under)))
	}
	return fine("", "its policy lets %s use it", who)
}

// judgeAccount says whether the policy lets a target account launch; named is
// false when nothing in it is about the account.
func judgeAccount(p resourcePolicy, key, region, account string) (f Finding, named bool) {
	missing, under := p.missing(caller{account: account, region: region}, theirs())
	switch {
	case len(missing) == len(theirs()):
		return problem("", fixPolicy(key, region, partition.OrDefault(region).ARN("iam", "", account, "root")), "its policy does not name account %s, and no grant does: the account is shared images that it cannot launch", account), false
	case len(missing) > 0:
		return problem("", fixPolicy(key, region, partition.OrDefault(region).ARN("iam", "", account, "root")), "its policy gives account %s no %s: it cannot launch the images it is shared", account, list(missing)), true
	case len(under) > 0:
		return warning("", "see that account "+account+" meets it", "its policy names account %s under a condition that cannot be judged from here: %s", account, list(under)), true
	}
	return fine("", "names account %s", account), true
}

// judgeOrganization goes by the ids in the ARN of an organisation,
// …:organization/o-1, or of a unit, …:ou/o-1/ou-2.
func judgeOrganization(p resourcePolicy, key, region, arn string) Finding {
	ids := strings.Split(arn[strings.LastIndex(arn, ":")+1:], "/")
	org, unit := ids[len(ids)-1], ""
	if len(ids) == 3 {
		org, unit = ids[1], ids[2]
	}
	who := org
	if unit != "" {
		who = unit + " of " + org
	}
	for _, action := range theirs() {
		switch admitted, doubt := p.admits(org, unit, action); {
		case admitted && doubt, !admitted && doubt:
			return warning("", "see that all accounts of "+who+" meet its conditions", "its policy has conditions on %s for %s that cannot be judged from here", action, who)
		case !admitted:
			return problem("", "let it in by a statement for Principal * with the condition aws:PrincipalOrgID (for a unit aws:PrincipalOrgPaths): aws kms put-key-policy --region "+region+" --policy-name default --key-id "+key+" --policy file://policy.json",
				"its policy gives %s no %s: accounts there are shared images that they cannot launch", who, action)
		}
	}
	return fine("", "lets accounts of %s use it", who)
}

// fixPolicy is the statement to add. Key policies are replaced as a whole, so
// there is no command that only adds one.
func fixPolicy(key, region, principal string) string {
	s, err := json.Marshal(map[string]any{
		"Effect": "Allow", "Principal": map[string]string{"AWS": principal}, "Resource": "*",
		"Action": []string{"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey*", "kms:ReEncrypt*"},
	})
	if err != nil { // a map of strings always marshals
		panic(err)
	}
	return fmt.Sprintf("add to its policy %s: KMS console, Key policy; or aws kms put-key-policy --region %s --key-id %s --policy-name default --policy file://all-of-it.json", s, region, key[strings.LastIndex(key, "/")+1:])
}

// grantedTo says whether grants of the key let anyone of an account use it.
func grantedTo(ctx context.Context, api kms.ListGrantsAPIClient, key, account string) (bool, error) {
	var given []types.GrantOperation
	for pages := kms.NewListGrantsPaginator(api, &kms.ListGrantsInput{KeyId: &key}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return false, err
		}
		for _, g := range page.Grants {
			if strings.Contains(aws.ToString(g.GranteePrincipal), "::"+account+":") || aws.ToString(g.GranteePrincipal) == account {
				given = append(given, g.Operations...)
			}
		}
	}
	for _, action := range theirs() {
		if !slices.Contains(given, types.GrantOperation(strings.TrimPrefix(action, "kms:"))) {
			return false, nil
		}
	}
	return true, nil
}
