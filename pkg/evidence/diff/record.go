package diff

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
	"github.com/ami-factory/ami-factory/pkg/evidence/vulnerability"
	"github.com/ami-factory/ami-factory/pkg/plan"
)

// Record is what the evidence of a release says.
type Record struct {
	Side
	Manifest        bundle.Manifest
	Plan            plan.BuildPlan
	Compliance      compliance.Report
	Inventory       inventory.Inventory
	Vulnerabilities vulnerability.Report
}

// Read reads the records of a release that the manifest is of. It trusts them: the
// caller has verified a bundle, or has made the records.
func Read(m bundle.Manifest, files bundle.Files) (Record, error) {
	r := Record{Manifest: m}
	for name, into := range map[string]any{
		contract.PlanFile: &r.Plan, contract.ComplianceObject: &r.Compliance, contract.VulnerabilitiesObject: &r.Vulnerabilities,
	} {
		raw, ok := files[name]
		if !ok {
			return Record{}, fmt.Errorf("%s is missing", name)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return Record{}, fmt.Errorf("%s cannot be read: %w", name, err)
		}
	}
	raw, ok := files[contract.InventoryObject]
	if !ok {
		return Record{}, fmt.Errorf("%s is missing", contract.InventoryObject)
	}
	var err error
	if r.Inventory, err = inventory.Read(raw); err != nil {
		return Record{}, fmt.Errorf("%s cannot be read: %w", contract.InventoryObject, err)
	}
	home := r.home()
	r.Side = Side{
		ImageID: home.ImageID, ImageName: home.Name, Execution: m.Execution.Name, Fingerprint: m.Fingerprint, ReleaseID: m.ReleaseID,
		FactoryVersion: m.FactoryVersion, Simulated: r.Inventory.Simulated || r.Compliance.Guests.Simulated(),
	}
	for _, what := range r.Inventory.Incomplete {
		r.Incomplete = append(r.Incomplete, shown(what))
	}
	return r, nil
}

// home is the image in the region where it was made, or else the first one.
func (r Record) home() bundle.Image {
	if len(r.Plan.Recipe.Distribution.Regions) > 0 {
		if image, ok := r.Manifest.Image(r.Plan.Recipe.Home().Name); ok {
			return image
		}
	}
	if len(r.Manifest.Images) > 0 {
		return r.Manifest.Images[0]
	}
	return bundle.Image{}
}

func (r Record) recipe() string { return r.Manifest.Recipe }

// waivers are those that hold when the manifest is made.
func (r Record) waivers() []compliance.Waiver {
	var out []compliance.Waiver
	for _, w := range r.Plan.Waivers() {
		if days, ends := w.DaysLeft(r.Manifest.Made); !ends || days > 0 {
			out = append(out, w)
		}
	}
	return out
}

// findings are the vulnerabilities by id and source package.
func (r Record) findings() map[string][]vulnerability.Finding {
	out := map[string][]vulnerability.Finding{}
	for _, f := range r.Vulnerabilities.Findings {
		name := f.ID + " in " + f.Package
		out[name] = append(out[name], f)
	}
	return out
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
