package contract

import "strings"

// The prefixes of what is in the bucket, each with one lifetime: see Lifetimes of
// package blueprint.
const (
	ExecutionsPrefix    = "executions/"             // evidence: what each execution writes
	PlansPrefix         = "plans/"                  // plans, by digest
	BundlesPrefix       = "bundles/"                // bundles, by digest
	ChecksPrefix        = "checks/"                 // compiled checks, by digest
	FeedsPrefix         = "feeds/"                  // feeds of vulnerabilities, by digest
	AnnouncementsPrefix = "triggers/announcements/" // messages that were handled
	StartedPrefix       = "triggers/started/"       // executions that triggers started
	FindingsPrefix      = "triggers/findings/"      // vulnerabilities of images that were reported
	PublishingPrefix    = "publishing/"             // which execution moves the pointers of a recipe
	RecordsPrefix       = "triggers/recipes/"       // what triggers remember of recipes
	SitePrefix          = "site/"                   // the index page and what it says of each recipe
	SecurityHubPrefix   = "securityhub/"            // findings of each recipe that Security Hub was sent last
	ApprovalsPrefix     = "approvals/"              // requests and answers, by the digest of what is approved
	RequestersPrefix    = "requesters/"             // who started executions by hand
	ApprovingPrefix     = "approving/"              // which executions have asked people to approve; no token
	StreamsPrefix       = "streams/"                // SCAP data streams and programs that operators put there
	WaitTokensPrefix    = "waits/tokens/"           // who waits for a resource
	WaitIndexPrefix     = "waits/executions/"       // where the tokens of an execution are
	WaitMarksPrefix     = "waits/marks/"            // events of resources
)

// Names of the objects that one execution writes below executions/NAME/. Each is
// written by one stage, except for the journal, which Cleanup ends.
const (
	ClaimObject      = "execution.json"  // by Resolve: which execution has the name
	RawResultsObject = "results.json.gz" // by the verifier, through an address that RunCompliance signs
	ComplianceObject = "compliance.json" // by CheckCompliance
	SnapshotObject   = "snapshot.json"   // by CheckCompliance: what was found in the image's snapshot
	JournalObject    = "pointers.json"   // by Publish, and Cleanup where it gives pointers back
	RetentionObject  = "retention.json"  // by Retire: what became of each published image
	ReportObject     = "report.json"     // by Notify
	PageObject       = "report.html"     // by Notify

	// RawInventoryObject is written by the verifier, through an address that
	// RunCompliance signs; the next three by CheckCompliance.
	RawInventoryObject    = "inventory-raw.txt.gz"
	InventoryObject       = "inventory.cdx.json"   // CycloneDX 1.5
	VulnerabilitiesObject = "vulnerabilities.json" // what package vulnerability found

	// The builder uploads these two through addresses that Launch signs.
	ProvisionedObject = "provisioned.json" // once: how provisioning ended
	StepsObject       = "steps.json"       // overwritten as each step begins and ends
)

// BuilderUploadBytes is the size of each object that a builder uploads, in bytes: not
// the most, but exactly this. A presigned PUT cannot bound a length, but it can sign one
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html), so S3
// refuses every other. Builders fill up with spaces, which JSON ignores. The longest
// part of a report is the end of a component's log: 4 KiB, in base64.
const BuilderUploadBytes = 64 << 10

// Names of the objects of the signed evidence below executions/NAME/, all by Sign. In a
// bundle they are files of the same names.
const (
	ManifestObject = "manifest.json"   // what is released, with the digests of the other records
	DiffObject     = "diff.json"       // what differs from the image that was published before, see package diff
	EvidenceObject = "evidence.tar.gz" // the whole bundle in one file

	// Envelopes with one signed statement each. Beside each is the same as a Sigstore
	// bundle: see SigstoreOf.
	ProvenanceAttestation      = "provenance.dsse.json"
	ResultsAttestation         = "results.dsse.json"
	InventoryAttestation       = "inventory.dsse.json"
	VulnerabilitiesAttestation = "vulnerabilities.dsse.json"
	ApprovalsAttestation       = "approvals.dsse.json"
	SummaryAttestation         = "summary.dsse.json" // last: it lists the digests of the others
)

// Names of files that are in a bundle only.
const (
	PlanFile = "plan.json" // the plan, as it is kept at PlanKey
	KeyFile  = "key.pem"   // the public key; of use only to whoever knows it from elsewhere
)

// SigstoreOf is the name of an attestation's Sigstore bundle.
func SigstoreOf(attestation string) string {
	return strings.TrimSuffix(attestation, ".dsse.json") + ".sigstore.json"
}

// EngineResultsObject is the name of what the verifier uploads of an engine other than
// goss.
func EngineResultsObject(engine string) string { return "results-" + engine + ".json.gz" }

// SourcesKey is where the image ids are kept that the sources had last.
const SourcesKey = "triggers/sources.json"

// SitePage is the index page of all recipes.
const SitePage = SitePrefix + "index.html"

// SummariesPrefix begins the keys of what the index page says of each recipe.
const SummariesPrefix = "site/recipes/"

// SummaryKey is what the index page says of a recipe.
func SummaryKey(recipe string) string { return SummariesPrefix + recipe + ".json" }

// SecurityHubKey is what Security Hub was sent last of a recipe.
func SecurityHubKey(recipe string) string { return SecurityHubPrefix + recipe + ".json" }

// PlanKey is where the plan of that digest is kept.
func PlanKey(sha256 string) string { return PlansPrefix + sha256 + ".json" }

// BundleKey is where the bundle of that digest is kept.
func BundleKey(sha256 string) string { return BundlesPrefix + sha256 + ".tar.gz" }

// ChecksKey is where the compiled checks of that digest are kept.
func ChecksKey(sha256 string) string { return ChecksPrefix + sha256 + ".yaml" }

// FeedKey is where the feed of vulnerabilities of that digest is kept.
func FeedKey(sha256 string) string { return FeedsPrefix + sha256 }

// ExecutionKey is where an execution of that name keeps an object.
func ExecutionKey(name, object string) string { return ExecutionsPrefix + name + "/" + object }

// ConsoleObject is the name of the console of an instance, by its role.
func ConsoleObject(role string) string { return "console-" + role + ".log" }

// RecordKey is what StartBuilds remembers of a recipe.
func RecordKey(recipe string) string { return RecordsPrefix + recipe + ".json" }

// PublishingKey is which execution moves the pointers of a recipe.
func PublishingKey(recipe string) string { return PublishingPrefix + recipe + ".json" }

// FindingKey is what StartBuilds remembers of a vulnerability of an image.
func FindingKey(image, vulnerability string) string {
	return FindingsPrefix + image + "/" + vulnerability + ".json"
}

// AnnouncementKey is what ReleaseAnnounced remembers of a message.
func AnnouncementKey(id string) string { return AnnouncementsPrefix + id }

// StartedKey is what StartBuilds remembers of an execution that it started.
func StartedKey(execution string) string { return StartedPrefix + execution + ".json" }
