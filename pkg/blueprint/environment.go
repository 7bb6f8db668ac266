package blueprint

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Settings are what the functions of a deployment read from their environment. A
// value that is empty is not set, and the function takes its default.
type Settings struct {
	Bucket          string // name
	Topic           string // ARN
	InstanceProfile string // name, of builders and verifiers
	Version         string
	CheckEngines    string   // JSON of program.Engines
	Subnets         []string // of builders and verifiers
	SecurityGroups  []string
	Parameters      string   // of components: JSON of component.Deployment
	Approvers       []string // ARNs of roles whose sessions are named after people
	SigningKey      string   // ARN of the key that signs evidence
	Prices          string   // that differ from AWS's: JSON of cost.Table
	DualStack       bool     // call AWS's dual-stack endpoints

	StateMachine       string   // ARN
	AnnouncementTopics []string // ARNs
	Findings           FindingRules
	FindingHours       int // at least between two builds of a recipe for vulnerabilities; 0: the function's default

	InspectorScan bool // recipes may have Amazon Inspector scan what is installed
	SecurityHub   bool // findings are sent to Security Hub

	TargetRoles      func(name string) string // ARN of a role in any target account, with * for the account; nil: there are no target accounts
	TargetExternalID string
}

// Required are the variables without which the function refuses to work, sorted as a
// deployment sets them.
func (f Function) Required() []string {
	out := []string{contract.EnvBucket, contract.EnvTopic, contract.EnvInstanceProfile, contract.EnvVersion, contract.EnvEngines}
	if f.usesSigningKey() {
		out = append(out, contract.EnvSigningKey)
	}
	if f.Door {
		out = append(out, contract.EnvStateMachine)
	}
	if f.Trigger {
		out = append(out, contract.EnvStateMachine, contract.EnvEventBus)
	}
	return out
}

// Environment is that of the function. Lambda takes 4 KB of it in all
// (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html), so a
// function gets only what it reads.
func (f Function) Environment(s Settings) map[string]string {
	env := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			env[name] = value
		}
	}
	set(contract.EnvBucket, s.Bucket)
	set(contract.EnvTopic, s.Topic)
	set(contract.EnvInstanceProfile, s.InstanceProfile)
	set(contract.EnvVersion, s.Version)
	set(contract.EnvEngines, s.CheckEngines)
	set(contract.EnvSubnets, strings.Join(s.Subnets, ","))
	set(contract.EnvSecurityGroups, strings.Join(s.SecurityGroups, ","))
	set(contract.EnvParameters, s.Parameters)
	if s.DualStack {
		env["AWS_USE_DUALSTACK_ENDPOINT"] = "true" // the SDK reads it
	}
	if f.usesSigningKey() {
		set(contract.EnvSigningKey, s.SigningKey)
	}
	if s.InspectorScan && slices.Contains([]string{string(workflow.Resolve), string(workflow.CheckCompliance)}, f.Name) {
		env[contract.EnvInspectorScan] = "true"
	}
	if f.Name == string(workflow.Notify) {
		set(contract.EnvPrices, s.Prices)
		if s.SecurityHub {
			env[contract.EnvSecurityHub] = "true"
		}
	}
	if role := TargetRoleOf(f.Name); role != "" && s.TargetRoles != nil {
		set(contract.EnvTargetRole, s.TargetRoles(role))
		set(contract.EnvTargetExternal, s.TargetExternalID)
	}
	if f.Door {
		set(contract.EnvStateMachine, s.StateMachine)
		set(contract.EnvApprovers, strings.Join(s.Approvers, ","))
	}
	if !f.Trigger {
		return env
	}
	set(contract.EnvStateMachine, s.StateMachine)
	set(contract.EnvEventBus, contract.FactoryBus)
	set(contract.EnvTopics, strings.Join(s.AnnouncementTopics, ","))
	set(contract.EnvProducts, strings.Join(s.Findings.Products, ","))
	if s.FindingHours > 0 {
		env[contract.EnvFindingHours] = strconv.Itoa(s.FindingHours)
	}
	if s.Findings.OnDemand {
		env[contract.EnvOnDemand] = "true"
	}
	return env
}
