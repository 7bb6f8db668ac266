// Package blueprint says, as data, what a factory is deployed as: its functions and
// their settings, its roles and their policies, its rules and schedules, and the
// roles of target accounts. infra renders it with the CDK, pkg/rehearsal deploys it
// into the embedded AWS, and pkg/doctor compares a deployment with it.
package blueprint

import (
	"fmt"
	"slices"
	"time"

	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// Function is a Lambda function of the factory with its settings: a stage of the
// state machine, or a trigger.
type Function struct {
	Name      string // without the deployment's prefix; also of its folder under lambdas/
	Does      string // one line, for descriptions
	Timeout   time.Duration
	MemoryMiB int
	Trigger   bool           // starts executions; no state invokes it
	Door      bool           // people reach it through a function URL
	Fails     []failure.Code // the codes it may end with, beyond workflow.Common
	Actions   []Action       // the AWS calls it makes, and on what
}

// Functions are all that a deployment has: the stages in the order of the
// workflow's table, then the triggers.
func Functions() []Function {
	var out []Function
	for _, row := range workflow.Stages() {
		s, ok := stages()[row.Stage]
		if !ok {
			panic(fmt.Sprintf("stage %q has no settings", row.Stage))
		}
		out = append(out, Function{
			Name: string(row.Stage), Does: row.Does, Timeout: row.Timeout, MemoryMiB: s.memoryMiB, Fails: row.Fails, Actions: s.actions,
		})
	}
	return append(append(out, Triggers()...), Doors()...)
}

// Doors are the functions that people reach through a function URL, with a signed
// request. No state, event or schedule invokes them.
func Doors() []Function {
	return []Function{{
		Name: Approve, Door: true, Does: "takes what people decide about releases, and starts builds by hand",
		Timeout: 30 * time.Second, MemoryMiB: 256, Fails: []failure.Code{failure.RecordMismatch}, Actions: approveActions(),
	}}
}

// Lookup returns the function of a name.
func Lookup(name string) (Function, bool) {
	all := Functions()
	i := slices.IndexFunc(all, func(f Function) bool { return f.Name == name })
	if i < 0 {
		return Function{}, false
	}
	return all[i], true
}

// stageSettings are what a stage's function needs in addition to its row of the
// workflow's table says.
type stageSettings struct {
	memoryMiB int
	actions   []Action
}

// Sizes come from TestEachFunctionFitsInItsMemory of ./test, which prints what each
// deployed program has used at most. Most use 20 to 33 MiB. They have 256 MiB rather than
// the least, 128: Lambda gives processor time in proportion to memory, a full processor
// at 1,769 MB (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html),
// so that half the memory takes twice the time at the same price.
func stages() map[workflow.Stage]stageSettings {
	return map[workflow.Stage]stageSettings{
		workflow.Resolve:           {512, resolveActions()}, // 29 MiB; it compresses bundles, which takes a processor
		workflow.Launch:            {256, launchActions()},
		workflow.Wake:              {256, wakeActions()},
		workflow.CheckInstance:     {256, checkInstanceActions()},
		workflow.Seal:              {256, sealActions()},
		workflow.CreateImage:       {256, createImageActions()},
		workflow.CheckImage:        {256, checkImageActions()},
		workflow.RunCompliance:     {256, runComplianceActions()},
		workflow.CheckCompliance:   {1024, checkComplianceActions()}, // 143 MiB with a feed of 51 MB; a hostile verifier adds 104 MiB of uploads. Matching takes seconds of a processor
		workflow.Distribute:        {256, distributeActions()},
		workflow.CheckDistribution: {256, checkDistributionActions()},
		workflow.Sign:              {256, signActions()},
		workflow.RequestApproval:   {256, requestApprovalActions()},
		workflow.Share:             {256, shareActions()},
		workflow.Publish:           {256, publishActions()},
		workflow.Retire:            {256, retireActions()},
		workflow.Cleanup:           {256, cleanupActions()},
		workflow.Notify:            {512, notifyActions()}, // 32 MiB with 200 recipes on the index page; it renders two pages
	}
}
