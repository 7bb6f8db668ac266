// Package contract holds the words that two sides of the factory share, so that
// each is written once.
package contract

// Names of the objects that one execution writes below executions/NAME/. Each is
// written by one stage, except for the journal, which Cleanup ends.
const (
	ClaimObject      = "execution.json"  // by Resolve: which execution has the name
	RawResultsObject = "results.json.gz" // by the verifier, through an address that RunCompliance signs
	ComplianceObject = "compliance.json" // by CheckCompliance
	JournalObject    = "pointers.json"   // by Publish, and Cleanup where it gives pointers back
	ReportObject     = "report.json"     // by Notify
	PageObject       = "report.html"     // by Notify
)

// SourcesKey is where the image ids are kept that the sources had last.
const SourcesKey = "triggers/sources.json"

// PlanKey is where the plan of that digest is kept.
func PlanKey(sha256 string) string { return "plans/" + sha256 + ".json" }

// BundleKey is where the bundle of that digest is kept.
func BundleKey(sha256 string) string { return "bundles/" + sha256 + ".tar.gz" }

// ChecksKey is where the compiled checks of that digest are kept.
func ChecksKey(sha256 string) string { return "checks/" + sha256 + ".yaml" }

// ExecutionKey is where an execution of that name keeps an object.
func ExecutionKey(name, object string) string { return "executions/" + name + "/" + object }

// ConsoleObject is the name of the console of an instance, by its role.
func ConsoleObject(role string) string { return "console-" + role + ".log" }

// RecordKey is what StartBuilds remembers of a recipe.
func RecordKey(recipe string) string { return "triggers/recipes/" + recipe + ".json" }

// FindingKey is what StartBuilds remembers of a vulnerability of an image.
func FindingKey(image, vulnerability string) string {
	return "triggers/findings/" + image + "/" + vulnerability + ".json"
}

// AnnouncementKey is what ReleaseAnnounced remembers of a message.
func AnnouncementKey(id string) string { return "triggers/announcements/" + id }

// StartedKey is what StartBuilds remembers of an execution that it started.
func StartedKey(execution string) string { return "triggers/started/" + execution + ".json" }
