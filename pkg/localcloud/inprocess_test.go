package localcloud_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
)

func TestAClientInThisProcessNeedsNoListener(t *testing.T) {
	c := newCloud(t)
	client := sdks3.NewFromConfig(c.AWSConfigInProcess("444455556666", "eu-west-1"), func(o *sdks3.Options) { o.UsePathStyle = true })
	_, err := client.CreateBucket(t.Context(), &sdks3.CreateBucketInput{
		Bucket: aws.String("bucket"), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-west-1"},
	})
	require.NoError(t, err)
	for what, body := range map[string]string{"empty": "", "some": "text", "large": strings.Repeat("x", 1<<20)} {
		_, err = client.PutObject(t.Context(), &sdks3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a//" + what), Body: strings.NewReader(body)})
		require.NoError(t, err, what)
		out, err := client.GetObject(t.Context(), &sdks3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a//" + what)})
		require.NoError(t, err, what)
		got, err := io.ReadAll(out.Body)
		require.NoError(t, err, what)
		assert.Equal(t, body, string(got), what)
	}
}

// Over a connection the client's goroutine would keep the clock still while the
// service sleeps on it.
func TestADelayOfACallInThisProcessPassesOnTheVirtualClock(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clk := clock.NewVirtual(start)
	c := newCloud(t, func(cfg *localcloud.Config) { cfg.Clock, cfg.Driver = clk, echoing(clk) })
	_, err := c.Faults.Add(fault.Rule{Service: "ssm", Operation: "GetParametersByPath", Delay: fault.Duration(time.Hour)})
	require.NoError(t, err)
	defer clk.Hold()()
	_, err = sdkssm.NewFromConfig(c.AWSConfigInProcess("", "")).GetParametersByPath(t.Context(), &sdkssm.GetParametersByPathInput{Path: aws.String("/x")})
	require.NoError(t, err)
	assert.Equal(t, start.Add(time.Hour), clk.Now())
}
