package compliance

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

// resourceType describes a kind of resource that goss v0.4.10 checks and that
// controls may use. Kinds that depend on a network are left out on purpose.
type resourceType struct {
	result     string            // name in goss's results
	named      string            // attribute that holds the thing's name; without it, the key is the name
	idHasName  bool              // goss reports "key: name" when the two differ
	properties map[string]string // attribute -> property in goss's results
	options    []string          // attributes that prove nothing by themselves
	required   []string          // without them goss would check nothing or fail
	oneOf      []string          // at least one of them is required
	presence   string            // when false, goss skips all other attributes
}

func properties(names ...string) map[string]string {
	out := map[string]string{}
	for _, n := range names {
		out[n] = n
	}
	return out
}

func resourceTypes() map[string]resourceType {
	file := properties("exists", "mode", "owner", "group", "uid", "gid", "size", "filetype", "contents", "md5", "sha256", "sha512")
	file["linked-to"] = "linkedto"
	return map[string]resourceType{
		"file":         {result: "File", named: "path", idHasName: true, properties: file, required: []string{"exists"}, presence: "exists"},
		"package":      {result: "Package", named: "name", idHasName: true, properties: map[string]string{"installed": "installed", "versions": "version"}, required: []string{"installed"}, presence: "installed"},
		"service":      {result: "Service", named: "name", idHasName: true, properties: properties("enabled", "running"), oneOf: []string{"enabled", "running"}},
		"user":         {result: "User", named: "username", idHasName: true, properties: properties("exists", "uid", "gid", "groups", "home", "shell"), required: []string{"exists"}, presence: "exists"},
		"group":        {result: "Group", named: "groupname", idHasName: true, properties: properties("exists", "gid"), required: []string{"exists"}, presence: "exists"},
		"command":      {result: "Command", named: "exec", properties: properties("exit-status", "stdout", "stderr"), options: []string{"timeout"}, required: []string{"exit-status"}},
		"kernel-param": {result: "KernelParam", named: "name", idHasName: true, properties: properties("value"), required: []string{"value"}},
		"mount":        {result: "Mount", named: "mountpoint", idHasName: true, properties: properties("exists", "opts", "vfs-opts", "source", "filesystem", "usage"), options: []string{"timeout"}, required: []string{"exists"}, presence: "exists"},
		"port":         {result: "Port", named: "port", idHasName: true, properties: properties("listening", "ip"), required: []string{"listening"}, presence: "listening"},
		"process":      {result: "Process", named: "comm", idHasName: true, properties: properties("running"), required: []string{"running"}},
	}
}

func (t resourceType) attributes() []string {
	names := append(slices.Collect(maps.Keys(t.properties)), t.options...)
	names = append(names, t.named)
	slices.Sort(names)
	return names
}

// GossProblem is a problem in the goss part of a control.
type GossProblem struct {
	Path    []string // keys from the goss mapping down to the problem
	Message string
	Allowed string
}

// Check finds everything that goss would refuse, ignore or skip.
func (g Goss) Check() []GossProblem {
	var out []GossProblem
	types := resourceTypes()
	if len(g) == 0 {
		return []GossProblem{{Message: "the control checks nothing", Allowed: strings.Join(slices.Sorted(maps.Keys(types)), ", ")}}
	}
	for _, typ := range slices.Sorted(maps.Keys(g)) {
		t, ok := types[typ]
		if !ok {
			known := slices.Sorted(maps.Keys(types))
			message := fmt.Sprintf("unknown resource type %q", typ)
			if near := problem.Nearest(typ, known); near != "" {
				message += fmt.Sprintf("; did you mean %q?", near)
			}
			out = append(out, GossProblem{[]string{typ}, message, strings.Join(known, ", ")})
			continue
		}
		if len(g[typ]) == 0 {
			out = append(out, GossProblem{[]string{typ}, "no " + typ + " is named, so nothing is checked", ""})
		}
		for _, key := range slices.Sorted(maps.Keys(g[typ])) {
			for _, p := range t.check(g[typ][key]) {
				p.Path = append([]string{typ, key}, p.Path...)
				out = append(out, p)
			}
			if key == "" || strings.Contains(key, "\n") && t.named != "exec" {
				out = append(out, GossProblem{[]string{typ, key}, "the key must name the " + typ, ""})
			}
		}
	}
	return out
}

func (t resourceType) check(attributes map[string]any) []GossProblem {
	var out []GossProblem
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[name]
		_, isProperty := t.properties[name]
		list, isList := value.([]any)
		switch {
		case name == "skip":
			out = append(out, GossProblem{[]string{name}, "a skipped check proves nothing; waive the control in the recipe instead", ""})
		case !slices.Contains(t.attributes(), name):
			message := fmt.Sprintf("unknown attribute %q", name)
			if near := problem.Nearest(name, t.attributes()); near != "" {
				message += fmt.Sprintf("; did you mean %q?", near)
			}
			out = append(out, GossProblem{[]string{name}, message, strings.Join(t.attributes(), ", ")})
		case value == nil, isList && len(list) == 0:
			out = append(out, GossProblem{[]string{name}, name + " is empty, so goss would check nothing", ""})
		case name == "mode" && !isText(value):
			out = append(out, GossProblem{[]string{name}, "mode must be text", `four octal digits in quotes, such as "0644", or a matcher`})
		case !isProperty && name == t.named && !isText(value):
			out = append(out, GossProblem{[]string{name}, name + " must be text", ""})
		case name == "timeout" && !isNumber(value):
			out = append(out, GossProblem{[]string{name}, "timeout must be a number", "milliseconds"})
		}
	}
	for _, name := range t.required {
		if _, ok := attributes[name]; !ok {
			out = append(out, GossProblem{nil, fmt.Sprintf("%s is required but missing", name), ""})
		}
	}
	if len(t.oneOf) > 0 && !slices.ContainsFunc(t.oneOf, func(n string) bool { _, ok := attributes[n]; return ok }) {
		out = append(out, GossProblem{nil, "nothing is checked", "at least one of " + strings.Join(t.oneOf, ", ")})
	}
	if t.presence != "" && attributes[t.presence] == false && len(t.reported(attributes)) > 1 {
		out = append(out, GossProblem{[]string{t.presence}, t.presence + " is false, so goss would skip all other attributes", "either " + t.presence + ": false alone, or true"})
	}
	return out
}

// reported returns the properties that goss must report for these attributes.
func (t resourceType) reported(attributes map[string]any) []string {
	var out []string
	for name := range attributes {
		if property, ok := t.properties[name]; ok {
			out = append(out, property)
		}
	}
	slices.Sort(out)
	return out
}

func isText(v any) bool {
	switch v.(type) {
	case string, map[string]any:
		return true
	}
	return false
}

func isNumber(v any) bool {
	switch v.(type) {
	case int, int64, uint64:
		return true
	}
	return false
}
