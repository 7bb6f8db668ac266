package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
)

// newDoor gives the function of approvals its URL. Whoever calls it signs the request,
// and needs lambda:InvokeFunctionUrl, and lambda:InvokeFunction for function URLs only.
func newDoor(functions Functions) awslambda.FunctionUrl {
	return functions[blueprint.Approve].Function.AddFunctionUrl(&awslambda.FunctionUrlOptions{
		AuthType: awslambda.FunctionUrlAuthType_AWS_IAM, InvokeMode: awslambda.InvokeMode_BUFFERED,
	})
}
