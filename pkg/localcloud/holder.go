package localcloud

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Holder is the id of the process that uses a state folder; 0: none does. The lock
// that holds the id ends with its process, so the id is not that of a later one.
func Holder(dir string) (pid int, err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking who uses the state folder: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) // a descriptor fits an int
	if err == nil {
		return 0, nil // and closing the file ends this lock
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, fmt.Errorf("looking who uses the state folder: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0, fmt.Errorf("looking who uses the state folder: %w", err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(raw))); err != nil || pid <= 1 {
		return 0, fmt.Errorf("the lock of the state folder %s does not say which process has it", dir)
	}
	return pid, nil
}
