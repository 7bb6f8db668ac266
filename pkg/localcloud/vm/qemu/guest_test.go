package qemu_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/guesttest"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/qemu"
)

func TestRealGuest(t *testing.T) {
	base := os.Getenv("AMI_FACTORY_BASE")
	if base == "" {
		t.Skip("boots real guests, which takes minutes: set AMI_FACTORY_BASE to the directory of a base image of kind vm (image.json, disk.qcow2)")
	}
	guesttest.Run(t, guesttest.Subject{
		Base: base, Version1Status: "401", HasDisk: true,
		Start: func(ctx context.Context, opts network.Options, log *slog.Logger) (vm.Driver, error) {
			return qemu.New(ctx, qemu.Options{Network: opts, Log: log})
		},
	})
}
