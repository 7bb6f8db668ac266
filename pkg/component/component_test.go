package component_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/userdata"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const recipeText = `name: sample
description: d
family: debian-12
architecture: x86_64
source: {parameter: /aws/service/debian/release/12/latest/amd64, owner: "136693071363"}
builder:
  instanceTypes: [t3.medium]
  rootVolume: {sizeGiB: 8}
components:
  - name: web
    parameters:
      token: abc
      port: 8080
  - name: base
distribution: {regions: [{name: eu-west-1}]}
pointers: {parameters: [/ami-factory/sample/latest]}
`

const baseYAML = `name: base
description: d
families: [debian-12, al2023]
order: 10
parameters:
  variant: {type: string, default: docker, allowed: [base, docker], description: d}
  strict: {type: bool, default: true, description: d}
  open: {type: ports, default: 22, description: d}
  wait: {type: int, minimum: 1, maximum: 60, default: 30, description: d}
packages:
  - name: curl
  - name: curl-minimal
    families: [al2023]
services: []
`

const baseChecks = `controls:
  - id: SYS-01
    title: t
    severity: medium
    when: {variant: [docker], strict: [true]}
    goss:
      kernel-param: {net.ipv4.ip_forward: {value: "1"}}
  - id: SYS-02
    title: t
    severity: low
    when: {variant: [base]}
    goss:
      kernel-param: {net.ipv4.ip_forward: {value: "0"}}
`

const webYAML = `name: web
description: d
families: [debian-12]
order: 20
parameters:
  token: {type: string, description: a token}
  port: {type: int, default: 80, description: d}
files: [/etc/web.conf, /etc/shared/]
services: [web.service]
`

const webChecks = `controls:
  - id: WEB-01
    title: t
    severity: high
    goss:
      service: {web.service: {running: true, enabled: true}}
`

func tree() fstest.MapFS {
	text := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s), Mode: 0o600} }
	return fstest.MapFS{
		"components/base/component.yaml":     text(baseYAML),
		"components/base/checks.yaml":        text(baseChecks),
		"components/base/install.sh":         text("true\n"),
		"components/base/scores.md":          text("a page\n"),
		"components/web/component.yaml":      text(webYAML),
		"components/web/checks.yaml":         text(webChecks),
		"components/web/install.sh":          text("true\n"),
		"components/web/README.md":           text("the component's page\n"),
		"components/web/files/etc/web.conf":  text("x\n"),
		"components/web/files/.hidden":       text("x\n"),
		"components/web/files/checks.yaml":   text("not the component's own\n"),
		"components/other/component.yaml":    text(strings.ReplaceAll(webYAML, "web", "other")),
		"runner/run.sh":                      text("run\n"),
		"runner/report.sh":                   text("report\n"),
		"lib/lib.sh":                         text("lib\n"),
		"seal/arm.sh":                        text("arm\n"),
		"verify/run-checks.sh":               text("check\n"),
		"recipes/sample.yaml":                text(recipeText),
		"components/README.md":               text("not a component\n"),
		"components/unfinished/notes-to-do":  text("not a component\n"),
		"components/web/files/.git/ignoreme": text("x\n"),
	}
}

func edited(file, old, repl string) fstest.MapFS {
	fsys := tree()
	text := string(fsys[file].Data)
	if !strings.Contains(text, old) {
		panic("no " + old + " in " + file)
	}
	fsys[file] = &fstest.MapFile{Data: []byte(strings.Replace(text, old, repl, 1))}
	return fsys
}

func selectAll(t *testing.T, fsys fstest.MapFS) ([]component.Selected, problem.List) {
	t.Helper()
	r, problems, err := recipe.Load(fsys, "sample", recipe.Options{Now: now})
	require.NoError(t, err)
	require.Empty(t, problems)
	selected, problems, err := component.Select(fsys, r, nil)
	require.NoError(t, err)
	return selected, problems
}

func TestSelectOrdersAndFillsIn(t *testing.T) {
	selected, problems := selectAll(t, tree())
	require.Empty(t, problems)
	require.Len(t, selected, 2)
	assert.Equal(t, "base", selected[0].Name)
	assert.Equal(t, map[string]string{"variant": "docker", "strict": "true", "open": "22", "wait": "30"}, selected[0].Values)
	assert.Equal(t, map[string]string{"token": "abc", "port": "8080"}, selected[1].Values)
	_, controls, err := compliance.Compile(component.Sets(selected))
	require.NoError(t, err)
	require.Len(t, controls, 2)
	assert.Equal(t, "SYS-01", controls[0].ID)
	assert.Equal(t, "web", controls[1].Component)
}

func TestProblems(t *testing.T) {
	const (
		rec  = "recipes/sample.yaml"
		base = "components/base/component.yaml"
		chk  = "components/base/checks.yaml"
	)
	tests := map[string]struct{ file, old, repl, want string }{
		"an unknown component":                        {rec, "- name: base", "- name: bsae", `recipes/sample.yaml:14:11: error: there is no component "bsae"; did you mean "base"? (allowed: base, other, web)`},
		"an unknown parameter":                        {rec, "port: 8080", "prot: 8080", `recipes/sample.yaml:13:13: error: component web has no parameter "prot"; did you mean "port"? (allowed: port, token)`},
		"a value of the wrong type":                   {rec, "port: 8080", "port: many", `recipes/sample.yaml:13:13: error: parameter port of web: "many" is not a whole number (allowed: a whole number)`},
		"a value that is not allowed":                 {rec, "- name: base", "- name: base\n    parameters: {variant: ecs}", `recipes/sample.yaml:15:27: error: parameter variant of base: "ecs" is not one of the values (allowed: base, docker)`},
		"an invalid bool":                             {rec, "- name: base", "- name: base\n    parameters: {strict: 'yes'}", `recipes/sample.yaml:15:26: error: parameter strict of base: "yes" is not true or false (allowed: true, false)`},
		"a parameter without a value":                 {rec, "      token: abc\n", "", `recipes/sample.yaml:11:5: error: component web needs the parameter token: a token (allowed: text)`},
		"a value of two lines":                        {rec, "token: abc", `token: "a\nb"`, `recipes/sample.yaml:12:14: error: parameter token of web: a value must be one line (allowed: text)`},
		"a family that is not supported":              {rec, "family: debian-12", "family: al2023", `recipes/sample.yaml:10:11: error: component web does not support family al2023 (allowed: debian-12)`},
		"a waiver of no control":                      {rec, "distribution:", "checks: {waivers: [{control: ABC-01, reason: for the test, author: web team lead, approver: a, created: 2026-11-20, expires: 2026-12-20}]}\ndistribution:", `recipes/sample.yaml:15:30: error: the image has no control ABC-01 to waive (allowed: SYS-01, WEB-01)`},
		"a component that misspells a key":            {base, "services:", "service:", `components/base/component.yaml:14:1: error: unknown key "service"; did you mean "services"? (allowed: name, description, families, proven, order, requires, conflicts, parameters, packages, upgrade, files, services, ports, refuses)`},
		"a component without one it requires":         {"components/web/component.yaml", "services:", "requires: [other]\nservices:", `recipes/sample.yaml:10:11: error: component web requires the component other, which the recipe does not list`},
		"a component before one it requires":          {base, "services:", "requires: [web]\nservices:", `components/base/component.yaml:14:12: error: component base of order 10 requires web, which has order 20 and so is not installed before it (allowed: order: above 20, or another component)`},
		"a component that requires itself":            {base, "services:", "requires: [base]\nservices:", `components/base/component.yaml:14:12: error: component base of order 10 requires base, which has order 10 and so is not installed before it (allowed: order: above 10, or another component)`},
		"a component that requires what is not":       {base, "services:", "requires: [wbe]\nservices:", `components/base/component.yaml:14:12: error: requires: there is no component "wbe"; did you mean "web"? (allowed: base, other, web)`},
		"a component that excludes what is not":       {base, "services:", "conflicts: [wbe]\nservices:", `components/base/component.yaml:14:13: error: conflicts: there is no component "wbe"; did you mean "web"? (allowed: base, other, web)`},
		"an invalid port":                             {rec, "- name: base", "- name: base\n    parameters: {open: '22,65536'}", `recipes/sample.yaml:15:24: error: parameter open of base: there is no port 65536 (allowed: ports from 1 to 65535, separated by commas, such as 22,443)`},
		"port zero":                                   {rec, "- name: base", "- name: base\n    parameters: {open: 0}", `recipes/sample.yaml:15:24: error: parameter open of base: there is no port 0 (allowed: ports from 1 to 65535, separated by commas, such as 22,443)`},
		"a range of ports":                            {rec, "- name: base", "- name: base\n    parameters: {open: 22-80}", `recipes/sample.yaml:15:24: error: parameter open of base: "22-80" is not a port (allowed: ports from 1 to 65535, separated by commas, such as 22,443)`},
		"a list of ports that ends early":             {rec, "- name: base", "- name: base\n    parameters: {open: '22,'}", `recipes/sample.yaml:15:24: error: parameter open of base: "" is not a port (allowed: ports from 1 to 65535, separated by commas, such as 22,443)`},
		"ports separated by spaces":                   {rec, "- name: base", "- name: base\n    parameters: {open: 22 443}", `recipes/sample.yaml:15:24: error: parameter open of base: "22 443" is not a port (allowed: ports from 1 to 65535, separated by commas, such as 22,443)`},
		"a default of no port":                        {base, "default: 22,", "default: 99999,", `components/base/component.yaml:8:32: error: default: there is no port 99999 (allowed: ports from 1 to 65535, separated by commas, such as 22,443)`},
		"a number that is too small":                  {rec, "- name: base", "- name: base\n    parameters: {wait: 0}", `recipes/sample.yaml:15:24: error: parameter wait of base: 0 is out of range (allowed: a whole number from 1 to 60)`},
		"a number that is too great":                  {rec, "- name: base", "- name: base\n    parameters: {wait: 61}", `recipes/sample.yaml:15:24: error: parameter wait of base: 61 is out of range (allowed: a whole number from 1 to 60)`},
		"bounds of what is no number":                 {base, "strict: {type: bool,", "strict: {type: bool, minimum: 1,", `components/base/component.yaml:7:24: error: parameter strict is of type bool, which has no minimum (allowed: type: int)`},
		"components that put down the same file":      {base, "services:", "files: [/etc/web.conf, /etc/shared/]\nservices:", `recipes/sample.yaml:14:11: error: components web and base both put /etc/web.conf into the image`},
		"components that exclude each other":          {base, "services:", "conflicts: [web]\nservices:", `recipes/sample.yaml:14:11: error: component base cannot be in one image with web`},
		"a component of another name":                 {base, "name: base", "name: bass", `components/base/component.yaml:1:7: error: name is "bass", but the directory is called base (allowed: base)`},
		"a default that is not allowed":               {base, "default: docker", "default: ecs", `components/base/component.yaml:6:36: error: default: "ecs" is not one of the values (allowed: base, docker)`},
		"a parameter with a bad name":                 {base, "  strict:", "  is-strict: {type: bool, default: true, description: d}\n  strict:", `components/base/component.yaml:7:3: error: "is-strict" cannot be the name of a parameter (allowed: letters and digits, beginning with a small letter)`},
		"a condition on no parameter":                 {chk, "strict: [true]", "strong: [true]", `components/base/checks.yaml:5:31: error: SYS-01: the component has no parameter "strong" (allowed: open, strict, variant, wait)`},
		"a condition that can never hold":             {chk, "variant: [docker]", "variant: [ecs]", `components/base/checks.yaml:5:22: error: SYS-01: variant can never have this value: "ecs" is not one of the values (allowed: base, docker)`},
		"a waiver of a family that there is not":      {chk, "goss:", "waived: [{families: [debian-13], reason: it is not there at all}]\n    goss:", `components/base/checks.yaml:6:26: error: SYS-01: the component does not support family "debian-13" (allowed: debian-12, al2023)`},
		"a waiver that can never hold":                {chk, "goss:", "waived: [{when: {variant: [ecs]}, reason: it is not there at all}]\n    goss:", `components/base/checks.yaml:6:32: error: SYS-01: variant can never have this value: "ecs" is not one of the values (allowed: base, docker)`},
		"a waiver that gives no reason":               {chk, "goss:", "waived: [{reason: because}]\n    goss:", `components/base/checks.yaml:6:23: error: controls[0].waived[0].reason is too short: 7 characters`},
		"a waiver of some cases without a check":      {chk, "goss:\n      kernel-param: {net.ipv4.ip_forward: {value: \"1\"}}", "waived: [{when: {variant: [docker]}, reason: it is not there at all}]", `components/base/checks.yaml:2:9: error: SYS-01: goss is required but missing (allowed: goss, or a waiver without conditions)`},
		"a rule for the snapshot without a statement": {chk, "goss:", "snapshot: [{}]\n    goss:", `components/base/checks.yaml:6:16: error: SYS-01: a rule without a statement is true of every disk (allowed: present, absent, empty or lines)`},
		"a rule for the snapshot of a relative path":  {chk, "goss:", "snapshot:\n      - absent: [/a, etc/b]\n    goss:", `components/base/checks.yaml:7:22: error: SYS-01: "etc/b" does not begin with / or ~/ (allowed: an absolute path such as /etc/ssh/ssh_host_* or ~/.ssh/**)`},
		"an expression that cannot be compiled":       {chk, "goss:", "snapshot:\n      - lines: {in: [/a], match: \"(b\"}\n    goss:", "components/base/checks.yaml:7:34: error: SYS-01: missing closing ): `(b` (allowed: an expression of RE2 (https://github.com/google/re2/wiki/Syntax))"},
		"lines of nothing":                            {chk, "goss:", "snapshot:\n      - lines: {match: b}\n    goss:", `components/base/checks.yaml:7:9: error: controls[0].snapshot[0].lines.in is required but missing`},
		"a key that rules do not have":                {chk, "goss:", "snapshot:\n      - gone: [/a]\n    goss:", `components/base/checks.yaml:7:9: error: unknown key "gone" in controls[0].snapshot[0] (allowed: present, absent, empty, lines)`},
		"a control twice":                             {chk, "id: SYS-02", "id: SYS-01", `components/base/checks.yaml:8:9: error: control SYS-01 is described twice; the first is controls[0]`},
		"a control of another component":              {chk, "id: SYS-02", "id: WEB-01", `recipes/sample.yaml:14:11: error: control WEB-01 is in component web and again in base; give one of them another id`},
		"an attribute that goss does not get":         {chk, `{value: "1"}`, `{valeu: "1", value: "1"}`, `components/base/checks.yaml:7:44: error: SYS-01: unknown attribute "valeu"; did you mean "value"? (allowed: name, value)`},
		"a missing attribute":                         {chk, `{value: "1"}`, `{}`, `components/base/checks.yaml:7:22: error: SYS-01: value is required but missing`},
		"an unknown resource type":                    {chk, "kernel-param:", "kernelparam:", `components/base/checks.yaml:7:7: error: SYS-01: unknown resource type "kernelparam"; did you mean "kernel-param"? (allowed: command, file, group, kernel-param, mount, package, port, process, service, user)`},
		"an unknown severity":                         {chk, "severity: medium", "severity: severe", `components/base/checks.yaml:4:15: error: controls[0].severity: "severe" is not known (allowed: low, medium, high, critical)`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, problems := selectAll(t, edited(tt.file, tt.old, tt.repl))
			var got []string
			for _, p := range problems {
				got = append(got, p.String())
				assert.NotEmpty(t, p.Source)
			}
			assert.Equal(t, []string{tt.want}, got)
		})
	}
}

func TestWhatADirectoryLacksIsSaid(t *testing.T) {
	_, problems, err := component.Load(tree(), "other")
	require.NoError(t, err)
	require.Len(t, problems, 2)
	assert.Equal(t, "components/other/checks.yaml: error: the component has no checks; what is not checked is not proved (allowed: at least one control)", problems[0].String())
	assert.Equal(t, "components/other/install.sh: error: the component has no install.sh", problems[1].String())
	_, _, err = component.Load(tree(), "unfinished")
	require.ErrorIs(t, err, component.ErrUnknown)
	assert.EqualError(t, err, `unknown component "unfinished" (there are: base, other, web)`)
}

func bundle(t *testing.T, fsys fstest.MapFS) []byte {
	t.Helper()
	selected, problems := selectAll(t, fsys)
	require.Empty(t, problems)
	files, err := component.Files(fsys, "debian-12", selected)
	require.NoError(t, err)
	data, err := component.Bundle(files)
	require.NoError(t, err)
	return data
}

func unpack(t *testing.T, data []byte) map[string]*tar.Header {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(data))
	require.NoError(t, err)
	out := map[string]*tar.Header{}
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return out
		}
		require.NoError(t, err)
		assert.Equal(t, int64(0), h.ModTime.Unix())
		assert.Equal(t, "root", h.Uname)
		assert.Zero(t, h.Uid+h.Gid)
		out[h.Name] = h
	}
}

func TestBundleHoldsWhatABuilderNeedsAndNoMore(t *testing.T) {
	headers := unpack(t, bundle(t, tree()))
	assert.Equal(t, []string{
		"components/", "components/base/", "components/base/install.sh", "components/web/", "components/web/files/",
		"components/web/files/checks.yaml", "components/web/files/etc/", "components/web/files/etc/web.conf",
		"components/web/install.sh", "lib/", "lib/lib.sh", "manifest.json", "report.sh", "run.sh", "seal/", "seal/arm.sh", "verify/", "verify/run-checks.sh",
	}, slices.Sorted(maps.Keys(headers)))
	assert.Equal(t, int64(0o755), headers["run.sh"].Mode)
	assert.Equal(t, int64(0o644), headers["manifest.json"].Mode)
}

func TestBundleDependsOnItsFilesOnly(t *testing.T) {
	first := bundle(t, tree())
	again := tree()
	for _, f := range again {
		f.Mode, f.ModTime = 0o777, time.Unix(1e9, 0)
	}
	assert.Equal(t, first, bundle(t, again))
	assert.NotEqual(t, first, bundle(t, edited("components/web/files/etc/web.conf", "x", "y")))
	assert.NotEqual(t, first, bundle(t, edited("recipes/sample.yaml", "8080", "8081")), "parameters are in the manifest")
}

func TestManifestIsInOrderOfInstallation(t *testing.T) {
	selected, _ := selectAll(t, tree())
	files, err := component.Files(tree(), "debian-12", selected)
	require.NoError(t, err)
	i := slices.IndexFunc(files, func(f component.File) bool { return f.Path == "manifest.json" })
	var m map[string]any
	require.NoError(t, json.Unmarshal(files[i].Data, &m))
	assert.Equal(t, map[string]any{
		"schema": "ami-factory/bundle/1", "family": "debian-12",
		"components": []any{
			map[string]any{"name": "base", "sha256": digestOf(t, m, 0), "order": 10.0, "packages": []any{map[string]any{"name": "curl", "at": "components/base/component.yaml:11:11"}}, "parameters": map[string]any{"variant": "docker", "strict": "true", "open": "22", "wait": "30"}, "services": []any{}},
			map[string]any{"name": "web", "sha256": digestOf(t, m, 1), "order": 20.0, "packages": []any{}, "parameters": map[string]any{"token": "abc", "port": "8080"}, "services": []any{"web.service"}},
		},
	}, m)
}

// digestOf is the digest that a manifest has of its n-th component.
func digestOf(t *testing.T, manifest map[string]any, n int) string {
	t.Helper()
	digest, _ := manifest["components"].([]any)[n].(map[string]any)["sha256"].(string)
	require.Regexp(t, "^[0-9a-f]{64}$", digest)
	return digest
}

func TestAComponentsDigestIsOfWhatItDoesAndProves(t *testing.T) {
	digests := func(t *testing.T, fsys fstest.MapFS) []string {
		t.Helper()
		selected, problems := selectAll(t, fsys)
		require.Empty(t, problems)
		files, err := component.Files(fsys, "debian-12", selected)
		require.NoError(t, err)
		i := slices.IndexFunc(files, func(f component.File) bool { return f.Path == "manifest.json" })
		var m map[string]any
		require.NoError(t, json.Unmarshal(files[i].Data, &m))
		return []string{digestOf(t, m, 0), digestOf(t, m, 1)}
	}
	before := digests(t, tree())
	assert.NotEqual(t, before[0], before[1])
	for sentence, tc := range map[string]struct {
		file, old, new string
		base, web      bool // whether the component's digest changes
	}{
		"a file of one component":              {"components/web/files/etc/web.conf", "x", "y", false, true},
		"its checks":                           {"components/web/checks.yaml", "running: true", "running: false", false, true},
		"its description, parameters included": {"components/web/component.yaml", "default: 80", "default: 81", false, true},
		"what all components call":             {"lib/lib.sh", "lib", "library", true, true},
		"its page":                             {"components/web/README.md", "page", "other page", false, false},
		"the seal, which is no component's":    {"seal/arm.sh", "arm", "alarm", false, false},
		"a recipe's value":                     {"recipes/sample.yaml", "8080", "8081", false, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			after := digests(t, edited(tc.file, tc.old, tc.new))
			assert.Equal(t, []bool{tc.base, tc.web}, []bool{before[0] != after[0], before[1] != after[1]})
		})
	}
}

func TestBundleNeedsSealAndRunner(t *testing.T) {
	for _, missing := range []string{"lib/lib.sh", "seal/arm.sh", "verify/run-checks.sh", "runner/run.sh", "runner/report.sh"} {
		fsys := tree()
		selected, _ := selectAll(t, fsys)
		delete(fsys, missing)
		_, err := component.Files(fsys, "debian-12", selected)
		assert.ErrorContains(t, err, "the user data has no", missing)
	}
}

func TestTheProjectsComponentsAreClean(t *testing.T) {
	names, err := component.Names(userdata.FS)
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		_, problems, err := component.Load(userdata.FS, name)
		require.NoError(t, err)
		assert.Empty(t, problems, name)
	}
}

func TestEmbeddedAndOnDiskMakeTheSameBundle(t *testing.T) {
	r, problems, err := recipe.Load(userdata.FS, "debian-12-docker", recipe.Options{Now: now})
	require.NoError(t, err)
	require.Empty(t, problems)
	embedded, problems, err := component.Select(userdata.FS, r, nil)
	require.NoError(t, err)
	require.Empty(t, problems)
	a, err := component.Files(userdata.FS, r.Family, embedded)
	require.NoError(t, err)
	b, err := component.Files(os.DirFS("../../userdata"), r.Family, embedded)
	require.NoError(t, err)
	assert.Equal(t, a, b)
}

func TestPageOfAComponent(t *testing.T) {
	fsys := edited("components/base/component.yaml", "services: []", "requires: [web]\nfiles: [/etc/base.conf]\nservices: [base.service]")
	fsys["components/base/component.yaml"].Data = bytes.Replace(fsys["components/base/component.yaml"].Data, []byte("order: 10"), []byte("order: 30"), 1)
	c, problems, err := component.Load(fsys, "base")
	require.NoError(t, err)
	require.Empty(t, problems)
	page := string(c.Page())
	for _, line := range []string{
		"# base", "- families: debian-12, al2023", "- place in the order of installation: 30", "- requires: web",
		"- packages: `curl`, `curl-minimal` (al2023)", "- puts into the image: `/etc/base.conf`", "- enabled for the first boot: `base.service`",
		"| `strict` | bool | `true` | d |", "| `open` | ports | `22` | d |", "| `wait` | int from 1 to 60 | `30` | d |", "| `variant` | base, docker | `docker` | d |", "| SYS-02 | low | t |  |",
	} {
		assert.Contains(t, page, line+"\n")
	}
}

// withRules is the sample tree with forms, refusals and things that controls forbid.
func withRules() fstest.MapFS {
	fsys := edited("components/web/component.yaml", "services:", `packages: [{name: nginx}, {name: httpd, families: [al2023]}]
ports: [22, 8443]
refuses:
  - with: {base: {variant: [base]}}
    reason: web does not work with variant base
    instead: "variant: docker of base"
  - when: {size: [""]}
    given: [unit]
    reason: it has no effect without size
    instead: size too
  - when: {unit: [k]}
    missing: [size]
    reason: a unit is of something
  - families: [debian-12]
    when: {unit: [g]}
    set: [size]
    reason: Debian 12 has no such sizes
    instead: "unit: m"
services:`)
	text := strings.Replace(string(fsys["components/web/component.yaml"].Data), "families: [debian-12]\norder", "families: [debian-12, al2023]\norder", 1)
	text = strings.Replace(text, "parameters:\n", `parameters:
  size: {type: string, default: "", pattern: "[1-9][0-9]*[kmg]", form: a number with k m or g, description: d}
  hosts: {type: string, default: "", list: spaces, pattern: "[a-z]+\\.test", form: a host below test, description: d}
  unit: {type: string, default: m, allowed: [k, m, g], description: d}
`, 1)
	fsys["components/web/component.yaml"].Data = []byte(text)
	return fsys
}

func TestWhatABuilderOrTheGateWouldRefuseIsRefusedBefore(t *testing.T) {
	const (
		web    = "      token: abc\n"
		nginx  = "        nginx: {installed: false}"
		absent = "  - {id: SVC-03, title: Web servers are absent, severity: medium, goss: {package: {nginx: {installed: false}}}}\n"
		ports  = "  - {id: SVC-08, title: Ports, severity: medium, ports: open, goss: {kernel-param: {a: {value: \"1\"}}}}\n"
		units  = "  - {id: SVC-09, title: Units, severity: medium, goss: {service: {web: {enabled: false, running: false}}}}\n"
		waiver = "checks: {waivers: [{control: SVC-03, reason: it is what it serves, author: web team lead, approver: a, created: 2026-11-20, expires: 2026-12-20}]}\n"
	)
	for sentence, tc := range map[string]struct {
		parameters, base, checks, more string
		want                           []string
	}{
		"nothing is wrong":                      {},
		"a value of another form":               {parameters: "      size: 10MB\n", want: []string{`parameter size of web: "10MB" does not have the required form (allowed: a number with k m or g, or empty)`}},
		"part of a value has the form":          {parameters: "      size: x10m\n", want: []string{`"x10m" does not have the required form`}},
		"each item of a list":                   {parameters: "      hosts: a.test b.example\n", want: []string{`"b.example" does not have the required form (allowed: a host below test, several separated by spaces, or empty)`}},
		"a list in order":                       {parameters: "      hosts: a.test b.test\n"},
		"empty is as if it were left out":       {parameters: "      size: ''\n"},
		"a value that must be given is empty":   {parameters: "      token: ''\n", want: []string{"parameter token of web: it must not be empty"}},
		"a value without effect":                {parameters: "      unit: g\n", want: []string{"parameter unit of web: it has no effect without size (allowed: size too)"}},
		"the default, written out":              {parameters: "      unit: m\n"},
		"a value that needs another":            {parameters: "      unit: k\n", want: []string{"component web needs the parameter size here: a unit is of something", "it has no effect without size"}},
		"a combination that a family lacks":     {parameters: "      size: 1g\n      unit: g\n", want: []string{"component web: Debian 12 has no such sizes (allowed: unit: m)"}},
		"another component in another variant":  {base: "    parameters: {variant: base}\n", want: []string{"component web: web does not work with variant base (allowed: variant: docker of base)"}},
		"a package that a control forbids":      {checks: absent, want: []string{"component web installs the package nginx, which control SVC-03 of component base forbids: Web servers are absent (allowed: a waiver in checks.waivers with control: SVC-03, reason, author, approver, created and expires)"}},
		"a package that the recipe answers for": {checks: absent, more: waiver},
		"a port that a control forbids":         {checks: ports, want: []string{`component web listens on port 8443, which control SVC-08 of component base forbids: Ports (allowed: parameter open of base with the port, such as "22,8443", or a waiver`}},
		"a port that the recipe opens":          {checks: ports, base: "    parameters: {open: '22,8443'}\n"},
		"a service that a control forbids":      {checks: units, want: []string{"component web enables web.service, which control SVC-09 of component base forbids"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			fsys := withRules()
			text := recipeText
			if strings.Contains(tc.parameters, "token") {
				text = strings.Replace(text, web, tc.parameters, 1)
			} else {
				text = strings.Replace(text, web, web+tc.parameters, 1)
			}
			text = strings.Replace(text, "  - name: base\n", "  - name: base\n"+tc.base, 1)
			fsys["recipes/sample.yaml"].Data = []byte(strings.Replace(text, "distribution:", tc.more+"distribution:", 1))
			fsys["components/base/checks.yaml"].Data = []byte(baseChecks + tc.checks)
			_, problems := selectAll(t, fsys)
			require.Len(t, problems, len(tc.want), "%v", problems)
			for i, want := range tc.want {
				assert.Contains(t, problems[i].String(), want)
				assert.NotZero(t, problems[i].Line)
			}
		})
	}
}

func TestScriptsThatBashCannotRun(t *testing.T) {
	for sentence, tc := range map[string]struct{ text, want string }{
		"a script":                   {"#!/bin/bash\nset -e\n", ""},
		"a script by env":            {"#!/usr/bin/env bash\nset -e\n", ""},
		"without the first line":     {"true\n", ""},
		"lines of another system":    {"#!/bin/bash\r\ntrue\r\n", "install.sh:1:12: error: the line ends with CRLF or has a carriage return"},
		"one line of another system": {"#!/bin/bash\ntrue\r\n", "install.sh:2:5: error: the line ends with CRLF"},
		"a byte order mark":          {"\ufeff#!/bin/bash\n", "install.sh:1:1: error: the file begins with a byte order mark"},
		"another interpreter":        {"#!/usr/bin/python3\nimport os\n", "install.sh:1:1: error: the first line names another interpreter"},
		"another shell":              {"#!/bin/sh\ntrue\n", "install.sh:1:1: error: the first line names another interpreter"},
		"an if without its end":      {"#!/bin/bash\nif true; then\n\ttrue\n", "install.sh:2:1: error: not valid bash: "},
		"a quote that is not closed": {"#!/bin/bash\ntrue\necho \"a\n", "install.sh:3:6: error: not valid bash: "},
		"a parenthesis too many":     {"#!/bin/bash\ntrue )\n", "install.sh:2:6: error: not valid bash: "},
		"the middle of a change":     {"#!/bin/bash\n<<<<<<< HEAD\ntrue\n", "install.sh:2:"},
	} {
		t.Run(sentence, func(t *testing.T) {
			for _, file := range []string{"install.sh", "more.sh"} {
				fsys := tree()
				fsys["components/web/"+file] = &fstest.MapFile{Data: []byte(tc.text)}
				_, problems, err := component.Load(fsys, "web")
				require.NoError(t, err)
				if tc.want == "" {
					assert.Empty(t, problems)
					continue
				}
				require.Len(t, problems, 1)
				assert.Contains(t, problems[0].String(), "components/web/"+strings.Replace(tc.want, "install.sh", file, 1))
				assert.NotEmpty(t, problems[0].Source)
			}
		})
	}
}

func TestRulesOfAComponentNameWhatThereIs(t *testing.T) {
	for sentence, tc := range map[string]struct{ old, new, want string }{
		"a parameter that there is not":  {"given: [unit]", "given: [unti]", `refuses: the component has no parameter "unti"; did you mean "unit"?`},
		"a component that there is not":  {"with: {base:", "with: {bass:", `refuses: there is no component "bass"; did you mean "base"?`},
		"a value that cannot be":         {"when: {unit: [k]}", "when: {unit: [x]}", `refuses: unit can never have this value: "x" is not one of the values`},
		"an invalid pattern":             {"[1-9][0-9]*[kmg]", "[1-9", "pattern: error parsing regexp"},
		"a pattern without words for it": {", form: a number with k m or g", "", "a pattern needs a form"},
		"a rule without a condition":     {"  - with: {base: {variant: [base]}}\n    reason", "  - reason", "a rule without a condition refuses every recipe"},
		"a reason that says nothing":     {"reason: a unit is of something", "reason: no", "is too short"},
	} {
		t.Run(sentence, func(t *testing.T) {
			fsys := withRules()
			text := string(fsys["components/web/component.yaml"].Data)
			require.Contains(t, text, tc.old)
			fsys["components/web/component.yaml"].Data = []byte(strings.Replace(text, tc.old, tc.new, 1))
			_, problems, err := component.Load(fsys, "web")
			require.NoError(t, err)
			require.Len(t, problems, 1, "%v", problems)
			assert.Contains(t, problems[0].String(), tc.want)
			assert.NotZero(t, problems[0].Line)
		})
	}
}
