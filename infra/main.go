// Command infra is the CDK app that deploys the factory. `cdk synth` and `cdk
// deploy` run it as cdk.json says.
package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	props, err := propsFromContext(app)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ami-factory infra:", err)
		os.Exit(1)
	}
	NewFactoryStack(app, "AmiFactory", props)
	app.Synth(nil)
}
