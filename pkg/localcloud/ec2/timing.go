package ec2

import "time"

// Timing is how long things take on the clock, besides what the driver really
// does. All zero suits real guests.
type Timing struct {
	PendingToRunning  time.Duration // before a machine is started
	Stop              time.Duration // before a machine is asked to power off
	StopGrace         time.Duration // before it is forced; default 3 minutes
	Terminate         time.Duration // before a machine is killed
	ImageBase         time.Duration // of CreateImage
	ImagePerGiB       time.Duration // of CreateImage, per GiB of volume
	CopyBase          time.Duration // of CopyImage
	CopyPerGiB        time.Duration // of CopyImage, per GiB of volume
	ConsistencyWindow time.Duration // after a create, in which describes do not know the new resource
}

// AWSLike is a Timing for simulated guests with the orders of magnitude that
// EC2 shows for small images.
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

// Limits bound what one machine gets of the host, whatever its type promises.
// Zero means no limit.
type Limits struct {
	VCPUs     int
	MemoryMiB int
}
