package contract

// What an execution does once it has resolved its recipe, unless everything is up
// to date.
const (
	ActionBake    = "bake"    // makes an image and releases it
	ActionRelease = "release" // releases the published image again
)
