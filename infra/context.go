package main

import (
	"encoding/json"
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
	parameters, err := parametersOf(app.Node().TryGetContext(jsii.String("componentParameters")))
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
		Parameters:       parameters,
	}
	return props, errors.Join(err, props.validate())
}

// parametersOf is the context componentParameters as the functions take it: an
// object of cdk.json, or the same as the text of `-c`. Whether there are such
// components and parameters is checked when a build is planned.
func parametersOf(context any) (string, error) {
	if context == nil || context == "" {
		return "", nil
	}
	raw, isText := context.(string)
	if !isText {
		encoded, err := json.Marshal(context)
		if err != nil {
			return "", fmt.Errorf("context componentParameters: %w", err)
		}
		raw = string(encoded)
	}
	var parsed map[string]map[string]any
	if err := json.Unmarshal([]byte(raw), &parsed); err != nil {
		return "", fmt.Errorf(`context componentParameters is not an object of components, such as {"docker":{"logMaxSize":"10m"}}: %w`, err)
	}
	for component, values := range parsed {
		for name, value := range values {
			switch value.(type) {
			case string, float64, bool:
			default:
				return "", fmt.Errorf("context componentParameters: %s.%s is neither text nor a number, true or false", component, name)
			}
		}
	}
	return raw, nil
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
