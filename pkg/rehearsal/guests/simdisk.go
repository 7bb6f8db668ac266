package guests

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// simulatedDisk is made by simdisk.sh: a file system with nothing but what the
// components' rules for snapshots demand.
//
//go:embed simdisk.ext4.gz
var simulatedDisk []byte

// OpenDisk implements simulated.Options.Disk.
func (g *Simulated) OpenDisk(string) (vm.Disk, error) {
	raw := g.Disk
	if raw == nil {
		z, err := gzip.NewReader(bytes.NewReader(simulatedDisk))
		if err != nil {
			return nil, fmt.Errorf("unpack the simulated disk: %w", err)
		}
		if raw, err = io.ReadAll(io.LimitReader(z, 64<<20)); err != nil {
			return nil, fmt.Errorf("unpack the simulated disk: %w", err)
		}
	}
	return memoryDisk{bytes.NewReader(raw)}, nil
}

// memoryDisk is a disk in memory.
type memoryDisk struct{ *bytes.Reader }

// Holds implements vm.Disk.
func (memoryDisk) Holds(int64, int64) (bool, error) { return true, nil }

// Close implements vm.Disk.
func (memoryDisk) Close() error { return nil }
