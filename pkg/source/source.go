// Package source finds the base AMI that a recipe builds on and verifies it: it
// must be available, and have the recipe's owner and architecture. A matching
// name alone is never enough.
package source

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
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
	ssm.GetParameterHistoryAPIClient // for an override only
}

// Resolver looks up base AMIs in one region.
type Resolver struct {
	Images     ec2.DescribeImagesAPIClient
	Parameters ParameterAPI
}

// Request identifies the source to resolve.
type Request struct {
	Source       recipe.Source
	Architecture string // x86_64 | arm64
	// Override is an AMI id to use instead of the newest image of the source. It
	// must be an image that the source can have named: it matches the filters, or
	// it is or was the value of the parameter.
	Override string
}

// Resolve returns the verified source image. Errors have the codes
// SourceNotFound, SourceOwnerMismatch and, for an override, SourceRefused.
func (r Resolver) Resolve(ctx context.Context, req Request) (plan.SourceImage, error) {
	id, from, err := r.find(ctx, req)
	if err != nil {
		return plan.SourceImage{}, err
	}
	// The parameter or search result is only a hint: check the image itself.
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
	if req.Override != "" {
		if err := r.belongs(ctx, req); err != nil {
			return plan.SourceImage{}, err
		}
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

// find returns an image id and, for messages, where it comes from.
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

// query returns the request to EC2 for a source with filters, and its
// description for messages.
func query(req Request) (in *ec2.DescribeImagesInput, told string) {
	in = &ec2.DescribeImagesInput{Owners: []string{req.Source.Owner}}
	var filters []string
	for _, f := range req.Source.Filters {
		in.Filters = append(in.Filters, types.Filter{Name: aws.String(f.Name), Values: f.Values})
		filters = append(filters, f.Name+"="+strings.Join(f.Values, "|"))
	}
	in.Filters = append(in.Filters,
		types.Filter{Name: aws.String("state"), Values: []string{string(types.ImageStateAvailable)}},
		types.Filter{Name: aws.String("architecture"), Values: []string{req.Architecture}},
	)
	return in, strings.Join(filters, ", ")
}

// belongs verifies that an override is an image that the source can have named.
func (r Resolver) belongs(ctx context.Context, req Request) error {
	if name := req.Source.Parameter; name != "" {
		had, err := r.history(ctx, name)
		if err != nil {
			return awserr.Wrap(err, failure.SourceRefused, "source AMI %s is given for this execution, but the history of SSM parameter %s, which must contain it, cannot be read", req.Override, name)
		}
		if !slices.Contains(had, req.Override) {
			return failure.New(failure.SourceRefused, "source AMI %s is given for this execution, but SSM parameter %s names no such image in its %d versions; "+
				"allowed are the images that the recipe's own source has or had", req.Override, name, len(had))
		}
		return nil
	}
	in, told := query(req)
	in.Filters = append(in.Filters, types.Filter{Name: aws.String("image-id"), Values: []string{req.Override}})
	images, err := ami.List(ctx, r.Images, in)
	if err != nil {
		return awserr.Wrap(err, failure.SourceRefused, "compare source AMI %s with the recipe's filters", req.Override)
	}
	if !slices.ContainsFunc(images, func(i types.Image) bool { return aws.ToString(i.ImageId) == req.Override }) {
		return failure.New(failure.SourceRefused, "source AMI %s is given for this execution, but does not match the recipe's source (%s; %s, available)",
			req.Override, told, req.Architecture)
	}
	return nil
}

// history returns the current and earlier values of a parameter. SSM keeps 100
// versions.
func (r Resolver) history(ctx context.Context, name string) ([]string, error) {
	var values []string
	pages := ssm.NewGetParameterHistoryPaginator(r.Parameters, &ssm.GetParameterHistoryInput{Name: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Parameters {
			values = append(values, aws.ToString(p.Value))
		}
	}
	return values, nil
}

func (r Resolver) byFilters(ctx context.Context, req Request) (id, from string, err error) {
	in, told := query(req)
	from = fmt.Sprintf("newest image of owner %s with %s", req.Source.Owner, told)
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
			"source AMI %s (%s) belongs to account %s, but the recipe requires owner %s; find out why before you build on it",
			id, from, owner, req.Source.Owner)
	case img.State != types.ImageStateAvailable:
		return failure.New(failure.SourceNotFound, "source AMI %s (%s) is %s, not available", id, from, img.State)
	case string(img.Architecture) != req.Architecture:
		return failure.New(failure.SourceNotFound, "source AMI %s (%s) is for %s, but the recipe builds for %s",
			id, from, img.Architecture, req.Architecture)
	case img.VirtualizationType != "" && img.VirtualizationType != types.VirtualizationTypeHvm:
		return failure.New(failure.SourceNotFound, "source AMI %s (%s) is %s, not %s", id, from, img.VirtualizationType, types.VirtualizationTypeHvm)
	case aws.ToString(img.RootDeviceName) == "":
		return failure.New(failure.SourceNotFound, "source AMI %s (%s) has no EBS root device", id, from)
	}
	return nil
}

func isImageID(s string) bool {
	ok, err := regexp.MatchString(`^ami-[0-9a-f]{8,17}$`, s)
	return ok && err == nil
}
