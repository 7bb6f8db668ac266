package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// maxBody is the largest request, in bytes: an archive of 50 MB in base64.
const maxBody = 70_167_211

// endpoint decodes a request, calls the operation, and returns its output and
// the HTTP status.
type endpoint func(r *http.Request) (output any, status int, err error)

// handler returns the service's REST API.
func (s *Service) handler() http.Handler {
	mux := http.NewServeMux()
	routes := map[string]endpoint{
		"POST /2015-03-31/functions":                                operation(s.CreateFunction, http.StatusCreated, nil),
		"GET /2015-03-31/functions":                                 operation(s.ListFunctions, http.StatusOK, listQuery),
		"GET /2015-03-31/functions/{name}":                          operation(s.GetFunction, http.StatusOK, nil),
		"DELETE /2015-03-31/functions/{name}":                       operation(s.DeleteFunction, http.StatusNoContent, nil),
		"GET /2015-03-31/functions/{name}/configuration":            operation(s.GetFunctionConfiguration, http.StatusOK, nil),
		"PUT /2015-03-31/functions/{name}/configuration":            operation(s.UpdateFunctionConfiguration, http.StatusOK, nil),
		"PUT /2015-03-31/functions/{name}/code":                     operation(s.UpdateFunctionCode, http.StatusOK, nil),
		"POST /2015-03-31/functions/{name}/policy":                  operation(s.AddPermission, http.StatusCreated, nil),
		"GET /2015-03-31/functions/{name}/policy":                   operation(s.GetPolicy, http.StatusOK, nil),
		"DELETE /2015-03-31/functions/{name}/policy/{statement}":    operation(s.RemovePermission, http.StatusNoContent, nil),
		"PUT /2017-10-31/functions/{name}/concurrency":              operation(s.PutFunctionConcurrency, http.StatusOK, nil),
		"GET /2019-09-30/functions/{name}/concurrency":              operation(s.GetFunctionConcurrency, http.StatusOK, nil),
		"DELETE /2017-10-31/functions/{name}/concurrency":           operation(s.DeleteFunctionConcurrency, http.StatusNoContent, nil),
		"PUT /2019-09-25/functions/{name}/event-invoke-config":      epochTimes(operation(s.PutFunctionEventInvokeConfig, http.StatusOK, nil)),
		"POST /2019-09-25/functions/{name}/event-invoke-config":     epochTimes(operation(s.UpdateFunctionEventInvokeConfig, http.StatusOK, nil)),
		"GET /2019-09-25/functions/{name}/event-invoke-config":      epochTimes(operation(s.GetFunctionEventInvokeConfig, http.StatusOK, nil)),
		"GET /2019-09-25/functions/{name}/event-invoke-config/list": epochTimes(operation(s.ListFunctionEventInvokeConfigs, http.StatusOK, listQuery)),
		"DELETE /2019-09-25/functions/{name}/event-invoke-config":   operation(s.DeleteFunctionEventInvokeConfig, http.StatusNoContent, nil),
		"POST /2021-10-31/functions/{name}/url":                     operation(s.CreateFunctionUrlConfig, http.StatusCreated, nil),
		"GET /2021-10-31/functions/{name}/url":                      operation(s.GetFunctionUrlConfig, http.StatusOK, nil),
		"PUT /2021-10-31/functions/{name}/url":                      operation(s.UpdateFunctionUrlConfig, http.StatusOK, nil),
		"DELETE /2021-10-31/functions/{name}/url":                   operation(s.DeleteFunctionUrlConfig, http.StatusNoContent, nil),
		"GET /2021-10-31/functions/{name}/urls":                     operation(s.ListFunctionUrlConfigs, http.StatusOK, listQuery),
		"GET /2017-03-31/tags/{resource}":                           operation(s.ListTags, http.StatusOK, nil),
		"POST /2017-03-31/tags/{resource}":                          operation(s.TagResource, http.StatusNoContent, nil),
		"DELETE /2017-03-31/tags/{resource}":                        operation(s.UntagResource, http.StatusNoContent, untagQuery),
	}
	for pattern, e := range routes {
		mux.Handle(pattern, e)
	}
	mux.Handle("GET /2015-03-31/functions/{$}", routes["GET /2015-03-31/functions"])
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", s.serveInvoke)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &smithy.GenericAPIError{
			Code:    "UnknownOperationException",
			Message: "the embedded AWS has no operation of Lambda for " + r.Method + " " + r.URL.Path,
		})
	})
	return mux
}

// operation makes an endpoint from a method with an SDK client's signature. The
// body is JSON with the member names of the input. Path parameters set the
// fields of the same names, and the function query reads the query.
func operation[I, O any](call func(context.Context, *I, ...func(*awslambda.Options)) (*O, error), status int, query func(url.Values, map[string]any) error) endpoint {
	return func(r *http.Request) (any, int, error) {
		members := map[string]any{}
		body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			return nil, 0, requestTooLarge()
		case err != nil:
			return nil, 0, err
		case len(body) > 0:
			if err := json.Unmarshal(body, &members); err != nil {
				return nil, 0, &types.InvalidRequestContentException{Message: aws.String("Could not parse request body into json: " + err.Error()), Type: aws.String("User")}
			}
		}
		if name := r.PathValue("name"); name != "" {
			members["FunctionName"] = name
		}
		if statement := r.PathValue("statement"); statement != "" {
			members["StatementId"] = statement
		}
		if resource := r.PathValue("resource"); resource != "" {
			members["Resource"] = resource
		}
		q := r.URL.Query()
		if qualifier := q.Get("Qualifier"); qualifier != "" {
			members["Qualifier"] = qualifier
		}
		if query != nil {
			if err := query(q, members); err != nil {
				return nil, 0, err
			}
		}
		raw, err := json.Marshal(members)
		if err != nil {
			return nil, 0, err
		}
		in := new(I)
		if err := json.Unmarshal(raw, in); err != nil {
			return nil, 0, &types.InvalidRequestContentException{Message: aws.String("the request has the wrong form: " + err.Error()), Type: aws.String("User")}
		}
		out, err := call(r.Context(), in)
		return out, status, err
	}
}

func listQuery(q url.Values, members map[string]any) error {
	if marker := q.Get("Marker"); marker != "" {
		members["Marker"] = marker
	}
	if text := q.Get("MaxItems"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return invalid("MaxItems %q is not a number of at least 1", text)
		}
		members["MaxItems"] = n
	}
	return nil
}

func untagQuery(q url.Values, members map[string]any) error {
	members["TagKeys"] = q["tagKeys"]
	return nil
}

// epochTimes wraps an endpoint whose output has times: in JSON they are epoch
// seconds.
func epochTimes(e endpoint) endpoint {
	return func(r *http.Request) (any, int, error) {
		output, status, err := e(r)
		if err != nil {
			return nil, status, err
		}
		raw, err := wire.EncodeJSON(output)
		return json.RawMessage(raw), status, err
	}
}

// ServeHTTP implements http.Handler.
func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	output, status, err := e(r)
	if err != nil {
		writeError(w, err)
		return
	}
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	raw, err := compact(output)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}

// compact writes an output of the SDK without the members that are not set.
func compact(output any) ([]byte, error) {
	raw, err := json.Marshal(output)
	if err != nil {
		return nil, err
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	delete(members, "ResultMetadata")
	prune(members) // in place
	emptyLists(output, members)
	return json.Marshal(members)
}

// emptyLists adds the empty lists of a List operation again: AWS sends them,
// unlike those of a function's configuration.
func emptyLists(output any, members map[string]any) {
	t := reflect.TypeOf(output)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !strings.HasPrefix(t.Name(), "List") {
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if _, sent := members[f.Name]; !sent && f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() != reflect.Uint8 {
			members[f.Name] = []any{}
		}
	}
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if member == nil || member == "" {
				delete(v, name)
				continue
			}
			v[name] = prune(member)
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

func (s *Service) serveInvoke(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		writeError(w, &types.RequestTooLargeException{Message: aws.String("the payload is too large: " + err.Error()), Type: aws.String("User")})
		return
	}
	in := &awslambda.InvokeInput{
		FunctionName:   aws.String(r.PathValue("name")),
		Qualifier:      orNil(r.URL.Query().Get("Qualifier")),
		InvocationType: types.InvocationType(r.Header.Get("X-Amz-Invocation-Type")),
		LogType:        types.LogType(r.Header.Get("X-Amz-Log-Type")),
		Payload:        payload,
	}
	out, err := s.Invoke(r.Context(), in)
	if err != nil {
		writeError(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	for name, value := range map[string]*string{
		"X-Amz-Function-Error": out.FunctionError, "X-Amz-Log-Result": out.LogResult, "X-Amz-Executed-Version": out.ExecutedVersion,
	} {
		if value != nil {
			h.Set(name, *value)
		}
	}
	w.WriteHeader(int(out.StatusCode))
	_, _ = w.Write(out.Payload)
}

// status returns the HTTP status of one of Lambda's errors, from the API
// reference.
func status(code string, fault smithy.ErrorFault) int {
	switch code {
	case "ResourceNotFoundException", "UnknownOperationException":
		return http.StatusNotFound
	case "ResourceConflictException":
		return http.StatusConflict
	case "TooManyRequestsException":
		return http.StatusTooManyRequests
	case "RequestTooLargeException":
		return http.StatusRequestEntityTooLarge
	case "PreconditionFailedException":
		return http.StatusPreconditionFailed
	}
	if fault == smithy.FaultServer {
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

func writeError(w http.ResponseWriter, err error) {
	var api smithy.APIError
	if !errors.As(err, &api) {
		api = &smithy.GenericAPIError{Code: "ServiceException", Message: err.Error(), Fault: smithy.FaultServer}
	}
	kind := "User"
	if api.ErrorFault() == smithy.FaultServer {
		kind = "Server"
	}
	body := map[string]string{"Type": kind, "Message": api.ErrorMessage(), "message": api.ErrorMessage()}
	var throttled *types.TooManyRequestsException
	if errors.As(err, &throttled) {
		body["Reason"] = string(throttled.Reason)
	}
	raw, marshalErr := json.Marshal(body)
	if marshalErr != nil { // strings can always be marshalled
		raw = []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", api.ErrorCode())
	w.WriteHeader(status(api.ErrorCode(), api.ErrorFault()))
	_, _ = w.Write(raw)
}
