package provision_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/userdata/provision"
)

// What runs services in the image judges what is written for it here.
func TestTheImageTakesTheSettingsOfContainers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("service-run takes settings of root only: this needs root")
	}
	dir := t.TempDir()
	rules := filepath.Join(dir, "filesystem.env")
	require.NoError(t, os.WriteFile(rules, []byte("REGISTRIES=111122223333.dkr.ecr.eu-west-1.amazonaws.com\nSERVICES=/opt/services\n"), 0o600))
	const image = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/web@sha256:0f9188f13cb7b2c71f2a335e3a4fc328bf5cfb4bf4be6f7e8f6f3f1d4fd2b5a1"
	for sentence, container := range map[string]string{
		"as short as can be":  "",
		"one port":            ", ports: ['8080:80']",
		"several ports":       ", ports: ['8080:80', '127.0.0.1:9000:9000', '53:53/udp']",
		"everything there is": ", ports: ['8080:80', '8081:81'], health: {port: 80, path: /healthz, waitSeconds: 600}, stopGraceSeconds: 45, memory: 2g, cpus: '0.5', env: {A: b c}",
	} {
		t.Run(sentence, func(t *testing.T) {
			s := parse(t, head+"containers: [{name: web, image: '"+image+"'"+container+"}]\n")
			out, err := provision.Render(s, s.Target)
			require.NoError(t, err)
			var config provision.CloudConfig
			require.NoError(t, yaml.Load([]byte(out.CloudConfig), &config))
			file := filepath.Join(t.TempDir(), "service.env")
			for _, f := range config.WriteFiles {
				if f.Path == provision.State+"/containers/web/service.env" {
					require.NoError(t, os.WriteFile(file, []byte(f.Content), 0o640))
				}
			}
			check := exec.CommandContext(t.Context(), "bash", "../../../userdata/components/filesystem/files/service-run.sh", "check", file)
			check.Env = append(os.Environ(), "AMI_FACTORY_FILESYSTEM="+rules)
			said, err := check.CombinedOutput()
			assert.NoError(t, err, "%s", said)
		})
	}
}
