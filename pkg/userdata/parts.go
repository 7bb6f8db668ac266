package userdata

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/contract"
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
		"@@UPLOAD_BYTES@@", strconv.Itoa(contract.BuilderUploadBytes),
	).Replace(withoutComments(bootstrapScript))
}

// withoutComments leaves out lines that are only a comment, but for the first: user
// data is small.
func withoutComments(script string) string {
	first, body, _ := strings.Cut(script, "\n")
	var b strings.Builder
	b.WriteString(first + "\n")
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(strings.TrimLeft(line, "\t "), "#") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// firstPart is a script that runs before the bootstrap, with its environment in
// it. Lines that are only a comment are left out: user data is small.
func firstPart(script Script) (string, error) {
	interpreter, body, ok := strings.Cut(script.Text, "\n")
	if !ok || interpreter != "#!/bin/bash" {
		return "", fmt.Errorf("the script of component %s does not begin with #!/bin/bash", script.Component)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n# Component %s: its bootstrap.sh without comments.\nexport AMI_FACTORY_FIRST_PART=1\n", interpreter, script.Component)
	for _, name := range slices.Sorted(maps.Keys(script.Environment)) {
		value := script.Environment[name]
		if strings.ContainsAny(value, "\n\r\x00") {
			return "", fmt.Errorf("the value of %s for component %s is more than one line", name, script.Component)
		}
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	_, rest, _ := strings.Cut(withoutComments(interpreter+"\n"+body), "\n")
	b.WriteString(rest)
	return b.String(), nil
}
