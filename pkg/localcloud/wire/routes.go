package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"

	"github.com/aws/smithy-go"
)

// Routes are all operations of a service's REST API, by patterns of http.ServeMux such as
// "GET /schedules/{Name}".
type Routes map[string]string

// Operation returns the operation that a request is for, or an error if the service has
// none for it. service is the name for error messages.
func (all Routes) Operation(service string, r *http.Request) (string, error) {
	mux := http.NewServeMux()
	for pattern := range all {
		mux.Handle(pattern, http.NotFoundHandler())
	}
	_, pattern := mux.Handler(r)
	operation, ok := all[pattern]
	if !ok {
		return "", fmt.Errorf("%s has no operation for %s %s", service, r.Method, r.URL.Path)
	}
	return operation, nil
}

// Handler serves the operations. fail answers a request without an operation.
func (all Routes) Handler(service string, operations map[string]http.HandlerFunc, fail func(http.ResponseWriter, error)) http.Handler {
	mux := http.NewServeMux()
	for pattern, operation := range all {
		mux.Handle(pattern, operations[operation])
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, Errorf("UnknownOperationException", "the embedded AWS has no operation of %s for %s %s", service, r.Method, r.URL.Path))
	})
	return mux
}

// AnswerJSON writes an operation's output. FailJSON writes its error.
func AnswerJSON(w http.ResponseWriter, output any) error {
	raw, err := EncodeJSON(output)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(raw) // a client that went away needs no answer
	return nil
}

// FailJSON answers an error as restJson services do. status returns the HTTP status of
// an error code of the client, or 0 for 400. more are members beside the message.
func FailJSON(w http.ResponseWriter, err error, status func(code string) int, more map[string]string) {
	var api smithy.APIError
	if !errors.As(err, &api) {
		api = &smithy.GenericAPIError{Code: "InternalServerException", Message: err.Error(), Fault: smithy.FaultServer}
	}
	code := status(api.ErrorCode())
	switch {
	case code != 0:
	case api.ErrorCode() == "UnknownOperationException":
		code = http.StatusNotFound
	case api.ErrorFault() == smithy.FaultServer:
		code = http.StatusInternalServerError
	default:
		code = http.StatusBadRequest
	}
	body := map[string]string{"Message": api.ErrorMessage(), "message": api.ErrorMessage()}
	maps.Copy(body, more)
	raw, _ := json.Marshal(body) // strings always marshal
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", api.ErrorCode())
	w.WriteHeader(code)
	_, _ = w.Write(raw) // a client that went away needs no answer
}
