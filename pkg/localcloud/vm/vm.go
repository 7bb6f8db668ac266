// Package vm runs the instances of the embedded AWS. A Driver is one way to run
// them: QEMU virtual machines, systemd-nspawn containers, or simulated guests
// that answer from a script. Every result states the kind.
package vm

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// Kind is what an instance really is.
type Kind string

// Kinds, as values of `--guests`.
const (
	VM        Kind = "vm"
	Container Kind = "container"
	Simulated Kind = "simulated"
)

// ErrNotReachable is returned by Machine.Exec and Machine.Ping while the guest's
// agent does not answer (still booting, shutting down, or hung).
var ErrNotReachable = errors.New("guest agent does not answer")

// Driver starts machines and turns their disks into images. Implementations
// live in the sub-packages qemu, nspawn and simulated.
type Driver interface {
	Kind() Kind
	// Description returns one line for reports, such as "qemu 7.2.22, software
	// emulation (tcg)".
	Description() string
	// Start boots a machine. It returns once the process runs, before the guest has
	// booted.
	Start(ctx context.Context, in Launch) (Machine, error)
	// Capture writes the disk of the stopped machine in instanceDir as a
	// self-contained image into the new directory imageDir.
	Capture(ctx context.Context, instanceDir, imageDir string) (ImageInfo, error)
	// OpenDisk opens the root volume of an image, as EC2 stores it in a snapshot.
	OpenDisk(ctx context.Context, imageDir string) (Disk, error)
	// Export writes the image as one qcow2 file.
	Export(ctx context.Context, imageDir, file string) error
	// Close releases what all machines share (the network). All machines must have
	// ended.
	Close() error
}

// Launch describes a machine to start.
type Launch struct {
	InstanceID   string
	InstanceType string // EC2's name; the guest reads it from SMBIOS
	InstanceDir  string // existing directory for the machine's files; empty at the first start, and with the disk at a restart
	ImageDir     string // an image directory of Capture or of a base image build
	VCPUs        int
	MemoryMiB    int
	VolumeGiB    int    // size of the root volume, at least that of the image
	PrivateIP    string // inside 172.31.0.0/16
	MAC          string
	Metadata     http.Handler // serves http://169.254.169.254 for the guest
}

// Machine is a started guest.
type Machine interface {
	// Ping returns nil if the guest can run commands now.
	Ping(ctx context.Context) error
	// Exec runs a command in the guest and waits for it. A non-zero exit code
	// is not an error; ErrNotReachable and time-outs are.
	Exec(ctx context.Context, cmd Command) (Result, error)
	// Console returns the guest's output on its serial console so far.
	Console() ([]byte, error)
	// Shutdown asks the guest to power off (by ACPI or the equivalent for a
	// container) and forces it after grace. forced reports whether that was
	// necessary.
	Shutdown(ctx context.Context, grace time.Duration) (forced bool, err error)
	// Kill ends the machine at once.
	Kill() error
	// Done is closed when the machine has ended, for any reason.
	Done() <-chan struct{}
}

// Dialer is a Machine whose guest this process can reach over the network.
type Dialer interface {
	// Dial connects to a TCP port of the guest.
	Dial(ctx context.Context, port uint16) (net.Conn, error)
}

// Command is a program to run in the guest as root.
type Command struct {
	Argv    []string
	Stdin   []byte
	Timeout time.Duration // 0: one hour
}

// Result is the result of a Command that ended by itself or by its time-out.
type Result struct {
	ExitCode int
	Stdout   []byte
	Stderr   []byte
	TimedOut bool
}

// ImageInfo describes an image directory.
type ImageInfo struct {
	Kind      Kind   // the kind of guest that it was captured from
	SizeBytes int64  // bytes that it uses on this machine's disk
	VolumeGiB int    // size of the smallest root volume for it
	SHA256    string // of a base image's disk, hex; empty for a captured one, whose id is new in any case
	Disk      string // path of the disk file; empty for a simulated image
}
