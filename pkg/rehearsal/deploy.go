package rehearsal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	lambdaapi "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/functions"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/stage"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Names of what is deployed.
const (
	prefix = "ami-factory-"

	topicName = "ami-factory-executions"
	keyAlias  = "alias/ami-factory" // in every region, for recipes to name
)

// deploy makes what infra/ would make on AWS. To do so again updates it.
func (f *Factory) deploy(ctx context.Context) error {
	cloud := f.Cloud
	f.Bucket = bucketName(cloud)
	if err := f.deployBucket(ctx, f.Bucket); err != nil {
		return err
	}
	if err := f.deployLifetimes(ctx, f.Bucket); err != nil {
		return err
	}
	_, err := f.s3().PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
		Bucket: &f.Bucket, NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
	})
	if err != nil {
		return fmt.Errorf("notifications of the bucket: %w", err)
	}
	engine, err := f.deployEngine(ctx)
	if err != nil {
		return err
	}
	if err := f.deployKeys(ctx); err != nil {
		return err
	}
	if err := f.deploySecrets(ctx); err != nil {
		return err
	}
	topic, err := cloud.SNS.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String(topicName)})
	if err != nil {
		return fmt.Errorf("topic: %w", err)
	}
	if err := f.deployRoles(ctx, engine, aws.ToString(topic.TopicArn)); err != nil {
		return err
	}
	f.StateMachine = fmt.Sprintf("arn:aws:states:%s:%s:stateMachine:%s", cloud.Region(), cloud.Account(), workflow.MachineName)
	if err := f.deployFunctions(f.settings(engine, aws.ToString(topic.TopicArn))); err != nil {
		return err
	}
	if err := f.deployMachine(ctx); err != nil {
		return err
	}
	return f.deployTriggers(ctx)
}

func (f *Factory) deployBucket(ctx context.Context, name string) error {
	_, err := f.Cloud.S3.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket:                    &name,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(f.Cloud.Region())},
	})
	if err != nil && !awserr.Is(err, "BucketAlreadyOwnedByYou") {
		return fmt.Errorf("bucket: %w", err)
	}
	// As on AWS; and a version that was written last is all that a killed run
	// may lose, not the one before it too.
	_, err = f.s3().PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket: &name, VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		return fmt.Errorf("versions of the bucket: %w", err)
	}
	return nil
}

// s3 is a client for what the bucket's simple interface does not do.
func (f *Factory) s3() *s3.Client {
	return s3.NewFromConfig(f.Cloud.AWSConfig(""), func(o *s3.Options) { o.UsePathStyle = true })
}

// deployLifetimes gives the bucket the lifecycle rules that it has on AWS. The
// embedded S3 keeps them, and removes nothing by them.
func (f *Factory) deployLifetimes(ctx context.Context, bucket string) error {
	var rules []s3types.LifecycleRule
	for _, l := range blueprint.Lifetimes(blueprint.DefaultStorage()) {
		if l.Days > 0 {
			rule := s3types.LifecycleRule{
				ID: &l.Name, Status: s3types.ExpirationStatusEnabled, Filter: &s3types.LifecycleRuleFilter{Prefix: &l.Prefix},
				Expiration: &s3types.LifecycleExpiration{Days: aws.Int32(int32(l.Days))},
			}
			if l.NoncurrentDays > 0 {
				rule.NoncurrentVersionExpiration = &s3types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(int32(l.NoncurrentDays))}
			}
			rules = append(rules, rule)
		}
	}
	_, err := f.s3().PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &bucket, LifecycleConfiguration: &s3types.BucketLifecycleConfiguration{Rules: rules},
	})
	if err != nil {
		return fmt.Errorf("lifecycle rules of the bucket: %w", err)
	}
	return nil
}

// assets is the bucket of what is deployed, which on AWS is the CDK's.
func (f *Factory) assets() string {
	return prefix + "assets-" + f.Cloud.Account() + "-" + f.Cloud.Region()
}

// deployEngine uploads the check engine.
func (f *Factory) deployEngine(ctx context.Context) (program.Engine, error) {
	bucket := f.assets()
	if err := f.deployBucket(ctx, bucket); err != nil {
		return program.Engine{}, err
	}
	goss, err := os.ReadFile(f.opts.GossFile)
	if err != nil {
		return program.Engine{}, fmt.Errorf("check engine: %w", err)
	}
	sum := sha(goss)
	engine := program.Engine{Bucket: bucket, Key: "tools/goss-" + sum, SHA256: sum, Version: program.ModuleVersion(f.opts.GossFile, "github.com/goss-org/goss")}
	if _, err := f.Cloud.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &engine.Key}); err == nil {
		return engine, nil
	}
	_, err = f.Cloud.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &engine.Key, Body: bytes.NewReader(goss)})
	if err != nil {
		return program.Engine{}, fmt.Errorf("check engine: %w", err)
	}
	return engine, nil
}

// engines is what the functions read of the check engines. Real guests have this
// machine's processor; simulated ones are of every architecture and run none.
func (f *Factory) engines(engine program.Engine) string {
	all := program.Engines{program.AWS(runtime.GOARCH): engine}
	if f.opts.Guests == vm.Simulated {
		all["x86_64"], all["arm64"] = engine, engine
	}
	raw, _ := json.Marshal(all) // texts marshal
	return string(raw)
}

// deployKeys makes a customer key with the same alias in every region, which the
// accounts that recipes share their images with may use.
func (f *Factory) deployKeys(ctx context.Context) error {
	regions, err := f.Cloud.EC2.DescribeRegions(ctx, &ec2api.DescribeRegionsInput{})
	if err != nil {
		return err
	}
	policy, err := keyPolicy(f.Cloud.Account(), f.sharedWith())
	if err != nil {
		return err
	}
	for _, r := range regions.Regions {
		region := aws.ToString(r.RegionName)
		if err := f.deployKey(wire.WithCaller(ctx, wire.Caller{Account: f.Cloud.Account(), Region: region}), policy); err != nil {
			return fmt.Errorf("key in %s: %w", region, err)
		}
	}
	return nil
}

// deployKey makes the key in one region, or gives it another policy.
func (f *Factory) deployKey(ctx context.Context, policy string) error {
	have, err := f.Cloud.KMS.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(keyAlias)})
	if err == nil {
		_, err = f.Cloud.KMS.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: have.KeyMetadata.KeyId, Policy: &policy})
		return err
	}
	key, err := f.Cloud.KMS.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("AMI factory images"), Policy: &policy})
	if err != nil {
		return err
	}
	_, err = f.Cloud.KMS.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(keyAlias), TargetKeyId: key.KeyMetadata.KeyId})
	return err
}

// keyPolicy leaves the key to the account's IAM policies, and lets other accounts
// launch what it encrypts
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html).
func keyPolicy(account string, others []string) (string, error) {
	root := func(accounts ...string) map[string]any {
		arns := []string{}
		for _, a := range accounts {
			arns = append(arns, "arn:aws:iam::"+a+":root")
		}
		return map[string]any{"AWS": arns}
	}
	statements := []map[string]any{{"Sid": "account", "Effect": "Allow", "Principal": root(account), "Action": "kms:*", "Resource": "*"}}
	if len(others) > 0 {
		statements = append(statements, map[string]any{
			"Sid": "launch", "Effect": "Allow", "Principal": root(others...), "Resource": "*",
			"Action": []string{"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey*", "kms:ReEncrypt*"},
		})
	}
	raw, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	return string(raw), err
}

func (f *Factory) deployFunctions(settings blueprint.Settings) error {
	var handlers map[string]lambdafn.Handler
	if f.opts.FunctionsDir == "" {
		var err error
		if handlers, err = f.inProcess(settings); err != nil {
			return err
		}
	}
	for _, fn := range blueprint.Functions() {
		made := lambda.Function{
			Name: prefix + fn.Name, Env: f.environmentOf(fn, settings), MemoryMiB: fn.MemoryMiB, Timeout: fn.Timeout,
			Role: f.roleARN(fn.Name),
		}
		if handler, ok := handlers[fn.Name]; ok {
			made.Handler = func(ctx context.Context, payload []byte) ([]byte, error) { return handler(ctx, payload) }
		} else {
			made.Dir = filepath.Join(f.opts.FunctionsDir, fn.Name)
		}
		if err := f.Cloud.Lambda.Deploy(made); err != nil {
			return fmt.Errorf("function %s: %w", fn.Name, err)
		}
	}
	return nil
}

// inProcess makes the functions' handlers for this process.
func (f *Factory) inProcess(settings blueprint.Settings) (map[string]lambdafn.Handler, error) {
	handlers := map[string]lambdafn.Handler{}
	makers := functions.All()
	for _, fn := range blueprint.Functions() {
		name := fn.Name
		maker, own := makers[name], f.environmentOf(fn, settings)
		cfg, err := lambdafn.LoadConfig(func(name string) string {
			if name == contract.EnvRegion {
				return f.Cloud.Region()
			}
			return own[name]
		})
		if err != nil {
			return nil, err
		}
		awsConfig := f.Cloud.AWSConfigOfRole("", f.roleARN(name), prefix+name)
		awsConfig.Retryer = lambdafn.Retryer
		handlers[name] = maker(lambdafn.Environment{Config: cfg, AWS: awsConfig, Output: f.Cloud.Lambda.Output(f.functionARN(name))})
	}
	return handlers, nil
}

func (f *Factory) deployMachine(ctx context.Context) error {
	definition := workflow.Substitute(workflow.Definition().JSON(), func(s workflow.Stage) string { return f.functionARN(string(s)) })
	role := f.roleARN(blueprint.MachineRoleName)
	_, err := f.Cloud.States.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{
		StateMachineArn: &f.StateMachine, Definition: &definition, RoleArn: &role,
	})
	if awserr.Is(err, "StateMachineDoesNotExist") {
		_, err = f.Cloud.States.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
			Name: aws.String(workflow.MachineName), Definition: &definition, RoleArn: &role,
		})
	}
	if err != nil {
		return fmt.Errorf("state machine: %w", err)
	}
	return nil
}

// recover runs the clean-up stage for executions that ended without it, since
// the process that ran them was killed.
func (f *Factory) recover(ctx context.Context) error {
	var errs []error
	pages := sfn.NewListExecutionsPaginator(f.Cloud.States, &sfn.ListExecutionsInput{
		StateMachineArn: &f.StateMachine, StatusFilter: sfntypes.ExecutionStatusAborted,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, e := range page.Executions {
			removed, err := f.Sweep(ctx, aws.ToString(e.ExecutionArn))
			if err != nil {
				errs = append(errs, fmt.Errorf("execution %s: %w", aws.ToString(e.Name), err))
			}
			f.Recovered = append(f.Recovered, removed...)
		}
	}
	return errors.Join(errs...)
}

// Sweep runs the clean-up stage for an execution that did not come to it, and
// returns what was removed.
func (f *Factory) Sweep(ctx context.Context, executionARN string) ([]string, error) {
	e, err := f.Cloud.States.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &executionARN})
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(map[string]any{
		"execution": map[string]any{"id": executionARN, "name": aws.ToString(e.Name), "startTime": e.StartDate},
		"stage":     "Cleanup", "now": f.opts.Clock.Now(), "outcome": "Failed",
		"error": "States.Aborted", "cause": "the execution was stopped before it ended", "plan": f.planOf(ctx, executionARN),
	})
	if err != nil {
		return nil, err
	}
	var result stage.CleanupOutput
	for attempt := 1; ; attempt++ {
		again, err := f.cleanUp(ctx, payload, &result)
		if err == nil {
			break
		}
		if !again || attempt == sweepAttempts {
			return nil, err
		}
		if err := f.opts.Clock.Sleep(ctx, time.Duration(attempt)*time.Second); err != nil {
			return nil, err
		}
	}
	if len(result.Left) > 0 {
		return result.Removed, fmt.Errorf("left behind: %v", result.Left)
	}
	return result.Removed, nil
}

// sweepAttempts is how often Sweep asks when what is left may go a moment
// later, as the state machine does.
const sweepAttempts = 6

// cleanUp invokes the clean-up stage once. again says that another attempt may
// do better.
func (f *Factory) cleanUp(ctx context.Context, payload []byte, result *stage.CleanupOutput) (again bool, err error) {
	out, err := f.Cloud.Lambda.Invoke(ctx, &lambdaapi.InvokeInput{
		FunctionName: aws.String(f.functionARN(string(workflow.Cleanup))), Payload: payload,
	})
	if err != nil {
		return false, err
	}
	if out.FunctionError == nil {
		return false, json.Unmarshal(out.Payload, result)
	}
	var failed struct{ ErrorType, ErrorMessage string }
	if err := json.Unmarshal(out.Payload, &failed); err != nil {
		return false, fmt.Errorf("clean-up failed: %s", out.Payload)
	}
	return failed.ErrorType == string(failure.CleanupIncomplete), fmt.Errorf("clean-up failed: %s: %s", failed.ErrorType, failed.ErrorMessage)
}

func (f *Factory) functionARN(name string) string {
	return fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s%s", f.Cloud.Region(), f.Cloud.Account(), prefix, name)
}
