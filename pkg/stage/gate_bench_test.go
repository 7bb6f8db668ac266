package stage

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// BenchmarkGate judges an image of 1,000 controls and 900 packages with a feed of the
// size of Debian's tracker, 51 MB, from the embedded S3.
func BenchmarkGate(b *testing.B) {
	var specs []compliance.Spec
	for i := range 1000 {
		specs = append(specs, compliance.Spec{
			ID: fmt.Sprintf("BIG-%04d", i), Title: "A control with a title of ordinary length", Severity: "medium",
			Goss: compliance.Goss{"kernel-param": {fmt.Sprintf("net.ipv4.conf.all.p%d", i): {"value": "0"}}},
		})
	}
	p := testPlan()
	var err error
	p.Checks, p.Controls, err = compliance.Compile([]compliance.Set{{Component: "hardening", Specs: specs}})
	require.NoError(b, err)
	var results []any
	for _, c := range p.Controls {
		results = append(results, map[string]any{
			"resource-id": c.Resources[0].ID, "resource-type": "KernelParam", "property": "value", "successful": true, "result": 0, "skipped": false, "err": nil,
			"start-time": start, "end-time": start, "matcher-result": map[string]any{"actual": "0", "expected": []string{"0"}, "message": "to equal"},
		})
	}
	raw, err := json.Marshal(map[string]any{"results": results, "summary": map[string]any{"test-count": 1000, "failed-count": 0, "skipped-count": 0}})
	require.NoError(b, err)

	listed := inventory.Inventory{System: inventory.System{ID: "debian", Version: "12", Codename: "bookworm"}, Simulated: true}
	for i := range 900 {
		listed.Packages = append(listed.Packages, inventory.Package{
			Type: inventory.Deb, Name: fmt.Sprintf("package-%d", i), Version: "1.2.3-4+deb12u1", Arch: "amd64",
			Source: fmt.Sprintf("source-%d", i/2), SourceVersion: "1.2.3-4+deb12u1",
		})
	}
	document, err := listed.CycloneDX(inventory.Plain)
	require.NoError(b, err)

	releases := map[string]any{}
	for _, name := range []string{"bullseye", "bookworm", "trixie", "forky", "sid"} {
		releases[name] = map[string]any{
			"status": "resolved", "fixed_version": "1.2.3-4+deb12u2", "urgency": "not yet assigned",
			"repositories": map[string]string{name: "1.2.3-4+deb12u1", name + "-security": "1.2.3-4+deb12u2"},
		}
	}
	all := map[string]any{}
	for i := range 3500 {
		source := map[string]any{}
		for j := range 12 {
			source[fmt.Sprintf("CVE-2026-%05d", i*12+j)] = map[string]any{"description": strings.Repeat("a vulnerability of some kind ", 10), "releases": releases, "scope": "local"}
		}
		all[fmt.Sprintf("source-%d", i)] = source
	}
	feed, err := json.Marshal(all)
	require.NoError(b, err)
	p.Recipe.Gate.Vulnerabilities = recipe.VulnerabilityGate{Feeds: []recipe.Feed{
		{Kind: vulnerability.DebianTracker, SHA256: store.Digest(feed), Published: start.Add(-time.Hour).Format(time.RFC3339)},
	}}
	s := newS3(b)
	s.put("feeds/"+store.Digest(feed), feed)
	in := ComplianceInput{Job: job(b, s, "EvaluateGate", p), ImageID: "ami-new", InstanceID: "i-2", CommandID: "c-1"}
	check := CheckCompliance{Settings: settings(), Store: s.store()}
	b.ReportAllocs()
	for b.Loop() {
		out, err := check.gate(b.Context(), in, p, listing{Inventory: listed, document: document}, compliance.Input{
			Results: raw, ResultsURI: "s3://factory/results", InstanceID: "i-2",
			Engine: compliance.Engine{Name: "goss", Version: "v0.4.10"}, Guests: settings().guests(),
		})
		require.NoError(b, err)
		require.Equal(b, 1000, out.Passed)
	}
	var verdict vulnerability.Report
	require.NoError(b, json.Unmarshal(s.get("executions/run/vulnerabilities.json"), &verdict))
	require.Len(b, verdict.Findings, 450*12)
}
