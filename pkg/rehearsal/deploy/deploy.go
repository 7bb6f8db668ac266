// Package deploy deploys the factory into an embedded AWS, as infra/ does on AWS: what
// pkg/blueprint says, by the services' own calls.
package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/functions"
	"github.com/ami-factory/ami-factory/pkg/guest"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Names of what is deployed.
const (
	prefix = "ami-factory-"

	topicName = "ami-factory-executions"
	keyAlias  = "alias/ami-factory" // in every region, for recipes to name
)

// Options say what is deployed, and what only a rehearsal tells functions.
type Options struct {
	// FunctionsDir holds <function>/bootstrap, the functions' programs. Empty: they
	// run in this process.
	FunctionsDir string
	// GossFile is the check engine.
	GossFile string
	// Guests describes the guests. Simulated ones are of every architecture.
	Guests    string
	Simulated bool
	// Endpoint is the address of the embedded AWS.
	Endpoint string
	// UserData goes into images; UserDataDir is where it is, or empty where it is the
	// copy in the functions' programs.
	UserData    fs.FS
	UserDataDir string
	// Parameters of components, for all recipes.
	Parameters component.Deployment
	// Agents: secrets that vendors' agents start with are made.
	Agents bool
	// Schedules are active.
	Schedules bool
	// OnDemandFindings and FindingProducts say whose findings start builds in addition
	// to those of Amazon Inspector.
	OnDemandFindings bool
	FindingProducts  []string
	InspectorScan    bool // recipes may have Amazon Inspector scan what is installed
	SecurityHub      bool // findings are sent to Security Hub, which is enabled
	Version          string
	Clock            clock.Clock
}

// Deployment is a factory in an embedded AWS.
type Deployment struct {
	Bucket       string
	StateMachine string // ARN
	DeadLetters  string // address of the queue of what the triggers could not do

	// ApprovalURL is where people approve releases, in a session of the role Approver
	// that is named after them.
	ApprovalURL string
	Approver    string // ARN

	SigningKey string // ARN of the key that signs evidence

	cloud *localcloud.Cloud
	opts  Options
}

// Deploy makes what infra/ makes on AWS. To do so again updates it.
func Deploy(ctx context.Context, cloud *localcloud.Cloud, opts Options) (*Deployment, error) {
	d := &Deployment{cloud: cloud, opts: opts}
	return d, d.deploy(ctx)
}

// Prepare makes what a deployment by the CDK finds on AWS: what `cdk bootstrap` made,
// the topics of base images' owners, and the keys and secrets that operators make.
func Prepare(ctx context.Context, cloud *localcloud.Cloud, opts Options) error {
	d := &Deployment{cloud: cloud, opts: opts}
	if err := cloud.Bootstrap(ctx, "", ""); err != nil {
		return err
	}
	if err := d.provideTopics(ctx); err != nil {
		return err
	}
	if opts.Schedules {
		cloud.Scheduler.Start()
	}
	if err := d.deployKeys(ctx); err != nil {
		return err
	}
	return d.deploySecrets(ctx)
}

// BucketName is that of the factory's bucket.
func BucketName(cloud *localcloud.Cloud) string {
	return prefix + cloud.Account() + "-" + cloud.Region()
}

func (d *Deployment) deploy(ctx context.Context) error {
	cloud := d.cloud
	d.Bucket = BucketName(cloud)
	if err := d.deployBucket(ctx, d.Bucket); err != nil {
		return err
	}
	if err := d.deployLifetimes(ctx, d.Bucket); err != nil {
		return err
	}
	_, err := d.s3().PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{
		Bucket: &d.Bucket, NotificationConfiguration: &s3types.NotificationConfiguration{EventBridgeConfiguration: &s3types.EventBridgeConfiguration{}},
	})
	if err != nil {
		return fmt.Errorf("notifications of the bucket: %w", err)
	}
	engine, err := d.deployEngine(ctx)
	if err != nil {
		return err
	}
	if err := d.deployKeys(ctx); err != nil {
		return err
	}
	if err := d.deploySecrets(ctx); err != nil {
		return err
	}
	if d.opts.SecurityHub {
		if _, err := cloud.SecurityHub.EnableSecurityHub(ctx, &securityhub.EnableSecurityHubInput{}); err != nil && !awserr.Is(err, "ResourceConflictException") {
			return fmt.Errorf("enable Security Hub: %w", err)
		}
	}
	topic, err := cloud.SNS.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String(topicName)})
	if err != nil {
		return fmt.Errorf("topic: %w", err)
	}
	if err := d.deploySigningKey(ctx); err != nil {
		return err
	}
	if err := guest.StoreDocument(ctx, cloud.SSM); err != nil {
		return err
	}
	if err := d.deployRoles(ctx, engine, aws.ToString(topic.TopicArn)); err != nil {
		return err
	}
	d.StateMachine = d.arn("states", cloud.Region(), "stateMachine:"+workflow.MachineName)
	if err := d.deployFunctions(d.settings(engine, aws.ToString(topic.TopicArn))); err != nil {
		return err
	}
	if err := d.deployDoor(ctx); err != nil {
		return err
	}
	if err := d.deployMachine(ctx); err != nil {
		return err
	}
	return d.deployTriggers(ctx)
}

func (d *Deployment) deployBucket(ctx context.Context, name string) error {
	_, err := d.cloud.S3.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket:                    &name,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(d.cloud.Region())},
	})
	if err != nil && !awserr.Is(err, "BucketAlreadyOwnedByYou") {
		return fmt.Errorf("bucket: %w", err)
	}
	// As on AWS; and a version that was written last is all that a killed run
	// may lose, not the one before it too.
	_, err = d.s3().PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{
		Bucket: &name, VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled},
	})
	if err != nil {
		return fmt.Errorf("versions of the bucket: %w", err)
	}
	return nil
}

// s3 is a client for what the bucket's simple interface does not do.
func (d *Deployment) s3() *s3.Client {
	return s3.NewFromConfig(d.cloud.AWSConfig(""), func(o *s3.Options) { o.UsePathStyle = true })
}

// deployLifetimes gives the bucket the lifecycle rules that it has on AWS. The
// embedded S3 keeps them, and removes nothing by them.
func (d *Deployment) deployLifetimes(ctx context.Context, bucket string) error {
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
	_, err := d.s3().PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &bucket, LifecycleConfiguration: &s3types.BucketLifecycleConfiguration{Rules: rules},
	})
	if err != nil {
		return fmt.Errorf("lifecycle rules of the bucket: %w", err)
	}
	return nil
}

// assets is the bucket of what is deployed, which on AWS is the CDK's.
func (d *Deployment) assets() string {
	return prefix + "assets-" + d.cloud.Account() + "-" + d.cloud.Region()
}

// deployEngine uploads the check engine.
func (d *Deployment) deployEngine(ctx context.Context) (program.Engine, error) {
	bucket := d.assets()
	if err := d.deployBucket(ctx, bucket); err != nil {
		return program.Engine{}, err
	}
	goss, err := os.ReadFile(d.opts.GossFile)
	if err != nil {
		return program.Engine{}, fmt.Errorf("check engine: %w", err)
	}
	digest := sha256.Sum256(goss)
	sum := hex.EncodeToString(digest[:])
	engine := program.Engine{Bucket: bucket, Key: "tools/goss-" + sum, SHA256: sum, Version: program.ModuleVersion(d.opts.GossFile, "github.com/goss-org/goss")}
	if _, err := d.cloud.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: &engine.Key}); err == nil {
		return engine, nil
	}
	_, err = d.cloud.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &engine.Key, Body: bytes.NewReader(goss)})
	if err != nil {
		return program.Engine{}, fmt.Errorf("check engine: %w", err)
	}
	return engine, nil
}

// engines is what the functions read of the check engines. Real guests have this
// machine's processor; simulated ones are of every architecture and run none.
func (d *Deployment) engines(engine program.Engine) string {
	all := program.Engines{program.AWS(runtime.GOARCH): engine}
	if d.opts.Simulated {
		all["x86_64"], all["arm64"] = engine, engine
	}
	raw, _ := json.Marshal(all) // texts marshal
	return string(raw)
}

// deployKeys makes a customer key with the same alias in every region, which the
// accounts that recipes share their images with may use.
func (d *Deployment) deployKeys(ctx context.Context) error {
	regions, err := d.cloud.EC2.DescribeRegions(ctx, &ec2api.DescribeRegionsInput{})
	if err != nil {
		return err
	}
	policy, err := keyPolicy(d.partition(), d.cloud.Account(), d.sharedWith())
	if err != nil {
		return err
	}
	for _, r := range regions.Regions {
		region := aws.ToString(r.RegionName)
		if err := d.deployKey(wire.WithCaller(ctx, wire.Caller{Account: d.cloud.Account(), Region: region}), policy); err != nil {
			return fmt.Errorf("key in %s: %w", region, err)
		}
	}
	return nil
}

// deployKey makes the key in one region, or gives it another policy.
func (d *Deployment) deployKey(ctx context.Context, policy string) error {
	have, err := d.cloud.KMS.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(keyAlias)})
	if err == nil {
		_, err = d.cloud.KMS.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: have.KeyMetadata.KeyId, Policy: &policy})
		return err
	}
	key, err := d.cloud.KMS.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("AMI factory images"), Policy: &policy})
	if err != nil {
		return err
	}
	_, err = d.cloud.KMS.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(keyAlias), TargetKeyId: key.KeyMetadata.KeyId})
	return err
}

// keyPolicy leaves the key to the account's IAM policies, and lets other accounts
// launch what it encrypts
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html).
func keyPolicy(of partition.Partition, account string, others []string) (string, error) {
	root := func(accounts ...string) map[string]any {
		arns := []string{}
		for _, a := range accounts {
			arns = append(arns, of.ARN("iam", "", a, "root"))
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

func (d *Deployment) deployFunctions(settings blueprint.Settings) error {
	var handlers map[string]lambdafn.Handler
	if d.opts.FunctionsDir == "" {
		var err error
		if handlers, err = d.inProcess(settings); err != nil {
			return err
		}
	}
	for _, fn := range blueprint.Functions() {
		made := lambda.Function{
			Name: prefix + fn.Name, Env: d.environmentOf(fn, settings), MemoryMiB: fn.MemoryMiB, Timeout: fn.Timeout,
			Role: d.roleARN(fn.Name),
		}
		if handler, ok := handlers[fn.Name]; ok {
			made.Handler = func(ctx context.Context, payload []byte) ([]byte, error) { return handler(ctx, payload) }
		} else {
			made.Dir = filepath.Join(d.opts.FunctionsDir, fn.Name)
		}
		if err := d.cloud.Lambda.Deploy(made); err != nil {
			return fmt.Errorf("function %s: %w", fn.Name, err)
		}
	}
	return nil
}

// inProcess makes the functions' handlers for this process.
func (d *Deployment) inProcess(settings blueprint.Settings) (map[string]lambdafn.Handler, error) {
	handlers := map[string]lambdafn.Handler{}
	makers := functions.All()
	for _, fn := range blueprint.Functions() {
		name := fn.Name
		maker, own := makers[name], d.environmentOf(fn, settings)
		cfg, err := lambdafn.LoadConfig(func(name string) string {
			if name == contract.EnvRegion {
				return d.cloud.Region()
			}
			return own[name]
		})
		if err != nil {
			return nil, err
		}
		awsConfig := d.cloud.AWSConfigOfRole("", d.roleARN(name), prefix+name)
		awsConfig.Retryer = lambdafn.Retryer
		handlers[name] = maker(lambdafn.Environment{Config: cfg, AWS: awsConfig, Output: d.cloud.Lambda.Output(d.FunctionARN(name))})
	}
	return handlers, nil
}

func (d *Deployment) deployMachine(ctx context.Context) error {
	definition := workflow.Substitute([]byte(workflow.InPartition(workflow.Definition().JSON(), d.partition().ID)), func(s workflow.Stage) string { return d.FunctionARN(string(s)) })
	role := d.roleARN(blueprint.MachineRoleName)
	_, err := d.cloud.States.UpdateStateMachine(ctx, &sfn.UpdateStateMachineInput{
		StateMachineArn: &d.StateMachine, Definition: &definition, RoleArn: &role,
	})
	if awserr.Is(err, "StateMachineDoesNotExist") {
		_, err = d.cloud.States.CreateStateMachine(ctx, &sfn.CreateStateMachineInput{
			Name: aws.String(workflow.MachineName), Definition: &definition, RoleArn: &role,
		})
	}
	if err != nil {
		return fmt.Errorf("state machine: %w", err)
	}
	return nil
}

// partition is that of the home region.
func (d *Deployment) partition() partition.Partition { return partition.OrDefault(d.cloud.Region()) }

// arn is that of a resource of the factory's account; region is empty for services
// without regions.
func (d *Deployment) arn(service, region, resource string) string {
	return d.partition().ARN(service, region, d.cloud.Account(), resource)
}

// FunctionARN is that of a function of the factory.
func (d *Deployment) FunctionARN(name string) string {
	return d.arn("lambda", d.cloud.Region(), "function:"+prefix+name)
}

// environmentOf is the environment of a function: what it has on AWS, and what only
// a rehearsal sets.
func (d *Deployment) environmentOf(fn blueprint.Function, settings blueprint.Settings) map[string]string {
	env := fn.Environment(settings)
	env[contract.EnvGuests] = d.opts.Guests
	env[contract.EnvGuestEndpoint] = "http://" + guests.Host
	env[contract.EnvEndpoint] = d.opts.Endpoint
	if d.opts.UserDataDir != "" {
		env[contract.EnvUserDataDir] = d.opts.UserDataDir
	}
	return env
}

// settings are what the functions read from their environment on AWS too.
func (d *Deployment) settings(engine program.Engine, topic string) blueprint.Settings {
	out := blueprint.Settings{
		Bucket: d.Bucket, Topic: topic, InstanceProfile: builderProfile, Version: d.opts.Version, CheckEngines: d.engines(engine),
		Approvers: []string{d.roleARN(approverRole)}, SigningKey: d.SigningKey, StateMachine: d.StateMachine, AnnouncementTopics: blueprint.AnnouncementTopics(d.partition().ID), Findings: d.findings(), InspectorScan: d.opts.InspectorScan, SecurityHub: d.opts.SecurityHub,
	}
	if len(d.opts.Parameters) > 0 {
		raw, _ := json.Marshal(d.opts.Parameters) // maps of strings marshal
		out.Parameters = string(raw)
	}
	if len(d.targetAccounts()) > 0 {
		out.TargetRoles = func(name string) string { return blueprint.TargetRoleARN(d.partition().ID, "*", name) }
		out.TargetExternalID = externalID
	}
	return out
}

// sharedWith are the accounts that recipes share their images with, sorted.
func (d *Deployment) sharedWith() []string {
	return d.accounts(func(r *recipe.Recipe) []string { return r.Distribution.Accounts })
}

// targetAccounts are the accounts that recipes keep pointers in, sorted.
func (d *Deployment) targetAccounts() []string {
	return d.accounts(func(r *recipe.Recipe) []string { return r.Pointers.Accounts })
}

func (d *Deployment) accounts(of func(*recipe.Recipe) []string) []string {
	fsys := d.opts.UserData
	names, _ := recipe.Names(fsys)
	var accounts []string
	for _, name := range names {
		if r, _, err := recipe.Load(fsys, name, recipe.Options{Now: d.opts.Clock.Now()}); err == nil {
			accounts = append(accounts, of(r)...)
		}
	}
	slices.Sort(accounts)
	return slices.Compact(accounts)
}
