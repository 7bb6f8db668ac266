package failure

import (
	"encoding/json"
	"regexp"
	"strings"
)

// beginning is how the document begins with which a function fails, as
// aws-lambda-go writes it.
var beginning = regexp.MustCompile(`^\s*\{\s*"errorMessage"\s*:\s*"((?:[^"\\]|\\.)*)`)

// Sentence is the message in the cause that Step Functions keeps of an error. Of
// a function's error that is a JSON document, which Step Functions cuts off after
// 32,768 characters: what is left of the message is returned then. Any other
// cause is its own message.
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
	// An escape such as \u003c may be cut: at most five of its bytes are there.
	for text := found[1]; len(found[1])-len(text) <= 5 && text != ""; text = text[:len(text)-1] {
		var message string
		if json.Unmarshal([]byte(`"`+text+`"`), &message) == nil {
			return message
		}
	}
	return strings.TrimSpace(cause)
}
