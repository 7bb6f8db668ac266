package contract

// What an execution does once it has resolved its recipe, unless everything is up
// to date.
const (
	ActionBake    = "bake"    // makes an image and releases it
	ActionRelease = "release" // releases the published image again
)

// When a bake starts the copies to other regions.
const (
	CopiesBeforeGate = "beforeGate" // while the image is verified; a rejection removes them
	CopiesAfterGate  = "afterGate"  // when the gate has let the image pass
)
