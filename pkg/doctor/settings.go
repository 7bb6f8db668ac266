package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

type encryptionAPI interface {
	GetEbsEncryptionByDefault(context.Context, *ec2.GetEbsEncryptionByDefaultInput, ...func(*ec2.Options)) (*ec2.GetEbsEncryptionByDefaultOutput, error)
	defaultKeyAPI
}

func checkVolumeEncryption(ctx context.Context, e *examination) []Finding {
	var out []Finding
	for _, region := range e.regions() {
		out = append(out, volumeEncryption(ctx, e.aws.ec2(region), region))
	}
	return out
}

// volumeEncryption is for information and never wrong: the factory encrypts its volumes,
// snapshots and copies whatever the default is.
func volumeEncryption(ctx context.Context, api encryptionAPI, region string) Finding {
	looked := "encryption of volumes by default in " + region
	on, err := api.GetEbsEncryptionByDefault(ctx, &ec2.GetEbsEncryptionByDefaultInput{})
	if err != nil {
		return unread(looked, err)
	}
	key, err := api.GetEbsDefaultKmsKeyId(ctx, &ec2.GetEbsDefaultKmsKeyIdInput{})
	if err != nil {
		return unread(looked, err)
	}
	state := "off"
	if aws.ToBool(on.EbsEncryptionByDefault) {
		state = "on"
	}
	return fine(looked, "%s; the factory encrypts all that it makes, under %s where a recipe names no key", state, aws.ToString(key.KmsKeyId))
}

type publicAccessAPI interface {
	GetImageBlockPublicAccessState(context.Context, *ec2.GetImageBlockPublicAccessStateInput, ...func(*ec2.Options)) (*ec2.GetImageBlockPublicAccessStateOutput, error)
	GetSnapshotBlockPublicAccessState(context.Context, *ec2.GetSnapshotBlockPublicAccessStateInput, ...func(*ec2.Options)) (*ec2.GetSnapshotBlockPublicAccessStateOutput, error)
}

func checkPublicAccess(ctx context.Context, e *examination) []Finding {
	var out []Finding
	for _, region := range e.regions() {
		out = append(out, publicAccess(ctx, e.aws.ec2(region), region)...)
	}
	return out
}

func publicAccess(ctx context.Context, api publicAccessAPI, region string) []Finding {
	var out []Finding
	looked := "public AMIs in " + region
	if images, err := api.GetImageBlockPublicAccessState(ctx, &ec2.GetImageBlockPublicAccessStateInput{}); err != nil {
		out = append(out, unread(looked, err))
	} else {
		out = append(out, judgeImageAccess(looked, region, aws.ToString(images.ImageBlockPublicAccessState)))
	}
	looked = "public snapshots in " + region
	if snapshots, err := api.GetSnapshotBlockPublicAccessState(ctx, &ec2.GetSnapshotBlockPublicAccessStateInput{}); err != nil {
		out = append(out, unread(looked, err))
	} else {
		out = append(out, judgeSnapshotAccess(looked, region, snapshots.State))
	}
	return out
}

// judgeImageAccess: the factory shares with accounts and organisations, never
// with everybody; and what is blocked cannot be made public by a slip.
func judgeImageAccess(looked, region, state string) Finding {
	if state == "unblocked" {
		return warning(looked, "aws ec2 enable-image-block-public-access --region "+region+" --image-block-public-access-state block-new-sharing",
			"not blocked: the factory makes no image public, and somebody else might")
	}
	return fine(looked, "%s", state)
}

// judgeSnapshotAccess: both forms of blocking are about everybody, so that
// sharing with accounts goes on.
// https://docs.aws.amazon.com/ebs/latest/userguide/block-public-access-snapshots.html
func judgeSnapshotAccess(looked, region string, state types.SnapshotBlockPublicAccessState) Finding {
	if state == types.SnapshotBlockPublicAccessStateUnblocked {
		return warning(looked, "aws ec2 enable-snapshot-block-public-access --region "+region+" --state block-all-sharing",
			"not blocked: the factory makes no snapshot public (it encrypts them, and such cannot be), and somebody else might")
	}
	return fine(looked, "%s", state)
}

type allowedImagesAPI interface {
	GetAllowedImagesSettings(context.Context, *ec2.GetAllowedImagesSettingsInput, ...func(*ec2.Options)) (*ec2.GetAllowedImagesSettingsOutput, error)
}

func checkAllowedImages(ctx context.Context, e *examination) []Finding {
	return allowedImages(ctx, e.aws.ec2(e.region), e.region, e.account, e.home())
}

// allowedImages compares the owners of sources with what the account may use.
func allowedImages(ctx context.Context, api allowedImagesAPI, region, account string, recipes []Recipe) []Finding {
	looked := "Allowed AMIs in " + region
	settings, err := api.GetAllowedImagesSettings(ctx, &ec2.GetAllowedImagesSettingsInput{})
	if err != nil {
		return []Finding{unread(looked, err)}
	}
	state := aws.ToString(settings.State)
	if state == "disabled" {
		return []Finding{fine(looked, "the setting is off: images of all owners may be used")}
	}
	var out []Finding
	g := grouped(recipes, func(r Recipe) string { return r.Source.Owner })
	for _, owner := range g.keys {
		if owner == account { // never restricted
			continue
		}
		out = append(out, judgeOwner(fmt.Sprintf("%s: owner %s (%s)", looked, owner, names(g.of[owner])), region, state, owner, settings.ImageCriteria))
	}
	if len(out) == 0 {
		out = append(out, fine(looked, "%s; the recipes build on the account's own images only", state))
	}
	return out
}

// judgeOwner looks for a criterion that lets an owner's images through. Owners
// may also be given as an alias, which an id does not tell: amazon,
// aws-marketplace and aws-backup-vault
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImageCriterion.html).
func judgeOwner(looked, region, state, owner string, criteria []types.ImageCriterion) Finding {
	verdict, fix := Problem, "add the owner: aws ec2 replace-image-criteria-in-allowed-images-settings --region "+region+" (which replaces all criteria)"
	follows := "the source is not found, and executions end SourceNotFound"
	if state != "enabled" {
		verdict, follows = Warning, "once the setting is enabled, the source will not be found"
	}
	doubt := false
	for _, c := range criteria {
		more := len(c.ImageNames) > 0 || len(c.MarketplaceProductCodes) > 0 || len(c.ImageWatermarks) > 0 || c.CreationDateCondition != nil || c.DeprecationTimeCondition != nil || c.ScanResultCondition != nil
		named := len(c.ImageProviders) == 0 || slices.Contains(c.ImageProviders, owner)
		if named && !more {
			return fine(looked, "%s, and allows it", state)
		}
		alias := slices.ContainsFunc(c.ImageProviders, func(p string) bool { return strings.Trim(p, "0123456789") != "" && p != "none" })
		doubt = doubt || named || alias
	}
	if doubt {
		return warning(looked, "see that aws ec2 describe-images lists the source", "%s, by an alias or further criteria that are not judged from here", state)
	}
	return Finding{Looked: looked, Verdict: verdict, Fix: fix, Means: fmt.Sprintf("%s, and no criterion allows it: %s", state, follows)}
}
