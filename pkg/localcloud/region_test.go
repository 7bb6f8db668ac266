package localcloud_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
)

func TestOnlyRegionsOfItsPartitionAreServed(t *testing.T) {
	c := listening(t)
	for region, says := range map[string]string{
		"eu-centrall-1": `there is no region "eu-centrall-1"; did you mean "eu-central-1"?`,
		"xx-nowhere-9":  `there is no region "xx-nowhere-9"`,
		"eu-central-9":  "region eu-central-9 is not known",
		"cn-north-1":    "region cn-north-1 is in partition aws-cn",
		"eu-central-1":  "",
		"af-south-1":    "",
	} {
		t.Run(region, func(t *testing.T) {
			cfg := c.AWSConfig(region)
			_, ec2Err := sdkec2.NewFromConfig(cfg).DescribeImages(t.Context(), &sdkec2.DescribeImagesInput{Owners: []string{"self"}})
			_, ssmErr := sdkssm.NewFromConfig(cfg).DescribeInstanceInformation(t.Context(), &sdkssm.DescribeInstanceInformationInput{})
			if says == "" {
				require.NoError(t, ec2Err)
				require.NoError(t, ssmErr)
				return
			}
			require.ErrorContains(t, ec2Err, says)
			require.ErrorContains(t, ssmErr, says)
		})
	}
}

func TestAnEmbeddedAWSIsOfARegionThatExists(t *testing.T) {
	_, err := localcloud.New(t.Context(), localcloud.Config{Driver: echoing(nil), Region: "eu-centrall-1"})
	require.ErrorContains(t, err, `there is no region "eu-centrall-1"; did you mean "eu-central-1"?`)
	c := newCloud(t, func(cfg *localcloud.Config) { cfg.Region = "cn-north-1" })
	out, err := c.EC2.DescribeRegions(t.Context(), &sdkec2.DescribeRegionsInput{})
	require.NoError(t, err)
	require.Len(t, out.Regions, 2)
	assert.Equal(t, "ec2.cn-north-1.amazonaws.com.cn", aws.ToString(out.Regions[0].Endpoint))
}
