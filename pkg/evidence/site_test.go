package evidence_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/evidence"
	"github.com/ami-factory/ami-factory/test/golden"
)

// summaryOf is what reports leave in the summary of their recipe, in that order.
func summaryOf(reports ...evidence.Report) evidence.Summary {
	var s evidence.Summary
	for _, r := range reports {
		s.Update(r)
	}
	return s
}

func of(r evidence.Report, recipe, execution string, ended time.Time) evidence.Report {
	r.Recipe, r.Execution.Name, r.Execution.Ended = recipe, execution, ended
	return r
}

func sitePage(t testing.TB, s evidence.Site) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, s.WriteHTML(&b))
	return b.String()
}

// siteSample has a recipe of every kind.
func siteSample() evidence.Site {
	exposed := vulnerable()
	exposed.Status, exposed.Failure = contract.Published, nil
	exposed.SetImages(map[string]string{"eu-west-1": "ami-0dddddddddddddddd"})
	never := of(dirty(), "al2023-eks", "al2023-eks-1", start)
	never.Description = "Amazon Linux 2023 for EKS, with a description that is long enough to need more than one line on a phone"
	calm := of(published(), "debian-12-docker", "debian-12-docker-1", start.AddDate(0, 0, 24))
	calm.Waivers = calm.Waivers[1:]
	waiting := summaryOf(of(published(), "ubuntu-24-full", "ubuntu-24-full-1", start.AddDate(0, 0, -40)))
	waiting.Waiting = &evidence.WaitingSummary{Execution: "ubuntu-24-full-2", Digest: strings.Repeat("ab", 32), Since: start, Until: start.AddDate(0, 0, 30)}
	ended := summaryOf(calm)
	ended.Waiting = &evidence.WaitingSummary{Execution: "aborted", Since: start, Until: start.AddDate(0, 0, 3)}
	return evidence.Site{
		Now: start.AddDate(0, 0, 25), Reports: "../",
		Summaries: []evidence.Summary{
			ended,
			summaryOf(of(published(), "debian-12-full", "debian-12-full-1", start.AddDate(0, 0, 20)), of(rejected(), "debian-12-full", "debian-12-full-2", start.AddDate(0, 0, 23))),
			summaryOf(of(exposed, "debian-13-base", "debian-13-base-1", start.AddDate(0, 0, 25).Add(-time.Hour))),
			summaryOf(never), waiting,
			{Recipe: "broken", Unreadable: "unexpected end of JSON input"},
		},
	}
}

func TestSite(t *testing.T) {
	site := siteSample()
	golden.Testdata(t, "site.html", []byte(sitePage(t, site)))
	golden.Testdata(t, "site-empty.html", []byte(sitePage(t, evidence.Site{Now: start})))
	site.Summaries = []evidence.Summary{summaryOf(simulated())}
	golden.Testdata(t, "site-simulated.html", []byte(sitePage(t, site)))
}

func TestTheSiteSaysWhatSomebodyShouldLookAtFirst(t *testing.T) {
	page := sitePage(t, siteSample())
	var order []string
	for _, m := range regexp.MustCompile(`<tr id="recipe-([^"]*)"`).FindAllStringSubmatch(page, -1) {
		order = append(order, m[1])
	}
	assert.Equal(t, []string{"al2023-eks", "broken", "debian-12-full", "debian-13-base", "ubuntu-24-full", "debian-12-docker"}, order[:6])
	for _, text := range []string{
		"last execution: rejected", "nothing is published", "an approval is waited for", "2 vulnerabilities of severity high or above",
		"Its summary cannot be read: unexpected end", `href="../executions/debian-12-full-2/report.html"`, `href="../executions/debian-12-full-1/report.html"`,
	} {
		assert.True(t, strings.Contains(page, text), text)
	}
	assert.NotContains(t, page, "aborted", "the time for an approval is over")
	assert.NotRegexp(t, regexp.MustCompile(`(?i)<(script|link|img|iframe|object|embed)\b|@import|url\(`), page)
}

func TestASummaryKeepsTheNewestWhateverTheOrder(t *testing.T) {
	first := of(published(), "debian-12-docker", "first", start)
	second := of(rejected(), "debian-12-docker", "second", start.Add(time.Hour))
	third := of(published(), "debian-12-docker", "third", start.Add(2*time.Hour))
	third.SetImages(map[string]string{"eu-west-1": "ami-0333333333333333a"})
	want := summaryOf(first, second, third)
	assert.Equal(t, "third", want.Last.Execution)
	assert.Equal(t, "third", want.Published.Execution)
	for _, order := range [][]evidence.Report{{third, second, first}, {second, third, first}, {first, third, second, third}, {third, first, second}} {
		assert.Equal(t, want, summaryOf(order...))
	}
	rejectedLast := summaryOf(first, second)
	assert.Equal(t, "second", rejectedLast.Last.Execution)
	assert.Equal(t, "ComplianceRejected", rejectedLast.Last.Error)
	assert.Equal(t, "first", rejectedLast.Published.Execution, "a rejected image replaces nothing")
	s := summaryOf(first)
	assert.False(t, s.Update(of(dirty(), "debian-12-docker", "older", start.Add(-time.Hour))), "an older end changes nothing")
}

func TestWaiversAreShownWithTheDaysThatAreLeft(t *testing.T) {
	r := of(published(), "r", "r-1", start)
	site := func(now time.Time) string {
		return sitePage(t, evidence.Site{Now: now, Summaries: []evidence.Summary{summaryOf(r)}})
	}
	day := func(s string) time.Time {
		at, err := time.Parse("2006-01-02T15:04", s)
		require.NoError(t, err)
		return at
	}
	for now, want := range map[string]string{
		"2026-12-23T23:59": "next: LOG-03, 1 day left", "2026-12-24T23:59": "next: LOG-03, ends today", "2026-12-26T00:00": "next: LOG-03, ended 2 days ago",
		"2026-11-24T00:00": "next: LOG-03, 30 days left",
	} {
		assert.Contains(t, site(day(now)), want)
	}
	assert.NotContains(t, site(day("2026-12-09T12:00")), "waiver ends soon")
	assert.Contains(t, site(day("2026-12-10T12:00")), "1 waiver ends soon", "14 days before")
}

func BenchmarkSiteOf200RecipesIn10Regions(b *testing.B) {
	site := largeSite()
	b.ReportAllocs()
	var size int
	for b.Loop() {
		var out bytes.Buffer
		require.NoError(b, site.WriteHTML(&out))
		size = out.Len()
	}
	b.ReportMetric(float64(size), "bytes")
}

func largeSite() evidence.Site {
	site := evidence.Site{Now: start.AddDate(0, 0, 3)}
	for i := range 200 {
		r := of(vulnerable(), fmt.Sprintf("recipe-%03d", i), fmt.Sprintf("recipe-%03d-1", i), start)
		r.Status = contract.Published
		r.Compliance.Guests, r.Guests = compliance.Guests{Kind: "ec2"}, compliance.Guests{Kind: "ec2"}
		images := map[string]string{}
		for region := range 10 {
			images[fmt.Sprintf("eu-north-%d", region)] = fmt.Sprintf("ami-%04d%013d", i, region)
		}
		r.SetImages(images)
		site.Summaries = append(site.Summaries, summaryOf(r))
	}
	return site
}

func TestASiteOf200RecipesIn10RegionsHasThemAll(t *testing.T) {
	page := sitePage(t, largeSite())
	assert.Equal(t, 200, strings.Count(page, `<tr id="recipe-`))
	assert.Equal(t, 2000, strings.Count(page, "<code>ami-"))
	assert.Contains(t, page, "<b>2000</b> images in all regions")
	assert.Less(t, len(page), 2<<20, "it stays a page that a browser opens at once")
}
