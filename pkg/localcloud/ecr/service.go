// Package ecr is the Elastic Container Registry of the embedded AWS: private
// repositories with their images, served as the JSON API and as an OCI registry over
// one store. It scans only with the scanner that it is given, and it has no
// pull-through cache, creation templates, archive or managed signing.
package ecr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Event is an event of a registry, for EventBridge.
type Event struct {
	DetailType string
	Account    string
	Region     string
	Time       time.Time
	Resources  []string
	Detail     any
}

// Config configures a Service. Clock, Default, Dir and Secret are required.
type Config struct {
	Clock   clock.Clock
	Default wire.Caller
	Dir     string // that holds manifests and layers
	Secret  string // that authorization tokens and download addresses are signed with
	// Endpoint is where the registry is served, such as http://127.0.0.1:4566; empty if
	// nothing listens. Nil: nothing listens.
	Endpoint func() string
	// Known reports whether an access key exists. A token of a key that does not is
	// refused. Nil: all exist.
	Known func(accessKeyID string) bool
	// Permit decides on a request to the registry, by the operation of the JSON API that
	// it corresponds to. Nil: everything is allowed.
	Permit func(ctx context.Context, who wire.Caller, operation string, input any) error
	// Replicates decides whether another account may do an action, such as
	// ecr:ReplicateImage, on a repository. Nil: it may.
	Replicates func(source wire.Caller, action, repositoryARN string) error
	// Key finds the ARN of a KMS key by its id, ARN or alias. Nil: there are no keys.
	Key func(account, region, ref string) (arn string, err error)
	// Scanner finds the vulnerabilities of an image. Nil: no image can be scanned, and
	// scans end as UNSUPPORTED_IMAGE.
	Scanner func(ctx context.Context, image ScanTarget) ([]types.ImageScanFinding, error)
	Events  func(context.Context, Event) // nil: none
	// MaxLayer is the largest layer, in bytes. Default: that of ECR, 52,000 MiB.
	MaxLayer int64
	Logger   *slog.Logger // nil: none
}

// registry is the state of one account in one region.
type registry struct {
	Repositories map[string]*repository // by name
	Policy       string
	Replication  []types.ReplicationRule
	Settings     map[string]string // account settings that were changed
}

// repository is one repository. Its ID names its folder: a repository that is created
// again under the same name is another one.
type repository struct {
	ID         string
	Name       string
	Created    time.Time
	Mutability types.ImageTagMutability
	Exclusions []types.ImageTagMutabilityExclusionFilter
	ScanOnPush bool
	Encryption types.EncryptionConfiguration
	Policy     string
	Lifecycle  string
	Evaluated  time.Time // the lifecycle policy was applied
	Tags       map[string]string
	Images     map[string]*image // by digest
	ImageTags  map[string]string // digest by tag
}

// image is a manifest in a repository. Its bytes are in the repository's folder.
type image struct {
	Digest       string
	MediaType    string
	ArtifactType string            // of the manifest, or the media type of its configuration
	Size         int64             // of the manifest, in bytes
	Layers       map[string]layer  // by digest, the configuration included
	Children     []string          // digests of the manifests that an index lists
	Subject      string            // digest; empty for an image that refers to none
	Annotations  map[string]string `json:",omitempty"`
	Pushed       time.Time
	Pulled       time.Time
	Scan         *scan `json:",omitempty"`
}

// layer is a blob that a manifest refers to.
type layer struct {
	MediaType string
	Size      int64
}

// Service implements ECR.
type Service struct {
	cfg   Config
	blobs blobs

	mu         sync.Mutex
	registries map[scope.Key]*registry

	uploading sync.Mutex // of uploads
	uploads   map[string]*upload
}

// New returns a Service without repositories. Uploads that a former process did not
// finish are removed.
func New(cfg Config) (*Service, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Endpoint == nil {
		cfg.Endpoint = func() string { return "" }
	}
	if cfg.MaxLayer == 0 {
		cfg.MaxLayer = maxLayer
	}
	s := &Service{cfg: cfg, blobs: blobs{dir: cfg.Dir}, registries: map[scope.Key]*registry{}, uploads: map[string]*upload{}}
	if err := os.RemoveAll(s.blobs.uploads()); err != nil {
		return nil, fmt.Errorf("removing unfinished uploads of ECR: %w", err)
	}
	return s, nil
}

func (s *Service) caller(ctx context.Context, optFns []func(*ecr.Options)) wire.Caller {
	c := scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *ecr.Options) *string { return &o.Region })
	if c.ARN == "" {
		c.ARN = wire.RootARN(c.Account, c.Region)
	}
	return c
}

// at returns the registry of an account in a region. The caller holds s.mu.
func (s *Service) at(k scope.Key) *registry {
	r, ok := s.registries[k]
	if !ok {
		r = &registry{Repositories: map[string]*repository{}}
		s.registries[k] = r
	}
	return r
}

// keyOf is the registry that a request names, in the caller's region.
func keyOf(c wire.Caller, registryID *string) scope.Key {
	k := scope.KeyOf(c)
	if id := aws.ToString(registryID); id != "" {
		k.Account = id
	}
	return k
}

// find looks a repository up. The caller holds s.mu.
func (s *Service) find(k scope.Key, name string) (*repository, error) {
	r, ok := s.at(k).Repositories[name]
	if !ok {
		return nil, &types.RepositoryNotFoundException{Message: aws.String(fmt.Sprintf("The repository with name '%s' does not exist in the registry with id '%s'", name, k.Account))}
	}
	s.applyLifecycle(k, r)
	return r, nil
}

// arn is the ARN of a repository.
func arn(k scope.Key, name string) string {
	return partition.ARN("ecr", k.Region, k.Account, "repository/"+name)
}

// emit sends an event, without s.mu.
func (s *Service) emit(ctx context.Context, k scope.Key, detailType string, resources []string, detail any) {
	if s.cfg.Events != nil {
		s.cfg.Events(ctx, Event{DetailType: detailType, Account: k.Account, Region: k.Region, Time: s.cfg.Clock.Now(), Resources: resources, Detail: detail})
	}
}

// Wire describes the JSON API to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "ecr", Name: "ECR", Protocol: wire.AWSJSON, Version: "2015-09-21", TargetPrefix: "AmazonEC2ContainerRegistry_V20150921",
		Operations: map[string]wire.Operation{
			"BatchCheckLayerAvailability":   wire.Op(s.BatchCheckLayerAvailability),
			"BatchDeleteImage":              wire.Op(s.BatchDeleteImage),
			"BatchGetImage":                 wire.Op(s.BatchGetImage),
			"CompleteLayerUpload":           wire.Op(s.CompleteLayerUpload),
			"CreateRepository":              wire.Op(s.CreateRepository),
			"DeleteLifecyclePolicy":         wire.Op(s.DeleteLifecyclePolicy),
			"DeleteRegistryPolicy":          wire.Op(s.DeleteRegistryPolicy),
			"DeleteRepository":              wire.Op(s.DeleteRepository),
			"DeleteRepositoryPolicy":        wire.Op(s.DeleteRepositoryPolicy),
			"DescribeImageScanFindings":     wire.Op(s.DescribeImageScanFindings),
			"DescribeImages":                wire.Op(s.DescribeImages),
			"DescribeRegistry":              wire.Op(s.DescribeRegistry),
			"DescribeRepositories":          wire.Op(s.DescribeRepositories),
			"GetAccountSetting":             wire.Op(s.GetAccountSetting),
			"GetAuthorizationToken":         wire.Op(s.GetAuthorizationToken),
			"GetDownloadUrlForLayer":        wire.Op(s.GetDownloadUrlForLayer),
			"GetLifecyclePolicy":            wire.Op(s.GetLifecyclePolicy),
			"GetRegistryPolicy":             wire.Op(s.GetRegistryPolicy),
			"GetRepositoryPolicy":           wire.Op(s.GetRepositoryPolicy),
			"InitiateLayerUpload":           wire.Op(s.InitiateLayerUpload),
			"ListImageReferrers":            wire.Op(s.ListImageReferrers),
			"ListImages":                    wire.Op(s.ListImages),
			"ListTagsForResource":           wire.Op(s.ListTagsForResource),
			"PutAccountSetting":             wire.Op(s.PutAccountSetting),
			"PutImage":                      wire.Op(s.PutImage),
			"PutImageScanningConfiguration": wire.Op(s.PutImageScanningConfiguration),
			"PutImageTagMutability":         wire.Op(s.PutImageTagMutability),
			"PutLifecyclePolicy":            wire.Op(s.PutLifecyclePolicy),
			"PutRegistryPolicy":             wire.Op(s.PutRegistryPolicy),
			"PutReplicationConfiguration":   wire.Op(s.PutReplicationConfiguration),
			"SetRepositoryPolicy":           wire.Op(s.SetRepositoryPolicy),
			"StartImageScan":                wire.Op(s.StartImageScan),
			"TagResource":                   wire.Op(s.TagResource),
			"UntagResource":                 wire.Op(s.UntagResource),
			"UploadLayerPart":               wire.Op(s.UploadLayerPart),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.registries) }

// Restore implements wire.Stateful. It refuses a state whose manifests are not in the
// folder, and removes folders of repositories that the state does not have.
func (s *Service) Restore(raw json.RawMessage) error {
	return persist.Restore(&s.mu, "ECR", raw, &s.registries, func(registries map[scope.Key]*registry) error {
		known := map[string]bool{}
		for _, r := range registries {
			for _, held := range r.Repositories {
				known[held.ID] = true
				for digest := range held.Images {
					if _, err := os.Stat(s.blobs.manifest(held.ID, digest)); err != nil {
						return fmt.Errorf("the manifest %s of repository %s: %w", digest, held.Name, err)
					}
				}
			}
		}
		folders, err := os.ReadDir(s.blobs.repositories())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, f := range folders {
			if !known[f.Name()] {
				if err := os.RemoveAll(filepath.Join(s.blobs.repositories(), f.Name())); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
