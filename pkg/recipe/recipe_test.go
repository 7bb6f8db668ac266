package recipe_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func good(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("testdata/debian-12-docker.yaml")
	require.NoError(t, err)
	return string(data)
}

func parse(text string) (*recipe.Recipe, problem.List) {
	return recipe.Parse("recipes/debian-12-docker.yaml", []byte(text), recipe.Options{Now: now})
}

func TestEveryRecipeOfTheProjectIsClean(t *testing.T) {
	fsys := os.DirFS("../../userdata")
	names, err := recipe.Names(fsys)
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		_, problems, err := recipe.Load(fsys, name, recipe.Options{Now: now})
		require.NoError(t, err)
		assert.Empty(t, problems)
	}
}

func TestAGoodRecipe(t *testing.T) {
	r, problems := parse(good(t))
	require.Empty(t, problems)
	assert.Equal(t, "debian-12-docker", r.Name)
	assert.Equal(t, "136693071363", r.Source.Owner)
	assert.Equal(t, []string{"t3.medium", "t3a.medium", "m6i.large"}, r.Builder.InstanceTypes)
	assert.Equal(t, map[string]string{"variant": "docker"}, r.Components[0].Parameters)
	assert.Equal(t, "eu-west-1", r.Home().Name)
	assert.Equal(t, recipe.Duration(45*time.Minute), r.Builder.Timeout)
}

func TestDefaultsFillWhatTheFileLeavesOut(t *testing.T) {
	text := good(t)
	for _, line := range []string{"  timeout: 45m\n", "checks:\n  timeout: 15m\n", "gate:\n  severity: medium\n", "retention:\n  keep: 3\n  deprecateAfter: 90d\n"} {
		require.Contains(t, text, line)
		text = strings.Replace(text, line, "", 1)
	}
	r, problems := parse(text)
	require.Empty(t, problems)
	want, _ := parse(good(t))
	assert.Equal(t, want.WithoutPositions(), r.WithoutPositions())
}

func TestRecipeSurvivesJSON(t *testing.T) {
	r, _ := parse(good(t))
	data, err := json.Marshal(r)
	require.NoError(t, err)
	var back recipe.Recipe
	require.NoError(t, json.Unmarshal(data, &back))
	assert.Equal(t, r.WithoutPositions(), back)
	assert.Contains(t, string(data), `"timeout":"45m"`)
}

func TestRegionsOfEveryPartition(t *testing.T) {
	replace := func(home, second string) string {
		text := strings.Replace(good(t), "- name: eu-west-1", "- name: "+home, 1)
		return strings.Replace(text, "- name: eu-central-1", "- name: "+second, 1)
	}
	for _, pair := range [][2]string{{"cn-north-1", "cn-northwest-1"}, {"us-gov-west-1", "us-gov-east-1"}, {"us-isob-east-1", "us-isob-west-1"}} {
		_, problems := parse(replace(pair[0], pair[1]))
		assert.Empty(t, problems, pair)
	}
	alone := strings.Replace(replace("eusc-de-east-1", "eu-central-1"), "    - name: eu-central-1\n      kmsKey: alias/ami-factory\n", "", 1)
	_, problems := parse(alone)
	assert.Empty(t, problems, "eusc-de-east-1")

	_, problems = parse(replace("eu-west-1", "eu-central-9"))
	require.Len(t, problems, 1)
	assert.Equal(t, problem.Warning, problems[0].Severity, "a region may be newer than the data")
	assert.Contains(t, problems[0].String(), "region eu-central-9 is not known to this version of ami-factory")
	assert.Contains(t, problems[0].Allowed, "eu-central-1")
}

// Each case changes the good recipe in one place and names the only problems
// that may follow, with the text that they must point at.
func TestProblems(t *testing.T) {
	type problem struct{ at, message string }
	tests := map[string]struct {
		old, new string
		want     []problem
	}{
		"an unknown key is named with its nearest relative": {
			"  timeout: 45m", "  timout: 45m",
			[]problem{{"timout", `unknown key "timout" in builder; did you mean "timeout"?`}},
		},
		"an unknown key at the top": {
			"retention:", "retension:",
			[]problem{{"retension", `unknown key "retension"; did you mean "retention"?`}},
		},
		"a duplicate key": {
			"  timeout: 45m", "  timeout: 45m\n  timeout: 46m",
			[]problem{{"timeout: 46m", `duplicate key "timeout"`}},
		},
		"a list where text is wanted": {
			"description: Debian 12 with Docker, hardened and checked", "description: [a]",
			[]problem{{"[a]", "description must be text, not a list"}},
		},
		"a description that EC2 does not take": {
			"description: Debian 12 with Docker", "description: Debian 12 \u2014 with Docker",
			[]problem{{"Debian 12 \u2014", "description"}},
		},
		"a description with an accent": {
			"description: Debian 12 with Docker", "description: Debian 12 pour le caf\u00e9",
			[]problem{{"Debian 12 pour", "description"}},
		},
		"a description of two lines": {
			"description: Debian 12 with Docker", "description: |\n  Debian 12\n  with Docker",
			[]problem{{"|", "description"}},
		},
		"text where a number is wanted": {
			"sizeGiB: 8", "sizeGiB: big",
			[]problem{{"big", `builder.rootVolume.sizeGiB must be a whole number, not "big"`}},
		},
		"a number out of range": {
			"sizeGiB: 8", "sizeGiB: 0",
			[]problem{{"0", "builder.rootVolume.sizeGiB is out of range: 0"}},
		},
		"an account id without quotes": {
			`owner: "136693071363"`, `owner: 136693071363`,
			[]problem{{"136693071363 #", `source.owner must be text, not the number 136693071363; put it in quotes: "136693071363"`}},
		},
		"no owner": {
			"  owner: \"136693071363\" # Debian's account; an image of anyone else is refused\n", "",
			[]problem{{"source:", "source.owner is required but missing"}},
		},
		"an owner that is a name": {
			`"136693071363"`, `amazon`,
			[]problem{{"amazon", `source.owner: "amazon" does not have the required form`}},
		},
		"an empty value": {
			"owner: \"136693071363\"", "owner:",
			[]problem{{" # Debian", "source.owner is empty"}},
		},
		"parameter and filters": {
			"source:\n", "source:\n  filters: [{name: name, values: [debian-12-*]}]\n",
			[]problem{{"[{name", "source has both parameter and filters"}},
		},
		"neither parameter nor filters": {
			"  parameter: /aws/service/debian/release/12/latest/amd64\n", "",
			[]problem{{"owner:", "source has no parameter and no filters"}},
		},
		"a filter for the owner": {
			"parameter: /aws/service/debian/release/12/latest/amd64", "filters: [{name: owner-alias, values: [amazon]}]",
			[]problem{{"owner-alias", "source.owner is always enforced"}},
		},
		"an unknown architecture": {
			"architecture: x86_64", "architecture: amd64",
			[]problem{
				{"amd64", `architecture: "amd64" is not known`},
			},
		},
		"an instance type of another architecture": {
			"m6i.large", "m7g.large",
			[]problem{{"m7g.large", "instance type m7g.large is arm64, but the recipe's architecture is x86_64"}},
		},
		"an invalid instance type": {
			"m6i.large", "large",
			[]problem{{"large", `"large" is not an instance type`}},
		},
		"an instance type twice": {
			"m6i.large", "t3.medium",
			[]problem{{"t3.medium]", "instance type t3.medium is listed twice"}},
		},
		"an alias of YAML": {
			"family: debian-12", "family: *x",
			[]problem{{"*x", "not valid YAML"}},
		},
		"a component twice": {
			"  - name: docker\n", "  - name: docker\n  - name: docker\n",
			[]problem{{"docker\n\nchecks", "component docker is listed twice"}},
		},
		"a name that is not the file's": {
			"name: debian-12-docker\n", "name: debian-13-docker\n",
			[]problem{{"debian-13-docker\n", `name is "debian-13-docker", but the file is called debian-12-docker.yaml`}},
		},
		"an image shared under the AWS-managed key in a copy": {
			"    - name: eu-central-1\n      kmsKey: alias/ami-factory\n", "    - name: eu-central-1\n      kmsKey: alias/aws/ebs\n",
			[]problem{{"alias/aws/ebs", "alias/aws/ebs is the AWS-managed key: the image is shared with accounts"}},
		},
		"an image shared without a key in a copy": {
			"    - name: eu-central-1\n      kmsKey: alias/ami-factory\n", "    - name: eu-central-1\n",
			[]problem{{"name: eu-central-1", "distribution.regions[1] has no kmsKey: the image is shared with accounts"}},
		},
		"an image shared without a key at home": {
			"    sizeGiB: 8\n    kmsKey: alias/ami-factory\n", "    sizeGiB: 8\n",
			[]problem{
				{"sizeGiB", "builder.rootVolume has no kmsKey"},
				{"alias/ami-factory\n    - name: eu-c", "the image is not copied in its home region"},
			},
		},
		"a key of another region": {
			"    - name: eu-central-1\n      kmsKey: alias/ami-factory\n", "    - name: eu-central-1\n      kmsKey: arn:aws:kms:us-east-1:111122223333:key/1\n",
			[]problem{{"arn:aws:kms", "the key is of region us-east-1, but is used in eu-central-1"}},
		},
		"an account of eleven digits": {
			`"210987654321"`, `"21098765432"`,
			[]problem{{`"21098765432"`, `distribution.accounts[0]: "21098765432" does not have the required form`}},
		},
		"an account twice": {
			`"210987654321"`, `"210987654321", "210987654321"`,
			[]problem{{`"210987654321"]`, `account 210987654321 is listed twice`}},
		},
		"an organisation that is no ARN": {
			`accounts: ["210987654321"]`, `organizations: [o-abcdefghij]`,
			[]problem{{"o-abcdefghij", `"o-abcdefghij" is not the ARN of an organisation`}},
		},
		"an invalid region": {
			"eu-central-1", "frankfurt",
			[]problem{{"frankfurt", `distribution.regions[1].name: "frankfurt" does not have the required form`}},
		},
		"a region that does not exist": {
			"    - name: eu-central-1", "    - name: xx-nowhere-9",
			[]problem{{"xx-nowhere-9", `there is no region "xx-nowhere-9"`}},
		},
		"a misspelt region": {
			"    - name: eu-central-1", "    - name: eu-centrall-1",
			[]problem{{"eu-centrall-1", `there is no region "eu-centrall-1"; did you mean "eu-central-1"?`}},
		},
		"a region of another partition": {
			"    - name: eu-central-1", "    - name: cn-north-1",
			[]problem{{"cn-north-1", "region cn-north-1 is in partition aws-cn, but the image is built in eu-west-1, which is in aws"}},
		},
		"a key of another partition": {
			"    - name: eu-central-1\n      kmsKey: alias/ami-factory", "    - name: eu-central-1\n      kmsKey: arn:aws-cn:kms:eu-central-1:111122223333:alias/x",
			[]problem{{"arn:aws-cn", "the key's ARN is of partition aws-cn, but region eu-central-1 is in aws"}},
		},
		"an organisation of another partition": {
			`  accounts: ["210987654321"]`, `  organizations: ["arn:aws-us-gov:organizations::111122223333:organization/o-abcdefghij"]`,
			[]problem{{`"arn:aws-us-gov`, "images cannot be shared between partitions"}},
		},
		"a region twice": {
			"eu-central-1", "eu-west-1",
			[]problem{{"eu-west-1\n      kmsKey: alias/ami-factory\n  acc", "region eu-west-1 is listed twice"}},
		},
		"copies at a time that is none": {
			`  accounts: ["210987654321"]`, "  copies: aftergate\n" + `  accounts: ["210987654321"]`,
			[]problem{{"aftergate", `distribution.copies: "aftergate" is not known; did you mean "afterGate"?`}},
		},
		"copies after the gate": {
			`  accounts: ["210987654321"]`, "  copies: afterGate\n" + `  accounts: ["210987654321"]`,
			nil,
		},
		"a pointer below /aws": {
			"[/ami-factory/debian-12-docker/latest]", "[/aws/service/mine]",
			[]problem{{"/aws/service/mine", "begins with aws or ssm"}},
		},
		"a pointer that the factory may not write": {
			"[/ami-factory/debian-12-docker/latest]", "[/golden/debian-12]",
			[]problem{{"/golden/debian-12", "is not below /ami-factory/"}},
		},
		"a pointer without a leading slash": {
			"[/ami-factory/debian-12-docker/latest]", "[latest image]",
			[]problem{{"latest image", "is not the full path of an SSM parameter"}},
		},
		"a pointer in an account that the image is not shared with": {
			"[/ami-factory/debian-12-docker/latest]\n", "[/ami-factory/debian-12-docker/latest]\n  accounts: [\"210987654321\", \"444455556666\"]\n",
			[]problem{{`"444455556666"`, "account 444455556666 gets a pointer to an image that is not shared with it"}},
		},
		"a pointer in an account of eleven digits": {
			"[/ami-factory/debian-12-docker/latest]\n", "[/ami-factory/debian-12-docker/latest]\n  accounts: [\"44445555666\"]\n",
			[]problem{
				{`"44445555666"`, `pointers.accounts[0]: "44445555666" does not have the required form`},
				{`"44445555666"`, "account 44445555666 gets a pointer"},
			},
		},
		"an unknown severity": {
			"severity: medium", "severity: meduim",
			[]problem{{"meduim", `gate.severity: "meduim" is not known; did you mean "medium"?`}},
		},
		"an invalid duration": {
			"timeout: 15m", "timeout: soon",
			[]problem{{"soon", `checks.timeout: "soon" is not a duration`}},
		},
		"a duration that is too long": {
			"timeout: 45m", "timeout: 3d",
			[]problem{{"3d", "builder.timeout is out of range: 3d"}},
		},
		"a duration of nothing": {
			"timeout: 45m", "timeout: 0s",
			[]problem{{"0s", "builder.timeout is out of range: 0s"}},
		},
		"a removal before EC2 reports a launch": {
			"deprecateAfter: 90d", "deprecateAfter: 90d\n  removeAfter: 23h",
			[]problem{{"23h", "retention.removeAfter is out of range: 23h"}},
		},
		"a removal that never comes": {
			"deprecateAfter: 90d", "deprecateAfter: 90d\n  removeAfter: 3651d",
			[]problem{{"3651d", "retention.removeAfter is out of range: 3651d"}},
		},
		"a feed of vulnerabilities that is stale": {
			"gate:\n", "gate:\n  vulnerabilities: {severity: high, maximumAge: 24h, feeds: [{kind: osv, sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, published: '2026-11-01T00:00:00Z'}]}\n",
			[]problem{{"'2026-11-01", "the feed is stale: it is of 2026-11-01T00:00:00Z, and maximumAge is 1d"}},
		},
		"a feed of the future": {
			"gate:\n", "gate:\n  vulnerabilities: {severity: high, feeds: [{kind: osv, sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, published: '2027-11-01T00:00:00Z'}]}\n",
			[]problem{{"'2027-11-01", "the feed would be published in the future"}},
		},
		"a feed of a day that is none": {
			"gate:\n", "gate:\n  vulnerabilities: {severity: high, feeds: [{kind: osv, sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, published: '2026-02-31T00:00:00Z'}]}\n",
			[]problem{{"'2026-02-31", "is not a time of the calendar"}},
		},
		"feeds of a scanner that reads none": {
			"gate:\n", "gate:\n  vulnerabilities: {severity: high, scanner: inspector, maximumAge: 3d}\n",
			[]problem{{"3d", "maximumAge is about feeds, and the scanner inspector reads none"}},
		},
		"a scanner that there is not": {
			"gate:\n", "gate:\n  vulnerabilities: {severity: high, scanner: inspectr}\n",
			[]problem{{"inspectr", `did you mean "inspector"?`}},
		},
		"feeds without a severity that rejects": {
			"gate:\n", "gate:\n  vulnerabilities: {graceDays: 7}\n",
			[]problem{{"vulnerabilities: {graceDays", "gate.vulnerabilities.severity is required but missing"}},
		},
		"a feed older than any": {
			"gate:\n", "gate:\n  vulnerabilities: {severity: high, maximumAge: 91d}\n",
			[]problem{{"91d", "gate.vulnerabilities.maximumAge is out of range: 91d"}},
		},
		"a waiver that expired yesterday": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, reason: because of the tests, author: web team lead, approver: me, created: 2026-11-20, expires: 2026-11-22}]\n",
			[]problem{{"2026-11-22", "the waiver of SYS-02 expired on 2026-11-22"}},
		},
		"a waiver that expires today still holds": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, reason: because of the tests, author: web team lead, approver: me, created: 2026-11-20, expires: 2026-11-23}]\n",
			[]problem{{"2026-11-23", "the waiver of SYS-02 ends on 2026-11-23, with 1 day left"}},
		},
		"a waiver for ever": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, reason: because of the tests, author: web team lead, approver: me, created: 2026-11-20, expires: 2099-01-01}]\n",
			[]problem{{"2099-01-01", "would hold until 2099-01-01"}},
		},
		"a waiver with an impossible date": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, reason: because of the tests, author: web team lead, approver: me, created: 2026-11-20, expires: '2026-02-30'}]\n",
			[]problem{{"'2026-02-30'", `"2026-02-30" is not a date of the calendar`}},
		},
		"a waiver that its author approves": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, reason: because of the tests, author: one, approver: ' One', created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"' One'", "the waiver of SYS-02 is approved by its author"}},
		},
		"a waiver that the same person approves twice": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, reason: because of the tests, author: one, approver: two, secondApprover: TWO, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"TWO", "the waiver of SYS-02 has the same approver twice"}},
		},
		"a waiver that is created tomorrow": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, reason: because of the tests, author: one, approver: two, created: 2026-11-24, expires: 2026-12-24}]\n",
			[]problem{{"2026-11-24", "the waiver of SYS-02 was created in the future"}},
		},
		"a waiver that ends before it begins": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, reason: because of the tests, author: one, approver: two, created: 2026-11-23, expires: 2026-11-22}]\n",
			[]problem{{"2026-11-22", "before it was created"}},
		},
		"a waiver of nothing": {
			"checks:\n", "checks:\n  waivers: [{reason: because of the tests, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"{reason", "does not say what it accepts"}},
		},
		"a waiver of a control and a vulnerability": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, vulnerability: CVE-2026-0001, package: openssl, reason: because of the tests, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"SYS-02", "not both"}},
		},
		"a waiver of a vulnerability everywhere": {
			"checks:\n", "checks:\n  waivers: [{vulnerability: CVE-2026-0001, reason: because of the tests, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"CVE-2026-0001", "names no package"}},
		},
		"a waiver of any vulnerability": {
			"checks:\n", "checks:\n  waivers: [{package: openssl, reason: because of the tests, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"openssl", "but no vulnerability"}},
		},
		"a false positive for a reason of one's own": {
			"checks:\n", "checks:\n  waivers: [{vulnerability: CVE-2026-0001, package: openssl, falsePositive: {justification: not exploitable}, reason: because of the tests, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"not exploitable", "checks.waivers[0].falsePositive.justification"}},
		},
		"a false positive of a control": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, falsePositive: {justification: component_not_present}, reason: because of the tests, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"{justification", "a control is not a vulnerability"}},
		},
		"a false positive that its author approves": {
			"checks:\n", "checks:\n  waivers: [{vulnerability: CVE-2026-0001, package: openssl, falsePositive: {justification: component_not_present}, reason: because of the tests, author: one, approver: One, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"One", "the waiver of CVE-2026-0001 in openssl is approved by its author"}},
		},
		"a waiver of every package": {
			"checks:\n", "checks:\n  waivers: [{vulnerability: CVE-2026-0001, package: '*', reason: because of the tests, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"'*'", "does not have the required form"}},
		},
		"a waiver of no known kind of vulnerability": {
			"checks:\n", "checks:\n  waivers: [{vulnerability: CVE-26-1, package: openssl, reason: because of the tests, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24}]\n",
			[]problem{{"CVE-26-1", "does not have the required form"}},
		},
		"a waiver that says too little": {
			"checks:\n", "checks:\n  waivers: [{control: SYS-02, reason: no, expires: 2026-12-10}]\n",
			[]problem{
				{"{control", "checks.waivers[0].approver is required but missing"},
				{"{control", "checks.waivers[0].author is required but missing"},
				{"{control", "checks.waivers[0].created is required but missing"},
				{"no, exp", "checks.waivers[0].reason is too short: 2 characters"},
			},
		},
		"a cloud-config that cloud-init would ignore": {
			"  timeout: 45m", "  cloudConfig: |\n    locale: C.UTF-8\n  timeout: 45m",
			[]problem{{"|", "does not begin with the line #cloud-config"}},
		},
		"a cloud-config that is no mapping": {
			"  timeout: 45m", "  cloudConfig: |\n    #cloud-config\n    - a\n  timeout: 45m",
			[]problem{{"|", "cloudConfig is not a YAML mapping"}},
		},
		"a cloud-config with a placeholder": {
			"  timeout: 45m", "  cloudConfig: |\n    #cloud-config\n    a: '@@BUNDLE_URL@@'\n  timeout: 45m",
			[]problem{{"|", "cloudConfig has @@"}},
		},
		"a cloud-config beyond ASCII": {
			"  timeout: 45m", "  cloudConfig: |\n    #cloud-config\n    a: é\n  timeout: 45m",
			[]problem{{"|", "beyond plain ASCII"}},
		},
		"a good cloud-config": {
			"  timeout: 45m", "  cloudConfig: |\n    #cloud-config\n    a: b\n  timeout: 45m", nil,
		},
		"broken YAML": {
			"family: debian-12", "family: [debian-12",
			[]problem{{"", "not valid YAML"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, good(t), tt.old)
			text := strings.Replace(good(t), tt.old, tt.new, 1)
			_, problems := parse(text)
			lines := strings.Split(text, "\n")
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
			}
			require.Len(t, problems, len(tt.want), "%s", strings.Join(got, "\n"))
			for _, want := range tt.want {
				found := false
				for _, p := range problems {
					if !strings.Contains(p.Message, want.message) {
						continue
					}
					found = true
					require.Positive(t, p.Line)
					rest := strings.Join(lines[p.Line-1:], "\n")
					assert.Equal(t, lines[p.Line-1], p.Source)
					assert.True(t, strings.HasPrefix(rest[min(p.Column-1, len(rest)):], want.at), "%s does not point at %q", p, want.at)
				}
				assert.True(t, found, "no problem says %q in\n%s", want.message, strings.Join(got, "\n"))
			}
		})
	}
}

func TestAllProblemsComeInOnePass(t *testing.T) {
	text := good(t)
	for old, repl := range map[string]string{
		`owner: "136693071363"`: `owner: "1"`,
		"sizeGiB: 8":            "sizeGiB: 99999",
		"gate:":                 "gates:",
		"t3.medium":             "t4g.medium",
		"[/ami-factory/":        "[/aws/",
	} {
		text = strings.Replace(text, old, repl, 1)
	}
	_, problems := parse(text)
	assert.Len(t, problems, 5)
}

func TestArchitectureOfInstanceTypes(t *testing.T) {
	for name, want := range map[string]string{
		"t3.medium": "x86_64", "t3a.medium": "x86_64", "t4g.small": "arm64", "m7g.large": "arm64", "m6i.large": "x86_64",
		"c7gn.xlarge": "arm64", "g4dn.xlarge": "x86_64", "g5g.xlarge": "arm64", "gr6.4xlarge": "x86_64", "a1.large": "arm64", "x2gd.metal": "arm64",
		"im4gn.large": "arm64", "u-6tb1.metal": "", "mac2.metal": "", "m6i": "", "hpc7g.4xlarge": "arm64", "m7i-flex.large": "x86_64",
	} {
		got, _ := recipe.ArchitectureOf(name)
		assert.Equal(t, want, got, name)
	}
}

func TestLoadSaysWhichRecipesThereAre(t *testing.T) {
	fsys := fstest.MapFS{
		"recipes/debian-12-docker.yaml": {Data: []byte(good(t))},
		"recipes/al2023-base.yaml":      {Data: []byte("x")},
	}
	_, _, err := recipe.Load(fsys, "debian-12-dokcer", recipe.Options{Now: now})
	require.ErrorIs(t, err, recipe.ErrUnknown)
	assert.EqualError(t, err, `unknown recipe "debian-12-dokcer"; did you mean "debian-12-docker"? (there are: al2023-base, debian-12-docker)`)
	r, problems, err := recipe.Load(fsys, "debian-12-docker", recipe.Options{Now: now})
	require.NoError(t, err)
	assert.Empty(t, problems)
	assert.Equal(t, "debian-12-docker", r.Name)
}

func TestDurationsAreWrittenAsTheyAreRead(t *testing.T) {
	for _, s := range []string{"45m", "2h", "90d", "1h30m", "90s", "1d", "0s"} {
		d, err := recipe.ParseDuration(s)
		require.NoError(t, err)
		back, err := recipe.ParseDuration(d.String())
		require.NoError(t, err)
		assert.Equal(t, d, back)
	}
	d, err := recipe.ParseDuration("45m")
	require.NoError(t, err)
	assert.Equal(t, "45m", d.String())
	for _, s := range []string{"", "d", "-1d", "soon", "5", "999999999999d"} {
		_, err := recipe.ParseDuration(s)
		assert.Error(t, err, s)
	}
}
