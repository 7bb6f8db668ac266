package ec2

import "time"

// Timing holds the times that operations take on the clock, in addition to the
// driver's real work. Real guests use zero times.
type Timing struct {
	PendingToRunning  time.Duration // before a machine is started
	Stop              time.Duration // before a machine is asked to power off
	StopGrace         time.Duration // before it is forced; default 3 minutes
	Terminate         time.Duration // before a machine is killed
	ImageBase         time.Duration // of CreateImage
	ImagePerGiB       time.Duration // of CreateImage, per GiB of volume
	CopyBase          time.Duration // of CopyImage
	CopyPerGiB        time.Duration // of CopyImage, per GiB of volume
	ConsistencyWindow time.Duration // after a creation, in which describes do not show the new resource
}

// AWSLike returns a Timing for simulated guests, with the orders of magnitude of
// EC2 for small images.
func AWSLike() Timing {
	return Timing{
		PendingToRunning:  8 * time.Second,
		Stop:              20 * time.Second,
		Terminate:         5 * time.Second,
		ImageBase:         60 * time.Second,
		ImagePerGiB:       8 * time.Second,
		CopyBase:          90 * time.Second,
		CopyPerGiB:        15 * time.Second,
		ConsistencyWindow: 2 * time.Second,
	}
}

func (t Timing) stopGrace() time.Duration {
	if t.StopGrace > 0 {
		return t.StopGrace
	}
	return 3 * time.Minute
}

// Limits restricts the resources of the host for one machine, whatever its type.
// Zero means no limit.
type Limits struct {
	VCPUs     int
	MemoryMiB int
}
