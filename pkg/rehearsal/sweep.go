package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	lambdaapi "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	sfntypes "github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/stage"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// recover runs the clean-up stage for executions that ended without it, since
// the process that ran them was killed.
func (f *Factory) recover(ctx context.Context) error {
	var errs []error
	pages := sfn.NewListExecutionsPaginator(f.Cloud.States, &sfn.ListExecutionsInput{
		StateMachineArn: &f.StateMachine, StatusFilter: sfntypes.ExecutionStatusAborted,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, e := range page.Executions {
			removed, err := f.Sweep(ctx, aws.ToString(e.ExecutionArn))
			if err != nil {
				errs = append(errs, fmt.Errorf("execution %s: %w", aws.ToString(e.Name), err))
			}
			f.Recovered = append(f.Recovered, removed...)
		}
	}
	return errors.Join(errs...)
}

// Sweep runs the clean-up stage for an execution that did not come to it, and
// returns what was removed.
func (f *Factory) Sweep(ctx context.Context, executionARN string) ([]string, error) {
	e, err := f.Cloud.States.DescribeExecution(ctx, &sfn.DescribeExecutionInput{ExecutionArn: &executionARN})
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(map[string]any{
		"execution": map[string]any{"id": executionARN, "name": aws.ToString(e.Name), "startTime": e.StartDate},
		"stage":     "Cleanup", "now": f.opts.Clock.Now(), "outcome": "Failed",
		"error": "States.Aborted", "cause": "the execution was stopped before it ended", "plan": f.planOf(ctx, executionARN),
	})
	if err != nil {
		return nil, err
	}
	var result stage.CleanupOutput
	for attempt := 1; ; attempt++ {
		again, err := f.cleanUp(ctx, payload, &result)
		if err == nil {
			break
		}
		if !again || attempt == sweepAttempts {
			return nil, err
		}
		if err := f.opts.Clock.Sleep(ctx, time.Duration(attempt)*time.Second); err != nil {
			return nil, err
		}
	}
	if len(result.Left) > 0 {
		return result.Removed, fmt.Errorf("left behind: %v", result.Left)
	}
	return result.Removed, nil
}

// sweepAttempts is how often Sweep asks when what is left may go a moment
// later, as the state machine does.
const sweepAttempts = 6

// cleanUp invokes the clean-up stage once. again says that another attempt may
// do better.
func (f *Factory) cleanUp(ctx context.Context, payload []byte, result *stage.CleanupOutput) (again bool, err error) {
	out, err := f.Cloud.Lambda.Invoke(ctx, &lambdaapi.InvokeInput{
		FunctionName: aws.String(f.deployed.FunctionARN(string(workflow.Cleanup))), Payload: payload,
	})
	if err != nil {
		return false, err
	}
	if out.FunctionError == nil {
		return false, json.Unmarshal(out.Payload, result)
	}
	var failed struct{ ErrorType, ErrorMessage string }
	if err := json.Unmarshal(out.Payload, &failed); err != nil {
		return false, fmt.Errorf("clean-up failed: %s", out.Payload)
	}
	return failed.ErrorType == string(failure.CleanupIncomplete), fmt.Errorf("clean-up failed: %s: %s", failed.ErrorType, failed.ErrorMessage)
}
