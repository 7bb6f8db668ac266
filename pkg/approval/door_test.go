package approval_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkiam "github.com/aws/aws-sdk-go-v2/service/iam"
	sdklambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/simulated"
	"github.com/ami-factory/ami-factory/pkg/store"
)

const (
	region  = "eu-west-1"
	bucket  = "factory"
	run     = "run-1"
	roleARN = "arn:aws:iam::" + account + ":role/approver"
)

var manifest = []byte(`{"schema":"ami-factory/evidence-manifest/1"}` + "\n")

// office is an embedded AWS that enforces policies, with an execution that waits for
// an approval, and the door as a function with a URL.
type office struct {
	*testing.T
	cloud   *localcloud.Cloud
	url     string
	desk    approval.Desk
	machine string // ARN
	digest  string
}

// newOffice opens a request that needs so many people, on behalf of rita.
func newOffice(t *testing.T, needed int, change ...func(*approval.Request)) *office {
	t.Helper()
	c, err := localcloud.New(t.Context(), localcloud.Config{Driver: simulated.New(simulated.Options{Clock: clock.NewReal()}), EnforceIAM: true, Account: account, Region: region})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close(context.Background())) })
	_, err = c.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	cfg := c.AWSConfig("")
	objects := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	_, err = c.S3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	require.NoError(t, err)
	o := &office{T: t, cloud: c, digest: store.Digest(manifest), machine: "arn:aws:states:" + region + ":" + account + ":stateMachine:ami-factory"}
	o.desk = approval.Desk{Store: store.Store{Bucket: bucket, API: objects}, Keys: store.Directory{Bucket: bucket, API: objects}}
	_, err = o.desk.Store.Put(t.Context(), contract.ExecutionKey(run, contract.ManifestObject), "application/json", manifest)
	require.NoError(t, err)

	door := approval.Door{
		Desk: o.desk, People: approval.People{Account: account, Roles: []string{roleARN}}, Tasks: sfn.NewFromConfig(cfg), Machine: o.machine,
	}
	require.NoError(t, c.Lambda.Deploy(lambda.Function{Name: "approve", Timeout: time.Minute, Handler: func(ctx context.Context, event []byte) ([]byte, error) {
		var in events.LambdaFunctionURLRequest
		if err := json.Unmarshal(event, &in); err != nil {
			return nil, err
		}
		call := approval.Call{
			Method: in.RequestContext.HTTP.Method, Path: in.RawPath, Body: []byte(in.Body), RequestID: in.RequestContext.RequestID, At: time.UnixMilli(in.RequestContext.TimeEpoch).UTC(),
		}
		if by := in.RequestContext.Authorizer; by != nil && by.IAM != nil {
			call.UserARN = by.IAM.UserARN
		}
		out, err := door.Handle(ctx, call)
		if err != nil {
			return nil, err
		}
		return json.Marshal(events.LambdaFunctionURLResponse{StatusCode: out.Status, Headers: out.Headers, Body: out.Body})
	}}))
	require.NoError(t, c.Lambda.Deploy(lambda.Function{Name: "ask", Timeout: time.Minute, Handler: func(ctx context.Context, event []byte) ([]byte, error) {
		var in struct{ Token, Execution string }
		if err := json.Unmarshal(event, &in); err != nil {
			return nil, err
		}
		now := time.Now().UTC()
		r := approval.Request{
			Execution: run, RunARN: in.Execution, BundleDigest: o.digest, Recipe: "debian-12-docker", Requester: "rita", WaiverAuthors: []string{"walt"},
			Needed: needed, Requested: now.Add(-time.Minute), Expires: now.Add(time.Hour), Token: in.Token,
		}
		for _, f := range change {
			f(&r)
		}
		_, err := o.desk.Open(ctx, r)
		return []byte("{}"), err
	}}))
	out, err := sdklambda.NewFromConfig(cfg).CreateFunctionUrlConfig(t.Context(), &sdklambda.CreateFunctionUrlConfigInput{FunctionName: aws.String("approve"), AuthType: lambdatypes.FunctionUrlAuthTypeAwsIam})
	require.NoError(t, err)
	o.url = strings.TrimSuffix(*out.FunctionUrl, "/")

	roles := sdkiam.NewFromConfig(cfg)
	for name, policy := range map[string]string{
		"approver": `[{"Effect":"Allow","Action":"lambda:InvokeFunctionUrl","Resource":"*"},
			{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"*","Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}]`,
		"machine": `[{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"*"}]`,
	} {
		_, err := roles.CreateRole(t.Context(), &sdkiam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + account + `","Service":"states.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)})
		require.NoError(t, err)
		_, err = roles.PutRolePolicy(t.Context(), &sdkiam.PutRolePolicyInput{RoleName: &name, PolicyName: aws.String("p"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":` + policy + `}`)})
		require.NoError(t, err)
	}
	machines := sfn.NewFromConfig(cfg)
	_, err = machines.CreateStateMachine(t.Context(), &sfn.CreateStateMachineInput{
		Name: aws.String("ami-factory"), RoleArn: aws.String("arn:aws:iam::" + account + ":role/machine"), Definition: aws.String(`{"QueryLanguage":"JSONata","StartAt":"Approve","States":{"Approve":{"Type":"Task",
			"Resource":"arn:aws:states:::lambda:invoke.waitForTaskToken","TimeoutSeconds":600,"End":true,
			"Arguments":{"FunctionName":"arn:aws:lambda:` + region + `:` + account + `:function:ask","Payload":{"token":"{% $states.context.Task.Token %}","execution":"{% $states.context.Execution.Id %}"}}}}}`),
	})
	require.NoError(t, err)
	_, err = machines.StartExecution(t.Context(), &sfn.StartExecutionInput{StateMachineArn: &o.machine, Name: aws.String(run), Input: aws.String("{}")})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := o.desk.Request(t.Context(), o.digest)
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	return o
}

// as returns the credentials of a person's session.
func (o *office) as(person string) aws.Config {
	o.Helper()
	out, err := sts.NewFromConfig(o.cloud.AWSConfig("")).AssumeRole(o.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(roleARN), RoleSessionName: &person})
	require.NoError(o, err)
	cfg := o.cloud.AWSConfig("")
	k := out.Credentials
	cfg.Credentials = credentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
	cfg.RetryMaxAttempts = 1
	return cfg
}

// send sends a signed request, and returns status and body.
func (o *office) send(cfg aws.Config, method, path, body string, change ...func(*http.Request)) (int, string) {
	o.Helper()
	r, err := http.NewRequestWithContext(o.Context(), method, o.url+path, strings.NewReader(body))
	require.NoError(o, err)
	r.Header.Set("Content-Type", "application/json")
	sum := sha256.Sum256([]byte(body))
	r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	if cfg.Credentials != nil {
		keys, err := cfg.Credentials.Retrieve(o.Context())
		require.NoError(o, err)
		require.NoError(o, v4.NewSigner().SignHTTP(o.Context(), keys, r, hex.EncodeToString(sum[:]), "lambda", region, time.Now()))
	}
	for _, f := range change {
		f(r)
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(o, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	require.NoError(o, err)
	return response.StatusCode, string(raw)
}

// decide answers the request as a person.
func (o *office) decide(person string, d approval.Decision) (int, string) {
	o.Helper()
	return o.send(o.as(person), http.MethodPost, approval.AnswerPath, o.body(d))
}

func (o *office) body(d approval.Decision) string {
	raw, err := json.Marshal(approval.AnswerRequest{Digest: o.digest, Decision: d, Reason: "read the report"})
	require.NoError(o, err)
	return string(raw)
}

// ended waits for the end of the execution.
func (o *office) ended() *sfn.DescribeExecutionOutput {
	o.Helper()
	var out *sfn.DescribeExecutionOutput
	arn := strings.Replace(o.machine, ":stateMachine:", ":execution:", 1) + ":" + run
	require.Eventually(o, func() bool {
		var err error
		out, err = sfn.NewFromConfig(o.cloud.AWSConfig("")).DescribeExecution(o.Context(), &sfn.DescribeExecutionInput{ExecutionArn: &arn})
		require.NoError(o, err)
		return out.Status != sfntypes.ExecutionStatusRunning
	}, time.Minute, 5*time.Millisecond)
	return out
}

// approvals are how many count now.
func (o *office) approvals() int {
	o.Helper()
	_, v, err := o.desk.Verdict(o.Context(), o.digest, time.Now())
	require.NoError(o, err)
	return len(v.Approvals)
}

func TestTwoPeopleApproveAndTheExecutionGoesOn(t *testing.T) {
	o := newOffice(t, 2)
	status, body := o.decide("ann", approval.Approve)
	require.Equal(t, 200, status, body)
	assert.Contains(t, body, `"status":"waiting"`)
	assert.NotContains(t, body, `"token"`, "nobody learns the task token")
	status, body = o.decide("bob", approval.Approve)
	require.Equal(t, 200, status, body)
	assert.Contains(t, body, `"status":"approved"`)
	assert.Equal(t, sfntypes.ExecutionStatusSucceeded, o.ended().Status)
}

func TestOneRejectionEndsTheExecution(t *testing.T) {
	o := newOffice(t, 2)
	status, body := o.decide("ann", approval.Reject)
	require.Equal(t, 200, status, body)
	end := o.ended()
	assert.Equal(t, sfntypes.ExecutionStatusFailed, end.Status)
	assert.Equal(t, approval.RefusedError, *end.Error)
	assert.Equal(t, "ann rejected the release: read the report", *end.Cause)
	status, body = o.decide("bob", approval.Approve)
	assert.Equal(t, 409, status, body)
	assert.Contains(t, body, "the request is refused")
}

func TestTheSamePersonCountsOnce(t *testing.T) {
	o := newOffice(t, 2)
	for range 2 {
		status, body := o.decide("ann", approval.Approve)
		require.Equal(t, 200, status, body)
	}
	status, body := o.decide("Ann", approval.Approve)
	require.Equal(t, 200, status, body)
	assert.Equal(t, 1, o.approvals())
	status, body = o.decide("ann", approval.Reject)
	assert.Equal(t, 409, status, body)
	assert.Contains(t, body, "an answer cannot be changed")
}

func TestWhoAskedForItMayNotApproveIt(t *testing.T) {
	o := newOffice(t, 1)
	for person, want := range map[string]string{"rita": "started the execution", "RITA": "started the execution", "walt": "author of a waiver"} {
		status, body := o.decide(person, approval.Approve)
		assert.Equal(t, 403, status, body)
		assert.Contains(t, body, want)
	}
	assert.Zero(t, o.approvals())
}

func TestAReplayedApprovalIsNoSecondOne(t *testing.T) {
	o := newOffice(t, 2)
	cfg := o.as("ann")
	var sent *http.Request
	status, body := o.send(cfg, http.MethodPost, approval.AnswerPath, o.body(approval.Approve), func(r *http.Request) { sent = r.Clone(t.Context()) })
	require.Equal(t, 200, status, body)
	// The same request again, byte for byte, by whoever recorded it.
	status, body = o.send(aws.Config{}, http.MethodPost, approval.AnswerPath, o.body(approval.Approve), func(r *http.Request) { r.Header = sent.Header })
	require.Equal(t, 200, status, body)
	assert.Equal(t, 1, o.approvals())
	// Signed for this body only: it approves nothing else.
	other := strings.Replace(o.body(approval.Approve), o.digest, strings.Repeat("0", 64), 1)
	status, body = o.send(aws.Config{}, http.MethodPost, approval.AnswerPath, other, func(r *http.Request) { r.Header = sent.Header })
	assert.Equal(t, 403, status, body)
}

func TestAForgedApprovalIsRefused(t *testing.T) {
	o := newOffice(t, 1)
	ann := o.as("ann")
	forged, err := json.Marshal(events.LambdaFunctionURLRequest{
		RawPath: approval.AnswerPath, Body: o.body(approval.Approve), RequestContext: events.LambdaFunctionURLRequestContext{
			RequestID: "r", TimeEpoch: time.Now().UnixMilli(), HTTP: events.LambdaFunctionURLRequestContextHTTPDescription{Method: http.MethodPost},
			Authorizer: &events.LambdaFunctionURLRequestContextAuthorizerDescription{IAM: &events.LambdaFunctionURLRequestContextAuthorizerIAMDescription{UserARN: "arn:aws:sts::" + account + ":assumed-role/approver/bob"}},
		},
	})
	require.NoError(t, err)
	_, err = sdklambda.NewFromConfig(ann).Invoke(t.Context(), &sdklambda.InvokeInput{FunctionName: aws.String("approve"), Payload: forged})
	require.ErrorContains(t, err, "lambda:InvokeFunction", "by a plain Invoke, whose event names any caller")

	status, body := o.send(aws.Config{}, http.MethodPost, approval.AnswerPath, o.body(approval.Approve))
	assert.Equal(t, 403, status, "without a signature: %s", body)
	status, body = o.send(aws.Config{}, http.MethodPost, approval.AnswerPath, o.body(approval.Approve), func(r *http.Request) {
		keys, err := ann.Credentials.Retrieve(t.Context())
		require.NoError(t, err)
		require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), keys, r, r.Header.Get("X-Amz-Content-Sha256"), "execute-api", region, time.Now()))
	})
	assert.Equal(t, 403, status, "signed for another service: %s", body)
	status, body = o.send(o.cloud.AWSConfig(""), http.MethodPost, approval.AnswerPath, o.body(approval.Approve))
	assert.Equal(t, 403, status, "by the account's root, who is nobody: %s", body)
	assert.Contains(t, body, "not a session of a role")
	assert.Zero(t, o.approvals())
}

func TestALinkApprovesNothing(t *testing.T) {
	o := newOffice(t, 1)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		status, body := o.send(o.as("ann"), method, approval.AnswerPath, o.body(approval.Approve))
		assert.Equal(t, 405, status, body)
	}
	assert.Zero(t, o.approvals())
}

func TestALateApprovalIsRefused(t *testing.T) {
	o := newOffice(t, 1, func(r *approval.Request) { r.Expires = time.Now().Add(-time.Second) })
	status, body := o.decide("ann", approval.Approve)
	assert.Equal(t, 409, status, body)
	assert.Contains(t, body, "the request is expired")
	assert.Zero(t, o.approvals())
}

func TestAChangedDigestVoidsTheRequest(t *testing.T) {
	o := newOffice(t, 2)
	status, body := o.decide("ann", approval.Approve)
	require.Equal(t, 200, status, body)
	_, err := o.desk.Store.Put(t.Context(), contract.ExecutionKey(run, contract.ManifestObject), "application/json", append(bytes.Clone(manifest), ' '))
	require.NoError(t, err)
	status, body = o.decide("bob", approval.Approve)
	assert.Equal(t, 409, status, body)
	assert.Contains(t, body, "The request is void")
}

func TestASelfMadeAnswerDoesNotCount(t *testing.T) {
	for sentence, tc := range map[string]struct {
		key  string
		body any
	}{
		"under another person's name":   {"bob", answer("ann", approval.Approve)},
		"of a person who may not":       {"rita", answer("rita", approval.Approve)},
		"that says nothing of its door": {"bob", map[string]any{"person": "bob", "decision": "approve"}},
		"that is no answer":             {"bob", "approve"},
		"with more than an answer has":  {"bob", map[string]any{"schema": approval.AnswerSchema, "person": "bob", "admin": true}},
	} {
		t.Run(sentence, func(t *testing.T) {
			o := newOffice(t, 1)
			_, err := o.desk.Store.PutJSON(t.Context(), contract.ApprovalAnswerKey(o.digest, tc.key), tc.body)
			require.NoError(t, err)
			assert.Zero(t, o.approvals())
		})
	}
}

func TestWhatWaitsIsListedWithoutItsToken(t *testing.T) {
	o := newOffice(t, 1)
	status, body := o.send(o.as("ann"), http.MethodPost, approval.ListPath, "{}")
	require.Equal(t, 200, status, body)
	var got []approval.Standing
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Len(t, got, 1)
	assert.Equal(t, o.digest, got[0].BundleDigest)
	assert.Equal(t, run, got[0].Execution)
	assert.Empty(t, got[0].Token)
}

func TestWhoBuildsByHandIsKnown(t *testing.T) {
	o := newOffice(t, 1)
	build := func(person, name string) (int, string) {
		return o.send(o.as(person), http.MethodPost, approval.BuildPath, `{"recipe":"debian-12-docker","name":"`+name+`"}`)
	}
	status, body := build("carl", "by-hand")
	require.Equal(t, 201, status, body)
	assert.Contains(t, body, `:execution:ami-factory:by-hand"`)
	who, err := o.desk.Requester(t.Context(), "by-hand")
	require.NoError(t, err)
	assert.Equal(t, "carl", who)
	status, body = build("dora", "by-hand")
	assert.Equal(t, 400, status, body)
	assert.Contains(t, body, "was taken by carl")
	_, err = o.desk.Requester(t.Context(), "nobody-started-this")
	require.ErrorIs(t, err, store.ErrNone)
}

func TestARequestOfTheWrongFormIsRefused(t *testing.T) {
	o := newOffice(t, 1)
	for sentence, tc := range map[string]struct {
		path, body string
		status     int
		want       string
	}{
		"no JSON":                 {approval.AnswerPath, "approve", 400, "wrong form"},
		"a field that is unknown": {approval.AnswerPath, `{"digest":"` + digest + `","person":"bob"}`, 400, "person"},
		"another decision":        {approval.AnswerPath, `{"digest":"` + digest + `","decision":"yes","reason":"read it"}`, 400, "allowed: approve, reject"},
		"no reason":               {approval.AnswerPath, `{"digest":"` + digest + `","decision":"approve"}`, 400, "the reason has 0"},
		"no digest":               {approval.AnswerPath, `{"decision":"approve","reason":"read it"}`, 400, "a SHA-256"},
		"a digest as a path":      {approval.AnswerPath, `{"digest":"../x","decision":"approve","reason":"read it"}`, 400, "a SHA-256"},
		"a digest that is gone":   {approval.AnswerPath, `{"digest":"` + digest + `","decision":"approve","reason":"read it"}`, 404, "waits for an approval"},
		"another path":            {"/x", `{}`, 404, "paths: /approvals"},
		"a build without a name":  {approval.BuildPath, `{"recipe":"a"}`, 400, "a name for the execution"},
	} {
		t.Run(sentence, func(t *testing.T) {
			o.T = t
			status, body := o.send(o.as("ann"), http.MethodPost, tc.path, tc.body)
			assert.Equal(t, tc.status, status, body)
			assert.Contains(t, body, tc.want)
		})
	}
}
