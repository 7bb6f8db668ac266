package blueprint

// Resource names what an action is allowed on; the deployment turns it into
// ARNs and conditions. AnyResource is for calls that IAM cannot narrow
// (Describe calls of EC2).
type Resource string

// The resources that actions are granted on.
const (
	AnyResource       Resource = "*"
	Bucket            Resource = "bucket"             // the factory's bucket itself
	Claims            Resource = "claims"             // which execution has which name
	Plans             Resource = "plans"              // what is to be built
	Bundles           Resource = "bundles"            // what builders fetch
	CompiledChecks    Resource = "compiled-checks"    // what verifiers fetch
	RawResults        Resource = "raw-results"        // what verifiers upload
	Streams           Resource = "streams"            // data streams and programs that verifiers fetch
	SnapshotFindings  Resource = "snapshotFindings"   // what was found in an image's snapshot
	RawInventory      Resource = "raw-inventory"      // likewise
	Inventories       Resource = "inventories"        // of images, as CycloneDX
	Vulnerabilities   Resource = "vulnerabilities"    // the verdicts on them
	Feeds             Resource = "feeds"              // of vulnerabilities, which an operator puts there
	Compliance        Resource = "compliance"         // the gate's verdicts
	Consoles          Resource = "consoles"           // of instances
	Provisioned       Resource = "provisioned"        // how builders were provisioned, as they report it
	BuilderUploads    Resource = "builder-uploads"    // that, and their steps
	Journals          Resource = "journals"           // of moved pointers
	Publishing        Resource = "publishing"         // which execution moves a recipe's pointers
	Retentions        Resource = "retentions"         // what became of published images
	Reports           Resource = "reports"            // of executions
	ApprovalRequests  Resource = "approval-requests"  // what people are asked, with task tokens
	ApprovalAnswers   Resource = "approval-answers"   // what they decided
	Requesters        Resource = "requesters"         // who started executions by hand
	Approving         Resource = "approving"          // which executions have asked people
	SitePage          Resource = "site"               // the index page and the summaries of recipes
	SentFindings      Resource = "sent-findings"      // what Security Hub was sent, where the deployment has it
	InspectorScan     Resource = "inspector-scan"     // Amazon Inspector's scan of what is installed, where the deployment has it
	SecurityHub       Resource = "security-hub"       // the account's own product of Security Hub, where the deployment has it
	Manifests         Resource = "manifests"          // of releases
	Diffs             Resource = "diffs"              // from the releases before
	Summaries         Resource = "summaries"          // of recipes, on the index page
	Statements        Resource = "statements"         // the manifests of releases, what is signed of them, and the bundles of both
	EarlierStatements Resource = "earlier-statements" // those of them that an earlier attempt of Sign may have written
	Evidence          Resource = "evidence"           // those bundles
	Proofs            Resource = "proofs"             // the records that a manifest has the digests of, beside the plan
	SigningKey        Resource = "signing-key"        // that signs evidence
	Sources           Resource = "sources"            // what the sources were
	Records           Resource = "records"            // what is remembered of recipes
	Findings          Resource = "findings"           // what is remembered of vulnerabilities
	Started           Resource = "started"            // what triggers started
	Announcements     Resource = "announcements"      // what was announced
	WaitTokens        Resource = "wait-tokens"        // the task tokens of states that wait
	WaitIndex         Resource = "wait-index"         // where the tokens of an execution are
	WaitMarks         Resource = "wait-marks"         // that events came
	CheckEngine       Resource = "check-engine"       // the objects that hold goss, one an architecture of guests
	SourceParameters  Resource = "source-parameters"  // /aws/service/* public parameters
	PointerParameters Resource = "pointer-parameters" // /ami-factory/* parameters in every region
	FactoryInstances  Resource = "factory-instances"  // those that bear the factory's tags
	ImageReferences   Resource = "image-references"   // what refers to images, as EC2 looks it up for DescribeImageReferences, and nothing else
	FactoryImages     Resource = "factory-images"     // those that bear the factory's tags
	IMDSRequirement   Resource = "imds-requirement"   // of images that bear the factory's tags: IMDSv2, and nothing else of them
	ImageAudience     Resource = "image-audience"     // who may launch images that bear the factory's tags, and their descriptions
	LaunchPermissions Resource = "launch-permissions" // who may launch images that bear the factory's tags
	FactorySnapshots  Resource = "factory-snapshots"  // those that bear the factory's tags
	Labels            Resource = "labels"             // of images and snapshots that bear the factory's tags: contract.LabelTags, so not that they are published
	PublishedMarks    Resource = "published-marks"    // of images and snapshots that bear the factory's tags: contract.PublishedTags
	LaunchTargets     Resource = "launch-targets"     // what RunInstances touches
	NewInstances      Resource = "new-instances"      // instances and what comes with them, as a launch makes them: tagged in the same request
	NewImages         Resource = "new-images"         // images and their snapshots, as a call makes them: tagged in the same request
	ScriptDocument    Resource = "script-document"    // the factory's document and the instances that it is sent to
	PassedRole        Resource = "passed-role"        // the instance profile's role, to pass to EC2 only
	Topic             Resource = "topic"              // the notification topic
	DeadLetters       Resource = "dead-letters"       // the queue of what could not be delivered to triggers, or failed
	EventBus          Resource = "event-bus"          // the default event bus
	FactoryBus        Resource = "factory-bus"        // the factory's own event bus
	StateMachine      Resource = "state-machine"      // the workflow itself
	Executions        Resource = "executions"         // its executions
	Keys              Resource = "keys"               // customer keys the deployment names
	TargetReaders     Resource = "target-readers"     // the role that reads pointers, of the accounts that the deployment names
	TargetWriters     Resource = "target-writers"     // the role that moves pointers, of those accounts
)

// Action is one IAM action and what it is granted on.
type Action struct {
	Name string // such as ec2:RunInstances
	On   Resource
}

func on(r Resource, names ...string) []Action {
	out := make([]Action, len(names))
	for i, n := range names {
		out[i] = Action{Name: n, On: r}
	}
	return out
}

func join(parts ...[]Action) []Action {
	var out []Action
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// bucketList lets S3 say that a key does not exist; without it the answer to
// reading one is that access is denied.
func bucketList() []Action { return on(Bucket, "s3:ListBucket") }

// Reading the plan is part of every stage after Resolve.
func readPlan() []Action { return on(Plans, "s3:GetObject") }

func resolveActions() []Action {
	return join(
		on(Claims, "s3:GetObject", "s3:PutObject"),
		on(Plans, "s3:GetObject", "s3:PutObject"), // those of earlier releases are compared
		on(Journals, "s3:GetObject"),              // and what they published,
		on(Compliance, "s3:GetObject"),            // with which results
		on(RawResults, "s3:GetObject"),
		on(Inventories, "s3:GetObject"),
		on(Vulnerabilities, "s3:GetObject"),
		bucketList(),
		on(Bundles, "s3:PutObject"),
		// The history is for an image that is given in place of the source.
		on(SourceParameters, "ssm:GetParameter", "ssm:GetParameterHistory"),
		on(PointerParameters, "ssm:GetParameter", "ssm:GetParameterHistory"),
		on(AnyResource, "ec2:DescribeImages"),
		on(TargetReaders, assumeRole),
	)
}

func launchActions() []Action {
	return join(
		readPlan(),
		// The builder's presigned requests are made with this role.
		on(Bundles, "s3:GetObject"),
		on(BuilderUploads, "s3:PutObject"),
		on(LaunchTargets, "ec2:RunInstances"),
		on(NewInstances, "ec2:CreateTags"),
		on(AnyResource, "ec2:DescribeImages", "ec2:DescribeInstances"),
		on(FactoryInstances, "ec2:DescribeInstanceAttribute"), // of an earlier attempt's instance
		on(PassedRole, "iam:PassRole"),
		on(Keys, "kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"),
	)
}

// wakeActions: the tokens are for nobody else. Whoever may return one can end a wait
// early, so that nobody else may do that either.
func wakeActions() []Action {
	return join(
		on(WaitTokens, "s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
		on(WaitIndex, "s3:PutObject", "s3:DeleteObject"),
		on(WaitMarks, "s3:PutObject"),
		bucketList(),
		on(StateMachine, "states:SendTaskSuccess"),
	)
}

func checkInstanceActions() []Action {
	return join(
		readPlan(),
		on(Provisioned, "s3:GetObject"),
		bucketList(),
		on(Consoles, "s3:PutObject"),
		on(AnyResource, "ec2:DescribeInstances", "ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation", "ssm:ListCommands"),
		on(FactoryInstances, "ec2:GetConsoleOutput"),
		on(ScriptDocument, "ssm:SendCommand"),
	)
}

func sealActions() []Action {
	return join(
		readPlan(),
		on(AnyResource, "ec2:DescribeInstances", "ssm:GetCommandInvocation", "ssm:ListCommands"),
		on(ScriptDocument, "ssm:SendCommand"),
		on(FactoryInstances, "ec2:StopInstances", "ec2:GetConsoleOutput"),
	)
}

func createImageActions() []Action {
	return join(
		readPlan(),
		on(FactoryInstances, "ec2:CreateImage"),
		on(NewImages, "ec2:CreateImage", "ec2:CreateTags"),
		on(AnyResource, "ec2:DescribeImages"),
		on(Keys, "kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"),
	)
}

func checkImageActions() []Action {
	return join(
		readPlan(),
		on(AnyResource, "ec2:DescribeImages", "ec2:DescribeSnapshots"),
		on(IMDSRequirement, "ec2:ModifyImageAttribute"),
		on(Labels, createTags),
	)
}

func runComplianceActions() []Action {
	return join(
		readPlan(),
		// The verifier's presigned requests are made with this role.
		on(CompiledChecks, "s3:GetObject", "s3:PutObject"),
		on(RawResults, "s3:PutObject"),
		on(RawInventory, "s3:PutObject"),
		on(Streams, "s3:GetObject"),
		on(CheckEngine, "s3:GetObject"),
		on(AnyResource, "ssm:ListCommands"),
		on(ScriptDocument, "ssm:SendCommand"),
	)
}

func checkComplianceActions() []Action {
	return join(
		readPlan(),
		on(RawResults, "s3:GetObject"),
		on(RawInventory, "s3:GetObject"),
		on(Claims, "s3:GetObject"), // of the execution whose image is released again
		on(Compliance, "s3:GetObject", "s3:PutObject"),
		on(SnapshotFindings, "s3:GetObject", "s3:PutObject"), // read while the checks run
		on(Inventories, "s3:GetObject", "s3:PutObject"),
		on(Vulnerabilities, "s3:GetObject", "s3:PutObject"),
		on(Feeds, "s3:GetObject"),
		on(InspectorScan, "inspector-scan:ScanSbom"),
		bucketList(),
		on(AnyResource, "ec2:DescribeImages", "ssm:GetCommandInvocation"),
		on(FactorySnapshots, "ebs:GetSnapshotBlock", "ebs:ListSnapshotBlocks"),
		on(Keys, "kms:Decrypt"),
	)
}

func distributeActions() []Action {
	return join(
		readPlan(),
		on(FactoryImages, "ec2:CopyImage"),
		on(FactorySnapshots, "ec2:CopyImage"),
		on(NewImages, "ec2:CopyImage", "ec2:CreateTags"),
		on(Keys, "kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"),
	)
}

func checkDistributionActions() []Action {
	return join(
		readPlan(),
		on(AnyResource, "ec2:DescribeImages", "ec2:DescribeSnapshots", "ec2:DescribeImageAttribute"),
		on(IMDSRequirement, "ec2:ModifyImageAttribute"),
		on(Labels, createTags),
	)
}

// signActions: nobody else may sign, or write what is signed.
func signActions() []Action {
	return join(
		readPlan(),
		on(Proofs, "s3:GetObject"),
		on(EarlierStatements, "s3:GetObject"),
		on(Evidence, "s3:GetObject"), // of the release before
		on(Summaries, "s3:GetObject"),
		on(Statements, "s3:PutObject"),
		on(ApprovalRequests, "s3:GetObject"),
		on(ApprovalAnswers, "s3:GetObject"),
		bucketList(),
		on(AnyResource, "ec2:DescribeImages", "ec2:DescribeSnapshots"),
		on(SigningKey, "kms:GetPublicKey", "kms:Sign"),
	)
}

// verifyEvidence returns the calls that compare images with their signed evidence.
func verifyEvidence() []Action {
	return join(
		on(Evidence, "s3:GetObject"),
		on(AnyResource, "ec2:DescribeImages", "ec2:DescribeImageAttribute", "ec2:DescribeSnapshots"),
		on(SigningKey, "kms:GetPublicKey"),
	)
}

func requestApprovalActions() []Action {
	return join(
		readPlan(),
		on(Manifests, "s3:GetObject"),
		on(Compliance, "s3:GetObject"), // what people are shown
		on(Vulnerabilities, "s3:GetObject"),
		on(Diffs, "s3:GetObject"),
		on(Requesters, "s3:GetObject"),
		on(Started, "s3:GetObject"),
		on(ApprovalRequests, "s3:GetObject", "s3:PutObject"),
		on(Approving, "s3:PutObject"),
		on(SitePage, "s3:GetObject", "s3:PutObject"),
		bucketList(),
		on(Topic, "sns:Publish"),
	)
}

// verifyApprovals returns the calls that read whether people have approved a release.
func verifyApprovals() []Action {
	return join(on(Manifests, "s3:GetObject"), on(Diffs, "s3:GetObject"), on(ApprovalRequests, "s3:GetObject"), on(ApprovalAnswers, "s3:GetObject"), bucketList())
}

// approveActions: nobody else may write an answer, or who asked for a build.
func approveActions() []Action {
	return join(
		on(Manifests, "s3:GetObject"),
		on(Requesters, "s3:GetObject", "s3:PutObject"),
		on(ApprovalRequests, "s3:GetObject"),
		on(ApprovalAnswers, "s3:GetObject", "s3:PutObject"),
		bucketList(),
		on(StateMachine, "states:SendTaskFailure", "states:SendTaskSuccess", "states:StartExecution"),
	)
}

func shareActions() []Action {
	return join(
		readPlan(),
		verifyEvidence(),
		verifyApprovals(),
		on(ImageAudience, "ec2:ModifyImageAttribute"),
		on(FactoryImages, "ec2:EnableImageDeprecation"),
	)
}

func publishActions() []Action {
	return join(
		readPlan(),
		on(Compliance, "s3:GetObject"),
		on(Journals, "s3:GetObject", "s3:PutObject"),
		on(Publishing, "s3:GetObject", "s3:PutObject"),
		verifyEvidence(),
		verifyApprovals(),
		on(PublishedMarks, createTags),
		movePointers(),
		on(TargetWriters, assumeRole),
	)
}

// assumeRole: pointers of other accounts are those accounts' to give.
const assumeRole = "sts:AssumeRole"

func movePointers() []Action {
	return on(PointerParameters, "ssm:GetParameter", "ssm:PutParameter", "ssm:DeleteParameter", "ssm:AddTagsToResource")
}

func retireActions() []Action {
	return join(
		readPlan(),
		on(Retentions, "s3:GetObject", "s3:PutObject"),
		bucketList(),
		on(AnyResource, "ec2:DescribeImages", "ec2:DescribeImageReferences", "autoscaling:DescribeLaunchConfigurations"),
		on(ImageReferences, "ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions"),
		on(PointerParameters, "ssm:GetParameter", "ssm:GetParameterHistory"),
		on(TargetReaders, assumeRole),
		on(FactoryImages, "ec2:DeregisterImage", "ec2:EnableImageDeprecation"),
		on(FactorySnapshots, "ec2:DeleteSnapshot"),
	)
}

func cleanupActions() []Action {
	return join(
		readPlan(),
		on(WaitTokens, "s3:DeleteObject"),
		on(WaitIndex, "s3:DeleteObject"),
		on(Journals, "s3:GetObject", "s3:PutObject"),
		on(Publishing, "s3:GetObject", "s3:PutObject"),
		bucketList(),
		on(AnyResource, "ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeSnapshots", "ec2:DescribeImageAttribute"),
		movePointers(),
		on(TargetWriters, assumeRole),
		on(LaunchPermissions, "ec2:ModifyImageAttribute"), // of an image whose release failed
		on(FactoryInstances, "ec2:TerminateInstances"),
		on(FactoryImages, "ec2:DeregisterImage"),
		on(FactorySnapshots, "ec2:DeleteSnapshot"),
	)
}

func notifyActions() []Action {
	return join(
		readPlan(),
		on(Manifests, "s3:GetObject"),
		on(Requesters, "s3:GetObject"),
		on(ApprovalAnswers, "s3:GetObject"),
		on(Compliance, "s3:GetObject"),
		on(Vulnerabilities, "s3:GetObject"),
		on(Diffs, "s3:GetObject"),
		on(Journals, "s3:GetObject"),
		on(Retentions, "s3:GetObject"),
		on(Consoles, "s3:GetObject"),
		on(Reports, "s3:PutObject"),
		on(SitePage, "s3:GetObject", "s3:PutObject"),
		on(SentFindings, "s3:GetObject", "s3:PutObject"),
		on(SecurityHub, "securityhub:BatchImportFindings"),
		bucketList(),
		on(Topic, "sns:Publish"),
		on(EventBus, "events:PutEvents"),
	)
}

// keepDeadLetters: Lambda sends what a trigger failed on to the queue with the
// trigger's own role.
func keepDeadLetters() []Action { return on(DeadLetters, "sqs:SendMessage") }

func startBuildsActions() []Action {
	return join(
		keepDeadLetters(),
		on(Records, "s3:GetObject", "s3:PutObject"),
		on(Findings, "s3:GetObject", "s3:PutObject"),
		on(Started, "s3:GetObject", "s3:PutObject"),
		on(Approving, "s3:GetObject"),
		bucketList(),
		on(SourceParameters, "ssm:GetParameter"),
		on(PointerParameters, "ssm:GetParameter"),
		on(AnyResource, "ec2:DescribeImages"),
		on(StateMachine, "states:StartExecution", "states:ListExecutions"),
		on(Executions, "states:DescribeExecution"),
		on(Topic, "sns:Publish"),
	)
}

func watchSourcesActions() []Action {
	return join(
		keepDeadLetters(),
		on(Sources, "s3:GetObject", "s3:PutObject"),
		on(Records, "s3:GetObject"), // whether a build that waits is due
		bucketList(),
		on(SourceParameters, "ssm:GetParameters"),
		on(PointerParameters, "ssm:GetParameters"),
		on(FactoryBus, "events:PutEvents"),
	)
}

func releaseAnnouncedActions() []Action {
	return join(on(Announcements, "s3:GetObject", "s3:PutObject"), watchSourcesActions())
}
