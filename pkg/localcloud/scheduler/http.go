package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxBody is the largest request, in bytes: an input has at most 256 KiB.
const maxBody = 1 << 20

// Route is one operation of the service's REST API.
type Route struct{ Method, Pattern, Operation string }

// Routes are all operations, for those who decide on requests
// (https://docs.aws.amazon.com/scheduler/latest/APIReference/API_Operations.html).
func Routes() []Route {
	return []Route{
		{http.MethodPost, "/schedules/{Name}", "CreateSchedule"},
		{http.MethodGet, "/schedules/{Name}", "GetSchedule"},
		{http.MethodPut, "/schedules/{Name}", "UpdateSchedule"},
		{http.MethodDelete, "/schedules/{Name}", "DeleteSchedule"},
		{http.MethodGet, "/schedules", "ListSchedules"},
		{http.MethodPost, "/schedule-groups/{Name}", "CreateScheduleGroup"},
		{http.MethodGet, "/schedule-groups/{Name}", "GetScheduleGroup"},
		{http.MethodDelete, "/schedule-groups/{Name}", "DeleteScheduleGroup"},
		{http.MethodGet, "/schedule-groups", "ListScheduleGroups"},
		{http.MethodGet, "/tags/{ResourceArn}", "ListTagsForResource"},
		{http.MethodPost, "/tags/{ResourceArn}", "TagResource"},
		{http.MethodDelete, "/tags/{ResourceArn}", "UntagResource"},
	}
}

// handler is the service's REST API.
func (s *Service) handler() http.Handler {
	operations := map[string]http.HandlerFunc{
		"CreateSchedule": serve(s.CreateSchedule), "GetSchedule": serve(s.GetSchedule), "UpdateSchedule": serve(s.UpdateSchedule),
		"DeleteSchedule": serve(s.DeleteSchedule), "ListSchedules": serve(s.ListSchedules),
		"CreateScheduleGroup": serve(s.CreateScheduleGroup), "GetScheduleGroup": serve(s.GetScheduleGroup),
		"DeleteScheduleGroup": serve(s.DeleteScheduleGroup), "ListScheduleGroups": serve(s.ListScheduleGroups),
		"ListTagsForResource": serve(s.ListTagsForResource), "TagResource": serve(s.TagResource), "UntagResource": serve(s.UntagResource),
	}
	mux := http.NewServeMux()
	for _, r := range Routes() {
		mux.Handle(r.Method+" "+r.Pattern, operations[r.Operation])
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, wire.Errorf("UnknownOperationException", "the embedded AWS has no operation of EventBridge Scheduler for %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// serve makes a handler of a method with an SDK client's signature. The body is
// JSON with the names of the input; the path and the query add to it.
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
		raw, err := wire.EncodeJSON(out)
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(raw) // a client that went away needs no answer
	}
}

// membersOf are the members of a request's input, wherever it has them.
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

// status is the HTTP status of an error; see the API reference.
func status(api smithy.APIError) int {
	switch api.ErrorCode() {
	case "ResourceNotFoundException", "UnknownOperationException":
		return http.StatusNotFound
	case "ConflictException":
		return http.StatusConflict
	case "ServiceQuotaExceededException":
		return http.StatusPaymentRequired
	case "ThrottlingException":
		return http.StatusTooManyRequests
	}
	if api.ErrorFault() == smithy.FaultServer {
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

func fail(w http.ResponseWriter, err error) {
	var api smithy.APIError
	if !errors.As(err, &api) {
		api = &smithy.GenericAPIError{Code: "InternalServerException", Message: err.Error(), Fault: smithy.FaultServer}
	}
	raw, _ := json.Marshal(map[string]string{"Message": api.ErrorMessage(), "message": api.ErrorMessage()}) // texts marshal
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", api.ErrorCode())
	w.WriteHeader(status(api))
	_, _ = w.Write(raw)
}
