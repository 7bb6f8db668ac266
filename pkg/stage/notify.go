package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/evidence/diff"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/metric"
	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/release"
	"github.com/ami-factory/ami-factory/pkg/store"
)

const (
	maxSubject = 100     // SNS's limit
	maxCause   = 4 << 10 // of a cause in a message; the report has all of it
	// Images or pointers in a message: far below SNS's 256 KiB, whatever is said of each.
	maxListed = 100
)

// cleanupFailed is what is left of an execution whose clean-up ended with an
// error.
const cleanupFailed = "unknown, clean-up failed: "

// MessageAPI publishes messages.
type MessageAPI interface {
	Publish(context.Context, *sns.PublishInput, ...func(*sns.Options)) (*sns.PublishOutput, error)
}

// EventAPI sends events.
type EventAPI interface {
	PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error)
}

// Notify writes the execution's report and sends message and event about its end.
type Notify struct {
	Settings Settings
	Store    store.Store
	SNS      MessageAPI
	Events   EventAPI
	Hub      FindingsAPI     // nil: findings are not sent to Security Hub
	Keys     store.Directory // of the summaries, for the index page
	Metrics  io.Writer       // see pkg/metric; nil: none are written
}

// Finished is the detail of the event.
type Finished struct {
	Execution   string            `json:"execution"` // ARN
	Name        string            `json:"name"`
	Status      string            `json:"status"`
	Simulated   bool              `json:"simulated"` // no guest was really run
	Recipe      string            `json:"recipe,omitempty"`
	Fingerprint string            `json:"fingerprint,omitempty"`
	SourceImage string            `json:"sourceImage,omitempty"`
	Action      string            `json:"action,omitempty"` // bake | release (of the published image again); empty before a plan
	Why         string            `json:"why,omitempty"`    // reason of the action
	Changed     []string          `json:"changed"`          // what differs from the release before
	Images      map[string]string `json:"images"`           // image id by region
	State       string            `json:"stage,omitempty"`
	Error       string            `json:"error,omitempty"`
	Cause       string            `json:"cause,omitempty"`
	Left        []string          `json:"left"`
	Report      string            `json:"report"` // address of the HTML report
	// Diff summarises what differs from the release before, in sentences.
	Diff []string `json:"diff,omitempty"`
	// WaiversEnding says which waivers of the recipe end within 14 days.
	WaiversEnding []string `json:"waiversEnding,omitempty"`
}

// Run writes the report and the index page, then the message and the event. All are tried
// before an error of any is returned; a repeated call sends them again. Metrics are
// written last, and only where no repeated call is expected, which would write them twice.
func (s Notify) Run(ctx context.Context, in NotifyInput) (NotifyOutput, error) {
	if err := requireInput("execution.name", in.Execution.Name, "outcome", in.Outcome); err != nil {
		return NotifyOutput{}, err
	}
	if in.Announce {
		return s.announce(ctx, in)
	}
	end := in.ending()
	in.Error, in.Cause = end.Error, end.Cause
	in.Left = append([]string{}, in.Left...)
	if in.CleanupCause != "" {
		in.Left = []string{cleanupFailed + readable(in.CleanupCause)}
	}
	report, found, err := s.report(ctx, in)
	if err != nil {
		return NotifyOutput{}, err
	}
	stored, page, err := s.write(ctx, in, report)
	if err != nil {
		return NotifyOutput{}, err
	}
	finished := Finished{
		Execution: in.Execution.ID, Name: in.Execution.Name, Status: report.Status, Simulated: report.Simulated,
		Recipe: report.Recipe, Fingerprint: report.Fingerprint, SourceImage: report.Source.ImageID,
		Action: actionOf(report), Why: report.Why, Changed: append([]string{}, report.Changed...), Images: map[string]string{}, Left: in.Left,
		State: in.Failed, Error: in.Error, Cause: clip(in.Cause, maxCause),
		Report:        "s3://" + page.Bucket + "/" + page.Key,
		WaiversEnding: compliance.EndingSoon(report.Waivers, in.Now), Diff: diffLines(found),
	}
	maps.Copy(finished.Images, in.Images)
	about, text := messageOf(in, finished, report.Retention)
	err = errors.Join(s.site(ctx, in, report), s.findings(ctx, in, report), s.announceLate(ctx, in, report, found), s.message(ctx, finished.Status, about, text), s.event(ctx, contract.ExecutionFinishedEvent, finished, in))
	if code := failure.CodeOf(err); code != failure.Throttled && code != failure.ServiceUnavailable {
		err = errors.Join(err, metric.Emit(s.Metrics, in.Now, figures(in, report)...))
	}
	if err != nil {
		return NotifyOutput{}, failure.Wrap(failure.CodeOf(err), err, "the report is written (%s), but not everybody was informed", finished.Report)
	}
	return NotifyOutput{Ending: end, Report: stored, Status: report.Status, Left: in.Left}, nil
}

// actionOf is what an execution was to do; empty if it failed before it had a plan.
func actionOf(r evidence.Report) string {
	switch {
	case r.Again != nil:
		return contract.ActionRelease
	case r.Recipe != "":
		return contract.ActionBake
	}
	return ""
}

// status is the name of the state that the execution is about to end in.
func status(in NotifyInput) string {
	switch {
	case len(in.Left) > 0:
		return contract.FailedDirty
	case slices.Contains([]string{contract.Published, contract.UpToDate, contract.Rejected, contract.ApprovalRefused, contract.ApprovalTimedOut}, in.Outcome):
		return in.Outcome
	default:
		return contract.FailedClean
	}
}

// report describes the execution; the diff is nil if there is none.
func (s Notify) report(ctx context.Context, in NotifyInput) (evidence.Report, *diff.Diff, error) {
	var p *plan.BuildPlan
	if in.Plan.Key != "" {
		loaded, err := loadPlan(ctx, s.Store, in.Job)
		if err != nil {
			return evidence.Report{}, nil, err
		}
		p = &loaded
	}
	r := evidence.ForPlan(p)
	r.Status, r.Guests = status(in), s.Settings.guests()
	r.Simulated = r.Guests.Simulated()
	r.Execution = evidence.Execution{ID: in.Execution.ID, Name: in.Execution.Name, Started: in.Execution.StartTime, Ended: in.Now}
	r.Removed, r.Left = in.Removed, in.Left
	if in.Error != "" || in.Cause != "" {
		r.Failure = &evidence.Failure{State: in.Failed, Error: in.Error, Cause: in.Cause}
	}
	r.SetImages(in.Images)
	// A record that is not of this execution is left out of the report, which says
	// so: that it is there must not stop the message about the end.
	var err error
	if r.Pointers, err = s.pointers(ctx, in, p); failure.CodeOf(err) == failure.RecordMismatch {
		r.Logs, err = append(r.Logs, s.leftOut("The pointers", journalKey(in.Execution), err)), nil
	}
	if err != nil {
		return r, nil, err
	}
	if r.Retention, err = s.retention(ctx, in, p); failure.CodeOf(err) == failure.RecordMismatch {
		r.Logs, err = append(r.Logs, s.leftOut("The outcomes of retention", retentionKey(in.Execution), err)), nil
	}
	if err != nil {
		return r, nil, err
	}
	if r.Compliance, err = s.compliance(ctx, in, p); failure.CodeOf(err) == failure.RecordMismatch {
		r.Compliance = nil
		r.Logs, err = append(r.Logs, s.leftOut("The results of the checks", complianceKey(in.Execution), err)), nil
	}
	if err != nil {
		return r, nil, err
	}
	if r.Vulnerabilities, err = s.vulnerabilities(ctx, in, p); failure.CodeOf(err) == failure.RecordMismatch {
		r.Logs, err = append(r.Logs, s.leftOut("The vulnerabilities", executionKey(in.Execution, contract.VulnerabilitiesObject), err)), nil
	}
	if err != nil {
		return r, nil, err
	}
	found, err := s.diff(ctx, in, p)
	if failure.CodeOf(err) == failure.RecordMismatch {
		r.Logs, err = append(r.Logs, s.leftOut("The differences", executionKey(in.Execution, contract.DiffObject), err)), nil
	}
	if err != nil {
		return r, nil, err
	}
	r.Diff = diffOf(found)
	if err = s.signed(ctx, in, p, &r); failure.CodeOf(err) == failure.RecordMismatch {
		r.Logs, err = append(r.Logs, s.leftOut("The evidence and the approvals", executionKey(in.Execution, contract.ManifestObject), err)), nil
	}
	if err != nil {
		return r, nil, err
	}
	r.Logs = append(r.Logs, s.logs(ctx, in)...)
	r.States = stages(in.Execution.StartTime, in.Timings)
	if p != nil {
		estimate := cost.Of(usage(in, *p, s.Settings), s.Settings.Prices)
		r.Cost = &estimate
	}
	return r, found, nil
}

// leftOut stands in a report for a record that is not to be believed.
func (s Notify) leftOut(title, key string, err error) evidence.Log {
	return evidence.Log{Title: title + " are left out: " + awserr.Brief(err), URI: "s3://" + s.Store.Bucket + "/" + key}
}

// pointers are those that a published image's journal says were moved.
func (s Notify) pointers(ctx context.Context, in NotifyInput, p *plan.BuildPlan) ([]string, error) {
	if in.Outcome != contract.Published || p == nil {
		return nil, nil
	}
	j, err := release.ReadJournal(ctx, journalOf(s.Store, in.Execution), publicationOf(in.Job, *p))
	if err != nil || j == nil {
		return nil, err
	}
	return names(j.Pointers), nil
}

// retention is what Retire did with the recipe's published images.
func (s Notify) retention(ctx context.Context, in NotifyInput, p *plan.BuildPlan) ([]evidence.Retention, error) {
	if in.Outcome != contract.Published || p == nil {
		return nil, nil
	}
	decisions, err := readRetention(ctx, s.Store, in.Job, *p)
	if err != nil {
		return nil, err
	}
	var out []evidence.Retention
	for _, d := range decisions {
		out = append(out, evidence.Retention{Region: d.Region, ImageID: d.ImageID, Outcome: string(d.Outcome), Why: d.Why})
	}
	return out, nil
}

// compliance reads the results of the checks, if it came to any.
func (s Notify) compliance(ctx context.Context, in NotifyInput, p *plan.BuildPlan) (*compliance.Report, error) {
	var raw []byte
	var err error
	switch {
	case in.Results.Key != "":
		raw, err = s.Store.Get(ctx, in.Results)
	case in.Error == string(failure.ComplianceRejected):
		// The stage ended with an error, and so without a result of its own.
		raw, err = s.Store.Read(ctx, complianceKey(in.Execution))
	default:
		return nil, nil
	}
	if err != nil {
		return nil, failure.Wrap(codeOr(err, failure.Internal), err, "read the results of the checks for the report")
	}
	var r compliance.Report
	const what = "the record of results"
	key := complianceKey(in.Execution)
	if err := decodeRecord(what, s.Store, key, raw, &r); err != nil {
		return nil, err
	}
	if p == nil {
		return nil, mismatch(what, s.Store, key, []string{"the execution has no plan"})
	}
	return &r, mismatch(what, s.Store, key, r.Of.Deviations(bindingOf(in.Job, *p)))
}

// logs are the consoles that were kept.
func (s Notify) logs(ctx context.Context, in NotifyInput) []evidence.Log {
	var out []evidence.Log
	for _, role := range []string{builderRole, verifierRole} {
		key := consoleKey(in.Execution, role)
		raw, err := s.Store.Read(ctx, key)
		if errors.Is(err, store.ErrNone) {
			continue
		}
		l := evidence.Log{Title: "Serial console of the " + role, URI: "s3://" + s.Store.Bucket + "/" + key}
		if err != nil {
			l.Title += " (it could not be read: " + awserr.Brief(err) + ")"
		} else {
			l.SHA256 = store.Digest(raw)
		}
		out = append(out, l)
	}
	return out
}

// write stores the report in both forms; the JSON is the one with the digest.
func (s Notify) write(ctx context.Context, in NotifyInput, r evidence.Report) (stored, page store.Object, err error) {
	raw, err := r.JSON()
	if err != nil {
		return stored, page, failure.Wrap(failure.Internal, err, "make the report")
	}
	var html bytes.Buffer
	if err := r.WriteHTML(&html); err != nil {
		return stored, page, failure.Wrap(failure.Internal, err, "make the report")
	}
	if page, err = s.Store.Put(ctx, executionKey(in.Execution, contract.PageObject), "text/html; charset=utf-8", html.Bytes()); err != nil {
		return stored, page, err
	}
	stored, err = s.Store.Put(ctx, executionKey(in.Execution, contract.ReportObject), "application/json", raw)
	return stored, page, err
}

// text is the message about how an execution ended.
func (f Finished) text(retained []evidence.Retention) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Execution %s of recipe %s ended: %s\n", f.Name, orNone(f.Recipe), f.Status)
	writeOrigin(&b, f.Simulated, f.Action, f.Why, f.Changed)
	writeImages(&b, f.Images)
	writeDiff(&b, f.Diff)
	if f.Error != "" {
		fmt.Fprintf(&b, "\n%s in state %s:\n%s\n", f.Error, f.State, f.Cause)
	}
	if len(f.Left) > 0 {
		fmt.Fprintf(&b, "\nLeft behind, to be removed by hand:\n%s\n", strings.Join(f.Left, "\n"))
	}
	if len(retained) > 0 {
		b.WriteString("\nPublished images of this recipe, after retention:\n")
	}
	for i, x := range retained {
		if i == maxListed {
			fmt.Fprintf(&b, "and %d more; the report lists all\n", len(retained)-i)
			break
		}
		fmt.Fprintf(&b, "%s: %s %s: %s\n", x.Region, x.ImageID, x.Outcome, x.Why)
	}
	writeEnding(&b, f.WaiversEnding)
	fmt.Fprintf(&b, "\nReport: %s\n", f.Report)
	return b.String()
}

// messageOf is the subject and the text of the message about an execution's end;
// empty if the announcement has said everything that anybody has to know.
func messageOf(in NotifyInput, f Finished, retained []evidence.Retention) (about, text string) {
	if !in.Announced || f.Status != contract.Published || f.Error != "" {
		return subject(f.Simulated, f.Status, f.Recipe), f.text(retained)
	}
	if slices.ContainsFunc(retained, func(x evidence.Retention) bool { return x.Outcome != string(release.Kept) }) {
		return subject(f.Simulated, "Retention", f.Recipe), f.text(retained)
	}
	return "", ""
}

// message publishes to the topic, unless it has nothing to say.
func (s Notify) message(ctx context.Context, status, about, text string) error {
	if s.Settings.TopicARN == "" || text == "" {
		return nil
	}
	_, err := s.SNS.Publish(ctx, &sns.PublishInput{
		TopicArn: aws.String(s.Settings.TopicARN),
		Subject:  aws.String(clip(about, maxSubject)),
		Message:  aws.String(text),
		MessageAttributes: map[string]snstypes.MessageAttributeValue{
			"status": {DataType: aws.String("String"), StringValue: aws.String(status)},
		},
	})
	return awserr.Wrap(err, failure.Internal, "publish to %s", s.Settings.TopicARN)
}

func (s Notify) event(ctx context.Context, kind string, what any, in NotifyInput) error {
	detail, err := json.Marshal(what)
	if err != nil {
		return failure.Wrap(failure.Internal, err, "encode the event")
	}
	out, err := s.Events.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []eventtypes.PutEventsRequestEntry{{
		Source:     aws.String(contract.EventSource),
		DetailType: aws.String(kind),
		Detail:     aws.String(string(detail)),
		Resources:  resources(in),
		Time:       aws.Time(in.Now),
	}}})
	if err != nil {
		return awserr.Wrap(err, failure.Internal, "send the event")
	}
	for _, e := range out.Entries {
		if code := aws.ToString(e.ErrorCode); code != "" {
			return failure.New(failure.ServiceUnavailable, "EventBridge did not take the event: %s %s", code, aws.ToString(e.ErrorMessage))
		}
	}
	return nil
}

func resources(in NotifyInput) []string {
	if in.Execution.ID == "" {
		return nil
	}
	return []string{in.Execution.ID}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
