package lambda

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// URLPath begins the path of all function URLs: /lambda-url/REGION/URL-ID/. On AWS
// the region and the id are in the host name
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html), which no
// client could resolve here.
const URLPath = "/lambda-url/"

// urlConfig is the function URL of a function.
type urlConfig struct {
	ID                string
	AuthType          types.FunctionUrlAuthType
	Created, Modified time.Time
}

// urlTime is how times of function URLs are written.
const urlTime = "2006-01-02T15:04:05.000000Z"

// newURLID returns 32 lower-case letters and digits.
func newURLID() string {
	raw := make([]byte, 20)
	_, _ = rand.Read(raw) // never fails, see crypto/rand
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw))
}

// checkURL refuses the settings of a function URL that are not available.
func checkURL(auth types.FunctionUrlAuthType, cors *types.Cors, mode types.InvokeMode) error {
	switch {
	case auth != "" && !slices.Contains(auth.Values(), auth):
		return invalid("the AuthType %q is not one of %v", auth, auth.Values())
	case cors != nil:
		return invalid("function URLs have no CORS settings in the embedded AWS, which does not answer pages of other sites")
	case mode != "" && mode != types.InvokeModeBuffered:
		return invalid("the InvokeMode %q is not available in the embedded AWS: use BUFFERED", mode)
	}
	return nil
}

// describeURL returns the configuration of a function's URL in the API's form.
func (s *Service) describeURL(f *function) types.FunctionUrlConfig {
	u := f.config.URL
	endpoint := "http://localhost"
	if s.config.Endpoint != nil && s.config.Endpoint() != "" {
		endpoint = s.config.Endpoint()
	}
	return types.FunctionUrlConfig{
		AuthType: u.AuthType, FunctionArn: aws.String(f.config.ARN), InvokeMode: types.InvokeModeBuffered,
		FunctionUrl:  aws.String(endpoint + URLPath + f.key.Region + "/" + u.ID + "/"),
		CreationTime: aws.String(u.Created.UTC().Format(urlTime)), LastModifiedTime: aws.String(u.Modified.UTC().Format(urlTime)),
	}
}

// withURL finds a function that has a URL, and returns it with s.mu held; unlock
// releases s.mu.
func (s *Service) withURL(name, qualifier *string, c wire.Caller) (f *function, unlock func(), err error) {
	k, short, err := s.resolve(qualified(name, qualifier), c)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	f = s.functions[k][short]
	switch {
	case f == nil:
		err = notFound("Function not found: " + functionARN(k, short))
	case f.config.URL == nil:
		err = notFound("The resource you requested does not exist.")
	}
	if err != nil {
		s.mu.Unlock()
		return nil, nil, err
	}
	return f, s.mu.Unlock, nil
}

// CreateFunctionUrlConfig implements the method of awslambda.Client.
func (s *Service) CreateFunctionUrlConfig(ctx context.Context, in *awslambda.CreateFunctionUrlConfigInput, optFns ...func(*awslambda.Options)) (*awslambda.CreateFunctionUrlConfigOutput, error) {
	if in.AuthType == "" {
		return nil, invalid("AuthType is required: AWS_IAM or NONE")
	}
	if err := checkURL(in.AuthType, in.Cors, in.InvokeMode); err != nil {
		return nil, err
	}
	k, short, err := s.resolve(qualified(in.FunctionName, in.Qualifier), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.functions[k][short]
	switch {
	case f == nil:
		return nil, notFound("Function not found: " + functionARN(k, short))
	case f.config.URL != nil:
		return nil, conflict(fmt.Sprintf("Failed to create function url config for [functionArn = %s]. Error message:  FunctionUrlConfig exists for this Lambda function", f.config.ARN))
	}
	now := s.config.Clock.Now()
	f.config.URL = &urlConfig{ID: newURLID(), AuthType: in.AuthType, Created: now, Modified: now}
	d := s.describeURL(f)
	return &awslambda.CreateFunctionUrlConfigOutput{
		AuthType: d.AuthType, FunctionArn: d.FunctionArn, FunctionUrl: d.FunctionUrl, InvokeMode: d.InvokeMode, CreationTime: d.CreationTime,
	}, nil
}

// GetFunctionUrlConfig implements the method of awslambda.Client.
func (s *Service) GetFunctionUrlConfig(ctx context.Context, in *awslambda.GetFunctionUrlConfigInput, optFns ...func(*awslambda.Options)) (*awslambda.GetFunctionUrlConfigOutput, error) {
	f, unlock, err := s.withURL(in.FunctionName, in.Qualifier, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	defer unlock()
	d := s.describeURL(f)
	return &awslambda.GetFunctionUrlConfigOutput{
		AuthType: d.AuthType, FunctionArn: d.FunctionArn, FunctionUrl: d.FunctionUrl, InvokeMode: d.InvokeMode, CreationTime: d.CreationTime,
		LastModifiedTime: d.LastModifiedTime,
	}, nil
}

// UpdateFunctionUrlConfig implements the method of awslambda.Client. The URL stays.
func (s *Service) UpdateFunctionUrlConfig(ctx context.Context, in *awslambda.UpdateFunctionUrlConfigInput, optFns ...func(*awslambda.Options)) (*awslambda.UpdateFunctionUrlConfigOutput, error) {
	if err := checkURL(in.AuthType, in.Cors, in.InvokeMode); err != nil {
		return nil, err
	}
	f, unlock, err := s.withURL(in.FunctionName, in.Qualifier, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	defer unlock()
	changed := *f.config.URL
	changed.AuthType, changed.Modified = orDefault(in.AuthType, changed.AuthType), s.config.Clock.Now()
	f.config.URL = &changed
	d := s.describeURL(f)
	return &awslambda.UpdateFunctionUrlConfigOutput{
		AuthType: d.AuthType, FunctionArn: d.FunctionArn, FunctionUrl: d.FunctionUrl, InvokeMode: d.InvokeMode, CreationTime: d.CreationTime,
		LastModifiedTime: d.LastModifiedTime,
	}, nil
}

// DeleteFunctionUrlConfig implements the method of awslambda.Client.
func (s *Service) DeleteFunctionUrlConfig(ctx context.Context, in *awslambda.DeleteFunctionUrlConfigInput, optFns ...func(*awslambda.Options)) (*awslambda.DeleteFunctionUrlConfigOutput, error) {
	f, unlock, err := s.withURL(in.FunctionName, in.Qualifier, s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	defer unlock()
	f.config.URL = nil
	return &awslambda.DeleteFunctionUrlConfigOutput{}, nil
}

// ListFunctionUrlConfigs implements the method of awslambda.Client. A function has
// one URL at most, because it has no aliases here.
func (s *Service) ListFunctionUrlConfigs(ctx context.Context, in *awslambda.ListFunctionUrlConfigsInput, optFns ...func(*awslambda.Options)) (*awslambda.ListFunctionUrlConfigsOutput, error) {
	f, err := s.find(aws.ToString(in.FunctionName), s.caller(ctx, optFns))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &awslambda.ListFunctionUrlConfigsOutput{FunctionUrlConfigs: []types.FunctionUrlConfig{}}
	if f.config.URL != nil {
		out.FunctionUrlConfigs = append(out.FunctionUrlConfigs, s.describeURL(f))
	}
	return out, nil
}

// Target is the function behind a function URL.
type Target struct {
	ARN, Account, Region string
	AuthType             types.FunctionUrlAuthType

	id, host string
	path     string // of the request, below the URL; begins with /
	function *function
}

// IsFunctionURL says whether a request is for a function URL, which may not exist.
// Beside the path, the host ID.lambda-url.REGION.localhost is accepted.
func IsFunctionURL(r *http.Request) bool {
	_, _, _, ok := splitURL(r)
	return ok
}

func splitURL(r *http.Request) (region, id, path string, ok bool) {
	host, _, _ := strings.Cut(r.Host, ":")
	if labels := strings.Split(strings.ToLower(host), "."); len(labels) == 4 && labels[1] == "lambda-url" && labels[3] == "localhost" {
		return labels[2], labels[0], r.URL.EscapedPath(), true
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), URLPath)
	if !ok {
		return "", "", "", false
	}
	region, rest, _ = strings.Cut(rest, "/")
	id, path, _ = strings.Cut(rest, "/")
	return region, id, "/" + path, true
}

// Target returns the function of a request for a function URL; ok is false if there
// is no such URL.
func (s *Service) Target(r *http.Request) (target Target, ok bool) {
	region, id, path, ok := splitURL(r)
	if !ok {
		return Target{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, functions := range s.functions {
		if k.Region != region {
			continue
		}
		for _, f := range functions {
			if f.config.URL != nil && f.config.URL.ID == id {
				return Target{
					ARN: f.config.ARN, Account: k.Account, Region: k.Region, AuthType: f.config.URL.AuthType,
					id: id, host: id + ".lambda-url." + region + ".on.aws", path: path, function: f,
				}, true
			}
		}
	}
	return Target{}, false
}

// unescaped is a path without its percent-encoding; the path itself where that is
// not valid.
func unescaped(path string) string {
	if plain, err := url.PathUnescape(path); err == nil {
		return plain
	}
	return path
}
