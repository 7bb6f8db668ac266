package waiver_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/waiver"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const good = "waivers:\n  - {control: SYS-02, reason: because of the test, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24, scope: {recipes: [web]}}\n"

var recipes = []waiver.Recipe{{Name: "web", Family: "debian-12"}, {Name: "web-blue", Family: "debian-13"}, {Name: "db", Family: "al2023"}}

func load(t *testing.T, files map[string]string) waiver.Set {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	set, err := waiver.Load(fsys, recipes, func() ([]string, error) { return []string{"SYS-01", "SYS-02"}, nil }, now)
	require.NoError(t, err)
	return set
}

func lines(set waiver.Set) []string {
	out := []string{}
	for _, p := range set.Problems() {
		out = append(out, p.String())
	}
	return out
}

func TestAWaiverIsRefusedWithItsPlaceAndWhatIsAllowed(t *testing.T) {
	for sentence, tc := range map[string]struct {
		old, new string
		want     []string
	}{
		"none is wrong": {"", "", nil},
		"one that ended yesterday": {"2026-12-24", "2026-11-22", []string{
			"waivers/team.yaml:2:110: error: the waiver of SYS-02 expired on 2026-11-22; fix what it accepts or have the waiver approved again (allowed: today or later)"}},
		"one that ends soon": {"2026-12-24", "2026-12-06", []string{
			"waivers/team.yaml:2:110: warning: the waiver of SYS-02 ends on 2026-12-06, with 14 days left; fix what it accepts or have the waiver approved again"}},
		"one that ends a day later is not warned of": {"2026-12-24", "2026-12-07", nil},
		"one for ever": {"2026-12-24", "2099-12-24", []string{
			"waivers/team.yaml:2:110: error: the waiver of SYS-02 would hold until 2099-12-24 (allowed: at most one year after its creation)"}},
		"one of a control that there is not": {"SYS-02", "SYS-03", []string{
			`waivers/team.yaml:2:15: error: no component has a control SYS-03 to waive; did you mean "SYS-01"? (allowed: a control of a component)`}},
		"one for everything": {"[web]", "['*']", []string{
			`waivers/team.yaml:2:140: error: scope "*" is too broad: a waiver holds for recipes that somebody has looked at (allowed: at least three characters before the *, such as debian-12-*)`}},
		"one for almost everything": {"[web]", "['w*', 'd*']", []string{
			`waivers/team.yaml:2:140: error: scope "w*" is too broad: a waiver holds for recipes that somebody has looked at (allowed: at least three characters before the *, such as debian-12-*)`,
			`waivers/team.yaml:2:146: error: scope "d*" is too broad: a waiver holds for recipes that somebody has looked at (allowed: at least three characters before the *, such as debian-12-*)`}},
		"one for each family": {"recipes: [web]", "families: [debian-12, debian-13, al2023]", []string{
			"waivers/team.yaml:2:129: error: the scope is too broad: it includes all 3 recipes of this user data (allowed: fewer recipes, or each by its name)"}},
		"each by its name":     {"[web]", "[web, web-blue, db]", nil},
		"one for two families": {"recipes: [web]", "families: [debian-12, debian-13]", nil},
		"one for nobody": {"{recipes: [web]}", "{}", []string{
			"waivers/team.yaml:2:129: error: scope selects nothing; name the recipes or the families for which the waiver holds (allowed: recipes, families)"}},
		"one for a misspelt recipe": {"[web]", "[wbe]", []string{
			`waivers/team.yaml:2:140: error: there is no recipe "wbe"; did you mean "web"? (allowed: the name of a recipe)`}},
		"a pattern that matches none": {"[web]", "[web, mail-*]", []string{
			"waivers/team.yaml:2:145: warning: no recipe matches mail-*, so the waiver holds for none by it"}},
		"a pattern of another kind": {"[web]", "['we[ab]']", []string{
			`waivers/team.yaml:2:140: error: "we[ab]" is not a name of recipes (allowed: a name, in which * stands for any text)`}},
		"one that its author approves": {"approver: two", "approver: ONE", []string{
			"waivers/team.yaml:2:75: error: the waiver of SYS-02 is approved by its author, ONE (allowed: somebody other than author)"}},
		"a day that there is not": {"2026-11-20", "2026-11-31", []string{
			`waivers/team.yaml:2:89: error: created: "2026-11-31" is not a date of the calendar (allowed: a date, YYYY-MM-DD)`}},
		"a day that is no date": {"2026-12-24", "next year", []string{
			`waivers/team.yaml:2:110: error: waivers[0].expires: "next year" does not have the required form (allowed: a date, YYYY-MM-DD, at most one year after created)`}},
		"a false positive": {"control: SYS-02, ", "vulnerability: CVE-2026-0001, package: openssl, falsePositive: {justification: component_not_present}, ", nil},
		"a false positive for a reason that is not in the list": {"control: SYS-02, ", "vulnerability: CVE-2026-0001, package: openssl, falsePositive: {justification: component_not_presnt}, ", []string{
			`waivers/team.yaml:2:85: error: waivers[0].falsePositive.justification: "component_not_presnt" is not known; did you mean "component_not_present"? (allowed: component_not_present, vulnerable_code_not_present, vulnerable_code_not_in_execute_path, vulnerable_code_cannot_be_controlled_by_adversary, inline_mitigations_already_exist)`}},
		"a false positive without a justification": {"control: SYS-02, ", "vulnerability: CVE-2026-0001, package: openssl, falsePositive: {}, ", []string{
			`waivers/team.yaml:2:54: error: waivers[0].falsePositive.justification is required but missing (allowed: component_not_present, vulnerable_code_not_present, vulnerable_code_not_in_execute_path, vulnerable_code_cannot_be_controlled_by_adversary, inline_mitigations_already_exist)`}},
		"a false positive of a control": {"control: SYS-02, ", "control: SYS-02, falsePositive: {justification: component_not_present}, ", []string{
			"waivers/team.yaml:2:38: error: the waiver of SYS-02 says falsePositive, but a control is not a vulnerability (allowed: falsePositive beside vulnerability and package)"}},
		"a false positive of a pending update": {"control: SYS-02, ", "vulnerability: PENDING-SECURITY-UPDATE, package: openssl, falsePositive: {justification: component_not_present}, ", []string{
			"waivers/team.yaml:2:79: error: PENDING-SECURITY-UPDATE in openssl is about updates that are pending, not about a vulnerability that can be a false positive (allowed: falsePositive beside the id of a vulnerability)"}},
		"one that is created tomorrow": {"2026-11-20", "2026-11-24", []string{
			"waivers/team.yaml:2:89: error: the waiver of SYS-02 was created in the future, on 2026-11-24 (allowed: today or earlier, in UTC)"}},
		"an old one, without what it needs now": {"author: one, approver: two, created: 2026-11-20", "approver: two", []string{
			"waivers/team.yaml:2:5: error: waivers[0].author is required but missing (allowed: a text, such as a mail address)",
			"waivers/team.yaml:2:5: error: waivers[0].created is required but missing (allowed: a date, YYYY-MM-DD, today or earlier)"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			require.Contains(t, good, tc.old)
			text := strings.Replace(good, tc.old, tc.new, 1)
			assert.Equal(t, append([]string{}, tc.want...), lines(load(t, map[string]string{"waivers/team.yaml": text})))
		})
	}
}

func TestTwoFilesMustNotWaiveTheSame(t *testing.T) {
	set := load(t, map[string]string{
		"waivers/a.yaml": good,
		"waivers/b.yaml": strings.Replace(good, "recipes: [web]", "families: [debian-12]", 1),
		"waivers/c.yaml": strings.Replace(good, "[web]", "[db]", 1), // another recipe
	})
	assert.Equal(t, []string{"waivers/b.yaml:2:15: error: SYS-02 is waived twice for recipe web; the first is waivers/a.yaml:2:5"}, lines(set))
}

func TestAFileThatNobodyReadsIsAnError(t *testing.T) {
	set := load(t, map[string]string{"waivers/team.yml": good, "waivers/README.md": "text", "waivers/more/team.yaml": good})
	assert.Equal(t, []string{
		"waivers/more:1:1: error: waivers/more is not read (allowed: files whose names end in .yaml, directly in waivers)",
		"waivers/team.yml:1:1: error: waivers/team.yml is not read (allowed: files whose names end in .yaml, directly in waivers)",
	}, lines(set))
	assert.Empty(t, set.All())
}

func TestAWaiverConcernsTheRecipesOfItsScope(t *testing.T) {
	text := good + strings.NewReplacer("waivers:\n", "", "SYS-02", "SYS-01", "2026-12-24", "2026-11-21", "recipes: [web]", "families: [al2023]").Replace(good)
	set := load(t, map[string]string{"waivers/team.yaml": text})
	require.Len(t, set.All(), 2)

	holding, problems := set.Of("web", "debian-12")
	require.Len(t, holding, 1)
	assert.Equal(t, "SYS-02", holding[0].Subject())
	assert.Equal(t, "waivers/team.yaml:2:5", holding[0].Place())
	assert.Empty(t, problems, "what expired is for another recipe")

	holding, problems = set.Of("db", "al2023")
	assert.Empty(t, holding, "what expired holds for none")
	assert.Len(t, problems, 1)

	holding, problems = set.Of("web-blue", "debian-13")
	assert.Empty(t, holding)
	assert.Empty(t, problems)

	// Nobody knows for whom a waiver with a wrong scope was meant: all are told.
	broken := load(t, map[string]string{"waivers/team.yaml": strings.Replace(good, "[web]", "[wbe]", 1)})
	_, problems = broken.Of("db", "al2023")
	assert.True(t, problems.HasErrors())
}

func TestWithoutWaiversTheControlsAreNotRead(t *testing.T) {
	set, err := waiver.Load(fstest.MapFS{"waivers/README.md": {Data: []byte("text")}}, recipes, func() ([]string, error) { return nil, errors.New("read") }, now)
	require.NoError(t, err)
	assert.Empty(t, set.All())
	_, err = waiver.Load(fstest.MapFS{"waivers/a.yaml": {Data: []byte(good)}}, recipes, func() ([]string, error) { return nil, fs.ErrPermission }, now)
	assert.ErrorIs(t, err, fs.ErrPermission)
}

func TestAWaiverHoldsForASeverityAndATime(t *testing.T) {
	days := waiver.Days{High: 10}
	whole := waiver.Waiver{Vulnerability: "CVE-2026-0001", Package: "openssl", Author: "a", Approver: "b", Created: "2026-11-20", Expires: "2026-12-20"}
	for sentence, tc := range map[string]struct {
		change    func(*waiver.Waiver)
		severity  string
		exploited bool
		says      string
	}{
		"as long as critical may":              {func(*waiver.Waiver) {}, "critical", false, ""},
		"longer than this deployment's high":   {func(*waiver.Waiver) {}, "high", false, "holds for 30 days, longer than the 10 that are allowed for severity high"},
		"an unknown severity has the shortest": {func(w *waiver.Waiver) { w.Expires = "2026-12-21" }, "negligible", false, "holds for 31 days, longer than the 30 that are allowed for severity negligible"},
		"medium has longer":                    {func(w *waiver.Waiver) { w.Expires = "2027-05-19" }, "medium", false, ""},
		"medium does not have a year":          {func(w *waiver.Waiver) { w.Expires = "2027-05-20" }, "medium", false, "holds for 181 days, longer than the 180 that are allowed for severity medium"},
		"what is exploited needs two":          {func(*waiver.Waiver) {}, "low", true, "has one approver, but a vulnerability that is known to be exploited needs two"},
		"and has two":                          {func(w *waiver.Waiver) { w.SecondApprover = "c" }, "low", true, ""},
		"two are two people":                   {func(w *waiver.Waiver) { w.SecondApprover = "B " }, "low", true, "has one approver, but a vulnerability that is known to be exploited needs two"},
		"its last day":                         {func(w *waiver.Waiver) { w.Expires = "2026-11-23" }, "low", false, ""},
		"the day after":                        {func(w *waiver.Waiver) { w.Expires = "2026-11-22" }, "low", false, "expired on 2026-11-22"},
		"before it was created":                {func(w *waiver.Waiver) { w.Created = "2026-11-24" }, "low", false, "was created in the future, on 2026-11-24"},
		"without a beginning":                  {func(w *waiver.Waiver) { w.Created = "" }, "low", false, "does not say when it was created"},
		"an end that is no date":               {func(w *waiver.Waiver) { w.Expires = "never" }, "low", false, "has dates that are not of the calendar"},
	} {
		t.Run(sentence, func(t *testing.T) {
			w := whole
			tc.change(&w)
			assert.Equal(t, tc.says, w.Refuse(tc.severity, tc.exploited, days, now))
		})
	}
}
