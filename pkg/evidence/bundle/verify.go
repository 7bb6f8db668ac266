package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// Verified is what a bundle proves.
type Verified struct {
	Manifest       Manifest
	ManifestSHA256 string
	Summary        Summary
	Attestations   []Attestation // by file, the summary last
	Approvals      *Approvals    // nil where the manifest needs none
}

// Attestation is a statement whose signature was verified.
type Attestation struct {
	File          string
	SHA256        string // of the file
	PredicateType string
	Predicate     json.RawMessage
}

// Refusal is a file of a bundle and what is wrong with it.
type Refusal struct {
	File, Reason string
}

// Refused is the error of a bundle that is not verified: every fault that was found, by
// file.
type Refused []Refusal

func (r Refused) Error() string {
	lines := make([]string, len(r))
	for i, one := range r {
		lines[i] = one.File + ": " + one.Reason
	}
	return strings.Join(lines, "\n")
}

// recordsOf returns the names of the records that every manifest must list.
func recordsOf() []string {
	return []string{contract.PlanFile, contract.ComplianceObject, contract.InventoryObject, contract.VulnerabilitiesObject}
}

// attestationsOf are the attestations that a manifest's bundle must have, without the
// summary.
func attestationsOf(m Manifest) []string {
	out := []string{contract.ProvenanceAttestation, contract.ResultsAttestation}
	for record, attestation := range map[string]string{
		contract.InventoryObject: contract.InventoryAttestation, contract.VulnerabilitiesObject: contract.VulnerabilitiesAttestation,
	} {
		if slices.ContainsFunc(m.Files, func(f File) bool { return f.Name == record }) {
			out = append(out, attestation)
		}
	}
	if m.Approvals > 0 {
		out = append(out, contract.ApprovalsAttestation)
	}
	slices.Sort(out)
	return out
}

// Verify verifies a bundle with the public key that the caller trusts: every signature,
// every digest, that the summary lists every attestation and says PASSED, that each
// statement is about the manifest, and that there is nothing beside. The key in the
// bundle itself proves nothing; it must be the trusted one. The error is Refused, which
// names each file and what is wrong with it.
func Verify(files Files, key *ecdsa.PublicKey) (Verified, error) {
	v := verifier{files: files, key: key, known: map[string]bool{}}
	v.verify()
	if len(v.refused) > 0 {
		slices.SortStableFunc(v.refused, func(a, b Refusal) int { return strings.Compare(a.File, b.File) })
		return Verified{}, v.refused
	}
	return v.out, nil
}

type verifier struct {
	files   Files
	key     *ecdsa.PublicKey
	known   map[string]bool // files that something signed names
	refused Refused
	out     Verified
}

func (v *verifier) refuse(file, format string, args ...any) {
	v.refused = append(v.refused, Refusal{file, fmt.Sprintf(format, args...)})
}

// file returns a file that the bundle must have.
func (v *verifier) file(name string) ([]byte, bool) {
	v.known[name] = true
	raw, ok := v.files[name]
	if !ok {
		v.refuse(name, "it is missing")
	}
	return raw, ok
}

func (v *verifier) verify() {
	if raw, ok := v.file(contract.KeyFile); ok && !bytes.Equal(raw, PEM(v.key)) {
		if theirs, err := ParseKey(raw); err == nil && KeyID(theirs) != KeyID(v.key) {
			v.refuse(contract.KeyFile, "it is the key %s, trusted is %s", KeyID(theirs), KeyID(v.key))
		} else {
			v.refuse(contract.KeyFile, "it is not the text of the trusted key %s", KeyID(v.key))
		}
	}
	// The summary comes first: it says which bytes the other files must have, so that
	// the file that was changed is named, and not every file that speaks of it.
	subject, ok := v.summary()
	if !ok {
		return
	}
	v.out.ManifestSHA256 = subject
	raw, ok := v.file(contract.ManifestObject)
	if !ok || !v.has(contract.ManifestObject, raw, subject, contract.SummaryAttestation) {
		return
	}
	m, err := ParseManifest(raw)
	if err != nil {
		v.refuse(contract.ManifestObject, "%v", err)
		return
	}
	if m.Key.SHA256 != KeyID(v.key) {
		v.refuse(contract.ManifestObject, "it names the key %s, trusted is %s", m.Key.SHA256, KeyID(v.key))
	}
	v.out.Manifest = m
	v.attestations(m)
	v.records(m)
	for _, name := range v.files.Names() {
		if !v.known[name] {
			v.refuse(name, "nothing that is signed names it: it does not belong to the bundle")
		}
	}
}

// has compares a file with the digest that a signed file names.
func (v *verifier) has(name string, raw []byte, want, by string) bool {
	if got := digest(raw); got != want {
		v.refuse(name, "its SHA-256 is %s, in %s it is %s: it was changed after it was signed", got, by, want)
		return false
	}
	return true
}

// summary verifies the summary and returns the digest of the manifest.
func (v *verifier) summary() (string, bool) {
	const name = contract.SummaryAttestation
	before := len(v.refused)
	s, ok := v.statement(name)
	if !ok {
		return "", false
	}
	if err := json.Unmarshal(s.Predicate, &v.out.Summary); err != nil {
		v.refuse(name, "its predicate is not of the documented form: %v", err)
		return "", false
	}
	if got := v.out.Summary.VerificationResult; got != Passed {
		v.refuse(name, "its result is %q, not %s", got, Passed)
	}
	if v.out.Summary.TimeVerified.IsZero() {
		v.refuse(name, "it has no time")
	}
	return s.Subject[0].Digest.SHA256, len(v.refused) == before
}

// statement verifies an envelope and its Sigstore bundle, and returns the statement in
// it. Its bytes must be those that the factory writes: nothing in a bundle can be changed
// without notice, not even what signatures do not cover.
func (v *verifier) statement(name string) (Statement, bool) {
	raw, ok := v.file(name)
	sigstore, also := v.file(contract.SigstoreOf(name))
	if !ok {
		return Statement{}, false
	}
	e, err := Parse(raw)
	if err == nil && e.PayloadType != PayloadType {
		err = fmt.Errorf("its payload type is %q, not %s", e.PayloadType, PayloadType)
	}
	if err == nil {
		err = e.Verify(v.key)
	}
	if err == nil && e.Signatures[0].KeyID != KeyID(v.key) {
		err = fmt.Errorf("its keyid is %q, not %s", e.Signatures[0].KeyID, KeyID(v.key))
	}
	if err == nil && !bytes.Equal(e.Encode(), raw) {
		err = errors.New("it is not in the form that the factory writes: it was changed after it was signed")
	}
	var s Statement
	if err == nil {
		s, err = parseStatement(e.Payload, PredicateTypes()[name])
	}
	if err != nil {
		v.refuse(name, "%v", err)
		return s, false
	}
	if also && !bytes.Equal(sigstore, e.Sigstore()) {
		v.refuse(contract.SigstoreOf(name), "it is not %s as a Sigstore bundle: it was changed after it was signed", name)
	}
	v.out.Attestations = append(v.out.Attestations, Attestation{File: name, SHA256: digest(raw), PredicateType: s.PredicateType, Predicate: s.Predicate})
	return s, true
}

// parseStatement reads a statement whose subject is a manifest.
func parseStatement(payload []byte, predicateType string) (Statement, error) {
	var s Statement
	if err := decodeStrict(payload, &s); err != nil {
		return s, fmt.Errorf("its payload is no statement: %w", err)
	}
	switch {
	case s.Type != StatementType:
		return s, fmt.Errorf("its statement is of type %q, not %s", s.Type, StatementType)
	case s.PredicateType != predicateType:
		return s, fmt.Errorf("its predicate is of type %q, not %s", s.PredicateType, predicateType)
	case len(s.Subject) != 1 || s.Subject[0].Name != contract.ManifestObject || s.Subject[0].Digest == nil:
		return s, fmt.Errorf("its subject is not %s alone", contract.ManifestObject)
	}
	return s, nil
}

// attestations verifies those that the summary lists: each that the manifest asks for,
// once, and no other.
func (v *verifier) attestations(m Manifest) {
	const by = contract.SummaryAttestation
	last := v.out.Attestations
	v.out.Attestations = nil
	var listed []string
	for _, d := range v.out.Summary.InputAttestations {
		switch {
		case d.Digest == nil:
			v.refuse(by, "it lists %q without a digest", d.URI)
			continue
		case slices.Contains(listed, d.URI):
			v.refuse(by, "it lists %q twice", d.URI)
			continue
		}
		listed = append(listed, d.URI)
		if !slices.Contains(attestationsOf(m), d.URI) {
			v.refuse(by, "it lists %q, which is no attestation of this manifest", d.URI)
			continue
		}
		v.attestation(m, d)
	}
	for _, name := range attestationsOf(m) {
		if !slices.Contains(listed, name) {
			v.refuse(by, "it does not list %s", name)
		}
	}
	v.out.Attestations = append(v.out.Attestations, last...)
}

func (v *verifier) attestation(m Manifest, listed Descriptor) {
	raw, ok := v.files[listed.URI]
	if ok && !v.has(listed.URI, raw, listed.Digest.SHA256, contract.SummaryAttestation) {
		v.known[listed.URI], v.known[contract.SigstoreOf(listed.URI)] = true, true
		return
	}
	s, ok := v.statement(listed.URI)
	if !ok {
		return
	}
	if got := s.Subject[0].Digest.SHA256; got != v.out.ManifestSHA256 {
		v.refuse(listed.URI, "it is about the manifest %s, the bundle's is %s", got, v.out.ManifestSHA256)
	}
	switch listed.URI {
	case contract.ResultsAttestation:
		var tests TestResult
		if err := json.Unmarshal(s.Predicate, &tests); err != nil {
			v.refuse(listed.URI, "its predicate is not of the documented form: %v", err)
		} else if tests.Result != TestsPassed && tests.Result != TestsWarned {
			v.refuse(listed.URI, "its result is %q (allowed: %s, %s)", tests.Result, TestsPassed, TestsWarned)
		}
	case contract.ApprovalsAttestation:
		a, err := parseApprovals(s.Predicate)
		if err != nil {
			v.refuse(listed.URI, "%v", err)
			return
		}
		for _, doubt := range a.doubts(m, v.out.ManifestSHA256) {
			v.refuse(listed.URI, "%s", doubt)
		}
		v.out.Approvals = &a
	}
}

// records compares the records with the manifest.
func (v *verifier) records(m Manifest) {
	const by = contract.ManifestObject
	var named []string
	for _, f := range m.Files {
		if slices.Contains(named, f.Name) {
			v.refuse(by, "it names %q twice", f.Name)
			continue
		}
		named = append(named, f.Name)
		if raw, ok := v.file(f.Name); ok && v.has(f.Name, raw, f.SHA256, by) && len(raw) != f.Size {
			v.refuse(f.Name, "it has %d bytes, in %s it has %d", len(raw), by, f.Size)
		}
		if f.Name == contract.PlanFile && f.SHA256 != m.PlanSHA256 {
			v.refuse(by, "its plan is %s, its file %s is %s", m.PlanSHA256, f.Name, f.SHA256)
		}
	}
	for _, name := range recordsOf() {
		if !slices.Contains(named, name) {
			v.refuse(by, "it does not name %s", name)
		}
	}
}
