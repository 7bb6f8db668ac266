package blueprint

import (
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// The functions that start executions. No state invokes them: schedules, events
// and topics do.
const (
	StartBuilds      = "start-builds"
	WatchSources     = "watch-sources"
	ReleaseAnnounced = "release-announced"
	Approve          = "approve"
)

// Triggers is the table of the functions that start executions.
func Triggers() []Function {
	return []Function{
		{
			Name: StartBuilds, Trigger: true, Does: "starts executions of the recipes that an event, or a night, concerns",
			Timeout: 2 * time.Minute, MemoryMiB: 512,
			Fails:   []failure.Code{failure.QuotaExceeded},
			Actions: startBuildsActions(),
		},
		{
			Name: WatchSources, Trigger: true, Does: "looks whether the parameters that recipes build on have moved, or a build that waits is due",
			Timeout: 30 * time.Second, MemoryMiB: 256,
			Actions: watchSourcesActions(),
		},
		{
			Name: ReleaseAnnounced, Trigger: true, Does: "verifies an announcement of a base image's owner, and looks at the sources",
			Timeout: 2 * time.Minute, MemoryMiB: 256,
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

// Document is the pattern as a JSON object of maps.
func (p Pattern) Document() map[string]any {
	doc := map[string]any{"source": p.Source, "detail-type": p.DetailType}
	if len(p.Detail) > 0 {
		doc["detail"] = p.Detail
	}
	return doc
}

// SourceChangedPattern matches what WatchSources sends, on the factory's bus.
func SourceChangedPattern() Pattern {
	return Pattern{Source: []string{contract.EventSource}, DetailType: []string{contract.SourceChangedEvent, contract.RebuildDueEvent}}
}

// ExecutionEndedPattern matches the end of an execution of a state machine,
// however it ended, on the default bus.
func ExecutionEndedPattern(machineARN string) Pattern {
	return Pattern{
		Source: []string{contract.StatesSource}, DetailType: []string{contract.ExecutionChangedEvent},
		Detail: map[string]any{
			"stateMachineArn": []string{machineARN}, "status": []string{"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"},
		},
	}
}

// FindingRules say which vulnerabilities start builds, and whose reports count.
// The function that gets the events checks the reporter again: see
// decide.Reporters.
type FindingRules struct {
	Severities []string // none: no vulnerability starts a build
	OnDemand   bool     // the findings of on-demand scans of images count
	Products   []string // ARNs of the Security Hub products whose findings count, beside Amazon Inspector's
}

// InspectorPattern matches findings of Amazon Inspector, on the default bus, that
// a newer image may answer: of packages of instances and images, active, with a fix
// (https://docs.aws.amazon.com/inspector/latest/user/eventbridge-integration.html).
// Only AWS can send events of a source that begins with aws.
// (https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html).
func InspectorPattern(severities []string) Pattern {
	return Pattern{
		Source: []string{contract.InspectorSource}, DetailType: []string{contract.InspectorEvent}, Detail: inspectorDetail(severities),
	}
}

// OnDemandPattern matches the findings of an on-demand scan of one image by Amazon
// Inspector. Their source does not begin with aws., so whoever may put
// events on the default bus can make such an event
// (https://docs.aws.amazon.com/inspector/latest/user/machine-image-on-demand.html).
func OnDemandPattern(severities []string) Pattern {
	return Pattern{
		Source: []string{contract.OnDemandSource}, DetailType: []string{contract.OnDemandEvent}, Detail: inspectorDetail(severities),
	}
}

func inspectorDetail(severities []string) map[string]any {
	return map[string]any{
		"type": []string{"PACKAGE_VULNERABILITY"}, "status": []string{"ACTIVE"}, "fixAvailable": []string{"YES"}, "severity": severities,
		"resources": map[string]any{"type": []string{"AWS_EC2_INSTANCE", "MACHINE_IMAGE"}},
	}
}

// fromProducts matches the ARN of Amazon Inspector as a product of Security Hub, in
// any region, since Security Hub can gather the findings of others, and the ARNs of
// an operator's list. resource is how the ARN names a product: product, or productv2
// in OCSF.
func fromProducts(resource string, products []string) []any {
	out := []any{map[string]any{"wildcard": "arn:*:securityhub:*::" + resource + "/aws/inspector"}}
	for _, arn := range products {
		out = append(out, arn)
	}
	return out
}

// SecurityHubPattern matches the same findings as Amazon Inspector, or a product of an
// operator's list, reports to Security Hub
// (https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-cwe-event-formats.html).
// Whoever may call BatchImportFindings can report as the account's own product
// (https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html).
func SecurityHubPattern(severities, products []string) Pattern {
	return Pattern{
		Source: []string{contract.SecurityHubSource}, DetailType: []string{contract.SecurityHubEvent},
		Detail: map[string]any{"findings": map[string]any{
			"ProductArn":  fromProducts("product", products),
			"RecordState": []string{"ACTIVE"}, "Severity": map[string]any{"Label": severities},
			"Workflow":        map[string]any{"Status": []string{"NEW", "NOTIFIED"}},
			"Vulnerabilities": map[string]any{"FixAvailable": []string{"YES"}},
			"Resources":       map[string]any{"Type": []string{"AwsEc2Instance"}},
		}},
	}
}

// SecurityHubV2Pattern matches findings of vulnerabilities of the newer Security
// Hub, which are in OCSF: class 2002, new or in progress, of the same reporters as
// SecurityHubPattern. What has a fix, and of which image it is, the function reads
// (https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-v2-cwe-event-formats.html).
// OCSF names the product in metadata.product.uid
// (https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_OcsfFindingIdentifier.html).
func SecurityHubV2Pattern(severities, products []string) Pattern {
	captions := []string{} // OCSF writes them so
	for _, s := range severities {
		if s == "UNTRIAGED" {
			s = "UNKNOWN"
		}
		captions = append(captions, s[:1]+strings.ToLower(s[1:]))
	}
	return Pattern{
		Source: []string{contract.SecurityHubSource}, DetailType: []string{contract.SecurityHubV2Event},
		Detail: map[string]any{"findings": map[string]any{
			"metadata":  map[string]any{"product": map[string]any{"uid": fromProducts("productv2", products)}},
			"class_uid": []int{2002}, "status_id": []int{0, 1, 2}, "severity": captions,
		}},
	}
}

// FindingSeverities are those of vulnerabilities that start builds unless a
// deployment sets others.
func FindingSeverities() []string { return []string{"CRITICAL", "HIGH"} }

// Severities are all that a finding can have, the worst first
// (https://docs.aws.amazon.com/inspector/v2/APIReference/API_Finding.html).
func Severities() []string {
	return []string{"CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNTRIAGED"}
}

// Rule sends the events of a pattern to a function.
type Rule struct {
	Name     string // such as source-changed, unique in a deployment
	Bus      string // contract.FactoryBus; empty: the account's default bus
	Does     string // for descriptions
	Pattern  Pattern
	Function string // its name
	// Hint: the event ends a wait that also ends without it. It is of no use later, and
	// none is kept that cannot be delivered.
	Hint bool
}

// Rules are those of a deployment. bucket is the name of its bucket.
func Rules(machineARN, bucket string, findings FindingRules) []Rule {
	out := []Rule{
		{Name: "source-changed", Bus: contract.FactoryBus, Does: "a source of recipes has moved, or a build that waits is due", Pattern: SourceChangedPattern(), Function: StartBuilds},
		{Name: "execution-ended", Does: "an execution has ended: what waited, and what builds on its image", Pattern: ExecutionEndedPattern(machineARN), Function: StartBuilds},
	}
	out = append(out, waitRules(bucket)...)
	severities, products := findings.Severities, findings.Products
	if len(severities) == 0 {
		return out
	}
	finding := func(name, does string, p Pattern) Rule {
		return Rule{Name: name, Does: does, Pattern: p, Function: StartBuilds}
	}
	out = append(out,
		finding("inspector-finding", "an image has a vulnerability for which there is a fix", InspectorPattern(severities)),
		finding("security-hub-finding", "an image has a vulnerability for which there is a fix, as Security Hub was told", SecurityHubPattern(severities, products)),
		finding("security-hub-v2-finding", "an image has a vulnerability for which there is a fix, as the newer Security Hub reports in OCSF", SecurityHubV2Pattern(severities, products)),
	)
	if findings.OnDemand {
		out = append(out, finding("on-demand-finding", "an on-demand scan found a vulnerability of an image for which there is a fix", OnDemandPattern(severities)))
	}
	return out
}

// AnnouncementTopics are the topics of owners of base images that a deployment in a
// partition subscribes to unless it sets others: that of Amazon Linux 2023, which is
// documented for the commercial partition only
// (https://docs.aws.amazon.com/linux/al2023/ug/receive-update-notification.html). Bases
// without a topic, such as Debian and Ubuntu, are watched only.
func AnnouncementTopics(in string) []string {
	if in != partition.Default {
		return nil // topics cannot be subscribed to from other partitions
	}
	return []string{"arn:aws:sns:us-east-1:137112412989:amazon-linux-2023-ami-updates"}
}
