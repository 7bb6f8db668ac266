package lambdafn

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/inspector"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/userdata"
)

const (
	// The state machine retries too, so a function only needs to retry for a short
	// time.
	maxAttempts = 4
	maxBackoff  = 5 * time.Second
)

// Environment holds everything from which a function is made.
type Environment struct {
	Config
	AWS aws.Config
	// Output receives metrics, as lines that CloudWatch Logs reads.
	Output io.Writer
}

// NewEnvironment reads configuration and AWS credentials of the process.
func NewEnvironment(ctx context.Context, getenv func(string) string) (Environment, error) {
	c, err := LoadConfig(getenv)
	if err != nil {
		return Environment{}, err
	}
	// AWS_ENDPOINT_URL and AWS_REGION are read by the SDK itself.
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRetryer(Retryer))
	if err != nil {
		return Environment{}, fmt.Errorf("load the AWS configuration: %w", err)
	}
	return Environment{Config: c, AWS: cfg, Output: os.Stdout}, nil
}

// Retryer slows down when AWS throttles, and gives up early. It does not retry
// missing capacity, which EC2 answers with a 5xx status: Launch tries other
// types and zones, and waiting before each of them would cost minutes.
func Retryer() aws.Retryer {
	return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(s *retry.StandardOptions) {
			s.MaxAttempts = maxAttempts
			s.MaxBackoff = maxBackoff
			s.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				if awserr.Classify(err, failure.Internal) == failure.CapacityUnavailable {
					return aws.FalseTernary
				}
				return aws.UnknownTernary
			})}, s.Retryables...)
		})
	})
}

// EC2 returns a client for a region. Clients are cheap and share connections.
func (e Environment) EC2(region string) *ec2.Client {
	return ec2.NewFromConfig(e.AWS, func(o *ec2.Options) { o.Region = region })
}

// EBS returns a client for a region.
func (e Environment) EBS(region string) *ebs.Client {
	return ebs.NewFromConfig(e.AWS, func(o *ebs.Options) { o.Region = region })
}

// Inspector returns a client for the home region.
func (e Environment) Inspector() inspector.Client {
	return inspector.Client{Config: e.AWS, DualStack: e.DualStack}
}

// KMS returns a client for the home region.
func (e Environment) KMS() *kms.Client { return kms.NewFromConfig(e.AWS) }

// SSM returns a client for a region.
func (e Environment) SSM(region string) *ssm.Client {
	return ssm.NewFromConfig(e.AWS, func(o *ssm.Options) { o.Region = region })
}

// Targets returns a function that makes SSM clients by account and region. An
// empty account is the factory's own. For another account, the client assumes
// its target role at the first call, once for all regions.
func (e Environment) Targets() func(account, region string) *ssm.Client {
	var mu sync.Mutex
	assumed := map[string]aws.CredentialsProvider{}
	return func(account, region string) *ssm.Client {
		if account == "" {
			return e.SSM(region)
		}
		mu.Lock()
		defer mu.Unlock()
		if assumed[account] == nil {
			assumed[account] = e.assume(account)
		}
		return ssm.NewFromConfig(e.AWS, func(o *ssm.Options) { o.Region, o.Credentials = region, assumed[account] })
	}
}

// assume returns the credentials of an account's target role. The external id
// keeps others from using the factory's access
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_common-scenarios_third-party.html).
func (e Environment) assume(account string) aws.CredentialsProvider {
	if e.TargetRole == "" {
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, failure.New(failure.AccessDenied, "the function's environment lacks %s; deploy the factory with account %s in the context targetAccounts", contract.EnvTargetRole, account)
		})
	}
	arn := strings.Replace(e.TargetRole, "*", account, 1)
	return aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(e.AWS), arn, func(o *stscreds.AssumeRoleOptions) {
		o.ExternalID, o.RoleSessionName = &e.ExternalID, "ami-factory"
	}))
}

// Store returns the factory's bucket, for functions that presign no URLs. It has
// a cache, which lives as long as the function's process.
func (e Environment) Store() store.Store {
	return store.Store{Bucket: e.Bucket, API: e.s3(e.Endpoint), Cache: &store.Cache{}}
}

// PresigningStore returns the factory's bucket, with presigned URLs for guests.
func (e Environment) PresigningStore() store.Store {
	s := e.Store()
	endpoint := e.GuestEndpoint
	if endpoint == "" {
		endpoint = e.Endpoint
	}
	s.Presign = s3.NewPresignClient(e.s3(endpoint))
	return s
}

// Directory is the keys of the factory's bucket.
func (e Environment) Directory() store.Directory {
	return store.Directory{Bucket: e.Bucket, API: e.s3(e.Endpoint)}
}

func (e Environment) s3(endpoint string) *s3.Client {
	return s3.NewFromConfig(e.AWS, func(o *s3.Options) {
		o.Region = e.Region
		// A guest uploads with plain curl, so no checksum may be signed.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
			o.UsePathStyle = true
		}
	})
}

// Files returns the files that go into images: the reviewed copy in the
// binary, or a directory in a rehearsal. Components are decoded once as long as their
// files stay the same.
func (e Environment) Files() fs.FS {
	if e.UserDataDir != "" {
		return component.Remember(os.DirFS(e.UserDataDir))
	}
	return component.Remember(userdata.FS)
}
