package failure_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

func TestTheSentenceInACauseIsFoundHoweverMuchOfItIsThere(t *testing.T) {
	for name, c := range map[string]struct{ cause, want string }{
		"a function's document":               {`{"errorMessage":"no such recipe","errorType":"RecipeInvalid"}`, "no such recipe"},
		"one with other members first":        {`{"errorType":"Sandbox.Timedout","errorMessage":"Task timed out"}`, "Task timed out"},
		"an empty message":                    {`{"errorMessage":"","errorType":"Internal"}`, ""},
		"a message that is null":              {`{"errorMessage":null}`, `{"errorMessage":null}`},
		"plain text":                          {"The task timed out.", "The task timed out."},
		"nothing":                             {"", ""},
		"the word null":                       {"null", "null"},
		"text that ends as JSON does":         {"allowed: {a, b}", "allowed: {a, b}"},
		"a document without a message":        {`{"a":1}`, `{"a":1}`},
		"a list":                              {`["x"]`, `["x"]`},
		"cut in the message":                  {`{"errorMessage":"the builder said <<<`, "the builder said <<<"},
		"cut in an escape":                    {`{"errorMessage":"the builder said \u003c\u003`, "the builder said <"},
		"cut after a backslash":               {`{"errorMessage":"one\ntwo` + "\\", "one\ntwo"},
		"cut after the message":               {`{"errorMessage":"it \"failed\"","errorType":"Int`, `it "failed"`},
		"cut, and ending in }":                {`{"errorMessage":"allowed: {a, b}`, "allowed: {a, b}"},
		"a lone surrogate":                    {`{"errorMessage":"x \ud800 y"}`, "x \ufffd y"},
		"a lone surrogate where it is cut":    {`{"errorMessage":"x \ud83d\ude`, "x \ufffd"},
		"a document of which only { is there": {`{`, `{`},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, c.want, failure.Sentence(c.cause)) })
	}
}

func TestTheSentenceOfADocumentThatIsCutAnywhereIsABeginningOfIt(t *testing.T) {
	message := "builder: <b>\n\t\"größer\" 😀 \\ end " + strings.Repeat("<", 20)
	raw, err := json.Marshal(map[string]string{"errorMessage": message})
	require.NoError(t, err)
	for n := len(`{"errorMessage":"b`); n < len(raw); n++ {
		got := strings.TrimRight(failure.Sentence(string(raw[:n])), "\ufffd")
		assert.True(t, strings.HasPrefix(message, got), "after %d bytes: %q", n, got)
	}
}
