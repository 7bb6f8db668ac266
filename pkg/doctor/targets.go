package doctor

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ami-factory/ami-factory/pkg/awserr"
	"github.com/ami-factory/ami-factory/pkg/blueprint"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/failure"
	"github.com/ami-factory/ami-factory/pkg/partition"
	"github.com/ami-factory/ami-factory/pkg/workflow"
)

const (
	// targetsAtOnce bounds how many accounts are looked at at a time.
	targetsAtOnce = 8
	// targetTimeout bounds the look at one account.
	targetTimeout = 20 * time.Second

	deployTargets = "deploy the stack of target accounts there (infra/README.md, Target accounts)"
)

// target is an account that recipes keep pointers in.
type target struct {
	account  string
	pointers map[string][]string // names of parameters by region
}

func (t target) regions() []string {
	var out []string
	for region := range t.pointers {
		out = append(out, region)
	}
	slices.Sort(out)
	return out
}

// targetsOf are the accounts that recipes keep pointers in, sorted.
func targetsOf(recipes []Recipe) []target {
	var out []target
	for _, r := range recipes {
		for _, account := range r.Pointers.Accounts {
			i := slices.IndexFunc(out, func(t target) bool { return t.account == account })
			if i < 0 {
				out, i = append(out, target{account, map[string][]string{}}), len(out)
			}
			for _, to := range r.Distribution.Regions {
				names := append(out[i].pointers[to.Name], r.Pointers.Parameters...)
				slices.Sort(names)
				out[i].pointers[to.Name] = slices.Compact(names)
			}
		}
	}
	slices.SortFunc(out, func(a, b target) int { return strings.Compare(a.account, b.account) })
	return out
}

// targetRole is a role of target accounts as the deployed factory uses it.
type targetRole struct {
	blueprint.TargetRole
	callers    []string // ARNs of the functions' roles that assume it
	externalID string
}

// checkTargets looks at the accounts that recipes keep pointers in, several at a time.
func checkTargets(ctx context.Context, e *examination) []Finding {
	targets := targetsOf(e.home())
	if len(targets) == 0 {
		return []Finding{fine("target accounts", "no recipe keeps pointers in other accounts")}
	}
	roles, found := targetRoles(ctx, e.aws.lambda(), e.deployed.functions)
	if len(found) > 0 {
		return found
	}
	results := make([][]Finding, len(targets))
	slots := make(chan struct{}, targetsAtOnce)
	var looking sync.WaitGroup
	for i, t := range targets {
		slots <- struct{}{}
		looking.Go(func() {
			defer func() { <-slots }()
			limited, cancel := context.WithTimeout(ctx, targetTimeout)
			defer cancel()
			results[i] = e.target(limited, t, roles)
		})
	}
	looking.Wait()
	return slices.Concat(results...)
}

// targetRoles reads from the deployed functions who assumes the roles, and with which
// external id.
func targetRoles(ctx context.Context, api functionAPI, functions map[workflow.Stage]string) ([]targetRole, []Finding) {
	var out []targetRole
	for _, role := range blueprint.TargetRoles() {
		r := targetRole{TargetRole: role}
		for _, name := range role.Callers {
			arn := functions[workflow.Stage(name)]
			if arn == "" {
				continue // it is none of the state machine's
			}
			c, err := api.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &arn})
			if err != nil {
				return nil, []Finding{unread("function "+name, err)}
			}
			env := map[string]string{}
			if c.Environment != nil {
				env = c.Environment.Variables
			}
			if env[contract.EnvTargetRole] == "" {
				return nil, []Finding{problem("function "+name, "name the accounts and the external id in the contexts targetAccounts and targetExternalId, and deploy",
					"the factory is deployed without target accounts, and recipes keep pointers in some: executions end before anything is built")}
			}
			r.callers, r.externalID = append(r.callers, aws.ToString(c.Role)), env[contract.EnvTargetExternal]
		}
		out = append(out, r)
	}
	return out, nil
}

// target looks at one account: with the credentials of Options.TargetRole there, or as
// the reader role where whoever runs this may assume it.
func (e *examination) target(ctx context.Context, t target, roles []targetRole) []Finding {
	looked := "account " + t.account
	name, externalID := e.opts.TargetRole, ""
	if name == "" {
		name, externalID = blueprint.TargetReaderName, roles[0].externalID
	}
	inside, err := e.assume(ctx, blueprint.TargetRoleARN(e.partition, t.account, name), externalID)
	switch {
	case errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return []Finding{notChecked(looked, "AWS did not answer within %s", targetTimeout)}
	case err != nil && e.opts.TargetRole == "" && isDenied(err):
		f := notChecked(looked, "whoever runs this may not assume %s there; it exists for the factory's roles", name)
		f.Fix = "give --target-role a role there that you may assume and that may read IAM, such as OrganizationAccountAccessRole"
		return []Finding{f}
	case err != nil && isDenied(err):
		f := notChecked(looked, "role %s cannot be assumed: it does not exist there, or does not trust whoever runs this (AWS does not say which)", name)
		f.Fix = "name a role with --target-role that exists in every target account"
		return []Finding{f}
	case err != nil:
		return []Finding{unread(looked, err)}
	}
	if e.opts.TargetRole == "" {
		return readPointers(ctx, inside, t, name)
	}
	var out []Finding
	var whole []targetRole // roles that exist
	for _, role := range roles {
		f, exists := e.judgeTargetRole(ctx, inside.iam(), t.account, role)
		if f.Looked = looked; exists {
			whole = append(whole, role)
		}
		out = append(out, f)
	}
	for _, region := range t.regions() {
		if len(whole) > 0 {
			out = append(out, e.pointersIn(ctx, inside.iam(), t, region, whole))
		}
	}
	return out
}

func isDenied(err error) bool {
	return awserr.Classify(err, failure.Internal) == failure.AccessDenied
}

// assume returns clients with a role's credentials.
func (e *examination) assume(ctx context.Context, arn, externalID string) (clients, error) {
	in := &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: aws.String("ami-factory-doctor"), DurationSeconds: aws.Int32(900)}
	if externalID != "" {
		in.ExternalId = &externalID
	}
	got, err := e.aws.sts().AssumeRole(ctx, in)
	if err != nil {
		return clients{}, err
	}
	cfg := e.aws.cfg.Copy()
	cfg.Credentials = credentials.NewStaticCredentialsProvider(aws.ToString(got.Credentials.AccessKeyId), aws.ToString(got.Credentials.SecretAccessKey), aws.ToString(got.Credentials.SessionToken))
	return clients{cfg}, nil
}

// readPointers reads the pointers as the reader role, whose sessions see nothing else.
func readPointers(ctx context.Context, inside clients, t target, role string) []Finding {
	var out []Finding
	for _, region := range t.regions() {
		looked := "account " + t.account + " in " + region
		api := ssm.NewFromConfig(inside.cfg, func(o *ssm.Options) { o.Region = region })
		var denied []string
		var failed error
		for _, name := range t.pointers[region] {
			_, err := api.GetParameter(ctx, &ssm.GetParameterInput{Name: &name})
			switch {
			case err == nil || awserr.IsNotFound(err): // no pointer yet
			case isDenied(err):
				denied = append(denied, name)
			default:
				failed = err
			}
		}
		switch {
		case len(denied) > 0:
			out = append(out, problem(looked, deployTargets, "role %s may not read %s: executions end AccessDenied before anything is built", role, list(denied)))
		case failed != nil:
			out = append(out, unread(looked, failed))
		default:
			out = append(out, fine(looked, "role %s can be assumed and reads the pointers; whether %s may move them needs --target-role", role, blueprint.TargetWriterName))
		}
	}
	return out
}

type targetAPI interface {
	GetRole(context.Context, *iam.GetRoleInput, ...func(*iam.Options)) (*iam.GetRoleOutput, error)
	iam.SimulatePrincipalPolicyAPIClient
}

// judgeTargetRole says whether a role exists and trusts the factory.
func (e *examination) judgeTargetRole(ctx context.Context, api targetAPI, account string, role targetRole) (f Finding, exists bool) {
	got, err := api.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(role.Name)})
	switch {
	case awserr.Is(err, "NoSuchEntity", "NoSuchEntityException"):
		return problem("", deployTargets, "role %s does not exist: executions end AccessDenied before anything is built", role.Name), false
	case err != nil:
		return unread("", err), false
	}
	document, err := decodedPolicy(aws.ToString(got.Role.AssumeRolePolicyDocument))
	if err != nil {
		return notChecked("", "the trust policy of role %s is not understood: %v", role.Name, err), true
	}
	if wrong := document.distrusts(e.account, role); len(wrong) > 0 {
		return problem("", deployTargets+" with this factory's external id and role ARNs", "role %s does not trust the factory: %s", role.Name, strings.Join(wrong, "; ")), true
	}
	return fine("", "role %s trusts the factory's roles", role.Name), true
}

// distrusts lists what in a trust policy keeps the factory's roles from assuming a
// role.
func (p resourcePolicy) distrusts(account string, role targetRole) []string {
	var reasons []string
	for _, s := range p.Statement {
		if s.Effect != "Allow" || !s.about("sts:AssumeRole") {
			continue
		}
		wrong := s.refuses(account, role)
		if len(wrong) == 0 {
			return nil
		}
		reasons = append(reasons, wrong...)
	}
	if len(reasons) == 0 {
		return []string{"no statement allows sts:AssumeRole"}
	}
	return reasons
}

func (s statement) refuses(account string, role targetRole) []string {
	var out []string
	for _, arn := range role.callers {
		if !s.names(caller{account: account, arn: arn}) {
			return []string{"its principal is not the factory's account " + account}
		}
	}
	for operator, keys := range s.Condition {
		for key, values := range keys {
			holds := func(value string) bool {
				return slices.ContainsFunc(values, func(v string) bool { ok, err := path.Match(v, value); return v == value || ok && err == nil })
			}
			switch {
			case strings.Contains(operator, "Not"):
			case strings.EqualFold(key, "sts:ExternalId") && !holds(role.externalID):
				out = append(out, fmt.Sprintf("it asks for another external id than the factory's, %s", role.externalID))
			case strings.EqualFold(key, "aws:PrincipalArn"):
				for _, arn := range role.callers {
					if !holds(arn) {
						out = append(out, "it does not name "+arn)
					}
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// pointersIn asks IAM whether the roles may do with a region's pointers what the
// factory does with them.
func (e *examination) pointersIn(ctx context.Context, api targetAPI, t target, region string, roles []targetRole) Finding {
	looked := "account " + t.account + " in " + region
	var arns []string
	for _, name := range t.pointers[region] {
		arns = append(arns, partition.ARN("ssm", region, t.account, "parameter"+name))
	}
	var denied []string
	for _, role := range roles {
		for _, s := range role.Policy(e.partition, t.account) {
			resources := []string{"*"}
			if slices.ContainsFunc(s.Resources, func(r string) bool { return strings.Contains(r, ":parameter/") }) {
				resources = arns
			}
			no, err := deniedTo(ctx, api, blueprint.TargetRoleARN(e.partition, t.account, role.Name), s.Actions, resources)
			if err != nil {
				return unread(looked, err)
			}
			for _, d := range no {
				denied = append(denied, role.Name+" may not "+d)
			}
		}
	}
	if len(denied) > 0 {
		return problem(looked, deployTargets+"; look for a service control policy or permissions boundary", "%s: images are built and then not published", strings.Join(denied, "; "))
	}
	return fine(looked, "the roles may read and move %s", list(t.pointers[region]))
}

// deniedTo lists the actions, with their resource, that a role's policies do not allow.
func deniedTo(ctx context.Context, api iam.SimulatePrincipalPolicyAPIClient, role string, actions, resources []string) ([]string, error) {
	var out []string
	pages := iam.NewSimulatePrincipalPolicyPaginator(api, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: &role, ActionNames: actions, ResourceArns: resources})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.EvaluationResults {
			if r.EvalDecision != iamtypes.PolicyEvaluationDecisionTypeAllowed {
				on := aws.ToString(r.EvalResourceName)
				if on != "*" {
					on = on[strings.LastIndex(on, ":parameter/")+len(":parameter"):]
				}
				out = append(out, aws.ToString(r.EvalActionName)+" on "+on)
			}
		}
	}
	return out, nil
}
