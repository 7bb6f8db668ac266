package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// propsFromContext reads what the operator may choose, from cdk.json or
// `cdk deploy -c name=value`, and reports every fault at once.
func propsFromContext(app awscdk.App) (*FactoryStackProps, error) {
	read := func(name, fallback string) string {
		if v, ok := app.Node().TryGetContext(jsii.String(name)).(string); ok && v != "" {
			return v
		}
		return fallback
	}
	list := func(name string) []string {
		return strings.FieldsFunc(read(name, ""), func(r rune) bool { return r == ',' || r == ' ' })
	}
	arch := read("architecture", ARM64)
	props := &FactoryStackProps{
		StackProps: awscdk.StackProps{
			Description: jsii.String("Bakes, verifies and publishes golden machine images."),
			Env: &awscdk.Environment{
				Account: optional(os.Getenv("CDK_DEFAULT_ACCOUNT")),
				Region:  optional(os.Getenv("CDK_DEFAULT_REGION")),
			},
		},
		Architecture:     arch,
		FunctionsDir:     read("functions", filepath.Join("build", "lambda")),
		GossFile:         read("goss", filepath.Join("build", "tools", "goss")),
		Version:          read("version", "dev"),
		SubnetIDs:        list("subnetIds"),
		SecurityGroupIDs: list("securityGroupIds"),
		KeyARNs:          list("keyArns"),
	}
	return props, props.validate()
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (p *FactoryStackProps) validate() error {
	var errs []error
	if p.Architecture != ARM64 && p.Architecture != X86 {
		errs = append(errs, fmt.Errorf("context architecture is %q (allowed: %s, %s)", p.Architecture, ARM64, X86))
	}
	for _, spec := range workflow.Stages() {
		if err := mustExist(filepath.Join(p.FunctionsDir, string(spec.Stage), "bootstrap")); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, mustExist(p.GossFile))...)
}

func mustExist(file string) error {
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("%s is missing: build it with `make functions GOARCH=arm64` (amd64 for x86_64) and `make goss GOARCH=amd64` (of the recipes' guests): %w", file, err)
	}
	return nil
}
