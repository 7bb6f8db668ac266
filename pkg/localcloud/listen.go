package localcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ami-factory/ami-factory/pkg/localcloud/fault"
	"github.com/ami-factory/ami-factory/pkg/localcloud/iam"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sns"
	"github.com/ami-factory/ami-factory/pkg/localcloud/sts"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// HealthPath answers who is there, and PermissionsPath, by the ARN of each role,
// what its policies permit and how many requests each permission has allowed.
const (
	HealthPath      = "/_localcloud/health"
	PermissionsPath = "/_localcloud/permissions"
)

// Handler serves all services, as Listen does, for callers that bring their own
// listener: the guests' network, or a test.
func (c *Cloud) Handler() http.Handler { return c.handler }

func (c *Cloud) services() []wire.Service {
	return []wire.Service{
		c.IAM.Wire(), c.EC2.Wire(), c.SSM.Wire(), c.STS.Wire(), c.S3.Wire(), c.KMS.Wire(), c.Secrets.Wire(), c.SNS.Wire(), c.SQS.Wire(), c.Events.Wire(), c.Scheduler.Wire(),
		c.Lambda.Wire(), c.States.Wire(), c.Quotas.Wire(), c.CloudFormation.Wire(),
	}
}

func (c *Cloud) newHandler() http.Handler {
	services := c.services()
	front := wire.Handler(wire.HandlerOptions{
		DefaultAccount: c.cfg.Account, DefaultRegion: c.cfg.Region, Account: c.STS.Resolve, Before: c.before,
		Authorize: c.permit, Default: c.S3.Handler(), Logger: c.cfg.Logger,
	}, services...)
	ids := make([]string, 0, len(services))
	for _, s := range services {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	mux := http.NewServeMux()
	mux.Handle(HealthPath, fromThisMachine(c.health(ids)))
	mux.Handle(PermissionsPath, fromThisMachine(http.HandlerFunc(c.permissions)))
	mux.Handle(fault.Path, fromThisMachine(c.Faults))
	// Not through the mux, which would redirect keys such as a//b.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/_localcloud/") {
			mux.ServeHTTP(w, r)
			return
		}
		if sns.IsCertificate(r) {
			c.SNS.ServeCertificate(w, r)
			return
		}
		// Virtual time stands still while a client is being served.
		defer c.cfg.Clock.Hold()()
		front.ServeHTTP(w, r)
	})
}

// fromThisMachine keeps guests, and other sites' pages in a browser, away from
// the embedded AWS's own controls.
func fromThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if u, err := url.Parse(origin); !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) || origin != "" && (err != nil || !isLoopback(u.Host)) {
			http.Error(w, "this is for programs on the machine that the embedded AWS runs on", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
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
		all[arn] = c.IAM.Permissions(arn)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // the client may have gone
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

// Listen serves on a loopback address until Close, and returns the URL to
// point clients at. Port 0 takes a free one. ctx is of the call only.
func (c *Cloud) Listen(ctx context.Context, addr string) (string, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil || !isLoopback(addr) {
		return "", fmt.Errorf("refusing to listen on %q: the embedded AWS lets everybody in, so only loopback addresses are allowed, such as 127.0.0.1:4566", addr)
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

// AWSConfig points the SDK's clients at the listener, as the default account.
// Region empty means the default region.
func (c *Cloud) AWSConfig(region string) aws.Config {
	return c.awsConfig(region, sts.DefaultAccessKeyID)
}

// AWSConfigFor is AWSConfig for any account.
func (c *Cloud) AWSConfigFor(account, region string) aws.Config { return c.awsConfig(region, account) }

// AWSConfigOfRole is AWSConfig with the credentials that a function has of its
// role, for one that runs in this process.
func (c *Cloud) AWSConfigOfRole(region, roleARN, function string) aws.Config {
	cfg := c.AWSConfig(region)
	cfg.Credentials = &roleProvider{cloud: c, region: cfg.Region, roleARN: roleARN, function: function}
	return cfg
}

func (c *Cloud) awsConfig(region, accessKeyID string) aws.Config {
	if region == "" {
		region = c.cfg.Region
	}
	return aws.Config{
		Region: region, BaseEndpoint: aws.String(c.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(accessKeyID, sts.DefaultSecretAccessKey, ""),
	}
}

// Environment points any AWS client at the listener: NAME=value, sorted.
func (c *Cloud) Environment() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + sts.DefaultAccessKeyID,
		"AWS_DEFAULT_REGION=" + c.cfg.Region,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_ENDPOINT_URL=" + c.URL(),
		"AWS_REGION=" + c.cfg.Region,
		"AWS_SECRET_ACCESS_KEY=" + sts.DefaultSecretAccessKey,
	}
}
