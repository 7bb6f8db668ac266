// Package program looks at program files before they are deployed: which
// processor they are for, and which version of a module they hold.
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

// architectures are the processors that AWS has instances and functions for, by
// Go's name. A recipe and Lambda write x86_64 for amd64.
var architectures = []struct {
	goarch, aws string
	machine     elf.Machine
}{
	{"amd64", "x86_64", elf.EM_X86_64},
	{"arm64", "arm64", elf.EM_AARCH64},
}

// GOARCH is Go's name of an architecture that AWS or Go names; other names stay
// as they are.
func GOARCH(name string) string {
	for _, a := range architectures {
		if a.aws == name {
			return a.goarch
		}
	}
	return name
}

// AWS is AWS's name of an architecture that Go or AWS names; other names stay as
// they are.
func AWS(name string) string {
	for _, a := range architectures {
		if a.goarch == name {
			return a.aws
		}
	}
	return name
}

// MustRunOn refuses a file that is an ELF program for another processor than the
// architecture's, which either Go or AWS names. Other files, such as scripts, pass:
// nothing in them names a processor. A file that does not exist is an error.
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

// ModuleVersion is the version of a Go module that a program was built with, such
// as v0.4.10. It is empty when the file is no Go program or does not hold the
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
