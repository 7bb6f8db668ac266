package spec

import (
	"regexp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/secret"
)

// passwordCommand matches a command that sets a password. It matches only at the beginning
// of a command, so `getent passwd deploy`, which only reads, does not match.
var passwordCommand = regexp.MustCompile(`(?m)(?:^|[;&|({!` + "`" + `]|\b(?:do|then|else|exec|env|time|command|xargs)\b|\bsudo(?:\s+-\S+)*|-c\s+["']?)\s*(?:/usr/bin/|/bin/)?passwd(?:\s+-[a-zA-Z-]+)*\s+["']?[a-zA-Z_$]` +
	`|\busermod\b[^\n;&|]*\s(?:-p|--password|-U|--unlock)\b|\buseradd\b[^\n;&|]*\s(?:-p|--password)\b`)

// secrets searches for secrets. They must not be in user data, because everybody on the
// instance and everybody who may describe it can read it.
func (c *checker) secrets(at, text string) {
	if what := secret.InText(text); what != "" {
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
