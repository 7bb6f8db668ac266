package states

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Principal is the service that assumes the roles of state machines.
const Principal = "states.amazonaws.com"

// Permissions are the rules of Step Functions' calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "states", Rules: map[string]authz.Rule{
		"ListStateMachines": authz.OnAll("states:ListStateMachines"),
		"CreateStateMachine": authz.Of(func(c authz.Call, in *sfn.CreateStateMachineInput) []authz.Request {
			created := authz.Request{Action: "states:CreateStateMachine", Resource: c.ARN("states", c.Caller.Account, "stateMachine:"+aws.ToString(in.Name))}
			return append([]authz.Request{created}, authz.PassRole(Principal, aws.ToString(in.RoleArn))...)
		}),
		"UpdateStateMachine": authz.Of(func(_ authz.Call, in *sfn.UpdateStateMachineInput) []authz.Request {
			updated := authz.Request{Action: "states:UpdateStateMachine", Resource: aws.ToString(in.StateMachineArn)}
			return append([]authz.Request{updated}, authz.PassRole(Principal, aws.ToString(in.RoleArn))...)
		}),
		"DescribeStateMachine": authz.On("states:DescribeStateMachine", func(_ authz.Call, in *sfn.DescribeStateMachineInput) string { return aws.ToString(in.StateMachineArn) }),
		"DescribeExecution":    authz.On("states:DescribeExecution", func(_ authz.Call, in *sfn.DescribeExecutionInput) string { return aws.ToString(in.ExecutionArn) }),
		"ListExecutions":       authz.On("states:ListExecutions", func(_ authz.Call, in *sfn.ListExecutionsInput) string { return aws.ToString(in.StateMachineArn) }),
		"StartExecution":       authz.On("states:StartExecution", func(_ authz.Call, in *sfn.StartExecutionInput) string { return aws.ToString(in.StateMachineArn) }),

		"SendTaskSuccess": authz.Of(func(_ authz.Call, in *sfn.SendTaskSuccessInput) []authz.Request {
			return s.onTask("SendTaskSuccess", in.TaskToken)
		}),
		"SendTaskFailure": authz.Of(func(_ authz.Call, in *sfn.SendTaskFailureInput) []authz.Request {
			return s.onTask("SendTaskFailure", in.TaskToken)
		}),
		"SendTaskHeartbeat": authz.Of(func(_ authz.Call, in *sfn.SendTaskHeartbeatInput) []authz.Request {
			return s.onTask("SendTaskHeartbeat", in.TaskToken)
		}),
	}}
}

// onTask is what an answer for a token asks for: the permission is on the state machine
// of the token, as grantTaskResponse of the CDK gives it. A token that is of no
// execution names no resource; the call itself refuses it
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html).
func (s *Service) onTask(operation string, token *string) []authz.Request {
	machine, known := s.machineOf(token)
	if !known {
		return nil
	}
	return []authz.Request{{Action: "states:" + operation, Resource: machine}}
}
