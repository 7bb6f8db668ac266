// Package inventory reads what a verifier says is installed and configured in it,
// and writes it as a CycloneDX 1.5 bill of materials. Guests are not trusted: sizes
// are bounded, control characters are written out, and an answer that is not
// complete is an error. Equal guests give equal bytes: there are no times and no
// random numbers in the document, and its lists are sorted.
package inventory

import (
	"cmp"
	"slices"
	"strings"
)

// Inventory is what is installed and configured in one guest.
type Inventory struct {
	System       System       `json:"system"`
	Kernel       Kernel       `json:"kernel"`
	Packages     []Package    `json:"packages"`
	Images       []Image      `json:"images"`
	Files        []File       `json:"files"` // setuid or setgid
	Units        []Unit       `json:"units"` // enabled
	Sockets      []Socket     `json:"sockets"`
	Users        []User       `json:"users"`
	Groups       []Group      `json:"groups"` // that have members
	Sysctls      []Sysctl     `json:"sysctls"`
	Repositories []Repository `json:"repositories"`
	Keys         []Key        `json:"keys"`
	// Pending are the security updates that the guest's repositories offer. They change
	// with the repositories, so the bill of materials does not have them.
	Pending Pending `json:"pending"`
	// Incomplete lists the sections that the guest could not answer, and why.
	Incomplete []string `json:"incomplete"`
	// Simulated says that no guest was asked.
	Simulated bool `json:"simulated,omitempty"`
}

// System names the distribution, in the words of os-release(5).
type System struct {
	ID       string `json:"id"`                 // debian, ubuntu, amzn
	Version  string `json:"version,omitempty"`  // VERSION_ID
	Codename string `json:"codename,omitempty"` // VERSION_CODENAME: bookworm
	Name     string `json:"name,omitempty"`     // PRETTY_NAME
	Machine  string `json:"machine,omitempty"`  // uname -m
}

// Kernel names versions of kernels.
type Kernel struct {
	Running   string   `json:"running,omitempty"`
	Installed []string `json:"installed"`
	Default   string   `json:"default,omitempty"` // of the first entry of the boot loader
}

// Types of packages, as package URLs name them.
const (
	Deb = "deb"
	RPM = "rpm"
)

// Package is an installed package.
type Package struct {
	Type    string `json:"type"` // Deb or RPM
	Name    string `json:"name"`
	Version string `json:"version"`         // of Deb with the epoch, of RPM without
	Epoch   string `json:"epoch,omitempty"` // of RPM; empty if 0
	Arch    string `json:"arch"`
	// Source is the source package, which vulnerability feeds name.
	Source        string `json:"source"`
	SourceVersion string `json:"sourceVersion"`
}

// FullVersion is the version with its epoch, as version comparison needs it.
func (p Package) FullVersion() string {
	if p.Epoch != "" {
		return p.Epoch + ":" + p.Version
	}
	return p.Version
}

// Image is a container image that was pulled into the guest.
type Image struct {
	Engine     string `json:"engine"` // docker, podman or containerd
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Digest     string `json:"digest,omitempty"` // of the manifest
	ID         string `json:"id"`
}

// File has the bit setuid or setgid.
type File struct {
	Path    string `json:"path"`
	Mode    string `json:"mode"` // octal, such as 4755
	Owner   string `json:"owner"`
	Group   string `json:"group"`
	Package string `json:"package,omitempty"` // empty: no package owns it
}

// Unit is a unit of systemd that is started at boot.
type Unit struct {
	Name  string `json:"name"`
	State string `json:"state"` // enabled or enabled-runtime
}

// Socket is a port on which a process listens. Addresses of one guest and ports that
// the kernel picks are left out, so that equal guests have equal sockets.
type Socket struct {
	Protocol string `json:"protocol"` // tcp or udp
	Address  string `json:"address"`  // any, loopback or other
	Port     string `json:"port"`     // a number, or "ephemeral"
	Process  string `json:"process,omitempty"`
}

// User is an account of /etc/passwd.
type User struct {
	Name     string `json:"name"`
	UID      string `json:"uid"`
	GID      string `json:"gid"`
	Home     string `json:"home"`
	Shell    string `json:"shell"`
	Password string `json:"password,omitempty"` // locked, set or empty
}

// Group of /etc/group that has members.
type Group struct {
	Name    string   `json:"name"`
	GID     string   `json:"gid"`
	Members []string `json:"members"`
}

// Sysctl is a parameter of the kernel that a file of sysctl.d sets, with the value
// that it really has.
type Sysctl struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Repository is one from which packages are installed.
type Repository struct {
	File    string `json:"file"`
	Name    string `json:"name,omitempty"` // of yum
	URI     string `json:"uri"`
	Suites  string `json:"suites,omitempty"`
	Parts   string `json:"parts,omitempty"` // components
	Enabled bool   `json:"enabled"`
	// Keys are the files that may sign it, or what replaces the check of signatures.
	Keys string `json:"keys,omitempty"`
}

// Key is a file of keys that the package manager may trust.
type Key struct {
	File         string   `json:"file"`
	SHA256       string   `json:"sha256"`
	Fingerprints []string `json:"fingerprints"` // of primary keys, in capitals; empty if it cannot be read
}

// Pending are security updates that are not installed.
type Pending struct {
	// Unknown is why they are not known; empty if they are.
	Unknown string   `json:"unknown,omitempty"`
	Updates []Update `json:"updates"`
}

// Update is a security update that the guest's repositories offer.
type Update struct {
	Package   string `json:"package"`
	Installed string `json:"installed,omitempty"` // version
	Version   string `json:"version"`             // of the update; of dnf with name and architecture
	Origin    string `json:"origin"`              // the archive of apt, or the advisory of dnf
	Severity  string `json:"severity,omitempty"`  // as dnf says it
}

// Unowned returns the privileged files that no package owns.
func (v Inventory) Unowned() []File {
	var out []File
	for _, f := range v.Files {
		if f.Package == "" {
			out = append(out, f)
		}
	}
	return out
}

// sorted returns the inventory with sorted lists without repetitions that are never
// null.
func (v Inventory) sorted() Inventory {
	v.Kernel.Installed = tidy(v.Kernel.Installed, strings.Compare)
	v.Packages = tidy(v.Packages, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Version, b.Version))
	})
	v.Images = tidy(v.Images, func(a, b Image) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Engine, b.Engine))
	})
	v.Files = tidy(v.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	v.Units = tidy(v.Units, func(a, b Unit) int { return cmp.Compare(a.Name, b.Name) })
	v.Sockets = tidy(v.Sockets, func(a, b Socket) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(len(a.Port), len(b.Port)), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Process, b.Process))
	})
	v.Users = tidy(v.Users, func(a, b User) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID)) })
	v.Groups = slices.Clone(v.Groups)
	slices.SortStableFunc(v.Groups, func(a, b Group) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.GID, b.GID)) })
	v.Sysctls = tidy(v.Sysctls, func(a, b Sysctl) int { return cmp.Compare(a.Name, b.Name) })
	v.Repositories = tidy(v.Repositories, func(a, b Repository) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Name, b.Name), cmp.Compare(a.URI, b.URI), cmp.Compare(a.Suites, b.Suites))
	})
	v.Keys = slices.Clone(v.Keys)
	slices.SortStableFunc(v.Keys, func(a, b Key) int { return cmp.Compare(a.File, b.File) })
	v.Pending.Updates = tidy(v.Pending.Updates, func(a, b Update) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Origin, b.Origin))
	})
	v.Incomplete = tidy(v.Incomplete, strings.Compare)
	if v.Groups == nil {
		v.Groups = []Group{}
	}
	if v.Keys == nil {
		v.Keys = []Key{}
	}
	return v
}

func tidy[T comparable](in []T, by func(a, b T) int) []T {
	out := slices.Clone(in)
	slices.SortStableFunc(out, by)
	if out = slices.Compact(out); out == nil {
		out = []T{}
	}
	return out
}
