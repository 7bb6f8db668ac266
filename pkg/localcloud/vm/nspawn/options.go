// Package nspawn is the vm.Driver of containers that boot like machines, with
// systemd-nspawn: the fast mode for tests and trials. A container shares the
// host's kernel: it has no boot loader and no kernel settings of its own, and it
// is not a security boundary against root in it.
package nspawn

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

// Options configures a Driver.
type Options struct {
	Network network.Options // of the network that all containers share
	// BuildDisk makes a bootable qcow2 disk from a root file system tree, for
	// Export. If it is nil, Export fails.
	BuildDisk func(ctx context.Context, rootfs, file string) error
	Log       *slog.Logger // nil for slog.Default
}

// ErrUnavailable is returned by New if containers cannot run here.
var ErrUnavailable = errors.New("container guests are not available here")
