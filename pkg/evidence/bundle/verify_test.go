package bundle_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
)

func TestABundleIsVerified(t *testing.T) {
	by := newSigner(t)
	for sentence, approvals := range map[string]int{"without approval": 0, "with two approvals": 2} {
		t.Run(sentence, func(t *testing.T) {
			files := signed(t, by, change{manifest: func(m *bundle.Manifest) { m.Approvals = approvals }})
			got, err := bundle.Verify(files, &by.PublicKey)
			require.NoError(t, err)
			assert.Equal(t, "debian-12-docker", got.Manifest.Recipe)
			assert.Equal(t, bundle.Passed, got.Summary.VerificationResult)
			assert.Equal(t, contract.SummaryAttestation, got.Attestations[len(got.Attestations)-1].File)
			if approvals == 0 {
				assert.Nil(t, got.Approvals)
				assert.Len(t, got.Attestations, 5)
				return
			}
			assert.Len(t, got.Attestations, 6)
			assert.Len(t, got.Approvals.Approvals, 2)
			assert.Contains(t, got.Summary.VerifiedLevels, bundle.LevelApproved)
		})
	}
}

// Every byte of every file is under a signature, or must have one value only.
func TestOneChangedByteOfAnyFileIsRefusedByTheFilesName(t *testing.T) {
	by := newSigner(t)
	files := signed(t, by, change{manifest: func(m *bundle.Manifest) { m.Approvals = 2 }})
	require.Len(t, files, 19)
	for _, name := range files.Names() {
		t.Run(name, func(t *testing.T) {
			size := len(files[name])
			for at := 0; at < size; at = min(at+max(1, size/30), max(at+1, size-1)) { // the first, the last, and 30 between
				for _, flip := range []byte{0x01, 0x20} { // 0x20 changes the case of letters
					altered := maps.Clone(files)
					altered[name] = append([]byte{}, files[name]...)
					altered[name][at] ^= flip
					_, err := bundle.Verify(altered, &by.PublicKey)
					require.Errorf(t, err, "byte %d changed by %#x: verified", at, flip)
					var refused bundle.Refused
					require.ErrorAs(t, err, &refused)
					require.Lenf(t, refused, 1, "byte %d: other files are blamed: %v", at, err)
					require.Equalf(t, name, refused[0].File, "byte %d: %v", at, err)
				}
			}
		})
	}
}

func TestABundleThatIsNotWholeIsRefused(t *testing.T) {
	by := newSigner(t)
	files := signed(t, by, change{})
	for _, name := range files.Names() {
		t.Run("without "+name, func(t *testing.T) {
			less := maps.Clone(files)
			delete(less, name)
			_, err := bundle.Verify(less, &by.PublicKey)
			assert.ErrorContains(t, err, name+": it is missing")
		})
	}
	t.Run("with a file that nothing names", func(t *testing.T) {
		more := maps.Clone(files)
		more["extra.json"] = []byte("{}")
		_, err := bundle.Verify(more, &by.PublicKey)
		assert.EqualError(t, err, "extra.json: nothing that is signed names it: it does not belong to the bundle")
	})
	t.Run("with an attestation that the summary does not list", func(t *testing.T) {
		more := maps.Clone(files)
		other := signed(t, by, change{manifest: func(m *bundle.Manifest) { m.Approvals = 1 }})
		more[contract.ApprovalsAttestation] = other[contract.ApprovalsAttestation]
		_, err := bundle.Verify(more, &by.PublicKey)
		assert.ErrorContains(t, err, contract.ApprovalsAttestation+": nothing that is signed names it")
	})
	t.Run("with no file at all", func(t *testing.T) {
		_, err := bundle.Verify(bundle.Files{}, &by.PublicKey)
		assert.ErrorContains(t, err, "summary.dsse.json: it is missing")
	})
}

func TestABundleOfAnotherKeyIsRefused(t *testing.T) {
	by, other := newSigner(t), newSigner(t)
	files := signed(t, other, change{})
	_, err := bundle.Verify(files, &by.PublicKey)
	require.Error(t, err)
	assert.Contains(t, err.Error(), "key.pem: it is the key "+bundle.KeyID(&other.PublicKey)+", trusted is "+bundle.KeyID(&by.PublicKey))
	assert.Contains(t, err.Error(), "summary.dsse.json: its signature is not by the key "+bundle.KeyID(&by.PublicKey))

	files[contract.KeyFile] = bundle.PEM(&by.PublicKey) // the text alone proves nothing
	_, err = bundle.Verify(files, &by.PublicKey)
	assert.ErrorContains(t, err, "summary.dsse.json: its signature is not by the key")
}

// Whoever holds the key can sign nonsense, and an attacker can mix the files of bundles.
func TestASignedBundleThatDoesNotHoldTogetherIsRefused(t *testing.T) {
	by := newSigner(t)
	approved := func(do func(*bundle.Approvals)) change {
		return change{
			manifest: func(m *bundle.Manifest) { m.Approvals = 2 },
			statements: func(all map[string]any) {
				a := all[contract.ApprovalsAttestation].(bundle.Approvals)
				do(&a)
				all[contract.ApprovalsAttestation] = a
			},
		}
	}
	for sentence, tc := range map[string]struct {
		change
		want string
	}{
		"the verdict is FAILED": {
			change{summary: func(s *bundle.Summary) { s.VerificationResult = bundle.Failed }}, `summary.dsse.json: its result is "FAILED", not PASSED`,
		},
		"the summary has no time": {
			change{summary: func(s *bundle.Summary) { s.TimeVerified = time.Time{} }}, "summary.dsse.json: it has no time",
		},
		"the summary lists too little": {
			change{summary: func(s *bundle.Summary) { s.InputAttestations = s.InputAttestations[1:] }}, "summary.dsse.json: it does not list inventory.dsse.json",
		},
		"the summary lists something twice": {
			change{summary: func(s *bundle.Summary) { s.InputAttestations = append(s.InputAttestations, s.InputAttestations[0]) }}, "twice",
		},
		"the summary lists a file that is no attestation": {
			change{summary: func(s *bundle.Summary) { s.InputAttestations[0].URI = "compliance.json" }}, `it lists "compliance.json", which is no attestation`,
		},
		"the summary lists an attestation without a digest": {
			change{summary: func(s *bundle.Summary) { s.InputAttestations[0].Digest = nil }}, "without a digest",
		},
		"an attestation is of another predicate type": {
			change{statement: func(name string, s *bundle.Statement) {
				if name == contract.ResultsAttestation {
					s.PredicateType = bundle.ProvenanceType
				}
			}}, "results.dsse.json: its predicate is of type",
		},
		"an attestation is about another manifest": {
			change{statement: func(name string, s *bundle.Statement) {
				if name == contract.ProvenanceAttestation {
					s.Subject = []bundle.Descriptor{{Name: contract.ManifestObject, Digest: &bundle.Digest{SHA256: strings.Repeat("a", 64)}}}
				}
			}}, "provenance.dsse.json: it is about the manifest aaaa",
		},
		"an attestation is about another file": {
			change{statement: func(name string, s *bundle.Statement) {
				if name == contract.ProvenanceAttestation {
					s.Subject[0].Name = "other.json"
				}
			}}, "provenance.dsse.json: its subject is not manifest.json alone",
		},
		"the checks failed": {
			change{statements: func(all map[string]any) {
				all[contract.ResultsAttestation] = bundle.TestResult{Result: bundle.TestsFailed}
			}}, `results.dsse.json: its result is "FAILED"`,
		},
		"the manifest names no results": {
			change{manifest: func(m *bundle.Manifest) { m.Files = m.Files[1:] }}, "manifest.json: it does not name compliance.json",
		},
		"the manifest names another plan": {
			change{manifest: func(m *bundle.Manifest) { m.PlanSHA256 = strings.Repeat("b", 64) }}, "manifest.json: its plan is bbbb",
		},
		"the manifest names a file twice": {
			change{manifest: func(m *bundle.Manifest) { m.Files = append(m.Files[:1:1], m.Files...) }}, `manifest.json: it names "compliance.json" twice`,
		},
		"the manifest has another size of a file": {
			change{manifest: func(m *bundle.Manifest) { m.Files[0].Size++ }}, "compliance.json: it has 21 bytes, in manifest.json it has 22",
		},
		"the manifest is of an unknown schema": {
			change{manifest: func(m *bundle.Manifest) { m.Schema = "other/1" }}, `manifest.json: its schema is "other/1"`,
		},
		"the manifest names another key": {
			change{manifest: func(m *bundle.Manifest) { m.Key.SHA256 = strings.Repeat("c", 64) }}, "manifest.json: it names the key cccc",
		},
		"approvals that nobody asked for": {
			change{statements: func(all map[string]any) { all[contract.ApprovalsAttestation] = bundle.Approvals{} }}, `it lists "approvals.dsse.json", which is no attestation of this manifest`,
		},
		"approvals that are missing": {
			change{manifest: func(m *bundle.Manifest) { m.Approvals = 2 }, statements: func(all map[string]any) { delete(all, contract.ApprovalsAttestation) }}, "it does not list approvals.dsse.json",
		},
		"too few approvals":               {approved(func(a *bundle.Approvals) { a.Approvals = a.Approvals[:1] }), "1 different people approved, the manifest needs 2"},
		"one person approved twice":       {approved(func(a *bundle.Approvals) { a.Approvals[1] = a.Approvals[0] }), "alice approved twice"},
		"the requester approved":          {approved(func(a *bundle.Approvals) { a.Requester = "bob" }), "bob approved an execution that they started"},
		"an approval of nobody":           {approved(func(a *bundle.Approvals) { a.Approvals[0].Person = "" }), "names no person"},
		"an approval of another manifest": {approved(func(a *bundle.Approvals) { a.Manifest = strings.Repeat("d", 64) }), "it approves the manifest dddd"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := bundle.Verify(signed(t, by, tc.change), &by.PublicKey)
			assert.ErrorContains(t, err, tc.want)
		})
	}
	t.Run("an attestation of another bundle by the same key", func(t *testing.T) {
		files, other := signed(t, by, change{}), signed(t, by, change{manifest: func(m *bundle.Manifest) { m.Recipe = "other" }})
		for _, name := range []string{contract.ProvenanceAttestation, contract.SigstoreOf(contract.ProvenanceAttestation)} {
			files[name] = other[name]
		}
		_, err := bundle.Verify(files, &by.PublicKey)
		assert.ErrorContains(t, err, "provenance.dsse.json: its SHA-256 is")
	})
	t.Run("a manifest in another form of the same JSON", func(t *testing.T) {
		m := manifest(&by.PublicKey, records())
		_, err := bundle.ParseManifest(append([]byte(" "), m.Encode()...))
		assert.ErrorContains(t, err, "not in the form that the factory writes")
	})
}
