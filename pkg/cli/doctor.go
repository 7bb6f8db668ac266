package cli

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/component"
	"github.com/ami-factory/ami-factory/pkg/doctor"
	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// examine is what the flags of doctor say.
type examine struct {
	deployed
	recipes         []string
	endpoint        string
	subnets, groups []string
	targetRole      string
	given           parameters
}

func (a *app) doctor() *cobra.Command {
	var what examine
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check that an account and region let the factory work, without changing anything",
		Long: `Check an AWS account and region, and report what keeps a factory from working that
is deployed there, or will be: regions, sources, instance types, subnets and their
route to SSM and S3, security groups, quotas, keys and their policies, settings of
the account, and what is deployed. Doctor only reads. Of secrets it reads whether
there is a value, not the value.

Each line of the report, on stdout, says what was checked and the verdict: ok;
warning (it works, but you should know); problem (something will fail); or not
checked, with the reason, such as a call that is denied. The lines below it say how
to fix it.

The settings of the deployed functions say which subnets, groups, bucket and topic
are the factory's. Before the factory is deployed, give --subnet-ids and
--security-group-ids as you will give the context of the same names; without them
the default VPC is checked.

In the accounts that recipes keep pointers in, doctor looks at the roles of the
factory: whether they exist, whom they trust, and whether they may read and move the
pointers. For that, --target-role names a role in these accounts that you may assume.

Doctor does not check what it cannot read: network ACLs, firewalls, policies of
endpoints and of the organisation, and whether a base image has the SSM agent. The
factory needs no service-linked role and no Default Host Management.

Exit codes: 0 no problem, 1 there are problems, 2 wrong usage, 130 interrupted.`,
		Example: `  ami-factory doctor
  ami-factory doctor --region eu-west-1 --recipe debian-12-docker
  ami-factory doctor --subnet-ids subnet-0123456789abcdef0 --security-group-ids sg-0123456789abcdef0
  ami-factory doctor --output json | jq '.findings[] | select(.verdict == "problem")'`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error { return a.runDoctor(c.Context(), what) },
	}
	what.register(c)
	what.given.register(c)
	a.registerUserData(c)
	c.Flags().StringSliceVar(&what.recipes, "recipe", nil, "`recipes` to check for (default: all)")
	_ = c.RegisterFlagCompletionFunc("recipe", always(a.recipes)) // the flag exists
	c.Flags().StringVar(&what.endpoint, "endpoint-url", "", "`URL` of an AWS endpoint, such as that of \"local up\" (default: $AWS_ENDPOINT_URL)")
	c.Flags().StringVar(&what.targetRole, "target-role", "", "`name` of a role in every target account that may read IAM there, such as OrganizationAccountAccessRole")
	c.Flags().StringSliceVar(&what.subnets, "subnet-ids", nil, "`ids` of the builders' subnets, before the factory is deployed")
	c.Flags().StringSliceVar(&what.groups, "security-group-ids", nil, "`ids` of the builders' security groups, before the factory is deployed")
	return c
}

func (a *app) runDoctor(ctx context.Context, what examine) error {
	if err := checkIDs("subnet-ids", "subnet-", what.subnets); err != nil {
		return err
	}
	if err := checkIDs("security-group-ids", "sg-", what.groups); err != nil {
		return err
	}
	recipes, err := a.recipesToExamine(what)
	if err != nil {
		return err
	}
	cfg, err := awsConfig(ctx, what.region)
	if err != nil {
		return err
	}
	if what.endpoint != "" {
		if u, err := url.Parse(what.endpoint); err != nil || u.Host == "" {
			return usage("--endpoint-url %q is not a URL such as http://127.0.0.1:4566", what.endpoint)
		}
		cfg.BaseEndpoint = aws.String(what.endpoint)
	}
	machine, err := what.arn()
	if err != nil {
		return err
	}
	findings := doctor.Run(ctx, cfg, doctor.Options{
		Recipes: recipes, StateMachine: machine, Version: version(), Subnets: what.subnets, SecurityGroups: what.groups, TargetRole: what.targetRole,
		Progress: func(check string) { _, _ = fmt.Fprintln(a.err, "checking", check) },
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if a.format == "json" {
		err = a.json(map[string]any{"findings": findings, "verdict": doctor.Worst(findings)})
	} else {
		err = writeFindings(a.out, findings)
	}
	if err == nil && doctor.Worst(findings) == doctor.Problem {
		return &exitError{code: exitFailed}
	}
	return err
}

// checkIDs refuses ids that EC2 cannot have given.
func checkIDs(flag, prefix string, ids []string) error {
	for _, id := range ids {
		if hex, ok := strings.CutPrefix(id, prefix); !ok || !hexadecimal.MatchString(hex) {
			return usage("--%s: %q is not an id such as %s0123456789abcdef0", flag, id, prefix)
		}
	}
	return nil
}

var hexadecimal = regexp.MustCompile(`^[0-9a-f]{8,17}$`)

// recipesToExamine loads the recipes that are named, or all, and what their
// agents read.
func (a *app) recipesToExamine(what examine) ([]doctor.Recipe, error) {
	fsys, err := a.userdataFS()
	if err != nil {
		return nil, err
	}
	known, err := recipe.Names(fsys)
	if err != nil {
		return nil, err
	}
	wanted := what.recipes
	if len(wanted) == 0 {
		wanted = known
	}
	var out []doctor.Recipe
	for _, name := range wanted {
		if !slices.Contains(known, name) {
			near := ""
			if found := problem.Nearest(name, known); found != "" {
				near = fmt.Sprintf("; did you mean %q?", found)
			}
			return nil, usage("--recipe: there is no recipe %q%s (there are: %s)", name, near, strings.Join(known, ", "))
		}
		r, err := recipeToExamine(fsys, name, what.given.values)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil, usage("there are no recipes, so there is nothing to check for; --userdata says where they are")
	}
	return out, nil
}

// secretParameter is what components call the parameter that names the secret
// which their agent reads.
const secretParameter = "secret"

func recipeToExamine(fsys fs.FS, name string, given component.Deployment) (doctor.Recipe, error) {
	r, problems, err := recipe.Load(fsys, name, recipe.Options{Now: time.Now()})
	if err != nil {
		return doctor.Recipe{}, err
	}
	selected, more, err := component.Select(fsys, r, given)
	if err != nil {
		return doctor.Recipe{}, err
	}
	if err := append(problems, more...).Err(); err != nil {
		return doctor.Recipe{}, err
	}
	out := doctor.Recipe{Recipe: r}
	for _, s := range selected {
		if secret := s.Values[secretParameter]; secret != "" {
			out.Secrets = append(out.Secrets, secret)
		}
	}
	return out, nil
}

// writeFindings writes one line for each, by check, and how to fix it below.
func writeFindings(w io.Writer, findings []doctor.Finding) error {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%-17s  %-11s  %s\n", "CHECK", "VERDICT", "WHAT WAS LOOKED AT, AND WHAT IT MEANS")
	last := ""
	count := map[doctor.Verdict]int{}
	for _, f := range findings {
		count[f.Verdict]++
		check := f.Check
		if check == last {
			check = ""
		}
		last = f.Check
		text := f.Means
		if f.Looked != "" {
			text = f.Looked + ": " + f.Means
		}
		_, _ = fmt.Fprintf(&b, "%-17s  %-11s  %s\n", check, f.Verdict, text)
		if f.Fix != "" {
			_, _ = fmt.Fprintf(&b, "%-17s  %-11s  -> %s\n", "", "", f.Fix)
		}
	}
	_, _ = fmt.Fprintf(&b, "\n%d ok, %s, %s, %d not checked\n", count[doctor.OK], several(count[doctor.Warning], "warning"), several(count[doctor.Problem], "problem"), count[doctor.NotChecked])
	_, err := io.WriteString(w, b.String())
	return err
}

func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
