package archtest

import (
	"bytes"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// topLevel are the names at the top of the repository; hidden ones are free.
var topLevel = []string{
	"LICENSE", "Makefile", "README.md", "cdk.json", "cmd", "go.mod", "go.sum", "infra", "lambdas", "pkg", "test", "userdata",
}

// repository is the folder that holds go.mod.
func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(root, "go.mod"))
	return root
}

// trackedFiles lists the files git has, which are those that are published.
func trackedFiles(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = repository(t)
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("not a git checkout, so the published files are unknown: %v", err)
	}
	return strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
}

func TestTheTopOfTheRepositoryHoldsOnlyWhatTheDesignNames(t *testing.T) {
	for _, file := range trackedFiles(t) {
		top, _, _ := strings.Cut(file, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(topLevel, top) {
			assert.Failf(t, "unknown name at the top", "%s (allowed: %s, and hidden files)", file, strings.Join(topLevel, " "))
		}
	}
}

// TestNothingOfTheMachineIsInTheFiles looks for what works on the machine of
// whoever wrote it and nowhere else: its folders, and the mirrors it installs
// from, which are configuration of a machine and never of the project.
func TestNothingOfTheMachineIsInTheFiles(t *testing.T) {
	root := repository(t)
	folders := []string{root}
	if out, err := exec.Command("go", "env", "GOMODCACHE", "GOCACHE").Output(); err == nil {
		folders = append(folders, strings.Fields(string(out))...)
	}
	if home, err := os.UserHomeDir(); err == nil && home != "/root" { // guests have a /root too
		folders = append(folders, home)
	}
	folders = slices.DeleteFunc(folders, func(dir string) bool { return strings.Count(dir, "/") < 2 }) // as /app: too common a word
	hosts := registryHosts(t)

	for _, file := range trackedFiles(t) {
		text, err := os.ReadFile(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue // removed, but not yet committed
		}
		require.NoError(t, err)
		for _, dir := range folders {
			assert.Falsef(t, bytes.Contains(text, []byte(dir+"/")), "%s names a folder of this machine, %s", file, dir)
		}
		if base := filepath.Base(file); base == "go.sum" || base == "go.mod" {
			continue // module paths
		}
		for _, host := range hosts {
			assert.Falsef(t, bytes.Contains(text, []byte(host)), "%s names a package registry, %s: read it from the machine's configuration; in tests use names under .test", file, host)
		}
	}
}

// registryHosts are the hosts that this machine installs packages from.
func registryHosts(t *testing.T) []string {
	t.Helper()
	var configured strings.Builder
	for _, pattern := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d/*", "/etc/pip.conf", os.ExpandEnv("$HOME/.npmrc"), os.ExpandEnv("$HOME/.config/pip/pip.conf")} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				configured.Write(text)
			}
		}
	}
	for _, name := range []string{"npm_config_registry", "NPM_CONFIG_REGISTRY", "PIP_INDEX_URL"} {
		configured.WriteString("\n" + os.Getenv(name))
	}
	if out, err := exec.Command("go", "env", "GOPROXY").Output(); err == nil {
		configured.WriteString("\n" + strings.NewReplacer(",", "\n", "|", "\n").Replace(string(out)))
	}
	var hosts []string
	for _, address := range regexp.MustCompile(`https?://[^\s"']+`).FindAllString(configured.String(), -1) {
		if u, err := url.Parse(address); err == nil && strings.Contains(u.Hostname(), ".") && net.ParseIP(u.Hostname()) == nil {
			hosts = append(hosts, u.Hostname())
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
