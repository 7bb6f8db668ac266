package ec2

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// accountSettings holds the settings of an account in a region. They are stored
// and shown without effect: the factory encrypts its volumes whatever the
// default is, and Allowed AMIs never restricts images of the account itself.
type accountSettings struct {
	EBSEncryption  bool                                    `json:"ebsEncryption"`
	EBSKey         string                                  `json:"ebsKey"` // empty for the AWS-managed key
	SnapshotAccess types.SnapshotBlockPublicAccessState    `json:"snapshotAccess"`
	AllowedImages  types.AllowedImagesSettingsEnabledState `json:"allowedImages"` // empty for disabled
	ImageCriteria  []types.ImageCriterion                  `json:"imageCriteria"`
}

// settings returns the caller's settings, and creates them at the first call.
// The caller of settings holds s.mu.
func (s *Service) settings(c wire.Caller) *accountSettings {
	key := scope.KeyOf(c)
	if s.st.Settings[key] == nil {
		s.st.Settings[key] = &accountSettings{SnapshotAccess: types.SnapshotBlockPublicAccessStateUnblocked}
	}
	return s.st.Settings[key]
}

// set changes the caller's settings.
func (s *Service) set(ctx context.Context, optFns []func(*ec2.Options), dry *bool, change func(*accountSettings)) error {
	c := s.caller(ctx, optFns)
	if err := dryRun(dry); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.unlock()
	change(s.settings(c))
	return nil
}

// GetEbsEncryptionByDefault returns whether new volumes are encrypted by
// default.
func (s *Service) GetEbsEncryptionByDefault(ctx context.Context, in *ec2.GetEbsEncryptionByDefaultInput, optFns ...func(*ec2.Options)) (*ec2.GetEbsEncryptionByDefaultOutput, error) {
	out := &ec2.GetEbsEncryptionByDefaultOutput{SseType: types.SSETypeNone}
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) {
		out.EbsEncryptionByDefault = aws.Bool(a.EBSEncryption)
		if a.EBSEncryption {
			out.SseType = types.SSETypeSseKms
		}
	})
	return out, err
}

// EnableEbsEncryptionByDefault turns encryption by default on.
func (s *Service) EnableEbsEncryptionByDefault(ctx context.Context, in *ec2.EnableEbsEncryptionByDefaultInput, optFns ...func(*ec2.Options)) (*ec2.EnableEbsEncryptionByDefaultOutput, error) {
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) { a.EBSEncryption = true })
	return &ec2.EnableEbsEncryptionByDefaultOutput{EbsEncryptionByDefault: aws.Bool(true)}, err
}

// DisableEbsEncryptionByDefault turns encryption by default off.
func (s *Service) DisableEbsEncryptionByDefault(ctx context.Context, in *ec2.DisableEbsEncryptionByDefaultInput, optFns ...func(*ec2.Options)) (*ec2.DisableEbsEncryptionByDefaultOutput, error) {
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) { a.EBSEncryption = false })
	return &ec2.DisableEbsEncryptionByDefaultOutput{EbsEncryptionByDefault: aws.Bool(false)}, err
}

// GetEbsDefaultKmsKeyId returns the default key of volumes.
func (s *Service) GetEbsDefaultKmsKeyId(ctx context.Context, in *ec2.GetEbsDefaultKmsKeyIdInput, optFns ...func(*ec2.Options)) (*ec2.GetEbsDefaultKmsKeyIdOutput, error) {
	key := managedKey
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) {
		if a.EBSKey != "" {
			key = a.EBSKey
		}
	})
	return &ec2.GetEbsDefaultKmsKeyIdOutput{KmsKeyId: &key}, err
}

// ModifyEbsDefaultKmsKeyId sets the default key of volumes. It has no effect on
// volumes and copies here, whose default is the AWS-managed key.
func (s *Service) ModifyEbsDefaultKmsKeyId(ctx context.Context, in *ec2.ModifyEbsDefaultKmsKeyIdInput, optFns ...func(*ec2.Options)) (*ec2.ModifyEbsDefaultKmsKeyIdOutput, error) {
	c := s.caller(ctx, optFns)
	key, err := s.cfg.ResolveKey(c.Account, c.Region, aws.ToString(in.KmsKeyId))
	if err != nil {
		return nil, wire.Errorf("InvalidKmsKey.NotFound", "The key %s does not exist: %v", aws.ToString(in.KmsKeyId), err)
	}
	err = s.set(ctx, optFns, in.DryRun, func(a *accountSettings) { a.EBSKey = key.ARN })
	return &ec2.ModifyEbsDefaultKmsKeyIdOutput{KmsKeyId: aws.String(key.ARN)}, err
}

// GetSnapshotBlockPublicAccessState returns whether snapshots can be made
// public.
func (s *Service) GetSnapshotBlockPublicAccessState(ctx context.Context, in *ec2.GetSnapshotBlockPublicAccessStateInput, optFns ...func(*ec2.Options)) (*ec2.GetSnapshotBlockPublicAccessStateOutput, error) {
	out := &ec2.GetSnapshotBlockPublicAccessStateOutput{ManagedBy: types.ManagedByAccount}
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) { out.State = a.SnapshotAccess })
	return out, err
}

// EnableSnapshotBlockPublicAccess blocks public sharing of snapshots.
func (s *Service) EnableSnapshotBlockPublicAccess(ctx context.Context, in *ec2.EnableSnapshotBlockPublicAccessInput, optFns ...func(*ec2.Options)) (*ec2.EnableSnapshotBlockPublicAccessOutput, error) {
	if in.State != types.SnapshotBlockPublicAccessStateBlockAllSharing && in.State != types.SnapshotBlockPublicAccessStateBlockNewSharing {
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter State is invalid. Allowed: block-all-sharing, block-new-sharing", in.State)
	}
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) { a.SnapshotAccess = in.State })
	return &ec2.EnableSnapshotBlockPublicAccessOutput{State: in.State}, err
}

// DisableSnapshotBlockPublicAccess allows public sharing of snapshots.
func (s *Service) DisableSnapshotBlockPublicAccess(ctx context.Context, in *ec2.DisableSnapshotBlockPublicAccessInput, optFns ...func(*ec2.Options)) (*ec2.DisableSnapshotBlockPublicAccessOutput, error) {
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) { a.SnapshotAccess = types.SnapshotBlockPublicAccessStateUnblocked })
	return &ec2.DisableSnapshotBlockPublicAccessOutput{State: types.SnapshotBlockPublicAccessStateUnblocked}, err
}

// GetAllowedImagesSettings returns which images of other owners the account may
// use.
func (s *Service) GetAllowedImagesSettings(ctx context.Context, in *ec2.GetAllowedImagesSettingsInput, optFns ...func(*ec2.Options)) (*ec2.GetAllowedImagesSettingsOutput, error) {
	out := &ec2.GetAllowedImagesSettingsOutput{State: aws.String("disabled"), ManagedBy: types.ManagedByAccount}
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) {
		if a.AllowedImages != "" {
			out.State = aws.String(string(a.AllowedImages))
		}
		out.ImageCriteria = slices.Clone(a.ImageCriteria)
	})
	return out, err
}

// EnableAllowedImagesSettings sets Allowed AMIs to enabled or audit-mode.
func (s *Service) EnableAllowedImagesSettings(ctx context.Context, in *ec2.EnableAllowedImagesSettingsInput, optFns ...func(*ec2.Options)) (*ec2.EnableAllowedImagesSettingsOutput, error) {
	if !slices.Contains(in.AllowedImagesSettingsState.Values(), in.AllowedImagesSettingsState) {
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter AllowedImagesSettingsState is invalid. Allowed: enabled, audit-mode", in.AllowedImagesSettingsState)
	}
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) { a.AllowedImages = in.AllowedImagesSettingsState })
	return &ec2.EnableAllowedImagesSettingsOutput{AllowedImagesSettingsState: in.AllowedImagesSettingsState}, err
}

// DisableAllowedImagesSettings allows all images that are shared with the
// account.
func (s *Service) DisableAllowedImagesSettings(ctx context.Context, in *ec2.DisableAllowedImagesSettingsInput, optFns ...func(*ec2.Options)) (*ec2.DisableAllowedImagesSettingsOutput, error) {
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) { a.AllowedImages = "" })
	return &ec2.DisableAllowedImagesSettingsOutput{AllowedImagesSettingsState: types.AllowedImagesSettingsDisabledStateDisabled}, err
}

// ReplaceImageCriteriaInAllowedImagesSettings sets the criteria of allowed
// images, by provider or name.
func (s *Service) ReplaceImageCriteriaInAllowedImagesSettings(ctx context.Context, in *ec2.ReplaceImageCriteriaInAllowedImagesSettingsInput, optFns ...func(*ec2.Options)) (*ec2.ReplaceImageCriteriaInAllowedImagesSettingsOutput, error) {
	var criteria []types.ImageCriterion
	for _, r := range in.ImageCriteria {
		criteria = append(criteria, types.ImageCriterion{
			ImageProviders: r.ImageProviders, ImageNames: r.ImageNames, MarketplaceProductCodes: r.MarketplaceProductCodes,
		})
	}
	err := s.set(ctx, optFns, in.DryRun, func(a *accountSettings) { a.ImageCriteria = criteria })
	return &ec2.ReplaceImageCriteriaInAllowedImagesSettingsOutput{ReturnValue: aws.Bool(true)}, err
}
