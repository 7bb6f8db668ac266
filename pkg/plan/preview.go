package plan

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
)

// Preview describes what a plan would do, for people and programs.
type Preview struct {
	Recipe         string              `json:"recipe"`
	Description    string              `json:"description"`
	Fingerprint    string              `json:"fingerprint"`
	ReleaseID      string              `json:"releaseId"`
	ImageName      string              `json:"imageName"`
	FactoryVersion string              `json:"factoryVersion"`
	Source         SourceImage         `json:"source"`
	InstanceTypes  []string            `json:"instanceTypes"`
	RootVolume     PreviewVolume       `json:"rootVolume"`
	Components     []Component         `json:"components"`
	NeverRun       []string            `json:"neverRun"` // components that were never run on a guest of the family
	Bundle         Bundle              `json:"bundle"`
	UserDataBytes  int                 `json:"userDataBytes"`
	Controls       map[string]int      `json:"controls"` // number by severity
	Gate           string              `json:"gate"`
	Waivers        []compliance.Waiver `json:"waivers"`
	Targets        []PreviewTarget     `json:"targets"`
	Copies         string              `json:"copies"` // when copies are started: contract.CopiesBeforeGate or CopiesAfterGate
	Accounts       []string            `json:"accounts"`
	Organizations  []string            `json:"organizations"`
	Pointers       []string            `json:"pointers"`
	PointersIn     []string            `json:"pointersIn"` // accounts other than the factory's own
	Keep           int                 `json:"keep"`
	DeprecateAfter string              `json:"deprecateAfter"`
	RemoveAfter    string              `json:"removeAfter"`

	// Next is what an execution would do now. Its action is "unknown" if no factory
	// was asked.
	Next Next `json:"next"`

	// Defaults are the values of components' parameters that nobody has set, by
	// component and parameter. WriteText leaves out values that equal them.
	Defaults map[string]map[string]string `json:"-"`
}

// Next is what the next execution of a recipe would do.
type Next struct {
	Action  string   `json:"action"` // bake, release (of the published image, without a bake), none (it is up to date) or unknown
	Why     string   `json:"why"`
	Changed []string `json:"changed"` // what differs from the release before
}

// PreviewVolume is the root volume of the image.
type PreviewVolume struct {
	SizeGiB int32  `json:"sizeGiB"`
	KMSKey  string `json:"kmsKey"` // empty for the AWS-managed key
}

// PreviewTarget is a region in which the image is published.
type PreviewTarget struct {
	Region string `json:"region"`
	KMSKey string `json:"kmsKey"`
	Home   bool   `json:"home"`
}

// Preview summarises the plan.
func (p *BuildPlan) Preview() Preview {
	r := p.Recipe
	out := Preview{
		Recipe: r.Name, Description: r.Description, Fingerprint: p.Fingerprint, ReleaseID: p.ReleaseID, ImageName: p.ImageName,
		FactoryVersion: p.FactoryVersion, Source: p.Source,
		InstanceTypes:  r.Builder.InstanceTypes,
		RootVolume:     PreviewVolume{r.Builder.RootVolume.SizeGiB, r.Builder.RootVolume.KMSKey},
		Components:     p.Components,
		NeverRun:       list(p.NeverRun),
		Bundle:         p.Bundle,
		UserDataBytes:  len(p.UserData),
		Controls:       map[string]int{},
		Gate:           r.Gate.Severity,
		Waivers:        list(p.Waivers()),
		Copies:         r.Distribution.Copies,
		Accounts:       list(r.Distribution.Accounts),
		Organizations:  list(r.Distribution.Organizations),
		Pointers:       list(r.Pointers.Parameters),
		PointersIn:     list(r.Pointers.Accounts),
		Keep:           r.Retention.Keep,
		DeprecateAfter: r.Retention.DeprecateAfter.String(),
		RemoveAfter:    r.Retention.RemoveAfter.String(),
		Next:           Next{Changed: []string{}},
	}
	for _, c := range p.Controls {
		out.Controls[c.Severity]++
	}
	for i, region := range r.Distribution.Regions {
		t := PreviewTarget{Region: region.Name, KMSKey: region.KMSKey, Home: i == 0}
		if t.Home {
			t.KMSKey = r.Builder.RootVolume.KMSKey
		}
		out.Targets = append(out.Targets, t)
	}
	return out
}

// WriteJSON writes the preview as indented JSON.
func (p Preview) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(p)
}

// WriteText writes the preview for people.
func (p Preview) WriteText(w io.Writer) error {
	var b strings.Builder
	row := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-13s %s\n", label, fmt.Sprintf(format, args...))
	}
	row("recipe", "%s: %s", p.Recipe, p.Description)
	if p.Next.Action != "" {
		row("next", "%s: %s", p.Next.text(), p.Next.Why)
	}
	if len(p.Next.Changed) > 0 {
		row("changed", "%s", strings.Join(p.Next.Changed, ", "))
	}
	row("fingerprint", "%s", p.Fingerprint)
	row("release", "%s", p.ReleaseID)
	row("image", "%s", p.ImageName)
	row("built by", "ami-factory %s", p.FactoryVersion)
	row("source", "%s %s", p.Source.ImageID, p.Source.Name)
	row("", "owner %s, %s, of %s", p.Source.OwnerID, p.Source.Architecture, orUnknown(p.Source.CreationDate))
	row("builder", "%s; %d GiB gp3, encrypted under %s", strings.Join(p.InstanceTypes, ", else "), p.RootVolume.SizeGiB, keyName(p.RootVolume.KMSKey))
	for i, c := range p.Components {
		var values []string
		for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
			if standard, ok := p.Defaults[c.Name][name]; ok && standard == c.Parameters[name] {
				continue
			}
			values = append(values, fmt.Sprintf("%s=%q", name, c.Parameters[name]))
		}
		row(label(i, "components"), "%s", strings.TrimSpace(c.Name+" "+strings.Join(values, " ")))
	}
	if len(p.NeverRun) > 0 {
		row("never run", "on a guest of this family: %s", strings.Join(p.NeverRun, ", "))
	}
	row("user data", "%d bytes; bundle of %d bytes, sha256 %s", p.UserDataBytes, p.Bundle.Size, p.Bundle.SHA256)
	var counts []string
	total := 0
	for _, s := range slices.Backward(compliance.Severities()) {
		if n := p.Controls[s]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
			total += n
		}
	}
	row("controls", "%d: %s; the gate rejects from %s on", total, strings.Join(counts, ", "), p.Gate)
	for i, v := range p.Waivers {
		row(label(i, "waived"), "%s until %s by %s: %s", v.Subject(), v.Expires, v.Approver, v.Reason)
	}
	for i, t := range p.Targets {
		home := ""
		if t.Home {
			home = " (home)"
		}
		row(label(i, "regions"), "%s%s, encrypted under %s", t.Region, home, keyName(t.KMSKey))
	}
	if len(p.Targets) > 1 {
		row("copies", "%s", copiesStart(p.Copies))
	}
	for i, who := range append(prefixed("account ", p.Accounts), p.Organizations...) {
		row(label(i, "shared with"), "%s", who)
	}
	for i, name := range p.Pointers {
		row(label(i, "pointers"), "%s", name)
	}
	for i, account := range p.PointersIn {
		row(label(i, "and in"), "account %s", account)
	}
	row("retention", "the newest %d; deprecated after %s; older ones removed after %s without %s", p.Keep, p.DeprecateAfter, p.RemoveAfter, uses(len(p.Accounts)+len(p.Organizations) > 0, p.DeprecateAfter))
	_, err := io.WriteString(w, b.String())
	return err
}

// uses says what keeps an image from removal.
func uses(shared bool, deprecateAfter string) string {
	if !shared {
		return "use"
	}
	return "use in this account; launches by the accounts that it is shared with keep it for " + deprecateAfter
}

// text is the action for people.
func (n Next) text() string {
	switch n.Action {
	case contract.ActionRelease:
		return "release without a bake"
	case NextNone:
		return "up to date"
	}
	return n.Action
}

// Actions of Next beside contract.ActionBake and contract.ActionRelease.
const (
	NextNone    = "none"
	NextUnknown = "unknown"
)

// copiesStart says when copies are started, for people.
func copiesStart(when string) string {
	if when == contract.CopiesAfterGate {
		return "started after the gate"
	}
	return "private ones start while the image is verified"
}

func label(i int, s string) string {
	if i > 0 {
		return ""
	}
	return s
}

func keyName(key string) string {
	if key == "" {
		return "the AWS-managed key"
	}
	return key
}

func prefixed(prefix string, in []string) []string {
	out := make([]string, 0, len(in))
	for _, s := range in {
		out = append(out, prefix+s)
	}
	return out
}

// list returns an empty slice for nil, so that JSON has [] instead of null.
func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
