package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ami-factory/ami-factory/pkg/partition"

	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/sigv4"
)

// HandlerOptions configure the HTTP front. The zero value refuses every request, because
// it has no keys.
type HandlerOptions struct {
	// Authenticator verifies who calls. The zero value has no keys.
	Authenticator Authenticator
	// DefaultRegion decides the partition of this AWS. Default "us-east-1".
	DefaultRegion string
	// Before is called before an operation runs; its error is the answer. Faults are
	// injected here. service is the signing name. For REST services, operation is the
	// HTTP method.
	Before func(ctx context.Context, c Caller, service, operation string) error
	// Authorize is called with an operation's input before it runs, or with the
	// *http.Request of a REST service; its error is the answer. If it is nil, everything
	// is allowed.
	Authorize func(ctx context.Context, c Caller, service, operation string, input any) error
	// After receives the output of an operation that succeeded. It may be nil.
	After func(ctx context.Context, c Caller, service, operation string, output any)
	// MaxBody is the largest body, in bytes, that the awsJson and query
	// protocols accept. Default 8 MiB. REST services set their own limits.
	MaxBody int64
	// Clock is held while a request is served, so that a virtual clock does not advance
	// meanwhile. It may be nil.
	Clock clock.Clock
	// Logger receives one debug line per call, and errors that are defects. It may be nil.
	Logger *slog.Logger
}

// Handler serves the services over HTTP as AWS does, but on one endpoint: the signature
// of a request names the service, the region and the caller. Requests without a valid
// signature are refused.
func Handler(opts HandlerOptions, services ...Service) http.Handler {
	if opts.DefaultRegion == "" {
		opts.DefaultRegion = "us-east-1"
	}
	if opts.MaxBody == 0 {
		opts.MaxBody = 8 << 20
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	f := &front{HandlerOptions: opts, services: make(map[string]Service, len(services))}
	for _, s := range services {
		f.services[s.ID] = s
	}
	return f
}

type front struct {
	HandlerOptions
	services map[string]Service
}

// call is one request that the front serves.
type call struct {
	request   *http.Request
	body      []byte
	form      url.Values // query protocols: parsed on first use
	service   Service
	operation string
	caller    Caller
	id        string
}

// codec is a wire format.
type codec interface {
	operation(in *call) (string, error)
	decoder(in *call) func(input any) error
	encode(in *call, output reflect.Value) ([]byte, error)
	encodeError(in *call, e apiError) []byte
	contentType(in *call) string
}

func codecOf(s Service) codec {
	switch s.Protocol {
	case AWSJSON:
		return jsonCodec{lowerCamel: lowerCamelServices[s.ID]}
	case EC2Query:
		return queryCodec{ec2: true}
	case AWSQuery:
		return queryCodec{}
	}
	return restCodec{s3: s.ID == "s3"}
}

type requestIDKey struct{}

// RequestIDFrom returns the id of the HTTP request that ctx belongs to, or an empty
// string for a call in process.
func RequestIDFrom(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.Clock != nil {
		defer f.Clock.Hold()()
	}
	if err := FromElsewhere(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	in := &call{request: r, id: uuid.NewString()}
	w.Header().Set("X-Amzn-Requestid", in.id)
	in.request = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, in.id))

	scope := sigv4.ServiceOf(r)
	service, served := f.services[scope]
	in.service = service
	if !served {
		in.service = guessService(r, scope)
	}
	request, caller, done, err := f.Authenticator.Authenticate(in.request, in.service, f.limitOf(in.service))
	if err != nil {
		f.fail(w, in, codecOf(in.service), err)
		return
	}
	defer done()
	in.caller = caller
	in.request = request.WithContext(WithCaller(request.Context(), caller))
	if err := f.checkRegion(caller.Region); err != nil {
		in.operation = f.guessOperation(w, in)
		f.fail(w, in, codecOf(in.service), err)
		return
	}
	switch {
	case !served:
		in.operation = f.guessOperation(w, in)
		f.fail(w, in, codecOf(in.service), f.unserved(in))
	case service.Protocol == REST:
		f.serveREST(w, in, service.Handler, service)
	default:
		f.serveOperation(w, in)
	}
}

// checkRegion refuses requests that are signed for a region that this AWS does not have.
// On AWS such a request gets no answer, because no host has the name. The keys of one
// partition are unknown in the others.
// https://docs.aws.amazon.com/general/latest/gr/rande.html
func (f *front) checkRegion(region string) error {
	if region == "" {
		return nil
	}
	of, exists := partition.Of(region)
	if !partition.Known(region) || !exists {
		_, message, allowed := partition.Check(region)
		return Errorf("InvalidRegion", "%s: on AWS its endpoints would have no address (known: %s)", message, allowed)
	}
	if own := partition.OrDefault(f.DefaultRegion); of.ID != own.ID {
		return Errorf("UnrecognizedClientException", "The security token included in the request is invalid: region %s is in partition %s, and this embedded AWS is %s, as its own region %s",
			region, of.ID, own.ID, f.DefaultRegion)
	}
	return nil
}

// rightService refuses a request for an operation of another service than the one that
// it is signed for.
func (f *front) rightService(in *call) error {
	prefix, _, ok := strings.Cut(in.request.Header.Get("X-Amz-Target"), ".")
	if !ok || prefix == in.service.TargetPrefix {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(f.services)) {
		if f.services[id].TargetPrefix == prefix {
			return refusal(in.service, wrongService(id))
		}
	}
	return nil
}

func (f *front) limitOf(s Service) int64 {
	if s.Protocol == REST {
		return maxSigned
	}
	return f.MaxBody
}

func (f *front) serveREST(w http.ResponseWriter, in *call, handler http.Handler, service Service) {
	in.service, in.operation = service, in.request.Method
	if err := f.before(in); err != nil {
		f.fail(w, in, codecOf(service), err)
		return
	}
	if err := f.authorize(in, in.request); err != nil {
		f.fail(w, in, codecOf(service), err)
		return
	}
	f.serveHandler(w, in, handler)
}

// serveHandler runs the handler of a REST service and turns a panic into a server fault,
// unless part of an answer has been sent.
func (f *front) serveHandler(w http.ResponseWriter, in *call, handler http.Handler) {
	watched := &watchedWriter{ResponseWriter: w}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		// net/http drops the connection on ErrAbortHandler and reports nothing.
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(http.ErrAbortHandler)
		}
		f.Logger.Error("operation panicked", "service", in.service.ID, "method", in.request.Method, "path", in.request.URL.Path,
			"panic", p, "stack", string(debug.Stack()))
		if watched.begun {
			panic(http.ErrAbortHandler)
		}
		code := "InternalFailure"
		if in.service.ID == "s3" {
			code = "InternalError"
		}
		f.fail(w, in, codecOf(in.service), Errorf(code, "defect of the embedded AWS in %s %s %s: %v", in.service.Name, in.request.Method, in.request.URL.Path, p))
	}()
	handler.ServeHTTP(watched, in.request)
}

// watchedWriter records whether part of an answer has been sent. A handler that sends a
// second status has failed in the middle of its answer, as gofakes3 does when a client
// disconnects. The client must not take what follows for the rest of the answer, so the
// connection is closed.
type watchedWriter struct {
	http.ResponseWriter
	begun bool
}

func (w *watchedWriter) WriteHeader(status int) {
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	w.begun = status >= http.StatusOK // lower ones are informational
	w.ResponseWriter.WriteHeader(status)
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (f *front) authorize(in *call, input any) error {
	if f.Authorize == nil {
		return nil
	}
	return f.Authorize(in.request.Context(), in.caller, in.service.ID, in.operation, input)
}

func (f *front) before(in *call) error {
	if f.Before == nil {
		return nil
	}
	return f.Before(in.request.Context(), in.caller, in.service.ID, in.operation)
}

func (f *front) serveOperation(w http.ResponseWriter, in *call) {
	c := codecOf(in.service)
	body, err := io.ReadAll(in.request.Body) // at most MaxBody
	if err != nil {
		f.fail(w, in, c, err)
		return
	}
	in.body = body
	if in.operation, err = c.operation(in); err != nil {
		f.fail(w, in, c, err)
		return
	}
	if err := f.rightService(in); err != nil {
		f.fail(w, in, c, err)
		return
	}
	operation, served := in.service.Operations[in.operation]
	if !served {
		f.fail(w, in, c, f.unserved(in))
		return
	}
	if err := f.before(in); err != nil {
		f.fail(w, in, c, err)
		return
	}
	output, err := f.run(in, operation, c.decoder(in))
	if err != nil {
		f.fail(w, in, c, err)
		return
	}
	if f.After != nil {
		f.After(in.request.Context(), in.caller, in.service.ID, in.operation, output)
	}
	f.answer(w, in, c, output)
}

// run calls the operation and turns a panic into a server fault, so that the client sees
// the defect instead of a broken connection.
func (f *front) run(in *call, operation Operation, decode func(any) error) (output any, err error) {
	defer func() {
		if p := recover(); p != nil {
			f.Logger.Error("operation panicked", "service", in.service.ID, "operation", in.operation,
				"panic", p, "stack", string(debug.Stack()))
			output, err = nil, fmt.Errorf("defect of the embedded AWS in %s %s: %v", in.service.Name, in.operation, p)
		}
	}()
	return operation(in.request.Context(), func(input any) error {
		if err := decode(input); err != nil {
			return err
		}
		return f.authorize(in, input)
	})
}

func (f *front) answer(w http.ResponseWriter, in *call, c codec, output any) {
	v := reflect.ValueOf(output)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		f.fail(w, in, c, fmt.Errorf("%s returned %T instead of an output struct", in.operation, output))
		return
	}
	body, err := c.encode(in, v)
	if err != nil {
		f.fail(w, in, c, fmt.Errorf("encode the output of %s: %w", in.operation, err))
		return
	}
	f.log(in, http.StatusOK, "")
	f.write(w, in, http.StatusOK, c.contentType(in), body)
}

// An answer of up to largeAnswer bytes arrives at the client together with its header.
// A larger one is delayed by patience.
const (
	largeAnswer = 3 << 10
	patience    = 5 * time.Millisecond
)

// write sends an answer of known length in one piece. The SDK for Go closes the body of
// its request as soon as it has the header of the answer. If net/http is still sending
// that body, it drops the connection and with it the rest of the answer. No answer over
// the Internet is that fast, but one over loopback is, so a large answer is delayed a
// little. On a busy machine the race can still be lost; the SDK then retries.
func (f *front) write(w http.ResponseWriter, in *call, status int, contentType string, body []byte) {
	if len(body) > largeAnswer {
		select {
		case <-time.After(patience):
		case <-in.request.Context().Done():
		}
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have disconnected
}

func (f *front) fail(w http.ResponseWriter, in *call, c codec, err error) {
	e := toAPIError(err, in.service.Protocol)
	f.log(in, e.status, e.code+": "+e.message)
	w.Header().Set("X-Amzn-Errortype", e.code)
	f.write(w, in, e.status, c.contentType(in), c.encodeError(in, e))
}

func (f *front) log(in *call, status int, failure string) {
	f.Logger.Debug("call", "service", in.service.ID, "operation", in.operation, "account", in.caller.Account,
		"region", in.caller.Region, "status", status, "error", failure, "request", in.id)
}

// unserved returns an error that names what is not supported and what is.
func (f *front) unserved(in *call) error {
	code := "InvalidAction"
	if in.service.Protocol != EC2Query && in.service.Protocol != AWSQuery {
		code = "UnknownOperationException"
	}
	if _, served := f.services[in.service.ID]; !served {
		return Errorf(code, "the embedded AWS does not serve %s (operation %s); it serves: %s",
			in.service.Name, in.operation, strings.Join(slices.Sorted(maps.Keys(f.services)), ", "))
	}
	return Errorf(code, "the embedded AWS does not serve the operation %s of %s; it serves: %s",
		in.operation, in.service.Name, strings.Join(slices.Sorted(maps.Keys(in.service.Operations)), ", "))
}

// guessOperation returns the likely name of the operation of a request whose service is
// not supported.
func (f *front) guessOperation(w http.ResponseWriter, in *call) string {
	if target := in.request.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndex(target, ".")+1:]
	}
	if in.service.Protocol == REST {
		return in.request.Method + " " + in.request.URL.Path
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, in.request.Body, f.MaxBody))
	if err != nil {
		return "that cannot be read"
	}
	in.body = body
	form, err := in.parseForm()
	if err != nil {
		return "that cannot be read"
	}
	return form.Get("Action")
}

// looksLikeAPI reports whether a request without a signature is an API call and not a
// request for an object.
func looksLikeAPI(r *http.Request) bool {
	return r.Header.Get("X-Amz-Target") != "" ||
		strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") ||
		r.URL.Query().Has("Action")
}

// guessService finds the format of the error for a request whose service is not
// supported or not named.
func guessService(r *http.Request, id string) Service {
	s := Service{ID: id, Name: id, Protocol: REST}
	switch {
	case id == "" && !looksLikeAPI(r):
		return Service{ID: isS3, Name: "S3", Protocol: REST}
	case id == "ec2":
		s.Protocol = EC2Query
	case r.Header.Get("X-Amz-Target") != "":
		s.Protocol = AWSJSON
	case looksLikeAPI(r):
		s.Protocol = AWSQuery
	}
	return s
}
