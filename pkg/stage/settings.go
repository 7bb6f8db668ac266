package stage

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/program"
)

// Settings of a deployed factory, the same for all executions.
type Settings struct {
	Region           string // the home region, where builders run
	Version          string // of the factory, part of every fingerprint
	InstanceProfile  string // name or ARN
	SecurityGroupIDs []string
	SubnetIDs        []string             // for recipes without subnets; if empty, the default VPC
	TopicARN         string               // if empty, no message is sent
	Engines          program.Engines      // the check engines for guests
	Parameters       component.Deployment // of components, for all recipes
	Prices           cost.Table           // to estimate what an execution costs; for Notify only
	Architecture     string               // of the functions: arm64 or x86_64
	InspectorScan    bool                 // recipes may have Amazon Inspector scan what is installed
	Guests           string               // kind of instances: ec2, or vm|container|simulated and a description
}

// OnEC2 reports whether instances are those of EC2. A deployment on AWS does not set Guests.
func (s Settings) OnEC2() bool {
	kind := s.guests().Kind
	return kind == "" || kind == "ec2"
}

// engine returns the check engine for guests of an architecture.
func (s Settings) engine(architecture string) (program.Engine, error) {
	engine, ok := s.Engines[architecture]
	if !ok {
		have := strings.Join(slices.Sorted(maps.Keys(s.Engines)), " and ")
		return program.Engine{}, failure.New(failure.ComplianceFailed, "the deployment has no check engine for %s guests, only for %s: build it with `make goss GOARCH=%s` and deploy again",
			architecture, cmp.Or(have, "none"), program.GOARCH(architecture))
	}
	return engine, nil
}

// guests parses the setting Guests, whose first word is the kind.
func (s Settings) guests() compliance.Guests {
	kind, description, _ := strings.Cut(strings.TrimSpace(s.Guests), " ")
	return compliance.Guests{Kind: strings.TrimRight(kind, ":,"), Description: strings.TrimSpace(description)}
}
