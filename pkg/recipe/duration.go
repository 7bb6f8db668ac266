package recipe

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span written as "45m", "2h" or "90d".
type Duration time.Duration

// maxDays is a century: more is a mistake, and far more an overflow.
const maxDays = 36500

// ParseDuration parses the forms of time.ParseDuration, and whole days such as
// "90d".
func ParseDuration(s string) (Duration, error) {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.Atoi(n)
		if err != nil || days < 0 || days > maxDays {
			return 0, fmt.Errorf("%q is not a number of days from 0 to %d", s, maxDays)
		}
		return Duration(time.Duration(days) * 24 * time.Hour), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 45m, 2h or 90d", s)
	}
	return Duration(d), nil
}

// MarshalText writes the duration in the form of ParseDuration.
func (d Duration) MarshalText() ([]byte, error) {
	const day = 24 * time.Hour
	if t := time.Duration(d); t >= day && t%day == 0 {
		return fmt.Appendf(nil, "%dd", t/day), nil
	}
	s := time.Duration(d).String()
	// time.Duration writes 45m as 45m0s and 2h as 2h0m0s.
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return []byte(s), nil
}

// UnmarshalText is ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// String returns the duration in the form of ParseDuration.
func (d Duration) String() string {
	b, _ := d.MarshalText() // never fails
	return string(b)
}
