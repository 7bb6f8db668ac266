//go:build !linux

package nspawn

import (
	"context"
	"fmt"
	"runtime"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// Driver is a vm.Driver on Linux only.
type Driver struct{ vm.Driver }

// New returns ErrUnavailable: containers need Linux.
func New(context.Context, Options) (*Driver, error) {
	return nil, fmt.Errorf("%w: they need Linux, this is %s; use --guests vm", ErrUnavailable, runtime.GOOS)
}
