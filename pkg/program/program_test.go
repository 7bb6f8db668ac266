package program

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// header is the beginning of an ELF file for a processor: all that names it.
func header(m elf.Machine) []byte {
	b := make([]byte, 64)
	copy(b, elf.ELFMAG)
	b[elf.EI_CLASS], b[elf.EI_DATA], b[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	binary.LittleEndian.PutUint16(b[16:], uint16(elf.ET_EXEC))
	binary.LittleEndian.PutUint16(b[18:], uint16(m))
	binary.LittleEndian.PutUint32(b[20:], uint32(elf.EV_CURRENT))
	binary.LittleEndian.PutUint16(b[52:], 64) // the header's own size
	return b
}

func TestAProgramMustRunOnItsMachine(t *testing.T) {
	for sentence, tc := range map[string]struct {
		file         []byte
		architecture string
		refused      string
	}{
		"the same processor in Go's words":   {header(elf.EM_X86_64), "amd64", ""},
		"the same processor in AWS's words":  {header(elf.EM_X86_64), "x86_64", ""},
		"arm64 on arm64":                     {header(elf.EM_AARCH64), "arm64", ""},
		"arm64 on x86_64":                    {header(elf.EM_AARCH64), "x86_64", "is built for arm64 and cannot run on amd64"},
		"x86_64 on arm64":                    {header(elf.EM_X86_64), "arm64", "is built for amd64 and cannot run on arm64"},
		"a processor that AWS does not have": {header(elf.EM_RISCV), "arm64", "is built for RISCV and cannot run on arm64"},
		"a script":                           {[]byte("#!/bin/sh\n"), "arm64", ""},
		"an empty file":                      {nil, "arm64", ""},
		"an ELF file that ends early":        {[]byte(elf.ELFMAG + "\x02"), "arm64", "damaged ELF program"},
	} {
		t.Run(sentence, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "bootstrap")
			require.NoError(t, os.WriteFile(file, tc.file, 0o600))
			err := MustRunOn(file, tc.architecture)
			if tc.refused == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.refused)
			assert.ErrorContains(t, err, file)
		})
	}
	require.ErrorIs(t, MustRunOn(filepath.Join(t.TempDir(), "absent"), "arm64"), os.ErrNotExist)
}

func TestTheVersionOfAModuleIsReadFromTheProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "service")
	build := exec.Command("go", "build", "-o", file, "../../userdata/testdata/service")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, "(devel)", ModuleVersion(file, "github.com/ami-factory/ami-factory"))
	assert.Empty(t, ModuleVersion(file, "example.com/absent"))
	assert.Empty(t, ModuleVersion("program.go", "github.com/ami-factory/ami-factory"))
	require.NoError(t, MustRunOn(file, runtime.GOARCH))
}
