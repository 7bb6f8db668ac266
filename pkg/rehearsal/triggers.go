package rehearsal

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// deployTriggers makes the factory's bus and the rules that start executions.
// Nothing rings at night here, and Amazon announces nothing.
func (f *Factory) deployTriggers(ctx context.Context) error {
	_, err := f.Cloud.Events.CreateEventBus(ctx, &eventbridge.CreateEventBusInput{Name: aws.String(workflow.FactoryBusName)})
	if err != nil && !awserr.Is(err, "ResourceAlreadyExistsException") {
		return fmt.Errorf("event bus: %w", err)
	}
	for _, r := range workflow.Rules(f.StateMachine, workflow.FindingSeverities()) {
		bus, name := cmp.Or(r.Bus, "default"), prefix+r.Name
		pattern, err := json.Marshal(r.Pattern)
		if err != nil {
			return err
		}
		_, err = f.Cloud.Events.PutRule(ctx, &eventbridge.PutRuleInput{
			EventBusName: &bus, Name: &name, Description: aws.String(r.Does), EventPattern: aws.String(string(pattern)),
		})
		if err != nil {
			return fmt.Errorf("rule %s: %w", name, err)
		}
		_, err = f.Cloud.Events.PutTargets(ctx, &eventbridge.PutTargetsInput{
			EventBusName: &bus, Rule: &name,
			Targets: []eventtypes.Target{{Id: aws.String(string(workflow.StartBuilds)), Arn: aws.String(f.functionARN(workflow.StartBuilds))}},
		})
		if err != nil {
			return fmt.Errorf("target of rule %s: %w", name, err)
		}
	}
	return nil
}
