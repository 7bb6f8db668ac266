package approval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// The paths of the door. All of them take POST only: mail scanners open links.
const (
	AnswerPath = "/approvals"      // takes an AnswerRequest
	ListPath   = "/approvals/list" // takes {}
	BuildPath  = "/builds"         // takes a BuildRequest
)

// AnswerRequest is what a person sends to decide.
type AnswerRequest struct {
	Digest   string   `json:"digest"` // of the bundle
	Decision Decision `json:"decision"`
	Reason   string   `json:"reason"`
}

// BuildRequest is what a person sends to start an execution.
type BuildRequest struct {
	contract.ExecutionInput
	Name string `json:"name"` // of the execution
}

// Standing is what the door says of a request, without its task token.
type Standing struct {
	Request
	Status    Status   `json:"status"`
	Approvals []Answer `json:"approvals"`
	Refusal   *Answer  `json:"refusal,omitempty"`
	Doubts    []string `json:"doubts,omitempty"`
}

// Started is what the door says of an execution that it started.
type Started struct {
	ExecutionARN string `json:"executionArn"`
	Requester    string `json:"requester"`
}

// TaskAPI is what the door needs of Step Functions.
type TaskAPI interface {
	SendTaskSuccess(context.Context, *sfn.SendTaskSuccessInput, ...func(*sfn.Options)) (*sfn.SendTaskSuccessOutput, error)
	SendTaskFailure(context.Context, *sfn.SendTaskFailureInput, ...func(*sfn.Options)) (*sfn.SendTaskFailureOutput, error)
	StartExecution(context.Context, *sfn.StartExecutionInput, ...func(*sfn.Options)) (*sfn.StartExecutionOutput, error)
}

// Door answers the requests of people that reach a function URL with IAM
// authentication. Lambda verifies the signature and says who called
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html). Nobody may invoke the
// function in another way, because they could then write that into the event
// themselves.
type Door struct {
	Desk    Desk
	People  People
	Tasks   TaskAPI
	Machine string // ARN of the state machine that builds
}

// refusal is an answer other than success.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return refusal{status, fmt.Sprintf(format, args...)}
}

// Call is a request to the function URL, as Lambda describes it to the function.
type Call struct {
	Method    string
	Path      string
	Body      []byte
	UserARN   string    // of the caller, as Lambda verified it; empty: the request was not signed
	RequestID string    // that Lambda gave it
	At        time.Time // when Lambda received it
}

// Response is the door's answer.
type Response struct {
	Status  int
	Headers map[string]string
	Body    string
}

// visit is a call of a person.
type visit struct {
	person, userARN, requestID string
	at                         time.Time
	body                       []byte
}

// Handle answers a request. The error is of the function itself; what the caller did
// wrong is in the response.
func (d Door) Handle(ctx context.Context, in Call) (Response, error) {
	status, out, err := d.serve(ctx, in)
	var refused refusal
	switch {
	case errors.As(err, &refused):
		status, out = refused.status, map[string]string{"error": refused.text}
	case failure.CodeOf(err) == failure.InvalidInput && err != nil:
		status, out = http.StatusBadRequest, map[string]string{"error": err.Error()}
	case err != nil:
		return Response{}, err
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return Response{}, failure.Wrap(failure.Internal, err, "encode the response")
	}
	headers := map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store"}
	if status == http.StatusMethodNotAllowed {
		headers["Allow"] = http.MethodPost
	}
	return Response{Status: status, Headers: headers, Body: string(raw)}, nil
}

func (d Door) serve(ctx context.Context, in Call) (int, any, error) {
	if in.Method != http.MethodPost {
		return 0, nil, refuse(http.StatusMethodNotAllowed, "only POST is accepted, not %s", in.Method)
	}
	if in.UserARN == "" || in.RequestID == "" || in.At.IsZero() {
		return 0, nil, refuse(http.StatusForbidden, "the request says nothing of its caller: send it to the function URL, signed by Signature Version 4")
	}
	person, err := d.People.Person(in.UserARN)
	if err != nil {
		return 0, nil, refuse(http.StatusForbidden, "%v", err)
	}
	v := visit{person: person, userARN: in.UserARN, requestID: in.RequestID, at: in.At, body: in.Body}
	switch strings.TrimSuffix(in.Path, "/") {
	case AnswerPath:
		out, err := d.answer(ctx, v)
		return http.StatusOK, out, err
	case ListPath:
		out, err := d.list(ctx, v)
		return http.StatusOK, out, err
	case BuildPath:
		out, err := d.build(ctx, v)
		return http.StatusCreated, out, err
	}
	return 0, nil, refuse(http.StatusNotFound, "there is nothing at %s (paths: %s, %s, %s)", in.Path, AnswerPath, ListPath, BuildPath)
}

func (v visit) decode(into any) error {
	if err := decode(v.body, into); err != nil {
		return refuse(http.StatusBadRequest, "the body has the wrong form: %v", err)
	}
	return nil
}

// answer keeps what a person decided, and ends the wait if that decides the request.
func (d Door) answer(ctx context.Context, v visit) (Standing, error) {
	var in AnswerRequest
	if err := v.decode(&in); err != nil {
		return Standing{}, err
	}
	if in.Decision != Approve && in.Decision != Reject {
		return Standing{}, refuse(http.StatusBadRequest, "the decision is %q (allowed: %s, %s)", in.Decision, Approve, Reject)
	}
	if err := CheckReason(in.Reason); err != nil {
		return Standing{}, refuse(http.StatusBadRequest, "%v", err)
	}
	if err := CheckDigest(in.Digest); err != nil {
		return Standing{}, refuse(http.StatusBadRequest, "%v", err)
	}
	r, before, err := d.Desk.Verdict(ctx, in.Digest, v.at)
	if errors.Is(err, store.ErrNone) {
		return Standing{}, refuse(http.StatusNotFound, "nothing with the digest %s waits for an approval: look again at what waits, it may have changed", in.Digest)
	}
	if err != nil {
		return Standing{}, err
	}
	if err := r.MayAnswer(v.person); err != nil {
		return Standing{}, refuse(http.StatusForbidden, "%v", err)
	}
	if err := d.unchanged(ctx, r); err != nil {
		return Standing{}, err
	}
	own := slices.IndexFunc(before.Approvals, func(a Answer) bool { return Same(a.Person, v.person) })
	again := own >= 0 && in.Decision == Approve || before.Refusal != nil && Same(before.Refusal.Person, v.person) && in.Decision == Reject
	if !again && before.Status != Waiting {
		return Standing{}, refuse(http.StatusConflict, "the request is %s: it is too late to %s it", before.Status, in.Decision)
	}
	if !again {
		created, err := d.Desk.Keep(ctx, Answer{
			Person: v.person, Decision: in.Decision, Reason: strings.TrimSpace(in.Reason), BundleDigest: in.Digest, At: v.at, UserARN: v.userARN, RequestID: v.requestID,
		})
		if err != nil {
			return Standing{}, err
		}
		if !created {
			return Standing{}, refuse(http.StatusConflict, "%s has answered before, and an answer cannot be changed", v.person)
		}
	}
	r, after, err := d.Desk.Verdict(ctx, in.Digest, v.at)
	if err != nil {
		return Standing{}, err
	}
	return standing(r, after), d.end(ctx, r, after)
}

// unchanged refuses to decide about evidence that is no longer what the request names.
func (d Door) unchanged(ctx context.Context, r Request) error {
	key := contract.ExecutionKey(r.Execution, contract.ManifestObject)
	raw, err := d.Desk.Store.Read(ctx, key)
	if errors.Is(err, store.ErrNone) {
		return refuse(http.StatusConflict, "the evidence s3://%s/%s is gone: the request is void", d.Desk.Store.Bucket, key)
	}
	if err != nil {
		return err
	}
	if got := store.Digest(raw); got != r.BundleDigest {
		return refuse(http.StatusConflict, "the evidence has changed since the request: its digest is %s, not %s. The request is void", got, r.BundleDigest)
	}
	return nil
}

// end ends the wait of the state machine once a request is decided. The machine reads
// the verdict from the store again; what it is sent decides nothing.
func (d Door) end(ctx context.Context, r Request, v Verdict) error {
	var err error
	switch v.Status {
	case Approved:
		out, _ := json.Marshal(map[string]any{"digest": r.BundleDigest, "approvals": len(v.Approvals)}) // marshals
		_, err = d.Tasks.SendTaskSuccess(ctx, &sfn.SendTaskSuccessInput{TaskToken: &r.Token, Output: aws.String(string(out))})
	case Refused:
		_, err = d.Tasks.SendTaskFailure(ctx, &sfn.SendTaskFailureInput{
			TaskToken: &r.Token, Error: aws.String(RefusedError), Cause: aws.String(fmt.Sprintf("%s rejected the release: %s", v.Refusal.Person, v.Refusal.Reason)),
		})
	default:
		return nil
	}
	if awserr.Is(err, "TaskTimedOut", "TaskDoesNotExist") { // a repeated answer, or the execution has ended
		return nil
	}
	if err != nil {
		return awserr.Wrap(err, failure.Internal, "end the wait of %s", r.Execution)
	}
	return nil
}

// RefusedError is the error with which a state ends that waited for a request which a
// person rejected.
const RefusedError = string(failure.ApprovalRefused)

// list lists the requests that wait.
func (d Door) list(ctx context.Context, v visit) ([]Standing, error) {
	var none struct{}
	if err := v.decode(&none); err != nil {
		return nil, err
	}
	all, err := d.Desk.All(ctx)
	if err != nil {
		return nil, err
	}
	out := []Standing{}
	for _, r := range all {
		if v.at.After(r.Expires) {
			continue // it waits no longer, so its answers need not be read
		}
		answers, err := d.Desk.Answers(ctx, r.BundleDigest)
		if err != nil {
			return nil, err
		}
		if verdict := Judge(r, answers, v.at); verdict.Status == Waiting {
			out = append(out, standing(r, verdict))
		}
	}
	slices.SortFunc(out, func(a, b Standing) int { return a.Requested.Compare(b.Requested) })
	return out, nil
}

func standing(r Request, v Verdict) Standing {
	r.Token = ""
	if v.Approvals == nil {
		v.Approvals = []Answer{}
	}
	return Standing{Request: r, Status: v.Status, Approvals: v.Approvals, Refusal: v.Refusal, Doubts: v.Doubts}
}

// build starts an execution for a person, and keeps who that is.
func (d Door) build(ctx context.Context, v visit) (Started, error) {
	var in BuildRequest
	if err := v.decode(&in); err != nil {
		return Started{}, err
	}
	if in.Recipe == "" || !executionForm.MatchString(in.Name) {
		return Started{}, refuse(http.StatusBadRequest, "recipe is %q and name is %q (required: a recipe, and a name for the execution of 1 to 80 letters, digits, - and _)", in.Recipe, in.Name)
	}
	if err := d.Desk.Requested(ctx, in.Name, v.person, v.userARN, v.at); err != nil {
		return Started{}, err
	}
	raw, err := json.Marshal(in.ExecutionInput)
	if err != nil {
		return Started{}, failure.Wrap(failure.Internal, err, "encode the execution's input")
	}
	out, err := d.Tasks.StartExecution(ctx, &sfn.StartExecutionInput{StateMachineArn: &d.Machine, Name: &in.Name, Input: aws.String(string(raw))})
	if awserr.Is(err, "ExecutionAlreadyExists") {
		return Started{}, refuse(http.StatusConflict, "an execution named %s exists with another input", in.Name)
	}
	if err != nil {
		return Started{}, awserr.Wrap(err, failure.Internal, "start execution %s", in.Name)
	}
	return Started{ExecutionARN: aws.ToString(out.ExecutionArn), Requester: v.person}, nil
}
