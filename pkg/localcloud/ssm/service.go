// Package ssm is the Systems Manager of the embedded AWS: Run Command, which runs scripts
// in guests, and Parameter Store.
package ssm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/background"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Machines finds the guests of instances. ec2.Service implements it.
type Machines interface {
	// Machine returns the guest of an instance and the instance's state. ok is false if
	// the instance does not exist. m may be nil if it is not running.
	Machine(account, region, instanceID string) (m vm.Machine, state ec2types.InstanceStateName, ok bool)
}

// ObjectStore stores the output of commands.
type ObjectStore interface {
	Put(ctx context.Context, bucket, key, contentType string, body io.Reader) error
}

// Keys encrypts SecureString parameters. kms.Service implements it.
type Keys interface {
	Encrypt(context.Context, *kms.EncryptInput, ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error)
}

// Config configures a Service. Clock, Default and Machines are required.
type Config struct {
	Clock    clock.Clock
	Default  wire.Caller
	Machines Machines
	// Instances lists the instances of an account in a region, for
	// DescribeInstanceInformation without a filter. If it is nil, only instances that
	// have received a command are listed.
	Instances func(ctx context.Context, account, region string) []string
	// Objects receives the output of commands that name a bucket. If it is nil, such
	// commands are refused.
	Objects ObjectStore
	// Keys encrypts SecureString parameters. If it is nil, they are refused.
	Keys Keys
	// ImageExists reports whether an account may use an image, for parameters of data
	// type aws:ec2:image. If it is nil, they are refused.
	ImageExists func(ctx context.Context, account, region, imageID string) bool
	// InstanceTags returns the tags of an instance that the caller in ctx sees. Policies
	// allow commands by these tags. It may be nil.
	InstanceTags func(ctx context.Context, instanceID string) map[string]string
	// Emit sends an event with source aws.ssm to the account's default event
	// bus. May be nil.
	Emit func(ctx context.Context, account, region, detailType string, resources []string, detail any)
	// ValidationDelay is the duration of the validation of an aws:ec2:image parameter.
	// Default: one second.
	ValidationDelay time.Duration
	// PollInterval is the time between attempts to reach a guest that does not answer,
	// until the delivery of a command times out. Default: one second.
	PollInterval time.Duration
	Logger       *slog.Logger
}

// Service implements SSM.
type Service struct {
	cfg  Config
	work *background.Group

	mu       sync.Mutex
	commands map[scope.Key][]*command // oldest first
	params   map[scope.Key]map[string]*parameter
	public   map[string]map[string]*parameter // by region, then name
	seen     map[scope.Key]map[string]registration
	// documents are the accounts' own, by name.
	documents map[scope.Key]map[string]*storedDocument
}

// registration holds the times at which the agent of an instance first and last
// answered.
type registration struct{ First, Last time.Time }

// New returns a Service.
func New(cfg Config) *Service {
	if cfg.ValidationDelay == 0 {
		cfg.ValidationDelay = time.Second
	}
	if cfg.PollInterval == 0 {
		cfg.PollInterval = time.Second
	}
	if cfg.InstanceTags == nil {
		cfg.InstanceTags = func(context.Context, string) map[string]string { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{
		cfg: cfg, work: background.New(cfg.Clock), commands: map[scope.Key][]*command{}, params: map[scope.Key]map[string]*parameter{},
		public: map[string]map[string]*parameter{}, seen: map[scope.Key]map[string]registration{},
		documents: map[scope.Key]map[string]*storedDocument{},
	}
}

// Close ends the running commands, and waits until they have ended or ctx ends.
func (s *Service) Close(ctx context.Context) error {
	if err := s.work.Close(ctx); err != nil {
		return fmt.Errorf("ssm: %w", err)
	}
	return nil
}

func (s *Service) caller(ctx context.Context, optFns []func(*ssm.Options)) wire.Caller {
	c := scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *ssm.Options) *string { return &o.Region })
	if c.ARN == "" {
		c.ARN = wire.RootARN(c.Account, c.Region)
	}
	return c
}

func (s *Service) emit(ctx context.Context, at scope.Key, detailType string, resources []string, detail any) {
	if s.cfg.Emit != nil {
		s.cfg.Emit(ctx, at.Account, at.Region, detailType, resources, detail)
	}
}

// Wire describes the service to the HTTP front.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "ssm", Name: "SSM", Protocol: wire.AWSJSON, Version: "2014-11-06", TargetPrefix: "AmazonSSM",
		Operations: map[string]wire.Operation{
			"AddTagsToResource":            wire.Op(s.AddTagsToResource),
			"CancelCommand":                wire.Op(s.CancelCommand),
			"CreateDocument":               wire.Op(s.CreateDocument),
			"DeleteDocument":               wire.Op(s.DeleteDocument),
			"DescribeDocument":             wire.Op(s.DescribeDocument),
			"GetDocument":                  wire.Op(s.GetDocument),
			"UpdateDocument":               wire.Op(s.UpdateDocument),
			"UpdateDocumentDefaultVersion": wire.Op(s.UpdateDocumentDefaultVersion),
			"DeleteParameter":              wire.Op(s.DeleteParameter),
			"DeleteParameters":             wire.Op(s.DeleteParameters),
			"DescribeInstanceInformation":  wire.Op(s.DescribeInstanceInformation),
			"GetCommandInvocation":         wire.Op(s.GetCommandInvocation),
			"GetParameter":                 wire.Op(s.GetParameter),
			"DescribeParameters":           wire.Op(s.DescribeParameters),
			"GetParameterHistory":          wire.Op(s.GetParameterHistory),
			"GetParameters":                wire.Op(s.GetParameters),
			"GetParametersByPath":          wire.Op(s.GetParametersByPath),
			"LabelParameterVersion":        wire.Op(s.LabelParameterVersion),
			"ListCommandInvocations":       wire.Op(s.ListCommandInvocations),
			"ListCommands":                 wire.Op(s.ListCommands),
			"ListTagsForResource":          wire.Op(s.ListTagsForResource),
			"PutParameter":                 wire.Op(s.PutParameter),
			"RemoveTagsFromResource":       wire.Op(s.RemoveTagsFromResource),
			"SendCommand":                  wire.Op(s.SendCommand),
		},
	}
}

// state is the content of a snapshot.
type state struct {
	Commands   map[scope.Key][]*command
	Parameters map[scope.Key]map[string]*parameter
	Public     map[string]map[string]*parameter
	Agents     map[scope.Key]map[string]registration
	Documents  map[scope.Key]map[string]*storedDocument
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(state{Commands: s.commands, Parameters: s.params, Public: s.public, Agents: s.seen, Documents: s.documents})
}

// Restore implements wire.Stateful. Commands that were running end as failed, because
// their guests no longer exist.
func (s *Service) Restore(raw json.RawMessage) error {
	st := state{
		Commands: map[scope.Key][]*command{}, Parameters: map[scope.Key]map[string]*parameter{},
		Public: map[string]map[string]*parameter{}, Agents: map[scope.Key]map[string]registration{},
		Documents: map[scope.Key]map[string]*storedDocument{},
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return fmt.Errorf("restoring SSM: %w", err)
	}
	for _, commands := range st.Commands {
		for _, c := range commands {
			if c.Document == "" { // saved before there were other documents
				c.Document, c.Version, c.Step = shellDocument, "$DEFAULT", "0.awsrunShellScript"
			}
			for _, inv := range c.Invocations {
				inv.lose(s.cfg.Clock.Now())
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands, s.params, s.public, s.seen, s.documents = st.Commands, st.Parameters, st.Public, st.Agents, st.Documents
	return nil
}
