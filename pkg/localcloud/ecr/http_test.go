package ecr_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ecr"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// door is a registry that is served over HTTP, beside its JSON API.
type door struct {
	url      string // http://127.0.0.1:PORT
	host     string
	api      *sdk.Client
	password string
	clock    *clock.Virtual
	dir      string
}

func serve(t *testing.T, change func(*ecr.Config)) *door {
	t.Helper()
	d := &door{clock: clock.NewVirtual(start), dir: t.TempDir()}
	t.Cleanup(d.clock.Hold())
	s := newService(t, func(c *ecr.Config) {
		c.Clock, c.Dir, c.Endpoint = d.clock, d.dir, func() string { return d.url }
		if change != nil {
			change(c)
		}
	})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	d.url, d.host, d.api = server.URL, strings.TrimPrefix(server.URL, "http://"), client(t, s)
	d.password = d.login(t)
	return d
}

// login gets a password as docker login does.
func (d *door) login(t *testing.T) string {
	t.Helper()
	out, err := d.api.GetAuthorizationToken(t.Context(), &sdk.GetAuthorizationTokenInput{})
	require.NoError(t, err)
	require.Len(t, out.AuthorizationData, 1)
	assert.Equal(t, d.url, *out.AuthorizationData[0].ProxyEndpoint)
	assert.Equal(t, d.clock.Now().Add(12*time.Hour), out.AuthorizationData[0].ExpiresAt.UTC())
	raw, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
	require.NoError(t, err)
	user, password, _ := strings.Cut(string(raw), ":")
	require.Equal(t, "AWS", user)
	return password
}

func (d *door) auth() authn.Authenticator {
	return &authn.Basic{Username: "AWS", Password: d.password}
}

// answer is what a raw request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// code is the first code of the registry's errors.
func (a answer) code(t *testing.T) string {
	t.Helper()
	var out struct {
		Errors []struct{ Code, Message string }
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &out), "%d %s", a.status, a.body)
	require.Len(t, out.Errors, 1)
	assert.NotEmpty(t, out.Errors[0].Message)
	return out.Errors[0].Code
}

func (d *door) send(t *testing.T, method, path, content string, header ...string) answer {
	t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = d.url + path
	}
	r, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(content))
	require.NoError(t, err)
	if d.password != "" {
		r.SetBasicAuth("AWS", d.password)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	out, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = out.Body.Close() }()
	raw, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	return answer{out.StatusCode, out.Header, string(raw)}
}

// upload uploads a layer in one request.
func (d *door) upload(t *testing.T, repository, content string) {
	t.Helper()
	out := d.send(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+digest(content), content)
	require.Equal(t, http.StatusCreated, out.status, out.body)
	require.Equal(t, digest(content), out.header.Get("Docker-Content-Digest"))
}

func TestCranePushesPullsCopiesListsAndDeletes(t *testing.T) {
	d := serve(t, nil)
	for _, n := range []string{"team/app", "other"} {
		made := create(t, d.api, n)
		assert.Equal(t, d.host+"/"+n, *made.RepositoryUri)
	}
	login := crane.WithAuth(d.auth())
	image, err := random.Image(300_000, 3)
	require.NoError(t, err)
	want, err := image.Digest()
	require.NoError(t, err)
	first := d.host + "/team/app:1"
	require.NoError(t, crane.Push(image, first, login))
	require.NoError(t, crane.Push(image, first, login), "the same image again")
	got, err := crane.Digest(first, login)
	require.NoError(t, err)
	assert.Equal(t, want.String(), got)
	pulled, err := crane.Pull(first, login)
	require.NoError(t, err)
	require.NoError(t, validate.Image(pulled), "each layer has its digest")
	require.NoError(t, crane.Copy(first, d.host+"/other:copied", login))
	require.NoError(t, crane.Tag(first, "latest", login))
	tags, err := crane.ListTags(d.host+"/team/app", login)
	require.NoError(t, err)
	assert.Equal(t, []string{"1", "latest"}, tags)
	all, err := crane.Catalog(d.host, login)
	require.NoError(t, err)
	assert.Equal(t, []string{"other", "team/app"}, all)
	described, err := d.api.DescribeImages(t.Context(), &sdk.DescribeImagesInput{RepositoryName: aws.String("other")})
	require.NoError(t, err)
	require.Len(t, described.ImageDetails, 1)
	assert.Equal(t, want.String(), *described.ImageDetails[0].ImageDigest, "both doors have one store")
	require.NoError(t, crane.Delete(d.host+"/other@"+want.String(), login))
	_, err = crane.Digest(d.host+"/other:copied", login)
	assert.ErrorContains(t, err, "MANIFEST_UNKNOWN")

	list, err := random.Index(1000, 1, 3)
	require.NoError(t, err)
	ref, err := name.ParseReference(d.host + "/other:list")
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(ref, list, remote.WithAuth(d.auth())))
	back, err := remote.Index(ref, remote.WithAuth(d.auth()))
	require.NoError(t, err)
	require.NoError(t, validate.Index(back))
	assert.ErrorContains(t, crane.Push(image, d.host+"/missing:1", login), "NAME_UNKNOWN")
}

func TestReferrersOverTheRegistry(t *testing.T) {
	d := serve(t, nil)
	create(t, d.api, "app")
	image, err := random.Image(100, 1)
	require.NoError(t, err)
	ref, err := name.ParseReference(d.host + "/app:1")
	require.NoError(t, err)
	login := remote.WithAuth(d.auth())
	require.NoError(t, remote.Write(ref, image, login))
	subject, err := remote.Head(ref, login)
	require.NoError(t, err)
	var digests []v1.Hash
	for _, kind := range []string{"application/spdx+json", "application/vnd.in-toto+json"} {
		plain := mutate.ConfigMediaType(mutate.MediaType(empty.Image, "application/vnd.oci.image.manifest.v1+json"), "application/vnd.test")
		referrer, ok := mutate.Subject(mutate.Annotations(plain, map[string]string{"kind": kind}), *subject).(v1.Image)
		require.True(t, ok)
		d1, err := referrer.Digest()
		require.NoError(t, err)
		digests = append(digests, d1)
		require.NoError(t, remote.Write(ref.Context().Digest(d1.String()), referrer, login))
	}
	list, err := remote.Referrers(ref.Context().Digest(subject.Digest.String()), login)
	require.NoError(t, err)
	found, err := list.IndexManifest()
	require.NoError(t, err)
	require.Len(t, found.Manifests, 2)
	for _, m := range found.Manifests {
		assert.Contains(t, digests, m.Digest)
		assert.Equal(t, "application/vnd.test", m.ArtifactType)
		assert.NotEmpty(t, m.Annotations["kind"])
	}
	filtered := d.send(t, http.MethodGet, "/v2/app/referrers/"+subject.Digest.String()+"?artifactType=application/other", "")
	assert.Equal(t, "artifactType", filtered.header.Get("OCI-Filters-Applied"))
	assert.JSONEq(t, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`, filtered.body)
	none := d.send(t, http.MethodGet, "/v2/app/referrers/"+digest("nothing"), "")
	assert.Equal(t, http.StatusOK, none.status, "a subject that is not there has none")
}

func TestWhoHasNoTokenIsAskedForOne(t *testing.T) {
	known := true
	d := serve(t, func(c *ecr.Config) { c.Known = func(string) bool { return known } })
	create(t, d.api, "app")
	good := d.password
	for says, password := range map[string]string{"none": "", "of nobody": "secret", "that was changed": good[:len(good)-2] + "xx", "of another claim": "e30." + good[strings.Index(good, ".")+1:]} {
		d.password = password
		out := d.send(t, http.MethodGet, "/v2/", "")
		assert.Equal(t, http.StatusUnauthorized, out.status, says)
		assert.Equal(t, "UNAUTHORIZED", out.code(t))
		assert.Equal(t, fmt.Sprintf(`Basic realm="%s/",service="ecr.amazonaws.com"`, d.url), out.header.Get("Www-Authenticate"))
	}
	d.password = good
	assert.Equal(t, http.StatusOK, d.send(t, http.MethodGet, "/v2/", "").status)
	known = false
	gone := d.send(t, http.MethodGet, "/v2/", "")
	assert.Equal(t, http.StatusForbidden, gone.status, "the access key does not exist any more")
	known = true
	require.NoError(t, d.clock.Sleep(t.Context(), 12*time.Hour-time.Second))
	assert.Equal(t, http.StatusOK, d.send(t, http.MethodGet, "/v2/", "").status)
	require.NoError(t, d.clock.Sleep(t.Context(), time.Second))
	expired := d.send(t, http.MethodGet, "/v2/", "")
	assert.Equal(t, http.StatusForbidden, expired.status)
	assert.Equal(t, "DENIED", expired.code(t))
	assert.Contains(t, expired.body, "Your authorization token has expired. Reauthenticate and try again.")
	d.password = d.login(t)
	assert.Equal(t, http.StatusOK, d.send(t, http.MethodGet, "/v2/", "").status)
}

func TestTheHostOrTheTokenNamesTheRegistry(t *testing.T) {
	d := serve(t, nil)
	out, err := d.api.CreateRepository(t.Context(), &sdk.CreateRepositoryInput{RepositoryName: aws.String("theirs"), RegistryId: aws.String(elsewhere)})
	require.NoError(t, err)
	port := d.host[strings.LastIndex(d.host, ":"):]
	assert.Equal(t, elsewhere+".dkr.ecr.eu-central-1.localhost"+port+"/theirs", *out.Repository.RepositoryUri)
	assert.Equal(t, "NAME_UNKNOWN", d.send(t, http.MethodGet, "/v2/theirs/tags/list", "").code(t), "it is in another registry than the token's")
	for _, host := range []string{elsewhere + ".dkr.ecr.eu-central-1.localhost" + port, elsewhere + ".dkr.ecr.eu-central-1.amazonaws.com"} {
		assert.JSONEq(t, `{"name":"theirs","tags":[]}`, d.send(t, http.MethodGet, "/v2/theirs/tags/list", "", "Host", host).body)
	}
	assert.Equal(t, "NAME_UNKNOWN", d.send(t, http.MethodGet, "/v2/theirs/tags/list", "", "Host", elsewhere+".dkr.ecr.eu-west-1.localhost"+port).code(t), "nor in another region")
}

func TestChunksOfALayer(t *testing.T) {
	d := serve(t, func(c *ecr.Config) { c.MaxLayer = 20 })
	create(t, d.api, "app")
	create(t, d.api, "other")
	begin := func() string {
		out := d.send(t, http.MethodPost, "/v2/app/blobs/uploads/", "")
		require.Equal(t, http.StatusAccepted, out.status)
		assert.Equal(t, "0-0", out.header.Get("Range"))
		return out.header.Get("Location")
	}
	at := begin()
	first := d.send(t, http.MethodPatch, at, "01234", "Content-Range", "0-4")
	require.Equal(t, http.StatusAccepted, first.status, first.body)
	assert.Equal(t, "0-4", first.header.Get("Range"))
	gap := d.send(t, http.MethodPatch, at, "x", "Content-Range", "7-7")
	assert.Equal(t, http.StatusRequestedRangeNotSatisfiable, gap.status)
	assert.Equal(t, "BLOB_UPLOAD_INVALID", gap.code(t))
	assert.Equal(t, "SIZE_INVALID", d.send(t, http.MethodPatch, at, "x", "Content-Range", "5-9").code(t))
	status := d.send(t, http.MethodGet, at, "")
	assert.Equal(t, http.StatusNoContent, status.status)
	assert.Equal(t, "0-4", status.header.Get("Range"))
	assert.Equal(t, "BLOB_UPLOAD_UNKNOWN", d.send(t, http.MethodPatch, strings.Replace(at, "/app/", "/other/", 1), "x").code(t), "an upload is of its repository")
	assert.Equal(t, http.StatusAccepted, d.send(t, http.MethodPatch, at, "56", "Content-Range", "5-6").status)
	done := d.send(t, http.MethodPut, at+"?digest="+digest("0123456789"), "789", "Content-Range", "7-9")
	require.Equal(t, http.StatusCreated, done.status, done.body)

	blob := "/v2/app/blobs/" + digest("0123456789")
	assert.Equal(t, "0123456789", d.send(t, http.MethodGet, blob, "").body)
	head := d.send(t, http.MethodHead, blob, "")
	assert.Equal(t, "10", head.header.Get("Content-Length"))
	part := d.send(t, http.MethodGet, blob, "", "Range", "bytes=2-4")
	assert.Equal(t, http.StatusPartialContent, part.status)
	assert.Equal(t, "234", part.body)
	assert.Equal(t, http.StatusRequestedRangeNotSatisfiable, d.send(t, http.MethodGet, blob, "", "Range", "bytes=20-").status)
	assert.Equal(t, "BLOB_UNKNOWN", d.send(t, http.MethodGet, "/v2/other/blobs/"+digest("0123456789"), "").code(t), "a layer is of its repository")

	wrong := begin()
	assert.Equal(t, "DIGEST_INVALID", d.send(t, http.MethodPut, wrong+"?digest="+digest("other"), "content").code(t))
	assert.Equal(t, "BLOB_UPLOAD_UNKNOWN", d.send(t, http.MethodGet, wrong, "").code(t))
	large := begin()
	out := d.send(t, http.MethodPatch, large, strings.Repeat("x", 21))
	assert.Equal(t, http.StatusRequestEntityTooLarge, out.status)
	assert.Equal(t, "SIZE_INVALID", out.code(t))
	cancelled := begin()
	assert.Equal(t, http.StatusNoContent, d.send(t, http.MethodDelete, cancelled, "").status)
	assert.Equal(t, "BLOB_UPLOAD_UNKNOWN", d.send(t, http.MethodPatch, cancelled, "x").code(t))
	left, err := os.ReadDir(filepath.Join(d.dir, "uploads"))
	require.NoError(t, err)
	assert.Empty(t, left, "no upload leaves a file")
}

func TestALayerIsMountedWhereTheRegistryHasTheSettingAndTheCallerMayReadIt(t *testing.T) {
	denied := ""
	d := serve(t, func(c *ecr.Config) {
		c.Permit = func(_ context.Context, _ wire.Caller, _ string, input any) error {
			if in, ok := input.(*sdk.GetDownloadUrlForLayerInput); ok && *in.RepositoryName == denied {
				return assert.AnError
			}
			return nil
		}
	})
	create(t, d.api, "from")
	create(t, d.api, "to")
	d.upload(t, "from", "layer")
	mount := func(from string) answer {
		return d.send(t, http.MethodPost, "/v2/to/blobs/uploads/?mount="+digest("layer")+"&from="+from, "")
	}
	assert.Equal(t, http.StatusAccepted, mount("from").status, "the setting is off, as it is on AWS")
	_, err := d.api.PutAccountSetting(t.Context(), &sdk.PutAccountSettingInput{Name: aws.String("BLOB_MOUNTING"), Value: aws.String("ENABLED")})
	require.NoError(t, err)
	denied = "from"
	assert.Equal(t, http.StatusAccepted, mount("from").status, "the caller may not read it")
	denied = ""
	for _, from := range []string{"missing", "", "../from", "to"} {
		assert.Equal(t, http.StatusAccepted, mount(from).status, from)
	}
	assert.Equal(t, http.StatusNotFound, d.send(t, http.MethodHead, "/v2/to/blobs/"+digest("layer"), "").status)
	out := mount("from")
	require.Equal(t, http.StatusCreated, out.status, out.body)
	assert.Equal(t, "layer", d.send(t, http.MethodGet, "/v2/to/blobs/"+digest("layer"), "").body)
	_, err = d.api.DeleteRepository(t.Context(), &sdk.DeleteRepositoryInput{RepositoryName: aws.String("from"), Force: true})
	require.NoError(t, err)
	assert.Equal(t, "layer", d.send(t, http.MethodGet, "/v2/to/blobs/"+digest("layer"), "").body, "it stays where it was mounted")
}

func TestManifestsOnTheWire(t *testing.T) {
	d := serve(t, nil)
	create(t, d.api, "app", func(in *sdk.CreateRepositoryInput) { in.ImageTagMutability = "IMMUTABLE" })
	d.upload(t, "app", "{}")
	d.upload(t, "app", "layer")
	d.upload(t, "app", "second")
	text, second := manifest("{}", []string{"layer"}, ""), manifest("{}", []string{"second"}, "")
	put := func(reference, content, mediaType string) answer {
		return d.send(t, http.MethodPut, "/v2/app/manifests/"+reference, content, "Content-Type", mediaType)
	}
	out := put("1", text, ociManifest)
	require.Equal(t, http.StatusCreated, out.status, out.body)
	assert.Equal(t, "/v2/app/manifests/"+digest(text), out.header.Get("Location"))
	assert.Equal(t, http.StatusCreated, put("1", text, ociManifest).status, "the same image again is no other image")
	moved := put("1", second, ociManifest)
	assert.Equal(t, http.StatusBadRequest, moved.status)
	assert.Equal(t, "TAG_INVALID", moved.code(t))
	assert.Contains(t, moved.body, "The image tag '1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable.")
	assert.Equal(t, http.StatusCreated, put(digest(second), second, "").status, "by digest, the media type from the document")
	for name, test := range map[string]struct {
		out  answer
		code string
	}{
		"another digest":           {put(digest("x"), text, ociManifest), "DIGEST_INVALID"},
		"a missing layer":          {put("2", manifest("{}", []string{"none"}, ""), ociManifest), "MANIFEST_BLOB_UNKNOWN"},
		"a missing member":         {put("2", index(manifest("{}", []string{"none"}, "")), ociIndex), "MANIFEST_BLOB_UNKNOWN"},
		"no JSON":                  {put("2", "{", ociManifest), "MANIFEST_INVALID"},
		"another media type":       {put("2", text, ociIndex), "MANIFEST_INVALID"},
		"an unknown media type":    {put("2", `{"schemaVersion":2}`, "text/plain"), "MANIFEST_INVALID"},
		"too large":                {put("2", strings.Repeat(" ", 4<<20)+text, ociManifest), "SIZE_INVALID"},
		"a tag with a hash":        {put("a%23b", text, ociManifest), "TAG_INVALID"},
		"an unknown tag":           {d.send(t, http.MethodGet, "/v2/app/manifests/9", ""), "MANIFEST_UNKNOWN"},
		"an unknown repository":    {d.send(t, http.MethodGet, "/v2/none/manifests/1", ""), "NAME_UNKNOWN"},
		"a name with capitals":     {d.send(t, http.MethodGet, "/v2/App/manifests/1", ""), "NAME_INVALID"},
		"a digest that climbs":     {d.send(t, http.MethodGet, "/v2/app/blobs/sha256:..%2F..%2F..%2Fstate.json", ""), "UNSUPPORTED"},
		"a digest of another kind": {d.send(t, http.MethodGet, "/v2/app/blobs/sha512:00", ""), "DIGEST_INVALID"},
		"a name that climbs":       {d.send(t, http.MethodGet, "/v2/..%2F..%2Fapp/blobs/"+digest("layer"), ""), "NAME_INVALID"},
		"a method that is not":     {d.send(t, http.MethodPost, "/v2/app/manifests/1", ""), "UNSUPPORTED"},
		"an address that is not":   {d.send(t, http.MethodGet, "/v2/app/else", ""), "UNSUPPORTED"},
		"a page that is not":       {d.send(t, http.MethodGet, "/v2/app/tags/list?n=x", ""), "PAGINATION_NUMBER_INVALID"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.code, test.out.code(t)) })
	}
	head := d.send(t, http.MethodHead, "/v2/app/manifests/1", "")
	assert.Equal(t, digest(text), head.header.Get("Docker-Content-Digest"))
	assert.Equal(t, fmt.Sprint(len(text)), head.header.Get("Content-Length"))
	assert.Equal(t, ociManifest, head.header.Get("Content-Type"))
	assert.Empty(t, head.body)
	require.Equal(t, http.StatusCreated, put("list", index(text), ociIndex).status)
	assert.Equal(t, "DENIED", d.send(t, http.MethodDelete, "/v2/app/manifests/"+digest(text), "").code(t), "an index lists it")

	for _, tag := range []string{"a", "b", "c"} {
		require.Equal(t, http.StatusCreated, put(tag, text, ociManifest).status)
	}
	var tags []string
	for next := "/v2/app/tags/list?n=2"; next != ""; {
		page := d.send(t, http.MethodGet, next, "")
		var list struct{ Tags []string }
		require.NoError(t, json.Unmarshal([]byte(page.body), &list))
		assert.LessOrEqual(t, len(list.Tags), 2)
		tags = append(tags, list.Tags...)
		next, _, _ = strings.Cut(strings.TrimPrefix(page.header.Get("Link"), "<"), ">")
	}
	assert.Equal(t, []string{"1", "a", "b", "c", "list"}, tags)
}

func TestADownloadAddressIsOfOneLayerForAnHour(t *testing.T) {
	d := serve(t, nil)
	create(t, d.api, "app")
	push(t, d.api, "app", "1", "layer", "")
	out, err := d.api.GetDownloadUrlForLayer(t.Context(), &sdk.GetDownloadUrlForLayerInput{RepositoryName: aws.String("app"), LayerDigest: aws.String(digest("layer"))})
	require.NoError(t, err)
	password := d.password
	d.password = ""
	assert.Equal(t, "layer", d.send(t, http.MethodGet, *out.DownloadUrl, "").body)
	other := strings.Replace(*out.DownloadUrl, digest("layer"), digest("{}"), 1)
	assert.Equal(t, "DENIED", d.send(t, http.MethodGet, other, "").code(t))
	assert.Equal(t, http.StatusForbidden, d.send(t, http.MethodDelete, *out.DownloadUrl, "").status)
	assert.Equal(t, "UNAUTHORIZED", d.send(t, http.MethodGet, "/v2/app/blobs/"+digest("layer")+"?X-Ecr-Token="+password, "").code(t), "a password is no address")
	u, err := url.Parse(*out.DownloadUrl)
	require.NoError(t, err)
	d.password = u.Query().Get("X-Ecr-Token")
	assert.Equal(t, "UNAUTHORIZED", d.send(t, http.MethodGet, "/v2/app/tags/list", "").code(t), "nor an address a password")
	d.password = ""
	require.NoError(t, d.clock.Sleep(t.Context(), time.Hour))
	assert.Equal(t, http.StatusForbidden, d.send(t, http.MethodGet, *out.DownloadUrl, "").status)
}

// TestAClientThatGoesAwayLeavesWhatArrived breaks an upload in the middle of a chunk.
func TestAClientThatGoesAwayLeavesWhatArrived(t *testing.T) {
	d := serve(t, nil)
	create(t, d.api, "app")
	at := d.send(t, http.MethodPost, "/v2/app/blobs/uploads/", "").header.Get("Location")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, d.url+at, io.MultiReader(bytes.NewReader([]byte("01234")), failing{}))
	require.NoError(t, err)
	r.SetBasicAuth("AWS", d.password)
	answer, err := http.DefaultClient.Do(r)
	if err == nil {
		require.NoError(t, answer.Body.Close())
	}
	require.ErrorIs(t, err, assert.AnError)
	var size string
	require.Eventually(t, func() bool {
		size = d.send(t, http.MethodGet, at, "").header.Get("Range")
		return size == "0-4"
	}, time.Minute, time.Millisecond)
	out := d.send(t, http.MethodPatch, at, "56789", "Content-Range", "5-9")
	require.Equal(t, http.StatusAccepted, out.status, out.body)
	assert.Equal(t, http.StatusCreated, d.send(t, http.MethodPut, at+"?digest="+digest("0123456789"), "").status)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, assert.AnError }
