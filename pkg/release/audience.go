package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// Audience is who may launch an image. All lists are sorted.
type Audience struct {
	Accounts            []string
	Organizations       []string // ARNs
	OrganizationalUnits []string // ARNs
	Public              bool     // never requested; only read back
}

// AudienceOf is the audience that a recipe asks for.
func AudienceOf(d recipe.Distribution) Audience {
	a := Audience{Accounts: slices.Clone(d.Accounts)}
	for _, arn := range d.Organizations {
		if strings.Contains(arn, ":ou/") {
			a.OrganizationalUnits = append(a.OrganizationalUnits, arn)
		} else {
			a.Organizations = append(a.Organizations, arn)
		}
	}
	a.sort()
	return a
}

func (a *Audience) sort() {
	for _, list := range []*[]string{&a.Accounts, &a.Organizations, &a.OrganizationalUnits} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
}

// Names lists everyone, for messages.
func (a Audience) Names() []string {
	names := slices.Concat(a.Accounts, a.Organizations, a.OrganizationalUnits)
	if a.Public {
		names = append(names, "everyone (public)")
	}
	return names
}

// Minus is who is in a and not in b.
func (a Audience) Minus(b Audience) Audience {
	return Audience{
		Accounts:            without(a.Accounts, b.Accounts),
		Organizations:       without(a.Organizations, b.Organizations),
		OrganizationalUnits: without(a.OrganizationalUnits, b.OrganizationalUnits),
		Public:              a.Public && !b.Public,
	}
}

// And is who is in both, without the public.
func (a Audience) And(b Audience) Audience {
	return Audience{
		Accounts:            without(a.Accounts, without(a.Accounts, b.Accounts)),
		Organizations:       without(a.Organizations, without(a.Organizations, b.Organizations)),
		OrganizationalUnits: without(a.OrganizationalUnits, without(a.OrganizationalUnits, b.OrganizationalUnits)),
	}
}

func without(a, b []string) []string {
	var out []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

// PermissionReader reads launch permissions.
type PermissionReader interface {
	DescribeImageAttribute(context.Context, *ec2.DescribeImageAttributeInput, ...func(*ec2.Options)) (*ec2.DescribeImageAttributeOutput, error)
}

// RequirePrivate verifies that only its owner may launch an image; otherwise the
// error is ShareFailed. what names the image in messages.
func RequirePrivate(ctx context.Context, api PermissionReader, imageID, what string) error {
	has, err := ReadAudience(ctx, api, imageID)
	if err != nil {
		return awserr.Wrap(err, failure.ShareFailed, "read who may launch %s", what)
	}
	if names := has.Names(); len(names) > 0 {
		return failure.New(failure.ShareFailed, "%s is shared with %s before its release; "+
			"find out who granted that before building again", what, strings.Join(names, ", "))
	}
	return nil
}

// AttributeAPI changes attributes of images.
type AttributeAPI interface {
	ModifyImageAttribute(context.Context, *ec2.ModifyImageAttributeInput, ...func(*ec2.Options)) (*ec2.ModifyImageAttributeOutput, error)
}

// ReadAudience returns who may launch the image now.
func ReadAudience(ctx context.Context, api PermissionReader, imageID string) (Audience, error) {
	out, err := api.DescribeImageAttribute(ctx, &ec2.DescribeImageAttributeInput{
		ImageId: &imageID, Attribute: types.ImageAttributeNameLaunchPermission,
	})
	if err != nil {
		return Audience{}, err
	}
	var a Audience
	for _, p := range out.LaunchPermissions {
		switch {
		case p.Group == types.PermissionGroupAll:
			a.Public = true
		case p.UserId != nil:
			a.Accounts = append(a.Accounts, *p.UserId)
		case p.OrganizationArn != nil:
			a.Organizations = append(a.Organizations, *p.OrganizationArn)
		case p.OrganizationalUnitArn != nil:
			a.OrganizationalUnits = append(a.OrganizationalUnits, *p.OrganizationalUnitArn)
		}
	}
	a.sort()
	return a, nil
}

// ShareAPI reads and changes launch permissions.
type ShareAPI interface {
	PermissionReader
	AttributeAPI
}

// Share grants the image to those of want who lack it, and returns who may launch
// it then. The error is ShareFailed if somebody may launch it whom neither want nor
// before names. before is the audience that Unshare has just reduced: EC2 may still
// show it. what is the image in messages.
func Share(ctx context.Context, api ShareAPI, imageID, what string, want, before Audience) (Audience, error) {
	has, err := ReadAudience(ctx, api, imageID)
	if err != nil {
		return has, awserr.Wrap(err, failure.ShareFailed, "read who may launch %s", what)
	}
	if extra := has.Minus(want).Minus(before).Names(); len(extra) > 0 {
		return has, failure.New(failure.ShareFailed, "%s is shared with %s, which the recipe does not name; "+
			"find out who granted that before building again", what, strings.Join(extra, ", "))
	}
	missing := want.Minus(has)
	if len(missing.Names()) == 0 {
		return has, nil
	}
	if err := Grant(ctx, api, imageID, missing); err != nil {
		return has, awserr.Wrap(err, failure.ShareFailed, "share %s", what)
	}
	if has, err = ReadAudience(ctx, api, imageID); err != nil {
		return has, awserr.Wrap(err, failure.ShareFailed, "read who may launch %s", what)
	}
	return has, nil
}

// Unshare withdraws the image from those of before, whom an earlier release shared
// it with, whom want does not name. what is the image in messages.
func Unshare(ctx context.Context, api ShareAPI, imageID, what string, want, before Audience) error {
	has, err := ReadAudience(ctx, api, imageID)
	if err != nil {
		return awserr.Wrap(err, failure.ShareFailed, "read who may launch %s", what)
	}
	gone := has.And(before).Minus(want)
	if err := revoke(ctx, api, imageID, gone); err != nil {
		return awserr.Wrap(err, failure.ShareFailed, "stop to share %s with %s", what, strings.Join(gone.Names(), ", "))
	}
	return nil
}

// ShareAsBefore undoes Unshare and Share: those of want whom before does not name
// lose the image, and those whom Unshare can have taken it from have it again,
// whatever EC2 shows: it may not show yet what both have changed.
func ShareAsBefore(ctx context.Context, api ShareAPI, imageID string, want, before Audience) error {
	has, err := ReadAudience(ctx, api, imageID)
	if err != nil {
		return err
	}
	added := want.Minus(before)
	if err := revoke(ctx, api, imageID, added); err != nil {
		switch awserr.Classify(err, failure.ShareFailed) {
		case failure.Throttled, failure.ServiceUnavailable:
			return err
		}
		// EC2 refuses the whole call if it does not know one of them. That one has not got
		// the image either.
		if err := revoke(ctx, api, imageID, has.And(added)); err != nil {
			return err
		}
	}
	return Grant(ctx, api, imageID, before.Minus(want))
}

func revoke(ctx context.Context, api AttributeAPI, imageID string, a Audience) error {
	permissions := permissionsOf(a)
	if len(permissions) == 0 {
		return nil
	}
	_, err := api.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId:          &imageID,
		Attribute:        aws.String(string(types.ImageAttributeNameLaunchPermission)),
		LaunchPermission: &types.LaunchPermissionModifications{Remove: permissions},
	})
	return err
}

// Grant lets the audience launch the image. When the one call for all is
// refused, each is tried alone, so that the error names who was refused.
func Grant(ctx context.Context, api AttributeAPI, imageID string, a Audience) error {
	permissions := permissionsOf(a)
	if len(permissions) == 0 {
		return nil
	}
	all := grant(ctx, api, imageID, permissions)
	if all == nil || len(permissions) == 1 {
		return named(all, permissions[0])
	}
	var errs []error
	for _, p := range permissions {
		if err := grant(ctx, api, imageID, []types.LaunchPermission{p}); err != nil {
			errs = append(errs, named(err, p))
		}
	}
	return errors.Join(errs...) // nil: the reason why the call for all failed has passed
}

func grant(ctx context.Context, api AttributeAPI, imageID string, p []types.LaunchPermission) error {
	_, err := api.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId:          &imageID,
		Attribute:        aws.String(string(types.ImageAttributeNameLaunchPermission)),
		LaunchPermission: &types.LaunchPermissionModifications{Add: p},
	})
	return err
}

func named(err error, p types.LaunchPermission) error {
	switch {
	case err == nil:
		return nil
	case p.UserId != nil:
		return fmt.Errorf("account %s: %w", *p.UserId, err)
	case p.OrganizationArn != nil:
		return fmt.Errorf("organisation %s: %w", *p.OrganizationArn, err)
	default:
		return fmt.Errorf("organisational unit %s: %w", aws.ToString(p.OrganizationalUnitArn), err)
	}
}

func permissionsOf(a Audience) []types.LaunchPermission {
	var out []types.LaunchPermission
	for _, id := range a.Accounts {
		out = append(out, types.LaunchPermission{UserId: aws.String(id)})
	}
	for _, arn := range a.Organizations {
		out = append(out, types.LaunchPermission{OrganizationArn: aws.String(arn)})
	}
	for _, arn := range a.OrganizationalUnits {
		out = append(out, types.LaunchPermission{OrganizationalUnitArn: aws.String(arn)})
	}
	return out
}
