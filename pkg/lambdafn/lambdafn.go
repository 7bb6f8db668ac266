// Package lambdafn connects AWS Lambda with a stage: configuration, clients,
// logging, and the translation of errors into the names that the state machine's
// Retry and Catch clauses match.
package lambdafn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// Handler is a function: JSON in, JSON out. Its errors are
// messages.InvokeResponse_Error values.
type Handler func(ctx context.Context, payload json.RawMessage) (json.RawMessage, error)

// Maker makes a handler from an environment.
type Maker func(Environment) Handler

// Start runs one function until Lambda ends the process. It ends the process
// itself if the environment is incomplete.
func Start(make Maker) {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	env, err := NewEnvironment(context.Background(), os.Getenv)
	if err != nil {
		log.Error("function cannot start", "error", err.Error())
		os.Exit(1)
	}
	lambda.Start(Logged(make(env), os.Stderr))
}

// Adapt makes a Handler from a stage's Run method.
func Adapt[I, O any](run func(context.Context, I) (O, error)) Handler {
	return func(ctx context.Context, payload json.RawMessage) (result json.RawMessage, err error) {
		defer func() {
			if r := recover(); r != nil {
				err = named(defect(r))
			}
		}()
		var in I
		if err := decode(payload, &in); err != nil {
			return nil, named(failure.Wrap(failure.InvalidInput, err, "the stage's input does not have the documented form"))
		}
		out, err := run(ctx, in)
		if err != nil {
			return nil, named(err)
		}
		raw, err := json.Marshal(out)
		if err != nil {
			return nil, named(failure.Wrap(failure.Internal, err, "encode the stage's result"))
		}
		return raw, nil
	}
}

// decode is strict: an unknown field is a mistake, and ignoring it would do
// something other than what the caller asked for.
func decode(payload []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			return errors.New("there is text after the JSON document")
		}
		return nil
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("unknown field %s (allowed: %s)", field, strings.Join(fields(reflect.TypeOf(into).Elem()), ", "))
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("%s is of type %s (allowed: %s)", wrong.Field, wrong.Value, kindOf(wrong.Type))
	}
	return err
}

// kindOf returns JSON's name for the values of a type.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

// fields returns the JSON names of a struct's fields, including embedded
// structs, without the fields that only the state machine writes.
func fields(t reflect.Type) []string {
	var out []string
	if t.Kind() != reflect.Struct {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" && f.Tag.Get("from") != "machine" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// defect turns a panic into an error that contains its position.
func defect(value any) error {
	out := messages.InvokeResponse_Error{
		Type:    string(failure.Internal),
		Message: fmt.Sprintf("defect of the factory, please report it: %v", value),
	}
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		out.StackTrace = append(out.StackTrace, &messages.InvokeResponse_Error_StackFrame{
			Path: frame.File, Line: int32(frame.Line), Label: frame.Function, // line numbers are small
		})
		if !more {
			return out
		}
	}
}

// named returns err in the only form whose name Lambda passes on: the runtime
// takes an error's name from its Go type, except for this type, by value.
// Wrapping would hide the code from Retry and Catch. All errors pass through
// here, so the message, which may quote a guest, is made safe to print and to
// transport here.
func named(err error) error {
	var known messages.InvokeResponse_Error
	if !errors.As(err, &known) {
		known = messages.InvokeResponse_Error{Type: string(failure.CodeOf(err)), Message: err.Error()}
	}
	known.Message = plaintext.Clip(plaintext.Clean(known.Message), failure.MaxMessage)
	return known
}

// Logged logs the start and the end of every call to w, as JSON.
func Logged(next Handler, w io.Writer) Handler {
	return func(ctx context.Context, payload json.RawMessage) (json.RawMessage, error) {
		log := slog.New(slog.NewJSONHandler(w, nil)).With(subject(ctx, payload)...)
		start := time.Now()
		out, err := next(ctx, payload)
		log = log.With("milliseconds", time.Since(start).Milliseconds())
		var failed messages.InvokeResponse_Error
		switch {
		case err == nil && isTrigger(payload) && len(out) <= maxLogged:
			log.InfoContext(ctx, "stage done", "result", out)
		case err == nil:
			log.InfoContext(ctx, "stage done")
		case errors.As(err, &failed) && failure.Code(failed.Type).IsNotYet():
			log.InfoContext(ctx, "stage waits", "code", failed.Type, "reason", failed.Message)
		case errors.As(err, &failed):
			log.ErrorContext(ctx, "stage failed", "code", failed.Type, "error", failed.Message)
		default:
			log.ErrorContext(ctx, "stage failed", "error", err.Error())
		}
		return out, err
	}
}

// maxLogged limits the size of a logged result, in bytes.
const maxLogged = 16 << 10

// isTrigger reports whether the call comes from a trigger and not from an
// execution. Nobody receives the result of such a call, so only the log shows
// why something was started or not.
func isTrigger(payload json.RawMessage) bool {
	var job struct{ Execution json.RawMessage }
	return json.Unmarshal(payload, &job) == nil && job.Execution == nil
}

// subject describes to what the call belongs, for the log.
func subject(ctx context.Context, payload json.RawMessage) []any {
	var fields []any
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		fields = append(fields, "requestId", lc.AwsRequestID)
	}
	var job struct {
		Execution struct {
			Name string `json:"name"`
		} `json:"execution"`
		Stage string `json:"stage"`
	}
	if err := json.Unmarshal(payload, &job); err == nil {
		fields = append(fields, "execution", job.Execution.Name, "stage", job.Stage)
	}
	return fields
}
