package oss

import (
	"fmt"
	"strings"

	deb "github.com/knqyf263/go-deb-version"
	rpm "github.com/knqyf263/go-rpm-version"
)

// comparison is one condition of a range of versions.
type comparison struct {
	operator string
	compare  func(version string) (int, error) // of the version with the condition's
}

// comparisons reads ">= 3.0, < 4". Versions are compared as the ecosystem does; those of
// generic packages as Debian's.
func comparisons(ecosystem, text string) ([]comparison, error) {
	var out []comparison
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		operator := ""
		for _, o := range []string{">=", "<=", ">", "<", "="} {
			if strings.HasPrefix(part, o) {
				operator = o
				break
			}
		}
		limit := strings.TrimSpace(strings.TrimPrefix(part, operator))
		if operator == "" || limit == "" || strings.ContainsAny(limit, " <>=") {
			return nil, fmt.Errorf("%q is no comparison with a version", part)
		}
		c := comparison{operator: operator}
		if ecosystem == "rpm" {
			of := rpm.NewVersion(limit)
			c.compare = func(v string) (int, error) { return rpm.NewVersion(v).Compare(of), nil }
		} else {
			of, err := deb.NewVersion(limit)
			if err != nil {
				return nil, fmt.Errorf("%q is no version: %w", limit, err)
			}
			c.compare = func(v string) (int, error) {
				given, err := deb.NewVersion(v)
				if err != nil {
					return 0, fmt.Errorf("%q is no version: %w", v, err)
				}
				return given.Compare(of), nil
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// includes reports whether a version is in the range.
func includes(all []comparison, version string) (bool, error) {
	for _, c := range all {
		n, err := c.compare(version)
		if err != nil {
			return false, err
		}
		ok := map[string]bool{">=": n >= 0, "<=": n <= 0, ">": n > 0, "<": n < 0, "=": n == 0}[c.operator]
		if !ok {
			return false, nil
		}
	}
	return true, nil
}
