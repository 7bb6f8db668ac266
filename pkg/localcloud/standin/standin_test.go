package standin_test

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/standin"
)

func serve(t *testing.T, opts standin.Options) (*standin.Repository, string) {
	t.Helper()
	r, err := standin.New(opts)
	require.NoError(t, err)
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return r, server.URL
}

func fetch(t *testing.T, url string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, body
}

func vendor(t *testing.T, r *standin.Repository, name string) standin.Vendor {
	t.Helper()
	for _, v := range r.Vendors {
		if v.Name == name {
			return v
		}
	}
	require.Fail(t, "no vendor "+name)
	return standin.Vendor{}
}

// program finds a program of the host's, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed; make setup installs what it can, and apt belongs to Debian")
	}
	return path
}

func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// keyring is the key that a repository serves as gpgv takes it.
func keyring(t *testing.T, url string) string {
	t.Helper()
	code, armoured := fetch(t, url)
	require.Equal(t, 200, code)
	text := strings.ReplaceAll(string(armoured), "\r", "")
	_, body, _ := strings.Cut(text, "\n\n")
	body, _, _ = strings.Cut(body, "\n-----END")
	if i := strings.LastIndex(body, "\n="); i >= 0 {
		body = body[:i]
	}
	raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ring.gpg")
	require.NoError(t, os.WriteFile(file, raw, 0o600))
	return file
}

func TestTheSignaturesAreOfTheKeyWhoseFingerprintIsTold(t *testing.T) {
	gpgv := program(t, "gpgv")
	r, url := serve(t, standin.Options{})
	require.Len(t, r.Vendors, 4)
	for _, v := range r.Vendors {
		t.Run(v.Name, func(t *testing.T) {
			code, armoured := fetch(t, url+v.KeyPath)
			require.Equal(t, 200, code)
			keys, err := openpgp.ReadArmoredKeyRing(strings.NewReader(string(armoured)))
			require.NoError(t, err)
			require.Len(t, keys, 1)
			assert.Empty(t, keys[0].Subkeys)
			assert.Regexp(t, `^[0-9A-F]{40}$`, v.KeyFingerprint)

			ring, dir := keyring(t, url+v.KeyPath), t.TempDir()
			for _, name := range []string{"InRelease", "Release", "Release.gpg"} {
				code, data := fetch(t, url+v.RepositoryPath+"/dists/bookworm/"+name)
				require.Equal(t, 200, code)
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
			}
			out, err := run(t, gpgv, "--status-fd", "1", "--keyring", ring, filepath.Join(dir, "InRelease"))
			require.NoError(t, err, out)
			assert.Contains(t, out, "VALIDSIG "+v.KeyFingerprint)
			out, err = run(t, gpgv, "--status-fd", "1", "--keyring", ring, filepath.Join(dir, "Release.gpg"), filepath.Join(dir, "Release"))
			require.NoError(t, err, out)
			assert.Contains(t, out, "VALIDSIG "+v.KeyFingerprint)
		})
	}
}

// apt is a private apt that knows one repository and nothing of this machine.
type apt struct {
	t    *testing.T
	dir  string
	path string
}

func newApt(t *testing.T, url string, v standin.Vendor) apt {
	t.Helper()
	a := apt{t, t.TempDir(), program(t, "apt-get")}
	program(t, "gpgv")
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/trusted.gpg.d", "etc/apt.conf.d"} {
		require.NoError(t, os.MkdirAll(filepath.Join(a.dir, dir), 0o755))
	}
	code, key := fetch(t, url+v.KeyPath)
	require.Equal(t, 200, code)
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, "key.asc"), key, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, "apt.conf"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, "sources.list"),
		[]byte("deb [signed-by="+a.dir+"/key.asc] "+url+v.RepositoryPath+" bookworm main\n"), 0o644))
	for dir := a.dir; dir != "/" && dir != "."; dir = filepath.Dir(dir) { // for apt's own user
		if dir == os.TempDir() {
			break
		}
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	return a
}

func (a apt) run(args ...string) (string, error) {
	options := []string{
		"-o", "Dir::Etc=" + a.dir + "/etc", "-o", "Dir::Etc::sourcelist=" + a.dir + "/sources.list", "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists=" + a.dir + "/lists", "-o", "Dir::State::status=" + a.dir + "/status", "-o", "Dir::Cache=" + a.dir + "/cache",
		"-o", "APT::Sandbox::User=root", "-o", "APT::Architecture=amd64", "-o", "Debug::NoLocking=1", "-o", "Acquire::http::Proxy=DIRECT",
		"-o", "Acquire::Languages=none", "-o", "APT::Update::Error-Mode=any",
	}
	cmd := exec.CommandContext(a.t.Context(), a.path, append(options, args...)...)
	cmd.Dir, cmd.Env = a.dir, append(os.Environ(), "LC_ALL=C", "APT_CONFIG="+a.dir+"/apt.conf", "http_proxy=", "https_proxy=", "no_proxy=127.0.0.1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestAptTakesAPinnedVersion(t *testing.T) {
	r, url := serve(t, standin.Options{})
	dpkg := program(t, "dpkg-deb")
	for _, v := range r.Vendors {
		t.Run(v.Name, func(t *testing.T) {
			a := newApt(t, url, v)
			out, err := a.run("update")
			require.NoError(t, err, out)
			out, err = a.run("download", "--print-uris", v.Package)
			require.NoError(t, err, out)
			assert.Contains(t, out, "_"+v.Versions[2]+"_", "unpinned, the highest version is taken")
			assert.Equal(t, v.Versions[1], v.Version, "which is not the one to pin")
			for _, version := range v.Versions {
				require.True(t, strings.HasSuffix(version, "+standin"))
				out, err = a.run("download", v.Package+"="+version)
				require.NoError(t, err, out)
				deb := filepath.Join(a.dir, v.Package+"_"+version+"_all.deb")
				out, err = run(t, dpkg, "--field", deb, "Package", "Version", "Description")
				require.NoError(t, err, out)
				assert.Contains(t, out, "Version: "+version+"\n")
				assert.Contains(t, out, "stand-in for the ")
			}
			deb := filepath.Join(a.dir, v.Package+"_"+v.Version+"_all.deb")
			tree := filepath.Join(t.TempDir(), "tree")
			out, err = run(t, dpkg, "--raw-extract", deb, tree)
			require.NoError(t, err, out)
			assert.FileExists(t, filepath.Join(tree, map[string]string{
				"newrelic": "usr/bin/newrelic-infra", "appdynamics": "opt/appdynamics/machine-agent/bin/machine-agent",
				"cinc": "opt/cinc/bin/cinc-client", "amazon": "opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl",
			}[v.Name]))
			if v.Name == "cinc" {
				assert.NoFileExists(t, filepath.Join(tree, "DEBIAN/postinst"))
				return
			}
			assert.FileExists(t, filepath.Join(tree, "etc/systemd/system", v.Package+".service"))
			postinst, err := os.ReadFile(filepath.Join(tree, "DEBIAN/postinst"))
			require.NoError(t, err)
			assert.Contains(t, string(postinst), "systemctl enable "+v.Package+".service")
			assert.Contains(t, string(postinst), "systemctl restart "+v.Package+".service")
		})
	}
}

func TestAptNoticesWhatIsWrong(t *testing.T) {
	for fault, tc := range map[standin.Fault]struct{ step, says string }{
		standin.BadSignature:    {"update", "BADSIG"},
		standin.ExpiredKey:      {"update", "EXPKEYSIG"},
		standin.TamperedPackage: {"download", "Hash Sum mismatch"},
	} {
		t.Run(string(fault), func(t *testing.T) {
			r, url := serve(t, standin.Options{Faults: map[string]standin.Fault{"newrelic": fault}})
			v := vendor(t, r, "newrelic")
			a := newApt(t, url, v)
			out, err := a.run("update")
			if tc.step == "download" {
				require.NoError(t, err, out)
				out, err = a.run("download", v.Package+"="+v.Version)
			}
			require.Error(t, err, out)
			assert.Contains(t, out, tc.says)

			other := vendor(t, r, "amazon")
			out, err = newApt(t, url, other).run("update")
			require.NoError(t, err, "the other vendors are sound: %s", out)
		})
	}
	t.Run("a key of another vendor", func(t *testing.T) {
		r, url := serve(t, standin.Options{})
		v := vendor(t, r, "newrelic")
		v.KeyPath = vendor(t, r, "amazon").KeyPath
		out, err := newApt(t, url, v).run("update")
		require.Error(t, err)
		assert.Contains(t, out, "NO_PUBKEY")
	})
}

// Apt cannot notice it: the address gives the key that signs.
func TestAnotherKeyIsNoticedByItsFingerprintOnly(t *testing.T) {
	r, url := serve(t, standin.Options{Faults: map[string]standin.Fault{"newrelic": standin.OtherKey}})
	v := vendor(t, r, "newrelic")
	out, err := newApt(t, url, v).run("update")
	require.NoError(t, err, out)
	_, armoured := fetch(t, url+v.KeyPath)
	keys, err := openpgp.ReadArmoredKeyRing(strings.NewReader(string(armoured)))
	require.NoError(t, err)
	assert.NotContains(t, v.KeyFingerprint, strings.ToUpper(keys[0].PrimaryKey.KeyIdString()))
}

func TestKeysStayAndPackagesAreTheSameEverywhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, one := serve(t, standin.Options{KeyDir: dir})
	second, two := serve(t, standin.Options{KeyDir: dir})
	assert.Equal(t, first.Vendors, second.Vendors)
	other, three := serve(t, standin.Options{})
	for i, v := range first.Vendors {
		assert.NotEqual(t, v.KeyFingerprint, other.Vendors[i].KeyFingerprint)
		info, err := os.Stat(filepath.Join(dir, v.Name+".key"))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		for _, name := range []string{"/pool/" + v.Package + "_" + v.Version + "_all.deb", "/dists/bookworm/Release", "/dists/trixie/main/binary-arm64/Packages.gz"} {
			code, a := fetch(t, one+v.RepositoryPath+name)
			require.Equal(t, 200, code, name)
			_, b := fetch(t, two+v.RepositoryPath+name)
			_, c := fetch(t, three+v.RepositoryPath+name)
			assert.Equal(t, a, b, name)
			assert.Equal(t, a, c, name)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cinc.key"), []byte("x"), 0o600))
	_, err := standin.New(standin.Options{KeyDir: dir})
	assert.ErrorContains(t, err, "holds no key")
}

func TestNothingElseIsServed(t *testing.T) {
	_, url := serve(t, standin.Options{})
	for _, path := range []string{"/", "/keys/", "/keys/newrelic", "/keys/nobody.asc", "/keys/newrelic.key", "/apt/newrelic", "/apt/nobody/dists/bookworm/Release", "/apt/newrelic/dists/Bookworm/Release", "/apt/newrelic/pool/none.deb", "/apt/newrelic/pool/"} {
		code, _ := fetch(t, url+path)
		assert.Equal(t, 404, code, path)
	}
}

// unpacked is the pinned package of a vendor as a tree.
func unpacked(t *testing.T, name string) string {
	t.Helper()
	r, url := serve(t, standin.Options{})
	v := vendor(t, r, name)
	code, data := fetch(t, url+v.RepositoryPath+"/pool/"+v.Package+"_"+v.Version+"_all.deb")
	require.Equal(t, 200, code)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/p.deb", data, 0o600))
	out, err := run(t, program(t, "dpkg-deb"), "--extract", dir+"/p.deb", dir+"/tree")
	require.NoError(t, err, out)
	return dir + "/tree"
}

func TestNoProgramStartsWithoutItsConfiguration(t *testing.T) {
	for name, tc := range map[string]struct {
		vendor, program string
		args            []string
		says            string
	}{
		"New Relic without a key":            {"newrelic", "usr/bin/newrelic-infra", nil, "no license key"},
		"AppDynamics without a controller":   {"appdynamics", "opt/appdynamics/machine-agent/bin/machine-agent", nil, "are needed"},
		"Cinc without a configuration":       {"cinc", "opt/cinc/bin/cinc-client", []string{"-c", "/nonexistent"}, "no configuration"},
		"CloudWatch without a configuration": {"amazon", "opt/aws/amazon-cloudwatch-agent/bin/start-amazon-cloudwatch-agent", nil, "no configuration"},
		"its ctl without a file":             {"amazon", "opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl", []string{"-a", "fetch-config", "-c", "ssm:x"}, "file:PATH only"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := unpacked(t, tc.vendor)
			cmd := exec.CommandContext(context.Background(), filepath.Join(tree, tc.program), tc.args...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "MACHINE_AGENT_HOME=" + filepath.Join(tree, "opt/appdynamics/machine-agent")}
			out, err := cmd.CombinedOutput()
			require.Error(t, err, string(out))
			assert.Contains(t, string(out), tc.says)
		})
	}
}

func TestTheMachineAgentStartsAsItsHostAndTellsNoKey(t *testing.T) {
	home := filepath.Join(unpacked(t, "appdynamics"), "opt/appdynamics/machine-agent")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(home, "bin/machine-agent"))
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "MACHINE_AGENT_HOME=" + home, "APPDYNAMICS_CONTROLLER_HOST_NAME=c.example.com",
		"APPDYNAMICS_AGENT_ACCOUNT_NAME=a", "APPDYNAMICS_AGENT_ACCOUNT_ACCESS_KEY=geheim", "APPDYNAMICS_AGENT_UNIQUE_HOST_ID=i-1",
	}
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line := make([]byte, 256)
	n, err := output.Read(line)
	require.NoError(t, err)
	assert.Equal(t, "machine-agent (stand-in): started as i-1\n", string(line[:n]))
	started, err := os.ReadFile(filepath.Join(home, "data/started.jsonl"))
	require.NoError(t, err)
	assert.Contains(t, string(started), `"identity":"i-1","controller":"c.example.com","keySHA256":"`)
	assert.NotContains(t, string(started), "geheim")
	cancel()
	_ = cmd.Wait() // it was killed
}

func TestCincRegistersOnce(t *testing.T) {
	tree := unpacked(t, "cinc")
	program := filepath.Join(tree, "opt/cinc/bin/cinc-client")
	script, err := os.ReadFile(program)
	require.NoError(t, err)
	data := t.TempDir()
	require.NoError(t, os.WriteFile(program, []byte(strings.ReplaceAll(string(script), "data=/var/cinc", "data="+data)), 0o700))
	validation, key, config := data+"/validation.pem", data+"/client.pem", data+"/client.rb"
	require.NoError(t, os.WriteFile(config, []byte("chef_server_url \"https://chef.example.com/organizations/o\"\nnode_name \"i-1\"\nclient_key \""+key+"\"\nvalidation_key \""+validation+"\"\n"), 0o600))
	out, err := run(t, program, "-c", config)
	require.Error(t, err)
	assert.Contains(t, out, "no validation key")
	require.NoError(t, os.WriteFile(validation, []byte("-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\n"), 0o600))
	out, err = run(t, program, "-c", config)
	require.NoError(t, err, out)
	first, err := os.ReadFile(key)
	require.NoError(t, err)
	require.NoError(t, os.Remove(validation))
	out, err = run(t, program, "--config", config)
	require.NoError(t, err, "a node with a key needs no validation: %s", out)
	again, err := os.ReadFile(key)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	runs, err := os.ReadFile(data + "/started.jsonl")
	require.NoError(t, err)
	assert.Equal(t, 2, strings.Count(string(runs), `"identity":"i-1"`))
}
