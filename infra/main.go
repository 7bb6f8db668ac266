// Command infra is the CDK app that deploys the factory. `cdk synth` and `cdk
// deploy` run it as cdk.json says.
package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/infra/factory"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	props, err := factory.PropsFromContext(app)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ami-factory infra:", err)
		os.Exit(1)
	}
	factory.NewStack(app, "AmiFactory", awscdk.StackProps{
		Description: jsii.String("Bakes, verifies and publishes golden machine images."),
		Env: &awscdk.Environment{
			Account: optional(os.Getenv("CDK_DEFAULT_ACCOUNT")),
			Region:  optional(os.Getenv("CDK_DEFAULT_REGION")),
		},
	}, props)
	app.Synth(nil)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
