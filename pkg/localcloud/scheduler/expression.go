package scheduler

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/reugn/go-quartz/quartz"
)

// timing computes when a schedule is due
// (https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html).
type timing interface {
	// after returns the first due time after t, or false if there is none.
	after(t time.Time) (time.Time, bool)
}

var (
	expressionForm = regexp.MustCompile(`^(at|rate|cron)\((.+)\)$`)
	rateForm       = regexp.MustCompile(`^([1-9][0-9]{0,8}) (minute|minutes|hour|hours|day|days)$`)
)

// parseExpression parses a schedule expression in a time zone. A rate counts
// from base.
func parseExpression(expression string, zone *time.Location, base time.Time) (timing, error) {
	m := expressionForm.FindStringSubmatch(expression)
	if m == nil {
		return nil, fmt.Errorf("invalid Schedule Expression %s: at(yyyy-mm-ddThh:mm:ss), rate(value unit) and cron(minutes hours day-of-month month day-of-week year) are allowed", expression)
	}
	switch m[1] {
	case "at":
		return parseAt(m[2], zone)
	case "rate":
		return parseRate(m[2], base)
	}
	return parseCron(m[2], zone)
}

// once is the time of at().
type once time.Time

func (o once) after(t time.Time) (time.Time, bool) {
	return time.Time(o), time.Time(o).After(t)
}

func parseAt(text string, zone *time.Location) (timing, error) {
	wall, err := time.Parse("2006-01-02T15:04:05", text)
	if err != nil {
		return nil, fmt.Errorf("invalid Schedule Expression at(%s): yyyy-mm-ddThh:mm:ss is expected", text)
	}
	at, exists := inZone(wall, zone)
	if !exists {
		return nil, fmt.Errorf("invalid Schedule Expression at(%s): this time does not exist in %s, where clocks are set forward then", text, zone)
	}
	return once(at), nil
}

// every is a rate. A day has 24 hours, also when clocks change.
type every struct {
	base   time.Time
	period time.Duration
}

func (e every) after(t time.Time) (time.Time, bool) {
	if t.Before(e.base) {
		return e.base, true
	}
	return e.base.Add((t.Sub(e.base)/e.period + 1) * e.period), true
}

func parseRate(text string, base time.Time) (timing, error) {
	m := rateForm.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("invalid Schedule Expression rate(%s): a number of at least 1, and minutes, hours or days are expected", text)
	}
	n, err := strconv.Atoi(m[1])
	unit := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[strings.TrimSuffix(m[2], "s")]
	period := time.Duration(n) * unit
	if err != nil || period/unit != time.Duration(n) {
		return nil, fmt.Errorf("invalid Schedule Expression rate(%s): that is too long", text)
	}
	return every{base: base, period: period}, nil
}

// calendar is a cron expression. It is evaluated in local time: a time that is
// skipped when clocks change does not occur, and one that repeats occurs once.
type calendar struct {
	wall *quartz.CronTrigger // local time, represented in UTC
	zone *time.Location
}

// mostSkipped limits how many times in a row may not exist: an expression for
// every minute, and clocks that change by hours.
const mostSkipped = 24 * 60

func (c calendar) after(t time.Time) (time.Time, bool) {
	local := t.In(c.zone)
	_, offset := local.Zone()
	wall := t.UTC().Add(time.Duration(offset) * time.Second)
	for range mostSkipped {
		next, err := c.wall.NextFireTime(wall.UnixNano())
		if err != nil {
			return time.Time{}, false // its years have passed
		}
		wall = time.Unix(0, next).UTC()
		if at, exists := inZone(wall, c.zone); exists && at.After(t) {
			return at, true
		}
	}
	return time.Time{}, false
}

// parseCron parses the six fields of AWS. For go-quartz, the seconds come before
// them.
func parseCron(text string, zone *time.Location) (timing, error) {
	fields := strings.Fields(text)
	if len(fields) != 6 {
		return nil, fmt.Errorf("invalid Schedule Expression cron(%s): six fields are expected: minutes, hours, day of month, month, day of week, year", text)
	}
	if (fields[2] == "?") == (fields[4] == "?") {
		return nil, fmt.Errorf("invalid Schedule Expression cron(%s): exactly one of the day of the month and the day of the week is ?", text)
	}
	wall, err := quartz.NewCronTrigger("0 " + strings.Join(fields, " "))
	if err != nil {
		return nil, fmt.Errorf("invalid Schedule Expression cron(%s): %w", text, err)
	}
	return calendar{wall: wall, zone: zone}, nil
}

// inZone returns the time at which a zone's local time equals wall in UTC, the
// first one if it repeats. exists is false if it is skipped.
func inZone(wall time.Time, zone *time.Location) (at time.Time, exists bool) {
	const day = 24 * time.Hour
	// Try the offsets before and after: clocks do not change twice within two days.
	for _, probe := range []time.Time{wall.Add(-day), wall.Add(day)} {
		_, offset := probe.In(zone).Zone()
		at = wall.Add(-time.Duration(offset) * time.Second)
		if _, is := at.In(zone).Zone(); is == offset {
			return at.UTC(), true
		}
	}
	return time.Time{}, false
}
