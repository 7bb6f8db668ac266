package component

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/problem"
)

// Deployment holds the values of parameters that a deployment sets for all
// recipes, by component and parameter, such as the address of the organisation's
// mirror of a vendor's repository. A recipe's own value overrides it, unless the
// parameter's name ends with Rule.
type Deployment map[string]map[string]string

// Rule is the suffix of a parameter's name whose value recipes cannot override.
const Rule = "!"

// value returns the deployment's value of a parameter; values are those of the
// parameter's component.
func value(values map[string]string, parameter string) (text string, rule, given bool) {
	if text, given = values[parameter+Rule]; given {
		return text, true, true
	}
	text, given = values[parameter]
	return text, false, given
}

// deploymentFile takes the place of the file name in problems with these values,
// which come from the environment, a CDK context or a command line.
const deploymentFile = "component parameters of the deployment"

// ParseDeployment reads {"component":{"parameter":value}}, where a value is a
// text, a number, true or false. An empty text means no values.
func ParseDeployment(text string) (Deployment, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var raw map[string]map[string]any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&raw); err != nil {
		return nil, fmt.Errorf(`not a JSON object of components, such as {"docker":{"logMaxSize":"10m"}}: %w`, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is text after the JSON object")
	}
	out := Deployment{}
	for component, values := range raw {
		for name, value := range values {
			switch v := value.(type) {
			case string:
				out.Set(component, name, v)
			case json.Number, bool:
				out.Set(component, name, fmt.Sprint(v))
			default:
				return nil, fmt.Errorf("%s.%s is neither text nor a number, true or false", component, name)
			}
		}
	}
	return out, nil
}

// Set sets the value of a parameter.
func (d Deployment) Set(component, parameter, value string) {
	if d[component] == nil {
		d[component] = map[string]string{}
	}
	d[component][parameter] = value
}

// Check finds problems in the values, also in those of components that no recipe
// uses: a misspelt name must be an error.
func (d Deployment) Check(fsys fs.FS) (problem.List, error) {
	var out problem.List
	problem := func(allowed, format string, values ...any) {
		out = append(out, problem.Problem{Severity: problem.Error, File: deploymentFile, Message: fmt.Sprintf(format, values...), Allowed: allowed})
	}
	names, err := Names(fsys)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if !slices.Contains(names, name) {
			problem(orNone(names), "there is no component %q%s", name, didYouMean(name, names))
			continue
		}
		c, _, err := Load(fsys, name) // recipes that use it report its own problems
		if err != nil {
			return nil, err
		}
		for _, key := range slices.Sorted(maps.Keys(d[name])) {
			parameter := strings.TrimSuffix(key, Rule)
			p, ok := c.Parameters[parameter]
			if !ok {
				problem(orNone(c.parameterNames()), "component %s has no parameter %q%s", name, parameter, didYouMean(parameter, c.parameterNames()))
				continue
			}
			if message, allowed := p.Refuse(d[name][key]); message != "" {
				problem(allowed, "parameter %s of %s: %s", parameter, name, message)
			}
		}
	}
	return out, nil
}

func didYouMean(name string, names []string) string {
	if near := problem.Nearest(name, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}
