package container_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
	corev1 "k8s.io/api/core/v1"

	"github.com/ami-factory/ami-factory/pkg/container"
	"github.com/ami-factory/ami-factory/test/golden"
)

const good = `contract:
  entrypoint: [/usr/bin/tini, --, /app/server]
  arguments: [--verbose]
  user: 950
  ports:
    - {env: PORT, default: 8080}
    - {name: admin, env: ADMIN_PORT, default: 9090}
  health: {path: /healthz, command: [/app/server, --healthy]}
  stop: {graceSeconds: 20}
  writable: [/tmp, /var/lib/service]
`

// change replaces a part of the good contract.
func change(t *testing.T, old, new string) string {
	t.Helper()
	require.Contains(t, good, old)
	return strings.Replace(good, old, new, 1)
}

type contractCase struct {
	old, new    string
	says        string // "": it is right
	onlyDecoder bool
}

func contracts() map[string]contractCase {
	return map[string]contractCase{
		"everything that it may say":             {"", "", "", false},
		"no ports and a command":                 {"  ports:\n    - {env: PORT, default: 8080}\n    - {name: admin, env: ADMIN_PORT, default: 9090}\n", "", "", false},
		"another group":                          {"user: 950", "user: 950\n  group: 951", "", false},
		"a privileged port with the right to it": {"{env: PORT, default: 8080}", "{env: PORT, default: 80}\n  capabilities: [NET_BIND_SERVICE]\n  xx:", `:8:3: error: unknown key "xx" in contract`, false},
		"a command line":                         {"[/usr/bin/tini, --, /app/server]", `["/app/server --fast"]`, `:2:16: error: the entrypoint "/app/server --fast" is a command line`, true},
		"a program by its name":                  {"/usr/bin/tini", "tini", `:2:16: error: the entrypoint's program "tini" is not an absolute path`, true},
		"a shell":                                {"[/usr/bin/tini, --, /app/server]", `[/bin/sh, -c, exec /app/server]`, `:2:16: error: the entrypoint runs its service in the shell /bin/sh`, true},
		"a shell behind an init":                 {"/app/server]", `/bin/bash, -ec, /app/server]`, `:2:16: error: the entrypoint runs its service in the shell /bin/bash`, true},
		"a shell whose command is an argument":   {"[/usr/bin/tini, --, /app/server]\n  arguments: [--verbose]", "[/bin/sh]\n  arguments: [-c, exec /app/server]", `:2:16: error: the entrypoint runs its service in the shell /bin/sh`, true},
		"a script of a shell":                    {"/app/server]", `/bin/sh, /app/start.sh]`, "", false},
		"no entrypoint":                          {"  entrypoint: [/usr/bin/tini, --, /app/server]\n", "", ":1:1: error: contract.entrypoint is required but missing", false},
		"an entrypoint that is text":             {"[/usr/bin/tini, --, /app/server]", "/app/server", ":2:15: error: contract.entrypoint must be a list", false},
		"root":                                   {"user: 950", "user: 0", ":4:9: error: contract.user is out of range: 0 (allowed: 1 to 65535)", false},
		"a user's name":                          {"user: 950", "user: svc", ":4:9: error:", false},
		"no user":                                {"  user: 950\n", "", ":1:1: error: contract.user is required but missing", false},
		"a port without a variable":              {"{env: PORT, default: 8080}", "{default: 8080}", "ports[0].env is required but missing", false},
		"a variable in small letters":            {"env: PORT", "env: port", ":6:13: error:", false},
		"a port twice":                           {"default: 9090", "default: 8080", ":7:47: error: two ports have the number 8080/tcp", true},
		"a variable twice":                       {"env: ADMIN_PORT", "env: PORT", ":7:26: error: two ports have the variable PORT", true},
		"a name twice":                           {"name: admin", "name: port", ":7:14: error: two ports have the name port", true},
		"a variable that cannot be a name":       {"env: PORT,", "env: A_VERY_LONG_NAME,", "is too long to be one in Kubernetes", true},
		"a privileged port":                      {"default: 8080", "default: 80", ":6:28: error: port 80 is privileged", true},
		"no health":                              {"  health: {path: /healthz, command: [/app/server, --healthy]}\n", "", "the service has ports and no health", true},
		"health on a port that is not there":     {"{path: /healthz", "{port: ADMINPORT, path: /healthz", `no TCP port of the contract has the variable "ADMINPORT"; did you mean "ADMIN_PORT"?`, true},
		"a path with a query":                    {"path: /healthz", "path: /healthz?x=1", ":8:18: error:", false},
		"a slow answer":                          {"path: /healthz", "timeoutSeconds: 10", "an answer may take 10 seconds, as long as the time between two questions", true},
		"an interval that ECS refuses":           {"path: /healthz", "intervalSeconds: 1", "contract.health.intervalSeconds is out of range: 1 (allowed: 5 to 300)", false},
		"a signal that cannot be caught":         {"graceSeconds: 20", "signal: SIGKILL", ":9:18: error:", false},
		"a grace that ECS refuses":               {"graceSeconds: 20", "graceSeconds: 600", ":9:24: error:", false},
		"a relative folder":                      {"[/tmp,", "[tmp,", ":10:14: error:", false},
		"a folder of the system":                 {"/var/lib/service", "/usr/share/app", ":10:20: error: /usr/share/app is the system's", true},
		"folders within one another":             {"[/tmp,", "[/var/lib,", ":10:24: error: /var/lib/service and /var/lib overlap", true},
		"folders whose volumes have one name":    {"[/tmp,", "[/var/lib-service,", "would both have the name var-lib-service", true},
		"a path upwards":                         {"/var/lib/service", "/var/lib/../../etc", "is not a plain path", true},
		"a capability that is never given":       {"  user: 950", "  capabilities: [SYS_ADMIN]\n  user: 950", ":4:18: error:", false},
		"a misspelt key":                         {"  writable:", "  writeable:", `:10:3: error: unknown key "writeable" in contract; did you mean "writable"?`, false},
		"an empty file":                          {good, "\n", "the file is empty", true},
	}
}

func TestAContractIsReadStrictly(t *testing.T) {
	for sentence, tc := range contracts() {
		t.Run(sentence, func(t *testing.T) {
			_, problems := container.Parse("contract.yaml", []byte(change(t, tc.old, tc.new)))
			if tc.says == "" {
				assert.Empty(t, problems)
				return
			}
			require.True(t, problems.HasErrors())
			assert.Contains(t, problems.Err().Error(), tc.says)
			for _, p := range problems {
				assert.Equal(t, "contract.yaml", p.File)
				assert.Positive(t, p.Line)
				assert.Positive(t, p.Column)
			}
		})
	}
}

func parse(t *testing.T, text string) container.Contract {
	t.Helper()
	c, problems := container.Parse("contract.yaml", []byte(text))
	require.Empty(t, problems)
	return c
}

const (
	minimal = "contract: {entrypoint: [/app], user: 65532}\n"
	binding = `contract:
  entrypoint: [/app]
  user: 101
  group: 102
  capabilities: [NET_BIND_SERVICE]
  readOnlyRoot: false
  ports: [{env: DNS_PORT, default: 53, protocol: udp}, {env: PORT, default: 80}]
  health: {port: PORT}
  stop: {signal: SIGQUIT}
`
)

func TestAContractGoesIntoLabelsAndComesBack(t *testing.T) {
	for sentence, text := range map[string]string{"of everything": good, "of little": minimal, "with a capability": binding} {
		t.Run(sentence, func(t *testing.T) {
			want := parse(t, text)
			labels, err := want.Labels()
			require.NoError(t, err)
			got, err := container.FromLabels(labels)
			require.NoError(t, err)
			assert.Equal(t, want, got)
			again, err := got.Labels()
			require.NoError(t, err)
			assert.Equal(t, labels, again)
		})
	}
}

func TestLabelsThatAreNoContract(t *testing.T) {
	for sentence, tc := range map[string]struct{ text, says string }{
		"no JSON":           {"entrypoint: [/app]", "is not JSON"},
		"an unknown key":    {`{"entrypoint":["/app"],"user":950,"root":true}`, `unknown key "root"`},
		"root":              {`{"entrypoint":["/app"],"user":0}`, "user is out of range: 0"},
		"a shell":           {`{"entrypoint":["/bin/sh","-c","x"],"user":950}`, "in the shell"},
		"a list":            {`[]`, "must be a mapping"},
		"very much":         {`"` + strings.Repeat("x", 70000) + `"`, "65536 are allowed"},
		"a key given twice": {`{"entrypoint":["/app"],"user":950,"user":951}`, "duplicate key"},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, err := container.FromLabels(map[string]string{container.LabelContract: tc.text})
			require.ErrorContains(t, err, tc.says)
		})
	}
	_, err := container.FromLabels(nil)
	require.ErrorIs(t, err, container.ErrNoContract)
}

const image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/approved/demo@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestAContractIsRendered(t *testing.T) {
	for name, text := range map[string]string{"everything": good, "minimal": minimal, "binding": binding} {
		c := parse(t, text)
		for _, format := range container.Formats() {
			t.Run(name+" "+format, func(t *testing.T) {
				out, err := c.Render(format, "demo", image)
				if name == "binding" && format == container.FormatEnv {
					require.EqualError(t, err, "the unit service@ cannot keep this contract: readOnlyRoot: false (service@ mounts the root read-only); capabilities: NET_BIND_SERVICE (service@ drops all)")
					return
				}
				require.NoError(t, err)
				golden.Testdata(t, name+"."+format, out.Text+strings.Join(append([]string{""}, out.Notes...), "\nnote: "))
				switch format {
				case container.FormatECS:
					ecsTypesTake(t, out.Text)
				case container.FormatKubernetes:
					kubernetesTypesTake(t, out.Text)
				}
			})
		}
	}
	_, err := parse(t, good).Render("compose", "demo", image)
	require.ErrorContains(t, err, "allowed: env, ecs, kubernetes, labels")
}

// ecsTypesTake decodes strictly into the types of the AWS SDK, whose members have the
// names of the API.
func ecsTypesTake(t *testing.T, text string) {
	t.Helper()
	var task struct {
		ContainerDefinitions []types.ContainerDefinition
		Volumes              []types.Volume
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&task))
	require.Len(t, task.ContainerDefinitions, 1)
	k := task.ContainerDefinitions[0]
	assert.Equal(t, []string{"ALL"}, k.LinuxParameters.Capabilities.Drop)
	assert.Len(t, k.MountPoints, len(task.Volumes))
	if k.HealthCheck != nil {
		assert.Equal(t, "CMD", k.HealthCheck.Command[0])
	}
}

// kubernetesTypesTake decodes strictly into the types of Kubernetes.
func kubernetesTypesTake(t *testing.T, text string) {
	t.Helper()
	var v any
	require.NoError(t, yaml.Load([]byte(text), &v))
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	var pod corev1.PodTemplateSpec
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&pod))
	require.Len(t, pod.Spec.Containers, 1)
	k := pod.Spec.Containers[0]
	assert.Equal(t, []corev1.Capability{"ALL"}, k.SecurityContext.Capabilities.Drop)
	assert.False(t, *k.SecurityContext.AllowPrivilegeEscalation)
	assert.True(t, *pod.Spec.SecurityContext.RunAsNonRoot)
	for _, m := range k.VolumeMounts {
		assert.NotNil(t, pod.Spec.Volumes[0].EmptyDir, m.Name)
	}
}
