package factory

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
)

// StorageProps say for how long the bucket keeps what.
type StorageProps struct {
	WorkDays       int    // what is of no use once the executions and events that it serves are over
	NoncurrentDays int    // what was overwritten or deleted
	EvidenceYears  int    // reports, results, consoles and journals of executions
	AccessLogs     string // None, New, or the name of a bucket
}

// accessLogPrefix begins the names of access logs.
const accessLogPrefix = "ami-factory/"

func newBucket(scope constructs.Construct, props StorageProps, key awskms.IKey) awss3.Bucket {
	p := &awss3.BucketProps{
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		ObjectOwnership:   awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		Encryption:        awss3.BucketEncryption_S3_MANAGED,
		EnforceSSL:        jsii.Bool(true),
		Versioned:         jsii.Bool(true),
		LifecycleRules:    lifecycle(props),
		// Reports are evidence: they outlive the stack.
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	}
	if key != nil {
		// A bucket key asks KMS once for many objects.
		p.Encryption, p.EncryptionKey, p.BucketKeyEnabled = awss3.BucketEncryption_KMS, key, jsii.Bool(true)
	}
	bucket := awss3.NewBucket(scope, jsii.String("Bucket"), p)
	notifyEventBridge(bucket)
	switch props.AccessLogs {
	case None:
		except(bucket, exception{rule: "AwsSolutions-S1", reason: "Access logs are the operator's choice (context accessLogs): CloudTrail's data events have the same, and nobody but the functions' roles reads the bucket."})
	case New:
		logTo(bucket, newAccessLogs(scope, props, bucket).BucketName())
	default: // whose policy has to let S3 write, as its owner's affair
		logTo(bucket, &props.AccessLogs)
	}
	return bucket
}

// logTo has S3 log accesses to another bucket. The construct's own way grants
// that by an access list, for which ownership would not be enforced.
func logTo(bucket awss3.Bucket, name *string) {
	rawOf(bucket).SetLoggingConfiguration(&awss3.CfnBucket_LoggingConfigurationProperty{DestinationBucketName: name, LogFilePrefix: jsii.String(accessLogPrefix)})
}

// notifyEventBridge has S3 send events, of which the rules take what guests upload.
// The construct's own way adds a function that may change all buckets' notifications.
func notifyEventBridge(bucket awss3.Bucket) {
	rawOf(bucket).SetNotificationConfiguration(&awss3.CfnBucket_NotificationConfigurationProperty{
		EventBridgeConfiguration: &awss3.CfnBucket_EventBridgeConfigurationProperty{EventBridgeEnabled: jsii.Bool(true)},
	})
}

// rawOf is the bucket as CloudFormation has it.
func rawOf(bucket awss3.Bucket) awss3.CfnBucket {
	raw, ok := bucket.Node().DefaultChild().(awss3.CfnBucket)
	if !ok {
		panic("a bucket is made of something else than a bucket")
	}
	return raw
}

func lifecycle(props StorageProps) *[]*awss3.LifecycleRule {
	rules := []*awss3.LifecycleRule{{
		Id:                                  jsii.String("what is no more"),
		NoncurrentVersionExpiration:         awscdk.Duration_Days(jsii.Number(props.NoncurrentDays)),
		AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(blueprint.MultipartDays)),
	}}
	for _, l := range blueprint.Lifetimes(blueprint.StorageSettings{WorkDays: props.WorkDays, EvidenceYears: props.EvidenceYears}) {
		if l.Days > 0 {
			rule := &awss3.LifecycleRule{Id: &l.Name, Prefix: &l.Prefix, Expiration: awscdk.Duration_Days(jsii.Number(l.Days))}
			if l.NoncurrentDays > 0 {
				rule.NoncurrentVersionExpiration = awscdk.Duration_Days(jsii.Number(l.NoncurrentDays))
			}
			rules = append(rules, rule)
		}
	}
	return &rules
}

// newAccessLogs holds the log of who read the bucket, for as long as evidence is
// kept. S3 delivers it only where S3's own key encrypts.
func newAccessLogs(scope constructs.Construct, props StorageProps, of awss3.Bucket) awss3.Bucket {
	logs := awss3.NewBucket(scope, jsii.String("AccessLogs"), &awss3.BucketProps{
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(),
		ObjectOwnership:   awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		Encryption:        awss3.BucketEncryption_S3_MANAGED,
		EnforceSSL:        jsii.Bool(true),
		Versioned:         jsii.Bool(true),
		LifecycleRules: &[]*awss3.LifecycleRule{{
			Id:                                  jsii.String("logs"),
			Expiration:                          awscdk.Duration_Days(jsii.Number(props.WorkDays)),
			NoncurrentVersionExpiration:         awscdk.Duration_Days(jsii.Number(props.NoncurrentDays)),
			AbortIncompleteMultipartUploadAfter: awscdk.Duration_Days(jsii.Number(blueprint.MultipartDays)),
		}},
		RemovalPolicy: awscdk.RemovalPolicy_RETAIN,
	})
	logs.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: jsii.String("AccessLogs"), Actions: jsii.Strings("s3:PutObject"), Resources: &[]*string{logs.ArnForObjects(jsii.String(accessLogPrefix + "*"))},
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("logging.s3.amazonaws.com"), nil)},
		Conditions: &map[string]any{
			"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Stack_Of(scope).Account()},
			"ArnLike":      map[string]any{"aws:SourceArn": of.BucketArn()},
		},
	}))
	except(logs, exception{rule: "AwsSolutions-S1", reason: "A bucket of access logs cannot log into itself without end."})
	return logs
}
