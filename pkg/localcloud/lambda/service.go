// Package lambda is the Lambda of the embedded AWS. Functions are native
// processes that speak the Lambda Runtime API, as on provided.al2023, or
// handlers in this process.
package lambda

import (
	"context"
	"log/slog"
	"sync"
	"time"

	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda/native"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Credentials are the credentials of a function's process.
type Credentials struct {
	AccessKeyID, SecretAccessKey, SessionToken string
}

// Config is the configuration of a Service. Clock and Default are required;
// functions that are created from archives need Dir.
type Config struct {
	Clock   clock.Clock
	Default wire.Caller // for calls without a caller in their context
	// Dir contains the unpacked code of functions that CreateFunction made.
	Dir string
	// Credentials returns credentials of a function's role. If it is nil, the
	// access key id is the account's id, which the embedded AWS treats as the
	// account's root user.
	Credentials func(account, region, roleARN, function string) (Credentials, error)
	// Assumable returns why Lambda cannot assume a role for a function. If it is
	// nil, Lambda can always assume roles.
	Assumable func(account, sourceARN, roleARN string) error
	// Object reads the archive at a bucket and key for CreateFunction. If it is
	// nil, such functions are refused.
	Object func(ctx context.Context, bucket, key string) ([]byte, error)
	// Destination sends the record of an asynchronous invocation to a queue, topic,
	// function or bus, with the role of the function; of is the function's account
	// and region. If it is nil, destinations are refused.
	Destination func(ctx context.Context, of wire.Caller, roleARN, destinationARN string, record []byte) error
	// Environment returns additional variables for the processes of all functions,
	// whose own variables override them. It may be nil.
	Environment func() map[string]string
	// Endpoint returns the URL under which the embedded AWS serves, for function
	// URLs. If it is nil or returns "", that is http://localhost.
	Endpoint func() string
	// MaxProcesses limits the processes of one function. Default 10.
	MaxProcesses int
	// Idle is the time for which an idle process is kept, in real time. Default
	// five minutes.
	Idle time.Duration
	// Life is the time after its start for which a process gets work, by Clock. It
	// must be shorter than the lifetime of its credentials. Default: no limit.
	Life time.Duration
	// Logger receives every line that functions write, at level info. Default:
	// none.
	Logger *slog.Logger
}

// Service implements Lambda. It is safe for concurrent use.
type Service struct {
	config   Config
	launcher *native.Launcher
	ctx      context.Context // of invocations, whoever waits for them
	cancel   context.CancelFunc
	async    sync.WaitGroup // of asynchronous invocations
	running  sync.WaitGroup // of functions
	metrics  metrics

	mu        sync.Mutex
	functions map[scope.Key]map[string]*function // by name
	closed    bool
}

// New returns a Service without functions.
func New(c Config) *Service {
	if c.MaxProcesses <= 0 {
		c.MaxProcesses = 10
	}
	if c.Idle <= 0 {
		c.Idle = 5 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Service{
		config: c, launcher: native.NewLauncher(), ctx: ctx, cancel: cancel,
		functions: map[scope.Key]map[string]*function{},
	}
}

// Close ends all processes and waits for them. Later invocations fail.
func (s *Service) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	var all []*function
	for _, functions := range s.functions {
		for _, f := range functions {
			all = append(all, f)
		}
	}
	s.mu.Unlock()
	s.cancel()
	for _, f := range all {
		f.close()
	}
	s.async.Wait()
	s.running.Wait()
	s.launcher.Close()
}

// caller returns the account of the caller, and the region of the call.
func (s *Service) caller(ctx context.Context, optFns []func(*awslambda.Options)) wire.Caller {
	return scope.CallerIn(ctx, s.config.Default, optFns, func(o *awslambda.Options) *string { return &o.Region })
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	return wire.Service{ID: "lambda", Name: "Lambda", Protocol: wire.REST, Version: "2015-03-31", Handler: s.handler()}
}
