package source_test

import (
	"context"
	"path"
	"slices"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/source"
)

const owner = "136693071363"

// catalogue answers a query by owner and filters with one image a page.
type catalogue struct {
	images  []types.Image
	queries []*ec2.DescribeImagesInput
	err     error
}

func (c *catalogue) DescribeImages(_ context.Context, in *ec2.DescribeImagesInput, _ ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	c.queries = append(c.queries, in)
	if c.err != nil {
		return nil, c.err
	}
	var found []types.Image
	for _, i := range c.images {
		if len(in.ImageIds) > 0 && !slices.Contains(in.ImageIds, *i.ImageId) {
			continue
		}
		if len(in.Owners) > 0 && !slices.Contains(in.Owners, *i.OwnerId) || !fits(i, in.Filters) {
			continue
		}
		found = append(found, i)
	}
	if len(in.ImageIds) > 0 {
		return &ec2.DescribeImagesOutput{Images: found}, nil
	}
	at, _ := strconv.Atoi(aws.ToString(in.NextToken))
	out := &ec2.DescribeImagesOutput{}
	if at < len(found) {
		out.Images = found[at : at+1]
	}
	if at+1 < len(found) {
		out.NextToken = aws.String(strconv.Itoa(at + 1))
	}
	return out, nil
}

// fits says whether an image fits filters of its id and name; others are not asked.
func fits(i types.Image, filters []types.Filter) bool {
	for _, f := range filters {
		value := map[string]string{"name": aws.ToString(i.Name), "image-id": *i.ImageId, "virtualization-type": string(i.VirtualizationType)}[*f.Name]
		if value != "" && !slices.ContainsFunc(f.Values, func(pattern string) bool {
			ok, err := path.Match(pattern, value)
			return ok && err == nil
		}) {
			return false
		}
	}
	return true
}

// history is a parameter with the values it had, one version a page.
type history struct {
	values []string
	err    error
}

func (h history) GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	return &ssm.GetParameterOutput{Parameter: &ssmtypes.Parameter{Value: aws.String(h.values[len(h.values)-1])}}, nil
}

func (h history) GetParameterHistory(_ context.Context, in *ssm.GetParameterHistoryInput, _ ...func(*ssm.Options)) (*ssm.GetParameterHistoryOutput, error) {
	if h.err != nil {
		return nil, h.err
	}
	at, _ := strconv.Atoi(aws.ToString(in.NextToken))
	out := &ssm.GetParameterHistoryOutput{Parameters: []ssmtypes.ParameterHistory{{Value: &h.values[at]}}}
	if at+1 < len(h.values) {
		out.NextToken = aws.String(strconv.Itoa(at + 1))
	}
	return out, nil
}

func TestAnImageGivenInPlaceOfTheSourceMustBeOneOfTheSources(t *testing.T) {
	debian13 := image("ami-00000013", owner, "2026-05-01T00:00:00.000Z")
	debian13.Name = aws.String("debian-13-amd64")
	disabled := image("ami-00000005", owner, "2026-05-01T00:00:00.000Z")
	disabled.State = types.ImageStateDisabled
	arm := image("ami-00000006", owner, "2026-05-01T00:00:00.000Z")
	arm.Architecture = types.ArchitectureValuesArm64
	pv := image("ami-00000007", owner, "2026-05-01T00:00:00.000Z")
	pv.VirtualizationType = types.VirtualizationTypeParavirtual
	all := []types.Image{image("ami-00000012", owner, "2026-01-01T00:00:00.000Z"), debian13, disabled, arm, pv, image("ami-00000008", "666666666666", "2026-05-01T00:00:00.000Z")}
	byParameter := recipe.Source{Owner: owner, Parameter: "/aws/service/debian/release/12/latest/amd64"}
	had := history{values: []string{"ami-00000012", "ami-00000002"}}
	for name, c := range map[string]struct {
		source   recipe.Source
		history  history
		override string
		want     failure.Code // empty: it is taken
		says     string
	}{
		"one that fits the filters":             {source: request().Source, override: "ami-00000012"},
		"another release than the filters name": {source: request().Source, override: "ami-00000013", want: failure.SourceRefused, says: "does not match the recipe's source (name=debian-12-*; x86_64, available)"},
		"one that is disabled":                  {source: request().Source, override: "ami-00000005", want: failure.SourceNotFound, says: "disabled"},
		"one of another architecture":           {source: request().Source, override: "ami-00000006", want: failure.SourceNotFound, says: "arm64"},
		"one that is not HVM":                   {source: request().Source, override: "ami-00000007", want: failure.SourceNotFound, says: "paravirtual"},
		"one of another owner":                  {source: request().Source, override: "ami-00000008", want: failure.SourceOwnerMismatch},
		"one that the parameter had":            {source: byParameter, history: had, override: "ami-00000012"},
		"one that the parameter never had":      {source: byParameter, history: had, override: "ami-00000013", want: failure.SourceRefused, says: "names no such image in its 2 versions"},
		"a parameter whose history is denied":   {source: byParameter, history: history{err: &smithy.GenericAPIError{Code: "AccessDeniedException"}}, override: "ami-00000012", want: failure.AccessDenied, says: "cannot be read"},
		"a parameter whose history is refused":  {source: byParameter, history: history{err: &smithy.GenericAPIError{Code: "ValidationException"}}, override: "ami-00000012", want: failure.SourceRefused, says: "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := source.Resolver{Images: &catalogue{images: all}, Parameters: c.history}.Resolve(t.Context(), source.Request{
				Source: c.source, Architecture: "x86_64", Override: c.override,
			})
			if c.want == "" {
				require.NoError(t, err)
				assert.Equal(t, c.override, got.ImageID)
				return
			}
			require.Error(t, err)
			assert.Equal(t, c.want, failure.CodeOf(err), "%v", err)
			assert.Contains(t, err.Error(), c.says)
		})
	}
}

func image(id, by, created string) types.Image {
	return types.Image{
		ImageId: aws.String(id), Name: aws.String("debian-12-amd64"), OwnerId: aws.String(by), CreationDate: aws.String(created),
		State: types.ImageStateAvailable, Architecture: types.ArchitectureValuesX8664, RootDeviceName: aws.String("/dev/xvda"),
	}
}

func request() source.Request {
	return source.Request{
		Source:       recipe.Source{Owner: owner, Filters: []recipe.Filter{{Name: "name", Values: []string{"debian-12-*"}}}},
		Architecture: "x86_64",
	}
}

func TestNewestImageOfTheOwnerIsFound(t *testing.T) {
	c := &catalogue{images: []types.Image{
		image("ami-00000001", owner, "2026-01-01T00:00:00.000Z"),
		image("ami-00000003", "666666666666", "2026-03-01T00:00:00.000Z"), // newer, but anyone's
		image("ami-00000002", owner, "2026-02-01T00:00:00.000Z"),
	}}
	got, err := source.Resolver{Images: c}.Resolve(t.Context(), request())
	require.NoError(t, err)
	assert.Equal(t, plan.SourceImage{
		ImageID: "ami-00000002", Name: "debian-12-amd64", OwnerID: owner, Architecture: "x86_64", RootDevice: "/dev/xvda",
		CreationDate: "2026-02-01T00:00:00.000Z",
	}, got)
	assert.Equal(t, []string{owner}, c.queries[0].Owners)
	assert.Equal(t, "name", *c.queries[0].Filters[0].Name)
	assert.Len(t, c.queries, 3, "two pages, and the image itself once more")
}

func TestSourceFails(t *testing.T) {
	good := image("ami-00000001", owner, "2026-01-01T00:00:00.000Z")
	for name, c := range map[string]struct {
		images   []types.Image
		err      error
		override string
		want     failure.Code
		says     string
	}{
		"nothing matches":                       {want: failure.SourceNotFound, says: "name=debian-12-*"},
		"EC2 throttles":                         {err: &smithy.GenericAPIError{Code: "RequestLimitExceeded"}, want: failure.Throttled},
		"EC2 refuses a filter":                  {err: &smithy.GenericAPIError{Code: "InvalidParameterValue"}, want: failure.SourceNotFound, says: "InvalidParameterValue"},
		"an image given instead has no owner's": {images: []types.Image{image("ami-00000009", "666666666666", "")}, override: "ami-00000009", want: failure.SourceOwnerMismatch, says: "given for this execution"},
		"an image given instead does not exist": {images: []types.Image{good}, override: "ami-00000009", want: failure.SourceNotFound, says: "ami-00000009"},
		"an image has no root volume of EBS": {images: func() []types.Image {
			i := good
			i.RootDeviceName = nil
			return []types.Image{i}
		}(), want: failure.SourceNotFound, says: "root device"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request()
			r.Override = c.override
			_, err := source.Resolver{Images: &catalogue{images: c.images, err: c.err}}.Resolve(t.Context(), r)
			require.Error(t, err)
			assert.Equal(t, c.want, failure.CodeOf(err))
			assert.Contains(t, err.Error(), c.says)
		})
	}
}
