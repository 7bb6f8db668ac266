package spec

import (
	"regexp"
	"slices"
	"strings"
)

// passwordCommand is a command that gives somebody a password: at the beginning
// of a command, so that `getent passwd deploy`, which only reads, is none.
var passwordCommand = regexp.MustCompile(`(?m)(?:^|[;&|({!` + "`" + `]|\b(?:do|then|else|exec|env|time|command|xargs)\b|\bsudo(?:\s+-\S+)*|-c\s+["']?)\s*(?:/usr/bin/|/bin/)?passwd(?:\s+-[a-zA-Z-]+)*\s+["']?[a-zA-Z_$]` +
	`|\busermod\b[^\n;&|]*\s(?:-p|--password|-U|--unlock)\b|\buseradd\b[^\n;&|]*\s(?:-p|--password)\b`)

// clearSecrets are the forms of secrets that are recognised by themselves.
var clearSecrets = []rule{
	{regexp.MustCompile(`\b(AKIA|ASIA)[0-9A-Z]{16}\b`), "an AWS access key", ""},
	{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY`), "a private key", ""},
	{regexp.MustCompile(`(?i)\baws_?secret_?access_?key\b["']?\s*[=:]\s*["']?[A-Za-z0-9/+=]{40}`), "an AWS secret key", ""},
	{regexp.MustCompile(`\b[0-9a-f]{36}NRAL\b|\bNRAK-[A-Z0-9]{20,}`), "a key of New Relic", ""},
	{regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{30,}|\bglpat-[A-Za-z0-9_-]{20,}|\bxox[abpr]-[A-Za-z0-9-]{10,}`), "a token", ""},
}

// reference is a place in a text where something else puts the value: a variable
// of a shell, the output of a command, or the field of a template.
const reference = `\$\{[A-Za-z_][A-Za-z0-9_]*(?::?\?[^}]*)?\}|\$\$?[A-Za-z_][A-Za-z0-9_]*|\$\([^)\n]*\)|` + "`[^`\n]*`" +
	`|\{\{[^}\n]*\}\}|\{[A-Za-z_][A-Za-z0-9_.]*\}|%\([A-Za-z_]+\)s|%[sv]|%[A-Z_]+%|<[A-Za-z][A-Za-z0-9 _-]*>`

var (
	references = regexp.MustCompile(reference)
	// assigned is a value that is given to something that is called a secret.
	assigned = regexp.MustCompile(`(?i)\b[a-z_]*(?:password|passwd|secret_?key|api_?key|licen[cs]e_?key|auth_?token)\b["']?\s*[=:]\s*(["']?)((?:` + reference + `|\$\{[^}\n]*\}|[^\s"'])+)`)
	// address has a user and a password before its host.
	address = regexp.MustCompile(`\b[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@"']*:((?:` + reference + `|\$\{[^}\n]*\}|[^/\s@"'])+)@`)
	// lookedUp says that a value names where the secret is, and is not the secret.
	lookedUp = regexp.MustCompile(`(?i)^(arn:aws|/|os\.|process\.env|ENV\[|env\.|System\.|getenv|file:|ssm:|vault:|secretsmanager:|config\.|settings\.|self\.|None\b|null\b|true\b|false\b|[({<\[]|[A-Za-z_][A-Za-z0-9_.]*\(|(NO)?[A-Z_]+:$)`)
	// masked is what stands for a secret in an example or a log.
	masked = regexp.MustCompile(`^([*.•-]+|[xX]+)$`)
	// defaulted is a variable with a value for where it is not set.
	defaulted = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*:?[-=+]([^}\n]*)\}`)
)

// literal is what of a value is written out: references are taken away, and a
// variable's default is what would be used without it.
func literal(value string) string {
	return references.ReplaceAllString(defaulted.ReplaceAllString(value, "$1"), "")
}

// secretText says what secret a text has in clear; "" for none.
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

// secrets looks for what must not be in user data, which everyone on the
// instance and everyone who may describe it can read.
func (c *checker) secrets(at, text string) {
	if what := secretText(text); what != "" {
		c.fail(at, "the name of a secret in Secrets Manager or Parameter Store, which the instance reads by its role; in a text, a variable such as ${DB_PASSWORD}", "this has %s in clear", what)
	}
}

var (
	longRun = regexp.MustCompile(`[A-Za-z0-9+/_=-]{32,}`)
	// word is a part of a name that somebody chose: production, eu, west, 1, web01, v2.
	word = regexp.MustCompile(`^([a-z]{1,20}[0-9]{0,3}|[A-Z]{1,12}[0-9]{0,3}|[A-Z][a-z]{1,19}[0-9]{0,3}|[0-9]{1,4}|)$`)
)

// looksSecret says whether a value has a long run of characters that nobody
// would choose as a name: words with separators between are a name.
func looksSecret(value string) bool {
	return slices.ContainsFunc(longRun.FindAllString(value, -1), func(run string) bool {
		return slices.ContainsFunc(strings.FieldsFunc(run, func(r rune) bool { return strings.ContainsRune("/_-", r) }), func(part string) bool {
			return !word.MatchString(part)
		})
	})
}
