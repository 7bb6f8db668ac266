package userdata_test

import (
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/userdata"
)

// refusal finds what a script says of a parameter that it refuses, and which
// parameters of agents.sh a component reads.
var (
	refusal = regexp.MustCompile(`fail "parameter ([a-z][A-Za-z]*) (is|has)`)
	reads   = regexp.MustCompile(`\$\((?:needed|parameter) ([A-Z_]+) '`)
)

func TestWhatAScriptRefusesLintRefusesToo(t *testing.T) {
	names, err := component.Names(userdata.FS)
	require.NoError(t, err)
	agents, err := fs.ReadFile(userdata.FS, "lib/agents/agents.sh")
	require.NoError(t, err)
	found := 0
	for _, name := range names {
		c, problems, err := component.Load(userdata.FS, name)
		require.NoError(t, err)
		require.Empty(t, problems)
		scripts, err := fs.Glob(userdata.FS, path.Join("components", name, "*.sh"))
		require.NoError(t, err)
		var text string
		for _, file := range scripts {
			script, err := fs.ReadFile(userdata.FS, file)
			require.NoError(t, err)
			text += string(script)
		}
		refused := map[string]bool{}
		for _, m := range refusal.FindAllStringSubmatch(text, -1) {
			refused[m[1]] = true
		}
		if strings.Contains(text, "agents/agents.sh") {
			text += string(agents)
		}
		for _, m := range reads.FindAllStringSubmatch(text, -1) {
			for parameter := range c.Parameters {
				if strings.EqualFold(parameter, strings.ReplaceAll(m[1], "_", "")) {
					refused[parameter] = true
				}
			}
		}
		for _, parameter := range slices.Sorted(maps.Keys(refused)) {
			p := c.Parameters[parameter]
			found++
			assert.True(t, p.Pattern != "" || len(p.Allowed) > 0 || p.Type != "string", "%s: a script refuses values of parameter %s that component.yaml lets through", name, parameter)
		}
	}
	assert.Greater(t, found, 25)
}

func TestParametersThatOnlyABuilderUsedToRefuse(t *testing.T) {
	for sentence, tc := range map[string]struct{ component, parameter, value string }{
		"a size in megabytes":             {"docker", "logMaxSize", "10MB"},
		"a size of nothing":               {"docker", "logMaxSize", "0m"},
		"no log files":                    {"docker", "logMaxFiles", "0"},
		"a mirror without a scheme":       {"docker", "registryMirror", "mirror.example.com"},
		"a registry that is not ECR's":    {"docker", "ecrRegistries", "docker.io"},
		"an image by tag":                 {"docker", "images", "debian:12"},
		"a fingerprint in small letters":  {"docker", "keyFingerprint", "9dc858229fc7dd38854ae2d88d81803c0ebfcd88"},
		"fingerprints with a comma":       {"chef", "keyFingerprint", strings.Repeat("0A", 20) + "," + strings.Repeat("0B", 20)},
		"a fingerprint and half of one":   {"ssm-agent", "keyFingerprint", strings.Repeat("0A", 20) + " " + strings.Repeat("0B", 10)},
		"fingerprints of spaces only":     {"newrelic-infra", "keyFingerprint", "  "},
		"a repository by ftp":             {"docker", "repository", "ftp://mirror.example.com"},
		"a version with a space":          {"docker", "version", "28.5 1"},
		"services as the user of letters": {"filesystem", "user", "Svc"},
		"a place of one name":             {"filesystem", "services", "/srv"},
		"a registry with a scheme":        {"filesystem", "registries", "https://registry.example.com"},
		"a number of a system user":       {"filesystem", "uid", "99"},
		"a unit that is a timer":          {"boot", "services", "web.timer"},
		"a file system of another kind":   {"boot", "dataVolumes", "data=/srv/data:btrfs"},
		"a label that is too long":        {"boot", "dataVolumes", "a-label-of-more-than-sixteen=/srv/data:ext4"},
		"a store at no absolute path":     {"boot", "instanceStore", "scratch"},
		"a wait of no time":               {"boot", "wait", "0"},
		"an agent of no version":          {"newrelic-infra", "version", ""},
		"an agent by a strange version":   {"newrelic-infra", "version", "1.0; reboot"},
		"a secret with a space":           {"chef", "secret", "my secret"},
		"a key by file":                   {"cloudwatch-agent", "keyUrl", "file:///key"},
		"a suite with a quote":            {"appdynamics-machine-agent", "suite", "book'worm"},
		"ports that are none":             {"hardening", "listen", "ssh"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c, problems, err := component.Load(userdata.FS, tc.component)
			require.NoError(t, err)
			require.Empty(t, problems)
			p, ok := c.Parameters[tc.parameter]
			require.True(t, ok)
			message, allowed := p.Refuse(tc.value)
			assert.NotEmpty(t, message)
			assert.NotEmpty(t, allowed)
		})
	}
}

func TestEveryKeyThatIsPinnedMayBeChanged(t *testing.T) {
	names, err := component.Names(userdata.FS)
	require.NoError(t, err)
	found := 0
	for _, name := range names {
		c, _, err := component.Load(userdata.FS, name)
		require.NoError(t, err)
		p, ok := c.Parameters["keyFingerprint"]
		if !ok {
			continue
		}
		found++
		for _, value := range []string{strings.Repeat("0A", 20), strings.Repeat("0A", 20) + " " + strings.Repeat("0B", 20)} {
			message, _ := p.Refuse(value)
			assert.Empty(t, message, "%s: %s", name, value)
		}
	}
	assert.Equal(t, 6, found)
}
