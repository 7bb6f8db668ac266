package qemu

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// accelerator is the way in which QEMU runs the guest's instructions.
type accelerator struct {
	description string
	args        []string
	emulated    bool
}

func emulation() accelerator {
	return accelerator{
		description: "software emulation (tcg)",
		args:        []string{"-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"},
		emulated:    true,
	}
}

// candidate returns the hardware acceleration that this machine may have.
func candidate() (accelerator, bool) {
	if runtime.GOARCH != "amd64" {
		return accelerator{}, false
	}
	switch runtime.GOOS {
	case "linux":
		if _, err := os.Stat("/dev/kvm"); err != nil {
			return accelerator{}, false
		}
		return accelerator{
			description: "hardware acceleration (kvm)",
			args:        []string{"-accel", "kvm", "-cpu", "max,-arch-capabilities"},
		}, true
	case "darwin":
		return accelerator{
			description: "hardware acceleration (hvf)",
			args:        []string{"-accel", "hvf", "-cpu", "max"},
		}, true
	}
	return accelerator{}, false
}

// chooseAccelerator uses hardware acceleration only if the probe proves that it
// works.
func chooseAccelerator(system string, log *slog.Logger) accelerator {
	hardware, ok := candidate()
	if !ok {
		return emulation()
	}
	if err := probe(system, hardware); err != nil {
		log.Info("hardware acceleration is not usable, guests are emulated", "tried", hardware.description, "cause", err)
		return emulation()
	}
	return hardware
}

const (
	probeLimit = 3 * time.Second
	probeExit  = 33 // isa-debug-exit exits with (16<<1)|1 for the 16 that the sector writes
)

// probeSector is a boot sector that counts down from a hundred million in 32-bit
// registers and then ends QEMU through isa-debug-exit. A processor needs a tenth
// of a second for that. Some nested accelerators only emulate, and need far
// longer or crash, so opening the device proves nothing.
func probeSector() []byte {
	code := []byte{
		0xfa,                               // cli
		0x66, 0xb9, 0x00, 0xe1, 0xf5, 0x05, // mov ecx, 100000000
		0x66, 0x49, // loop: dec ecx
		0x75, 0xfc, // jnz loop
		0xba, 0xf4, 0x00, // mov dx, 0xf4
		0xb0, 0x10, // mov al, 16
		0xee,       // out dx, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp to hlt
	}
	sector := make([]byte, 512)
	copy(sector, code)
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

func probe(system string, with accelerator) error {
	dir, err := os.MkdirTemp("", "ami-factory-probe-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sector := filepath.Join(dir, "sector")
	if err := os.WriteFile(sector, probeSector(), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
	defer cancel()
	args := append([]string{
		"-M", "pc", "-m", "16", "-nodefaults", "-no-user-config", "-display", "none",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
		"-drive", "format=raw,if=ide,file=" + escape(sector),
	}, with.args...)
	err = exec.CommandContext(ctx, system, args...).Run()
	if ctx.Err() != nil {
		return errors.New("a probe of the processor's speed did not end within " + probeLimit.String())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == probeExit {
		return nil
	}
	if err == nil {
		err = errors.New("the probe ended without its result")
	}
	return err
}
