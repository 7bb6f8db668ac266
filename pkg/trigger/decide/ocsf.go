package decide

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// vulnerabilityFinding is the class of OCSF that findings of vulnerabilities have
// (https://schema.ocsf.io/1.6.0/classes/vulnerability_finding).
const vulnerabilityFinding = 2002

// ocsfClosed are the states of a finding that nothing is to be done for:
// suppressed, resolved, archived, deleted.
func ocsfClosed(status int) bool { return status >= 3 && status <= 6 }

// ocsfFindings reads findings in the Open Cybersecurity Schema Framework, of which
// an event has one
// (https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-v2-cwe-event-formats.html).
// Which image an instance was launched from, OCSF has in device.image; Security
// Hub documents no place of its own, so the resource's data are searched too.
func (r Reporters) ocsfFindings(detail json.RawMessage) (found []Finding, ignored []string, err error) {
	var d struct {
		Findings []struct {
			Metadata struct{ Product struct{ UID string } }
			ClassUID int `json:"class_uid"`
			StatusID int `json:"status_id"`
			Cloud    struct{ Region string }
			Device   struct{ Image struct{ UID string } }
			Found    []struct {
				CVE      struct{ UID string }
				Fix      bool `json:"is_fix_available"`
				FixOld   bool `json:"fix_available"` // its name until OCSF 1.1
				Packages []struct {
					Fixed string `json:"fixed_in_version"`
				} `json:"affected_packages"`
			} `json:"vulnerabilities"`
			Resources []struct {
				UID, Region string
				Data        json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(detail, &d); err != nil {
		return nil, nil, fmt.Errorf("it has no findings in OCSF: %w", err)
	}
	if len(d.Findings) == 0 {
		return nil, nil, errors.New("it has no findings in OCSF")
	}
	for _, f := range d.Findings {
		if why := r.ignores(f.Metadata.Product.UID); why != "" {
			ignored = append(ignored, why)
			continue
		}
		if f.ClassUID != vulnerabilityFinding || ocsfClosed(f.StatusID) {
			continue
		}
		for _, resource := range f.Resources {
			image := imageOf(resource.UID, resource.Data)
			if image == "" && imageID.MatchString(f.Device.Image.UID) {
				image = f.Device.Image.UID
			}
			if image == "" {
				continue
			}
			region := resource.Region
			if region == "" {
				region = f.Cloud.Region
			}
			for _, v := range f.Found {
				fixed := v.Fix || v.FixOld
				for _, p := range v.Packages {
					fixed = fixed || p.Fixed != "" && p.Fixed != "NotAvailable"
				}
				if fixed && v.CVE.UID != "" {
					found = append(found, Finding{Vulnerability: v.CVE.UID, ImageID: image, Region: region})
				}
			}
		}
	}
	return found, ignored, nil
}

// imageOf is the image that a resource is, by its ARN or id, or that its data name;
// empty: none.
func imageOf(uid string, data json.RawMessage) string {
	if id := uid[strings.LastIndex(uid, "/")+1:]; imageID.MatchString(id) {
		return id
	}
	var document any
	if json.Unmarshal(data, &document) != nil {
		return ""
	}
	if text, ok := document.(string); ok && json.Unmarshal([]byte(text), &document) != nil {
		return ""
	}
	return namedImage(document, 0)
}

// namedImage searches a document, not deeper than AWS's own are, for an image's
// id under a name such as ImageId or image_id.
func namedImage(document any, depth int) string {
	if depth > 8 {
		return ""
	}
	switch v := document.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if text, ok := v[key].(string); ok && imageID.MatchString(text) && strings.EqualFold(strings.ReplaceAll(key, "_", ""), "imageid") {
				return text
			}
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if id := namedImage(v[key], depth+1); id != "" {
				return id
			}
		}
	case []any:
		for _, element := range v {
			if id := namedImage(element, depth+1); id != "" {
				return id
			}
		}
	}
	return ""
}
