package lambda

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/scope"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda/native"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Limits and defaults of AWS Lambda.
const (
	defaultMemoryMiB = 128
	defaultTimeout   = 3 * time.Second
	maxTimeout       = 900 * time.Second
)

// Handler is a function in this process.
type Handler func(ctx context.Context, event []byte) ([]byte, error)

// Function describes a function for Deploy.
type Function struct {
	Name        string
	Description string
	// Dir is a folder with an executable bootstrap. Either Dir or Handler is set.
	Dir     string
	Handler Handler
	// Env is added to the variables that Lambda sets, and overrides them.
	Env       map[string]string
	MemoryMiB int           // default 128
	Timeout   time.Duration // default 3 s, at most 900 s
	Role      string        // ARN
	// Reserved is the reserved concurrency, or 0 for none.
	Reserved int
	Tags     map[string]string
}

// function is one function. Its configuration is replaced as a whole when it
// changes; s.mu of the service guards it.
type function struct {
	key     scope.Key
	config  configuration
	handler Handler      // nil for a process
	pool    *native.Pool // nil with a handler, or before the first invocation
	log     *ring
	stats   *recorder

	mu       sync.Mutex
	inFlight int
}

// configuration is the saved part of a function.
type configuration struct {
	Name, ARN, Description string
	Dir                    string // "" with a handler
	Owned                  bool   // Dir is below the service's folder
	CodeSHA256             string // base64
	CodeSize               int64
	Env                    map[string]string
	MemoryMiB              int
	Timeout                time.Duration
	Role, HandlerName      string
	Runtime                types.Runtime
	Architecture           types.Architecture
	Reserved               *int32 // guarded by the function's mu
	Tags                   map[string]string
	Policy                 []statement
	PolicyRevision         string
	URL                    *urlConfig   // nil if it has none
	Events                 *eventConfig // nil for Lambda's defaults of asynchronous invocations
	Modified               time.Time
	Revision               string
}

var (
	functionName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	accountID    = regexp.MustCompile(`^[0-9]{12}$`)
	regionName   = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-[0-9]+$`)
)

func functionARN(k scope.Key, name string) string {
	return partition.ARN("lambda", k.Region, k.Account, "function:"+name)
}

// Deploy makes or replaces a function in the default caller's account and
// region.
func (s *Service) Deploy(f Function) error {
	return s.DeployTo(s.config.Default.Account, s.config.Default.Region, f)
}

// DeployTo makes or replaces a function.
func (s *Service) DeployTo(account, region string, f Function) error {
	if !functionName.MatchString(f.Name) {
		return fmt.Errorf("deploy the function %q: a name has 1 to 64 letters, digits, - and _", f.Name)
	}
	if (f.Dir == "") == (f.Handler == nil) {
		return fmt.Errorf("deploy the function %s: set either Dir or Handler", f.Name)
	}
	if f.Timeout < 0 || f.Timeout > maxTimeout {
		return fmt.Errorf("deploy the function %s: the time-out %v is not between 0 and %v", f.Name, f.Timeout, maxTimeout)
	}
	if err := checkEnvironment(f.Env); err != nil {
		return fmt.Errorf("deploy the function %s: %w", f.Name, err)
	}
	k := scope.Key{Account: account, Region: region}
	c := configuration{
		Name: f.Name, ARN: functionARN(k, f.Name), Description: f.Description, Env: f.Env,
		MemoryMiB: orDefault(f.MemoryMiB, defaultMemoryMiB), Timeout: orDefault(f.Timeout, defaultTimeout),
		Role: f.Role, HandlerName: "bootstrap", Runtime: types.RuntimeProvidedal2023, Architecture: hostArchitecture(),
		Tags: f.Tags,
	}
	if f.Reserved > 0 {
		c.Reserved = aws.Int32(int32(f.Reserved)) // a small number
	}
	if f.Dir != "" {
		dir, err := filepath.Abs(f.Dir)
		if err != nil {
			return fmt.Errorf("deploy the function %s: %w", f.Name, err)
		}
		code, err := os.ReadFile(filepath.Join(dir, "bootstrap"))
		if err != nil {
			return fmt.Errorf("deploy the function %s: build its bootstrap first: %w", f.Name, err)
		}
		c.Dir, c.CodeSize, c.CodeSHA256 = dir, int64(len(code)), digest(code)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("deploy the function %s: %w", f.Name, native.ErrClosed)
	}
	old := s.functions[k][f.Name]
	fn := s.replace(k, old, c)
	fn.handler = f.Handler
	return nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func digest(code []byte) string {
	sum := sha256.Sum256(code)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// replace replaces old, which may be nil, by a function with the configuration
// c. Running invocations of old continue; its processes end after them. The
// caller holds s.mu.
func (s *Service) replace(k scope.Key, old *function, c configuration) *function {
	c.Modified, c.Revision = s.config.Clock.Now(), uuid.NewString()
	f := &function{key: k, config: c, log: newRing(), stats: &recorder{}}
	if old != nil {
		f.handler, f.log, f.stats = old.handler, old.log, old.stats
		if old.pool != nil {
			pool := old.pool
			s.async.Add(1)
			go func() { defer s.async.Done(); pool.Close() }()
		}
	}
	if c.Dir != "" {
		f.handler = nil
		f.pool = native.NewPool(s.launcher, native.Options{
			ARN: c.ARN, Dir: c.Dir, Timeout: c.Timeout, MaxProcesses: s.config.MaxProcesses, Idle: s.config.Idle,
			Life: s.config.Life, Now: s.config.Clock.Now,
			Env: func() ([]string, error) { return s.environment(k, c) },
			Log: func(line string) { s.wrote(f, line) },
		})
	}
	if s.functions[k] == nil {
		s.functions[k] = map[string]*function{}
	}
	s.functions[k][c.Name] = f
	return f
}

func (f *function) close() {
	if f.pool != nil {
		f.pool.Close()
	}
}

// find returns the function with a name, or a partial or full ARN, with no
// qualifier or $LATEST.
func (s *Service) find(name string, c wire.Caller) (*function, error) {
	k, short, err := s.resolve(name, c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.functions[k][short]; f != nil {
		return f, nil
	}
	return nil, notFound("Function not found: " + functionARN(k, short))
}

func notFound(message string) error {
	return &types.ResourceNotFoundException{Message: aws.String(message), Type: aws.String("User")}
}

func (s *Service) resolve(name string, c wire.Caller) (k scope.Key, short string, err error) {
	k = scope.KeyOf(c)
	parts := strings.Split(name, ":")
	switch {
	case len(parts) >= 7 && parts[0] == "arn" && parts[2] == "lambda" && parts[5] == "function":
		k = scope.Key{Region: parts[3], Account: parts[4]}
		parts = parts[6:]
	case len(parts) >= 3 && parts[1] == "function":
		k.Account, parts = parts[0], parts[2:]
	}
	// All three become names of folders for code.
	if len(parts) > 2 || !functionName.MatchString(parts[0]) || !accountID.MatchString(k.Account) || !regionName.MatchString(k.Region) {
		return k, "", invalid("%q is not the name or the ARN of a function (account %q, region %q)", name, k.Account, k.Region)
	}
	if len(parts) == 2 && parts[1] != "$LATEST" {
		return k, "", notFound("Function not found: " + functionARN(k, parts[0]) + ":" + parts[1] + " (versions and aliases are not available in the embedded AWS)")
	}
	return k, parts[0], nil
}

// invalid returns the error for a parameter that Lambda does not accept.
func invalid(format string, args ...any) error {
	return &types.InvalidParameterValueException{Message: aws.String(fmt.Sprintf(format, args...)), Type: aws.String("User")}
}

// describe returns the configuration in the API's form.
func (f *function) describe() types.FunctionConfiguration {
	c := f.config
	out := types.FunctionConfiguration{
		FunctionName: aws.String(c.Name), FunctionArn: aws.String(c.ARN), Description: aws.String(c.Description),
		Runtime: c.Runtime, Handler: aws.String(c.HandlerName), Role: aws.String(c.Role),
		CodeSize: c.CodeSize, CodeSha256: aws.String(c.CodeSHA256), PackageType: types.PackageTypeZip,
		Architectures: []types.Architecture{c.Architecture},
		MemorySize:    aws.Int32(int32(c.MemoryMiB)),         // at most 10,240
		Timeout:       aws.Int32(int32(c.Timeout.Seconds())), // at most 900
		LastModified:  aws.String(c.Modified.Format("2006-01-02T15:04:05.000-0700")),
		Version:       aws.String("$LATEST"), RevisionId: aws.String(c.Revision),
		State: types.StateActive, LastUpdateStatus: types.LastUpdateStatusSuccessful,
		TracingConfig:    &types.TracingConfigResponse{Mode: types.TracingModePassThrough},
		EphemeralStorage: &types.EphemeralStorage{Size: aws.Int32(512)},
		LoggingConfig:    &types.LoggingConfig{LogFormat: types.LogFormatText, LogGroup: aws.String("/aws/lambda/" + c.Name)},
	}
	if len(c.Env) > 0 {
		out.Environment = &types.EnvironmentResponse{Variables: c.Env}
	}
	return out
}

// names lists the names of functions in order. The caller holds s.mu.
func (s *Service) names(k scope.Key) []string {
	var all []string
	for name := range s.functions[k] {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
