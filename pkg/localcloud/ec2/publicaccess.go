package ec2

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// States of block public access for images. Blocked is the default, as for
// accounts without public images since October 2023.
const (
	publicAccessBlocked   = "block-new-sharing"
	publicAccessUnblocked = "unblocked"
)

// publicAccess returns the state of the caller's account and region.
func (s *Service) publicAccess(c wire.Caller) string {
	if state, ok := s.st.PublicAccess[scope.KeyOf(c)]; ok {
		return state
	}
	return publicAccessBlocked
}

// GetImageBlockPublicAccessState returns whether images can be made public.
func (s *Service) GetImageBlockPublicAccessState(ctx context.Context, in *ec2.GetImageBlockPublicAccessStateInput, optFns ...func(*ec2.Options)) (*ec2.GetImageBlockPublicAccessStateOutput, error) {
	c := s.caller(ctx, optFns)
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	return &ec2.GetImageBlockPublicAccessStateOutput{ImageBlockPublicAccessState: aws.String(s.publicAccess(c)), ManagedBy: types.ManagedByAccount}, nil
}

// EnableImageBlockPublicAccess blocks public sharing of images.
func (s *Service) EnableImageBlockPublicAccess(ctx context.Context, in *ec2.EnableImageBlockPublicAccessInput, optFns ...func(*ec2.Options)) (*ec2.EnableImageBlockPublicAccessOutput, error) {
	c := s.caller(ctx, optFns)
	if in.ImageBlockPublicAccessState != types.ImageBlockPublicAccessEnabledStateBlockNewSharing {
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter ImageBlockPublicAccessState is invalid. Allowed: block-new-sharing", in.ImageBlockPublicAccessState)
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	s.st.PublicAccess[scope.KeyOf(c)] = publicAccessBlocked
	return &ec2.EnableImageBlockPublicAccessOutput{ImageBlockPublicAccessState: in.ImageBlockPublicAccessState}, nil
}

// DisableImageBlockPublicAccess allows public sharing of images.
func (s *Service) DisableImageBlockPublicAccess(ctx context.Context, in *ec2.DisableImageBlockPublicAccessInput, optFns ...func(*ec2.Options)) (*ec2.DisableImageBlockPublicAccessOutput, error) {
	c := s.caller(ctx, optFns)
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	s.st.PublicAccess[scope.KeyOf(c)] = publicAccessUnblocked
	return &ec2.DisableImageBlockPublicAccessOutput{ImageBlockPublicAccessState: types.ImageBlockPublicAccessDisabledStateUnblocked}, nil
}
