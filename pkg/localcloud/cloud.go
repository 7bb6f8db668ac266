// Package localcloud is the embedded AWS: one process that serves EC2, ECR, IAM, SSM,
// STS, S3, KMS, Secrets Manager, SNS, SQS, EventBridge and its Scheduler, Lambda,
// Step Functions, Security Hub, Inspector's scan, Service Quotas, Auto Scaling and
// CloudFormation on loopback, to any AWS client and to callers in process.
package localcloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"sync"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
	"github.com/ami-factory/ami-factory/pkg/localcloud/autoscaling"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/cloudformation"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ebs"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ecr"
	"github.com/ami-factory/ami-factory/pkg/localcloud/events"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/inspectorscan"
	"github.com/ami-factory/ami-factory/pkg/localcloud/kms"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/s3"
	"github.com/ami-factory/ami-factory/pkg/localcloud/scheduler"
	"github.com/ami-factory/ami-factory/pkg/localcloud/secretsmanager"
	"github.com/ami-factory/ami-factory/pkg/localcloud/securityhub"
	"github.com/ami-factory/ami-factory/pkg/localcloud/servicequotas"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sns"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sqs"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ssm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/states"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sts"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Who calls by default.
const (
	DefaultAccount = "111122223333"
	DefaultRegion  = "eu-west-1"
)

// Config describes a Cloud. Driver is required.
type Config struct {
	Driver vm.Driver
	Clock  clock.Clock // default: this machine's
	// StateDir keeps everything across restarts. Empty: a temporary folder,
	// removed by Close.
	StateDir string
	Account  string   // default 111122223333
	Region   string   // default eu-west-1
	Regions  []string // that EC2 serves; default: the common commercial ones
	Timing   ec2.Timing
	Limits   ec2.Limits
	// Organizations are the ARNs of the organisation and organisational units
	// that an account is in. Nil: none.
	Organizations func(account string) []string
	// EnforceIAM makes IAM decide on every call of a role's session: by the role's
	// policies and by those of the resources that it uses. Services are held to the
	// policies of resources, and who assumes a role to its trust policy; a role that IAM
	// does not have cannot be assumed. False: every caller may do everything, except
	// guests, which are always limited to their role's policies.
	EnforceIAM bool
	// Decisions receives each decision on a call; nil: none.
	Decisions func(authz.Decision)
	// Notice receives lines for the user: executions that start and end, and describe
	// calls that find nothing although another region or account has something. Nil: no
	// lines are written.
	Notice func(string)
	// FunctionEnvironment is added to the environment of all functions, in addition to
	// their own configuration.
	FunctionEnvironment map[string]string
	// ScanSBOM is what Amazon Inspector's scan of bills of materials knows. Nil: it is
	// not available.
	ScanSBOM inspectorscan.Scan
	// SSHKey is an OpenSSH public key line that every guest gets.
	SSHKey string
	// Spare is EC2's: it may keep the guest of a terminated instance running.
	Spare  func(instanceID string, m vm.Machine) bool
	Logger *slog.Logger // default: none
}

// Cloud is a running embedded AWS.
type Cloud struct {
	EC2         *ec2.Service
	EBS         *ebs.Service
	SSM         *ssm.Service
	STS         *sts.Service
	S3          *s3.Service
	KMS         *kms.Service
	Secrets     *secretsmanager.Service
	SNS         *sns.Service
	SQS         *sqs.Service
	Events      *events.Service
	Lambda      *lambda.Service
	States      *states.Service
	IAM         *iam.Service
	Quotas      *servicequotas.Service
	Inspector   *inspectorscan.Service
	SecurityHub *securityhub.Service
	ECR         *ecr.Service
	// AutoScaling has launch configurations, and no groups.
	AutoScaling *autoscaling.Service
	Faults      *fault.Set
	// Scheduler keeps schedules, which invoke their targets only after its Start.
	Scheduler *scheduler.Service
	// CloudFormation creates the resources of templates in these services.
	CloudFormation *cloudformation.Service

	cfg     Config
	secret  string // access key of the root users
	store   *stateStore
	handler http.Handler
	authz   *authz.Authorizer
	calls   counter
	noticed notices

	mu     sync.Mutex
	server *http.Server
	url    string
	closed bool
}

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

func (cfg *Config) complete() error {
	if cfg.Driver == nil {
		return errors.New("localcloud: Config.Driver is required")
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.NewReal()
	}
	if cfg.Account == "" {
		cfg.Account = DefaultAccount
	}
	if !accountID.MatchString(cfg.Account) {
		return fmt.Errorf("localcloud: account %q: twelve digits are expected", cfg.Account)
	}
	if cfg.Region == "" {
		cfg.Region = DefaultRegion
	}
	for _, region := range append([]string{cfg.Region}, cfg.Regions...) {
		if !partition.Known(region) {
			_, message, allowed := partition.Check(region)
			return fmt.Errorf("localcloud: %s (known: %s)", message, allowed)
		}
	}
	if len(cfg.Regions) > 0 && !slices.Contains(cfg.Regions, cfg.Region) {
		return fmt.Errorf("localcloud: the default region %s is not among the regions served: %v", cfg.Region, cfg.Regions)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// New makes an embedded AWS, with the state that its folder holds. It serves HTTP
// from Listen on. The caller closes the Driver, after Close.
func New(ctx context.Context, cfg Config) (_ *Cloud, err error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	store, err := openStateStore(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	c := &Cloud{cfg: cfg, secret: store.secret, store: store}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.abandon(ctx))
		}
	}()
	if err := c.makeServices(); err != nil {
		return nil, err
	}
	c.handler = c.newHandler()
	if err := store.load(c.stateful()); err != nil {
		return nil, err
	}
	// On a virtual clock no time passes between two saves, so that there is no autosave:
	// the clock's owner calls Save, and Close does.
	if _, virtual := cfg.Clock.(*clock.Virtual); !virtual {
		store.startAutosave(c.stateful(), cfg.Logger)
	}
	return c, nil
}

// makeServices makes the services and ties them together.
func (c *Cloud) makeServices() error {
	cfg := c.cfg
	caller := wire.Caller{Account: cfg.Account, Region: cfg.Region, ARN: wire.RootARN(cfg.Account, cfg.Region)}
	c.Faults = fault.New(cfg.Clock)
	c.IAM = iam.New(cfg.Clock, caller)
	c.STS = sts.New(cfg.Clock, caller, c.secret, c.admitSession)
	c.KMS = kms.New(cfg.Clock, caller)
	c.Secrets = secretsmanager.New(cfg.Clock, caller)
	c.Quotas = servicequotas.New(caller)
	c.Inspector = inspectorscan.New(cfg.ScanSBOM)
	c.SecurityHub = securityhub.New(cfg.Clock, caller)
	var err error
	if c.S3, err = s3.New(s3.Config{Clock: cfg.Clock, Default: caller, Dir: filepath.Join(c.store.dir, ObjectsDir), Events: c.s3Event}); err != nil {
		return err
	}
	c.SQS = sqs.New(sqs.Config{Clock: cfg.Clock, Default: caller, Endpoint: c.URL, Logger: cfg.Logger})
	c.Lambda = c.newLambda(caller)
	c.SNS = sns.New(sns.Config{Clock: cfg.Clock, Default: caller, Functions: targets{c}, Queues: targets{c}, Endpoint: c.URL, Logger: cfg.Logger})
	c.States = states.New(states.Config{
		Clock: cfg.Clock, Default: caller, Invoker: machineInvoker{c}, Integrations: integrations{c}, Assumable: c.assumable(states.Principal), Events: c.statesEvent, Logger: cfg.Logger,
	})
	c.Events = events.New(events.Config{
		Clock: cfg.Clock, Default: caller, Functions: targets{c}, StateMachines: targets{c}, Topics: targets{c}, Queues: targets{c}, Assume: c.assumeForRule,
		MayPut: targets{c}.mayPutEvents, Disturb: c.Faults.Event, Logger: cfg.Logger,
	})
	c.Scheduler = c.newScheduler(caller)
	if c.EC2, err = ec2.New(ec2.Config{
		Clock: cfg.Clock, Driver: cfg.Driver, Dir: filepath.Join(c.store.dir, "ec2"), Default: caller, Regions: cfg.Regions,
		Timing: cfg.Timing, Limits: cfg.Limits, Events: c.ec2Event, Profile: c.profile, ResolveKey: c.resolveKey, Organizations: cfg.Organizations,
		Capacity: c.Faults.HasCapacity, Spare: cfg.Spare, Credentials: c.roleCredentials, SSHKey: cfg.SSHKey, Logger: cfg.Logger,
		ImageParameters: func(account, region, imageID string) []string { return c.SSM.ImageParameters(account, region, imageID) },
	}); err != nil {
		return err
	}
	if c.ECR, err = c.newECR(caller); err != nil {
		return err
	}
	c.EBS = ebs.New(cfg.Clock, caller, c.EC2)
	c.SSM = ssm.New(ssm.Config{
		Clock: cfg.Clock, Default: caller, Machines: agents{c}, Instances: c.instances, Objects: c.S3, Keys: c.KMS,
		ImageExists: c.imageExists, InstanceTags: c.instanceTags, Emit: c.ssmEvent, Logger: cfg.Logger,
	})
	c.AutoScaling = autoscaling.New(autoscaling.Config{Clock: cfg.Clock, Default: caller, ImageExists: c.imageExists})
	c.CloudFormation = c.newCloudFormation(caller)
	c.authz = c.newAuthorizer(caller)
	return nil
}

// stateful are the services with a state, in the order in which they are
// restored: what others refer to comes first.
func (c *Cloud) stateful() []named {
	return []named{
		{"iam", c.IAM}, {"sts", c.STS}, {"kms", c.KMS}, {"secretsmanager", c.Secrets}, {"s3", c.S3}, {"sqs", c.SQS}, {"lambda", c.Lambda}, {"sns", c.SNS},
		{"events", c.Events}, {"ec2", c.EC2}, {"ecr", c.ECR}, {"ssm", c.SSM}, {"states", c.States}, {"scheduler", c.Scheduler},
		{"servicequotas", c.Quotas}, {"securityhub", c.SecurityHub}, {"autoscaling", c.AutoScaling}, {"cloudformation", c.CloudFormation},
	}
}

// Save writes the state to the state folder now. Without a state folder it
// does nothing.
func (c *Cloud) Save() error { return c.store.save(c.stateful()) }

// Close ends executions, functions and machines, stops serving and saves the
// state. ctx limits how long it waits. The Driver stays open.
func (c *Cloud) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	server := c.server
	c.mu.Unlock()

	c.store.stopAutosave()
	var errs []error
	if server != nil {
		if err := shutdown(ctx, server); err != nil {
			errs = append(errs, fmt.Errorf("stopping the HTTP server: %w", err))
		}
	}
	errs = append(errs, c.closeServices(ctx), c.Save(), c.store.close())
	return errors.Join(errs...)
}

// closeServices ends the work of all services that were made. A service that starts
// work of another is closed before it.
func (c *Cloud) closeServices(ctx context.Context) error {
	var errs []error
	if c.CloudFormation != nil {
		errs = append(errs, c.CloudFormation.Close(ctx))
	}
	if c.Scheduler != nil {
		errs = append(errs, c.Scheduler.Close(ctx))
	}
	if c.States != nil {
		errs = append(errs, c.await(ctx, "executions", c.States.Close))
	}
	if c.Events != nil {
		errs = append(errs, c.Events.Close(ctx))
	}
	if c.SNS != nil {
		errs = append(errs, c.SNS.Close(ctx))
	}
	if c.Lambda != nil {
		errs = append(errs, c.await(ctx, "functions", c.Lambda.Close))
	}
	if c.SSM != nil {
		errs = append(errs, c.SSM.Close(ctx))
	}
	if c.EBS != nil {
		errs = append(errs, c.EBS.Close())
	}
	if c.EC2 != nil {
		errs = append(errs, c.EC2.Close(ctx))
	}
	return errors.Join(errs...)
}

// abandon releases what a failed New has made. It does not save: the state on disk
// stays unchanged.
func (c *Cloud) abandon(ctx context.Context) error {
	return errors.Join(c.closeServices(ctx), c.store.close())
}

// await waits until end returns, or for ctx.
func (c *Cloud) await(ctx context.Context, what string, end func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		end()
	}()
	if err := c.cfg.Clock.Wait(ctx, done, 0); err != nil {
		return fmt.Errorf("%s are still ending: %w", what, err)
	}
	return nil
}

// ObjectsDir is the folder in a state's folder that has the objects of S3.
const ObjectsDir = "objects"

// Dir is the folder of the state, or the temporary one.
func (c *Cloud) Dir() string { return c.store.dir }

// Account is the default account.
func (c *Cloud) Account() string { return c.cfg.Account }

// Region is the default region.
func (c *Cloud) Region() string { return c.cfg.Region }
