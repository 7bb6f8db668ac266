package spec

import (
	_ "embed"
	"fmt"
	"math/big"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

//go:embed sysctl.txt
var sysctlTable string

// sysctl is one line of the table.
type sysctl struct {
	name  string
	kind  string   // int, ints, text, read-only, congestion, qdisc
	count int      // of ints
	least *big.Int // nil if there are no limits
	most  *big.Int
}

// sysctls reads the table.
func sysctls() []sysctl {
	var out []sysctl
	for line := range strings.Lines(sysctlTable) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(line, "#") {
			continue
		}
		s := sysctl{name: fields[0], kind: fields[1], count: 1}
		rest := fields[2:]
		if s.kind == "ints" {
			s.count, _ = strconv.Atoi(rest[0])
			rest = rest[1:]
		}
		if len(rest) == 2 {
			s.least, _ = new(big.Int).SetString(rest[0], 10)
			s.most, _ = new(big.Int).SetString(rest[1], 10)
		}
		out = append(out, s)
	}
	return out
}

// algorithms lists the names of the kernel's modules of a kind.
var algorithms = map[string][]string{
	"congestion": {"bbr", "bic", "cdg", "cubic", "dctcp", "highspeed", "htcp", "hybla", "illinois", "lp", "nv", "reno", "scalable", "vegas", "veno", "westwood", "yeah"},
	"qdisc":      {"bfifo", "cake", "choke", "codel", "etf", "fq", "fq_codel", "fq_pie", "hhf", "mq", "noqueue", "pfifo", "pfifo_fast", "pfifo_head_drop", "pie", "red", "sfb", "sfq"},
}

// refuse returns what is wrong with a value, and what is allowed.
func (s sysctl) refuse(value string) (why, allowed string) {
	switch s.kind {
	case "read-only":
		return "cannot be set: it is read-only", "another name"
	case "congestion", "qdisc":
		if !slices.Contains(algorithms[s.kind], value) {
			return fmt.Sprintf("is not %s", value), strings.Join(algorithms[s.kind], ", ")
		}
	case "int", "ints":
		allowed = "a whole number"
		if s.count > 1 {
			allowed = fmt.Sprintf("%d whole numbers", s.count)
		}
		if s.least != nil {
			allowed += fmt.Sprintf(" from %s to %s", s.least, s.most)
		}
		fields := strings.Fields(value)
		if len(fields) != s.count {
			return fmt.Sprintf("takes %s, not %q", allowed, value), allowed
		}
		for _, field := range fields {
			number, ok := new(big.Int).SetString(field, 0) // the kernel also accepts 0x10
			if !ok {
				return fmt.Sprintf("takes %s, not %q", allowed, value), allowed
			}
			if s.least != nil && (number.Cmp(s.least) < 0 || number.Cmp(s.most) > 0) {
				return fmt.Sprintf("takes no %s", field), allowed
			}
		}
		if s.name == "net.ipv4.ip_local_port_range" {
			first, _ := strconv.Atoi(fields[0])
			last, _ := strconv.Atoi(fields[1])
			if first > last {
				return fmt.Sprintf("begins at %d, which is after its end %d", first, last), "the lower port first"
			}
		}
	}
	return "", ""
}

// find returns the entry for a name, which may contain the name of any interface.
func find(table []sysctl, name string) (sysctl, bool) {
	for _, s := range table {
		if ok, err := path.Match(s.name, name); s.name == name || err == nil && ok && strings.Count(s.name, ".") == strings.Count(name, ".") {
			return s, true
		}
	}
	return sysctl{}, false
}

func lastPart(name string) string { return name[strings.LastIndex(name, ".")+1:] }

// meant returns the name that was probably meant by an unknown one, or "" if the unknown
// name may exist and only be missing in the table.
func meant(table []sysctl, name string) string {
	candidates := names(table, func(s sysctl) string { return s.name })
	if near := problem.Nearest(name, candidates); near != "" && problem.Nearest(lastPart(name), []string{lastPart(near)}) != "" {
		return near
	}
	var elsewhere []string
	for _, c := range candidates {
		if lastPart(c) == lastPart(name) || strings.ReplaceAll(c, ".", "_") == strings.ReplaceAll(name, ".", "_") {
			elsewhere = append(elsewhere, c)
		}
	}
	return strings.Join(elsewhere, " or ")
}

// known refuses names and values of sysctls that no kernel accepts.
func (c *checker) knownSysctl(table []sysctl, at, name, value string) {
	found, ok := find(table, sysctlName(name))
	if !ok {
		if near := meant(table, sysctlName(name)); near != "" {
			c.keyFail(at, near, "there is no sysctl %s; did you mean %s?", name, near)
			return
		}
		p := c.spec.doc.KeyProblem(at, "a name that is in /proc/sys of the image's kernel", "sysctl %s is not known here: where the image's kernel has none of this name, the first boot fails", name)
		p.Severity = problem.Warning
		c.problems = append(c.problems, p)
		return
	}
	if why, allowed := found.refuse(value); why != "" {
		c.fail(at, allowed, "sysctl %s %s", name, why)
		return
	}
	module := moduleOf(sysctlName(name))
	if module == "" {
		return
	}
	const without = "sysctl %s exists only with the kernel module %s, which %s"
	if file, blocked := c.image.blocked[moduleName(module)]; blocked {
		c.keyFail(at, "no setting of this module", without, name, module, "the hardening of the image blocks ("+file+")")
	}
	if slices.ContainsFunc(c.spec.Kernel.Modules.Block, func(m string) bool { return moduleName(m) == moduleName(module) }) {
		c.keyFail(at, "", without, name, module, "kernel.modules.block blocks")
	}
}

// moduleOf returns the kernel module that adds a sysctl, or "" for the kernel itself.
func moduleOf(name string) string {
	for _, m := range [][2]string{
		{"net.bridge.", "br_netfilter"}, {"net.netfilter.nf_conntrack", "nf_conntrack"}, {"net.netfilter.nf_flowtable", "nf_conntrack"},
		{"net.nf_conntrack_max", "nf_conntrack"}, {"net.ipv4.vs.", "ip_vs"}, {"sunrpc.", "sunrpc"},
		{"fs.nfs.nlm_", "lockd"}, {"fs.nfs.nsm_", "lockd"}, {"fs.nfs.", "nfs"}, {"fs.xfs.", "xfs"}, {"dev.raid.", "md_mod"},
	} {
		if strings.HasPrefix(name, m[0]) {
			return m[1]
		}
	}
	return ""
}

// ModulesToLoad returns the kernel modules of the spec, and those that add a sysctl of the
// spec. The latter must be loaded explicitly, because a boot sets sysctls before anything
// else loads these modules.
func (s *Spec) ModulesToLoad() []string {
	out := slices.Clone(s.Kernel.Modules.Load)
	for _, name := range sorted(s.Kernel.Sysctl) {
		module := moduleOf(sysctlName(name))
		if module != "" && !slices.ContainsFunc(out, func(m string) bool { return moduleName(m) == moduleName(module) }) {
			out = append(out, module)
		}
	}
	return out
}
