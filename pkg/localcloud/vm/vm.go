// Package vm runs the instances of the embedded AWS. A Driver is one way to do
// so: QEMU virtual machines, systemd-nspawn containers, or simulated guests
// that answer from a script. The kind is stamped on every result.
package vm

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// Kind says what an instance really is.
type Kind string

// The kinds, as `--guests` takes them.
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
	// Description is one line for reports, such as "qemu 7.2.22, software emulation (tcg)".
	Description() string
	// Start boots a machine; it returns once the process is up, not the guest.
	Start(ctx context.Context, in Launch) (Machine, error)
	// Capture writes the disk of the stopped machine in instanceDir as a
	// self-contained image into the new directory imageDir.
	Capture(ctx context.Context, instanceDir, imageDir string) (ImageInfo, error)
	// OpenDisk opens the root volume of an image as EC2 keeps it in a snapshot.
	OpenDisk(ctx context.Context, imageDir string) (Disk, error)
	// Export writes the image as one qcow2 file.
	Export(ctx context.Context, imageDir, file string) error
	// Close releases what all machines share (network). Machines must be gone.
	Close() error
}

// Launch describes a machine to start.
type Launch struct {
	InstanceID   string
	InstanceType string // as EC2 names it; the guest reads it from SMBIOS
	InstanceDir  string // exists, empty on first start, holds the machine's files; a restart finds its disk there
	ImageDir     string // an image directory as Capture or a base image build writes it
	VCPUs        int
	MemoryMiB    int
	VolumeGiB    int    // size of the root volume, at least the image's
	PrivateIP    string // inside 172.31.0.0/16
	MAC          string
	Metadata     http.Handler // what the guest sees at http://169.254.169.254
}

// Machine is a started guest.
type Machine interface {
	// Ping returns nil when the guest can run commands now.
	Ping(ctx context.Context) error
	// Exec runs a command in the guest and waits for it. A non-zero exit code
	// is not an error; ErrNotReachable and time-outs are.
	Exec(ctx context.Context, cmd Command) (Result, error)
	// Console is what the guest wrote to its serial console so far.
	Console() ([]byte, error)
	// Shutdown asks the guest to power off (ACPI or its container's equivalent)
	// and forces it after grace. forced says that it had to.
	Shutdown(ctx context.Context, grace time.Duration) (forced bool, err error)
	// Kill ends the machine at once.
	Kill() error
	// Done is closed when the machine has ended, for whatever reason.
	Done() <-chan struct{}
}

// Dialer is a Machine whose guest this process can reach over the network.
type Dialer interface {
	// Dial connects to a TCP port of the guest.
	Dial(ctx context.Context, port uint16) (net.Conn, error)
}

// Command is a program run in the guest as root.
type Command struct {
	Argv    []string
	Stdin   []byte
	Timeout time.Duration // 0: one hour
}

// Result of a Command that ran to its end, or was ended by its time-out.
type Result struct {
	ExitCode int
	Stdout   []byte
	Stderr   []byte
	TimedOut bool
}

// ImageInfo describes an image directory.
type ImageInfo struct {
	Kind      Kind   // what it was captured from
	SizeBytes int64  // bytes it takes on this machine's disk
	VolumeGiB int    // smallest root volume it fits
	SHA256    string // of the disk, hex
	Disk      string // path of the disk file; empty for a simulated image
}
