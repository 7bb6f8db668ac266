package failure

import (
	"encoding/json"
	"regexp"
	"strings"
)

// beginning matches the beginning of a failed function's document, as
// aws-lambda-go writes it.
var beginning = regexp.MustCompile(`^\s*\{\s*"errorMessage"\s*:\s*"((?:[^"\\]|\\.)*)`)

// Sentence returns the message in the cause of an error in Step Functions. The
// cause of a function's error is a JSON document, which Step Functions cuts
// after 32,768 characters; then Sentence returns the rest of the message. Any
// other cause is returned unchanged.
func Sentence(cause string) string {
	var doc struct {
		ErrorMessage *string `json:"errorMessage"`
	}
	if err := json.Unmarshal([]byte(cause), &doc); err == nil && doc.ErrorMessage != nil {
		return *doc.ErrorMessage
	}
	found := beginning.FindStringSubmatch(cause)
	if found == nil {
		return cause
	}
	// An escape such as \u003c may be cut: then at most five of its bytes are left.
	for text := found[1]; len(found[1])-len(text) <= 5 && text != ""; text = text[:len(text)-1] {
		var message string
		if json.Unmarshal([]byte(`"`+text+`"`), &message) == nil {
			return message
		}
	}
	return strings.TrimSpace(cause)
}
