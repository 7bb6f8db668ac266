// Package nspawn is the vm.Driver of containers that boot like machines, with
// systemd-nspawn: the fast mode for tests and quick tries. A container shares
// the host's kernel: it has no boot loader and no kernel settings of its own,
// and it is no boundary against what runs in it as root.
package nspawn

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
)

// Options configure a Driver.
type Options struct {
	Network network.Options // of the network that all containers share
	// BuildDisk makes a bootable qcow2 disk of a root file system tree; Export
	// uses it. Nil: Export fails.
	BuildDisk func(ctx context.Context, rootfs, file string) error
	Log       *slog.Logger // nil: slog.Default
}

// ErrUnavailable is returned by New where containers cannot be run.
var ErrUnavailable = errors.New("container guests are not available here")
