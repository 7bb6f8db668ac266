package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/package-url/packageurl-go"
)

// Names of the properties in a bill of materials. Each value is one fact as JSON.
const (
	prefix         = "ami-factory:"
	propSystem     = prefix + "system"
	propKernel     = prefix + "kernel"
	propPackage    = prefix + "package"
	propImage      = prefix + "image"
	propFile       = prefix + "privileged-file"
	propUnit       = prefix + "unit"
	propSocket     = prefix + "socket"
	propUser       = prefix + "user"
	propGroup      = prefix + "group"
	propSysctl     = prefix + "sysctl"
	propRepository = prefix + "repository"
	propKey        = prefix + "key"
	propIncomplete = prefix + "incomplete"
	propSimulated  = prefix + "simulated"
)

// Distro says how package URLs name the distribution.
type Distro int

// Distros: Plain is ID-VERSION_ID, such as debian-12. ForInspector is the bare
// VERSION_ID, as Amazon Inspector wants it
// (https://docs.aws.amazon.com/inspector/latest/user/sbom-generator-purl.html).
const (
	Plain Distro = iota
	ForInspector
)

// PURL is the package URL of a package (https://github.com/package-url/purl-spec).
// The epoch of a Debian version is part of the version; that of RPM is a qualifier.
func (v Inventory) PURL(p Package, d Distro) (string, error) {
	distro := v.System.ID
	if v.System.Version != "" {
		distro += "-" + v.System.Version
	}
	if d == ForInspector {
		distro = v.System.Version
	}
	qualifiers := map[string]string{"arch": p.Arch, "distro": distro, "epoch": p.Epoch}
	if p.Source != p.Name || p.SourceVersion != p.Version {
		qualifiers["upstream"] = p.Source
		if p.SourceVersion != p.Version {
			qualifiers["upstream"] += "@" + p.SourceVersion
		}
	}
	for _, name := range slices.Collect(maps.Keys(qualifiers)) {
		if qualifiers[name] == "" {
			delete(qualifiers, name)
		}
	}
	namespace := v.System.ID
	if namespace == "amzn" && d == ForInspector {
		namespace = "amazonlinux"
	}
	url := packageurl.NewPackageURL(p.Type, namespace, p.Name, p.Version, packageurl.QualifiersFromMap(qualifiers), "")
	if err := url.Normalize(); err != nil {
		return "", fmt.Errorf("package %s %s has no package URL: %w", p.Name, p.Version, err)
	}
	return url.ToString(), nil
}

// BOM is the bill of materials: packages and container images as components, and all
// else as properties of the operating system, which is the subject.
func (v Inventory) BOM(d Distro) (*cdx.BOM, error) {
	v = v.sorted()
	var components []cdx.Component
	seen := map[string]int{}
	for _, p := range v.Packages {
		url, err := v.PURL(p, d)
		if err != nil {
			return nil, err
		}
		fact, err := property(propPackage, p)
		if err != nil {
			return nil, err
		}
		components = append(components, cdx.Component{
			BOMRef: unique(seen, url), Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.FullVersion(), PackageURL: url,
			Properties: &[]cdx.Property{fact},
		})
	}
	for _, i := range v.Images {
		fact, err := property(propImage, i)
		if err != nil {
			return nil, err
		}
		version := i.Digest
		if version == "" {
			version = i.ID
		}
		components = append(components, cdx.Component{
			BOMRef: unique(seen, i.Engine+":"+i.Repository+":"+i.Tag+"@"+version), Type: cdx.ComponentTypeContainer, Name: i.Repository, Version: version,
			Properties: &[]cdx.Property{fact},
		})
	}
	facts, err := v.facts()
	if err != nil {
		return nil, err
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: "operating-system", Type: cdx.ComponentTypeOS, Name: v.System.ID, Version: v.System.Version, Description: v.System.Name,
		Properties: &facts,
	}}
	bom.Components = &components
	return bom, nil
}

// unique returns the reference with a number where it was given before.
func unique(seen map[string]int, ref string) string {
	seen[ref]++
	if n := seen[ref]; n > 1 {
		return fmt.Sprintf("%s#%d", ref, n)
	}
	return ref
}

func property(name string, fact any) (cdx.Property, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(fact); err != nil {
		return cdx.Property{}, fmt.Errorf("write %s: %w", name, err)
	}
	return cdx.Property{Name: name, Value: strings.TrimSuffix(b.String(), "\n")}, nil
}

func (v Inventory) facts() ([]cdx.Property, error) {
	var out []cdx.Property
	var errs []error
	add := func(name string, fact any) {
		p, err := property(name, fact)
		out, errs = append(out, p), append(errs, err)
	}
	add(propSystem, v.System)
	add(propKernel, v.Kernel)
	each(v.Files, propFile, add)
	each(v.Units, propUnit, add)
	each(v.Sockets, propSocket, add)
	each(v.Users, propUser, add)
	each(v.Groups, propGroup, add)
	each(v.Sysctls, propSysctl, add)
	each(v.Repositories, propRepository, add)
	each(v.Keys, propKey, add)
	each(v.Incomplete, propIncomplete, add)
	if v.Simulated {
		add(propSimulated, true)
	}
	return out, errors.Join(errs...)
}

func each[T any](list []T, name string, add func(string, any)) {
	for _, x := range list {
		add(name, x)
	}
}

// CycloneDX is the bill of materials as CycloneDX 1.5 JSON. Equal inventories have
// equal bytes.
func (v Inventory) CycloneDX(d Distro) ([]byte, error) {
	bom, err := v.BOM(d)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_5); err != nil {
		return nil, fmt.Errorf("write the inventory: %w", err)
	}
	return b.Bytes(), nil
}

// Read reads the bill of materials that CycloneDX wrote. Pending updates are not part
// of it.
func Read(document []byte) (Inventory, error) {
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(document), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		return Inventory{}, fmt.Errorf("read the inventory: %w", err)
	}
	if bom.Metadata == nil || bom.Metadata.Component == nil || bom.Components == nil {
		return Inventory{}, errors.New("read the inventory: the document has no subject or no components")
	}
	v := Inventory{Pending: Pending{Unknown: "a bill of materials does not list them"}}
	lists := []*[]cdx.Property{bom.Metadata.Component.Properties}
	for _, c := range *bom.Components {
		lists = append(lists, c.Properties)
	}
	for _, list := range lists {
		if list == nil {
			continue
		}
		for _, p := range *list {
			if err := v.read(p); err != nil {
				return Inventory{}, fmt.Errorf("read the inventory: %s %s: %w", p.Name, p.Value, err)
			}
		}
	}
	if v.System.ID == "" {
		return Inventory{}, errors.New("read the inventory: it does not name the distribution; another program wrote it")
	}
	return v.sorted(), nil
}

func (v *Inventory) read(p cdx.Property) error {
	switch p.Name {
	case propSystem:
		return json.Unmarshal([]byte(p.Value), &v.System)
	case propKernel:
		return json.Unmarshal([]byte(p.Value), &v.Kernel)
	case propPackage:
		return appendFact(&v.Packages, p.Value)
	case propImage:
		return appendFact(&v.Images, p.Value)
	case propFile:
		return appendFact(&v.Files, p.Value)
	case propUnit:
		return appendFact(&v.Units, p.Value)
	case propSocket:
		return appendFact(&v.Sockets, p.Value)
	case propUser:
		return appendFact(&v.Users, p.Value)
	case propGroup:
		return appendFact(&v.Groups, p.Value)
	case propSysctl:
		return appendFact(&v.Sysctls, p.Value)
	case propRepository:
		return appendFact(&v.Repositories, p.Value)
	case propKey:
		return appendFact(&v.Keys, p.Value)
	case propIncomplete:
		return appendFact(&v.Incomplete, p.Value)
	case propSimulated:
		return json.Unmarshal([]byte(p.Value), &v.Simulated)
	}
	return nil
}

func appendFact[T any](list *[]T, value string) error {
	var x T
	if err := json.Unmarshal([]byte(value), &x); err != nil {
		return err
	}
	*list = append(*list, x)
	return nil
}
