package localcloud

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ecr"
	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/lambda"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sns"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// HealthPath answers who is there, HoldingsPath how many images, instances and
// snapshots each account has in each region (a list of ec2.Holding), and
// PermissionsPath, by the ARN of each role, what its policies permit and how many
// requests each permission has allowed.
const (
	HealthPath      = "/_localcloud/health"
	HoldingsPath    = "/_localcloud/holdings"
	PermissionsPath = "/_localcloud/permissions"
)

// Handler serves all services, as Listen does, for callers that bring their own
// listener. Every request must be signed.
func (c *Cloud) Handler() http.Handler { return c.handler }

func (c *Cloud) services() []wire.Service {
	return []wire.Service{
		c.IAM.Wire(), c.EC2.Wire(), c.EBS.Wire(), c.SSM.Wire(), c.STS.Wire(), c.S3.Wire(), c.KMS.Wire(), c.Secrets.Wire(), c.SNS.Wire(), c.SQS.Wire(), c.Events.Wire(), c.Scheduler.Wire(),
		c.Lambda.Wire(), c.States.Wire(), c.Quotas.Wire(), c.Inspector.Wire(), c.SecurityHub.Wire(), c.AutoScaling.Wire(), c.ECR.Wire(), c.CloudFormation.Wire(),
	}
}

func (c *Cloud) newHandler() http.Handler {
	services := c.services()
	front := wire.Handler(wire.HandlerOptions{
		Authenticator: c.authenticator(), DefaultRegion: c.cfg.Region, Before: c.before, Authorize: c.authz.Permit, After: c.after, Logger: c.cfg.Logger,
	}, services...)
	ids := make([]string, 0, len(services))
	for _, s := range services {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	mux := http.NewServeMux()
	mux.Handle(HealthPath, c.controls(c.health(ids)))
	mux.Handle(HoldingsPath, c.controls(http.HandlerFunc(c.holdings)))
	mux.Handle(PermissionsPath, c.controls(http.HandlerFunc(c.permissions)))
	mux.Handle(fault.Path, c.controls(c.Faults))
	// Not through the mux, which would redirect keys such as a//b.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Clients of the registry sign nothing: they have a token.
		if ecr.IsRegistry(r) {
			c.serveRegistry(w, r)
			return
		}
		if err := wire.FromElsewhere(r); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/_localcloud/") {
			mux.ServeHTTP(w, r)
			return
		}
		// Whoever verifies a message of SNS fetches it, and signs nothing.
		if sns.IsCertificate(r) {
			c.SNS.ServeCertificate(w, r)
			return
		}
		if lambda.IsFunctionURL(r) {
			defer c.cfg.Clock.Hold()()
			c.serveFunctionURL(w, r)
			return
		}
		// Virtual time stands still while a client is being served.
		defer clock.HoldFor(r.Context(), c.cfg.Clock)()
		front.ServeHTTP(w, r)
	})
}

// isLoopback says whether an address, with or without a port, is this machine.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Cloud) permissions(w http.ResponseWriter, _ *http.Request) {
	all := map[string][]iam.Use{}
	for _, arn := range c.IAM.Roles() {
		all[arn] = c.IAM.Uses(arn)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // the client may have gone
}

func (c *Cloud) holdings(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(c.EC2.Holdings()) // the client may have gone
}

// Health is what HealthPath answers.
type Health struct {
	Status      string   `json:"status"`
	Account     string   `json:"account"`
	Region      string   `json:"region"`
	Guests      string   `json:"guests"`      // vm, container or simulated
	Description string   `json:"description"` // of what runs the guests
	Services    []string `json:"services"`    // signing names
	Time        string   `json:"time"`        // of the embedded AWS's clock
}

func (c *Cloud) health(services []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Health{ // the client may have gone
			Status: "ok", Account: c.cfg.Account, Region: c.cfg.Region, Guests: string(c.cfg.Driver.Kind()),
			Description: c.cfg.Driver.Description(), Services: services, Time: c.cfg.Clock.Now().Format(time.RFC3339),
		})
	}
}

// CheckAddress refuses an address that Listen does not serve on.
func CheckAddress(addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil || !isLoopback(addr) {
		return fmt.Errorf("refusing to listen on %q: the embedded AWS runs functions as this user and speaks plain HTTP, so only loopback addresses are allowed, such as 127.0.0.1:4566", addr)
	}
	return nil
}

// Listen serves on a loopback address until Close, and returns the URL to
// point clients at. Port 0 takes a free one. ctx is of the call only.
func (c *Cloud) Listen(ctx context.Context, addr string) (string, error) {
	if err := CheckAddress(addr); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return "", errors.New("the embedded AWS is closed")
	}
	if c.server != nil {
		return "", fmt.Errorf("the embedded AWS is listening already, at %s", c.url)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		_, port, _ := net.SplitHostPort(addr)
		return "", fmt.Errorf("%s is in use by another program (`ss -ltnp 'sport = :%s'` says which): stop it, or choose another address with --listen: %w", addr, port, err)
	}
	if err != nil {
		return "", fmt.Errorf("listening on %s: %w", addr, err)
	}
	c.url = "http://" + listener.Addr().String()
	c.server = &http.Server{Handler: c.handler, ReadHeaderTimeout: 10 * time.Second}
	server := c.server
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			c.cfg.Logger.Error("HTTP server", "error", err)
		}
	}()
	return c.url, nil
}

// shutdown lets requests end for as long as ctx allows, then cuts them off.
func shutdown(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}

// URL is where Listen serves; empty before.
func (c *Cloud) URL() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.url
}

// AWSConfig points the SDK's clients at the listener, as the root user of the
// default account. Region empty means the default region.
func (c *Cloud) AWSConfig(region string) aws.Config { return c.AWSConfigFor(c.cfg.Account, region) }

// AWSConfigFor is AWSConfig for any account.
func (c *Cloud) AWSConfigFor(account, region string) aws.Config {
	if region == "" {
		region = c.cfg.Region
	}
	return aws.Config{
		Region: region, BaseEndpoint: aws.String(c.URL()),
		Credentials: credentials.StaticCredentialsProvider{Value: c.Credentials(account)},
	}
}

// AWSConfigInProcess is AWSConfigFor for clients of this process: the same requests
// reach the services without a connection, and no listener is needed. Addresses that
// they presign are of the listener, where there is one. Account empty means the
// default account.
func (c *Cloud) AWSConfigInProcess(account, region string) aws.Config {
	cfg := c.AWSConfigFor(cmp.Or(account, c.cfg.Account), region)
	cfg.HTTPClient = inProcess{c}
	if c.URL() == "" {
		cfg.BaseEndpoint = aws.String("http://localhost")
	}
	return cfg
}

// AWSConfigOfRole is AWSConfigInProcess with the credentials that a function has of
// its role.
func (c *Cloud) AWSConfigOfRole(region, roleARN, function string) aws.Config {
	cfg := c.AWSConfigInProcess("", region)
	cfg.Credentials = &roleProvider{cloud: c, region: cfg.Region, roleARN: roleARN, function: function}
	return cfg
}

// Environment points any AWS client at the listener, as the root user of the
// default account: NAME=value, sorted. With another account's id for
// AWS_ACCESS_KEY_ID a client is the root user of that account.
func (c *Cloud) Environment() []string {
	k := c.Credentials(c.cfg.Account)
	return []string{
		"AWS_ACCESS_KEY_ID=" + k.AccessKeyID,
		"AWS_DEFAULT_REGION=" + c.cfg.Region,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_ENDPOINT_URL=" + c.URL(),
		"AWS_REGION=" + c.cfg.Region,
		"AWS_SECRET_ACCESS_KEY=" + k.SecretAccessKey,
	}
}
