package localcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkecr "github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/cloudformation"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

func (c *Cloud) newCloudFormation(caller wire.Caller) *cloudformation.Service {
	return cloudformation.New(cloudformation.Config{
		Clock: c.cfg.Clock, Default: caller, Logger: c.cfg.Logger,
		Services: cloudformation.Services{
			IAM: c.IAM, Lambda: c.Lambda, States: c.States, Events: c.Events, Scheduler: c.Scheduler, SNS: c.SNS, SQS: c.SQS,
			S3:  func(account, region string) cloudformation.S3 { return c.s3Client(account, region) },
			KMS: c.KMS, SSM: c.SSM, Secrets: c.Secrets, EC2: c.EC2, ECR: c.ECR,
		},
	})
}

// s3Client is a client of S3 that needs no listener. Much of what S3 does for
// buckets is served over HTTP only.
func (c *Cloud) s3Client(account, region string) *sdks3.Client {
	return sdks3.NewFromConfig(c.AWSConfigInProcess(account, region), func(o *sdks3.Options) { o.UsePathStyle = true })
}

// functionEnvironment is the environment of functions' processes beside what Lambda
// sets: the address of AWS, which on AWS is not needed.
func (c *Cloud) functionEnvironment() map[string]string {
	out := map[string]string{}
	for name, value := range c.cfg.FunctionEnvironment {
		out[name] = value
	}
	if url := c.URL(); url != "" {
		out["AWS_ENDPOINT_URL"] = url
	}
	return out
}

// What `cdk bootstrap` makes, under the names that the CDK's default synthesizer
// expects (https://docs.aws.amazon.com/cdk/v2/guide/bootstrapping-env.html).
const (
	bootstrapQualifier = "hnb659fds"
	bootstrapVersion   = "30"
)

// Bootstrap makes what `cdk deploy` expects to find in an account and region, as
// `cdk bootstrap` would: the assets' bucket and repository, the version, and the roles. Empty
// means the default ones. What is there already stays.
func (c *Cloud) Bootstrap(ctx context.Context, account, region string) error {
	if account == "" {
		account = c.cfg.Account
	}
	if region == "" {
		region = c.cfg.Region
	}
	ctx = wire.WithCaller(ctx, wire.Caller{Account: account, Region: region, ARN: wire.RootARN(account, region)})
	bucket := fmt.Sprintf("cdk-%s-assets-%s-%s", bootstrapQualifier, account, region)
	if err := c.bootstrapBucket(ctx, bucket, account, region); err != nil {
		return fmt.Errorf("bootstrap %s/%s: bucket: %w", account, region, err)
	}
	parameter := "/cdk-bootstrap/" + bootstrapQualifier + "/version"
	if _, err := c.SSM.PutParameter(ctx, &sdkssm.PutParameterInput{
		Name: aws.String(parameter), Value: aws.String(bootstrapVersion), Type: ssmtypes.ParameterTypeString, Overwrite: aws.Bool(true),
	}); err != nil {
		return fmt.Errorf("bootstrap %s/%s: version: %w", account, region, err)
	}
	repository := fmt.Sprintf("cdk-%s-container-assets-%s-%s", bootstrapQualifier, account, region)
	if _, err := c.ECR.CreateRepository(ctx, &sdkecr.CreateRepositoryInput{
		RepositoryName: &repository, ImageTagMutability: ecrtypes.ImageTagMutabilityImmutable,
	}); err != nil && !errors.As(err, new(*ecrtypes.RepositoryAlreadyExistsException)) {
		return fmt.Errorf("bootstrap %s/%s: repository: %w", account, region, err)
	}
	roles := bootstrapRoles(account, region, bucket, repository, parameter)
	for name, statements := range roles {
		if err := c.bootstrapRole(ctx, account, region, name, statements); err != nil {
			return fmt.Errorf("bootstrap %s/%s: %s: %w", account, region, name, err)
		}
	}
	return nil
}

func (c *Cloud) bootstrapBucket(ctx context.Context, bucket, account, region string) error {
	client := c.s3Client(account, region)
	in := &sdks3.CreateBucketInput{Bucket: &bucket}
	if region != "us-east-1" {
		in.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(region)}
	}
	if _, err := c.S3.HeadBucket(ctx, &sdks3.HeadBucketInput{Bucket: &bucket}); err != nil {
		if _, err := client.CreateBucket(ctx, in); err != nil {
			return err
		}
	}
	_, err := client.PutBucketVersioning(ctx, &sdks3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &s3types.VersioningConfiguration{Status: s3types.BucketVersioningStatusEnabled},
	})
	return err
}

// bootstrapStatement is a statement of a policy.
type bootstrapStatement struct {
	Effect   string
	Action   []string
	Resource []string
}

func may(resource string, actions ...string) bootstrapStatement {
	return bootstrapStatement{Effect: "Allow", Action: actions, Resource: []string{resource}}
}

// bootstrapRoles are the roles that the CDK's command line assumes, and the one
// that it hands to CloudFormation, with what the bootstrap template gives them.
func bootstrapRoles(account, region, bucket, repository, parameter string) map[string][]bootstrapStatement {
	of := partition.OrDefault(region)
	bucketARN := of.ARN("s3", "", "", bucket)
	version := may(partition.ARN("ssm", region, account, "parameter"+parameter), "ssm:GetParameter", "ssm:GetParameters")
	return map[string][]bootstrapStatement{
		"deploy-role": {
			may("*", "cloudformation:*"), version, may("*", "sts:GetCallerIdentity"),
			may(of.ARN("iam", "", account, "role/"+bootstrapRoleName("cfn-exec-role", account, region)), "iam:PassRole"),
			may(bucketARN, "s3:GetBucket*", "s3:List*", "s3:GetEncryptionConfiguration"), may(bucketARN+"/*", "s3:GetObject*"),
		},
		"file-publishing-role": {
			may(bucketARN, "s3:GetBucket*", "s3:List*", "s3:GetEncryptionConfiguration"),
			may(bucketARN+"/*", "s3:GetObject*", "s3:PutObject*", "s3:Abort*", "s3:DeleteObject*"), version,
		},
		"image-publishing-role": {
			may(partition.ARN("ecr", region, account, "repository/"+repository), "ecr:PutImage", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload",
				"ecr:BatchCheckLayerAvailability", "ecr:DescribeRepositories", "ecr:DescribeImages", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
			may("*", "ecr:GetAuthorizationToken"),
		},
		"lookup-role": {
			may("*", "cloudformation:Describe*", "cloudformation:Get*", "cloudformation:List*", "ec2:Describe*", "ssm:Get*", "iam:Get*", "iam:List*", "s3:List*", "s3:GetBucket*"),
		},
		"cfn-exec-role": {may("*", "*")},
	}
}

func bootstrapRoleName(name, account, region string) string {
	return "cdk-" + bootstrapQualifier + "-" + name + "-" + account + "-" + region
}

func (c *Cloud) bootstrapRole(ctx context.Context, account, region, name string, statements []bootstrapStatement) error {
	principal := map[string]string{"AWS": wire.RootARN(account, region)}
	if name == "cfn-exec-role" {
		principal = map[string]string{"Service": cloudformation.Principal}
	}
	trust, err := json.Marshal(map[string]any{
		"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}},
	})
	if err != nil {
		return err
	}
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		return err
	}
	role := aws.String(bootstrapRoleName(name, account, region))
	if _, err := c.IAM.GetRole(ctx, &sdkiam.GetRoleInput{RoleName: role}); err != nil {
		if _, err := c.IAM.CreateRole(ctx, &sdkiam.CreateRoleInput{RoleName: role, AssumeRolePolicyDocument: aws.String(string(trust))}); err != nil {
			return err
		}
	}
	_, err = c.IAM.PutRolePolicy(ctx, &sdkiam.PutRolePolicyInput{
		RoleName: role, PolicyName: aws.String(strings.TrimSuffix(name, "-role")), PolicyDocument: aws.String(string(policy)),
	})
	return err
}
