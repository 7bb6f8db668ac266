package ec2

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Values of an image's deregistration protection.
const (
	protectionOff          = "disabled"
	protectionOn           = "enabled-without-cooldown"
	protectionWithCooldown = "enabled-with-cooldown"
)

// protectionCooldown is the time for which an image stays protected after
// protection with a cooldown was disabled.
const protectionCooldown = 24 * time.Hour

// maxDeprecation is the latest deprecation time, from now.
const maxDeprecation = 10 * 365 * 24 * time.Hour

// DeregisterImage removes an image. With DeleteAssociatedSnapshots it also
// removes its snapshots that no other image uses.
func (s *Service) DeregisterImage(ctx context.Context, in *ec2.DeregisterImageInput, optFns ...func(*ec2.Options)) (*ec2.DeregisterImageOutput, error) {
	c := s.caller(ctx, optFns)
	if err := required("ImageId", in.ImageId); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.unlock()
	im, err := s.ownImage(c, *in.ImageId)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Clock.Now()
	cooling := im.CooldownUntil != nil && now.Before(*im.CooldownUntil)
	if aws.ToString(im.DeregistrationProtection) != protectionOff || cooling {
		return nil, wire.Errorf("OperationNotPermitted", "The image '%s' is protected from deregistration (%s). Disable deregistration protection first; a cooldown lasts 24 hours.",
			*im.ImageId, aws.ToString(im.DeregistrationProtection))
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	delete(s.st.Images, imageKey{c.Region, *im.ImageId})
	s.queueImageEvent(im, "deregistered", "")
	out := &ec2.DeregisterImageOutput{Return: aws.Bool(true)}
	if !aws.ToBool(in.DeleteAssociatedSnapshots) {
		return out, nil
	}
	for _, m := range im.BlockDeviceMappings {
		if m.Ebs == nil || m.Ebs.SnapshotId == nil {
			continue
		}
		result := types.DeleteSnapshotReturnCode{SnapshotId: m.Ebs.SnapshotId, ReturnCode: types.SnapshotReturnCodesSuccess}
		sn, ok := s.st.Snapshots[*m.Ebs.SnapshotId]
		switch {
		case !ok || aws.ToString(sn.OwnerId) != c.Account:
			result.ReturnCode = types.SnapshotReturnCodesErrorMissingPermissions
		case s.imageUsing(*m.Ebs.SnapshotId) != nil:
			result.ReturnCode = types.SnapshotReturnCodesWarnSkipped
		default:
			s.dropSnapshot(sn)
		}
		out.DeleteSnapshotResults = append(out.DeleteSnapshotResults, result)
	}
	return out, nil
}

// EnableImageDeprecation sets the time from which an image is deprecated,
// rounded to the minute.
func (s *Service) EnableImageDeprecation(ctx context.Context, in *ec2.EnableImageDeprecationInput, optFns ...func(*ec2.Options)) (*ec2.EnableImageDeprecationOutput, error) {
	if in.DeprecateAt == nil {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter DeprecateAt")
	}
	err := s.changeImage(ctx, in.ImageId, in.DryRun, optFns, func(im *image) error {
		now := s.cfg.Clock.Now()
		switch {
		case in.DeprecateAt.Before(now):
			return wire.Errorf("InvalidParameterValue", "The deprecation time %s is in the past", in.DeprecateAt.UTC().Format(time.RFC3339))
		case in.DeprecateAt.After(now.Add(maxDeprecation)):
			return wire.Errorf("InvalidParameterValue", "The deprecation time %s is more than 10 years ahead", in.DeprecateAt.UTC().Format(time.RFC3339))
		}
		im.DeprecationTime = aws.String(ec2Time(in.DeprecateAt.Round(time.Minute)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ec2.EnableImageDeprecationOutput{Return: aws.Bool(true)}, nil
}

// DisableImageDeprecation removes an image's deprecation time.
func (s *Service) DisableImageDeprecation(ctx context.Context, in *ec2.DisableImageDeprecationInput, optFns ...func(*ec2.Options)) (*ec2.DisableImageDeprecationOutput, error) {
	err := s.changeImage(ctx, in.ImageId, in.DryRun, optFns, func(im *image) error {
		im.DeprecationTime = nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ec2.DisableImageDeprecationOutput{Return: aws.Bool(true)}, nil
}

// DisableImage makes an image unusable: nobody launches or copies it, its launch
// permissions go, and describes leave it out unless they are asked for disabled images
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DisableImage.html).
func (s *Service) DisableImage(ctx context.Context, in *ec2.DisableImageInput, optFns ...func(*ec2.Options)) (*ec2.DisableImageOutput, error) {
	err := s.changeImage(ctx, in.ImageId, in.DryRun, optFns, func(im *image) error {
		return s.switchImage(im, types.ImageStateAvailable, types.ImageStateDisabled, "disabled")
	})
	if err != nil {
		return nil, err
	}
	return &ec2.DisableImageOutput{Return: aws.Bool(true)}, nil
}

// EnableImage makes a disabled image available again, to its owner only
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableImage.html).
func (s *Service) EnableImage(ctx context.Context, in *ec2.EnableImageInput, optFns ...func(*ec2.Options)) (*ec2.EnableImageOutput, error) {
	err := s.changeImage(ctx, in.ImageId, in.DryRun, optFns, func(im *image) error {
		return s.switchImage(im, types.ImageStateDisabled, types.ImageStateAvailable, "available")
	})
	if err != nil {
		return nil, err
	}
	return &ec2.EnableImageOutput{Return: aws.Bool(true)}, nil
}

// switchImage takes an image from one state to another. The state is locked.
func (s *Service) switchImage(im *image, from, to types.ImageState, event string) error {
	if im.State != from {
		return wire.Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is not %s (state %s)", *im.ImageId, from, im.State)
	}
	im.State, im.Permissions = to, nil
	s.queueImageEvent(im, event, "")
	return nil
}

// EnableImageDeregistrationProtection protects an image from being
// deregistered.
func (s *Service) EnableImageDeregistrationProtection(ctx context.Context, in *ec2.EnableImageDeregistrationProtectionInput, optFns ...func(*ec2.Options)) (*ec2.EnableImageDeregistrationProtectionOutput, error) {
	err := s.changeImage(ctx, in.ImageId, in.DryRun, optFns, func(im *image) error {
		im.DeregistrationProtection, im.CooldownUntil = aws.String(protectionOn), nil
		if aws.ToBool(in.WithCooldown) {
			im.DeregistrationProtection = aws.String(protectionWithCooldown)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ec2.EnableImageDeregistrationProtectionOutput{Return: aws.String("true")}, nil
}

// DisableImageDeregistrationProtection ends the protection, at once or after
// its cooldown.
func (s *Service) DisableImageDeregistrationProtection(ctx context.Context, in *ec2.DisableImageDeregistrationProtectionInput, optFns ...func(*ec2.Options)) (*ec2.DisableImageDeregistrationProtectionOutput, error) {
	err := s.changeImage(ctx, in.ImageId, in.DryRun, optFns, func(im *image) error {
		if aws.ToString(im.DeregistrationProtection) == protectionWithCooldown {
			im.CooldownUntil = aws.Time(s.cfg.Clock.Now().Add(protectionCooldown))
		}
		im.DeregistrationProtection = aws.String(protectionOff)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ec2.DisableImageDeregistrationProtectionOutput{Return: aws.String("true")}, nil
}

// changeImage applies a change to an image of the caller's.
func (s *Service) changeImage(ctx context.Context, id *string, dry *bool, optFns []func(*ec2.Options), change func(*image) error) error {
	c := s.caller(ctx, optFns)
	if err := required("ImageId", id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.unlock()
	im, err := s.ownImage(c, *id)
	if err != nil {
		return err
	}
	if err := dryRun(dry); err != nil {
		return err
	}
	return change(im)
}
