package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// escape doubles commas, because commas separate QEMU's options.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// systemUUID begins with "ec2", by which cloud-init and other programs detect
// EC2, and is the same after a restart of the instance.
func systemUUID(instanceID string) string {
	sum := sha256.Sum256([]byte(instanceID))
	digits := "ec2" + hex.EncodeToString(sum[:])[:29]
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

// sockets has the paths of one machine's sockets.
type sockets struct{ network, agent, monitor string }

func newSockets(dir string) sockets {
	return sockets{
		network: filepath.Join(dir, "net"),
		agent:   filepath.Join(dir, "agent"),
		monitor: filepath.Join(dir, "qmp"),
	}
}

// arguments returns QEMU's command line for a launch.
func arguments(in vm.Launch, accel accelerator, s sockets, kernel *directBoot) []string {
	uuid := systemUUID(in.InstanceID)
	cpus := max(in.VCPUs, 1)
	if accel.emulated {
		// Each emulated processor is a busy thread.
		cpus = min(cpus, runtime.NumCPU())
	}
	file := func(name string) string { return escape(filepath.Join(in.InstanceDir, name)) }
	args := []string{
		"-name", "guest=" + escape(in.InstanceID),
		"-M", "q35,smm=off", "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
		"-smp", strconv.Itoa(cpus), "-m", strconv.Itoa(in.MemoryMiB),
		"-uuid", uuid,
		"-smbios", "type=0,vendor=Amazon EC2,version=1.0",
		"-smbios", fmt.Sprintf("type=1,manufacturer=Amazon EC2,product=%s,serial=%s,uuid=%s", escape(in.InstanceType), uuid, uuid),
		"-smbios", "type=2,manufacturer=Amazon EC2,asset=" + escape(in.InstanceID),
		"-smbios", "type=3,manufacturer=Amazon EC2,asset=Amazon EC2",
		"-rtc", "base=utc,driftfix=slew",
		"-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
		// cache=unsafe: after a crash of the host, the disk is discarded with its
		// instance.
		"-drive", "if=none,id=root,format=qcow2,discard=unmap,detect-zeroes=unmap,cache=unsafe,file=" + file(diskFile),
		"-device", "virtio-blk-pci,drive=root,bootindex=1",
		"-netdev", "stream,id=net,server=off,addr.type=unix,addr.path=" + escape(s.network),
		// No network boot ROM, which only costs time.
		"-device", "virtio-net-pci,netdev=net,romfile=,mac=" + in.MAC,
		"-chardev", "file,id=console,append=on,path=" + file(consoleFile), "-serial", "chardev:console",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,server=on,wait=off,path=" + escape(s.agent),
		"-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
		"-chardev", "socket,id=qmp,server=on,wait=off,path=" + escape(s.monitor), "-mon", "chardev=qmp,mode=control",
		"-pidfile", filepath.Join(in.InstanceDir, pidFile),
	}
	if kernel != nil {
		args = append(args, "-kernel", kernel.kernel, "-initrd", kernel.initrd, "-append", kernel.cmdline)
	}
	return append(args, accel.args...)
}

// directBoot is a kernel that QEMU loads itself.
type directBoot struct{ kernel, initrd, cmdline string }

// findKernel returns the files for a direct boot in imageDir, or nil. Only base
// images have them; baked images boot with their own boot loader.
func findKernel(imageDir string) (*directBoot, error) {
	dir := filepath.Join(imageDir, vm.KernelDir)
	if _, err := os.Stat(filepath.Join(dir, vm.KernelFile)); err != nil {
		return nil, nil
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, vm.CmdlineFile))
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", imageDir, err)
	}
	return &directBoot{
		kernel:  filepath.Join(dir, vm.KernelFile),
		initrd:  filepath.Join(dir, vm.InitrdFile),
		cmdline: strings.TrimSpace(string(cmdline)),
	}, nil
}
