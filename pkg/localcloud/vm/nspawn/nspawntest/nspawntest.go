//go:build linux

// Package nspawntest is what tests that boot containers have in common: the base
// image, the driver with the network of guests, and the launch of an instance.
package nspawntest

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/imds"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/network"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm/nspawn"
)

// Base is the directory of the base image that AMI_FACTORY_CONTAINER_BASE names.
// Without one, or as an ordinary user, the test is skipped.
func Base(t testing.TB) string {
	t.Helper()
	base := os.Getenv("AMI_FACTORY_CONTAINER_BASE")
	if base == "" || os.Geteuid() != 0 {
		t.Skip("boots a container, as root: set AMI_FACTORY_CONTAINER_BASE to the directory of a base image of kind container (image.json, rootfs), as `make test` does")
	}
	return base
}

// Driver starts containers until the end of the test. They reach the package mirrors
// of this machine, and what opts adds; packages are kept in AMI_FACTORY_CACHE if that
// is set.
func Driver(t testing.TB, opts network.Options) vm.Driver {
	t.Helper()
	var err error
	opts.Apt, err = network.HostAptSources(t.Context(), "/")
	require.NoError(t, err)
	opts.CacheDir = t.TempDir()
	if cache := os.Getenv("AMI_FACTORY_CACHE"); cache != "" {
		opts.CacheDir = filepath.Join(cache, "packages")
	}
	d, err := nspawn.New(t.Context(), nspawn.Options{Network: opts, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	return d
}

// Launch returns the launch of an instance from an image, with the metadata of Metadata.
// The IP address must end with two digits, which also end the hardware address.
func Launch(t testing.TB, imageDir string, in imds.Instance) vm.Launch {
	t.Helper()
	dir := filepath.Join(t.TempDir(), in.InstanceID)
	require.NoError(t, os.Mkdir(dir, 0o755))
	return vm.Launch{
		InstanceID: in.InstanceID, InstanceType: instanceType, InstanceDir: dir, ImageDir: imageDir, VCPUs: 2, MemoryMiB: 2048, VolumeGiB: 8,
		PrivateIP: in.PrivateIP, MAC: mac(in), Metadata: Metadata(in),
	}
}

// Metadata serves the metadata of an instance: its id and address, and what in adds,
// such as user data and a role.
func Metadata(in imds.Instance) http.Handler {
	in.ImageID, in.InstanceType, in.Account = "ami-0123456789abcdef0", instanceType, "123456789012"
	in.Region, in.AvailabilityZone, in.MAC = "eu-west-1", "eu-west-1a", mac(in)
	return imds.New(in)
}

const instanceType = "t3.medium"

func mac(in imds.Instance) string { return "0a:ff:ac:1f:05:" + in.PrivateIP[len(in.PrivateIP)-2:] }
