//go:build linux

package nspawn_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/internal/guesttest"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn"
)

func TestRealContainer(t *testing.T) {
	base := os.Getenv("AMI_FACTORY_CONTAINER_BASE")
	if base == "" {
		t.Skip("boots containers, as root: set AMI_FACTORY_CONTAINER_BASE to the directory of a base image of kind container (image.json, rootfs)")
	}
	guesttest.Run(t, guesttest.Subject{
		// cloud-init in a container does not ask for tokens.
		Base: base, Version1Status: "200",
		Start: func(ctx context.Context, opts network.Options, log *slog.Logger) (vm.Driver, error) {
			return nspawn.New(ctx, nspawn.Options{Network: opts, Log: log})
		},
	})
}
