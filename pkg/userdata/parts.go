package userdata

import (
	_ "embed"
	"strconv"
	"strings"
)

//go:embed bootstrap.sh
var bootstrapScript string

// cloudConfig keeps cloud-init from doing what components or the seal decide.
func cloudConfig() string {
	return `#cloud-config
# C.UTF-8 is in every image; any other locale would have to be generated.
locale: C.UTF-8
# Components install packages themselves, so that a failure has a name.
package_update: false
package_upgrade: false
package_reboot_if_required: false
# Nobody logs in to a builder: it is launched without a key pair.
ssh_pwauth: false
disable_root: true
no_ssh_fingerprints: true
ssh:
  emit_keys_to_console: false
`
}

// bootstrap is the script with the values of one build in it.
func bootstrap(spec Spec) string {
	return strings.NewReplacer(
		"@@RECIPE@@", spec.Recipe,
		"@@FINGERPRINT@@", spec.Release.Fingerprint,
		"@@SOURCE_AMI@@", spec.Release.SourceImage,
		"@@VERSION@@", spec.Release.FactoryVersion,
		"@@IMAGE_NAME@@", spec.Release.ImageName,
		"@@BAKED@@", spec.Release.Baked,
		"@@BUNDLE_SHA256@@", spec.BundleSHA256,
		"@@BUNDLE_SIZE@@", strconv.Itoa(spec.BundleSize),
	).Replace(bootstrapScript)
}
