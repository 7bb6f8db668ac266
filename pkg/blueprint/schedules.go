package blueprint

import (
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
)

// What schedules say in every deployment that is not told otherwise
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

// How long, and how often, what starts executions is tried to be delivered, and
// how long what was not is kept.
const (
	DeliveryHours     = 1
	ScheduleRetries   = 5 // of a schedule's call
	InvocationRetries = 2 // of a trigger that failed, which is the most that Lambda makes
	DeadLetterDays    = 14
)

// DeliveryAge is DeliveryHours.
const DeliveryAge = DeliveryHours * time.Hour

// Schedule is a schedule of EventBridge Scheduler that starts a function.
type Schedule struct {
	Name          string // of it, behind the deployment's prefix
	Description   string
	Expression    string
	Timezone      string
	WindowMinutes int    // 0: it rings at its time
	Function      string // its name
	Input         string
}

// Schedules are those of a deployment that is not told otherwise.
func Schedules() []Schedule {
	return []Schedule{
		{
			Name: "nightly", Description: "builds what is stale", Expression: DefaultNightly, Timezone: DefaultTimezone,
			WindowMinutes: DefaultWindowMinutes, Function: StartBuilds, Input: NightlyInput,
		},
		{
			Name: "watch", Description: "looks at the sources of recipes", Expression: DefaultWatch, Timezone: DefaultTimezone,
			Function: WatchSources, Input: WatchInput,
		},
	}
}

// SchedulesPolicy lets schedules call their functions, and keep what they could
// not deliver.
func SchedulesPolicy(functionARN func(name string) string, deadLetters string) Policy {
	call := Statement{Actions: []string{"lambda:InvokeFunction"}}
	for _, s := range Schedules() {
		call.Resources = append(call.Resources, functionARN(s.Function))
	}
	return Policy{call, DeadLettersStatement(deadLetters)}
}

// DeadLettersStatement lets a trigger, whose failed invocations Lambda keeps with
// the trigger's own role, or a schedule send to the queue of dead letters.
func DeadLettersStatement(queueARN string) Statement {
	return Statement{Actions: []string{"sqs:SendMessage"}, Resources: []string{queueARN}}
}
