package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	lambdaapi "github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/localcloud/wire"
)

// deployTriggers makes what starts executions and wakes them: the factory's bus and
// rules, the schedules, and the subscriptions to announcements.
func (d *Deployment) deployTriggers(ctx context.Context) error {
	for _, deploy := range []func(context.Context) error{d.deployDeadLetters, d.deployRules, d.deployForwards, d.deployAnnouncements, d.deploySchedules} {
		if err := deploy(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *Deployment) deployRules(ctx context.Context) error {
	_, err := d.cloud.Events.CreateEventBus(ctx, &eventbridge.CreateEventBusInput{Name: aws.String(contract.FactoryBus)})
	if err != nil && !awserr.Is(err, "ResourceAlreadyExistsException") {
		return fmt.Errorf("event bus: %w", err)
	}
	for _, r := range blueprint.Rules(d.StateMachine, d.Bucket, d.findings()) {
		bus, name := cmp.Or(r.Bus, "default"), prefix+r.Name
		pattern, err := json.Marshal(r.Pattern)
		if err != nil {
			return err
		}
		_, err = d.cloud.Events.PutRule(ctx, &eventbridge.PutRuleInput{
			EventBusName: &bus, Name: &name, Description: aws.String(r.Does), EventPattern: aws.String(string(pattern)),
		})
		if err != nil {
			return fmt.Errorf("rule %s: %w", name, err)
		}
		_, err = d.cloud.Events.PutTargets(ctx, &eventbridge.PutTargetsInput{
			EventBusName: &bus, Rule: &name,
			Targets: []eventtypes.Target{d.target(r)},
		})
		if err != nil {
			return fmt.Errorf("target of rule %s: %w", name, err)
		}
		if err := d.letInvoke(ctx, r.Function, bus, name); err != nil {
			return err
		}
	}
	return nil
}

// deployForwards makes what infra's stack of a region makes: rules that forward events
// of images in the regions that recipes copy to.
func (d *Deployment) deployForwards(ctx context.Context) error {
	home := blueprint.HomeBus(d.partition().ID, d.cloud.Account(), d.cloud.Region())
	if err := d.putRole(blueprint.ForwarderRole(d.cloud.Account(), home)); err != nil {
		return err
	}
	regions, err := d.cloud.EC2.DescribeRegions(ctx, &ec2api.DescribeRegionsInput{})
	if err != nil {
		return err
	}
	for _, r := range regions.Regions {
		region := aws.ToString(r.RegionName)
		if region == d.cloud.Region() {
			continue
		}
		there := wire.WithCaller(ctx, wire.Caller{Account: d.cloud.Account(), Region: region})
		for _, forward := range blueprint.Forwards() {
			name := prefix + forward.Name
			pattern, err := json.Marshal(forward.Pattern)
			if err != nil {
				return err
			}
			_, err = d.cloud.Events.PutRule(there, &eventbridge.PutRuleInput{Name: &name, Description: aws.String(forward.Does), EventPattern: aws.String(string(pattern))})
			if err != nil {
				return fmt.Errorf("rule %s in %s: %w", name, region, err)
			}
			_, err = d.cloud.Events.PutTargets(there, &eventbridge.PutTargetsInput{Rule: &name, Targets: []eventtypes.Target{{
				Id: aws.String("home"), Arn: &home, RoleArn: aws.String(d.roleARN(blueprint.ForwarderRoleName)),
			}}})
			if err != nil {
				return fmt.Errorf("target of rule %s in %s: %w", name, region, err)
			}
		}
	}
	return nil
}

// findings are the rules on vulnerabilities of this deployment.
func (d *Deployment) findings() blueprint.FindingRules {
	return blueprint.FindingRules{Severities: blueprint.FindingSeverities(), OnDemand: d.opts.OnDemandFindings, Products: d.opts.FindingProducts}
}

// letInvoke lets a rule invoke a function, by the function's own policy.
func (d *Deployment) letInvoke(ctx context.Context, function, bus, rule string) error {
	path := rule
	if bus != "default" {
		path = bus + "/" + rule
	}
	_, err := d.cloud.Lambda.AddPermission(ctx, &lambdaapi.AddPermissionInput{
		FunctionName: aws.String(d.FunctionARN(function)), StatementId: aws.String(rule), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("events.amazonaws.com"), SourceArn: aws.String(d.arn("events", d.cloud.Region(), "rule/"+path)),
	})
	if err != nil && !awserr.Is(err, "ResourceConflictException") {
		return fmt.Errorf("permission of rule %s to invoke %s: %w", rule, function, err)
	}
	return nil
}
