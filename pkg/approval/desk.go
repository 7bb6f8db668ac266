package approval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// maxRecord is the maximum size of a request or an answer, in bytes.
const maxRecord = 256 << 10

// Desk keeps requests and answers in the factory's bucket.
type Desk struct {
	Store store.Store
	Keys  store.Directory
}

// Open keeps a request. A request for the same bundle of the same execution is renewed,
// because a retried state has another token. Another execution's is never overwritten.
func (d Desk) Open(ctx context.Context, r Request) (Request, error) {
	if err := CheckDigest(r.BundleDigest); err != nil {
		return r, failure.Wrap(failure.InvalidInput, err, "the request for an approval")
	}
	r.Schema = RequestSchema
	_, err := store.Update(ctx, d.Store, contract.ApprovalRequestKey(r.BundleDigest), func(there *Request) (bool, error) {
		if there.Schema != "" && there.RunARN != r.RunARN {
			return false, failure.New(failure.RecordMismatch, "the bundle %s waits for the execution %s, not for %s", r.BundleDigest, there.RunARN, r.RunARN)
		}
		if there.Schema != "" { // what people were asked stays
			r.Requested, r.Expires = there.Requested, there.Expires
		}
		*there = r
		return true, nil
	})
	return r, err
}

// Request reads the request for a bundle. The error is store.ErrNone if there is none.
func (d Desk) Request(ctx context.Context, digest string) (Request, error) {
	var r Request
	if err := CheckDigest(digest); err != nil {
		return r, failure.Wrap(failure.InvalidInput, err, "the request for an approval")
	}
	key := contract.ApprovalRequestKey(digest)
	raw, err := d.Store.ReadAtMost(ctx, key, maxRecord)
	if err != nil {
		return r, err
	}
	if err := decode(raw, &r); err != nil {
		return r, failure.Wrap(failure.RecordMismatch, err, "the request s3://%s/%s", d.Store.Bucket, key)
	}
	if r.Schema != RequestSchema || r.BundleDigest != digest {
		return r, failure.New(failure.RecordMismatch, "the request s3://%s/%s is about %s (schema %q)", d.Store.Bucket, key, r.BundleDigest, r.Schema)
	}
	return r, nil
}

// Keep writes an answer, once for a person. created is false if the person answered
// before; that answer stays.
func (d Desk) Keep(ctx context.Context, a Answer) (created bool, err error) {
	if !personForm.MatchString(a.Person) {
		return false, failure.New(failure.InvalidInput, "the person %q", a.Person)
	}
	a.Schema = AnswerSchema
	raw, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return false, failure.Wrap(failure.Internal, err, "encode an answer")
	}
	return d.Store.Create(ctx, contract.ApprovalAnswerKey(a.BundleDigest, a.Person), "application/json", append(raw, '\n'))
}

// Answers reads all answers about a bundle. One that cannot be read, or lies under the
// name of another person, is returned without a person, so that Judge does not count it.
func (d Desk) Answers(ctx context.Context, digest string) ([]Answer, error) {
	if err := CheckDigest(digest); err != nil {
		return nil, failure.Wrap(failure.InvalidInput, err, "the answers to a request")
	}
	keys, err := d.Keys.Keys(ctx, contract.ApprovalAnswersOf(digest))
	if err != nil {
		return nil, err
	}
	var out []Answer
	for _, key := range keys {
		raw, err := d.Store.ReadAtMost(ctx, key, maxRecord)
		if errors.Is(err, store.ErrNone) {
			continue
		}
		if err != nil && failure.CodeOf(err) != failure.InvalidInput { // which says that it is too large
			return nil, err
		}
		var a Answer
		if decode(raw, &a) != nil || !Same(a.Person, contract.ApprovalPersonIn(key)) {
			a = Answer{}
		}
		out = append(out, a)
	}
	return out, nil
}

// Verdict reads the request for a bundle and its answers, and judges them.
func (d Desk) Verdict(ctx context.Context, digest string, now time.Time) (Request, Verdict, error) {
	r, err := d.Request(ctx, digest)
	if err != nil {
		return r, Verdict{}, err
	}
	answers, err := d.Answers(ctx, digest)
	if err != nil {
		return r, Verdict{}, err
	}
	return r, Judge(r, answers, now), nil
}

// All reads the requests that there are, by the digest of their bundles.
func (d Desk) All(ctx context.Context) ([]Request, error) {
	keys, err := d.Keys.Keys(ctx, contract.ApprovalsPrefix)
	if err != nil {
		return nil, err
	}
	var out []Request
	for _, key := range keys {
		digest, ok := strings.CutSuffix(strings.TrimPrefix(key, contract.ApprovalsPrefix), "/request.json")
		if !ok || CheckDigest(digest) != nil {
			continue
		}
		r, err := d.Request(ctx, digest)
		if errors.Is(err, store.ErrNone) || failure.CodeOf(err) == failure.RecordMismatch {
			continue // one that cannot be read must not hide the others
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// requester is the record of who started an execution by hand.
type requester struct {
	Schema    int       `json:"schema"`
	Execution string    `json:"execution"`
	Person    string    `json:"person"`
	UserARN   string    `json:"userArn"`
	At        time.Time `json:"at"`
}

var executionForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// Requested keeps that a person starts an execution, before it starts. The error is
// InvalidInput if somebody else took the name.
func (d Desk) Requested(ctx context.Context, execution, person, userARN string, now time.Time) error {
	if !executionForm.MatchString(execution) {
		return failure.New(failure.InvalidInput, "%q is not the name of an execution", execution)
	}
	raw, err := json.MarshalIndent(requester{1, execution, person, userARN, now}, "", "  ")
	if err != nil {
		return failure.Wrap(failure.Internal, err, "encode a requester")
	}
	created, err := d.Store.Create(ctx, contract.RequesterKey(execution), "application/json", raw)
	if err != nil || created {
		return err
	}
	there, err := d.Requester(ctx, execution)
	if err == nil && !Same(there, person) {
		err = failure.New(failure.InvalidInput, "the name %s was taken by %s", execution, there)
	}
	return err
}

// Requester is the person who started an execution by hand. The error is store.ErrNone
// if nobody did, through the factory.
func (d Desk) Requester(ctx context.Context, execution string) (string, error) {
	raw, err := d.Store.ReadAtMost(ctx, contract.RequesterKey(execution), maxRecord)
	if err != nil {
		return "", err
	}
	var r requester
	if err := decode(raw, &r); err != nil || r.Execution != execution || r.Person == "" {
		return "", failure.New(failure.RecordMismatch, "the record s3://%s/%s does not say who started %s", d.Store.Bucket, contract.RequesterKey(execution), execution)
	}
	return r.Person, nil
}

func decode(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("more data follows")
	}
	return nil
}
