package kms

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// DisableKey disables a customer key.
func (s *Service) DisableKey(ctx context.Context, in *kms.DisableKeyInput, optFns ...func(*kms.Options)) (*kms.DisableKeyOutput, error) {
	return &kms.DisableKeyOutput{}, s.switchKey(ctx, optFns, in.KeyId, types.KeyStateDisabled)
}

// EnableKey enables a customer key again.
func (s *Service) EnableKey(ctx context.Context, in *kms.EnableKeyInput, optFns ...func(*kms.Options)) (*kms.EnableKeyOutput, error) {
	return &kms.EnableKeyOutput{}, s.switchKey(ctx, optFns, in.KeyId, types.KeyStateEnabled)
}

func (s *Service) switchKey(ctx context.Context, optFns []func(*kms.Options), ref *string, to types.KeyState) error {
	at := scope.KeyOf(s.caller(ctx, optFns))
	s.mu.Lock()
	defer s.mu.Unlock()
	k, _, err := s.find(at, aws.ToString(ref))
	switch {
	case err != nil:
		return err
	case k.Managed:
		return wire.Errorf("AccessDeniedException", "An AWS managed key cannot be disabled or enabled.")
	case k.State == types.KeyStatePendingDeletion:
		return &types.KMSInvalidStateException{Message: aws.String(k.ARN + " is pending deletion.")}
	}
	k.State = to
	return nil
}
