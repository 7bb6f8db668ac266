package wire_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

// whoami is an STS that tells what the front found out.
func whoami() wire.Service {
	return wire.Service{ID: "sts", Name: "STS", Protocol: wire.AWSQuery, Version: "2011-06-15", Operations: map[string]wire.Operation{
		"GetCallerIdentity": wire.Op(func(ctx context.Context, _ *sts.GetCallerIdentityInput, _ ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error) {
			c, _ := wire.CallerFrom(ctx)
			return &sts.GetCallerIdentityOutput{Account: &c.Account, Arn: &c.ARN, UserId: aws.String(c.Region + " " + c.AccessKeyID)}, nil
		}),
	}}
}

func failing(id string, protocol wire.Protocol, prefix, operation string, err error) wire.Service {
	return wire.Service{ID: id, Name: strings.ToUpper(id), Protocol: protocol, Version: "2016-11-15", TargetPrefix: prefix,
		Operations: map[string]wire.Operation{operation: func(context.Context, func(any) error) (any, error) { return nil, err }}}
}

func serve(t *testing.T, opts wire.HandlerOptions, services ...wire.Service) string {
	t.Helper()
	opts.Authenticator = wiretest.Options().Authenticator
	server := httptest.NewServer(wire.Handler(opts, services...))
	t.Cleanup(server.Close)
	return server.URL
}

func TestErrorsReachTheClientAsAWSHasThem(t *testing.T) {
	modelled := &ssmtypes.ParameterNotFound{Message: aws.String("no such parameter")}
	server := wire.Errorf("InternalServerError", "broken")
	server.Fault = smithy.FaultServer
	for sentence, c := range map[string]struct {
		protocol wire.Protocol
		err      error
		code     string
		message  string
		status   int
	}{
		"a client's fault in EC2":              {wire.EC2Query, wire.Errorf("InvalidAMIID.NotFound", "no <ami>"), "InvalidAMIID.NotFound", "no <ami>", 400},
		"throttling in EC2":                    {wire.EC2Query, wire.Errorf("RequestLimitExceeded", "slow down"), "RequestLimitExceeded", "slow down", 503},
		"want of capacity in EC2":              {wire.EC2Query, wire.Errorf("InsufficientInstanceCapacity", "none"), "InsufficientInstanceCapacity", "none", 500},
		"want of permission in EC2":            {wire.EC2Query, wire.Errorf("UnauthorizedOperation", "no"), "UnauthorizedOperation", "no", 403},
		"a defect in EC2":                      {wire.EC2Query, errors.New("nil map"), "InternalError", "nil map", 500},
		"a client's fault in the query form":   {wire.AWSQuery, wire.Errorf("InvalidParameter", "bad"), "InvalidParameter", "bad", 400},
		"throttling in the query form":         {wire.AWSQuery, wire.Errorf("Throttling", "slow"), "Throttling", "slow", 400},
		"want of permission in the query form": {wire.AWSQuery, wire.Errorf("AccessDenied", "no"), "AccessDenied", "no", 403},
		"nothing found in the query form":      {wire.AWSQuery, wire.Errorf("NotFound", "no topic"), "NotFound", "no topic", 404},
		"a modelled error in JSON":             {wire.AWSJSON, modelled, "ParameterNotFound", "no such parameter", 400},
		"want of permission in JSON":           {wire.AWSJSON, wire.Errorf("AccessDeniedException", "no"), "AccessDeniedException", "no", 400},
		"throttling in JSON":                   {wire.AWSJSON, wire.Errorf("ThrottlingException", "slow"), "ThrottlingException", "slow", 400},
		"a server's fault in JSON":             {wire.AWSJSON, server, "InternalServerError", "broken", 500},
		"a defect in JSON":                     {wire.AWSJSON, errors.New("nil map"), "InternalFailure", "nil map", 500},
		"a wrapped error":                      {wire.AWSJSON, errors.Join(errors.New("outer"), modelled), "ParameterNotFound", "no such parameter", 400},
		"an injected fault, with its status":   {wire.EC2Query, &fault.Injected{GenericAPIError: *wire.Errorf("Weird", "odd"), Status: 418}, "Weird", "odd", 418},
	} {
		t.Run(sentence, func(t *testing.T) {
			ctx := t.Context()
			var err error
			switch c.protocol {
			case wire.EC2Query:
				url := serve(t, wire.HandlerOptions{}, failing("ec2", c.protocol, "", "DescribeVpcs", c.err))
				_, err = ec2.NewFromConfig(wiretest.Config(url)).DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
			case wire.AWSQuery:
				url := serve(t, wire.HandlerOptions{}, failing("sts", c.protocol, "", "GetCallerIdentity", c.err))
				_, err = sts.NewFromConfig(wiretest.Config(url)).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			default:
				url := serve(t, wire.HandlerOptions{}, failing("ssm", c.protocol, "AmazonSSM", "GetParameter", c.err))
				_, err = ssm.NewFromConfig(wiretest.Config(url)).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("p")})
			}
			requireAPIError(t, err, c.code, c.message, c.status)
		})
	}
}

func requireAPIError(t *testing.T, err error, code, message string, status int) {
	t.Helper()
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	assert.Equal(t, code, api.ErrorCode())
	assert.Contains(t, api.ErrorMessage(), message)
	var response interface{ HTTPStatusCode() int }
	require.ErrorAs(t, err, &response)
	assert.Equal(t, status, response.HTTPStatusCode())
	var withID interface{ ServiceRequestID() string }
	require.ErrorAs(t, err, &withID)
	assert.Len(t, withID.ServiceRequestID(), 36)
}

func TestAModelledErrorKeepsItsType(t *testing.T) {
	url := serve(t, wire.HandlerOptions{}, failing("ssm", wire.AWSJSON, "AmazonSSM", "GetParameter", &ssmtypes.ParameterNotFound{}))
	_, err := ssm.NewFromConfig(wiretest.Config(url)).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("p")})
	var notFound *ssmtypes.ParameterNotFound
	assert.ErrorAs(t, err, &notFound)
}

func TestWhatIsNotServedIsNamed(t *testing.T) {
	url := serve(t, wire.HandlerOptions{}, whoami(), failing("ssm", wire.AWSJSON, "AmazonSSM", "GetParameter", nil))
	cfg := wiretest.Config(url)
	ctx := t.Context()
	_, err := sts.NewFromConfig(cfg).GetSessionToken(ctx, &sts.GetSessionTokenInput{})
	requireAPIError(t, err, "InvalidAction", "does not serve the operation GetSessionToken of STS; it serves: GetCallerIdentity", 400)
	_, err = ssm.NewFromConfig(cfg).ListCommands(ctx, &ssm.ListCommandsInput{})
	requireAPIError(t, err, "UnknownOperationException", "does not serve the operation ListCommands of SSM; it serves: GetParameter", 400)
	_, err = ec2.NewFromConfig(cfg).DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	requireAPIError(t, err, "InvalidAction", "does not serve ec2 (operation DescribeVpcs); it serves: ssm, sts", 400)
}

func TestFaultsAreInjectedBeforeTheOperation(t *testing.T) {
	var asked []string
	url := serve(t, wire.HandlerOptions{Before: func(_ context.Context, c wire.Caller, service, operation string) error {
		asked = append(asked, c.Account+" "+service+" "+operation)
		if len(asked) == 1 {
			return wire.Errorf("Throttling", "Rate exceeded")
		}
		return nil
	}}, whoami())
	client := sts.NewFromConfig(wiretest.Config(url))
	_, err := client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	requireAPIError(t, err, "Throttling", "Rate exceeded", 400)
	_, err = client.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	require.NoError(t, err)
	assert.Equal(t, []string{"111122223333 sts GetCallerIdentity", "111122223333 sts GetCallerIdentity"}, asked)
}

func TestAPanicIsAServerFault(t *testing.T) {
	s := whoami()
	s.Operations["GetCallerIdentity"] = func(context.Context, func(any) error) (any, error) { panic("boom") }
	_, err := sts.NewFromConfig(wiretest.Config(serve(t, wire.HandlerOptions{}, s))).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	requireAPIError(t, err, "InternalFailure", "boom", 500)
}

func TestAPanicInARESTServiceIsAServerFaultToo(t *testing.T) {
	for sentence, tc := range map[string]struct{ id, code string }{
		"of S3":     {"s3", "InternalError"},
		"of Lambda": {"lambda", "InternalFailure"},
	} {
		t.Run(sentence, func(t *testing.T) {
			calls := 0
			url := serve(t, wire.HandlerOptions{}, wire.Service{ID: tc.id, Name: tc.id, Protocol: wire.REST,
				Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++; panic("boom") })})
			for range 2 { // the front goes on
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/thing", nil)
				require.NoError(t, err)
				wiretest.Sign(t, request, tc.id, "")
				response, err := http.DefaultClient.Do(request)
				require.NoError(t, err)
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				assert.Equal(t, http.StatusInternalServerError, response.StatusCode)
				assert.Contains(t, string(body), tc.code)
				assert.Contains(t, string(body), "boom")
			}
			assert.Equal(t, 2, calls)
		})
	}
}

func TestRawRequests(t *testing.T) {
	objects := wire.Service{ID: "s3", Name: "S3", Protocol: wire.REST, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := wire.CallerFrom(r.Context())
		_, _ = io.WriteString(w, "object of "+c.Account+"/"+c.Region)
	})}
	opts := wiretest.Options()
	opts.MaxBody = 100
	handler := wire.Handler(opts, objects, whoami(), failing("ssm", wire.AWSJSON, "AmazonSSM", "GetParameter", nil))
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	for sentence, c := range map[string]struct {
		method, target, host string
		sign                 string
		header               http.Header
		body                 string
		status               int
		says                 string
	}{
		"a host of the guests":             {"GET", "/b/k", "localcloud.internal", "s3", nil, "", 200, "object of 111122223333/eu-west-1"},
		"a bucket's host":                  {"GET", "/k", "bucket.localhost:4566", "s3", nil, "", 200, "object of"},
		"loopback by IPv6":                 {"GET", "/b/k", "[::1]:4566", "s3", nil, "", 200, "object of"},
		"another host, by DNS rebinding":   {"GET", "/b/k", "evil.example:4566", "s3", nil, "", 403, "only on loopback and as localcloud.internal"},
		"a host that only looks like ours": {"GET", "/b/k", "localhost.evil.example", "s3", nil, "", 403, "loopback"},
		"a page of another site":           {"POST", "/b/k", "127.0.0.1", "s3", http.Header{"Origin": {"https://evil.example"}}, "", 403, "origin"},
		"a picture in such a page":         {"GET", "/b/k", "127.0.0.1", "s3", http.Header{"Sec-Fetch-Site": {"cross-site"}}, "", 403, "pages of other sites"},
		"a page of a sibling":              {"GET", "/b/k", "127.0.0.1", "s3", http.Header{"Sec-Fetch-Site": {"same-site"}}, "", 403, "pages of other sites"},
		"an address that somebody typed":   {"GET", "/b/k", "127.0.0.1", "s3", http.Header{"Sec-Fetch-Site": {"none"}}, "", 200, "object of"},
		"a page of this machine":           {"GET", "/b/k", "127.0.0.1", "s3", http.Header{"Origin": {"http://localhost:8080"}}, "", 200, "object of"},
		"an API call without a signature":  {"POST", "/", "127.0.0.1", "", form, "Action=GetCallerIdentity", 403, "MissingAuthenticationToken"},
		"an object without a signature":    {"GET", "/b/k", "127.0.0.1", "", nil, "", 403, "AccessDenied"},
		"a call with no action":            {"POST", "/", "127.0.0.1", "sts", form, "Version=1", 400, "MissingAction"},
		"a body that is too large":         {"POST", "/", "127.0.0.1", "sts", form, strings.Repeat("x", 101), 413, "larger than 100 bytes"},
		"a REST service that is not there": {"GET", "/2015-03-31/functions", "127.0.0.1", "lambda", nil, "", 400, "does not serve lambda (operation GET /2015-03-31/functions)"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), c.method, c.target, strings.NewReader(c.body))
			r.Host = c.host
			for name, values := range c.header {
				r.Header[name] = values
			}
			if c.sign != "" {
				wiretest.Sign(t, r, c.sign, c.body)
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			assert.Equal(t, c.status, w.Code, w.Body.String())
			assert.Contains(t, w.Body.String(), c.says)
		})
	}
}

func TestBadInputIsRefusedWithItsPlace(t *testing.T) {
	var in ssm.SendCommandInput
	service := wire.Service{ID: "ssm", Name: "SSM", Protocol: wire.AWSJSON, TargetPrefix: "AmazonSSM", Operations: map[string]wire.Operation{
		"SendCommand": func(_ context.Context, decode func(any) error) (any, error) {
			return &ssm.SendCommandOutput{}, decode(&in)
		},
	}}
	handler := wire.Handler(wiretest.Options(), service)
	for sentence, c := range map[string]struct{ body, says string }{
		"text that is not JSON":       {`{"DocumentName":`, "not JSON"},
		"two values":                  {`{} {}`, "text after"},
		"a list instead of an object": {`[]`, "the request: a list instead of an object"},
		"a number for a string":       {`{"DocumentName": 3}`, "DocumentName: a number instead of a string"},
		"a string for a number":       {`{"TimeoutSeconds": "3"}`, "TimeoutSeconds: a string instead of a int32"},
		"a number that does not fit":  {`{"TimeoutSeconds": 3000000000}`, `"3000000000" is not an integer of 32 bits`},
		"a wrong element deep down":   {`{"Targets": [{"Values": ["a", {}]}]}`, "Targets[0].Values[1]: an object instead of a string"},
		"a wrong value in a map":      {`{"Parameters": {"commands": "id"}}`, "Parameters.commands: a string instead of a list"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", strings.NewReader(c.body))
			r.Header.Set("X-Amz-Target", "AmazonSSM.SendCommand")
			wiretest.Sign(t, r, "ssm", c.body)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			assert.Equal(t, 400, w.Code)
			assert.Contains(t, w.Body.String(), "SerializationException")
			assert.Contains(t, strings.ReplaceAll(w.Body.String(), `\"`, `"`), c.says)
		})
	}
}

func TestAnAnswerThatFailsAfterItHasBegunIsCut(t *testing.T) {
	url := serve(t, wire.HandlerOptions{}, wire.Service{ID: "lambda", Name: "Lambda", Protocol: wire.REST,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) // the client reads it
			http.Error(w, "something failed", http.StatusInternalServerError)
		})})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/thing", nil)
	require.NoError(t, err)
	wiretest.Sign(t, request, "lambda", "")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.Error(t, err)
	assert.NotContains(t, string(body), "something failed")
}
