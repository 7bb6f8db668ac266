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

// component returns a component of the image, nil when it has none of the name.
func (i *Image) component(name string) *component.Selected {
	for n := range i.Components {
		if i.Components[n].Name == name {
			return &i.Components[n]
		}
	}
	return nil
}

// image is what components put into a golden image, as far as a spec could
// undo it: read from their files, so that it cannot differ from them.
type image struct {
	of      *Image              // nil when it is not known which image it is: then it is what any may have
	sysctl  []setting           // of the hardening, in the variants that the image may be of
	variant []string            // that the image may be of: the one of a known image
	blocked map[string]string   // kernel modules that cannot be loaded, and where that is said
	files   map[string]string   // paths that components lay down, and whose they are
	units   map[string]string   // systemd units that components lay down or enable, and whose they are
	agents  map[string][]string // settings that an agent takes from user data, by its component
}

// setting is one line of a sysctl.d file; its name may be a pattern.
type setting struct{ name, value, file, tree string }

const components = "components"

var blockedModule = regexp.MustCompile(`^install\s+(\S+)\s+/(usr/)?bin/(false|true)$`)

// readImage reads components/*/files/<tree>/..., where a tree is one of a
// variant, a family, or common.
//
// A family, where it is not empty, and an image, where it is not nil, leave out
// what is not in images of them.
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

// describe reads what a component's description says it puts into the image and
// enables there.
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

// lay notes a file of a component.
func (m *image) lay(owner, file string) {
	m.files[file] = owner
	if path.Dir(file) == systemUnits {
		m.units[path.Base(file)] = owner
	}
}

// unit says which component a unit is of. An instance is its template's.
func (m *image) unit(name string) (owner string, owned bool) {
	if before, rest, instance := strings.Cut(name, "@"); instance {
		if owner, owned = m.units[before+"@"+path.Ext(rest)]; owned {
			return owner, true
		}
	}
	owner, owned = m.units[name]
	return owner, owned
}

// agentSetting is a line of a table of settings in an agent's program: a key
// and the form of its value.
var agentSetting = regexp.MustCompile(`(?m)^    "([A-Z][A-Z0-9_]*)": r"`)

// readSettings reads what the program of an agent takes, beside what all take.
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

// value returns what a variant of the hardening sets a sysctl to, and the file
// that does. The last file by name counts, and a name counts more than a pattern,
// as systemd-sysctl has it.
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

// verdict is what the hardening says to a sysctl's value.
type verdict struct {
	refused []string // variants that set another value
	taken   []string // variants that set this one or none
	values  []string // that variants set instead
	file    string   // that sets one of them
}

// judge compares a sysctl's value with what the image's variants set.
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

// variantsOf are the variants of the hardening that an image may be of: its own
// where the image is known, else all.
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

// inTree says whether files of a tree are laid over an image of a family and a
// variant, as components/hardening/layout.sh does; an empty family is any.
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

// installs says whether the components of a known image install a package.
func (m *image) installs(name string) bool {
	return m.of != nil && slices.ContainsFunc(m.of.Components, func(s component.Selected) bool {
		return slices.ContainsFunc(s.Wanted(), func(w component.Wanted) bool { return w.Name == name })
	})
}

// has says whether a component of the image brings a program.
func (m *image) has(program string) bool {
	for file := range m.files {
		if path.Base(file) == program {
			return true
		}
	}
	return false
}

// sysctlName is the form with dots: net/ipv4/ip_forward is net.ipv4.ip_forward.
func sysctlName(name string) string { return strings.ReplaceAll(name, "/", ".") }

// moduleName is the form that the kernel uses: usb-storage is usb_storage.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }
