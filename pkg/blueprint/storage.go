package blueprint

import (
	"math"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// StorageSettings say how long the bucket keeps what.
type StorageSettings struct {
	WorkDays      int // what is of no use once the executions and events that it serves are over
	EvidenceYears int // reports, results, consoles and journals of executions
}

// DefaultStorage is that of a deployment that names no other.
func DefaultStorage() StorageSettings { return StorageSettings{WorkDays: 90, EvidenceYears: 7} }

// MultipartDays is how long the bucket keeps the parts of an upload that was not
// completed.
const MultipartDays = 7

// Lifetime says how long the bucket keeps the objects below a prefix.
type Lifetime struct {
	Name   string // of the lifecycle rule
	Prefix string
	Days   int // since an object was last written; 0: for ever, and the bucket has no rule
	// NoncurrentDays is how long what was overwritten or deleted is kept; 0: as long as
	// elsewhere in the bucket.
	NoncurrentDays int
	Why            string // it is enough, or the objects are kept for ever
}

// Lifetimes are those of every prefix that the factory writes below.
func Lifetimes(s StorageSettings) []Lifetime {
	const year = 365.25
	work := func(prefix, why string) Lifetime {
		return Lifetime{Name: "work in " + prefix, Prefix: prefix, Days: s.WorkDays, Why: why}
	}
	keep := func(prefix, why string) Lifetime {
		return Lifetime{Name: "state in " + prefix, Prefix: prefix, Why: why}
	}
	return []Lifetime{
		{Name: "evidence", Prefix: contract.ExecutionsPrefix, Days: int(math.Ceil(float64(s.EvidenceYears) * year)), Why: "auditors ask for it for years"},
		work(contract.PlansPrefix, "every execution writes its plan again"),
		work(contract.BundlesPrefix, "every execution writes its bundle again"),
		work(contract.ChecksPrefix, "every execution writes its checks again"),
		work(contract.FeedsPrefix, "the gate refuses feeds of vulnerabilities that are older than 90 days"),
		work(contract.AnnouncementsPrefix, "SNS delivers a message again within hours"),
		work(contract.StartedPrefix, "an execution ends within days, and its end is counted once"),
		work(contract.FindingsPrefix, "a vulnerability that is reported again counts as new after at most 30 days, the longest that findingHours can be"),
		{Name: "waits", Prefix: contract.WaitsPrefix, Days: 1, NoncurrentDays: 1, Why: "a token is deleted when it is used, and of no use when its execution has ended"},
		{Name: "approvals", Prefix: contract.ApprovalsPrefix, Days: int(math.Ceil(float64(s.EvidenceYears) * year)), Why: "who approved a release, which auditors ask for as for its evidence"},
		{Name: "requesters", Prefix: contract.RequestersPrefix, Days: int(math.Ceil(float64(s.EvidenceYears) * year)), Why: "who asked for a release; whoever did must not approve it"},
		work(contract.ApprovingPrefix, "an execution waits at most 30 days for people"),
		keep(contract.StreamsPrefix, "recipes pin what operators put there by its digest"),
		keep(contract.RecordsPrefix, "failures in a row, pauses and what waits to be built; one small object a recipe"),
		keep(contract.PublishingPrefix, "which execution moves a recipe's pointers; one small object a recipe"),
		{Name: "index of images", Prefix: contract.SitePrefix, Days: int(math.Ceil(float64(s.EvidenceYears) * year)), Why: "each execution of a recipe writes its summary again, and the reports that it links to are kept as long"},
		keep(contract.SecurityHubPrefix, "what is needed to archive findings that are no longer true; one object a recipe"),
		keep(contract.SourcesKey, "what the sources were last; without it the next look would take every source for new"),
	}
}
