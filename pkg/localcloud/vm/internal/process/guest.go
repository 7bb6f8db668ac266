package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Guest is the process of a guest, and its clean-up. It implements the methods
// of vm.Machine that both drivers share.
type Guest struct {
	*Process
	instanceID string
	console    string
	cleaned    chan struct{}
}

// NewGuest makes a Guest from a started child, which writes the guest's console
// to a file in dir. cleanUp runs once the child has ended.
func NewGuest(child *Process, instanceID, dir, console string, cleanUp func()) *Guest {
	g := &Guest{Process: child, instanceID: instanceID, console: filepath.Join(dir, console), cleaned: make(chan struct{})}
	go func() {
		<-child.Done()
		cleanUp()
		close(g.cleaned)
	}()
	return g
}

// Kill ends the child and waits for the clean-up.
func (g *Guest) Kill() error {
	if err := g.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", g.instanceID, err)
	}
	<-g.cleaned
	return nil
}

// Done is closed when the child has ended and the clean-up is done.
func (g *Guest) Done() <-chan struct{} { return g.cleaned }

// Ended reports whether the child has ended.
func (g *Guest) Ended() bool {
	select {
	case <-g.Process.Done():
		return true
	default:
		return false
	}
}

// Console returns the guest's console output so far.
func (g *Guest) Console() ([]byte, error) {
	raw, err := os.ReadFile(g.console)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read console of %s: %w", g.instanceID, err)
	}
	return raw, nil
}
