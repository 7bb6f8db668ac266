package localcloud_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkcfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	sdkecr "github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sdksqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// login is crane's option for the token of a client's caller.
func login(t *testing.T, cfg aws.Config) crane.Option {
	t.Helper()
	return crane.WithAuth(&authn.Basic{Username: "AWS", Password: password(t, cfg)})
}

// password is what aws ecr get-login-password prints.
func password(t *testing.T, cfg aws.Config) string {
	t.Helper()
	out, err := sdkecr.NewFromConfig(cfg).GetAuthorizationToken(t.Context(), &sdkecr.GetAuthorizationTokenInput{})
	require.NoError(t, err)
	raw, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
	require.NoError(t, err)
	return strings.TrimPrefix(string(raw), "AWS:")
}

// toLoopback connects to every name below localhost on this machine, as resolvers do.
func toLoopback() crane.Option {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
	}
	return crane.WithTransport(transport)
}

func TestIAMDecidesOnBothDoorsOfTheRegistry(t *testing.T) {
	c := enforcing(t)
	root := sdkecr.NewFromConfig(c.AWSConfig(""))
	for _, name := range []string{"app", "other"} {
		_, err := root.CreateRepository(t.Context(), &sdkecr.CreateRepositoryInput{RepositoryName: aws.String(name)})
		require.NoError(t, err)
	}
	host := strings.TrimPrefix(c.URL(), "http://")
	image, err := random.Image(1000, 1)
	require.NoError(t, err)
	const app, token = "arn:aws:ecr:" + region + ":" + account + ":repository/app", "ecr:GetAuthorizationToken *"
	push := []string{token, "ecr:BatchCheckLayerAvailability " + app, "ecr:InitiateLayerUpload " + app, "ecr:UploadLayerPart " + app, "ecr:CompleteLayerUpload " + app, "ecr:PutImage " + app, "ecr:BatchGetImage " + app}
	cfg := c.AWSConfigOfRole("", testRole, "test")
	allow(t, c, testRole, token)
	as := login(t, cfg)
	for missing := 1; missing < len(push)-1; missing++ {
		held := append(append([]string{}, push[:missing]...), push[missing+1:]...)
		allow(t, c, testRole, held...)
		err := crane.Push(image, fmt.Sprintf("%s/app:%d", host, missing), as)
		if strings.HasPrefix(push[missing], "ecr:BatchCheck") {
			assert.ErrorContains(t, err, "403 Forbidden", "a HEAD request has no message")
			continue
		}
		assert.ErrorContains(t, err, "DENIED", push[missing])
		action, _, _ := strings.Cut(push[missing], " ")
		assert.ErrorContains(t, err, "is not authorized to perform: "+action+" on resource: "+app, push[missing])
	}
	allow(t, c, testRole, push...)
	require.NoError(t, crane.Push(image, host+"/app:1", as))
	assert.ErrorContains(t, crane.Push(image, host+"/other:1", as), "403 Forbidden", "another repository")
	_, err = crane.ListTags(host+"/app", as)
	assert.ErrorContains(t, err, "ecr:ListImages")
	assert.ErrorContains(t, crane.Delete(host+"/app:1", as), "ecr:BatchDeleteImage")
	pulled, err := crane.Pull(host+"/app:1", as)
	require.NoError(t, err)
	layers, err := pulled.Layers()
	require.NoError(t, err)
	_, err = layers[0].Compressed()
	assert.ErrorContains(t, err, "ecr:GetDownloadUrlForLayer")

	client := sdkecr.NewFromConfig(cfg)
	_, err = client.DescribeImages(t.Context(), &sdkecr.DescribeImagesInput{RepositoryName: aws.String("app")})
	assert.True(t, refused(err), "%v", err)
	allow(t, c, testRole, "ecr:DescribeImages "+app)
	_, err = client.DescribeImages(t.Context(), &sdkecr.DescribeImagesInput{RepositoryName: aws.String("app")})
	assert.NoError(t, err)
	_, err = client.GetAuthorizationToken(t.Context(), &sdkecr.GetAuthorizationTokenInput{})
	assert.True(t, refused(err), "%v", err)
}

func TestAnotherAccountOfTheOrganisationPullsByTheRepositorysPolicy(t *testing.T) {
	const theirs = "444455556666"
	c := listening(t, func(cfg *localcloud.Config) {
		cfg.EnforceIAM = true
		cfg.Organizations = func(account string) []string {
			if account == theirs {
				return []string{"arn:aws:organizations::111122223333:organization/o-exampleorgid"}
			}
			return nil
		}
	})
	root := sdkecr.NewFromConfig(c.AWSConfig(""))
	name := aws.String("app")
	_, err := root.CreateRepository(t.Context(), &sdkecr.CreateRepositoryInput{RepositoryName: name})
	require.NoError(t, err)
	image, err := random.Image(1000, 1)
	require.NoError(t, err)
	host := strings.TrimPrefix(c.URL(), "http://")
	require.NoError(t, crane.Push(image, host+"/app:1", login(t, c.AWSConfig(""))))

	const consumer = "arn:aws:iam::" + theirs + ":role/consumer"
	require.NoError(t, c.IAM.PutRole(iam.Role{
		ARN: consumer, Trust: json.RawMessage(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + theirs + `"},"Action":"sts:AssumeRole"}}`),
		Policies: map[string]json.RawMessage{"pull": json.RawMessage(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ecr:*","Resource":"*"}}`)},
	}))
	session, err := c.STS.AssumeRole(wire.WithCaller(t.Context(), wire.Caller{Account: theirs, Region: region, ARN: wire.RootARN(theirs, region)}),
		&sdksts.AssumeRoleInput{RoleArn: aws.String(consumer), RoleSessionName: aws.String("test")})
	require.NoError(t, err)
	cfg := c.AWSConfigFor(theirs, "")
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		k := session.Credentials
		return aws.Credentials{AccessKeyID: *k.AccessKeyId, SecretAccessKey: *k.SecretAccessKey, SessionToken: *k.SessionToken}, nil
	})
	as := login(t, cfg)
	repositories, err := root.DescribeRepositories(t.Context(), &sdkecr.DescribeRepositoriesInput{})
	require.NoError(t, err)
	assert.Equal(t, host+"/app", *repositories.Repositories[0].RepositoryUri)
	from := account + ".dkr.ecr." + region + ".localhost:" + host[strings.LastIndex(host, ":")+1:] + "/app:1"
	pull := func() error {
		image, err := crane.Pull(from, as, toLoopback())
		if err != nil {
			return err
		}
		_, err = image.Layers()
		return err
	}
	assert.ErrorContains(t, pull(), "because no resource-based policy allows the ecr:BatchGetImage action")
	policy := func(organization string) {
		_, err := root.SetRepositoryPolicy(t.Context(), &sdkecr.SetRepositoryPolicyInput{RepositoryName: name, PolicyText: aws.String(
			`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"],"Condition":{"StringEquals":{"aws:PrincipalOrgID":"` + organization + `"}}}}`)})
		require.NoError(t, err)
	}
	policy("o-another")
	assert.ErrorContains(t, pull(), "DENIED")
	policy("o-exampleorgid")
	require.NoError(t, pull())
	assert.ErrorContains(t, crane.Push(image, strings.Replace(from, ":1", ":2", 1), as, toLoopback()), "403 Forbidden", "the policy is for pulling")
	_, err = sdkecr.NewFromConfig(cfg).BatchGetImage(t.Context(), &sdkecr.BatchGetImageInput{RepositoryName: name, RegistryId: aws.String(account), ImageIds: []ecrtypes.ImageIdentifier{{ImageTag: aws.String("1")}}})
	require.NoError(t, err)
}

func TestAPushIsAnEventOfTheBus(t *testing.T) {
	c := listening(t)
	ctx := t.Context()
	queue := must[*sdksqs.CreateQueueOutput](t)(c.SQS.CreateQueue(ctx, &sdksqs.CreateQueueInput{QueueName: aws.String("pushes")}))
	must[*eventbridge.PutRuleOutput](t)(c.Events.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String("pushes"), EventPattern: aws.String(`{"source":["aws.ecr"],"detail":{"action-type":["PUSH"]}}`)}))
	must[*eventbridge.PutTargetsOutput](t)(c.Events.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("pushes"), Targets: []eventtypes.Target{{Id: aws.String("q"), Arn: aws.String("arn:aws:sqs:" + region + ":" + account + ":pushes")}}}))
	must[*sdkecr.CreateRepositoryOutput](t)(c.ECR.CreateRepository(ctx, &sdkecr.CreateRepositoryInput{RepositoryName: aws.String("app")}))
	image, err := random.Image(100, 1)
	require.NoError(t, err)
	require.NoError(t, crane.Push(image, strings.TrimPrefix(c.URL(), "http://")+"/app:1", login(t, c.AWSConfig(""))))
	var body string
	require.Eventually(t, func() bool {
		out, err := c.SQS.ReceiveMessage(ctx, &sdksqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl})
		require.NoError(t, err)
		if len(out.Messages) > 0 {
			body = *out.Messages[0].Body
		}
		return body != ""
	}, time.Minute, 5*time.Millisecond)
	assert.Contains(t, body, `"detail-type":"ECR Image Action"`)
	assert.Contains(t, body, `"repository-name":"app"`)
	assert.Contains(t, body, `"image-tag":"1"`)
}

func TestTheRegistryAnswersOnItsOwnNamesOnly(t *testing.T) {
	c := listening(t)
	for host, want := range map[string]int{
		"111122223333.dkr.ecr.eu-west-1.amazonaws.com": http.StatusUnauthorized, "111122223333.dkr.ecr.eu-west-1.localhost": http.StatusUnauthorized, "localhost": http.StatusUnauthorized,
		"111122223333.dkr.ecr.eu-west-1.example.com": http.StatusForbidden, "example.com": http.StatusForbidden,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL()+"/v2/", nil)
		require.NoError(t, err)
		r.Host = host
		out, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, out.Body.Close())
		assert.Equal(t, want, out.StatusCode, host)
	}
}

func TestARepositoryIsAResourceOfAStack(t *testing.T) {
	c := listening(t)
	cfn, registry := sdkcfn.NewFromConfig(c.AWSConfig("")), sdkecr.NewFromConfig(c.AWSConfig(""))
	ctx, stack := t.Context(), aws.String("containers")
	const template = `
Resources:
  R:
    Type: AWS::ECR::Repository
    Properties:
      RepositoryName: base
      EmptyOnDelete: true
      ImageTagMutability: IMMUTABLE_WITH_EXCLUSION
      ImageTagMutabilityExclusionFilters: [{ImageTagMutabilityExclusionFilterType: WILDCARD, ImageTagMutabilityExclusionFilterValue: latest}]
      ImageScanningConfiguration: {ScanOnPush: true}
      LifecyclePolicy: {LifecyclePolicyText: '{"rules":[{"rulePriority":1,"selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":7},"action":{"type":"expire"}}]}'}
      RepositoryPolicyText: {Version: "2012-10-17", Statement: [{Effect: Allow, Principal: "*", Action: "ecr:BatchGetImage"}]}
      Tags: [{Key: a, Value: b}]
  Named: {Type: AWS::ECR::Repository}
Outputs:
  Arn: {Value: !GetAtt R.Arn}
  Uri: {Value: !GetAtt R.RepositoryUri}
  Ref: {Value: !Ref R}
  Named: {Value: !Ref Named}
`
	must[*sdkcfn.CreateStackOutput](t)(cfn.CreateStack(ctx, &sdkcfn.CreateStackInput{StackName: stack, TemplateBody: aws.String(template)}))
	require.NoError(t, sdkcfn.NewStackCreateCompleteWaiter(cfn, func(o *sdkcfn.StackCreateCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}).Wait(ctx, &sdkcfn.DescribeStacksInput{StackName: stack}, time.Minute))
	outputs := map[string]string{}
	for _, o := range must[*sdkcfn.DescribeStacksOutput](t)(cfn.DescribeStacks(ctx, &sdkcfn.DescribeStacksInput{StackName: stack})).Stacks[0].Outputs {
		outputs[*o.OutputKey] = *o.OutputValue
	}
	assert.Equal(t, "base", outputs["Ref"])
	assert.Equal(t, "arn:aws:ecr:"+region+":"+account+":repository/base", outputs["Arn"])
	assert.Equal(t, strings.TrimPrefix(c.URL(), "http://")+"/base", outputs["Uri"])
	assert.Regexp(t, `^containers-named-[a-z0-9]+$`, outputs["Named"])
	name := aws.String("base")
	made := must[*sdkecr.DescribeRepositoriesOutput](t)(registry.DescribeRepositories(ctx, &sdkecr.DescribeRepositoriesInput{RepositoryNames: []string{"base"}})).Repositories[0]
	assert.Equal(t, ecrtypes.ImageTagMutabilityImmutableWithExclusion, made.ImageTagMutability)
	assert.True(t, made.ImageScanningConfiguration.ScanOnPush)
	assert.Contains(t, *must[*sdkecr.GetRepositoryPolicyOutput](t)(registry.GetRepositoryPolicy(ctx, &sdkecr.GetRepositoryPolicyInput{RepositoryName: name})).PolicyText, "ecr:BatchGetImage")
	must[*sdkecr.GetLifecyclePolicyOutput](t)(registry.GetLifecyclePolicy(ctx, &sdkecr.GetLifecyclePolicyInput{RepositoryName: name}))
	image, err := random.Image(100, 1)
	require.NoError(t, err)
	require.NoError(t, crane.Push(image, strings.TrimPrefix(c.URL(), "http://")+"/base:1", login(t, c.AWSConfig(""))))

	must[*sdkcfn.UpdateStackOutput](t)(cfn.UpdateStack(ctx, &sdkcfn.UpdateStackInput{StackName: stack, TemplateBody: aws.String(
		"Resources: {R: {Type: AWS::ECR::Repository, Properties: {RepositoryName: base, EmptyOnDelete: true, ImageTagMutability: IMMUTABLE, Tags: [{Key: c, Value: d}]}}}")}))
	require.NoError(t, sdkcfn.NewStackUpdateCompleteWaiter(cfn, func(o *sdkcfn.StackUpdateCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}).Wait(ctx, &sdkcfn.DescribeStacksInput{StackName: stack}, time.Minute))
	all := must[*sdkecr.DescribeRepositoriesOutput](t)(registry.DescribeRepositories(ctx, &sdkecr.DescribeRepositoriesInput{})).Repositories
	require.Len(t, all, 1)
	assert.Equal(t, made.CreatedAt, all[0].CreatedAt, "it is not replaced")
	assert.Equal(t, ecrtypes.ImageTagMutabilityImmutable, all[0].ImageTagMutability)
	assert.False(t, all[0].ImageScanningConfiguration.ScanOnPush)
	_, err = registry.GetRepositoryPolicy(ctx, &sdkecr.GetRepositoryPolicyInput{RepositoryName: name})
	assert.ErrorContains(t, err, "RepositoryPolicyNotFoundException")
	_, err = registry.GetLifecyclePolicy(ctx, &sdkecr.GetLifecyclePolicyInput{RepositoryName: name})
	assert.ErrorContains(t, err, "LifecyclePolicyNotFoundException")
	tags := must[*sdkecr.ListTagsForResourceOutput](t)(registry.ListTagsForResource(ctx, &sdkecr.ListTagsForResourceInput{ResourceArn: made.RepositoryArn})).Tags
	require.Len(t, tags, 1)
	assert.Equal(t, "c", *tags[0].Key)

	must[*sdkcfn.DeleteStackOutput](t)(cfn.DeleteStack(ctx, &sdkcfn.DeleteStackInput{StackName: stack}))
	require.NoError(t, sdkcfn.NewStackDeleteCompleteWaiter(cfn, func(o *sdkcfn.StackDeleteCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}).Wait(ctx, &sdkcfn.DescribeStacksInput{StackName: stack}, time.Minute))
	assert.Empty(t, must[*sdkecr.DescribeRepositoriesOutput](t)(registry.DescribeRepositories(ctx, &sdkecr.DescribeRepositoriesInput{})).Repositories, "the repository with its images")
}

// TestTheCDKPublishesItsImages does what cdk-assets does with an image of a stack, as the
// role that the bootstrap makes for it.
func TestTheCDKPublishesItsImages(t *testing.T) {
	c := enforcing(t)
	ctx := t.Context()
	for range 2 {
		require.NoError(t, c.Bootstrap(ctx, "", ""))
	}
	const name = "cdk-hnb659fds-container-assets-" + account + "-" + region
	cfg := as(t, c.AWSConfig(""), "arn:aws:iam::"+account+":role/cdk-hnb659fds-image-publishing-role-"+account+"-"+region)
	client := sdkecr.NewFromConfig(cfg)
	uri := *must[*sdkecr.DescribeRepositoriesOutput](t)(client.DescribeRepositories(ctx, &sdkecr.DescribeRepositoriesInput{RepositoryNames: []string{name}})).Repositories[0].RepositoryUri
	asset := []ecrtypes.ImageIdentifier{{ImageTag: aws.String("hash")}}
	_, err := client.DescribeImages(ctx, &sdkecr.DescribeImagesInput{RepositoryName: aws.String(name), ImageIds: asset})
	assert.True(t, errors.As(err, new(*ecrtypes.ImageNotFoundException)), "%v", err)
	image, err := random.Image(100, 1)
	require.NoError(t, err)
	require.NoError(t, crane.Push(image, uri+":hash", login(t, cfg)))
	must[*sdkecr.DescribeImagesOutput](t)(client.DescribeImages(ctx, &sdkecr.DescribeImagesInput{RepositoryName: aws.String(name), ImageIds: asset}))
	another, err := random.Image(100, 1)
	require.NoError(t, err)
	assert.ErrorContains(t, crane.Push(another, uri+":hash", login(t, cfg)), "TAG_INVALID", "assets are immutable")
}

// TestSkopeoCopiesInspectsListsAndDeletes runs a stock client in another process. It
// reads and writes OCI layouts, and uploads in chunks.
func TestSkopeoCopiesInspectsListsAndDeletes(t *testing.T) {
	path, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed (Debian package skopeo): make setup installs it")
	}
	c := listening(t)
	must[*sdkecr.CreateRepositoryOutput](t)(c.ECR.CreateRepository(t.Context(), &sdkecr.CreateRepositoryInput{RepositoryName: aws.String("team/app")}))
	home, host := t.TempDir(), strings.TrimPrefix(c.URL(), "http://")
	skopeo := func(input string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), path, append([]string{"--insecure-policy"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+home, "REGISTRY_AUTH_FILE="+filepath.Join(home, "auth.json"))
		cmd.Stdin = strings.NewReader(input)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		require.NoError(t, cmd.Run(), "skopeo %v: %s", args, stderr.String())
		return stdout.String()
	}
	skopeo(password(t, c.AWSConfig("")), "login", "--tls-verify=false", "-u", "AWS", "--password-stdin", host)
	image, err := random.Image(500_000, 2)
	require.NoError(t, err)
	image = mutate.MediaType(mutate.ConfigMediaType(image, "application/vnd.oci.image.config.v1+json"), "application/vnd.oci.image.manifest.v1+json")
	folder, err := layout.Write(filepath.Join(home, "layout"), empty.Index)
	require.NoError(t, err)
	require.NoError(t, folder.AppendImage(image))
	want, err := image.Digest()
	require.NoError(t, err)
	remote := "docker://" + host + "/team/app"
	skopeo("", "copy", "--dest-tls-verify=false", "--preserve-digests", "oci:"+home+"/layout", remote+":1")
	skopeo("", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", remote+":1", remote+":2")
	assert.Contains(t, skopeo("", "inspect", "--tls-verify=false", remote+":2"), want.String())
	assert.Contains(t, skopeo("", "list-tags", "--tls-verify=false", remote), `"2"`)
	skopeo("", "copy", "--src-tls-verify=false", "--preserve-digests", remote+"@"+want.String(), "oci:"+home+"/back:1")
	skopeo("", "delete", "--tls-verify=false", remote+":1")
	left := must[*sdkecr.ListImagesOutput](t)(c.ECR.ListImages(t.Context(), &sdkecr.ListImagesInput{RepositoryName: aws.String("team/app")}))
	assert.Empty(t, left.ImageIds, "skopeo deletes by digest, and so every tag")
}

func TestTheRegistryOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	keep := func(cfg *localcloud.Config) { cfg.StateDir = dir }
	image, err := random.Image(1000, 2)
	require.NoError(t, err)
	want, err := image.Digest()
	require.NoError(t, err)
	first := listening(t, keep)
	must[*sdkecr.CreateRepositoryOutput](t)(first.ECR.CreateRepository(t.Context(), &sdkecr.CreateRepositoryInput{RepositoryName: aws.String("app")}))
	token := login(t, first.AWSConfig(""))
	require.NoError(t, crane.Push(image, strings.TrimPrefix(first.URL(), "http://")+"/app:1", token))
	require.NoError(t, first.Close(t.Context()))
	second := listening(t, keep)
	got, err := crane.Digest(strings.TrimPrefix(second.URL(), "http://")+"/app:1", token)
	require.NoError(t, err, "the token too")
	assert.Equal(t, want.String(), got)
}
