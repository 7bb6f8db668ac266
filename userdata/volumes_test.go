package userdata_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// instance-store.sh is run for real, with stand-ins for what needs a disk.
func TestInstanceStoreFormatsEmptyDisksOnly(t *testing.T) {
	const disk = "nvme-Amazon_EC2_NVMe_Instance_Storage_AWS"
	cases := map[string]struct {
		disks   map[string]string // what blkid says of each; empty: nothing is found; -> is another name
		wipefs  string
		mounted string
		want    []string // calls, with the directories cut away
	}{
		"no disk":        {map[string]string{}, "", "", nil},
		"an empty disk":  {map[string]string{disk + "1": ""}, "", "", []string{"mkfs.ext4 -q -E nodiscard -L instance-store1 " + disk + "1", "mount -t ext4 -o nodev,nosuid,noatime " + disk + "1 scratch"}},
		"a used disk":    {map[string]string{disk + "1": "xfs"}, "", "", []string{"mount -t xfs -o nodev,nosuid,noatime " + disk + "1 scratch"}},
		"an odd disk":    {map[string]string{disk + "1": ""}, "a partition table", "", nil},
		"a mounted disk": {map[string]string{disk + "1": "ext4"}, "", "scratch", nil},
		"names of namespaces and partitions": {
			map[string]string{disk + "1": "ext4", disk + "1_1": "-> " + disk + "1", disk + "1-ns-1": "-> " + disk + "1", disk + "1-part1": "ext4", "nvme-Amazon_Elastic_Block_Store_vol1": ""}, "", "",
			[]string{"mount -t ext4 -o nodev,nosuid,noatime " + disk + "1 scratch"},
		},
		"two disks": {
			map[string]string{disk + "1": "ext4", disk + "2": "ext4"}, "", "",
			[]string{"mount -t ext4 -o nodev,nosuid,noatime " + disk + "1 scratch", "mount -t ext4 -o nodev,nosuid,noatime " + disk + "2 scratch-2"},
		},
	}
	script, err := filepath.Abs("components/boot/files/instance-store.sh")
	require.NoError(t, err)
	for sentence, c := range cases {
		t.Run(sentence, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, content string) {
				file := filepath.Join(dir, name)
				require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
				require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
				require.NoError(t, os.Chmod(file, 0o700)) // #nosec G302 -- programs
			}
			write("disks/.keep", "")
			for name, content := range c.disks {
				if of, ok := strings.CutPrefix(content, "-> "); ok {
					require.NoError(t, os.Symlink(of, filepath.Join(dir, "disks", name)))
					continue
				}
				write("disks/"+name, content)
			}
			note := "#!/bin/bash\necho \"$(basename $0) $*\" >>" + dir + "/calls\n"
			write("bin/mkfs.ext4", note)
			write("bin/mount", note)
			write("bin/blkid", "#!/bin/bash\n[[ -s ${!#} ]] || exit 2\ncat \"${!#}\"\n")
			write("bin/wipefs", "#!/bin/bash\necho -n '"+c.wipefs+"'\n")
			write("bin/mountpoint", "#!/bin/bash\n[[ $(basename \"${!#}\") == '"+c.mounted+"' ]]\n")
			command := exec.CommandContext(t.Context(), "bash", script, filepath.Join(dir, "scratch"))
			command.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "AMI_FACTORY_DISKS="+dir+"/disks")
			output, err := command.CombinedOutput()
			require.NoError(t, err, "%s", output)
			calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
			text := strings.NewReplacer(dir+"/disks/", "", dir+"/", "").Replace(strings.TrimSpace(string(calls)))
			var got []string
			if text != "" {
				got = strings.Split(text, "\n")
			}
			assert.Equal(t, c.want, got, "%s", output)
		})
	}
}
