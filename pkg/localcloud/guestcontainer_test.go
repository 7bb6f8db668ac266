//go:build linux

package localcloud_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/ec2"
	"github.com/ami-factory/ami-factory/pkg/localcloud/standin"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn/nspawntest"
)

// readSecretScript is how a guest without a client of AWS's reads a secret by
// its role. $1 is the secret.
const readSecretScript = `set -euo pipefail
md=http://169.254.169.254/latest
token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $md/api/token)
md() { curl -sf -H "X-aws-ec2-metadata-token: $token" "$md/meta-data/$1"; }
role=$(md iam/security-credentials/)
credentials=$(md "iam/security-credentials/$role")
field() { printf '%s' "$credentials" | python3 -c "import json,sys; print(json.load(sys.stdin)['$1'])"; }
curl -s --aws-sigv4 "aws:amz:$(md placement/region):secretsmanager" --user "$(field AccessKeyId):$(field SecretAccessKey)" \
	-H "X-Amz-Security-Token: $(field Token)" -H 'X-Amz-Target: secretsmanager.GetSecretValue' -H 'Content-Type: application/x-amz-json-1.1' \
	-d "{\"SecretId\":\"$1\"}" http://localcloud.internal/
`

// installScript installs the pinned New Relic stand-in from its repository.
const installScript = `set -euo pipefail
mkdir -p /etc/apt/keyrings
curl -sf http://vendors.localcloud.internal/keys/newrelic.asc >/etc/apt/keyrings/newrelic.asc
echo 'deb [signed-by=/etc/apt/keyrings/newrelic.asc] http://vendors.localcloud.internal/apt/newrelic bookworm main' >/etc/apt/sources.list.d/newrelic.list
apt-get -q -o Dir::Etc::sourcelist=sources.list.d/newrelic.list -o Dir::Etc::sourceparts=- update
DEBIAN_FRONTEND=noninteractive apt-get -qy install "newrelic-infra=$1" 2>&1
`

func TestARealGuestReadsItsSecretAndMeetsAVendorsPackage(t *testing.T) {
	base := nspawntest.Base(t)
	vendors, err := standin.New(standin.Options{})
	require.NoError(t, err)
	var cloud *localcloud.Cloud
	driver := nspawntest.Driver(t, network.Options{
		Local: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { cloud.GuestHandler().ServeHTTP(w, r) }),
		Hosts: map[string]http.Handler{"vendors.localcloud.internal": vendors},
	})
	cloud = newCloud(t, func(cfg *localcloud.Config) { cfg.Driver = driver })
	instanceRole(t, cloud, "web", agentStatements()...)
	for _, name := range []string{"ami-factory/agents/newrelic", "team/db"} {
		_, err := cloud.Secrets.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String(name), SecretString: aws.String("value of " + name)})
		require.NoError(t, err)
	}
	images, err := cloud.EC2.RegisterBase(ec2.BaseImage{Name: "debian-12-amd64", OwnerID: "136693071363", ImageDir: base})
	require.NoError(t, err)
	made, err := cloud.EC2.RunInstances(t.Context(), &sdkec2.RunInstancesInput{
		ImageId: aws.String(images[region]), InstanceType: ec2types.InstanceTypeT3Medium, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: aws.String("web")},
	})
	require.NoError(t, err)
	id := *made.Instances[0].InstanceId
	var guest vm.Machine
	require.Eventually(t, func() bool {
		guest, _, _ = cloud.EC2.Machine(account, region, id)
		return guest != nil && guest.Ping(t.Context()) == nil
	}, 3*time.Minute, 200*time.Millisecond)
	in := func(script string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		r, err := guest.Exec(ctx, vm.Command{Argv: append([]string{"bash", "-s", "--"}, args...), Stdin: []byte(script)})
		require.NoError(t, err)
		require.Zero(t, r.ExitCode, "%s%s", r.Stdout, r.Stderr)
		return string(r.Stdout)
	}

	in("until curl -sf -o /dev/null http://vendors.localcloud.internal/keys/newrelic.asc; do sleep 1; done")
	assert.Contains(t, in(readSecretScript, "ami-factory/agents/newrelic"), `"SecretString":"value of ami-factory/agents/newrelic"`)
	denied := in(readSecretScript, "team/db")
	assert.Contains(t, denied, "AccessDeniedException")
	assert.Contains(t, denied, "assumed-role/web/"+id+" is not authorized to perform: secretsmanager:GetSecretValue")
	assert.Contains(t, in("curl -s -X POST -H 'X-Amz-Target: AmazonSSM.SendCommand' -d '{}' http://localcloud.internal/"), "nothing else of the embedded AWS")

	version := vendors.Vendors[0].Version
	in(installScript, version)
	assert.Equal(t, version, in("dpkg-query -W -f '${Version}' newrelic-infra"))
	assert.Equal(t, "enabled", strings.TrimSpace(in("systemctl is-enabled newrelic-infra.service")), "the package starts its service by itself")
	assert.Contains(t, in("until journalctl -u newrelic-infra.service | grep -m1 'no license key'; do sleep 1; done"), "no license key")
	assert.Equal(t, "absent\n", in("if [ -e /var/db/newrelic-infra/started.jsonl ]; then echo present; else echo absent; fi"))
	in("printf 'license_key: of-a-test\\n' >/etc/newrelic-infra.yml; systemctl restart newrelic-infra.service")
	started := in("until [ -s /var/db/newrelic-infra/started.jsonl ]; do sleep 1; done; cat /var/db/newrelic-infra/started.jsonl; systemctl is-active newrelic-infra.service")
	assert.Contains(t, started, `"version":"`+version+`"`)
	assert.Contains(t, started, "\nactive")
}
