package states_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

// The factory's own definition must come to its clean-up whatever the cause of
// an error looks like: an error in a catcher cannot be caught.
func TestTheFactoryCleansUpWhateverAnErrorsCauseLooksLike(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "workflow", "testdata", "definition.asl.json"))
	require.NoError(t, err)
	definition := regexp.MustCompile(`\$\{([A-Za-z]+)FunctionArn\}`).
		ReplaceAllString(string(raw), "arn:aws:lambda:eu-west-1:111122223333:function:$1")
	long := strings.Repeat("x", 40_000)
	for name, c := range map[string]struct {
		message string
		input   string
		cause   string // its beginning
	}{
		"a sentence":                          {"no such recipe", `{"recipe":"r"}`, "no such recipe"},
		"one that Step Functions cuts off":    {long, `{"recipe":"r"}`, "xxxx"},
		"one that ends as JSON does":          {"allowed: {a, b}", `{"recipe":"r"}`, "allowed: {a, b}"},
		"none, as the input is not an object": {"", `"debian-12"`, "The execution's input must be an object"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			var told map[string]any
			a.functions["Resolve"] = func(context.Context, map[string]any) (any, error) {
				return nil, &functionError{"RecipeInvalid", c.message}
			}
			a.functions["Cleanup"] = func(_ context.Context, event map[string]any) (any, error) {
				told = event
				told["cause"] = failure.Sentence(event["cause"].(string))
				return map[string]any{"removed": []string{}, "left": []string{}, "error": event["error"], "cause": told["cause"]}, nil
			}
			a.functions["Notify"] = func(_ context.Context, event map[string]any) (any, error) {
				return map[string]any{
					"report": map[string]any{"bucket": "b", "key": "k", "sha256": "s"}, "status": "FailedClean",
					"error": event["error"], "cause": event["cause"], "left": event["left"],
				}, nil
			}
			out := a.wait(t, a.start(t, a.machine(t, definition), c.input))
			require.NotNil(t, told, "%s: %.300s", aws.ToString(out.Error), aws.ToString(out.Cause))
			assert.True(t, strings.HasPrefix(told["cause"].(string), c.cause), "%.300s", told["cause"])
			assert.Equal(t, told["cause"], aws.ToString(out.Cause), "the execution ends with it")
		})
	}
}
