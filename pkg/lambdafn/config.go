package lambdafn

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/program"
	"github.com/ami-factory/ami-factory/pkg/stage"
)

// The variables of a function's environment.
const (
	EnvRegion          = "AWS_REGION"
	EnvEndpoint        = "AWS_ENDPOINT_URL" // another AWS than Amazon's
	EnvBucket          = "AMI_FACTORY_BUCKET"
	EnvTopic           = "AMI_FACTORY_TOPIC_ARN"
	EnvInstanceProfile = "AMI_FACTORY_INSTANCE_PROFILE"
	EnvSecurityGroups  = "AMI_FACTORY_SECURITY_GROUP_IDS"
	EnvSubnets         = "AMI_FACTORY_SUBNET_IDS"
	EnvVersion         = "AMI_FACTORY_VERSION"
	EnvEngines         = "AMI_FACTORY_CHECK_ENGINES"        // JSON of program.Engines
	EnvGuestEndpoint   = "AMI_FACTORY_GUEST_ENDPOINT_URL"   // where guests reach S3, if not where functions do
	EnvParameters      = "AMI_FACTORY_COMPONENT_PARAMETERS" // JSON, see component.ParseDeployment
	EnvPrices          = "AMI_FACTORY_PRICES"               // JSON, see cost.ListPrices
	EnvGuests          = "AMI_FACTORY_GUESTS"
	EnvStateMachine    = "AMI_FACTORY_STATE_MACHINE_ARN"   // for triggers
	EnvEventBus        = "AMI_FACTORY_EVENT_BUS"           // for triggers: the factory's own
	EnvTopics          = "AMI_FACTORY_ANNOUNCEMENT_TOPICS" // for triggers: ARNs of the topics that are heard
	EnvFindingHours    = "AMI_FACTORY_FINDING_HOURS"       // for triggers: at least between two builds for vulnerabilities
	EnvOnDemand        = "AMI_FACTORY_ON_DEMAND_FINDINGS"  // for triggers: true if findings of on-demand scans start builds
	EnvProducts        = "AMI_FACTORY_FINDING_PRODUCTS"    // for triggers: ARNs of Security Hub products whose findings do, beside Amazon Inspector's
	EnvTargetRole      = "AMI_FACTORY_TARGET_ROLE_ARN"     // of the accounts that get pointers, to read or to move them; * for the account
	EnvTargetExternal  = "AMI_FACTORY_TARGET_EXTERNAL_ID"  // what that role asks for
	EnvUserDataDir     = "AMI_FACTORY_USERDATA_DIR"        // read user data from disk, not from the binary
)

// Config is a function's environment.
type Config struct {
	stage.Settings
	Bucket        string
	Endpoint      string
	GuestEndpoint string
	UserDataDir   string
	TargetRole    string // ARN, with * for the account; empty: there are no target accounts
	ExternalID    string
}

// LoadConfig reads the environment through getenv. The error names every
// required variable that is missing, not just the first.
func LoadConfig(getenv func(string) string) (Config, error) {
	c := Config{
		Settings: stage.Settings{
			Region:           getenv(EnvRegion),
			Version:          getenv(EnvVersion),
			InstanceProfile:  getenv(EnvInstanceProfile),
			SecurityGroupIDs: list(getenv(EnvSecurityGroups)),
			SubnetIDs:        list(getenv(EnvSubnets)),
			TopicARN:         getenv(EnvTopic),
			Guests:           getenv(EnvGuests),
			StateMachineARN:  getenv(EnvStateMachine),
			EventBus:         getenv(EnvEventBus),

			AnnouncementTopics: list(getenv(EnvTopics)),
		},
		Bucket:        getenv(EnvBucket),
		Endpoint:      getenv(EnvEndpoint),
		GuestEndpoint: getenv(EnvGuestEndpoint),
		UserDataDir:   getenv(EnvUserDataDir),
		TargetRole:    getenv(EnvTargetRole),
		ExternalID:    getenv(EnvTargetExternal),
	}
	var err error
	if c.Parameters, err = component.ParseDeployment(getenv(EnvParameters)); err != nil {
		return Config{}, fmt.Errorf("%s: %w; correct it where the factory is deployed", EnvParameters, err)
	}
	if c.Prices, err = cost.ListPrices(getenv(EnvPrices)); err != nil {
		return Config{}, fmt.Errorf("%s: %w; correct it where the factory is deployed", EnvPrices, err)
	}
	if engines := getenv(EnvEngines); engines != "" { // whose absence is reported below
		if c.Engines, err = program.ParseEngines(engines); err != nil {
			return Config{}, fmt.Errorf("%s: %w; correct it where the factory is deployed", EnvEngines, err)
		}
	}
	c.Architecture = program.AWS(runtime.GOARCH)
	if hours := getenv(EnvFindingHours); hours != "" {
		if c.FindingHours, err = strconv.Atoi(hours); err != nil || c.FindingHours < 1 {
			return Config{}, fmt.Errorf("%s is %q (allowed: whole hours, at least 1); correct it where the factory is deployed", EnvFindingHours, hours)
		}
	}
	c.Reporters.Products = list(getenv(EnvProducts))
	if onDemand := getenv(EnvOnDemand); onDemand != "" {
		if c.Reporters.OnDemand, err = strconv.ParseBool(onDemand); err != nil {
			return Config{}, fmt.Errorf("%s is %q (allowed: true, false); correct it where the factory is deployed", EnvOnDemand, onDemand)
		}
	}
	if c.Guests == "" {
		c.Guests = "ec2"
	}
	var missing []string
	for _, name := range []string{EnvRegion, EnvBucket, EnvTopic, EnvInstanceProfile, EnvVersion, EnvEngines} {
		if getenv(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return Config{}, fmt.Errorf("the function's environment lacks %s; deploy the function again", strings.Join(missing, ", "))
	}
	return c, nil
}

// list splits a comma-separated list and drops what is empty.
func list(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
