package deploy

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
)

// approverRole is the role of people in a rehearsal. On AWS they have roles of their
// organisation's.
const approverRole = "approver"

// deployDoor gives the function of approvals its URL, and makes the role of people.
// Whoever runs a rehearsal plays all of them: the root of the account chooses the name
// of the session.
func (d *Deployment) deployDoor(ctx context.Context) error {
	name := aws.String(prefix + blueprint.Approve)
	out, err := d.cloud.Lambda.CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{FunctionName: name, AuthType: lambdatypes.FunctionUrlAuthTypeAwsIam})
	switch {
	case err == nil:
		d.ApprovalURL = aws.ToString(out.FunctionUrl)
	case awserr.Is(err, "ResourceConflictException"):
		have, err := d.cloud.Lambda.GetFunctionUrlConfig(ctx, &lambda.GetFunctionUrlConfigInput{FunctionName: name})
		if err != nil {
			return fmt.Errorf("function URL of approvals: %w", err)
		}
		d.ApprovalURL = aws.ToString(have.FunctionUrl)
	default:
		return fmt.Errorf("function URL of approvals: %w", err)
	}
	d.Approver = d.roleARN(approverRole)
	policy, err := json.Marshal(blueprint.ApproverPolicy(d.FunctionARN(blueprint.Approve)))
	if err != nil {
		return err
	}
	trust := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::%s:root"},"Action":"sts:AssumeRole"}]}`, d.cloud.Account())
	if err := d.cloud.IAM.PutRole(iam.Role{ARN: d.Approver, Trust: json.RawMessage(trust), Policies: map[string]json.RawMessage{"approve": policy}}); err != nil {
		return fmt.Errorf("role of approvers: %w", err)
	}
	return nil
}
