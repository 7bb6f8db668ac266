package plan_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/plan"
)

func TestEnginesOfARecipeAreChecked(t *testing.T) {
	const engines = `  engines:
    script: {files: [checks/web.sh], controls: [{id: OWN-01, title: It answers, severity: high}]}
    openscap: {stream: a.xml, sha256: 3f79bb7b435b05321651daefd374cdc681dc06faa65e374e38337b88ca046dea, profile: xccdf_a_profile_b, minimumRules: 10, notApplicable: [xccdf_a_rule_part]}
    bottlerocket: {report: cis, minimumChecks: 3}
`
	for sentence, tc := range map[string]struct {
		old, new string
		script   string // default: a good one; "-": none
		want     []string
	}{
		"all is well":                     {"", "", "", nil},
		"a file that there is not":        {"", "", "-", []string{"recipes/sample.yaml:19:22: error: there is no file recipes/checks/web.sh (allowed: a file beside the recipe)"}},
		"a file that is a folder":         {"checks/web.sh", "checks", "", []string{"recipes/sample.yaml:19:22: error: there is no file recipes/checks (allowed: a file beside the recipe)"}},
		"a file elsewhere":                {"checks/web.sh", "../web.sh", "", []string{`"../web.sh" does not have the required form`}},
		"a file without an interpreter":   {"", "", "echo\n", []string{"recipes/sample.yaml:19:22: error: recipes/checks/web.sh does not begin with #!/ (allowed: an interpreter in the first line, such as #!/bin/sh)"}},
		"a file that is too large":        {"", "", "#!/bin/sh\n" + strings.Repeat("#\n", 200_000), []string{"recipes/checks/web.sh has 400010 bytes"}},
		"a file twice":                    {"[checks/web.sh]", "[checks/web.sh, checks/web.sh]", "", []string{"file checks/web.sh is listed twice"}},
		"a control of a component":        {"OWN-01", "SYS-02", "", []string{"control SYS-02 is of component base"}},
		"a control of another engine":     {"OWN-01", "OSCAP-01", "", []string{"control OSCAP-01 is of another engine"}},
		"a control twice":                 {"controls: [", "controls: [{id: OWN-01, title: It, severity: low}, ", "", []string{"control OWN-01 is declared twice"}},
		"a control without a severity":    {", severity: high", "", "", []string{"severity is required but missing"}},
		"no control":                      {"[{id: OWN-01, title: It answers, severity: high}]", "[]", "", []string{"controls needs at least 1, but has 0"}},
		"a digest that is none":           {"3f79", "sha256:3f79", "", []string{"sha256"}},
		"a profile by its short name":     {"xccdf_a_profile_b", "cis", "", []string{"the full id of a profile"}},
		"no rule has to be evaluated":     {"minimumRules: 10", "minimumRules: 0", "", []string{"minimumRules is out of range: 0"}},
		"every rule may be inapplicable":  {"xccdf_a_rule_part", `"xccdf_a_rule_*"`, "", []string{`"xccdf_a_rule_*" does not have the required form (allowed: full ids of rules, without *`}},
		"patterns that together are all":  {"[xccdf_a_rule_part]", "[xccdf_a_rule_p*, xccdf_a_rule_q*]", "", []string{`"xccdf_a_rule_p*" does not have`, `"xccdf_a_rule_q*" does not have`}},
		"a pattern before the rule":       {"xccdf_a_rule_part", `"xccdf_*_rule_part"`, "", []string{"does not have the required form"}},
		"more rules left out than proved": {"minimumRules: 10, notApplicable: [xccdf_a_rule_part]", "minimumRules: 1, notApplicable: [xccdf_a_rule_a, xccdf_a_rule_b]", "", []string{"2 rules need not apply, and only 1 must be evaluated: a scan must prove at least as much as it leaves out (allowed: at most 1, which is minimumRules)"}},
		"as many left out as proved":      {"minimumRules: 10, notApplicable: [xccdf_a_rule_part]", "minimumRules: 2, notApplicable: [xccdf_a_rule_a, xccdf_a_rule_b]", "", nil},
		"a rule left out twice":           {"[xccdf_a_rule_part]", "[xccdf_a_rule_part, xccdf_a_rule_part]", "", []string{"rule xccdf_a_rule_part is listed twice"}},
		"a program without a digest":      {"minimumRules: 10", "minimumRules: 10, program: a.tar.gz", "", []string{"program and programSHA256 belong together"}},
		"a report that there is not":      {"report: cis", "report: cisk8s", "", []string{`"cisk8s" is not known`}},
		"a level of a report without any": {"report: cis", "report: fips, level: 2", "", []string{"the report fips has no levels"}},
		"an engine that there is not":     {"bottlerocket:", "inspec:", "", []string{`unknown key "inspec" in checks.engines`}},
	} {
		t.Run(sentence, func(t *testing.T) {
			fsys := tree(t)
			script := tc.script
			if script == "" {
				script = "#!/bin/sh\n"
			}
			if script != "-" {
				fsys["recipes/checks/web.sh"] = &fstest.MapFile{Data: []byte(script)}
			}
			require.Contains(t, engines, tc.old)
			text := string(fsys["recipes/sample.yaml"].Data)
			require.Contains(t, text, "checks:\n")
			fsys["recipes/sample.yaml"] = &fstest.MapFile{Data: []byte(strings.Replace(text, "checks:\n", "checks:\n"+strings.Replace(engines, tc.old, tc.new, 1), 1))}
			problems, err := plan.Lint(fsys, nil, now, "sample")
			require.NoError(t, err)
			require.Len(t, problems, len(tc.want), "%v", problems)
			for i, want := range tc.want {
				assert.Contains(t, problems[i].String(), want)
			}
		})
	}
}

func TestEveryByteOfARecipesOwnChecksIsContent(t *testing.T) {
	base, _ := build(t, full(t))
	in := full(t)
	edit(&in, "recipes/checks/web.sh")
	changed, _ := build(t, in)
	assert.NotEqual(t, base.Fingerprint, changed.Fingerprint)
	require.NotNil(t, base.Engines.Script)
	var ids []string
	for _, c := range base.Controls {
		ids = append(ids, c.ID)
	}
	for _, id := range []string{"OWN-01", "OSCAP-01", "BRKT-01"} {
		assert.Contains(t, ids, id, "what the gate awaits a result of")
	}
}
