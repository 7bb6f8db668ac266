package standin

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// built is the time of all files in the packages, so that they are the same
// wherever they are built.
func built() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }

// file is a file of a package: a script if it is executable, a link if it has a
// target.
type file struct {
	content string
	mode    int64
	link    string
}

// deb builds a Debian package (deb(5)).
func deb(fields string, scripts map[string]string, files map[string]file) ([]byte, error) {
	control := map[string]file{"/control": {content: fields, mode: 0o644}}
	for name, script := range scripts {
		control["/"+name] = file{content: script, mode: 0o755}
	}
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	member(&out, "debian-binary", []byte("2.0\n"))
	for _, part := range []struct {
		name  string
		files map[string]file
	}{{"control.tar.gz", control}, {"data.tar.gz", files}} {
		data, err := tarball(part.files)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		member(&out, part.name, data)
	}
	return out.Bytes(), nil
}

// member appends a file to an ar archive.
func member(out *bytes.Buffer, name string, data []byte) {
	fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", name, built().Unix(), 0, 0, 0o100644, len(data))
	out.Write(data)
	if len(data)%2 == 1 {
		out.WriteByte('\n')
	}
}

// tarball packs files and their folders, all owned by root.
func tarball(files map[string]file) ([]byte, error) {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	packed := tar.NewWriter(zipped)
	made := map[string]bool{}
	var folder func(name string) error
	folder = func(name string) error {
		if made[name] {
			return nil
		}
		made[name] = true
		if name != "/" {
			if err := folder(path.Dir(name)); err != nil {
				return err
			}
		}
		return packed.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "." + strings.TrimSuffix(name, "/") + "/", Mode: 0o755, ModTime: built(), Format: tar.FormatGNU})
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		if err := folder(path.Dir(name)); err != nil {
			return nil, err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: "." + name, Mode: f.mode, Size: int64(len(f.content)), ModTime: built(), Format: tar.FormatGNU}
		if f.link != "" {
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.link, 0o777
		}
		if err := packed.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := packed.Write([]byte(f.content)); err != nil {
			return nil, err
		}
	}
	if err := packed.Close(); err != nil {
		return nil, err
	}
	if err := zipped.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
