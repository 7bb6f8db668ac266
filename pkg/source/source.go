// Package source finds the base AMI that a recipe builds on and verifies that
// it is what the recipe's author meant: an available image of the right owner
// and architecture. A name match alone is never trusted.
package source

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// ParameterAPI reads public parameters.
type ParameterAPI interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
}

// Resolver looks up base AMIs in one region.
type Resolver struct {
	Images     ec2.DescribeImagesAPIClient
	Parameters ParameterAPI
}

// Request says what to build on.
type Request struct {
	Source       recipe.Source
	Architecture string // x86_64 | arm64
	Override     string // an AMI id to use in place of the source's newest; must have the same owner
}

// Resolve returns the verified source image. Errors have the codes
// SourceNotFound and SourceOwnerMismatch.
func (r Resolver) Resolve(ctx context.Context, req Request) (plan.SourceImage, error) {
	id, from, err := r.find(ctx, req)
	if err != nil {
		return plan.SourceImage{}, err
	}
	// Whatever led to the id is only a hint: the image itself decides.
	img, err := ami.Describe(ctx, r.Images, id)
	if errors.Is(err, ami.ErrNotFound) {
		return plan.SourceImage{}, failure.New(failure.SourceNotFound,
			"source AMI %s (%s) does not exist in this region, or is not shared with this account", id, from)
	}
	if err != nil {
		return plan.SourceImage{}, awserr.Wrap(err, failure.SourceNotFound, "read source AMI %s (%s)", id, from)
	}
	if err := verify(img, req, from); err != nil {
		return plan.SourceImage{}, err
	}
	return plan.SourceImage{
		ImageID:      id,
		Name:         aws.ToString(img.Name),
		OwnerID:      aws.ToString(img.OwnerId),
		Architecture: string(img.Architecture),
		RootDevice:   aws.ToString(img.RootDeviceName),
		CreationDate: aws.ToString(img.CreationDate),
	}, nil
}

// find returns an image id and, for messages, where it is from.
func (r Resolver) find(ctx context.Context, req Request) (id, from string, err error) {
	switch {
	case req.Override != "":
		if !isImageID(req.Override) {
			return "", "", failure.New(failure.InvalidInput, "source %q is not an AMI id such as ami-0123456789abcdef0", req.Override)
		}
		return req.Override, "given for this execution", nil
	case req.Source.Parameter != "":
		return r.byParameter(ctx, req.Source.Parameter)
	default:
		return r.byFilters(ctx, req)
	}
}

func (r Resolver) byParameter(ctx context.Context, name string) (id, from string, err error) {
	from = "SSM parameter " + name
	out, err := r.Parameters.GetParameter(ctx, &ssm.GetParameterInput{Name: &name})
	if awserr.IsNotFound(err) {
		return "", "", failure.Wrap(failure.SourceNotFound, err, "%s does not exist in this region; check its spelling in the recipe", from)
	}
	if err != nil {
		return "", "", awserr.Wrap(err, failure.SourceNotFound, "read %s", from)
	}
	if out.Parameter == nil || !isImageID(aws.ToString(out.Parameter.Value)) {
		return "", "", failure.New(failure.SourceNotFound, "%s does not hold an AMI id", from)
	}
	return *out.Parameter.Value, from, nil
}

func (r Resolver) byFilters(ctx context.Context, req Request) (id, from string, err error) {
	in := &ec2.DescribeImagesInput{Owners: []string{req.Source.Owner}}
	var told []string
	for _, f := range req.Source.Filters {
		in.Filters = append(in.Filters, types.Filter{Name: aws.String(f.Name), Values: f.Values})
		told = append(told, f.Name+"="+strings.Join(f.Values, "|"))
	}
	from = fmt.Sprintf("newest image of owner %s with %s", req.Source.Owner, strings.Join(told, ", "))
	in.Filters = append(in.Filters,
		types.Filter{Name: aws.String("state"), Values: []string{string(types.ImageStateAvailable)}},
		types.Filter{Name: aws.String("architecture"), Values: []string{req.Architecture}},
	)
	images, err := ami.List(ctx, r.Images, in)
	if err != nil {
		return "", "", awserr.Wrap(err, failure.SourceNotFound, "search the %s", from)
	}
	if len(images) == 0 {
		return "", "", failure.New(failure.SourceNotFound, "no available %s image matches: %s", req.Architecture, from)
	}
	return aws.ToString(images[0].ImageId), from, nil
}

func verify(img types.Image, req Request, from string) error {
	id := aws.ToString(img.ImageId)
	switch owner := aws.ToString(img.OwnerId); {
	case owner != req.Source.Owner:
		return failure.New(failure.SourceOwnerMismatch,
			"source AMI %s (%s) belongs to account %s, the recipe requires owner %s; do not build on it before you know why",
			id, from, owner, req.Source.Owner)
	case img.State != types.ImageStateAvailable:
		return failure.New(failure.SourceNotFound, "source AMI %s (%s) is %s, not available", id, from, img.State)
	case string(img.Architecture) != req.Architecture:
		return failure.New(failure.SourceNotFound, "source AMI %s (%s) is for %s, the recipe builds for %s",
			id, from, img.Architecture, req.Architecture)
	case aws.ToString(img.RootDeviceName) == "":
		return failure.New(failure.SourceNotFound, "source AMI %s (%s) has no EBS root device", id, from)
	}
	return nil
}

func isImageID(s string) bool {
	ok, err := regexp.MatchString(`^ami-[0-9a-f]{8,17}$`, s)
	return ok && err == nil
}
