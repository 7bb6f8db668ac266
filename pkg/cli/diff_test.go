package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// releasesAreCompared compares the releases of two bakes of the same content: from the
// state folder and from files.
func releasesAreCompared(t *testing.T, tune func(*rehearsal.Options), local func(...string) []string, first string, s rehearsal.Summary) {
	t.Helper()
	home := s.Images["eu-west-1"]
	compared := func(t *testing.T, args ...string) differences {
		t.Helper()
		r := call(t, tune, append([]string{"diff", "-o", "json"}, args...)...)
		require.Equal(t, exitOK, r.code, r.err)
		var got differences
		require.NoError(t, json.Unmarshal([]byte(r.out), &got))
		return got
	}
	t.Run("diff from the image before, named in each way", func(t *testing.T) {
		shown := call(t, tune, local("images", "show", home, "-o", "json")...)
		require.Equal(t, exitOK, shown.code, shown.err)
		var i image
		require.NoError(t, json.Unmarshal([]byte(shown.out), &i))
		require.NotEmpty(t, i.Name)
		for _, args := range [][]string{local(home), local(i.Name), local(s.Execution), local(latest), local(first, s.Execution), local(first, home), {s.Evidence, "--key", s.EvidenceKey}} {
			got := compared(t, args...)
			require.NotNil(t, got.Diff.Before, "%v: %s", args, got.Diff.NotCompared)
			assert.Equal(t, first, got.Diff.Before.Execution, args)
			assert.Equal(t, s.Execution, got.Diff.After.Execution, args)
			assert.Empty(t, got.Diff.Sections, args)
			assert.True(t, got.OnlyPackageUpgrades, args)
		}
		r := call(t, tune, local("diff", home)...)
		require.Equal(t, exitOK, r.code, r.err)
		assert.Regexp(t, `^SIMULATED: .*\n`, r.out)
		assert.Regexp(t, `(?m)^before +ami-[0-9a-f]+ debian-12-docker-.*, released by `+first+`\nafter +`+home+` .*\nverdict +nothing differs\n`, r.out)
	})
	t.Run("diff of the first release", func(t *testing.T) {
		got := compared(t, local(first)...)
		assert.Nil(t, got.Diff.Before)
		assert.False(t, got.OnlyPackageUpgrades)
		r := call(t, tune, local("diff", first)...)
		require.Equal(t, exitOK, r.code, r.err)
		assert.Regexp(t, `(?m)^before +`+diff.NoPrevious+`$`, r.out)
	})
	t.Run("diff of two folders without a network", func(t *testing.T) {
		files, _ := loadedOf(t, s)
		dir := filepath.Join(t.TempDir(), "evidence")
		write := func(files bundle.Files) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.MkdirAll(dir, 0o700))
			for name, raw := range files {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), raw, 0o600))
			}
		}
		write(files)
		got := compared(t, dir, s.Evidence, "--key", s.EvidenceKey)
		assert.True(t, got.Diff.Empty(), "it is the same release")

		altered := append([]byte{}, files[contract.DiffObject]...)
		altered[len(altered)/2] ^= 1
		files[contract.DiffObject] = altered
		write(files)
		for _, args := range [][]string{{dir}, {dir, s.Evidence}, {s.Evidence, dir}} {
			r := call(t, tune, append([]string{"diff", "--key", s.EvidenceKey}, args...)...)
			assert.Equal(t, exitFailed, r.code)
			assert.Contains(t, r.err, "diff.json: its SHA-256 is")
			assert.Empty(t, r.out)
		}
	})
	t.Run("diff of what cannot be compared", func(t *testing.T) {
		for sentence, tc := range map[string]struct {
			args  []string
			code  int
			tells string
		}{
			"nothing":                        {nil, exitUsage, "takes one or two of IMAGE"},
			"three images":                   {local(home, home, home), exitUsage, "3 were given"},
			"a file without a key":           {[]string{s.Evidence}, exitUsage, "give --key"},
			"a file that is missing":         {[]string{s.Evidence, s.Evidence + "x", "--key", s.EvidenceKey}, exitUsage, "there is no file"},
			"an image that there is not":     {local("ami-0123456789abcdef0", home), exitFailed, "ami-0123456789abcdef0"},
			"an execution that there is not": {local(home, "no-such-run"), exitFailed, "there is no execution no-such-run"},
		} {
			t.Run(sentence, func(t *testing.T) {
				r := call(t, tune, append([]string{"diff"}, tc.args...)...)
				assert.Equal(t, tc.code, r.code, r.err)
				assert.Contains(t, r.err, tc.tells)
			})
		}
	})
}

func TestADiffIsShownSectionBySection(t *testing.T) {
	d := diff.Diff{
		Schema: diff.Schema, Recipe: "web", Before: &diff.Side{ImageID: "ami-1", ImageName: "web-1", Execution: "one", Incomplete: []string{"docker: exit code 1"}},
		After:           diff.Side{ImageID: "ami-2", ImageName: "web-2", Execution: "two"},
		Vulnerabilities: diff.Counts{Fixed: 1, Remaining: 2},
		Sections: []diff.Section{
			{Kind: diff.Packages, More: 4, Changes: []diff.Change{{What: diff.Upgraded, Name: "bash", Before: "1", After: "2"}, {What: diff.Removed, Name: "tar", Before: "1.34"}}},
			{Kind: diff.Sharing, Changes: []diff.Change{{What: diff.Added, Name: "account 111111111111"}}},
		},
	}
	out := &bytes.Buffer{}
	require.NoError(t, writeDiff(out, d))
	assert.Equal(t, `recipe        web
before        ami-1 web-1, released by one
after         ami-2 web-2, released by two
verdict       more than upgrades of packages differs, marked with !
findings      1 vulnerabilities fixed, 0 new, 2 remaining
incomplete    the inventory of ami-1: docker: exit code 1

Packages (6)
  upgraded   bash: 1 -> 2
! removed    tar: 1.34
  and 4 more that are not listed

Sharing (1)
! added      account 111111111111
`, out.String())
}
