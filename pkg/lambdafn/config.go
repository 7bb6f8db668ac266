package lambdafn

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/stage"
	"github.com/ami-factory/ami-factory/pkg/trigger"
)

// Config holds the settings in a function's environment.
type Config struct {
	stage.Settings
	Triggers      trigger.Settings
	Bucket        string
	Endpoint      string
	GuestEndpoint string
	UserDataDir   string
	DualStack     bool   // AWS's dual-stack endpoints are called; the SDK's clients read it themselves
	SecurityHub   bool   // findings are sent to Security Hub
	TargetRole    string // ARN, with * for the account; empty if there are no target accounts
	ExternalID    string
	Approvers     []string // ARNs of roles whose sessions are named after people
	SigningKey    string   // ARN; empty for functions that neither sign nor verify evidence
}

// LoadConfig reads the environment through getenv. The error names every missing
// variable, not only the first.
func LoadConfig(getenv func(string) string) (Config, error) {
	c := Config{
		Settings: stage.Settings{
			Region:           getenv(contract.EnvRegion),
			Version:          getenv(contract.EnvVersion),
			InstanceProfile:  getenv(contract.EnvInstanceProfile),
			SecurityGroupIDs: list(getenv(contract.EnvSecurityGroups)),
			SubnetIDs:        list(getenv(contract.EnvSubnets)),
			TopicARN:         getenv(contract.EnvTopic),
			Guests:           getenv(contract.EnvGuests),
		},
		Triggers: trigger.Settings{
			StateMachineARN: getenv(contract.EnvStateMachine), EventBus: getenv(contract.EnvEventBus), AnnouncementTopics: list(getenv(contract.EnvTopics)),
		},
		Bucket:        getenv(contract.EnvBucket),
		Endpoint:      getenv(contract.EnvEndpoint),
		GuestEndpoint: getenv(contract.EnvGuestEndpoint),
		UserDataDir:   getenv(contract.EnvUserDataDir),
		SigningKey:    getenv(contract.EnvSigningKey),
		TargetRole:    getenv(contract.EnvTargetRole),
		ExternalID:    getenv(contract.EnvTargetExternal),
	}
	var err error
	if c.Parameters, err = component.ParseDeployment(getenv(contract.EnvParameters)); err != nil {
		return Config{}, fmt.Errorf("%s: %w; correct it where the factory is deployed", contract.EnvParameters, err)
	}
	if c.Prices, err = cost.ListPrices(getenv(contract.EnvPrices)); err != nil {
		return Config{}, fmt.Errorf("%s: %w; correct it where the factory is deployed", contract.EnvPrices, err)
	}
	if engines := getenv(contract.EnvEngines); engines != "" { // if it is missing, that is reported below
		if c.Engines, err = program.ParseEngines(engines); err != nil {
			return Config{}, fmt.Errorf("%s: %w; correct it where the factory is deployed", contract.EnvEngines, err)
		}
	}
	if c.Approvers, err = approval.ParseRoles(list(getenv(contract.EnvApprovers))); err != nil {
		return Config{}, fmt.Errorf("%s: %w; correct it where the factory is deployed", contract.EnvApprovers, err)
	}
	c.Architecture = program.AWS(runtime.GOARCH)
	if hours := getenv(contract.EnvFindingHours); hours != "" {
		if c.Triggers.FindingHours, err = strconv.Atoi(hours); err != nil || c.Triggers.FindingHours < 1 {
			return Config{}, fmt.Errorf("%s is %q (allowed: whole hours, at least 1); correct it where the factory is deployed", contract.EnvFindingHours, hours)
		}
	}
	if hub := getenv(contract.EnvSecurityHub); hub != "" {
		if c.SecurityHub, err = strconv.ParseBool(hub); err != nil {
			return Config{}, fmt.Errorf("%s is %q (allowed: true, false); correct it where the factory is deployed", contract.EnvSecurityHub, hub)
		}
	}
	c.DualStack = getenv("AWS_USE_DUALSTACK_ENDPOINT") == "true"
	if scan := getenv(contract.EnvInspectorScan); scan != "" {
		if c.InspectorScan, err = strconv.ParseBool(scan); err != nil {
			return Config{}, fmt.Errorf("%s is %q (allowed: true, false); correct it where the factory is deployed", contract.EnvInspectorScan, scan)
		}
	}
	c.Triggers.Reporters.Products = list(getenv(contract.EnvProducts))
	if onDemand := getenv(contract.EnvOnDemand); onDemand != "" {
		if c.Triggers.Reporters.OnDemand, err = strconv.ParseBool(onDemand); err != nil {
			return Config{}, fmt.Errorf("%s is %q (allowed: true, false); correct it where the factory is deployed", contract.EnvOnDemand, onDemand)
		}
	}
	if c.Guests == "" {
		c.Guests = "ec2"
	}
	var missing []string
	for _, name := range []string{contract.EnvRegion, contract.EnvBucket, contract.EnvTopic, contract.EnvInstanceProfile, contract.EnvVersion, contract.EnvEngines} {
		if getenv(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return Config{}, fmt.Errorf("the function's environment has no %s; deploy the function again", strings.Join(missing, ", "))
	}
	return c, nil
}

// list splits a comma-separated list and drops empty items.
func list(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
