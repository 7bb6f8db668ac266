// Package program checks program files before they are deployed: their
// processor, and the version of a module in them.
package program

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"strings"
)

// architectures lists the processors of AWS's instances and functions, by Go's
// name. Recipes and Lambda use x86_64 for amd64.
var architectures = []struct {
	goarch, aws string
	machine     elf.Machine
}{
	{"amd64", "x86_64", elf.EM_X86_64},
	{"arm64", "arm64", elf.EM_AARCH64},
}

// GOARCH returns Go's name of an architecture, from AWS's or Go's name. Other
// names do not change.
func GOARCH(name string) string {
	for _, a := range architectures {
		if a.aws == name {
			return a.goarch
		}
	}
	return name
}

// AWS returns AWS's name of an architecture, from Go's or AWS's name. Other
// names do not change.
func AWS(name string) string {
	for _, a := range architectures {
		if a.goarch == name {
			return a.aws
		}
	}
	return name
}

// MustRunOn refuses an ELF program for another processor than the architecture,
// which can be Go's or AWS's name. Other files, such as scripts, are accepted. A
// file that does not exist is an error.
func MustRunOn(file, architecture string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it is only read
	magic := make([]byte, len(elf.ELFMAG))
	if n, err := io.ReadFull(f, magic); err != nil || !bytes.Equal(magic[:n], []byte(elf.ELFMAG)) {
		return nil
	}
	header, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("%s is a damaged ELF program: %w", file, err)
	}
	built := strings.TrimPrefix(header.Machine.String(), "EM_")
	for _, a := range architectures {
		if a.machine != header.Machine {
			continue
		}
		if a.goarch == GOARCH(architecture) {
			return nil
		}
		built = a.goarch
	}
	return fmt.Errorf("%s is built for %s and cannot run on %s", file, built, GOARCH(architecture))
}

// ModuleVersion returns the version of a Go module in a program, such as
// v0.4.10. It returns "" if the file is not a Go program or does not contain the
// module.
func ModuleVersion(file, module string) string {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return ""
	}
	if info.Main.Path == module {
		return info.Main.Version
	}
	for _, d := range info.Deps {
		if d.Path == module {
			return d.Version
		}
	}
	return ""
}
