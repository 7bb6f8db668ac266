// Package wiretest proves for a service that every member of every operation
// survives the HTTP door, with the SDK's real client at the other end.
package wiretest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/middleware"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// secret is that of all keys of tests.
const secret = "wiretest-secret"

// Account is whose calls Config makes.
const Account = "111122223333"

// Keys knows the account ids as keys, and the secret of Config.
func Keys(accessKeyID string) (wire.Key, bool) {
	if len(accessKeyID) != len(Account) || strings.Trim(accessKeyID, "0123456789") != "" {
		return wire.Key{}, false
	}
	return wire.Key{Secret: secret, Account: accessKeyID, ARN: "arn:aws:iam::" + accessKeyID + ":root"}, true
}

// Options serve who signs with Config or Credentials.
func Options() wire.HandlerOptions {
	return wire.HandlerOptions{Authenticator: wire.Authenticator{Keys: Keys}}
}

// Credentials are those of the root user of an account.
func Credentials(account string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: account, SecretAccessKey: secret}, nil
	})
}

// Sign signs a request as Account for a service, in eu-west-1, over the given body.
func Sign(t *testing.T, r *http.Request, service, body string) {
	t.Helper()
	k, err := Credentials(Account).Retrieve(t.Context())
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(sum[:])
	if service == "s3" && r.Header.Get("X-Amz-Content-Sha256") == "" {
		r.Header.Set("X-Amz-Content-Sha256", digest)
	}
	if stated := r.Header.Get("X-Amz-Content-Sha256"); stated != "" {
		digest = stated
	}
	require.NoError(t, v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" }).SignHTTP(t.Context(), k, r, digest, service, "eu-west-1", time.Now()))
}

// Config is an SDK configuration for the endpoint. Errors of AWS are not
// retried; a dropped connection is, since the SDK itself drops one now and then
// when an answer comes as fast as over loopback.
func Config(endpoint string) aws.Config {
	return aws.Config{
		Region:       "eu-central-1",
		BaseEndpoint: aws.String(endpoint),
		Credentials:  Credentials(Account),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.Retryables = []retry.IsErrorRetryable{retry.RetryableConnectionError{}}
			})
		},
	}
}

// RoundTrip calls every operation that s serves, once, through an SDK client
// (as newClient makes it of a configuration) with every member of the input
// set, answers with every member of the output set, and compares both ends.
// The service's own methods are not run. Members of union and document types
// are left out.
func RoundTrip[Client any](t *testing.T, s wire.Service, newClient func(aws.Config) *Client) {
	t.Helper()
	require.NotEmpty(t, s.Operations)
	names := make([]string, 0, len(s.Operations))
	for name := range s.Operations {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) { roundTrip(t, s, name, newClient) })
	}
}

func roundTrip[Client any](t *testing.T, s wire.Service, name string, newClient func(aws.Config) *Client) {
	t.Helper()
	// The SDK's method has the types: func(ctx, *Input, ...func(*Options)) (*Output, error).
	probe := reflect.ValueOf(newClient(Config("http://127.0.0.1:1"))).MethodByName(name)
	require.True(t, probe.IsValid(), "the SDK's client has no operation %s", name)
	input := reflect.New(probe.Type().In(1).Elem())
	output := reflect.New(probe.Type().Out(0).Elem())
	Fill(input.Interface())
	Fill(output.Interface())

	received := reflect.New(probe.Type().In(1).Elem())
	var caller wire.Caller
	s.Operations = map[string]wire.Operation{
		name: func(ctx context.Context, decode func(any) error) (any, error) {
			caller, _ = wire.CallerFrom(ctx)
			if err := decode(received.Interface()); err != nil {
				return nil, err
			}
			return output.Interface(), nil
		},
	}
	server := httptest.NewServer(wire.Handler(Options(), s))
	defer server.Close()

	method := reflect.ValueOf(newClient(Config(server.URL))).MethodByName(name)
	results := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
	if err, failed := results[1].Interface().(error); failed {
		require.NoError(t, err)
	}
	options := cmp.Options{
		cmpopts.IgnoreTypes(middleware.Metadata{}),
		cmpopts.EquateEmpty(),
		cmp.FilterPath(func(p cmp.Path) bool {
			field, ok := p.Last().(cmp.StructField)
			return ok && field.Name() == "noSmithyDocumentSerde"
		}, cmp.Ignore()),
	}
	assert.Empty(t, cmp.Diff(input.Interface(), received.Interface(), options), "the input arrives whole")
	assert.Empty(t, cmp.Diff(output.Interface(), results[0].Interface(), options), "the output returns whole")
	assert.Equal(t, Account, caller.Account)
	assert.Equal(t, "eu-central-1", caller.Region)
}
