package stage

import (
	"context"
	"errors"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// vulnerabilities reads the verdict on the packages of the image; nil if there is none.
func (s Notify) vulnerabilities(ctx context.Context, in NotifyInput, p *plan.BuildPlan) (*evidence.Vulnerabilities, error) {
	key := executionKey(in.Execution, contract.VulnerabilitiesObject)
	raw, err := s.Store.Read(ctx, key)
	if errors.Is(err, store.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, failure.Wrap(codeOr(err, failure.Internal), err, "read the vulnerabilities for the report")
	}
	const what = "the verdict on vulnerabilities"
	var r vulnerability.Report
	if err := decodeRecord(what, s.Store, key, raw, &r); err != nil {
		return nil, err
	}
	if p == nil {
		return nil, mismatch(what, s.Store, key, []string{"the execution has no plan"})
	}
	if err := mismatch(what, s.Store, key, r.Of.Deviations(bindingOf(in.Job, *p))); err != nil {
		return nil, err
	}
	return vulnerabilitiesOf(r), nil
}

// vulnerabilitiesOf is the verdict as reports show it.
func vulnerabilitiesOf(r vulnerability.Report) *evidence.Vulnerabilities {
	out := &evidence.Vulnerabilities{Verdict: r.Verdict, Packages: r.Packages, Warnings: r.Warnings}
	if r.Policy.Gate {
		out.Gate = r.Policy.Severity
	}
	for _, f := range r.Feeds {
		out.Feeds = append(out.Feeds, evidence.Feed{Name: f.Name, AsOf: f.Published, SHA256: f.SHA256})
	}
	statuses := map[string]string{vulnerability.Rejects: evidence.VulnerabilityRejecting, vulnerability.Waived: evidence.VulnerabilityWaived, vulnerability.NotAffected: evidence.VulnerabilityNotAffected}
	for _, f := range r.Findings {
		status, ok := statuses[f.Outcome]
		if !ok {
			status = evidence.VulnerabilityOpen
		}
		out.Findings = append(out.Findings, evidence.Vulnerability{
			ID: f.ID, Package: f.Package, Installed: f.Installed, Fixed: f.Fixed, Severity: f.Severity, Status: status, Exploited: f.Exploited != "", Waiver: f.Waiver,
		})
	}
	return out
}
