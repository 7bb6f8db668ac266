//go:build linux

package agents_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// packageSource is a vendor's signed repository for guests, with stand-ins of
// the vendors' packages: the same names, files and manners, such as a script
// that starts the service while the package is installed.
type packageSource struct {
	dir         string // what is served
	home        string // of gpg
	Fingerprint string
}

func newPackageSource(t *testing.T) *packageSource {
	t.Helper()
	for _, tool := range []string{"dpkg-deb", "gpg"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed, and the stand-ins of vendors' packages need it", tool)
		}
	}
	home, err := os.MkdirTemp("", "gpg") // the path of gpg's socket must be short
	require.NoError(t, err)
	s := &packageSource{dir: t.TempDir(), home: home}
	t.Cleanup(func() {
		command := exec.Command("gpgconf", "--kill", "all")
		command.Env = append(os.Environ(), "GNUPGHOME="+home)
		_ = command.Run()
		_ = os.RemoveAll(home)
	})
	s.gpg(t, "--quick-generate-key", "vendor@example.test", "ed25519", "sign", "never")
	for _, line := range strings.Split(s.gpg(t, "--list-keys", "--with-colons"), "\n") {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" && s.Fingerprint == "" {
			s.Fingerprint = fields[9]
		}
	}
	s.write(t, "key.asc", s.gpg(t, "--armor", "--export"))
	s.write(t, "key.gpg", s.gpg(t, "--export"))
	return s
}

func (s *packageSource) gpg(t *testing.T, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "gpg", append([]string{"--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	command.Env = append(os.Environ(), "GNUPGHOME="+s.home)
	out, err := command.Output()
	require.NoError(t, err, "gpg %v", args)
	return string(out)
}

func (s *packageSource) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(s.dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
}

// standIn is a package. Scripts are executable; a key postinst is the
// maintainer's script.
type standIn struct {
	name, version string
	files         map[string]string
	scripts       map[string]string
}

// build makes the .deb and returns its bytes.
func (p standIn) build(t *testing.T) []byte {
	t.Helper()
	root := t.TempDir()
	put := func(name, content string, mode os.FileMode) {
		file := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), mode))
	}
	put("DEBIAN/control", fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: nobody <nobody@example.test>\nDescription: stand-in\n",
		p.name, p.version, runtime.GOARCH), 0o644)
	for name, content := range p.files {
		put(name, content, 0o644)
	}
	for name, content := range p.scripts {
		put(name, content, 0o755)
	}
	require.NoError(t, os.Chmod(root, 0o755))
	file := filepath.Join(t.TempDir(), "x.deb")
	out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "--build", root, file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return content
}

// repository publishes packages as the suite bookworm below /<name>/. change may
// alter a package after the index has been signed.
func (s *packageSource) repository(t *testing.T, name string, packages map[string][]byte, change func([]byte) []byte) {
	t.Helper()
	var index strings.Builder
	for file, content := range packages {
		control := filepath.Join(t.TempDir(), "x.deb")
		require.NoError(t, os.WriteFile(control, content, 0o600))
		fields, err := exec.CommandContext(t.Context(), "dpkg-deb", "--field", control).Output()
		require.NoError(t, err)
		fmt.Fprintf(&index, "%sFilename: pool/%s\nSize: %d\nSHA256: %x\n\n", fields, file, len(content), sha256.Sum256(content))
		if change != nil {
			content = change(content)
		}
		s.write(t, path.Join(name, "pool", file), string(content))
	}
	list := path.Join("main", "binary-"+runtime.GOARCH, "Packages")
	s.write(t, path.Join(name, "dists/bookworm", list), index.String())
	s.write(t, path.Join(name, "dists/bookworm/Release"), fmt.Sprintf(
		"Origin: vendor\nSuite: bookworm\nCodename: bookworm\nArchitectures: %s\nComponents: main\nDate: %s\nSHA256:\n %x %d %s\n",
		runtime.GOARCH, time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC"), sha256.Sum256([]byte(index.String())), index.Len(), list))
	release := filepath.Join(s.dir, name, "dists/bookworm")
	s.gpg(t, "--clearsign", "--output", filepath.Join(release, "InRelease"), filepath.Join(release, "Release"))
}

func (s *packageSource) sign(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(s.dir, name)
	s.gpg(t, "--detach-sign", "--output", file+".sig", file)
}

func (s *packageSource) handler() http.Handler { return http.FileServer(http.Dir(s.dir)) }

// daemon is a stand-in of an agent that runs as a service: its unit lies where
// these vendors put it, its script enables and starts it, and a run leaves an
// identity behind.
func daemon(name, version, unit, identity string, more map[string]string) standIn {
	program := "/opt/standin/" + name
	p := standIn{name: name, version: version, scripts: map[string]string{
		program:           "#!/bin/sh\nmkdir -p " + identity + "\ncat /proc/sys/kernel/random/uuid >" + identity + "/identity\nexec sleep infinity\n",
		"DEBIAN/postinst": "#!/bin/sh\nset -e\nsystemctl daemon-reload\nsystemctl enable " + unit + "\nsystemctl start " + unit + "\n",
	}, files: map[string]string{
		"etc/systemd/system/" + unit: "[Unit]\nDescription=" + name + "\n[Service]\nExecStart=" + program + "\n[Install]\nWantedBy=multi-user.target\n",
	}}
	for name, content := range more {
		p.scripts[name] = content
	}
	return p
}

func standIns() map[string]standIn {
	return map[string]standIn{
		"newrelic": daemon("newrelic-infra", "1.57.0", "newrelic-infra.service", "/var/db/newrelic-infra/data", nil),
		"appdynamics": daemon("appdynamics-machine-agent", "24.9.0", "appdynamics-machine-agent.service",
			"/opt/appdynamics/machine-agent/logs", nil),
		"cloudwatch": daemon("amazon-cloudwatch-agent", "1.300064.0b1337-1", "amazon-cloudwatch-agent.service",
			"/opt/aws/amazon-cloudwatch-agent/var", map[string]string{
				"opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl": `#!/bin/sh
[ "$1 $2 $3 $4 $5" = "-a fetch-config -m ec2 -c" ] && [ $# = 6 ] || exit 1
mkdir -p /opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d
cp "${6#file:}" /opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d/file_config.json
`}),
		// A client that registers with the validation key when it has no key yet.
		"cinc": {name: "cinc", version: "18.5.0-1", scripts: map[string]string{
			"usr/bin/cinc-client": `#!/bin/sh
set -e
[ "$1" = --config ]
value() { sed -n "s/^$1 \"\(.*\)\"\$/\1/p" "$2"; }
key=$(value client_key "$2")
if [ ! -s "$key" ]; then
	grep -q 'BEGIN RSA PRIVATE KEY' "$(value validation_key "$2")"
	(umask 077; echo "key of $(value node_name "$2")" >"$key")
fi
mkdir -p /var/cinc/cache
echo "$(value node_name "$2") $(value policy_name "$2") $(value policy_group "$2") $(value chef_server_url "$2")" >>/var/cinc/cache/runs
`}},
	}
}
