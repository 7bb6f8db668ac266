package oss

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/evidence/inventory"
)

// unread are the databases of package managers whose packages are not listed.
var unread = []string{
	"lib/apk/db/installed",
	"usr/lib/sysimage/rpm/Packages", "usr/lib/sysimage/rpm/Packages.db", "usr/lib/sysimage/rpm/rpmdb.sqlite",
	"var/lib/rpm/Packages", "var/lib/rpm/Packages.db", "var/lib/rpm/rpmdb.sqlite",
}

// Unread says which packages below a root Debian does not list, because another package
// manager has installed them.
func Unread(root fs.FS) ([]string, error) {
	var out []string
	for _, name := range unread {
		entries, err := fs.ReadDir(root, path.Dir(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for other packages: %w", err)
		}
		if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == path.Base(name) }) {
			out = append(out, "the packages in /"+name+" are not read")
		}
	}
	return out, nil
}

var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)

// Debian lists the packages that dpkg has installed below a root, and reads the licenses
// from their copyright files. It reads /var/lib/dpkg/status, and /var/lib/dpkg/status.d as
// images without a package manager have it.
func Debian(root fs.FS) (packages []inventory.Package, evidence map[string]Evidence, err error) {
	var texts [][]byte
	status, err := fs.ReadFile(root, "var/lib/dpkg/status")
	switch {
	case err == nil:
		texts = append(texts, status)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("read the packages: %w", err)
	}
	entries, err := fs.ReadDir(root, "var/lib/dpkg/status.d")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the packages: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasSuffix(e.Name(), ".md5sums") || strings.HasSuffix(e.Name(), ".list") {
			continue
		}
		text, err := fs.ReadFile(root, path.Join("var/lib/dpkg/status.d", e.Name()))
		if err != nil {
			return nil, nil, fmt.Errorf("read the packages: %w", err)
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil, nil, errors.New("there is no list of packages: neither /var/lib/dpkg/status nor /var/lib/dpkg/status.d")
	}
	evidence = map[string]Evidence{}
	for _, text := range texts {
		all, err := paragraphs(bytes.NewReader(text), maxControl)
		if err != nil {
			return nil, nil, fmt.Errorf("read the packages: %w", err)
		}
		for _, p := range all {
			// In every other state, such as unpacked, the package's files are there.
			if s := p["status"]; strings.HasSuffix(s, " not-installed") || strings.HasSuffix(s, " config-files") {
				continue
			}
			pkg := inventory.Package{Type: inventory.Deb, Name: p["package"], Version: p["version"], Arch: p["architecture"], Source: p["package"], SourceVersion: p["version"]}
			if !packageName.MatchString(pkg.Name) || pkg.Version == "" {
				return nil, nil, fmt.Errorf("read the packages: a package has the name %q and the version %q", pkg.Name, pkg.Version)
			}
			if source := p["source"]; source != "" {
				name, version, versioned := strings.Cut(source, " (")
				pkg.Source = strings.TrimSpace(name)
				if versioned {
					pkg.SourceVersion = strings.TrimSuffix(strings.TrimSpace(version), ")")
				}
			}
			packages = append(packages, pkg)
			text, err := fs.ReadFile(root, path.Join("usr/share/doc", pkg.Name, "copyright"))
			switch {
			case err == nil:
				evidence[pkg.Name] = ReadCopyright(text)
			case !errors.Is(err, fs.ErrNotExist): // without the file there is no evidence, which only an approval with licenses replaces
				return nil, nil, fmt.Errorf("read the license of %s: %w", pkg.Name, err)
			}
		}
	}
	slices.SortFunc(packages, func(a, b inventory.Package) int { return strings.Compare(a.Name+"\x00"+a.Arch, b.Name+"\x00"+b.Arch) })
	return packages, evidence, nil
}
