package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWaiversAreListedWithTheDaysThatAreLeft(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "userdata"))))
	const file = `waivers:
  - control: SYS-02
    reason: the mesh forwards packets
    author: web-team@example.com
    approver: security@example.com
    created: 2026-11-20
    expires: 2026-12-04
    scope: {recipes: [debian-12-d*], families: [debian-12]}
  - vulnerability: CVE-2026-12345
    package: openssl
    reason: it is not reachable
    author: web-team@example.com
    approver: security@example.com
    secondApprover: ciso@example.com
    created: 2026-10-20
    expires: 2026-11-22
    scope: {recipes: [debian-12-docker]}
`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "waivers", "team.yaml"), []byte(file), 0o600))
	name := filepath.Join(dir, "recipes", "debian-12-docker.yaml")
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	own := "checks:\n  waivers:\n    - {control: SYS-03, reason: because of the test, author: one, approver: two, created: 2026-11-20, expires: 2026-12-24}\n"
	require.Contains(t, string(text), "checks:\n")
	require.NoError(t, os.WriteFile(name, []byte(strings.Replace(string(text), "checks:\n", own, 1)), 0o600))

	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	list := func(format string) string {
		var out bytes.Buffer
		require.NoError(t, (&app{out: &out, userdata: dir, format: format}).listWaivers(now))
		return out.String()
	}
	assert.Equal(t, ""+
		"WAIVED                     DAYS LEFT  EXPIRES     APPROVED BY                             SCOPE                                       WHERE\n"+
		"CVE-2026-12345 in openssl  ended      2026-11-22  security@example.com, ciso@example.com  recipes debian-12-docker                    waivers/team.yaml:9:5\n"+
		"SYS-02                     12         2026-12-04  security@example.com                    recipes debian-12-d* of families debian-12  waivers/team.yaml:2:5\n", strings.Split(list("text"), "SYS-03")[0])
	var views []waiverView
	require.NoError(t, json.Unmarshal([]byte(list("json")), &views))
	require.Len(t, views, 3)
	assert.Equal(t, 0, views[0].DaysLeft)
	assert.Contains(t, views[1].Recipes, "debian-12-docker")
	assert.Equal(t, "recipe debian-12-docker", views[2].Scope)
	assert.Equal(t, 32, views[2].DaysLeft)
	assert.Regexp(t, `^recipes/debian-12-docker.yaml:[0-9]+:7$`, views[2].Where)
}
