package ecr

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// registryHost is the name of a registry on AWS, and the same below localhost.
var registryHost = regexp.MustCompile(`^([0-9]{12})\.dkr\.ecr\.([a-z0-9-]+)\.(localhost|[a-z0-9.-]+)$`)

// hostOf returns the registry that a request's host names.
func hostOf(host string) (k scope.Key, suffix string, ok bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	m := registryHost.FindStringSubmatch(strings.ToLower(host))
	if m == nil {
		return scope.Key{}, "", false
	}
	return scope.Key{Account: m[1], Region: m[2]}, m[3], true
}

// IsRegistry reports whether a request is for the OCI registry. No bucket can have its
// path, and requests to the registry have no signature of AWS.
func IsRegistry(r *http.Request) bool {
	path := r.URL.Path == "/v2" || strings.HasPrefix(r.URL.Path, "/v2/")
	return path && !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-") && !r.URL.Query().Has("X-Amz-Signature")
}

// FromElsewhere returns an error for a request to the registry that must not be served,
// as wire.FromElsewhere does. A registry also has its name on AWS. Only AWS can
// give that name an address, so a page in a browser cannot use it.
func FromElsewhere(r *http.Request) error {
	named := r.Clone(r.Context())
	if k, suffix, ok := hostOf(r.Host); ok && Host(k.Account, k.Region) == k.Account+".dkr.ecr."+k.Region+"."+suffix {
		named.Host = "localhost"
	}
	return wire.FromElsewhere(named)
}

// Errors of the registry, in the form of the specification
// (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes).
type registryError struct {
	status  int
	code    string
	message string
}

func (e *registryError) Error() string { return e.code + ": " + e.message }

func refuse(status int, code, format string, args ...any) error {
	return &registryError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// errorOf is how the registry answers an error of the JSON API. Docker shows the message.
func errorOf(err error) *registryError {
	var own *registryError
	if errors.As(err, &own) {
		return own
	}
	if errors.Is(err, errTooLarge) {
		return &registryError{http.StatusRequestEntityTooLarge, "SIZE_INVALID", err.Error()}
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return &registryError{http.StatusInternalServerError, "UNKNOWN", err.Error()}
	}
	for _, known := range []struct {
		of     string
		status int
		code   string
	}{
		{"RepositoryNotFoundException", http.StatusNotFound, "NAME_UNKNOWN"},
		{"ImageNotFoundException", http.StatusNotFound, "MANIFEST_UNKNOWN"},
		{"LayersNotFoundException", http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN"},
		{"ReferencedImagesNotFoundException", http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN"},
		{"ImageTagAlreadyExistsException", http.StatusBadRequest, "TAG_INVALID"},
		{"ImageDigestDoesNotMatchException", http.StatusBadRequest, "DIGEST_INVALID"},
		{"InvalidLayerException", http.StatusBadRequest, "DIGEST_INVALID"},
		{"InvalidLayerPartException", http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID"},
		{"UploadNotFoundException", http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN"},
		{"InvalidParameterException", http.StatusBadRequest, "MANIFEST_INVALID"},
		{"AccessDeniedException", http.StatusForbidden, "DENIED"},
		{"ThrottlingException", http.StatusTooManyRequests, "TOOMANYREQUESTS"},
		{"LimitExceededException", http.StatusTooManyRequests, "TOOMANYREQUESTS"},
	} {
		if api.ErrorCode() == known.of {
			return &registryError{known.status, known.code, api.ErrorMessage()}
		}
	}
	return &registryError{http.StatusInternalServerError, "UNKNOWN", api.ErrorCode() + ": " + api.ErrorMessage()}
}

// session is one request to the registry.
type session struct {
	*Service
	w      http.ResponseWriter
	r      *http.Request
	caller wire.Caller
	key    scope.Key // the registry
	link   *layerRef // of a download address; nil otherwise
	name   string    // of the repository
}

// ServeHTTP implements the OCI registry
// (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md), with the
// authorization of ECR
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html).
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	v := &session{Service: s, w: w, r: r}
	err := v.authenticate()
	if err == nil {
		err = v.serve()
	}
	if err != nil {
		v.fail(err)
	}
}

func (v *session) fail(err error) {
	e := errorOf(err)
	if e.status == http.StatusInternalServerError {
		v.cfg.Logger.Error("registry", "method", v.r.Method, "path", v.r.URL.Path, "error", err)
	}
	if e.status == http.StatusUnauthorized {
		v.w.Header().Set("Www-Authenticate", fmt.Sprintf(`Basic realm="%s",service="ecr.amazonaws.com"`, v.realm()))
	}
	raw, _ := json.Marshal(map[string]any{"errors": []map[string]string{{"code": e.code, "message": e.message}}}) // strings always marshal
	v.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	v.w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	v.w.WriteHeader(e.status)
	_, _ = v.w.Write(raw) // a client that went away needs no answer
}

// realm is the address of the registry as the client knows it.
func (v *session) realm() string {
	scheme := "http"
	if v.r.TLS != nil || v.r.URL.Scheme == "https" {
		scheme = "https"
	}
	return scheme + "://" + v.r.Host + "/"
}

// authenticate finds out who asks and which registry it is. The host decides on the
// registry if it is the name of one; else it is that of the token's owner.
func (v *session) authenticate() error {
	token := v.r.URL.Query().Get(downloadParameter)
	if token == "" {
		name, password, ok := v.r.BasicAuth()
		if !ok || name != user {
			return refuse(http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized")
		}
		token = password
	}
	c, err := v.verify(token)
	switch {
	case errors.Is(err, errExpired):
		return refuse(http.StatusForbidden, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
	case err != nil:
		return refuse(http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized")
	case (c.Layer != nil) != v.r.URL.Query().Has(downloadParameter):
		return refuse(http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized")
	}
	v.caller, v.key, v.link = c.Caller, scope.KeyOf(c.Caller), c.Layer
	if named, _, ok := hostOf(v.r.Host); ok {
		v.key = named
	}
	v.caller.Region = v.key.Region
	v.r = v.r.WithContext(wire.WithCaller(v.r.Context(), v.caller))
	return nil
}

// permit asks IAM for the operation of the JSON API that a request corresponds to.
func (v *session) permit(operation string, input any) error {
	if v.cfg.Permit == nil {
		return nil
	}
	return v.cfg.Permit(v.r.Context(), v.caller, operation, input)
}

// The addresses of the registry. Names of repositories have slashes.
var (
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
	uploadsPath  = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/?$`)
	uploadPath   = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/([^/]+)$`)
	blobPath     = regexp.MustCompile(`^/v2/(.+)/blobs/([^/]+)$`)
	tagsPath     = regexp.MustCompile(`^/v2/(.+)/tags/list$`)
	referrerPath = regexp.MustCompile(`^/v2/(.+)/referrers/([^/]+)$`)
)

type methods map[string]func(reference string) error

func (v *session) serve() error {
	path := v.r.URL.Path
	if v.link != nil {
		return v.download(path)
	}
	switch path {
	case "/v2", "/v2/":
		return v.with(methods{http.MethodGet: v.base, http.MethodHead: v.base}, "")
	case "/v2/_catalog":
		return v.with(methods{http.MethodGet: v.catalog}, "")
	}
	for _, route := range []struct {
		path *regexp.Regexp
		methods
	}{
		{manifestPath, methods{http.MethodGet: v.getManifest, http.MethodHead: v.getManifest, http.MethodPut: v.putManifest, http.MethodDelete: v.deleteManifest}},
		{uploadsPath, methods{http.MethodPost: v.startUpload}},
		{uploadPath, methods{http.MethodGet: v.uploadStatus, http.MethodPatch: v.uploadChunk, http.MethodPut: v.finishUpload, http.MethodDelete: v.cancelUpload}},
		{blobPath, methods{http.MethodGet: v.getBlob, http.MethodHead: v.getBlob}},
		{tagsPath, methods{http.MethodGet: v.listTags}},
		{referrerPath, methods{http.MethodGet: v.listReferrers}},
	} {
		m := route.path.FindStringSubmatch(path)
		if m == nil {
			continue
		}
		name, err := checkName(&m[1])
		if err != nil {
			return refuse(http.StatusBadRequest, "NAME_INVALID", "%s", errorOf(err).message)
		}
		v.name = name
		return v.with(route.methods, append(m, "")[2])
	}
	return refuse(http.StatusNotFound, "UNSUPPORTED", "The registry has no address %s", path)
}

func (v *session) with(all methods, reference string) error {
	serve, ok := all[v.r.Method]
	if !ok {
		return refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "%s is not supported here", v.r.Method)
	}
	return serve(reference)
}

func (v *session) base(string) error {
	v.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	v.w.WriteHeader(http.StatusOK)
	return nil
}

// change calls f with the repository of the request, while the service is locked.
func (v *session) change(f func(*repository) error) error {
	return v.Service.with(v.key, v.name, f)
}

// identifier is the image that a tag or digest in an address names.
func identifier(reference string) (types.ImageIdentifier, error) {
	if strings.Contains(reference, ":") {
		if !digestPattern.MatchString(reference) {
			return types.ImageIdentifier{}, refuse(http.StatusBadRequest, "DIGEST_INVALID", "%q is not sha256: and 64 hexadecimal digits", reference)
		}
		return types.ImageIdentifier{ImageDigest: &reference}, nil
	}
	if !imageTag.MatchString(reference) {
		return types.ImageIdentifier{}, refuse(http.StatusBadRequest, "TAG_INVALID", "The tag %q does not match %s", reference, tagPattern)
	}
	return types.ImageIdentifier{ImageTag: &reference}, nil
}

func (v *session) getManifest(reference string) error {
	id, err := identifier(reference)
	if err != nil {
		return err
	}
	if err := v.permit("BatchGetImage", &ecr.BatchGetImageInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return err
	}
	var raw []byte
	var found image
	if err := v.change(func(r *repository) error {
		i, err := r.one(v.key, id)
		if err != nil {
			return err
		}
		found = *i
		raw, err = v.pull(r, i)
		return err
	}); err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", found.MediaType)
	v.w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	v.w.Header().Set("Docker-Content-Digest", found.Digest)
	v.w.WriteHeader(http.StatusOK)
	if v.r.Method != http.MethodHead {
		_, _ = v.w.Write(raw) // a client that went away needs no answer
	}
	return nil
}

func (v *session) putManifest(reference string) error {
	id, err := identifier(reference)
	if err != nil {
		return err
	}
	in := &ecr.PutImageInput{RegistryId: &v.key.Account, RepositoryName: &v.name, ImageTag: id.ImageTag, ImageDigest: id.ImageDigest}
	if mediaType := v.r.Header.Get("Content-Type"); mediaType != "" {
		in.ImageManifestMediaType = &mediaType
	}
	if err := v.permit("PutImage", in); err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(v.r.Body, maxManifest+1))
	if err != nil {
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "The manifest did not arrive: %s", err)
	}
	if len(raw) > maxManifest {
		return refuse(http.StatusRequestEntityTooLarge, "SIZE_INVALID", "The manifest is larger than %d bytes", maxManifest)
	}
	_, made, err := v.put(v.r.Context(), v.caller, in, raw)
	if err != nil {
		return err
	}
	if made.image.Subject != "" {
		v.w.Header().Set("OCI-Subject", made.image.Subject)
	}
	v.created("/v2/"+v.name+"/manifests/"+made.image.Digest, made.image.Digest)
	return nil
}

// created answers that something was stored.
func (v *session) created(location, digest string) {
	v.w.Header().Set("Location", location)
	v.w.Header().Set("Docker-Content-Digest", digest)
	v.w.Header().Set("Content-Length", "0")
	v.w.WriteHeader(http.StatusCreated)
}

func (v *session) deleteManifest(reference string) error {
	id, err := identifier(reference)
	if err != nil {
		return err
	}
	if err := v.permit("BatchDeleteImage", &ecr.BatchDeleteImageInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return err
	}
	var gone []removed
	if err := v.change(func(r *repository) error {
		if _, err := r.one(v.key, id); err != nil {
			return err
		}
		deleted, why, err := v.delete(r, id)
		if why.code != "" {
			return refuse(http.StatusBadRequest, "DENIED", "%s", why.reason)
		}
		gone = deleted
		return err
	}); err != nil {
		return err
	}
	v.emitDeleted(v.r.Context(), v.key, v.name, gone)
	v.w.WriteHeader(http.StatusAccepted)
	return nil
}

// digestIn checks a digest that an address has.
func digestIn(text string) error {
	if !digestPattern.MatchString(text) {
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "%q is not sha256: and 64 hexadecimal digits", text)
	}
	return nil
}

// getBlob answers the layer itself, or part of it. ECR redirects to S3 instead.
func (v *session) getBlob(digest string) error {
	if err := digestIn(digest); err != nil {
		return err
	}
	var err error
	if v.r.Method == http.MethodHead {
		err = v.permit("BatchCheckLayerAvailability", &ecr.BatchCheckLayerAvailabilityInput{RegistryId: &v.key.Account, RepositoryName: &v.name})
	} else {
		err = v.permit("GetDownloadUrlForLayer", &ecr.GetDownloadUrlForLayerInput{RegistryId: &v.key.Account, RepositoryName: &v.name})
	}
	if err != nil {
		return err
	}
	return v.serveBlob(digest)
}

// download serves an address of GetDownloadUrlForLayer, for its layer only.
func (v *session) download(path string) error {
	l := v.link
	read := v.r.Method == http.MethodGet || v.r.Method == http.MethodHead
	if !read || path != "/v2/"+l.Repository+"/blobs/"+l.Digest {
		return refuse(http.StatusForbidden, "DENIED", "The address is of another layer")
	}
	v.key, v.name = l.Registry, l.Repository
	return v.serveBlob(l.Digest)
}

func (v *session) serveBlob(digest string) error {
	var f *os.File
	if err := v.change(func(r *repository) error {
		opened, err := os.Open(v.blobs.blob(r.ID, digest))
		if errors.Is(err, os.ErrNotExist) {
			return refuse(http.StatusNotFound, "BLOB_UNKNOWN", "The layer with digest '%s' does not exist in the repository with name '%s'", digest, v.name)
		}
		f = opened
		return err
	}); err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/octet-stream")
	v.w.Header().Set("Docker-Content-Digest", digest)
	v.w.Header().Set("Etag", `"`+digest+`"`)
	http.ServeContent(v.w, v.r, "", info.ModTime(), f)
	return nil
}

// location is the address of an upload.
func (v *session) location(u *upload) string { return "/v2/" + v.name + "/blobs/uploads/" + u.id }

func (v *session) startUpload(string) error {
	query := v.r.URL.Query()
	if digest := query.Get("mount"); digest != "" {
		mounted, err := v.mount(digest, query.Get("from"))
		if err != nil || mounted {
			return err
		}
	}
	if err := v.permit("InitiateLayerUpload", &ecr.InitiateLayerUploadInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return err
	}
	digest := query.Get("digest")
	if digest != "" {
		if err := digestIn(digest); err != nil {
			return err
		}
	}
	var u *upload
	if err := v.change(func(r *repository) (err error) {
		u, err = v.begin(v.key, r)
		return err
	}); err != nil {
		return err
	}
	if digest != "" {
		return v.complete(u, digest, -1)
	}
	v.accepted(u, 0)
	return nil
}

// mount makes a layer of another repository in the registry one of this too, if the
// registry has the setting and the caller may read the layer there. Otherwise the client
// uploads the layer
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html).
func (v *session) mount(digest, from string) (bool, error) {
	if err := digestIn(digest); err != nil {
		return false, err
	}
	if err := v.permit("CompleteLayerUpload", &ecr.CompleteLayerUploadInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return false, err
	}
	// A client that names no repository, or one that it cannot read, uploads the layer.
	readable := repositoryName.MatchString(from) && v.permit("GetDownloadUrlForLayer", &ecr.GetDownloadUrlForLayerInput{RegistryId: &v.key.Account, RepositoryName: &from}) == nil
	mounted := false
	if err := v.change(func(to *repository) error {
		source := v.at(v.key).Repositories[from]
		if !readable || source == nil || v.at(v.key).setting(blobMounting) != "ENABLED" || !sameKey(source, to) {
			return nil
		}
		if _, ok := v.blobs.size(source.ID, digest); !ok {
			return nil
		}
		mounted = true
		return v.blobs.link(source.ID, to.ID, digest)
	}); err != nil || !mounted {
		return false, err
	}
	v.created("/v2/"+v.name+"/blobs/"+digest, digest)
	return true, nil
}

func sameKey(a, b *repository) bool {
	return a.Encryption.EncryptionType == b.Encryption.EncryptionType && aws.ToString(a.Encryption.KmsKey) == aws.ToString(b.Encryption.KmsKey)
}

// accepted answers how much of an upload has arrived.
func (v *session) accepted(u *upload, size int64) {
	v.progress(u, size)
	v.w.WriteHeader(http.StatusAccepted)
}

func (v *session) progress(u *upload, size int64) {
	v.w.Header().Set("Location", v.location(u))
	v.w.Header().Set("Docker-Upload-Uuid", u.id)
	v.w.Header().Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	v.w.Header().Set("Content-Length", "0")
}

// open finds an upload by the id in its address.
func (v *session) open(id string) (*upload, error) {
	var u *upload
	err := v.change(func(r *repository) (err error) {
		u, err = v.uploadOf(v.key, r, id)
		return err
	})
	return u, err
}

func (v *session) uploadStatus(id string) error {
	if err := v.permit("UploadLayerPart", &ecr.UploadLayerPartInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return err
	}
	u, err := v.open(id)
	if err != nil {
		return err
	}
	u.mu.Lock()
	size := u.size
	u.mu.Unlock()
	v.progress(u, size)
	v.w.WriteHeader(http.StatusNoContent)
	return nil
}

// offset is the first byte of a chunk by its Content-Range; -1 if it has none.
func (v *session) offset() (int64, error) {
	text := v.r.Header.Get("Content-Range")
	if text == "" {
		return -1, nil
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(text, "bytes "), "-")
	last, _, _ = strings.Cut(last, "/")
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || err1 != nil || err2 != nil || from < 0 || to < from-1 {
		return 0, refuse(http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID", "Content-Range is %q; first-last is expected", text)
	}
	if v.r.ContentLength >= 0 && v.r.ContentLength != to-from+1 {
		return 0, refuse(http.StatusRequestedRangeNotSatisfiable, "SIZE_INVALID", "Content-Range %q has %d bytes, and Content-Length is %d", text, to-from+1, v.r.ContentLength)
	}
	return from, nil
}

func (v *session) uploadChunk(id string) error {
	if err := v.permit("UploadLayerPart", &ecr.UploadLayerPartInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return err
	}
	u, err := v.open(id)
	if err != nil {
		return err
	}
	offset, err := v.offset()
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := v.receive(u, offset); err != nil {
		return err
	}
	v.accepted(u, u.size)
	return nil
}

// receive appends the body of the request to an upload, which it ends if it becomes too
// large. The caller holds u.mu.
func (v *session) receive(u *upload, offset int64) error {
	err := u.write(v.r.Body, offset, v.cfg.MaxLayer)
	switch {
	case errors.Is(err, errTooLarge):
		return errors.Join(err, v.discard(u))
	case errors.Is(err, io.ErrUnexpectedEOF): // the client went away; it may go on later
		return refuse(http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "The layer did not arrive: %s", err)
	}
	return err
}

func (v *session) finishUpload(id string) error {
	digest := v.r.URL.Query().Get("digest")
	if err := digestIn(digest); err != nil {
		return err
	}
	u, err := v.open(id)
	if err != nil {
		return err
	}
	offset, err := v.offset()
	if err != nil {
		return err
	}
	return v.complete(u, digest, offset)
}

// complete takes the last part of an upload, which may be empty, and makes it a layer.
func (v *session) complete(u *upload, digest string, offset int64) error {
	if err := v.permit("CompleteLayerUpload", &ecr.CompleteLayerUploadInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := v.receive(u, offset); err != nil {
		return err
	}
	if err := v.finish(u, digest); err != nil {
		return errors.Join(err, v.discard(u))
	}
	v.created("/v2/"+v.name+"/blobs/"+digest, digest)
	return nil
}

func (v *session) cancelUpload(id string) error {
	if err := v.permit("CompleteLayerUpload", &ecr.CompleteLayerUploadInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return err
	}
	u, err := v.open(id)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := v.discard(u); err != nil {
		return err
	}
	v.w.WriteHeader(http.StatusNoContent)
	return nil
}

// paged returns the part of a sorted list that a request asks for by n and last, and
// links to the next.
func (v *session) paged(all []string) ([]string, error) {
	query := v.r.URL.Query()
	if last := query.Get("last"); last != "" {
		i, found := slices.BinarySearch(all, last)
		if found {
			i++
		}
		all = all[i:]
	}
	size := maxPage
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, refuse(http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", "n is %q; a number is expected", text)
		}
		size = min(n, maxPage)
	}
	if size < len(all) {
		all = all[:size]
		if size > 0 {
			next := url.Values{"n": {strconv.Itoa(size)}, "last": {all[size-1]}}
			v.w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, v.r.URL.Path, next.Encode()))
		}
	}
	return append([]string{}, all...), nil
}

func (v *session) answer(mediaType string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", mediaType)
	v.w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	_, _ = v.w.Write(raw) // a client that went away needs no answer
	return nil
}

func (v *session) listTags(string) error {
	if err := v.permit("ListImages", &ecr.ListImagesInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return err
	}
	var tags []string
	if err := v.change(func(r *repository) error {
		for tag := range r.ImageTags {
			tags = append(tags, tag)
		}
		return nil
	}); err != nil {
		return err
	}
	slices.Sort(tags)
	tags, err := v.paged(tags)
	if err != nil {
		return err
	}
	return v.answer("application/json", map[string]any{"name": v.name, "tags": tags})
}

func (v *session) catalog(string) error {
	if err := v.permit("DescribeRepositories", &ecr.DescribeRepositoriesInput{RegistryId: &v.key.Account}); err != nil {
		return err
	}
	var names []string
	v.mu.Lock()
	for name := range v.at(v.key).Repositories {
		names = append(names, name)
	}
	v.mu.Unlock()
	slices.Sort(names)
	names, err := v.paged(names)
	if err != nil {
		return err
	}
	return v.answer("application/json", map[string]any{"repositories": names})
}

// referrer is an entry of the list of referrers.
type referrer struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

func (v *session) listReferrers(digest string) error {
	if err := digestIn(digest); err != nil {
		return err
	}
	if err := v.permit("ListImageReferrers", &ecr.ListImageReferrersInput{RegistryId: &v.key.Account, RepositoryName: &v.name}); err != nil {
		return err
	}
	var kinds []string
	if kind := v.r.URL.Query().Get("artifactType"); kind != "" {
		kinds = []string{kind}
		v.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	all := []referrer{}
	if err := v.change(func(r *repository) error {
		for _, i := range r.referrers(digest, kinds) {
			all = append(all, referrer{MediaType: i.MediaType, Digest: i.Digest, Size: i.Size, ArtifactType: i.ArtifactType, Annotations: i.Annotations})
		}
		return nil
	}); err != nil {
		return err
	}
	return v.answer(ociIndex, map[string]any{"schemaVersion": 2, "mediaType": ociIndex, "manifests": all})
}

var _ http.Handler = (*Service)(nil)
