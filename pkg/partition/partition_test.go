package partition_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

func TestPartitions(t *testing.T) {
	assert.Equal(t, []string{"aws", "aws-cn", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-us-gov"}, partition.IDs())
	for _, p := range partition.All() {
		assert.NotEmpty(t, p.DNSSuffix, p.ID)
		assert.NotEmpty(t, p.DualStackDNSSuffix, p.ID)
		assert.NotEmpty(t, p.Regions, p.ID)
		for _, region := range p.Regions {
			of, ok := partition.Of(region)
			assert.True(t, ok, region)
			assert.Equal(t, p.ID, of.ID, region)
			verdict, message, _ := partition.Check(region)
			assert.Equal(t, partition.Exists, verdict, message)
		}
	}
}

func TestNamesOfAPartition(t *testing.T) {
	tests := map[string]struct{ arn, host, ec2, logs, lambda, via string }{
		"eu-west-1": {
			"arn:aws:sns:eu-west-1:111122223333:t", "efs.eu-west-1.amazonaws.com", "ec2.amazonaws.com",
			"logs.eu-west-1.amazonaws.com", "lambda.amazonaws.com", "ec2.eu-west-1.amazonaws.com",
		},
		"cn-north-1": {
			"arn:aws-cn:sns:cn-north-1:111122223333:t", "efs.cn-north-1.amazonaws.com.cn", "ec2.amazonaws.com.cn",
			"logs.cn-north-1.amazonaws.com.cn", "lambda.amazonaws.com", "ec2.cn-north-1.amazonaws.com.cn",
		},
		"us-gov-west-1": {
			"arn:aws-us-gov:sns:us-gov-west-1:111122223333:t", "efs.us-gov-west-1.amazonaws.com", "ec2.amazonaws.com",
			"logs.us-gov-west-1.amazonaws.com", "lambda.amazonaws.com", "ec2.us-gov-west-1.amazonaws.com",
		},
		"eusc-de-east-1": {
			"arn:aws-eusc:sns:eusc-de-east-1:111122223333:t", "efs.eusc-de-east-1.amazonaws.eu", "ec2.amazonaws.eu",
			"logs.eusc-de-east-1.amazonaws.eu", "lambda.amazonaws.com", "ec2.eusc-de-east-1.amazonaws.eu",
		},
		"us-isob-east-1": {
			"arn:aws-iso-b:sns:us-isob-east-1:111122223333:t", "efs.us-isob-east-1.sc2s.sgov.gov", "ec2.sc2s.sgov.gov",
			"logs.us-isob-east-1.sc2s.sgov.gov", "lambda.amazonaws.com", "ec2.us-isob-east-1.sc2s.sgov.gov",
		},
	}
	for region, want := range tests {
		t.Run(region, func(t *testing.T) {
			assert.Equal(t, want.arn, partition.ARN("sns", region, "111122223333", "t"))
			assert.Equal(t, want.host, partition.Host("efs", region))
			assert.Equal(t, want.ec2, partition.Principal("ec2", region))
			assert.Equal(t, want.logs, partition.Principal("logs", region))
			assert.Equal(t, want.lambda, partition.Principal("lambda", region))
			assert.Equal(t, want.via, partition.ViaService("ec2", region, region))
		})
	}
	assert.Equal(t, "ec2.*.amazonaws.com.cn", partition.ViaService("ec2", "*", "cn-north-1"))
}

func TestCheckOfNamesThatTheDataDoesNotList(t *testing.T) {
	tests := map[string]struct {
		verdict          partition.Verdict
		message, allowed string
	}{
		"eu-centrall-1":    {partition.Nowhere, `there is no region "eu-centrall-1"; did you mean "eu-central-1"?`, "eu-central-1, eu-central-2"},
		"eu-wset-1":        {partition.Nowhere, `there is no region "eu-wset-1"; did you mean "eu-west-1"?`, ""},
		"xx-nowhere-9":     {partition.Nowhere, `there is no region "xx-nowhere-9"`, "a region's name, such as eu-west-1"},
		"eu-nowhere-9":     {partition.Nowhere, `there is no region "eu-nowhere-9"`, ""},
		"aws-global":       {partition.Nowhere, "", ""},
		"us-east-1a":       {partition.Nowhere, `there is no region "us-east-1a"; did you mean "us-east-1"?`, ""},
		"eu-west-0":        {partition.Nowhere, "", ""},
		"":                 {partition.Nowhere, "", ""},
		"eu-central-3":     {partition.Plausible, "region eu-central-3 is not known to this version of ami-factory: it is taken for a newer one", ""},
		"ap-southeast-9":   {partition.Plausible, "", ""},
		"cn-south-1":       {partition.Plausible, "", ""},
		"us-gov-central-1": {partition.Plausible, "", ""},
		"eusc-de-west-1":   {partition.Plausible, "", ""},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			verdict, message, allowed := partition.Check(name)
			assert.Equal(t, want.verdict, verdict, message)
			assert.NotEmpty(t, message)
			assert.NotEmpty(t, allowed)
			if want.message != "" {
				assert.Equal(t, want.message, message)
			}
			if want.allowed != "" {
				assert.Contains(t, allowed, want.allowed)
			}
		})
	}
}
