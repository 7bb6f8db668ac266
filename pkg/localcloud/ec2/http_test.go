package ec2_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

func newClient(c aws.Config) *sdk.Client { return sdk.NewFromConfig(c) }

func TestEveryMemberOfEveryOperationSurvivesHTTP(t *testing.T) {
	e := setup(t, options{})
	wiretest.RoundTrip(t, e.Wire(), newClient)
}

func TestTheNamesAreGeneratedForWhatIsServed(t *testing.T) {
	list, err := os.ReadFile("../wire/internal/ec2names/operations.txt")
	require.NoError(t, err)
	var served []string
	for name := range setup(t, options{}).Wire().Operations {
		served = append(served, name)
	}
	slices.Sort(served)
	assert.Equal(t, strings.Fields(string(list)), served)
}

func TestAStockClient(t *testing.T) {
	e := setup(t, options{})
	server := httptest.NewServer(wire.Handler(wiretest.Options(), e.Wire()))
	t.Cleanup(server.Close)
	client := newClient(wiretest.Config(server.URL))
	ctx := t.Context()

	out, err := client.RunInstances(ctx, launchOf(e.base))
	require.NoError(t, err)
	id := *out.Instances[0].InstanceId
	_, err = client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{id}})
	requireCode(t, err, "InvalidInstanceID.NotFound")
	e.pass(time.Minute)
	running, err := client.DescribeInstances(ctx, &sdk.DescribeInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	assert.Equal(t, e.describe(id), running.Reservations[0].Instances[0], "both doors show the same")
	images, err := client.DescribeImages(ctx, &sdk.DescribeImagesInput{Owners: []string{debian}})
	require.NoError(t, err)
	require.Len(t, images.Images, 1)
	assert.Equal(t, e.image(e.base), images.Images[0])
}

func TestMetadataOfAnInstance(t *testing.T) {
	var shown imds.Instance
	e := setup(t, options{config: func(c *ec2.Config) {
		c.SSHKey = "ssh-ed25519 AAAA test"
		c.Metadata = func(in imds.Instance) http.Handler { shown = in; return imds.New(in) }
		c.Credentials = func(_ context.Context, account, region, role, instanceID string) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: strings.Join([]string{account, region, role, instanceID}, "/")}, nil
		}
	}})
	i := e.run(userData(3), func(in *sdk.RunInstancesInput) {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String("builder")}
		in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensStateRequired, InstanceMetadataTags: types.InstanceMetadataTagsStateEnabled}
	}, tagged(types.ResourceTypeInstance, "stage", "launch"))
	e.pass(time.Minute)
	assert.Equal(t, *i.InstanceId, shown.InstanceID)
	assert.Equal(t, "xxx", string(shown.UserData))
	assert.Equal(t, *i.PrivateIpAddress, shown.PrivateIP)
	assert.Equal(t, "euc1-az1", shown.AvailabilityZoneID)
	assert.Equal(t, map[string]string{"stage": "launch"}, shown.Tags)
	assert.True(t, shown.TokensRequired)
	assert.True(t, shown.TagsEnabled)
	credentials, err := shown.Credentials(t.Context(), shown.Role)
	require.NoError(t, err)
	assert.Equal(t, "111122223333/eu-central-1/builder/"+*i.InstanceId, credentials.AccessKeyID)
}
