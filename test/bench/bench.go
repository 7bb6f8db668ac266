package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// suite is what is run of one package.
type suite struct {
	pkg    string
	time   string // of -benchtime
	guests bool   // it needs real guests
	means  []meaning
}

// meaning says what the rows of a benchmark are.
type meaning struct{ benchmark, text string }

// suites are all benchmarks, in the order of the table.
func suites() []suite {
	return []suite{
		{pkg: "./test", time: "1x", means: []meaning{
			{"SimulatedBake", "a whole bake with simulated guests on the virtual clock, policies enforced; functions in one process, or as programs"},
			{"Functions", "functions as Lambda runs them: start of a program until its first answer, later invocations, size"},
			{"CriticalPath", "a bake with durations like those of EC2, in seconds of the virtual clock, and the least that it can take"},
			{"Costs", "time to measure the tables below: what executions and nights take of AWS"},
		}},
		{pkg: "./pkg/planner", time: "200ms", means: []meaning{
			{"Plan", "from recipe and source to plan, fingerprint and bundle"},
		}},
		{pkg: "./pkg/stage", time: "2x", means: []meaning{
			{"Gate", "the gate: 1,000 controls, 900 packages, matched with a feed of 51 MB from the embedded S3"},
		}},
		{pkg: "./pkg/evidence/vulnerability", time: "2x", means: []meaning{
			{"Match", "900 packages matched with a feed of 51 MB"},
		}},
		{pkg: "./pkg/evidence/bundle", time: "200ms", means: []meaning{
			{"Sign", "evidence of 1,000 controls and 900 packages: signed (ECDSA P-256, here in this process), verified and packed"},
		}},
		{pkg: "./pkg/evidence", time: "200ms", means: []meaning{
			{"ReportOf1000ControlsAnd900Packages", "the report in each format"},
			{"SiteOf200RecipesIn10Regions", "the index page"},
		}},
		{pkg: "./pkg/compliance", time: "20x", means: []meaning{
			{"ResultsBomb", "results that a hostile guest makes large: refused above 8 MiB"},
		}},
		{pkg: "./test", time: "1x", guests: true, means: []meaning{
			{"ContainerBake", "a bake in containers, with the seconds of each state"},
			{"RealBake", "a bake in virtual machines, with the seconds of each state"},
		}},
	}
}

func (s suite) pattern() string {
	var names []string
	for _, m := range s.means {
		names = append(names, m.benchmark)
	}
	return "^Benchmark(" + strings.Join(names, "|") + ")$"
}

// elsewhere are benchmarks that need what a machine may not have.
func elsewhere() map[string]string {
	return map[string]string{"OfflineLook": "it reads the disk of an image that AMI_FACTORY_LOOK_AT names"}
}

// row is one line of a benchmark.
type row struct {
	name  string // without Benchmark and the number of processors
	took  time.Duration
	other []string // other figures, each with its unit
}

var (
	processors = regexp.MustCompile(`-\d+$`)
	noise      = regexp.MustCompile(`^(goos|goarch|pkg|cpu): |^(ok|PASS)\b|^\?|^\d{4}/\d\d/\d\d \S+ (INFO|WARN) `) // the last are logs of functions
)

// parse reads what `go test -bench` prints
// (https://pkg.go.dev/golang.org/x/tools/benchmark/parse has the format), and returns
// what is not about a benchmark, such as tables.
func parse(r io.Reader) (rows []row, rest []string) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	name := "" // of a benchmark whose name ended its line, because it has printed something
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), " ")
		fields := strings.Fields(line)
		switch {
		case noise.MatchString(line):
		case strings.HasPrefix(line, "Benchmark") && len(fields) == 1:
			name = fields[0]
		case strings.HasPrefix(line, "Benchmark") && figures(fields[1:]):
			rows = append(rows, rowOf(fields[0], fields[1:]))
		case name != "" && figures(fields):
			rows, name = append(rows, rowOf(name, fields)), ""
		default:
			rest = append(rest, line)
		}
	}
	return rows, rest
}

// figures says whether fields are a number of runs and then values with units.
func figures(fields []string) bool {
	if len(fields) < 3 || len(fields)%2 == 0 || fields[2] != "ns/op" {
		return false
	}
	for i, f := range fields {
		if _, err := strconv.ParseFloat(f, 64); err != nil && (i == 0 || i%2 == 1) {
			return false
		}
	}
	return true
}

func rowOf(name string, fields []string) row {
	out := row{name: processors.ReplaceAllString(strings.TrimPrefix(name, "Benchmark"), "")}
	for i := 1; i+1 < len(fields); i += 2 {
		value, unit := fields[i], fields[i+1]
		number, _ := strconv.ParseFloat(value, 64) // see figures
		switch unit {
		case "ns/op":
			out.took = time.Duration(number)
		case "B/op":
			out.other = append(out.other, fmt.Sprintf("%.1f MB allocated", number/1e6))
		case "allocs/op":
		default:
			out.other = append(out.other, value+" "+unit)
		}
	}
	return out
}

// meaningOf says what a row is; empty if nobody has.
func meaningOf(name string) string {
	name, _, _ = strings.Cut(name, "/")
	for _, s := range suites() {
		for _, m := range s.means {
			if m.benchmark == name {
				return m.text
			}
		}
	}
	return ""
}

func writeTable(out io.Writer, rows []row) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "benchmark\ttime\twhat it is\tother figures") // the last may be long
	for _, r := range rows {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.name, rounded(r.took), meaningOf(r.name), cmp.Or(strings.Join(r.other, ", "), "-"))
	}
	_ = w.Flush()
}

// rounded has three digits or so.
func rounded(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit {
			return d.Round(unit / 100)
		}
	}
	return d
}
