package stage

import (
	"context"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// vulnerabilitiesKey is where an execution keeps the verdict on its image's
// vulnerabilities.
func vulnerabilitiesKey(e Execution) string { return executionKey(e, contract.VulnerabilitiesObject) }

// scanner is what the recipe's gate asks about vulnerabilities.
func (s CheckCompliance) scanner(gate recipe.VulnerabilityGate) (vulnerability.Scanner, error) {
	if gate.Scanner == recipe.InspectorScanner {
		return vulnerability.Inspector{API: scanning{s.Inspector}}, s.Settings.checkScanner(gate)
	}
	offline := vulnerability.Offline{MaximumAge: time.Duration(gate.Age())}
	for _, f := range gate.Feeds {
		published, err := time.Parse(time.RFC3339, f.Published)
		if err != nil {
			published = time.Time{} // a recipe is checked: the scanner refuses a feed without a time
		}
		key := contract.FeedKey(f.SHA256)
		offline.Sources = append(offline.Sources, vulnerability.Source{
			Name: "s3://" + s.Store.Bucket + "/" + key, Kind: f.Kind, SHA256: f.SHA256, Published: published,
			Open: func(ctx context.Context) (io.ReadCloser, error) {
				out, err := s.Store.API.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.Store.Bucket, Key: &key})
				if err != nil {
					return nil, awserr.Wrap(err, failure.ComplianceFailed, "read s3://%s/%s", s.Store.Bucket, key)
				}
				return out.Body, nil
			},
		})
	}
	return offline, nil
}

// scanning gives errors of Amazon Inspector the factory's codes, by which the state
// machine tries again.
type scanning struct{ api vulnerability.SBOMScanner }

// ScanSBOM implements vulnerability.SBOMScanner.
func (s scanning) ScanSBOM(ctx context.Context, bom []byte) ([]byte, error) {
	out, err := s.api.ScanSBOM(ctx, bom)
	return out, awserr.Wrap(err, failure.ComplianceFailed, "have Amazon Inspector scan what is installed")
}

// checkScanner refuses a scanner that the factory is deployed without.
func (s Settings) checkScanner(gate recipe.VulnerabilityGate) error {
	if gate.Scanner == recipe.InspectorScanner && !s.InspectorScan {
		return failure.New(failure.RecipeInvalid, "gate.vulnerabilities.scanner is %s, and the factory is deployed without it: deploy it with the context inspectorScan=true, or pin feeds", recipe.InspectorScanner)
	}
	return nil
}

// judgeVulnerabilities finds the vulnerabilities of an inventory, keeps the verdict and
// makes it part of the report's.
func (s CheckCompliance) judgeVulnerabilities(ctx context.Context, in ComplianceInput, p plan.BuildPlan, v inventory.Inventory, report *compliance.Report) error {
	gate := p.Recipe.Gate.Vulnerabilities
	scanner, err := s.scanner(gate)
	if err != nil {
		return err
	}
	found, err := scanner.Scan(ctx, v, in.Now)
	if err != nil {
		return failure.Wrap(codeOr(err, failure.ComplianceFailed), err, "look for vulnerabilities of %s", in.ImageID)
	}
	verdict := vulnerability.Evaluate(vulnerability.Input{
		Of: report.Of, ImageID: in.ImageID, InventorySHA256: report.InventorySHA256, Inventory: v, Result: found,
		Policy:  vulnerability.Policy{Gate: gate.Severity != "", Severity: gate.Severity, OnlyFixable: gate.OnlyFixable, GraceDays: gate.GraceDays},
		Waivers: p.Accepted(), Now: in.Now,
	})
	stored, err := s.Store.PutJSON(ctx, vulnerabilitiesKey(in.Execution), verdict)
	if err != nil {
		return err
	}
	report.Judge(verdict.Summary(stored.SHA256))
	return nil
}

// keptPending reads which security updates were pending in the guest when the
// execution of a name checked its image.
func keptPending(ctx context.Context, s store.Store, maker string, of *compliance.Vulnerabilities) (inventory.Pending, error) {
	const what = "the verdict on vulnerabilities"
	key := vulnerabilitiesKey(Execution{Name: maker})
	if of == nil {
		return inventory.Pending{}, mismatch(what, s, key, []string{"the record of results names none"})
	}
	raw, err := keptObject(ctx, s, what, key, maxKept)
	if err != nil {
		return inventory.Pending{}, err
	}
	if got := store.Digest(raw); got != of.SHA256 {
		return inventory.Pending{}, mismatch(what, s, key, []string{"its SHA-256 is " + got + ", the record of results names " + of.SHA256})
	}
	var r vulnerability.Report
	err = decodeRecord(what, s, key, raw, &r)
	return r.Pending, err
}
