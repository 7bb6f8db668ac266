// Package plan turns a recipe and a resolved source image into everything that a
// build needs. It uses no network: the same input gives the same bytes.
package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/userdata"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// BuildPlan describes one build completely. The stage Resolve stores it in S3,
// and every later stage reads it.
type BuildPlan struct {
	Recipe         recipe.Recipe        `json:"recipe"`
	Source         SourceImage          `json:"source"`
	Fingerprint    string               `json:"fingerprint"` // of the content, see fingerprint
	Inputs         Inputs               `json:"inputs"`      // what else the fingerprint covers
	ReleaseID      string               `json:"releaseId"`   // of the content and its release, see releaseID
	FactoryVersion string               `json:"factoryVersion"`
	ImageName      string               `json:"imageName"` // see ImageName
	UserData       string               `json:"userData"`  // cloud-init MIME; userdata.Fill inserts the URLs
	Bundle         Bundle               `json:"bundle"`
	Components     []Component          `json:"components"` // in the order of installation
	Checks         []byte               `json:"checks"`     // the compiled goss file of all controls
	Controls       []compliance.Control `json:"controls"`
	NeverRun       []string             `json:"neverRun,omitempty"`      // components that no test runs on a guest of the recipe's family
	Engines        compliance.Engines   `json:"engines,omitzero"`        // that check the image beside goss
	SharedWaivers  []compliance.Waiver  `json:"sharedWaivers,omitempty"` // of the deployment, that hold for the recipe
	WaiverDays     waiver.Days          `json:"waiverDays"`              // the longest terms of waivers
	Reuse          *Reuse               `json:"reuse,omitempty"`         // nil if the image is baked
	Why            string               `json:"why,omitempty"`           // the reason for the bake or the release
	Changed        []string             `json:"changed,omitempty"`       // what differs from the previous release, see Differences
}

// Inputs are digests of the parts of the content that the plan has nowhere else in a
// form that does not depend on the execution. They are empty in plans of earlier
// versions.
type Inputs struct {
	Files       string `json:"files"`       // of the components, with those that describe them
	UserData    string `json:"userData"`    // of the neutral user data
	CheckEngine string `json:"checkEngine"` // of the program that runs the checks
}

// Reuse is the published image with the content of the plan. It is released
// again instead of being baked.
type Reuse struct {
	Images map[string]ReusedImage `json:"images"` // by region, the home region among them
}

// ReusedImage is the image in one region.
type ReusedImage struct {
	ImageID   string    `json:"imageId"`
	Execution string    `json:"execution"` // name of the execution that made it
	Started   time.Time `json:"started"`   // start of that execution
	Plan      string    `json:"plan"`      // SHA-256 of the plan of the previous release
	// Accounts and Organizations have it from the previous release.
	Accounts      []string `json:"accounts,omitempty"`
	Organizations []string `json:"organizations,omitempty"` // ARNs
}

// Reused returns the image that the plan releases again in a region; ok is false
// if the execution makes the image.
func (p *BuildPlan) Reused(region string) (ReusedImage, bool) {
	if p.Reuse == nil {
		return ReusedImage{}, false
	}
	out, ok := p.Reuse.Images[region]
	return out, ok
}

// SourceImage is the resolved base AMI.
type SourceImage struct {
	ImageID      string `json:"imageId"`
	Name         string `json:"name"`
	OwnerID      string `json:"ownerId"`
	Architecture string `json:"architecture"`
	RootDevice   string `json:"rootDevice"` // device name, such as /dev/xvda
	CreationDate string `json:"creationDate"`
}

// Bundle is the archive of component files that the builder fetches by digest.
type Bundle struct {
	SHA256 string `json:"sha256"`
	Size   int    `json:"size"` // bytes of the gzipped tar
}

// Component is a component of the image, with the values of all its parameters.
type Component struct {
	Name       string            `json:"name"`
	Parameters map[string]string `json:"parameters"`
}

// Input is the input of Build: what a draft needs to become a plan.
type Input struct {
	Source         SourceImage
	CheckEngine    string // SHA-256 of the program that runs the checks, hex
	FactoryVersion string // written into the image; not part of the fingerprint
	ExecutionName  string
	ExecutionStart time.Time
}

// Build makes the plan of what was drafted without problems, and the bundle that goes
// with it. Whether the source is what the recipe asks for is not checked here:
// source.Resolver does that.
func (d Draft) Build(in Input) (*BuildPlan, []byte, error) {
	r, parts := d.Recipe, d.parts
	if in.Source.ImageID == "" {
		return nil, nil, failure.New(failure.SourceNotFound, "the source image of recipe %s is not resolved", r.Name)
	}
	fingerprint, inputs, err := fingerprint(in, r, parts)
	if err != nil {
		return nil, nil, err
	}
	shared := sharedWaivers(d.shared)
	releaseID, err := releaseID(r, fingerprint, shared)
	if err != nil {
		return nil, nil, err
	}
	packed, err := d.packed()
	if err != nil {
		return nil, nil, err
	}
	bundle := Bundle{SHA256: digest(packed), Size: len(packed)}
	name := ImageName(r.Name, fingerprint, in.ExecutionName, in.ExecutionStart)
	text, err := userdata.Render(parts.spec(r, bundle, userdata.Release{
		Fingerprint: fingerprint, SourceImage: in.Source.ImageID, FactoryVersion: in.FactoryVersion,
		ImageName: name, Baked: in.ExecutionStart.UTC().Format(time.RFC3339),
	}))
	if err != nil {
		return nil, nil, err
	}
	p := &BuildPlan{
		Recipe:         r.WithoutPositions(),
		Source:         in.Source,
		Fingerprint:    fingerprint,
		Inputs:         inputs,
		ReleaseID:      releaseID,
		FactoryVersion: in.FactoryVersion,
		ImageName:      name,
		UserData:       text,
		Bundle:         bundle,
		Checks:         parts.checks,
		Controls:       parts.controls,
		NeverRun:       component.NeverRun(parts.selected),
		Engines:        parts.engines,
		SharedWaivers:  shared,
		WaiverDays:     d.days,
	}
	for _, s := range parts.selected {
		p.Components = append(p.Components, Component{Name: s.Name, Parameters: s.Values})
	}
	return p, packed, nil
}

// assembly holds the parts of a plan that do not depend on the source.
type assembly struct {
	selected    []component.Selected
	files       []component.File // of the bundle
	definitions []component.File // of the components, not in the bundle
	checks      []byte
	controls    []compliance.Control
	engines     compliance.Engines // that check the image beside goss
}

// spec describes the user data of a recipe's builder.
func (a assembly) spec(r *recipe.Recipe, bundle Bundle, release userdata.Release) userdata.Spec {
	out := userdata.Spec{
		Recipe: r.Name, BundleSHA256: bundle.SHA256, BundleSize: bundle.Size, CloudConfig: r.Builder.CloudConfig, Release: release,
	}
	for _, s := range a.selected {
		file := component.BootstrapFile(s.Name)
		if i := slices.IndexFunc(a.files, func(f component.File) bool { return f.Path == file }); i >= 0 {
			out.First = append(out.First, userdata.Script{Component: s.Name, Text: string(a.files[i].Data), Environment: s.Environment()})
		}
	}
	return out
}

// assemble does everything that needs no network, apart from packing the bundle, and
// collects all problems.
func assemble(r *recipe.Recipe, fsys fs.FS, given component.Deployment, shared []waiver.Shared) (assembly, problem.List, error) {
	var a assembly
	var problems problem.List
	var err error
	var waived []string
	for _, w := range shared {
		waived = append(waived, w.Control)
	}
	if a.selected, problems, err = component.Select(fsys, r, given, waived...); err != nil || problems.HasErrors() {
		return a, problems, err
	}
	if names := component.NeverRun(a.selected); len(names) > 0 {
		warning := r.Problem("family", "", "never run on a guest of %s: %s; only a bake shows whether they work there", r.Family, strings.Join(names, ", "))
		warning.Severity = problem.Warning
		problems = append(problems, warning)
	}
	if len(a.selected) == 0 && !r.Valid("components") {
		return a, problems, nil // the problems of the file say why
	}
	if a.checks, a.controls, err = compliance.Compile(component.Sets(a.selected)); err != nil {
		return a, append(problems, r.Problem("components", "", "%v", err)), nil
	}
	var wrong problem.List
	if a.engines, wrong, err = engines(r, fsys, a.controls); err != nil || wrong.HasErrors() {
		return a, append(problems, wrong...), err
	}
	a.controls = append(a.controls, a.engines.Controls()...)
	slices.SortFunc(a.controls, func(x, y compliance.Control) int { return strings.Compare(x.ID, y.ID) })
	if a.files, err = component.Files(fsys, r.Family, a.selected); err != nil {
		return a, problems, err
	}
	if a.definitions, err = component.Definitions(fsys, a.selected); err != nil {
		return a, problems, err
	}
	// The facts of a build are not known yet. Placeholders that are at least as long
	// show whether the user data fits before anything is packed or started.
	zeros := strings.Repeat("0", 64)
	_, err = userdata.Render(a.spec(r, Bundle{SHA256: zeros, Size: math.MaxInt32}, userdata.Release{
		Fingerprint: zeros, SourceImage: "ami-00000000000000000", FactoryVersion: zeros,
		ImageName: strings.Repeat("0", maxImageName), Baked: time.Time{}.Format(time.RFC3339),
	}))
	var size *userdata.SizeError
	if errors.As(err, &size) {
		return a, append(problems, r.Problem("builder.cloudConfig", fmt.Sprintf("at most %d bytes", userdata.MaxSize), "%v", err)), nil
	}
	return a, problems, err
}

// Waivers returns the waivers that hold for the image: those of the recipe, then
// those that recipes share.
func (p *BuildPlan) Waivers() []compliance.Waiver {
	var out []compliance.Waiver
	for _, w := range p.Recipe.Checks.Waivers {
		given := accepted(waiver.Waiver(w))
		given.ID, given.Scope = p.Recipe.Name+"/"+waiver.Waiver(w).Subject(), p.Recipe.Name
		out = append(out, given)
	}
	return append(out, p.SharedWaivers...)
}

// Accepted returns the waivers in the form that judges a failed control or a
// vulnerability.
func (p *BuildPlan) Accepted() compliance.Waivers {
	return compliance.Waivers{Given: p.Waivers(), Days: p.WaiverDays}
}

func accepted(w waiver.Waiver) compliance.Waiver {
	return compliance.Waiver{
		Control: w.Control, Vulnerability: w.Vulnerability, Package: w.Package, FalsePositive: w.FalsePositive.Justification, Reason: w.Reason,
		Author: w.Author, Approver: w.Approver, SecondApprover: w.SecondApprover, Created: w.Created, Expires: w.Expires,
	}
}

// sharedWaivers returns the shared waivers of a recipe, sorted by subject.
func sharedWaivers(given []waiver.Shared) []compliance.Waiver {
	var out []compliance.Waiver
	for _, s := range given {
		w := accepted(s.Waiver)
		w.ID, w.Scope, w.File = s.File()+"/"+s.Subject(), s.Scope.String(), s.File()
		out = append(out, w)
	}
	slices.SortStableFunc(out, func(a, b compliance.Waiver) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
