package evidence_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/test/golden"
)

// vulnerable is the rejected sample with vulnerabilities of every status.
func vulnerable() evidence.Report {
	r := rejected()
	r.Vulnerabilities = &evidence.Vulnerabilities{
		Verdict: compliance.VerdictRejected, Packages: 412, Gate: "high",
		Feeds: []evidence.Feed{{Name: "Debian security tracker", AsOf: "2026-11-23T04:00:00Z", SHA256: strings.Repeat("cd", 32)}},
		Findings: []evidence.Vulnerability{
			{ID: "CVE-2026-11111", Package: "openssl", Installed: "3.0.17-1~deb12u2", Fixed: "3.0.17-1~deb12u3", Severity: "high", Status: evidence.VulnerabilityRejecting},
			{ID: "CVE-2026-11111", Package: "libssl3", Installed: "3.0.17-1~deb12u2", Fixed: "3.0.17-1~deb12u3", Severity: "high", Status: evidence.VulnerabilityRejecting},
			{ID: "CVE-2026-22222", Package: "tar", Installed: "1.34+dfsg-1.2", Severity: "low", Status: evidence.VulnerabilityOpen},
			{
				ID: "CVE-2026-33333", Package: "containerd", Installed: "1.6.20~ds1-1+b1", Fixed: "1.6.24~ds1-1", Severity: "critical", Status: evidence.VulnerabilityWaived, Exploited: true,
				Waiver: &compliance.Waiver{Reason: "the plugin that it is in is not installed", Approver: "security@example.com", Expires: "2026-12-01"},
			},
			{ID: "CVE-2026-44444", Package: "bash", Installed: "5.2.15-2+b8", Severity: "medium", Status: evidence.VulnerabilityNotAffected},
		},
	}
	r.Compliance.Results[len(r.Compliance.Results)-1].Fix = "Set kernel.randomize_va_space = 2 in a file below /etc/sysctl.d, and look for a component that sets it to another value later."
	r.Diff = &evidence.Diff{ImageID: "ami-0123456789abcdef1", Execution: "debian-12-docker-20261101T174155Z-000001", Groups: []evidence.DiffGroup{
		{Title: "Packages", Changes: []evidence.Change{
			{What: "downgraded", Name: "containerd", Before: "1.6.24~ds1-1", After: "1.6.20~ds1-1+b1", Grave: true},
			{What: "upgraded", Name: "linux-image-6.1.0-41-cloud-amd64", Before: "6.1.158-1", After: "6.1.159-1"},
			{What: "added", Name: "netcat-openbsd", After: "1.219-1"},
		}},
		{Title: "Listening ports", Changes: []evidence.Change{{What: "added", Name: "tcp 0.0.0.0:4444", After: "/usr/bin/nc.openbsd -l -p 4444 --a-very-long-argument-that-does-not-break-anywhere-by-itself", Grave: true}}},
		{Title: "Users"},
	}}
	r.Approvals = &evidence.Approvals{Needed: 2, Requester: "builder@example.com", Decisions: []evidence.Approval{
		{Person: "first@example.com", Decision: "approved", Reason: "reviewed the differences", At: start.Add(time.Hour)},
		{Person: "second@example.com", Decision: "rejected", Reason: "nobody asked for netcat", At: start.Add(2 * time.Hour)},
	}}
	r.Bundle = &evidence.Bundle{SHA256: strings.Repeat("ef", 32), Key: "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"}
	return r
}

// samples are the reports that every format is written of.
func samples() map[string]evidence.Report {
	return map[string]evidence.Report{"published": published(), "rejected": rejected(), "vulnerable": vulnerable(), "simulated": simulated()}
}

func TestFindingsAreOrderedByWhatTheyMeanForTheImage(t *testing.T) {
	var ids []string
	for _, f := range vulnerable().Findings() {
		ids = append(ids, f.ID)
	}
	assert.Equal(t, []string{
		"SYS-09", "CVE-2026-11111/libssl3", "CVE-2026-11111/openssl", "SYS-02", // they reject
		"CVE-2026-22222/tar", "FILE-02", // open
		"CVE-2026-33333/containerd", "FWL-01", "LOG-03", // waived
	}, ids)
}

func TestJUnit(t *testing.T) {
	reports := samples()
	reports["dirty"] = dirty()
	for name, r := range reports {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, r.WriteJUnit(&b))
			golden.Testdata(t, name+".junit.xml", b.Bytes())
		})
	}
}

func TestJUnitNamesAreUniqueAndItsCountsAddUp(t *testing.T) {
	r := vulnerable()
	r.Compliance.Results = append(r.Compliance.Results, r.Compliance.Results...) // an engine that reports everything twice
	r.Compliance.Results[0].Evidence.Actual, r.Compliance.Results[0].Title = "\x00\x1b[31m]]>", "a \x07 <b>"
	var b bytes.Buffer
	require.NoError(t, r.WriteJUnit(&b))
	var read struct {
		Tests, Failures, Errors, Skipped int `xml:"-"`
		Suites                           []struct {
			Name    string `xml:"name,attr"`
			Tests   int    `xml:"tests,attr"`
			Skipped int    `xml:"skipped,attr"`
			Cases   []struct {
				Name      string `xml:"name,attr"`
				ClassName string `xml:"classname,attr"`
				Skipped   *struct {
					Message string `xml:"message,attr"`
				} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	require.NoError(t, xml.Unmarshal(b.Bytes(), &read), "it is well-formed, whatever a guest answered")
	seen := map[string]bool{}
	for _, s := range read.Suites {
		assert.Len(t, s.Cases, s.Tests)
		skipped := 0
		for _, c := range s.Cases {
			assert.Equal(t, s.Name, c.ClassName)
			assert.False(t, seen[c.ClassName+c.Name], c.Name)
			seen[c.ClassName+c.Name] = true
			if c.Skipped != nil {
				skipped++
				assert.Contains(t, c.Skipped.Message, "waived: ")
			}
		}
		assert.Equal(t, s.Skipped, skipped)
	}
	assert.Len(t, seen, len(r.Compliance.Results)+4, "and the vulnerabilities, without the false positive")
}

func TestASFF(t *testing.T) {
	for name, r := range samples() {
		t.Run(name, func(t *testing.T) {
			findings, err := r.ASFF(map[string]string{"debian-12-docker/FILE-02": "2026-01-02T03:04:05.000Z"})
			require.NoError(t, err)
			raw, err := json.MarshalIndent(findings, "", "  ")
			require.NoError(t, err)
			golden.Testdata(t, name+".asff.json", append(raw, '\n'))

			// The SDK's own types take every field.
			dec := json.NewDecoder(bytes.NewReader(raw))
			dec.DisallowUnknownFields()
			var known []types.AwsSecurityFinding
			require.NoError(t, dec.Decode(&known))
			for _, f := range known {
				assert.Contains(t, types.SeverityLabel("").Values(), f.FindingProviderFields.Severity.Label)
				assert.Contains(t, types.RecordState("").Values(), f.RecordState)
				if f.Compliance != nil {
					assert.Contains(t, types.ComplianceStatus("").Values(), f.Compliance.Status)
				}
				for _, required := range []*string{f.AwsAccountId, f.CreatedAt, f.Description, f.GeneratorId, f.Id, f.ProductArn, f.SchemaVersion, f.Title, f.UpdatedAt, f.Resources[0].Id, f.Resources[0].Type} {
					require.NotNil(t, required)
					assert.NotEmpty(t, *required)
				}
			}
		})
	}
}

func TestFindingsAreClaimedOnlyOfWhatWasChecked(t *testing.T) {
	_, err := dirty().ASFF(nil)
	require.ErrorIs(t, err, evidence.ErrNotChecked)
	r := rejected()
	r.Execution.ID = "executions/x"
	_, err = r.ASFF(nil)
	assert.EqualError(t, err, `the execution's id "executions/x" is no ARN, so that partition, region and account are unknown`)
}

func TestSecurityHubTakesEveryBatch(t *testing.T) {
	r := rejected()
	for i := range 1000 {
		x := result(fmt.Sprintf("BIG-%04d", i), "high", "fail", strings.Repeat("ü\n", 400), strings.Repeat("e", 3000), strings.Repeat("\x01", 3000))
		r.Compliance.Results = append(r.Compliance.Results, x)
	}
	findings, err := r.ASFF(nil)
	require.NoError(t, err)
	batches, err := evidence.BatchASFF(findings)
	require.NoError(t, err)
	sent := 0
	for _, b := range batches {
		size := 0
		for _, f := range b {
			raw, err := json.Marshal(f)
			require.NoError(t, err)
			size += len(raw)
			assert.LessOrEqual(t, len([]rune(f.Title)), 256)
			assert.LessOrEqual(t, len([]rune(f.Description)), 1024)
			assert.NotContains(t, f.Title, "\n")
		}
		assert.LessOrEqual(t, size, evidence.MaxASFFBytes)
		assert.LessOrEqual(t, len(b), evidence.MaxASFFBatch)
		sent += len(b)
	}
	assert.Equal(t, len(findings), sent)
	assert.Greater(t, len(batches), 9)

	none, err := evidence.BatchASFF(nil)
	require.NoError(t, err)
	assert.Empty(t, none)
	_, err = evidence.BatchASFF([]evidence.ASFF{{ID: "x", Description: strings.Repeat("x", evidence.MaxASFFBytes)}})
	assert.ErrorContains(t, err, "Security Hub takes 240000")
}
