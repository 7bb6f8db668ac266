package stage

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/store"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// debianTracker says that openssl 3.0.15-1, which a simulated guest has, has a
// vulnerability.
const debianTracker = `{"openssl":{"CVE-2026-0001":{"releases":{"bookworm":{"status":"resolved","fixed_version":"3.0.16-1","urgency":"high"}}}}}`

func TestTheVerdictIncludesVulnerabilities(t *testing.T) {
	pending := strings.Replace(string(inventory.Simulated()), "section\tpending-apt\t0\t0\t\n",
		"pending-apt\tbash\t5.2.15-2\t5.2.15-3\tDebian-Security:12\nsection\tpending-apt\t0\t1\t\n", 1)
	unknown := strings.Replace(string(inventory.Simulated()), "section\tpending-apt\t0\t0\t\n", "section\tpending-apt\t100\t0\tno mirror\n", 1)
	feed := func(p *plan.BuildPlan) {
		p.Recipe.Gate.Vulnerabilities = recipe.VulnerabilityGate{Severity: "high", Feeds: []recipe.Feed{
			{Kind: vulnerability.DebianTracker, SHA256: store.Digest([]byte(debianTracker)), Published: start.Add(-time.Hour).Format(time.RFC3339)},
		}}
	}
	for sentence, c := range map[string]struct {
		plan    func(*plan.BuildPlan)
		feed    string // what is in the bucket; empty: nothing
		listed  string // the inventory; empty: a simulated guest's
		want    failure.Code
		says    string
		verdict string // empty: none is kept
	}{
		"no gate: reported":          {listed: pending, verdict: compliance.VerdictPassed},
		"a vulnerability":            {plan: feed, feed: debianTracker, want: failure.ComplianceRejected, says: "CVE-2026-0001 (high) in openssl 3.0.15-1: fixed in 3.0.16-1", verdict: compliance.VerdictRejected},
		"a pending update":           {plan: func(p *plan.BuildPlan) { p.Recipe.Gate.Vulnerabilities.Severity = "high" }, listed: pending, want: failure.ComplianceRejected, says: "PENDING-SECURITY-UPDATE (high) in bash 5.2.15-2: fixed in 5.2.15-3", verdict: compliance.VerdictRejected},
		"updates that are not known": {plan: func(p *plan.BuildPlan) { p.Recipe.Gate.Vulnerabilities.Severity = "high" }, listed: unknown, want: failure.ComplianceRejected, says: "no mirror", verdict: compliance.VerdictRejected},
		"a feed that is not there":   {plan: feed, want: failure.ComplianceFailed, says: "feeds/" + store.Digest([]byte(debianTracker))},
		"a feed that was altered":    {plan: feed, feed: "{}", want: failure.ComplianceFailed, says: "it was altered"},
		"a feed that is stale": {plan: func(p *plan.BuildPlan) {
			feed(p)
			p.Recipe.Gate.Vulnerabilities.Feeds[0].Published = "2020-01-01T00:00:00Z"
		}, feed: debianTracker, want: failure.ComplianceFailed, says: "it is stale"},
		"a vulnerability that is waived": {plan: func(p *plan.BuildPlan) {
			feed(p)
			p.Recipe.Checks.Waivers = append(p.Recipe.Checks.Waivers, recipe.Waiver{
				Vulnerability: "CVE-2026-0001", Package: "openssl", Reason: "not reachable here", Author: "ann", Approver: "bob",
				Created: start.AddDate(0, 0, -1).Format(time.DateOnly), Expires: start.AddDate(0, 0, 30).Format(time.DateOnly),
			})
		}, feed: debianTracker, verdict: compliance.VerdictPassed},
		"a false positive": {plan: func(p *plan.BuildPlan) {
			feed(p)
			p.Recipe.Checks.Waivers = append(p.Recipe.Checks.Waivers, recipe.Waiver{
				Vulnerability: "CVE-2026-0001", Package: "openssl", FalsePositive: waiver.FalsePositive{Justification: "vulnerable_code_not_present"},
				Reason: "this build has no such cipher", Author: "ann", Approver: "bob",
				Created: start.AddDate(0, 0, -1).Format(time.DateOnly), Expires: start.AddDate(0, 0, 30).Format(time.DateOnly),
			})
		}, feed: debianTracker, verdict: compliance.VerdictPassed},
	} {
		t.Run(sentence, func(t *testing.T) {
			p := checkedPlan(t)
			if c.plan != nil {
				c.plan(&p)
			}
			test := complianceCase{uploaded: zipped(gossSays(p, "0")), change: func(s *fakeS3, _ *fakeSSM) {
				if c.feed != "" {
					s.put("feeds/"+store.Digest([]byte(debianTracker)), []byte(c.feed))
				}
			}}
			if c.listed != "" {
				test.listed = zipped(c.listed)
			}
			out, s, err := test.run(t, p)
			if c.want != "" {
				requireCode(t, c.want, err)
				assert.Contains(t, err.Error(), c.says)
			} else {
				require.NoError(t, err)
			}
			if c.verdict == "" {
				return
			}
			raw := s.get("executions/run/vulnerabilities.json")
			var verdict vulnerability.Report
			require.NoError(t, json.Unmarshal(raw, &verdict))
			assert.Equal(t, c.verdict, verdict.Verdict)
			var r compliance.Report
			require.NoError(t, json.Unmarshal(s.get("executions/run/compliance.json"), &r))
			assert.Equal(t, c.verdict, r.Verdict)
			assert.Equal(t, store.Digest(raw), r.Vulnerabilities.SHA256)
			if c.want == "" {
				j := job(t, s, "EvaluateGate", p)
				_, _, err := readResults(t.Context(), s.store(), j, out.Results, p, "ami-new")
				require.NoError(t, err)
			}
		})
	}
}

// Publishing reads the verdict again, and trusts no state of the machine.
func TestNoImageIsPublishedWithoutAVerdictOnVulnerabilities(t *testing.T) {
	good := compliance.Vulnerabilities{Gate: true, Verdict: compliance.VerdictPassed}
	with := func(change func(*compliance.Vulnerabilities)) *compliance.Vulnerabilities {
		v := good
		change(&v)
		return &v
	}
	for sentence, c := range map[string]struct {
		v    *compliance.Vulnerabilities
		gate bool
		want string // empty: it is published
	}{
		"passed":                      {v: &good, gate: true},
		"none, and none is demanded":  {},
		"none":                        {gate: true, want: "no verdict on vulnerabilities"},
		"judged without the gate":     {v: with(func(v *compliance.Vulnerabilities) { v.Gate = false }), gate: true, want: "judged without it"},
		"rejected":                    {v: with(func(v *compliance.Vulnerabilities) { v.Verdict = compliance.VerdictRejected }), gate: true, want: `"rejected"`},
		"passed, though some rejects": {v: with(func(v *compliance.Vulnerabilities) { v.Rejecting = 1 }), gate: true, want: "1 that reject"},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := compliance.Report{Vulnerabilities: c.v}.VulnerabilityDoubts(c.gate)
			if c.want == "" {
				assert.Empty(t, got)
				return
			}
			assert.Contains(t, strings.Join(got, "; "), c.want)
		})
	}
	expired := compliance.Report{Vulnerabilities: with(func(v *compliance.Vulnerabilities) {
		v.Waivers = []compliance.Waiver{{Vulnerability: "CVE-2026-0001", Package: "openssl", Expires: "2020-01-01"}}
	})}
	requireCode(t, failure.ComplianceRejected, ended(expired, start))
}
