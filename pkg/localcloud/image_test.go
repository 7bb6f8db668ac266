package localcloud_test

import (
	"os"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

func makeImage(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return vm.WriteImage(dir, vm.ImageInfo{Kind: vm.Simulated, VolumeGiB: 2, SHA256: "ba5e"})
}
