package contract

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
	EnvInspectorScan   = "AMI_FACTORY_INSPECTOR_SCAN"      // true: recipes may have Amazon Inspector scan what is installed
	EnvSecurityHub     = "AMI_FACTORY_SECURITY_HUB"        // true: findings are sent to Security Hub
	EnvApprovers       = "AMI_FACTORY_APPROVER_ROLE_ARNS"  // of roles whose sessions are named after people, beside those of IAM Identity Center
	EnvApprovalURL     = "AMI_FACTORY_APPROVAL_URL"        // where people answer, for the command line
	EnvApproverRole    = "AMI_FACTORY_APPROVER_ROLE_ARN"   // that they answer in, for the command line
	EnvSigningKey      = "AMI_FACTORY_SIGNING_KEY_ARN"     // of the KMS key that signs evidence, for what signs or verifies it
	EnvUserDataDir     = "AMI_FACTORY_USERDATA_DIR"        // read user data from disk, not from the binary
)

// SigningKeyAlias is the alias of the KMS key that signs evidence, in the home region.
const SigningKeyAlias = "alias/ami-factory-evidence"
