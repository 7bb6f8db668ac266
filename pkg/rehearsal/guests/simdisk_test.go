package guests

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/userdata"
)

func TestTheSimulatedDiskHasWhatTheComponentsDemand(t *testing.T) {
	disk, err := (&Simulated{}).OpenDisk("")
	require.NoError(t, err)
	names, err := component.Names(userdata.FS)
	require.NoError(t, err)
	var controls []compliance.Control
	for _, name := range names {
		c, problems, err := component.Load(userdata.FS, name)
		require.NoError(t, err)
		require.Empty(t, problems)
		for _, spec := range c.Controls {
			controls = append(controls, compliance.Control{ID: spec.ID, Snapshot: spec.Snapshot})
		}
	}
	found, _, err := compliance.JudgeSnapshot("snap-1", disk, disk.Size(), controls)
	require.NoError(t, err)
	require.Empty(t, found.Unreadable)
	require.NotEmpty(t, found.Findings)
	for id, all := range found.Findings {
		for _, f := range all {
			assert.True(t, f.OK, "%s: %s: %s; see simdisk.sh", id, f.Statement, f.Found)
		}
	}
}

func TestTheSimulatedDiskIsWhatItsScriptMakes(t *testing.T) {
	version, err := exec.Command("sh", "-c", "PATH=$PATH:/usr/sbin:/sbin mke2fs -V 2>&1").Output()
	require.NoError(t, err)
	if !bytes.Contains(version, []byte("mke2fs 1.47.0")) {
		t.Skipf("another version of e2fsprogs makes other bytes: %s", version)
	}
	var out, problems bytes.Buffer
	cmd := exec.Command("./simdisk.sh")
	cmd.Stdout, cmd.Stderr = &out, &problems
	require.NoError(t, cmd.Run(), problems.String())
	assert.True(t, bytes.Equal(simulatedDisk, out.Bytes()), "run pkg/rehearsal/guests/simdisk.sh >pkg/rehearsal/guests/simdisk.ext4.gz")
}
