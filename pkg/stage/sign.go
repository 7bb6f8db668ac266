package stage

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// SigningAPI is what Sign needs of KMS.
type SigningAPI interface {
	PublicKeyAPI
	Sign(context.Context, *kms.SignInput, ...func(*kms.Options)) (*kms.SignOutput, error)
}

// Sign writes the manifest of a release, from what EC2 says of the images, and signs
// statements about it. Nothing is shared or published that it has not signed. Where
// people must approve the release, it runs twice: the summary is signed when they have.
type Sign struct {
	Settings Settings
	Store    store.Store
	KeyID    string // ARN of the key
	KMS      SigningAPI
	Desk     approval.Desk // what people decided
	EC2      func(region string) SignEC2
}

// Run returns the signed evidence. To call it again signs nothing again: what an earlier
// attempt has signed is kept, or the error is EvidenceMismatch when it is of something
// else.
func (s Sign) Run(ctx context.Context, in SignInput) (SignOutput, error) {
	p, err := loadPlan(ctx, s.Store, in.Job)
	if err != nil {
		return SignOutput{}, err
	}
	images, err := s.images(in, p)
	if err != nil {
		return SignOutput{}, err
	}
	report, rawReport, err := readResults(ctx, s.Store, in.Job, in.Results, p, images[homeOf(p)])
	if err != nil {
		return SignOutput{}, failure.Wrap(failure.CodeOf(err), err, "nothing is signed without compliance results")
	}
	rawPlan, err := s.Store.Get(ctx, in.Plan)
	if err != nil {
		return SignOutput{}, err
	}
	key, err := publicKey(ctx, s.KMS, s.KeyID)
	if err != nil {
		return SignOutput{}, err
	}
	inventory, err := s.inventory(ctx, in, report)
	if err != nil {
		return SignOutput{}, err
	}
	records := bundle.Files{contract.PlanFile: rawPlan, contract.ComplianceObject: rawReport, contract.InventoryObject: inventory}
	if records[contract.VulnerabilitiesObject], err = s.vulnerabilities(ctx, in, report); err != nil {
		return SignOutput{}, err
	}
	m, err := s.manifest(ctx, in, p, report, images, key)
	if err != nil {
		return SignOutput{}, err
	}
	if records[contract.DiffObject], err = s.diff(ctx, in, p, m, records, key); err != nil {
		return SignOutput{}, err
	}
	m.Files = bundle.FilesOf(records)
	if m.Approvals, err = neededFor(p, records[contract.DiffObject]); err != nil {
		return SignOutput{}, err
	}
	w := signing{Sign: s, in: in, plan: p, key: key, files: records, attestations: bundle.Files{}}
	return w.run(ctx, m, report)
}

// inventory is what CheckCompliance kept of the image, whose digest the results name.
func (s Sign) inventory(ctx context.Context, in SignInput, report compliance.Report) ([]byte, error) {
	if report.InventorySHA256 == "" {
		return nil, failure.New(failure.EvidenceFailed, "the results of the checks name no inventory: nothing is signed without one")
	}
	raw, err := s.Store.Get(ctx, store.Object{Bucket: s.Store.Bucket, Key: inventoryKey(in.Execution), SHA256: report.InventorySHA256})
	if failure.CodeOf(err) == failure.InvalidInput { // it is missing, or was altered
		err = failure.Wrap(failure.EvidenceMismatch, err, "nothing is signed without the inventory that was judged")
	}
	return raw, err
}

// vulnerabilities is the verdict on them that CheckCompliance kept, whose digest the
// results name.
func (s Sign) vulnerabilities(ctx context.Context, in SignInput, report compliance.Report) ([]byte, error) {
	if report.Vulnerabilities == nil {
		return nil, failure.New(failure.EvidenceFailed, "the results of the checks name no verdict on vulnerabilities: nothing is signed without one")
	}
	raw, err := s.Store.Get(ctx, store.Object{Bucket: s.Store.Bucket, Key: vulnerabilitiesKey(in.Execution), SHA256: report.Vulnerabilities.SHA256})
	if failure.CodeOf(err) == failure.InvalidInput { // it is missing, or was altered
		err = failure.Wrap(failure.EvidenceMismatch, err, "nothing is signed without the vulnerabilities that were judged")
	}
	return raw, err
}

// images are the image ids by region, one for each of the plan's.
func (s Sign) images(in SignInput, p plan.BuildPlan) (map[string]string, error) {
	images := map[string]string{}
	for _, c := range in.Copies {
		images[c.Region] = c.ImageID
	}
	for _, region := range regionsOf(p) {
		if images[region] == "" {
			return nil, failure.New(failure.InvalidInput, "the copies lack one in the plan's region %s", region)
		}
	}
	if len(images) != len(regionsOf(p)) {
		return nil, failure.New(failure.InvalidInput, "the copies are not those of the plan's regions %v", regionsOf(p))
	}
	return images, nil
}

// manifest describes the release as EC2 shows it now. It lacks the files.
func (s Sign) manifest(ctx context.Context, in SignInput, p plan.BuildPlan, report compliance.Report, images map[string]string, key *ecdsa.PublicKey) (bundle.Manifest, error) {
	of := bindingOf(in.Job, p)
	m := bundle.Manifest{
		Schema: bundle.ManifestSchema, Made: in.Now.UTC().Truncate(time.Millisecond), Recipe: p.Recipe.Name, ReleaseID: p.ReleaseID, Fingerprint: p.Fingerprint, PlanSHA256: in.Plan.SHA256,
		FactoryVersion: p.FactoryVersion, Guests: bundle.Guests{Kind: report.Guests.Kind, Description: report.Guests.Description},
		Execution: bundle.Execution{ID: of.Execution, Name: in.Execution.Name, Started: of.Started},
		Source: bundle.Source{
			ImageID: p.Source.ImageID, Name: p.Source.Name, OwnerID: p.Source.OwnerID, Architecture: p.Source.Architecture, CreationDate: p.Source.CreationDate,
		},
		Owner: partition.AccountOf(in.Execution.ID), Images: []bundle.Image{}, Audience: audienceOf(p),
		Key: bundle.Key{ID: s.KeyID, SHA256: bundle.KeyID(key)},
	}
	for _, region := range slices.Sorted(slices.Values(regionsOf(p))) {
		seen, err := observe(ctx, s.EC2(region), region, images[region])
		if err != nil {
			return m, awserr.Wrap(err, failure.EvidenceFailed, "describe %s", imageIn(region, images[region]))
		}
		if wrong := seen.unfit(m.Owner); len(wrong) > 0 {
			return m, failure.New(failure.EvidenceMismatch, "%s is not signed: %s", imageIn(region, images[region]), strings.Join(wrong, "; "))
		}
		m.Images = append(m.Images, seen.image)
	}
	return m, nil
}

// signing is one call's work.
type signing struct {
	Sign
	in           SignInput
	plan         plan.BuildPlan
	key          *ecdsa.PublicKey
	files        bundle.Files // the bundle
	attestations bundle.Files // without the summary
}

func (w *signing) run(ctx context.Context, m bundle.Manifest, report compliance.Report) (SignOutput, error) {
	m, err := w.keep(ctx, m)
	if err != nil {
		return SignOutput{}, err
	}
	found, err := vulnerabilitiesIn(w.files[contract.VulnerabilitiesObject])
	if err != nil {
		return SignOutput{}, err
	}
	raw := m.Encode()
	w.files[contract.ManifestObject], w.files[contract.KeyFile] = raw, bundle.PEM(w.key)
	for _, part := range []struct {
		name      string
		predicate any
	}{
		{contract.ProvenanceAttestation, bundle.ProvenanceOf(m)},
		{contract.ResultsAttestation, testResult(m, report)},
		{contract.InventoryAttestation, json.RawMessage(w.files[contract.InventoryObject])},
		{contract.VulnerabilitiesAttestation, found},
	} {
		if err := w.attest(ctx, part.name, part.predicate); err != nil {
			return SignOutput{}, err
		}
	}
	manifest := store.Object{Bucket: w.Store.Bucket, Key: executionKey(w.in.Execution, contract.ManifestObject), SHA256: store.Digest(raw)}
	if w.in.Manifest != nil && *w.in.Manifest != manifest {
		return SignOutput{}, failure.New(failure.EvidenceMismatch, "people were asked about the manifest s3://%s/%s, SHA-256 %s; the release's has the SHA-256 %s", w.in.Manifest.Bucket, w.in.Manifest.Key, w.in.Manifest.SHA256, manifest.SHA256)
	}
	if w.in.Manifest != nil && m.Approvals == 0 {
		return SignOutput{}, failure.New(failure.EvidenceMismatch, "people were asked about the manifest s3://%s/%s, which says that nobody must approve the release", manifest.Bucket, manifest.Key)
	}
	if m.Approvals > 0 {
		if w.in.Manifest == nil {
			return SignOutput{Manifest: manifest, Approvals: m.Approvals}, nil
		}
		if err := w.approvals(ctx); err != nil {
			return SignOutput{}, err
		}
	}
	if err := w.attest(ctx, contract.SummaryAttestation, bundle.SummaryOf(m, w.attestations, m.Made)); err != nil {
		return SignOutput{}, err
	}
	if _, err := bundle.Verify(w.files, w.key); err != nil {
		return SignOutput{}, failure.Wrap(failure.EvidenceFailed, err, "the evidence that was made is not verified")
	}
	packed, err := w.files.Pack()
	if err != nil {
		return SignOutput{}, failure.Wrap(failure.EvidenceFailed, err, "the evidence")
	}
	stored, err := w.Store.Put(ctx, executionKey(w.in.Execution, contract.EvidenceObject), "application/gzip", packed)
	if err != nil {
		return SignOutput{}, err
	}
	return SignOutput{Manifest: manifest, Evidence: stored, Approvals: m.Approvals}, nil
}

// approvals signs who approved the release.
func (w *signing) approvals(ctx context.Context) error {
	r, v, err := Approvals{w.Desk}.verdict(ctx, w.in.Job, w.plan)
	if err != nil {
		return err
	}
	predicate := bundle.Approvals{Manifest: r.BundleDigest, Requester: r.Requester, Needed: r.Needed}
	for _, a := range v.Approvals {
		predicate.Approvals = append(predicate.Approvals, bundle.Approval{Person: a.Person, UserARN: a.UserARN, At: a.At.UTC(), Reason: a.Reason, RequestID: a.RequestID})
	}
	return w.attest(ctx, contract.ApprovalsAttestation, predicate)
}

// keep stores the manifest, once. What an earlier attempt has stored must be the same
// but for its time, which stays.
func (w *signing) keep(ctx context.Context, m bundle.Manifest) (bundle.Manifest, error) {
	there, err := w.once(ctx, contract.ManifestObject, m.Encode())
	if err != nil || there == nil {
		return m, err
	}
	earlier, err := bundle.ParseManifest(there)
	if err == nil {
		m.Made = earlier.Made
	}
	if err != nil || !bytes.Equal(m.Encode(), there) {
		return m, failure.New(failure.EvidenceMismatch, "%s was written before and describes another release; it is not overwritten", objectAt(w.Store, w.in.Execution, contract.ManifestObject))
	}
	return m, nil
}

// once stores an object unless it exists; then it returns what is there.
func (w *signing) once(ctx context.Context, name string, body []byte) ([]byte, error) {
	key := executionKey(w.in.Execution, name)
	created, err := w.Store.Create(ctx, key, "application/json", body)
	if err != nil || created {
		return nil, err
	}
	return w.Store.ReadAtMost(ctx, key, bundle.MaxFile)
}

// attest signs a statement about the manifest and stores it, once.
func (w *signing) attest(ctx context.Context, name string, predicate any) error {
	statement, err := bundle.About(store.Digest(w.files[contract.ManifestObject]), bundle.PredicateTypes()[name], predicate)
	if err != nil {
		return failure.Wrap(failure.EvidenceFailed, err, "%s", name)
	}
	envelope, err := w.signed(ctx, name, statement)
	if err != nil {
		return err
	}
	raw := envelope.Encode()
	w.files[name], w.files[contract.SigstoreOf(name)] = raw, envelope.Sigstore()
	if name != contract.SummaryAttestation {
		w.attestations[name] = raw
	}
	_, err = w.Store.Put(ctx, executionKey(w.in.Execution, contract.SigstoreOf(name)), "application/json", envelope.Sigstore())
	return err
}

// signed returns the envelope of a statement: the one that an earlier attempt has
// stored, or a new one. Two signatures of one statement differ, and the summary lists
// the digests of envelopes.
func (w *signing) signed(ctx context.Context, name string, statement bundle.Statement) (bundle.Envelope, error) {
	key := executionKey(w.in.Execution, name)
	there, err := w.Store.ReadAtMost(ctx, key, bundle.MaxFile)
	if errors.Is(err, store.ErrNone) {
		envelope, failed := bundle.Sign(ctx, kmsSigner{w.KMS, w.KeyID}, w.key, statement)
		if failed != nil {
			return envelope, awserr.Wrap(failed, failure.EvidenceFailed, "sign %s with the key %s", name, w.KeyID)
		}
		// If an envelope is there, another attempt was quicker, and err is nil.
		if there, err = w.once(ctx, name, envelope.Encode()); err != nil || there == nil {
			return envelope, err
		}
	}
	if err != nil {
		return bundle.Envelope{}, err
	}
	envelope, err := bundle.Parse(there)
	if err == nil {
		err = envelope.Verify(w.key)
	}
	if err == nil {
		var want []byte
		if want, err = json.Marshal(statement); err == nil && !bytes.Equal(envelope.Payload, want) {
			err = errors.New("it says something else")
		}
	}
	if err != nil {
		return bundle.Envelope{}, failure.Wrap(failure.EvidenceMismatch, err, "%s was written before; it is not overwritten", objectAt(w.Store, w.in.Execution, name))
	}
	return envelope, nil
}

// kmsSigner is a bundle.Signer with a key in KMS.
type kmsSigner struct {
	api   SigningAPI
	keyID string
}

func (s kmsSigner) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	out, err := s.api.Sign(ctx, &kms.SignInput{
		KeyId: &s.keyID, Message: digest, MessageType: kmstypes.MessageTypeDigest, SigningAlgorithm: kmstypes.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		return nil, err
	}
	return out.Signature, nil
}

// testResult is what the checks said, as in-toto has it.
func testResult(m bundle.Manifest, report compliance.Report) bundle.TestResult {
	out := bundle.TestResult{Result: bundle.TestsPassed, PassedTests: []string{}, WarnedTests: []string{}, FailedTests: []string{}}
	for _, f := range m.Files {
		if f.Name == contract.PlanFile {
			out.Configuration = append(out.Configuration, bundle.Descriptor{Name: f.Name, Digest: &bundle.Digest{SHA256: f.SHA256}})
		}
	}
	for _, r := range report.Results {
		at := &out.FailedTests
		switch {
		case r.Status == compliance.StatusPass, r.Status == compliance.StatusNotApplicable:
			at = &out.PassedTests
		case r.Waiver != nil:
			at = &out.WarnedTests
		}
		*at = append(*at, r.ControlID)
	}
	if len(out.WarnedTests)+len(out.FailedTests) > 0 {
		out.Result = bundle.TestsWarned
	}
	return out
}

// vulnerabilitiesIn is a verdict on vulnerabilities, as in-toto has it.
func vulnerabilitiesIn(raw []byte) (bundle.Vulnerabilities, error) {
	var r vulnerability.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		return bundle.Vulnerabilities{}, failure.Wrap(failure.EvidenceMismatch, err, "%s cannot be read", contract.VulnerabilitiesObject)
	}
	out := bundle.Vulnerabilities{
		Scanner:  bundle.Scanner{URI: "ami-factory:" + r.Schema, Result: []bundle.Vulnerability{}},
		Metadata: bundle.ScanMetadata{Started: r.Evaluated, Finished: r.Evaluated},
	}
	for _, f := range r.Feeds {
		published, err := time.Parse(time.RFC3339, f.Published)
		if err == nil && published.After(out.Scanner.DB.LastUpdate) {
			out.Scanner.DB = bundle.ScannerDB{URI: f.Name, Version: "sha256:" + f.SHA256, LastUpdate: published}
		}
	}
	for _, f := range r.Findings {
		one := bundle.Vulnerability{
			ID: f.ID, Severity: []bundle.Score{{Method: "ami-factory", Score: f.Severity}},
			Annotations: []map[string]string{{"package": f.Package, "installed": f.Installed, "fixed": f.Fixed, "outcome": f.Outcome}},
		}
		out.Scanner.Result = append(out.Scanner.Result, one)
	}
	return out, nil
}
