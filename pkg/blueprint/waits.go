package blueprint

import (
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// How long, and how often, AWS tries to deliver an event that ends a wait. The wait's
// own time-out has come by then.
const (
	HintAge     = 5 * time.Minute
	HintRetries = 2
)

// Wakers are the functions that get such events, beside those that start executions.
func Wakers() []string { return []string{string(workflow.Wake)} }

// waitRules send the events that end waits. They match what happens to all instances
// and images of the account: an event does not say whose they are.
func waitRules(bucket string) []Rule {
	rule := func(name, does string, p Pattern) Rule {
		return Rule{Name: name, Does: does, Pattern: p, Function: string(workflow.Wake), Hint: true}
	}
	return []Rule{
		rule("instance-changed", "an instance has stopped, or is gone", InstanceChangedPattern()),
		rule("image-changed", "an image, or a copy of one, is available or has failed", ImageChangedPattern()),
		rule("command-ended", "a command in an instance has ended", CommandEndedPattern()),
		rule("guest-uploaded", "a guest of an execution has uploaded how its first boot ended", UploadedPattern(bucket)),
	}
}

// InstanceChangedPattern matches the end of an instance's run
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html).
func InstanceChangedPattern() Pattern {
	return Pattern{
		Source: []string{contract.EC2Source}, DetailType: []string{contract.InstanceStateEvent},
		Detail: map[string]any{"state": []string{"stopped", "terminated"}},
	}
}

// ImageChangedPattern matches the end of the making of an image
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitor-ami-events.html).
func ImageChangedPattern() Pattern {
	return Pattern{
		Source: []string{contract.EC2Source}, DetailType: []string{contract.ImageStateEvent},
		Detail: map[string]any{"State": []string{"available", "failed"}},
	}
}

// CommandEndedPattern matches the end of a shell command in an instance of EC2
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/monitoring-sns-notifications.html).
func CommandEndedPattern() Pattern {
	return Pattern{
		Source: []string{contract.SSMSource}, DetailType: []string{contract.CommandEvent},
		Detail: map[string]any{
			"document-name": []string{contract.ScriptDocument},
			"instance-id":   []any{map[string]any{"prefix": "i-"}}, // not those of other clouds
			"status":        []any{map[string]any{"anything-but": []string{"Pending", "InProgress", "Delayed", "Cancelling"}}},
		},
	}
}

// UploadedPattern matches what guests upload for the machine to go on, not what
// functions write beside it
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html).
func UploadedPattern(bucket string) Pattern {
	return Pattern{
		Source: []string{contract.S3Source}, DetailType: []string{contract.ObjectCreatedEvent},
		Detail: map[string]any{
			"bucket": map[string]any{"name": []string{bucket}},
			"object": map[string]any{"key": []any{map[string]any{"wildcard": contract.ExecutionKey("*", contract.ProvisionedObject)}}},
		},
	}
}

// Forward is a rule in the other regions that images are copied to: it sends events to
// the default bus of the factory's own region, where the rules above are. Without it
// the factory works, and waits for copies until its time-outs
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-cross-region.html).
type Forward struct {
	Name    string
	Does    string
	Pattern Pattern
}

// Forwarding is the partition whose regions send events to each other's buses. In the
// others no rule forwards, and the time-outs end waits for copies
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-cross-region.html).
const Forwarding = partition.Default

// Forwards are those of each such region.
func Forwards() []Forward {
	return []Forward{{"image-changed", "a copy of an image is available or has failed", ImageChangedPattern()}}
}

// HomeBus is the bus that events are forwarded to.
func HomeBus(partition, account, region string) string {
	return "arn:" + partition + ":events:" + region + ":" + account + ":event-bus/default"
}

// ForwarderRole is that of the rules of a region: it sends to the home region's bus,
// and only rules of the account have it
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/cross-service-confused-deputy-prevention.html).
func ForwarderRole(account, homeBus string) Role {
	return Role{
		Name: ForwarderRoleName, Does: "AMI factory rules that forward events", Service: "events.amazonaws.com",
		Trust:  Conditions{"StringEquals": {"aws:SourceAccount": account}},
		Policy: Policy{{Actions: []string{"events:PutEvents"}, Resources: []string{homeBus}}},
	}
}
