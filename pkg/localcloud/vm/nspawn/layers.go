//go:build linux

package nspawn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/space"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

// Files in an instance directory.
const (
	noteFile    = "container.json" // data for a restart and Capture
	consoleFile = "console.log"
	upperDir    = "upper" // changes of the container
	workDir     = "work"  // overlayfs's own
	mergedDir   = "root"  // mount point, only inside the container's mount namespace
	hostDir     = "host"  // read-only layer between image and changes; not captured
	resolvFile  = "resolved.conf"
	networkFile = "network" // mount point of the network namespace, also only there

	startSpace = 1 << 30 // space that a guest usually needs
)

// cloudConfig makes cloud-init in a container use the Ec2 data source: it cannot
// see the system's UUID there (hence strict_id), the network is already up, and
// without udev cloud-init 25 would wait for new network cards and fail.
const cloudConfig = `# Of this container only; no part of its image.
datasource_list: [Ec2]
datasource:
  Ec2:
    strict_id: false
network:
  config: disabled
updates:
  network:
    when: [boot-new-instance]
`

// resolvedConfig points systemd-resolved to the network's name server.
const resolvedConfig = "[Resolve]\nDNS=" + network.GatewayIP + "\nDomains=~.\nMulticastDNS=no\nLLMNR=no\n"

// note is the content of noteFile.
type note struct {
	InstanceID string
	Lower      string // root file system of the image
	VolumeGiB  int
}

func readNote(dir string) (note, error) {
	var n note
	raw, err := os.ReadFile(filepath.Join(dir, noteFile))
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		return n, fmt.Errorf("%s: %w", noteFile, err)
	}
	return n, nil
}

// prepare makes the layers for a first start, or finds them for a restart.
func prepare(in vm.Launch) (note, error) {
	n, err := readNote(in.InstanceDir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	image, err := vm.ReadImage(in.ImageDir)
	if err != nil {
		return note{}, err
	}
	lower := filepath.Join(in.ImageDir, vm.RootFSDir)
	if image.Kind != vm.Container {
		return note{}, fmt.Errorf("image %s is of kind %s: only an image of kind %s boots in a container", in.ImageDir, image.Kind, vm.Container)
	}
	if _, err := os.Stat(lower); err != nil {
		return note{}, err
	}
	if in.VolumeGiB < image.VolumeGiB {
		return note{}, fmt.Errorf("a root volume of %d GiB is smaller than the image's, %d GiB", in.VolumeGiB, image.VolumeGiB)
	}
	for _, path := range []string{lower, in.InstanceDir} {
		if strings.ContainsAny(path, ",:\\") {
			return note{}, fmt.Errorf("the path %s has a comma, colon or backslash, which overlayfs cannot mount; choose another directory (--state)", path)
		}
	}
	if err := space.Require(in.InstanceDir, startSpace, "starting "+in.InstanceID); err != nil {
		return note{}, err
	}
	if err := makeLayers(in.InstanceDir); err != nil {
		return note{}, err
	}
	n = note{InstanceID: in.InstanceID, Lower: lower, VolumeGiB: in.VolumeGiB}
	raw, err := json.Marshal(n)
	if err != nil {
		return note{}, err
	}
	return n, os.WriteFile(filepath.Join(in.InstanceDir, noteFile), raw, 0o600)
}

func makeLayers(dir string) error {
	// An overlay's root has the mode of its upper directory.
	for _, sub := range []string{upperDir, workDir, mergedDir, filepath.Join(hostDir, "etc/cloud/cloud.cfg.d")} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		filepath.Join(hostDir, "etc/cloud/cloud.cfg.d/zz-localcloud.cfg"): cloudConfig,
		resolvFile: resolvedConfig,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
