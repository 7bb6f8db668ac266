package workflow

import (
	"slices"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// The functions that start executions. No state invokes them: schedules, events
// and topics do.
const (
	StartBuilds      Stage = "start-builds"
	WatchSources     Stage = "watch-sources"
	ReleaseAnnounced Stage = "release-announced"
)

// FactoryBusName is the name of the factory's own event bus in every deployment.
const FactoryBusName = "ami-factory"

// What triggers are told by events; the stages of the same names read them.
const (
	SourceChangedEvent = "AMI Factory Source Changed" // of source ami-factory, on the factory's own bus
	NightlyEvent       = "AMI Factory Nightly"        // what the nightly schedule sends
)

// Triggers is the table of the functions that start executions.
func Triggers() []Spec {
	return []Spec{
		{
			Stage: StartBuilds, Does: "starts executions of the recipes that an event, or a night, concerns",
			Timeout: longRun, MemoryMiB: 512,
			Fails:   []failure.Code{failure.QuotaExceeded},
			Actions: startBuildsActions(),
		},
		{
			Stage: WatchSources, Does: "looks whether the parameters that recipes build on have moved",
			Timeout: shortRun, MemoryMiB: 256,
			Actions: watchSourcesActions(),
		},
		{
			Stage: ReleaseAnnounced, Does: "verifies an announcement of a base image's owner, and looks at the sources",
			Timeout: longRun, MemoryMiB: 256,
			Fails:   []failure.Code{failure.AnnouncementRefused},
			Actions: watchSourcesActions(),
		},
	}
}

// Pattern is an event pattern of EventBridge.
type Pattern struct {
	Source     []string       `json:"source"`
	DetailType []string       `json:"detail-type"`
	Detail     map[string]any `json:"detail,omitempty"`
}

// SourceChangedPattern matches what WatchSources sends, on the factory's bus.
func SourceChangedPattern() Pattern {
	return Pattern{Source: []string{"ami-factory"}, DetailType: []string{SourceChangedEvent}}
}

// ExecutionEndedPattern matches the end of an execution of a state machine,
// however it ended, on the default bus.
func ExecutionEndedPattern(machineARN string) Pattern {
	return Pattern{
		Source: []string{"aws.states"}, DetailType: []string{"Step Functions Execution Status Change"},
		Detail: map[string]any{
			"stateMachineArn": []string{machineARN}, "status": []string{"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"},
		},
	}
}

// AnnouncementTopics are the topics of owners of base images that a deployment
// listens to unless it is told otherwise: that of Amazon Linux 2023. Bases
// without a topic, such as Debian and Ubuntu, are watched only.
func AnnouncementTopics() []string {
	return []string{"arn:aws:sns:us-east-1:137112412989:amazon-linux-2023-ami-updates"}
}

// Functions are all that a deployment has: stages, then triggers.
func Functions() []Spec { return slices.Concat(Stages(), Triggers()) }
