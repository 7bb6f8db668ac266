// Package recipe is the schema of userdata/recipes/*.yaml: one golden image
// each. Parsing is strict and collects every problem with its position.
//
// The comments and tags of the types below are the only description of the fields:
// the JSON Schema is made of them, and of the schema the recipe reference and what
// "ami-factory recipes fields" prints. A comment begins with the field's name and "is"
// or "are". The tag jsonschema holds type and rules; hint says in words what is allowed,
// where the rules do not; example is a value in YAML; without says what holds if
// the field is left out and has no default.
package recipe

import (
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// Recipe describes one golden image: what it is built from, what goes in, what
// it must prove, and where it goes.
type Recipe struct {
	// Name is the name of the recipe: the name of its file without .yaml.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9]*([-.][a-z0-9]+)*$,minLength=3,maxLength=40" hint:"3 to 40 lower-case letters, digits, and single hyphens and dots between them, beginning with a letter" example:"debian-12-docker"`
	// Description is the description of the image in EC2.
	Description string `yaml:"description" json:"description" jsonschema:"required,pattern=^[ -~]+$,minLength=1,maxLength=255" hint:"printable ASCII on one line, up to 255 characters; EC2 takes no other characters in an image's description" example:"Debian 12 with Docker, hardened and checked"`
	// Family is the family of operating systems of the base image. Components state which families they support.
	Family string `yaml:"family" json:"family" jsonschema:"required,enum=debian-12,enum=debian-13,enum=ubuntu-22.04,enum=ubuntu-24.04,enum=al2023" example:"debian-12"`
	// Architecture is the architecture of the image, as EC2 names it.
	Architecture string `yaml:"architecture" json:"architecture" jsonschema:"required,enum=x86_64,enum=arm64" example:"x86_64"`
	// RehearsalOnly is true for a recipe that is never built on AWS. It needs no component ssm-agent, and AWS refuses it.
	RehearsalOnly bool `yaml:"rehearsalOnly,omitempty" json:"rehearsalOnly,omitempty" jsonschema:"default=false" example:"false"`
	// Source is the base image: an SSM parameter or a search, either parameter or filters.
	Source Source `yaml:"source" json:"source" jsonschema:"required"`
	// Builder is how the builder and verifier instances run.
	Builder Builder `yaml:"builder" json:"builder" jsonschema:"required"`
	// Components are what goes into the image. Each brings its own checks. They are installed in the order that their component.yaml states.
	Components []Component `yaml:"components" json:"components" jsonschema:"required,minItems=1"`
	// Checks are settings of the checks that the components bring.
	Checks Checks `yaml:"checks" json:"checks" without:"the defaults of its fields"`
	// Gate is the rule by which failed controls reject the image.
	Gate Gate `yaml:"gate" json:"gate" without:"the defaults of its fields"`
	// Approval is whether people must approve a release before it is shared.
	Approval Approval `yaml:"approval" json:"approval" without:"the defaults of its fields"`
	// Distribution is where the image goes and who may launch it.
	Distribution Distribution `yaml:"distribution" json:"distribution" jsonschema:"required"`
	// Pointers are the SSM parameters by which consumers find the newest image.
	Pointers Pointers `yaml:"pointers" json:"pointers" jsonschema:"required"`
	// Retention is how long published images are kept.
	Retention Retention `yaml:"retention" json:"retention" without:"the defaults of its fields"`

	// doc has the positions in the file; nil for a recipe that was not parsed from
	// a file.
	doc *strictyaml.Document
}

// Source is the base image: an SSM parameter that names it, or a search whose newest
// match is taken. In both cases the image must belong to owner.
type Source struct {
	// Parameter is the name of an SSM parameter whose value is the id of the base image. Give either parameter or filters.
	Parameter string `yaml:"parameter,omitempty" json:"parameter,omitempty" jsonschema:"oneof_required=parameter,pattern=^/[a-zA-Z0-9_./-]+$,maxLength=1011" hint:"an SSM parameter's path, such as /aws/service/debian/release/12/latest/amd64" example:"/aws/service/debian/release/12/latest/amd64" without:"filters are required"`
	// Owner is the id of the account that must own the base image. Without it an image of the same name from anybody could be taken.
	Owner string `yaml:"owner" json:"owner" jsonschema:"required,pattern=^[0-9]{12}$" hint:"an AWS account id, twelve digits in quotes; Debian's is \"136693071363\", Amazon's \"137112412989\", Canonical's \"099720109477\"" example:"'136693071363'"`
	// Filters are filters of EC2's DescribeImages. The newest image that matches all of them is taken. Give either parameter or filters.
	Filters []Filter `yaml:"filters,omitempty" json:"filters,omitempty" jsonschema:"oneof_required=filters,minItems=1" without:"parameter is required"`
}

// Filter is one filter of EC2's DescribeImages.
type Filter struct {
	// Name is the name of the filter.
	Name string `yaml:"name" json:"name" jsonschema:"required,minLength=1" hint:"a filter of DescribeImages other than owner-id and owner-alias; each once" example:"name"`
	// Values are the values, one of which must match. They may contain * and ?.
	Values []string `yaml:"values" json:"values" jsonschema:"required,minItems=1,maxItems=200" hint:"1 to 200 values" example:"[debian-12-amd64-*]"`
}

// Builder is how the builder and verifier instances run.
type Builder struct {
	// InstanceTypes are the EC2 instance types to try, in this order, until one has capacity.
	InstanceTypes []string `yaml:"instanceTypes" json:"instanceTypes" jsonschema:"required,minItems=1" hint:"at least one EC2 instance type of the recipe's architecture; each once" example:"[t3.medium, m6i.large]"`
	// SubnetIDs are the subnets to launch in, tried in this order.
	SubnetIDs []string `yaml:"subnetIds,omitempty" json:"subnetIds,omitempty" hint:"subnet- and 17 hexadecimal digits; each once" example:"[subnet-0123456789abcdef0]" without:"the subnets of the deployment"`
	// RootVolume is the root volume of the builder, and so of the image. It is always of type gp3 and encrypted.
	RootVolume RootVolume `yaml:"rootVolume" json:"rootVolume" jsonschema:"required"`
	// CloudConfig is cloud-init configuration for the builder, in addition to the factory's own, such as a proxy for packages. Together they must fit into 16 KiB of user data.
	CloudConfig string `yaml:"cloudConfig,omitempty" json:"cloudConfig,omitempty" jsonschema:"minLength=1" hint:"a YAML mapping in ASCII whose first line is #cloud-config" example:"\"#cloud-config\\napt: {http_proxy: 'http://proxy.internal:3128'}\\n\"" without:"nothing is added"`
	// Timeout is the time limit from the launch of the builder until its components are installed.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout" jsonschema:"default=45m" hint:"5m to 6h" example:"1h30m"`
}

// RootVolume is the root volume of the builder, and so of the image. It is always of
// type gp3 and encrypted.
type RootVolume struct {
	// SizeGiB is the size of the volume in GiB.
	SizeGiB int32 `yaml:"sizeGiB" json:"sizeGiB" jsonschema:"required,minimum=1,maximum=16384" example:"8"`
	// KMSKey is the KMS key of the home region that encrypts the volume. An image that is shared needs a customer-managed key.
	KMSKey string `yaml:"kmsKey,omitempty" json:"kmsKey,omitempty" jsonschema:"minLength=1" hint:"a key id, a key or alias ARN, or alias/<name>" example:"alias/ami-factory" without:"the AWS-managed key alias/aws/ebs"`
}

// Component is one component that goes into the image: userdata/components/<name>.
type Component struct {
	// Name is the name of the component's folder.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9]*(-[a-z0-9]+)*$" hint:"the name of a directory in userdata/components" example:"docker"`
	// Parameters are the component's parameters. Its page lists them; "ami-factory components show" prints them.
	Parameters map[string]string `yaml:"parameters,omitempty" json:"parameters,omitempty" hint:"the parameters of the component's component.yaml" example:"{logMaxSize: 20m}" without:"the deployment's values, otherwise the component's defaults"`
}

// Checks are settings of the checks that the components bring.
type Checks struct {
	// Timeout is the time limit of the checks in the verifier.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout" jsonschema:"default=15m" hint:"1m to 2h" example:"20m"`
	// Waivers are the failed controls and the vulnerabilities that are accepted, each for a reason and a time.
	Waivers []Waiver `yaml:"waivers,omitempty" json:"waivers,omitempty" without:"none"`
	// Engines are the engines that check the image beside goss, which checks the controls of the components.
	Engines Engines `yaml:"engines,omitempty" json:"engines,omitzero" without:"goss alone"`
}

// Engines are the engines that check the image beside goss.
type Engines struct {
	// Script is the engine of the recipe's own checks: programs that print JSON lines or TAP.
	Script *Script `yaml:"script,omitempty" json:"script,omitempty" without:"no checks of its own"`
	// OpenSCAP is the engine of a SCAP data stream.
	OpenSCAP *OpenSCAP `yaml:"openscap,omitempty" json:"openscap,omitempty" without:"no data stream"`
	// Bottlerocket is the engine of the reports of Bottlerocket's apiclient.
	Bottlerocket *Bottlerocket `yaml:"bottlerocket,omitempty" json:"bottlerocket,omitempty" without:"no report"`
}

// Script is the engine of the recipe's own checks.
type Script struct {
	// Files are the programs, each with its interpreter in its first line. They run as root in the verifier, one after the other.
	Files []string `yaml:"files" json:"files" jsonschema:"required,minItems=1,maxItems=16,pattern=^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*$" hint:"1 to 16 files beside the recipe, of lower-case letters, digits and . _ - /; each at most 256 KiB" example:"[checks/web.sh]"`
	// Controls are the controls that the programs prove. Each must be reported.
	Controls []OwnControl `yaml:"controls" json:"controls" jsonschema:"required,minItems=1,maxItems=500"`
}

// OwnControl is a control that the recipe's own checks prove.
type OwnControl struct {
	// ID is the id of the control, as the programs print it.
	ID string `yaml:"id" json:"id" jsonschema:"required,pattern=^[A-Z][A-Z0-9]*-[0-9]{2}$" hint:"capitals, a hyphen and two digits, such as WEB-01; one that no component has" example:"WEB-01"`
	// Title is what the control demands, in a sentence.
	Title string `yaml:"title" json:"title" jsonschema:"required,minLength=1,maxLength=200" example:"The web server answers on its health path"`
	// Severity is the severity of its failure.
	Severity string `yaml:"severity" json:"severity" jsonschema:"required,enum=low,enum=medium,enum=high,enum=critical" example:"high"`
}

// OpenSCAP is the engine of a SCAP data stream.
type OpenSCAP struct {
	// Stream is the file of the data stream: in the folder streams of the user data, otherwise below streams/ in the factory's bucket.
	Stream string `yaml:"stream" json:"stream" jsonschema:"required,pattern=^[a-zA-Z0-9][a-zA-Z0-9._-]*$,maxLength=200" hint:"the name of a file, such as ssg-debian12-ds.xml" example:"ssg-debian12-ds.xml"`
	// SHA256 is the digest of the data stream.
	SHA256 string `yaml:"sha256" json:"sha256" jsonschema:"required,pattern=^[0-9a-f]{64}$" hint:"64 lower-case hexadecimal digits" example:"3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea"`
	// Profile is the id of the profile.
	Profile string `yaml:"profile" json:"profile" jsonschema:"required,pattern=^xccdf_[A-Za-z0-9._-]+_profile_[A-Za-z0-9._-]+$,maxLength=250" hint:"the full id of a profile of the data stream" example:"xccdf_org.ssgproject.content_profile_cis_level1_server"`
	// MinimumRules is how many rules must pass or fail at least. Where nothing is evaluated, nothing is proved.
	MinimumRules int `yaml:"minimumRules" json:"minimumRules" jsonschema:"required,minimum=1,maximum=5000" example:"200"`
	// NotApplicable are the rules that need not apply to the image. Another one that does not apply has failed.
	NotApplicable []string `yaml:"notApplicable,omitempty" json:"notApplicable,omitempty" jsonschema:"pattern=^xccdf_[A-Za-z0-9._-]+_rule_[A-Za-z0-9._-]+$" hint:"full ids of rules, without *; at most as many as minimumRules" example:"[xccdf_org.ssgproject.content_rule_partition_for_tmp]" without:"every selected rule must apply"`
	// Severity is the lowest severity of a failed rule that rejects the image, if it is above that of the gate.
	Severity string `yaml:"severity,omitempty" json:"severity,omitempty" jsonschema:"enum=low,enum=medium,enum=high" example:"high" without:"that of the gate"`
	// Program is the file with OpenSCAP for the verifier, a gzipped tar with a program oscap, at the same places as stream.
	Program string `yaml:"program,omitempty" json:"program,omitempty" jsonschema:"pattern=^[a-zA-Z0-9][a-zA-Z0-9._-]*$,maxLength=200" hint:"the name of a file, such as openscap-1.3.7-amd64.tar.gz" example:"openscap-1.3.7-amd64.tar.gz" without:"the oscap that the image has"`
	// ProgramSHA256 is the digest of the file with OpenSCAP.
	ProgramSHA256 string `yaml:"programSHA256,omitempty" json:"programSHA256,omitempty" jsonschema:"pattern=^[0-9a-f]{64}$" hint:"64 lower-case hexadecimal digits" example:"3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea" without:"required with program"`
}

// Bottlerocket is the engine of the reports of Bottlerocket's apiclient.
type Bottlerocket struct {
	// Report is the name of the report.
	Report string `yaml:"report" json:"report" jsonschema:"required,enum=cis,enum=cis-k8s,enum=fips" example:"cis"`
	// Level is the level of a CIS report.
	Level int `yaml:"level,omitempty" json:"level,omitempty" jsonschema:"minimum=1,maximum=2" example:"2" without:"1"`
	// MinimumChecks is how many checks must pass or fail at least.
	MinimumChecks int `yaml:"minimumChecks" json:"minimumChecks" jsonschema:"required,minimum=1,maximum=500" example:"10"`
}

// Waiver accepts one failed control, or one vulnerability in one package, for a
// reason and a time. Files in userdata/waivers hold waivers that recipes share.
type Waiver struct {
	// Control is the id of the control that may fail, or of a rule of the data stream. The baseline states which controls nobody may waive. Give either control, or vulnerability and package.
	Control string `yaml:"control,omitempty" json:"control,omitempty" jsonschema:"oneof_required=control,pattern=^([A-Z][A-Z0-9]*-[0-9]{2}|xccdf_[A-Za-z0-9._-]+_rule_[A-Za-z0-9._-]+)$" hint:"a control's id, such as SYS-02, or the id of a rule of the recipe's data stream" example:"SYS-02" without:"vulnerability and package are required"`
	// Vulnerability is the id of the vulnerability that is accepted in the package.
	Vulnerability string `yaml:"vulnerability,omitempty" json:"vulnerability,omitempty" jsonschema:"oneof_required=vulnerability,pattern=^(CVE-[0-9]{4}-[0-9]{4\\,19}|GHSA(-[0-9a-z]{4}){3}|PENDING-SECURITY-UPDATE(S-UNKNOWN)?|(DSA|DLA|TEMP|ALAS|ALAS2023|USN)-[0-9A-Za-z-]*[0-9A-Za-z])$" hint:"an id such as CVE-2026-12345, GHSA-…, DSA-…, ALAS2023-…" example:"CVE-2026-12345" without:"control is required"`
	// Package is the name of the source or binary package that has the vulnerability.
	Package string `yaml:"package,omitempty" json:"package,omitempty" jsonschema:"oneof_required=vulnerability,pattern=^[A-Za-z0-9][A-Za-z0-9+._-]*$,maxLength=200" hint:"the name of one package" example:"openssl" without:"control is required"`
	// FalsePositive is the statement that the image is not affected by the vulnerability, and why.
	FalsePositive waiver.FalsePositive `yaml:"falsePositive,omitempty" json:"falsePositive,omitzero" without:"the vulnerability is accepted"`
	// Reason is why it is accepted, or how it was found that the image is not affected. The report shows it.
	Reason string `yaml:"reason" json:"reason" jsonschema:"required,minLength=10,maxLength=1000" example:"the application needs it until the migration; SEC-123"`
	// Author is who asks for the waiver.
	Author string `yaml:"author" json:"author" jsonschema:"required,minLength=1" hint:"a text, such as a mail address" example:"web-team@example.com"`
	// Approver is who answers for the waiver: somebody other than the author.
	Approver string `yaml:"approver" json:"approver" jsonschema:"required,minLength=1" hint:"a text, such as a mail address; not the author's" example:"security@example.com"`
	// SecondApprover is a second person who answers for it. A vulnerability that is known to be exploited needs one.
	SecondApprover string `yaml:"secondApprover,omitempty" json:"secondApprover,omitempty" jsonschema:"minLength=1" hint:"a text, such as a mail address; neither the author's nor the approver's" example:"ciso@example.com" without:"one approver"`
	// Created is the day on which the waiver was approved, in UTC.
	Created string `yaml:"created" json:"created" jsonschema:"required,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$" hint:"a date, YYYY-MM-DD, today or earlier" example:"'2026-11-15'"`
	// Expires is the last day, in UTC, on which the waiver holds. The baseline limits the time from created by severity.
	Expires string `yaml:"expires" json:"expires" jsonschema:"required,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}$" hint:"a date, YYYY-MM-DD, at most one year after created" example:"'2027-03-31'"`
}

// Gate is the rule by which failed controls reject the image.
type Gate struct {
	// Severity is the lowest severity of a failed control that rejects the image.
	Severity string `yaml:"severity,omitempty" json:"severity" jsonschema:"enum=low,enum=medium,enum=high,enum=critical,default=medium" example:"low"`
	// Vulnerabilities is the rule by which known vulnerabilities reject the image.
	Vulnerabilities VulnerabilityGate `yaml:"vulnerabilities,omitempty" json:"vulnerabilities,omitzero" without:"findings are reported and reject nothing"`
}

// VulnerabilityGate is the rule by which known vulnerabilities reject the image.
// Security updates that the guest's own repositories offer always count, with
// severity high unless the repository says another; what CISA lists as exploited
// rejects whatever its severity.
type VulnerabilityGate struct {
	// Severity is the lowest severity of a vulnerability that rejects the image.
	Severity string `yaml:"severity" json:"severity,omitempty" jsonschema:"required,enum=low,enum=medium,enum=high,enum=critical" example:"high"`
	// Scanner is what looks for vulnerabilities: the feeds of the recipe, or Amazon Inspector, if the factory is deployed with it.
	Scanner string `yaml:"scanner,omitempty" json:"scanner,omitempty" jsonschema:"enum=feeds,enum=inspector" example:"feeds" without:"feeds"`
	// OnlyFixable is whether vulnerabilities pass for which there is no fix, unless they are known to be exploited.
	OnlyFixable bool `yaml:"onlyFixable,omitempty" json:"onlyFixable,omitempty" example:"true" without:"false"`
	// GraceDays is how many days after its publication a fix must be installed. Feeds that do not say when a fix was published give no grace.
	GraceDays int `yaml:"graceDays,omitempty" json:"graceDays,omitempty" jsonschema:"minimum=0,maximum=90" example:"7" without:"none"`
	// MaximumAge is the greatest age of a feed. An older one rejects nothing and proves nothing: the gate fails.
	MaximumAge Duration `yaml:"maximumAge,omitempty" json:"maximumAge,omitempty" hint:"1h to 90d, such as 3d" example:"30d" without:"7d"`
	// Feeds are the sources of vulnerabilities, each pinned by digest.
	Feeds []Feed `yaml:"feeds,omitempty" json:"feeds,omitempty" without:"only security updates that are pending in the guest count"`
}

// The scanners of a gate.
const (
	FeedScanner      = "feeds"
	InspectorScanner = "inspector"
)

// Age is the greatest age of a feed, or its default.
func (v VulnerabilityGate) Age() Duration {
	if v.MaximumAge == 0 {
		return DefaultFeedAge
	}
	return v.MaximumAge
}

// Feed is a source of vulnerabilities. The factory's bucket has its file as
// feeds/<sha256>.
type Feed struct {
	// Kind is the format: Debian's security tracker, OSV (all.zip or JSON lines), updateinfo.xml of Amazon Linux 2023, or CISA's catalogue of exploited vulnerabilities.
	Kind string `yaml:"kind" json:"kind" jsonschema:"required,enum=debianTracker,enum=osv,enum=amazonUpdateinfo,enum=kev" example:"debianTracker"`
	// SHA256 is the digest of the file, which may be packed by gzip.
	SHA256 string `yaml:"sha256" json:"sha256" jsonschema:"required,pattern=^[0-9a-f]{64}$" hint:"the SHA-256 of the file, 64 hexadecimal digits" example:"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	// Published is when the file was fetched or published, in UTC. The catalogue of CISA says it itself.
	Published string `yaml:"published" json:"published" jsonschema:"required,pattern=^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$" hint:"a time such as 2026-11-30T06:00:00Z" example:"'2026-11-15T06:00:00Z'"`
}

// Approval is whether people must approve a release before it is shared.
type Approval struct {
	// Mode is how many different people must approve; whenDiffIsMore is one, and nobody where only packages were upgraded since the release before. Neither who started the build nor the author of a waiver counts.
	Mode string `yaml:"mode,omitempty" json:"mode" jsonschema:"enum=none,enum=one,enum=two,enum=whenDiffIsMore,default=none" example:"one"`
	// Expires is how long a release waits for its approval. Then the execution ends ApprovalTimedOut.
	Expires Duration `yaml:"expires,omitempty" json:"expires" jsonschema:"default=7d" hint:"1h to 30d" example:"3d"`
}

// The modes of an approval.
const (
	ApprovalNone = "none"
	ApprovalOne  = "one"
	ApprovalTwo  = "two"

	ApprovalWhenDiffIsMore = "whenDiffIsMore"
)

// Needed is how many different people must approve a release. more is whether it differs
// from the release before in more than upgrades of packages, or is not known to differ in
// less.
func (a Approval) Needed(more bool) int {
	switch {
	case a.Mode == ApprovalOne, a.Mode == ApprovalWhenDiffIsMore && more:
		return 1
	case a.Mode == ApprovalTwo:
		return 2
	}
	return 0
}

// MayAsk reports whether people may have to approve a release.
func (a Approval) MayAsk() bool { return a.Needed(true) > 0 }

// Distribution is where the image goes and who may launch it.
type Distribution struct {
	// Regions are the regions in which the image is published. The first is the home region, where it is built.
	Regions []Region `yaml:"regions" json:"regions" jsonschema:"required,minItems=1"`
	// Copies is when the private copies to other regions are started: while the image is verified, or after the gate. Copies of an image that the gate rejects are removed; they have cost their transfer.
	Copies string `yaml:"copies,omitempty" json:"copies" jsonschema:"enum=beforeGate,enum=afterGate,default=beforeGate" example:"afterGate"`
	// Accounts are the accounts that may launch the image.
	Accounts []string `yaml:"accounts,omitempty" json:"accounts,omitempty" jsonschema:"pattern=^[0-9]{12}$" hint:"an AWS account id, twelve digits in quotes" example:"['210987654321']" without:"none beside the factory's own"`
	// Organizations are the organisations or organisational units whose accounts may launch the image.
	Organizations []string `yaml:"organizations,omitempty" json:"organizations,omitempty" hint:"arn:aws:organizations::<account>:organization/o-… or …:ou/o-…/ou-…" example:"['arn:aws:organizations::111122223333:organization/o-a1b2c3d4e5']" without:"none"`
}

// Region is a region in which the image is published.
type Region struct {
	// Name is the name of the region. All regions are of one partition.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z]+(-[a-z]+)+-[0-9]+$" hint:"a region's name, such as eu-west-1" example:"eu-west-1"`
	// KMSKey is the KMS key of this region that encrypts the copy. The home region uses the key of builder.rootVolume. An image that is shared needs a customer-managed key.
	KMSKey string `yaml:"kmsKey,omitempty" json:"kmsKey,omitempty" jsonschema:"minLength=1" hint:"a key id, a key or alias ARN, or alias/<name>" example:"alias/ami-factory" without:"the AWS-managed key alias/aws/ebs; in the home region, the key of builder.rootVolume"`
}

// Pointers are the SSM parameters by which consumers find the newest image.
type Pointers struct {
	// Parameters are the names of the SSM parameters whose value becomes the id of the image, in every region.
	Parameters []string `yaml:"parameters" json:"parameters" jsonschema:"required,minItems=1" hint:"at least one path such as /ami-factory/<recipe>/latest of letters, digits and _ . - /, below /ami-factory/; each belongs to one recipe" example:"[/ami-factory/debian-12-docker/latest]"`
	// Accounts are the accounts in which the same parameters are kept. The image is shared with them, and they have the factory's stack of target accounts.
	Accounts []string `yaml:"accounts,omitempty" json:"accounts,omitempty" jsonschema:"pattern=^[0-9]{12}$" hint:"an AWS account id, twelve digits in quotes, of distribution.accounts or of an organisation there" example:"['210987654321']" without:"none beside the factory's own"`
}

// Retention is how long published images are kept.
type Retention struct {
	// Keep is how many of the newest images are kept, whatever their age.
	Keep int `yaml:"keep,omitempty" json:"keep" jsonschema:"minimum=1,maximum=1000,default=3" example:"5"`
	// DeprecateAfter is the time from publication until an image is marked as deprecated.
	DeprecateAfter Duration `yaml:"deprecateAfter,omitempty" json:"deprecateAfter,omitempty" jsonschema:"default=90d" hint:"1d to 3650d" example:"60d"`
	// RemoveAfter is the time without a known use after which an image that newer ones supersede may be removed. Until then it is deprecated.
	RemoveAfter Duration `yaml:"removeAfter,omitempty" json:"removeAfter,omitempty" jsonschema:"default=7d" hint:"1d to 3650d" example:"14d"`
}
