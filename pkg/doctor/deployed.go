package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"
	schedulertypes "github.com/aws/aws-sdk-go-v2/service/scheduler/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
)

const redeploy = "deploy the factory again (.tools/cdk.sh deploy)"

// setting is one of the environment that all functions share; without it there
// is nothing to look at.
func (e *examination) setting(name, what string) (value string, f []Finding) {
	if value = e.deployed.env[name]; value == "" {
		return "", []Finding{notChecked("", "%s is not known: the functions' environment, which says it in %s, was not read or lacks it", what, name)}
	}
	return value, nil
}

type profileAPI interface {
	GetInstanceProfile(context.Context, *iam.GetInstanceProfileInput, ...func(*iam.Options)) (*iam.GetInstanceProfileOutput, error)
	iam.SimulatePrincipalPolicyAPIClient
}

func checkInstanceProfile(ctx context.Context, e *examination) []Finding {
	name, missing := e.setting(contract.EnvInstanceProfile, "the builders' instance profile")
	if missing != nil {
		return missing
	}
	return []Finding{instanceProfile(ctx, e.aws.iam(), name[strings.LastIndex(name, "/")+1:])}
}

// agentActions are what the builders' role is deployed with: what an SSM agent
// cannot do without, and no data channel, since nobody may open a session on a
// builder.
func agentActions() []string {
	var out []string
	for _, s := range blueprint.BuilderRole().Policy {
		out = append(out, s.Actions...)
	}
	return out
}

// instanceProfile asks IAM itself what the builders' role is allowed. Default
// Host Management is not needed, since the profile has a role of its own.
func instanceProfile(ctx context.Context, api profileAPI, name string) Finding {
	got, err := api.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: &name})
	switch {
	case awserr.Is(err, "NoSuchEntity", "NoSuchEntityException"):
		return problem(name, redeploy, "it does not exist: no builder can start")
	case err != nil:
		return unread(name, err)
	case len(got.InstanceProfile.Roles) == 0:
		return problem(name, redeploy, "it has no role: instances never come online in SSM")
	}
	role := got.InstanceProfile.Roles[0]
	var denied []string
	pages := iam.NewSimulatePrincipalPolicyPaginator(api, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: role.Arn, ActionNames: agentActions()})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			f := unread(name, err)
			f.Means = "it has the role " + aws.ToString(role.RoleName) + "; what that is allowed could not be asked: " + f.Means
			return f
		}
		for _, r := range page.EvaluationResults {
			if r.EvalDecision != iamtypes.PolicyEvaluationDecisionTypeAllowed {
				denied = append(denied, aws.ToString(r.EvalActionName))
			}
		}
	}
	if len(denied) > 0 {
		return problem(name, redeploy+", and look for a service control policy or permissions boundary that denies them", "its role %s may not %s: instances never come online in SSM", aws.ToString(role.RoleName), list(denied))
	}
	return fine(name, "its role %s may do what an SSM agent needs", aws.ToString(role.RoleName))
}

type bucketAPI interface {
	GetBucketVersioning(context.Context, *s3.GetBucketVersioningInput, ...func(*s3.Options)) (*s3.GetBucketVersioningOutput, error)
	GetBucketLifecycleConfiguration(context.Context, *s3.GetBucketLifecycleConfigurationInput, ...func(*s3.Options)) (*s3.GetBucketLifecycleConfigurationOutput, error)
	GetPublicAccessBlock(context.Context, *s3.GetPublicAccessBlockInput, ...func(*s3.Options)) (*s3.GetPublicAccessBlockOutput, error)
	GetBucketNotificationConfiguration(context.Context, *s3.GetBucketNotificationConfigurationInput, ...func(*s3.Options)) (*s3.GetBucketNotificationConfigurationOutput, error)
}

func checkBucket(ctx context.Context, e *examination) []Finding {
	name, missing := e.setting(contract.EnvBucket, "the factory's bucket")
	if missing != nil {
		return missing
	}
	return bucket(ctx, e.aws.s3(), name)
}

func bucket(ctx context.Context, api bucketAPI, name string) []Finding {
	versions, err := api.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &name})
	if awserr.Is(err, "NoSuchBucket", "NotFound") {
		return []Finding{problem(name, redeploy, "it does not exist: every execution fails at its first stage")}
	}
	var out []Finding
	if err != nil {
		out = append(out, unread("versions of "+name, err))
	} else {
		out = append(out, judgeVersioning(name, versions.Status))
	}
	out = append(out, expiry(ctx, api, name))
	blocked, err := api.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: &name})
	switch {
	case awserr.Is(err, "NoSuchPublicAccessBlockConfiguration"):
		out = append(out, judgeBlock(name, nil))
	case err != nil:
		out = append(out, unread("public access to "+name, err))
	default:
		out = append(out, judgeBlock(name, blocked.PublicAccessBlockConfiguration))
	}
	notifies, err := api.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: &name})
	if err != nil {
		return append(out, unread("events of "+name, err))
	}
	return append(out, judgeNotifications(name, notifies.EventBridgeConfiguration != nil))
}

// judgeNotifications wants the bucket to send its events to EventBridge, where a rule
// has them end waits.
func judgeNotifications(name string, on bool) Finding {
	looked := "events of " + name
	if !on {
		return warning(looked, redeploy, "not sent to EventBridge: what builders upload ends no wait, and "+lateWaits)
	}
	return fine(looked, "sent to EventBridge")
}

// lateWaits is what follows if events do not end waits.
const lateWaits = "waits then last until their time-outs, and builds take minutes longer"

func judgeVersioning(name string, status s3types.BucketVersioningStatus) Finding {
	if status != s3types.BucketVersioningStatusEnabled {
		return warning("versions of "+name, "aws s3api put-bucket-versioning --versioning-configuration Status=Enabled --bucket "+name, "not kept: a report that is overwritten is lost, and reports are evidence")
	}
	return fine("versions of "+name, "kept")
}

func expiry(ctx context.Context, api bucketAPI, name string) Finding {
	out, err := api.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &name})
	switch {
	case awserr.Is(err, "NoSuchLifecycleConfiguration"):
		return judgeExpiry(name, nil)
	case err != nil:
		return unread("lifecycle rules of "+name, err)
	}
	return judgeExpiry(name, out.Rules)
}

// judgeExpiry wants a rule for each prefix that has a lifetime; how long it is, the
// operator chooses.
func judgeExpiry(name string, rules []s3types.LifecycleRule) Finding {
	looked := "lifecycle rules of " + name
	var forever []string
	for _, l := range blueprint.Lifetimes(blueprint.DefaultStorage()) {
		expires := slices.ContainsFunc(rules, func(r s3types.LifecycleRule) bool {
			return r.Status == s3types.ExpirationStatusEnabled && r.Expiration != nil && r.Filter != nil && aws.ToString(r.Filter.Prefix) == l.Prefix
		})
		if l.Days > 0 && !expires {
			forever = append(forever, l.Prefix)
		}
	}
	if len(forever) > 0 {
		return warning(looked, redeploy, "nothing below %s expires: the bucket grows without end", list(forever))
	}
	return fine(looked, "every prefix that has a lifetime expires")
}

func judgeBlock(name string, block *s3types.PublicAccessBlockConfiguration) Finding {
	looked := "public access to " + name
	if block == nil || !aws.ToBool(block.BlockPublicAcls) || !aws.ToBool(block.BlockPublicPolicy) || !aws.ToBool(block.IgnorePublicAcls) || !aws.ToBool(block.RestrictPublicBuckets) {
		return warning(looked, "aws s3api put-public-access-block --public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true --bucket "+name,
			"not blocked in every way: plans and reports are nobody else's business")
	}
	return fine(looked, "blocked")
}

type topicAPI interface {
	GetTopicAttributes(context.Context, *sns.GetTopicAttributesInput, ...func(*sns.Options)) (*sns.GetTopicAttributesOutput, error)
}

func checkTopic(ctx context.Context, e *examination) []Finding {
	arn, missing := e.setting(contract.EnvTopic, "the topic of messages about executions")
	if missing != nil {
		return missing
	}
	return []Finding{topic(ctx, e.aws.sns(e.region), arn)}
}

func topic(ctx context.Context, api topicAPI, arn string) Finding {
	out, err := api.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: &arn})
	switch {
	case awserr.Is(err, "NotFound", "NotFoundException"):
		return problem(arn, redeploy, "it does not exist: no notification of an execution is sent")
	case err != nil:
		return unread(arn, err)
	}
	confirmed, _ := strconv.Atoi(out.Attributes["SubscriptionsConfirmed"]) // absent: none
	pending, _ := strconv.Atoi(out.Attributes["SubscriptionsPending"])
	return judgeTopic(arn, confirmed, pending)
}

func judgeTopic(arn string, confirmed, pending int) Finding {
	switch {
	case confirmed == 0 && pending > 0:
		return warning(arn, "follow the link in the message that SNS has sent to each subscriber", "%d subscriptions, none of them confirmed: nobody hears that an execution failed or a recipe is paused", pending)
	case confirmed == 0:
		return warning(arn, "aws sns subscribe --topic-arn "+arn+" --protocol email --notification-endpoint you@example.com", "it has no subscriber: failures of executions and pauses of recipes go unnoticed")
	case pending > 0:
		return warning(arn, "follow the link in the message that SNS has sent to each subscriber", "%d subscriptions are confirmed, and %d are not", confirmed, pending)
	}
	return fine(arn, "%d subscriptions are confirmed", confirmed)
}

func checkAnnouncements(ctx context.Context, e *examination) []Finding {
	start, _, err := e.startBuilds(ctx)
	if err != nil {
		return []Finding{unread("topics of base images' owners", err)}
	}
	env, err := e.environment(ctx, start)
	if err != nil {
		return []Finding{unread("topics of base images' owners", err)}
	}
	if start == "" {
		return []Finding{notChecked("topics of base images' owners", "which they are is not known: there is no rule that invokes start-builds: see rules")}
	}
	topics := fields(env[contract.EnvTopics])
	if len(topics) == 0 {
		return []Finding{fine("topics of base images' owners", "the deployment listens to none; sources are watched")}
	}
	var out []Finding
	for _, t := range topics {
		parts := strings.Split(t, ":")
		if len(parts) != 6 {
			out = append(out, problem(t, "correct the context announcementTopics of the deployment", "it is not the ARN of a topic"))
			continue
		}
		out = append(out, announcement(ctx, e.aws.sns(parts[3]), t, e.region, e.account))
	}
	return out
}

// announcement looks for the subscription of a function of this account in this
// region to a topic, which is listed to the subscriber in the topic's region.
func announcement(ctx context.Context, api sns.ListSubscriptionsAPIClient, topic, region, account string) Finding {
	prefix := fmt.Sprintf(":lambda:%s:%s:function:", region, account)
	for pages := sns.NewListSubscriptionsPaginator(api, &sns.ListSubscriptionsInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return unread(topic, err)
		}
		for _, s := range page.Subscriptions {
			if aws.ToString(s.TopicArn) == topic && strings.Contains(aws.ToString(s.Endpoint), prefix) {
				return judgeSubscription(topic, aws.ToString(s.SubscriptionArn))
			}
		}
	}
	return warning(topic, redeploy, "no function of the factory is subscribed: releases are noticed by the watch on the sources only")
}

func judgeSubscription(topic, arn string) Finding {
	if !strings.HasPrefix(arn, "arn:") { // PendingConfirmation, Deleted
		return warning(topic, redeploy, "the subscription is %s: releases are noticed by the watch on the sources only", arn)
	}
	return fine(topic, "the factory's function is subscribed")
}

// rule is one that the blueprint has in every deployment, as it was found.
type rule struct {
	blueprint.Rule
	found   *eventtypes.Rule
	other   bool // its pattern is not the blueprint's
	targets []eventtypes.Target
}

// bus is the name of the rule's event bus.
func (r rule) bus() string { return cmp.Or(r.Bus, "default") }

// factoryRules finds the rules that start builds and wake executions in every
// deployment. Which rules on vulnerabilities there are is the operator's choice.
func (e *examination) factoryRules(ctx context.Context) ([]rule, error) {
	api := e.aws.events()
	var out []rule
	for _, want := range blueprint.Rules(e.deployed.machine, e.deployed.env[contract.EnvBucket], blueprint.FindingRules{}) {
		r := rule{Rule: want}
		bus := r.bus()
		in := &eventbridge.ListRulesInput{EventBusName: &bus}
		for more := true; more; more = in.NextToken != nil {
			page, err := api.ListRules(ctx, in)
			if awserr.Is(err, "ResourceNotFoundException") {
				break // no such bus
			}
			if err != nil {
				return nil, err
			}
			for _, found := range page.Rules {
				r.consider(found)
			}
			in.NextToken = page.NextToken
		}
		if r.found != nil {
			targets, err := api.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{EventBusName: &bus, Rule: r.found.Name})
			if err != nil {
				return nil, err
			}
			r.targets = targets.Targets
		}
		out = append(out, r)
	}
	return out, nil
}

// consider takes a rule of the bus if its pattern is the blueprint's, or, for want of
// one, if it is about the same events: of the same detail type, and of the machine
// where the blueprint's is. The events that end waits are of the whole account, and
// other rules may well be about them.
func (r *rule) consider(found eventtypes.Rule) {
	raw, err := json.Marshal(r.Pattern)
	if err != nil {
		return
	}
	var want, have any
	if json.Unmarshal(raw, &want) != nil || json.Unmarshal([]byte(aws.ToString(found.EventPattern)), &have) != nil {
		return
	}
	if reflect.DeepEqual(want, have) {
		if r.found == nil || r.other {
			r.found, r.other = &found, false
		}
		return
	}
	if r.Hint {
		return
	}
	pattern, _ := have.(map[string]any)
	types, _ := pattern["detail-type"].([]any)
	about := slices.ContainsFunc(types, func(t any) bool { return slices.Contains(r.Pattern.DetailType, fmt.Sprint(t)) })
	for _, arns := range r.Pattern.Detail {
		for _, arn := range arns.([]string) {
			if strings.HasPrefix(arn, "arn:") && !strings.Contains(aws.ToString(found.EventPattern), strconv.Quote(arn)) {
				about = false
			}
		}
	}
	if about && r.found == nil {
		r.found, r.other = &found, true
	}
}

// startBuilds is the function that the rules invoke, and where what could not be
// delivered to it goes; both may be empty.
func (e *examination) startBuilds(ctx context.Context) (arn, deadLetters string, err error) {
	rules, err := e.factoryRules(ctx)
	for _, r := range rules {
		if r.Function != blueprint.StartBuilds {
			continue
		}
		for _, t := range r.targets {
			if strings.Contains(aws.ToString(t.Arn), ":function:") {
				arn = aws.ToString(t.Arn)
				if t.DeadLetterConfig != nil {
					deadLetters = aws.ToString(t.DeadLetterConfig.Arn)
				}
			}
		}
	}
	return arn, deadLetters, err
}

// environment is a function's; of none it is empty.
func (e *examination) environment(ctx context.Context, arn string) (map[string]string, error) {
	if arn == "" {
		return map[string]string{}, nil
	}
	return environmentOf(ctx, e.aws.lambda(), arn)
}

func checkRules(ctx context.Context, e *examination) []Finding {
	rules, err := e.factoryRules(ctx)
	if err != nil {
		return []Finding{unread("rules for events", err)}
	}
	var out []Finding
	for _, r := range rules {
		f := judgeRule(r)
		for _, t := range r.targets {
			if gone, bad := targetGone(ctx, e.aws.lambda(), f.Looked, aws.ToString(t.Arn), r.without()); bad && f.Verdict != Problem {
				f = gone
			}
		}
		out = append(out, f)
	}
	return out
}

// targetGone says whether a rule invokes a function that is not there.
func targetGone(ctx context.Context, api functionAPI, looked, arn, without string) (Finding, bool) {
	if !strings.Contains(arn, ":function:") {
		return Finding{}, false
	}
	_, err := environmentOf(ctx, api, arn)
	switch {
	case awserr.Is(err, "ResourceNotFoundException"):
		return problem(looked, redeploy, "%s, which it invokes, does not exist: %s", arn, without), true
	case err != nil:
		return unread(looked, err), true
	}
	return Finding{}, false
}

// without is what happens without the rule.
func (r rule) without() string {
	if r.Hint {
		return lateWaits
	}
	return "nothing is built then"
}

func judgeRule(r rule) Finding {
	looked := fmt.Sprintf("rule for: %s (bus %s)", r.Does, r.bus())
	bad := problem
	if r.Hint {
		bad = warning
	}
	switch {
	case r.found == nil:
		return bad(looked, redeploy, "there is no such rule: %s", r.without())
	case r.found.State == eventtypes.RuleStateDisabled:
		return bad(looked, "aws events enable-rule --event-bus-name "+r.bus()+" --name "+aws.ToString(r.found.Name), "rule %s is disabled: %s", aws.ToString(r.found.Name), r.without())
	case len(r.targets) == 0:
		return bad(looked, redeploy, "rule %s has no target: %s", aws.ToString(r.found.Name), r.without())
	}
	if r.other {
		return warning(looked, redeploy, "rule %s has another pattern than this version's: events that it leaves out build nothing", aws.ToString(r.found.Name))
	}
	if !r.Hint && !slices.ContainsFunc(r.targets, func(t eventtypes.Target) bool { return t.DeadLetterConfig != nil }) {
		return warning(looked, redeploy, "rule %s is enabled; what cannot be delivered is lost, for its target has no queue for it", aws.ToString(r.found.Name))
	}
	return fine(looked, "rule %s is enabled", aws.ToString(r.found.Name))
}

// checkForwards looks in the regions that images are copied to for the rules that send
// events of copies to the factory's region.
func checkForwards(ctx context.Context, e *examination) []Finding {
	const looked = "events of copies in other regions"
	var further []string
	for _, r := range e.regions() {
		if r != e.region {
			further = append(further, r)
		}
	}
	switch {
	case len(further) == 0:
		return []Finding{fine(looked, "the recipes copy to no other region")}
	case e.partition != blueprint.Forwarding:
		return []Finding{fine(looked, "none are sent here: regions of the partition %s do not send each other events. Waits for copies in %s end by their time-outs", e.partition, list(further))}
	}
	bus := blueprint.HomeBus(e.partition, e.account, e.region)
	var out []Finding
	for _, region := range further {
		for _, want := range blueprint.Forwards() {
			found, err := forwarding(ctx, e.aws.eventsIn(region), want.Pattern, bus)
			at := fmt.Sprintf("rule in %s for: %s", region, want.Does)
			if err != nil {
				out = append(out, unread(at, err))
				continue
			}
			out = append(out, judgeForward(at, region, e.region, found))
		}
	}
	return out
}

type ruleAPI interface {
	ListRules(context.Context, *eventbridge.ListRulesInput, ...func(*eventbridge.Options)) (*eventbridge.ListRulesOutput, error)
	ListTargetsByRule(context.Context, *eventbridge.ListTargetsByRuleInput, ...func(*eventbridge.Options)) (*eventbridge.ListTargetsByRuleOutput, error)
}

// forwarding finds a rule of the default bus by its pattern and its target; one that is
// enabled, if there is one.
func forwarding(ctx context.Context, api ruleAPI, want blueprint.Pattern, bus string) (*eventtypes.Rule, error) {
	r := rule{Rule: blueprint.Rule{Pattern: want, Hint: true}}
	var disabled *eventtypes.Rule
	in := &eventbridge.ListRulesInput{}
	for more := true; more; more = in.NextToken != nil {
		page, err := api.ListRules(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, found := range page.Rules {
			r.found = nil
			if r.consider(found); r.found == nil {
				continue
			}
			targets, err := api.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{Rule: found.Name})
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(targets.Targets, func(t eventtypes.Target) bool { return aws.ToString(t.Arn) == bus }) {
				continue
			}
			if found.State != eventtypes.RuleStateDisabled {
				return &found, nil
			}
			disabled = &found
		}
		in.NextToken = page.NextToken
	}
	return disabled, nil
}

func judgeForward(looked, region, home string, found *eventtypes.Rule) Finding {
	without := "the factory works without it: the wait for a copy there ends by its time-out, up to a sixth of the copy's time late"
	switch {
	case found == nil:
		return warning(looked, ".tools/cdk.sh synth -c stack=forward, then deploy the template of AmiFactoryForward in "+region+" with FactoryRegion="+home,
			"no rule sends events to the default bus of %s: %s", home, without)
	case found.State == eventtypes.RuleStateDisabled:
		return warning(looked, "aws events enable-rule --region "+region+" --name "+aws.ToString(found.Name), "rule %s is disabled: %s", aws.ToString(found.Name), without)
	}
	return fine(looked, "rule %s sends them to %s", aws.ToString(found.Name), home)
}

// night is a schedule of the factory's.
type night struct {
	name, group string
	state       schedulertypes.ScheduleState
	function    string // ARN
}

func checkSchedules(ctx context.Context, e *examination) []Finding {
	start, _, err := e.startBuilds(ctx)
	if err != nil {
		return []Finding{unread("schedules", err)}
	}
	found, err := schedules(ctx, e.aws.scheduler(), e.aws.lambda(), e.deployed.machine)
	if err != nil {
		return []Finding{unread("schedules", err)}
	}
	return judgeSchedules(found, start)
}

// schedules are those that invoke functions which know the state machine.
func schedules(ctx context.Context, api scheduler.ListSchedulesAPIClient, functions functionAPI, machine string) ([]night, error) {
	var out []night
	for pages := scheduler.NewListSchedulesPaginator(api, &scheduler.ListSchedulesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range page.Schedules {
			if s.Target == nil || !strings.Contains(aws.ToString(s.Target.Arn), ":function:") {
				continue
			}
			arn := aws.ToString(s.Target.Arn)
			env, err := environmentOf(ctx, functions, arn)
			if awserr.Is(err, "ResourceNotFoundException") {
				continue // somebody else's, or one that is left over
			}
			if err != nil {
				return nil, err
			}
			if env[contract.EnvStateMachine] == machine {
				out = append(out, night{aws.ToString(s.Name), aws.ToString(s.GroupName), s.State, arn})
			}
		}
	}
	return out, nil
}

// judgeSchedules wants each schedule of the blueprint. start is the function that
// builds: the other one is that which looks at the sources.
func judgeSchedules(found []night, start string) []Finding {
	var out []Finding
	for _, want := range blueprint.Schedules(blueprint.DefaultSchedules()) {
		there := false
		for _, s := range found {
			if (s.function == start) != (want.Function == blueprint.StartBuilds) {
				continue
			}
			there = true
			looked := "schedule " + s.name
			if s.state == schedulertypes.ScheduleStateDisabled {
				out = append(out, problem(looked, fmt.Sprintf("EventBridge console, Schedules, group %s, Enable; or %s", s.group, redeploy), "it is disabled: nothing %s", want.Does))
				continue
			}
			out = append(out, fine(looked, "enabled; it %s", want.Does))
		}
		if !there {
			out = append(out, problem("schedule "+want.Name, redeploy, "there is none: nothing %s", want.Does))
		}
	}
	return out
}

type queueAPI interface {
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

func checkDeadLetters(ctx context.Context, e *examination) []Finding {
	_, arn, err := e.startBuilds(ctx)
	switch {
	case err != nil:
		return []Finding{unread("queue of what was not delivered", err)}
	case arn == "":
		return []Finding{notChecked("queue of what was not delivered", "no rule names one: see rules")}
	}
	return []Finding{deadLetters(ctx, e.aws.sqs(), arn)}
}

func deadLetters(ctx context.Context, api queueAPI, arn string) Finding {
	parts := strings.Split(arn, ":")
	name, owner := parts[len(parts)-1], parts[max(0, len(parts)-2)]
	at, err := api.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name, QueueOwnerAWSAccountId: &owner})
	if awserr.Is(err, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue") {
		return problem(name, redeploy, "it does not exist: what is not delivered is lost")
	}
	if err != nil {
		return unread(name, err)
	}
	out, err := api.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: at.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{
		sqstypes.QueueAttributeNameApproximateNumberOfMessages, sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
	}})
	if err != nil {
		return unread(name, err)
	}
	n := 0
	for _, v := range out.Attributes {
		count, _ := strconv.Atoi(v) // AWS answers numbers
		n += count
	}
	return judgeDeadLetters(name, aws.ToString(at.QueueUrl), n)
}

// endpointOption is the option that makes the AWS CLI call the host of a queue's
// address, where that is not AWS's. Version 1 of the CLI has legacy hosts of its own
// for SQS and ignores AWS_ENDPOINT_URL (awscli/customizations/overridesslcommonname.py).
func endpointOption(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" { // queues on AWS have https addresses
		return ""
	}
	return " --endpoint-url http://" + u.Host
}

func judgeDeadLetters(name, address string, n int) Finding {
	if n > 0 {
		return warning(name, "read them: aws sqs receive-message --visibility-timeout 0"+endpointOption(address)+" --queue-url "+address+"; fix the cause, then purge the queue",
			"%d events were not delivered, or failed after their retries: builds may be missing", n)
	}
	return fine(name, "empty: every event was delivered")
}

type secretAPI interface {
	DescribeSecret(context.Context, *secretsmanager.DescribeSecretInput, ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error)
}

func checkSecrets(ctx context.Context, e *examination) []Finding {
	var secrets []string
	of := map[string][]Recipe{}
	for _, r := range e.home() {
		for _, s := range r.Secrets {
			if !slices.Contains(secrets, s) {
				secrets = append(secrets, s)
			}
			of[s] = append(of[s], r)
		}
	}
	if len(secrets) == 0 {
		return []Finding{fine("secrets of agents", "the recipes have no agent that reads one")}
	}
	var out []Finding
	for _, s := range secrets {
		out = append(out, secret(ctx, e.aws.secrets(), s, fmt.Sprintf("secret %s (%s)", s, names(of[s]))))
	}
	return out
}

// secret looks whether there is a value, and never at it. Instances read secrets
// in the account and region in which they run, so that none here is no more than
// a warning.
func secret(ctx context.Context, api secretAPI, name, looked string) Finding {
	out, err := api.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &name})
	const follows = "an instance of this account and region starts without the agent (elsewhere it reads its own account's)"
	switch {
	case awserr.Is(err, "ResourceNotFoundException"):
		return warning(looked, "aws secretsmanager create-secret --name "+name+" --secret-string file://key", "there is none here: %s", follows)
	case err != nil:
		return unread(looked, err)
	case out.DeletedDate != nil:
		return warning(looked, "aws secretsmanager restore-secret --secret-id "+name, "it is to be deleted: %s", follows)
	}
	for _, stages := range out.VersionIdsToStages {
		if slices.Contains(stages, "AWSCURRENT") {
			return fine(looked, "it has a value, which was not read")
		}
	}
	return warning(looked, "aws secretsmanager put-secret-value --secret-id "+name+" --secret-string file://key", "it has no value yet: %s", follows)
}
