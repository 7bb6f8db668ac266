package blueprint

import (
	"encoding/json"

	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Role is a role of a deployment that a service of AWS assumes.
type Role struct {
	Name    string // behind the deployment's prefix
	Does    string // for descriptions
	Service string // the principal that assumes it
	Trust   Conditions
	Policy  Policy
}

// TrustPolicy is the role's, as IAM takes it.
func (r Role) TrustPolicy() ([]byte, error) {
	return trustPolicy(map[string]any{"Service": r.Service}, r.Trust)
}

func trustPolicy(principal map[string]any, conditions Conditions) ([]byte, error) {
	type statement struct {
		Effect    string
		Principal map[string]any
		Action    string
		Condition Conditions `json:",omitempty"`
	}
	return json.Marshal(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{{"Allow", principal, "sts:AssumeRole", conditions}}})
}

// The names of the roles that are no function's.
const (
	MachineRoleName   = "workflow"
	SchedulesRoleName = "schedules"
	BuilderRoleName   = "builder"
	ForwarderRoleName = "forwarder"
)

// Role is the function's.
func (f Function) Role(site Site) Role {
	return Role{Name: f.Name, Does: "AMI factory function " + f.Name, Service: "lambda.amazonaws.com", Policy: f.Policy(site)}
}

// MachineRole is the state machine's: it invokes the stages.
func MachineRole(functionARN func(name string) string) Role {
	invoke := Policy{}
	for _, row := range workflow.Stages() {
		invoke = append(invoke, Statement{Actions: []string{"lambda:InvokeFunction"}, Resources: []string{functionARN(string(row.Stage))}})
	}
	return Role{Name: MachineRoleName, Does: "AMI factory state machine", Service: "states.amazonaws.com", Policy: invoke}
}

// SchedulesRole is that of the schedules: it invokes their functions, and sends what
// could not be delivered to the queue. Only schedules of the account may have it
// (https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html).
func SchedulesRole(site Site, functionARN func(name string) string) Role {
	invoke := Statement{Actions: []string{"lambda:InvokeFunction"}}
	for _, s := range Schedules(DefaultSchedules()) {
		invoke.Resources = append(invoke.Resources, functionARN(s.Function))
	}
	return Role{
		Name: SchedulesRoleName, Does: "AMI factory schedules", Service: "scheduler.amazonaws.com",
		Trust:  Conditions{"StringEquals": {"aws:SourceAccount": site.Account}},
		Policy: append(Policy{invoke}, site.policy(keepDeadLetters())...),
	}
}

// BuilderRole is that of builders and verifiers: what the SSM agent needs to take
// commands, and nothing else. Components, checks and results go by presigned
// addresses, and the output of commands does not go to S3. A builder reads no
// parameter and no secret, because whatever it reads may end up in the image; and
// without a data channel nobody can open a session and change what is being built.
//
// AmazonSSMManagedInstanceCore allows more: parameters, inventory, patches,
// associations, sessions, and ec2messages, which agents since 3.3.40.0 do not use
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/systems-manager-setting-up-messageAPIs.html).
// Commands and their replies go through the control channel, as the agent's source
// shows (https://github.com/aws/amazon-ssm-agent, agent/messageservice/interactor/mgsinteractor).
func BuilderRole() Role {
	return Role{
		Name: BuilderRoleName, Does: "AMI factory builder and verifier instances", Service: "ec2.amazonaws.com",
		Policy: Policy{{
			Actions: []string{
				"ssm:UpdateInstanceInformation", // the heartbeat
				"ssmmessages:CreateControlChannel",
				"ssmmessages:OpenControlChannel",
			},
			// AWS's own policy narrows none of these to an instance either.
			Resources: []string{"*"},
		}},
	}
}
