// Package cloudformation is the CloudFormation of the embedded AWS: it makes,
// updates and deletes the resources of templates in the other services, for `cdk
// deploy` and the AWS CLI. The function kinds lists the served types, and which
// of them are only records.
package cloudformation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/background"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/persist"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Config is the configuration of a Service.
type Config struct {
	Clock   clock.Clock
	Default wire.Caller // for calls without a caller in their context
	// Services in which resources are made. Types of a nil service are refused.
	Services Services
	Logger   *slog.Logger
}

// stack is one stack, guarded by the service's mu. Fields are exported for the
// saved state.
type stack struct {
	identity
	Status          types.StackStatus
	Reason          string
	Created         time.Time
	Updated         time.Time
	Deleted         time.Time
	Body            string // the deployed template
	Description     string
	Parameters      []types.Parameter
	Hidden          []string // names of parameters with NoEcho
	Tags            []types.Tag
	Capabilities    []types.Capability
	RoleARN         string
	Outputs         []types.Output
	Imports         []string // names of other stacks' exports
	Protected       bool
	DisableRollback bool
	Resources       map[string]*deployed
	Events          []types.StackEvent // oldest first
	ChangeSets      map[string]*changeSet
	Executed        []*changeSet // oldest first
}

// deployed is an existing resource of a stack.
type deployed struct {
	LogicalID, PhysicalID, Type         string
	Properties, Attributes              map[string]any
	DeletionPolicy, UpdateReplacePolicy string
	Needs                               []string // logical ids
	Status                              types.ResourceStatus
	Reason                              string
	Changed                             time.Time
}

// Service implements CloudFormation.
type Service struct {
	cfg   Config
	kinds map[string]kind
	work  *background.Group

	mu     sync.Mutex
	stacks map[scope.Key][]*stack // oldest first, including deleted ones
}

// New returns a Service without stacks.
func New(cfg Config) *Service {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg, kinds: kinds(cfg.Services), work: background.New(cfg.Clock), stacks: map[scope.Key][]*stack{}}
}

// Close stops running operations, and waits until they have ended or ctx ends.
func (s *Service) Close(ctx context.Context) error {
	if err := s.work.Close(ctx); err != nil {
		return fmt.Errorf("cloudformation: %w", err)
	}
	return nil
}

func (s *Service) caller(ctx context.Context, optFns []func(*cloudformation.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.cfg.Default, optFns, func(o *cloudformation.Options) *string { return &o.Region })
}

// invalid returns a ValidationError, which CloudFormation uses for almost every
// error.
func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

var stackName = regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]{0,127}$`)

func stackARN(k scope.Key, name string) string {
	return partition.ARN("cloudformation", k.Region, k.Account, "stack/"+name+"/"+uuid.NewString())
}

// find returns a stack by ARN, or by name among those that are not deleted. The
// caller holds s.mu.
func (s *Service) find(k scope.Key, ref string) (*stack, error) {
	all := s.stacks[k]
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].ARN == ref || all[i].Name == ref && all[i].Status != types.StackStatusDeleteComplete {
			return all[i], nil
		}
	}
	return nil, invalid("Stack with id %s does not exist", ref)
}

// event records an event of a resource or of the stack itself. The caller holds
// s.mu.
func (s *Service) event(st *stack, token string, e types.StackEvent) {
	now := s.cfg.Clock.Now()
	e.EventId = aws.String(aws.ToString(e.LogicalResourceId) + "-" + string(e.ResourceStatus) + "-" + uuid.NewString())
	e.StackId, e.StackName, e.Timestamp, e.ClientRequestToken = aws.String(st.ARN), aws.String(st.Name), aws.Time(now), scope.Optional(token)
	st.Events = append(st.Events, e)
}

const stackType = "AWS::CloudFormation::Stack"

// setStatus sets the stack's status and records the event. The caller holds
// s.mu.
func (s *Service) setStatus(st *stack, token string, status types.StackStatus, reason string) {
	st.Status, st.Reason = status, reason
	s.event(st, token, types.StackEvent{
		LogicalResourceId: aws.String(st.Name), PhysicalResourceId: aws.String(st.ARN), ResourceType: aws.String(stackType),
		ResourceStatus: types.ResourceStatus(status), ResourceStatusReason: scope.Optional(reason),
	})
}

// busy reports whether an operation is running.
func (st *stack) busy() bool {
	return strings.HasSuffix(string(st.Status), "_IN_PROGRESS") && st.Status != types.StackStatusReviewInProgress
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID: "cloudformation", Name: "CloudFormation", Protocol: wire.AWSQuery, Version: "2010-05-15",
		Operations: map[string]wire.Operation{
			"CreateChangeSet":             wire.Op(s.CreateChangeSet),
			"CreateStack":                 wire.Op(s.CreateStack),
			"DeleteChangeSet":             wire.Op(s.DeleteChangeSet),
			"DeleteStack":                 wire.Op(s.DeleteStack),
			"DescribeChangeSet":           wire.Op(s.DescribeChangeSet),
			"DescribeEvents":              wire.Op(s.DescribeEvents),
			"DescribeStackEvents":         wire.Op(s.DescribeStackEvents),
			"DescribeStackResource":       wire.Op(s.DescribeStackResource),
			"DescribeStackResources":      wire.Op(s.DescribeStackResources),
			"DescribeStacks":              wire.Op(s.DescribeStacks),
			"ExecuteChangeSet":            wire.Op(s.ExecuteChangeSet),
			"GetTemplate":                 wire.Op(s.GetTemplate),
			"GetTemplateSummary":          wire.Op(s.GetTemplateSummary),
			"ListChangeSets":              wire.Op(s.ListChangeSets),
			"ListExports":                 wire.Op(s.ListExports),
			"ListStackResources":          wire.Op(s.ListStackResources),
			"ListStacks":                  wire.Op(s.ListStacks),
			"UpdateStack":                 wire.Op(s.UpdateStack),
			"UpdateTerminationProtection": wire.Op(s.UpdateTerminationProtection),
			"ValidateTemplate":            wire.Op(s.ValidateTemplate),
		},
	}
}

// Snapshot implements wire.Stateful.
func (s *Service) Snapshot() (json.RawMessage, error) { return persist.Snapshot(&s.mu, &s.stacks) }

// cutOff maps the status of an operation that a restart has interrupted to one
// in which the stack can be deleted.
var cutOff = map[types.StackStatus]types.StackStatus{
	types.StackStatusCreateInProgress:                        types.StackStatusCreateFailed,
	types.StackStatusRollbackInProgress:                      types.StackStatusRollbackFailed,
	types.StackStatusDeleteInProgress:                        types.StackStatusDeleteFailed,
	types.StackStatusUpdateInProgress:                        types.StackStatusUpdateRollbackFailed,
	types.StackStatusUpdateCompleteCleanupInProgress:         types.StackStatusUpdateComplete,
	types.StackStatusUpdateRollbackInProgress:                types.StackStatusUpdateRollbackFailed,
	types.StackStatusUpdateRollbackCompleteCleanupInProgress: types.StackStatusUpdateRollbackComplete,
}

// Restore implements wire.Stateful. Operations that were running have failed.
func (s *Service) Restore(raw json.RawMessage) error {
	stacks := map[scope.Key][]*stack{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // so that numbers in properties keep their form
	if err := decoder.Decode(&stacks); err != nil {
		return fmt.Errorf("restoring CloudFormation: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stacks = stacks
	for _, all := range stacks {
		for _, st := range all {
			if status, ok := cutOff[st.Status]; ok {
				s.setStatus(st, "", status, "the embedded AWS was stopped during this operation")
			}
			for _, c := range st.ChangeSets {
				c.cutOff()
			}
		}
	}
	return nil
}
