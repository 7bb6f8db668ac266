package stage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence/bundle"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/store"
)

// RequestApproval asks people to approve a release, whose evidence is signed.
type RequestApproval struct {
	Settings Settings
	Desk     approval.Desk
	Topics   interface {
		Publish(context.Context, *sns.PublishInput, ...func(*sns.Options)) (*sns.PublishOutput, error)
	}
}

// triggers is the requester of executions that no person started.
const triggers = "trigger:start-builds"

// Run keeps the request with the token of the task that waits, and sends a message
// without it. The error is RequesterUnknown if no record says who started the
// execution: without it, it is not known who must not approve.
func (s RequestApproval) Run(ctx context.Context, in RequestApprovalInput) (RequestApprovalOutput, error) {
	p, err := loadPlan(ctx, s.Desk.Store, in.Job)
	if err != nil {
		return RequestApprovalOutput{}, err
	}
	if in.Token == "" || in.Manifest.Key != executionKey(in.Execution, contract.ManifestObject) {
		return RequestApprovalOutput{}, failure.New(failure.InvalidInput, "there is no token, or the manifest %s is not this execution's", in.Manifest.Key)
	}
	subject, needed, err := s.subject(ctx, in, p)
	if err != nil {
		return RequestApprovalOutput{}, err
	}
	requester, err := s.requester(ctx, in.Execution.Name)
	if err != nil {
		return RequestApprovalOutput{}, err
	}
	r, err := s.Desk.Open(ctx, approval.Request{
		Execution: in.Execution.Name, RunARN: in.Execution.ID, BundleDigest: in.Manifest.SHA256, Recipe: p.Recipe.Name, Requester: requester, WaiverAuthors: waiverAuthors(p),
		Needed: needed, Subject: &subject, Requested: in.Now.UTC(), Expires: in.Now.UTC().Add(time.Duration(p.Recipe.Approval.Expires)), Token: in.Token,
	})
	if err != nil {
		return RequestApprovalOutput{}, err
	}
	if _, err := s.Desk.Store.Create(ctx, contract.ApprovingKey(in.Execution.Name), "text/plain", []byte(r.BundleDigest+"\n")); err != nil {
		return RequestApprovalOutput{}, err
	}
	out := RequestApprovalOutput{Digest: r.BundleDigest, Needed: r.Needed, Expires: r.Expires}
	// The page comes first, so that a repeated attempt sends no second message.
	if err := s.site(ctx, in.Now, r); err != nil {
		if code := failure.CodeOf(err); code == failure.Throttled || code == failure.ServiceUnavailable {
			return out, err
		}
		slog.ErrorContext(ctx, "the index page does not show that the release waits", "error", err)
	}
	return out, s.send(ctx, r)
}

// requester is who started an execution: a person, through the door that keeps their
// name, or a trigger.
func (s RequestApproval) requester(ctx context.Context, execution string) (string, error) {
	person, err := s.Desk.Requester(ctx, execution)
	if !errors.Is(err, store.ErrNone) {
		return person, err
	}
	_, err = s.Desk.Store.Read(ctx, contract.StartedKey(execution))
	if errors.Is(err, store.ErrNone) {
		return "", failure.New(failure.RequesterUnknown, "the recipe wants approvals, and it is not known who started %s: start it with `ami-factory build RECIPE --approval-url URL`, not directly with states:StartExecution", execution)
	}
	return triggers, err
}

// waiverAuthors are the authors of all waivers of a plan, sorted.
func waiverAuthors(p plan.BuildPlan) []string {
	authors := []string{}
	for _, w := range p.Waivers() {
		authors = append(authors, w.Author)
	}
	slices.Sort(authors)
	return slices.Compact(slices.DeleteFunc(authors, func(a string) bool { return a == "" }))
}

// send sends the message about a request, without its token.
func (s RequestApproval) send(ctx context.Context, r approval.Request) error {
	if s.Settings.TopicARN == "" {
		return nil
	}
	text := messageAbout(r)
	_, err := s.Topics.Publish(ctx, &sns.PublishInput{
		TopicArn: &s.Settings.TopicARN, Subject: aws.String(clip(subject(s.Settings.guests().Simulated(), "Approval needed", r.Recipe), maxSubject)), Message: &text,
	})
	if err != nil {
		return awserr.Wrap(err, failure.Internal, "send the request for an approval")
	}
	return nil
}

// messageAbout is the text of the message.
func messageAbout(r approval.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The release of %s by the execution %s waits for %d approval(s) until %s.\n\n", r.Recipe, r.Execution, r.Needed, r.Expires.Format(time.RFC3339))
	for _, row := range r.Describe() {
		if row.Label != "" {
			row.Label += ":"
		}
		fmt.Fprintf(&b, "%-12s %s\n", row.Label, row.Text)
	}
	fmt.Fprintf(&b, `
Read the evidence, then answer with one of:
  ami-factory approve %s --digest %s --reason "..."
  ami-factory reject %[1]s --digest %[2]s --reason "..."
`, r.Execution, r.BundleDigest)
	return b.String()
}

// Approvals reads whether a release has the approvals that its recipe wants.
type Approvals struct{ Desk approval.Desk }

// Check returns ApprovalMissing for a release that lacks approvals, and reads all of it
// from the store: nothing that the state machine hands on counts.
func (a Approvals) Check(ctx context.Context, in Job, p plan.BuildPlan) error {
	if !p.Recipe.Approval.MayAsk() {
		return nil
	}
	_, _, err := a.verdict(ctx, in, p)
	return err
}

// neededFor is how many different people must approve a release. raw is the diff whose
// digest its manifest has.
func neededFor(p plan.BuildPlan, raw []byte) (int, error) {
	if p.Recipe.Approval.Needed(true) == p.Recipe.Approval.Needed(false) {
		return p.Recipe.Approval.Needed(true), nil
	}
	d, err := diff.Decode(raw)
	if err != nil {
		return 0, failure.Wrap(failure.EvidenceMismatch, err, "it is not known whether people must approve the release")
	}
	return p.Recipe.Approval.Needed(!d.OnlyPackageUpgrades()), nil
}

// needed is neededFor of a release whose manifest is raw. SignedEvidence verifies that the
// manifest and the diff are those that were signed.
func (a Approvals) needed(ctx context.Context, in Job, p plan.BuildPlan, raw []byte) (int, error) {
	if p.Recipe.Approval.Needed(true) == p.Recipe.Approval.Needed(false) {
		return p.Recipe.Approval.Needed(true), nil
	}
	m, err := bundle.ParseManifest(raw)
	if err != nil {
		return 0, failure.Wrap(failure.EvidenceMismatch, err, "the manifest %s", objectAt(a.Desk.Store, in.Execution, contract.ManifestObject))
	}
	compared, err := manifestRecords{a.Desk.Store, in.Execution, m}.read(ctx, contract.DiffObject)
	if err != nil {
		return 0, err
	}
	return neededFor(p, compared)
}

// verdict is what people decided about a release, if they approved it. Both results are
// empty if nobody has to.
func (a Approvals) verdict(ctx context.Context, in Job, p plan.BuildPlan) (approval.Request, approval.Verdict, error) {
	none := func(err error) (approval.Request, approval.Verdict, error) {
		return approval.Request{}, approval.Verdict{}, err
	}
	raw, err := a.Desk.Store.Read(ctx, executionKey(in.Execution, contract.ManifestObject))
	if errors.Is(err, store.ErrNone) {
		return none(failure.New(failure.ApprovalMissing, "the execution has no manifest that could be approved"))
	}
	if err != nil {
		return none(err)
	}
	needed, err := a.needed(ctx, in, p, raw)
	if err != nil || needed == 0 {
		return none(err)
	}
	digest := store.Digest(raw)
	r, v, err := a.Desk.Verdict(ctx, digest, in.Now)
	if errors.Is(err, store.ErrNone) {
		return none(failure.New(failure.ApprovalMissing, "nobody was asked to approve the evidence %s", digest))
	}
	if err != nil {
		return none(err)
	}
	switch {
	case r.RunARN != in.Execution.ID || r.Needed != needed || r.Recipe != p.Recipe.Name:
		return none(failure.New(failure.ApprovalMissing, "the request for the evidence %s is of the execution %s, recipe %s, and asks for %d approvals; this release needs %d", digest, r.RunARN, r.Recipe, r.Needed, needed))
	case v.Status != approval.Approved:
		return none(failure.New(failure.ApprovalMissing, "the release needs %d approvals and has %d that count; it is %s. %s", needed, len(v.Approvals), v.Status, strings.Join(v.Doubts, "; ")))
	}
	for _, author := range waiverAuthors(p) {
		if slices.ContainsFunc(v.Approvals, func(one approval.Answer) bool { return approval.Same(one.Person, author) }) {
			return none(failure.New(failure.ApprovalMissing, "%s approved the release and is the author of a waiver in it", author))
		}
	}
	return r, v, nil
}
