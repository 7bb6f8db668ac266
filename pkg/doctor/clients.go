package doctor

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// clients are the SDK's, made where a check is wired to what it reads with.
// Those that take a region are asked about others than the factory's too.
type clients struct{ cfg aws.Config }

func (c clients) ec2(region string) *ec2.Client {
	return ec2.NewFromConfig(c.cfg, func(o *ec2.Options) { o.Region = region })
}

func (c clients) kms(region string) *kms.Client {
	return kms.NewFromConfig(c.cfg, func(o *kms.Options) { o.Region = region })
}

func (c clients) quotas(region string) *servicequotas.Client {
	return servicequotas.NewFromConfig(c.cfg, func(o *servicequotas.Options) { o.Region = region })
}

func (c clients) sns(region string) *sns.Client {
	return sns.NewFromConfig(c.cfg, func(o *sns.Options) { o.Region = region })
}

func (c clients) eventsIn(region string) *eventbridge.Client {
	return eventbridge.NewFromConfig(c.cfg, func(o *eventbridge.Options) { o.Region = region })
}

func (c clients) s3() *s3.Client {
	// An endpoint of one's own rarely has a name for each bucket.
	return s3.NewFromConfig(c.cfg, func(o *s3.Options) { o.UsePathStyle = o.BaseEndpoint != nil })
}

func (c clients) states() *sfn.Client             { return sfn.NewFromConfig(c.cfg) }
func (c clients) lambda() *lambda.Client          { return lambda.NewFromConfig(c.cfg) }
func (c clients) events() *eventbridge.Client     { return eventbridge.NewFromConfig(c.cfg) }
func (c clients) scheduler() *scheduler.Client    { return scheduler.NewFromConfig(c.cfg) }
func (c clients) sqs() *sqs.Client                { return sqs.NewFromConfig(c.cfg) }
func (c clients) ssm() *ssm.Client                { return ssm.NewFromConfig(c.cfg) }
func (c clients) iam() *iam.Client                { return iam.NewFromConfig(c.cfg) }
func (c clients) sts() *sts.Client                { return sts.NewFromConfig(c.cfg) }
func (c clients) secrets() *secretsmanager.Client { return secretsmanager.NewFromConfig(c.cfg) }
