package ecr

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// recordPull is how often the time of the last pull is written
// (https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageDetail.html).
const recordPull = 24 * time.Hour

// imageAction is the detail of an event about an image
// (https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-eventbridge.html).
type imageAction struct {
	Result         string `json:"result"`
	RepositoryName string `json:"repository-name"`
	ImageDigest    string `json:"image-digest"`
	ActionType     string `json:"action-type"`
	ImageTag       string `json:"image-tag"`
}

// PutImage adds a manifest whose layers are in the repository, and tags it.
func (s *Service) PutImage(ctx context.Context, in *ecr.PutImageInput, optFns ...func(*ecr.Options)) (*ecr.PutImageOutput, error) {
	c := s.caller(ctx, optFns)
	raw := []byte(aws.ToString(in.ImageManifest))
	k, made, err := s.put(ctx, c, in, raw)
	if err != nil {
		return nil, err
	}
	if !made.changed {
		return nil, &types.ImageAlreadyExistsException{Message: aws.String(fmt.Sprintf("Image with digest '%s' and tag '%s' already exists in the repository with name '%s' in registry with id '%s'",
			made.image.Digest, orNull(aws.ToString(in.ImageTag)), aws.ToString(in.RepositoryName), k.Account))}
	}
	return &ecr.PutImageOutput{Image: &types.Image{
		ImageId:       &types.ImageIdentifier{ImageDigest: aws.String(made.image.Digest), ImageTag: scope.Optional(aws.ToString(in.ImageTag))},
		ImageManifest: in.ImageManifest, ImageManifestMediaType: aws.String(made.image.MediaType), RegistryId: aws.String(k.Account), RepositoryName: in.RepositoryName,
	}}, nil
}

func orNull(text string) string {
	if text == "" {
		return "null"
	}
	return text
}

// pushed is the result of a push.
type pushed struct {
	image   *image
	changed bool // false: the repository had this image with this tag
}

// put stores a manifest and emits its event. What follows from a push (replication, scan)
// has happened when it returns.
func (s *Service) put(ctx context.Context, c wire.Caller, in *ecr.PutImageInput, raw []byte) (scope.Key, pushed, error) {
	tag := aws.ToString(in.ImageTag)
	if in.ImageTag != nil && !imageTag.MatchString(tag) {
		return scope.Key{}, pushed{}, invalid("imageTag", "must satisfy regular expression '%s'", tagPattern)
	}
	made, err := parseManifest(raw, aws.ToString(in.ImageManifestMediaType))
	if err != nil {
		return scope.Key{}, pushed{}, err
	}
	if stated := aws.ToString(in.ImageDigest); stated != "" && stated != made.Digest {
		return scope.Key{}, pushed{}, &types.ImageDigestDoesNotMatchException{Message: aws.String(fmt.Sprintf("The image digest '%s' does not match the digest of the manifest, '%s'", stated, made.Digest))}
	}
	out := pushed{}
	var key scope.Key
	scanned := false
	err = s.change(c, in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		key = k
		var err error
		out, err = s.store(k, r, made, tag, raw)
		scanned = r.ScanOnPush
		return err
	})
	if err != nil || !out.changed {
		return key, out, err
	}
	name := aws.ToString(in.RepositoryName)
	s.emit(ctx, key, "ECR Image Action", []string{}, imageAction{Result: "SUCCESS", RepositoryName: name, ImageDigest: made.Digest, ActionType: "PUSH", ImageTag: tag})
	if scanned && !isIndex(made.MediaType) {
		if _, err := s.scan(ctx, key, name, made.Digest); err != nil {
			s.cfg.Logger.Error("scan on push", "repository", name, "image", made.Digest, "error", err)
		}
	}
	s.replicate(ctx, key, name, made.Digest, tag)
	return key, out, nil
}

// store adds a checked manifest to a repository. The caller holds s.mu.
func (s *Service) store(k scope.Key, r *repository, made *image, tag string, raw []byte) (pushed, error) {
	held := r.Images[made.Digest]
	before, tagged := r.ImageTags[tag]
	switch {
	case held != nil && (tag == "" || before == made.Digest):
		return pushed{image: held}, nil
	case tagged && before != made.Digest && r.immutable(tag):
		return pushed{}, &types.ImageTagAlreadyExistsException{Message: aws.String(fmt.Sprintf("The image tag '%s' already exists in the '%s' repository and cannot be overwritten because the tag is immutable.", tag, r.Name))}
	}
	if held == nil {
		if err := s.checkContent(r, made); err != nil {
			return pushed{}, err
		}
		if err := s.blobs.putManifest(r.ID, made.Digest, raw); err != nil {
			return pushed{}, err
		}
		held = made
		r.Images[made.Digest] = made
	}
	held.Pushed = s.cfg.Clock.Now()
	if tag != "" {
		r.ImageTags[tag] = made.Digest
	}
	return pushed{image: held, changed: true}, nil
}

// tagsOf are the tags of an image, sorted.
func (r *repository) tagsOf(digest string) []string {
	var out []string
	for _, tag := range slices.Sorted(maps.Keys(r.ImageTags)) {
		if r.ImageTags[tag] == digest {
			out = append(out, tag)
		}
	}
	return out
}

// failure is why a repository does not have an image; its code is empty if it does.
type failure struct {
	code   types.ImageFailureCode
	reason string
}

var imageDigest = regexp.MustCompile(`^` + imagePattern + `$`)

// resolve finds the image that an identifier names.
func (r *repository) resolve(id types.ImageIdentifier) (*image, failure) {
	digest, tag := aws.ToString(id.ImageDigest), aws.ToString(id.ImageTag)
	switch {
	case digest == "" && tag == "":
		return nil, failure{types.ImageFailureCodeMissingDigestAndTag, "Invalid request parameters: both tag and digest cannot be null"}
	case digest != "" && !imageDigest.MatchString(digest):
		return nil, failure{types.ImageFailureCodeInvalidImageDigest, "Invalid request parameters: image digest should satisfy the regex '" + imagePattern + "'"}
	case tag != "" && !imageTag.MatchString(tag):
		return nil, failure{types.ImageFailureCodeInvalidImageTag, "Invalid request parameters: image tag should satisfy the regex '" + tagPattern + "'"}
	}
	named := digest
	if tag != "" {
		of, ok := r.ImageTags[tag]
		switch {
		case !ok:
			return nil, failure{types.ImageFailureCodeImageNotFound, "Requested image not found"}
		case digest != "" && of != digest:
			return nil, failure{types.ImageFailureCodeImageTagDoesNotMatchDigest, fmt.Sprintf("Requested image digest '%s' is not that of tag '%s'", digest, tag)}
		}
		named = of
	}
	if found := r.Images[named]; found != nil {
		return found, failure{}
	}
	return nil, failure{types.ImageFailureCodeImageNotFound, "Requested image not found"}
}

// one is resolve for operations on one image.
func (r *repository) one(k scope.Key, id types.ImageIdentifier) (*image, error) {
	found, why := r.resolve(id)
	switch why.code {
	case "":
		return found, nil
	case types.ImageFailureCodeImageNotFound, types.ImageFailureCodeImageTagDoesNotMatchDigest:
		return nil, &types.ImageNotFoundException{Message: aws.String(fmt.Sprintf(
			"The image with imageId {imageDigest:'%s', imageTag:'%s'} does not exist within the repository with name '%s' in the registry with id '%s'",
			orNull(aws.ToString(id.ImageDigest)), orNull(aws.ToString(id.ImageTag)), r.Name, k.Account))}
	}
	return nil, &types.InvalidParameterException{Message: aws.String(why.reason)}
}

func checkIDs(ids []types.ImageIdentifier) error {
	if len(ids) < 1 || len(ids) > maxBatch {
		return invalid("imageIds", "must have a length between 1 and %d", maxBatch)
	}
	return nil
}

// BatchGetImage returns manifests. One of a media type that is not among
// AcceptedMediaTypes is not converted: it is not found.
func (s *Service) BatchGetImage(ctx context.Context, in *ecr.BatchGetImageInput, optFns ...func(*ecr.Options)) (*ecr.BatchGetImageOutput, error) {
	if err := checkIDs(in.ImageIds); err != nil {
		return nil, err
	}
	out := &ecr.BatchGetImageOutput{Images: []types.Image{}, Failures: []types.ImageFailure{}}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		for _, id := range in.ImageIds {
			found, why := r.resolve(id)
			if why.code == "" && len(in.AcceptedMediaTypes) > 0 && !slices.Contains(in.AcceptedMediaTypes, found.MediaType) {
				why = failure{types.ImageFailureCodeImageNotFound, "Requested image not found: its media type " + found.MediaType + " is not accepted"}
			}
			if why.code != "" {
				out.Failures = append(out.Failures, types.ImageFailure{FailureCode: why.code, FailureReason: aws.String(why.reason), ImageId: &id})
				continue
			}
			raw, err := s.pull(r, found)
			if err != nil {
				return err
			}
			out.Images = append(out.Images, types.Image{
				ImageId:       &types.ImageIdentifier{ImageDigest: aws.String(found.Digest), ImageTag: id.ImageTag},
				ImageManifest: aws.String(string(raw)), ImageManifestMediaType: aws.String(found.MediaType), RegistryId: aws.String(k.Account), RepositoryName: aws.String(r.Name),
			})
		}
		return nil
	})
}

// pull reads a manifest and records the time. The caller holds s.mu.
func (s *Service) pull(r *repository, i *image) ([]byte, error) {
	raw, err := os.ReadFile(s.blobs.manifest(r.ID, i.Digest))
	if err != nil {
		return nil, fmt.Errorf("reading a manifest: %w", err)
	}
	if now := s.cfg.Clock.Now(); now.Sub(i.Pulled) >= recordPull {
		i.Pulled = now
	}
	return raw, nil
}

// onlyActive reports whether a filter for the status passes the images here, which all
// are active.
func onlyActive(status string) bool { return status == "" || status == "ACTIVE" || status == "ANY" }

// tagStatus reports whether an image with these tags passes a filter.
func tagStatus(filter types.TagStatus, tags []string) bool {
	switch filter {
	case types.TagStatusTagged:
		return len(tags) > 0
	case types.TagStatusUntagged:
		return len(tags) == 0
	}
	return true
}

func checkTagStatus(filter types.TagStatus) error {
	if filter != "" && !slices.Contains(filter.Values(), filter) {
		return invalid("filter.tagStatus", "must satisfy enum value set: [TAGGED, UNTAGGED, ANY]")
	}
	return nil
}

// DescribeImages describes images, sorted by digest, or those that are named.
func (s *Service) DescribeImages(ctx context.Context, in *ecr.DescribeImagesInput, optFns ...func(*ecr.Options)) (*ecr.DescribeImagesOutput, error) {
	if len(in.ImageIds) > 0 && (in.MaxResults != nil || in.NextToken != nil) {
		return nil, invalid("imageIds", "must be empty if maxResults or nextToken is given")
	}
	if len(in.ImageIds) > maxBatch {
		return nil, checkIDs(in.ImageIds)
	}
	size, err := limit(in.MaxResults, page, maxPage)
	if err != nil {
		return nil, err
	}
	filter := types.DescribeImagesFilter{}
	if in.Filter != nil {
		filter = *in.Filter
	}
	if err := checkTagStatus(filter.TagStatus); err != nil {
		return nil, err
	}
	out := &ecr.DescribeImagesOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		wanted := slices.Sorted(maps.Keys(r.Images))
		if len(in.ImageIds) > 0 {
			wanted, size = nil, len(in.ImageIds)
			for _, id := range in.ImageIds {
				found, err := r.one(k, id)
				if err != nil {
					return err
				}
				if !slices.Contains(wanted, found.Digest) {
					wanted = append(wanted, found.Digest)
				}
			}
		}
		var all []types.ImageDetail
		for _, digest := range wanted {
			if tags := r.tagsOf(digest); tagStatus(filter.TagStatus, tags) && onlyActive(string(filter.ImageStatus)) {
				all = append(all, r.detail(k, r.Images[digest], tags))
			}
		}
		var err error
		out.ImageDetails, out.NextToken, err = pageOf(all, in.NextToken, size)
		return err
	})
}

func (r *repository) detail(k scope.Key, i *image, tags []string) types.ImageDetail {
	out := types.ImageDetail{
		ArtifactMediaType: scope.Optional(i.ArtifactType), ImageDigest: aws.String(i.Digest), ImageManifestMediaType: aws.String(i.MediaType), ImagePushedAt: aws.Time(i.Pushed),
		ImageSizeInBytes: aws.Int64(r.bytes(i)), ImageStatus: types.ImageStatusActive, ImageTags: tags, RegistryId: aws.String(k.Account), RepositoryName: aws.String(r.Name),
		SubjectManifestDigest: scope.Optional(i.Subject),
	}
	if !i.Pulled.IsZero() {
		out.LastRecordedPullTime = aws.Time(i.Pulled)
	}
	if i.Scan != nil {
		out.ImageScanStatus, out.ImageScanFindingsSummary = i.Scan.status(), i.Scan.summary()
	}
	return out
}

// ListImages lists each tag, and each image without one.
func (s *Service) ListImages(ctx context.Context, in *ecr.ListImagesInput, optFns ...func(*ecr.Options)) (*ecr.ListImagesOutput, error) {
	size, err := limit(in.MaxResults, page, maxPage)
	if err != nil {
		return nil, err
	}
	filter := types.ListImagesFilter{}
	if in.Filter != nil {
		filter = *in.Filter
	}
	if err := checkTagStatus(filter.TagStatus); err != nil {
		return nil, err
	}
	out := &ecr.ListImagesOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(_ scope.Key, r *repository) error {
		var all []types.ImageIdentifier
		for _, digest := range slices.Sorted(maps.Keys(r.Images)) {
			if tags := r.tagsOf(digest); tagStatus(filter.TagStatus, tags) && onlyActive(string(filter.ImageStatus)) {
				all = append(all, identifiers(digest, tags)...)
			}
		}
		var err error
		out.ImageIds, out.NextToken, err = pageOf(all, in.NextToken, size)
		return err
	})
}

func identifiers(digest string, tags []string) []types.ImageIdentifier {
	if len(tags) == 0 {
		return []types.ImageIdentifier{{ImageDigest: aws.String(digest)}}
	}
	var out []types.ImageIdentifier
	for _, tag := range tags {
		out = append(out, types.ImageIdentifier{ImageDigest: aws.String(digest), ImageTag: aws.String(tag)})
	}
	return out
}

// removed is a tag, or an image without one, that was deleted.
type removed = types.ImageIdentifier

// all is what a deletion of the repository deletes.
func (r *repository) all() []removed {
	var out []removed
	for _, digest := range slices.Sorted(maps.Keys(r.Images)) {
		out = append(out, identifiers(digest, r.tagsOf(digest))...)
	}
	return out
}

// BatchDeleteImage deletes images by digest with all their tags, and tags: the last tag
// takes the image with it.
func (s *Service) BatchDeleteImage(ctx context.Context, in *ecr.BatchDeleteImageInput, optFns ...func(*ecr.Options)) (*ecr.BatchDeleteImageOutput, error) {
	if err := checkIDs(in.ImageIds); err != nil {
		return nil, err
	}
	out := &ecr.BatchDeleteImageOutput{ImageIds: []types.ImageIdentifier{}, Failures: []types.ImageFailure{}}
	var key scope.Key
	err := s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(k scope.Key, r *repository) error {
		key = k
		for _, id := range in.ImageIds {
			gone, why, err := s.delete(r, id)
			if err != nil {
				return err
			}
			if why.code != "" {
				out.Failures = append(out.Failures, types.ImageFailure{FailureCode: why.code, FailureReason: aws.String(why.reason), ImageId: &id})
				continue
			}
			out.ImageIds = append(out.ImageIds, gone...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.emitDeleted(ctx, key, aws.ToString(in.RepositoryName), out.ImageIds)
	return out, nil
}

func (s *Service) emitDeleted(ctx context.Context, k scope.Key, name string, gone []removed) {
	for _, id := range gone {
		s.emit(ctx, k, "ECR Image Action", []string{}, imageAction{
			Result: "SUCCESS", RepositoryName: name, ImageDigest: aws.ToString(id.ImageDigest), ActionType: "DELETE", ImageTag: aws.ToString(id.ImageTag),
		})
	}
}

// delete deletes one image or tag. The caller holds s.mu.
func (s *Service) delete(r *repository, id types.ImageIdentifier) ([]removed, failure, error) {
	found, why := r.resolve(id)
	if why.code != "" {
		return nil, why, nil
	}
	tags := r.tagsOf(found.Digest)
	if tag := aws.ToString(id.ImageTag); tag != "" && len(tags) > 1 {
		delete(r.ImageTags, tag)
		return identifiers(found.Digest, []string{tag}), failure{}, nil
	}
	var lists []string
	for _, digest := range slices.Sorted(maps.Keys(r.Images)) {
		if slices.Contains(r.Images[digest].Children, found.Digest) {
			lists = append(lists, digest)
		}
	}
	if len(lists) > 0 {
		return nil, failure{types.ImageFailureCodeImageReferencedByManifestList, fmt.Sprintf("Requested image referenced by manifest list: %v", lists)}, nil
	}
	return identifiers(found.Digest, tags), failure{}, s.drop(r, found, tags)
}

// drop removes an image with its tags, and the layers that no other image of the
// repository has.
func (s *Service) drop(r *repository, i *image, tags []string) error {
	for _, tag := range tags {
		delete(r.ImageTags, tag)
	}
	delete(r.Images, i.Digest)
	errs := []error{remove(s.blobs.manifest(r.ID, i.Digest))}
	for digest := range i.Layers {
		if _, used := r.layerOf(digest); !used {
			errs = append(errs, remove(s.blobs.blob(r.ID, digest)))
		}
	}
	return errors.Join(errs...)
}

// layerOf finds a layer in the images of a repository.
func (r *repository) layerOf(digest string) (layer, bool) {
	for _, i := range r.Images {
		if l, ok := i.Layers[digest]; ok {
			return l, true
		}
	}
	return layer{}, false
}

// ListImageReferrers lists the images whose subject is a digest, which the repository
// need not have.
func (s *Service) ListImageReferrers(ctx context.Context, in *ecr.ListImageReferrersInput, optFns ...func(*ecr.Options)) (*ecr.ListImageReferrersOutput, error) {
	size, err := limit(in.MaxResults, referrers, maxReferrers)
	if err != nil {
		return nil, err
	}
	if in.SubjectId == nil || !digestPattern.MatchString(aws.ToString(in.SubjectId.ImageDigest)) {
		return nil, invalid("subjectId.imageDigest", "must satisfy regular expression 'sha256:[a-f0-9]{64}'")
	}
	filter := types.ListImageReferrersFilter{}
	if in.Filter != nil {
		filter = *in.Filter
	}
	out := &ecr.ListImageReferrersOutput{}
	return out, s.change(s.caller(ctx, optFns), in.RegistryId, in.RepositoryName, func(_ scope.Key, r *repository) error {
		var all []types.ImageReferrer
		for _, i := range r.referrers(*in.SubjectId.ImageDigest, filter.ArtifactTypes) {
			if onlyActive(string(filter.ArtifactStatus)) {
				all = append(all, types.ImageReferrer{
					Digest: aws.String(i.Digest), MediaType: aws.String(i.MediaType), Size: aws.Int64(i.Size), Annotations: maps.Clone(i.Annotations),
					ArtifactStatus: types.ArtifactStatusActive, ArtifactType: scope.Optional(i.ArtifactType),
				})
			}
		}
		var err error
		out.Referrers, out.NextToken, err = pageOf(all, in.NextToken, size)
		return err
	})
}

// referrers are the images whose subject is a digest, sorted by their own. No types
// means all.
func (r *repository) referrers(subject string, artifactTypes []string) []*image {
	var out []*image
	for _, digest := range slices.Sorted(maps.Keys(r.Images)) {
		i := r.Images[digest]
		if i.Subject == subject && (len(artifactTypes) == 0 || slices.Contains(artifactTypes, i.ArtifactType)) {
			out = append(out, i)
		}
	}
	return out
}
