package localcloud_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// A rule under another name than its operation's would never be asked.
func TestEveryRuleIsOfAServedOperation(t *testing.T) {
	c := newCloud(t)
	for _, s := range []struct {
		wire  wire.Service
		authz authz.Permissions
	}{
		{c.AutoScaling.Wire(), c.AutoScaling.Permissions()},
		{c.CloudFormation.Wire(), c.CloudFormation.Permissions()},
		{c.EBS.Wire(), c.EBS.Permissions()},
		{c.EC2.Wire(), c.EC2.Permissions()},
		{c.ECR.Wire(), c.ECR.Permissions()},
		{c.Events.Wire(), c.Events.Permissions()},
		{c.IAM.Wire(), c.IAM.Permissions()},
		{c.KMS.Wire(), c.KMS.Permissions()},
		{c.Lambda.Wire(), c.Lambda.Permissions()},
		{c.Quotas.Wire(), c.Quotas.Permissions()},
		{c.S3.Wire(), c.S3.Permissions()},
		{c.SNS.Wire(), c.SNS.Permissions()},
		{c.SQS.Wire(), c.SQS.Permissions()},
		{c.SSM.Wire(), c.SSM.Permissions()},
		{c.STS.Wire(), c.STS.Permissions()},
		{c.Scheduler.Wire(), c.Scheduler.Permissions()},
		{c.Secrets.Wire(), c.Secrets.Permissions()},
		{c.States.Wire(), c.States.Permissions()},
	} {
		assert.Equal(t, s.wire.ID, s.authz.Service)
		assert.NotEmpty(t, s.authz.Rules, s.wire.ID)
		if s.wire.Protocol == wire.REST { // whose rules are by method
			continue
		}
		for operation := range s.authz.Rules {
			assert.Contains(t, s.wire.Operations, operation, s.wire.ID)
		}
	}
}
