package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/component"
)

// Image is the golden image that a spec is checked for.
type Image struct {
	Recipe     string
	Family     string
	Components []component.Selected
}

// component returns the component of the image with a name, or nil.
func (i *Image) component(name string) *component.Selected {
	for n := range i.Components {
		if i.Components[n].Name == name {
			return &i.Components[n]
		}
	}
	return nil
}

// image holds what components put into a golden image and a spec could undo. It is read
// from the components' files.
type image struct {
	of      *Image              // nil if the image is unknown: then this is what any image may have
	sysctl  []setting           // of the hardening, in the possible variants of the image
	variant []string            // possible variants of the image; one for a known image
	blocked map[string]string   // kernel modules that cannot be loaded, and the file that blocks them
	files   map[string]string   // paths of components' files, and the component
	units   map[string]string   // systemd units that components install or enable, and the component
	agents  map[string][]string // settings that an agent reads from user data, by its component
}

// setting is one line of a sysctl.d file. Its name may be a pattern.
type setting struct{ name, value, file, tree string }

const components = "components"

var blockedModule = regexp.MustCompile(`^install\s+(\S+)\s+/(usr/)?bin/(false|true)$`)

// readImage reads components/*/files/<tree>/..., where <tree> is a variant, a family or
// common.
//
// If family is not empty, it leaves out what other families have. If of is not nil, it
// leaves out what that image does not have.
func readImage(userdata fs.FS, family string, of *Image) (image, error) {
	out := image{of: of, blocked: map[string]string{}, files: map[string]string{}, units: map[string]string{}, agents: map[string][]string{}}
	variants, err := variantsOf(userdata, of)
	if err != nil {
		return out, err
	}
	out.variant = variants
	err = fs.WalkDir(userdata, components, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		inside, ok := strings.CutPrefix(name, components+"/")
		if !ok {
			return nil
		}
		owner, rest, _ := strings.Cut(inside, "/")
		if rest == "files/"+owner+".py" {
			out.agents[owner], err = readSettings(userdata, name)
			return err
		}
		if of != nil && of.component(owner) == nil {
			return nil
		}
		if rest == "component.yaml" {
			return out.describe(userdata, owner, name)
		}
		i := strings.Index(rest, "/etc/")
		if !strings.HasPrefix(rest, "files/") || i < 0 {
			return nil
		}
		target, tree := rest[i:], strings.TrimPrefix(rest[:i], "files/")
		if !slices.ContainsFunc(variants, func(v string) bool { return inTree(tree, family, v) }) {
			return nil
		}
		out.lay(owner, target)
		kind := path.Dir(target)
		if kind != "/etc/sysctl.d" && kind != "/etc/modprobe.d" {
			return nil
		}
		content, err := fs.ReadFile(userdata, name)
		if err != nil {
			return err
		}
		out.read(kind, tree, target, string(content))
		return nil
	})
	if err != nil {
		return out, err
	}
	if len(out.sysctl) == 0 && of == nil {
		return out, fmt.Errorf("no component has a file below etc/sysctl.d, so nothing says what the image is hardened with")
	}
	return out, nil
}

// describe reads from a component's description what it installs and enables in the image.
func (m *image) describe(userdata fs.FS, owner, name string) error {
	content, err := fs.ReadFile(userdata, name)
	if err != nil {
		return err
	}
	var says struct{ Files, Services []string }
	if err := yaml.Load(content, &says); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, file := range says.Files {
		if unit, ok := strings.CutSuffix(path.Base(file), ".d"); ok && path.Dir(strings.TrimSuffix(file, "/")) == systemUnits {
			m.units[unit] = owner // a drop-in of another package's unit
		} else if !strings.HasSuffix(file, "/") {
			m.lay(owner, file)
		}
	}
	for _, unit := range says.Services {
		m.units[unit] = owner
	}
	return nil
}

const systemUnits = "/etc/systemd/system"

// lay records a file of a component.
func (m *image) lay(owner, file string) {
	m.files[file] = owner
	if path.Dir(file) == systemUnits {
		m.units[path.Base(file)] = owner
	}
}

// unit returns the component of a unit. An instance of a template belongs to the
// template's component.
func (m *image) unit(name string) (owner string, owned bool) {
	if before, rest, instance := strings.Cut(name, "@"); instance {
		if owner, owned = m.units[before+"@"+path.Ext(rest)]; owned {
			return owner, true
		}
	}
	owner, owned = m.units[name]
	return owner, owned
}

// agentSetting matches a line in an agent's table of settings: a key and the form of its
// value.
var agentSetting = regexp.MustCompile(`(?m)^    "([A-Z][A-Z0-9_]*)": r"`)

// readSettings reads the settings of an agent, without those that all agents have.
func readSettings(userdata fs.FS, name string) ([]string, error) {
	var keys []string
	for _, file := range []string{"lib/agents/agent", name} {
		content, err := fs.ReadFile(userdata, file)
		if err != nil {
			return nil, err
		}
		for _, found := range agentSetting.FindAllSubmatch(content, -1) {
			keys = append(keys, string(found[1]))
		}
	}
	slices.Sort(keys)
	return keys, nil
}

func (m *image) read(kind, tree, target, content string) {
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if kind == "/etc/modprobe.d" {
			if found := blockedModule.FindStringSubmatch(line); found != nil {
				m.blocked[moduleName(found[1])] = target
			}
			continue
		}
		if name, value, ok := strings.Cut(line, "="); ok {
			name = strings.TrimPrefix(strings.TrimSpace(name), "-")
			m.sysctl = append(m.sysctl, setting{sysctlName(name), strings.Join(strings.Fields(value), " "), target, tree})
		}
	}
}

// value returns the value that a variant of the hardening sets for a sysctl, and the file.
// As in systemd-sysctl, the last file by name wins, and a name wins over a pattern.
// https://www.freedesktop.org/software/systemd/man/latest/sysctl.d.html
func (m *image) value(name, variant string) (value, file string, set bool) {
	name = sysctlName(name)
	var exact bool
	for _, s := range m.sysctl {
		if !inTree(s.tree, "", variant) {
			continue
		}
		if ok, err := path.Match(s.name, name); err != nil || !ok {
			continue
		}
		named := s.name == name
		if exact && !named || set && exact == named && s.file < file {
			continue
		}
		value, file, set, exact = s.value, s.file, true, named
	}
	return value, file, set
}

// verdict compares a sysctl's value with the hardening.
type verdict struct {
	refused []string // variants that set another value
	taken   []string // variants that set this one or none
	values  []string // that variants set instead
	file    string   // that sets one of them
}

// judge compares a sysctl's value with those of the image's variants.
func (m *image) judge(name, value string) verdict {
	var out verdict
	for _, variant := range m.variant {
		want, file, set := m.value(name, variant)
		if !set || want == value {
			out.taken = append(out.taken, variant)
			if !set {
				continue
			}
		} else {
			out.refused, out.file = append(out.refused, variant), file
		}
		if !slices.Contains(out.values, want) {
			out.values = append(out.values, want)
		}
	}
	slices.Sort(out.values)
	return out
}

// variantsOf returns the possible variants of an image's hardening: its own if the image
// is known, otherwise all.
func variantsOf(userdata fs.FS, of *Image) ([]string, error) {
	if of != nil {
		if hardening := of.component("hardening"); hardening != nil {
			return []string{hardening.Values["variant"]}, nil
		}
		return []string{""}, nil
	}
	const name = components + "/hardening/component.yaml"
	content, err := fs.ReadFile(userdata, name)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{""}, nil
	}
	if err != nil {
		return nil, err
	}
	var says struct {
		Parameters struct{ Variant struct{ Allowed []string } }
	}
	if err := yaml.Load(content, &says); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(says.Parameters.Variant.Allowed) == 0 {
		return []string{""}, nil
	}
	return says.Parameters.Variant.Allowed, nil
}

// inTree reports whether the files of a tree are copied into an image of a family and a
// variant, as in components/hardening/layout.sh. An empty family means any family.
func inTree(tree, family, variant string) bool {
	switch tree {
	case "debian":
		return family == "" || strings.HasPrefix(family, "debian-") || strings.HasPrefix(family, "ubuntu-")
	case "al2023":
		return family == "" || family == tree
	case "snapless":
		return !strings.HasPrefix(family, "ubuntu-")
	case "base", "docker", "ecs", "eks":
		return variant == "" || variant == tree
	case "containers":
		return variant != "base"
	}
	return true
}

// installs reports whether the components of a known image install a package.
func (m *image) installs(name string) bool {
	return m.of != nil && slices.ContainsFunc(m.of.Components, func(s component.Selected) bool {
		return slices.ContainsFunc(s.Wanted(), func(w component.Wanted) bool { return w.Name == name })
	})
}

// has reports whether a component of the image installs a program.
func (m *image) has(program string) bool {
	for file := range m.files {
		if path.Base(file) == program {
			return true
		}
	}
	return false
}

// sysctlName returns the form with dots: net/ipv4/ip_forward becomes net.ipv4.ip_forward.
func sysctlName(name string) string { return strings.ReplaceAll(name, "/", ".") }

// moduleName returns the form that the kernel uses: usb-storage becomes usb_storage.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }
