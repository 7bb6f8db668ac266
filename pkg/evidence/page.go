package evidence

import (
	"fmt"
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
			p.head(), p.failure(), p.leftBehind(), p.identity(), p.controls(), p.waivers(),
			p.images(), p.retention(), p.states(), p.cost(), p.traces(), p.signOff(),
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
// The first is chosen; on paper all is shown that was chosen.
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
	}
	body = append(body, p.failed(), p.waived(), p.passed())
	return section("", "controls", content, body)
}

func (p page) failed() g.Node {
	return part("Failed", p.Report.Failed(), "cards", "Controls that failed, those that reject the image first",
		[]string{"Control", "Severity", "What it demands", "Expected", "Found"},
		func(r compliance.Result) g.Node {
			status := strings.ReplaceAll(string(r.Status), "_", " ")
			if r.Rejecting {
				status += ", rejects"
			}
			return html.Tr(
				rowHeading("Control", code(r.ControlID), html.Span(html.Class("tag "+tone(r.Rejecting, "bad", "warn")), g.Text(status)), p.label()),
				cell("Severity", g.Text(r.Severity)), demand(r),
				value("value", "Expected", r.Evidence.Expected), value("value found", "Found", r.Evidence.Actual),
			)
		})
}

func (p page) waived() g.Node {
	return part("Waived", p.Report.Waived(), "cards", "Controls that failed or are switched off, with the waiver that lets them",
		[]string{"Control", "Severity", "What it demands", "Waiver", "Found"},
		func(r compliance.Result) g.Node {
			by := r.Waiver.Approver + ", until " + r.Waiver.Expires
			if r.Waiver.BuiltIn {
				by = "built into " + r.Waiver.Approver
			}
			return html.Tr(
				rowHeading("Control", code(r.ControlID), html.Span(html.Class("tag warn"), g.Text("waived")), p.label()),
				cell("Severity", g.Text(r.Severity)), demand(r),
				cell("Waiver", g.Text(r.Waiver.Reason), html.Span(html.Class("muted"), html.Br(), g.Text(by))),
				value("value found", "Found", r.Evidence.Actual),
			)
		})
}

func (p page) passed() g.Node {
	return part("Passed", p.Report.Passed(), "cards tight", "Controls that passed",
		[]string{"Control", "Severity", "What it demands", "Component", "CIS"},
		func(r compliance.Result) g.Node {
			return html.Tr(
				rowHeading("Control", code(r.ControlID), p.label()), cell("Severity", g.Text(r.Severity)),
				cell("What it demands", g.Text(r.Title)), cell("Component", g.Text(r.Component)), cell("CIS", g.Text(cis(r))),
			)
		})
}

func demand(r compliance.Result) g.Node {
	of := cis(r)
	return cell("What it demands", g.Text(r.Title), g.If(of != "", html.Span(html.Class("muted"), html.Br(), g.Text("CIS "+of))))
}

func (p page) waivers() g.Node {
	if len(p.Waivers) == 0 {
		return nil
	}
	return section("", "waivers", g.Text("Waivers of the recipe"),
		table("cards", "Waivers that the recipe has", []string{"Control", "Reason", "Approved by", "Holds until"}, p.Waivers,
			func(w compliance.Waiver) g.Node {
				return html.Tr(
					rowHeading("Control", code(w.Subject())), cell("Reason", g.Text(w.Reason)),
					cell("Approved by", g.Text(w.Approver)), cell("Holds until", g.Text(w.Expires)),
				)
			}))
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
	var longest float64
	for _, s := range p.States {
		longest = max(longest, s.Seconds)
	}
	hidden := html.Aria("hidden", "true")
	return section("", "stages", g.Text("States"),
		html.Table(html.Class("stages"), caption("States of the machine with the time each took"),
			html.THead(html.Tr(heading("State"), heading("Time"), html.Th(html.Scope("col"), html.Class("bar"), hidden))),
			html.TBody(g.Map(p.States, func(s State) g.Node {
				return html.Tr(html.Th(html.Scope("row"), g.Text(s.Name)), html.Td(g.Text(duration(s.Seconds))),
					html.Td(html.Class("bar"), hidden, html.Span(html.Style("width: "+percent(s.Seconds, longest)+"%"))))
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
	return g.Group{html.H3(g.Text(title)), table(class, what, names, rows, row)}
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
