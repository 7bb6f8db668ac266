package oss

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/github/go-spdx/v2/spdxexp"

	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// Evidence is what a package's own copyright file says about its licenses.
type Evidence struct {
	Readable    bool     // the file has the machine-readable format (DEP-5)
	Expressions []string // of SPDX, sorted
	Unknown     []string // licenses without an identifier of SPDX, sorted
}

// paragraph is a stanza of a control file of Debian: fields by their names in small letters.
type paragraph map[string]string

// Bounds of control files. The status of 10,000 packages has 15 MB.
const (
	maxControl   = 64 << 20
	maxCopyright = 4 << 20
	maxLine      = 1 << 20
)

// paragraphs reads a control file: deb822(5).
func paragraphs(in io.Reader, most int64) ([]paragraph, error) {
	limited := &io.LimitedReader{R: in, N: most + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	var out []paragraph
	current, field := paragraph{}, ""
	number := 0
	finish := func() {
		if len(current) > 0 {
			out = append(out, current)
		}
		current, field = paragraph{}, ""
	}
	for lines.Scan() {
		number++
		line := strings.TrimRight(lines.Text(), " \t\r")
		switch {
		case line == "":
			finish()
		case strings.HasPrefix(line, "#"):
		case line[0] == ' ' || line[0] == '\t':
			if field == "" {
				return nil, fmt.Errorf("line %d continues no field", number)
			}
			current[field] += "\n" + strings.TrimSpace(line)
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok || strings.ContainsAny(name, " \t") {
				return nil, fmt.Errorf("line %d is no field: %q", number, plaintext.Clip(plaintext.Clean(line), 80))
			}
			field = strings.ToLower(name)
			current[field] = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("after line %d: %w", number, err)
	}
	if limited.N <= 0 {
		return nil, fmt.Errorf("it has more than %d bytes", most)
	}
	finish()
	return out, nil
}

// ReadCopyright reads a copyright file of a Debian package. A file that is not in the
// machine-readable format, https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/,
// is not an error: it has no evidence.
func ReadCopyright(data []byte) Evidence {
	all, err := paragraphs(bytes.NewReader(data), maxCopyright)
	if err != nil || len(all) == 0 || !strings.Contains(all[0]["format"], "copyright-format") && !strings.Contains(all[0]["format"], "dep5") {
		return Evidence{}
	}
	out := Evidence{Readable: true}
	for i, p := range all {
		text, ok := p["license"]
		if _, files := p["files"]; !ok || !files && i > 0 {
			continue // a paragraph of a license's text
		}
		name, _, _ := strings.Cut(text, "\n")
		if name = strings.TrimSpace(name); name == "" {
			out.Unknown = append(out.Unknown, "no license is named")
			continue
		}
		expression, unknown := Expression(name)
		if len(unknown) > 0 {
			out.Unknown = append(out.Unknown, unknown...)
		} else {
			out.Expressions = append(out.Expressions, expression)
		}
	}
	slices.Sort(out.Expressions)
	out.Expressions = slices.Compact(out.Expressions)
	slices.Sort(out.Unknown)
	out.Unknown = slices.Compact(out.Unknown)
	return out
}

var (
	comma    = regexp.MustCompile(`(?i)\s*,\s*(?:(and|or)\s+)?`)
	operator = regexp.MustCompile(`(?i)\s+(and|or)\s+`)
)

// Expression makes an SPDX expression of the license of a copyright file, such as "GPL-2+
// and Expat". unknown are the names that SPDX does not have.
func Expression(text string) (expression string, unknown []string) {
	if strings.ContainsAny(text, "()") { // the format has none: commas group
		return "", []string{plaintext.Clip(plaintext.Clean(text), 100)}
	}
	text = strings.ReplaceAll(text, "|", " or ")
	parts := comma.Split(text, -1)
	joins := comma.FindAllStringSubmatch(text, -1)
	var b strings.Builder
	for i, part := range parts {
		words := operator.Split(strings.TrimSpace(part), -1)
		inner := operator.FindAllStringSubmatch(strings.TrimSpace(part), -1)
		var one strings.Builder
		for n, word := range words {
			id, ok := identifier(word)
			if !ok {
				unknown = append(unknown, plaintext.Clip(plaintext.Clean(word), 100))
			}
			if n > 0 {
				one.WriteString(" " + strings.ToUpper(inner[n-1][1]) + " ")
			}
			one.WriteString(id)
		}
		if i > 0 {
			join := "AND"
			if joins[i-1][1] != "" {
				join = strings.ToUpper(joins[i-1][1])
			}
			b.WriteString(" " + join + " ")
		}
		if len(parts) > 1 && len(words) > 1 {
			b.WriteString("(" + one.String() + ")")
		} else {
			b.WriteString(one.String())
		}
	}
	return b.String(), unknown
}

var (
	gnu       = regexp.MustCompile(`(?i)^(A?GPL|LGPL|GFDL)(-niv)?[- ]?v?([0-9](?:\.[0-9])?)(?:\.0)?(-niv|-no-invariants?)?(\+|-or-later|-only)?$`)
	exception = regexp.MustCompile(`(?i)^(.+?)\s+with\s+(.+?)(?:[\s-]+exception)?$`)
)

// identifier is the SPDX identifier of a Debian short name.
func identifier(name string) (string, bool) {
	name = strings.TrimSpace(name)
	if m := exception.FindStringSubmatch(name); m != nil {
		base, ok := identifier(m[1])
		if !ok {
			return "", false
		}
		if id := exceptions()[strings.ToLower(m[2])]; id != "" {
			if ok, _ := spdxexp.ValidateLicenses([]string{base + " WITH " + id}); ok {
				return base + " WITH " + id, true
			}
		}
		// An exception only adds permissions, so the license without it is the stricter
		// one. What does not call itself an exception may be a restriction.
		return base, strings.HasSuffix(strings.ToLower(name), "exception")
	}
	if m := gnu.FindStringSubmatch(name); m != nil {
		version := m[3]
		if !strings.Contains(version, ".") {
			version += ".0"
		}
		family := strings.ToUpper(m[1])
		if family == "GFDL" && version != "1.1" && version != "1.2" && version != "1.3" {
			return "", false
		}
		id := family + "-" + version
		if m[2] != "" || m[4] != "" {
			id += "-no-invariants"
		}
		if m[5] == "+" || strings.EqualFold(m[5], "-or-later") {
			id += "-or-later"
		} else {
			id += "-only"
		}
		ok, _ := spdxexp.ValidateLicenses([]string{id})
		return id, ok
	}
	if id := debian()[strings.ToLower(name)]; id != "" {
		return id, true
	}
	if ok, _ := spdxexp.ValidateLicenses([]string{name}); ok && name != "" {
		if id, err := spdxexp.ExtractLicenses(name); err == nil && len(id) == 1 {
			return id[0], true
		}
	}
	return "", false
}

// debian maps short names of Debian to SPDX, in small letters, where they differ.
func debian() map[string]string {
	return map[string]string{
		"expat": "MIT", "mit/x11": "MIT", "x11": "X11",
		"bsd-2-clause": "BSD-2-Clause", "bsd-2": "BSD-2-Clause", "bsd-2-clauses": "BSD-2-Clause", "bsd2": "BSD-2-Clause",
		"bsd-3-clause": "BSD-3-Clause", "bsd-3": "BSD-3-Clause", "bsd-3-clauses": "BSD-3-Clause", "bsd3": "BSD-3-Clause",
		"bsd-4-clause": "BSD-4-Clause", "bsd-4": "BSD-4-Clause", "bsd-4-clause-uc": "BSD-4-Clause-UC",
		"apache-2": "Apache-2.0", "apache-2.0": "Apache-2.0", "asl-2": "Apache-2.0", "apache-2-llvm-exceptions": "Apache-2.0 WITH LLVM-exception", "asl-2.0": "Apache-2.0",
		"artistic": "Artistic-1.0-Perl", "artistic-1": "Artistic-1.0", "artistic-2": "Artistic-2.0",
		"perl": "(GPL-1.0-or-later OR Artistic-1.0-Perl)", "isc": "ISC", "zlib": "Zlib", "zlib/libpng": "Zlib", "openssl": "OpenSSL",
		"cc0": "CC0-1.0", "cc-0": "CC0-1.0", "public-domain": "LicenseRef-public-domain", "public domain": "LicenseRef-public-domain", "pd": "LicenseRef-public-domain",
		"mpl-1": "MPL-1.0", "mpl-2": "MPL-2.0", "epl-1": "EPL-1.0", "epl-2": "EPL-2.0", "edl-1": "BSD-3-Clause", "edl-1.0": "BSD-3-Clause", "eupl-1.2": "EUPL-1.2", "cddl": "CDDL-1.0",
		"psf": "PSF-2.0", "psf-2": "PSF-2.0", "python-2": "Python-2.0", "python-2.0": "Python-2.0",
		"sil-1.1": "OFL-1.1", "ofl": "OFL-1.1", "ofl-1.1": "OFL-1.1", "w3c": "W3C", "curl": "curl", "bzip2": "bzip2-1.0.6", "libpng": "Libpng", "tcl": "TCL",
		"boost": "BSL-1.0", "bsl-1": "BSL-1.0", "unicode": "Unicode-DFS-2016", "ftl": "FTL", "ijg": "IJG", "beerware": "Beerware", "wtfpl": "WTFPL", "wtfpl-2": "WTFPL",
		"fsful": "FSFUL", "fsfullr": "FSFULLR", "fsfap": "FSFAP", "fsf-unlimited": "FSFUL", "postgresql": "PostgreSQL", "ntp": "NTP", "hpnd": "HPND", "ruby": "Ruby", "php-3.01": "PHP-3.01", "vim": "Vim",
		"gpl": "GPL-1.0-or-later", "gpl+": "GPL-1.0-or-later", "lgpl": "LGPL-2.0-or-later", "lgpl+": "LGPL-2.0-or-later",
	}
}

// exceptions maps exceptions, in small letters, to SPDX.
func exceptions() map[string]string {
	return map[string]string{
		"autoconf": "Autoconf-exception-2.0", "autoconf-data": "Autoconf-exception-2.0", "libtool": "Libtool-exception", "bison": "Bison-exception-2.2",
		"classpath": "Classpath-exception-2.0", "font": "Font-exception-2.0", "gcc": "GCC-exception-3.1", "gcc-runtime": "GCC-exception-3.1", "linux-syscall-note": "Linux-syscall-note", "llvm": "LLVM-exception",
		"autoconf-exception-2.0": "Autoconf-exception-2.0", "gcc-exception-3.1": "GCC-exception-3.1", "classpath-exception-2.0": "Classpath-exception-2.0", "llvm-exception": "LLVM-exception",
	}
}
