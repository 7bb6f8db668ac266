package localcloud_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	sdkssm "github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	sdksts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// launches notes what the driver is told to start.
type launches struct {
	vm.Driver
	mu  sync.Mutex
	all map[string]vm.Launch
}

func (l *launches) Start(ctx context.Context, in vm.Launch) (vm.Machine, error) {
	l.mu.Lock()
	l.all[in.InstanceID] = in
	l.mu.Unlock()
	return l.Driver.Start(ctx, in)
}

// laterClock is this machine's clock, set forward.
type laterClock struct {
	clock.Clock
	by atomic.Int64
}

func (l *laterClock) Now() time.Time { return l.Clock.Now().Add(time.Duration(l.by.Load())) }

// guest is an instance as its programs see the network.
type guest struct {
	t      *testing.T
	cloud  *localcloud.Cloud
	launch vm.Launch
	id     string
}

// RoundTrip sends a request as it goes over the wire to the embedded AWS.
func (g guest) RoundTrip(r *http.Request) (*http.Response, error) {
	raw, err := httputil.DumpRequestOut(r, true)
	if err != nil {
		return nil, err
	}
	arrived, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, err
	}
	arrived.RemoteAddr = g.launch.PrivateIP + ":40000"
	w := httptest.NewRecorder()
	g.cloud.GuestHandler().ServeHTTP(w, arrived)
	return w.Result(), nil
}

// fetch reads a path of the instance metadata, by a session token.
func (g guest) fetch(path string) (int, string) {
	w := httptest.NewRecorder()
	token := httptest.NewRequest(http.MethodPut, "/latest/api/token", nil)
	token.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "60")
	g.launch.Metadata.ServeHTTP(w, token)
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("X-aws-ec2-metadata-token", w.Body.String())
	w = httptest.NewRecorder()
	g.launch.Metadata.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// credentials are the role's, as the metadata service hands them out.
func (g guest) credentials() aws.Credentials {
	g.t.Helper()
	const dir = "/latest/meta-data/iam/security-credentials/"
	code, role := g.fetch(dir)
	require.Equal(g.t, 200, code)
	_, raw := g.fetch(dir + role)
	var k struct{ Code, AccessKeyID, SecretAccessKey, Token string }
	require.NoError(g.t, json.Unmarshal([]byte(raw), &k))
	require.Equal(g.t, "Success", k.Code)
	return aws.Credentials{AccessKeyID: k.AccessKeyID, SecretAccessKey: k.SecretAccessKey, SessionToken: k.Token}
}

func (g guest) config(k aws.Credentials, region string) aws.Config {
	return aws.Config{
		Region: region, BaseEndpoint: aws.String("http://" + wire.Host), HTTPClient: &http.Client{Transport: g},
		Credentials: credentials.NewStaticCredentialsProvider(k.AccessKeyID, k.SecretAccessKey, k.SessionToken), RetryMaxAttempts: 1,
	}
}

func (g guest) secret(k aws.Credentials, id string) (string, error) {
	out, err := secretsmanager.NewFromConfig(g.config(k, region)).GetSecretValue(g.t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(id)})
	if err != nil {
		return "", err
	}
	return *out.SecretString, nil
}

// instanceRole makes a role for instances and an instance profile of its name.
func instanceRole(t *testing.T, c *localcloud.Cloud, name string, statements ...string) {
	t.Helper()
	allow(t, c, "arn:aws:iam::"+account+":role/"+name, statements...)
	_, err := c.IAM.CreateInstanceProfile(t.Context(), &sdkiam.CreateInstanceProfileInput{InstanceProfileName: aws.String(name)})
	require.NoError(t, err)
	_, err = c.IAM.AddRoleToInstanceProfile(t.Context(), &sdkiam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String(name), RoleName: aws.String(name)})
	require.NoError(t, err)
}

// agentStatements let a role read what agents start with, in any account.
func agentStatements() []string {
	return []string{
		"secretsmanager:GetSecretValue arn:aws:secretsmanager:*:*:secret:ami-factory/agents/*",
		"ssm:GetParameter arn:aws:ssm:*:*:parameter/ami-factory/agents/*", "ssm:GetParameters arn:aws:ssm:*:*:parameter/ami-factory/agents/*",
	}
}

// guests is an embedded AWS with secrets of two accounts, and instances of the
// roles that are named.
func guests(t *testing.T, roles ...string) (*localcloud.Cloud, *laterClock, []guest) {
	t.Helper()
	now := &laterClock{Clock: clock.NewReal()}
	driver := &launches{Driver: echoing(now), all: map[string]vm.Launch{}}
	c := listening(t, func(cfg *localcloud.Config) {
		cfg.Clock, cfg.Driver, cfg.EnforceIAM = now, driver, true
	})
	for name, statements := range map[string][]string{"web": agentStatements(), "ungranted": nil, "exact": {"secretsmanager:GetSecretValue arn:aws:secretsmanager:*:*:secret:team/db-*"}} {
		instanceRole(t, c, name, statements...)
	}
	for account, value := range map[string]string{account: "mine", "444455556666": "theirs"} {
		ctx := wire.WithCaller(t.Context(), wire.Caller{Account: account, Region: region})
		for _, name := range []string{"ami-factory/agents/newrelic", "team/db"} {
			_, err := c.Secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String(name), SecretString: aws.String(value)})
			require.NoError(t, err)
		}
		for _, name := range []string{"/ami-factory/agents/chef", "/ami-factory/published"} {
			_, err := c.SSM.PutParameter(ctx, &sdkssm.PutParameterInput{Name: aws.String(name), Value: aws.String(value), Type: ssmtypes.ParameterTypeSecureString})
			require.NoError(t, err)
		}
	}
	image := baseImage(t, c)
	var out []guest
	for _, role := range roles {
		in := &sdkec2.RunInstancesInput{ImageId: aws.String(image), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}
		if role != "" {
			in.IamInstanceProfile = &ec2types.IamInstanceProfileSpecification{Name: aws.String(role)}
		}
		made, err := c.EC2.RunInstances(t.Context(), in)
		require.NoError(t, err)
		id := *made.Instances[0].InstanceId
		require.Eventually(t, func() bool {
			driver.mu.Lock()
			defer driver.mu.Unlock()
			_, ok := driver.all[id]
			return ok
		}, time.Minute, 5*time.Millisecond)
		driver.mu.Lock()
		out = append(out, guest{t: t, cloud: c, launch: driver.all[id], id: id})
		driver.mu.Unlock()
	}
	return c, now, out
}

func TestAGuestReadsWhatItsRoleIsGranted(t *testing.T) {
	c, _, g := guests(t, "web", "", "exact")
	k := g[0].credentials()
	value, err := g[0].secret(k, "ami-factory/agents/newrelic")
	require.NoError(t, err)
	assert.Equal(t, "mine", value)
	described, err := c.Secrets.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("ami-factory/agents/newrelic")})
	require.NoError(t, err)
	value, err = g[0].secret(k, *described.ARN)
	require.NoError(t, err)
	assert.Equal(t, "mine", value)
	_, err = g[0].secret(k, "ami-factory/agents/none")
	assert.ErrorContains(t, err, "ResourceNotFoundException")

	parameters := sdkssm.NewFromConfig(g[0].config(k, region))
	one, err := parameters.GetParameter(t.Context(), &sdkssm.GetParameterInput{Name: aws.String("/ami-factory/agents/chef"), WithDecryption: aws.Bool(true)})
	require.NoError(t, err)
	assert.Equal(t, "mine", *one.Parameter.Value)
	one, err = parameters.GetParameter(t.Context(), &sdkssm.GetParameterInput{Name: one.Parameter.ARN})
	require.NoError(t, err)
	assert.NotEqual(t, "mine", *one.Parameter.Value, "it is not decrypted unasked")
	several, err := parameters.GetParameters(t.Context(), &sdkssm.GetParametersInput{Names: []string{"/ami-factory/agents/chef:1", "/ami-factory/agents/none"}, WithDecryption: aws.Bool(true)})
	require.NoError(t, err)
	assert.Equal(t, "mine", *several.Parameters[0].Value)
	assert.Equal(t, []string{"/ami-factory/agents/none"}, several.InvalidParameters)

	code, _ := g[1].fetch("/latest/meta-data/iam/security-credentials/")
	assert.Equal(t, 404, code, "an instance without a profile has no credentials")
	value, err = g[2].secret(g[2].credentials(), "team/db")
	require.NoError(t, err)
	assert.Equal(t, "mine", value)
}

func TestAGuestIsRefusedWhatItsRoleIsNotGranted(t *testing.T) {
	_, now, g := guests(t, "web", "ungranted", "exact", "web")
	k := g[0].credentials()
	const granted = "ami-factory/agents/newrelic"
	denied := func(g guest, resource string) string {
		return "User: arn:aws:sts::" + account + ":assumed-role/web/" + g.id + " is not authorized to perform: secretsmanager:GetSecretValue on resource: " + resource
	}
	forged, tokenless, otherToken := k, k, k
	forged.SecretAccessKey = strings.Repeat("0", 40)
	tokenless.SessionToken = ""
	otherToken.SessionToken = g[3].credentials().SessionToken
	unknown := aws.Credentials{AccessKeyID: "ASIA0123456789ABCDEF", SecretAccessKey: k.SecretAccessKey, SessionToken: k.SessionToken}
	program, err := g[0].cloud.STS.AssumeRole(t.Context(), &sdksts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::" + account + ":role/web"), RoleSessionName: aws.String(g[0].id)})
	require.NoError(t, err)
	m := program.Credentials
	for sentence, ask := range map[string]struct {
		guest   guest
		keys    aws.Credentials
		id      string
		code    string
		message string
	}{
		"a secret outside the grant":               {g[0], k, "team/db", "AccessDeniedException", denied(g[0], "arn:aws:secretsmanager:eu-west-1:111122223333:secret:team/db-")},
		"one that does not exist, in the same way": {g[0], k, "team/none", "AccessDeniedException", denied(g[0], "arn:aws:secretsmanager:eu-west-1:111122223333:secret:team/none")},
		"a name that only begins alike":            {g[0], k, "ami-factory/agentsx", "AccessDeniedException", "no identity-based policy"},
		"another account's secret":                 {g[0], k, "arn:aws:secretsmanager:eu-west-1:444455556666:secret:" + granted, "AccessDeniedException", denied(g[0], "arn:aws:secretsmanager:eu-west-1:444455556666:")},
		"another region's secret":                  {g[0], k, "arn:aws:secretsmanager:us-east-1:111122223333:secret:" + granted, "AccessDeniedException", "is not authorized"},
		"a role without a grant":                   {g[1], g[1].credentials(), granted, "AccessDeniedException", "assumed-role/ungranted/"},
		"a role with a grant of its own":           {g[2], g[2].credentials(), granted, "AccessDeniedException", "assumed-role/exact/"},
		"a forged signature":                       {g[0], forged, granted, "InvalidSignatureException", "does not match"},
		"an unknown key":                           {g[0], unknown, granted, "UnrecognizedClientException", "security token"},
		"a key without its session token":          {g[0], tokenless, granted, "UnrecognizedClientException", "security token"},
		"a key with another session's token":       {g[0], otherToken, granted, "UnrecognizedClientException", "security token"},
		"the keys of clients of this machine":      {g[0], aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, granted, "UnrecognizedClientException", "security token"},
		"the root user's own keys":                 {g[0], g[0].cloud.Credentials(account), granted, "UnrecognizedClientException", "security token"},
		"keys that a program has assumed in its name": {
			g[0], aws.Credentials{AccessKeyID: *m.AccessKeyId, SecretAccessKey: *m.SecretAccessKey, SessionToken: *m.SessionToken}, granted, "UnrecognizedClientException", "security token",
		},
		"the keys of another instance of the same role": {g[3], k, granted, "AccessDeniedException", "of another instance"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := ask.guest.secret(ask.keys, ask.id)
			var api smithy.APIError
			require.ErrorAs(t, err, &api)
			assert.Equal(t, ask.code, api.ErrorCode(), api.ErrorMessage())
			assert.Contains(t, api.ErrorMessage(), ask.message)
		})
	}
	_, err = secretsmanager.NewFromConfig(g[0].config(k, "us-east-1")).GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(granted)})
	assert.ErrorContains(t, err, "a guest reads in its own")
	parameters := sdkssm.NewFromConfig(g[0].config(k, region))
	for _, name := range []string{"/ami-factory/published", "arn:aws:ssm:eu-west-1:444455556666:parameter/ami-factory/agents/chef", "/aws/service/debian/release/12/latest/amd64"} {
		_, err = parameters.GetParameters(t.Context(), &sdkssm.GetParametersInput{Names: []string{"/ami-factory/agents/chef", name}})
		assert.ErrorContains(t, err, "not authorized to perform: ssm:GetParameters on resource: arn:aws:ssm:", name)
	}

	now.by.Store(int64(2 * time.Hour))
	_, err = g[0].secret(k, granted)
	assert.ErrorContains(t, err, "ExpiredTokenException")
	_, err = g[3].secret(k, granted)
	assert.ErrorContains(t, err, "ExpiredTokenException", "another instance's")
	_, err = g[0].secret(g[0].credentials(), granted)
	require.NoError(t, err, "the metadata service has fresh ones")
	assert.NotEqual(t, k, g[0].credentials())
	assert.Equal(t, g[0].credentials(), g[0].credentials(), "and keeps them while they are good")
}

// signed is a call of a guest's, signed after change has had its way with it.
func signed(t *testing.T, k aws.Credentials, service, target, body string, change func(*http.Request)) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+wire.Host+"/", strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", target)
	if change != nil {
		change(r)
	}
	sum := sha256.Sum256([]byte(body))
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), k, r, hex.EncodeToString(sum[:]), service, region, time.Now()))
	return r
}

func TestAGuestCallsNothingElse(t *testing.T) {
	c, _, g := guests(t, "web")
	k := g[0].credentials()
	const target, body = "secretsmanager.GetSecretValue", `{"SecretId":"ami-factory/agents/newrelic"}`
	call := func(service, target, body string, before, after func(*http.Request)) (int, string) {
		r := signed(t, k, service, target, body, before)
		if after != nil {
			after(r)
		}
		answer, err := g[0].RoundTrip(r)
		require.NoError(t, err)
		raw, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(raw)
	}
	code, answer := call("secretsmanager", target, body, nil, nil)
	require.Equal(t, 200, code, answer)

	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	add := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Add(name, value) }
	}
	for sentence, ask := range map[string]struct {
		service, target, body string
		before, after         func(*http.Request)
		code                  int
		says                  string
	}{
		"another operation of Secrets Manager": {"secretsmanager", "secretsmanager.PutSecretValue", body, nil, nil, 403, "nothing else"},
		"the list of secrets":                  {"secretsmanager", "secretsmanager.ListSecrets", `{}`, nil, nil, 403, "nothing else"},
		"a command in another guest":           {"ssm", "AmazonSSM.SendCommand", `{}`, nil, nil, 403, "nothing else"},
		"parameters by path":                   {"ssm", "AmazonSSM.GetParametersByPath", `{"Path":"/ami-factory/agents"}`, nil, nil, 403, "nothing else"},
		"an EC2 call":                          {"ec2", "", "Action=DescribeInstances&Version=2016-11-15", nil, nil, 403, "nothing else"},
		"a role":                               {"sts", "", "Action=AssumeRole&Version=2011-06-15", nil, nil, 403, "nothing else"},
		"a second target, signed":              {"secretsmanager", target, body, add("X-Amz-Target", "secretsmanager.DeleteSecret"), nil, 403, "nothing else"},
		"a second target, not signed":          {"secretsmanager", target, body, nil, add("X-Amz-Target", "secretsmanager.DeleteSecret"), 403, "nothing else"},
		"a target in other letters":            {"secretsmanager", "SecretsManager.GetSecretValue", body, nil, nil, 403, "nothing else"},
		"a target with more behind it":         {"secretsmanager", target + ",secretsmanager.DeleteSecret", body, nil, nil, 403, "nothing else"},
		"a target changed after signing":       {"ssm", "AmazonSSM.GetParameter", `{"Name":"/ami-factory/agents/chef"}`, nil, set("X-Amz-Target", "AmazonSSM.GetParameters"), 400, "InvalidSignatureException"},
		"a body changed after signing": {"secretsmanager", target, body, nil, func(r *http.Request) {
			other := `{"SecretId":"team/db"}`
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(other)), int64(len(other))
		}, 400, "InvalidSignatureException"},
		"one service's call signed for another": {"ssm", target, body, nil, nil, 400, "InvalidSignatureException"},
		"an unsigned header of AWS's":           {"secretsmanager", target, body, nil, set("X-Amz-Region-Set", "us-east-1"), 400, "InvalidSignatureException"},
		"a second credential": {"secretsmanager", target, body, nil, func(r *http.Request) {
			r.Header.Set("Authorization", r.Header.Get("Authorization")+", Credential=test/20260101/eu-west-1/lambda/aws4_request")
		}, 400, "IncompleteSignatureException"},
		"a second signature":                {"secretsmanager", target, body, nil, add("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/lambda/aws4_request"), 400, "IncompleteSignatureException"},
		"an old signature":                  {"secretsmanager", target, body, nil, set("X-Amz-Date", time.Now().UTC().Add(-time.Hour).Format("20060102T150405Z")), 400, "SignatureException"},
		"two secrets in one":                {"secretsmanager", target, `{"SecretId":"ami-factory/agents/newrelic","secretid":"team/db"}`, nil, nil, 400, "AccessDeniedException"},
		"two secrets in one, the other way": {"secretsmanager", target, `{"secretid":"ami-factory/agents/newrelic","SecretId":"team/db"}`, nil, nil, 400, "AccessDeniedException"},
		"a body that is no JSON":            {"secretsmanager", target, `SecretId=a`, nil, nil, 400, "SerializationException"},
		"a large body":                      {"secretsmanager", target, `{"SecretId":"` + strings.Repeat("a", 1<<17) + `"}`, nil, nil, 400, "RequestEntityTooLarge"},
		"another path":                      {"secretsmanager", target, body, func(r *http.Request) { r.URL.Path = "/2015-03-31/functions" }, nil, 403, "nothing else"},
		"an operation in the query":         {"secretsmanager", target, body, func(r *http.Request) { r.URL.RawQuery = "Action=AssumeRole" }, nil, 403, "nothing else"},
		"no signature at all":               {"secretsmanager", target, body, nil, func(r *http.Request) { r.Header.Del("Authorization") }, 403, "nothing else"},
	} {
		t.Run(sentence, func(t *testing.T) {
			code, answer := call(ask.service, ask.target, ask.body, ask.before, ask.after)
			assert.Equal(t, ask.code, code, answer)
			assert.Contains(t, answer, ask.says)
		})
	}

	// Who decides and who answers read the same request in the same way.
	for range 20 {
		code, answer = call("secretsmanager", target, `{"SecretId":"team/db","secretid":"ami-factory/agents/newrelic"}`, nil, nil)
		require.Equal(t, 200, code, answer)
		require.Contains(t, answer, `"Name":"ami-factory/agents/newrelic"`)
	}

	_, err := c.EC2.TerminateInstances(t.Context(), &sdkec2.TerminateInstancesInput{InstanceIds: []string{g[0].id}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		code, answer := call("secretsmanager", target, body, nil, nil)
		return code == 400 && strings.Contains(answer, "AccessDeniedException")
	}, time.Minute, 20*time.Millisecond, "the credentials end with their instance")
}

// TestCurlSignsAsTheDoorVerifies: guests without a client of AWS's use curl.
func TestCurlSignsAsTheDoorVerifies(t *testing.T) {
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed, which make setup installs")
	}
	c, _, g := guests(t, "web")
	k := g[0].credentials()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = g[0].launch.PrivateIP + ":40000"
		c.GuestHandler().ServeHTTP(w, r)
	}))
	defer server.Close()
	out, err := exec.CommandContext(t.Context(), path, "-sS", "--aws-sigv4", "aws:amz:"+region+":secretsmanager", "--user", k.AccessKeyID+":"+k.SecretAccessKey,
		"-H", "X-Amz-Security-Token: "+k.SessionToken, "-H", "X-Amz-Target: secretsmanager.GetSecretValue", "-H", "Content-Type: application/x-amz-json-1.1",
		"-d", `{"SecretId":"ami-factory/agents/newrelic"}`, server.URL+"/").CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), `"SecretString":"mine"`)
}
