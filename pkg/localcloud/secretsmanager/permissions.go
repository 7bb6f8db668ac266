package secretsmanager

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permission rules of Secrets Manager's calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "secretsmanager", Rules: map[string]authz.Rule{
		"ListSecrets": authz.OnAll("secretsmanager:ListSecrets"),
		"DescribeSecret": authz.On("secretsmanager:DescribeSecret", func(c authz.Call, in *secretsmanager.DescribeSecretInput) string {
			return s.arnFor(c, aws.ToString(in.SecretId))
		}),
	}}
}

// arnFor returns the ARN of a secret. In it, AWS appends six characters to the
// name.
func (s *Service) arnFor(c authz.Call, ref string) string {
	if strings.HasPrefix(ref, "arn:") {
		return ref
	}
	if out, err := s.DescribeSecret(c.Context, &secretsmanager.DescribeSecretInput{SecretId: &ref}); err == nil {
		return aws.ToString(out.ARN)
	}
	return c.ARN("secretsmanager", c.Caller.Account, "secret:"+ref)
}
