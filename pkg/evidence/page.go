package evidence

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	"maragu.dev/gomponents/html"

	"github.com/ami-factory/ami-factory/pkg/compliance"
	"github.com/ami-factory/ami-factory/pkg/contract"
)

// The page is built of Go values and not with html/template: a program that can
// execute templates can call any exported method by name, so that the linker leaves
// out none, and the function that writes reports grew by two thirds.

// document is the whole page.
func (p page) document() g.Node {
	title := p.Verdict + ": " + p.Recipe + " (" + p.Execution.Name + ")"
	if p.Simulated {
		title = "SIMULATED: " + title
	}
	return document(title, "", p.Simulated,
		html.A(html.Class("skip"), html.Href("#controls"), g.Text("Skip to the controls")),
		g.If(p.Simulated, html.Div(html.Class("banner"), html.Role("alert"), html.Strong(g.Text("SIMULATED")),
			g.Text(" No guest was run and nothing was checked. This page rehearses the report and proves nothing."))),
		html.Main(
			p.head(), p.failure(), p.leftBehind(), p.contents(), p.identity(), p.diff(), p.vulnerabilities(), p.controls(), p.waivers(), p.approvals(),
			p.images(), p.retention(), p.states(), p.cost(), p.verification(), p.traces(), p.signOff(),
		),
		html.Footer(html.P(
			g.If(p.Simulated, g.Group{html.B(html.Class("sim"), g.Text("SIMULATED")), g.Text(" ")}),
			g.Text(p.Schema+", of execution "+p.Execution.Name+"."),
		)),
	)
}

// document is a page that needs nothing from elsewhere, and whose policy forbids it.
func document(title, style string, simulated bool, body ...g.Node) g.Node {
	return html.Doctype(html.HTML(html.Lang("en"),
		html.Head(
			html.Meta(html.Charset("utf-8")),
			html.Meta(html.Name("viewport"), html.Content("width=device-width, initial-scale=1")),
			html.Meta(html.Name("color-scheme"), html.Content("light dark")),
			html.Meta(g.Attr("http-equiv", "Content-Security-Policy"),
				html.Content("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'")),
			html.TitleEl(g.Text(title)),
			html.StyleEl(g.Raw(pageStyle+style)),
		),
		html.Body(g.If(simulated, html.Class("simulated")), g.Group(body)),
	))
}

// choice is one setting of a filter.
type choice struct{ value, label string }

// filter is a row of choices that rules of the style sheet act on, without a script.
// The first is chosen. On paper all is shown.
func filter(name, legend string, choices []choice) g.Node {
	var nodes []g.Node
	for i, c := range choices {
		id := name + "-" + c.value
		nodes = append(nodes, html.Input(html.Type("radio"), html.Name(name), html.ID(id), g.If(i == 0, html.Checked())), html.Label(html.For(id), g.Text(c.label)))
	}
	return html.FieldSet(html.Class("filter"), html.Legend(g.Text(legend)), g.Group(nodes))
}

func (p page) head() g.Node {
	return html.Header(
		html.P(html.Class("kicker"), g.Text("Image security report")),
		html.H1(g.Text(p.Recipe)),
		g.If(p.Description != "", html.P(html.Class("lead"), g.Text(p.Description))),
		html.Div(html.Class("verdict "+p.Tone),
			html.P(html.Class("word"), g.Text(p.Verdict), p.label()),
			html.P(g.Text(p.Meaning)),
		),
	)
}

func (p page) failure() g.Node {
	if p.Failure == nil {
		return nil
	}
	why := html.Pre(g.Text(p.Failure.Cause))
	if c := p.Compliance; c != nil && p.Failure.Error == "ComplianceRejected" {
		var ids []g.Node
		for _, r := range c.Rejections() {
			ids = append(ids, code(r.ControlID))
		}
		why = html.P(g.Text(fmt.Sprintf("%d of %d controls failed at severity %s or above: ", c.Counts.Rejecting, len(c.Results), c.Gate)),
			joined(ids, g.Text(", ")), g.Text(". What was expected and found is below."))
	}
	return section("cause", "cause", g.Text("Why"),
		html.P(html.B(g.Text(p.Failure.Error)), g.If(p.Failure.State != "", g.Group{g.Text(" in state "), html.B(g.Text(p.Failure.State))})),
		why,
	)
}

func (p page) leftBehind() g.Node {
	if len(p.Left) == 0 {
		return nil
	}
	return section("cause", "left", g.Text("Left behind"),
		html.P(g.Text("These could not be removed and have to be seen to by hand:")),
		html.Ul(g.Map(p.Left, func(s string) g.Node { return html.Li(code(s)) })),
	)
}

func (p page) identity() g.Node {
	var rows g.Group
	add := func(name string, value ...g.Node) { rows = append(rows, fact(name, value...)) }
	if p.ImageName != "" {
		add("Image name", code(p.ImageName))
	}
	if s := p.Source; s.ImageID != "" {
		add("Built from", code(s.ImageID), g.Text(" "+s.Name+", owner "), code(s.OwnerID), g.Text(", "+s.Architecture))
	}
	if p.Fingerprint != "" {
		add("Fingerprint", code(p.Fingerprint))
	}
	if p.Again != nil {
		add("Released again", code(p.Again.ImageID), g.Text(", without a bake; baked by "), code(p.Again.Execution))
	}
	if p.Why != "" {
		add("Why", g.Text(p.Why))
	}
	if len(p.Changed) > 0 {
		add("Changed", joined(texts(p.Changed, g.Text), g.Text(", ")))
	}
	rows = append(rows, html.Div(html.Dt(g.Text("Guests")), html.Dd(g.If(p.Simulated, html.Class("sim")), g.Text(p.Guest))))
	add("Execution", code(p.Execution.Name))
	add("Time", html.Time(html.DateTime(p.Execution.Started.UTC().Format(time.RFC3339)), g.Text(date(p.Execution.Started))),
		g.Text(", took "+between(p.Execution.Started, p.Execution.Ended)))
	if p.FactoryVersion != "" {
		add("Built by", g.Text("ami-factory "+p.FactoryVersion))
	}
	var components []g.Node
	for _, c := range p.Components {
		of := parameters(c)
		components = append(components, g.Group{html.B(g.Text(c.Name)), g.If(of != "", g.Group{g.Text(" "), muted(of)})})
	}
	if len(components) > 0 {
		add("Components", joined(components, html.Br()))
	}
	return section("", "facts", g.Text("Identity"), html.Dl(rows))
}

func (p page) controls() g.Node {
	content := g.Group{g.Text("Controls"), p.label()}
	if p.Compliance == nil {
		text := "The execution ended before any control was checked. Nothing is proved."
		if p.Status == contract.UpToDate {
			text = "The controls were checked when the image was built; see the report of that execution."
		}
		return section("", "controls", content, html.P(g.Text(text)))
	}
	c := p.Compliance
	body := g.Group{
		html.Ul(html.Class("tally"),
			tally(tone(c.Counts.Failed > 0, "bad", "none"), fmt.Sprint(c.Counts.Failed), "failed"),
			tally(tone(c.Counts.Waived > 0, "warn", "none"), fmt.Sprint(c.Counts.Waived), "waived"),
			tally("good", fmt.Sprint(c.Counts.Passed), "passed"),
			tally("none", c.Gate, "and above reject"),
		),
		g.Map(c.Warnings, func(s string) g.Node { return html.P(html.Class("note"), g.Text("Note: "+s+".")) }),
		filter("result", "Show", []choice{{"all", "all"}, {"failed", "failed"}, {"waived", "waived"}, {"passed", "passed"}}),
	}
	body = append(body, p.failed(), p.waived(), p.passed())
	return section("", "controls", content, body)
}

func (p page) failed() g.Node {
	return part("Failed", p.Report.Failed(), "cards", "Controls that failed, those that reject the image first",
		[]string{"Control", "Severity", "What it demands", "Expected", "Found"},
		func(r compliance.Result) g.Node {
			status := strings.ReplaceAll(r.Status, "_", " ")
			if r.Rejecting {
				status += ", rejects"
			}
			return html.Tr(html.ID(controlID(r)),
				rowHeading("Control", controlLink(r), html.Span(html.Class("tag "+tone(r.Rejecting, "bad", "warn")), g.Text(status)), p.label()),
				cell("Severity", g.Text(r.Severity)), demand(r),
				value("value", "Expected", r.Evidence.Expected), value("value found", "Found", r.Evidence.Actual),
			)
		})
}

func (p page) waived() g.Node {
	return part("Waived", p.Report.Waived(), "cards", "Controls that failed or are switched off, with the waiver that lets them",
		[]string{"Control", "Severity", "What it demands", "Waiver", "Found"},
		func(r compliance.Result) g.Node {
			return html.Tr(html.ID(controlID(r)),
				rowHeading("Control", controlLink(r), html.Span(html.Class("tag warn"), g.Text("waived")), p.label()),
				cell("Severity", g.Text(r.Severity)), demand(r),
				cell("Waiver", g.Text(r.Waiver.Reason), html.Span(html.Class("muted"), html.Br(), g.Text(p.terms(*r.Waiver)))),
				value("value found", "Found", r.Evidence.Actual),
			)
		})
}

func (p page) passed() g.Node {
	return part("Passed", p.Report.Passed(), "cards tight", "Controls that passed",
		[]string{"Control", "Severity", "What it demands", "Component", "CIS"},
		func(r compliance.Result) g.Node {
			return html.Tr(html.ID(controlID(r)),
				rowHeading("Control", controlLink(r), p.label()), cell("Severity", g.Text(r.Severity)),
				cell("What it demands", g.Text(r.Title)), cell("Component", g.Text(r.Component)), cell("CIS", g.Text(cis(r))),
			)
		})
}

// controlID is the anchor of a control. It is the same in all reports.
func controlID(r compliance.Result) string { return "control-" + slug(r.ControlID) }

func controlLink(r compliance.Result) g.Node {
	return html.A(html.Class("anchor"), html.Href("#"+controlID(r)), code(r.ControlID))
}

// demand says what a control demands, which CIS rules it maps to, and how to fix it.
func demand(r compliance.Result) g.Node {
	of := cis(r)
	return cell("What it demands", g.Text(r.Title), g.If(of != "", html.Span(html.Class("muted"), html.Br(), g.Text("maps to CIS "+of))),
		g.If(r.Fix != "", html.P(html.Class("fix"), html.B(g.Text("Fix: ")), g.Text(r.Fix))))
}

// terms says who approved a waiver, and how long it holds from the execution's end.
func (p page) terms(w compliance.Waiver) string {
	if w.BuiltIn {
		return "built into " + w.Approver
	}
	by := w.Approver
	if w.SecondApprover != "" {
		by += " and " + w.SecondApprover
	}
	if w.Author != "" {
		by += ", written by " + w.Author
	}
	return by + ", until " + w.Expires + " (" + leftSentence(daysLeft(w.Expires, p.Execution.Ended)) + ")"
}

func (p page) waivers() g.Node {
	if len(p.Waivers) == 0 {
		return nil
	}
	return section("", "waivers", g.Text("Waivers of the recipe"),
		table("cards", "Waivers that the recipe has", []string{"What", "Reason", "Approved by", "Holds until"}, p.Waivers,
			func(w compliance.Waiver) g.Node {
				left := daysLeft(w.Expires, p.Execution.Ended)
				by := g.Group{g.Text(w.Approver), g.If(w.SecondApprover != "", g.Text(", "+w.SecondApprover)), g.If(w.Author != "", html.Span(html.Class("muted block"), g.Text("written by "+w.Author)))}
				return html.Tr(
					rowHeading("What", code(waived(w))), cell("Reason", g.Text(w.Reason)), cell("Approved by", by),
					cell("Holds until", g.Text(w.Expires), html.Span(html.Class("tag "+tone(left <= soonDays, "warn", "neutral")), g.Text(leftSentence(left)))),
				)
			}),
		html.P(html.Class("muted"), g.Text("Days are counted from the end of the execution.")),
	)
}

// contents links to the sections that the report has.
func (p page) contents() g.Node {
	var links []g.Node
	link := func(is bool, id, name string) {
		if is {
			links = append(links, html.Li(html.A(html.Href("#"+id), g.Text(name))))
		}
	}
	link(p.Diff != nil, "diff", "Differences")
	link(p.Vulnerabilities != nil, "vulnerabilities", "Vulnerabilities")
	link(true, "controls", "Controls")
	link(len(p.Waivers) > 0, "waivers", "Waivers")
	link(p.Approvals != nil, "approvals", "Approvals")
	link(len(p.Images) > 0, "images", "Images")
	link(len(p.States) > 0, "stages", "States")
	link(true, "verify", "How to verify")
	return html.Nav(html.Aria("label", "Sections"), html.Ul(html.Class("contents"), g.Group(links)))
}

func (p page) diff() g.Node {
	d := p.Diff
	if d == nil {
		return nil
	}
	if d.ImageID == "" {
		return section("", "diff", g.Text("Differences"), html.P(g.Text("Nothing is compared with this image: "+cmp.Or(d.Reason, "no image of the recipe was published before")+".")))
	}
	body := g.Group{html.P(g.Text("Compared with "), code(d.ImageID), g.Text(", which was published before"), g.If(d.Execution != "", g.Group{g.Text(" by "), code(d.Execution)}), g.Text("."))}
	some := slices.ContainsFunc(d.Groups, func(group DiffGroup) bool { return len(group.Changes) > 0 })
	if some && d.OnlyPackageUpgrades {
		body = append(body, html.P(g.Text("Only packages were upgraded.")))
	}
	for _, group := range d.Groups {
		if len(group.Changes) == 0 {
			continue
		}
		body = append(body, html.H3(g.Text(fmt.Sprintf("%s (%d)", group.Title, len(group.Changes)+group.More))),
			table("cards tight", group.Title, []string{"Name", "Change", "Before", "After"}, group.Changes, func(c Change) g.Node {
				return html.Tr(
					rowHeading("Name", code(c.Name)), cell("Change", html.Span(html.Class("tag inline "+tone(c.Grave, "bad", "neutral")), g.Text(c.What))),
					value("value", "Before", c.Before), value("value", "After", c.After),
				)
			}),
			g.If(group.More > 0, html.P(html.Class("note"), g.Text(fmt.Sprintf("%d more are not listed.", group.More)))))
	}
	if !some {
		body = append(body, html.P(g.Text("Nothing differs.")))
	}
	return section("", "diff", g.Text("Differences"), body)
}

func (p page) vulnerabilities() g.Node {
	v := p.Vulnerabilities
	if v == nil {
		return nil
	}
	var counts VulnerabilityCounts
	for _, x := range v.Findings {
		counts.count(x)
	}
	gate := "no gate"
	if v.Gate != "" {
		gate = v.Gate
	}
	body := g.Group{
		html.Ul(html.Class("tally"),
			tally(tone(counts.Critical > 0, "bad", "none"), fmt.Sprint(counts.Critical), "critical"),
			tally(tone(counts.High > 0, "bad", "none"), fmt.Sprint(counts.High), "high"),
			tally(tone(counts.Medium > 0, "warn", "none"), fmt.Sprint(counts.Medium), "medium"),
			tally("none", fmt.Sprint(counts.Low), "low"),
			tally(tone(counts.Waived > 0, "warn", "none"), fmt.Sprint(counts.Waived), "waived"),
			g.If(v.Gate != "", tally("none", gate, "and above reject")),
		),
		g.If(v.Why != "", html.P(html.Class(tone(v.Verdict == compliance.VerdictRejected, "problem", "note")), g.Text(v.Why))),
	}
	body = append(body, g.Map(v.Warnings, func(s string) g.Node { return html.P(html.Class("note"), g.Text("Note: "+s+".")) }))
	if len(v.Findings) == 0 {
		body = append(body, html.P(g.Text(fmt.Sprintf("None is known in the %d packages of the image.", v.Packages))))
	} else {
		body = append(body, table("cards tight", "Known vulnerabilities, those that reject the image first", []string{"Vulnerability", "Severity", "Package", "Installed", "Fixed in"}, byGravity(v.Findings), p.vulnerability))
	}
	var feeds []g.Node
	for _, f := range v.Feeds {
		feeds = append(feeds, g.Group{g.Text(f.Name), g.If(f.AsOf != "", g.Text(", as of "+f.AsOf)), g.If(f.SHA256 != "", g.Group{g.Text(" "), muted("sha256 " + f.SHA256)})})
	}
	if len(feeds) > 0 {
		body = append(body, html.Dl(fact("Packages", g.Text(fmt.Sprint(v.Packages))), fact("Matched against", joined(feeds, html.Br()))))
	}
	return section("", "vulnerabilities", g.Group{g.Text("Vulnerabilities"), p.label()}, body)
}

func (p page) vulnerability(v Vulnerability) g.Node {
	tag := g.Node(nil)
	switch v.Status {
	case VulnerabilityRejecting:
		tag = html.Span(html.Class("tag bad"), g.Text("rejects"))
	case VulnerabilityWaived:
		tag = html.Span(html.Class("tag warn"), g.Text("waived"))
	case VulnerabilityNotAffected:
		tag = html.Span(html.Class("tag good"), g.Text("not affected"))
	}
	fixed := v.Fixed
	if fixed == "" {
		fixed = "no fix is known"
	}
	return html.Tr(html.ID("vulnerability-"+slug(v.ID)+"-"+slug(v.Package)),
		rowHeading("Vulnerability", code(v.ID), g.If(tag != nil, tag), g.If(v.Exploited, html.Span(html.Class("tag bad"), g.Text("exploited")))),
		cell("Severity", g.Text(v.Severity)),
		cell("Package", code(v.Package), g.Iff(v.Waiver != nil, func() g.Node {
			return html.P(html.Class("fix"), g.Text(v.Waiver.Reason), html.Span(html.Class("muted block"), g.Text(p.terms(*v.Waiver))))
		})),
		value("value", "Installed", v.Installed), value("value", "Fixed in", fixed),
	)
}

// byGravity sorts vulnerabilities: those that reject, then open ones, then the others,
// each with the highest severity first.
func byGravity(list []Vulnerability) []Vulnerability {
	statuses := []string{VulnerabilityRejecting, VulnerabilityOpen, VulnerabilityWaived, VulnerabilityNotAffected}
	out := slices.Clone(list)
	slices.SortStableFunc(out, func(a, b Vulnerability) int {
		return cmp.Or(
			cmp.Compare(slices.Index(statuses, a.Status), slices.Index(statuses, b.Status)), cmp.Compare(severityRank(b.Severity), severityRank(a.Severity)),
			strings.Compare(a.ID, b.ID), strings.Compare(a.Package, b.Package),
		)
	})
	return out
}

func (p page) approvals() g.Node {
	a := p.Approvals
	if a == nil {
		return nil
	}
	body := g.Group{html.P(g.Text(plural(a.Needed, "approval is", "approvals, by different people, are")+" needed"), g.If(a.Requester != "", g.Text("; requested by "+a.Requester)), g.Text("."))}
	if len(a.Decisions) == 0 {
		return section("", "approvals", g.Text("Approvals"), append(body, html.P(g.Text("Nobody has decided."))))
	}
	return section("", "approvals", g.Text("Approvals"), append(body,
		table("cards", "Decisions", []string{"Person", "Decision", "Reason", "Role", "Time"}, a.Decisions, func(d Approval) g.Node {
			return html.Tr(
				rowHeading("Person", g.Text(d.Person)), cell("Decision", html.Span(html.Class("tag inline "+tone(d.Decision == DecisionApproved, "good", "bad")), g.Text(d.Decision))),
				cell("Reason", g.Text(d.Reason)), cell("Role", g.Text(cmp.Or(d.Role, "—"))), cell("Time", g.Text(date(d.At))),
			)
		})))
}

// verification says how to check what the page says without trusting the page.
func (p page) verification() g.Node {
	body := g.Group{
		html.P(g.Text("This page is made of the JSON report beside it, report.json, which has everything that it shows. Its digest is:")),
		html.Pre(g.Text("$ sha256sum report.json\n" + p.Digest + "  report.json")),
	}
	if len(p.Images) > 0 && !p.Simulated {
		body = append(body,
			html.P(g.Text("The evidence of a released image is signed. Whoever has the public key can verify it:")),
			html.Pre(g.Text("$ ami-factory evidence verify "+p.Images[0].ImageID)),
		)
	}
	if b := p.Bundle; b != nil {
		body = append(body, html.Dl(fact("Digest of the bundle", code("sha256 "+b.SHA256)), fact("Signing key", code(b.Key))))
	}
	return section("", "verify", g.Text("How to verify"), body)
}

func (p page) images() g.Node {
	if len(p.Images) == 0 && len(p.Pointers) == 0 {
		return nil
	}
	heading := "Images"
	if p.Status == contract.Published || p.Status == contract.UpToDate {
		heading = "Published images"
	}
	var rows g.Group
	var pointers []g.Node
	for _, s := range p.Pointers {
		place, name := pointer(s)
		pointers = append(pointers, g.Group{code(name), g.Text(" "), muted(place)})
	}
	if len(pointers) > 0 {
		rows = append(rows, fact("Pointers moved", joined(pointers, html.Br())))
	}
	if len(p.Accounts) > 0 {
		rows = append(rows, fact("Accounts that may launch it", joined(texts(p.Accounts, code), g.Text(", "))))
	}
	if len(p.Organizations) > 0 {
		rows = append(rows, fact("Organisations and units", joined(texts(p.Organizations, code), html.Br())))
	}
	return section("", "images", g.Group{g.Text(heading), p.label()},
		g.Iff(len(p.Images) > 0, func() g.Node {
			return table("cards", "Images by region", []string{"Region", "Image", "Snapshots"}, p.Images, func(i Image) g.Node {
				return html.Tr(rowHeading("Region", g.Text(i.Region)), cell("Image", code(i.ImageID)), cell("Snapshots", codes(i.SnapshotIDs, g.Text(", "), "—")))
			})
		}),
		html.Dl(rows),
	)
}

func (p page) retention() g.Node {
	if len(p.Retention) == 0 {
		return nil
	}
	return section("", "retention", g.Text("Retention"),
		html.P(g.Text("The recipe's published images, after this one was published:")),
		table("cards", "What became of each published image", []string{"Region", "Image", "Outcome", "Why"}, p.Retention, func(r Retention) g.Node {
			return html.Tr(rowHeading("Region", g.Text(r.Region)), cell("Image", code(r.ImageID)), cell("Outcome", g.Text(r.Outcome)), cell("Why", g.Text(r.Why)))
		}),
	)
}

func (p page) states() g.Node {
	if len(p.States) == 0 {
		return nil
	}
	// Reports of before the times of starts were kept have none: their bars begin at zero.
	var whole, end float64
	beside := false
	for _, s := range p.States {
		beside = beside || s.After < end-1
		end = max(end, s.After+s.Seconds)
		whole = max(whole, end)
	}
	hidden := html.Aria("hidden", "true")
	return section("", "stages", g.Text("States"),
		g.If(beside, html.P(html.Class("muted"), g.Text("Some states ran side by side, so the times add up to more than the execution took."))),
		html.Table(html.Class("stages"), caption("States of the machine in the order in which they began, with the time each took"),
			html.THead(html.Tr(heading("State"), heading("Began after"), heading("Took"), html.Th(html.Scope("col"), html.Class("bar"), hidden))),
			html.TBody(g.Map(p.States, func(s State) g.Node {
				return html.Tr(html.Th(html.Scope("row"), g.Text(s.Name)), html.Td(g.Text(duration(s.After))), html.Td(g.Text(duration(s.Seconds))),
					html.Td(html.Class("bar"), hidden, html.Span(html.Style("margin-left: "+percent(s.After, whole)+"%; width: "+percent(s.Seconds, whole)+"%"))))
			})),
		))
}

func (p page) cost() g.Node {
	c := p.Cost
	if c == nil {
		return nil
	}
	var rows g.Group
	for _, l := range c.Lines {
		about, monthly := "", ""
		if l.Estimated {
			about = "about "
		}
		if l.Monthly {
			monthly = " a month"
		}
		rows = append(rows, html.Tr(
			rowHeading("Item", g.Text(l.Item)), cell("Quantity", g.Text(about+quantity(l.Quantity)+" "+l.Unit)),
			cell("Price", g.Text(price(l.Price))), cell("US dollars", g.Text(dollars(l.USD)+monthly)),
		))
	}
	notes := "Prices of " + c.Region + ", " + c.Prices + "."
	for _, n := range c.Notes {
		notes += " " + n
	}
	rehearsed := ""
	if p.Guests.Kind != "ec2" {
		rehearsed = ", had it run there for as long as here"
	}
	return section("", "cost", g.Text("Cost on AWS, estimated"),
		html.P(html.B(g.Text(dollars(c.USD))), g.Text(" for this execution"),
			g.If(c.MonthlyUSD != 0, g.Group{g.Text(", and "), html.B(g.Text(dollars(c.MonthlyUSD))), g.Text(" every month for keeping the image")}),
			g.Text(rehearsed+".")),
		html.Table(html.Class("cards tight"), caption("What the estimate is made of, the dearest first"),
			columns([]string{"Item", "Quantity", "Price", "US dollars"}), html.TBody(rows)),
		html.P(html.Class("muted"), g.Text(notes)),
	)
}

func (p page) traces() g.Node {
	var logs []g.Node
	for _, l := range p.Logs {
		where := code(l.URI)
		if linkable(l.URI) {
			where = html.A(html.Href(l.URI), g.Text(l.URI))
		}
		logs = append(logs, g.Group{g.Text(l.Title + ": "), where, g.If(l.SHA256 != "", g.Group{g.Text(" "), muted("sha256 " + l.SHA256)})})
	}
	return section("", "traces", g.Text("Traces"), html.Dl(
		g.If(len(logs) > 0, fact("Logs", joined(logs, html.Br()))),
		fact("Removed", codes(p.Removed, g.Text(", "), "nothing")),
		fact("Left behind", codes(p.Left, html.Br(), "nothing")),
		g.If(p.Execution.ID != "", fact("Execution ARN", code(p.Execution.ID))),
		fact("Digest of the JSON report", code("sha256 "+p.Digest)),
	))
}

func (p page) signOff() g.Node {
	lines := html.Div(html.Class("lines"), html.P(g.Text("Name")), html.P(g.Text("Date")), html.P(g.Text("Signature")))
	if p.Simulated {
		lines = html.P(html.B(html.Class("sim"), g.Text("SIMULATED")), g.Text(" There is nothing here to sign."))
	}
	return section("sign", "sign", g.Text("Sign-off"), lines)
}

// label marks what a simulation shows and nothing proves.
func (p page) label() g.Node {
	return g.If(p.Simulated, g.Group{g.Text(" "), html.B(html.Class("sim"), g.Text("SIMULATED"))})
}

// section of the page, with a heading of that id; class may be empty.
func section(class, id string, title g.Node, content ...g.Node) g.Node {
	return html.Section(g.If(class != "", html.Class(class)), html.Aria("labelledby", id), html.H2(html.ID(id), title), g.Group(content))
}

// part is a table of results under a heading of its own, or nothing without results.
func part(title string, rows []compliance.Result, class, what string, names []string, row func(compliance.Result) g.Node) g.Node {
	if len(rows) == 0 {
		return nil
	}
	return html.Div(html.Class("part "+strings.ToLower(title)+"-part"), html.H3(g.Text(fmt.Sprintf("%s (%d)", title, len(rows)))), table(class, what, names, rows, row))
}

// table with a caption for screen readers.
func table[T any](class, what string, names []string, rows []T, row func(T) g.Node) g.Node {
	return html.Table(html.Class(class), caption(what), columns(names), html.TBody(g.Map(rows, row)))
}

func caption(what string) g.Node { return html.Caption(html.Class("hidden"), g.Text(what)) }

func columns(names []string) g.Node { return html.THead(html.Tr(g.Map(names, heading))) }

func heading(name string) g.Node { return html.Th(html.Scope("col"), g.Text(name)) }

// rowHeading and cell carry the name of their column, which a narrow page shows
// beside them.
func rowHeading(column string, content ...g.Node) g.Node {
	return html.Th(html.Scope("row"), html.Data("label", column), g.Group(content))
}

func cell(column string, content ...g.Node) g.Node {
	return html.Td(html.Data("label", column), g.Group(content))
}

// value is a cell with what was expected or found.
func value(class, column, text string) g.Node {
	return html.Td(html.Data("label", column), html.Class(class), g.Text(text))
}

func fact(name string, content ...g.Node) g.Node {
	return html.Div(html.Dt(g.Text(name)), html.Dd(content...))
}

func tally(class, number, what string) g.Node {
	return html.Li(html.Class(class), html.B(g.Text(number)), g.Text(" "+what))
}

func tone(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

func code(s string) g.Node { return html.Code(g.Text(s)) }

func muted(s string) g.Node { return html.Span(html.Class("muted"), g.Text(s)) }

// codes shows a list, or what stands for an empty one.
func codes(list []string, between g.Node, none string) g.Node {
	if len(list) == 0 {
		return g.Text(none)
	}
	return joined(texts(list, code), between)
}

func texts(list []string, as func(string) g.Node) []g.Node {
	out := make([]g.Node, 0, len(list))
	for _, s := range list {
		out = append(out, as(s))
	}
	return out
}

func joined(nodes []g.Node, between g.Node) g.Group {
	var out g.Group
	for i, n := range nodes {
		if i > 0 {
			out = append(out, between)
		}
		out = append(out, n)
	}
	return out
}
