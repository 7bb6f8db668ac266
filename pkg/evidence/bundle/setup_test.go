package bundle_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
)

// signer is a key in memory. KMS returns the same form of signature.
type signer struct{ *ecdsa.PrivateKey }

func (s signer) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, s.PrivateKey, digest)
}

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return signer{key}
}

var made = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// records are those that a bundle of this test is about.
func records() bundle.Files {
	return bundle.Files{
		contract.PlanFile:         []byte(`{"recipe":{"name":"debian-12-docker"}}`),
		contract.ComplianceObject: []byte("{\"verdict\":\"passed\"}\n"),
		"inventory.cdx.json":      []byte("{\"bomFormat\":\"CycloneDX\"}\n"),
		"vulnerabilities.json":    []byte("{\"findings\":[]}\n"),
		"diff.json":               []byte("{}\n"),
	}
}

func manifest(key *ecdsa.PublicKey, records bundle.Files) bundle.Manifest {
	m := bundle.Manifest{
		Schema: bundle.ManifestSchema, Made: made, Recipe: "debian-12-docker", ReleaseID: strings.Repeat("1", 64), Fingerprint: strings.Repeat("2", 64),
		FactoryVersion: "1.2.3", Guests: bundle.Guests{Kind: "vm", Description: "qemu"},
		Execution: bundle.Execution{ID: "arn:aws:states:eu-central-1:111122223333:execution:ami-factory:run-1", Name: "run-1", Started: made.Add(-time.Hour)},
		Source:    bundle.Source{ImageID: "ami-0source", Name: "debian-12-amd64-20261101", OwnerID: "136693071363", Architecture: "x86_64", CreationDate: "2026-11-01T00:00:00.000Z"},
		Owner:     "111122223333",
		Images: []bundle.Image{{
			Region: "eu-central-1", ImageID: "ami-0home", Name: "debian-12-docker-x", Architecture: "x86_64", CreationDate: "2026-11-30T11:50:00.000Z", RootDevice: "/dev/xvda", BakedBy: "run-1",
			Volumes: []bundle.Volume{{Device: "/dev/xvda", SnapshotID: "snap-0home", SizeGiB: 8, Encrypted: true, KMSKeyID: "arn:aws:kms:eu-central-1:111122223333:key/1"}},
		}},
		Audience: bundle.Audience{Accounts: []string{"444455556666"}, Organizations: []string{}},
		Key:      bundle.Key{ID: "arn:aws:kms:eu-central-1:111122223333:key/2", SHA256: bundle.KeyID(key)},
		Files:    bundle.FilesOf(records),
	}
	m.PlanSHA256 = m.Files[planAt(m)].SHA256
	return m
}

func planAt(m bundle.Manifest) int {
	for i, f := range m.Files {
		if f.Name == contract.PlanFile {
			return i
		}
	}
	return 0
}

// statements are the predicates of a manifest's attestations, by file.
func statements(m bundle.Manifest, manifestSHA256 string) map[string]any {
	out := map[string]any{
		contract.ProvenanceAttestation: bundle.ProvenanceOf(m),
		contract.ResultsAttestation: bundle.TestResult{
			Result: bundle.TestsWarned, Configuration: []bundle.Descriptor{{Name: contract.PlanFile, Digest: &bundle.Digest{SHA256: m.PlanSHA256}}},
			PassedTests: []string{"SYS-01"}, WarnedTests: []string{"SYS-02"}, FailedTests: []string{},
		},
		contract.InventoryAttestation: map[string]string{"bomFormat": "CycloneDX"},
		contract.VulnerabilitiesAttestation: bundle.Vulnerabilities{
			Scanner:  bundle.Scanner{URI: "https://github.com/ami-factory/ami-factory", DB: bundle.ScannerDB{LastUpdate: made}, Result: []bundle.Vulnerability{}},
			Metadata: bundle.ScanMetadata{Started: made, Finished: made},
		},
	}
	if m.Approvals > 0 {
		out[contract.ApprovalsAttestation] = bundle.Approvals{Manifest: manifestSHA256, Requester: "carol", Needed: m.Approvals, Approvals: []bundle.Approval{
			{Person: "alice", UserARN: "arn:aws:sts::111122223333:assumed-role/approver/alice", At: made, Reason: "as expected"},
			{Person: "bob", UserARN: "arn:aws:sts::111122223333:assumed-role/approver/bob", At: made, Reason: "reviewed"},
		}}
	}
	return out
}

// change is what a test does to a bundle before it is signed; nil: nothing.
type change struct {
	manifest   func(*bundle.Manifest)
	statements func(map[string]any)
	statement  func(name string, s *bundle.Statement)
	summary    func(*bundle.Summary)
}

// signed makes a bundle.
func signed(t testing.TB, by signer, c change) bundle.Files {
	t.Helper()
	files := records()
	m := manifest(&by.PublicKey, files)
	if c.manifest != nil {
		c.manifest(&m)
	}
	files[contract.ManifestObject] = m.Encode()
	files[contract.KeyFile] = bundle.PEM(&by.PublicKey)
	sum := bundle.FilesOf(bundle.Files{"m": m.Encode()})[0].SHA256
	add := func(name string, predicate any) []byte {
		s, err := bundle.About(sum, bundle.PredicateTypes()[name], predicate)
		require.NoError(t, err)
		if c.statement != nil {
			c.statement(name, &s)
		}
		e, err := bundle.Sign(t.Context(), by, &by.PublicKey, s)
		require.NoError(t, err)
		files[name], files[contract.SigstoreOf(name)] = e.Encode(), e.Sigstore()
		return e.Encode()
	}
	all := statements(m, sum)
	if c.statements != nil {
		c.statements(all)
	}
	attestations := bundle.Files{}
	for name, predicate := range all {
		attestations[name] = add(name, predicate)
	}
	summary := bundle.SummaryOf(m, attestations, made)
	if c.summary != nil {
		c.summary(&summary)
	}
	add(contract.SummaryAttestation, summary)
	return files
}
