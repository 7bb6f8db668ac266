package userdata_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const secretText = "s3cr3t-Kanarienvogel\"$`\\ü"

// aws plays what the reader of secrets talks to: the instance metadata service,
// and Secrets Manager and Systems Manager, which check the signature.
type fakeAWS struct {
	*httptest.Server
	t           *testing.T
	credentials aws.Credentials
	noRole      bool
	answer      func(target, body string, attempt int) (int, string)

	mu      sync.Mutex
	targets []string
}

func newFakeAWS(t *testing.T) *fakeAWS {
	t.Helper()
	f := &fakeAWS{t: t, credentials: aws.Credentials{AccessKeyID: "ASIAROLE", SecretAccessKey: "role/secret+key", SessionToken: "a token"}}
	f.answer = func(target, body string, _ int) (int, string) {
		if target == "AmazonSSM.GetParameter" {
			return 200, `{"Parameter":{"Value":` + jsonString(secretText) + `}}`
		}
		return 200, `{"SecretString":` + jsonString(secretText) + `}`
	}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func jsonString(text string) string {
	encoded, _ := json.Marshal(text)
	return string(encoded)
}

func (f *fakeAWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const token = "AQAAtoken"
	switch {
	case r.URL.Path == "/latest/api/token":
		if r.Method != http.MethodPut || r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "" {
			w.WriteHeader(400)
			return
		}
		fmt.Fprint(w, token)
	case strings.HasPrefix(r.URL.Path, "/latest/"):
		answers := map[string]string{
			"instance-id": "i-0123", "placement/region": "eu-west-1", "iam/security-credentials/": "builder",
			"iam/security-credentials/builder": fmt.Sprintf(`{"Code":"Success","AccessKeyId":%q,"SecretAccessKey":%q,"Token":%q}`,
				f.credentials.AccessKeyID, f.credentials.SecretAccessKey, f.credentials.SessionToken),
		}
		name := strings.TrimPrefix(r.URL.Path, "/latest/meta-data/")
		answer, ok := answers[name]
		switch {
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != token:
			w.WriteHeader(401)
		case !ok || f.noRole && strings.HasPrefix(name, "iam/"):
			w.WriteHeader(404)
		default:
			fmt.Fprint(w, answer)
		}
	default:
		f.service(w, r)
	}
}

func (f *fakeAWS) service(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	target := r.Header.Get("X-Amz-Target")
	f.mu.Lock()
	f.targets = append(f.targets, target+" "+string(body))
	attempt := len(f.targets)
	f.mu.Unlock()
	if !f.signedWell(r, body) {
		w.WriteHeader(403)
		fmt.Fprint(w, `{"__type":"com.amazon.coral.service#UnrecognizedClientException"}`)
		return
	}
	status, answer := f.answer(target, string(body), attempt)
	w.WriteHeader(status)
	fmt.Fprint(w, answer)
}

// signedWell signs the request again as the SDK does and compares.
func (f *fakeAWS) signedWell(r *http.Request, body []byte) bool {
	service := "secretsmanager"
	if strings.HasPrefix(r.Header.Get("X-Amz-Target"), "AmazonSSM.") {
		service = "ssm"
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	again, err := http.NewRequestWithContext(f.t.Context(), r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(nil))
	if err != nil {
		return false
	}
	again.ContentLength = 0
	for _, name := range []string{"Content-Type", "X-Amz-Target"} {
		again.Header.Set(name, r.Header.Get(name))
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(f.t.Context(), f.credentials, again, hex.EncodeToString(sum[:]), service, "eu-west-1", at); err != nil {
		return false
	}
	return r.Header.Get("Authorization") == again.Header.Get("Authorization")
}

// readSecret runs the reader with an output file in a fresh directory on tmpfs.
func readSecret(t *testing.T, imds, dir string, args ...string) (content, stderr string, ok bool) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed, and the reader of secrets needs it")
	}
	output := filepath.Join(dir, "secret")
	command := exec.CommandContext(t.Context(), python, append([]string{"-I", "lib/agents/read-secret", "--output", output, "--timeout", "3"}, args...)...)
	command.Env = append(os.Environ(), "AMI_FACTORY_IMDS_URL="+imds)
	var out, errors bytes.Buffer
	command.Stdout, command.Stderr = &out, &errors
	err = command.Run()
	assert.Empty(t, out.String(), "nothing is printed on standard output")
	read, _ := os.ReadFile(output)
	return string(read), errors.String(), err == nil
}

func onTmpfs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ami-factory-test")
	if err != nil {
		t.Skipf("/dev/shm cannot be used: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestSecretIsReadByTheRoleIntoAFileOfRootOnTmpfs(t *testing.T) {
	binary := []byte{0, 1, 2, 0xff}
	cases := map[string]struct {
		args   []string
		answer func(target, body string, attempt int) (int, string)
		want   string
		called string
	}{
		"a secret of Secrets Manager":    {args: []string{"--secret-id", "agents/x"}, want: secretText, called: `secretsmanager.GetSecretValue {"SecretId": "agents/x"}`},
		"a parameter of Systems Manager": {args: []string{"--parameter", "/agents/x"}, want: secretText, called: `AmazonSSM.GetParameter {"Name": "/agents/x", "WithDecryption": true}`},
		"a binary secret": {
			args: []string{"--secret-id", "b"}, want: string(binary), called: `secretsmanager.GetSecretValue {"SecretId": "b"}`,
			answer: func(string, string, int) (int, string) {
				return 200, `{"SecretBinary":"` + base64.StdEncoding.EncodeToString(binary) + `"}`
			},
		},
		"a member of a secret that is a JSON object": {
			args: []string{"--secret-id", "j", "--key", "licenseKey"}, want: "abc", called: `secretsmanager.GetSecretValue {"SecretId": "j"}`,
			answer: func(string, string, int) (int, string) {
				return 200, `{"SecretString":"{\"licenseKey\":\"abc\",\"other\":\"x\"}"}`
			},
		},
		"a service that is busy at first": {
			args: []string{"--secret-id", "t"}, want: secretText, called: `secretsmanager.GetSecretValue {"SecretId": "t"}`,
			answer: func(_, _ string, attempt int) (int, string) {
				if attempt == 1 {
					return 400, `{"__type":"ThrottlingException"}`
				}
				return 200, `{"SecretString":` + jsonString(secretText) + `}`
			},
		},
	}
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			f, dir := newFakeAWS(t), onTmpfs(t)
			if c.answer != nil {
				f.answer = c.answer
			}
			got, stderr, ok := readSecret(t, f.URL, dir, append(c.args, "--endpoint", f.URL)...)
			require.True(t, ok, stderr)
			assert.Equal(t, c.want, got)
			assert.Empty(t, stderr)
			info, err := os.Stat(filepath.Join(dir, "secret"))
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), info.Mode())
			assert.Equal(t, c.called, f.targets[len(f.targets)-1])
		})
	}
}

func TestSecretThatCannotBeReadIsNoFileAndSaysWhyWithoutTellingIt(t *testing.T) {
	refuse := func(code string) func(string, string, int) (int, string) {
		return func(string, string, int) (int, string) {
			return 400, `{"__type":"com.amazonaws.x#` + code + `","message":` + jsonString("for "+secretText) + `}`
		}
	}
	cases := map[string]struct {
		prepare func(t *testing.T, f *fakeAWS, dir *string)
		args    []string
		want    string
		calls   int
	}{
		"an instance without a role": {
			prepare: func(_ *testing.T, f *fakeAWS, _ *string) { f.noRole = true },
			want:    "the instance has no role: attach an instance profile; given up after 3 s",
		},
		"a role that may not": {
			prepare: func(_ *testing.T, f *fakeAWS, _ *string) { f.answer = refuse("AccessDeniedException") },
			want:    "read-secret: secret s: GetSecretValue ended with AccessDeniedException (HTTP 400)", calls: 1,
		},
		"a secret that is not there": {
			prepare: func(_ *testing.T, f *fakeAWS, _ *string) { f.answer = refuse("ResourceNotFoundException") },
			want:    "GetSecretValue ended with ResourceNotFoundException", calls: 1,
		},
		"an invalid code": {
			prepare: func(_ *testing.T, f *fakeAWS, _ *string) { f.answer = refuse(`\"` + "x y") },
			want:    "GetSecretValue ended with an error without a code", calls: 1,
		},
		"wrong credentials": {
			prepare: func(t *testing.T, f *fakeAWS, _ *string) {
				f.answer = func(string, string, int) (int, string) { return 403, `{"__type":"UnrecognizedClientException"}` }
			},
			want: "UnrecognizedClientException", calls: 1,
		},
		"an answer without the value": {
			prepare: func(_ *testing.T, f *fakeAWS, _ *string) {
				f.answer = func(string, string, int) (int, string) { return 200, `{"Name":` + jsonString(secretText) + `}` }
			},
			want: "GetSecretValue answered without a value", calls: 1,
		},
		"an answer that is no JSON": {
			prepare: func(_ *testing.T, f *fakeAWS, _ *string) {
				f.answer = func(string, string, int) (int, string) { return 200, secretText }
			},
			want: "GetSecretValue ended with an answer that is no JSON", calls: 1,
		},
		"a redirect, which is not followed": {
			prepare: func(_ *testing.T, f *fakeAWS, _ *string) {
				f.answer = func(string, string, int) (int, string) { return 307, "{}" }
			},
			want: "(HTTP 307)", calls: 1,
		},
		"an empty secret": {
			prepare: func(_ *testing.T, f *fakeAWS, _ *string) {
				f.answer = func(string, string, int) (int, string) { return 200, `{"SecretString":" \n"}` }
			},
			want: "the secret is empty", calls: 1,
		},
		"a member that is not there": {
			args: []string{"--key", "nope"}, want: "the secret is not a JSON object with the string 'nope'", calls: 1,
		},
		"plain http to somewhere": {
			args: []string{"--endpoint", "http://secretsmanager.example.com"}, want: "the endpoint http://secretsmanager.example.com is refused: a secret goes by https only",
		},
		"plain http to a public address that looks private": {
			args: []string{"--endpoint", "http://localcloud.internal.example.com"}, want: "is refused",
		},
		"an endpoint with a password": {
			args: []string{"--endpoint", "https://a:b@example.com"}, want: "the endpoint is not a URL such as",
		},
		"a certificate that nobody vouches for": {
			prepare: func(t *testing.T, f *fakeAWS, _ *string) {
				imds := f.Server
				other := httptest.NewTLSServer(f)
				t.Cleanup(other.Close)
				f.Server = &httptest.Server{URL: imds.URL, Config: other.Config}
				f.Server.Listener = other.Listener
			},
			args: []string{"--endpoint", "TLS"}, want: "the certificate of 127.0.0.1 is not trusted",
		},
		"a file that is there already": {
			prepare: func(t *testing.T, _ *fakeAWS, dir *string) {
				require.NoError(t, os.Symlink("/nonexistent", filepath.Join(*dir, "secret")))
			},
			want: "exists already; it is not overwritten", calls: 1,
		},
		"a directory on a disk": {
			prepare: func(t *testing.T, _ *fakeAWS, dir *string) { *dir = t.TempDir() },
			want:    "is not on tmpfs",
		},
		"a directory that others can write to": {
			prepare: func(t *testing.T, _ *fakeAWS, dir *string) { require.NoError(t, os.Chmod(*dir, 0o777)) }, //nolint:gosec // the point
			want:    "is not a directory that only this user can write to",
		},
	}
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			f, dir := newFakeAWS(t), onTmpfs(t)
			imds := f.URL
			if c.prepare != nil {
				c.prepare(t, f, &dir)
			}
			args := append([]string{"--secret-id", "s", "--endpoint", f.URL}, c.args...)
			if args[len(args)-1] == "TLS" {
				args[len(args)-1] = "https://" + f.Listener.Addr().String()
			}
			content, stderr, ok := readSecret(t, imds, dir, args...)
			require.False(t, ok)
			assert.Contains(t, stderr, c.want)
			assert.Empty(t, content)
			assert.Len(t, f.targets, c.calls)
			for _, secret := range []string{"Kanarienvogel", f.credentials.SecretAccessKey, f.credentials.SessionToken, "Traceback"} {
				assert.NotContains(t, stderr, secret)
			}
		})
	}
}

func TestMetadataServiceMayBeElsewhereOnThisMachineOnly(t *testing.T) {
	f := newFakeAWS(t)
	_, stderr, ok := readSecret(t, "http://192.0.2.1", onTmpfs(t), "--secret-id", "s", "--endpoint", f.URL)
	require.False(t, ok)
	assert.Contains(t, stderr, "AMI_FACTORY_IMDS_URL may only name a loopback address")
}

// The proxy sees the name of the host; the certificate that is checked is the
// service's own.
func TestSecretIsReadThroughTheProxyOfTheEnvironment(t *testing.T) {
	const host = "secretsmanager.eu-west-1.amazonaws.test"
	for sentence, tc := range map[string]struct {
		noProxy, scheme string
		tunnelled       bool
		says            string
	}{
		"a proxy":                          {"localhost,169.254.169.254", "http", true, ""},
		"a host that is reached without":   {"localhost,.amazonaws.test", "http", false, "cannot be reached: gaierror"},
		"a proxy that is spoken to by TLS": {"", "https", false, "https_proxy is not a URL such as http://host:port"},
		"a proxy that has stopped":         {"", "gone", false, host + " cannot be reached through the proxy"},
	} {
		t.Run(sentence, func(t *testing.T) {
			f, dir := newFakeAWS(t), onTmpfs(t)
			authority, both := certificateFor(t, host)
			pair, err := tls.X509KeyPair(both, both)
			require.NoError(t, err)
			service := httptest.NewUnstartedServer(f)
			service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			service.StartTLS()
			t.Cleanup(service.Close)
			trusted := filepath.Join(t.TempDir(), "ca.pem")
			require.NoError(t, os.WriteFile(trusted, authority, 0o600))
			var asked []string
			var mu sync.Mutex
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked = append(asked, r.Method+" "+r.Host)
				mu.Unlock()
				to, err := net.Dial("tcp", service.Listener.Addr().String())
				if !assert.NoError(t, err) {
					return
				}
				w.WriteHeader(200)
				from, _, err := w.(http.Hijacker).Hijack()
				if !assert.NoError(t, err) {
					return
				}
				go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
				_, _ = io.Copy(from, to)
				_ = from.Close()
			}))
			t.Cleanup(proxy.Close)
			url := proxy.URL
			switch tc.scheme {
			case "https":
				url = strings.Replace(url, "http:", "https:", 1)
			case "gone":
				proxy.Close()
			}
			t.Setenv("SSL_CERT_FILE", trusted)
			t.Setenv("https_proxy", url)
			t.Setenv("http_proxy", "http://192.0.2.1:1") // metadata is not behind it
			t.Setenv("no_proxy", tc.noProxy)
			got, stderr, ok := readSecret(t, f.URL, dir, "--secret-id", "s", "--endpoint", "https://"+host)
			if tc.says != "" {
				require.False(t, ok)
				assert.Contains(t, stderr, tc.says)
				assert.Empty(t, asked)
				return
			}
			require.True(t, ok, stderr)
			assert.Equal(t, secretText, got)
			assert.Equal(t, []string{"CONNECT " + host + ":443"}, asked)
		})
	}
}

// certificateFor is a certificate for a host, and the same with its key.
func certificateFor(t *testing.T, host string) (authority, both []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return authority, append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), authority...)
}
