// Package secret recognises passwords, keys and tokens that are written in clear.
package secret

import (
	"bytes"
	"regexp"
	"strings"
)

// form is a form of secrets that is recognised without its context.
type form struct {
	pattern *regexp.Regexp
	what    string
	parts   []string // each match has one of them
}

// forms are all of them.
var forms = []form{
	{regexp.MustCompile(`\b(AKIA|ASIA)[0-9A-Z]{16}\b`), "an AWS access key", []string{"AKIA", "ASIA"}},
	{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY`), "a private key", []string{"PRIVATE KEY"}},
	{regexp.MustCompile(`(?i)\baws_?secret_?access_?key\b["']?\s*[=:]\s*["']?[A-Za-z0-9/+=]{40}`), "an AWS secret key", []string{"ccess", "CCESS"}},
	{regexp.MustCompile(`\b[0-9a-f]{36}NRAL\b|\bNRAK-[A-Z0-9]{20,}`), "a key of New Relic", []string{"NRAL", "NRAK-"}},
	{regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{30,}|\bglpat-[A-Za-z0-9_-]{20,}|\bxox[abpr]-[A-Za-z0-9-]{10,}`), "a token", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "glpat-", "xox"}},
}

// reference matches a part of a text that is replaced with a value later: a variable of a
// shell, the output of a command, or the field of a template.
const reference = `\$\{[A-Za-z_][A-Za-z0-9_]*(?::?\?[^}]*)?\}|\$\$?[A-Za-z_][A-Za-z0-9_]*|\$\([^)\n]*\)|` + "`[^`\n]*`" +
	`|\{\{[^}\n]*\}\}|\{[A-Za-z_][A-Za-z0-9_.]*\}|%\([A-Za-z_]+\)s|%[sv]|%[A-Z_]+%|<[A-Za-z][A-Za-z0-9 _-]*>`

var (
	references = regexp.MustCompile(reference)
	// assigned matches a value that is assigned to a name of a secret.
	assigned = regexp.MustCompile(`(?i)\b[a-z_]*(?:password|passwd|secret_?key|api_?key|licen[cs]e_?key|auth_?token)\b["']?\s*[=:]\s*(["']?)((?:` + reference + `|\$\{[^}\n]*\}|[^\s"'])+)`)
	// address matches an address with a user and a password.
	address = regexp.MustCompile(`\b[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@"']*:((?:` + reference + `|\$\{[^}\n]*\}|[^/\s@"'])+)@`)
	// lookedUp matches a value that is the place of the secret and not the secret.
	lookedUp = regexp.MustCompile(`(?i)^(arn:aws|/|os\.|process\.env|ENV\[|env\.|System\.|getenv|file:|ssm:|vault:|secretsmanager:|config\.|settings\.|self\.|None\b|null\b|true\b|false\b|[({<\[]|[A-Za-z_][A-Za-z0-9_.]*\(|(NO)?[A-Z_]+:$)`)
	// masked matches a placeholder for a secret in an example or a log.
	masked = regexp.MustCompile(`^([*.•-]+|[xX]+)$`)
	// defaulted matches a variable with a default value.
	defaulted = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*:?[-=+]([^}\n]*)\}`)
)

// literal returns the part of a value that is plain text: it removes references, and
// replaces a variable with its default.
func literal(value string) string {
	return references.ReplaceAllString(defaulted.ReplaceAllString(value, "$1"), "")
}

// InText describes the secret that a text contains, such as "a private key", or returns "".
// The texts are those that people write: settings, scripts, arguments, environments.
func InText(text string) string {
	for _, r := range forms {
		if r.pattern.MatchString(text) {
			return r.what
		}
	}
	for _, found := range assigned.FindAllStringSubmatchIndex(text, -1) {
		value := text[found[4]:found[5]]
		if strings.HasSuffix(text[:found[0]], "${") { // ${PASSWORD:-default}, ${PASSWORD:?message}
			if strings.HasPrefix(value, "?") {
				continue
			}
			value, _, _ = strings.Cut(strings.TrimLeft(value, "-=+"), "}")
		}
		value = strings.TrimRight(literal(value), ",;")
		if len(value) >= 8 && !lookedUp.MatchString(value) && !masked.MatchString(value) {
			return "a password or key"
		}
	}
	for _, found := range address.FindAllStringSubmatch(text, -1) {
		if value := literal(found[1]); value != "" && !masked.MatchString(value) {
			return "an address with a password"
		}
	}
	return ""
}

// key matches a private key with its content. Programs and manuals have the first line of
// one without what follows it.
var key = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\\[rn]|\s)+(?:[A-Za-z-]+: [^\n\\]*(?:\\[rn]|\s)+)*(?:[A-Za-z0-9+/=]|\\[rn]|\s){64}`)

// InBytes describes the secret that a file of any kind contains in a form that is
// recognised without its context, or returns "". A private key counts only with its
// content.
func InBytes(data []byte) string {
	for _, r := range forms {
		if r.what == "a private key" {
			if bytes.Contains(data, []byte("PRIVATE KEY")) && key.Match(data) {
				return r.what
			}
			continue
		}
		if r.mayBeIn(data) && r.pattern.Match(data) {
			return r.what
		}
	}
	return ""
}

// mayBeIn reports whether data has one of the form's fixed parts. Most files have none, and
// to look for them is much faster than to match the pattern.
func (f form) mayBeIn(data []byte) bool {
	for _, part := range f.parts {
		if bytes.Contains(data, []byte(part)) {
			return true
		}
	}
	return false
}
