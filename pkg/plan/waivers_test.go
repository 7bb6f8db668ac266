package plan_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/plan"
)

const sharedWaiver = "waivers:\n  - {control: SYS-02, reason: because of the test, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24, scope: {recipes: [sample]}}\n"

func withWaiver(t *testing.T, text string) fstest.MapFS {
	t.Helper()
	fsys := tree(t)
	fsys["waivers/team.yaml"] = &fstest.MapFile{Data: []byte(text)}
	return fsys
}

func TestASharedWaiverIsPartOfTheReleaseAndNotOfTheContent(t *testing.T) {
	base, _ := build(t, sample(t, tree(t)))
	with, _ := build(t, sample(t, withWaiver(t, sharedWaiver)))
	require.Len(t, with.Waivers(), 2, "the recipe's and the shared one")
	shared := with.Waivers()[1]
	assert.Equal(t, "waivers/team.yaml/SYS-02", shared.ID)
	assert.Equal(t, "recipes sample", shared.Scope)
	assert.Equal(t, base.Fingerprint, with.Fingerprint, "nothing is baked")
	assert.NotEqual(t, base.ReleaseID, with.ReleaseID)
	assert.Equal(t, []string{"shared waivers"}, plan.Differences(*base, *with))

	renewed, _ := build(t, sample(t, withWaiver(t, strings.Replace(sharedWaiver, "2026-12-24", "2026-12-30", 1))))
	assert.Equal(t, base.Fingerprint, renewed.Fingerprint)
	assert.NotEqual(t, with.ReleaseID, renewed.ReleaseID)

	// A comment, and a waiver for another recipe, are no change.
	more := strings.NewReplacer("waivers:\n", "# moved\n\nwaivers:\n").Replace(sharedWaiver) +
		"  - {control: SYS-03, reason: because of the test, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24, scope: {families: [al2023]}}\n"
	same, _ := build(t, sample(t, withWaiver(t, more)))
	assert.Equal(t, with.ReleaseID, same.ReleaseID)
}

func TestASharedWaiverObeysTheBaselineAndPointsIntoItsFile(t *testing.T) {
	for sentence, tc := range map[string]struct {
		baseline, waiver string
		want             []string
	}{
		"it is allowed": {"", "", nil},
		"the baseline requires the control": {"controls: []", "controls: [SYS-02]", []string{
			"waivers/team.yaml:2:15: error: control SYS-02 is waived, but the baseline requires it of every image (baseline.yaml:4:12)"}},
		"no waivers are allowed": {"severity: critical", "severity: none", []string{
			"recipes/sample.yaml:19:16: error: control SYS-03 is waived, but the baseline allows no waivers (baseline.yaml:6:13)",
			"waivers/team.yaml:2:15: error: control SYS-02 is waived, but the baseline allows no waivers (baseline.yaml:6:13)"}},
		"it is longer than its severity allows": {"severity: critical", "severity: critical\n  days: {medium: 30, high: 30}", []string{
			"waivers/team.yaml:2:110: error: control SYS-02 of severity medium is waived for 34 days, but the baseline allows 30 (baseline.yaml:6:3) (allowed: at most 30 days after created)"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			fsys := withWaiver(t, sharedWaiver)
			old := string(fsys["baseline.yaml"].Data)
			require.Contains(t, old, tc.baseline)
			fsys["baseline.yaml"].Data = []byte(strings.Replace(old, tc.baseline, tc.waiver, 1))
			problems, err := plan.Lint(fsys, nil, now, "sample")
			require.NoError(t, err)
			got := []string{}
			for _, p := range problems {
				got = append(got, p.String())
			}
			assert.Equal(t, append([]string{}, tc.want...), got)
		})
	}
}

func TestAnExpiredSharedWaiverStopsTheRecipesOfItsScopeAlone(t *testing.T) {
	fsys := withWaiver(t, strings.Replace(sharedWaiver, "2026-12-24", "2026-11-22", 1))
	problems, err := plan.Lint(fsys, nil, now, "sample")
	require.NoError(t, err)
	require.Len(t, problems, 1)
	assert.Contains(t, problems[0].String(), "waivers/team.yaml:2:110: error: the waiver of SYS-02 expired on 2026-11-22")

	fsys["waivers/team.yaml"].Data = []byte(strings.NewReplacer("2026-12-24", "2026-11-22", "recipes: [sample]", "families: [al2023]").Replace(sharedWaiver))
	problems, err = plan.Lint(fsys, nil, now, "sample")
	require.NoError(t, err)
	assert.Empty(t, problems)
	problems, err = plan.Lint(fsys, nil, now)
	require.NoError(t, err)
	assert.Len(t, problems, 1, "lint of everything reports it")
}
