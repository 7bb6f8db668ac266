// Package scheduler is the EventBridge Scheduler of the embedded AWS: schedules
// that call a target with their role when they are due on the embedded AWS's
// clock. They only run after Start; times that pass before are skipped.
package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/aws-sdk-go-v2/service/scheduler/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/background"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/delivery"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Principal is the service that assumes the roles of schedules.
const Principal = "scheduler.amazonaws.com"

// Config is the configuration of a Service. Targets of a nil service are
// refused.
type Config struct {
	Clock   clock.Clock
	Default wire.Caller
	// Assume returns a context for calls with a session of a schedule's role, which
	// Principal assumes. If it is nil, they are calls of the schedule's account.
	Assume        func(ctx context.Context, at wire.Caller, roleARN, scheduleARN string) (context.Context, error)
	Functions     delivery.Functions
	StateMachines delivery.StateMachines
	Topics        delivery.Topics
	Queues        delivery.Queues
	Buses         delivery.Buses
	Logger        *slog.Logger
}

// group is a schedule group.
type group struct {
	Name              string
	ARN               string
	Created, Modified time.Time
	Tags              map[string]string
	Token             string // client token of its creation
	Schedules         map[string]*schedule
}

// schedule is one schedule.
type schedule struct {
	Name, Group, ARN  string
	At                scope.Key
	Created, Modified time.Time
	Token             string // client token of its creation
	Settings          settings

	timing timing
	next   time.Time // next due time, without its window; zero if never
}

// settings are the parts of a schedule that can be updated.
type settings struct {
	Expression  string
	Zone        string
	Start, End  *time.Time
	Window      types.FlexibleTimeWindow
	State       types.ScheduleState
	After       types.ActionAfterCompletion
	Description *string
	KmsKeyARN   *string
	Target      types.Target
}

// Service implements EventBridge Scheduler. It is safe for concurrent use.
type Service struct {
	cfg  Config
	work *background.Group

	mu      sync.Mutex
	groups  map[scope.Key]map[string]*group // by name
	ringing bool
	stop    func() bool // stops the timer; nil if none is set
}

// New returns a Service that does not run schedules yet.
func New(cfg Config) *Service {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg, work: background.New(cfg.Clock), groups: map[scope.Key]map[string]*group{}}
}

// Start makes schedules run from now on. On a virtual clock that is not held, a
// recurring schedule makes time advance without end.
func (s *Service) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ringing {
		return
	}
	s.ringing = true
	now := s.cfg.Clock.Now()
	for _, named := range s.groups {
		for _, g := range named {
			for _, one := range g.Schedules {
				one.plan(now.Add(-one.offset()))
			}
		}
	}
	s.arm()
}

// Close stops running deliveries and all schedules, and waits until they have
// ended or ctx ends.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	s.ringing = false
	s.arm()
	s.mu.Unlock()
	if err := s.work.Close(ctx); err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	return nil
}

func (s *Service) caller(ctx context.Context, optFns []func(*scheduler.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *scheduler.Options) *string { return &o.Region })
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{ID: "scheduler", Name: "EventBridge Scheduler", Protocol: wire.REST, Version: "2021-06-30", Handler: s.handler()}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.groups) }

// Restore implements wire.Stateful. Times that passed in the meantime are
// skipped.
func (s *Service) Restore(raw json.RawMessage) error {
	groups := map[scope.Key]map[string]*group{}
	if err := json.Unmarshal(raw, &groups); err != nil {
		return fmt.Errorf("restoring EventBridge Scheduler: %w", err)
	}
	now := s.cfg.Clock.Now()
	for _, named := range groups {
		for _, g := range named {
			for _, one := range g.Schedules {
				if err := one.compile(); err != nil {
					return fmt.Errorf("restoring the schedule %s: %w", one.ARN, err)
				}
				one.plan(now.Add(-one.offset()))
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = groups
	s.arm()
	return nil
}
