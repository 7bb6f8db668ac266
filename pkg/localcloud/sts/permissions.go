package sts

import (
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permission rules of STS's calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "sts", Denied: authz.AccessDenied, Rules: map[string]authz.Rule{
		// AssumeRole itself checks the role's trust policy, because the services of
		// this process assume roles too.
		"AssumeRole": authz.Of(func(authz.Call, *sdksts.AssumeRoleInput) []authz.Request { return nil }),
		// It needs no permission
		// (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html).
		"GetCallerIdentity": authz.Of(func(authz.Call, *sdksts.GetCallerIdentityInput) []authz.Request { return nil }),
	}}
}

// Principal returns the session of an access key, expired or not, and the
// principal that assumed its role.
func (s *Service) Principal(accessKeyID string) (session authz.Principal, assumedBy string, ok bool) {
	found, ok := s.Session(accessKeyID)
	if !ok {
		return authz.Principal{}, "", false
	}
	return authz.Principal{Account: found.Account, ARN: found.ARN(), RoleARN: found.RoleARN}, found.SourceARN, true
}
