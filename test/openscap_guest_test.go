package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// documentedChecks returns the `checks` of the page about OpenSCAP on debian-12-full, with
// the digests of the files that .tools/openscap.sh has made in a directory, and with
// waivers of today.
func documentedChecks(t *testing.T, made string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "infra", "docs", "openscap.md"))
	require.NoError(t, err)
	_, after, found := strings.Cut(string(page), "```yaml\nchecks:\n")
	require.True(t, found, "the page has no checks")
	block, _, _ := strings.Cut(after, "```")
	programs, err := filepath.Glob(filepath.Join(made, "openscap-*.tar.gz"))
	require.NoError(t, err)
	require.Len(t, programs, 1, "AMI_FACTORY_OPENSCAP names the directory that .tools/openscap.sh has filled")
	for _, v := range [][2]string{
		{`(?m)^(\s+program: ).*$`, filepath.Base(programs[0])},
		{`(?m)^(\s+programSHA256: ).*$`, digestOf(t, programs[0])},
		{`(?m)^(\s+sha256: ).*$`, digestOf(t, filepath.Join(made, "ssg-debian12-ds.xml"))},
		{`(?m)^(\s+created: ).*$`, time.Now().UTC().Format(time.DateOnly)},
		{`(?m)^(\s+expires: ).*$`, time.Now().UTC().AddDate(0, 0, 30).Format(time.DateOnly)},
	} {
		require.Regexp(t, v[0], block)
		block = regexp.MustCompile(v[0]).ReplaceAllString(block, "${1}"+v[1])
	}
	return "checks:\n" + block
}

func digestOf(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	return store.Digest(raw)
}

// TestGossAndOpenSCAPBothGateAnImage bakes debian-12-full as the page about OpenSCAP says,
// and again with every severity counting.
func TestGossAndOpenSCAPBothGateAnImage(t *testing.T) {
	made := os.Getenv("AMI_FACTORY_OPENSCAP")
	if made == "" {
		t.Skip("bakes twice with a scan of minutes: set AMI_FACTORY_OPENSCAP to the directory that .tools/openscap.sh has filled, as `make test-openscap` does")
	}
	checks := documentedChecks(t, made)
	run := func(t *testing.T, checks string) (string, evidence.Report) {
		t.Helper()
		opts := realGuests(t, vm.Container)
		standIns, err := guests.NewStandIns(opts.StateDir)
		require.NoError(t, err)
		opts.StandIns = standIns
		opts.UserDataDir = edited(t, "recipes/"+full+".yaml", func(text string) string {
			return strings.Replace(text, "checks:\n  timeout: 30m\n", checks, 1)
		})
		streams := filepath.Join(opts.UserDataDir, "streams")
		require.NoError(t, os.Mkdir(streams, 0o755))
		require.NoError(t, os.CopyFS(streams, os.DirFS(made)))
		s := bake(t, open(t, opts), contract.ExecutionInput{Recipe: full})
		raw, err := os.ReadFile(s.ReportJSON)
		require.NoError(t, err)
		var report evidence.Report
		require.NoError(t, json.Unmarshal(raw, &report))
		return s.Status + " " + s.Cause, report
	}
	passed := func(r evidence.Report, engine string) (n int) {
		for _, c := range r.Compliance.Results {
			if c.Engine.Name == engine && c.Status == compliance.StatusPass {
				n++
			}
		}
		return n
	}

	ended, report := run(t, checks)
	require.True(t, strings.HasPrefix(ended, contract.Published), ended)
	assert.Greater(t, passed(report, compliance.EngineGoss), 140)
	assert.Greater(t, passed(report, compliance.EngineOpenSCAP), 200)

	ended, report = run(t, strings.Replace(checks, "severity: high", "severity: low", 1))
	require.True(t, strings.HasPrefix(ended, contract.Rejected), ended)
	assert.Contains(t, ended, ssg+"rule_aide_build_database (medium)", "a rule that nobody has waived rejects the image by its id; the cause names the first ones")
	assert.NotContains(t, ended, ssg+"rule_grub2_password", "a rule that is waived does not")
	assert.Greater(t, passed(report, compliance.EngineGoss), 140, "the controls of the components hold all the same")
}
