package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

// deployTriggers makes what starts executions: the factory's bus and rules, the
// schedules, and the subscriptions to announcements.
func (f *Factory) deployTriggers(ctx context.Context) error {
	for _, deploy := range []func(context.Context) error{f.deployDeadLetters, f.deployRules, f.deployAnnouncements, f.deploySchedules} {
		if err := deploy(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *Factory) deployRules(ctx context.Context) error {
	_, err := f.Cloud.Events.CreateEventBus(ctx, &eventbridge.CreateEventBusInput{Name: aws.String(workflow.FactoryBusName)})
	if err != nil && !awserr.Is(err, "ResourceAlreadyExistsException") {
		return fmt.Errorf("event bus: %w", err)
	}
	for _, r := range []struct {
		bus, name string
		pattern   workflow.Pattern
	}{
		{workflow.FactoryBusName, prefix + "source-changed", workflow.SourceChangedPattern()},
		{"default", prefix + "execution-ended", workflow.ExecutionEndedPattern(f.StateMachine)},
	} {
		pattern, err := json.Marshal(r.pattern)
		if err != nil {
			return err
		}
		_, err = f.Cloud.Events.PutRule(ctx, &eventbridge.PutRuleInput{EventBusName: &r.bus, Name: &r.name, EventPattern: aws.String(string(pattern))})
		if err != nil {
			return fmt.Errorf("rule %s: %w", r.name, err)
		}
		_, err = f.Cloud.Events.PutTargets(ctx, &eventbridge.PutTargetsInput{
			EventBusName: &r.bus, Rule: &r.name,
			Targets: []eventtypes.Target{f.startBuilds()},
		})
		if err != nil {
			return fmt.Errorf("target of rule %s: %w", r.name, err)
		}
	}
	return nil
}
