package rehearsal

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

func TestOnlyWhatThereIsIsPointedToTheStandIns(t *testing.T) {
	s, err := NewStandIns("")
	require.NoError(t, err)
	parameters := func(names ...string) string {
		text := "parameters:\n"
		for _, n := range names {
			text += "  " + n + ": {type: string, default: x, description: d}\n"
		}
		return text
	}
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	const head = "description: d\nfamilies: [debian-12]\norder: 1\n"
	fsys := fstest.MapFS{
		"components/chef/component.yaml":             file("name: chef\n" + head + parameters("repository", "version", "distribution")),
		"components/cloudwatch-agent/component.yaml": file("name: cloudwatch-agent\n" + head + parameters("keyUrl", "configParameter")),
		"components/docker/component.yaml":           file("name: docker\n" + head + parameters("repository", "version")),
	}
	got, err := s.Parameters(fsys, component.Deployment{"chef": {"version": "mine"}, "docker": {"version": "2"}})
	require.NoError(t, err)
	assert.Equal(t, component.Deployment{
		"chef":             {"repository!": "http://vendors.localcloud.internal/apt/cinc", "version": "mine", "distribution!": "cinc"},
		"cloudwatch-agent": {"keyUrl!": "http://vendors.localcloud.internal/keys/amazon.asc", "configParameter!": "/ami-factory/agents/cloudwatch"},
		"docker":           {"version": "2"},
	}, got)
}

func TestStandInsComeWithSecretsThatStay(t *testing.T) {
	dir := t.TempDir()
	goss := filepath.Join(dir, "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	var keys []string
	for range 2 {
		s, err := NewStandIns(dir)
		require.NoError(t, err)
		f, err := Open(t.Context(), Options{
			Guests: vm.Simulated, StateDir: filepath.Join(dir, "state"), CacheDir: filepath.Join(dir, "cache"), GossFile: goss, StandIns: s,
			Clock: clock.NewVirtual(time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC)),
		})
		require.NoError(t, err)
		for _, name := range []string{"newrelic", "appdynamics", "chef"} {
			out, err := f.Cloud.Secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("ami-factory/agents/" + name)})
			require.NoError(t, err)
			if name == "chef" {
				keys = append(keys, *out.SecretString)
				assert.True(t, strings.HasPrefix(*out.SecretString, "-----BEGIN RSA PRIVATE KEY-----\n"))
			}
		}
		_, err = f.Cloud.SSM.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(demoConfiguration)})
		require.NoError(t, err)
		assert.Contains(t, f.Guests, "; vendors' agents are stand-ins")
		w := httptest.NewRecorder()
		f.hosts()[vendorsHost].ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/apt/newrelic/dists/bookworm/InRelease", nil))
		assert.Equal(t, 200, w.Code)
		require.NoError(t, f.Close(t.Context()))
	}
	assert.Equal(t, keys[0], keys[1])
}
