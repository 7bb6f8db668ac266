package events

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// mostNumber bounds the numbers that EventBridge compares, both ways
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html).
const mostNumber = 5e9

var comparisons = map[string]func(n, bound float64) bool{
	"=":  func(n, bound float64) bool { return n == bound },
	"<":  func(n, bound float64) bool { return n < bound },
	"<=": func(n, bound float64) bool { return n <= bound },
	">":  func(n, bound float64) bool { return n > bound },
	">=": func(n, bound float64) bool { return n >= bound },
}

// equals compares strings, numbers, booleans and null.
func equals(want any) test { return func(value any) bool { return value == want } }

// exactString compares strings; a string that is an IP address also equals
// other ways of writing the same address.
func exactString(want string) test {
	address, err := netip.ParseAddr(want)
	if err != nil || address.Zone() != "" {
		return equals(want)
	}
	return onString(func(text string) bool {
		have, err := netip.ParseAddr(text)
		return text == want || err == nil && have.Unmap() == address.Unmap()
	})
}

func onString(holds func(string) bool) test {
	return func(value any) bool {
		text, ok := value.(string)
		return ok && holds(text)
	}
}

func onNumber(holds func(float64) bool) test {
	return func(value any) bool {
		number, ok := value.(float64)
		return ok && -mostNumber <= number && number <= mostNumber && holds(number)
	}
}

// patternError is why a pattern is refused, in EventBridge's words.
type patternError string

func (e patternError) Error() string { return string(e) }

func refusef(format string, args ...any) error { return patternError(fmt.Sprintf(format, args...)) }

// affix compiles prefix and suffix.
func affix(name, want string, fold bool) func(string) bool {
	has := strings.HasPrefix
	if name == "suffix" {
		has = strings.HasSuffix
	}
	if fold {
		want = strings.ToLower(want)
		return func(text string) bool { return has(strings.ToLower(text), want) }
	}
	return func(text string) bool { return has(text, want) }
}

// parseCIDR compiles a network. As AWS's matcher has it, a network of one
// address is refused.
func parseCIDR(text string) (test, error) {
	ip, mask, ok := strings.Cut(text, "/")
	if !ok || strings.Contains(mask, "/") {
		return nil, refusef("Malformed CIDR, one '/' required")
	}
	bits, err := strconv.Atoi(mask)
	if err != nil {
		return nil, refusef("Malformed CIDR, mask bits must be an integer")
	}
	if bits < 0 {
		return nil, refusef("Malformed CIDR, mask bits must not be negative")
	}
	address, err := netip.ParseAddr(ip)
	if err != nil || address.Zone() != "" {
		return nil, refusef("Nonstandard IP address: %s", ip)
	}
	address = address.Unmap()
	if address.Is4() && bits > 31 {
		return nil, refusef("IPv4 mask bits must be < 32")
	}
	if bits > 127 {
		return nil, refusef("IPv6 mask bits must be < 128")
	}
	network := netip.PrefixFrom(address, bits).Masked()
	return onString(func(text string) bool {
		have, err := netip.ParseAddr(text)
		return err == nil && network.Contains(have.Unmap())
	}), nil
}

// wildcardParts splits at each * that no backslash escapes. The positions in
// its errors count the opening quote, as EventBridge's do.
func wildcardParts(pattern string) ([]string, error) {
	parts := []string{""}
	for i := 0; i < len(pattern); i++ {
		last := len(parts) - 1
		switch c := pattern[i]; c {
		case '*':
			if i+1 < len(pattern) && pattern[i+1] == '*' {
				return nil, refusef("Consecutive wildcard characters at pos %d", i+1)
			}
			parts = append(parts, "")
		case '\\':
			if i+1 == len(pattern) || pattern[i+1] != '*' && pattern[i+1] != '\\' {
				return nil, refusef("Invalid escape character at pos %d", i+1)
			}
			i++
			parts[last] += pattern[i : i+1]
		default:
			parts[last] += pattern[i : i+1]
		}
	}
	return parts, nil
}

func matchWildcard(parts []string, text string) bool {
	if len(parts) == 1 {
		return text == parts[0]
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[last])
}

// mostComplexity is the largest number of beginnings of a field's wildcard
// patterns that one text may match at the same time. EventBridge does not
// document its limit; ten agrees with the answers that users report: of patterns
// such as */dir/*.a, two pass in one field and four do not.
const mostComplexity = 10

// checkComplexity refuses what EventBridge refuses as too complex: too many
// wildcards, or too much repetition behind a wildcard
// (https://github.com/aws/event-ruler, "Matching with a Machine").
func checkComplexity(byPath map[string][]string) error {
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		if complexity(byPath[path]) > mostComplexity {
			return refusef("Rule is too complex - try using fewer wildcard characters or fewer repeating character sequences after a wildcard character")
		}
	}
	return nil
}

// place is a position in the automaton of a pattern: the first at elements of
// pattern number pattern are matched.
type place struct{ pattern, at int }

// mostSets bounds the search for the worst text; a pattern that needs more is
// too complex in any case.
const mostSets = 20_000

// complexity is the largest number of beginnings of the patterns that one text
// matches, capped at mostComplexity+1. It walks all sets of places that texts
// can reach.
func complexity(patterns []string) int {
	elements := make([][]int, len(patterns)) // bytes, and star
	for i, pattern := range patterns {
		elements[i] = wildcardElements(pattern)
	}
	var start []place
	for i := range elements {
		start = reach(start, elements, place{i, 0})
	}
	seen := map[string]bool{}
	pending := [][]place{start}
	most := 0
	for len(pending) > 0 {
		set := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		for _, next := range follow(set, elements) {
			key := fmt.Sprint(next)
			if seen[key] {
				continue
			}
			seen[key] = true
			most = max(most, len(next))
			if most > mostComplexity || len(seen) > mostSets {
				return mostComplexity + 1
			}
			pending = append(pending, next)
		}
	}
	return most
}

const star = -1

// wildcardElements are a pattern's bytes and stars, within the quotes that a
// string has in JSON.
func wildcardElements(pattern string) []int {
	out := []int{'"'}
	for i := 0; i < len(pattern); i++ {
		switch {
		case pattern[i] == '*':
			out = append(out, star)
			continue
		case pattern[i] == '\\':
			i++ // wildcardParts has refused what is not escaped
		}
		out = append(out, int(pattern[i]))
	}
	return append(out, '"')
}

// reach adds a place, and the one behind a star that matches nothing.
func reach(set []place, elements [][]int, p place) []place {
	for {
		if !slices.Contains(set, p) {
			set = append(set, p)
		}
		if p.at == len(elements[p.pattern]) || elements[p.pattern][p.at] != star {
			return set
		}
		p.at++
	}
}

// follow are the sets behind set, one for each byte that makes a difference.
func follow(set []place, elements [][]int) [][]place {
	letters := []int{star} // stands for every other byte
	for _, p := range set {
		if p.at < len(elements[p.pattern]) {
			if c := elements[p.pattern][p.at]; c != star && !slices.Contains(letters, c) {
				letters = append(letters, c)
			}
		}
	}
	var out [][]place
	for _, letter := range letters {
		var next []place
		for _, p := range set {
			pattern := elements[p.pattern]
			if p.at > 0 && pattern[p.at-1] == star {
				next = reach(next, elements, p) // a star takes any byte
			}
			if p.at < len(pattern) && pattern[p.at] != star && pattern[p.at] == letter {
				next = reach(next, elements, place{p.pattern, p.at + 1})
			}
		}
		if len(next) > 0 {
			slices.SortFunc(next, func(a, b place) int {
				if a.pattern != b.pattern {
					return a.pattern - b.pattern
				}
				return a.at - b.at
			})
			out = append(out, next)
		}
	}
	return out
}
