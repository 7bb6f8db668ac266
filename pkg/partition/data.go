// Code generated from partitions.json of github.com/aws/aws-sdk-go-v2 by: go test ./pkg/partition -update. DO NOT EDIT.

package partition

var partitions = []Partition{
	{
		ID: "aws", DNSSuffix: "amazonaws.com", DualStackDNSSuffix: "api.aws", GlobalRegion: "us-east-1",
		RegionPattern: `^(us|eu|ap|sa|ca|me|af|il|mx)\-\w+\-\d+$`,
		Regions: []string{
			"af-south-1",
			"ap-east-1",
			"ap-east-2",
			"ap-northeast-1",
			"ap-northeast-2",
			"ap-northeast-3",
			"ap-south-1",
			"ap-south-2",
			"ap-southeast-1",
			"ap-southeast-2",
			"ap-southeast-3",
			"ap-southeast-4",
			"ap-southeast-5",
			"ap-southeast-6",
			"ap-southeast-7",
			"ca-central-1",
			"ca-west-1",
			"eu-central-1",
			"eu-central-2",
			"eu-north-1",
			"eu-south-1",
			"eu-south-2",
			"eu-west-1",
			"eu-west-2",
			"eu-west-3",
			"il-central-1",
			"me-central-1",
			"me-south-1",
			"mx-central-1",
			"sa-east-1",
			"us-east-1",
			"us-east-2",
			"us-west-1",
			"us-west-2",
		},
	},
	{
		ID: "aws-cn", DNSSuffix: "amazonaws.com.cn", DualStackDNSSuffix: "api.amazonwebservices.com.cn", GlobalRegion: "cn-northwest-1",
		RegionPattern: `^cn\-\w+\-\d+$`,
		Regions: []string{
			"cn-north-1",
			"cn-northwest-1",
		},
	},
	{
		ID: "aws-eusc", DNSSuffix: "amazonaws.eu", DualStackDNSSuffix: "api.amazonwebservices.eu", GlobalRegion: "eusc-de-east-1",
		RegionPattern: `^eusc\-(de)\-\w+\-\d+$`,
		Regions: []string{
			"eusc-de-east-1",
		},
	},
	{
		ID: "aws-iso", DNSSuffix: "c2s.ic.gov", DualStackDNSSuffix: "api.aws.ic.gov", GlobalRegion: "us-iso-east-1",
		RegionPattern: `^us\-iso\-\w+\-\d+$`,
		Regions: []string{
			"us-iso-east-1",
			"us-iso-west-1",
		},
	},
	{
		ID: "aws-iso-b", DNSSuffix: "sc2s.sgov.gov", DualStackDNSSuffix: "api.aws.scloud", GlobalRegion: "us-isob-east-1",
		RegionPattern: `^us\-isob\-\w+\-\d+$`,
		Regions: []string{
			"us-isob-east-1",
			"us-isob-west-1",
		},
	},
	{
		ID: "aws-iso-e", DNSSuffix: "cloud.adc-e.uk", DualStackDNSSuffix: "api.cloud-aws.adc-e.uk", GlobalRegion: "eu-isoe-west-1",
		RegionPattern: `^eu\-isoe\-\w+\-\d+$`,
		Regions: []string{
			"eu-isoe-west-1",
		},
	},
	{
		ID: "aws-iso-f", DNSSuffix: "csp.hci.ic.gov", DualStackDNSSuffix: "api.aws.hci.ic.gov", GlobalRegion: "us-isof-south-1",
		RegionPattern: `^us\-isof\-\w+\-\d+$`,
		Regions: []string{
			"us-isof-east-1",
			"us-isof-south-1",
		},
	},
	{
		ID: "aws-us-gov", DNSSuffix: "amazonaws.com", DualStackDNSSuffix: "api.aws", GlobalRegion: "us-gov-west-1",
		RegionPattern: `^us\-gov\-\w+\-\d+$`,
		Regions: []string{
			"us-gov-east-1",
			"us-gov-west-1",
		},
	},
}
