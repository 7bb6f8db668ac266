package guests

import (
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/localcloud/standin"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// vendorsHost is where guests find the stand-ins for vendors' repositories.
const vendorsHost = "vendors." + Host

// DemoConfiguration is the SSM parameter with a configuration of the CloudWatch
// agent, where a role may read it.
const DemoConfiguration = "/ami-factory/agents/cloudwatch"

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
		"cloudwatch-agent":          {vendor: "amazon", more: map[string]string{"configParameter": DemoConfiguration}},
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

// ssmAgentNote is part of what guests are said to be.
const ssmAgentNote = "the guest agent carries out SSM commands, and the SSM agent in images is a stand-in"

// SSMAgent adds to given what points the component ssm-agent to a stand-in, for guests
// that install packages: AWS's bucket cannot be reached from them, and the guest agent
// runs the commands. What the builder does to install it is the real thing.
func (s *StandIns) SSMAgent(fsys fs.FS, given component.Deployment) (component.Deployment, error) {
	const name = "ssm-agent"
	if c, _, err := component.Load(fsys, name); errors.Is(err, component.ErrUnknown) {
		return given, nil
	} else if err != nil {
		return nil, err
	} else if _, has := c.Parameters["mirror"]; !has {
		return given, nil
	}
	of := values(s.repository.SSMAgent)
	out := component.Deployment{}
	for component, values := range given {
		for parameter, value := range values {
			out.Set(component, parameter, value)
		}
	}
	for parameter, value := range map[string]string{
		"mirror": of["repository"], "keyUrl": of["keyUrl"], "keyFingerprint": of["keyFingerprint"], "version": of["version"],
	} {
		if _, stays := out[name][parameter]; !stays {
			out.Set(name, parameter+component.Rule, value)
		}
	}
	return out, nil
}

// hosts are the names that guests reach in addition to the embedded AWS.
func (s *StandIns) hosts() map[string]http.Handler {
	if s == nil {
		return nil
	}
	return map[string]http.Handler{vendorsHost: s.repository}
}

// Describe says what the guests of a driver are, and what in them is not what it
// seems. agents: vendors' agents in them are stand-ins.
func Describe(driver vm.Driver, agents bool) string {
	text := driver.Description()
	if driver.Kind() != vm.Simulated {
		text += "; " + ssmAgentNote
	}
	if agents {
		text += "; " + standInNote
	}
	return text
}
