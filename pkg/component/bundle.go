package component

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// BootstrapFile is the path of a component's optional script that is part of the
// builder's user data and runs before the bundle is fetched.
func BootstrapFile(component string) string { return path.Join(Dir, component, "bootstrap.sh") }

// Environment returns the family and the parameters as environment variables of
// the component's scripts, named as in run.sh: logMaxSize is
// AMI_FACTORY_PARAM_LOG_MAX_SIZE.
func (s Selected) Environment() map[string]string {
	out := map[string]string{"AMI_FACTORY_COMPONENT": s.Name, "AMI_FACTORY_FAMILY": s.Family}
	for name, value := range s.Values {
		out["AMI_FACTORY_PARAM_"+strings.ToUpper(beforeCapital.ReplaceAllString(name, "${1}_${2}"))] = value
	}
	return out
}

var beforeCapital = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// File is a file of a bundle or of a fingerprint.
type File struct {
	Path string // in the bundle
	Data []byte
}

// manifest lists for run.sh what to install, in order.
type manifest struct {
	Schema     string              `json:"schema"`
	Family     string              `json:"family"`
	Components []manifestComponent `json:"components"`
}

type manifestComponent struct {
	Name       string            `json:"name"`
	SHA256     string            `json:"sha256"` // of its files, its checks and lib
	Order      int               `json:"order"`
	Parameters map[string]string `json:"parameters"`
	Packages   []Wanted          `json:"packages"`
	Upgrade    bool              `json:"upgrade,omitempty"`
	Services   []string          `json:"services"`
}

// Files returns all files of a bundle, sorted by path: run.sh, manifest.json,
// components/<name>/…, lib/…, seal/… and verify/…. It leaves out a component's
// description, checks and pages, which a builder does not need.
func Files(fsys fs.FS, family string, selected []Selected) ([]File, error) {
	m := manifest{Schema: "ami-factory/bundle/1", Family: family, Components: []manifestComponent{}}
	files, err := shared(fsys, "lib")
	if err != nil {
		return nil, err
	}
	lib := files
	for _, s := range selected {
		services := s.Services
		if services == nil {
			services = []string{}
		}
		more, err := tree(fsys, path.Join(Dir, s.Name))
		if err != nil {
			return nil, err
		}
		more = slices.DeleteFunc(more, func(f File) bool { return path.Dir(f.Path) == path.Join(Dir, s.Name) && path.Ext(f.Path) == ".md" })
		version := digest(more, lib)
		files = append(files, slices.DeleteFunc(more, func(f File) bool {
			return slices.Contains([]string{path.Join(Dir, s.Name, "component.yaml"), path.Join(Dir, s.Name, "checks.yaml")}, f.Path)
		})...)
		m.Components = append(m.Components, manifestComponent{
			s.Name, version, s.Order, s.Values, s.Wanted(), s.Upgrade, services,
		})
	}
	for _, dir := range []string{"seal", "verify"} {
		more, err := shared(fsys, dir)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	for _, script := range []string{"run.sh", "report.sh"} {
		content, err := fs.ReadFile(fsys, "runner/"+script)
		if err != nil {
			return nil, fmt.Errorf("the user data has no complete runner, so nothing can be installed: %w", err)
		}
		files = append(files, File{script, content})
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	files = append(files, File{"manifest.json", append(data, '\n')})
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// shared returns the files of a directory that is part of every bundle.
func shared(fsys fs.FS, dir string) ([]File, error) {
	files, err := tree(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the user data has no %s directory, so no image can be made: %w", dir, err)
	}
	return files, err
}

// digest is the SHA-256, in hexadecimal, of lists of files and their paths.
func digest(lists ...[]File) string {
	sum := sha256.New()
	for _, files := range lists {
		for _, f := range files {
			fmt.Fprintf(sum, "%s\x00%d\x00", f.Path, len(f.Data))
			sum.Write(f.Data)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Definitions returns the files that describe the selected components and are
// not in the bundle, sorted by path. They are part of a fingerprint too.
func Definitions(fsys fs.FS, selected []Selected) ([]File, error) {
	var out []File
	for _, s := range selected {
		for _, name := range []string{"checks.yaml", "component.yaml"} {
			file := path.Join(Dir, s.Name, name)
			data, err := fs.ReadFile(fsys, file)
			if err != nil {
				return nil, fmt.Errorf("read component %s: %w", s.Name, err)
			}
			out = append(out, File{file, data})
		}
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

func tree(fsys fs.FS, root string) ([]File, error) {
	var out []File
	err := fs.WalkDir(fsys, root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_"):
			// go:embed skips these files, so skip them in a directory on disk too.
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file; links and devices cannot go into a bundle", file)
		}
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			return err
		}
		out = append(out, File{file, data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read user data %s: %w", root, err)
	}
	return out, nil
}

// Bundle packs files as a tar.gz whose bytes depend on the files only: fixed
// times, root as owner, 0755 for *.sh and 0644 for the rest.
func Bundle(files []File) ([]byte, error) {
	var b bytes.Buffer
	zip, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("pack bundle: %w", err)
	}
	archive := tar.NewWriter(zip)
	dirs := map[string]bool{".": true}
	for _, f := range files {
		if err := parents(archive, dirs, path.Dir(f.Path)); err != nil {
			return nil, err
		}
		mode := int64(0o644)
		if strings.HasSuffix(f.Path, ".sh") {
			mode = 0o755
		}
		h := header(f.Path, tar.TypeReg, mode)
		h.Size = int64(len(f.Data))
		if err := archive.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack bundle: %w", err)
		}
		if _, err := archive.Write(f.Data); err != nil {
			return nil, fmt.Errorf("pack bundle: %w", err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("pack bundle: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("pack bundle: %w", err)
	}
	return b.Bytes(), nil
}

// parents writes an entry for each directory before its first file, so that
// unpacking does not depend on the umask.
func parents(archive *tar.Writer, done map[string]bool, dir string) error {
	if done[dir] {
		return nil
	}
	if err := parents(archive, done, path.Dir(dir)); err != nil {
		return err
	}
	done[dir] = true
	if err := archive.WriteHeader(header(dir+"/", tar.TypeDir, 0o755)); err != nil {
		return fmt.Errorf("pack bundle: %w", err)
	}
	return nil
}

func header(name string, typ byte, mode int64) *tar.Header {
	return &tar.Header{
		Name: name, Typeflag: typ, Mode: mode, Uname: "root", Gname: "root",
		ModTime: time.Unix(0, 0).UTC(), Format: tar.FormatPAX,
	}
}
