package scheduler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// moment reads a time, in UTC unless it says otherwise.
func moment(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return at
}

func TestWhenASchedulesTimeComes(t *testing.T) {
	for sentence, tc := range map[string]struct {
		expression, zone, after string
		want                    []string
	}{
		"a night":                                          {"cron(0 3 * * ? *)", "UTC", "2026-11-01T03:00:00Z", []string{"2026-11-02T03:00:00Z", "2026-11-03T03:00:00Z"}},
		"a night in Berlin, summer":                        {"cron(0 3 * * ? *)", "Europe/Berlin", "2026-07-01T12:00:00Z", []string{"2026-07-02T01:00:00Z"}},
		"a night in Berlin, winter":                        {"cron(0 3 * * ? *)", "Europe/Berlin", "2026-12-01T12:00:00Z", []string{"2026-12-02T02:00:00Z"}},
		"a time that the clocks skip":                      {"cron(30 2 * * ? *)", "Europe/Berlin", "2026-03-28T12:00:00Z", []string{"2026-03-30T00:30:00Z"}},
		"a time that the clocks show twice":                {"cron(30 2 * * ? *)", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		"each hour, when one comes twice":                  {"cron(0 * * * ? *)", "America/New_York", "2026-11-01T04:30:00Z", []string{"2026-11-01T05:00:00Z", "2026-11-01T07:00:00Z"}},
		"a time that came before the clocks were put back": {"cron(45 * * * ? *)", "America/New_York", "2026-11-01T06:30:00Z", []string{"2026-11-01T07:45:00Z"}},
		"working days":                                     {"cron(15 10 ? * MON-FRI *)", "UTC", "2026-11-27T11:00:00Z", []string{"2026-11-30T10:15:00Z"}},
		"Sundays, by number":                               {"cron(0 0 ? * 1 *)", "UTC", "2026-11-26T00:00:00Z", []string{"2026-11-29T00:00:00Z"}},
		"the last day of a month":                          {"cron(0 0 L * ? *)", "UTC", "2027-02-01T00:00:00Z", []string{"2027-02-28T00:00:00Z"}},
		"the last Friday of a month":                       {"cron(0 0 ? * 6L *)", "UTC", "2026-11-01T00:00:00Z", []string{"2026-11-27T00:00:00Z"}},
		"the third Wednesday of a month":                   {"cron(0 0 ? * 4#3 *)", "UTC", "2026-11-01T00:00:00Z", []string{"2026-11-18T00:00:00Z"}},
		"the working day next to the 15th":                 {"cron(0 0 15W * ? *)", "UTC", "2026-11-01T00:00:00Z", []string{"2026-11-16T00:00:00Z"}},
		"every ten minutes of an hour":                     {"cron(0/10 8 * * ? *)", "UTC", "2026-11-01T08:40:00Z", []string{"2026-11-01T08:50:00Z", "2026-11-02T08:00:00Z"}},
		"years that are over":                              {"cron(0 0 1 1 ? 2020)", "UTC", "2026-11-01T00:00:00Z", nil},
		"a rate from its base on":                          {"rate(30 minutes)", "UTC", "2026-11-01T00:00:00Z", []string{"2026-11-01T00:10:00Z", "2026-11-01T00:40:00Z"}},
		"a rate long after its base":                       {"rate(1 hour)", "UTC", "2026-11-05T00:30:00Z", []string{"2026-11-05T01:10:00Z"}},
		"a day is 24 hours":                                {"rate(1 day)", "Europe/Berlin", "2026-11-03T00:10:00Z", []string{"2026-11-04T00:10:00Z"}},
		"once":                                             {"at(2026-11-20T13:00:00)", "Europe/Berlin", "2026-11-01T00:00:00Z", []string{"2026-11-20T12:00:00Z"}},
		"once, and it is over":                             {"at(2026-10-20T13:00:00)", "UTC", "2026-11-01T00:00:00Z", nil},
	} {
		t.Run(sentence, func(t *testing.T) {
			zone, err := time.LoadLocation(tc.zone)
			require.NoError(t, err)
			timing, err := parseExpression(tc.expression, zone, moment(t, "2026-11-01T00:10:00Z"))
			require.NoError(t, err)
			at, is := moment(t, tc.after), true
			for _, want := range tc.want {
				at, is = timing.after(at)
				require.True(t, is)
				assert.Equal(t, want, at.UTC().Format(time.RFC3339))
			}
			if len(tc.want) == 0 {
				_, is = timing.after(at)
				assert.False(t, is)
			}
		})
	}
}

func TestExpressionsThatAreRefused(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	for expression, says := range map[string]string{
		"every night":             "at(yyyy-mm-ddThh:mm:ss), rate(value unit) and cron(",
		"cron(0 3 * * *)":         "six fields",
		"cron(0 3 * * * *)":       "exactly one of the day of the month",
		"cron(0 3 ? * ? *)":       "exactly one of the day of the month",
		"cron(99 3 * * ? *)":      "invalid Schedule Expression cron(99",
		"rate(0 minutes)":         "at least 1",
		"rate(30)":                "at least 1",
		"rate(30 seconds)":        "at least 1",
		"rate(999999999 days)":    "too long",
		"at(2026-11-20)":          "yyyy-mm-ddThh:mm:ss is expected",
		"at(2026-03-29T02:30:00)": "does not exist in Europe/Berlin",
	} {
		t.Run(expression, func(t *testing.T) {
			_, err := parseExpression(expression, berlin, time.Time{})
			assert.ErrorContains(t, err, says)
		})
	}
}
