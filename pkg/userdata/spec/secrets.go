package spec

import (
	"regexp"
	"slices"
	"strings"
)

// passwordCommand matches a command that sets a password. It matches only at the beginning
// of a command, so `getent passwd deploy`, which only reads, does not match.
var passwordCommand = regexp.MustCompile(`(?m)(?:^|[;&|({!` + "`" + `]|\b(?:do|then|else|exec|env|time|command|xargs)\b|\bsudo(?:\s+-\S+)*|-c\s+["']?)\s*(?:/usr/bin/|/bin/)?passwd(?:\s+-[a-zA-Z-]+)*\s+["']?[a-zA-Z_$]` +
	`|\busermod\b[^\n;&|]*\s(?:-p|--password|-U|--unlock)\b|\buseradd\b[^\n;&|]*\s(?:-p|--password)\b`)

// clearSecrets lists forms of secrets that are recognised without their context.
var clearSecrets = []rule{
	{regexp.MustCompile(`\b(AKIA|ASIA)[0-9A-Z]{16}\b`), "an AWS access key", ""},
	{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY`), "a private key", ""},
	{regexp.MustCompile(`(?i)\baws_?secret_?access_?key\b["']?\s*[=:]\s*["']?[A-Za-z0-9/+=]{40}`), "an AWS secret key", ""},
	{regexp.MustCompile(`\b[0-9a-f]{36}NRAL\b|\bNRAK-[A-Z0-9]{20,}`), "a key of New Relic", ""},
	{regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{30,}|\bglpat-[A-Za-z0-9_-]{20,}|\bxox[abpr]-[A-Za-z0-9-]{10,}`), "a token", ""},
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

// secretText describes the secret that a text contains, or returns "".
func secretText(text string) string {
	for _, r := range clearSecrets {
		if r.form.MatchString(text) {
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

// secrets searches for secrets. They must not be in user data, because everybody on the
// instance and everybody who may describe it can read it.
func (c *checker) secrets(at, text string) {
	if what := secretText(text); what != "" {
		c.fail(at, "the name of a secret in Secrets Manager or Parameter Store, which the instance reads by its role; in a text, a variable such as ${DB_PASSWORD}", "this has %s in clear", what)
	}
}

var (
	longRun = regexp.MustCompile(`[A-Za-z0-9+/_=-]{32,}`)
	// word matches a part of a name that a person chose: production, eu, west, 1, web01, v2.
	word = regexp.MustCompile(`^([a-z]{1,20}[0-9]{0,3}|[A-Z]{1,12}[0-9]{0,3}|[A-Z][a-z]{1,19}[0-9]{0,3}|[0-9]{1,4}|)$`)
)

// looksSecret reports whether a value contains a long sequence of characters that nobody
// would choose as a name. Words with separators are a name.
func looksSecret(value string) bool {
	return slices.ContainsFunc(longRun.FindAllString(value, -1), func(run string) bool {
		return slices.ContainsFunc(strings.FieldsFunc(run, func(r rune) bool { return strings.ContainsRune("/_-", r) }), func(part string) bool {
			return !word.MatchString(part)
		})
	})
}
