package baseline_test

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/baseline"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

const text = `components: [hardening, hygiene]
gate: {severity: medium}
controls: [HYG-01, SSH-04]
waivers: {severity: high}
`

const recipeText = `name: web
description: a test
family: debian-12
architecture: x86_64
source: {parameter: /aws/base, owner: "136693071363"}
builder:
  instanceTypes: [t3.medium]
  rootVolume: {sizeGiB: 8}
components: [{name: hardening}, {name: hygiene}]
gate: {severity: medium}
distribution: {regions: [{name: eu-west-1}]}
pointers: {parameters: [/ami-factory/web/latest]}
`

func controls() []compliance.Control {
	return []compliance.Control{
		{ID: "HYG-01", Severity: "critical", Component: "hygiene"},
		{ID: "SSH-04", Severity: "high", Component: "hardening"},
		{ID: "ACC-05", Severity: "critical", Component: "hardening"},
		{ID: "SYS-02", Severity: "medium", Component: "hardening"},
	}
}

func parsed(t *testing.T, name, text string) *recipe.Recipe {
	t.Helper()
	r, problems := recipe.Parse("recipes/"+name+".yaml", []byte(text), recipe.Options{Now: now})
	require.Empty(t, problems)
	return r
}

func load(t *testing.T, text string) (*baseline.Baseline, problem.List) {
	t.Helper()
	b, problems, err := baseline.Load(fstest.MapFS{baseline.File: {Data: []byte(text)}}, now)
	require.NoError(t, err)
	return b, problems
}

func lines(problems problem.List) []string {
	out := []string{}
	for _, p := range problems {
		out = append(out, p.String())
	}
	return out
}

func waiver(control string) string {
	return "checks: {waivers: [{control: " + control + ", reason: for the test, author: web team lead, approver: a, created: 2026-11-20, expires: 2026-12-24}]}\n"
}

func exception(from, expires string) string {
	return "exceptions:\n  - {recipe: web, from: [" + from + "], owner: security@example.com, reason: for the test, expires: " + expires + "}\n"
}

func TestARecipeBelowTheBaselineIsRefusedWithEachReason(t *testing.T) {
	const withoutHardening, withoutHygiene = "components: [{name: hygiene}]", "components: [{name: hardening}]"
	const both = "components: [{name: hardening}, {name: hygiene}]"
	for sentence, tc := range map[string]struct {
		old, new string // in the recipe
		more     string // at the end of it
		baseline string // more of it
		controls func([]compliance.Control) []compliance.Control
		want     []string
	}{
		"as required": {},
		"with a stricter gate": {
			old: "gate: {severity: medium}", new: "gate: {severity: low}",
		},
		"with a component left out": {
			old: both, new: withoutHygiene,
			want: []string{"recipes/web.yaml:9:13: error: component hygiene is missing, but the baseline requires it in every image (baseline.yaml:1:25)"},
		},
		"with everything wrong": {
			old: both + "\ngate: {severity: medium}", new: "components: [{name: docker}]\ngate: {severity: critical}",
			want: []string{
				"recipes/web.yaml:9:13: error: component hardening is missing, but the baseline requires it in every image (baseline.yaml:1:14)",
				"recipes/web.yaml:9:13: error: component hygiene is missing, but the baseline requires it in every image (baseline.yaml:1:25)",
				"recipes/web.yaml:10:18: error: gate critical accepts failures of severity medium, which the baseline rejects (baseline.yaml:2:18) (allowed: low, medium)",
			},
		},
		"with a laxer gate": {
			old: "gate: {severity: medium}", new: "gate: {severity: high}",
			want: []string{"recipes/web.yaml:10:18: error: gate high accepts failures of severity medium, which the baseline rejects (baseline.yaml:2:18) (allowed: low, medium)"},
		},
		"with a required control that no component checks": {
			controls: func(all []compliance.Control) []compliance.Control { return all[1:] },
			want:     []string{"recipes/web.yaml:9:13: error: no component checks control HYG-01, but the baseline requires it of every image (baseline.yaml:3:12)"},
		},
		"with a required control that its component switches off": {
			controls: func(all []compliance.Control) []compliance.Control {
				all[1].SwitchedOff = "The variant has no SSH."
				return all
			},
			want: []string{"recipes/web.yaml:9:13: error: component hardening does not check control SSH-04 in this image (The variant has no SSH), but the baseline requires it of every image (baseline.yaml:3:20)"},
		},
		"with a required control of a severity below the gate": {
			controls: func(all []compliance.Control) []compliance.Control {
				all[1].Severity = "low"
				return all
			},
			want: []string{"recipes/web.yaml:10:18: error: gate medium would accept an image that fails control SSH-04 of severity low, but the baseline requires this control of every image (baseline.yaml:3:20) (allowed: low)"},
		},
		"with a waiver of a required control": {
			more: waiver("SSH-04"),
			want: []string{"recipes/web.yaml:13:30: error: control SSH-04 is waived, but the baseline requires it of every image (baseline.yaml:3:20)"},
		},
		"with a waiver of another": {more: waiver("SYS-02")},
		"with a waiver of a graver one": {
			more: waiver("ACC-05"),
			want: []string{"recipes/web.yaml:13:30: error: control ACC-05 of severity critical is waived, but the baseline allows waivers only up to severity high (baseline.yaml:4:21)"},
		},
		"excepted from a component": {
			old: both, new: withoutHardening, baseline: exception("hardening, SSH-04", "2026-12-24"),
			controls: func(all []compliance.Control) []compliance.Control { return all[:1] },
		},
		"excepted from the gate": {
			old: "gate: {severity: medium}", new: "gate: {severity: high}", baseline: exception("gate", "2026-12-24"),
		},
		"excepted from a required control": {
			more: waiver("SSH-04"), baseline: exception("SSH-04", "2026-12-24"),
		},
		"excepted from the bound of waivers": {
			more: waiver("ACC-05"), baseline: exception("waivers", "2026-12-24"),
		},
		"excepted until yesterday": {
			old: both, new: withoutHygiene, baseline: exception("hygiene", "2026-11-29"),
			want: []string{"recipes/web.yaml:9:13: error: component hygiene is missing, but the baseline requires it in every image (baseline.yaml:1:25)"},
		},
		"while another is excepted": {
			old: both, new: withoutHygiene,
			baseline: "exceptions:\n  - {recipe: other, from: [hygiene], owner: a, reason: for the test, expires: 2026-12-24}\n",
			want:     []string{"recipes/web.yaml:9:13: error: component hygiene is missing, but the baseline requires it in every image (baseline.yaml:1:25)"},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			b, problems := load(t, text+tc.baseline)
			require.False(t, problems.HasErrors(), "%v", problems)
			edited := recipeText
			if tc.old != "" {
				require.Contains(t, edited, tc.old)
				edited = replace(edited, tc.old, tc.new)
			}
			of := controls()
			if tc.controls != nil {
				of = tc.controls(of)
			}
			got := b.Check(parsed(t, "web", edited+tc.more), of)
			assert.ElementsMatch(t, tc.want, lines(got))
			assert.Equal(t, len(tc.want) > 0, got.Breaks(baseline.Rule))
		})
	}
}

func TestABaselineThatWaivesNothing(t *testing.T) {
	b, problems := load(t, replace(text, "severity: high", "severity: none"))
	require.Empty(t, problems)
	got := b.Check(parsed(t, "web", recipeText+waiver("SYS-02")), controls())
	assert.Equal(t, []string{"recipes/web.yaml:13:30: error: control SYS-02 is waived, but the baseline allows no waivers (baseline.yaml:4:21)"}, lines(got))
	// What is wrong with components hides no waiver.
	assert.Len(t, b.Check(parsed(t, "web", recipeText+waiver("SYS-02")), nil), 1)
}

func TestABaselineIsReadStrictly(t *testing.T) {
	for sentence, tc := range map[string]struct {
		text string
		want string
	}{
		"an unknown key":                       {text + "gates: {}\n", `baseline.yaml:5:1: error: unknown key "gates"`},
		"no gate":                              {replace(text, "gate: {severity: medium}\n", ""), "baseline.yaml:1:1: error: gate is required but missing"},
		"no component":                         {replace(text, "[hardening, hygiene]", "[]"), "baseline.yaml:1:13: error: components needs at least 1, but has 0"},
		"a component twice":                    {replace(text, "hygiene]", "hardening]"), "baseline.yaml:1:25: error: hardening is listed twice"},
		"an exception from what is not asked":  {text + exception("docker", "2026-12-24"), `error: the baseline does not require "docker", so nothing can be excepted from it`},
		"an exception without an end":          {text + replace(exception("gate", "x"), ", expires: x", ""), "error: exceptions[0].expires is required but missing"},
		"an exception without an owner":        {text + replace(exception("gate", "2026-12-24"), "owner: security@example.com, ", ""), "error: exceptions[0].owner is required but missing"},
		"an exception of more than a year":     {text + exception("gate", "2028-01-01"), "error: the exception of recipe web would hold until 2028-01-01 (allowed: at most one year ahead)"},
		"an exception until no day":            {text + exception("gate", "2026-02-30"), `error: expires: "2026-02-30" is not a date of the calendar`},
		"an exception that has expired, warns": {text + exception("gate", "2026-11-29"), "warning: the exception of recipe web expired on 2026-11-29 and no longer applies"},
		"no YAML":                              {"components: [", "baseline.yaml:2:1: error: not valid YAML"},
		"an empty file":                        {"", "baseline.yaml:1:1: error: the file is empty"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, problems := load(t, tc.text)
			require.NotEmpty(t, problems)
			assert.Contains(t, problems[0].String(), tc.want)
			for _, p := range problems {
				assert.Equal(t, baseline.Rule, p.Rule)
			}
		})
	}
}

func TestADeletedBaselineIsAnError(t *testing.T) {
	b, problems, err := baseline.Load(fstest.MapFS{}, now)
	require.NoError(t, err)
	assert.Nil(t, b)
	require.True(t, problems.Breaks(baseline.Rule))
	assert.Contains(t, problems[0].String(), "baseline.yaml: error: there is no baseline.yaml beside the folder recipes")
}

func TestAPointerBelongsToOneRecipe(t *testing.T) {
	for sentence, tc := range map[string]struct {
		own, theirs, distribution string // the other recipe's
		want                      string
	}{
		"two of their own": {own: "/ami-factory/web/latest", theirs: "/ami-factory/web-2/latest"},
		"the same": {
			own: "/ami-factory/web/latest", theirs: "/ami-factory/web/latest",
			want: "recipes/web.yaml:12:25: error: pointer /ami-factory/web/latest belongs to recipe other (recipes/other.yaml:12:25)",
		},
		"the same in another region": {
			own: "/ami-factory/web/latest", theirs: "/ami-factory/web/latest", distribution: "distribution: {regions: [{name: us-east-1}]}",
			want: "recipes/web.yaml:12:25: error: pointer /ami-factory/web/latest belongs to recipe other (recipes/other.yaml:12:25)",
		},
		"one below another's": {
			own: "/ami-factory/other/latest/web", theirs: "/ami-factory/other/latest",
			want: "pointer /ami-factory/other/latest/web is below pointer /ami-factory/other/latest of recipe other",
		},
		"one above another's": {
			own: "/ami-factory/other", theirs: "/ami-factory/other/latest",
			want: "pointer /ami-factory/other is above pointer /ami-factory/other/latest of recipe other",
		},
		"one that differs in case": {
			own: "/ami-factory/Other/latest", theirs: "/ami-factory/other/latest",
			want: "pointer /ami-factory/Other/latest differs from /ami-factory/other/latest of recipe other",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			own := parsed(t, "web", replace(recipeText, "/ami-factory/web/latest", tc.own))
			text := replace(replace(recipeText, "name: web", "name: other"), "/ami-factory/web/latest", tc.theirs)
			if tc.distribution != "" {
				text = replace(text, "distribution: {regions: [{name: eu-west-1}]}", tc.distribution)
			}
			got := baseline.Pointers(own, []*recipe.Recipe{own, parsed(t, "other", text)})
			if tc.want == "" {
				assert.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			assert.Contains(t, got[0].String(), tc.want)
			assert.True(t, got.Breaks(baseline.Rule))
		})
	}
}

func replace(text, old, by string) string { return strings.Replace(text, old, by, 1) }
