package space

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const blockSize = 512 // unit of st_blocks, whatever the file system's own

func allocated(info os.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * blockSize
	}
	return info.Size()
}

// AllocatedTree returns the space that all files below dir use on disk, in
// bytes; hard links count once.
func AllocatedTree(dir string) (int64, error) {
	var total int64
	type file struct{ device, inode uint64 }
	seen := map[file]bool{}
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 && !info.IsDir() {
			id := file{uint64(stat.Dev), stat.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		total += allocated(info)
		return nil
	})
	return total, err
}
