//go:build linux

package userdata_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// buildersNames are names of a builder that packages make when they are
// installed, as Debian's nvme-cli and open-iscsi do, and what sudo remembers.
const buildersNames = `set -e
mkdir -p /etc/nvme /etc/iscsi /var/lib/sudo/lectured /usr/lib/open-iscsi
echo nqn.2014-08.org.nvmexpress:uuid:0b0b0b0b-builder >/etc/nvme/hostnqn
echo 0b0b0b0b-builder >/etc/nvme/hostid
printf '## DO NOT EDIT OR REMOVE THIS FILE!\nInitiatorName=iqn.1993-08.org.debian:01:builder\n' >/etc/iscsi/initiatorname.iscsi
echo lecture >/var/lib/sudo/lectured/debian
touch /usr/lib/open-iscsi/startup-checks.sh`

func TestTheBuildersNamesDoNotOutliveTheSeal(t *testing.T) {
	g := bootGuest(t)
	g.install(t, "  - {name: hygiene}\n")
	g.output(t, buildersNames)
	g.output(t, "bash /var/lib/ami-factory/bundle/seal/arm.sh")
	forced, err := g.machine.Shutdown(t.Context(), 3*time.Minute)
	require.NoError(t, err)
	require.False(t, forced)
	g.start(t)

	assert.Contains(t, g.output(t, "cat /etc/ami-factory/sealed.json"), `"sealedAt"`)
	assert.Equal(t, "GenerateName=yes", g.output(t, "cat /etc/iscsi/initiatorname.iscsi"), "Debian's iscsid makes a name at its start")
	assert.Empty(t, g.output(t, "ls /etc/nvme; find /var/lib/sudo -type f"))
	g.checker(t, "hygiene")
	assert.NotContains(t, g.failures(t), "HYG-14")

	old := []string{"/etc/nvme/hostid", "/etc/nvme/hostnqn", "/etc/iscsi/initiatorname.iscsi", "/var/lib/sudo/lectured/x"}
	for _, file := range old {
		g.output(t, "echo InitiatorName=x >"+file+" && touch -d 2020-01-01 "+file)
	}
	found := g.failures(t)["HYG-14"]
	for _, file := range old {
		assert.Contains(t, found, file, "it is missed")
	}
}
