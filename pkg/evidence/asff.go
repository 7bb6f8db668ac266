package evidence

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// The limits of one call of BatchImportFindings
// (https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html):
// findings, and bytes of all of them, which is what AWS allows for a single one.
const (
	MaxASFFBatch = 100
	MaxASFFBytes = 240_000
)

// ASFF is a finding in the AWS Security Finding Format, as far as the factory uses it
// (https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format.html).
type ASFF struct {
	SchemaVersion         string
	ID                    string `json:"Id"` // RECIPE/CONTROL or RECIPE/CVE/PACKAGE
	ProductArn            string
	ProductName           string `json:",omitempty"`
	CompanyName           string `json:",omitempty"`
	GeneratorID           string `json:"GeneratorId"`
	AwsAccountID          string `json:"AwsAccountId"`
	CreatedAt             string
	UpdatedAt             string
	Title                 string
	Description           string
	Remediation           *ASFFRemediation `json:",omitempty"`
	ProductFields         map[string]string
	Resources             []ASFFResource
	Compliance            *ASFFCompliance     `json:",omitempty"`
	Vulnerabilities       []ASFFVulnerability `json:",omitempty"`
	RecordState           string
	FindingProviderFields ASFFProviderFields
	Sample                bool `json:",omitempty"` // it comes from a simulation
}

// ASFFRemediation says how to fix a finding.
type ASFFRemediation struct{ Recommendation ASFFRecommendation }

// ASFFRecommendation is the text of an ASFFRemediation.
type ASFFRecommendation struct{ Text string }

// ASFFResource is what a finding is about: the image.
type ASFFResource struct {
	Type      string
	ID        string `json:"Id"` // ARN
	Partition string
	Region    string
	Details   ASFFDetails
}

// ASFFDetails are facts about a resource whose type Security Hub does not know.
type ASFFDetails struct{ Other map[string]string }

// ASFFCompliance is the outcome of a control.
type ASFFCompliance struct{ Status string }

// ASFFVulnerability is a vulnerability of a package.
type ASFFVulnerability struct {
	ID                 string `json:"Id"`
	VulnerablePackages []ASFFPackage
	FixAvailable       string `json:",omitempty"`
	ExploitAvailable   string `json:",omitempty"`
}

// ASFFPackage is the package of an ASFFVulnerability.
type ASFFPackage struct {
	Name           string
	Version        string
	FixedInVersion string `json:",omitempty"`
}

// ASFFProviderFields are what the provider of a finding sets and an operator can
// overrule.
type ASFFProviderFields struct {
	Severity ASFFSeverity
	Types    []string
}

// ASFFSeverity of a finding.
type ASFFSeverity struct {
	Label    string
	Original string
}

// The states of a record.
const (
	asffActive   = "ACTIVE"
	asffArchived = "ARCHIVED"
)

// ErrNotChecked says that an execution has no results to report.
var ErrNotChecked = errors.New("the execution ended before any control was checked, so it has no findings")

// ASFF returns the failed and waived controls and the vulnerabilities as findings of
// Security Hub, in the order of Findings. A waived one is informational. created is when
// a finding was first sent, RFC 3339, by its id; others were created now.
func (r Report) ASFF(created map[string]string) ([]ASFF, error) {
	if r.Compliance == nil {
		return nil, ErrNotChecked
	}
	at, err := placeOf(r.Execution.ID)
	if err != nil {
		return nil, err
	}
	r = r.canonical()
	now := cmp.Or(stamp(r.Execution.Ended), stamp(r.Execution.Started))
	out := []ASFF{}
	for _, f := range r.Findings() {
		out = append(out, r.asff(f, at, created, now))
	}
	return out, nil
}

func (r Report) asff(f Finding, at place, created map[string]string, now string) ASFF {
	id := r.Recipe + "/" + f.ID
	out := ASFF{
		SchemaVersion: "2018-10-08", ID: line(id, 512), ProductArn: at.product(), ProductName: "ami-factory", CompanyName: "ami-factory",
		GeneratorID: line("ami-factory/"+f.Rule, 512), AwsAccountID: at.account,
		CreatedAt: cmp.Or(created[id], now), UpdatedAt: now,
		Title: line(f.Rule+": "+f.Title, 256), Description: plaintext.Clip(plaintext.Clean(f.Found()), 1024),
		ProductFields: map[string]string{"ami-factory/recipe": r.Recipe, "ami-factory/execution": r.Execution.Name, "ami-factory/status": f.Status},
		Resources: []ASFFResource{{
			Type: "Other", ID: at.image(r.Compliance.ImageID), Partition: at.partition, Region: at.region,
			Details: ASFFDetails{Other: map[string]string{"recipe": r.Recipe, "imageId": r.Compliance.ImageID, "fingerprint": cmp.Or(r.Fingerprint, "unknown")}},
		}},
		RecordState: asffActive, Sample: r.Simulated,
		FindingProviderFields: ASFFProviderFields{
			Severity: ASFFSeverity{Label: strings.ToUpper(f.Severity), Original: f.Severity},
			Types:    []string{"Software and Configuration Checks/Industry and Regulatory Standards"},
		},
	}
	if f.CIS != "" {
		out.ProductFields["ami-factory/mapsToCIS"] = f.CIS
	}
	if f.Fix != "" {
		out.Remediation = &ASFFRemediation{ASFFRecommendation{plaintext.Clip(f.Fix, 512)}}
	}
	if v := f.Of; v != nil {
		out.Title = line(f.Title, 256)
		out.FindingProviderFields.Types = []string{"Software and Configuration Checks/Vulnerabilities/CVE"}
		vulnerable := ASFFVulnerability{
			ID: v.ID, VulnerablePackages: []ASFFPackage{{Name: v.Package, Version: v.Installed, FixedInVersion: v.Fixed}}, FixAvailable: "NO",
		}
		if v.Fixed != "" {
			vulnerable.FixAvailable = "YES"
		}
		if v.Exploited {
			vulnerable.ExploitAvailable = "YES"
		}
		out.Vulnerabilities = []ASFFVulnerability{vulnerable}
	} else {
		out.Compliance = &ASFFCompliance{Status: "FAILED"}
	}
	if w := f.Waiver; w != nil {
		out.FindingProviderFields.Severity.Label = "INFORMATIONAL"
		out.ProductFields["ami-factory/waiver"] = plaintext.Clip(WaivedBy(*w), 1024)
		out.Title = line("Waived: "+out.Title, 256)
		if out.Compliance != nil {
			out.Compliance.Status = "WARNING"
		}
	}
	return out
}

// line is a text in one line of at most limit bytes.
func line(s string, limit int) string {
	s = strings.Join(strings.Fields(plaintext.Clean(s)), " ")
	if len(s) <= limit {
		return s
	}
	cut := limit - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// Archived returns a finding as one that is no longer true since a time.
func (f ASFF) Archived(now time.Time) ASFF {
	f.RecordState, f.UpdatedAt = asffArchived, stamp(now)
	if f.Compliance != nil {
		f.Compliance = &ASFFCompliance{Status: "PASSED"}
	}
	return f
}

// Active reports whether the finding is true.
func (f ASFF) Active() bool { return f.RecordState == asffActive }

// BatchASFF splits findings into batches that one call takes each.
func BatchASFF(findings []ASFF) ([][]ASFF, error) {
	var out [][]ASFF
	var batch []ASFF
	size := 0
	for _, f := range findings {
		raw, err := json.Marshal(f)
		if err != nil {
			return nil, fmt.Errorf("encode the finding %s: %w", f.ID, err)
		}
		if len(raw) > MaxASFFBytes {
			return nil, fmt.Errorf("the finding %s has %d bytes; Security Hub takes %d", f.ID, len(raw), MaxASFFBytes)
		}
		if len(batch) == MaxASFFBatch || size+len(raw) > MaxASFFBytes {
			out, batch, size = append(out, batch), nil, 0
		}
		batch, size = append(batch, f), size+len(raw)
	}
	if len(batch) > 0 {
		out = append(out, batch)
	}
	return out, nil
}

// place is where an execution ran.
type place struct{ partition, region, account string }

// placeOf reads it from the execution's ARN.
func placeOf(arn string) (place, error) {
	parts := strings.Split(arn, ":")
	if len(parts) < 6 || parts[0] != "arn" || parts[3] == "" || parts[4] == "" {
		return place{}, fmt.Errorf("the execution's id %q is no ARN, so that partition, region and account are unknown", arn)
	}
	return place{parts[1], parts[3], parts[4]}, nil
}

// product is the ARN of the account's own findings
// (https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-custom-providers.html).
func (p place) product() string {
	return fmt.Sprintf("arn:%s:securityhub:%s:%s:product/%s/default", p.partition, p.region, p.account, p.account)
}

// image is the ARN of an image, which has no account.
func (p place) image(id string) string {
	return fmt.Sprintf("arn:%s:ec2:%s::image/%s", p.partition, p.region, id)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
