package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/deploy"
	"github.com/ami-factory/ami-factory/pkg/rehearsal/guests"
)

// ErrNoState is in the chain of Inspect's error when nothing was ever baked.
var ErrNoState = errors.New("there is no embedded AWS")

// Inspect opens a copy of a state, to look at it whether or not another process
// has it open. Nothing that is done to it lasts. The caller must Close it.
func Inspect(ctx context.Context, opts Options) (_ *Factory, err error) {
	if err := guests.Check(opts.Guests); err != nil {
		return nil, err
	}
	f := &Factory{StateDir: opts.Dir()}
	state, err := os.ReadFile(filepath.Join(f.StateDir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: bake an image or run `ami-factory local up` first, or name its folder with --state and its kind with --guests%s",
			ErrNoState, f.StateDir, otherStates(opts.StateDir))
	}
	if err != nil {
		return nil, err
	}
	if err := opts.complete(); err != nil {
		return nil, err
	}
	f.opts = opts
	copied, err := os.MkdirTemp("", "ami-factory-inspect-")
	if err != nil {
		return nil, err
	}
	f.temporary = copied
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(ctx))
		}
	}()
	if err := os.WriteFile(filepath.Join(copied, stateFile), state, 0o600); err != nil {
		return nil, err
	}
	if err := linkObjects(f.StateDir, copied); err != nil {
		return nil, err
	}
	if f.driver, err = guests.Driver(ctx, f.guestOptions()); err != nil {
		return nil, err
	}
	f.Cloud, err = localcloud.New(ctx, localcloud.Config{
		Driver: f.driver, StateDir: copied, Account: localcloud.DefaultAccount, Region: opts.Region, Logger: opts.Log,
	})
	if err != nil {
		return nil, err
	}
	f.Bucket = deploy.BucketName(f.Cloud)
	return f, nil
}

// otherStates says of which kinds of guests a folder has states.
func otherStates(dir string) string {
	var kinds []string
	for _, kind := range []vm.Kind{vm.Container, vm.Simulated, vm.VM} {
		if len(Homes(dir, kind)) > 0 {
			kinds = append(kinds, "--guests "+string(kind))
		}
	}
	if len(kinds) == 0 {
		return ""
	}
	return " (the folder has those of: " + strings.Join(kinds, ", ") + ")"
}

// Export writes the disk of an image as one qcow2 file, which must not exist.
func (f *Factory) Export(ctx context.Context, region, imageID, file string) error {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s exists already; it is not overwritten", file)
	}
	_, info, err := f.Cloud.EC2.ImageData(f.Cloud.Account(), region, imageID)
	if err != nil {
		return err
	}
	if info.Kind == vm.Simulated {
		return fmt.Errorf("%s was baked with simulated guests and has no disk; bake with --guests vm", imageID)
	}
	return f.Cloud.EC2.ExportImage(ctx, f.Cloud.Account(), region, imageID, file)
}

// linkObjects makes the objects of S3 readable in a copy of a state. Each file is a
// link of its own, so that the copy removes links only; the files themselves are
// written once.
func linkObjects(state, copied string) error {
	from, err := filepath.Abs(filepath.Join(state, localcloud.ObjectsDir))
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	to := filepath.Join(copied, localcloud.ObjectsDir)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
