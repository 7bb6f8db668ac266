package release

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// imageDataType makes SSM check that a parameter's value is an AMI id that
// exists in its region. It does so after PutParameter has answered.
const imageDataType = "aws:ec2:image"

// Pointer is an SSM parameter that consumers follow, its new value and the one
// before.
type Pointer struct {
	Account   string `json:"account,omitempty"` // empty: the factory's own
	Region    string `json:"region"`
	Parameter string `json:"parameter"`
	ImageID   string `json:"imageId"`
	Previous  string `json:"previous"` // what it is given back; empty when the parameter did not exist
	// Found is what it named before, if that may not be given back: see PreviousImage.
	Found   string `json:"found,omitempty"`
	Written bool   `json:"written"` // SSM has taken the new value, though it may not show yet
}

// String is "region:parameter", or "account:region:parameter" in another account.
func (p Pointer) String() string {
	if p.Account == "" {
		return p.Region + ":" + p.Parameter
	}
	return p.Account + ":" + p.Region + ":" + p.Parameter
}

// Regions are those of a recipe, in its order.
func Regions(r recipe.Recipe) []string {
	out := make([]string, len(r.Distribution.Regions))
	for i, region := range r.Distribution.Regions {
		out[i] = region.Name
	}
	return out
}

// PointersIn are a recipe's in a region, of all accounts, naming nothing yet.
func PointersIn(r recipe.Recipe, region string) []Pointer {
	var out []Pointer
	for _, account := range append([]string{""}, r.Pointers.Accounts...) {
		for _, name := range r.Pointers.Parameters {
			out = append(out, Pointer{Account: account, Region: region, Parameter: name})
		}
	}
	return out
}

// SortPointers orders pointers by account, region and parameter. The factory's own
// come last: another account is likelier to refuse, and then no consumer of the
// factory's own pointers has followed.
func SortPointers(ps []Pointer) {
	slices.SortFunc(ps, func(a, b Pointer) int {
		return cmp.Or(cmp.Compare(own(a), own(b)), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Region, b.Region), cmp.Compare(a.Parameter, b.Parameter))
	})
}

func own(p Pointer) int {
	if p.Account == "" {
		return 1
	}
	return 0
}

// ParameterReader reads pointers.
type ParameterReader interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
}

// ParameterAPI reads and writes pointers.
type ParameterAPI interface {
	ParameterReader
	PutParameter(context.Context, *ssm.PutParameterInput, ...func(*ssm.Options)) (*ssm.PutParameterOutput, error)
	DeleteParameter(context.Context, *ssm.DeleteParameterInput, ...func(*ssm.Options)) (*ssm.DeleteParameterOutput, error)
}

// ReadPointer returns a parameter's value; empty when it does not exist.
func ReadPointer(ctx context.Context, api ParameterReader, name string) (string, error) {
	out, err := api.GetParameter(ctx, &ssm.GetParameterInput{Name: &name})
	if awserr.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if out.Parameter == nil {
		return "", nil
	}
	return aws.ToString(out.Parameter.Value), nil
}

// HistoryAPI reads pointers and the values that they had.
type HistoryAPI interface {
	ParameterReader
	ssm.GetParameterHistoryAPIClient
}

// namedUntil is, for each value that a parameter had and has no more, when it was
// replaced last. SSM keeps the newest 100 versions
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-versions.html).
func namedUntil(ctx context.Context, api ssm.GetParameterHistoryAPIClient, name string) (map[string]time.Time, error) {
	var versions []types.ParameterHistory
	pages := ssm.NewGetParameterHistoryPaginator(api, &ssm.GetParameterHistoryInput{Name: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if awserr.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		versions = append(versions, page.Parameters...)
	}
	slices.SortFunc(versions, func(a, b types.ParameterHistory) int { return cmp.Compare(a.Version, b.Version) })
	until := map[string]time.Time{}
	for i, v := range versions[:max(0, len(versions)-1)] {
		until[aws.ToString(v.Value)] = aws.ToTime(versions[i+1].LastModifiedDate)
	}
	return until, nil
}

// Move writes the pointer's new value.
func Move(ctx context.Context, api ParameterAPI, p Pointer, recipeName string) error {
	return put(ctx, api, p.Parameter, p.ImageID, p.Previous == "" && p.Found == "", recipeName)
}

func put(ctx context.Context, api ParameterAPI, name, value string, create bool, recipeName string) error {
	in := &ssm.PutParameterInput{
		Name:        &name,
		Value:       &value,
		Type:        types.ParameterTypeString,
		DataType:    aws.String(imageDataType),
		Description: aws.String("newest verified image of recipe " + recipeName + ", kept by ami-factory"),
		Overwrite:   aws.Bool(!create),
	}
	if create { // SSM takes tags only when it makes a parameter
		in.Tags = []types.Tag{{Key: aws.String(contract.TagRecipe), Value: &recipeName}}
	}
	_, err := api.PutParameter(ctx, in)
	if create && awserr.Is(err, "ParameterAlreadyExists") { // by an attempt whose answer was lost
		return put(ctx, api, name, value, false, recipeName)
	}
	return err
}

// PreviousImage is what a pointer that names id may be given back: id if it is one
// of the factory's own published images of the recipe, or empty if the image is gone.
// An image of the recipe that was never published is what an execution left that died
// while it published: then it is the newest published one, or empty if there is none.
// Any other image is a PointerConflict, since to give it back would publish it.
func PreviousImage(ctx context.Context, api ec2.DescribeImagesAPIClient, id, recipeName string) (string, error) {
	img, err := ownImage(ctx, api, id, recipeName)
	if err != nil || img == nil {
		return "", err
	}
	if ami.IsPublished(*img) {
		return id, nil
	}
	own, err := ami.ListOwn(ctx, api, ami.ByRecipe(recipeName))
	if err != nil {
		return "", awserr.Wrap(err, failure.PublishFailed, "list the images of recipe %s", recipeName)
	}
	if newest := ami.NewestPublished(own); newest != nil {
		return aws.ToString(newest.ImageId), nil
	}
	return "", nil
}

// ownImage is the factory's own image of a recipe that a pointer names; nil if it is
// gone. Any other image is a PointerConflict.
func ownImage(ctx context.Context, api ec2.DescribeImagesAPIClient, id, recipeName string) (*ec2types.Image, error) {
	if id == "" {
		return nil, nil
	}
	own, err := ami.ListOwn(ctx, api, ami.ByRecipe(recipeName), ami.ByImage(id))
	if err != nil {
		return nil, awserr.Wrap(err, failure.PublishFailed, "read image %s, which a pointer names", id)
	}
	if len(own) == 1 && aws.ToString(own[0].ImageId) == id {
		return &own[0], nil
	}
	img, err := ami.Describe(ctx, api, id)
	if errors.Is(err, ami.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, awserr.Wrap(err, failure.PublishFailed, "read image %s, which a pointer names", id)
	}
	is := "is an image of recipe " + ami.TagValue(img.Tags, contract.TagRecipe)
	if ami.TagValue(img.Tags, contract.TagRecipe) == "" {
		is = "is no image of this factory (its owner is " + aws.ToString(img.OwnerId) + ")"
	}
	return nil, failure.New(failure.PointerConflict, "it names %s, which %s, not of recipe %s; give the recipe another parameter, "+
		"or delete this one if the factory is to keep it from now on", id, is, recipeName)
}

// Restore gives each pointer its previous value again, and deletes those that did
// not exist before. It also writes where the new value is not visible yet, since
// SSM may still be validating it. It leaves a pointer alone that someone else has
// moved meanwhile. It continues after errors and returns them all, by pointer.
//
// settled says that SSM has had its time to validate what was written. Before, a
// new parameter that is not visible may still appear, and is a ServiceUnavailable.
func Restore(ctx context.Context, api func(account, region string) ParameterAPI, ps []Pointer, recipeName string, settled bool) map[Pointer]error {
	errs := map[Pointer]error{}
	for _, p := range ps {
		if err := restore(ctx, api(p.Account, p.Region), p, recipeName, settled); err != nil {
			errs[p] = err
		}
	}
	return errs
}

func restore(ctx context.Context, api ParameterAPI, p Pointer, recipeName string, settled bool) error {
	if p.Previous == p.ImageID {
		return nil
	}
	now, err := ReadPointer(ctx, api, p.Parameter)
	if err != nil {
		return err
	}
	if now != p.ImageID && now != p.Previous && now != "" && now != p.Found {
		return nil
	}
	if p.Previous == "" {
		_, err := api.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: &p.Parameter})
		if awserr.IsNotFound(err) && p.Written && !settled {
			return failure.New(failure.ServiceUnavailable, "SSM may still be validating the first value of %s, %s, and cannot delete it before", p.Parameter, p.ImageID)
		}
		if awserr.IsNotFound(err) {
			return nil
		}
		return err
	}
	err = put(ctx, api, p.Parameter, p.Previous, now == "", recipeName)
	if now == p.Previous {
		return nil // it had this value all along: what refuses the write has refused the move
	}
	return err
}
