package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/plan"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/pkg/waiver"
)

// waiverView is a waiver as "waivers list" prints it in JSON.
type waiverView struct {
	Control        string   `json:"control,omitempty"`
	Vulnerability  string   `json:"vulnerability,omitempty"`
	Package        string   `json:"package,omitempty"`
	FalsePositive  string   `json:"falsePositive,omitempty"` // why the image is not affected
	Reason         string   `json:"reason"`
	Author         string   `json:"author"`
	Approver       string   `json:"approver"`
	SecondApprover string   `json:"secondApprover,omitempty"`
	Created        string   `json:"created"`
	Expires        string   `json:"expires"`
	DaysLeft       int      `json:"daysLeft"` // today included; 0 if it has ended
	Scope          string   `json:"scope"`
	Recipes        []string `json:"recipes"` // that the scope includes
	Where          string   `json:"where"`   // file:line:column
}

func (a *app) waivers() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the waivers of recipes and those that recipes share",
		Long: `List all waivers on stdout, those that end first at the top: those in recipes, at
checks.waivers, and those that recipes share, in the folder waivers. A waiver with 0
days left has ended. "ami-factory lint" reports what is wrong with them.`,
		Example: "  ami-factory waivers list\n  ami-factory waivers list --output json | jq '.[] | select(.daysLeft <= 14)'",
		Args:    takes(),
		RunE:    func(*cobra.Command, []string) error { return a.listWaivers(time.Now()) },
	}
	a.registerUserData(list)
	return group(&cobra.Command{
		Use:     "waivers",
		Short:   "List what is accepted for a time: failed controls and vulnerabilities",
		Long:    `List waivers: failed controls and vulnerabilities that are accepted for a reason and a time.`,
		Example: "  ami-factory waivers list",
	}, list)
}

func (a *app) listWaivers(now time.Time) error {
	fsys, err := a.userdataFS()
	if err != nil {
		return err
	}
	c, err := plan.Open(fsys, nil, now)
	if err != nil {
		return err
	}
	views := []waiverView{}
	for _, r := range c.Recipes() {
		for i, w := range r.Checks.Waivers {
			p := r.Problem(fmt.Sprintf("checks.waivers[%d]", i), "", "")
			v := viewOf(waiver.Waiver(w), now)
			v.Scope, v.Recipes, v.Where = "recipe "+r.Name, []string{r.Name}, fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
			views = append(views, v)
		}
	}
	for _, s := range c.Waivers().All() {
		v := viewOf(s.Waiver, now)
		v.Scope, v.Recipes, v.Where = s.Scope.String(), recipesOf(s.Scope, c.Recipes()), s.Place()
		views = append(views, v)
	}
	slices.SortStableFunc(views, func(a, b waiverView) int { return cmp.Compare(a.DaysLeft, b.DaysLeft) })
	if a.format == "json" {
		return a.json(views)
	}
	if len(views) == 0 {
		_, err := fmt.Fprintln(a.err, "no waivers")
		return err
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "WAIVED\tDAYS LEFT\tEXPIRES\tAPPROVED BY\tSCOPE\tWHERE")
	for _, v := range views {
		left := strconv.Itoa(v.DaysLeft)
		if v.DaysLeft == 0 {
			left = "ended"
		}
		approvers := v.Approver
		if v.SecondApprover != "" {
			approvers += ", " + v.SecondApprover
		}
		subject := waiver.Waiver{Control: v.Control, Vulnerability: v.Vulnerability, Package: v.Package}.Subject()
		if v.FalsePositive != "" {
			subject += " (false positive)"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", subject, left, v.Expires, approvers, v.Scope, v.Where)
	}
	return w.Flush()
}

func viewOf(w waiver.Waiver, now time.Time) waiverView {
	return waiverView{
		Control: w.Control, Vulnerability: w.Vulnerability, Package: w.Package, FalsePositive: w.FalsePositive.Justification, Reason: w.Reason,
		Author: w.Author, Approver: w.Approver, SecondApprover: w.SecondApprover,
		Created: w.Created, Expires: w.Expires, DaysLeft: w.DaysLeft(now),
	}
}

func recipesOf(s waiver.Scope, all []*recipe.Recipe) []string {
	out := []string{}
	for _, r := range all {
		if s.Holds(r.Name, r.Family) {
			out = append(out, r.Name)
		}
	}
	slices.SortFunc(out, strings.Compare)
	return out
}
