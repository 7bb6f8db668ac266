package cloudformation

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

var ssmValue = regexp.MustCompile(`^AWS::SSM::Parameter::Value<(.+)>$`)

// parametersOf computes the values of a template's parameters: as given, the
// previous value, or the default. The list is what describes show, except hidden
// ones.
func (s *Service) parametersOf(ctx context.Context, t *template, given, before []types.Parameter) (map[string]any, []types.Parameter, error) {
	var unknown, missing []string
	for _, p := range given {
		if _, ok := t.Parameters[aws.ToString(p.ParameterKey)]; !ok {
			unknown = append(unknown, aws.ToString(p.ParameterKey))
		}
	}
	if len(unknown) > 0 {
		return nil, nil, invalid("Parameters: [%s] do not exist in the template", strings.Join(unknown, ", "))
	}
	values := map[string]any{}
	var shown []types.Parameter
	for _, name := range sortedKeys(t.Parameters) {
		p := t.Parameters[name]
		text, ok := valueOf(name, p, given, before)
		if !ok {
			missing = append(missing, name)
			continue
		}
		if err := p.check(name, text); err != nil {
			return nil, nil, err
		}
		value, resolved, err := s.resolve(ctx, name, p, text)
		if err != nil {
			return nil, nil, err
		}
		values[name] = value
		shown = append(shown, types.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(text), ResolvedValue: resolved})
	}
	if len(missing) > 0 {
		return nil, nil, invalid("Parameters: [%s] must have values", strings.Join(missing, ", "))
	}
	return values, shown, nil
}

// valueOf returns the text of one parameter.
func valueOf(name string, p parameter, given, before []types.Parameter) (string, bool) {
	of := func(all []types.Parameter) (types.Parameter, bool) {
		i := slices.IndexFunc(all, func(o types.Parameter) bool { return aws.ToString(o.ParameterKey) == name })
		if i < 0 {
			return types.Parameter{}, false
		}
		return all[i], true
	}
	if g, ok := of(given); ok {
		if !aws.ToBool(g.UsePreviousValue) {
			return aws.ToString(g.ParameterValue), true
		}
		old, ok := of(before)
		return aws.ToString(old.ParameterValue), ok
	}
	if p.Default == nil {
		return "", false
	}
	text, err := textOf(p.Default, name)
	return text, err == nil
}

// check checks a value against the parameter's constraints
// (https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html).
func (p parameter) check(name, text string) error {
	refused := func(format string, args ...any) error {
		if p.ConstraintDescription != "" {
			return invalid("Parameter %s failed to satisfy constraint: %s", name, p.ConstraintDescription)
		}
		return invalid("Parameter '%s' %s", name, fmt.Sprintf(format, args...))
	}
	if len(p.AllowedValues) > 0 && !slices.ContainsFunc(p.AllowedValues, func(v any) bool { return same(v, text) }) {
		return refused("must be one of AllowedValues")
	}
	if p.AllowedPattern != "" {
		pattern, err := regexp.Compile(`^(?:` + p.AllowedPattern + `)$`)
		if err != nil {
			return invalid("Template format error: the AllowedPattern of parameter %s is not valid: %v", name, err)
		}
		if !pattern.MatchString(text) {
			return refused("must match pattern %s", p.AllowedPattern)
		}
	}
	number := float64(len(text))
	least, most, what := p.MinLength, p.MaxLength, "characters"
	if p.Type == "Number" {
		var err error
		if number, err = strconv.ParseFloat(text, 64); err != nil {
			return refused("must be a number")
		}
		least, most, what = p.MinValue, p.MaxValue, "in value"
	}
	if bound, ok := boundOf(least); ok && number < bound {
		return refused("must be at least %v %s", least, what)
	}
	if bound, ok := boundOf(most); ok && number > bound {
		return refused("must be at most %v %s", most, what)
	}
	return nil
}

func boundOf(v any) (float64, bool) {
	text, err := textOf(v, "")
	if err != nil {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

// resolve returns the value of Ref; resolved is set for a parameter of an SSM
// type.
func (s *Service) resolve(ctx context.Context, name string, p parameter, text string) (value any, resolved *string, err error) {
	kind := p.Type
	if m := ssmValue.FindStringSubmatch(kind); m != nil {
		if s.cfg.Services.SSM == nil {
			return nil, nil, invalid("Parameter %s: the embedded AWS has no SSM here", name)
		}
		out, err := s.cfg.Services.SSM.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String(text)})
		if err != nil {
			return nil, nil, invalid("Unable to fetch parameters [%s] from parameter store for this account.", text)
		}
		text = aws.ToString(out.Parameter.Value)
		resolved, kind = aws.String(text), m[1]
	}
	switch {
	case kind == "CommaDelimitedList", strings.HasPrefix(kind, "List<"):
		list := []any{}
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		return list, resolved, nil
	case kind == "String", kind == "Number", strings.HasPrefix(kind, "AWS::"):
		return text, resolved, nil
	}
	return nil, nil, invalid("Template format error: Unrecognized parameter type: %s", p.Type)
}

// hidden returns the parameters with NoEcho.
func (t *template) hidden() []string {
	var out []string
	for _, name := range sortedKeys(t.Parameters) {
		if secret := t.Parameters[name].NoEcho; secret != nil && same(secret, true) {
			out = append(out, name)
		}
	}
	return out
}

// masked returns parameters in the form that describes show.
func masked(parameters []types.Parameter, hidden []string) []types.Parameter {
	out := slices.Clone(parameters)
	for i, p := range out {
		if slices.Contains(hidden, aws.ToString(p.ParameterKey)) {
			out[i].ParameterValue = aws.String("****")
		}
	}
	return out
}
