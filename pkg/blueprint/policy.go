package blueprint

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

const createTags = "ec2:CreateTags"

// Site is where a factory is deployed, as far as the policies of its roles name it.
type Site struct {
	Partition, Account, Region string
	URLSuffix                  string   // of host names in the partition, such as amazonaws.com
	Bucket                     string   // ARN
	CheckEngines               []string // ARNs of the objects that hold goss
	BuilderRole                string   // ARN
	Topic                      string   // ARN
	DeadLetters                string   // ARN of the queue that keeps what could not be delivered to triggers, or failed
	DataKey                    string   // ARN of the customer key that encrypts bucket, topics and queue; empty: AWS's own keys do
	SigningKey                 string   // ARN of the key that signs evidence
	Keys                       []string // ARNs of customer keys; any key of the account, by way of EC2, when empty
	TargetAccounts             []string // whose pointers the factory moves
	InspectorScan              bool     // recipes may have Amazon Inspector scan what is installed
	SecurityHub                bool     // findings are sent to Security Hub
	SourceOwners               []string // ids or aliases of those whose images may be launched, beside amazon and the account itself; anybody's when empty
}

// Conditions of a statement: operator, key, and a value or a list of them.
type Conditions map[string]map[string]any

// Statement allows actions on resources, under conditions.
type Statement struct {
	Actions    []string
	Resources  []string
	Conditions Conditions // nil: none
}

// Policy is a role's.
type Policy []Statement

// MarshalJSON writes the policy document as IAM takes it.
func (p Policy) MarshalJSON() ([]byte, error) {
	type statement struct {
		Effect           string
		Action, Resource []string
		Condition        Conditions `json:",omitempty"`
	}
	document := struct {
		Version   string
		Statement []statement
	}{Version: "2012-10-17"}
	for _, s := range p {
		document.Statement = append(document.Statement, statement{"Allow", s.Actions, s.Resources, s.Conditions})
	}
	return json.Marshal(document)
}

// Policy allows exactly the function's actions, each on the narrowest resources
// and conditions that IAM knows for it.
func (f Function) Policy(site Site) Policy { return site.policy(f.Actions) }

func (site Site) policy(actions []Action) Policy {
	byResource := map[Resource][]string{}
	var order []Resource
	for _, a := range actions {
		if _, ok := byResource[a.On]; !ok {
			order = append(order, a.On)
		}
		byResource[a.On] = append(byResource[a.On], a.Name)
	}
	var out Policy
	for _, r := range order {
		out = append(out, site.statements(r, byResource[r])...)
	}
	return append(out, site.dataKeyUse(actions)...)
}

func (site Site) arn(service, region, account, rest string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", site.Partition, service, region, account, rest)
}

func (site Site) ec2(kinds ...string) []string {
	var out []string
	for _, kind := range kinds {
		account := site.Account
		if kind == "image" || kind == "snapshot" { // which have no account in their ARNs
			account = ""
		}
		out = append(out, site.arn("ec2", "*", account, kind+"/*"))
	}
	return out
}

func (site Site) statements(r Resource, actions []string) []Statement {
	allow := func(conditions Conditions, resources ...string) Statement {
		return Statement{Actions: actions, Resources: resources, Conditions: conditions}
	}
	switch r {
	case AnyResource:
		return []Statement{allow(nil, "*")}
	case Bucket:
		return []Statement{allow(nil, site.Bucket)}
	case Claims, Plans, Bundles, CompiledChecks, RawResults, Streams, RawInventory, Inventories, Vulnerabilities, Feeds, SnapshotFindings, Compliance, Consoles, Provisioned, BuilderUploads, Journals, Publishing, Retentions, Reports, Statements, EarlierStatements, Manifests, Diffs, Summaries, ApprovalRequests, ApprovalAnswers, Requesters, Approving, Evidence, Proofs, Sources, Records, Findings, Started, Announcements,
		WaitTokens, WaitIndex, WaitMarks:
		return []Statement{allow(nil, site.objects(r)...)}
	case SitePage:
		return []Statement{allow(nil, site.objects(r)...)}
	case SentFindings:
		if !site.SecurityHub {
			return nil
		}
		return []Statement{allow(nil, site.objects(r)...)}
	case InspectorScan:
		if !site.InspectorScan {
			return nil
		}
		return []Statement{allow(nil, "*")} // which IAM cannot narrow
	case SecurityHub:
		if !site.SecurityHub {
			return nil
		}
		return []Statement{allow(nil, site.arn("securityhub", site.Region, site.Account, "product/"+site.Account+"/default"))}
	case CheckEngine:
		return []Statement{allow(nil, site.CheckEngines...)}
	case SourceParameters:
		return []Statement{allow(nil, site.arn("ssm", "*", "", "parameter/aws/service/*"))}
	case PointerParameters:
		return []Statement{allow(nil, site.arn("ssm", "*", site.Account, "parameter/"+contract.PointerPrefix+"/*"))}
	case FactoryInstances:
		return []Statement{allow(tagged("aws:ResourceTag"), site.ec2("instance")...)}
	case FactoryImages:
		return []Statement{allow(site.ownTagged(), site.ec2("image")...)}
	case IMDSRequirement:
		// An attribute whose object has a value only has a key of its own; launch
		// permissions have none, so this grants no sharing
		// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/iam-policies-for-amazon-ec2.html#attribute-key).
		conditions := site.ownTagged()
		conditions["StringEquals"] = map[string]any{"ec2:Attribute/ImdsSupport": "v2.0"}
		return []Statement{allow(conditions, site.ec2("image")...)}
	case ImageReferences:
		// EC2 makes these calls with the caller's permissions; the caller itself may not
		// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-ami-references.html).
		conditions := Conditions{"ForAnyValue:StringEquals": {"aws:CalledVia": []string{"ec2-images.amazonaws.com"}}}
		return []Statement{allow(conditions, "*")}
	case ImageAudience, LaunchPermissions:
		attributes := []string{"LaunchPermission"}
		if r == ImageAudience {
			attributes = append(attributes, "Description")
		}
		// Reports say that EC2 does not fill the key in for every attribute that it
		// documents it for, so that its absence must not deny.
		conditions := site.ownTagged()
		conditions["StringEqualsIgnoreCaseIfExists"] = map[string]any{"ec2:Attribute": attributes}
		return []Statement{allow(conditions, site.ec2("image")...)}
	case FactorySnapshots:
		return []Statement{allow(site.ownTagged(), site.ec2("snapshot")...)}
	case Labels:
		return []Statement{allow(onlyTags(site.ownTagged(), contract.LabelTags()), site.ec2("image", "snapshot")...)}
	case PublishedMarks:
		return []Statement{allow(onlyTags(site.ownTagged(), contract.PublishedTags()), site.ec2("image", "snapshot")...)}
	case LaunchTargets:
		return []Statement{
			allow(site.ownedImages(), site.ec2("image")...),
			// A block device mapping could name anybody's snapshot.
			allow(site.ownedImages(), site.ec2("snapshot")...),
			allow(nil, site.ec2("subnet", "security-group")...),
			allow(Conditions{"Bool": {"ec2:AssociatePublicIpAddress": "false"}}, site.ec2("network-interface")...),
			allow(metadataGuarded(), site.ec2("instance")...),
			allow(tagged("aws:RequestTag"), site.ec2("volume")...),
		}
	case NewInstances:
		return newResources(actions, site.ec2("instance", "volume", "network-interface"))
	case NewImages:
		return newResources(actions, site.ec2("image", "snapshot"))
	case ScriptDocument:
		return []Statement{
			allow(nil, site.arn("ssm", site.Region, site.Account, "document/"+contract.ScriptDocument)),
			allow(tagged("ssm:resourceTag"), site.ec2("instance")...),
		}
	case PassedRole:
		return []Statement{allow(Conditions{"StringEquals": {"iam:PassedToService": site.ec2Principals()}}, site.BuilderRole)}
	case DeadLetters:
		return []Statement{allow(nil, site.DeadLetters)}
	case Topic:
		return []Statement{allow(nil, site.Topic)}
	case EventBus:
		return []Statement{allow(Conditions{"StringEquals": {"events:source": contract.EventSource}}, site.arn("events", site.Region, site.Account, "event-bus/default"))}
	case FactoryBus:
		return []Statement{allow(Conditions{"StringEquals": {"events:source": contract.EventSource}}, site.arn("events", site.Region, site.Account, "event-bus/"+contract.FactoryBus))}
	case StateMachine:
		return []Statement{allow(nil, site.arn("states", site.Region, site.Account, "stateMachine:"+workflow.MachineName))}
	case Executions:
		return []Statement{allow(nil, site.arn("states", site.Region, site.Account, "execution:"+workflow.MachineName+":*"))}
	case TargetReaders:
		return site.inTargets(actions, TargetReaderName)
	case TargetWriters:
		return site.inTargets(actions, TargetWriterName)
	case SigningKey:
		return []Statement{allow(nil, site.SigningKey)}
	case Keys:
		keys := site.Keys
		if len(keys) == 0 {
			keys = []string{site.arn("kms", "*", site.Account, "key/*")}
		}
		return site.onKeys(actions, keys)
	}
	panic(fmt.Sprintf("no policy is written for resource kind %q", r))
}

// ec2Principals are EC2's names where roles are passed to it: some partitions
// have a second one.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html#principal-services
func (site Site) ec2Principals() any {
	const everywhere = "ec2.amazonaws.com"
	if own := "ec2." + site.URLSuffix; own != everywhere {
		return []string{everywhere, own}
	}
	return everywhere
}

// objects are the ARNs of what the bucket holds of a kind, so that each role reads
// and writes what is its own and nothing else. The names of executions, recipes and
// images hold no slash, and an asterisk that matched one would only reach an object
// of the same kind.
func (site Site) objects(r Resource) []string {
	keys := map[Resource][]string{
		Claims:            {contract.ExecutionKey("*", contract.ClaimObject)},
		Plans:             {contract.PlanKey("*")},
		Bundles:           {contract.BundleKey("*")},
		CompiledChecks:    {contract.ChecksKey("*")},
		RawResults:        {contract.ExecutionKey("*", "results*.json.gz")},
		Streams:           {contract.StreamsPrefix + "*"},
		Compliance:        {contract.ExecutionKey("*", contract.ComplianceObject)},
		RawInventory:      {contract.ExecutionKey("*", contract.RawInventoryObject)},
		Inventories:       {contract.ExecutionKey("*", contract.InventoryObject)},
		Vulnerabilities:   {contract.ExecutionKey("*", contract.VulnerabilitiesObject)},
		Feeds:             {contract.FeedKey("*")},
		SnapshotFindings:  {contract.ExecutionKey("*", contract.SnapshotObject)},
		Consoles:          {contract.ExecutionKey("*", contract.ConsoleObject("*"))},
		Provisioned:       {contract.ExecutionKey("*", contract.ProvisionedObject)},
		BuilderUploads:    {contract.ExecutionKey("*", contract.ProvisionedObject), contract.ExecutionKey("*", contract.StepsObject)},
		Journals:          {contract.ExecutionKey("*", contract.JournalObject)},
		Publishing:        {contract.PublishingKey("*")},
		Retentions:        {contract.ExecutionKey("*", contract.RetentionObject)},
		Statements:        statementKeys(),
		EarlierStatements: {contract.ExecutionKey("*", contract.ManifestObject), contract.ExecutionKey("*", contract.DiffObject), contract.ExecutionKey("*", "*.dsse.json")},
		Evidence:          {contract.ExecutionKey("*", contract.EvidenceObject)},
		Proofs:            {contract.ExecutionKey("*", contract.ComplianceObject), contract.ExecutionKey("*", contract.InventoryObject), contract.ExecutionKey("*", contract.VulnerabilitiesObject)},
		Reports:           {contract.ExecutionKey("*", contract.ReportObject), contract.ExecutionKey("*", contract.PageObject)},
		SitePage:          {contract.SitePage, contract.SummaryKey("*")},
		SentFindings:      {contract.SecurityHubKey("*")},
		Sources:           {contract.SourcesKey},
		Records:           {contract.RecordKey("*")},
		Findings:          {contract.FindingKey("*", "*")},
		Started:           {contract.StartedKey("*")},
		Announcements:     {contract.AnnouncementKey("*")},
		WaitTokens:        {contract.WaitTokensPrefix + "*"},
		WaitIndex:         {contract.WaitIndexPrefix + "*"},
		WaitMarks:         {contract.WaitMarksPrefix + "*"},
		Manifests:         {contract.ExecutionKey("*", contract.ManifestObject)},
		Diffs:             {contract.ExecutionKey("*", contract.DiffObject)},
		Summaries:         {contract.SummaryKey("*")},
		ApprovalRequests:  {contract.ApprovalRequestKey("*")},
		ApprovalAnswers:   {contract.ApprovalAnswerKey("*", "*")},
		Requesters:        {contract.RequesterKey("*")},
		Approving:         {contract.ApprovingKey("*")},
	}[r]
	out := make([]string, len(keys))
	for i, key := range keys {
		out[i] = site.Bucket + "/" + key
	}
	return out
}

// statementKeys are the keys of what Sign writes: the diff, the manifest, statements in
// both forms, and the bundle.
func statementKeys() []string {
	var out []string
	for _, name := range []string{contract.DiffObject, contract.ManifestObject, "*.dsse.json", contract.SigstoreOf("*.dsse.json"), contract.EvidenceObject} {
		out = append(out, contract.ExecutionKey("*", name))
	}
	return out
}

// inTargets allows actions on a role of the accounts that are named, if any are.
func (site Site) inTargets(actions []string, role string) []Statement {
	if len(site.TargetAccounts) == 0 {
		return nil
	}
	var roles []string
	for _, account := range site.TargetAccounts {
		roles = append(roles, TargetRoleARN(site.Partition, account, role))
	}
	return []Statement{{Actions: actions, Resources: roles}}
}

// ownedImages is the condition that an image is of one of the sources' owners, or
// the factory's own. EC2 names an owner by its alias where it has one: amazon is
// Amazon and the partners that it verifies. Resolve has looked at the numeric id.
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html)
func (site Site) ownedImages() Conditions {
	if len(site.SourceOwners) == 0 {
		return nil
	}
	owners := []string{"amazon", site.Account}
	for _, owner := range site.SourceOwners {
		if !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	return Conditions{"StringEquals": {"ec2:Owner": owners}}
}

// onKeys allows what EBS does with keys in the caller's name. A grant is for EC2 and
// EBS only, so that none is made to anybody else
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html).
func (site Site) onKeys(actions, keys []string) []Statement {
	const createGrant = "kms:CreateGrant"
	through := map[string]any{"kms:ViaService": "ec2.*." + site.URLSuffix}
	var out []Statement
	if slices.Contains(actions, createGrant) {
		out = append(out, Statement{
			Actions: []string{createGrant}, Resources: keys,
			Conditions: Conditions{"StringLike": through, "Bool": {"kms:GrantIsForAWSResource": "true"}},
		})
	}
	others := slices.DeleteFunc(slices.Clone(actions), func(a string) bool { return a == createGrant })
	if len(others) > 0 {
		out = append(out, Statement{Actions: others, Resources: keys, Conditions: Conditions{"StringLike": through}})
	}
	return out
}

// metadataGuarded is the condition that a new instance is the factory's and asks for
// tokens of its metadata service, one hop away
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html#iam-example-instance-metadata).
func metadataGuarded() Conditions {
	conditions := tagged("aws:RequestTag")
	conditions["StringEquals"] = map[string]any{"ec2:MetadataHttpTokens": "required"}
	conditions["NumericEquals"] = map[string]any{"ec2:MetadataHttpPutResponseHopLimit": "1"}
	return conditions
}

// tagged is the condition that a tag of the factory's is there.
func tagged(key string) Conditions {
	return Conditions{"StringLike": {key + "/" + contract.TagExecution: "*"}}
}

// ownTagged is the condition that an image or snapshot bears a tag of the factory's
// and belongs to its account: tags of an image that others share are the account's
// own, so whoever may tag one could make it look like the factory's. EC2 documents
// the owner for these actions
// (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html);
// should it not fill the key in for one of them, clean-up must not be denied, and
// nobody who calls can leave it out.
func (site Site) ownTagged() Conditions {
	conditions := tagged("aws:ResourceTag")
	conditions["StringEqualsIfExists"] = map[string]any{"ec2:Owner": site.Account}
	return conditions
}

// onlyTags adds the condition that a request sets tags of some keys only. A request
// can set several: ForAllValues wants each of its keys in the list, and also holds
// for a request without any, so Null asks that there is one
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html).
func onlyTags(conditions Conditions, keys []string) Conditions {
	conditions["ForAllValues:StringEquals"] = map[string]any{"aws:TagKeys": keys}
	conditions["Null"] = map[string]any{"aws:TagKeys": "false"}
	return conditions
}

// newResources allows calls that make resources, and tags in the request that makes
// a resource, with the keys of labels only. Tags of what exists already stay as they
// are: they decide what the factory may change and remove.
func newResources(actions, resources []string) []Statement {
	var out []Statement
	if slices.Contains(actions, createTags) {
		conditions := onlyTags(tagged("aws:RequestTag"), contract.LabelTags())
		conditions["StringEquals"] = map[string]any{"ec2:CreateAction": []string{"RunInstances", "CreateImage", "CopyImage"}}
		out = append(out, Statement{
			Actions: []string{createTags}, Resources: resources, Conditions: conditions,
		})
	}
	making := slices.DeleteFunc(slices.Clone(actions), func(a string) bool { return a == createTags })
	if len(making) > 0 {
		out = append(out, Statement{Actions: making, Resources: resources, Conditions: tagged("aws:RequestTag")})
	}
	return out
}
