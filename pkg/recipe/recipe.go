// Package recipe is the schema of userdata/recipes/*.yaml: one golden image
// each. Parsing is strict and collects every problem with its position.
package recipe

import "github.com/ami-factory/ami-factory/pkg/strictyaml"

// Recipe describes one golden image: what it is built from, what goes in, what
// it must prove, and where it goes.
type Recipe struct {
	// Name of the recipe; equals the base name of its file.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9]*([-.][a-z0-9]+)*$,minLength=3,maxLength=40" hint:"lower-case letters, digits, and single hyphens and dots between them, beginning with a letter"`
	// Description becomes the AMI's description, for which EC2 takes no characters beyond ASCII.
	Description string `yaml:"description" json:"description" jsonschema:"required,pattern=^[ -~]+$,minLength=1,maxLength=255" hint:"printable ASCII on one line; EC2 takes no other characters in an image's description"`
	// Family of operating systems that the base image belongs to; components say which they support.
	Family string `yaml:"family" json:"family" jsonschema:"required,enum=debian-12,enum=debian-13,enum=ubuntu-22.04,enum=ubuntu-24.04,enum=al2023"`
	// Architecture of the image, as EC2 names it.
	Architecture string `yaml:"architecture" json:"architecture" jsonschema:"required,enum=x86_64,enum=arm64"`
	// RehearsalOnly says that the recipe is never built on AWS: on EC2 it is refused, and it needs no component ssm-agent.
	RehearsalOnly bool `yaml:"rehearsalOnly,omitempty" json:"rehearsalOnly,omitempty"`
	// Source names the base AMI.
	Source Source `yaml:"source" json:"source" jsonschema:"required"`
	// Builder says how the builder and verifier instances run.
	Builder Builder `yaml:"builder" json:"builder" jsonschema:"required"`
	// Components that go into the image; each brings its own checks.
	Components []Component `yaml:"components" json:"components" jsonschema:"required,minItems=1"`
	// Checks adds to the checks that the components bring.
	Checks Checks `yaml:"checks" json:"checks"`
	// Gate decides which failed controls reject the image.
	Gate Gate `yaml:"gate" json:"gate"`
	// Distribution lists where the image goes and who may launch it.
	Distribution Distribution `yaml:"distribution" json:"distribution" jsonschema:"required"`
	// Pointers are what consumers follow to the newest image.
	Pointers Pointers `yaml:"pointers" json:"pointers" jsonschema:"required"`
	// Retention of published images.
	Retention Retention `yaml:"retention" json:"retention"`

	// doc knows where everything stands in the file; nil for a recipe that was
	// not parsed from one.
	doc *strictyaml.Document
}

// Source names the base AMI: an SSM public parameter, or a newest-match search.
// Either way the image must belong to Owner.
type Source struct {
	// Parameter is the name of an SSM parameter whose value is an AMI id; instead of filters.
	Parameter string `yaml:"parameter,omitempty" json:"parameter,omitempty" jsonschema:"pattern=^/[a-zA-Z0-9_./-]+$,maxLength=1011" hint:"an SSM parameter's path, such as /aws/service/debian/release/12/latest/amd64"`
	// Owner is the account id that the image must belong to; without it anyone's image with a fitting name could win.
	Owner string `yaml:"owner" json:"owner" jsonschema:"required,pattern=^[0-9]{12}$" hint:"an AWS account id, twelve digits in quotes; Debian's is \"136693071363\", Amazon's \"137112412989\", Canonical's \"099720109477\""`
	// Filters of DescribeImages; the newest match is taken; instead of parameter.
	Filters []Filter `yaml:"filters,omitempty" json:"filters,omitempty" jsonschema:"minItems=1"`
}

// Filter is a DescribeImages filter.
type Filter struct {
	// Name of the filter.
	Name string `yaml:"name" json:"name" jsonschema:"required,minLength=1"`
	// Values, of which one must match.
	Values []string `yaml:"values" json:"values" jsonschema:"required,minItems=1,maxItems=200"`
}

// Builder says how the builder and verifier instances run.
type Builder struct {
	// InstanceTypes are tried in order until one has capacity.
	InstanceTypes []string `yaml:"instanceTypes" json:"instanceTypes" jsonschema:"required,minItems=1"`
	// SubnetIDs to launch in, tried in order; default: those the factory was deployed with.
	SubnetIDs []string `yaml:"subnetIds,omitempty" json:"subnetIds,omitempty"`
	// RootVolume of the builder, and so of the image.
	RootVolume RootVolume `yaml:"rootVolume" json:"rootVolume" jsonschema:"required"`
	// CloudConfig is given to the builder's cloud-init on top of the factory's own, such as a proxy for packages; begins with #cloud-config. With everything else it must fit into 16 KiB of user data.
	CloudConfig string `yaml:"cloudConfig,omitempty" json:"cloudConfig,omitempty" jsonschema:"minLength=1"`
	// Timeout from launch to provisioned; 5m to 6h, default 45m.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout" jsonschema:"default=45m"`
}

// RootVolume of the builder, and so of the image. Always gp3 and encrypted.
type RootVolume struct {
	// SizeGiB of the volume.
	SizeGiB int32 `yaml:"sizeGiB" json:"sizeGiB" jsonschema:"required,minimum=1,maximum=16384"`
	// KMSKey is a key id, ARN or alias in the home region; default: the AWS-managed key.
	KMSKey string `yaml:"kmsKey,omitempty" json:"kmsKey,omitempty" jsonschema:"minLength=1"`
}

// Component puts userdata/components/<name> into the image.
type Component struct {
	// Name of the component's directory.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9]*(-[a-z0-9]+)*$" hint:"the name of a directory in userdata/components"`
	// Parameters as the component's component.yaml describes them.
	Parameters map[string]string `yaml:"parameters,omitempty" json:"parameters,omitempty"`
}

// Checks adds to the checks that the components bring.
type Checks struct {
	// Timeout of the checks in the verifier; 1m to 2h, default 15m.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout" jsonschema:"default=15m"`
	// Waivers are the controls that may fail, each for a reason and a time.
	Waivers []Waiver `yaml:"waivers,omitempty" json:"waivers,omitempty"`
}

// Waiver lets one control fail, for a reason and a time.
type Waiver struct {
	// Control that may fail.
	Control string `yaml:"control" json:"control" jsonschema:"required,pattern=^[A-Z][A-Z0-9]*-[0-9]{2}$" hint:"a control's id, such as SYS-02"`
	// Reason why it may.
	Reason string `yaml:"reason" json:"reason" jsonschema:"required,minLength=10,maxLength=1000"`
	// Approver who answers for it.
	Approver string `yaml:"approver" json:"approver" jsonschema:"required,minLength=1"`
	// Expires is the last day, in UTC, on which the waiver holds: YYYY-MM-DD.
	Expires string `yaml:"expires" json:"expires" jsonschema:"required,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$" hint:"a date, YYYY-MM-DD"`
}

// Gate decides which failures reject an image.
type Gate struct {
	// Severity from which on a failed control rejects the image; default medium.
	Severity string `yaml:"severity,omitempty" json:"severity" jsonschema:"enum=low,enum=medium,enum=high,enum=critical,default=medium"`
}

// Distribution lists where the image goes and who may launch it.
type Distribution struct {
	// Regions the image is published in; the first is the home region, where it is built.
	Regions []Region `yaml:"regions" json:"regions" jsonschema:"required,minItems=1"`
	// Accounts that may launch the image.
	Accounts []string `yaml:"accounts,omitempty" json:"accounts,omitempty" jsonschema:"pattern=^[0-9]{12}$" hint:"an AWS account id, twelve digits in quotes"`
	// Organizations are ARNs of AWS organisations or organisational units whose accounts may launch the image.
	Organizations []string `yaml:"organizations,omitempty" json:"organizations,omitempty"`
}

// Region is one target region with the key its copy is encrypted under.
type Region struct {
	// Name of the region.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z]+(-[a-z]+)+-[0-9]+$" hint:"a region's name, such as eu-west-1"`
	// KMSKey is a key id, ARN or alias in that region; default: the AWS-managed key.
	KMSKey string `yaml:"kmsKey,omitempty" json:"kmsKey,omitempty" jsonschema:"minLength=1"`
}

// Pointers are what consumers follow to the newest image.
type Pointers struct {
	// Parameters are names of SSM parameters, written in every region.
	Parameters []string `yaml:"parameters" json:"parameters" jsonschema:"required,minItems=1"`
	// Accounts that get the same parameters, written with the role ami-factory-target of each; the image is shared with them.
	Accounts []string `yaml:"accounts,omitempty" json:"accounts,omitempty" jsonschema:"pattern=^[0-9]{12}$" hint:"an AWS account id, twelve digits in quotes"`
}

// Retention of published images.
type Retention struct {
	// Keep so many of the newest images; default 3.
	Keep int `yaml:"keep,omitempty" json:"keep" jsonschema:"minimum=1,maximum=1000,default=3"`
	// DeprecateAfter publication, an image is marked deprecated; 1d to 3650d, default 90d.
	DeprecateAfter Duration `yaml:"deprecateAfter,omitempty" json:"deprecateAfter,omitempty" jsonschema:"default=90d"`
	// RemoveAfter so long without a known use, an image that newer ones supersede may be removed; until then it is deprecated; 1d to 3650d, default 7d.
	RemoveAfter Duration `yaml:"removeAfter,omitempty" json:"removeAfter,omitempty" jsonschema:"default=7d"`
}
