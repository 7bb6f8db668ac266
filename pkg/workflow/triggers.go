package workflow

import (
	"slices"
	"strings"

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
	RebuildDueEvent    = "AMI Factory Rebuild Due"    // of source ami-factory, on the factory's own bus
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
			Stage: WatchSources, Does: "looks whether the parameters that recipes build on have moved, or a build that waits is due",
			Timeout: shortRun, MemoryMiB: 256,
			Actions: watchSourcesActions(),
		},
		{
			Stage: ReleaseAnnounced, Does: "verifies an announcement of a base image's owner, and looks at the sources",
			Timeout: longRun, MemoryMiB: 256,
			Fails:   []failure.Code{failure.AnnouncementRefused},
			Actions: releaseAnnouncedActions(),
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
	return Pattern{Source: []string{"ami-factory"}, DetailType: []string{SourceChangedEvent, RebuildDueEvent}}
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

// InspectorPattern matches findings of Amazon Inspector, on the default bus, that
// a newer image may answer: of packages of instances and images, active, with a fix
// (https://docs.aws.amazon.com/inspector/latest/user/eventbridge-integration.html).
func InspectorPattern(severities []string) Pattern {
	return Pattern{
		// The second is what the scan of one image sends that somebody has asked for.
		Source:     []string{"aws.inspector2", "inspector2.ami.ondemand"},
		DetailType: []string{"Inspector2 Finding", "OnDemand AMI Scan Findings"},
		Detail: map[string]any{
			"type": []string{"PACKAGE_VULNERABILITY"}, "status": []string{"ACTIVE"}, "fixAvailable": []string{"YES"}, "severity": severities,
			"resources": map[string]any{"type": []string{"AWS_EC2_INSTANCE", "MACHINE_IMAGE"}},
		},
	}
}

// SecurityHubPattern matches the like of what any product reports to Security Hub
// (https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-cwe-event-formats.html).
func SecurityHubPattern(severities []string) Pattern {
	return Pattern{
		Source: []string{"aws.securityhub"}, DetailType: []string{"Security Hub Findings - Imported"},
		Detail: map[string]any{"findings": map[string]any{
			"RecordState": []string{"ACTIVE"}, "Severity": map[string]any{"Label": severities},
			"Workflow":        map[string]any{"Status": []string{"NEW", "NOTIFIED"}},
			"Vulnerabilities": map[string]any{"FixAvailable": []string{"YES"}},
			"Resources":       map[string]any{"Type": []string{"AwsEc2Instance"}},
		}},
	}
}

// SecurityHubV2Pattern matches findings of vulnerabilities of the newer Security
// Hub, which are in OCSF: class 2002, new or in progress. What has a fix, and of
// which image it is, the function reads
// (https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-v2-cwe-event-formats.html).
func SecurityHubV2Pattern(severities []string) Pattern {
	captions := []string{} // OCSF writes them so
	for _, s := range severities {
		if s == "UNTRIAGED" {
			s = "UNKNOWN"
		}
		captions = append(captions, s[:1]+strings.ToLower(s[1:]))
	}
	return Pattern{
		Source: []string{"aws.securityhub"}, DetailType: []string{"Findings Imported V2"},
		Detail: map[string]any{"findings": map[string]any{
			"class_uid": []int{2002}, "status_id": []int{0, 1, 2}, "severity": captions,
		}},
	}
}

// FindingSeverities are those of vulnerabilities that start builds unless a
// deployment is told otherwise.
func FindingSeverities() []string { return []string{"CRITICAL", "HIGH"} }

// Severities are all that a finding can have, the worst first
// (https://docs.aws.amazon.com/inspector/v2/APIReference/API_Finding.html).
func Severities() []string {
	return []string{"CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNTRIAGED"}
}

// Rule leads events to StartBuilds.
type Rule struct {
	Name    string // such as source-changed, unique in a deployment
	Bus     string // FactoryBusName; empty: the account's default bus
	Does    string // for descriptions
	Pattern Pattern
}

// Rules are those of a deployment. Without severities no vulnerability starts a
// build.
func Rules(machineARN string, severities []string) []Rule {
	out := []Rule{
		{"source-changed", FactoryBusName, "a source of recipes has moved, or a build that waits is due", SourceChangedPattern()},
		{"execution-ended", "", "an execution has ended: what waited, and what builds on its image", ExecutionEndedPattern(machineARN)},
	}
	if len(severities) > 0 {
		out = append(out,
			Rule{"inspector-finding", "", "an image has a vulnerability for which there is a fix", InspectorPattern(severities)},
			Rule{"security-hub-finding", "", "an image has a vulnerability for which there is a fix, as Security Hub was told", SecurityHubPattern(severities)},
			Rule{"security-hub-v2-finding", "", "an image has a vulnerability for which there is a fix, as the newer Security Hub reports in OCSF", SecurityHubV2Pattern(severities)},
		)
	}
	return out
}

// AnnouncementTopics are the topics of owners of base images that a deployment
// listens to unless it is told otherwise: that of Amazon Linux 2023. Bases
// without a topic, such as Debian and Ubuntu, are watched only.
func AnnouncementTopics() []string {
	return []string{"arn:aws:sns:us-east-1:137112412989:amazon-linux-2023-ami-updates"}
}

// Functions are all that a deployment has: stages, then triggers.
func Functions() []Spec { return slices.Concat(Stages(), Triggers()) }
