package component_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
)

func TestPackagesThatCannotBeAreRefusedWhereTheyAreDeclared(t *testing.T) {
	for sentence, tc := range map[string]struct{ packages, want string }{
		"a family that the component lacks":    {"[{name: jq, families: [al2023]}]", `components/web/component.yaml:8:34: error: package jq: the component does not support family "al2023" (allowed: debian-12)`},
		"a family that is none":                {"[{name: jq, families: [fedora]}]", `components/web/component.yaml:8:34: error: packages[0].families[0]: "fedora" is not known`},
		"a parameter in when":                  {"[{name: jq, when: {prot: [80]}}]", `components/web/component.yaml:8:30: error: package jq: the component has no parameter "prot"`},
		"a value that a parameter cannot have": {"[{name: jq, when: {port: [http]}}]", `components/web/component.yaml:8:37: error: package jq: port can never have this value: "http" is not a whole number`},
		"a parameter in set":                   {"[{name: jq, set: [tokn]}]", `components/web/component.yaml:8:29: error: package jq: the component has no parameter "tokn"; did you mean "token"? (allowed: port, token)`},
		"a parameter in unset":                 {"[{name: jq, unset: [x]}]", `components/web/component.yaml:8:31: error: package jq: the component has no parameter "x"`},
		"a version instead of its parameter":   {`[{name: jq, version: "1.6"}]`, `components/web/component.yaml:8:32: error: package jq: version names the parameter with the version, and the component has no parameter "1.6" (allowed: port, token)`},
		"a package twice":                      {"[{name: jq}, {name: jq}]", `components/web/component.yaml:8:31: error: package jq is listed twice; the first is packages[0]`},
		"twice in one of its families":         {"[{name: jq}, {name: jq, families: [debian-12]}]", `components/web/component.yaml:8:31: error: package jq is listed twice`},
		"a name with an option":                {"[{name: --force}]", `components/web/component.yaml:8:19: error: packages[0].name: "--force" does not have the required form`},
		"a key that is none":                   {"[{name: jq, if: x}]", `components/web/component.yaml:8:23: error: unknown key "if"`},
	} {
		t.Run(sentence, func(t *testing.T) {
			fsys := edited("components/web/component.yaml", "files:", "packages: "+tc.packages+"\nfiles:")
			_, problems, err := component.Load(fsys, "web")
			require.NoError(t, err)
			require.Len(t, problems, 1)
			assert.True(t, strings.HasPrefix(problems[0].String(), tc.want), "%s", problems[0])
		})
	}
}

func TestPackagesAreWantedWhereTheirConditionsHold(t *testing.T) {
	const declared = `packages:
  - {name: always}
  - {name: curl, early: true}
  - {name: other, families: [debian-12], unset: [token]}
  - {name: eighty, when: {port: [80, 81]}}
  - {name: many, when: {port: [8080]}, set: [token], version: token}
files:`
	wanted := func(port, token string) []component.Wanted {
		fsys := edited("components/web/component.yaml", "files:", declared)
		c, problems, err := component.Load(fsys, "web")
		require.NoError(t, err)
		require.Empty(t, problems)
		return component.Selected{Component: c, Family: "debian-12", Values: map[string]string{"port": port, "token": token}}.Wanted()
	}
	const file = "components/web/component.yaml:"
	always, curl := component.Wanted{Name: "always", At: file + "9:12"}, component.Wanted{Name: "curl", Early: true, At: file + "10:12"}
	assert.Equal(t, []component.Wanted{always, curl, {Name: "many", Version: "1.2", At: file + "13:12"}}, wanted("8080", "1.2"))
	assert.Equal(t, []component.Wanted{always, curl, {Name: "eighty", At: file + "12:12"}, {Name: "other", At: file + "11:12"}}, wanted("81", ""))
}

func TestTwoComponentsCannotHaveOnePackageInTwoVersions(t *testing.T) {
	for sentence, tc := range map[string]struct{ base, web, want string }{
		"two versions": {"variant", "token", "component web wants the package agent in version abc, and component base in version docker (allowed: one version of agent in the parameters of both)"},
		"one version":  {"variant", "", ""},
		"no version":   {"", "", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			declared := func(version string) string {
				if version == "" {
					return "{name: agent}"
				}
				return "{name: agent, version: " + version + "}"
			}
			fsys := edited("components/web/component.yaml", "files:", "packages: ["+declared(tc.web)+"]\nfiles:")
			text := string(fsys["components/base/component.yaml"].Data)
			fsys["components/base/component.yaml"].Data = []byte(strings.Replace(text, "packages:\n", "packages:\n  - "+declared(tc.base)+"\n", 1))
			_, problems := selectAll(t, fsys)
			if tc.want == "" {
				assert.Empty(t, problems)
				return
			}
			require.Len(t, problems, 1)
			assert.Contains(t, problems[0].String(), tc.want)
			assert.Positive(t, problems[0].Line)
		})
	}
}

func TestAComponentIsNotCalledAsAStep(t *testing.T) {
	fsys := edited("components/web/component.yaml", "name: web", "name: packages")
	for _, file := range []string{"component.yaml", "checks.yaml", "install.sh"} {
		fsys["components/packages/"+file] = fsys["components/web/"+file]
	}
	_, problems, err := component.Load(fsys, "packages")
	require.NoError(t, err)
	require.Len(t, problems, 1)
	assert.Contains(t, problems[0].String(), `components/packages/component.yaml:1:7: error: "packages" is the name of a step of run.sh`)
}

func TestPageListsThePackagesWithTheirConditions(t *testing.T) {
	fsys := edited("components/web/component.yaml", "files:", `upgrade: true
packages:
  - {name: always, early: true}
  - {name: many, families: [debian-12], when: {port: [80, 81]}, set: [token], version: token}
files:`)
	c, problems, err := component.Load(fsys, "web")
	require.NoError(t, err)
	require.Empty(t, problems)
	assert.Contains(t, string(c.Page()), "- packages: `always` (early), `many` (debian-12, `port: 80 or 81`, with `token`, in the version of `token`)\n"+
		"- upgrades: all packages that the image has, in the same run\n")
}
