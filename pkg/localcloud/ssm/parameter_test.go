package ssm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const pointer = "/golden/debian-12/latest"

func put(t *testing.T, r *rig, name, value string, change ...func(*sdk.PutParameterInput)) int64 {
	t.Helper()
	in := &sdk.PutParameterInput{Name: aws.String(name), Value: aws.String(value), Type: types.ParameterTypeString, Overwrite: aws.Bool(true)}
	for _, f := range change {
		f(in)
	}
	out, err := r.PutParameter(t.Context(), in)
	require.NoError(t, err)
	return out.Version
}

func get(t *testing.T, r *rig, name string) *types.Parameter {
	t.Helper()
	out, err := r.GetParameter(t.Context(), &sdk.GetParameterInput{Name: aws.String(name)})
	require.NoError(t, err)
	return out.Parameter
}

func TestEveryPutMakesAVersion(t *testing.T) {
	r := newRig(t)
	assert.EqualValues(t, 1, put(t, r, pointer, "one"))
	assert.EqualValues(t, 2, put(t, r, pointer, "two"))
	assert.Equal(t, "two", *get(t, r, pointer).Value)
	assert.Equal(t, "one", *get(t, r, pointer+":1").Value)
	assert.Equal(t, "two", *get(t, r, "arn:aws:ssm:eu-west-1:111122223333:parameter"+pointer).Value)
	assert.Equal(t, "arn:aws:ssm:eu-west-1:111122223333:parameter"+pointer, *get(t, r, pointer).ARN)

	_, err := r.LabelParameterVersion(t.Context(), &sdk.LabelParameterVersionInput{Name: aws.String(pointer), ParameterVersion: aws.Int64(1), Labels: []string{"stable"}})
	require.NoError(t, err)
	assert.Equal(t, "one", *get(t, r, pointer+":stable").Value)
	_, err = r.LabelParameterVersion(t.Context(), &sdk.LabelParameterVersionInput{Name: aws.String(pointer), Labels: []string{"stable"}})
	require.NoError(t, err)
	assert.Equal(t, "two", *get(t, r, pointer+":stable").Value, "the label moves")
	invalid, err := r.LabelParameterVersion(t.Context(), &sdk.LabelParameterVersionInput{Name: aws.String(pointer), Labels: []string{"1st", "aws-x"}})
	require.NoError(t, err)
	assert.Equal(t, []string{"1st", "aws-x"}, invalid.InvalidLabels)

	history, err := r.GetParameterHistory(t.Context(), &sdk.GetParameterHistoryInput{Name: aws.String(pointer)})
	require.NoError(t, err)
	require.Len(t, history.Parameters, 2)
	assert.Equal(t, "one", *history.Parameters[0].Value)
	assert.Equal(t, []string{"stable"}, history.Parameters[1].Labels)
	assert.Equal(t, "arn:aws:iam::111122223333:root", *history.Parameters[0].LastModifiedUser)
	_, err = r.GetParameter(t.Context(), &sdk.GetParameterInput{Name: aws.String(pointer + ":9")})
	assert.ErrorContains(t, err, "ParameterVersionNotFound")
}

func TestAnImageParameterBecomesCurrentOnlyIfTheImageExists(t *testing.T) {
	r := newRig(t)
	image := func(in *sdk.PutParameterInput) { in.DataType = aws.String("aws:ec2:image") }

	put(t, r, pointer, "ami-good", image)
	_, err := r.GetParameter(t.Context(), &sdk.GetParameterInput{Name: aws.String(pointer)})
	require.ErrorContains(t, err, "ParameterNotFound", "a 200 is not yet success")
	require.NoError(t, r.clock.Sleep(t.Context(), 2*time.Second))
	assert.Equal(t, "ami-good", *get(t, r, pointer).Value)
	assert.Equal(t, "aws:ec2:image", *get(t, r, pointer).DataType)

	put(t, r, pointer, "ami-bad", image)
	require.NoError(t, r.clock.Sleep(t.Context(), 2*time.Second))
	assert.Equal(t, "ami-good", *get(t, r, pointer).Value, "the bad version never becomes current")
	put(t, r, "/golden/other", "ami-bad", image)
	require.NoError(t, r.clock.Sleep(t.Context(), 2*time.Second))
	_, err = r.GetParameter(t.Context(), &sdk.GetParameterInput{Name: aws.String("/golden/other")})
	require.ErrorContains(t, err, "ParameterNotFound")

	changes := r.seen("Parameter Store Change")
	require.Len(t, changes, 3)
	assert.Equal(t, "Create", changes[0]["operation"])
	assert.Equal(t, "Unable to Describe Resource", changes[1]["exception"])
	assert.Equal(t, pointer, changes[1]["name"])
	assert.Equal(t, "/golden/other", changes[2]["name"])
}

func TestParametersAreListedByPath(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"/a/x", "/a/y", "/a/sub/z", "/b/x"} {
		put(t, r, name, "v")
	}
	for sentence, tc := range map[string]struct {
		path      string
		recursive bool
		want      string
	}{
		"one level":               {"/a", false, "/a/x /a/y"},
		"with a slash at the end": {"/a/", false, "/a/x /a/y"},
		"all levels":              {"/a", true, "/a/sub/z /a/x /a/y"},
		"everything":              {"/", true, "/a/sub/z /a/x /a/y /b/x"},
		"nothing":                 {"/c", true, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			var names []string
			pages := sdk.NewGetParametersByPathPaginator(r, &sdk.GetParametersByPathInput{Path: aws.String(tc.path), Recursive: aws.Bool(tc.recursive), MaxResults: aws.Int32(2)})
			for pages.HasMorePages() {
				page, err := pages.NextPage(t.Context())
				require.NoError(t, err)
				for _, p := range page.Parameters {
					names = append(names, *p.Name)
				}
			}
			assert.Equal(t, tc.want, strings.Join(names, " "))
		})
	}
}

func TestPublicParametersAreEverybodysAndReadOnly(t *testing.T) {
	r := newRig(t)
	const name = "/aws/service/debian/release/12/latest/amd64"
	r.SetPublicParameter(region, name, "ami-base")
	other := wire.WithCaller(t.Context(), wire.Caller{Account: "444455556666", Region: region})
	out, err := r.GetParameter(other, &sdk.GetParameterInput{Name: aws.String(name)})
	require.NoError(t, err)
	assert.Equal(t, "ami-base", *out.Parameter.Value)
	assert.Equal(t, "arn:aws:ssm:eu-west-1::parameter"+name, *out.Parameter.ARN)
	_, err = r.GetParameter(t.Context(), &sdk.GetParameterInput{Name: aws.String(name)}, func(o *sdk.Options) { o.Region = "us-east-1" })
	require.ErrorContains(t, err, "ParameterNotFound", "it is set by region")
	_, err = r.PutParameter(t.Context(), &sdk.PutParameterInput{Name: aws.String(name), Value: aws.String("ami-x"), Type: "String", Overwrite: aws.Bool(true)})
	require.ErrorContains(t, err, "AccessDeniedException")
	_, err = r.DeleteParameter(t.Context(), &sdk.DeleteParameterInput{Name: aws.String(name)})
	require.ErrorContains(t, err, "AccessDeniedException")
	byPath, err := r.GetParametersByPath(t.Context(), &sdk.GetParametersByPathInput{Path: aws.String("/aws/service/debian"), Recursive: aws.Bool(true)})
	require.NoError(t, err)
	assert.Len(t, byPath.Parameters, 1)
}

func TestASecretIsReadableOnlyWithDecryption(t *testing.T) {
	r := newRig(t)
	put(t, r, "/secret", "hunter2", func(in *sdk.PutParameterInput) { in.Type = types.ParameterTypeSecureString })
	assert.NotContains(t, *get(t, r, "/secret").Value, "hunter2")
	out, err := r.GetParameter(t.Context(), &sdk.GetParameterInput{Name: aws.String("/secret"), WithDecryption: aws.Bool(true)})
	require.NoError(t, err)
	assert.Equal(t, "hunter2", *out.Parameter.Value)
	raw, err := r.Snapshot()
	require.NoError(t, err)
	assert.NotContains(t, string(raw), "hunter2")
}

func TestPutParameterRefuses(t *testing.T) {
	r := newRig(t)
	put(t, r, "/taken", "v")
	for sentence, tc := range map[string]struct {
		change func(*sdk.PutParameterInput)
		want   string
	}{
		"an existing name without Overwrite": {func(in *sdk.PutParameterInput) { in.Name = aws.String("/taken") }, "ParameterAlreadyExists"},
		"a reserved name":                    {func(in *sdk.PutParameterInput) { in.Name = aws.String("aws-thing") }, `can't be prefixed with "aws"`},
		"a path without its first slash":     {func(in *sdk.PutParameterInput) { in.Name = aws.String("a/b") }, "fully qualified"},
		"a space in the name":                {func(in *sdk.PutParameterInput) { in.Name = aws.String("/a b") }, "only a mix of"},
		"no type":                            {func(in *sdk.PutParameterInput) { in.Type = "" }, "type is required"},
		"an unknown type":                    {func(in *sdk.PutParameterInput) { in.Type = "Number" }, "UnsupportedParameterType"},
		"an unknown data type":               {func(in *sdk.PutParameterInput) { in.DataType = aws.String("aws:ec2:vpc") }, "not supported"},
		"a value over 4 KiB":                 {func(in *sdk.PutParameterInput) { in.Value = aws.String(strings.Repeat("x", 4097)) }, "1 to 4096"},
		"a value against its pattern":        {func(in *sdk.PutParameterInput) { in.AllowedPattern = aws.String("^[0-9]+$") }, "ParameterPatternMismatchException"},
		"another kind of type": {func(in *sdk.PutParameterInput) {
			in.Name, in.Overwrite, in.Type = aws.String("/taken"), aws.Bool(true), types.ParameterTypeSecureString
		}, "HierarchyTypeMismatchException"},
	} {
		t.Run(sentence, func(t *testing.T) {
			in := &sdk.PutParameterInput{Name: aws.String("/new"), Value: aws.String("v"), Type: types.ParameterTypeString}
			tc.change(in)
			_, err := r.PutParameter(t.Context(), in)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestAccountsAndRegionsAreApart(t *testing.T) {
	r := newRig(t)
	put(t, r, "/mine", "v")
	for sentence, c := range map[string]wire.Caller{
		"another account": {Account: "444455556666", Region: region},
		"another region":  {Account: account, Region: "us-east-1"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := r.GetParameter(wire.WithCaller(t.Context(), c), &sdk.GetParameterInput{Name: aws.String("/mine")})
			assert.ErrorContains(t, err, "ParameterNotFound")
		})
	}
}

func TestTagsDeletesAndManyNames(t *testing.T) {
	r := newRig(t)
	put(t, r, "/p", "v", func(in *sdk.PutParameterInput) { in.Tags = []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}} })
	_, err := r.AddTagsToResource(t.Context(), &sdk.AddTagsToResourceInput{
		ResourceType: types.ResourceTypeForTaggingParameter, ResourceId: aws.String("/p"), Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}},
	})
	require.NoError(t, err)
	tags, err := r.ListTagsForResource(t.Context(), &sdk.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingParameter, ResourceId: aws.String("/p")})
	require.NoError(t, err)
	require.Len(t, tags.TagList, 2)
	assert.Equal(t, "b", *tags.TagList[1].Key)

	many, err := r.GetParameters(t.Context(), &sdk.GetParametersInput{Names: []string{"/p", "/q"}})
	require.NoError(t, err)
	assert.Len(t, many.Parameters, 1)
	assert.Equal(t, []string{"/q"}, many.InvalidParameters)
	gone, err := r.DeleteParameters(t.Context(), &sdk.DeleteParametersInput{Names: []string{"/p", "/q"}})
	require.NoError(t, err)
	assert.Equal(t, []string{"/p"}, gone.DeletedParameters)
	assert.Equal(t, []string{"/q"}, gone.InvalidParameters)
	_, err = r.DeleteParameter(t.Context(), &sdk.DeleteParameterInput{Name: aws.String("/p")})
	assert.ErrorContains(t, err, "ParameterNotFound")
}
