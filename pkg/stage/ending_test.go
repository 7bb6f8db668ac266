package stage

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
)

func TestWhateverWasCaughtTheEndSaysWhatFailed(t *testing.T) {
	for name, c := range map[string]struct {
		in         CleanupInput
		code, want string
	}{
		"a function's error": {
			CleanupInput{Outcome: "Failed", Error: "SealFailed", Failed: "Seal", Cause: `{"errorMessage":"arm.sh ended\nbadly","errorType":"SealFailed"}`},
			"SealFailed", "arm.sh ended\nbadly",
		},
		"a sentence of Step Functions": {
			CleanupInput{Outcome: "Failed", Error: "States.Runtime", Failed: "Seal", Cause: "An error occurred."}, "States.Runtime", "An error occurred.",
		},
		"an empty cause": {
			CleanupInput{Outcome: "Failed", Error: "Lambda.Unknown", Failed: "AwaitBoot"},
			"Lambda.Unknown", "The state AwaitBoot ended with Lambda.Unknown; no cause was given.",
		},
		"an empty message in a cause": {
			CleanupInput{Outcome: "Failed", Error: "Internal", Failed: "Seal", Cause: `{"errorMessage":" \n"}`},
			"Internal", "The state Seal ended with Internal; no cause was given.",
		},
		"neither error nor cause": {
			CleanupInput{Outcome: "Failed", Failed: "Publish"}, "Internal", "The state Publish ended with Internal; no cause was given.",
		},
		"one region": {
			CleanupInput{
				Outcome: "Failed", Error: "CopyFailed", Failed: "StartCopies", Cause: `{"errorMessage":"refused"}`,
				Failures: []RegionFailure{{remote, "CopyFailed", `{"errorMessage":"refused"}`}},
			},
			"CopyFailed", "refused",
		},
		"several regions, each for its reason": {
			CleanupInput{
				Outcome: "Failed", Error: "CopyFailed", Failed: "StartCopies", Cause: `{"errorMessage":"refused"}`,
				Failures: []RegionFailure{{home, "CopyFailed", `{"errorMessage":"refused"}`}, {remote, "AccessDenied", `{"errorMessage":"may not\u001b","errorTy`}},
			},
			"CopyFailed", home + " (CopyFailed): refused; " + remote + " (AccessDenied): may not<U+001B>",
		},
		"rejected without a name": {
			CleanupInput{Outcome: "Rejected", Failed: "EvaluateGate", Cause: "SSH-03"}, "Internal", "SSH-03",
		},
		"escapes in a document": {
			CleanupInput{Outcome: "Failed", Error: "SealFailed", Cause: `{"errorMessage":"\u001b[2J\u202egone \ud800"}`}, "SealFailed", "<U+001B>[2J<U+202E>gone \ufffd",
		},
		"published, and nothing failed":        {CleanupInput{Outcome: "Published"}, "", ""},
		"published, and what followed failed":  {CleanupInput{Outcome: "Published", Error: "Throttled", Failed: "Retire", Cause: "slow"}, "Throttled", "slow"},
		"published, what followed has no word": {CleanupInput{Outcome: "Published", Error: "Throttled", Failed: "Retire"}, "Throttled", "The state Retire ended with Throttled; no cause was given."},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.in.ending()
			assert.Equal(t, Ending{c.code, c.want}, got)
			c.in.Error, c.in.Cause = got.Error, got.Cause
			assert.Equal(t, got, c.in.ending(), "what Cleanup read stays as it is when Notify reads it")
		})
	}
}

func TestACauseOfAnyLengthIsPassedOnBounded(t *testing.T) {
	for name, text := range map[string]string{
		"<": strings.Repeat("<", 23_032), "a null": strings.Repeat("\x00", 30_000), "of four bytes": strings.Repeat("😀", 30_000), "brackets": strings.Repeat("{}", 30_000),
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := json.Marshal(map[string]string{"errorMessage": "the builder said " + text})
			require.NoError(t, err)
			for what, cause := range map[string]string{"whole": string(raw), "cut": string(raw[:16384]), "text": text} {
				out, err := json.Marshal(CleanupInput{Outcome: "Failed", Error: "E", Cause: cause}.ending())
				require.NoError(t, err)
				assert.LessOrEqual(t, len(out), failure.MaxMessage+100, what)
				if what != "text" {
					assert.Contains(t, string(out), "the builder said ", what)
					assert.NotContains(t, string(out), "errorMessage", what)
				}
			}
		})
	}
}
