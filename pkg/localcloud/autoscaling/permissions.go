package autoscaling

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions returns the permission rules of EC2 Auto Scaling's calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "autoscaling", Rules: map[string]authz.Rule{
		"DescribeLaunchConfigurations": authz.OnAll("autoscaling:DescribeLaunchConfigurations"),
		"CreateLaunchConfiguration": onLaunchConfiguration("CreateLaunchConfiguration", func(in *autoscaling.CreateLaunchConfigurationInput) *string {
			return in.LaunchConfigurationName
		}),
		"DeleteLaunchConfiguration": onLaunchConfiguration("DeleteLaunchConfiguration", func(in *autoscaling.DeleteLaunchConfigurationInput) *string {
			return in.LaunchConfigurationName
		}),
	}}
}

// onLaunchConfiguration makes a rule for an operation on a launch configuration.
// Its ARN has an id that callers do not know
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html).
func onLaunchConfiguration[I any](operation string, name func(*I) *string) authz.Rule {
	return authz.On("autoscaling:"+operation, func(c authz.Call, in *I) string {
		return c.ARN("autoscaling", c.Caller.Account, "launchConfiguration:*:launchConfigurationName/"+aws.ToString(name(in)))
	})
}
