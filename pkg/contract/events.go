package contract

// EventSource is the source of every event that the factory sends.
const EventSource = "ami-factory"

// FactoryBus is the name of the factory's own event bus in every deployment.
const FactoryBus = "ami-factory"

// The detail types of the factory's events.
const (
	SourceChangedEvent     = "AMI Factory Source Changed"     // on FactoryBus, from WatchSources
	RebuildDueEvent        = "AMI Factory Rebuild Due"        // on FactoryBus, from WatchSources: something that waited may build
	NightlyEvent           = "AMI Factory Nightly"            // what the nightly schedule sends to StartBuilds
	ImagePublishedEvent    = "AMI Factory Image Published"    // on the account's default bus, from Notify, as soon as the pointers name the image
	ExecutionFinishedEvent = "AMI Factory Execution Finished" // likewise, at the end of every execution that was not up to date
)

// The sources and detail types of the events of AWS that start builds. Only AWS can
// send events of a source that begins with aws.; whoever may call PutEvents can send
// the others
// (https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html).
const (
	StatesSource          = "aws.states"
	ExecutionChangedEvent = "Step Functions Execution Status Change"

	InspectorSource = "aws.inspector2"
	InspectorEvent  = "Inspector2 Finding" // of an instance, or of an image that is scanned continuously

	OnDemandSource = "inspector2.ami.ondemand"
	OnDemandEvent  = "OnDemand AMI Scan Findings" // of an image whose scan somebody has asked for

	SecurityHubSource  = "aws.securityhub"
	SecurityHubEvent   = "Security Hub Findings - Imported" // of any product that reports to Security Hub CSPM
	SecurityHubV2Event = "Findings Imported V2"             // of any product that reports to Security Hub, in OCSF
)
