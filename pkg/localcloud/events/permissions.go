package events

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions are the rules of EventBridge's calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "events", Policy: s.resourcePolicy, Rules: map[string]authz.Rule{
		"PutEvents":     authz.Of(putEventsRequests),
		"PutPermission": authz.On("events:PutPermission", func(c authz.Call, in *eventbridge.PutPermissionInput) string { return busFor(c, in.EventBusName) }),
		"RemovePermission": authz.On("events:RemovePermission", func(c authz.Call, in *eventbridge.RemovePermissionInput) string {
			return busFor(c, in.EventBusName)
		}),
		"PutTargets": authz.Of(func(c authz.Call, in *eventbridge.PutTargetsInput) []authz.Request {
			requests := []authz.Request{{Action: "events:PutTargets", Resource: ruleFor(c, in.EventBusName, aws.ToString(in.Rule))}}
			for _, t := range in.Targets {
				requests = append(requests, authz.PassRole(Principal, aws.ToString(t.RoleArn))...)
			}
			return requests
		}),
		"ListRules": authz.On("events:ListRules", func(c authz.Call, in *eventbridge.ListRulesInput) string {
			return ruleFor(c, in.EventBusName, "*")
		}),
		"ListTargetsByRule": authz.On("events:ListTargetsByRule", func(c authz.Call, in *eventbridge.ListTargetsByRuleInput) string {
			return ruleFor(c, in.EventBusName, aws.ToString(in.Rule))
		}),
	}}
}

// ruleFor is the ARN of a rule. The names of rules of other buses than the default
// one follow the bus's name.
func ruleFor(c authz.Call, bus *string, rule string) string {
	name := aws.ToString(bus)
	name = name[strings.LastIndex(name, "/")+1:]
	if name != "" && name != DefaultBus {
		rule = name + "/" + rule
	}
	return c.ARN("events", c.Caller.Account, "rule/"+rule)
}

// busFor is the ARN of a bus.
func busFor(c authz.Call, ref *string) string {
	bus := aws.ToString(ref)
	switch {
	case bus == "":
		bus = DefaultBus
	case strings.HasPrefix(bus, "arn:"):
		return bus
	}
	return c.ARN("events", c.Caller.Account, "event-bus/"+bus)
}

func putEventsRequests(c authz.Call, in *eventbridge.PutEventsInput) []authz.Request {
	var out []authz.Request
	for _, e := range in.Entries {
		out = append(out, authz.Request{
			Action: "events:PutEvents", Resource: busFor(c, e.EventBusName), Context: authz.Context(map[string][]string{"events:source": {aws.ToString(e.Source)}}),
		})
	}
	return out
}
