package ecr_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ecr"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire/wiretest"
)

const (
	account   = "111122223333"
	elsewhere = "444455556666"
	region    = "eu-central-1" // of wiretest.Config
)

var start = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

func newService(t *testing.T, change func(*ecr.Config)) *ecr.Service {
	t.Helper()
	cfg := ecr.Config{Clock: clock.NewVirtual(start), Default: wire.Caller{Account: account, Region: region}, Dir: t.TempDir(), Secret: "of the test"}
	if change != nil {
		change(&cfg)
	}
	s, err := ecr.New(cfg)
	require.NoError(t, err)
	return s
}

// client is the SDK's client of a service that is served over HTTP.
func client(t *testing.T, s *ecr.Service) *sdk.Client {
	t.Helper()
	server := httptest.NewServer(wire.Handler(wiretest.Options(), s.Wire()))
	t.Cleanup(server.Close)
	return sdk.NewFromConfig(wiretest.Config(server.URL))
}

// recorder keeps events as JSON.
type recorder struct {
	mu  sync.Mutex
	all []string
}

func (r *recorder) record(_ context.Context, e ecr.Event) {
	raw, err := json.Marshal(e.Detail)
	if err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%s %s/%s %s", e.DetailType, e.Account, e.Region, raw))
}

// take returns the events since the last call.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.all)
	r.all = nil
	return out
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func create(t *testing.T, api *sdk.Client, name string, change ...func(*sdk.CreateRepositoryInput)) *types.Repository {
	t.Helper()
	in := &sdk.CreateRepositoryInput{RepositoryName: aws.String(name)}
	for _, f := range change {
		f(in)
	}
	out, err := api.CreateRepository(t.Context(), in)
	require.NoError(t, err)
	return out.Repository
}

// layer uploads a layer and returns its digest.
func layer(t *testing.T, api *sdk.Client, repository, content string) string {
	t.Helper()
	begun, err := api.InitiateLayerUpload(t.Context(), &sdk.InitiateLayerUploadInput{RepositoryName: &repository})
	require.NoError(t, err)
	_, err = api.UploadLayerPart(t.Context(), &sdk.UploadLayerPartInput{
		RepositoryName: &repository, UploadId: begun.UploadId, LayerPartBlob: []byte(content), PartFirstByte: aws.Int64(0), PartLastByte: aws.Int64(int64(len(content)) - 1),
	})
	require.NoError(t, err)
	out, err := api.CompleteLayerUpload(t.Context(), &sdk.CompleteLayerUploadInput{RepositoryName: &repository, UploadId: begun.UploadId, LayerDigests: []string{digest(content)}})
	if code(err) != "LayerAlreadyExistsException" {
		require.NoError(t, err)
		require.Equal(t, digest(content), *out.LayerDigest)
	}
	return digest(content)
}

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
)

func descriptor(mediaType, content string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest(content), len(content))
}

// manifest is an image of a configuration and layers; more are further members.
func manifest(config string, layers []string, more string) string {
	var list []string
	for _, l := range layers {
		list = append(list, descriptor(ociLayer, l))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]%s}`, ociManifest, descriptor(ociConfig, config), strings.Join(list, ","), more)
}

func index(manifests ...string) string {
	var list []string
	for _, m := range manifests {
		list = append(list, descriptor(ociManifest, m))
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ociIndex, strings.Join(list, ","))
}

// push pushes an image of one layer and returns its manifest. tag may be empty.
func push(t *testing.T, api *sdk.Client, repository, tag, content, more string) string {
	t.Helper()
	layer(t, api, repository, "{}")
	layer(t, api, repository, content)
	text := manifest("{}", []string{content}, more)
	require.NoError(t, put(t, api, repository, tag, text))
	return text
}

func put(t *testing.T, api *sdk.Client, repository, tag, text string) error {
	t.Helper()
	in := &sdk.PutImageInput{RepositoryName: &repository, ImageManifest: &text}
	if tag != "" {
		in.ImageTag = &tag
	}
	_, err := api.PutImage(t.Context(), in)
	return err
}

// code is the code of an error of AWS.
func code(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	return api.ErrorCode()
}

func message(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	return api.ErrorMessage()
}
