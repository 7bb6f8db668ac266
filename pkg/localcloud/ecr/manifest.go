package ecr

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
)

// The media types of manifests that the registry takes. Docker's first schema is not
// among them, as its digests are of a part of the document.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	ociIndex       = "application/vnd.oci.image.index.v1+json"
)

func isIndex(mediaType string) bool { return mediaType == dockerList || mediaType == ociIndex }

type descriptor struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	Size      int64    `json:"size"`
	URLs      []string `json:"urls,omitempty"`
}

// foreign reports whether a layer is not distributed by the registry
// (https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#non-distributable-layers).
func (d descriptor) foreign() bool {
	return strings.Contains(d.MediaType, ".foreign.") || strings.Contains(d.MediaType, "nondistributable")
}

// document is what the manifests of all kinds have.
type document struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *descriptor       `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// parseManifest reads a manifest. stated is the media type that the request gives; it may
// be empty if the document has one.
func parseManifest(raw []byte, stated string) (*image, error) {
	if len(raw) == 0 || len(raw) > maxManifest {
		return nil, invalid("imageManifest", "must have a length between 1 and %d", maxManifest)
	}
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, invalid("ImageManifest", "Invalid JSON syntax: %s", err)
	}
	mediaType, err := d.mediaType(stated)
	if err != nil {
		return nil, err
	}
	out := &image{
		Digest: digestOf(raw), MediaType: mediaType, ArtifactType: d.ArtifactType, Size: int64(len(raw)), Annotations: d.Annotations, Layers: map[string]layer{},
	}
	if isIndex(mediaType) {
		err = d.index(out)
	} else {
		err = d.image(out)
	}
	if err != nil {
		return nil, err
	}
	if d.Subject != nil {
		if err := d.Subject.check("subject"); err != nil {
			return nil, err
		}
		out.Subject = d.Subject.Digest
	}
	return out, nil
}

func (d document) mediaType(stated string) (string, error) {
	stated, _, _ = strings.Cut(stated, ";")
	stated = strings.TrimSpace(stated)
	if stated != "" && d.MediaType != "" && stated != d.MediaType {
		return "", invalid("imageManifestMediaType", "must be the mediaType of the manifest, %s", d.MediaType)
	}
	all := []string{dockerManifest, dockerList, ociManifest, ociIndex}
	switch mediaType := cmp.Or(stated, d.MediaType); {
	case d.SchemaVersion != 2:
		return "", invalid("ImageManifest", "schemaVersion must be 2")
	case mediaType == "":
		return "", invalid("imageManifestMediaType", "must be specified for manifests without the mediaType field")
	case !slices.Contains(all, mediaType):
		return "", invalid("imageManifestMediaType", "must satisfy enum value set: [%s]", strings.Join(all, ", "))
	default:
		return mediaType, nil
	}
}

func (d descriptor) check(where string) error {
	if !digestPattern.MatchString(d.Digest) || d.MediaType == "" || d.Size < 0 {
		return invalid("ImageManifest", "%s must have a mediaType, a size and a sha256 digest", where)
	}
	return nil
}

func (d document) image(out *image) error {
	if d.Config == nil {
		return invalid("ImageManifest", "an image must have a config")
	}
	if d.Manifests != nil {
		return invalid("ImageManifest", "an image must not have manifests")
	}
	if err := d.Config.check("config"); err != nil {
		return err
	}
	out.ArtifactType = cmp.Or(out.ArtifactType, d.Config.MediaType)
	out.Layers[d.Config.Digest] = layer{MediaType: d.Config.MediaType, Size: d.Config.Size}
	for i, l := range d.Layers {
		if err := l.check(fmt.Sprintf("layers[%d]", i)); err != nil {
			return err
		}
		if !l.foreign() {
			out.Layers[l.Digest] = layer{MediaType: l.MediaType, Size: l.Size}
		}
	}
	return nil
}

func (d document) index(out *image) error {
	if d.Config != nil || d.Layers != nil {
		return invalid("ImageManifest", "an index must not have a config or layers")
	}
	for i, m := range d.Manifests {
		if err := m.check(fmt.Sprintf("manifests[%d]", i)); err != nil {
			return err
		}
		if !slices.Contains(out.Children, m.Digest) {
			out.Children = append(out.Children, m.Digest)
		}
	}
	return nil
}

// checkContent compares the layers and the manifests that an image refers to with what
// the repository has. The caller holds s.mu.
func (s *Service) checkContent(r *repository, i *image) error {
	var missing []string
	for _, digest := range slices.Sorted(maps.Keys(i.Layers)) {
		size, ok := s.blobs.size(r.ID, digest)
		if !ok {
			missing = append(missing, digest)
			continue
		}
		if size != i.Layers[digest].Size {
			return invalid("ImageManifest", "the layer %s has %d bytes, and the manifest says %d", digest, size, i.Layers[digest].Size)
		}
	}
	if len(missing) > 0 {
		return &types.LayersNotFoundException{Message: aws.String(fmt.Sprintf("The layers with digests '[%s]' do not exist in the repository with name '%s'", strings.Join(missing, ", "), r.Name))}
	}
	for _, digest := range i.Children {
		if r.Images[digest] == nil {
			missing = append(missing, digest)
		}
	}
	if len(missing) > 0 {
		return &types.ReferencedImagesNotFoundException{Message: aws.String(fmt.Sprintf("Images with digests '[%s]' required for pushing image into repository with name '%s' do not exist", strings.Join(missing, ", "), r.Name))}
	}
	return nil
}

// bytes is the size of an image: of its layers, and for an index that of its largest
// member.
func (r *repository) bytes(i *image) int64 {
	var total int64
	for _, member := range r.members(i) {
		var size int64
		for _, l := range member.Layers {
			size += l.Size
		}
		total = max(total, size)
	}
	return total
}

// members are an image and what an index lists, directly or in other indexes, each once:
// indexes that list the same indexes would otherwise be read in exponential time. An
// image comes after those that it lists.
func (r *repository) members(i *image) []*image {
	var out []*image
	seen := map[string]bool{}
	var add func(*image)
	add = func(i *image) {
		if i == nil || seen[i.Digest] {
			return
		}
		seen[i.Digest] = true
		for _, digest := range i.Children {
			add(r.Images[digest])
		}
		out = append(out, i)
	}
	add(i)
	return out
}
