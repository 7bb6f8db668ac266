package asl

import "time"

// TimeFormat is the format of times in the context object.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// contextObject returns $states.context.
func (v *visit) contextObject() map[string]any {
	object := map[string]any{
		"Execution": map[string]any{
			"Id":           v.exec.ARN,
			"Input":        v.runner.input,
			"Name":         v.exec.Name,
			"RoleArn":      v.exec.RoleARN,
			"StartTime":    timeText(v.exec.StartTime),
			"RedriveCount": float64(0),
		},
		"State":        v.stateObject(),
		"StateMachine": map[string]any{"Id": v.exec.MachineARN, "Name": v.exec.MachineName},
	}
	if v.taskToken != "" {
		object["Task"] = map[string]any{"Token": v.taskToken}
	}
	if v.item != nil {
		object["Map"] = map[string]any{"Item": v.item}
	}
	return object
}

// stateObject returns $states.context.State. Only states that can be retried
// have RetryCount.
func (v *visit) stateObject() map[string]any {
	object := map[string]any{"Name": v.state.name, "EnteredTime": timeText(v.entered)}
	switch v.state.typ {
	case "Task", "Parallel", "Map":
		object["RetryCount"] = float64(v.retries)
	}
	return object
}

func timeText(t time.Time) string { return t.UTC().Format(TimeFormat) }
