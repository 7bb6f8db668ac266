package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Workflow is the deployed state machine.
type Workflow struct {
	StateMachine awsstepfunctions.StateMachine
}

func newWorkflow(scope constructs.Construct, functions Functions) Workflow {
	substitutions := map[string]*string{}
	for _, spec := range workflow.Stages() {
		substitutions[workflow.PlaceholderName(spec.Stage)] = functions[spec.Stage].Function.FunctionArn()
	}
	machine := awsstepfunctions.NewStateMachine(scope, jsii.String("Workflow"), &awsstepfunctions.StateMachineProps{
		StateMachineName:        jsii.String(workflow.MachineName),
		DefinitionBody:          awsstepfunctions.DefinitionBody_FromString(jsii.String(string(workflow.Definition().JSON()))),
		DefinitionSubstitutions: &substitutions,
		StateMachineType:        awsstepfunctions.StateMachineType_STANDARD,
		TracingEnabled:          jsii.Bool(true),
		Logs: &awsstepfunctions.LogOptions{
			Level: awsstepfunctions.LogLevel_ERROR,
			Destination: awslogs.NewLogGroup(scope, jsii.String("WorkflowLogs"), &awslogs.LogGroupProps{
				Retention:     awslogs.RetentionDays_THREE_MONTHS,
				RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
			}),
		},
	})
	// A definition given as text grants nothing by itself.
	allow(machine.Role(), workflow.MachinePolicy(func(s workflow.Stage) string { return *functions[s].Function.FunctionArn() }))
	return Workflow{StateMachine: machine}
}
