package userdata_test

import (
	"crypto/sha1" // #nosec G505 -- what version 4 fingerprints are made of
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tools are stand-ins of the package managers, which write down how they were
// called. What is installed is in the files of a directory: name -> version.
const tools = `
state=$LIB_TEST/installed
case $(basename "$0") in
apt-get | dnf)
	printf '%s' "$(basename "$0")" >>"$LIB_TEST/calls"
	skip=
	for word in "$@"; do
		if [ -n "$skip" ]; then skip=; continue; fi
		case $word in -o) skip=1; continue ;; -*) continue ;; esac
		printf ' %s' "$word" >>"$LIB_TEST/calls"
	done
	echo >>"$LIB_TEST/calls"
	if [ -e "$LIB_TEST/failing" ]; then rm "$LIB_TEST/failing"; exit 100; fi
	;;
dpkg-query | rpm)
	for name in "$@"; do :; done
	[ -e "$state/$name" ] || exit 1
	[ "$(basename "$0")" = rpm ] || printf 'ii '
	cat "$state/$name"
	;;
systemd-detect-virt) exit 1 ;;
sleep) ;;
esac
`

// libBench runs lines of bash after lib.sh, with stand-ins before all programs
// and a directory to write to as $DIR.
type libBench struct{ dir string }

func newLibBench(t *testing.T) libBench {
	t.Helper()
	for _, tool := range []string{"bash", "python3", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed, and lib.sh needs it", tool)
		}
	}
	b := libBench{t.TempDir()}
	require.NoError(t, os.MkdirAll(filepath.Join(b.dir, "bin"), 0o750))
	require.NoError(t, os.MkdirAll(filepath.Join(b.dir, "installed"), 0o750))
	for _, name := range []string{"apt-get", "dnf", "dpkg-query", "rpm", "systemd-detect-virt", "sleep"} {
		require.NoError(t, os.WriteFile(filepath.Join(b.dir, "bin", name), []byte("#!/bin/sh"+tools), 0o700)) //nolint:gosec // a program
	}
	return b
}

func (b libBench) install(t *testing.T, name, version string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "installed", name), []byte(version+"\n"), 0o600))
}

func (b libBench) run(t *testing.T, family, lines string) (string, bool) {
	t.Helper()
	lib, err := filepath.Abs("lib")
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), "bash", "-c", "set -euo pipefail\n. \"$AMI_FACTORY_LIB/lib.sh\"\n"+lines)
	command.Env = append(os.Environ(), "AMI_FACTORY_LIB="+lib, "AMI_FACTORY_FAMILY="+family, "AMI_FACTORY_COMPONENT=test",
		"LIB_TEST="+b.dir, "DIR="+b.dir, "PATH="+filepath.Join(b.dir, "bin")+":"+os.Getenv("PATH"))
	output, err := command.CombinedOutput()
	return string(output), err == nil
}

func (b libBench) calls(t *testing.T) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(b.dir, "calls"))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

func TestPackageManagersAreCalledAlike(t *testing.T) {
	cases := map[string]struct {
		family, lines string
		failing       bool
		installed     map[string]string
		want          []string
		says          string
	}{
		"apt installs what is missing": {
			family: "debian-12", lines: "packages_install curl jq; summary",
			installed: map[string]string{"curl": "7.88"}, want: []string{"apt-get install jq"}, says: "test: 1 changes",
		},
		"dnf installs what is missing": {
			family: "al2023", lines: "packages_install curl jq; summary",
			installed: map[string]string{"curl": "8.5-1"}, want: []string{"dnf install jq"}, says: "test: 1 changes",
		},
		"what is there is left alone": {
			family: "ubuntu-24.04", lines: "packages_install curl; summary",
			installed: map[string]string{"curl": "8.5"}, says: "test: 0 changes",
		},
		"apt takes the pinned version": {
			family: "debian-13", lines: "packages_install agent=2.0-1",
			installed: map[string]string{"agent": "1.0-1"}, want: []string{"apt-get install agent=2.0-1"},
		},
		"dnf takes the pinned version": {
			family: "al2023", lines: "packages_install agent=2.0-1",
			installed: map[string]string{"agent": "1.0-1"}, want: []string{"dnf install agent-2.0-1"},
		},
		"the pinned version that is there is left alone": {
			family: "debian-12", lines: "packages_install agent=2.0-1; summary",
			installed: map[string]string{"agent": "2.0-1"}, says: "test: 0 changes",
		},
		"apt purges what is there": {
			family: "debian-12", lines: "packages_purge telnet ftp",
			installed: map[string]string{"ftp": "1"}, want: []string{"apt-get purge ftp"}, says: "changed: packages purged: ftp",
		},
		"dnf removes what is there": {
			family: "al2023", lines: "packages_purge telnet ftp",
			installed: map[string]string{"ftp": "1"}, want: []string{"dnf remove ftp"},
		},
		"a mirror that is slow to answer is asked again": {
			family: "al2023", lines: "packages_refresh", failing: true,
			want: []string{"dnf makecache", "dnf makecache"}, says: "attempt 1 of 3 failed",
		},
	}
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			b := newLibBench(t)
			for name, version := range c.installed {
				b.install(t, name, version)
			}
			if c.failing {
				require.NoError(t, os.WriteFile(filepath.Join(b.dir, "failing"), nil, 0o600))
			}
			output, ok := b.run(t, c.family, c.lines)
			require.True(t, ok, output)
			// Whether apt's lists are old, and are read again, depends on this machine.
			got := slices.DeleteFunc(b.calls(t), func(call string) bool { return call == "apt-get update" })
			assert.Equal(t, c.want, got, output)
			assert.Contains(t, output, c.says)
		})
	}
}

func TestLibRefuses(t *testing.T) {
	b := newLibBench(t)
	const fingerprint = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/file":
			_, _ = w.Write([]byte("content"))
		case "/key":
			_, _ = w.Write([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n" + otherKey + "\n-----END PGP PUBLIC KEY BLOCK-----\n"))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	cases := map[string]struct{ family, lines, says string }{
		"a family without a package manager":   {"bottlerocket", "package_manager", "family 'bottlerocket' has no package manager here"},
		"a file of another digest":             {"debian-12", "fetch " + server.URL + "/file $DIR/f " + strings.Repeat("0", 64), "has SHA-256 " + digestOf("content") + ", expected 0000"},
		"an invalid address":                   {"debian-12", "fetch ftp://x/file $DIR/f ''", "cannot fetch 'ftp://x/file'; allowed: an http or https URL"},
		"a file that is not there":             {"debian-12", "fetch " + server.URL + "/absent $DIR/f ''", "cannot download"},
		"an invalid fingerprint":               {"debian-12", "repository v http://v s main " + server.URL + "/key 9DC8 p", "is not 40 hexadecimal digits"},
		"a key of another fingerprint":         {"debian-12", "repository v http://v s main " + server.URL + "/key " + fingerprint + " p", "expected " + fingerprint + "; it is not trusted"},
		"an invalid key":                       {"al2023", "repository v http://v '' '' " + server.URL + "/file " + fingerprint + " p", "is not an OpenPGP key"},
		"a file that its check does not admit": {"debian-12", "no() { return 1; }\necho x >$DIR/in; put 644 $DIR/in $DIR/out no", "is left as it was"},
	}
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			output, ok := b.run(t, c.family, c.lines)
			assert.False(t, ok, output)
			assert.Contains(t, output, c.says)
			assert.NoFileExists(t, filepath.Join(b.dir, "out"))
			assert.NoFileExists(t, "/etc/apt/keyrings/v.asc")
		})
	}
}

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// otherKey is a version 4 public key packet with two octets of key material; no
// program could use it, but it has a fingerprint.
const otherKey = "mAgEAAAAAAEBAg=="

// checksumOfOtherKey is otherKey's CRC-24, as gpg --enarmor prints it.
const checksumOfOtherKey = "1DEO"

func TestKeyFingerprints(t *testing.T) {
	b := newLibBench(t)
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("gpg is not installed, which makes the keys of this test (Debian package gpg)")
	}
	home := t.TempDir()
	run := func(args ...string) string {
		command := exec.CommandContext(t.Context(), gpg, append([]string{"--homedir", home, "--batch", "--quiet", "--no-tty"}, args...)...)
		output, err := command.Output()
		require.NoError(t, err)
		return string(output)
	}
	var want []string
	for _, kind := range []string{"rsa2048", "ed25519"} {
		run("--passphrase", "", "--quick-generate-key", kind+"@example.com", kind, "sign", "never")
	}
	for _, line := range strings.Split(run("--with-colons", "--list-keys"), "\n") {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			want = append(want, fields[9])
		}
	}
	require.Len(t, want, 2)
	for name, content := range map[string]string{"armoured": run("--armor", "--export"), "binary": run("--export")} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key")
			require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
			output, ok := b.run(t, "debian-12", "key_fingerprints "+file)
			require.True(t, ok, output)
			assert.Equal(t, want, strings.Fields(output))
			require.NoError(t, os.WriteFile(file, []byte(content[:len(content)/2]), 0o600))
			output, ok = b.run(t, "debian-12", "key_fingerprints "+file)
			assert.False(t, ok, "a file that is cut off is no key: %s", output)
		})
	}
}

// A vendor's file may hold more than its armour shows at first sight: gpg takes
// no notice of white space after a line of armour.
func TestAFileOfTwoArmoursHasTwoKeys(t *testing.T) {
	const first, second = "mAgEAAAAAAEBAg==", "mAgEAAAAAAEBAw=="
	fingerprints := []string{keyFingerprint(t, first), keyFingerprint(t, second)}
	block := func(after, body string) string {
		return "-----BEGIN PGP PUBLIC KEY BLOCK-----" + after + "\n\n" + body + "\n-----END PGP PUBLIC KEY BLOCK-----" + after + "\n"
	}
	one := block("", first)
	for sentence, tc := range map[string]struct {
		content string
		says    string // of the refusal; empty where both keys are found
	}{
		"two blocks": {one + block("", second), ""},
		"white space after the lines of the second":    {one + block(" ", second), ""},
		"a tab after the lines of the second":          {one + block("\t ", second), ""},
		"lines that end as on Windows":                 {strings.ReplaceAll(one+block("", second), "\n", "\r\n"), ""},
		"text between the blocks":                      {one + "The next key:\n" + block(" ", second), ""},
		"a header with white space after it":           {one + strings.Replace(block(" ", second), "\n\n", "\nComment: x \n \n", 1), ""},
		"a second block of another kind":               {one + strings.ReplaceAll(block("", second), "PUBLIC KEY BLOCK", "MESSAGE"), "a line of armour that is not understood"},
		"a second block that is indented":              {one + " " + block("", second), "a line of armour that is not understood"},
		"a block within another":                       {"-----BEGIN PGP PUBLIC KEY BLOCK-----\n" + one + block("", second), "a line of armour that is not understood"},
		"a second block without an end":                {one + strings.SplitAfter(block(" ", second), "==\n")[0], "a block without an end"},
		"a second block after a carriage return alone": {one + "x\r" + block("", second), "a carriage return within a line"},
		// gpg looks into compressed data: here one octet of algorithm 0, then a key.
		"a key in compressed data": {block("", "mAgEAAAAAAEBAqALAJgIBAAAAAABAQM="), "a packet of type 8"},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := newLibBench(t)
			require.NoError(t, os.WriteFile(filepath.Join(b.dir, "key"), []byte(tc.content), 0o600))
			output, ok := b.run(t, "al2023", "key_fingerprints $DIR/key")
			if tc.says != "" {
				assert.False(t, ok, output)
				assert.Contains(t, output, tc.says)
				return
			}
			require.True(t, ok, output)
			assert.Equal(t, fingerprints, strings.Fields(output))

			server := httptest.NewServer(http.FileServer(http.Dir(b.dir)))
			defer server.Close()
			output, ok = b.run(t, "al2023", "repository v https://v '' '' "+server.URL+"/key "+fingerprints[0]+" p")
			assert.False(t, ok, output)
			assert.Contains(t, output, "has the fingerprint "+strings.Join(fingerprints, " and ")+", expected "+fingerprints[0])
		})
	}
}

// keyFingerprint is the fingerprint of a key of version 4 in a packet of the old
// format with one octet of length (RFC 4880, 12.2).
func keyFingerprint(t *testing.T, encoded string) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	sum := sha1.Sum(append([]byte{0x99, 0, byte(len(data) - 2)}, data[2:]...)) // #nosec G401 -- what version 4 fingerprints are made of
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// What the package manager is given is the key that was verified and nothing
// else of the vendor's file.
func TestARepositoryGetsTheVerifiedKeyOnly(t *testing.T) {
	fingerprint := keyFingerprint(t, otherKey)
	want := map[string]string{
		"al2023":    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n" + otherKey + "\n=%s\n-----END PGP PUBLIC KEY BLOCK-----\n",
		"debian-12": "\x98\x08\x04\x00\x00\x00\x00\x01\x01\x02",
	}
	armoured := "Our key \n-----BEGIN PGP PUBLIC KEY BLOCK----- \nVersion: 1\n\n" + otherKey[:8] + "\n" + otherKey[8:] + "\n-----END PGP PUBLIC KEY BLOCK-----\t\nThe end\n"
	for form, content := range map[string]string{"armoured": armoured, "binary": want["debian-12"]} {
		for family, file := range map[string]string{"al2023": "ami-factory-v.asc", "debian-12": "ami-factory-" + fingerprint + ".gpg"} {
			t.Run(form+" for "+family, func(t *testing.T) {
				b := newLibBench(t)
				require.NoError(t, os.WriteFile(filepath.Join(b.dir, "key"), []byte(content), 0o600))
				server := httptest.NewServer(http.FileServer(http.Dir(b.dir)))
				defer server.Close()
				output, ok := b.run(t, family, `put() { cat "$2" >"$DIR/$(basename "$3")"; }
					repository v https://packages.example.com/v s main `+server.URL+"/key "+fingerprint+" p")
				require.True(t, ok, output)
				got, err := os.ReadFile(filepath.Join(b.dir, file))
				require.NoError(t, err)
				assert.Equal(t, strings.Replace(want[family], "%s", checksumOfOtherKey, 1), string(got))
			})
		}
	}
}

// A vendor that changes its key publishes the old key, then both, then the new one.
// Whoever pins both fingerprints takes each of these files, and no other key.
func TestAVendorMayChangeItsKey(t *testing.T) {
	const first, second, third = "mAgEAAAAAAEBAg==", "mAgEAAAAAAEBAw==", "mAgEAAAAAAEBBA=="
	armour := func(key string) string {
		return "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n" + key + "\n-----END PGP PUBLIC KEY BLOCK-----\n"
	}
	old, next := keyFingerprint(t, first), keyFingerprint(t, second)
	both := "'" + old + " " + next + "'"
	for sentence, tc := range map[string]struct {
		pinned, file string
		keyring      string // empty: the key is refused
	}{
		"the old key, if both are pinned":      {both, armour(first), old},
		"both keys":                            {both, armour(first) + armour(second), old + "-" + next},
		"both keys in the other order":         {both, armour(second) + armour(first), next + "-" + old},
		"both keys, pinned in the other order": {"'" + next + "  " + old + "'", armour(first) + armour(second), old + "-" + next},
		"the new key":                          {both, armour(second), next},
		"both keys, if one is pinned":          {old, armour(first) + armour(second), ""},
		"a third key":                          {both, armour(third), ""},
		"a third key after both":               {both, armour(first) + armour(second) + armour(third), ""},
		"fingerprints with a comma":            {"'" + old + "," + next + "'", armour(first), ""},
		"a fingerprint and half of another":    {"'" + old + " " + next[:20] + "'", armour(first), ""},
	} {
		for _, family := range []string{"debian-12", "al2023"} {
			t.Run(sentence+" for "+family, func(t *testing.T) {
				b := newLibBench(t)
				require.NoError(t, os.WriteFile(filepath.Join(b.dir, "key"), []byte(tc.file), 0o600))
				server := httptest.NewServer(http.FileServer(http.Dir(b.dir)))
				defer server.Close()
				output, ok := b.run(t, family, `put() { cat "$2" >"$DIR/$(basename "$3")"; }
					repository v https://packages.example.com/v s main `+server.URL+"/key "+tc.pinned+" p")
				require.Equal(t, tc.keyring != "", ok, output)
				if !ok {
					assert.Regexp(t, "it is not trusted|is not 40 hexadecimal digits", output)
					return
				}
				file := "ami-factory-" + tc.keyring + ".gpg"
				if family == "al2023" {
					file = "ami-factory-v.asc"
				} else {
					sources, err := os.ReadFile(filepath.Join(b.dir, "ami-factory-v.sources"))
					require.NoError(t, err)
					assert.Contains(t, string(sources), "Signed-By: /etc/apt/keyrings/"+file+"\n")
				}
				output, ok = b.run(t, family, "key_fingerprints $DIR/"+file)
				require.True(t, ok, output)
				assert.Equal(t, strings.Split(tc.keyring, "-"), strings.Fields(output))
			})
		}
	}
}

func TestFilesAreLaidDownOnce(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of root need root")
	}
	b := newLibBench(t)
	lines := `directory 0750 root:root $DIR/d
		printf 'a\n' | put 0640 /dev/stdin $DIR/d/file
		replace $DIR/d/file b
		printf 'b\n' | put 640 /dev/stdin $DIR/d/file
		own 0600 root:root $DIR/d/file
		summary`
	first, ok := b.run(t, "debian-12", lines)
	require.True(t, ok, first)
	assert.Contains(t, first, "test: 4 changes")
	lines = strings.NewReplacer("printf 'a\\n'", "printf 'b\\n'", "0640", "600", "put 640", "put 600").Replace(lines)
	second, ok := b.run(t, "debian-12", lines)
	require.True(t, ok, second)
	assert.Equal(t, "test: 0 changes\n", second)
	content, err := os.ReadFile(filepath.Join(b.dir, "d/file"))
	require.NoError(t, err)
	assert.Equal(t, "b\n", string(content))
}

// What makes a file's content may fail: the component then does too.
func TestNoComponentLaysDownWhatFailedToBeMade(t *testing.T) {
	scripts, err := filepath.Glob("components/*/install.sh")
	require.NoError(t, err)
	for _, script := range append(scripts, "lib/agents/agents.sh") {
		content, err := os.ReadFile(script)
		require.NoError(t, err)
		for line := range strings.Lines(string(content)) {
			assert.NotRegexp(t, `\b(put|drop_in) .*<\(`, line, "%s: bash does not report how <(...) ended; use a pipe", script)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("files of root need root")
	}
	b := newLibBench(t)
	output, ok := b.run(t, "debian-12", "sed s/a/b/ $DIR/missing | put 644 /dev/stdin $DIR/file\necho went on")
	assert.False(t, ok, output)
	assert.NotContains(t, output, "went on")
}

func TestUpgradesThatCannotBeCountedAreNotNone(t *testing.T) {
	cases := map[string]struct {
		family, file, program, says string
		code                        string
		want                        string // empty: it fails
	}{
		"apt has two":          {"debian-12", "debian", "apt-get", "Reading...\nInst a\nInst b\nConf a\n", "0", "2"},
		"apt has a pinned one": {"debian-12", "debian", "apt-get", "Inst pinned [1] (2 x)\nInst pin\nInst nnedx\n", "0", "2"},
		"dnf has a pinned one": {"al2023", "al2023", "dnf", "\npinned.noarch 2\npinned.tools.noarch 3\n", "100", "1"},
		"apt has none":         {"debian-12", "debian", "apt-get", "Reading...\n", "0", "0"},
		"apt cannot say":       {"debian-12", "debian", "apt-get", "E: broken\n", "100", ""},
		"dnf has two":          {"al2023", "al2023", "dnf", "\na.noarch 2\nb.noarch 3\n", "100", "2"},
		"dnf has none":         {"al2023", "al2023", "dnf", "", "0", "0"},
		"dnf cannot say":       {"al2023", "al2023", "dnf", "", "1", ""},
		"dnf was interrupted":  {"al2023", "al2023", "dnf", "a.noarch 2\n", "200", ""},
	}
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			b := newLibBench(t)
			require.NoError(t, os.WriteFile(filepath.Join(b.dir, "bin", c.program), []byte("#!/bin/sh\nprintf '"+c.says+"'\nexit "+c.code+"\n"), 0o700)) //nolint:gosec // a program
			output, ok := b.run(t, c.family, ". components/hardening/families/"+c.file+".sh\nAMI_FACTORY_PINNED='other pinned '\npending=$(pending_upgrades)\necho \"pending: $pending\"")
			assert.Equal(t, c.want != "", ok, output)
			if c.want != "" {
				assert.Contains(t, output, "pending: "+c.want+"\n")
			} else {
				assert.NotContains(t, output, "pending")
			}
		})
	}
}

func TestThePackageThatFailedIsNamedInThePackageManagersWords(t *testing.T) {
	for sentence, tc := range map[string]struct{ said, want string }{
		"apt does not know it":          {"Reading package lists...\nE: Unable to locate package nope\n", "package nope cannot be installed: E: Unable to locate package nope"},
		"apt does not have the version": {"E: Version '1.0' for 'jq' was not found\n", "package jq cannot be installed: E: Version '1.0' for 'jq' was not found"},
		"apt has only its name":         {"E: Package 'x11' has no installation candidate\n", "package x11 cannot be installed: E: Package 'x11' has no installation candidate"},
		"its script fails": {
			"Setting up jq\ndpkg: error processing package bad-pkg (--configure):\n installed script failed\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n",
			"package bad-pkg cannot be installed: dpkg: error processing package bad-pkg (--configure):",
		},
		"its archive is broken": {
			"dpkg: error processing archive /var/cache/apt/archives/jq_1.6_amd64.deb (--unpack):\n", "package jq_1.6_amd64.deb cannot be installed: dpkg: error processing archive /var/cache/apt/archives/jq_1.6_amd64.deb (--unpack):",
		},
		"it cannot be fetched": {
			"E: Failed to fetch http://mirror/pool/j/jq_1.6_amd64.deb  503  Unavailable\n", "package jq_1.6_amd64.deb cannot be installed: E: Failed to fetch http://mirror/pool/j/jq_1.6_amd64.deb  503  Unavailable",
		},
		"something without a name":   {"E: Could not get lock /var/lib/dpkg/lock\n", "packages cannot be installed: E: Could not get lock /var/lib/dpkg/lock"},
		"dnf does not know it":       {"No match for argument: nope\nError: Unable to find a match: nope\n", "package nope cannot be installed: No match for argument: nope"},
		"dnf lacks a dependency":     {"Error:\n Problem: conflicting requests\n  - nothing provides libfoo needed by bar\n", "package libfoo cannot be installed:   - nothing provides libfoo needed by bar"},
		"dnf says something else":    {"Error: Failed to download metadata for repo 'x'\n", "packages cannot be installed: Error: Failed to download metadata for repo 'x'"},
		"nothing that is understood": {"hm\n", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			b := newLibBench(t)
			require.NoError(t, os.WriteFile(filepath.Join(b.dir, "said"), []byte(tc.said), 0o600))
			output, ok := b.run(t, "debian-12", `package_trouble <"$DIR/said"`)
			require.True(t, ok, output)
			assert.Equal(t, tc.want, strings.TrimSuffix(output, "\n"))
		})
	}
}
