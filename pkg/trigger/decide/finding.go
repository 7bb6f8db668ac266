package decide

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// Finding is a vulnerability of an image for which there is a fix.
type Finding struct {
	Vulnerability string // such as CVE-2026-12345
	ImageID       string
	Region        string // of the image; empty: that of the event
}

var imageID = regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`)

// Reporters are whose findings count. Amazon Inspector's always do, as it sends
// them itself and as it reports them to Security Hub.
type Reporters struct {
	OnDemand bool     // on-demand scans of images, whose events anybody with events:PutEvents can make
	Products []string // ARNs of other products of Security Hub, for which people with securityhub:BatchImportFindings can report
}

// inspectorProduct is Amazon Inspector as a product of Security Hub, productv2 in
// OCSF. It belongs to no account: those that have an account's id are of that
// account, or of a partner. A region follows since Security Hub can gather the
// findings of others.
var inspectorProduct = regexp.MustCompile(`^arn:aws[a-z-]*:securityhub:[a-z0-9-]+::product(v2)?/aws/inspector$`)

// ignores says why the findings of a product of Security Hub do not count; empty:
// they do.
func (r Reporters) ignores(product string) string {
	switch {
	case inspectorProduct.MatchString(product), slices.Contains(r.Products, product):
		return ""
	case product == "":
		return "a finding of Security Hub names no product"
	}
	return fmt.Sprintf("a finding of Security Hub is of product %q, which is neither Amazon Inspector nor in findingProducts", product)
}

// Findings are those of an event that a newer image may answer: active
// vulnerabilities of packages, with a fix, of an image or of an instance whose
// image is known. The severity is left to the rule that lets the event in. What
// was reported by somebody whose reports do not count is not among them: ignored
// says why, for the log.
func (r Reporters) Findings(source, detailType string, detail json.RawMessage) (found []Finding, ignored []string, err error) {
	from, read := contract.InspectorSource, inspectorFindings
	switch detailType {
	case contract.InspectorEvent:
	case contract.OnDemandEvent:
		if !r.OnDemand {
			return nil, []string{"an event of an on-demand scan, which anybody with events:PutEvents can make: onDemandFindings is false"}, nil
		}
		from = contract.OnDemandSource
	case contract.SecurityHubEvent:
		from, read = contract.SecurityHubSource, r.hubFindings
	case contract.SecurityHubV2Event:
		from, read = contract.SecurityHubSource, r.ocsfFindings
	default:
		return nil, nil, fmt.Errorf("%q is no event about a vulnerability", detailType)
	}
	if source != from {
		return nil, []string{fmt.Sprintf("an event %q of source %q, which only %s sends", detailType, source, from)}, nil
	}
	return read(detail)
}

// inspectorFindings reads the detail that Amazon Inspector sends, of all its scans
// (https://docs.aws.amazon.com/inspector/latest/user/eventbridge-integration.html).
func inspectorFindings(detail json.RawMessage) (found []Finding, ignored []string, err error) {
	var d struct {
		Type, Status, FixAvailable string
		FindingARN                 string `json:"findingArn"`
		Package                    struct {
			VulnerabilityID string `json:"vulnerabilityId"`
		} `json:"packageVulnerabilityDetails"`
		Resources []struct {
			ID, Region string
			Details    struct {
				Instance struct {
					ImageID string `json:"imageId"`
				} `json:"awsEc2Instance"`
			}
		}
	}
	if err := json.Unmarshal(detail, &d); err != nil {
		return nil, nil, fmt.Errorf("it is no finding of Inspector: %w", err)
	}
	if d.FindingARN == "" {
		return nil, nil, errors.New("it is no finding of Inspector: findingArn is missing")
	}
	if d.Type != "PACKAGE_VULNERABILITY" || d.Status != "ACTIVE" || d.FixAvailable != "YES" || d.Package.VulnerabilityID == "" {
		return nil, nil, nil
	}
	for _, r := range d.Resources {
		image := r.Details.Instance.ImageID
		if imageID.MatchString(r.ID) { // it is the image itself that was scanned
			image = r.ID
		}
		if imageID.MatchString(image) {
			found = append(found, Finding{Vulnerability: d.Package.VulnerabilityID, ImageID: image, Region: r.Region})
		}
	}
	return found, nil, nil
}

// hubFindings reads findings in the AWS Security Finding Format, of which an event
// has one or more
// (https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-findings-format-syntax.html).
func (r Reporters) hubFindings(detail json.RawMessage) (found []Finding, ignored []string, err error) {
	var d struct {
		Findings []struct {
			ProductARN      string `json:"ProductArn"`
			RecordState     string
			Workflow        struct{ Status string }
			Region          string
			Vulnerabilities []struct{ ID, FixAvailable string }
			Resources       []struct {
				Region  string
				Details struct{ AwsEc2Instance struct{ ImageID string } }
			}
		}
	}
	if err := json.Unmarshal(detail, &d); err != nil {
		return nil, nil, fmt.Errorf("it has no findings of Security Hub: %w", err)
	}
	if len(d.Findings) == 0 {
		return nil, nil, errors.New("it has no findings of Security Hub")
	}
	for _, f := range d.Findings {
		if why := r.ignores(f.ProductARN); why != "" {
			ignored = append(ignored, why)
			continue
		}
		if f.RecordState != "ACTIVE" || f.Workflow.Status == "RESOLVED" || f.Workflow.Status == "SUPPRESSED" {
			continue
		}
		for _, resource := range f.Resources {
			image, region := resource.Details.AwsEc2Instance.ImageID, resource.Region
			if region == "" {
				region = f.Region
			}
			if !imageID.MatchString(image) {
				continue
			}
			for _, v := range f.Vulnerabilities {
				if v.FixAvailable == "YES" && v.ID != "" {
					found = append(found, Finding{Vulnerability: v.ID, ImageID: image, Region: region})
				}
			}
		}
	}
	return found, ignored, nil
}

// Open are the vulnerabilities of a recipe's published image that a newer image
// has not answered yet.
type Open struct {
	ImageID         string    `json:"imageId"`
	Region          string    `json:"region"`
	Vulnerabilities []string  `json:"vulnerabilities"` // the first maxOpen
	Since           time.Time `json:"since"`
}

// maxOpen bounds what is remembered of an image: a rebuild answers all anyway.
const maxOpen = 50

// Noted is the record with a finding of the published image, and whether that is
// anything new.
func (r Record) Noted(f Finding, now time.Time) (Record, bool) {
	open := Open{ImageID: f.ImageID, Region: f.Region, Since: now}
	if r.Finding != nil && r.Finding.ImageID == f.ImageID {
		open = *r.Finding
	}
	if slices.Contains(open.Vulnerabilities, f.Vulnerability) || len(open.Vulnerabilities) >= maxOpen {
		return r, false
	}
	open.Vulnerabilities = append(slices.Clone(open.Vulnerabilities), f.Vulnerability)
	r.Finding = &open
	return r, true
}

// Due is from when on the open findings may start a build: the zero time is at
// once. One that the last rebuild was started for, and that is there again, waits
// twice as long each time: its fix is not where the recipe gets its packages.
func (r Record) Due(l Limits) time.Time {
	if r.Rebuilt.IsZero() {
		return time.Time{}
	}
	wait := l.FindingLimit
	if r.triedAll() {
		for range r.Futile {
			wait = min(2*wait, max(l.MaxAge, l.FindingLimit))
		}
	}
	return r.Rebuilt.Add(wait)
}

// triedAll: the last rebuild was started for all that is open, and has not helped.
func (r Record) triedAll() bool {
	return r.Finding != nil && !slices.ContainsFunc(r.Finding.Vulnerabilities, func(v string) bool { return !slices.Contains(r.Tried, v) })
}

// Rebuilding is the record when a build is started for the open findings.
func (r Record) Rebuilding(now time.Time) Record {
	if r.triedAll() {
		r.Futile++
	} else {
		r.Futile = 0
	}
	r.Rebuilt, r.Tried = now, r.Finding.Vulnerabilities
	return r
}

// RebuildTrigger distinguishes the name of the execution that open findings
// start. It is the same until one was started, so that two who decide at once
// start one.
func (r Record) RebuildTrigger() string {
	sum := sha256.Sum256([]byte(r.Finding.ImageID + r.Rebuilt.UTC().Format(time.RFC3339Nano)))
	return "fix-" + hex.EncodeToString(sum[:4])
}
