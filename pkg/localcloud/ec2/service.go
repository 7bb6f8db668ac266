// Package ec2 is the EC2 of the embedded AWS: instances, images, snapshots,
// volumes and the default network around them. Its methods have the SDK client's
// signatures, so that tests can use it in place of a client; the HTTP front end
// serves the same methods. An instance is a machine of a vm.Driver.
package ec2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/background"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Event is an event that EC2 sends to EventBridge.
type Event struct {
	Source     string // aws.ec2
	DetailType string
	Account    string
	Region     string
	Time       time.Time
	Resources  []string // ARNs
	Detail     json.RawMessage
}

// Key is a resolved KMS key.
type Key struct {
	ARN     string
	Managed bool // by AWS: snapshots that it encrypts cannot be shared
	Enabled bool
}

// InstanceProfile is an IAM instance profile in the form that the metadata
// service shows.
type InstanceProfile struct {
	ARN  string
	ID   string
	Role string // name of its role
	// RoleARN is the role that a launch passes to EC2.
	RoleARN string
}

// Config is the configuration of a Service. Clock, Driver and Dir are required.
type Config struct {
	Clock  clock.Clock
	Driver vm.Driver
	// Dir contains instances/<id> and images/<snapshot id>.
	Dir     string
	Default wire.Caller // for calls in process; default account 000000000000, region us-east-1
	Regions []string    // served regions; default: the common commercial regions
	Timing  Timing
	Limits  Limits

	// Events receives state changes, without locks held.
	Events func(context.Context, Event)
	// ResolveKey looks up a KMS key by id, ARN or alias, for an account and region.
	// If it is nil, every key exists, and aliases alias/aws/… are AWS-managed.
	ResolveKey func(account, region, ref string) (Key, error)
	// Organizations returns the ARNs of the organisation and organisational units
	// of an account. If it is nil, accounts have none.
	Organizations func(account string) []string
	// Capacity reports whether a zone has capacity for a type. If it is nil, there
	// is always capacity.
	Capacity func(c wire.Caller, instanceType, zone string) bool
	// Profile resolves an instance profile's name or ARN. If it is nil, every
	// profile exists, and its role has the same name.
	Profile func(account, ref string) (InstanceProfile, error)
	// Credentials issues a role's credentials for the metadata service. If it is
	// nil, guests get none.
	Credentials func(ctx context.Context, account, region, role, instanceID string) (aws.Credentials, error)
	// ImageParameters returns the ARNs of SSM parameters of data type aws:ec2:image
	// whose current value is an image. If it is nil, there are none.
	ImageParameters func(account, region, imageID string) []string
	// Spare is called before the running guest of a terminated instance is killed.
	// If it returns true, the guest and its disk stay until the guest ends or the
	// Service is closed; clients see the instance as terminated. If it is nil,
	// every guest is killed.
	Spare func(instanceID string, m vm.Machine) bool
	// SSHKey is an OpenSSH public key line that every guest's metadata shows.
	SSHKey string
	// Metadata makes an instance's metadata service. Default: imds.New.
	Metadata func(imds.Instance) http.Handler

	Logger *slog.Logger // default: none
}

// Service implements EC2. Its methods are safe for concurrent use.
type Service struct {
	cfg  Config
	work *background.Group

	mu    sync.Mutex
	st    state
	queue []Event // sent after mu is unlocked
}

// New makes a Service and its directories.
func New(cfg Config) (*Service, error) {
	if cfg.Clock == nil || cfg.Driver == nil || cfg.Dir == "" {
		return nil, errors.New("ec2: Clock, Driver and Dir are required")
	}
	if cfg.Default.Account == "" {
		cfg.Default.Account = "000000000000"
	}
	if cfg.Default.Region == "" {
		cfg.Default.Region = "us-east-1"
	}
	if len(cfg.Regions) == 0 {
		cfg.Regions = enabledRegions(partition.OrDefault(cfg.Default.Region))
	}
	if cfg.Metadata == nil {
		cfg.Metadata = imds.New
	}
	if cfg.Events == nil {
		cfg.Events = func(context.Context, Event) {}
	}
	if cfg.ResolveKey == nil {
		cfg.ResolveKey = anyKey
	}
	if cfg.Profile == nil {
		cfg.Profile = func(account, ref string) (InstanceProfile, error) {
			return AnyProfile(cfg.Default.Region, account, ref)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []string{instancesDir, imagesDir} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("ec2: %w", err)
		}
	}
	return &Service{cfg: cfg, work: background.New(cfg.Clock), st: newState()}, nil
}

// caller returns the account and region of this call.
func (s *Service) caller(ctx context.Context, optFns []func(*ec2.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *ec2.Options) *string { return &o.Region })
}

// unlock unlocks mu and sends the queued events.
func (s *Service) unlock() {
	events := s.queue
	s.queue = nil
	s.mu.Unlock()
	for _, e := range events {
		s.cfg.Events(context.Background(), e)
	}
}

// background runs f as work that the clock tracks. f's context ends when the
// Service is closed.
func (s *Service) background(f func(ctx context.Context)) { s.work.Go(context.Background(), f) }

// Close kills all machines and waits until they have ended, or ctx ends. The
// driver stays open.
func (s *Service) Close(ctx context.Context) error {
	if err := s.work.Close(ctx); err != nil {
		return fmt.Errorf("ec2: %w", err)
	}
	return nil
}

// Machine returns the guest of an instance, for SSM. m is nil while the instance
// does not run.
func (s *Service) Machine(account, region, instanceID string) (m vm.Machine, state types.InstanceStateName, ok bool) {
	s.mu.Lock()
	defer s.unlock()
	i, found := s.st.Instances[instanceID]
	if !found || i.Account != account || i.Region != region {
		return nil, "", false
	}
	return i.machine, i.State.Name, true
}

// RoleOf returns the name of the role of an instance's profile, or "" if it has
// none or the instance does not exist.
func (s *Service) RoleOf(account, region, instanceID string) string {
	s.mu.Lock()
	defer s.unlock()
	if i, ok := s.st.Instances[instanceID]; ok && i.Account == account && i.Region == region {
		return i.Profile.Role
	}
	return ""
}

// InstanceIDs lists the instances of an account in a region that are not
// terminated, in order of launch.
func (s *Service) InstanceIDs(_ context.Context, account, region string) []string {
	s.mu.Lock()
	defer s.unlock()
	var ids []string
	for _, i := range s.sortedInstances(wire.Caller{Account: account, Region: region}) {
		if i.live() {
			ids = append(ids, *i.InstanceId)
		}
	}
	return ids
}

// ImageExists reports whether an account may use an image, for parameters of
// data type aws:ec2:image.
func (s *Service) ImageExists(_ context.Context, account, region, imageID string) bool {
	s.mu.Lock()
	defer s.unlock()
	_, err := s.visibleImage(wire.Caller{Account: account, Region: region}, imageID)
	return err == nil
}

var _ wire.Stateful = (*Service)(nil)

// Occupant is the instance with an address of the guests' network.
type Occupant struct {
	InstanceID string
	Account    string
	Region     string
	Role       string // of its instance profile, or empty
}

// InstanceAt finds the instance with an address. Accounts and regions share the
// network, so there is at most one.
func (s *Service) InstanceAt(ip string) (Occupant, bool) {
	s.mu.Lock()
	defer s.unlock()
	for id, i := range s.st.Instances {
		if i.live() && aws.ToString(i.PrivateIpAddress) == ip {
			return Occupant{InstanceID: id, Account: i.Account, Region: i.Region, Role: i.Profile.Role}, true
		}
	}
	return Occupant{}, false
}
