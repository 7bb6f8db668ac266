package ecr

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
)

const (
	// partSize is the size of the parts that InitiateLayerUpload asks for. On AWS it is
	// 10 MiB; in base64 such a part is larger than the front end takes.
	partSize     = 5 << 20
	smallestPart = 5 << 20
	plainLayer   = "application/vnd.docker.image.rootfs.diff.tar.gzip" // of a layer that no manifest has yet
)

// upload is a layer that is being uploaded. Its content is in a file.
type upload struct {
	id         string
	key        scope.Key
	repository string // ID
	path       string

	mu    sync.Mutex // held while a part is written
	size  int64
	hash  hash.Hash
	short bool // the last part was smaller than the smallest that may precede another
	ended bool
}

// begin starts an upload into a repository.
func (s *Service) begin(k scope.Key, r *repository) (*upload, error) {
	if err := os.MkdirAll(s.blobs.uploads(), 0o700); err != nil {
		return nil, fmt.Errorf("starting an upload: %w", err)
	}
	u := &upload{id: uuid.NewString(), key: k, repository: r.ID, hash: sha256.New()}
	u.path = filepath.Join(s.blobs.uploads(), u.id)
	f, err := os.OpenFile(u.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting an upload: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("starting an upload: %w", err)
	}
	s.uploading.Lock()
	defer s.uploading.Unlock()
	s.uploads[u.id] = u
	return u, nil
}

// uploadOf finds an upload into a repository.
func (s *Service) uploadOf(k scope.Key, r *repository, id string) (*upload, error) {
	s.uploading.Lock()
	defer s.uploading.Unlock()
	u, ok := s.uploads[id]
	if !ok || u.key != k || u.repository != r.ID {
		return nil, &types.UploadNotFoundException{Message: aws.String(fmt.Sprintf("The upload with id '%s' does not exist in the repository with name '%s'", id, r.Name))}
	}
	return u, nil
}

// discard ends an upload without a layer.
func (s *Service) discard(u *upload) error {
	s.uploading.Lock()
	delete(s.uploads, u.id)
	s.uploading.Unlock()
	u.ended = true
	return remove(u.path)
}

// errTooLarge is the error for a layer that exceeds the limit.
var errTooLarge = errors.New("the layer is larger than the registry takes")

// write appends to an upload, at an offset if it is not negative. What arrives before the
// reader fails stays. The caller holds u.mu.
func (u *upload) write(body io.Reader, offset, most int64) error {
	if u.ended {
		return &types.UploadNotFoundException{Message: aws.String(fmt.Sprintf("The upload with id '%s' has ended", u.id))}
	}
	if offset >= 0 && offset != u.size {
		return &types.InvalidLayerPartException{
			Message:  aws.String(fmt.Sprintf("The layer part begins at byte %d; the upload has %d bytes", offset, u.size)),
			UploadId: aws.String(u.id), LastValidByteReceived: aws.Int64(u.size - 1),
		}
	}
	f, err := os.OpenFile(u.path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing a layer: %w", err)
	}
	// The hash has what was read, so a write that fails can give no layer a digest that
	// it has not.
	n, err := io.Copy(f, io.TeeReader(io.LimitReader(body, most-u.size+1), u.hash))
	u.size += n
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil && u.size > most {
		err = errTooLarge
	}
	return err
}

// finish makes an upload a layer of its repository. The caller holds u.mu.
func (s *Service) finish(u *upload, digest string) error {
	if got := "sha256:" + hex.EncodeToString(u.hash.Sum(nil)); got != digest {
		return &types.InvalidLayerException{Message: aws.String(fmt.Sprintf("The layer digest '%s' does not match the digest of the content, '%s'", digest, got))}
	}
	if err := os.Rename(u.path, s.blobs.blob(u.repository, digest)); err != nil {
		return fmt.Errorf("storing a layer: %w", err)
	}
	return s.discard(u)
}

// InitiateLayerUpload starts an upload.
func (s *Service) InitiateLayerUpload(ctx context.Context, in *ecr.InitiateLayerUploadInput, optFns ...func(*ecr.Options)) (*ecr.InitiateLayerUploadOutput, error) {
	out := &ecr.InitiateLayerUploadOutput{PartSize: aws.Int64(partSize)}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		u, err := s.begin(k, r)
		if err != nil {
			return err
		}
		out.UploadId = aws.String(u.id)
		return nil
	})
}

// UploadLayerPart appends a part to an upload. All parts but the last have at least 5 MiB.
func (s *Service) UploadLayerPart(ctx context.Context, in *ecr.UploadLayerPartInput, optFns ...func(*ecr.Options)) (*ecr.UploadLayerPartOutput, error) {
	first, last := aws.ToInt64(in.PartFirstByte), aws.ToInt64(in.PartLastByte)
	if first < 0 || int64(len(in.LayerPartBlob)) != last-first+1 || len(in.LayerPartBlob) == 0 {
		return nil, invalid("partLastByte", "must be partFirstByte plus the length of layerPartBlob less 1")
	}
	u, out, err := s.uploadIn(ctx, in.RegistryId, in.RepositoryName, in.UploadId, optFns)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.short {
		return nil, &types.LayerPartTooSmallException{Message: aws.String(fmt.Sprintf("Layer parts must be at least %d bytes, except the last", smallestPart))}
	}
	if err := u.write(bytes.NewReader(in.LayerPartBlob), first, s.cfg.MaxLayer); err != nil {
		return nil, s.failUpload(u, err)
	}
	u.short = len(in.LayerPartBlob) < smallestPart
	return &ecr.UploadLayerPartOutput{LastByteReceived: aws.Int64(u.size - 1), RegistryId: out.RegistryId, RepositoryName: out.RepositoryName, UploadId: in.UploadId}, nil
}

// failUpload ends an upload that became too large.
func (s *Service) failUpload(u *upload, err error) error {
	if errors.Is(err, errTooLarge) {
		return errors.Join(&types.LimitExceededException{Message: aws.String(fmt.Sprintf("The layer exceeds the maximum size of %d bytes", s.cfg.MaxLayer))}, s.discard(u))
	}
	return err
}

func (s *Service) uploadIn(ctx context.Context, registryID, name, id *string, optFns []func(*ecr.Options)) (*upload, ecr.CompleteLayerUploadOutput, error) {
	var u *upload
	var out ecr.CompleteLayerUploadOutput
	err := s.change(s.caller(ctx, optFns), registryID, name, func(k scope.Key, r *repository) (err error) {
		out.RegistryId, out.RepositoryName, out.UploadId = aws.String(k.Account), aws.String(r.Name), id
		u, err = s.uploadOf(k, r, aws.ToString(id))
		return err
	})
	return u, out, err
}

// CompleteLayerUpload makes an upload a layer.
func (s *Service) CompleteLayerUpload(ctx context.Context, in *ecr.CompleteLayerUploadInput, optFns ...func(*ecr.Options)) (*ecr.CompleteLayerUploadOutput, error) {
	if len(in.LayerDigests) != 1 || !digestPattern.MatchString(in.LayerDigests[0]) {
		return nil, invalid("layerDigests", "must be one sha256 digest")
	}
	u, out, err := s.uploadIn(ctx, in.RegistryId, in.RepositoryName, in.UploadId, optFns)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	digest := in.LayerDigests[0]
	if u.size == 0 {
		return nil, &types.EmptyUploadException{Message: aws.String("The upload has no layer parts")}
	}
	if _, ok := s.blobs.size(u.repository, digest); ok {
		return nil, errors.Join(&types.LayerAlreadyExistsException{Message: aws.String(fmt.Sprintf("The layer with digest '%s' already exists in the repository with name '%s'", digest, *out.RepositoryName))}, s.discard(u))
	}
	if err := s.finish(u, digest); err != nil {
		return nil, err
	}
	out.LayerDigest = aws.String(digest)
	return &out, nil
}

// BatchCheckLayerAvailability says which layers a repository has.
func (s *Service) BatchCheckLayerAvailability(ctx context.Context, in *ecr.BatchCheckLayerAvailabilityInput, optFns ...func(*ecr.Options)) (*ecr.BatchCheckLayerAvailabilityOutput, error) {
	if len(in.LayerDigests) < 1 || len(in.LayerDigests) > maxBatch {
		return nil, invalid("layerDigests", "must have a length between 1 and %d", maxBatch)
	}
	out := &ecr.BatchCheckLayerAvailabilityOutput{Layers: []types.Layer{}, Failures: []types.LayerFailure{}}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(_ scope.Key, r *repository) error {
		for _, digest := range in.LayerDigests {
			if !digestPattern.MatchString(digest) {
				out.Failures = append(out.Failures, types.LayerFailure{
					FailureCode: types.LayerFailureCodeInvalidLayerDigest, FailureReason: aws.String("Invalid layer digest: it must be sha256: and 64 hexadecimal digits"), LayerDigest: aws.String(digest),
				})
				continue
			}
			size, ok := s.blobs.size(r.ID, digest)
			if !ok {
				out.Layers = append(out.Layers, types.Layer{LayerDigest: aws.String(digest), LayerAvailability: types.LayerAvailabilityUnavailable})
				continue
			}
			mediaType := plainLayer
			if known, ok := r.layerOf(digest); ok {
				mediaType = known.MediaType
			}
			out.Layers = append(out.Layers, types.Layer{LayerDigest: aws.String(digest), LayerAvailability: types.LayerAvailabilityAvailable, LayerSize: &size, MediaType: &mediaType})
		}
		return nil
	})
}

// GetDownloadUrlForLayer returns an address from which a layer can be read for an hour,
// without credentials.
func (s *Service) GetDownloadUrlForLayer(ctx context.Context, in *ecr.GetDownloadUrlForLayerInput, optFns ...func(*ecr.Options)) (*ecr.GetDownloadUrlForLayerOutput, error) {
	digest := aws.ToString(in.LayerDigest)
	if !digestPattern.MatchString(digest) {
		return nil, invalid("layerDigest", "must satisfy regular expression 'sha256:[a-f0-9]{64}'")
	}
	c := s.caller(ctx, optFns)
	out := &ecr.GetDownloadUrlForLayerOutput{LayerDigest: aws.String(digest)}
	return out, s.change(c, in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		if _, ok := s.blobs.size(r.ID, digest); !ok {
			return &types.LayersNotFoundException{Message: aws.String(fmt.Sprintf("The layer with digest '%s' does not exist in the repository with name '%s'", digest, r.Name))}
		}
		if _, ok := r.layerOf(digest); !ok {
			return &types.LayerInaccessibleException{Message: aws.String(fmt.Sprintf("The layer with digest '%s' is not associated with an image in the repository with name '%s'", digest, r.Name))}
		}
		link, err := s.downloadURL(c, k, r.Name, digest)
		out.DownloadUrl = aws.String(link)
		return err
	})
}
