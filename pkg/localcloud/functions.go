package localcloud

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdks3 "github.com/aws/aws-sdk-go-v2/service/s3"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

func (c *Cloud) newLambda(caller wire.Caller) *lambda.Service {
	return lambda.New(lambda.Config{
		Clock: c.cfg.Clock, Default: caller, Dir: filepath.Join(c.store.dir, "functions"),
		Credentials: c.functionCredentials, Assumable: c.assumable(lambda.Principal), Object: c.object, Destination: c.destination, Environment: c.functionEnvironment, Endpoint: c.URL,
		Life: functionSession*time.Second - renewal, Logger: c.cfg.Logger,
	})
}

// functionCredentials are what a function signs with: its role's, in a session
// that has the function's name. A function without a role acts as its account.
func (c *Cloud) functionCredentials(account, region, roleARN, function string) (lambda.Credentials, error) {
	if account == "" {
		account = c.cfg.Account
	}
	if roleARN == "" {
		k := c.Credentials(account)
		return lambda.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey}, nil
	}
	name := function
	if len(function) < 2 { // which is too short for AssumeRole
		function = "lambda-" + function
	}
	ctx := wire.WithCaller(context.Background(), wire.Caller{
		Account: account, Region: region, ARN: lambda.Principal, Source: partition.ARN("lambda", region, account, "function:"+name),
	})
	out, err := c.STS.AssumeRole(ctx, &sdksts.AssumeRoleInput{
		RoleArn: aws.String(roleARN), RoleSessionName: aws.String(function), DurationSeconds: aws.Int32(functionSession),
	})
	if err != nil {
		return lambda.Credentials{}, fmt.Errorf("credentials of role %s: %w", roleARN, err)
	}
	k := out.Credentials
	return lambda.Credentials{AccessKeyID: *k.AccessKeyId, SecretAccessKey: *k.SecretAccessKey, SessionToken: *k.SessionToken}, nil
}

// functionSession is how long a function's credentials last, in seconds: as
// Lambda's own, longer than its processes.
const functionSession = 12 * 60 * 60

// renewal is how long before their end credentials are renewed.
const renewal = 15 * time.Minute

// roleProvider has the credentials of a role for callers in this process. It
// goes by the embedded AWS's clock, which the SDK's own cache does not know.
type roleProvider struct {
	cloud                     *Cloud
	region, roleARN, function string

	mu      sync.Mutex
	got     aws.Credentials
	expires time.Time
}

// Retrieve implements aws.CredentialsProvider.
func (p *roleProvider) Retrieve(context.Context) (aws.Credentials, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cloud.cfg.Clock.Now()
	if now.Before(p.expires) {
		return p.got, nil
	}
	k, err := p.cloud.functionCredentials("", p.region, p.roleARN, p.function)
	if err != nil {
		return aws.Credentials{}, err
	}
	p.got = aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey, SessionToken: k.SessionToken}
	p.expires = now.Add(functionSession*time.Second - renewal)
	return p.got, nil
}

// object reads what a function's code is in.
func (c *Cloud) object(ctx context.Context, bucket, key string) ([]byte, error) {
	out, err := c.S3.GetObject(ctx, &sdks3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}
