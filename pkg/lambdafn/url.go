package lambdafn

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// URLRequest is a request to a function URL, as Lambda describes it.
type URLRequest struct {
	Method    string
	Path      string
	Body      []byte
	UserARN   string    // of the caller, as Lambda verified it; empty: the request was not signed
	RequestID string    // that Lambda gave it
	At        time.Time // when Lambda received it
}

// URLResponse is what the function answers.
type URLResponse struct {
	Status  int
	Headers map[string]string
	Body    string
}

// AdaptURL makes a handler for requests to a function URL. Unlike a stage's input, the
// event has members that the function does not read
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-payloads).
func AdaptURL(serve func(context.Context, URLRequest) (URLResponse, error)) Handler {
	return func(ctx context.Context, payload json.RawMessage) (json.RawMessage, error) {
		var in events.LambdaFunctionURLRequest
		if err := json.Unmarshal(payload, &in); err != nil {
			return nil, named(failure.Wrap(failure.InvalidInput, err, "the event is not one of a function URL"))
		}
		r := URLRequest{Method: in.RequestContext.HTTP.Method, Path: in.RawPath, Body: []byte(in.Body), RequestID: in.RequestContext.RequestID}
		if in.RequestContext.TimeEpoch > 0 {
			r.At = time.UnixMilli(in.RequestContext.TimeEpoch).UTC()
		}
		if by := in.RequestContext.Authorizer; by != nil && by.IAM != nil {
			r.UserARN = by.IAM.UserARN
		}
		if in.IsBase64Encoded {
			body, err := base64.StdEncoding.DecodeString(in.Body)
			if err != nil {
				return nil, named(failure.Wrap(failure.InvalidInput, err, "the body of the event is not in base64"))
			}
			r.Body = body
		}
		out, err := serve(ctx, r)
		if err != nil {
			return nil, named(err)
		}
		return json.Marshal(events.LambdaFunctionURLResponse{StatusCode: out.Status, Headers: out.Headers, Body: out.Body})
	}
}
