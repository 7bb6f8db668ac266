// Command infra is the CDK app that deploys the factory. `cdk synth` and `cdk
// deploy` run it as cdk.json says.
package main

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/infra/factory"
	"github.com/ami-factory/ami-factory/pkg/program"
)

func main() {
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	props, err := factory.PropsFromContext(app, build)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ami-factory infra:", err)
		os.Exit(1)
	}
	if props.Stack == factory.StackTarget {
		factory.NewTargetStack(app, "AmiFactoryTarget", awscdk.StackProps{
			Description: jsii.String("Lets an AMI factory keep pointers to its images in this account."),
		})
		app.Synth(nil)
		return
	}
	if props.Stack == factory.StackForward {
		factory.NewForwardStack(app, "AmiFactoryForward", awscdk.StackProps{
			Description: jsii.String("Sends events of an AMI factory's copies to the factory's region."),
		})
		app.Synth(nil)
		return
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

// build makes the programs that are deployed. It is a part of the app, not the
// build command of cdk.json, since only the app knows the context: functions are
// built for its architecture, check engines for those of the recipes' guests.
func build(p *factory.Props) error {
	if p.FunctionsDir == "" {
		if err := makeTarget("functions", p.Architecture); err != nil {
			return err
		}
	}
	if p.GossDir != "" {
		return nil
	}
	for _, architecture := range factory.GuestArchitectures() {
		if err := makeTarget("goss", architecture); err != nil {
			return err
		}
	}
	return nil
}

func makeTarget(target, architecture string) error {
	cmd := exec.Command("make", target, "GOARCH="+program.GOARCH(architecture))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	return nil
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
