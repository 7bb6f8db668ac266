package blueprint

import (
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// The schedules of a deployment that sets no others
// (https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html).
const (
	DefaultNightly       = "cron(0 3 * * ? *)"
	DefaultWatch         = "rate(30 minutes)"
	DefaultTimezone      = "UTC"
	DefaultWindowMinutes = 60 // within which a night begins
)

// What schedules send. EventBridge Scheduler fills in the time.
const (
	NightlyInput = `{"detail-type":"` + contract.NightlyEvent + `","time":"<aws.scheduler.scheduled-time>","detail":{}}`
	WatchInput   = `{"time":"<aws.scheduler.scheduled-time>"}`
)

// How often AWS tries to deliver what starts executions, and for how many days the
// queue keeps what was not delivered.
const (
	ScheduleRetries   = 5 // of a schedule's call
	InvocationRetries = 2 // of a trigger that failed, which is the most that Lambda makes
	DeadLetterDays    = 14
)

// DeliveryAge is how long AWS tries to deliver an event to a trigger.
const DeliveryAge = time.Hour

// Schedule is a schedule of EventBridge Scheduler that starts a function.
type Schedule struct {
	Name          string // of it, behind the deployment's prefix
	Does          string // for descriptions
	Expression    string
	Timezone      string
	WindowMinutes int    // 0: it rings at its time
	Function      string // its name
	Input         string
}

// ScheduleSettings say when schedules start their functions.
type ScheduleSettings struct {
	Nightly       string // schedule expression
	Timezone      string // of all schedules, as the IANA names it
	WindowMinutes int    // within which a night begins; 0: at its time
	Watch         string // schedule expression
}

// DefaultSchedules are those of a deployment that names no others.
func DefaultSchedules() ScheduleSettings {
	return ScheduleSettings{Nightly: DefaultNightly, Timezone: DefaultTimezone, WindowMinutes: DefaultWindowMinutes, Watch: DefaultWatch}
}

// Schedules are those of a deployment.
func Schedules(s ScheduleSettings) []Schedule {
	return []Schedule{
		{
			Name: "nightly", Does: "builds what is stale", Expression: s.Nightly, Timezone: s.Timezone,
			WindowMinutes: s.WindowMinutes, Function: StartBuilds, Input: NightlyInput,
		},
		{
			Name: "watch", Does: "looks at the sources of recipes", Expression: s.Watch, Timezone: s.Timezone,
			Function: WatchSources, Input: WatchInput,
		},
	}
}
