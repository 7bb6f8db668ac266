package cost

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Usage is the usage of AWS by one execution.
type Usage struct {
	Region       string // where the image is built
	Architecture string // of the functions: arm64 or x86_64
	Instances    []Instance
	// KeptIn lists the regions that keep the image; empty if it was not published.
	KeptIn []string
	// SnapshotGiB is the size of the image's snapshot in each region, at most that
	// of the volume: EBS keeps only the blocks that were written.
	SnapshotGiB   float64
	SnapshotKnown bool // EC2 reported it; otherwise it is the volume's size
	// SnapshotSeconds is how long a snapshot existed that was removed again.
	SnapshotSeconds float64
	Copies          int // to other regions, finished or not
	Transitions     int // states entered, and retries
	Requests        int // invocations of functions
	GBSeconds       float64
	S3Writes        int
	S3Reads         int
}

// Instance is a builder or verifier.
type Instance struct {
	Role          string
	Type          string
	Seconds       float64 // of running time
	VolumeGiB     float64 // of its root volume, gp3
	VolumeSeconds float64 // of the volume's existence
}

// Line is one item of an estimate.
type Line struct {
	Item      string  `json:"item"`
	Quantity  float64 `json:"quantity"`
	Unit      string  `json:"unit"`
	Price     float64 `json:"price"` // US dollars for one unit
	USD       float64 `json:"usd"`
	Estimated bool    `json:"estimated,omitempty"` // the quantity is assumed, not measured
	Monthly   bool    `json:"monthly,omitempty"`   // charged for every month that the image is kept
}

// Estimate is the cost of an execution, at the prices of a table.
type Estimate struct {
	Region     string   `json:"region"`
	Prices     string   `json:"prices"` // date and source of the prices
	USD        float64  `json:"usd"`    // of the execution
	MonthlyUSD float64  `json:"monthlyUsd"`
	Lines      []Line   `json:"lines"`
	Notes      []string `json:"notes"` // what the estimate leaves out or assumes
}

const (
	secondsPerHour = 3600
	// hoursPerMonth converts AWS's monthly prices of volumes into hourly ones (the
	// examples at https://aws.amazon.com/ebs/pricing/ use 30 days).
	hoursPerMonth = 30 * 24
	// leastSeconds is the minimum time that EC2 charges for a Linux instance
	// (https://aws.amazon.com/ec2/pricing/on-demand/).
	leastSeconds = 60
	// otherwise is the region whose prices apply if a table does not have a region.
	otherwise = "us-east-1"
)

// leftOut is the note about costs that no line contains.
const leftOut = "Not counted: logs, metrics, messages, events and calls of KMS, which are less than a cent, and the cost of a private network (NAT, endpoints)."

// Of estimates the cost of u at the prices of t. Items without a price are not
// in the sum, and a note says so.
func Of(u Usage, t Table) Estimate {
	e := estimator{table: t, noted: map[string]bool{}}
	p := e.prices(u.Region)
	for _, i := range u.Instances {
		e.instance(p, i)
	}
	e.volumes(p, u.Instances)
	gib := u.SnapshotGiB
	e.line(Line{Item: "EBS snapshot, until it was removed", Quantity: gib * u.SnapshotSeconds / secondsPerHour, Unit: "GiB-hour", Price: p.SnapshotGiBMonth / hoursPerMonth, Estimated: !u.SnapshotKnown})
	e.line(Line{Item: "Copies to other regions", Quantity: gib * float64(u.Copies), Unit: "GiB", Price: p.TransferGiB, Estimated: !u.SnapshotKnown})
	e.line(Line{Item: "Step Functions", Quantity: float64(u.Transitions), Unit: "transition", Price: p.Transition})
	e.line(Line{Item: "Lambda, " + u.Architecture, Quantity: u.GBSeconds, Unit: "GB-second", Price: p.LambdaGBSecond[u.Architecture], Estimated: true})
	e.line(Line{Item: "Lambda, invocations", Quantity: float64(u.Requests), Unit: "request", Price: p.LambdaRequest})
	e.line(Line{Item: "S3, writes", Quantity: float64(u.S3Writes), Unit: "request", Price: p.S3Write, Estimated: true})
	e.line(Line{Item: "S3, reads", Quantity: float64(u.S3Reads), Unit: "request", Price: p.S3Read, Estimated: true})
	for _, region := range slices.Sorted(slices.Values(u.KeptIn)) {
		e.line(Line{Item: "EBS snapshot in " + region, Quantity: gib, Unit: "GiB-month", Price: e.prices(region).SnapshotGiBMonth, Estimated: !u.SnapshotKnown, Monthly: true})
	}
	if gib > 0 && !u.SnapshotKnown {
		e.note("The snapshot's size is assumed to be that of the whole volume, which is the maximum; it has only the blocks that were written.")
	}
	return e.estimate(u.Region)
}

// estimator collects lines and notes.
type estimator struct {
	table Table
	lines []Line
	notes []string
	noted map[string]bool
}

func (e *estimator) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !e.noted[text] {
		e.noted[text], e.notes = true, append(e.notes, text)
	}
}

// prices returns the prices of a region, or those of another region with a note.
func (e *estimator) prices(region string) Prices {
	if p, ok := e.table.Regions[region]; ok {
		return p
	}
	e.note("The table has no prices of %s (it has those of %s): the estimate uses those of %s.",
		region, strings.Join(slices.Sorted(maps.Keys(e.table.Regions)), ", "), otherwise)
	return e.table.Regions[otherwise]
}

// line adds a line unless its quantity is zero.
func (e *estimator) line(l Line) {
	if l.Quantity <= 0 {
		return
	}
	if l.Price == 0 {
		e.note("%s has no price (%s): it is not in the sum.", l.Item, l.Unit)
	}
	l.Quantity, l.USD = round(l.Quantity), round(l.Quantity*l.Price)
	e.lines = append(e.lines, l)
}

func (e *estimator) instance(p Prices, i Instance) {
	if i.Seconds <= 0 {
		return
	}
	kind := orElse(i.Type, "of unknown type")
	e.line(Line{Item: "EC2 " + i.Role + ", " + kind, Quantity: max(i.Seconds, leastSeconds) / secondsPerHour, Unit: "hour", Price: p.InstanceHour[kind]})
}

func (e *estimator) volumes(p Prices, instances []Instance) {
	var hours float64
	for _, i := range instances {
		hours += i.VolumeGiB * i.VolumeSeconds / secondsPerHour
	}
	e.line(Line{Item: "EBS root volumes, gp3", Quantity: hours, Unit: "GiB-hour", Price: p.VolumeGiBMonth / hoursPerMonth})
}

func (e *estimator) estimate(region string) Estimate {
	out := Estimate{
		Region: region, Prices: e.table.Date + ", " + e.table.Source, Lines: append([]Line{}, e.lines...), Notes: append(e.notes, leftOut),
	}
	// Most expensive first, monthly items last.
	slices.SortStableFunc(out.Lines, func(a, b Line) int {
		if a.Monthly != b.Monthly {
			if a.Monthly {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.USD, a.USD)
	})
	for _, l := range out.Lines {
		if l.Monthly {
			out.MonthlyUSD += l.USD
		} else {
			out.USD += l.USD
		}
	}
	out.USD, out.MonthlyUSD = round(out.USD), round(out.MonthlyUSD)
	return out
}

// round rounds to six decimal places: a millionth of a dollar.
func round(v float64) float64 { return math.Round(v*1e6) / 1e6 }
