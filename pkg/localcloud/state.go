package localcloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

const (
	stateVersion = 1
	stateName    = "state.json"
	lockName     = "lock"
	// autosaveEvery is how much a killed process loses at most.
	autosaveEvery = time.Second
)

// named is a service under the name that its state has in the file.
type named struct {
	name    string
	service wire.Stateful
}

// stateFile is the content of state.json.
type stateFile struct {
	Version  int                        `json:"version"`
	Services map[string]json.RawMessage `json:"services"`
}

// stateStore is the folder that the state is kept in. A lock keeps other processes
// out.
type stateStore struct {
	dir       string
	temporary bool
	lock      *os.File
	secret    string // access key, see secretOf

	mu   sync.Mutex // of last and of writing
	last []byte     // what the file holds

	stop chan struct{}
	done chan struct{}
}

// openStateStore makes and locks the folder; without one it takes a temporary
// folder, whose state is never written.
func openStateStore(dir string) (*stateStore, error) {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "localcloud-")
		if err != nil {
			return nil, fmt.Errorf("making a temporary folder for the embedded AWS: %w", err)
		}
		return &stateStore{dir: temporary, temporary: true, secret: newSecret()}, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder of the embedded AWS: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	secret, err := secretOf(dir)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return &stateStore{dir: dir, lock: lock, secret: secret}, nil
}

// lockFolder takes the folder's lock, which the kernel drops with the process,
// and leaves the process id in it for those who come later.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the state folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // a descriptor fits an int
		_ = lock.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking the state folder: %w", err)
		}
		owner, _ := os.ReadFile(path) // without it the message only says less
		return nil, fmt.Errorf("the state folder %s is in use by pid %s: stop that process, or use another folder", dir, strings.TrimSpace(string(owner)))
	}
	err = lock.Truncate(0)
	if err == nil {
		_, err = lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("locking the state folder: %w", err)
	}
	return lock, nil
}

// load restores the services from the file, if there is one.
func (s *stateStore) load(services []named) error {
	path := filepath.Join(s.dir, stateName)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the state of the embedded AWS: %w", err)
	}
	var file stateFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return fmt.Errorf("the state of the embedded AWS in %s is damaged (%w): move the file away to start empty", path, err)
	}
	if file.Version != stateVersion {
		return fmt.Errorf("the state of the embedded AWS in %s has version %d, this program reads version %d: move the file away to start empty", path, file.Version, stateVersion)
	}
	for _, n := range services {
		if state, ok := file.Services[n.name]; ok {
			if err := n.service.Restore(state); err != nil {
				return fmt.Errorf("the state of %s in %s cannot be restored (%w): move the file away to start empty", n.name, path, err)
			}
		}
	}
	return nil
}

// save writes the state if it differs from what the file holds. The file is
// replaced as a whole: it is complete at any time.
func (s *stateStore) save(services []named) error {
	if s.temporary {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	file := stateFile{Version: stateVersion, Services: map[string]json.RawMessage{}}
	for _, n := range services {
		state, err := n.service.Snapshot()
		if err != nil {
			return fmt.Errorf("saving the state of %s: %w", n.name, err)
		}
		file.Services[n.name] = state
	}
	raw, err := json.Marshal(file)
	if err != nil {
		return fmt.Errorf("saving the state of the embedded AWS: %w", err)
	}
	if bytes.Equal(raw, s.last) {
		return nil
	}
	if err := replaceFile(filepath.Join(s.dir, stateName), raw); err != nil {
		return fmt.Errorf("saving the state of the embedded AWS: %w", err)
	}
	s.last = raw
	return nil
}

func replaceFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// startAutosave saves whenever the state has changed, at most once in
// autosaveEvery. It compares the state itself, so that it misses no change.
func (s *stateStore) startAutosave(services []named, logger *slog.Logger) {
	if s.temporary {
		return
	}
	s.stop, s.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.done)
		tick := time.NewTicker(autosaveEvery)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				if err := s.save(services); err != nil {
					logger.Error("autosave", "error", err)
				}
			}
		}
	}()
}

func (s *stateStore) stopAutosave() {
	if s.stop != nil {
		close(s.stop)
		<-s.done
		s.stop = nil
	}
}

// close unlocks the folder.
func (s *stateStore) close() error {
	s.stopAutosave()
	if s.temporary {
		if err := os.RemoveAll(s.dir); err != nil {
			return fmt.Errorf("removing the temporary folder of the embedded AWS: %w", err)
		}
		return nil
	}
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("unlocking the state folder: %w", err)
	}
	return nil
}
