// Package states is the Step Functions of the embedded AWS: standard state
// machines in JSONata mode, whose executions run on the clock of the embedded
// AWS and leave the history that AWS documents.
package states

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states/asl"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Invoker calls Lambda functions synchronously. functionError is what Lambda
// answers in X-Amz-Function-Error; out is then the error's payload. The
// context's caller (wire.CallerFrom) is the state machine's role.
type Invoker interface {
	Invoke(ctx context.Context, functionARN string, payload []byte) (out []byte, functionError string, err error)
}

// Integrations performs the actions of other services that tasks may name:
// sns:publish and events:putEvents. arguments and out are JSON with the names of
// the service's API in capitals, such as TopicArn.
type Integrations interface {
	Call(ctx context.Context, service, action string, arguments []byte) (out []byte, err error)
}

// Event is what Step Functions sends to EventBridge.
type Event struct {
	Account, Region string
	Source          string // aws.states
	DetailType      string // Step Functions Execution Status Change
	Time            time.Time
	Resources       []string
	Detail          json.RawMessage
}

// Config is what a Service needs. Clock, Invoker and Default are required.
type Config struct {
	Clock        clock.Clock
	Invoker      Invoker
	Integrations Integrations // nil: tasks that use them fail
	Default      wire.Caller  // of calls without a caller in their context
	// Assumable says why Step Functions cannot assume a role for a state machine;
	// nil: it always can.
	Assumable func(account, sourceARN, roleARN string) error
	Events    func(Event)  // nil: none; called outside of any lock
	Logger    *slog.Logger // nil: silent
}

// Service implements Step Functions. It is safe for concurrent use.
type Service struct {
	config Config
	ctx    context.Context // of all executions
	cancel context.CancelCauseFunc
	active sync.WaitGroup

	mu         sync.Mutex
	machines   map[string]*machine      // by ARN
	executions map[string]*execution    // by ARN
	started    int64                    // executions ever, for their order
	tokens     map[string]*asl.Callback // of the tasks that wait
}

// New returns a Service without state machines.
func New(c Config) *Service {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Service{
		config:     c,
		ctx:        ctx,
		cancel:     cancel,
		machines:   map[string]*machine{},
		executions: map[string]*execution{},
		tokens:     map[string]*asl.Callback{},
	}
}

// Close stops all executions, which a later Restore reports as aborted, and
// waits until their work has ended.
func (s *Service) Close() {
	s.cancel(errClosed)
	s.active.Wait()
}

// caller is who calls, in the region that the call names.
func (s *Service) caller(ctx context.Context, optFns []func(*sfn.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.config.Default, optFns, func(o *sfn.Options) *string { return &o.Region })
}

// Wire is the service as the HTTP door serves it.
func (s *Service) Wire() wire.Service {
	return wire.Service{
		ID:           "states",
		Name:         "Step Functions",
		Protocol:     wire.AWSJSON,
		Version:      "1.0",
		TargetPrefix: "AWSStepFunctions",
		Operations: map[string]wire.Operation{
			"CreateStateMachine":               wire.Op(s.CreateStateMachine),
			"UpdateStateMachine":               wire.Op(s.UpdateStateMachine),
			"DescribeStateMachine":             wire.Op(s.DescribeStateMachine),
			"DescribeStateMachineForExecution": wire.Op(s.DescribeStateMachineForExecution),
			"ListStateMachines":                wire.Op(s.ListStateMachines),
			"DeleteStateMachine":               wire.Op(s.DeleteStateMachine),
			"ValidateStateMachineDefinition":   wire.Op(s.ValidateStateMachineDefinition),
			"StartExecution":                   wire.Op(s.StartExecution),
			"DescribeExecution":                wire.Op(s.DescribeExecution),
			"GetExecutionHistory":              wire.Op(s.GetExecutionHistory),
			"ListExecutions":                   wire.Op(s.ListExecutions),
			"StopExecution":                    wire.Op(s.StopExecution),
			"SendTaskSuccess":                  wire.Op(s.SendTaskSuccess),
			"SendTaskFailure":                  wire.Op(s.SendTaskFailure),
			"SendTaskHeartbeat":                wire.Op(s.SendTaskHeartbeat),
			"TagResource":                      wire.Op(s.TagResource),
			"UntagResource":                    wire.Op(s.UntagResource),
			"ListTagsForResource":              wire.Op(s.ListTagsForResource),
		},
	}
}
