package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/store"
)

const (
	siteAttempts = 8       // of writing the index page, while others write it
	maxSummary   = 1 << 20 // bytes of one summary
)

// ReadSite reads what the index page says: one small object a recipe. A summary that
// cannot be decoded is returned as such, so that it hides no other. They are read
// one after the other: in a rehearsal on a virtual clock, a function must not work in
// several goroutines.
func ReadSite(ctx context.Context, s store.Store, keys store.Directory, now time.Time) (evidence.Site, error) {
	found, err := keys.Keys(ctx, contract.SummariesPrefix)
	if err != nil {
		return evidence.Site{}, err
	}
	site := evidence.Site{Now: now}
	for _, key := range found {
		raw, err := s.ReadAtMost(ctx, key, maxSummary)
		if errors.Is(err, store.ErrNone) {
			continue // it was deleted since the keys were listed
		}
		if err != nil {
			return evidence.Site{}, err
		}
		summary := evidence.Summary{}
		name := strings.TrimSuffix(strings.TrimPrefix(key, contract.SummariesPrefix), ".json")
		if err := json.Unmarshal(raw, &summary); err != nil {
			summary = evidence.Summary{Recipe: name, Unreadable: err.Error()}
		} else if summary.Schema != evidence.SummarySchema || summary.Recipe != name {
			summary = evidence.Summary{Recipe: name, Unreadable: "it is no " + evidence.SummarySchema + " of this recipe"}
		}
		site.Summaries = append(site.Summaries, summary)
	}
	return site, nil
}

// site takes the report over into the summary of its recipe, and writes the index page.
// An execution without a plan has no recipe, so it has no summary.
func (s Notify) site(ctx context.Context, in NotifyInput, r evidence.Report) error {
	if r.Recipe == "" {
		return nil
	}
	key := contract.SummaryKey(r.Recipe)
	_, err := store.Update(ctx, s.Store, key, func(summary *evidence.Summary) (bool, error) { return summary.Update(r), nil })
	if err != nil {
		return err
	}
	return writeSite(ctx, s.Store, s.Keys, in.Now, func(page []byte) bool { return evidence.ShowsExecution(page, r.Execution.Name) })
}

// site shows on the index page that a release waits for people. The summary shows it until
// Notify writes that the execution has ended.
func (s RequestApproval) site(ctx context.Context, now time.Time, r approval.Request) error {
	_, err := store.Update(ctx, s.Desk.Store, contract.SummaryKey(r.Recipe), func(summary *evidence.Summary) (bool, error) {
		return summary.Wait(r.Recipe, evidence.WaitingSummary{Execution: r.Execution, Digest: r.BundleDigest, Since: r.Requested, Until: r.Expires}), nil
	})
	if err != nil {
		return err
	}
	return writeSite(ctx, s.Desk.Store, s.Desk.Keys, now, func(page []byte) bool { return evidence.ShowsWaiting(page, r.Execution) })
}

// writeSite writes the index page after the summary of an execution. shown reports whether a
// page has what the summary says. Executions that end at the same time write it too.
// Whoever writes it has read the summaries after the page that it replaces was written, so
// a later page never says less than an earlier one. Whoever finds its execution on the page
// that another has written is done.
func writeSite(ctx context.Context, s store.Store, keys store.Directory, now time.Time, shown func(page []byte) bool) error {
	for attempt := range siteAttempts {
		// The tag comes first: the summaries are then as new as the page that has it.
		old, etag, err := s.ReadTagged(ctx, contract.SitePage)
		if err != nil {
			return err
		}
		if attempt > 0 && shown(old) {
			return nil
		}
		site, err := ReadSite(ctx, s, keys, now)
		if err != nil {
			return err
		}
		site.Reports = "../" // from the folder of the page
		var page bytes.Buffer
		if err := site.WriteHTML(&page); err != nil {
			return failure.Wrap(failure.Internal, err, "make the index page")
		}
		if replaced, err := s.Replace(ctx, contract.SitePage, "text/html; charset=utf-8", page.Bytes(), etag); err != nil || replaced {
			return err
		}
	}
	return failure.New(failure.ServiceUnavailable, "s3://%s/%s was written by another execution in each of %d attempts", s.Bucket, contract.SitePage, siteAttempts)
}
