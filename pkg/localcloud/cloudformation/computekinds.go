package cloudformation

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

type functionProperties struct {
	FunctionName, Description, Handler, Role string
	Runtime                                  lambdatypes.Runtime
	Architectures                            []lambdatypes.Architecture
	Code                                     struct{ S3Bucket, S3Key, S3ObjectVersion, ZipFile string }
	Environment                              struct{ Variables map[string]string }
	MemorySize, Timeout                      *int32
	ReservedConcurrentExecutions             *int32
	Tags                                     []tag
	// These have no effect: the embedded Lambda keeps the latest log lines of every
	// function, does not trace, and has one kind of disk and network.
	LoggingConfig, TracingConfig, DeadLetterConfig, EphemeralStorage, RecursiveLoop any
}

type permissionProperties struct {
	Action, FunctionName, Principal          string
	SourceArn, SourceAccount, PrincipalOrgID *string
	FunctionURLAuthType                      lambdatypes.FunctionUrlAuthType `json:"FunctionUrlAuthType"`
	InvokedViaFunctionURL                    *bool                           `json:"InvokedViaFunctionUrl"`
}

type urlProperties struct {
	AuthType   lambdatypes.FunctionUrlAuthType
	Function   string `json:"TargetFunctionArn"`
	Qualifier  string
	InvokeMode lambdatypes.InvokeMode
	Cors       *lambdatypes.Cors
}

type invokeConfigProperties struct {
	FunctionName, Qualifier                        string
	MaximumEventAgeInSeconds, MaximumRetryAttempts *int32
	DestinationConfig                              *lambdatypes.DestinationConfig
}

func lambdaKinds(api Lambda) map[string]kind {
	p := lambdaProvider{api}
	return map[string]kind{
		"AWS::Lambda::Function": of(changer[functionProperties]{
			create: p.createFunction, update: p.updateFunction, remove: p.deleteFunction, replace: []string{"FunctionName"},
		}),
		"AWS::Lambda::EventInvokeConfig": of(changer[invokeConfigProperties]{
			create: p.configure, update: p.reconfigure, remove: p.unconfigure, replace: []string{"FunctionName", "Qualifier"},
		}),
		"AWS::Lambda::Url":        of(changer[urlProperties]{create: p.createURL, update: p.updateURL, remove: p.deleteURL, replace: []string{"TargetFunctionArn", "Qualifier"}}),
		"AWS::Lambda::Permission": of(changer[permissionProperties]{create: p.addPermission, remove: p.removePermission}),
	}
}

type lambdaProvider struct{ api Lambda }

func (l lambdaProvider) createFunction(ctx context.Context, t *target, p functionProperties) error {
	name := p.FunctionName
	if name == "" {
		name = t.physicalName(64)
	}
	if p.Code.ZipFile != "" {
		return invalid("Code.ZipFile contains a script: the embedded AWS only runs archives with a bootstrap, from S3Bucket and S3Key")
	}
	out, err := l.api.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: aws.String(name), Description: aws.String(p.Description), Handler: scope.Optional(p.Handler), Role: aws.String(p.Role),
		Runtime: p.Runtime, Architectures: p.Architectures, MemorySize: p.MemorySize, Timeout: p.Timeout, Tags: t.tags(p.Tags),
		Code:        &lambdatypes.FunctionCode{S3Bucket: aws.String(p.Code.S3Bucket), S3Key: aws.String(p.Code.S3Key), S3ObjectVersion: scope.Optional(p.Code.S3ObjectVersion)},
		Environment: &lambdatypes.Environment{Variables: p.Environment.Variables},
	})
	if err != nil {
		return err
	}
	t.PhysicalID = name
	t.set("Arn", aws.ToString(out.FunctionArn))
	return l.setConcurrency(ctx, t, nil, p.ReservedConcurrentExecutions)
}

func (l lambdaProvider) setConcurrency(ctx context.Context, t *target, before, after *int32) error {
	var err error
	switch {
	case after != nil:
		_, err = l.api.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String(t.PhysicalID), ReservedConcurrentExecutions: after})
	case before != nil:
		_, err = l.api.DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String(t.PhysicalID)})
	}
	return err
}

// orDefault returns a number, or Lambda's default if it is nil.
func orDefault(n *int32, otherwise int32) *int32 {
	if n == nil {
		return aws.Int32(otherwise)
	}
	return n
}

func (l lambdaProvider) updateFunction(ctx context.Context, t *target, old, p functionProperties) error {
	name := aws.String(t.PhysicalID)
	variables := p.Environment.Variables
	if variables == nil {
		variables = map[string]string{}
	}
	if _, err := l.api.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: name, Description: aws.String(p.Description), Handler: scope.Optional(p.Handler), Role: aws.String(p.Role), Runtime: p.Runtime,
		MemorySize: orDefault(p.MemorySize, 128), Timeout: orDefault(p.Timeout, 3), Environment: &lambdatypes.Environment{Variables: variables},
	}); err != nil {
		return err
	}
	if old.Code != p.Code || strings.Join(namesOf(old.Architectures), ",") != strings.Join(namesOf(p.Architectures), ",") {
		if _, err := l.api.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{
			FunctionName: name, S3Bucket: aws.String(p.Code.S3Bucket), S3Key: aws.String(p.Code.S3Key), Architectures: p.Architectures,
		}); err != nil {
			return err
		}
	}
	if err := l.setTags(ctx, t, t.tags(old.Tags), t.tags(p.Tags)); err != nil {
		return err
	}
	return l.setConcurrency(ctx, t, old.ReservedConcurrentExecutions, p.ReservedConcurrentExecutions)
}

func namesOf[T ~string](values []T) []string {
	var out []string
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

func (l lambdaProvider) setTags(ctx context.Context, t *target, before, after map[string]string) error {
	arn, _ := t.Attributes["Arn"].(string)
	if gone := without(before, after); len(gone) > 0 {
		if _, err := l.api.UntagResource(ctx, &lambda.UntagResourceInput{Resource: aws.String(arn), TagKeys: gone}); err != nil {
			return err
		}
	}
	if len(after) == 0 {
		return nil
	}
	_, err := l.api.TagResource(ctx, &lambda.TagResourceInput{Resource: aws.String(arn), Tags: after})
	return err
}

func (l lambdaProvider) deleteFunction(ctx context.Context, t *target, _ functionProperties) error {
	_, err := l.api.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

// configure sets the destinations and retries of asynchronous invocations.
func (l lambdaProvider) configure(ctx context.Context, t *target, p invokeConfigProperties) error {
	_, err := l.api.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{
		FunctionName: aws.String(p.FunctionName), Qualifier: scope.Optional(p.Qualifier), DestinationConfig: p.DestinationConfig,
		MaximumEventAgeInSeconds: p.MaximumEventAgeInSeconds, MaximumRetryAttempts: p.MaximumRetryAttempts,
	})
	if err == nil {
		t.PhysicalID = p.FunctionName + "|" + p.Qualifier
	}
	return err
}

func (l lambdaProvider) reconfigure(ctx context.Context, t *target, _, p invokeConfigProperties) error {
	return l.configure(ctx, t, p)
}

func (l lambdaProvider) unconfigure(ctx context.Context, _ *target, p invokeConfigProperties) error {
	_, err := l.api.DeleteFunctionEventInvokeConfig(ctx, &lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: aws.String(p.FunctionName), Qualifier: scope.Optional(p.Qualifier)})
	return ignoreMissing(err)
}

func (l lambdaProvider) addPermission(ctx context.Context, t *target, p permissionProperties) error {
	id := t.physicalName(100)
	_, err := l.api.AddPermission(ctx, &lambda.AddPermissionInput{
		StatementId: aws.String(id), Action: aws.String(p.Action), FunctionName: aws.String(p.FunctionName), Principal: aws.String(p.Principal),
		SourceArn: p.SourceArn, SourceAccount: p.SourceAccount, PrincipalOrgID: p.PrincipalOrgID,
		FunctionUrlAuthType: p.FunctionURLAuthType, InvokedViaFunctionUrl: p.InvokedViaFunctionURL,
	})
	if err != nil {
		return err
	}
	t.PhysicalID = id
	t.set("Id", id)
	return nil
}

func (l lambdaProvider) removePermission(ctx context.Context, t *target, p permissionProperties) error {
	_, err := l.api.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: aws.String(p.FunctionName), StatementId: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}

// createURL makes a function URL, whose Ref is the function's ARN.
func (l lambdaProvider) createURL(ctx context.Context, t *target, p urlProperties) error {
	out, err := l.api.CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{
		FunctionName: aws.String(p.Function), Qualifier: scope.Optional(p.Qualifier), AuthType: p.AuthType, InvokeMode: p.InvokeMode, Cors: p.Cors,
	})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.FunctionArn)
	t.set("FunctionArn", t.PhysicalID)
	t.set("FunctionUrl", aws.ToString(out.FunctionUrl))
	return nil
}

func (l lambdaProvider) updateURL(ctx context.Context, _ *target, _, p urlProperties) error {
	_, err := l.api.UpdateFunctionUrlConfig(ctx, &lambda.UpdateFunctionUrlConfigInput{
		FunctionName: aws.String(p.Function), Qualifier: scope.Optional(p.Qualifier), AuthType: p.AuthType, InvokeMode: p.InvokeMode, Cors: p.Cors,
	})
	return err
}

func (l lambdaProvider) deleteURL(ctx context.Context, _ *target, p urlProperties) error {
	_, err := l.api.DeleteFunctionUrlConfig(ctx, &lambda.DeleteFunctionUrlConfigInput{FunctionName: aws.String(p.Function), Qualifier: scope.Optional(p.Qualifier)})
	return ignoreMissing(err)
}

type machineProperties struct {
	StateMachineName        string
	StateMachineType        sfntypes.StateMachineType
	DefinitionString        string
	Definition              document
	DefinitionSubstitutions map[string]string
	RoleArn                 string
	LoggingConfiguration    *sfntypes.LoggingConfiguration
	TracingConfiguration    *sfntypes.TracingConfiguration
	Tags                    []tag
}

// definition returns the machine's definition after substitution.
func (p machineProperties) definition() *string {
	text := p.DefinitionString
	if text == "" {
		text = string(p.Definition)
	}
	for _, name := range sortedKeys(p.DefinitionSubstitutions) {
		quoted, _ := json.Marshal(p.DefinitionSubstitutions[name]) // a text
		text = strings.ReplaceAll(text, "${"+name+"}", string(quoted[1:len(quoted)-1]))
	}
	return &text
}

func statesKinds(api StateMachines) map[string]kind {
	p := statesProvider{api}
	return map[string]kind{
		"AWS::StepFunctions::StateMachine": of(changer[machineProperties]{
			create: p.create, update: p.update, remove: p.delete, replace: []string{"StateMachineName", "StateMachineType"},
		}),
	}
}

type statesProvider struct{ api StateMachines }

func sfnTags(tags map[string]string) []sfntypes.Tag {
	var out []sfntypes.Tag
	for _, key := range sortedKeys(tags) {
		out = append(out, sfntypes.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}

func (s statesProvider) create(ctx context.Context, t *target, p machineProperties) error {
	name := p.StateMachineName
	if name == "" {
		name = t.physicalName(80)
	}
	out, err := s.api.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
		Name: aws.String(name), Type: p.StateMachineType, Definition: p.definition(), RoleArn: aws.String(p.RoleArn),
		LoggingConfiguration: p.LoggingConfiguration, TracingConfiguration: p.TracingConfiguration, Tags: sfnTags(t.tags(p.Tags)),
	})
	if err != nil {
		return err
	}
	t.PhysicalID = aws.ToString(out.StateMachineArn)
	t.set("Arn", t.PhysicalID)
	t.set("Name", name)
	t.set("StateMachineRevisionId", "INITIAL")
	return nil
}

func (s statesProvider) update(ctx context.Context, t *target, old, p machineProperties) error {
	out, err := s.api.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{
		StateMachineArn: aws.String(t.PhysicalID), Definition: p.definition(), RoleArn: aws.String(p.RoleArn),
		LoggingConfiguration: p.LoggingConfiguration, TracingConfiguration: p.TracingConfiguration,
	})
	if err != nil {
		return err
	}
	t.set("StateMachineRevisionId", aws.ToString(out.RevisionId))
	before, after := t.tags(old.Tags), t.tags(p.Tags)
	if gone := without(before, after); len(gone) > 0 {
		if _, err := s.api.UntagResource(ctx, &sfn.UntagResourceInput{ResourceArn: aws.String(t.PhysicalID), TagKeys: gone}); err != nil {
			return err
		}
	}
	if len(after) == 0 {
		return nil
	}
	_, err = s.api.TagResource(ctx, &sfn.TagResourceInput{ResourceArn: aws.String(t.PhysicalID), Tags: sfnTags(after)})
	return err
}

func (s statesProvider) delete(ctx context.Context, t *target, _ machineProperties) error {
	_, err := s.api.DeleteStateMachine(ctx, &sfn.DeleteStateMachineInput{StateMachineArn: aws.String(t.PhysicalID)})
	return ignoreMissing(err)
}
