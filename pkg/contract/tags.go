package contract

// TagPrefix begins the keys of the factory's tags.
const TagPrefix = "ami-factory:"

// Tag keys of everything that the factory makes.
const (
	TagRecipe      = TagPrefix + "recipe"
	TagExecution   = TagPrefix + "execution"
	TagStage       = TagPrefix + "stage"
	TagFingerprint = TagPrefix + "fingerprint"
	TagExpires     = TagPrefix + "expires"   // RFC 3339; a janitor may remove the resource afterwards
	TagPublished   = TagPrefix + "published" // RFC 3339; on images that pointers were moved to
	TagRelease     = TagPrefix + "release"   // id of the release that a published image had last
	TagPlan        = TagPrefix + "plan"      // SHA-256 of the plan of that release
	// What a published image was built from, and when EC2 says that was made.
	TagSource     = TagPrefix + "source"
	TagSourceMade = TagPrefix + "source-made"
)

// LabelTags are the keys of the tags that everything bears which the factory makes,
// and no others: all stages that make or label resources may set these only.
func LabelTags() []string {
	return []string{"Name", TagRecipe, TagExecution, TagStage, TagFingerprint, TagExpires}
}

// PublishedTags are the keys of the tags of a published image and its snapshots that
// Publish sets, and no other stage may.
func PublishedTags() []string {
	return []string{TagExpires, TagPublished, TagRelease, TagPlan, TagSource, TagSourceMade}
}

// PointerPrefix begins the names of all pointers, behind a slash: the functions'
// roles may write no parameters elsewhere.
const PointerPrefix = "ami-factory"
