package lambdafn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/lambdafn"
	"github.com/ami-factory/ami-factory/pkg/stage"
	"github.com/ami-factory/ami-factory/pkg/store"
)

type input struct {
	Recipe string `json:"recipe"`
}

type output struct {
	Said string `json:"said"`
}

func call(t *testing.T, run func(context.Context, input) (output, error), payload string) (json.RawMessage, error) {
	t.Helper()
	return lambdafn.Adapt(run)(t.Context(), json.RawMessage(payload))
}

func TestResultIsJSON(t *testing.T) {
	out, err := call(t, func(_ context.Context, in input) (output, error) { return output{in.Recipe}, nil }, `{"recipe":"r"}`)
	require.NoError(t, err)
	assert.JSONEq(t, `{"said":"r"}`, string(out))
}

func TestErrorsHaveTheNameThatTheStateMachineMatches(t *testing.T) {
	coded := failure.New(failure.SealNotReady, "wait")
	for name, c := range map[string]struct {
		err           error
		code, message string
	}{
		"a coded error":          {coded, "SealNotReady", "wait"},
		"one that was wrapped":   {fmt.Errorf("seal: %w", coded), "SealNotReady", "seal: wait"},
		"one that was joined":    {errors.Join(errors.New("first"), coded), "SealNotReady", "first\nwait"},
		"an error without code":  {errors.New("x"), "Internal", "x"},
		"one of the Lambda type": {messages.InvokeResponse_Error{Type: "T", Message: "m"}, "T", "m"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := call(t, func(context.Context, input) (output, error) { return output{}, c.err }, `{}`)
			got, byValue := any(err).(messages.InvokeResponse_Error) // the runtime looks at exactly this
			require.True(t, byValue, "%T", err)
			assert.Equal(t, c.code, got.Type)
			assert.Equal(t, c.message, got.Message)
		})
	}
}

func TestWhateverAMessageQuotesItLeavesTheFunctionReadableAndShort(t *testing.T) {
	fail := func(err error) func(context.Context, input) (output, error) {
		return func(context.Context, input) (output, error) { return output{}, err }
	}
	said := "the builder said " + strings.Repeat("<", 23_032) + " and died"
	for name, run := range map[string]func(context.Context, input) (output, error){
		"a coded error":             fail(failure.New(failure.ProvisioningFailed, "%s", said)),
		"an error without a code":   fail(errors.New(said)),
		"one of the Lambda type":    fail(messages.InvokeResponse_Error{Type: "T", Message: said}),
		"a defect":                  func(context.Context, input) (output, error) { panic(said) },
		"one in characters of four": fail(errors.New("the builder said " + strings.Repeat("😀", 23_032) + " and died")),
		"one that acts":             fail(errors.New("the builder said \x1b[2J\u202e" + strings.Repeat("\a", 23_032) + " and died")),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := call(t, run, `{}`)
			var got messages.InvokeResponse_Error
			require.ErrorAs(t, err, &got)
			assert.Contains(t, got.Message, "the builder said ")
			assert.Contains(t, got.Message, " and died")
			assert.NotContains(t, got.Message, "\x1b")
			assert.NotContains(t, got.Message, "\u202e")
			assert.NotContains(t, got.Message, "\a")
			raw, err := json.Marshal(got.Message)
			require.NoError(t, err)
			assert.LessOrEqual(t, len(raw)-2, failure.MaxMessage)
			raw, err = json.Marshal(got)
			require.NoError(t, err)
			assert.Less(t, len(raw), 16384, "what the state machine passes on has all of it")
		})
	}
}

func TestRuntimeKeepsTheName(t *testing.T) {
	handler := lambda.NewHandler(lambdafn.Adapt(func(context.Context, input) (output, error) {
		return output{}, fmt.Errorf("w: %w", failure.New(failure.CapacityUnavailable, "none"))
	}))
	_, err := handler.Invoke(t.Context(), []byte(`{}`))
	var got messages.InvokeResponse_Error
	require.ErrorAs(t, err, &got)
	assert.Equal(t, "CapacityUnavailable", got.Type)
}

func TestInputThatIsNotWhatIsDocumentedIsRefused(t *testing.T) {
	for sentence, tc := range map[string]struct{ payload, says string }{
		"not JSON":                  {`{"recipe":`, "unexpected EOF"},
		"not an object":             {`"debian-12-docker"`, "string"},
		"a value of another type":   {`{"recipe":1}`, "recipe is of type number (allowed: a string)"},
		"a field that is not known": {`{"recip":"r"}`, `unknown field "recip" (allowed: recipe)`},
		"two documents":             {`{"recipe":"r"} {}`, "there is text after"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := call(t, func(context.Context, input) (output, error) {
				t.Error("the stage ran")
				return output{}, nil
			}, tc.payload)
			var got messages.InvokeResponse_Error
			require.ErrorAs(t, err, &got)
			assert.Equal(t, "InvalidInput", got.Type)
			assert.Contains(t, got.Message, tc.says)
		})
	}
}

func TestOnlyWhatPeopleMayWriteIsSaidToBeAllowed(t *testing.T) {
	handler := lambdafn.Adapt(func(context.Context, stage.ResolveInput) (output, error) { return output{}, nil })
	for payload, says := range map[string]string{
		`{"recip":"r"}`:        `unknown field "recip" (allowed: delaySeconds, force, recipe, source)`,
		`{"force":"yes"}`:      "force is of type string (allowed: true or false)",
		`{"delaySeconds":"1"}`: "delaySeconds is of type string (allowed: a whole number)",
		`{"execution":1}`:      "execution is of type number (allowed: an object)",
	} {
		_, err := handler(t.Context(), []byte(payload))
		var got messages.InvokeResponse_Error
		require.ErrorAs(t, err, &got, payload)
		assert.Contains(t, got.Message, says)
	}
}

func TestFieldsOfAnEmbeddedStructAreAllowed(t *testing.T) {
	type job struct {
		Now string `json:"now"`
	}
	type embedding struct {
		job
		Role string `json:"role,omitempty"`
	}
	run := lambdafn.Adapt(func(_ context.Context, in embedding) (string, error) { return in.Now + in.Role, nil })
	out, err := run(t.Context(), json.RawMessage(`{"now":"n","role":"r"}`))
	require.NoError(t, err)
	assert.JSONEq(t, `"nr"`, string(out))
	_, err = run(t.Context(), json.RawMessage(`{"rule":"r"}`))
	require.ErrorContains(t, err, "(allowed: now, role)")
}

func TestPanicIsADefectWithItsPlace(t *testing.T) {
	_, err := call(t, func(context.Context, input) (output, error) { panic("boom") }, `{}`)
	var got messages.InvokeResponse_Error
	require.ErrorAs(t, err, &got)
	assert.Equal(t, "Internal", got.Type)
	assert.Contains(t, got.Message, "boom")
	require.NotEmpty(t, got.StackTrace)
	var functions []string
	for _, f := range got.StackTrace {
		functions = append(functions, filepath.Base(f.Path))
	}
	assert.Contains(t, functions, "lambdafn_test.go")
}

func TestWhatTriggersDecidedIsLogged(t *testing.T) {
	type decided struct {
		Why string `json:"why"`
	}
	for sentence, tc := range map[string]struct {
		payload string
		why     string
		logged  bool
	}{
		"an event's":                  {`{"detail-type":"x","detail":{}}`, "known before", true},
		"not an execution's":          {`{"execution":{"name":"run"},"stage":"Seal"}`, "x", false},
		"not one too long for a line": {`{"detail-type":"x","detail":{}}`, strings.Repeat("x", 20<<10), false},
	} {
		t.Run(sentence, func(t *testing.T) {
			var buf bytes.Buffer
			h := lambdafn.Logged(lambdafn.Adapt(func(context.Context, map[string]any) (decided, error) { return decided{tc.why}, nil }), &buf)
			_, err := h(t.Context(), []byte(tc.payload))
			require.NoError(t, err)
			var line map[string]any
			require.NoError(t, json.Unmarshal(buf.Bytes(), &line))
			if !tc.logged {
				assert.NotContains(t, line, "result")
				return
			}
			assert.Equal(t, map[string]any{"why": tc.why}, line["result"])
		})
	}
}

func TestLog(t *testing.T) {
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "req"})
	payload := json.RawMessage(`{"execution":{"name":"run"},"stage":"Seal"}`)
	for name, c := range map[string]struct {
		err                  error
		level, message, code string
	}{
		"done":    {nil, "INFO", "stage done", ""},
		"waiting": {failure.New(failure.SealNotReady, "stopping"), "INFO", "stage waits", "SealNotReady"},
		"failed":  {failure.New(failure.SealFailed, "x"), "ERROR", "stage failed", "SealFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			h := lambdafn.Logged(lambdafn.Adapt(func(context.Context, map[string]any) (output, error) { return output{}, c.err }), &buf)
			_, err := h(ctx, payload)
			assert.Equal(t, c.err != nil, err != nil)
			var line map[string]any
			require.NoError(t, json.Unmarshal(buf.Bytes(), &line))
			assert.Equal(t, c.level, line["level"])
			assert.Equal(t, c.message, line["msg"])
			assert.Equal(t, "req", line["requestId"])
			assert.Equal(t, "run", line["execution"])
			assert.Equal(t, "Seal", line["stage"])
			assert.Contains(t, line, "milliseconds")
			if c.code != "" {
				assert.Equal(t, c.code, line["code"])
			}
		})
	}
}

func complete() map[string]string {
	return map[string]string{
		"AWS_REGION": "eu-west-1", "AMI_FACTORY_BUCKET": "factory", "AMI_FACTORY_TOPIC_ARN": "t", "AMI_FACTORY_INSTANCE_PROFILE": "p",
		"AMI_FACTORY_VERSION": "1", "AMI_FACTORY_CHECK_ENGINES": `{"x86_64":{"key":"k","sha256":"s"}}`,
	}
}

func getenv(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestConfigNamesAllMissingVariablesAtOnce(t *testing.T) {
	env := complete()
	delete(env, "AMI_FACTORY_BUCKET")
	delete(env, "AMI_FACTORY_CHECK_ENGINES")
	_, err := lambdafn.LoadConfig(getenv(env))
	assert.EqualError(t, err, "the function's environment has no AMI_FACTORY_BUCKET, AMI_FACTORY_CHECK_ENGINES; deploy the function again")
}

func TestConfig(t *testing.T) {
	env := complete()
	env["AMI_FACTORY_SUBNET_IDS"] = "subnet-1, subnet-2,"
	env["AMI_FACTORY_COMPONENT_PARAMETERS"] = `{"docker":{"logMaxSize":"10m"}}`
	c, err := lambdafn.LoadConfig(getenv(env))
	require.NoError(t, err)
	assert.Equal(t, []string{"subnet-1", "subnet-2"}, c.SubnetIDs)
	assert.Empty(t, c.SecurityGroupIDs)
	assert.Equal(t, "ec2", c.Guests, "instances are EC2's unless something says otherwise")
	assert.Equal(t, "eu-west-1", c.Region)
	assert.Equal(t, "10m", c.Parameters["docker"]["logMaxSize"])

	env["AMI_FACTORY_COMPONENT_PARAMETERS"] = "logMaxSize=10m"
	_, err = lambdafn.LoadConfig(getenv(env))
	assert.ErrorContains(t, err, "AMI_FACTORY_COMPONENT_PARAMETERS: not a JSON object of components")
}

func TestConfigSaysWhoseFindingsCount(t *testing.T) {
	env := complete()
	c, err := lambdafn.LoadConfig(getenv(env))
	require.NoError(t, err)
	assert.Zero(t, c.Triggers.Reporters, "only Amazon Inspector's, unless something says otherwise")

	env["AMI_FACTORY_ON_DEMAND_FINDINGS"], env["AMI_FACTORY_FINDING_PRODUCTS"] = "true", "arn:a, arn:b"
	c, err = lambdafn.LoadConfig(getenv(env))
	require.NoError(t, err)
	assert.True(t, c.Triggers.Reporters.OnDemand)
	assert.Equal(t, []string{"arn:a", "arn:b"}, c.Triggers.Reporters.Products)

	env["AMI_FACTORY_ON_DEMAND_FINDINGS"] = "maybe"
	_, err = lambdafn.LoadConfig(getenv(env))
	assert.EqualError(t, err, `AMI_FACTORY_ON_DEMAND_FINDINGS is "maybe" (allowed: true, false); correct it where the factory is deployed`)
}

func environment(t *testing.T, more map[string]string) lambdafn.Environment {
	t.Helper()
	env := complete()
	for k, v := range more {
		env[k] = v
	}
	c, err := lambdafn.LoadConfig(getenv(env))
	require.NoError(t, err)
	return lambdafn.Environment{Config: c, AWS: aws.Config{
		Region: c.Region, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""), Retryer: lambdafn.Retryer,
	}}
}

func TestAddressesForGuests(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"on AWS they are S3's own": {nil, "https://factory.s3.eu-west-1.amazonaws.com/k?"},
		"another AWS has paths":    {map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}, "http://127.0.0.1:4566/factory/k?"},
		"guests may see another name for it": {map[string]string{
			"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AMI_FACTORY_GUEST_ENDPOINT_URL": "http://localcloud.internal",
		}, "http://localcloud.internal/factory/k?"},
	} {
		t.Run(name, func(t *testing.T) {
			s := environment(t, c.env).PresigningStore()
			get, err := s.GetURL(t.Context(), "k", 60e9)
			require.NoError(t, err)
			assert.Contains(t, get, c.want)
			put, err := s.PutOnceURL(t.Context(), "k", store.AnySize, 60e9)
			require.NoError(t, err)
			assert.Contains(t, put, c.want)
			assert.Contains(t, put, "X-Amz-SignedHeaders=host%3Bif-none-match&", "curl sends that header, and no other is needed")
			assert.NotContains(t, put, "checksum")
			put, err = s.PutOnceURL(t.Context(), "k", 65536, 60e9)
			require.NoError(t, err)
			assert.Contains(t, put, "X-Amz-SignedHeaders=content-length%3Bhost%3Bif-none-match&", "S3 takes this size only")
			put, err = s.PutURL(t.Context(), "k", 65536, 60e9)
			require.NoError(t, err)
			assert.Contains(t, put, c.want)
			assert.Contains(t, put, "X-Amz-SignedHeaders=content-length%3Bhost&")
			_, err = s.PutURL(t.Context(), "k", store.AnySize, 60e9)
			assert.ErrorContains(t, err, "needs their size")
		})
	}
}

func TestUserData(t *testing.T) {
	_, err := fs.Stat(environment(t, nil).Files(), "verify/run-checks.sh")
	require.NoError(t, err)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x"), nil, 0o600))
	_, err = fs.Stat(environment(t, map[string]string{"AMI_FACTORY_USERDATA_DIR": dir}).Files(), "x")
	require.NoError(t, err)
}

func TestRetriesAreBounded(t *testing.T) {
	r := lambdafn.Retryer()
	assert.Equal(t, 4, r.MaxAttempts())
	assert.True(t, r.IsErrorRetryable(&smithy.GenericAPIError{Code: "RequestLimitExceeded"}))
	status500 := &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: http.StatusInternalServerError}}}
	status500.Err = &smithy.GenericAPIError{Code: "InternalError"}
	assert.True(t, r.IsErrorRetryable(status500))
	status500.Err = &smithy.GenericAPIError{Code: "InsufficientInstanceCapacity"}
	assert.False(t, r.IsErrorRetryable(status500), "another type or zone is tried at once")
}

func TestAnAccountThatTheDeploymentDoesNotNameIsToldSo(t *testing.T) {
	e := lambdafn.Environment{AWS: aws.Config{Region: "eu-west-1", BaseEndpoint: aws.String("http://127.0.0.1:1")}}
	_, err := e.Targets()("210987654321", "eu-west-1").GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/x")})
	require.ErrorContains(t, err, "deploy the factory with account 210987654321 in the context targetAccounts")
	assert.Equal(t, failure.AccessDenied, failure.CodeOf(err))
}
