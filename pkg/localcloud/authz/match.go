package authz

import (
	"fmt"
	"regexp"
	"strings"
)

// Patterns are compared rune by rune. These runes replace wildcard characters in the
// value of a variable, which match only themselves, and a $ that begins no variable.
const (
	literalStar     = '\uE000'
	literalQuestion = '\uE001'
	literalDollar   = '\uE002'
)

// asText turns the variables of a document of the older version into plain text.
func asText(list []string) {
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "${", string(literalDollar)+"{")
	}
}

// like reports whether a pattern with * and ? matches a whole string.
func like(pattern, text string) bool { return glob([]rune(pattern), []rune(text), false) }

// glob matches a pattern. With parts, which are separated by colons, a wildcard matches
// beyond its part only if it is a * at the end of the pattern.
func glob(pattern, text []rune, parts bool) bool {
	if len(pattern) == 0 {
		return len(text) == 0
	}
	switch pattern[0] {
	case '*':
		bound := parts && len(pattern) > 1 && pattern[1] != ':'
		for n := 0; ; n++ {
			if glob(pattern[1:], text[n:], parts) {
				return true
			}
			if n == len(text) || bound && text[n] == ':' {
				return false
			}
		}
	case '?':
		return len(text) > 0 && !(parts && text[0] == ':') && glob(pattern[1:], text[1:], parts)
	}
	return len(text) > 0 && text[0] == literal(pattern[0]) && glob(pattern[1:], text[1:], parts)
}

func literal(r rune) rune {
	switch r {
	case literalStar:
		return '*'
	case literalQuestion:
		return '?'
	}
	return r
}

// resourceLike matches the Resource of a statement
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html).
func resourceLike(pattern, arn string) bool { return glob([]rune(pattern), []rune(arn), true) }

// arnLike compares the six parts of two ARNs one by one.
func arnLike(pattern, arn string) bool {
	want, got := strings.SplitN(pattern, ":", 6), strings.SplitN(arn, ":", 6)
	if len(want) != 6 || len(got) != 6 {
		return like(pattern, arn)
	}
	for i := range want {
		if !like(want[i], got[i]) {
			return false
		}
	}
	return true
}

// actionLike matches an Action, which is not case-sensitive.
func actionLike(pattern, action string) bool {
	return like(strings.ToLower(pattern), strings.ToLower(action))
}

var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

// checkVariables refuses policy variables that fill does not support.
func checkVariables(text string) error {
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		switch m[1] {
		case "*", "?", "$":
			continue
		}
		if _, err := CanonicalKey(m[1]); err != nil {
			return fmt.Errorf("policy variable %s: %w", m[0], err)
		}
	}
	return nil
}

// fill replaces policy variables with the request's values. ok is false if the request
// lacks a value: the text then matches nothing. Characters of a value are never
// wildcards.
func fill(text string, r Request, patterns bool) (filled string, ok bool) {
	ok = true
	plain := func(s string) string { return s }
	if patterns {
		plain = strings.NewReplacer("*", string(literalStar), "?", string(literalQuestion)).Replace
	}
	filled = variable.ReplaceAllStringFunc(text, func(m string) string {
		name := m[2 : len(m)-1]
		switch name {
		case "*", "?", "$":
			return plain(name)
		}
		key, err := CanonicalKey(name)
		if got := r.Context[key]; err == nil && len(got) == 1 {
			return plain(got[0])
		}
		ok = false
		return ""
	})
	return strings.ReplaceAll(filled, string(literalDollar), "$"), ok
}
