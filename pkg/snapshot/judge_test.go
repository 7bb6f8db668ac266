package snapshot_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/snapshot"
)

const passwd = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\nalice:x:1000:1000::/home/alice:/bin/bash\nbob:x:1001:1001::/srv/bob:/bin/bash\n"

// sealed is a system that satisfies every rule.
func sealed(more map[string]string) map[string]string {
	files := map[string]string{
		"etc/passwd": passwd, "etc/machine-id": "", "etc/ssh/sshd_config": "Port 22\n# secret here\n", "etc/ami-factory/sealed.json": "{}",
		"root/.bashrc": "alias ls='ls -l'\n", "home/alice/.profile": "", "home/alice/.ssh/config": "Host *\n", "srv/bob/notes": "x\n", "var/log/messages": "",
		"var/lib/dbus/machine-id": "-> /etc/machine-id", "usr/sbin/tool": "secret\n", "lib": "-> usr/lib", "usr/lib/systemd/system/a.service": "[Service]\n",
		"opt/long": strings.Repeat("0123456789\n", 20000),
	}
	maps.Copy(files, more)
	return files
}

func rules() []snapshot.Rule {
	return []snapshot.Rule{
		{Present: []string{"/etc/ami-factory/sealed.json", "/lib/systemd/system/*.service"}},
		{Absent: []string{"/etc/ssh/ssh_host_*", "~/.ssh/authorized_keys*", "~/.aws/**", "/var/lib/cloud/**"}},
		{Empty: []string{"/etc/machine-id", "/var/lib/dbus/machine-id", "/var/log/**"}},
		{Lines: &snapshot.Lines{In: []string{"/etc/**", "~/**"}, Match: "secret|PRIVATE KEY", Except: "^#", MaxSize: 65536}},
	}
}

func judge(t *testing.T, file string, limits snapshot.Limits) ([]snapshot.Finding, snapshot.Cost, error) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	require.NoError(t, err)
	all, cost, err := snapshot.Judge(f, info.Size(), limits, [][]snapshot.Rule{rules()})
	if err != nil {
		return nil, cost, err
	}
	require.Len(t, all, 1)
	return all[0], cost, nil
}

func failed(all []snapshot.Finding) []string {
	out := []string{}
	for _, f := range all {
		if !f.OK {
			out = append(out, f.Statement+": "+f.Found)
		}
	}
	return out
}

// systems are ways to make a disk of a folder.
func systems(t *testing.T) map[string]func(*testing.T, string) string {
	t.Helper()
	out := map[string]func(*testing.T, string) string{
		"ext4":                   func(t *testing.T, dir string) string { return ext4Image(t, dir, "64M") },
		"ext4 with 1 KiB blocks": func(t *testing.T, dir string) string { return ext4Image(t, dir, "32M", "-b", "1024") },
		"ext4 without extents or journal": func(t *testing.T, dir string) string {
			return ext4Image(t, dir, "64M", "-O", "^extents,^64bit,^has_journal")
		},
		"ext4 with meta_bg": func(t *testing.T, dir string) string {
			return ext4Image(t, dir, "256M", "-b", "1024", "-O", "meta_bg,^resize_inode")
		},
	}
	if _, err := exec.LookPath("/usr/sbin/mkfs.xfs"); err != nil {
		t.Error("mkfs.xfs is missing: install the package xfsprogs, see .tools/setup.sh")
		return out
	}
	for name, options := range map[string][]string{
		"xfs":                          nil,
		"xfs with 1 KiB blocks":        {"-b", "size=1024", "-n", "size=4096"},
		"xfs with large directories":   {"-n", "size=16384"},
		"xfs without sparse inodes":    {"-i", "sparse=0"},
		"xfs with counters of 64 bits": {"-i", "nrext64=1"},
	} {
		out[name] = func(t *testing.T, dir string) string { return xfsImage(t, dir, options...) }
	}
	return out
}

func TestASealedSystemSatisfiesItsRules(t *testing.T) {
	many := map[string]string{}
	for i := range 700 {
		many[fmt.Sprintf("etc/many/a-file-of-a-long-name-so-that-blocks-fill-%d", i)] = "x"
	}
	for name, image := range systems(t) {
		t.Run(name, func(t *testing.T) {
			all, cost, err := judge(t, image(t, folder(t, sealed(many))), snapshot.DefaultLimits())
			require.NoError(t, err)
			assert.Empty(t, failed(all))
			assert.Len(t, all, 11)
			assert.Greater(t, cost.Entries, 700)
		})
	}
}

func TestWhatIsPlantedIsFound(t *testing.T) {
	for sentence, tc := range map[string]struct {
		files map[string]string
		want  string // separated by a line's end
	}{
		"a login key of root":                  {map[string]string{"root/.ssh/authorized_keys": "ssh-ed25519 A"}, "~/.ssh/authorized_keys* absent: /root/.ssh/authorized_keys"},
		"a login key that is a symbolic link":  {map[string]string{"root/.ssh/authorized_keys2": "-> /nowhere"}, "~/.ssh/authorized_keys* absent: /root/.ssh/authorized_keys2"},
		"a login key in a linked folder":       {map[string]string{"home/carol/.ssh": "-> ../../opt/keys", "opt/keys/authorized_keys": "k"}, "~/.ssh/authorized_keys* absent: /home/carol/.ssh/authorized_keys"},
		"a login key of a home elsewhere":      {map[string]string{"srv/bob/.ssh/authorized_keys": "k"}, "~/.ssh/authorized_keys* absent: /srv/bob/.ssh/authorized_keys"},
		"a login key of a system account":      {map[string]string{"usr/sbin/.ssh/authorized_keys": "k"}, "~/.ssh/authorized_keys* absent: /usr/sbin/.ssh/authorized_keys"},
		"a host key behind links":              {map[string]string{"etc/ssh/sshd_config": "", "etc/ssh2/ssh_host_rsa_key": "k", "etc/a": "-> b", "etc/b": "-> ssh2"}, ""},
		"a machine-id":                         {map[string]string{"etc/machine-id": "abc"}, "/etc/machine-id empty: /etc/machine-id has 3 bytes\n/var/lib/dbus/machine-id empty: /var/lib/dbus/machine-id has 3 bytes"},
		"a log deep below":                     {map[string]string{"var/log/a/b/c": "x"}, "/var/log/** empty: /var/log/a/b/c has 1 bytes"},
		"state of cloud-init":                  {map[string]string{"var/lib/cloud/data/instance-id": ""}, "/var/lib/cloud/** absent: /var/lib/cloud/data/instance-id"},
		"a secret in a file":                   {map[string]string{"etc/a/b.conf": "one\nthe secret\n"}, "lines of /etc/** without /secret|PRIVATE KEY/: /etc/a/b.conf:2"},
		"a secret after a line without an end": {map[string]string{"root/key": "\x00\nx PRIVATE KEY"}, "lines of ~/** without /secret|PRIVATE KEY/: /root/key:2"},
		"credentials in a folder":              {map[string]string{"home/alice/.aws/credentials": "x"}, "~/.aws/** absent: /home/alice/.aws/credentials"},
	} {
		for name, image := range systems(t) {
			if name != "ext4" && name != "xfs" {
				continue
			}
			t.Run(sentence+" on "+name, func(t *testing.T) {
				all, _, err := judge(t, image(t, folder(t, sealed(tc.files))), snapshot.DefaultLimits())
				require.NoError(t, err)
				if tc.want == "" {
					assert.Empty(t, failed(all))
					return
				}
				assert.Equal(t, strings.Split(tc.want, "\n"), failed(all))
			})
		}
	}
}
