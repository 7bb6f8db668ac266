package plan

import (
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
	"github.com/ami-factory/ami-factory/pkg/recipe"
)

// SSMAgent is the component that installs the SSM agent.
const SSMAgent = "ssm-agent"

// OnAWS finds problems that matter on AWS only, not in a rehearsal: the factory
// reaches instances only through SSM, so a builder without the agent would run
// until its time-out.
func OnAWS(r *recipe.Recipe) problem.List {
	if r.Family == "" || !r.Valid("components") {
		return nil // the recipe's own checks report it
	}
	if slices.ContainsFunc(r.Components, func(c recipe.Component) bool { return c.Name == SSMAgent }) {
		return nil
	}
	why := lacksSSMAgent(r)
	if why == "" {
		return nil
	}
	return problem.List{r.Problem("components", "the component "+SSMAgent+", or rehearsalOnly: true for a recipe that is never built on AWS",
		"%s, and the recipe does not list the component %s: on AWS the factory cannot reach such a builder", why, SSMAgent)}
}

// lacksSSMAgent returns why the images of a recipe's source have no SSM agent.
// It returns "" if they have one or if that is unknown, as for an organisation's
// own images.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/ami-preinstalled-agent.html
func lacksSSMAgent(r *recipe.Recipe) string {
	const debian, canonical, amazon = "136693071363", "099720109477", "137112412989"
	named := []string{r.Source.Parameter}
	for _, f := range r.Source.Filters {
		named = append(named, f.Values...)
	}
	minimal := slices.ContainsFunc(named, func(s string) bool { return strings.Contains(s, "minimal") })
	switch owner := r.Source.Owner; {
	case owner == debian:
		return "Debian's images have no SSM agent"
	case minimal && owner == canonical:
		return "Ubuntu's minimal images have no SSM agent"
	case minimal && owner == amazon:
		return "Amazon's minimal images have no SSM agent"
	}
	return ""
}
