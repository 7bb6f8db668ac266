package rehearsal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

func TestStandInsComeWithSecretsThatStay(t *testing.T) {
	dir := t.TempDir()
	goss := filepath.Join(dir, "goss")
	require.NoError(t, os.WriteFile(goss, []byte("stand-in"), 0o600))
	var keys []string
	for range 2 {
		s, err := guests.NewStandIns(dir)
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
		_, err = f.Cloud.SSM.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(guests.DemoConfiguration)})
		require.NoError(t, err)
		assert.Contains(t, f.Guests, "; vendors' agents are stand-ins")
		require.NoError(t, f.Close(t.Context()))
	}
	assert.Equal(t, keys[0], keys[1])
}
