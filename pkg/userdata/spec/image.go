package spec

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// image is what components put into a golden image, as far as a spec could
// undo it: read from their files, so that it cannot differ from them.
type image struct {
	sysctl  []setting           // of the hardening, in any of its variants
	blocked map[string]string   // kernel modules that cannot be loaded, and where that is said
	files   map[string]string   // paths that components lay down, and whose they are
	units   map[string]string   // systemd units that components lay down or enable, and whose they are
	agents  map[string][]string // settings that an agent takes from user data, by its component
}

// setting is one line of a sysctl.d file; its name may be a pattern.
type setting struct{ name, value, file string }

const components = "components"

var blockedModule = regexp.MustCompile(`^install\s+(\S+)\s+/(usr/)?bin/(false|true)$`)

// readImage reads components/*/files/<tree>/..., where a tree is one of a
// variant, a family, or common.
func readImage(userdata fs.FS) (image, error) {
	out := image{blocked: map[string]string{}, files: map[string]string{}, units: map[string]string{}, agents: map[string][]string{}}
	err := fs.WalkDir(userdata, components, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		inside, ok := strings.CutPrefix(name, components+"/")
		if !ok {
			return nil
		}
		component, rest, _ := strings.Cut(inside, "/")
		if rest == "component.yaml" {
			return out.describe(userdata, component, name)
		}
		if rest == "files/"+component+".py" {
			out.agents[component], err = readSettings(userdata, name)
			return err
		}
		i := strings.Index(rest, "/etc/")
		if !strings.HasPrefix(rest, "files/") || i < 0 {
			return nil
		}
		target := rest[i:]
		out.lay(component, target)
		kind := path.Dir(target)
		if kind != "/etc/sysctl.d" && kind != "/etc/modprobe.d" {
			return nil
		}
		content, err := fs.ReadFile(userdata, name)
		if err != nil {
			return err
		}
		out.read(kind, target, string(content))
		return nil
	})
	if err != nil {
		return out, err
	}
	if len(out.sysctl) == 0 {
		return out, fmt.Errorf("no component has a file below etc/sysctl.d, so nothing says what the image is hardened with")
	}
	return out, nil
}

// describe reads what a component's description says it puts into the image and
// enables there.
func (m *image) describe(userdata fs.FS, component, name string) error {
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
			m.units[unit] = component // a drop-in of another package's unit
		} else if !strings.HasSuffix(file, "/") {
			m.lay(component, file)
		}
	}
	for _, unit := range says.Services {
		m.units[unit] = component
	}
	return nil
}

const systemUnits = "/etc/systemd/system"

// lay notes a file of a component.
func (m *image) lay(component, file string) {
	m.files[file] = component
	if path.Dir(file) == systemUnits {
		m.units[path.Base(file)] = component
	}
}

// unit says which component a unit is of. An instance is its template's.
func (m *image) unit(name string) (component string, owned bool) {
	if before, rest, instance := strings.Cut(name, "@"); instance {
		if component, owned = m.units[before+"@"+path.Ext(rest)]; owned {
			return component, true
		}
	}
	component, owned = m.units[name]
	return component, owned
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

func (m *image) read(kind, target, content string) {
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
			m.sysctl = append(m.sysctl, setting{sysctlName(name), strings.Join(strings.Fields(value), " "), target})
		}
	}
}

// values returns what the hardening sets a sysctl to, over all of its variants.
func (m *image) values(name string) (values []string, file string) {
	for _, s := range m.sysctl {
		if ok, err := path.Match(s.name, sysctlName(name)); err != nil || !ok {
			continue
		}
		if !slices.Contains(values, s.value) {
			values = append(values, s.value)
		}
		file = s.file
	}
	slices.Sort(values)
	return values, file
}

// sysctlName is the form with dots: net/ipv4/ip_forward is net.ipv4.ip_forward.
func sysctlName(name string) string { return strings.ReplaceAll(name, "/", ".") }

// moduleName is the form that the kernel uses: usb-storage is usb_storage.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }
