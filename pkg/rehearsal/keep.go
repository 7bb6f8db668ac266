package rehearsal

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sfn"

	"github.com/ami-factory/ami-factory/pkg/ami"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

// Kept is the guest of a failed execution that still runs, though its instance is
// terminated.
type Kept struct {
	InstanceID string
	Role       string // builder or verifier
	machine    vm.Machine
}

// Run runs a command line in the guest's shell, as root.
func (k Kept) Run(ctx context.Context, line string) (vm.Result, error) {
	return k.machine.Exec(ctx, vm.Command{Argv: []string{"/bin/sh", "-c", line}})
}

// End ends the guest; its disk goes with it.
func (k Kept) End() error { return k.machine.Kill() }

// keeping are the guests that were kept.
type keeping struct {
	mu   sync.Mutex
	kept []Kept
}

// Kept are the guests of the last execution that were kept since it failed, in
// order of their roles. They end when the Factory is closed, at the latest.
func (f *Factory) Kept() []Kept {
	f.keeping.mu.Lock()
	defer f.keeping.mu.Unlock()
	return slices.Clone(f.keeping.kept)
}

// spare decides on the guest of an instance that is being terminated: one of an
// execution that has failed is kept.
func (f *Factory) spare(id string, m vm.Machine) bool {
	ctx := context.Background() // it is asked in the background, of this process alone
	i, err := ami.DescribeInstance(ctx, f.Cloud.EC2, id)
	if err != nil || !f.hasFailed(ctx, ami.TagValue(i.Tags, contract.TagExecution)) {
		return false
	}
	f.keeping.mu.Lock()
	defer f.keeping.mu.Unlock()
	f.keeping.kept = append(f.keeping.kept, Kept{InstanceID: id, Role: roleOf(i), machine: m})
	slices.SortFunc(f.keeping.kept, func(a, b Kept) int { return strings.Compare(a.Role, b.Role) })
	return true
}

// hasFailed says whether a state of an execution has failed for good.
func (f *Factory) hasFailed(ctx context.Context, name string) bool {
	arn := strings.Replace(f.StateMachine, ":stateMachine:", ":execution:", 1) + ":" + name
	timeline := execution.NewTimeline()
	pages := sfn.NewGetExecutionHistoryPaginator(f.Cloud.States, &sfn.GetExecutionHistoryInput{ExecutionArn: &arn, IncludeExecutionData: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return false
		}
		for _, e := range page.Events {
			for _, step := range timeline.Add(e) {
				if step.Kind == execution.Failed {
					return true
				}
			}
		}
	}
	return false
}
