package evidence_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/test/golden"
)

var start = time.Date(2026, 11, 23, 17, 41, 55, 0, time.UTC)

func result(id, severity, status, title, expected, actual string) compliance.Result {
	return compliance.Result{
		ControlID: id, Severity: severity, Status: status, Title: title, Component: "hardening",
		Evidence: compliance.Evidence{Expected: expected, Actual: actual},
		Refs: compliance.Refs{
			CIS:  []compliance.CISRef{{Benchmark: "deb12", ID: "3.3.2", Level: "L1"}},
			STIG: []string{}, NIST80053: []string{}, CCE: []string{},
		},
		EngineRuleIDs: []string{id}, Properties: []compliance.PropertyResult{},
		Started: start, Ended: start,
	}
}

// checked is what the checks of the sample image said, as Evaluate would.
func checked(guests compliance.Guests, rejected bool) *compliance.Report {
	out := &compliance.Report{
		Schema: compliance.ReportSchema, RunID: "sample-1", ImageID: "ami-0fedcba9876543210", Guests: guests,
		Gate: "medium", Verdict: compliance.VerdictPassed, Evaluated: start,
		Warnings: []string{"the waiver of KMOD-01 is not needed: the control passes"},
		Results: []compliance.Result{
			result("DOCK-01", "high", "pass", "Containers get no new privileges", "", ""),
			result("FILE-02", "low", "fail", "Only root reads the boot loader's configuration", `file /boot/grub/grub.cfg mode = 0600`, "0644"),
			result("KMOD-01", "low", "pass", "Rare filesystem modules cannot load", "", ""),
			result("LOG-03", "medium", "fail", "The journal is kept on disk", "command journalctl exit-status = 0", "1"),
			result("SSH-01", "high", "pass", "Root cannot log in over SSH", "", ""),
			result("FWL-01", "high", "not_checked", "One firewall drops what nobody asked for", "the control is switched off", "not checked"),
		},
		Counts: compliance.Counts{Passed: 3, Failed: 1, Waived: 2},
	}
	out.Results[5].Waiver = &compliance.Waiver{ID: "built-in FWL-01", Control: "FWL-01", Reason: "container engines own the host's packet rules", Approver: "component hardening", BuiltIn: true}
	out.Results[3].Waiver = &compliance.Waiver{Control: "LOG-03", Reason: "the log agent keeps it elsewhere", Approver: "security@example.com", Expires: "2026-12-24"}
	if rejected {
		bad := result("SYS-02", "high", "fail", "Do not send ICMP redirects <script>alert(1)</script>", "kernel-param net.ipv4.conf.all.send_redirects value = 0", "1")
		bad.Rejecting = true
		worse := result("SYS-09", "critical", "error", "Addresses are randomised", "kernel-param kernel.randomize_va_space value = 2", "error: could not find the given key")
		worse.Rejecting = true
		out.Results = append(out.Results, bad, worse)
		out.Verdict, out.Counts = compliance.VerdictRejected, compliance.Counts{Passed: 3, Failed: 3, Waived: 2, Rejecting: 2}
	}
	return out
}

func thePlan() *plan.BuildPlan {
	return &plan.BuildPlan{
		Recipe: recipe.Recipe{
			Name: "debian-12-docker", Description: "Debian 12 with Docker, hardened and checked",
			Gate: recipe.Gate{Severity: "medium"},
			Checks: recipe.Checks{Waivers: []recipe.Waiver{
				{Control: "LOG-03", Reason: "the log agent keeps it elsewhere", Approver: "security@example.com", Expires: "2026-12-24"},
				{Control: "KMOD-01", Reason: "needed by the old data disks", Approver: "security@example.com", Expires: "2027-01-31"},
			}},
			Distribution: recipe.Distribution{Accounts: []string{"210987654321"}, Organizations: []string{"arn:aws:organizations::111122223333:organization/o-abcdefghij"}},
		},
		Source: plan.SourceImage{
			ImageID: "ami-0123456789abcdef0", Name: "debian-12-amd64-20261115-2298", OwnerID: "136693071363", Architecture: "x86_64",
		},
		Fingerprint: strings.Repeat("0a1b2c3d", 8), FactoryVersion: "0.1.0",
		ImageName: "debian-12-docker-0a1b2c3d0a1b-20261123T174155Z-0899cd",
		Components: []plan.Component{
			{Name: "hardening", Parameters: map[string]string{"variant": "docker"}},
			{Name: "docker", Parameters: map[string]string{"logMaxSize": "10m", "logMaxFiles": "3", "registryMirror": ""}},
		},
	}
}

func sample(status string, guests compliance.Guests) evidence.Report {
	r := evidence.ForPlan(thePlan())
	r.Status, r.Guests = status, guests
	r.Execution = evidence.Execution{
		ID:   "arn:aws:states:eu-west-1:123456789012:execution:ami-factory:debian-12-docker-0a1b2c3d0a1b2c3d",
		Name: "debian-12-docker-0a1b2c3d0a1b2c3d", Started: start, Ended: start.Add(237*time.Second + 400*time.Millisecond),
	}
	r.States = []evidence.State{{Name: "Resolve", Seconds: 0.21, Attempts: 1}, {Name: "LaunchBuilder", After: 0.21, Seconds: 1.4}, {Name: "AwaitProvisioned", After: 1.61, Seconds: 154.2}, {Name: "Seal", After: 155.81, Seconds: 9.1}, {Name: "CreateImage", After: 164.91, Seconds: 6.8}, {Name: "AwaitCopies", After: 171.71, Seconds: 58}, {Name: "RunCompliance", After: 171.71, Seconds: 61.5}}
	r.Logs = []evidence.Log{
		{Title: "console of the builder", URI: "s3://factory-bucket/executions/sample-1/console-builder.log", SHA256: strings.Repeat("ab", 32)},
		{Title: "console of the verifier", URI: "https://logs.example.com/console-verifier.log"},
	}
	r.Removed = []string{"i-0bbbbbbbbbbbbbbbb", "i-0aaaaaaaaaaaaaaaa"}
	return r
}

func published() evidence.Report {
	r := sample(contract.Published, compliance.Guests{Kind: "vm", Description: "qemu 7.2.22, software emulation (tcg)"})
	r.Compliance = checked(r.Guests, false)
	r.SetImages(map[string]string{"eu-west-1": "ami-0fedcba9876543210", "eu-central-1": "ami-0aaaabbbbccccdddd"})
	r.Pointers = []string{"eu-west-1:/ami-factory/debian-12-docker/latest", "eu-central-1:/ami-factory/debian-12-docker/latest"}
	r.Retention = []evidence.Retention{
		{Region: "eu-west-1", ImageID: "ami-0aaaaaaaaaaaaaaaa", Outcome: "removed", Why: "superseded on 2026-11-01 12:00 UTC, and no use of it is known for 7d"},
		{Region: "eu-west-1", ImageID: "ami-0fedcba9876543210", Outcome: "kept", Why: "eu-west-1:/ami-factory/debian-12-docker/latest names it"},
		{Region: "eu-central-1", ImageID: "ami-0bbbbbbbbbbbbbbbb", Outcome: "deprecated", Why: "instance i-0aaaaaaaaaaaaaaaa of this account uses it"},
	}
	return r
}

// estimate is a cost with every kind of line, and figures of every size.
func estimate() *cost.Estimate {
	return &cost.Estimate{
		Region: "eu-west-1", Prices: "2026-10, a list of prices", USD: 0.17008, MonthlyUSD: 0.4,
		Lines: []cost.Line{
			{Item: "Copies to other regions", Quantity: 8, Unit: "GiB", Price: 0.02, USD: 0.16, Estimated: true},
			{Item: "EC2 builder, t3.medium", Quantity: 0.1, Unit: "hour", Price: 0.0456, USD: 0.00456},
			{Item: "Lambda, invocations", Quantity: 1280, Unit: "request", Price: 0.0000002, USD: 0.000256},
			{Item: "EBS snapshot in eu-west-1", Quantity: 8, Unit: "GiB-month", Price: 0.05, USD: 0.4, Estimated: true, Monthly: true},
		},
		Notes: []string{"Not counted: logs."},
	}
}

func TestCostSaysWhatItIsMadeOf(t *testing.T) {
	r := published()
	r.Cost = estimate()
	page := html(t, r)
	for _, text := range []string{
		"<b>$0.17</b> for this execution, and <b>$0.40</b> every month for keeping the image, had it run there for as long as here.",
		`<td data-label="Quantity">about 8 GiB</td><td data-label="Price">$0.02</td><td data-label="US dollars">$0.16</td>`,
		`<td data-label="Quantity">0.1 hour</td><td data-label="Price">$0.0456</td><td data-label="US dollars">$0.0046</td>`,
		`<td data-label="Quantity">1280 request</td><td data-label="Price">$0.0000002</td><td data-label="US dollars">$0.00026</td>`,
		"$0.40 a month", "Prices of eu-west-1, 2026-10, a list of prices. Not counted: logs.",
	} {
		assert.Contains(t, page, text)
	}
	r.Guests = compliance.Guests{Kind: "ec2"}
	assert.NotContains(t, html(t, r), "had it run there")
	assert.NotContains(t, html(t, published()), "Cost on AWS")
}

func rejected() evidence.Report {
	r := sample(contract.Rejected, compliance.Guests{Kind: "vm", Description: "qemu 7.2.22, software emulation (tcg)"})
	r.Compliance = checked(r.Guests, true)
	r.Failure = &evidence.Failure{State: "CheckCompliance", Error: "ComplianceRejected", Cause: r.Compliance.Cause()}
	r.Removed = append(r.Removed, "ami-0fedcba9876543210", "snap-0123456789abcdef0")
	return r
}

func simulated() evidence.Report {
	r := published()
	r.Guests = compliance.Guests{Kind: "simulated"}
	r.Compliance = checked(r.Guests, false)
	return r
}

func dirty() evidence.Report {
	r := sample(contract.FailedDirty, compliance.Guests{Kind: "ec2"})
	r.Failure = &evidence.Failure{State: "AwaitProvisioned", Error: "ProvisioningFailed", Cause: "component docker failed at line 12: apt-get install docker.io\nE: Unable to locate package docker.io"}
	r.Left = []string{"i-0bbbbbbbbbbbbbbbb: UnauthorizedOperation: not allowed to terminate"}
	r.Removed = nil
	return r
}

func html(t *testing.T, r evidence.Report) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, r.WriteHTML(&b))
	return b.String()
}

func TestReports(t *testing.T) {
	for name, r := range map[string]evidence.Report{
		"published": published(), "rejected": rejected(), "vulnerable": vulnerable(), "simulated": simulated(), "dirty": dirty(),
		"without-plan": {Status: contract.FailedClean, Execution: evidence.Execution{Name: "x", Started: start, Ended: start}, Failure: &evidence.Failure{State: "Resolve", Error: "RecipeInvalid", Cause: "unknown recipe"}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := r.JSON()
			require.NoError(t, err)
			golden.Testdata(t, name+".json", data)
			golden.Testdata(t, name+".html", []byte(html(t, r)))
		})
	}
}

func TestJSONIsCanonical(t *testing.T) {
	first, err := published().JSON()
	require.NoError(t, err)
	r := published()
	slices.Reverse(r.Images)
	slices.Reverse(r.Pointers)
	slices.Reverse(r.Removed)
	slices.Reverse(r.Retention)
	slices.Reverse(r.Waivers)
	r.Execution.Started = r.Execution.Started.In(time.FixedZone("x", 7200))
	second, err := r.JSON()
	require.NoError(t, err)
	assert.Equal(t, string(first), string(second))

	var back evidence.Report
	require.NoError(t, json.Unmarshal(first, &back))
	again, err := back.JSON()
	require.NoError(t, err)
	assert.Equal(t, string(first), string(again))
	digest, err := r.Digest()
	require.NoError(t, err)
	assert.Contains(t, html(t, published()), digest)
	assert.NotContains(t, string(first), "null")
}

func TestPageNeedsNothingElse(t *testing.T) {
	page := html(t, rejected())
	assert.NotRegexp(t, regexp.MustCompile(`(?i)<(script|link|img|iframe|object|embed)\b|@import|url\(`), page)
	assert.NotContains(t, page, "ZgotmplZ")
	for _, src := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		assert.True(t, strings.HasPrefix(src[1], "#") || src[1] == "https://logs.example.com/console-verifier.log", src[1])
	}
}

func TestTextOfGuestsCannotBecomeMarkup(t *testing.T) {
	r := rejected()
	r.Compliance.Results[5].Evidence.Actual = `</td><img src=x onerror=alert(1)>`
	r.Logs = append(r.Logs, evidence.Log{Title: "x", URI: "javascript:alert(1)"})
	page := html(t, r)
	assert.NotContains(t, page, "<img")
	assert.NotContains(t, page, "<script>")
	assert.NotContains(t, page, `href="javascript`)
	assert.Contains(t, page, "&lt;img src=x onerror=alert(1)&gt;")
}

func TestFailedControlsComeFirst(t *testing.T) {
	r := rejected()
	var ids []string
	for _, x := range r.Failed() {
		ids = append(ids, x.ControlID)
	}
	assert.Equal(t, []string{"SYS-09", "SYS-02", "FILE-02"}, ids, "those that reject first, gravest first")
	page := html(t, r)
	order := []int{strings.Index(page, ">SYS-09<"), strings.Index(page, ">SYS-02<"), strings.Index(page, ">FILE-02<"), strings.Index(page, ">LOG-03<"), strings.Index(page, ">DOCK-01<")}
	assert.True(t, slices.IsSorted(order) && order[0] > 0, "%v", order)
	assert.Contains(t, page, "kernel-param net.ipv4.conf.all.send_redirects value = 0")
}

func TestSimulatedIsSaidEverywhere(t *testing.T) {
	r := simulated()
	data, err := r.JSON()
	require.NoError(t, err)
	assert.Contains(t, string(data), `"simulated": true`)
	page := html(t, r)
	assert.Contains(t, page, `<title>SIMULATED: Published`)
	assert.Contains(t, page, `role="alert"><strong>SIMULATED</strong>`)
	assert.NotContains(t, page, "Signature", "the page has no field for a signature")
	rows := strings.Count(page, `<th scope="row" data-label="Control">`)
	assert.GreaterOrEqual(t, strings.Count(page, "SIMULATED"), rows+5, "each result bears the label")

	only := published()
	only.Compliance = checked(compliance.Guests{Kind: "simulated"}, false)
	assert.Contains(t, html(t, only), "<strong>SIMULATED</strong>", "results alone are enough")
	assert.NotContains(t, html(t, published()), `<b class="sim">`)
}

func TestAnExecutionWithoutChecksProvesNothing(t *testing.T) {
	page := html(t, dirty())
	assert.Contains(t, page, "Nothing is proved.")
	assert.Contains(t, page, "have to be seen to by hand")
	assert.Contains(t, page, "E: Unable to locate package docker.io")
}

func TestEveryAnchorIsUniqueAndEveryLinkLeadsToOne(t *testing.T) {
	for name, r := range samples() {
		t.Run(name, func(t *testing.T) {
			page := html(t, r)
			ids := map[string]bool{}
			for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
				assert.False(t, ids[m[1]], "%s is there twice", m[1])
				ids[m[1]] = true
			}
			for _, m := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
				assert.True(t, ids[m[1]], "#%s leads nowhere", m[1])
			}
			for _, x := range r.Compliance.Results {
				assert.True(t, ids["control-"+x.ControlID], x.ControlID)
			}
		})
	}
}

func TestControlsAreFilteredWithoutAScript(t *testing.T) {
	page := html(t, vulnerable())
	for _, result := range []string{"failed", "waived", "passed"} {
		assert.Equal(t, 1, strings.Count(page, `<input type="radio" name="result" id="result-`+result+`">`), result)
		assert.Equal(t, 1, strings.Count(page, `<div class="part `+result+`-part">`), result)
		assert.True(t, strings.Contains(page, "body:has(#result-"+result+":checked) .part:not(."+result+"-part)"), result)
	}
	assert.NotContains(t, html(t, dirty()), `name="result"`, "there is nothing to filter")
}

func TestThePageSaysTheReasonBeforeAnythingElse(t *testing.T) {
	page := html(t, vulnerable())
	var order []int
	for _, text := range []string{`class="word">Rejected`, `id="cause"`, `id="facts"`, `id="diff"`, `id="vulnerabilities"`, `id="controls"`, `id="waivers"`, `id="approvals"`, `id="stages"`, `id="verify"`} {
		order = append(order, strings.Index(page, text))
	}
	assert.True(t, slices.IsSorted(order) && order[0] > 0, "%v", order)
	for _, text := range []string{
		"Set kernel.randomize_va_space = 2", "downgraded", "1.6.24~ds1-1", "no fix is known", "security@example.com, until 2026-12-24 (31 days left)",
		"Some states ran side by side", "nobody asked for netcat", "sha256sum report.json",
	} {
		assert.True(t, strings.Contains(page, text), text)
	}
}

func TestThePageSaysHowToVerifyAnImageThatWasReleased(t *testing.T) {
	assert.Contains(t, html(t, published()), "$ ami-factory evidence verify ami-0aaaabbbbccccdddd")
	assert.NotContains(t, html(t, rejected()), "evidence verify", "it is removed")
	assert.NotContains(t, html(t, simulated()), "evidence verify", "it proves nothing")
}

func TestAFirstImageHasNothingToCompareWith(t *testing.T) {
	r := published()
	r.Diff = &evidence.Diff{}
	assert.Contains(t, html(t, r), "Nothing is compared with this image: no image of the recipe was published before.")
	r.Diff.Reason = "the evidence of ami-1 is not verified: <manifest.json> was changed"
	assert.Contains(t, html(t, r), "Nothing is compared with this image: the evidence of ami-1 is not verified: &lt;manifest.json&gt; was changed.")
	r.Diff.ImageID = "ami-0123456789abcdef1"
	assert.Contains(t, html(t, r), "Nothing differs.")
	r.Diff.OnlyPackageUpgrades = true
	r.Diff.Groups = []evidence.DiffGroup{{Title: "Packages", More: 7, Changes: []evidence.Change{{What: "upgraded", Name: "bash", Before: "1", After: "2"}}}}
	page := html(t, r)
	assert.Contains(t, page, "Only packages were upgraded.")
	assert.Contains(t, page, "Packages (8)")
	assert.Contains(t, page, "7 more are not listed.")
}
