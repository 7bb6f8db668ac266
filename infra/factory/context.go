package factory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/cost"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/problem"
)

// setting is one name of the context.
type setting struct {
	name     string
	fallback string // what holds when the context does not name it; empty: nothing
	allowed  string
	means    string
	kind     kind
}

// kind is how a setting's text gets into the props, and what is wrong there.
type kind interface {
	parse(*Props, string) error // errForm: it is not of the form that is allowed
	wrong(*Props) []string      // the values that are not allowed
}

var errForm = errors.New("not of the allowed form")

func (s setting) refuse(value string) error {
	return fmt.Errorf("context %s is %q (allowed: %s)", s.name, value, s.allowed)
}

// settings is the table of the context: of the defaults, the checks and the
// documentation.
func settings() []setting {
	return []setting{
		{"stack", StackFactory, "factory, target, forward", "which stack the app makes: the factory, that of target accounts, or that of the regions that images are copied to", line{func(p *Props) *string { return &p.Stack }, oneOf(StackFactory, StackTarget, StackForward)}},
		{"architecture", ARM64, "arm64, x86_64", "of the functions", line{func(p *Props) *string { return &p.Architecture }, oneOf(ARM64, X86)}},
		{"functions", "", "a folder", "holds a program for each function, `<stage>/bootstrap`, and `version`; without it the app builds them for `architecture`", line{func(p *Props) *string { return &p.FunctionsDir }, anything}},
		{"goss", "", "a folder", "holds the check engine for each architecture of guests, `amd64` and `arm64`; without it the app builds those that recipes need", line{func(p *Props) *string { return &p.GossDir }, anything}},
		{"version", "", "a text", "of the factory, in every plan and report; without it, what the build wrote: `git describe`", line{func(p *Props) *string { return &p.Version }, anything}},
		{"dualStack", "false", "true, false", "functions call AWS by endpoints that have IPv6 addresses as well as IPv4 ones", decision{func(p *Props) *bool { return &p.DualStack }}},
		{"componentParameters", "", "an object of components, such as {\"docker\":{\"logMaxSize\":\"10m\"}}", "parameters of components, for all recipes", parameters{}},
		{"prices", "", "a table as pkg/cost/prices.json is one, of what differs, such as {\"regions\":{\"eu-west-1\":{\"instanceHour\":{\"t3.medium\":0.03}}}}", "your prices, for the estimate of what an execution costs", prices{}},
		{"keyArns", "", "ARNs of keys, with commas", "the keys that recipes may name; any key of the account, by way of EC2, without", words{func(p *Props) *[]string { return &p.KeyARNs }, keyARN.MatchString}},
		{"approverRoleArns", "", "ARNs of roles, with commas", "roles whose trust policy fixes the name of the session to the person's, by sts:RoleSessionName: their sessions may approve releases, beside those of IAM Identity Center", words{func(p *Props) *[]string { return &p.Approvers }, roleARN.MatchString}},
		{"sourceOwners", "", "accounts' ids, amazon, aws-marketplace, with commas", "further owners whose images builders may be launched from, beside those of the recipes' sources, the account itself, and Amazon with the partners it verifies", words{func(p *Props) *[]string { return &p.SourceOwners }, oneOfOr(accountID, "amazon", "aws-marketplace")}},
		{"reserveConcurrency", "true", "true, false", "each trigger runs once at a time; false where the account's quota of concurrency is too small to reserve of it", decision{func(p *Props) *bool { return &p.ReserveConcurrency }}},

		{"network", "", "default, own, existing", "where builders run: the account's default VPC, one of their own without a way out, or `subnetIds`; without, existing if there are `subnetIds` and default if not", line{func(p *Props) *string { return &p.Network.Kind }, oneOf("", NetworkDefault, NetworkOwn, NetworkExisting)}},
		{"vpcId", "", "the id of a VPC", "of `subnetIds`: to make a security group there, if there are no `securityGroupIds`", line{func(p *Props) *string { return &p.Network.VPCID }, optional(vpcID)}},
		{"subnetIds", "", "ids of subnets, with commas", "tried in this order", words{func(p *Props) *[]string { return &p.Network.SubnetIDs }, subnetID.MatchString}},
		{"securityGroupIds", "", "ids of security groups, with commas", "of builders and verifiers", words{func(p *Props) *[]string { return &p.Network.SecurityGroupIDs }, groupID.MatchString}},
		{"vpcCidr", "10.42.0.0/22", "an IPv4 range of /16 to /24", "of an own network", line{func(p *Props) *string { return &p.Network.CIDR }, isRange}},
		{"zones", "2", "1 to 4", "availability zones of an own network", number{func(p *Props) *int { return &p.Network.Zones }, 1, 4}},
		{"nat", "false", "true, false", "give an own network a way out, for recipes that install from repositories on the internet", decision{func(p *Props) *bool { return &p.Network.NAT }}},
		{"flowLogs", "false", "true, false", "log what an own network carries", decision{func(p *Props) *bool { return &p.Network.FlowLogs }}},

		{"encryptionKey", None, "none, new, the ARN of a key", "of bucket, topics, queue and logs: AWS's own, a customer key of the stack, or that key", line{func(p *Props) *string { return &p.EncryptionKey }, oneOfOr(oneKeyARN, None, New)}},
		{"workDays", "90", "30 to 3650", "days until plans, bundles, checks and what triggers remember of single events expire", number{func(p *Props) *int { return &p.Storage.WorkDays }, 30, 3650}},
		{"noncurrentDays", "30", "1 to 3650", "days for which overwritten and deleted objects can be restored", number{func(p *Props) *int { return &p.Storage.NoncurrentDays }, 1, 3650}},
		{"evidenceYears", "7", "1 to 100", "years for which reports and results of executions are kept", number{func(p *Props) *int { return &p.Storage.EvidenceYears }, 1, 100}},
		{"accessLogs", None, "none, new, the name of a bucket", "where S3 logs who read the bucket", line{func(p *Props) *string { return &p.Storage.AccessLogs }, oneOfOr(bucketName, None, New)}},

		{"logDays", "90", "what CloudWatch takes: " + list(retentions()), "days for which logs are kept", choice{func(p *Props) *int { return &p.Logs.Days }, retentions()}},
		{"executionLog", "error", "error, all, fatal, off", "what the state machine logs", line{func(p *Props) *string { return &p.Logs.Executions }, oneOf(slices.Collect(maps.Keys(levels()))...)}},
		{"executionData", "false", "true, false", "log the stages' input and output too", decision{func(p *Props) *bool { return &p.Logs.ExecutionData }}},
		{"tracing", "true", "true, false", "X-Ray traces of functions and executions", decision{func(p *Props) *bool { return &p.Logs.Tracing }}},
		{"alarms", "true", "true, false", "CloudWatch alarms", decision{func(p *Props) *bool { return &p.Alarms.On }}},
		{"alarmTopicArns", "", "ARNs of topics, with commas", "told by alarms, in place of a topic of the stack's", words{func(p *Props) *[]string { return &p.Alarms.TopicARNs }, topicARN.MatchString}},
		{"alarmSubscribers", "", "mail addresses and https:// addresses, with commas", "told by alarms", words{func(p *Props) *[]string { return &p.Alarms.Subscribers }, isAddress}},
		{"executionSubscribers", "", "mail addresses and https:// addresses, with commas", "told how every execution ended", words{func(p *Props) *[]string { return &p.Subscribers }, isAddress}},
		{"failuresInARow", "3", "1 to 7", "days with failures and no success after which an alarm tells", number{func(p *Props) *int { return &p.Alarms.FailuresInARow }, 1, 7}},
		{"maxImageAgeDays", "45", "0 to 3650; 0 for no alarm", "age of a recipe's published image at which an alarm tells", number{func(p *Props) *int { return &p.Alarms.MaxImageAgeDays }, 0, 3650}},
		{"maxDailyCost", "25", "0 to 100000; 0 for no alarm", "US dollars a day, estimated, at which an alarm tells", number{func(p *Props) *int { return &p.Alarms.MaxDailyCost }, 0, 100000}},
		{"inspectorScan", "false", "true, false", "let recipes have Amazon Inspector scan what is installed: `gate.vulnerabilities.scanner: inspector`", decision{func(p *Props) *bool { return &p.InspectorScan }}},
		{"securityHub", "false", "true, false", "send what failed, what is waived and vulnerabilities to Security Hub, which must be on in the account and region", decision{func(p *Props) *bool { return &p.SecurityHub }}},
		{"dashboard", "true", "true, false", "a CloudWatch dashboard", decision{func(p *Props) *bool { return &p.Dashboard }}},

		{"nightly", blueprint.DefaultNightly, "a schedule such as cron(0 3 * * ? *) or rate(30 minutes)", "when stale recipes are built", line{func(p *Props) *string { return &p.Triggers.Nightly }, schedule.MatchString}},
		{"timezone", blueprint.DefaultTimezone, "a name such as Europe/Berlin", "of `nightly`", line{func(p *Props) *string { return &p.Triggers.Timezone }, timezone.MatchString}},
		{"nightlyWindowMinutes", strconv.Itoa(blueprint.DefaultWindowMinutes), "1 to 1440", "within which a night may begin", number{func(p *Props) *int { return &p.Triggers.Window }, 1, 1440}},
		{"watch", blueprint.DefaultWatch, "a schedule such as cron(0 3 * * ? *) or rate(30 minutes)", "when sources are looked at", line{func(p *Props) *string { return &p.Triggers.Watch }, schedule.MatchString}},
		{"announcementTopics", strings.Join(blueprint.AnnouncementTopics(partition.Default), ","), "ARNs of topics, with commas, or none", "of owners of base images", words{func(p *Props) *[]string { return &p.Triggers.Topics }, topicARN.MatchString}},
		{"findingSeverities", strings.Join(blueprint.FindingSeverities(), ","), strings.Join(blueprint.Severities(), ", ") + ", with commas, or none", "of vulnerabilities with a fix for which images are built again", words{func(p *Props) *[]string { return &p.Triggers.Findings.Severities }, oneOf(blueprint.Severities()...)}},
		{"onDemandFindings", "false", "true, false", "let findings of on-demand scans of images start builds; whoever may put events on the account's default bus can make such findings", decision{func(p *Props) *bool { return &p.Triggers.Findings.OnDemand }}},
		{"findingProducts", "", "ARNs of products, with commas", "of Security Hub whose findings start builds beside Amazon Inspector's; whoever may import findings for a product can make them", words{func(p *Props) *[]string { return &p.Triggers.Findings.Products }, productARN.MatchString}},
		{"findingHours", "24", "1 to 720", "between two such builds of a recipe", number{func(p *Props) *int { return &p.Triggers.FindingHours }, 1, 720}},

		{"permissionsBoundary", "", "the name or the ARN of a policy", "of all roles", line{func(p *Props) *string { return &p.Roles.Boundary }, optional(policyName)}},
		{"rolePath", "/", "a path such as /ami-factory/", "of all roles and the instance profile", line{func(p *Props) *string { return &p.Roles.Path }, rolePath.MatchString}},
		{"roleNamePrefix", "", "up to 24 letters, digits and -", "of all roles' names, which CloudFormation makes up without", line{func(p *Props) *string { return &p.Roles.NamePrefix }, optional(namePrefix)}},
		{"targetAccounts", "", "accounts' ids, with commas", "where recipes may keep pointers: the stacks of target accounts are deployed there", words{func(p *Props) *[]string { return &p.Targets.Accounts }, accountID.MatchString}},
		{"targetExternalId", "", "16 to 1224 letters, digits and + = , . @ : / -", "the parameter ExternalId of those stacks", line{func(p *Props) *string { return &p.Targets.ExternalID }, isExternalID}},
		{"tags", "", "name=value with commas, or an object; names do not begin with aws: or ami-factory:", "of everything that can be tagged", tags{}},
	}
}

// PropsFromContext reads what the operator may choose, from cdk.json or
// `cdk deploy -c name=value`, and reports every fault at once. All plain words
// of the context are taken to be the factory's, and an unknown one for a slip: an
// app with context of its own fills Props by itself.
//
// build, if there is one, makes the programs that the context names no folder for.
func PropsFromContext(app awscdk.App, build func(*Props) error) (*Props, error) {
	props := Defaults()
	errs := []error{unknown(app)}
	for _, s := range settings() {
		value := app.Node().TryGetContext(jsii.String(s.name))
		if value == nil || value == "" {
			continue
		}
		given := textOf(value)
		if err := s.kind.parse(&props, given); errors.Is(err, errForm) {
			errs = append(errs, s.refuse(given))
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	if build == nil {
		return &props, errors.Join(append(errs, props.Validate())...)
	}
	if err := errors.Join(append(errs, props.wrongSettings()...)...); err != nil {
		return &props, err
	}
	if props.Stack != StackFactory {
		return &props, nil
	}
	if err := build(&props); err != nil {
		return &props, err
	}
	return &props, props.Validate()
}

// plainWord is what a name of the factory's context looks like; those of the CDK
// have other characters in them.
var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

func unknown(app awscdk.App) error {
	var known []string
	for _, s := range settings() {
		known = append(known, s.name)
	}
	context, _ := app.Node().GetAllContext(nil).(map[string]any)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(context)) {
		nearest := problem.Nearest(name, known)
		switch {
		case slices.Contains(known, name):
		case nearest != "":
			errs = append(errs, fmt.Errorf("context %s is unknown; %s is meant?", name, nearest))
		case plainWord.MatchString(name):
			errs = append(errs, fmt.Errorf("context %s is unknown (allowed: %s)", name, strings.Join(known, ", ")))
		}
	}
	return errors.Join(errs...)
}

// textOf is a value of cdk.json as `-c` would have it.
func textOf(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case []any:
		var parts []string
		for _, part := range v {
			parts = append(parts, textOf(part))
		}
		return strings.Join(parts, ",")
	default:
		encoded, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(encoded)
	}
}

// line is one word or line.
type line struct {
	at func(*Props) *string
	ok func(string) bool
}

func (k line) parse(p *Props, s string) error { *k.at(p) = s; return nil }

func (k line) wrong(p *Props) []string {
	if k.ok(*k.at(p)) {
		return nil
	}
	return []string{*k.at(p)}
}

// words is a list of words, or none.
type words struct {
	at func(*Props) *[]string
	ok func(string) bool
}

func (k words) parse(p *Props, s string) error {
	*k.at(p) = nil
	if s != None {
		*k.at(p) = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	}
	return nil
}

func (k words) wrong(p *Props) []string {
	return slices.DeleteFunc(slices.Clone(*k.at(p)), k.ok)
}

// number is a whole number from a least to a most.
type number struct {
	at          func(*Props) *int
	least, most int
}

func (k number) parse(p *Props, s string) (err error) { return parseNumber(k.at(p), s) }

func parseNumber(at *int, s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return errForm
	}
	*at = n
	return nil
}

func (k number) wrong(p *Props) []string {
	if n := *k.at(p); n < k.least || n > k.most {
		return []string{strconv.Itoa(n)}
	}
	return nil
}

// choice is one of some numbers.
type choice struct {
	at      func(*Props) *int
	allowed []int
}

func (k choice) parse(p *Props, s string) error { return parseNumber(k.at(p), s) }

func (k choice) wrong(p *Props) []string {
	if n := *k.at(p); !slices.Contains(k.allowed, n) {
		return []string{strconv.Itoa(n)}
	}
	return nil
}

// decision is yes or no.
type decision struct{ at func(*Props) *bool }

func (k decision) parse(p *Props, s string) error {
	if s != "true" && s != "false" {
		return errForm
	}
	*k.at(p) = s == "true"
	return nil
}

func (decision) wrong(*Props) []string { return nil }

// parameters are those of components.
type parameters struct{}

func (parameters) parse(p *Props, s string) (err error) {
	p.Parameters, err = parametersOf(s)
	return err
}

func (parameters) wrong(*Props) []string { return nil }

// prices are a table of the operator's.
type prices struct{}

// maxPrices leaves room for the rest of what Notify is told, of the 4 KB that
// Lambda takes (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html).
const maxPrices = 2048

func (prices) parse(p *Props, s string) error {
	if _, err := cost.ListPrices(s); err != nil {
		return fmt.Errorf("context prices: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(s)); err != nil {
		return fmt.Errorf("context prices: %w", err)
	}
	if compact.Len() > maxPrices {
		return fmt.Errorf("context prices has %d bytes (allowed: %d, for it is told to a function by its environment): name only what differs, in the regions that are used", compact.Len(), maxPrices)
	}
	p.Prices = compact.String()
	return nil
}

func (prices) wrong(*Props) []string { return nil }

// parametersOf is the context componentParameters as the functions take it.
// Whether there are such components and parameters is checked when a build is
// planned.
func parametersOf(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	var parsed map[string]map[string]any
	if err := json.Unmarshal([]byte(raw), &parsed); err != nil {
		return "", fmt.Errorf(`context componentParameters is not an object of components, such as {"docker":{"logMaxSize":"10m"}}: %w`, err)
	}
	for component, values := range parsed {
		for name, value := range values {
			switch value.(type) {
			case string, float64, bool:
			default:
				return "", fmt.Errorf("context componentParameters: %s.%s is neither text nor a number, true or false", component, name)
			}
		}
	}
	return raw, nil
}

// isExternalID: long enough not to be guessed, and as long as STS takes it
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
func isExternalID(s string) bool {
	return s == "" || (len(s) >= 16 && len(s) <= 1224 && externalID.MatchString(s))
}

// tags are names and values.
type tags struct{}

func (tags) parse(p *Props, s string) (err error) {
	if strings.HasPrefix(s, "{") {
		p.Tags = map[string]string{}
		if json.Unmarshal([]byte(s), &p.Tags) != nil {
			return errForm
		}
		return nil
	}
	p.Tags, err = tagsOf(s)
	return err
}

func (tags) wrong(p *Props) []string { return wrongTags(p.Tags) }

var (
	schedule   = regexp.MustCompile(`^(cron|rate)\([^()]+\)$`)
	timezone   = regexp.MustCompile(`^[A-Za-z]+([/_+-][A-Za-z0-9]+)*$`)
	productARN = regexp.MustCompile(`^arn:aws[a-z-]*:securityhub:[a-z0-9-]+:([0-9]{12})?:product(v2)?/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$`)
	topicARN   = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$`)
	keyARN     = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9*-]+:[0-9]{12}:key/[A-Za-z0-9*-]+$`)
	roleARN    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`)
	oneKeyARN  = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
	externalID = regexp.MustCompile(`^[A-Za-z0-9+=,.@:/-]*$`)
	vpcID      = regexp.MustCompile(`^vpc-[0-9a-f]+$`)
	subnetID   = regexp.MustCompile(`^subnet-[0-9a-f]+$`)
	groupID    = regexp.MustCompile(`^sg-[0-9a-f]+$`)
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	policyName = regexp.MustCompile(`^(arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/)?[A-Za-z0-9+=,.@_/-]+$`)
	rolePath   = regexp.MustCompile(`^/([A-Za-z0-9_.-]+/)*$`)
	namePrefix = regexp.MustCompile(`^[A-Za-z0-9-]{1,24}$`)
	tagText    = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+@-]*$`)
	address    = regexp.MustCompile(`^([^@\s]+@[^@\s]+\.[^@\s]+|https://\S+)$`)
)

func anything(string) bool { return true }

func isAddress(s string) bool { return address.MatchString(s) }

func oneOf(words ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(words, s) }
}

func oneOfOr(form *regexp.Regexp, words ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(words, s) || form.MatchString(s) }
}

func optional(form *regexp.Regexp) func(string) bool {
	return func(s string) bool { return s == "" || form.MatchString(s) }
}

func isRange(s string) bool {
	prefix, err := netip.ParsePrefix(s)
	return err == nil && prefix.Addr().Is4() && prefix == prefix.Masked() && prefix.Bits() >= 16 && prefix.Bits() <= 24
}

func list(numbers []int) string {
	var out []string
	for _, n := range numbers {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, ", ")
}
