package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Files are the files of a bundle by name. A bundle has no folders.
type Files map[string][]byte

// Names returns the names, sorted.
func (f Files) Names() []string { return slices.Sorted(maps.Keys(f)) }

// Limits of what is read into memory, in bytes: bundles come from anybody.
const (
	MaxFile   = 64 << 20
	MaxBundle = 256 << 20
)

// ReadFS reads the files of a folder. It refuses folders, links and files that are too
// large.
func ReadFS(fsys fs.FS) (Files, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	out, total := Files{}, int64(0)
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			return nil, fmt.Errorf("%s: it is no regular file (allowed: the files of one bundle, without folders)", entry.Name())
		}
		f, err := fsys.Open(entry.Name())
		if err != nil {
			return nil, err
		}
		raw, err := readBounded(f, entry.Name(), &total)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		out[entry.Name()] = raw
	}
	return out, nil
}

func readBounded(r io.Reader, name string, total *int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("%s: it is larger than %d bytes", name, MaxFile)
	}
	if *total += int64(len(raw)); *total > MaxBundle {
		return nil, fmt.Errorf("%s: the bundle is larger than %d bytes", name, MaxBundle)
	}
	return raw, nil
}

// gzipHeader is what Pack's output begins with: no name, no time, no system
// (RFC 1952, section 2.3).
const gzipHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

// Pack returns the files as a gzipped tar: the same files give the same bytes.
func (f Files) Pack() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(f.tar()); err != nil {
		return nil, fmt.Errorf("pack the bundle: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("pack the bundle: %w", err)
	}
	return b.Bytes(), nil
}

// tar returns the files as a tar, by name.
func (f Files) tar() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range f.Names() {
		// A buffer refuses nothing, and so does the format names of this length: see Unpack.
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(f[name])), Format: tar.FormatUSTAR})
		_, _ = w.Write(f[name])
	}
	_ = w.Close()
	return b.Bytes()
}

// Unpack reads what Pack has written, and refuses everything else: folders, links, names
// with a slash, the same name twice, data between and after the files.
func Unpack(packed []byte) (Files, error) {
	if !bytes.HasPrefix(packed, []byte(gzipHeader)) {
		return nil, errors.New("it does not begin as a bundle does, which is a gzipped tar that `ami-factory` has written")
	}
	r := bytes.NewReader(packed)
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("it cannot be unpacked: %w", err)
	}
	z.Multistream(false)
	raw, err := io.ReadAll(io.LimitReader(z, MaxBundle+1))
	if err != nil {
		return nil, fmt.Errorf("it cannot be unpacked: %w", err)
	}
	if len(raw) > MaxBundle {
		return nil, fmt.Errorf("it unpacks to more than %d bytes", MaxBundle)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("%d bytes follow after its end", r.Len())
	}
	out, total := Files{}, int64(0)
	t := tar.NewReader(bytes.NewReader(raw))
	for {
		header, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("it is no tar: %w", err)
		}
		switch _, twice := out[header.Name]; {
		case header.Typeflag != tar.TypeReg, header.Name == "", len(header.Name) > 99, strings.ContainsAny(header.Name, `/\`):
			return nil, fmt.Errorf("%q: it is no regular file with a short name (allowed: the files of one bundle, without folders)", header.Name)
		case twice:
			return nil, fmt.Errorf("%s: the archive has it twice", header.Name)
		}
		if out[header.Name], err = readBounded(t, header.Name, &total); err != nil {
			return nil, err
		}
	}
	if !bytes.Equal(out.tar(), raw) {
		return nil, errors.New("its tar is not in the form that `ami-factory` writes: it was packed again, or changed")
	}
	return out, nil
}
