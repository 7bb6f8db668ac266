package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/userdata"
)

// recipesAtHomeIn is a folder of user data whose one recipe, of Debian 12, is built in
// the first region, copied to the others, and pointed to in another account.
func recipesAtHomeIn(t *testing.T, owner string, regions ...string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, userdata.FS))
	raw, err := os.ReadFile(filepath.Join(dir, "recipes", "debian-12-docker.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "recipes")))
	before, rest, ok := strings.Cut(string(raw), "  regions:\n")
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, "  accounts:")
	require.True(t, ok)
	var b strings.Builder
	b.WriteString(before + "  regions:\n")
	for _, region := range regions {
		b.WriteString("    - {name: " + region + ", kmsKey: alias/ami-factory}\n")
	}
	b.WriteString("  accounts:" + after)
	text := strings.NewReplacer(
		"name: debian-12-docker", "name: mine", "/debian-12-docker/", "/mine/", `"136693071363"`, `"`+owner+`"`,
		"latest]\n", "latest]\n  accounts: [\"210987654321\"]\n",
	).Replace(b.String())
	require.NoError(t, os.Mkdir(filepath.Join(dir, "recipes"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "recipes", "mine.yaml"), []byte(text), 0o600))
	return dir
}

// A rehearsal is at home where its recipe is, in whatever partition.
func TestARecipeIsRehearsedInItsHomeRegion(t *testing.T) {
	for of, tc := range map[string]struct {
		owner   string
		regions []string
	}{
		"aws":        {"136693071363", []string{"us-east-1", "us-west-2"}},
		"aws-cn":     {"555566667777", []string{"cn-north-1", "cn-northwest-1"}},
		"aws-us-gov": {"555566667777", []string{"us-gov-west-1", "us-gov-east-1"}},
		"aws-eusc":   {"555566667777", []string{"eusc-de-east-1"}},
	} {
		t.Run(of, func(t *testing.T) {
			tune, state, dir := inProcess(t), filepath.Join(t.TempDir(), "state"), recipesAtHomeIn(t, tc.owner, tc.regions...)
			home := tc.regions[0]
			local := func(args ...string) []string { return append(args, "--guests", "simulated", "--state", state) }
			r := call(t, tune, "lint", "mine", "--userdata", dir)
			require.Equal(t, exitOK, r.code, r.out+r.err)
			r = call(t, tune, local("bake", "mine", "--userdata", dir, "-o", "json")...)
			require.Equal(t, exitOK, r.code, r.out+r.err)
			s := summaryOf(t, r.out)
			assert.Equal(t, "Published", s.Status)
			assert.Len(t, s.Images, len(tc.regions))
			for _, region := range tc.regions {
				assert.NotEmpty(t, s.Images[region], region)
			}
			assert.True(t, strings.HasPrefix(s.ARN, "arn:"+of+":states:"+home+":"), s.ARN)
			assert.DirExists(t, filepath.Join(state, "simulated-"+home))
			report, err := os.ReadFile(s.ReportJSON)
			require.NoError(t, err)
			for _, other := range partition.IDs() {
				if other != of {
					assert.NotContains(t, string(report), "arn:"+other+":")
				}
			}

			r = call(t, tune, local("images", "list", "-o", "json")...)
			require.Equal(t, exitOK, r.code, r.err)
			var list []image
			require.NoError(t, json.Unmarshal([]byte(r.out), &list))
			assert.Len(t, list, len(tc.regions))
			r = call(t, tune, local("images", "show", s.Images[home])...)
			assert.Equal(t, exitOK, r.code, r.err)
			r = call(t, tune, local("bake", "mine", "--userdata", dir)...)
			assert.Contains(t, r.out, "UpToDate")
		})
	}
}

func TestStatesOfSeveralHomesAreReadTogether(t *testing.T) {
	tune, state := inProcess(t), filepath.Join(t.TempDir(), "state")
	made := map[string]string{}
	for _, home := range []string{"us-east-1", "cn-north-1"} {
		r := call(t, tune, "bake", "mine", "--guests", "simulated", "--state", state, "--userdata", recipesAtHomeIn(t, "136693071363", home), "-o", "json")
		require.Equal(t, exitOK, r.code, r.out+r.err)
		made[home] = summaryOf(t, r.out).Images[home]
	}
	r := call(t, tune, "images", "list", "--guests", "simulated", "--state", state)
	for home, id := range made {
		assert.Regexp(t, id+`  `+home, r.out)
		assert.Equal(t, exitOK, call(t, tune, "images", "show", id, "--guests", "simulated", "--state", state).code)
	}
	r = call(t, tune, "images", "list", "--guests", "simulated", "--state", state, "--region", "cn-north-1")
	assert.Contains(t, r.out, made["cn-north-1"])
	assert.NotContains(t, r.out, made["us-east-1"])
}

func TestAHomeRegionIsOneThatExistsAndTheRecipesOwn(t *testing.T) {
	tune, state, dir := inProcess(t), filepath.Join(t.TempDir(), "state"), recipesAtHomeIn(t, "136693071363", "us-east-1")
	for region, says := range map[string]string{
		"us-eest-1":    `--region: there is no region "us-eest-1"; did you mean "us-east-1"?`,
		"eu-central-9": "--region: region eu-central-9 is not known",
	} {
		r := call(t, tune, "bake", "mine", "--guests", "simulated", "--state", state, "--userdata", dir, "--region", region)
		assert.Equal(t, exitUsage, r.code, region)
		assert.Contains(t, r.err, says)
		assert.NoDirExists(t, state, "nothing is made")
	}
	r := call(t, tune, "bake", "mine", "--guests", "simulated", "--state", state, "--userdata", dir, "--region", "us-west-2")
	assert.Equal(t, exitUsage, r.code, r.out)
	assert.Contains(t, r.err, "--region is us-west-2, and recipe mine is built in us-east-1")
	assert.NoDirExists(t, state, "nothing is made")
}

// A misspelt region was called, and the error blamed credentials, or there was none.
func TestNoAWSIsCalledInARegionThatDoesNotExist(t *testing.T) {
	const misspelt = "eu-centrall-1"
	commands := map[string][]string{
		"build": {"build", "debian-12-docker"}, "doctor": {"doctor", "--recipe", "debian-12-docker"}, "images list": {"images", "list"},
		"images show": {"images", "show", "ami-0123456789abcdef0"}, "resume": {"resume", "debian-12-docker", "--bucket", "b-1"},
	}
	config := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(config, []byte("[profile p]\nregion = "+misspelt+"\n"), 0o600))
	for place, set := range map[string]struct {
		environment map[string]string
		flags       []string
		says        string
	}{
		"a flag":             {map[string]string{"AWS_REGION": "eu-west-1"}, []string{"--region", misspelt}, "--region: there is no region"},
		"AWS_REGION":         {map[string]string{"AWS_REGION": misspelt}, nil, "the configured region (AWS_REGION, or that of the profile): there is no region"},
		"AWS_DEFAULT_REGION": {map[string]string{"AWS_DEFAULT_REGION": misspelt}, nil, "there is no region"},
		"a profile":          {map[string]string{"AWS_PROFILE": "p", "AWS_CONFIG_FILE": config}, nil, "there is no region"},
	} {
		for command, args := range commands {
			t.Run(place+" of "+command, func(t *testing.T) {
				calls := 0
				endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					calls++
					http.Error(w, "none", http.StatusForbidden)
				}))
				defer endpoint.Close()
				withoutAWS(t)
				for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE"} {
					t.Setenv(name, set.environment[name])
				}
				t.Setenv("AWS_ENDPOINT_URL", endpoint.URL)
				t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
				t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
				r := callAsIs(t.Context(), t, nil, append(args[:len(args):len(args)], set.flags...)...)
				assert.Equal(t, exitUsage, r.code, r.err)
				assert.Contains(t, r.err, set.says)
				assert.Contains(t, r.err, `"eu-centrall-1"; did you mean "eu-central-1"?`)
				assert.Zero(t, calls)
			})
		}
	}
	for arn, says := range map[string]string{
		"arn:aws:states:eu-centrall-1:111122223333:stateMachine:ami-factory": `did you mean "eu-central-1"?`,
		"arn:aws:states:cn-north-1:111122223333:stateMachine:ami-factory":    "cn-north-1 is in partition aws-cn",
	} {
		r := call(t, nil, "build", "debian-12-docker", "--region", "eu-west-1", "--state-machine", arn)
		assert.Equal(t, exitUsage, r.code, r.err)
		assert.Contains(t, r.err, says)
	}
}
