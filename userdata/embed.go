// Package userdata holds what goes into an image, as files: recipes,
// components with their checks, the script that runs components in a builder,
// the seal, and the script that runs checks in a verifier. A deployed factory
// carries exactly these bytes.
package userdata

import "embed"

// FS is this directory: baseline.yaml, recipes/, waivers/, oss/, components/, lib/, runner/,
// seal/ and verify/.
// File modes are lost in it; whoever packs scripts runs them by an interpreter.
//
//go:embed baseline.yaml recipes waivers oss components lib runner seal verify
var FS embed.FS
