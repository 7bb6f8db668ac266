package ecr_test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

// snapshots is the folder of the SDK's module, which has a request and a response of
// every operation.
func snapshots(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/ecr").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// body is the body of a snapshot, after the first empty line behind its headers.
func body(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(raw[bytes.IndexByte(raw, '{'):])
}

// TestEveryOperationReadsAndWritesWhatTheSDKDoes decodes the SDK's recorded request of
// each operation and lets the SDK's client send the same again; and it lets the client
// read the recorded response and encodes it again.
func TestEveryOperationReadsAndWritesWhatTheSDKDoes(t *testing.T) {
	dir := snapshots(t)
	service := newService(t, nil).Wire()
	for _, name := range slices.Sorted(maps.Keys(service.Operations)) {
		t.Run(name, func(t *testing.T) {
			request, response := body(t, filepath.Join(dir, "request_snapshot", name+".request.snap")), body(t, filepath.Join(dir, "response_snapshot", name+".response.snap"))
			method, ok := reflect.TypeFor[*sdk.Client]().MethodByName(name)
			require.True(t, ok)
			input, output := reflect.New(method.Type.In(2).Elem()), reflect.New(method.Type.Out(0).Elem())
			one := service
			one.Operations = map[string]wire.Operation{name: func(_ context.Context, decode func(any) error) (any, error) {
				return output.Interface(), decode(input.Interface())
			}}
			server := httptest.NewServer(wire.Handler(wiretest.Options(), one))
			defer server.Close()
			post := func() string {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(request))
				require.NoError(t, err)
				r.Header.Set("Content-Type", "application/x-amz-json-1.1")
				r.Header.Set("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921."+name)
				wiretest.Sign(t, r, "ecr", request)
				answer, err := http.DefaultClient.Do(r)
				require.NoError(t, err)
				defer func() { _ = answer.Body.Close() }()
				raw, err := io.ReadAll(answer.Body)
				require.NoError(t, err)
				require.Equal(t, http.StatusOK, answer.StatusCode, "%s", raw)
				return string(raw)
			}
			post() // decodes the request into input

			var sent string
			cfg := wiretest.Config("http://127.0.0.1:1")
			cfg.HTTPClient = do(func(r *http.Request) (*http.Response, error) {
				raw, err := io.ReadAll(r.Body)
				sent = string(raw)
				return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(response)), Request: r}, err
			})
			results := reflect.ValueOf(sdk.NewFromConfig(cfg)).MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
			if err, failed := results[1].Interface().(error); failed {
				require.NoError(t, err)
			}
			assert.JSONEq(t, request, sent)
			output = results[0]
			assert.JSONEq(t, response, post())
		})
	}
}

type do func(*http.Request) (*http.Response, error)

// Do implements aws.HTTPClient.
func (f do) Do(r *http.Request) (*http.Response, error) { return f(r) }

var _ aws.HTTPClient = do(nil)
