// Command function is the bootstrap with which the tests try the runtime: the
// event determines what it does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do      string
	Seconds float64
	Bytes   int
}

// CapacityUnavailable is an error that is known by its type.
type CapacityUnavailable struct{}

func (*CapacityUnavailable) Error() string { return "no capacity" }

func main() {
	if os.Getenv("INIT") == "exit" {
		fmt.Fprintln(os.Stderr, "cannot begin")
		os.Exit(3)
	}
	calls := 0
	lambda.Start(func(ctx context.Context, e event) (any, error) {
		calls++
		fmt.Printf("doing %s\n", e.Do)
		switch e.Do {
		case "environment":
			env := os.Environ()
			sort.Strings(env)
			return env, nil
		case "context":
			lc, _ := lambdacontext.FromContext(ctx)
			deadline, _ := ctx.Deadline()
			directory, err := os.Getwd()
			return map[string]any{
				"arn": lc.InvokedFunctionArn, "id": lc.AwsRequestID, "calls": calls, "pid": os.Getpid(),
				"left": time.Until(deadline) > 0, "directory": directory,
			}, err
		case "sleep":
			time.Sleep(time.Duration(e.Seconds * float64(time.Second)))
			return os.Getpid(), nil
		case "child":
			child := exec.Command("/bin/sleep", "1000")
			if err := child.Start(); err != nil {
				return nil, err
			}
			return child.Process.Pid, nil
		case "typed error":
			return nil, &CapacityUnavailable{}
		case "named error":
			return nil, messages.InvokeResponse_Error{Type: "InstanceNotReady", Message: "booting"}
		case "wrapped error":
			return nil, fmt.Errorf("outer: %w", errors.New("inner"))
		case "panic":
			panic("out of " + "luck")
		case "exit":
			fmt.Fprintln(os.Stderr, "last words")
			os.Exit(7)
		case "metric":
			fmt.Println(`{"_aws":{"Timestamp":1795834800250,"CloudWatchMetrics":[{"Namespace":"Shop","Dimensions":[["Where"]],` +
				`"Metrics":[{"Name":"Sold","Unit":"Count"}]}]},"Where":"here","Sold":3}`)
		case "large":
			return strings.Repeat("x", e.Bytes), nil
		}
		return e, nil
	})
}
