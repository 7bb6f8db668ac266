package baseimage

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// guestFile is a regular file of root with mode 0644, or a symbolic link.
type guestFile struct {
	path string
	data []byte
	link string // target of a symbolic link; data is then unused
}

// writeIntoFileSystem writes files into the ext4 file system at an offset in a
// raw disk, and replaces existing files. Directories must exist.
func writeIntoFileSystem(ctx context.Context, raw *os.File, offset int64, files []guestFile) error {
	dir, err := os.MkdirTemp("", "ami-factory-")
	if err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	var script strings.Builder
	for i, f := range files {
		fmt.Fprintf(&script, "cd %s\nrm %s\n", path.Dir(f.path), path.Base(f.path))
		if f.link != "" {
			fmt.Fprintf(&script, "symlink %s %s\n", path.Base(f.path), f.link)
			continue
		}
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, f.data, 0o600); err != nil {
			return fmt.Errorf("write scratch file: %w", err)
		}
		base := path.Base(f.path)
		fmt.Fprintf(&script, "write %s %s\n", name, base)
		for _, field := range []string{"mode 0100644", "uid 0", "gid 0"} {
			fmt.Fprintf(&script, "set_inode_field %s %s\n", base, field)
		}
	}
	commands := filepath.Join(dir, "commands")
	if err := os.WriteFile(commands, []byte(script.String()), 0o600); err != nil {
		return fmt.Errorf("write scratch file: %w", err)
	}
	edit := command(ctx, "debugfs", "-w", "-f", commands, fmt.Sprintf("/dev/fd/3?offset=%d", offset))
	edit.ExtraFiles = []*os.File{raw}
	if err := runCommand(ctx, edit); err != nil {
		return err
	}
	// debugfs exits with 0 even if a command failed, so check the result.
	for _, f := range files {
		found, err := inFileSystem(ctx, raw, offset, f.path)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("debugfs did not write %s into the image: its file system may be damaged or not ext4", f.path)
		}
	}
	return nil
}

// inFileSystem reports whether the ext4 file system at offset has the path.
func inFileSystem(ctx context.Context, raw *os.File, offset int64, name string) (bool, error) {
	look := command(ctx, "debugfs", "-R", "stat "+name, fmt.Sprintf("/dev/fd/3?offset=%d", offset))
	look.ExtraFiles = []*os.File{raw}
	var out, problems strings.Builder
	look.Stdout, look.Stderr = &out, &problems
	if err := explain(ctx, look, look.Run(), []byte(problems.String())); err != nil {
		return false, err
	}
	return strings.Contains(out.String(), "Inode:"), nil
}
