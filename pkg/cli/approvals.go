package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/approval"
	"github.com/ami-factory/ami-factory/pkg/contract"
	"github.com/ami-factory/ami-factory/pkg/execution"
	"github.com/ami-factory/ami-factory/pkg/rehearsal"
)

// door says where people answer, and as whom.
type door struct {
	url, region, role, person string
	flag                      string // that gives the address, where it is not --url
}

func (d *door) register(c *cobra.Command) {
	c.Flags().StringVar(&d.url, "url", "", "`address` of the function URL of approvals, the stack's output ApprovalUrl (default: $"+contract.EnvApprovalURL+")")
	c.Flags().StringVar(&d.region, "region", "", "where the factory is deployed (default: that of the AWS configuration)")
	c.Flags().StringVar(&d.role, "role", "", "`ARN` of the role to assume, with --as (default: $"+contract.EnvApproverRole+", which \"local env\" prints)")
	c.Flags().StringVar(&d.person, "as", "", "`name` of the session in which that role is assumed; without it, the configured credentials must be a person's session")
}

// client signs requests with the credentials of the person.
func (d door) client(ctx context.Context) (approval.Client, error) {
	flag := cmp.Or(d.flag, "--url")
	where, address := flag, d.url
	if address == "" {
		where, address = contract.EnvApprovalURL, os.Getenv(contract.EnvApprovalURL)
	}
	if address == "" {
		return approval.Client{}, usage("the function URL of approvals is not known: give %s or set %s", flag, contract.EnvApprovalURL)
	}
	if err := approval.CheckURL(address); err != nil {
		return approval.Client{}, usage("%s: %w", where, err)
	}
	cfg, err := awsConfig(ctx, d.region)
	if err != nil {
		return approval.Client{}, err
	}
	role := d.role
	if role == "" && d.person != "" {
		role = os.Getenv(contract.EnvApproverRole)
	}
	switch {
	case d.person != "" && role == "":
		return approval.Client{}, usage("--as needs a role: set %s", contract.EnvApproverRole)
	case d.person == "" && d.role != "":
		return approval.Client{}, usage("--role needs --as, the name of the session")
	case d.person != "":
		out, err := sts.NewFromConfig(cfg).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: &d.person})
		if err != nil {
			return approval.Client{}, fmt.Errorf("a session of %s for %s: %w", role, d.person, err)
		}
		k := out.Credentials
		cfg.Credentials = credentials.NewStaticCredentialsProvider(aws.ToString(k.AccessKeyId), aws.ToString(k.SecretAccessKey), aws.ToString(k.SessionToken))
	}
	return approval.Client{URL: address, AWS: cfg, HTTP: http.DefaultClient}, nil
}

func (a *app) approvals() *cobra.Command {
	var at door
	c := &cobra.Command{
		Use:   "approvals",
		Short: "List the releases that wait for people",
		Long: `List the releases that wait for approvals: the execution, what it was started by, how many
have approved, until when it waits, and the digest of its evidence, which an answer must
name.

The request is signed with the configured credentials. They must be those of a person:
a session of IAM Identity Center in the factory's account, or of a role that the
deployment names. In a rehearsal, "local env" sets what is needed, and --as plays a
person.

Exit codes: 0 listed, 1 refused or failed, 2 wrong usage.`,
		Example: `  ami-factory approvals --url https://abcdefghij.lambda-url.eu-west-1.on.aws/
  ami-factory approvals show debian-12-docker-20261130T030000Z
  ami-factory approvals --as anna --output json`,
		Args: takes(),
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := at.client(c.Context())
			if err != nil {
				return err
			}
			all, err := client.Waiting(c.Context())
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.json(all)
			}
			if len(all) == 0 {
				_, err := fmt.Fprintln(a.out, "nothing waits for an approval")
				return err
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "EXECUTION\tRECIPE\tSTARTED BY\tAPPROVED\tUNTIL\tDIGEST")
			for _, s := range all {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d of %d\t%s\t%s\n", s.Execution, s.Recipe, s.Requester, len(s.Approvals), s.Needed, s.Expires.Format(time.RFC3339), s.BundleDigest)
			}
			return w.Flush()
		},
	}
	at.register(c)
	c.AddCommand(a.showApproval())
	return c
}

func (a *app) showApproval() *cobra.Command {
	var at door
	c := &cobra.Command{
		Use:   "show RUN",
		Short: "Show what people are asked to approve",
		Long: `Show what a release that waits for approvals is: the verdict of the gate, known
vulnerabilities by severity, waivers, images by region, who started it, until when it
waits, and what people have answered so far. RUN is the name of the execution.

It is the short form; "report" has the page, and "evidence show" the signed evidence.

Exit codes: 0 shown, 1 refused or failed, 2 wrong usage.`,
		Example: `  ami-factory approvals show debian-12-docker-20261130T030000Z
  ami-factory approvals show debian-12-docker-20261130T030000Z --output json`,
		Args: takes("one RUN"),
		RunE: func(c *cobra.Command, given []string) error {
			if err := execution.CheckName(given[0]); err != nil {
				return usage("RUN: %w", err)
			}
			client, err := at.client(c.Context())
			if err != nil {
				return err
			}
			all, err := client.Waiting(c.Context())
			if err != nil {
				return err
			}
			s, err := waitingOf(all, given[0])
			if err != nil {
				return err
			}
			if a.format == "json" {
				return a.json(s)
			}
			_, err = fmt.Fprint(a.out, describeRequest(s))
			return err
		},
	}
	at.register(c)
	return c
}

func (a *app) approve() *cobra.Command {
	return a.decide(approval.Approve, "Approve a release that waits for people", "ami-factory approve debian-12-docker-20261130T030000Z --digest 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae --reason \"read the report and the diff\"")
}

func (a *app) reject() *cobra.Command {
	return a.decide(approval.Reject, "Reject a release that waits for people, which ends it", "ami-factory reject debian-12-docker-20261130T030000Z --digest 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae --reason \"the kernel is not the tested one\"")
}

func (a *app) decide(decision approval.Decision, short, example string) *cobra.Command {
	var at door
	var digest, reason string
	var yes bool
	c := &cobra.Command{
		Use:   string(decision) + " RUN",
		Short: short,
		Long: short + `. RUN is the name of the execution.

--digest is the SHA-256 of the manifest that you have read: an answer is about that
evidence and nothing else. "approvals" prints it, and so does the message. What waits is
shown first, as "approvals show" does; the answer is sent only if RUN waits with this
digest. On a terminal you are asked before it is sent, unless --yes is given.

An answer cannot be changed. Whoever started the execution, and the author of a waiver in
it, may not answer. One rejection ends the release.

Exit codes: 0 the answer is kept, 1 it is refused, 2 wrong usage.`,
		Example: "  " + example,
		Args:    takes("one RUN"),
		RunE: func(c *cobra.Command, given []string) error {
			return a.runDecide(c.Context(), at, given[0], approval.AnswerRequest{Digest: digest, Decision: decision, Reason: reason}, yes)
		},
	}
	at.register(c)
	c.Flags().StringVar(&digest, "digest", "", "`SHA-256` of the manifest of the evidence")
	c.Flags().StringVar(&reason, "reason", "", "`text` that auditors read, 5 to 1000 characters")
	c.Flags().BoolVar(&yes, "yes", false, "send the answer without asking on the terminal")
	return c
}

func (a *app) runDecide(ctx context.Context, at door, run string, in approval.AnswerRequest, yes bool) error {
	if err := execution.CheckName(run); err != nil {
		return usage("RUN: %w", err)
	}
	if err := approval.CheckDigest(in.Digest); err != nil {
		return usage("--digest: %w", err)
	}
	if err := approval.CheckReason(in.Reason); err != nil {
		return usage("--reason: %w", err)
	}
	client, err := at.client(ctx)
	if err != nil {
		return err
	}
	all, err := client.Waiting(ctx)
	if err != nil {
		return err
	}
	s, err := waitingAs(all, run, in.Digest)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprint(a.err, describeRequest(s))
	if !yes {
		if err := a.ask(fmt.Sprintf("%s the release %s? ", in.Decision, run)); err != nil {
			return err
		}
	}
	s, err = client.Answer(ctx, in)
	if err != nil {
		return err
	}
	if a.format == "json" {
		return a.json(s)
	}
	_, err = fmt.Fprintf(a.out, "%s is %s: %d of %d approvals\n", run, s.Status, len(s.Approvals), s.Needed)
	return err
}

// startBuild starts an execution: through the function URL of approvals if the caller
// names it or a person, and with directly otherwise.
func startBuild(ctx context.Context, through door, in contract.ExecutionInput, name string, directly func() (string, error)) (string, error) {
	if through.url == "" && through.person == "" {
		return directly()
	}
	client, err := through.client(ctx)
	if err != nil {
		return "", err
	}
	out, err := client.Build(ctx, approval.BuildRequest{ExecutionInput: in, Name: name})
	return out.ExecutionARN, err
}

// asked plays the people of a rehearsal, or says how to answer.
func (a *app) asked(show *display, people []string) func(context.Context, *rehearsal.Factory, approval.Request) {
	return func(ctx context.Context, f *rehearsal.Factory, r approval.Request) {
		approved := 0
		for _, person := range people {
			client, err := f.As(ctx, person)
			if err == nil {
				_, err = client.Answer(ctx, approval.AnswerRequest{Digest: r.BundleDigest, Decision: approval.Approve, Reason: "rehearsal with --approve-as"})
			}
			if err != nil {
				show.note(fmt.Sprintf("%s may not approve: %v", person, err))
				continue
			}
			approved++
			show.note(person + " approves the release")
		}
		if approved >= r.Needed {
			return
		}
		show.note(fmt.Sprintf("the release waits for %d approval(s) until %s; answer from another terminal, each person with a name after --as:\n  %s %s=%s %s=%s ami-factory approve %s --digest %s --reason \"...\" --as NAME",
			r.Needed-approved, r.Expires.Format(time.RFC3339), strings.Join(f.Cloud.Environment(), " "), contract.EnvApprovalURL, f.ApprovalURL, contract.EnvApproverRole, f.Approver, r.Execution, r.BundleDigest))
	}
}

// ask asks a question on the terminal, to which only y and yes let go on. Without a
// terminal it does not ask: the digest on the command line is the confirmation.
func (a *app) ask(question string) error {
	if !isTerminal(a.in) {
		return nil
	}
	_, _ = fmt.Fprint(a.err, question+"[y/N] ")
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read your answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was sent")
}

// waitingAs is what waits for an execution, if its evidence has a digest.
func waitingAs(all []approval.Standing, run, digest string) (approval.Standing, error) {
	s, err := waitingOf(all, run)
	if err == nil && s.BundleDigest != digest {
		err = fmt.Errorf("%s waits with the evidence %s, not %s: read that first", run, s.BundleDigest, digest)
	}
	return s, err
}

// waitingOf is what waits for an execution.
func waitingOf(all []approval.Standing, run string) (approval.Standing, error) {
	for _, s := range all {
		if s.Execution == run {
			return s, nil
		}
	}
	return approval.Standing{}, errors.New(run + " does not wait for an approval; \"approvals\" lists what does")
}

// describeRequest shows a person what they decide about.
func describeRequest(s approval.Standing) string {
	var b strings.Builder
	row := rows(&b)
	for _, one := range s.Describe() {
		row(one.Label, "%s", one.Text)
	}
	row("approved", "%d of %d, until %s", len(s.Approvals), s.Needed, s.Expires.Format(time.RFC3339))
	for _, one := range s.Approvals {
		row("", "%s", approval.Line(one.Person+": "+one.Reason))
	}
	return b.String()
}
