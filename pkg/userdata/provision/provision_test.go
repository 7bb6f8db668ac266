package provision_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"mvdan.cc/sh/v3/syntax"

	"github.com/ami-factory/ami-factory/pkg/userdata/multipart"
	"github.com/ami-factory/ami-factory/pkg/userdata/provision"
	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
	"github.com/ami-factory/ami-factory/test/golden"
	"github.com/ami-factory/ami-factory/userdata"
)

const examples = "../../../userdata/examples"

func parse(t *testing.T, text string) *spec.Spec {
	t.Helper()
	return parseFor(t, text, nil)
}

func parseFor(t *testing.T, text string, of *spec.Image) *spec.Spec {
	t.Helper()
	s, problems, err := spec.Parse("web.yaml", []byte(text), userdata.FS, of)
	require.NoError(t, err)
	require.False(t, problems.HasErrors(), "%v", problems)
	return s
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(data)
}

func render(t *testing.T, text string) provision.UserData {
	t.Helper()
	s := parse(t, text)
	out, err := provision.Render(s, s.Target)
	require.NoError(t, err)
	return out
}

const dnf = `kind: UserData
name: al2023-service
target: cloud-init
family: al2023
kernel: {bootArguments: [transparent_hugepage=madvise, nmi_watchdog=0]}
mounts: {efs: [{fileSystemId: fs-0123456789abcdef0, mountPoint: /mnt/shared}]}
repositories:
  - name: example
    uri: https://packages.example.com/al2023
    fingerprint: 699A8B45A9768295A7A8832EE8DE369060CB80FD
    key: |
      -----BEGIN PGP PUBLIC KEY BLOCK-----

      mDMEawXXwBYJKwYBBAHaRw8BAQdAGN2Pqy4mCh1BWoajjFVi70GXW0S3fDs0XCyv
      TVi2V+e0J0V4YW1wbGUgcGFja2FnZXMgPHBhY2thZ2VzQGV4YW1wbGUuY29tPoiQ
      BBMWCAA4FiEEaZqLRal2gpWnqIMu6N42kGDLgP0FAmsF18ACGwMFCwkIBwIGFQoJ
      CAsCBBYCAwECHgECF4AACgkQ6N42kGDLgP0O3AD+M78XutHBWe4VAuwQ0mXL+sB/
      7MGRxoMHga4HcZWFuS4A/0Q5DVg94IsCCIxdRhpa7iN5OU7p6nD4wUzheOdWOEMO
      =9LNL
      -----END PGP PUBLIC KEY BLOCK-----
packages: [{name: jq}, {name: example-collector, version: 1.4.2-1}]
proxy: {https: http://proxy.example.com:3128}
commands: [{name: awkward, argv: [printf, "%s\n", "it's $HOME; *"]}]
`

// cases are what is kept as goldens and looked at by every check.
func cases(t *testing.T) map[string]provision.UserData {
	t.Helper()
	return map[string]provision.UserData{
		"web-service": render(t, read(t, examples+"/web-service.yaml")),
		"al2023":      render(t, dnf),
		"least":       render(t, "kind: UserData\nname: least\ntarget: cloud-init\nfamily: ubuntu-24.04\n"),
	}
}

func TestRendered(t *testing.T) {
	for name, out := range cases(t) {
		golden.Testdata(t, name+".cloud-config.yaml", out.CloudConfig)
		golden.Testdata(t, name+".script", out.Script)
		assert.Equal(t, out.Data, cases(t)[name].Data, "the same spec gives the same bytes")
		assert.NotContains(t, out.Script, "@@")
	}
	for _, name := range []string{"bottlerocket-eks", "bottlerocket-ecs"} {
		out := render(t, read(t, examples+"/"+name+".yaml"))
		golden.Testdata(t, name+".toml", string(out.Data))
		var settings map[string]any
		require.NoError(t, toml.Unmarshal(out.Data, &settings))
		assert.Empty(t, out.Steps)
	}
}

func TestUserDataIsAnArchiveOfTheParts(t *testing.T) {
	for name, out := range cases(t) {
		data := out.Data
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			zip, err := gzip.NewReader(bytes.NewReader(data))
			require.NoError(t, err)
			data, err = io.ReadAll(zip)
			require.NoError(t, err)
		}
		want, err := multipart.Archive([]multipart.Part{
			{ContentType: "text/cloud-config", Name: "userdata.yaml", Body: out.CloudConfig},
			{ContentType: "text/x-shellscript", Name: "userdata.sh", Body: out.Script},
		})
		require.NoError(t, err)
		assert.Equal(t, want, string(data), name)
		decoded, err := base64.StdEncoding.DecodeString(out.Base64())
		require.NoError(t, err)
		assert.Equal(t, out.Data, decoded, name)
	}
	assert.True(t, strings.HasPrefix(string(cases(t)["least"].Data), "Content-Type:"), "what fits stays readable")
	assert.Equal(t, []byte{0x1f, 0x8b}, cases(t)["web-service"].Data[:2], "what does not is compressed")
}

const eksNode = `kind: UserData
name: node
target: cloud-init
family: al2023
eks:
  clusterName: web
  apiServer: https://0123456789ABCDEF.gr7.eu-west-1.eks.amazonaws.com
  clusterCertificate: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==
  serviceCIDR: 10.100.0.0/16
`

func TestANodeOfEKSIsToldItsClusterInAPartForNodeadm(t *testing.T) {
	out := render(t, eksNode+"  maxPods: 58\n  nodeLabels: {team: web, tier: front}\n  nodeTaints: {dedicated: [\"web:NoSchedule\", \"web:NoExecute\"]}\n")
	assert.Equal(t, `---
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: web
    apiServerEndpoint: https://0123456789ABCDEF.gr7.eu-west-1.eks.amazonaws.com
    certificateAuthority: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==
    cidr: 10.100.0.0/16
  kubelet:
    config:
      maxPods: 58
    flags:
    - --node-labels=team=web,tier=front
    - --register-with-taints=dedicated=web:NoSchedule,dedicated=web:NoExecute
`, out.NodeConfig)
	assert.Contains(t, string(out.Data), "Content-Type: application/node.eks.aws; charset=")
	assert.Contains(t, string(out.Data), out.NodeConfig)
	assert.NotContains(t, render(t, eksNode).NodeConfig, "kubelet", "nothing is said of what is not given")
	assert.NotContains(t, string(cases(t)["least"].Data), "node.eks.aws")

	long := eksNode + "files:\n"
	for _, name := range []string{"a", "b"} {
		long += "  - path: /etc/" + name + "\n    content: |\n" + strings.Repeat("      the same line again and again\n", 400)
	}
	_, err := provision.Render(parse(t, long), spec.CloudInit)
	assert.ErrorContains(t, err, "nodeadm reads it as it is, so it is not compressed")
}

func TestScriptsPassShellcheck(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed (Debian package shellcheck)")
	}
	for name, out := range cases(t) {
		cmd := exec.CommandContext(t.Context(), shellcheck, "--color=never", "-")
		cmd.Stdin = strings.NewReader(out.Script)
		said, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s: %s", name, said)
	}
}

func TestScriptsAreFormattedAsShfmtDoes(t *testing.T) {
	for name, out := range cases(t) {
		parsed, err := syntax.NewParser(syntax.Variant(syntax.LangBash), syntax.KeepComments(true)).Parse(strings.NewReader(out.Script), name)
		require.NoError(t, err, name)
		var formatted bytes.Buffer
		require.NoError(t, syntax.NewPrinter().Print(&formatted, parsed))
		assert.Equal(t, formatted.String(), out.Script, name)
	}
}

func TestCloudConfigsHaveOnlyKeysThatAreKnown(t *testing.T) {
	for name, out := range cases(t) {
		assert.NoError(t, provision.CheckCloudConfig(out.CloudConfig), name)
	}
	for sentence, text := range map[string]string{
		"no first line":              "ssh_pwauth: false\n",
		"an unknown key":             "#cloud-config\nchpasswd: {}\n",
		"sign-in by password":        "#cloud-config\nssh_pwauth: true\n",
		"a user's password":          "#cloud-config\nusers: [{name: a, lock_passwd: true, passwd: x}]\n",
		"a user who is not locked":   "#cloud-config\nusers: [{name: a, lock_passwd: false}]\n",
		"a list where text belongs":  "#cloud-config\ntimezone: [UTC]\n",
		"a file with an unknown key": "#cloud-config\nwrite_files: [{path: /x, mode: '0644'}]\n",
	} {
		assert.Error(t, provision.CheckCloudConfig(text), sentence)
	}
}

func TestCloudInitsSchemaTakesTheCloudConfigs(t *testing.T) {
	program, err := exec.LookPath("cloud-init")
	if err != nil {
		t.Skip("cloud-init is not in PATH: make setup unpacks it into build/programs")
	}
	check := func(text string) ([]byte, error) {
		file := filepath.Join(t.TempDir(), "cloud-config.yaml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return exec.CommandContext(t.Context(), program, "schema", "--config-file", file).CombinedOutput()
	}
	for name, out := range cases(t) {
		said, err := check(out.CloudConfig)
		assert.NoError(t, err, "%s: %s", name, said)
	}
	_, err = check("#cloud-config\nusers: [{name: 1}]\n")
	assert.Error(t, err, "the schema is looked at at all")
}

func TestStepsAreDescribedInOrder(t *testing.T) {
	out := cases(t)["web-service"]
	var names []string
	may := []string{}
	for _, s := range out.Steps {
		names = append(names, s.Name)
		if !s.Must {
			may = append(may, s.Name)
		}
		assert.Contains(t, out.Script, "plan "+s.Kind+" ")
	}
	assert.Equal(t, []string{
		"user alice", "user collector", "user deploy",
		"take the proxy into use", "load kernel modules", "apply sysctl settings", "set boot arguments", "repository example", "install packages",
		"mount /data", "mount /data/scratch", "mount /srv/reports", "mount /srv/archive", "mount /mnt/shared", "mount /mnt/exports",
		"file /etc/example/collector.conf", "read the units that were written",
		"enable example-report.timer", "disable example-legacy.service", "start example-report.timer", "command make-spool", "command warm-up", "container web",
	}, names)
	assert.Len(t, may, 6, "mounts, and nothing else, may fail: %v", may)
}

func TestAFolderIsMountedBeforeWhatIsInIt(t *testing.T) {
	out := render(t, "kind: UserData\nname: web\ntarget: cloud-init\nfamily: debian-12\nmounts: {volumes: [{label: a, mountPoint: /data/x/y}, {label: b, mountPoint: /data}, {label: c, mountPoint: /data/x}]}\n")
	var names []string
	for _, s := range out.Steps {
		names = append(names, s.Name)
	}
	assert.Equal(t, []string{"mount /data", "mount /data/x", "mount /data/x/y"}, names)
}

func TestEveryMountHasItsLimits(t *testing.T) {
	script := cases(t)["web-service"].Script
	for _, text := range []string{
		"fs-0123456789abcdef0:/ /mnt/shared efs _netdev,nofail,nodev,nosuid,noresvport,tls,iam,accesspoint=fsap-0123456789abcdef0,x-systemd.mount-timeout=30s 0 0",
		"fs-0fedcba9876543210.efs.eu-west-1.amazonaws.com:/exports /mnt/exports nfs4 _netdev,nofail,nodev,nosuid,nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,ro,x-systemd.mount-timeout=20s,x-systemd.automount,x-systemd.idle-timeout=600s 0 0",
		"nodev,nosuid,nofail,x-systemd.device-timeout=30s,x-systemd.mount-timeout=30s,noatime",
		"by_volume vol-0123456789abcdef0", "by_store 1", "by_label reports", "by_device /dev/sdg",
	} {
		assert.Contains(t, script, text)
	}
}

func TestAFormatThatTheSpecDoesNotFitIsAProblem(t *testing.T) {
	_, err := provision.Render(parse(t, read(t, examples+"/web-service.yaml")), spec.BottlerocketFmt)
	assert.ErrorContains(t, err, "Bottlerocket has no users")
	_, err = provision.Render(parse(t, read(t, examples+"/bottlerocket-ecs.yaml")), spec.CloudInit)
	assert.ErrorContains(t, err, "does not read bottlerocket")
	_, err = provision.Render(parse(t, dnf), "ignition")
	assert.ErrorContains(t, err, "allowed: cloud-init, bottlerocket")
}

func TestSizeIsLimited(t *testing.T) {
	var big strings.Builder
	sum := sha256.Sum256(nil)
	for big.Len() < 15000 {
		sum = sha256.Sum256(sum[:])
		big.WriteString(base64.StdEncoding.EncodeToString(sum[:]))
	}
	text := "kind: UserData\nname: web\ntarget: cloud-init\nfamily: debian-12\nfiles:\n"
	const entry = "  - {path: /srv/NAME, content: "
	small := text + strings.Replace(entry, "NAME", "a", 1) + strings.Repeat("x ", 8000) + "}\n"
	out := render(t, small)
	assert.LessOrEqual(t, len(out.Data), multipart.MaxSize)

	large := parse(t, text+strings.Replace(entry, "NAME", "a", 1)+big.String()+"}\n"+strings.Replace(entry, "NAME", "b", 1)+big.String()[7:]+"}\n")
	// The same text twice packs well, so the second is the first backwards.
	large.Files[1].Content = backwards(big.String())
	_, err := provision.Render(large, spec.CloudInit)
	var size *provision.SizeError
	require.ErrorAs(t, err, &size)
	assert.Greater(t, size.Size, multipart.MaxSize)
	assert.Contains(t, err.Error(), "but EC2 takes at most 16384")

	node := parse(t, read(t, examples+"/bottlerocket-ecs.yaml"))
	node.Bottlerocket.MOTD = strings.Repeat("x", 17000)
	_, err = provision.Render(node, spec.BottlerocketFmt)
	require.ErrorAs(t, err, &size)
}

func backwards(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

func TestAFileSystemsServerIsOfItsPartition(t *testing.T) {
	for region, server := range map[string]string{
		"eu-west-1":      "fs-0fedcba9876543210.efs.eu-west-1.amazonaws.com:/",
		"cn-north-1":     "fs-0fedcba9876543210.efs.cn-north-1.amazonaws.com.cn:/",
		"us-gov-west-1":  "fs-0fedcba9876543210.efs.us-gov-west-1.amazonaws.com:/",
		"eusc-de-east-1": "fs-0fedcba9876543210.efs.eusc-de-east-1.amazonaws.eu:/",
	} {
		out := render(t, "kind: UserData\nname: web\ntarget: cloud-init\nfamily: debian-12\nmounts: {efs: [{fileSystemId: fs-0fedcba9876543210, mountPoint: /mnt/x, transport: nfs4, region: "+region+"}]}\n")
		assert.Contains(t, out.Script, "'"+server+" ", region)
	}
}
