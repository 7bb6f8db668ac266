// Package doctor looks at an AWS account and says whether a factory that is
// deployed there, or is about to be, can work: by reading only. Each check reads
// through a narrow interface, and a function without any judges what was read.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// Verdict says how something is.
type Verdict string

// The verdicts, from good to bad. What was not checked is neither.
const (
	OK         Verdict = "ok"
	NotChecked Verdict = "not checked"
	Warning    Verdict = "warning" // works, or works for now; somebody should know
	Problem    Verdict = "problem" // something the factory does will fail
)

// Finding is what one look at one thing has shown.
type Finding struct {
	Check   string  `json:"check"`         // such as keys
	Looked  string  `json:"lookedAt"`      // what was looked at
	Verdict Verdict `json:"verdict"`       // ok | warning | problem | not checked
	Means   string  `json:"means"`         // what was found and what follows, or why it was not checked
	Fix     string  `json:"fix,omitempty"` // the command, or the place in the console
}

// Options say what is examined.
type Options struct {
	Recipes      []Recipe
	StateMachine string // ARN; empty: the one of the name that every deployment has
	Version      string // of this program, to compare what is deployed with
	// Subnets and SecurityGroups of builders, for a factory that is not deployed
	// yet. A deployed one knows its own.
	Subnets        []string
	SecurityGroups []string
	// TargetRole is the name of a role in every target account that may read IAM there.
	// Empty: they are looked at as the factory's reader, if whoever asks may be that.
	TargetRole string
	// Progress receives the name of the next check. May be nil.
	Progress func(check string)
}

// Recipe is a recipe and what is not in its own file.
type Recipe struct {
	*recipe.Recipe
	Secrets []string // names of the secrets that its agents read when an instance boots
}

// check is one row of the table. needs says what of the deployment it cannot do
// without; such a check says "not deployed yet" before there is one.
type check struct {
	name          string
	needsDeployed bool
	run           func(context.Context, *examination) []Finding
}

// checks is the table, in the order in which a reader wants to know.
func checks() []check {
	return []check{
		{name: "deployment", run: checkDeployment},
		{name: "functions", needsDeployed: true, run: checkFunctions},
		{name: "regions", run: checkRegions},
		{name: "sources", run: checkSources},
		{name: "instance types", run: checkInstanceTypes},
		{name: "subnets", run: checkSubnets},
		{name: "security groups", run: checkSecurityGroups},
		{name: "quotas", run: checkQuotas},
		{name: "keys", run: checkKeys},
		{name: "volume encryption", run: checkVolumeEncryption},
		{name: "public access", run: checkPublicAccess},
		{name: "allowed images", run: checkAllowedImages},
		{name: "instance profile", needsDeployed: true, run: checkInstanceProfile},
		{name: "documents", needsDeployed: true, run: checkScriptDocument},
		{name: "bucket", needsDeployed: true, run: checkBucket},
		{name: "topic", needsDeployed: true, run: checkTopic},
		{name: "announcements", needsDeployed: true, run: checkAnnouncements},
		{name: "rules", needsDeployed: true, run: checkRules},
		{name: "forwards", needsDeployed: true, run: checkForwards},
		{name: "schedules", needsDeployed: true, run: checkSchedules},
		{name: "target accounts", needsDeployed: true, run: checkTargets},
		{name: "dead letters", needsDeployed: true, run: checkDeadLetters},
		{name: "secrets", run: checkSecrets},
	}
}

// examination is one run: who asks, what is deployed, and what several checks
// have to know.
type examination struct {
	aws       clients
	opts      Options
	account   string
	partition string
	region    string // of the factory
	deployed  factory
	memo      map[string]memo // of places
}

// Run examines the account and region of a configuration. It never fails: what
// cannot be read is a finding that says so, and so is what was left when ctx ended.
func Run(ctx context.Context, cfg aws.Config, opts Options) []Finding {
	if opts.Progress == nil {
		opts.Progress = func(string) {}
	}
	e := &examination{aws: clients{cfg}, opts: opts, region: cfg.Region, memo: map[string]memo{}}
	opts.Progress("identity")
	who := checkIdentity(ctx, e)
	out := named("identity", who)
	for _, c := range checks() {
		switch {
		case who[0].Verdict != OK:
			out = append(out, named(c.name, []Finding{notChecked("", "who asks is not known, so no other answer would mean anything")})...)
		case ctx.Err() != nil:
			out = append(out, named(c.name, []Finding{notChecked("", "interrupted")})...)
		case c.needsDeployed && !e.deployed.found():
			out = append(out, named(c.name, []Finding{notChecked("", "%s", e.deployed.why)})...)
		default:
			opts.Progress(c.name)
			found := c.run(ctx, e)
			if len(found) == 0 {
				found = []Finding{notChecked("", "no recipe is built in this region, so there is nothing to look at")}
			}
			out = append(out, named(c.name, found)...)
		}
	}
	return out
}

func named(check string, found []Finding) []Finding {
	for i := range found {
		found[i].Check = check
	}
	return found
}

// Worst is the worst verdict of findings; what was not checked does not count.
func Worst(findings []Finding) Verdict {
	worst := OK
	for _, f := range findings {
		if f.Verdict == Problem || f.Verdict == Warning && worst == OK {
			worst = f.Verdict
		}
	}
	return worst
}

func fine(looked, format string, args ...any) Finding {
	return Finding{Looked: looked, Verdict: OK, Means: fmt.Sprintf(format, args...)}
}

func warning(looked, fix, format string, args ...any) Finding {
	return Finding{Looked: looked, Verdict: Warning, Fix: fix, Means: fmt.Sprintf(format, args...)}
}

func problem(looked, fix, format string, args ...any) Finding {
	return Finding{Looked: looked, Verdict: Problem, Fix: fix, Means: fmt.Sprintf(format, args...)}
}

func notChecked(looked, format string, args ...any) Finding {
	return Finding{Looked: looked, Verdict: NotChecked, Means: fmt.Sprintf(format, args...)}
}

// unread is the finding of a call that failed: nothing is known of what it would
// have read.
func unread(looked string, err error) Finding {
	f := notChecked(looked, "%s", awserr.Brief(err))
	action := actionOf(err)
	if awserr.Classify(err, failure.Internal) == failure.AccessDenied && action != "" {
		f.Fix = "allow " + action + " to who runs this, and run it again"
	}
	return f
}

// actionOf is the IAM action of a call that failed. Actions are named as calls
// are, with the exceptions that the Service Authorization Reference lists.
func actionOf(err error) string {
	var op *smithy.OperationError
	if !errors.As(err, &op) {
		return ""
	}
	prefix := map[string]string{
		"EC2": "ec2", "KMS": "kms", "SFN": "states", "SNS": "sns", "SSM": "ssm", "S3": "s3", "Lambda": "lambda", "IAM": "iam", "STS": "sts",
		"Service Quotas": "servicequotas", "EventBridge": "events", "Scheduler": "scheduler", "SQS": "sqs", "Secrets Manager": "secretsmanager",
	}[op.Service()]
	name := op.Operation()
	if exception, ok := map[string]string{"GetBucketNotificationConfiguration": "GetBucketNotification", "GetPublicAccessBlock": "GetBucketPublicAccessBlock", "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration"}[name]; ok {
		name = exception
	}
	if prefix == "" {
		return ""
	}
	return prefix + ":" + name
}

// names of recipes, for what is looked at.
func names(recipes []Recipe) string {
	var out []string
	for _, r := range recipes {
		out = append(out, r.Name)
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ", ")
}

// groups puts recipes together that share something, in the order in which each
// first has it.
type groups struct {
	keys []string
	of   map[string][]Recipe
}

func grouped(recipes []Recipe, key func(Recipe) string) groups {
	g := groups{of: map[string][]Recipe{}}
	for _, r := range recipes {
		k := key(r)
		if _, ok := g.of[k]; !ok {
			g.keys = append(g.keys, k)
		}
		g.of[k] = append(g.of[k], r)
	}
	return g
}

// home are the recipes that this factory builds; others belong to one elsewhere.
func (e *examination) home() []Recipe {
	var out []Recipe
	for _, r := range e.opts.Recipes {
		if r.Home().Name == e.region {
			out = append(out, r)
		}
	}
	return out
}

// regions are those that the recipes built here go to, sorted, the factory's own
// included.
func (e *examination) regions() []string {
	out := []string{e.region}
	for _, r := range e.home() {
		for _, to := range r.Distribution.Regions {
			out = append(out, to.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
