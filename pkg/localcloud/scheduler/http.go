package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxBody is the largest request, in bytes: an input has at most 256 KiB.
const maxBody = 1 << 20

// routes returns all operations of the service's REST API
// (https://docs.aws.amazon.com/scheduler/latest/APIReference/API_Operations.html).
func routes() wire.Routes {
	return wire.Routes{
		"POST /schedules/{Name}":         "CreateSchedule",
		"GET /schedules/{Name}":          "GetSchedule",
		"PUT /schedules/{Name}":          "UpdateSchedule",
		"DELETE /schedules/{Name}":       "DeleteSchedule",
		"GET /schedules":                 "ListSchedules",
		"POST /schedule-groups/{Name}":   "CreateScheduleGroup",
		"GET /schedule-groups/{Name}":    "GetScheduleGroup",
		"DELETE /schedule-groups/{Name}": "DeleteScheduleGroup",
		"GET /schedule-groups":           "ListScheduleGroups",
		"GET /tags/{ResourceArn}":        "ListTagsForResource",
		"POST /tags/{ResourceArn}":       "TagResource",
		"DELETE /tags/{ResourceArn}":     "UntagResource",
	}
}

// handler returns the service's REST API.
func (s *Service) handler() http.Handler {
	operations := map[string]http.HandlerFunc{
		"CreateSchedule": serve(s.CreateSchedule), "GetSchedule": serve(s.GetSchedule), "UpdateSchedule": serve(s.UpdateSchedule),
		"DeleteSchedule": serve(s.DeleteSchedule), "ListSchedules": serve(s.ListSchedules),
		"CreateScheduleGroup": serve(s.CreateScheduleGroup), "GetScheduleGroup": serve(s.GetScheduleGroup),
		"DeleteScheduleGroup": serve(s.DeleteScheduleGroup), "ListScheduleGroups": serve(s.ListScheduleGroups),
		"ListTagsForResource": serve(s.ListTagsForResource), "TagResource": serve(s.TagResource), "UntagResource": serve(s.UntagResource),
	}
	return routes().Handler("EventBridge Scheduler", operations, fail)
}

// serve makes a handler from a method with an SDK client's signature. The body
// is JSON with the member names of the input; the path and the query add
// members.
func serve[I, O any](call func(context.Context, *I, ...func(*scheduler.Options)) (*O, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		members, err := membersOf(w, r)
		if err != nil {
			fail(w, err)
			return
		}
		in := new(I)
		if err := wire.DecodeJSON(members, in); err != nil {
			fail(w, invalid("%s", err))
			return
		}
		out, err := call(r.Context(), in)
		if err != nil {
			fail(w, err)
			return
		}
		if err := wire.AnswerJSON(w, out); err != nil {
			fail(w, err)
		}
	}
}

// membersOf returns the members of a request's input, from body, path and query.
func membersOf(w http.ResponseWriter, r *http.Request) (map[string]any, error) {
	members := map[string]any{}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil && !errors.Is(err, io.EOF) {
		return nil, invalid("the request body is not an object of JSON: %s", err)
	}
	for _, name := range []string{"Name", "ResourceArn"} {
		if value := r.PathValue(name); value != "" {
			members[name] = value
		}
	}
	for name, values := range r.URL.Query() {
		switch name {
		case "ScheduleGroup", "groupName":
			members["GroupName"] = values[0]
		case "clientToken":
			members["ClientToken"] = values[0]
		case "MaxResults":
			members[name] = json.Number(values[0])
		case "TagKeys":
			keys := make([]any, 0, len(values))
			for _, value := range values {
				keys = append(keys, value)
			}
			members[name] = keys
		case "NamePrefix", "NextToken", "State":
			members[name] = values[0]
		}
	}
	return members, nil
}

// status returns the HTTP status of an error, from the API reference.
func status(code string) int {
	return map[string]int{
		"ResourceNotFoundException": http.StatusNotFound, "ConflictException": http.StatusConflict,
		"ServiceQuotaExceededException": http.StatusPaymentRequired, "ThrottlingException": http.StatusTooManyRequests,
	}[code]
}

func fail(w http.ResponseWriter, err error) { wire.FailJSON(w, err, status, nil) }
