package localcloud

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// ControlService is the signing name of the embedded AWS's own endpoints, which
// are below /_localcloud/.
const ControlService = "localcloud"

// maxControl is the largest body of a request to them, in bytes.
const maxControl = 1 << 20

// Control is a client of the embedded AWS's own endpoints: HealthPath, HoldingsPath,
// PermissionsPath and that of faults. Zero Client: the default one.
type Control struct {
	URL         string // of the embedded AWS
	Credentials aws.Credentials
	Client      *http.Client
}

// Control is a client of this embedded AWS, which must be listening.
func (c *Cloud) Control() Control {
	return Control{URL: c.URL(), Credentials: c.Credentials(c.cfg.Account)}
}

// Do sends a signed request. The caller closes the answer's body.
func (c Control) Do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, c.Credentials, r, hex.EncodeToString(sum[:]), ControlService, DefaultRegion, time.Now()); err != nil {
		return nil, fmt.Errorf("signing a request to the embedded AWS: %w", err)
	}
	client := c.Client
	if client == nil {
		client = http.DefaultClient
	}
	return client.Do(r)
}

// Holdings are those of all accounts and regions that have anything, sorted by
// region and account. Unlike a describe call, asking for them gives no notice.
func (c Control) Holdings(ctx context.Context) ([]ec2.Holding, error) {
	response, err := c.Do(ctx, http.MethodGet, HoldingsPath, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it was read to its end, or is not needed
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4096)) // what can be read of the reason
		return nil, fmt.Errorf("%s answers %s: %s", HoldingsPath, response.Status, bytes.TrimSpace(text))
	}
	var out []ec2.Holding
	if err := json.NewDecoder(response.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("%s answers what is not its JSON: %w", HoldingsPath, err)
	}
	return out, nil
}

// controls serves next to callers that signed with the key of an account's root user.
// Sessions of roles and guests are refused.
func (c *Cloud) controls(next http.Handler) http.Handler {
	service := wire.Service{ID: ControlService, Name: "the embedded AWS", Protocol: wire.REST}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) {
			http.Error(w, "this is for programs on the machine that the embedded AWS runs on", http.StatusForbidden)
			return
		}
		verified, caller, done, err := c.authenticator().Authenticate(r, service, maxControl)
		if err != nil {
			http.Error(w, fmt.Sprintf("%v\nsign with the keys that `ami-factory local env` prints, for the service %s, such as curl --aws-sigv4 aws:amz:%s:%s", err, ControlService, c.cfg.Region, ControlService), http.StatusForbidden)
			return
		}
		defer done()
		if !strings.HasSuffix(caller.ARN, ":root") {
			http.Error(w, caller.ARN+" may not: this is for the root users of accounts", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, verified)
	})
}

func (c *Cloud) authenticator() wire.Authenticator { return wire.Authenticator{Keys: c.STS.Key} }
