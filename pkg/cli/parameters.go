package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ami-factory/ami-factory/pkg/component"
)

// parameters is the flag --component-parameter: the values that a deployment
// gives to components for all recipes. It implements pflag.Value.
type parameters struct {
	values component.Deployment
}

func (p *parameters) register(c *cobra.Command) {
	c.Flags().Var(p, "component-parameter", "value of a component's parameter for all recipes that do not set it (name!=value overrides recipes), as a deployment can set it; can be repeated")
}

// String implements pflag.Value; nothing is given by default.
func (p *parameters) String() string { return "" }

// Type implements pflag.Value.
func (p *parameters) Type() string { return "COMPONENT.PARAMETER=VALUE" }

// Set implements pflag.Value.
func (p *parameters) Set(text string) error {
	at, value, ok := strings.Cut(text, "=")
	name, parameter, dotted := strings.Cut(at, ".")
	if !ok || !dotted || name == "" || parameter == "" {
		return errors.New("COMPONENT.PARAMETER=VALUE is expected, such as docker.logMaxSize=10m")
	}
	if p.values == nil {
		p.values = component.Deployment{}
	}
	p.values.Set(name, parameter, value)
	return nil
}
