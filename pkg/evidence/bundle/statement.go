package bundle

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// StatementType is the type of every statement.
const StatementType = "https://in-toto.io/Statement/v1"

// The predicate types of a bundle's statements.
const (
	ProvenanceType    = "https://slsa.dev/provenance/v1"
	TestResultType    = "https://in-toto.io/attestation/test-result/v0.1"
	InventoryType     = "https://cyclonedx.org/bom"
	VulnerabilityType = "https://in-toto.io/attestation/vulns/v0.2"
	ApprovalsType     = "https://github.com/ami-factory/ami-factory/attestation/approvals/v1"
	SummaryType       = "https://slsa.dev/verification_summary/v1"
)

// PredicateTypes are the predicate types by the name of the attestation that holds one.
func PredicateTypes() map[string]string {
	return map[string]string{
		contract.ProvenanceAttestation:      ProvenanceType,
		contract.ResultsAttestation:         TestResultType,
		contract.InventoryAttestation:       InventoryType,
		contract.VulnerabilitiesAttestation: VulnerabilityType,
		contract.ApprovalsAttestation:       ApprovalsType,
		contract.SummaryAttestation:         SummaryType,
	}
}

// Statement is an in-toto statement about a manifest. An AMI has no digest, so the
// subject of every statement is the manifest, which names the images.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Descriptor    `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Descriptor is in-toto's ResourceDescriptor, as far as bundles use it
// (https://github.com/in-toto/attestation/blob/main/spec/v1/resource_descriptor.md).
type Descriptor struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      *Digest           `json:"digest,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Digest is a set of digests with one member.
type Digest struct {
	SHA256 string `json:"sha256"` // hex
}

// About makes a statement about the manifest of a digest.
func About(manifestSHA256, predicateType string, predicate any) (Statement, error) {
	raw, err := json.Marshal(predicate)
	if err != nil {
		return Statement{}, fmt.Errorf("encode the predicate %s: %w", predicateType, err)
	}
	return Statement{
		Type:          StatementType,
		Subject:       []Descriptor{{Name: contract.ManifestObject, Digest: &Digest{manifestSHA256}}},
		PredicateType: predicateType, Predicate: raw,
	}, nil
}

// Provenance is the predicate of SLSA provenance v1.
type Provenance struct {
	BuildDefinition struct {
		BuildType            string             `json:"buildType"`
		ExternalParameters   ExternalParameters `json:"externalParameters"`
		InternalParameters   InternalParameters `json:"internalParameters"`
		ResolvedDependencies []Descriptor       `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder    Builder      `json:"builder"`
		Metadata   Metadata     `json:"metadata"`
		Byproducts []Descriptor `json:"byproducts"`
	} `json:"runDetails"`
}

// ExternalParameters are what whoever started the execution decided.
type ExternalParameters struct {
	Recipe string `json:"recipe"`
}

// InternalParameters are what the factory made of them.
type InternalParameters struct {
	Fingerprint string `json:"fingerprint"`
	ReleaseID   string `json:"releaseId"`
	Guests      Guests `json:"guests"`
}

// Builder is the factory.
type Builder struct {
	ID      string            `json:"id"` // ARN of the state machine
	Version map[string]string `json:"version"`
}

// Metadata is of one execution.
type Metadata struct {
	InvocationID string    `json:"invocationId"` // ARN of the execution
	StartedOn    time.Time `json:"startedOn"`
	FinishedOn   time.Time `json:"finishedOn"`
}

// BuildType says how to read the parameters of a Provenance.
const BuildType = "https://github.com/ami-factory/ami-factory/build/v1"

// ProvenanceOf is the provenance of a manifest.
func ProvenanceOf(m Manifest) Provenance {
	var p Provenance
	d, r := &p.BuildDefinition, &p.RunDetails
	d.BuildType = BuildType
	d.ExternalParameters = ExternalParameters{Recipe: m.Recipe}
	d.InternalParameters = InternalParameters{Fingerprint: m.Fingerprint, ReleaseID: m.ReleaseID, Guests: m.Guests}
	d.ResolvedDependencies = []Descriptor{{
		Name: m.Source.Name, URI: imageURI(m.Execution.ID, regionOf(m.Execution.ID), m.Source.ImageID),
		Annotations: map[string]string{"owner": m.Source.OwnerID, "architecture": m.Source.Architecture, "created": m.Source.CreationDate},
	}}
	for _, f := range m.Files {
		at := &r.Byproducts
		if f.Name == contract.PlanFile {
			at = &d.ResolvedDependencies
		}
		*at = append(*at, Descriptor{Name: f.Name, Digest: &Digest{f.SHA256}})
	}
	r.Builder = Builder{ID: machineOf(m.Execution.ID), Version: map[string]string{"ami-factory": m.FactoryVersion}}
	r.Metadata = Metadata{InvocationID: m.Execution.ID, StartedOn: m.Execution.Started.UTC(), FinishedOn: m.Made.UTC()}
	return p
}

// machineOf is the ARN of an execution's state machine.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html
func machineOf(execution string) string {
	parts := strings.Split(execution, ":")
	if len(parts) != 8 {
		return execution
	}
	return strings.Join(append(parts[:5:5], "stateMachine", parts[6]), ":")
}

func regionOf(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 3 {
		return parts[3]
	}
	return ""
}

// imageURI is the ARN of an image, which has no account, in the partition of an ARN.
func imageURI(of, region, imageID string) string {
	partition := "aws"
	if parts := strings.Split(of, ":"); len(parts) > 1 {
		partition = parts[1]
	}
	return "arn:" + partition + ":ec2:" + region + "::image/" + imageID
}

// The results of a TestResult.
const (
	TestsPassed = "PASSED"
	TestsWarned = "WARNED" // controls were waived, or failed below the gate
	TestsFailed = "FAILED"
)

// TestResult is the predicate of in-toto's test-result v0.1. Tests are controls.
type TestResult struct {
	Result        string       `json:"result"`
	Configuration []Descriptor `json:"configuration"`
	PassedTests   []string     `json:"passedTests"`
	WarnedTests   []string     `json:"warnedTests"` // waived
	FailedTests   []string     `json:"failedTests"` // below the gate's severity
}

// Vulnerabilities is the predicate of in-toto's vulns v0.2.
type Vulnerabilities struct {
	Scanner  Scanner      `json:"scanner"`
	Metadata ScanMetadata `json:"metadata"`
}

// Scanner is what matched the inventory with a feed, and what it found.
type Scanner struct {
	URI     string          `json:"uri"`
	Version string          `json:"version,omitempty"`
	DB      ScannerDB       `json:"db"`
	Result  []Vulnerability `json:"result"`
}

// ScannerDB is the newest feed.
type ScannerDB struct {
	URI        string    `json:"uri,omitempty"`
	Version    string    `json:"version,omitempty"`
	LastUpdate time.Time `json:"lastUpdate"`
}

// Vulnerability is one finding.
type Vulnerability struct {
	ID          string              `json:"id"`
	Severity    []Score             `json:"severity"`
	Annotations []map[string]string `json:"annotations,omitempty"`
}

// Score is a severity by some method.
type Score struct {
	Method string `json:"method"`
	Score  string `json:"score"`
}

// ScanMetadata is when a scan began and ended.
type ScanMetadata struct {
	Started  time.Time `json:"scanStartedOn"`
	Finished time.Time `json:"scanFinishedOn"`
}

// Summary is the predicate of SLSA's verification summary v1.
type Summary struct {
	Verifier           Builder      `json:"verifier"`
	TimeVerified       time.Time    `json:"timeVerified"`
	ResourceURI        string       `json:"resourceUri"`
	Policy             Descriptor   `json:"policy"`
	InputAttestations  []Descriptor `json:"inputAttestations"`
	VerificationResult string       `json:"verificationResult"`
	VerifiedLevels     []string     `json:"verifiedLevels"`
	SLSAVersion        string       `json:"slsaVersion"`
}

// The results of a Summary.
const (
	Passed = "PASSED"
	Failed = "FAILED"
)

// The levels that a Summary can claim. SLSA leaves names to verifiers that do not begin
// with SLSA_ (https://slsa.dev/spec/v1.0/verification_summary).
const (
	LevelGate     = "AMI_FACTORY_GATE"     // the gate let the image pass
	LevelApproved = "AMI_FACTORY_APPROVED" // and people approved its release
)

// SummaryOf summarises a manifest and the attestations about it. Each is named by its
// file in the bundle.
func SummaryOf(m Manifest, attestations Files, at time.Time) Summary {
	s := Summary{
		Verifier:           Builder{ID: machineOf(m.Execution.ID), Version: map[string]string{"ami-factory": m.FactoryVersion}},
		TimeVerified:       at.UTC(),
		Policy:             Descriptor{URI: "ami-factory:recipe/" + m.Recipe, Digest: &Digest{m.PlanSHA256}},
		VerificationResult: Passed, VerifiedLevels: []string{LevelGate}, SLSAVersion: "1.0",
		InputAttestations: []Descriptor{},
	}
	if len(m.Images) > 0 {
		home := m.Images[0]
		if i, ok := m.Image(regionOf(m.Execution.ID)); ok {
			home = i
		}
		s.ResourceURI = imageURI(m.Execution.ID, home.Region, home.ImageID)
	}
	if m.Approvals > 0 {
		s.VerifiedLevels = append(s.VerifiedLevels, LevelApproved)
	}
	for _, name := range attestations.Names() {
		s.InputAttestations = append(s.InputAttestations, Descriptor{URI: name, Digest: &Digest{digest(attestations[name])}})
	}
	return s
}
