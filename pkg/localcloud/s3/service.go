// Package s3 is the object store of the embedded AWS. gofakes3 implements S3's protocol
// on a store of files. This package adds what gofakes3 lacks: aws-chunked bodies with
// signatures and checksums, and the sub-resources of buckets.
package s3

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Config configures a Service. All fields but Events are required.
type Config struct {
	Clock   clock.Clock // of objects' dates
	Default wire.Caller
	Dir     string // of the objects' files; created if it does not exist
	// Events receives the events of buckets that notify EventBridge, after the change. It
	// must not block. If it is nil, no events are sent.
	Events func(context.Context, Event)
}

// Service implements S3.
type Service struct {
	cfg     Config
	store   *store
	uploads *uploads
	parts   http.Handler // gofakes3 for multipart uploads, which it keeps, and for requests that write nothing
}

// New returns a Service that keeps its objects in cfg.Dir.
func New(cfg Config) (*Service, error) {
	st, err := newStore(cfg.Clock, cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, store: st, uploads: &uploads{store: st}}
	s.parts = s.fake(s.uploads)
	return s, nil
}

// fake returns a gofakes3 with a backend.
func (s *Service) fake(backend gofakes3.Backend) http.Handler {
	return gofakes3.New(backend, gofakes3.WithTimeSkewLimit(0), gofakes3.WithMetadataSizeLimit(8<<10), gofakes3.WithTimeSource(timeSource{s.cfg.Clock})).Server()
}

type timeSource struct{ clock clock.Clock }

func (t timeSource) Now() time.Time                  { return t.clock.Now() }
func (t timeSource) Since(u time.Time) time.Duration { return t.clock.Now().Sub(u) }

func (s *Service) caller(ctx context.Context, optFns []func(*s3.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *s3.Options) *string { return &o.Region })
}

// Wire describes the service to the HTTP front.
func (s *Service) Wire() wire.Service {
	return wire.Service{ID: "s3", Name: "S3", Protocol: wire.REST, Version: "2006-03-01", Handler: s.Handler(), Presigned: isObject}
}

// Snapshot implements wire.Stateful: it contains the index, but not the objects.
func (s *Service) Snapshot() (json.RawMessage, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	return json.Marshal(s.store.buckets)
}

// Restore implements wire.Stateful. It drops objects whose file is missing and removes
// files that belong to no object.
func (s *Service) Restore(raw json.RawMessage) error {
	buckets := map[string]*bucket{}
	if err := json.Unmarshal(raw, &buckets); err != nil {
		return fmt.Errorf("restoring S3: %w", err)
	}
	for _, b := range buckets {
		if b.Documents == nil {
			b.Documents = map[string]string{}
		}
		if b.Objects == nil {
			b.Objects = map[string][]object{}
		}
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.buckets = buckets
	return s.store.sweep()
}
