package component

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/strictyaml"
)

// parameterName is restricted because the name becomes part of the name of an
// environment variable.
var parameterName = regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)

func (c *Component) parameterNames() []string { return slices.Sorted(maps.Keys(c.Parameters)) }

// Refuse returns why the parameter cannot have a value, and what is allowed; the
// message is empty for an allowed value.
func (p Parameter) Refuse(value string) (message, allowed string) {
	allowed = p.accepts()
	if message := p.mismatch(value); message != "" {
		return message, allowed
	}
	if strings.ContainsAny(value, "\x00\n\r") {
		return "a value must be one line", allowed
	}
	if len(p.Allowed) > 0 && !slices.Contains(p.Allowed, strictyaml.Scalar(value)) {
		return fmt.Sprintf("%q is not one of the values", problem.Cut(value)), allowed
	}
	if value == "" && p.Type == "string" {
		if p.Default == nil {
			return "it must not be empty", allowed
		}
		if *p.Default == "" {
			return "", "" // the same as no value
		}
	}
	if message := p.malformed(value); message != "" {
		return message, allowed
	}
	return "", ""
}

// malformed describes how a value differs from the parameter's pattern.
func (p Parameter) malformed(value string) string {
	if p.Pattern == "" {
		return ""
	}
	whole, err := regexp.Compile(`^(?:` + p.Pattern + `)$`)
	if err != nil {
		return "" // a problem of the component, reported there
	}
	items := []string{value}
	switch p.List {
	case "spaces":
		items = strings.Fields(value)
	case "semicolons":
		items = nil
		for item := range strings.SplitSeq(value, ";") {
			items = append(items, strings.TrimSpace(item))
		}
	}
	if len(items) == 0 {
		return "it holds spaces only"
	}
	for _, item := range items {
		if !whole.MatchString(item) {
			return fmt.Sprintf("%q does not have the required form", problem.Cut(item))
		}
	}
	return ""
}

// checkForm checks a component's description of a parameter's form.
func (p Parameter) checkForm(doc *strictyaml.Document, at string) problem.List {
	var out problem.List
	for _, field := range []struct{ key, value string }{{"pattern", p.Pattern}, {"form", p.Form}, {"list", p.List}} {
		if field.value != "" && p.Type != "string" {
			out = append(out, doc.KeyProblem(at+"."+field.key, "type: string", "a parameter of type %s has no %s", p.Type, field.key))
		}
	}
	if p.Pattern == "" {
		return out
	}
	if p.Form == "" {
		out = append(out, doc.KeyProblem(at+".pattern", "form: what the pattern means, in words", "a pattern needs a form"))
	}
	if _, err := regexp.Compile(p.Pattern); err != nil {
		out = append(out, doc.Problem(at+".pattern", "a regular expression of RE2", "pattern: %v", err))
	}
	return out
}

// mismatch describes why a value does not have the parameter's type.
func (p Parameter) mismatch(value string) string {
	switch p.Type {
	case "bool":
		if value != "true" && value != "false" {
			return fmt.Sprintf("%q is not true or false", problem.Cut(value))
		}
	case "int":
		if i, err := strconv.Atoi(value); err != nil || strconv.Itoa(i) != value {
			return fmt.Sprintf("%q is not a whole number", problem.Cut(value))
		} else if p.Minimum != nil && i < *p.Minimum || p.Maximum != nil && i > *p.Maximum {
			return fmt.Sprintf("%d is out of range", i)
		}
	case "cidr":
		if value != "" {
			return cidrMismatch(value)
		}
	case "pools":
		return poolsMismatch(value)
	case "ports":
		for port := range strings.SplitSeq(value, ",") {
			if i, err := strconv.Atoi(port); err != nil || strconv.Itoa(i) != port {
				return fmt.Sprintf("%q is not a port", problem.Cut(port))
			} else if i < 1 || i > 65535 {
				return fmt.Sprintf("there is no port %d", i)
			}
		}
	}
	return ""
}

// cidrMismatch describes why a text is not an IPv4 address with a prefix length.
func cidrMismatch(value string) string {
	if prefix, err := netip.ParsePrefix(value); err != nil || !prefix.Addr().Is4() {
		return fmt.Sprintf("%q is not an IPv4 address with a prefix length", value)
	} else if linkLocal := netip.MustParsePrefix("169.254.0.0/16"); prefix.Overlaps(linkLocal) {
		return fmt.Sprintf("%s overlaps the link-local addresses of EC2's services (%s)", value, linkLocal)
	}
	return ""
}

// poolsMismatch describes what is wrong with address pools.
func poolsMismatch(value string) string {
	var seen []netip.Prefix
	for _, pool := range strings.Fields(value) {
		base, size, found := strings.Cut(pool, ":")
		if message := cidrMismatch(base); message != "" {
			return message
		}
		network := netip.MustParsePrefix(base)
		bits, err := strconv.Atoi(size)
		switch {
		case !found || err != nil || strconv.Itoa(bits) != size:
			return fmt.Sprintf("%q has no size of its networks", pool)
		case network != network.Masked():
			return fmt.Sprintf("%s is not the first address of its network, %s", base, network.Masked())
		case bits < network.Bits() || bits > 29:
			return fmt.Sprintf("%q has networks of /%d, which a pool of /%d cannot have", pool, bits, network.Bits())
		}
		for _, other := range seen {
			if network.Overlaps(other) {
				return fmt.Sprintf("the pools %s and %s overlap", other, network)
			}
		}
		seen = append(seen, network)
	}
	return ""
}

func (p Parameter) accepts() string {
	if len(p.Allowed) > 0 {
		values := make([]string, 0, len(p.Allowed))
		for _, v := range p.Allowed {
			values = append(values, string(v))
		}
		return strings.Join(values, ", ")
	}
	switch p.Type {
	case "bool":
		return "true, false"
	case "int":
		return "a whole number" + p.bounds()
	case "cidr":
		return "an IPv4 address with a prefix length, such as 172.26.0.1/24"
	case "pools":
		return "pools separated by spaces, each BASE:SIZE with SIZE up to 29, such as 10.210.0.0/16:24"
	case "ports":
		return "ports from 1 to 65535, separated by commas, such as 22,443"
	}
	if p.Form == "" {
		return "text"
	}
	form := p.Form
	switch p.List {
	case "spaces":
		form += ", several separated by spaces"
	case "semicolons":
		form += ", several separated by semicolons"
	}
	if p.Default != nil && *p.Default == "" {
		form += ", or empty"
	}
	return form
}

// bounds describes the range of an int.
func (p Parameter) bounds() string {
	switch {
	case p.Minimum != nil && p.Maximum != nil:
		return fmt.Sprintf(" from %d to %d", *p.Minimum, *p.Maximum)
	case p.Minimum != nil:
		return fmt.Sprintf(" from %d on", *p.Minimum)
	case p.Maximum != nil:
		return fmt.Sprintf(" up to %d", *p.Maximum)
	}
	return ""
}
