package userdata_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
	"mvdan.cc/sh/v3/syntax"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/userdata"
	"github.com/ami-factory/ami-factory/test/golden"
)

// addresses are presigned with one session token, of the length that those of Lambda
// functions have.
func addresses() userdata.Addresses {
	signed := func(key, signature string) string {
		return "https://bucket.s3.eu-west-1.amazonaws.com/" + key + "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAXXXXXXXXXXXXXXXX%2F20261123%2Feu-west-1%2Fs3%2Faws4_request" +
			"&X-Amz-Date=20261123T174155Z&X-Amz-Expires=3600&X-Amz-Security-Token=" + incompressible(2048) + "&X-Amz-SignedHeaders=host&x-id=x&X-Amz-Signature=" + signature
	}
	return userdata.Addresses{
		Bundle:  signed("bundles/x.tar.gz", strings.Repeat("0d", 32)),
		Verdict: signed("executions/run/provisioned.json", strings.Repeat("0e", 32)),
		Steps:   signed("executions/run/steps.json", strings.Repeat("0f", 32)),
	}
}

// placeholders stand for the addresses in rendered user data.
var placeholders = []string{"@@SESSION@@", "@@BUNDLE_URL@@", "@@VERDICT_URL@@", "@@STEPS_URL@@"}

func spec() userdata.Spec {
	return userdata.Spec{
		Recipe: "debian-12-docker", BundleSHA256: strings.Repeat("0a", 32), BundleSize: 12345,
		Release: userdata.Release{
			Fingerprint: strings.Repeat("0b", 32), SourceImage: "ami-0123456789abcdef0", FactoryVersion: "1.2.3",
			ImageName: "debian-12-docker-0b0b0b0b0b0b-20261123T174155Z-0a1b2c", Baked: "2026-11-23T17:41:55Z",
		},
	}
}

func render(t *testing.T, s userdata.Spec) string {
	t.Helper()
	text, err := userdata.Render(s)
	require.NoError(t, err)
	return text
}

// parts reads the archive as a mail program would.
func parts(t *testing.T, text string) map[string]string {
	t.Helper()
	message, err := mail.ReadMessage(strings.NewReader(text))
	require.NoError(t, err)
	kind, params, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/mixed", kind)
	out := map[string]string{}
	for r := multipart.NewReader(message.Body, params["boundary"]); ; {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		body, err := io.ReadAll(p)
		require.NoError(t, err)
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		require.NoError(t, err)
		out[kind] = string(body)
	}
}

func TestRenderedUserData(t *testing.T) {
	got := render(t, spec())
	golden.Testdata(t, "userdata.mime", got)
	assert.Equal(t, got, render(t, spec()), "the same input gives the same bytes")
	for _, placeholder := range placeholders {
		assert.Equal(t, 1, strings.Count(got, placeholder))
		got = strings.ReplaceAll(got, placeholder, "")
	}
	assert.NotContains(t, got, "@@")
}

func TestPartsAreWhatCloudInitTakes(t *testing.T) {
	all := parts(t, render(t, spec()))
	require.Len(t, all, 2)

	config := all["text/cloud-config"]
	assert.True(t, strings.HasPrefix(config, "#cloud-config\n"))
	// Keys of cloud-init's own schema (23.4) with their types.
	var settings struct {
		Locale     string `yaml:"locale"`
		Update     *bool  `yaml:"package_update"`
		Upgrade    *bool  `yaml:"package_upgrade"`
		Reboot     *bool  `yaml:"package_reboot_if_required"`
		PWAuth     *bool  `yaml:"ssh_pwauth"`
		Root       *bool  `yaml:"disable_root"`
		NoPrints   *bool  `yaml:"no_ssh_fingerprints"`
		SSHConsole struct {
			Emit *bool `yaml:"emit_keys_to_console"`
		} `yaml:"ssh"`
	}
	require.NoError(t, yaml.Load([]byte(config), &settings, yaml.WithKnownFields()))
	assert.Equal(t, "C.UTF-8", settings.Locale)
	for _, off := range []*bool{settings.Update, settings.Upgrade, settings.Reboot, settings.PWAuth, settings.SSHConsole.Emit} {
		require.NotNil(t, off)
		assert.False(t, *off)
	}

	script := all["text/x-shellscript"]
	assert.True(t, strings.HasPrefix(script, "#!/bin/bash\n"))
	_, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "bootstrap.sh")
	assert.NoError(t, err)
}

func TestTheRecipesCloudConfigFollowsTheFactorys(t *testing.T) {
	s := spec()
	s.CloudConfig = "#cloud-config\napt: {proxy: http://proxy.test:3142}"
	text := render(t, s)
	assert.Equal(t, s.CloudConfig, parts(t, text)["text/cloud-config"], "it is the last, so its keys win")
	assert.Contains(t, text, "locale: C.UTF-8")
}

func TestRenderRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*userdata.Spec)
		want   string
	}{
		"a digest that is none":     {func(s *userdata.Spec) { s.BundleSHA256 = "'; rm -rf /" }, "is not a SHA-256"},
		"a name that ends a string": {func(s *userdata.Spec) { s.Recipe = "a\nrm -rf /" }, "cannot be written into a script"},
		"a version that does":       {func(s *userdata.Spec) { s.Release.FactoryVersion = "1'; reboot; '" }, "cannot be written into a script"},
		"text beyond ASCII":         {func(s *userdata.Spec) { s.Recipe = "é" }, "not plain ASCII"},
		"a second placeholder":      {func(s *userdata.Spec) { s.CloudConfig = "@@BUNDLE_URL@@" }, "exactly once, not 2 times"},
		"a second one of another":   {func(s *userdata.Spec) { s.CloudConfig = "@@STEPS_URL@@" }, "exactly once, not 2 times"},
		"the boundary in a part":    {func(s *userdata.Spec) { s.Recipe = "==ami-factory-part==" }, "holds the boundary"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := spec()
			tt.change(&s)
			_, err := userdata.Render(s)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestSizeIsLimited(t *testing.T) {
	s := spec()
	s.Recipe = incompressible(20_000)
	_, err := userdata.Render(s)
	var size *userdata.SizeError
	require.ErrorAs(t, err, &size)
	assert.Greater(t, size.Size, userdata.MaxSize)
	assert.Contains(t, err.Error(), "but EC2 takes at most 16384")
}

// incompressible text: the hex of a chain of digests, in base64 to be denser.
func incompressible(n int) string {
	sum := sha256.Sum256(nil)
	var b strings.Builder
	for b.Len() < n {
		sum = sha256.Sum256(sum[:])
		b.WriteString(base64.RawStdEncoding.EncodeToString(sum[:]))
	}
	return b.String()[:n]
}

func TestFill(t *testing.T) {
	t.Run("small user data stays readable", func(t *testing.T) {
		text := render(t, spec())
		data, err := userdata.Fill(text, addresses())
		require.NoError(t, err)
		assert.Less(t, len(data), userdata.MaxSize)
		assert.Equal(t, 1, strings.Count(string(data), incompressible(2048)), "the session token is there once")
		assert.NotContains(t, string(data), "@@")
		found, ok := userdata.AddressesIn(text, data)
		assert.True(t, ok)
		assertSameRequests(t, addresses(), found)
	})
	t.Run("addresses of different sessions stay whole", func(t *testing.T) {
		text, to := render(t, spec()), addresses()
		to.Steps = strings.Replace(to.Steps, "X-Amz-Security-Token=", "X-Amz-Security-Token=other", 1)
		data, err := userdata.Fill(text, to)
		require.NoError(t, err)
		found, ok := userdata.AddressesIn(text, data)
		assert.True(t, ok)
		assert.Equal(t, to, found)
	})
	t.Run("large user data is compressed", func(t *testing.T) {
		s := spec()
		s.Recipe = strings.Repeat("name ", 4000)
		text := render(t, s)
		data, err := userdata.Fill(text, addresses())
		require.NoError(t, err)
		assert.LessOrEqual(t, len(data), userdata.MaxSize)
		_, err = gzip.NewReader(bytes.NewReader(data))
		require.NoError(t, err)
		found, ok := userdata.AddressesIn(text, data)
		assert.True(t, ok)
		assertSameRequests(t, addresses(), found)
	})
	t.Run("what Render accepts has room for the addresses", func(t *testing.T) {
		fits := 0
		for size := 6_000; size < 20_000; size += 250 {
			s := spec()
			s.CloudConfig = "#cloud-config\nx: " + incompressible(size)
			text, err := userdata.Render(s)
			if err != nil {
				continue
			}
			fits++
			data, err := userdata.Fill(text, addresses())
			require.NoError(t, err, "a cloud-config of %d bytes", size)
			require.LessOrEqual(t, len(data), userdata.MaxSize)
		}
		assert.Positive(t, fits)
	})
	for name, change := range map[string]func(text *string, to *userdata.Addresses){
		"a URL that would end the string": func(_ *string, to *userdata.Addresses) { to.Verdict = "https://x/'; reboot; '" },
		"a URL that would end curl's":     func(_ *string, to *userdata.Addresses) { to.Steps = `https://x/"` },
		"no URL of the bundle":            func(_ *string, to *userdata.Addresses) { to.Bundle = "" },
		"no URL of the steps":             func(_ *string, to *userdata.Addresses) { to.Steps = "" },
		"a URL of two lines":              func(_ *string, to *userdata.Addresses) { to.Bundle = "https://x/\ny" },
		"text without the placeholders":   func(text *string, _ *userdata.Addresses) { *text = "x" },
		"placeholders in another order": func(text *string, _ *userdata.Addresses) {
			*text = "@@STEPS_URL@@ @@VERDICT_URL@@ @@BUNDLE_URL@@ @@SESSION@@"
		},
		"a URL that takes all of the room": func(_ *string, to *userdata.Addresses) { to.Verdict = "https://x/" + incompressible(30_000) },
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			text, to := render(t, spec()), addresses()
			change(&text, &to)
			_, err := userdata.Fill(text, to)
			assert.Error(t, err)
		})
	}
}

// assertSameRequests compares addresses as a server reads them.
func assertSameRequests(t *testing.T, want, got userdata.Addresses) {
	t.Helper()
	for i, pair := range [][2]string{{want.Bundle, got.Bundle}, {want.Verdict, got.Verdict}, {want.Steps, got.Steps}} {
		a, err := url.Parse(pair[0])
		require.NoError(t, err)
		b, err := url.Parse(pair[1])
		require.NoError(t, err)
		assert.Equal(t, a.Path, b.Path, i)
		assert.Equal(t, a.Query(), b.Query(), i)
	}
}

func TestAddressesAreFoundOnlyInWhatWasMadeOfTheText(t *testing.T) {
	text := render(t, spec())
	data, err := userdata.Fill(text, addresses())
	require.NoError(t, err)
	for name, other := range map[string]string{
		"nothing":             "",
		"other user data":     "#!/bin/sh\n",
		"something before it": "x" + string(data),
		"something after it":  string(data) + "x",
		"another command":     strings.Replace(string(data), "exec bash run.sh", "exec bash own.sh", 1),
		"another value":       strings.Replace(string(data), "steps=", "stepz=", 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, ok := userdata.AddressesIn(text, []byte(other))
			assert.False(t, ok)
		})
	}
}

// The bootstrap is run for real, with its state in a directory of the test.
func TestBootstrapRuns(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "tar", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool + ", which is not installed")
		}
	}
	archive := tarball(t, "run.sh", "umask >umask\ntouch ran\npwd >where\nenv | grep ^AMI_FACTORY_ | sort >facts\n")
	sum := sha256.Sum256(archive)
	tests := map[string]struct {
		digest  string
		status  int
		command string // of the failure; empty when all is well
	}{
		"the bundle is fetched, verified and run": {hex.EncodeToString(sum[:]), http.StatusOK, ""},
		"a bundle of another digest is not run":   {strings.Repeat("00", 32), http.StatusOK, "verify the SHA-256 of the component bundle"},
		"a bundle that is not there":              {hex.EncodeToString(sum[:]), http.StatusForbidden, "download the component bundle"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var uploaded []byte
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut {
					assert.Equal(t, "/verdict?a=b&c=d%20&X-Amz-Security-Token=t", r.URL.String())
					assert.Equal(t, "*", r.Header.Get("If-None-Match"))
					uploaded, _ = io.ReadAll(r.Body)
					return
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write(archive)
			}))
			defer server.Close()
			s := spec()
			s.BundleSHA256, s.BundleSize = tt.digest, len(archive)
			filled, err := userdata.Fill(render(t, s), userdata.Addresses{
				Bundle:  server.URL + "/bundle?a=b&X-Amz-Security-Token=t&c=d%20",
				Verdict: server.URL + "/verdict?a=b&X-Amz-Security-Token=t&c=d%20",
				Steps:   server.URL + "/steps?a=b&X-Amz-Security-Token=t&c=d%20",
			})
			require.NoError(t, err)
			dir := t.TempDir()
			script := strings.ReplaceAll(parts(t, string(filled))["text/x-shellscript"], "/var/lib/ami-factory", dir)
			script = strings.Replace(script, "--retry 8", "--retry 0", 1)
			cmd := exec.CommandContext(t.Context(), "bash")
			cmd.Stdin = strings.NewReader(script)
			cmd.Env = append(os.Environ(), "no_proxy=*", "NO_PROXY=*")
			out, err := cmd.CombinedOutput()
			_, ran := os.Stat(filepath.Join(dir, "bundle", "ran"))
			if tt.command == "" {
				require.NoError(t, err, "%s", out)
				require.NoError(t, ran)
				mask, err := os.ReadFile(filepath.Join(dir, "bundle", "umask"))
				require.NoError(t, err)
				assert.Equal(t, "0022\n", string(mask))
				facts, err := os.ReadFile(filepath.Join(dir, "bundle", "facts"))
				require.NoError(t, err)
				for _, fact := range []string{
					"AMI_FACTORY_RECIPE=" + s.Recipe, "AMI_FACTORY_FINGERPRINT=" + s.Release.Fingerprint,
					"AMI_FACTORY_SOURCE_AMI=" + s.Release.SourceImage, "AMI_FACTORY_VERSION=" + s.Release.FactoryVersion,
					"AMI_FACTORY_IMAGE_NAME=" + s.Release.ImageName, "AMI_FACTORY_BAKED=" + s.Release.Baked,
				} {
					assert.Contains(t, string(facts), fact+"\n")
				}
				assert.Empty(t, uploaded, "report.sh of the bundle reports")
				file := filepath.Join(dir, "uploads")
				addresses, err := os.ReadFile(file)
				require.NoError(t, err)
				const query = "?a=b&c=d%20&X-Amz-Security-Token=t\n"
				assert.Equal(t, server.URL+"/verdict"+query+server.URL+"/steps"+query+"65536\n", string(addresses))
				info, err := os.Stat(file)
				require.NoError(t, err)
				assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it holds credentials")
				return
			}
			require.Error(t, err)
			require.Error(t, ran, "nothing of it ran")
			data, err := os.ReadFile(filepath.Join(dir, "provision.json"))
			require.NoError(t, err)
			assert.JSONEq(t, `{"schema":1,"provision":`+string(data)+`}`, string(uploaded))
			assert.Len(t, uploaded, contract.BuilderUploadBytes, "its address signs the size")
			var verdict struct {
				Status string
				Failed struct {
					Component, Command, LogTail string
					Exit, Line                  int
				}
			}
			require.NoError(t, json.Unmarshal(data, &verdict))
			assert.Equal(t, "failed", verdict.Status)
			assert.Equal(t, "bootstrap", verdict.Failed.Component)
			assert.Equal(t, tt.command, verdict.Failed.Command)
			log, err := base64.StdEncoding.DecodeString(verdict.Failed.LogTail)
			require.NoError(t, err)
			assert.NotContains(t, string(log), "a=b", "the URL is a credential and is not logged")
			if tt.status != http.StatusOK {
				assert.Contains(t, string(log), "403")
			}
		})
	}
}

func TestAFirstPartThatFailedIsReported(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl, which is not installed")
	}
	const failed = `{"status":"failed","components":[],"failed":{"component":"ssm-agent"}}`
	var uploaded []byte
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodPut, r.Method, "no bundle is fetched")
		uploaded, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	filled, err := userdata.Fill(render(t, spec()), userdata.Addresses{Bundle: server.URL + "/b", Verdict: server.URL + "/v", Steps: server.URL + "/s"})
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "stopped"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "provision.json"), []byte(failed), 0o600))
	cmd := exec.CommandContext(t.Context(), "bash")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(parts(t, string(filled))["text/x-shellscript"], "/var/lib/ami-factory", dir))
	cmd.Env = append(os.Environ(), "no_proxy=*", "NO_PROXY=*")
	require.Error(t, cmd.Run())
	assert.JSONEq(t, `{"schema":1,"provision":`+failed+`}`, string(uploaded))
	assert.Len(t, uploaded, contract.BuilderUploadBytes)
}

func tarball(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}))
	_, err := w.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, zip.Close())
	return b.Bytes()
}
