// Package recipe is the schema of userdata/recipes/*.yaml: one golden image
// each. Parsing is strict and collects every problem with its position.
package recipe

// Recipe describes one golden image: what it is built from, what goes in, what
// it must prove, and where it goes.
type Recipe struct {
	Name         string       `yaml:"name" json:"name"`                 // equals the file's base name
	Description  string       `yaml:"description" json:"description"`   // becomes the AMI's description
	Family       string       `yaml:"family" json:"family"`             // debian-12 | debian-13 | ubuntu-22.04 | ubuntu-24.04 | al2023
	Architecture string       `yaml:"architecture" json:"architecture"` // x86_64 | arm64
	Source       Source       `yaml:"source" json:"source"`
	Builder      Builder      `yaml:"builder" json:"builder"`
	Components   []Component  `yaml:"components" json:"components"`
	Checks       Checks       `yaml:"checks" json:"checks"`
	Gate         Gate         `yaml:"gate" json:"gate"`
	Distribution Distribution `yaml:"distribution" json:"distribution"`
	Pointers     Pointers     `yaml:"pointers" json:"pointers"`
	Retention    Retention    `yaml:"retention" json:"retention"`
}

// Source names the base AMI: an SSM public parameter, or a newest-match search.
// Either way the image must belong to Owner.
type Source struct {
	Parameter string   `yaml:"parameter,omitempty" json:"parameter,omitempty"` // SSM parameter name whose value is an AMI id
	Owner     string   `yaml:"owner" json:"owner"`                             // twelve digits, always required
	Filters   []Filter `yaml:"filters,omitempty" json:"filters,omitempty"`     // DescribeImages filters; instead of Parameter
}

// Filter is a DescribeImages filter.
type Filter struct {
	Name   string   `yaml:"name" json:"name"`
	Values []string `yaml:"values" json:"values"`
}

// Builder says how the builder and verifier instances run.
type Builder struct {
	InstanceTypes []string   `yaml:"instanceTypes" json:"instanceTypes"` // tried in order
	SubnetIDs     []string   `yaml:"subnetIds,omitempty" json:"subnetIds,omitempty"`
	RootVolume    RootVolume `yaml:"rootVolume" json:"rootVolume"`
	Timeout       Duration   `yaml:"timeout" json:"timeout"` // launch to provisioned; default 45m
}

// RootVolume of the builder, and so of the image. Always gp3 and encrypted.
type RootVolume struct {
	SizeGiB int32  `yaml:"sizeGiB" json:"sizeGiB"`
	KMSKey  string `yaml:"kmsKey,omitempty" json:"kmsKey,omitempty"` // key id, ARN or alias in the home region; default the AWS-managed key
}

// Component puts userdata/components/<name> into the image.
type Component struct {
	Name       string            `yaml:"name" json:"name"`
	Parameters map[string]string `yaml:"parameters,omitempty" json:"parameters,omitempty"` // scalars, checked against component.yaml
}

// Checks adds to the checks that the components bring.
type Checks struct {
	Timeout Duration `yaml:"timeout" json:"timeout"` // default 15m
	Skip    []Waiver `yaml:"waivers,omitempty" json:"waivers,omitempty"`
}

// Waiver lets one control fail, for a reason and a time.
type Waiver struct {
	Control  string `yaml:"control" json:"control"`
	Reason   string `yaml:"reason" json:"reason"`
	Approver string `yaml:"approver" json:"approver"`
	Expires  string `yaml:"expires" json:"expires"` // YYYY-MM-DD
}

// Gate decides which failures reject an image.
type Gate struct {
	Severity string `yaml:"severity" json:"severity"` // low | medium | high | critical; default medium
}

// Distribution lists where the image goes and who may launch it.
type Distribution struct {
	Regions       []Region `yaml:"regions" json:"regions"` // the home region is always the first
	Accounts      []string `yaml:"accounts,omitempty" json:"accounts,omitempty"`
	Organizations []string `yaml:"organizations,omitempty" json:"organizations,omitempty"` // organisation or OU ARNs
}

// Region is one target region with the key its copy is encrypted under.
type Region struct {
	Name   string `yaml:"name" json:"name"`
	KMSKey string `yaml:"kmsKey,omitempty" json:"kmsKey,omitempty"`
}

// Pointers are what consumers follow to the newest image.
type Pointers struct {
	Parameters []string `yaml:"parameters" json:"parameters"` // SSM parameter names, written in every region
}

// Retention of published images.
type Retention struct {
	Keep           int      `yaml:"keep" json:"keep"`                                         // newest images kept, default 3
	DeprecateAfter Duration `yaml:"deprecateAfter,omitempty" json:"deprecateAfter,omitempty"` // default 90 days
}
