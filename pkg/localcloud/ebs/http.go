package ebs

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// routes returns all operations
// (https://docs.aws.amazon.com/ebs/latest/APIReference/API_Operations.html).
func routes() wire.Routes {
	return wire.Routes{
		"GET /snapshots/{id}/blocks":         "ListSnapshotBlocks",
		"GET /snapshots/{id}/blocks/{index}": "GetSnapshotBlock",
	}
}

// Wire describes the service to the HTTP front end.
func (s *Service) Wire() wire.Service {
	operations := map[string]http.HandlerFunc{"ListSnapshotBlocks": s.serveList, "GetSnapshotBlock": s.serveGet}
	return wire.Service{ID: "ebs", Name: "EBS", Protocol: wire.REST, Version: "2019-11-02", Handler: routes().Handler("EBS", operations, fail)}
}

// number parses a number in a query or path; it is nil for an empty text.
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
	if err := wire.AnswerJSON(w, out); err != nil {
		fail(w, err)
	}
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
	_, _ = io.Copy(w, out.BlockData) // an error means that the client has disconnected
}

// status returns the HTTP status of an error, from the API reference.
func status(code string) int {
	return map[string]int{"ResourceNotFoundException": http.StatusNotFound, "AccessDeniedException": http.StatusForbidden}[code]
}

func fail(w http.ResponseWriter, err error) {
	more := map[string]string{}
	var validation *types.ValidationException
	var missing *types.ResourceNotFoundException
	switch {
	case errors.As(err, &validation):
		more["Reason"] = string(validation.Reason)
	case errors.As(err, &missing):
		more["Reason"] = string(missing.Reason)
	}
	wire.FailJSON(w, err, status, more)
}
