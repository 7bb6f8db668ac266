package events

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"github.com/ami-factory/ami-factory/pkg/localcloud/authz"
)

// Permissions are the rules of EventBridge's calls.
func (s *Service) Permissions() authz.Permissions {
	return authz.Permissions{Service: "events", Rules: map[string]authz.Rule{
		"PutEvents": authz.Of(putEventsRequests),
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

func putEventsRequests(c authz.Call, in *eventbridge.PutEventsInput) []authz.Request {
	var out []authz.Request
	for _, e := range in.Entries {
		bus := aws.ToString(e.EventBusName)
		switch {
		case bus == "":
			bus = c.ARN("events", c.Caller.Account, "event-bus/"+DefaultBus)
		case !strings.HasPrefix(bus, "arn:"):
			bus = c.ARN("events", c.Caller.Account, "event-bus/"+bus)
		}
		out = append(out, authz.Request{
			Action: "events:PutEvents", Resource: bus, Context: authz.Context(map[string][]string{"events:source": {aws.ToString(e.Source)}}),
		})
	}
	return out
}
