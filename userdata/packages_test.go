package userdata_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/userdata"
)

// aptStandIn is put after lib.sh: apt that notes its calls, remembers what it
// installed, and fails as a file says.
const aptStandIn = `
booted() { false; }
sleep() { true; }
lists_are_fresh() { [[ -e $STAND/fresh ]]; }
apt_get() {
	local word
	printf 'apt-get' >>"$STAND/calls"
	for word in "$@"; do if [[ $word != -* && $word != *::* ]]; then printf ' %s' "$word" >>"$STAND/calls"; fi; done
	printf '\n' >>"$STAND/calls"
	if [[ -s $STAND/fail && $* != *update ]]; then
		cat "$STAND/fail"
		if [[ -e $STAND/once ]]; then rm "$STAND/fail"; fi
		return 100
	fi
	if [[ $* == *update ]]; then touch "$STAND/fresh"; fi
	for word in "$@"; do if [[ $word != -* ]]; then echo "${word%%=*}|${word#*=}" >>"$STAND/installed"; fi; done
}
dpkg-query() {
	local name
	for name in "$@"; do if [[ -e $STAND/installed ]]; then sed -n "s/^$name|/ii |$name|/p" "$STAND/installed"; fi; done
}
apt-cache() { for name in "$@"; do if [[ $name == vendor ]]; then printf 'vendor\n  Depends: libneeded\nlibneeded\n<virtual>\n'; fi; done; }
apt-get() { [[ ${!#} != clash ]]; } # -s
`

type aptBench struct {
	bench
	stand string
}

func newAptBench(t *testing.T, manifest string, scripts map[string]string) aptBench {
	t.Helper()
	b := aptBench{bench: newBench(t, manifest, nil)}
	for name, script := range scripts {
		b.write(t, "bundle/components/"+name, script)
	}
	lib, err := os.ReadFile("lib/lib.sh")
	require.NoError(t, err)
	b.write(t, "bundle/lib/lib.sh", string(lib)+aptStandIn)
	b.stand = filepath.Join(b.dir, "stand")
	require.NoError(t, os.Mkdir(b.stand, 0o750))
	t.Setenv("STAND", b.stand)
	return b
}

// calls are what was called since the last look.
func (b aptBench) calls(t *testing.T) []string {
	t.Helper()
	file := filepath.Join(b.stand, "calls")
	content, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	require.NoError(t, os.Remove(file))
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

func steps(p provision) string {
	var out []string
	for _, s := range p.Components {
		out = append(out, s.Name+" "+s.Status)
	}
	return strings.Join(out, ", ")
}

const twoComponents = `{"family":"debian-12","components":[
	{"name":"one","upgrade":UPGRADE,"packages":[{"name":"jq","at":"components/one/component.yaml:7:11"},{"name":"curl","early":true,"at":"components/one/component.yaml:8:11"}]},
	{"name":"two","packages":[{"name":"jq","at":"components/two/component.yaml:5:11"},{"name":"vendor","version":"1.2-3","at":"components/two/component.yaml:6:11"},
		{"name":"clash","at":"components/two/component.yaml:7:11"}]}]}`

var twoScripts = map[string]string{
	"one/prepare.sh": "echo 'prepare one' >>$STAND/calls\n", "one/install.sh": "echo 'install one' >>$STAND/calls\n",
	"two/install.sh": "echo 'install two' >>$STAND/calls\n",
}

func TestPackagesOfAllComponentsAreInstalledInOneRunBeforeTheirScripts(t *testing.T) {
	for sentence, tc := range map[string]struct {
		upgrade, installed string
		want               []string
	}{
		"what prepare.sh needs is there": {"false", "curl|7\n", []string{
			"prepare one", "apt-get update", "apt-get install clash jq vendor=1.2-3", "install one", "install two"}},
		"what prepare.sh needs is missing": {"false", "", []string{
			"apt-get update", "apt-get install curl", "prepare one", "apt-get install clash jq vendor=1.2-3", "install one", "install two"}},
		"the same run upgrades": {"true", "curl|7\n", []string{
			"prepare one", "apt-get update", "apt-get upgrade clash jq vendor=1.2-3", "install one", "install two"}},
		"some are there, one in another version": {"false", "curl|7\njq|1\nclash|1\nvendor|1.1\n", []string{
			"prepare one", "apt-get update", "apt-get install vendor=1.2-3", "install one", "install two"}},
		"the same run upgrades, but no package of an exact version": {"true", "curl|7\njq|1\nclash|1\nvendor|1.2-3\n", []string{
			"prepare one", "apt-get update", "apt-get upgrade vendor=1.2-3", "install one", "install two"}},
		"all are there": {"false", "curl|7\njq|1\nclash|1\nvendor|1.2-3\n", []string{"prepare one", "install one", "install two"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := newAptBench(t, strings.Replace(twoComponents, "UPGRADE", tc.upgrade, 1), twoScripts)
			require.NoError(t, os.WriteFile(filepath.Join(b.stand, "installed"), []byte(tc.installed), 0o600))
			result, output, ok := b.run(t)
			require.True(t, ok, output)
			assert.Equal(t, tc.want, b.calls(t), output)
			assert.Equal(t, "packages ok, one ok, two ok", steps(result))
		})
	}
}

func TestAFailedPackageNamesTheComponentThatWantsIt(t *testing.T) {
	for sentence, tc := range map[string]struct {
		said, component, command string
		attempts                 int
	}{
		"one that apt does not know": {
			"E: Unable to locate package clash\n", "two",
			"package clash (components/two/component.yaml:7:11) cannot be installed: E: Unable to locate package clash", 1,
		},
		"one of two components": {
			"dpkg: error processing package jq (--configure):\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n", "one",
			"package jq (components/one/component.yaml:7:11 and components/two/component.yaml:5:11) cannot be installed: dpkg: error processing package jq (--configure):", 1,
		},
		"of an architecture": {
			"dpkg: error processing package jq:amd64 (--configure):\n", "one",
			"package jq (components/one/component.yaml:7:11 and components/two/component.yaml:5:11) cannot be installed: dpkg: error processing package jq:amd64 (--configure):", 1,
		},
		"a version that is gone": {
			"E: Version '1.2-3' for 'vendor' was not found\n", "two",
			"package vendor (components/two/component.yaml:6:11) cannot be installed: E: Version '1.2-3' for 'vendor' was not found", 1,
		},
		"one that another needs": {
			"dpkg: error processing package libneeded (--configure):\n", "two",
			"package libneeded, which vendor (components/two/component.yaml:6:11) needs, cannot be installed: dpkg: error processing package libneeded (--configure):", 1,
		},
		"an archive that cannot be fetched, after more attempts": {
			"E: Failed to fetch http://mirror/pool/j/jq_1.6_amd64.deb  404  Not Found\n", "one",
			"package jq (components/one/component.yaml:7:11 and components/two/component.yaml:5:11) cannot be installed: E: Failed to fetch http://mirror/pool/j/jq_1.6_amd64.deb  404  Not Found", 3,
		},
		"ones that do not go together": {
			" clash : Conflicts: jq\nE: Unable to correct problems, you have held broken packages.\n", "two",
			"package clash (components/two/component.yaml:7:11) cannot be installed: clash : Conflicts: jq", 1,
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := newAptBench(t, strings.Replace(twoComponents, "UPGRADE", "false", 1), twoScripts)
			require.NoError(t, os.WriteFile(filepath.Join(b.stand, "installed"), []byte("curl|7\n"), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(b.stand, "fresh"), nil, 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(b.stand, "fail"), []byte("Reading package lists...\n"+tc.said), 0o600))
			result, output, ok := b.run(t)
			require.False(t, ok, output)
			require.NotNil(t, result.Failed)
			assert.Equal(t, tc.component, result.Failed.Component)
			assert.Equal(t, tc.command, result.Failed.Command)
			assert.Zero(t, result.Failed.Line)
			assert.Equal(t, "packages failed", steps(result))
			assert.Equal(t, tc.attempts, strings.Count(strings.Join(b.calls(t), "\n"), " install clash"), output)
			assert.NotContains(t, output, "install one")
		})
	}
	t.Run("a mirror that answers at the second attempt", func(t *testing.T) {
		b := newAptBench(t, strings.Replace(twoComponents, "UPGRADE", "false", 1), twoScripts)
		for name, content := range map[string]string{"installed": "curl|7\n", "fresh": "", "once": "", "fail": "E: Failed to fetch http://mirror/x  503\n"} {
			require.NoError(t, os.WriteFile(filepath.Join(b.stand, name), []byte(content), 0o600))
		}
		_, output, ok := b.run(t)
		require.True(t, ok, output)
		assert.Contains(t, output, "attempt 1 of 3 failed")
	})
}

func TestAFailureOfPrepareNamesItsLine(t *testing.T) {
	scripts := map[string]string{"one/prepare.sh": "set -e\ntrue\nfalse 7\n", "one/install.sh": "echo NEVER\n", "two/install.sh": "true\n"}
	b := newAptBench(t, `{"family":"debian-12","components":[{"name":"one"},{"name":"two"}]}`, scripts)
	result, output, ok := b.run(t)
	require.False(t, ok)
	require.NotNil(t, result.Failed)
	assert.Equal(t, "one", result.Failed.Component)
	assert.Equal(t, "prepare.sh", result.Failed.Script)
	assert.Equal(t, 3, result.Failed.Line)
	assert.Equal(t, "false 7", result.Failed.Command)
	assert.Equal(t, "one failed", steps(result))
	assert.NotContains(t, output, "NEVER")
}

// Whatever asks for it while components are installed, the initramfs and the boot
// loader's configuration are made once, at the end.
func TestBootFilesAreMadeOnceAtTheEnd(t *testing.T) {
	for sentence, tc := range map[string]struct {
		asked   string
		kernels []string // with an initramfs when the name ends with +
		want    []string
	}{
		"nothing is asked for":               {"", []string{"6.1"}, nil},
		"twice for the newest":               {"update-initramfs -u\nupdate-initramfs -u", []string{"6.1.9+", "6.1.10+"}, []string{"-u -k 6.1.10"}},
		"for a new kernel, and the newest":   {"update-initramfs -c -t -k 6.1.10 -b /boot\nupdate-initramfs -u", []string{"6.1.9+", "6.1.10"}, []string{"-c -k 6.1.10"}},
		"for a version, spelt together":      {"update-initramfs -uk 6.1.9", []string{"6.1.9+", "6.1.10+"}, []string{"-u -k 6.1.9"}},
		"for all":                            {"update-initramfs -u -k all\nupdate-initramfs -u", []string{"6.1.9+", "6.1.10+"}, []string{"-u -k 6.1.9", "-u -k 6.1.10"}},
		"for a kernel that was removed":      {"update-initramfs -c -k 6.1.9\nupdate-initramfs -d -k 6.1.9", []string{"6.1.10+"}, []string{"-d -k 6.1.9"}},
		"for an initramfs elsewhere":         {"update-initramfs -c -k 6.1.10 -b /root", []string{"6.1.10"}, []string{"-c -k 6.1.10 -b /root"}},
		"the boot loader twice, by any name": {"update-grub\nupdate-grub2", []string{"6.1.10"}, []string{"grub"}},
		"both, the initramfs first":          {"update-grub\nupdate-initramfs -u", []string{"6.1.10+"}, []string{"-u -k 6.1.10", "grub"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := newAptBench(t, `{"family":"debian-12","components":[{"name":"one"}]}`, map[string]string{"one/install.sh": "set -e\n" + tc.asked + "\n"})
			root := filepath.Join(b.dir, "root")
			t.Setenv("AMI_FACTORY_BOOT_ROOT", root)
			for _, version := range tc.kernels {
				version, has := strings.CutSuffix(version, "+")
				b.write(t, "root/boot/vmlinuz-"+version, "")
				if has {
					b.write(t, "root/boot/initrd.img-"+version, "")
				}
			}
			b.write(t, "root/boot/grub/grub.cfg", "")
			for name, script := range map[string]string{"update-initramfs": `echo "$*"`, "update-grub": "chmod 644 $AMI_FACTORY_BOOT_ROOT/boot/grub/grub.cfg; echo grub"} {
				b.write(t, "root/usr/sbin/"+name, "#!/bin/sh\n"+script+" >>$STAND/calls\n")
				require.NoError(t, os.Chmod(filepath.Join(root, "usr/sbin", name), 0o700)) //nolint:gosec // a program
			}
			// Whether this machine is a container does not matter here.
			script, err := os.ReadFile("lib/boot-files.sh")
			require.NoError(t, err)
			b.write(t, "bundle/lib/boot-files.sh", strings.Replace(string(script), "systemd-detect-virt --container --quiet", "false", 1))

			result, output, ok := b.run(t)
			require.True(t, ok, output)
			assert.Equal(t, tc.want, b.calls(t), output)
			info, err := os.Stat(filepath.Join(root, "boot/grub/grub.cfg"))
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), info.Mode(), "grub.cfg keeps its mode")
			assert.Equal(t, len(tc.want) > 0 && !strings.Contains(sentence, "elsewhere"), strings.HasSuffix(steps(result), "boot-files ok"), steps(result))
			_, output, ok = b.run(t)
			require.True(t, ok, output)
		})
	}
}

func TestBootFilesOutliveARestartOfTheBuilder(t *testing.T) {
	b := newAptBench(t, `{"family":"debian-12","components":[{"name":"one"}]}`, map[string]string{"one/install.sh": "update-initramfs -u\nfalse\n"})
	t.Setenv("AMI_FACTORY_BOOT_ROOT", filepath.Join(b.dir, "root"))
	_, _, ok := b.run(t)
	require.False(t, ok)
	b.write(t, "bundle/components/one/install.sh", "true\n")
	result, output, ok := b.run(t)
	require.True(t, ok, output)
	assert.Equal(t, "one ok, boot-files ok", steps(result))
	result, output, ok = b.run(t)
	require.True(t, ok, output)
	assert.Equal(t, "one ok", steps(result))
}

// dnf has no command that upgrades and installs.
func TestPackagesOfAmazonLinux(t *testing.T) {
	b := newAptBench(t, strings.NewReplacer("UPGRADE", "true", "debian-12", "al2023").Replace(twoComponents), twoScripts)
	lib, err := os.ReadFile(filepath.Join(b.dir, "bundle/lib/lib.sh"))
	require.NoError(t, err)
	b.write(t, "bundle/lib/lib.sh", string(lib)+`
dnf_() { echo "dnf $*" >>"$STAND/calls"; if [[ -s $STAND/fail ]]; then cat "$STAND/fail"; return 1; fi; }
rpm() { printf 'curl|7-1\npackage jq is not installed\n'; return 1; }
`)
	_, output, ok := b.run(t)
	require.True(t, ok, output)
	assert.Equal(t, []string{"prepare one", "dnf --exclude=vendor upgrade", "dnf install clash jq vendor-1.2-3", "install one", "install two"}, b.calls(t), output)
	require.NoError(t, os.WriteFile(filepath.Join(b.stand, "fail"), []byte("No match for argument: clash\nError: Unable to find a match: clash\n"), 0o600))
	result, output, ok := b.run(t)
	require.False(t, ok, output)
	assert.Equal(t, "two", result.Failed.Component)
	assert.Equal(t, "package clash (components/two/component.yaml:7:11) cannot be installed: No match for argument: clash", result.Failed.Command)
}

// What docker and the agents install in each family, by their parameters.
func TestPackagesOfTheShippedComponents(t *testing.T) {
	const ce = "engine=docker-ce version=5:28.5.1-1 containerdVersion=1.7.28-1"
	for sentence, tc := range map[string]struct{ component, family, parameters, want string }{
		"docker of Debian 12":       {"docker", "debian-12", "", "docker.io"},
		"docker of Debian 13":       {"docker", "debian-13", "compose=distribution", "docker-cli docker-compose docker.io"},
		"docker of Ubuntu":          {"docker", "ubuntu-24.04", "compose=distribution", "docker-compose-v2 docker.io"},
		"docker of Amazon Linux":    {"docker", "al2023", "ecrRegistries=123456789012.dkr.ecr.eu-west-1.amazonaws.com", "amazon-ecr-credential-helper docker"},
		"Docker's own":              {"docker", "ubuntu-22.04", ce, "ca-certificates containerd.io=1.7.28-1 curl docker-ce=5:28.5.1-1 docker-ce-cli=5:28.5.1-1"},
		"Docker's own with compose": {"docker", "debian-12", ce + " compose=distribution composeVersion=2.40-1", "ca-certificates containerd.io=1.7.28-1 curl docker-ce=5:28.5.1-1 docker-ce-cli=5:28.5.1-1 docker-compose-plugin=2.40-1"},
		"Chef":                      {"chef", "al2023", "version=18.5.0", "ca-certificates chef=18.5.0"},
		"Cinc":                      {"chef", "debian-12", "version=18.5.0-1 distribution=cinc", "ca-certificates cinc=18.5.0-1 curl"},
		"CloudWatch of one .deb":    {"cloudwatch-agent", "debian-13", "version=1-1", "ca-certificates curl"},
		"CloudWatch of a mirror":    {"cloudwatch-agent", "debian-13", "version=1-1 repository=https://m", "amazon-cloudwatch-agent=1-1 ca-certificates curl"},
		"CloudWatch of Amazon":      {"cloudwatch-agent", "al2023", "version=1-1", "amazon-cloudwatch-agent=1-1 ca-certificates"},
		"hardening with AIDE":       {"hardening", "al2023", "aide=true", "aide audit chrony libpwquality logrotate nftables sudo"},
		"hardening of Debian":       {"hardening", "debian-12", "", "apparmor apparmor-utils auditd chrony libpam-pwquality logrotate nftables sudo"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c, problems, err := component.Load(userdata.FS, tc.component)
			require.NoError(t, err)
			require.Empty(t, problems)
			values := map[string]string{}
			for name, p := range c.Parameters {
				if p.Default != nil {
					values[name] = string(*p.Default)
				}
			}
			for pair := range strings.FieldsSeq(tc.parameters) {
				name, value, _ := strings.Cut(pair, "=")
				values[name] = value
			}
			var got []string
			for _, w := range (component.Selected{Component: c, Family: tc.family, Values: values}).Wanted() {
				name := w.Name
				if w.Version != "" {
					name += "=" + w.Version
				}
				got = append(got, name)
			}
			assert.Equal(t, tc.want, strings.Join(got, " "))
		})
	}
}

// A component that installs packages by itself makes a second run of the package
// manager, and its failure is found after minutes.
func TestNoComponentInstallsPackagesByItself(t *testing.T) {
	scripts, err := filepath.Glob("components/*/*.sh")
	require.NoError(t, err)
	require.NotEmpty(t, scripts)
	for _, script := range scripts {
		if filepath.Base(script) == "bootstrap.sh" { // before the bundle is there
			continue
		}
		out, _ := exec.CommandContext(t.Context(), "grep", "-nE", `\b(packages_install|apt_get|dnf_|apt-get [^|]*install|dnf [^|]*install)\b`, script).Output()
		assert.Empty(t, string(out), "%s: list them in component.yaml", script)
	}
}
