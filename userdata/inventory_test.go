package userdata_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
)

// listing runs inventory.sh on this machine and looks for privileged files below one
// directory. Stand-ins come before the machine's own programs. replaced are texts of the
// script, in pairs, such as a folder that a test provides.
func listing(t *testing.T, disk string, stand map[string]string, replaced ...string) inventory.Inventory {
	t.Helper()
	script, err := os.ReadFile("verify/inventory.sh")
	require.NoError(t, err)
	bin := t.TempDir()
	for name, body := range stand {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+body+"\n"), 0o700))
	}
	text := strings.Replace(string(script), "PATH=", "PATH="+bin+":", 1)
	require.NotEqual(t, string(script), text)
	for i := 0; i < len(replaced); i += 2 {
		require.Contains(t, text, replaced[i])
	}
	text = strings.NewReplacer(replaced...).Replace(text)
	command := exec.CommandContext(t.Context(), "sh")
	command.Stdin = strings.NewReader(text)
	command.Env = append(os.Environ(), "INVENTORY_DIR="+t.TempDir(), "INVENTORY_SECONDS=120", "INVENTORY_DISKS="+disk)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	require.NoError(t, command.Run(), stderr.String())
	v, err := inventory.Parse(&stdout)
	require.NoError(t, err)
	return v
}

// offline are programs that answer without a network.
func offline() map[string]string { return map[string]string{"apt-get": "exit 0", "docker": "exit 1"} }

func TestTheInventoryNamesWhatDpkgKnows(t *testing.T) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		t.Skip("dpkg is not installed: this machine is not of Debian's family")
	}
	disk := t.TempDir()
	helper := filepath.Join(disk, "with a\nline feed")
	require.NoError(t, os.WriteFile(helper, nil, 0o600))
	require.NoError(t, os.Chmod(helper, 0o755|os.ModeSetuid))
	v := listing(t, disk, offline())

	out, err := exec.CommandContext(t.Context(), "dpkg-query", "-W", "-f=${db:Status-Status} ${Package} ${Version} ${Architecture} ${source:Package} ${source:Version}\n").Output()
	require.NoError(t, err)
	var want, got []string
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if status, rest, _ := strings.Cut(line, " "); status == "installed" {
			want = append(want, rest)
		}
	}
	for _, p := range v.Packages {
		if p.Type == inventory.Deb {
			got = append(got, strings.Join([]string{p.Name, p.Version, p.Arch, p.Source, p.SourceVersion}, " "))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	assert.Equal(t, want, got)
	require.Len(t, v.Files, 1)
	assert.Equal(t, strings.ReplaceAll(helper, "\n", "?"), v.Files[0].Path)
	assert.Equal(t, "4755", v.Files[0].Mode)
	assert.Len(t, v.Unowned(), 1, "no package owns it")
	assert.True(t, slices.ContainsFunc(v.Users, func(u inventory.User) bool { return u.Name == "root" && u.UID == "0" }))
	assert.NotEmpty(t, v.Kernel.Running)
	assert.NotEmpty(t, v.System.ID)
}

func TestThePackageOfAPrivilegedFileIsFound(t *testing.T) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		t.Skip("dpkg is not installed: this machine is not of Debian's family")
	}
	require.FileExists(t, "/usr/bin/passwd", "every system of Debian's family has it")
	v := listing(t, "/usr/bin", offline())
	owners := map[string]string{}
	for _, f := range v.Files {
		owners[f.Path] = f.Package
	}
	assert.Equal(t, "passwd", owners["/usr/bin/passwd"])
	if _, ok := owners["/usr/bin/su"]; ok { // dpkg knows it as /bin/su
		assert.Equal(t, "util-linux", owners["/usr/bin/su"])
	}
}

func TestPendingSecurityUpdates(t *testing.T) {
	const simulated = `Reading package lists...
Inst openssl [3.0.11-1] (3.0.15-1~deb12u1 Debian-Security:12/stable-security [amd64])
Inst libnew (1.0 Debian-Security:12/stable-security [amd64])
Conf openssl (3.0.15-1~deb12u1 Debian-Security:12/stable-security [amd64])`
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		t.Skip("dpkg is not installed: this machine is not of Debian's family")
	}
	const security = "deb http://mirror.example/debian-security bookworm-security main\n"
	for sentence, c := range map[string]struct {
		sources     string
		stand       map[string]string
		want        []inventory.Update
		wantUnknown string
	}{
		"apt offers one": {security, map[string]string{"apt-get": "case \"$*\" in *upgrade*) cat <<'X'\n" + simulated + "\nX\n;; esac"},
			[]inventory.Update{{Package: "openssl", Installed: "3.0.11-1", Version: "3.0.15-1~deb12u1", Origin: "Debian-Security:12/stable-security [amd64]"}}, ""},
		"apt offers none":             {security, map[string]string{"apt-get": "exit 0"}, nil, ""},
		"no repository has them":      {"deb http://mirror.example/debian bookworm main\n", map[string]string{"apt-get": "exit 0"}, nil, "exit code 3: no repository of security updates is configured"},
		"apt cannot reach its mirror": {security, map[string]string{"apt-get": "echo 'Could not resolve mirror' >&2; exit 100"}, nil, "exit code 100: Could not resolve mirror"},
	} {
		t.Run(sentence, func(t *testing.T) {
			apt := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(apt, "sources.list"), []byte(c.sources), 0o600))
			c.stand["docker"] = "exit 1"
			v := listing(t, t.TempDir(), c.stand, "/etc/apt/", apt+"/")
			assert.Equal(t, c.wantUnknown, v.Pending.Unknown)
			assert.ElementsMatch(t, c.want, v.Pending.Updates)
		})
	}
}
