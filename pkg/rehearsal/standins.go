package rehearsal

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/localcloud/standin"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/userdata"
)

// vendorsHost is where guests find the stand-ins for vendors' repositories.
const vendorsHost = "vendors." + guestHost

// demoConfiguration is the SSM parameter with a configuration of the CloudWatch
// agent, where a role may read it.
const demoConfiguration = "/ami-factory/agents/cloudwatch"

// standInNote is part of what guests are said to be.
const standInNote = "vendors' agents are stand-ins"

// StandIns are in the place of the vendors of agents, which cannot be reached
// from guests: repositories with packages that behave as theirs.
type StandIns struct {
	repository *standin.Repository
}

// NewStandIns makes the repositories. Their keys are kept in the state folder,
// so that a recipe's fingerprint stays; without one they are new each time.
func NewStandIns(stateDir string) (*StandIns, error) {
	var opts standin.Options
	if stateDir != "" {
		opts.KeyDir = filepath.Join(stateDir, "stand-in-keys")
	}
	repository, err := standin.New(opts)
	if err != nil {
		return nil, err
	}
	return &StandIns{repository}, nil
}

// standInsOf says which vendor a component has, and which other parameters it gets.
func standInsOf() map[string]struct {
	vendor string
	more   map[string]string
} {
	type entry = struct {
		vendor string
		more   map[string]string
	}
	return map[string]entry{
		"newrelic-infra":            {vendor: "newrelic"},
		"appdynamics-machine-agent": {vendor: "appdynamics"},
		"chef":                      {vendor: "cinc", more: map[string]string{"distribution": "cinc"}},
		"cloudwatch-agent":          {vendor: "amazon", more: map[string]string{"configParameter": demoConfiguration}},
	}
}

// Parameters adds to given what points components to the stand-ins: only those
// that there are, and only parameters that they have. They go before a recipe's
// own values, which are the vendors'; what is given stays.
func (s *StandIns) Parameters(fsys fs.FS, given component.Deployment) (component.Deployment, error) {
	out := component.Deployment{}
	for name, of := range standInsOf() {
		c, _, err := component.Load(fsys, name)
		if errors.Is(err, component.ErrUnknown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		values := s.values(of.vendor)
		maps.Copy(values, of.more)
		for parameter, value := range values {
			_, has := c.Parameters[parameter]
			if _, stays := given[name][parameter]; has && !stays {
				out.Set(name, parameter+component.Rule, value)
			}
		}
	}
	for name, values := range given {
		for parameter, value := range values {
			out.Set(name, parameter, value)
		}
	}
	return out, nil
}

// values of the parameters that all agents have.
func (s *StandIns) values(vendor string) map[string]string {
	v := s.repository.Vendors[slices.IndexFunc(s.repository.Vendors, func(v standin.Vendor) bool { return v.Name == vendor })]
	return values(v)
}

func values(v standin.Vendor) map[string]string {
	return map[string]string{
		"repository": "http://" + vendorsHost + v.RepositoryPath, "keyUrl": "http://" + vendorsHost + v.KeyPath,
		"keyFingerprint": v.KeyFingerprint, "version": v.Version,
	}
}

// userData is what goes into images: the folder of the options, or the copy in
// this program.
func (o *Options) userData() fs.FS {
	if o.UserDataDir != "" {
		return os.DirFS(o.UserDataDir)
	}
	return userdata.FS
}

// ssmAgentNote is part of what guests are said to be.
const ssmAgentNote = "the guest agent carries out SSM commands, and the SSM agent in images is a stand-in"

// standInForTheSSMAgent points the component ssm-agent to a stand-in, for guests
// that install packages: AWS's bucket cannot be reached from them, and the guest
// agent runs the commands. What the builder does to install it is the real thing.
func (f *Factory) standInForTheSSMAgent() error {
	f.vendors = f.opts.StandIns
	if f.opts.Guests == vm.Simulated {
		return nil
	}
	s := f.opts.StandIns
	if s == nil {
		var err error
		if s, err = NewStandIns(f.opts.StateDir); err != nil {
			return err
		}
	}
	f.vendors = s
	const name = "ssm-agent"
	if c, _, err := component.Load(f.opts.userData(), name); errors.Is(err, component.ErrUnknown) {
		return nil
	} else if err != nil {
		return err
	} else if _, has := c.Parameters["mirror"]; !has {
		return nil
	}
	of := values(s.repository.SSMAgent)
	given := component.Deployment{}
	for component, values := range f.opts.Parameters {
		for parameter, value := range values {
			given.Set(component, parameter, value)
		}
	}
	for parameter, value := range map[string]string{
		"mirror": of["repository"], "keyUrl": of["keyUrl"], "keyFingerprint": of["keyFingerprint"], "version": of["version"],
	} {
		if _, stays := given[name][parameter]; !stays {
			given.Set(name, parameter+component.Rule, value)
		}
	}
	f.opts.Parameters = given
	return nil
}

// hosts are the names that guests reach in addition to the embedded AWS.
func (f *Factory) hosts() map[string]http.Handler {
	if f.vendors == nil {
		return nil
	}
	return map[string]http.Handler{vendorsHost: f.vendors.repository}
}

// description says what the guests are, and what in them is not what it seems.
func (f *Factory) description() string {
	text := f.driver.Description()
	if f.opts.Guests != vm.Simulated {
		text += "; " + ssmAgentNote
	}
	if f.opts.StandIns != nil {
		text += "; " + standInNote
	}
	return text
}

// deploySecrets makes what agents start with, of no use anywhere else. What is
// there already stays.
func (f *Factory) deploySecrets(ctx context.Context) error {
	if f.opts.StandIns == nil {
		return nil
	}
	for name, value := range map[string]func() (string, error){
		"ami-factory/agents/newrelic":    func() (string, error) { return "stand-in-license-key", nil },
		"ami-factory/agents/appdynamics": func() (string, error) { return "stand-in-access-key", nil },
		"ami-factory/agents/chef":        validationKey,
	} {
		_, err := f.Cloud.Secrets.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name})
		if err == nil {
			continue
		}
		if !awserr.Is(err, "ResourceNotFoundException") {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		text, err := value()
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
		_, err = f.Cloud.Secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{
			Name: &name, SecretString: &text, Description: aws.String("For stand-ins; of no use to a vendor's agent"),
		})
		if err != nil {
			return fmt.Errorf("secret %s: %w", name, err)
		}
	}
	_, err := f.Cloud.SSM.PutParameter(ctx, &ssm.PutParameterInput{
		Name: aws.String(demoConfiguration), Type: ssmtypes.ParameterTypeString,
		Value: aws.String(`{"metrics":{"metrics_collected":{"mem":{"measurement":["mem_used_percent"]}}}}`),
	})
	if err != nil && !awserr.Is(err, "ParameterAlreadyExists") {
		return fmt.Errorf("parameter %s: %w", demoConfiguration, err)
	}
	return nil
}

// validationKey is a new key of the kind that registers Chef's nodes.
func validationKey() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})), nil
}
