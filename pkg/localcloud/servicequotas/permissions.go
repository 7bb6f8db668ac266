package servicequotas

import "github.com/ami-factory/ami-factory/pkg/localcloud/authz"

// Permissions returns the permission rules of Service Quotas' calls.
func (s *Service) Permissions() authz.Permissions {
	rules := map[string]authz.Rule{}
	for _, operation := range []string{"GetAWSDefaultServiceQuota", "GetServiceQuota", "ListServiceQuotas"} {
		rules[operation] = authz.OnAll("servicequotas:" + operation)
	}
	return authz.Permissions{Service: "servicequotas", Rules: rules}
}
