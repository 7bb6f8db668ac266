package states_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sfn/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/plaintext"
)

// factoryDefinition is the factory's own, with functions named as its placeholders.
func factoryDefinition(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "workflow", "testdata", "definition.asl.json"))
	require.NoError(t, err)
	return regexp.MustCompile(`\$\{([A-Za-z]+)FunctionArn\}`).
		ReplaceAllString(string(raw), "arn:aws:lambda:eu-west-1:111122223333:function:$1")
}

// The factory's own definition must come to its clean-up whatever the cause of
// an error looks like: an error in a catcher cannot be caught.
func TestTheFactoryCleansUpWhateverAnErrorsCauseLooksLike(t *testing.T) {
	definition := factoryDefinition(t)
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

// factory are the functions of an execution that finds nothing ready but what a test
// says. Wake answers a second after a wait has begun, or what the test has it do.
func (a *account) factory(t *testing.T, regions []string) (ended *map[string]any) {
	t.Helper()
	copies := func(_ context.Context, event map[string]any) (any, error) {
		return map[string]any{"region": event["region"], "copyId": "ami-0b"}, nil
	}
	ended = &map[string]any{}
	maps.Copy(a.functions, map[string]func(context.Context, map[string]any) (any, error){
		"Resolve": func(context.Context, map[string]any) (any, error) {
			return map[string]any{"plan": map[string]any{}, "regions": regions, "imageId": "", "upToDate": false, "action": "bake", "copies": "beforeGate"}, nil
		},
		"Launch": func(context.Context, map[string]any) (any, error) {
			return map[string]any{"instanceId": "i-0a", "instanceType": "t3.medium"}, nil
		},
		"CheckInstance": stage(map[string]any{}), "Seal": stage(map[string]any{}),
		"CreateImage":     stage(map[string]any{"imageId": "ami-0a"}),
		"CheckImage":      stage(map[string]any{"imageId": "ami-0a"}),
		"Distribute":      copies,
		"RunCompliance":   stage(map[string]any{"commandId": "c"}),
		"CheckCompliance": stage(map[string]any{"results": map[string]any{}}),
		"Wake": func(_ context.Context, event map[string]any) (any, error) {
			if event["over"].(bool) {
				return nil, &functionError{"InvalidInput", "it has waited too often"}
			}
			a.clk.AfterFunc(time.Second, func() {
				_, err := a.SendTaskSuccess(context.Background(), &sfn.SendTaskSuccessInput{
					TaskToken: aws.String(event["token"].(string)), Output: aws.String(`{"event":"` + uuid.NewString() + `"}`),
				})
				assert.NoError(t, err)
			})
			return map[string]any{}, nil
		},
		"Cleanup": func(_ context.Context, event map[string]any) (any, error) {
			*ended = event
			return map[string]any{"removed": []string{}, "left": []string{}, "error": event["error"], "cause": event["cause"]}, nil
		},
		"Notify": func(_ context.Context, event map[string]any) (any, error) {
			return map[string]any{"report": map[string]any{}, "error": event["error"], "cause": event["cause"], "left": event["left"]}, nil
		},
	})
	return ended
}

func stage(out map[string]any) func(context.Context, map[string]any) (any, error) {
	return func(context.Context, map[string]any) (any, error) { return out, nil }
}

func refuses(code string) func(context.Context, map[string]any) (any, error) {
	return func(context.Context, map[string]any) (any, error) { return nil, &functionError{code, "no"} }
}

// An execution whose history is full ends at once, and nothing cleans up. Whatever keeps
// a step from its end, the step ends before that, and says so.
func TestNoStepThatWaitsFillsTheHistory(t *testing.T) {
	const quota = 25_000
	many := make([]string, 30)
	for i := range many {
		many[i] = fmt.Sprintf("region-%d", i+1)
	}
	throttled := func(notYet string) func(context.Context, map[string]any) (any, error) {
		n := 0
		return func(ctx context.Context, event map[string]any) (any, error) {
			if n++; n%7 != 0 {
				return refuses("Throttled")(ctx, event)
			}
			return refuses(notYet)(ctx, event)
		}
	}
	for name, c := range map[string]struct {
		regions   []string
		functions map[string]func(context.Context, map[string]any) (any, error)
		code      string
		failed    string
		least     int // events
	}{
		"events that announce nothing": {many[:2], map[string]func(context.Context, map[string]any) (any, error){"CheckImage": refuses("ImageNotReady")}, "ImageNotReady", "AwaitImage", 7_000},
		"waits that cannot be registered": {
			many[:2], map[string]func(context.Context, map[string]any) (any, error){"CheckImage": refuses("ImageNotReady"), "Wake": refuses("AccessDenied")}, "ImageNotReady", "AwaitImage", 500,
		},
		"looks that are throttled each time": {many[:2], map[string]func(context.Context, map[string]any) (any, error){"CheckImage": throttled("ImageNotReady")}, "ImageNotReady", "AwaitImage", 7_000},
		"events in many regions":             {many, map[string]func(context.Context, map[string]any) (any, error){"CheckDistribution": refuses("CopyNotReady")}, "CopyNotReady", "Distribute", 12_000},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			ended := a.factory(t, c.regions)
			maps.Copy(a.functions, c.functions)
			out := a.wait(t, a.start(t, a.machine(t, factoryDefinition(t)), `{"recipe":"r"}`))
			assert.Equal(t, c.code, aws.ToString(out.Error), aws.ToString(out.Cause))
			assert.Contains(t, aws.ToString(out.Cause), " is given up after ")
			assert.Equal(t, c.failed, (*ended)["failed"], "Cleanup ran")
			last, err := a.GetExecutionHistory(t.Context(), &sfn.GetExecutionHistoryInput{ExecutionArn: out.ExecutionArn, ReverseOrder: true, MaxResults: 1})
			require.NoError(t, err)
			n := int(last.Events[0].Id)
			t.Logf("%d events", n)
			assert.Less(t, n, quota)
			assert.Greater(t, n, c.least)
		})
	}
}

// Whatever error and cause Step Functions hands to a catcher, the factory cleans
// up and notifies, and its end says what failed. The machine under test is the
// factory's own, but for where one state has its error from: whoever has the
// task's token.
func TestTheFactoryCleansUpAndNotifiesWhateverWasCaught(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "workflow", "testdata", "definition.asl.json"))
	require.NoError(t, err)
	var machine map[string]any
	require.NoError(t, json.Unmarshal(raw, &machine))
	resolve := machine["States"].(map[string]any)["Resolve"].(map[string]any)
	resolve["Resource"] = "arn:aws:states:::lambda:invoke.waitForTaskToken"
	resolve["Arguments"].(map[string]any)["Payload"] = map[string]any{"token": "{% $states.context.Task.Token %}"}
	raw, err = json.Marshal(machine)
	require.NoError(t, err)
	definition := regexp.MustCompile(`\$\{([A-Za-z]+)FunctionArn\}`).
		ReplaceAllString(string(raw), "arn:aws:lambda:eu-west-1:111122223333:function:$1")
	document := func(message string) string {
		raw, err := json.Marshal(map[string]string{"errorMessage": message})
		require.NoError(t, err)
		return string(raw)
	}
	for name, c := range map[string]struct {
		code, cause *string
		says        string // the end's cause contains it
	}{
		"a function's error":                   {aws.String("SealFailed"), aws.String(document("arm.sh failed")), "arm.sh failed"},
		"an empty cause":                       {aws.String("SealFailed"), aws.String(""), "SealFailed"},
		"no cause":                             {aws.String("SealFailed"), nil, "SealFailed"},
		"neither error nor cause":              {nil, nil, "Resolve"},
		"23,032 times <, as a builder says it": {aws.String("E"), aws.String(document("the builder said " + strings.Repeat("<", 23_032) + "}")), "the builder said <<<"},
		"cut in an escape":                     {aws.String("E"), aws.String((document("the builder said " + strings.Repeat("<", 23_032)))[:32_768]), "the builder said <<<"},
		"text that ends as JSON does":          {aws.String("E"), aws.String("{allowed: {a, b}}"), "{allowed: {a, b}}"},
		"an open document that ends so":        {aws.String("E"), aws.String(`{"errorMessage":"a {b}`), "a {b}"},
		"half of a surrogate pair":             {aws.String("E"), aws.String(`{"errorMessage":"x \ud800 y"}`), "x \ufffd y"},
		"characters of four bytes":             {aws.String("E"), aws.String(strings.Repeat("😀", 30_000)), "😀😀"},
		"nulls":                                {aws.String("E"), aws.String(strings.Repeat("\x00", 32_768)), "<U+0000>"},
		"brackets":                             {aws.String("E"), aws.String(strings.Repeat("{[", 16_384)), "{[{["},
		"the word null":                        {aws.String("E"), aws.String("null"), "null"},
		"a terminal error of Step Functions":   {aws.String("States.DataLimitExceeded"), aws.String("too large"), "too large"},
		"another":                              {aws.String("States.Runtime"), aws.String("An error occurred."), "An error occurred."},
		"a time-out":                           {aws.String("States.Timeout"), aws.String(""), "The function of Resolve did not answer in time: Lambda stops it after 2m0s, and Step Functions waits 2m30s."},
		"a time-out of Lambda's":               {aws.String("Sandbox.Timedout"), aws.String(document("Task timed out after 120.00 seconds")), "The function of Resolve did not answer in time"},
		"a name of no words":                   {aws.String(strings.Repeat("n", 256)), aws.String("c"), "c"},
	} {
		for _, cleanup := range []string{"", "fails", "is silent"} {
			t.Run(strings.TrimSpace(name+", and Cleanup "+cmp.Or(cleanup, "works")), func(t *testing.T) {
				a := newAccount(t)
				a.functions["Resolve"] = func(_ context.Context, event map[string]any) (any, error) {
					a.clk.AfterFunc(time.Second, func() {
						_, err := a.SendTaskFailure(context.Background(), &sfn.SendTaskFailureInput{
							TaskToken: aws.String(event["token"].(string)), Error: c.code, Cause: c.cause,
						})
						assert.NoError(t, err)
					})
					return nil, nil
				}
				ran := map[string]int{}
				ended := func(event map[string]any) map[string]any {
					cause := plaintext.Clip(plaintext.Clean(failure.Sentence(event["cause"].(string))), failure.MaxMessage)
					return map[string]any{"error": cmp.Or(event["error"].(string), "Internal"), "cause": cmp.Or(cause, "The state "+event["failed"].(string)+" ended with "+event["error"].(string))}
				}
				a.functions["Cleanup"] = func(ctx context.Context, event map[string]any) (any, error) {
					ran["Cleanup"]++
					switch cleanup {
					case "fails":
						return nil, &functionError{"AccessDenied", "not allowed " + strings.Repeat("<", 10_000)}
					case "is silent":
						return nil, a.clk.Sleep(ctx, time.Hour)
					}
					out := ended(event)
					out["removed"], out["left"] = []string{}, []string{}
					return out, nil
				}
				a.functions["Notify"] = func(_ context.Context, event map[string]any) (any, error) {
					ran["Notify"]++
					out := ended(event)
					out["report"], out["left"] = map[string]any{"bucket": "b", "key": "k", "sha256": "s"}, event["left"]
					return out, nil
				}
				out := a.wait(t, a.start(t, a.machine(t, definition), `{"recipe":"r"}`))
				assert.Positive(t, ran["Cleanup"])
				assert.Equal(t, 1, ran["Notify"])
				assert.Equal(t, types.ExecutionStatusFailed, out.Status)
				assert.NotEmpty(t, aws.ToString(out.Error))
				assert.Contains(t, aws.ToString(out.Cause), c.says)
				assert.LessOrEqual(t, len(utf16.Encode([]rune(aws.ToString(out.Cause)))), 32_768)
				assert.NotContains(t, aws.ToString(out.Cause), "The image is published")
				switch cleanup {
				case "fails":
					assert.Contains(t, aws.ToString(out.Cause), "unknown, clean-up failed: ")
					assert.Contains(t, aws.ToString(out.Cause), "not allowed")
				case "is silent":
					assert.Contains(t, aws.ToString(out.Cause), "The function of Cleanup did not answer in time")
				}
			})
		}
	}
}
