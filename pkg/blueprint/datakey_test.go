package blueprint

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFunctionsMayUseTheKeyForWhatTheyDo(t *testing.T) {
	for sentence, tc := range map[string]struct {
		actions []string
		use     []string
		via     []string
	}{
		"what reads decrypts":            {[]string{"s3:GetObject", "ec2:RunInstances"}, []string{"kms:Decrypt"}, []string{"s3.*.amazonaws.com"}},
		"what writes makes data keys":    {[]string{"s3:PutObject"}, []string{"kms:GenerateDataKey"}, []string{"s3.*.amazonaws.com"}},
		"what tells does both":           {[]string{"sns:Publish"}, []string{"kms:Decrypt", "kms:GenerateDataKey"}, []string{"sns.*.amazonaws.com"}},
		"each service is named":          {[]string{"s3:GetObject", "sqs:SendMessage"}, []string{"kms:Decrypt", "kms:GenerateDataKey"}, []string{"s3.*.amazonaws.com", "sqs.*.amazonaws.com"}},
		"what touches nothing gets none": {[]string{"ec2:DescribeImages"}, nil, nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := Site{DataKey: "arn:key", URLSuffix: "amazonaws.com"}.dataKeyUse(on(AnyResource, tc.actions...))
			assert.Empty(t, Site{URLSuffix: "amazonaws.com"}.dataKeyUse(on(AnyResource, tc.actions...)), "AWS's own keys need no permission")
			if tc.use == nil {
				assert.Empty(t, got)
				return
			}
			assert.Equal(t, Policy{{Actions: tc.use, Resources: []string{"arn:key"}, Conditions: Conditions{"StringLike": {"kms:ViaService": tc.via}}}}, got)
		})
	}
}
