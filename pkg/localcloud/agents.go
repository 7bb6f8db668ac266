package localcloud

import (
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// agents are the SSM agents of instances, each with the role of its instance: SSM
// knows only the agents whose role allows them to register and to take commands.
type agents struct{ c *Cloud }

// Machine implements ssm.Machines.
func (a agents) Machine(account, region, instanceID string) (vm.Machine, ec2types.InstanceStateName, bool) {
	machine, state, ok := a.c.EC2.Machine(account, region, instanceID)
	if machine != nil && !a.c.reachesSSM(account, region, instanceID) {
		machine = nil
	}
	return machine, state, ok
}

// agentCalls are what the agent asks of AWS to take commands: its heartbeat, and
// the channel that they come through
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/systems-manager-setting-up-messageAPIs.html).
func agentCalls() []string {
	return []string{"ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:OpenControlChannel"}
}

// reachesSSM says whether the role of an instance allows what its agent asks. An
// instance without a role, or with one that IAM does not know, is reached as where
// Default Host Management is on.
func (c *Cloud) reachesSSM(account, region, instanceID string) bool {
	role := c.EC2.RoleOf(account, region, instanceID)
	if !c.cfg.EnforceIAM || role == "" {
		return true
	}
	arn := c.IAM.RoleARN(account, role)
	if _, known := c.IAM.Role(arn); !known {
		return true
	}
	p := authz.RoleSession(arn, instanceID)
	for _, action := range agentCalls() {
		if c.authz.Decide(wire.Caller{Account: account, Region: region}, p, authz.Request{Action: action, Resource: "*"}) != authz.Allowed {
			return false
		}
	}
	return true
}
