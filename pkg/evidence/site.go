package evidence

import (
	"cmp"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	"maragu.dev/gomponents/html"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

//go:embed site.css
var siteStyle string

// SummarySchema is the schema's name of a Summary.
const SummarySchema = "ami-factory/recipe-summary/1"

// soonDays is how many days before its end a waiver is shown as ending.
const soonDays = int(waiver.EndsSoon / (24 * time.Hour))

// Summary is what the index page says of one recipe: how its last execution ended and
// what is published. It is small, so that the page of all recipes is cheap to write.
type Summary struct {
	Schema      string            `json:"schema"`
	Recipe      string            `json:"recipe"`
	Description string            `json:"description,omitempty"`
	Last        LastExecution     `json:"last"`
	Published   *PublishedSummary `json:"published,omitempty"` // nil: nothing is published
	Waiting     *WaitingSummary   `json:"waiting,omitempty"`   // nil: no approval is waited for
	Unreadable  string            `json:"-"`                   // why the summary could not be read; nothing else is known then
}

// LastExecution is how the last execution of a recipe ended.
type LastExecution struct {
	Execution string    `json:"execution"`
	Status    string    `json:"status"`
	Error     string    `json:"error,omitempty"`
	Ended     time.Time `json:"ended"`
	Simulated bool      `json:"simulated,omitempty"`
}

// PublishedSummary is the published image of a recipe.
type PublishedSummary struct {
	Execution       string               `json:"execution"` // that published it, and has the report
	At              time.Time            `json:"at"`
	Fingerprint     string               `json:"fingerprint,omitempty"`
	Images          []Image              `json:"images"`           // by region
	Counts          *compliance.Counts   `json:"counts,omitempty"` // nil: not known
	Waivers         []compliance.Waiver  `json:"waivers"`          // that have an end
	Vulnerabilities *VulnerabilityCounts `json:"vulnerabilities,omitempty"`
	Simulated       bool                 `json:"simulated,omitempty"`
}

// VulnerabilityCounts are open vulnerabilities, without those that are waived.
type VulnerabilityCounts struct {
	Critical int `json:"critical"`
	High     int `json:"high"`
	Medium   int `json:"medium"`
	Low      int `json:"low"`
	Waived   int `json:"waived"`
}

// WaitingSummary is an execution that waits for an approval.
type WaitingSummary struct {
	Execution string    `json:"execution"`
	Digest    string    `json:"digest"` // of the bundle
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
}

// Wait takes over that an execution of the recipe waits for an approval. It returns whether
// anything changed.
func (s *Summary) Wait(recipe string, w WaitingSummary) bool {
	if s.Waiting != nil && *s.Waiting == w {
		return false
	}
	s.Schema, s.Recipe, s.Waiting = SummarySchema, recipe, &w
	return true
}

// Update takes over what a report says, and returns whether anything changed. A report
// that is older than what the summary has changes nothing, whatever the order of writes.
func (s *Summary) Update(r Report) bool {
	r = r.canonical()
	ended := r.Execution.Ended
	before := *s
	s.Schema, s.Recipe = SummarySchema, r.Recipe
	if !ended.Before(s.Last.Ended) {
		s.Description = r.Description
		s.Last = LastExecution{Execution: r.Execution.Name, Status: r.Status, Ended: ended, Simulated: r.Simulated}
		if r.Failure != nil {
			s.Last.Error = r.Failure.Error
		}
	}
	if s.Waiting != nil && s.Waiting.Execution == r.Execution.Name {
		s.Waiting = nil
	}
	published := r.Status == contract.Published && (s.Published == nil || !ended.Before(s.Published.At))
	found := r.Status == contract.UpToDate && s.Published == nil && len(r.Images) > 0 // published before there were summaries
	if published || found {
		s.Published = publishedSummary(r)
	}
	return before.Last != s.Last || before.Description != s.Description || before.Published != s.Published || before.Waiting != s.Waiting
}

func publishedSummary(r Report) *PublishedSummary {
	p := &PublishedSummary{
		Execution: r.Execution.Name, At: r.Execution.Ended, Fingerprint: r.Fingerprint, Images: r.Images, Waivers: []compliance.Waiver{}, Simulated: r.Simulated,
	}
	for i := range p.Images {
		p.Images[i].SnapshotIDs = nil
	}
	for _, w := range r.Waivers {
		if !w.BuiltIn && w.Expires != "" {
			p.Waivers = append(p.Waivers, w)
		}
	}
	if r.Compliance != nil {
		counts := r.Compliance.Counts
		p.Counts = &counts
	}
	if r.Vulnerabilities != nil {
		p.Vulnerabilities = &VulnerabilityCounts{}
		for _, v := range r.Vulnerabilities.Findings {
			p.Vulnerabilities.count(v)
		}
	}
	return p
}

func (c *VulnerabilityCounts) count(v Vulnerability) {
	switch {
	case v.Status == VulnerabilityNotAffected:
	case v.Status == VulnerabilityWaived:
		c.Waived++
	case v.Severity == "critical":
		c.Critical++
	case v.Severity == "high":
		c.High++
	case v.Severity == "medium":
		c.Medium++
	default:
		c.Low++
	}
}

// Open is how many vulnerabilities are not waived.
func (c VulnerabilityCounts) Open() int { return c.Critical + c.High + c.Medium + c.Low }

// Site is the index page of all recipes.
type Site struct {
	Now       time.Time
	Summaries []Summary
	Reports   string // the path from the page to the folder that holds executions/
}

// siteRow is a summary with what the page says of it.
type siteRow struct {
	Summary
	Ending  []compliance.Waiver // soon, or over
	Reasons []string            // why somebody should look; empty: nobody has to
}

// ShowsExecution reports whether a page that WriteHTML has written shows an execution as
// the last of its recipe.
func ShowsExecution(page []byte, execution string) bool {
	return strings.Contains(string(page), executionMark(execution))
}

func executionMark(execution string) string { return `data-last="` + execution + `"` }

// ShowsWaiting reports whether a page that WriteHTML has written shows that an execution
// waits for an approval.
func ShowsWaiting(page []byte, execution string) bool {
	return strings.Contains(string(page), `data-waiting="`+execution+`"`)
}

// WriteHTML writes the page: one file without scripts, and without anything from elsewhere.
func (s Site) WriteHTML(w io.Writer) error {
	var rows []siteRow
	for _, x := range s.Summaries {
		rows = append(rows, s.row(x))
	}
	slices.SortStableFunc(rows, func(a, b siteRow) int {
		return cmp.Or(cmp.Compare(boolRank(len(a.Reasons) > 0), boolRank(len(b.Reasons) > 0)), strings.Compare(a.Recipe, b.Recipe))
	})
	simulated := slices.ContainsFunc(rows, func(r siteRow) bool { return r.Last.Simulated })
	title := "Images of the factory"
	if simulated {
		title = "SIMULATED: " + title
	}
	doc := document(title, siteStyle, simulated,
		g.If(simulated, html.Div(html.Class("banner"), html.Role("alert"), html.Strong(g.Text("SIMULATED")),
			g.Text(" The images marked so were rehearsed without a guest. Nothing was checked."))),
		html.Main(
			html.Header(
				html.P(html.Class("kicker"), g.Text("Machine images")),
				html.H1(g.Text("Images of the factory")),
				html.P(html.Class("lead"), g.Text("What is published where, as of "), stampOf(s.Now), g.Text(". The page is written after each execution.")),
			),
			s.tally(rows), s.table(rows),
		),
		html.Footer(html.P(g.Text("Ages and days left are counted from the time above."))),
	)
	if err := doc.Render(w); err != nil {
		return fmt.Errorf("write the index page: %w", err)
	}
	return nil
}

// Executions are those whose reports the page links to, sorted.
func (s Site) Executions() []string {
	var out []string
	for _, x := range s.Summaries {
		if x.Last.Execution != "" {
			out = append(out, x.Last.Execution)
		}
		if x.Published != nil {
			out = append(out, x.Published.Execution)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s Site) row(x Summary) siteRow {
	r := siteRow{Summary: x}
	because := func(format string, args ...any) { r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...)) }
	if x.Unreadable != "" {
		because("its summary cannot be read")
		return r
	}
	if w := r.Waiting; w != nil && w.Until.Before(s.Now) {
		r.Waiting = nil // the execution was aborted, or is about to end
	}
	if r.Waiting != nil {
		because("an approval is waited for")
	}
	switch x.Last.Status {
	case contract.Published, contract.UpToDate, "": // none has ended
	default:
		_, verdict, _ := verdict(x.Last.Status)
		because("last execution: %s", strings.ToLower(verdict[:1])+verdict[1:])
	}
	p := x.Published
	if p == nil {
		because("nothing is published")
		return r
	}
	for _, waiver := range p.Waivers {
		if daysLeft(waiver.Expires, s.Now) <= soonDays {
			r.Ending = append(r.Ending, waiver)
		}
	}
	if len(r.Ending) > 0 {
		because("%s", plural(len(r.Ending), "waiver ends soon or has ended", "waivers end soon or have ended"))
	}
	if v := p.Vulnerabilities; v != nil && v.Critical+v.High > 0 {
		because("%s", plural(v.Critical+v.High, "vulnerability of severity high or above", "vulnerabilities of severity high or above"))
	}
	return r
}

func (s Site) tally(rows []siteRow) g.Node {
	if len(rows) == 0 {
		return nil
	}
	var published, images, attention, ending, open, waiting int
	for _, r := range rows {
		if len(r.Reasons) > 0 {
			attention++
		}
		ending += len(r.Ending)
		if r.Waiting != nil {
			waiting++
		}
		if r.Published == nil {
			continue
		}
		published++
		images += len(r.Published.Images)
		if v := r.Published.Vulnerabilities; v != nil {
			open += v.Open()
		}
	}
	return html.Ul(html.Class("tally"),
		tally(tone(attention > 0, "bad", "good"), fmt.Sprint(attention), "to look at"),
		tally("none", fmt.Sprintf("%d of %d", published, len(rows)), "recipes published"),
		tally("none", fmt.Sprint(images), one(images, "image", "images")+" in all regions"),
		tally(tone(waiting > 0, "warn", "none"), fmt.Sprint(waiting), one(waiting, "approval", "approvals")+" waited for"),
		tally(tone(ending > 0, "warn", "none"), fmt.Sprint(ending), one(ending, "waiver", "waivers")+" ending"),
		tally(tone(open > 0, "warn", "none"), fmt.Sprint(open), one(open, "vulnerability", "vulnerabilities")+" open"),
	)
}

func (s Site) table(rows []siteRow) g.Node {
	if len(rows) == 0 {
		return html.P(html.Class("empty"), g.Text("No execution has ended yet. Build a recipe, and it appears here."))
	}
	return g.Group{
		filter("show", "Show", []choice{{"all", "all"}, {"attention", "to look at"}, {"published", "published"}, {"unpublished", "not published"}}),
		html.Table(html.Class("cards site"), caption("Recipes, those that somebody should look at first"),
			columns([]string{"Recipe", "Last execution", "Published", "Checks", "Vulnerabilities", "Waivers", "Images"}),
			html.TBody(g.Map(rows, s.tr))),
	}
}

func (s Site) tr(r siteRow) g.Node {
	classes := []string{tone(len(r.Reasons) > 0, "attention", "calm"), tone(r.Published != nil, "published", "unpublished")}
	name := g.Group{html.B(g.Text(r.Recipe)), g.If(r.Description != "", html.Span(html.Class("muted block"), g.Text(r.Description)))}
	if r.Unreadable != "" {
		return html.Tr(html.ID("recipe-"+slug(r.Recipe)), html.Class(strings.Join(classes, " ")),
			rowHeading("Recipe", name), html.Td(html.ColSpan("6"), html.Data("label", "Problem"), html.Class("problem"), g.Text("Its summary cannot be read: "+r.Unreadable)))
	}
	p := r.Published
	row := []g.Node{
		html.ID("recipe-" + slug(r.Recipe)), html.Class(strings.Join(classes, " ")), html.Data("last", r.Last.Execution),
		rowHeading("Recipe", name, g.Map(r.Reasons, func(why string) g.Node { return html.Span(html.Class("tag warn"), g.Text(why)) })),
		cell("Last execution", s.last(r)),
	}
	if p == nil {
		return html.Tr(append(row, html.Td(html.ColSpan("5"), html.Data("label", "Published"), g.Text("Nothing is published.")))...)
	}
	return html.Tr(append(row,
		cell("Published", s.reportOf(p.Execution, p.At), html.Span(html.Class("muted block"), g.Text(age(p.At, s.Now)+" old"), g.If(p.Simulated, g.Text(", simulated")))),
		cell("Checks", checks(p.Counts)),
		cell("Vulnerabilities", openOf(p.Vulnerabilities)),
		cell("Waivers", s.waivers(p.Waivers)),
		cell("Images", imagesOf(p.Images)),
	)...)
}

func (s Site) last(r siteRow) g.Node {
	tone, verdict, _ := verdict(r.Last.Status)
	out := g.Group{html.Span(html.Class("tag "+tone), g.Text(verdict)), s.reportOf(r.Last.Execution, r.Last.Ended)}
	if r.Last.Execution == "" {
		out = g.Group{muted("none has ended")}
	}
	if r.Last.Error != "" {
		out = append(out, html.Span(html.Class("muted block"), g.Text(r.Last.Error)))
	}
	if r.Last.Simulated {
		out = append(out, g.Text(" "), html.B(html.Class("sim"), g.Text("SIMULATED")))
	}
	if w := r.Waiting; w != nil {
		out = append(out, html.Span(html.Class("block"), html.Data("waiting", w.Execution), g.Text("Execution "), code(w.Execution),
			g.Text(" waits for an approval since "), stampOf(w.Since), g.Text(", until "), stampOf(w.Until)))
	}
	return out
}

// reportOf links to the report of an execution, by when it ended.
func (s Site) reportOf(execution string, at time.Time) g.Node {
	return html.A(html.Href(s.Reports+contract.ExecutionKey(execution, contract.PageObject)), html.Title("Report of "+execution), stampOf(at))
}

func stampOf(t time.Time) g.Node {
	if t.IsZero() {
		return g.Text("—")
	}
	return html.Time(html.DateTime(t.UTC().Format(time.RFC3339)), g.Text(t.UTC().Format("2006-01-02 15:04 UTC")))
}

func checks(c *compliance.Counts) g.Node {
	if c == nil {
		return muted("see its report")
	}
	total := c.Passed + c.Failed + c.Waived
	return g.Group{
		html.B(g.Text(fmt.Sprintf("%d of %d", c.Passed, total))),
		html.Span(html.Class("muted block"), g.Text(fmt.Sprintf("%d failed, %d waived", c.Failed, c.Waived))),
	}
}

func openOf(c *VulnerabilityCounts) g.Node {
	if c == nil {
		return muted("not matched")
	}
	var parts []g.Node
	for _, x := range []struct {
		n           int
		what, class string
	}{{c.Critical, "critical", "bad"}, {c.High, "high", "bad"}, {c.Medium, "medium", "warn"}, {c.Low, "low", "neutral"}} {
		if x.n > 0 {
			parts = append(parts, html.Span(html.Class("tag "+x.class), g.Text(fmt.Sprintf("%d %s", x.n, x.what))))
		}
	}
	if len(parts) == 0 {
		parts = append(parts, g.Text("none open"))
	}
	if c.Waived > 0 {
		parts = append(parts, html.Span(html.Class("muted block"), g.Text(fmt.Sprintf("%d waived", c.Waived))))
	}
	return g.Group(parts)
}

// waivers says how many there are, and which end next.
func (s Site) waivers(list []compliance.Waiver) g.Node {
	if len(list) == 0 {
		return g.Text("none")
	}
	next := slices.MinFunc(list, func(a, b compliance.Waiver) int { return strings.Compare(a.Expires, b.Expires) })
	left := daysLeft(next.Expires, s.Now)
	return g.Group{
		g.Text(fmt.Sprint(len(list))),
		html.Span(html.Class("block "+tone(left <= soonDays, "warned", "muted")), g.Text("next: "+waived(next)+", "+leftSentence(left))),
	}
}

func imagesOf(images []Image) g.Node {
	return html.Details(html.Summary(g.Text(plural(len(images), "region", "regions"))),
		html.Ul(html.Class("images"), g.Map(images, func(i Image) g.Node { return html.Li(muted(i.Region), g.Text(" "), code(i.ImageID)) })))
}

// daysLeft is how many days a waiver still holds after today; negative: it has ended.
func daysLeft(expires string, now time.Time) int {
	day, err := time.Parse(time.DateOnly, expires)
	if err != nil {
		return -1
	}
	return int(day.Sub(now.UTC().Truncate(24*time.Hour)).Hours() / 24)
}

func leftSentence(days int) string {
	switch {
	case days < 0:
		return "ended " + plural(-days, "day", "days") + " ago"
	case days == 0:
		return "ends today"
	}
	return plural(days, "day", "days") + " left"
}

// age is a time span in the largest unit that fits.
func age(from, to time.Time) string {
	hours := int(to.Sub(from).Hours())
	switch {
	case hours < 1:
		return "under an hour"
	case hours < 48:
		return plural(hours, "hour", "hours")
	}
	return plural(hours/24, "day", "days")
}

func plural(n int, single, many string) string { return fmt.Sprintf("%d %s", n, one(n, single, many)) }

// one is the form of a word that goes with a number.
func one(n int, single, many string) string {
	if n == 1 {
		return single
	}
	return many
}

// slug is a text as part of an anchor: letters, digits, hyphens and dots.
func slug(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
			return r
		}
		return '-'
	}, s)
}
