package factory_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/infra/factory"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/program"
)

// An app of one's own has the factory in a stack of its own, beside what else
// there is: here the queue of dead letters also keeps failed executions.
func ExampleNewAmiFactory() {
	build, err := os.MkdirTemp("", "factory-example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(build)
	standIns(build) // make functions goss

	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(filepath.Join(build, "out"))})
	stack := awscdk.NewStack(app, jsii.String("Images"), nil)

	props := factory.Defaults()
	props.FunctionsDir = filepath.Join(build, "lambda")
	props.GossDir = filepath.Join(build, "goss")
	props.Version = "v1.2.3"
	props.Network.Kind = factory.NetworkOwn
	props.Storage.EvidenceYears = 10
	if err := props.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	made := factory.NewAmiFactory(stack, "Factory", &props)

	awsevents.NewRule(stack, jsii.String("Failed"), &awsevents.RuleProps{
		EventPattern: &awsevents.EventPattern{
			Source: jsii.Strings("aws.states"),
			Detail: &map[string]any{"stateMachineArn": []any{made.Workflow.StateMachine.StateMachineArn()}, "status": []any{"FAILED"}},
		},
		Targets: &[]awsevents.IRuleTarget{awseventstargets.NewSqsQueue(made.DeadLetters, nil)},
	})
	app.Synth(nil)

	fmt.Println("every stage has its function:", len(made.Functions) == len(blueprint.Functions()))
	// Output:
	// every stage has its function: true
}

func standIns(dir string) {
	files := []string{}
	for _, architecture := range factory.GuestArchitectures() {
		files = append(files, filepath.Join(dir, "goss", program.GOARCH(architecture)))
	}
	for _, fn := range blueprint.Functions() {
		files = append(files, filepath.Join(dir, "lambda", fn.Name, "bootstrap"))
	}
	for _, file := range files {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			panic(err)
		}
		if err := os.WriteFile(file, []byte(file), 0o755); err != nil {
			panic(err)
		}
	}
}
