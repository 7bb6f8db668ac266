package ebs

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// Route is one operation of the REST API.
type Route struct{ Method, Pattern, Operation string }

// Routes are all operations, for those who decide on requests
// (https://docs.aws.amazon.com/ebs/latest/APIReference/API_Operations.html).
func Routes() []Route {
	return []Route{
		{http.MethodGet, "/snapshots/{id}/blocks", "ListSnapshotBlocks"},
		{http.MethodGet, "/snapshots/{id}/blocks/{index}", "GetSnapshotBlock"},
	}
}

// Wire describes the service to the HTTP front.
func (s *Service) Wire() wire.Service {
	operations := map[string]http.HandlerFunc{"ListSnapshotBlocks": s.serveList, "GetSnapshotBlock": s.serveGet}
	mux := http.NewServeMux()
	for _, r := range Routes() {
		mux.Handle(r.Method+" "+r.Pattern, operations[r.Operation])
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, wire.Errorf("UnknownOperationException", "the embedded AWS has no operation of EBS for %s %s", r.Method, r.URL.Path))
	})
	return wire.Service{ID: "ebs", Name: "EBS", Protocol: wire.REST, Version: "2019-11-02", Handler: mux}
}

// number is a number in a query or path; nil: there is none.
func number(text string) (*int32, error) {
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return nil, &types.ValidationException{Message: aws.String("a number is expected in place of " + strconv.Quote(text)), Reason: types.ValidationExceptionReasonInvalidParameterValue}
	}
	return aws.Int32(int32(n)), nil
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func (s *Service) serveList(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	in := &ebs.ListSnapshotBlocksInput{SnapshotId: aws.String(r.PathValue("id")), NextToken: optional(query.Get("pageToken"))}
	var err, err2 error
	in.MaxResults, err = number(query.Get("maxResults"))
	in.StartingBlockIndex, err2 = number(query.Get("startingBlockIndex"))
	if err = errors.Join(err, err2); err != nil {
		fail(w, err)
		return
	}
	out, err := s.ListSnapshotBlocks(r.Context(), in)
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

func (s *Service) serveGet(w http.ResponseWriter, r *http.Request) {
	index, err := number(r.PathValue("index"))
	if err != nil {
		fail(w, err)
		return
	}
	out, err := s.GetSnapshotBlock(r.Context(), &ebs.GetSnapshotBlockInput{
		SnapshotId: aws.String(r.PathValue("id")), BlockIndex: index, BlockToken: optional(r.URL.Query().Get("blockToken")),
	})
	if err != nil {
		fail(w, err)
		return
	}
	defer func() { _ = out.BlockData.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(int(*out.DataLength)))
	w.Header().Set("x-amz-Data-Length", strconv.Itoa(int(*out.DataLength)))
	w.Header().Set("x-amz-Checksum", *out.Checksum)
	w.Header().Set("x-amz-Checksum-Algorithm", string(out.ChecksumAlgorithm))
	_, _ = io.Copy(w, out.BlockData) // a client that went away needs no answer
}

// status is the HTTP status of an error; see the API reference.
func status(api smithy.APIError) int {
	switch api.ErrorCode() {
	case "ResourceNotFoundException", "UnknownOperationException":
		return http.StatusNotFound
	case "AccessDeniedException":
		return http.StatusForbidden
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
	body := map[string]string{"Message": api.ErrorMessage(), "message": api.ErrorMessage()}
	var validation *types.ValidationException
	var missing *types.ResourceNotFoundException
	switch {
	case errors.As(err, &validation):
		body["Reason"] = string(validation.Reason)
	case errors.As(err, &missing):
		body["Reason"] = string(missing.Reason)
	}
	raw, _ := json.Marshal(body) // texts marshal
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-ErrorType", api.ErrorCode())
	w.WriteHeader(status(api))
	_, _ = w.Write(raw)
}
