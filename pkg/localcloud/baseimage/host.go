package baseimage

import (
	"cmp"
	"maps"
	"os"
	"os/exec"
	"slices"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// hostTool is a program of the host and its Debian package.
type hostTool struct {
	program string
	pkg     string
}

// buildTools returns the programs for building a base image of any kind.
func buildTools(root bool) []hostTool {
	tools := []hostTool{
		{"mmdebstrap", "mmdebstrap"},
		{"tar", "tar"},
		{"unshare", "util-linux"},
	}
	if !root {
		tools = append(tools, hostTool{"newuidmap", "uidmap"})
	}
	return tools
}

// imageTools returns the programs for making and editing disk images.
func imageTools() []hostTool {
	return []hostTool{
		{"qemu-img", "qemu-utils"},
		{"mke2fs", "e2fsprogs"},
		{"debugfs", "e2fsprogs"},
	}
}

// guestTools returns the programs for running, capturing and exporting guests of
// a kind, in addition to buildTools.
func guestTools(kind vm.Kind) []hostTool {
	switch kind {
	case vm.VM:
		return append([]hostTool{{"qemu-system-x86_64", "qemu-system-x86"}}, imageTools()...)
	case vm.Container:
		return []hostTool{{"systemd-nspawn", "systemd-container"}}
	default:
		return nil
	}
}

// Missing lists the Debian packages that must be installed before guests of the
// kind can be built and run on this host, sorted. It is empty if nothing is
// missing, and always for simulated guests.
func Missing(kind vm.Kind) []string {
	if kind == vm.Simulated {
		return nil
	}
	return missing(append(guestTools(kind), buildTools(os.Geteuid() == 0)...), lookPath)
}

func missing(tools []hostTool, look func(string) (string, error)) []string {
	packages := map[string]bool{}
	for _, t := range tools {
		if _, err := look(t.program); err != nil {
			packages[t.pkg] = true
		}
	}
	return sortedKeys(packages)
}

// packageOf returns the package of a program, or the program itself.
func packageOf(program string) string {
	for _, t := range slices.Concat(buildTools(false), guestTools(vm.VM), guestTools(vm.Container)) {
		if t.program == program {
			return t.pkg
		}
	}
	return program
}

// lookPath also finds programs in folders that are only in root's PATH, such as
// mke2fs in /usr/sbin.
func lookPath(program string) (string, error) {
	file, err := exec.LookPath(program)
	if err == nil {
		return file, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if file, sbinErr := exec.LookPath(dir + program); sbinErr == nil {
			return file, nil
		}
	}
	return "", err
}

// sortedKeys returns a map's keys in order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}
