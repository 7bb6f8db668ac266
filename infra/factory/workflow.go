package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Workflow is the deployed state machine.
type Workflow struct {
	StateMachine awsstepfunctions.StateMachine
}

func newWorkflow(scope constructs.Construct, props LogProps, logs logging, functions Functions) Workflow {
	substitutions := map[string]*string{}
	for _, spec := range workflow.Stages() {
		substitutions[workflow.PlaceholderName(spec.Stage)] = functions[string(spec.Stage)].Function.FunctionArn()
	}
	machine := awsstepfunctions.NewStateMachine(scope, jsii.String("Workflow"), &awsstepfunctions.StateMachineProps{
		StateMachineName:        jsii.String(workflow.MachineName),
		DefinitionBody:          awsstepfunctions.DefinitionBody_FromString(jsii.String(workflow.InPartition(workflow.Definition().JSON(), *awscdk.Stack_Of(scope).Partition()))),
		DefinitionSubstitutions: &substitutions,
		StateMachineType:        awsstepfunctions.StateMachineType_STANDARD,
		TracingEnabled:          &props.Tracing,
		Logs: &awsstepfunctions.LogOptions{
			Level: levels()[props.Executions], IncludeExecutionData: &props.ExecutionData,
			Destination: logs.group(scope, "WorkflowLogs"),
		},
	})
	var chosen []exception
	if props.Executions != "all" {
		chosen = append(chosen, exception{rule: "AwsSolutions-SF1", reason: "What is logged is the operator's choice (context executionLog): every poll is an event, and Step Functions itself keeps the whole history for 90 days."})
	}
	if !props.Tracing {
		chosen = append(chosen, exception{rule: "AwsSolutions-SF2", reason: "Traces are the operator's choice (context tracing)."})
	}
	except(machine, chosen...)
	machine.Node().DefaultChild().(awscdk.CfnResource).AddMetadata(jsii.String("cfn-lint"), cfnLintOnWorkflow())
	// A definition given as text grants nothing by itself.
	allow(machine.Role(), blueprint.MachineRole(functions.arn).Policy)
	exceptPolicy(machine.Role(), exception{"AwsSolutions-IAM5", []string{`Resource::\*`}, "IAM knows no resource for the calls that deliver logs and send traces."})
	onlyPolicy(machine, machine.Role())
	return Workflow{StateMachine: machine}
}

// cfnLintOnWorkflow has cfn-lint pass over a definition, of which its schema knows no
// time-out that is a JSONata expression, as Step Functions does
// (https://docs.aws.amazon.com/step-functions/latest/dg/state-task.html). A test holds
// the definition to everything else that the linter knows.
func cfnLintOnWorkflow() map[string]any {
	return map[string]any{"config": map[string]any{"ignore_checks": []string{"E3601"}}}
}
