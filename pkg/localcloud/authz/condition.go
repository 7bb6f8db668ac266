package authz

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// operator is a parsed condition operator
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html).
type operator struct {
	set      string // "", ForAllValues or ForAnyValue
	compare  func(pattern, value string) bool
	negated  bool
	ifExists bool
	null     bool
	patterns bool // * and ? are wildcards in the values
}

func operators() map[string]operator {
	equal := func(pattern, value string) bool { return pattern == value }
	return map[string]operator{
		"StringEquals":              {compare: equal},
		"StringNotEquals":           {compare: equal, negated: true},
		"StringEqualsIgnoreCase":    {compare: strings.EqualFold},
		"StringNotEqualsIgnoreCase": {compare: strings.EqualFold, negated: true},
		"StringLike":                {compare: like, patterns: true},
		"StringNotLike":             {compare: like, negated: true, patterns: true},
		"ArnEquals":                 {compare: arnLike, patterns: true},
		"ArnLike":                   {compare: arnLike, patterns: true},
		"ArnNotEquals":              {compare: arnLike, negated: true, patterns: true},
		"ArnNotLike":                {compare: arnLike, negated: true, patterns: true},
		"Bool":                      {compare: strings.EqualFold},
		"NumericEquals":             {compare: numeric(func(want, got float64) bool { return got == want })},
		"NumericNotEquals":          {compare: numeric(func(want, got float64) bool { return got == want }), negated: true},
		"NumericLessThan":           {compare: numeric(func(want, got float64) bool { return got < want })},
		"NumericLessThanEquals":     {compare: numeric(func(want, got float64) bool { return got <= want })},
		"NumericGreaterThan":        {compare: numeric(func(want, got float64) bool { return got > want })},
		"NumericGreaterThanEquals":  {compare: numeric(func(want, got float64) bool { return got >= want })},
		"Null":                      {null: true},
	}
}

// numeric compares numbers. A value that is not a number never matches.
func numeric(holds func(want, got float64) bool) func(pattern, value string) bool {
	return func(pattern, value string) bool {
		want, err := strconv.ParseFloat(pattern, 64)
		if err != nil {
			return false
		}
		got, err := strconv.ParseFloat(value, 64)
		return err == nil && holds(want, got)
	}
}

// parseOperator parses the operators that policies here use. Those for dates and
// addresses are missing, because no condition key holds such a value.
func parseOperator(name string) (operator, error) {
	set, rest, qualified := strings.Cut(name, ":")
	if !qualified {
		set, rest = "", name
	}
	base, ifExists := strings.CutSuffix(rest, "IfExists")
	op, ok := operators()[base]
	if !ok || qualified && set != "ForAllValues" && set != "ForAnyValue" || op.null && (ifExists || qualified) {
		return operator{}, fmt.Errorf("the condition operator %s is not supported (supported: %s; all but Null also with ForAllValues:, ForAnyValue: and IfExists)",
			name, strings.Join(slices.Sorted(maps.Keys(operators())), ", "))
	}
	op.set, op.ifExists = set, ifExists
	return op, nil
}

// keys returns the condition keys that the embedded AWS fills in. A key that ends with
// / is followed by the name of a tag. They are in lower case, because condition keys
// are not case-sensitive.
func keys() []string {
	return []string{
		"aws:calledvia", "aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:principalservicename", "aws:requestedregion", "aws:requesttag/",
		"aws:resourceaccount", "aws:resourcetag/", "aws:securetransport", "aws:sourceaccount", "aws:sourcearn", "aws:tagkeys", "aws:viaawsservice",
		"ec2:associatepublicipaddress", "ec2:attribute", "ec2:attribute/", "ec2:createaction", "ec2:metadatahttpendpoint",
		"ec2:metadatahttpputresponsehoplimit", "ec2:metadatahttptokens", "ec2:owner", "ec2:region", "ec2:resourcetag/", "ecr:resourcetag/", "events:source", "iam:passedtoservice", "iam:permissionsboundary", "iam:policyarn",
		"kms:calleraccount", "kms:grantisforawsresource", "kms:keyspec", "kms:keyusage", "kms:messagetype", "kms:requestalias", "kms:resourcealiases", "kms:signingalgorithm", "kms:viaservice",
		"lambda:functionurlauthtype", "lambda:invokedviafunctionurl", "ssm:resourcetag/", "sts:externalid", "sts:rolesessionname",
	}
}

// multivalued lists the keys that hold several values, which need ForAllValues or
// ForAnyValue.
func multivalued() []string { return []string{"aws:calledvia", "aws:tagkeys", "kms:resourcealiases"} }

// CanonicalKey returns a condition key in the form that contexts use: in lower case,
// except for the name of a tag. It is an error if the embedded AWS does not fill in
// that key.
func CanonicalKey(key string) (string, error) {
	prefix, tag, isTag := strings.Cut(key, "/")
	canonical := strings.ToLower(prefix)
	if isTag {
		canonical += "/"
	}
	if !slices.Contains(keys(), canonical) || isTag && tag == "" {
		return "", fmt.Errorf("the condition key %s is not supported (supported: %s)", key, strings.Join(keys(), ", "))
	}
	return canonical + tag, nil
}

func parseCondition(operatorName, key string, values []string) (Condition, error) {
	op, err := parseOperator(operatorName)
	if err != nil {
		return Condition{}, err
	}
	canonical, err := CanonicalKey(key)
	if err != nil {
		return Condition{}, err
	}
	if len(values) == 0 {
		return Condition{}, fmt.Errorf("%s of %s has no value", operatorName, key)
	}
	if op.set == "" && !op.null && slices.Contains(multivalued(), canonical) {
		return Condition{}, fmt.Errorf("%s holds several values: %s needs ForAllValues: or ForAnyValue: before it", key, operatorName)
	}
	for _, v := range values {
		if op.null && v != "true" && v != "false" {
			return Condition{}, fmt.Errorf("the condition operator Null of %s has the value %q (allowed: true, false)", key, v)
		}
		if err := checkVariables(v); err != nil {
			return Condition{}, err
		}
	}
	return Condition{operator: op, Key: canonical, Values: values}, nil
}

// holds reports whether a request meets the condition.
func (c Condition) holds(r Request) bool {
	got, present := r.Context[c.Key]
	op := c.operator
	switch {
	case op.null:
		return slices.Contains(c.Values, fmt.Sprint(!present))
	case op.set == "ForAllValues":
		// ForAllValues is true if there is no value.
		return !slices.ContainsFunc(got, func(v string) bool { return !c.passes(v, r) })
	case op.set == "ForAnyValue":
		return slices.ContainsFunc(got, func(v string) bool { return c.passes(v, r) })
	case !present:
		return op.negated || op.ifExists
	}
	return len(got) == 1 && c.passes(got[0], r)
}

// passes reports whether one value of the request matches any of the policy's values,
// or none of them if the operator is negated.
func (c Condition) passes(value string, r Request) bool {
	matched := slices.ContainsFunc(c.Values, func(pattern string) bool {
		filled, ok := fill(pattern, r, c.operator.patterns)
		return ok && c.operator.compare(filled, value)
	})
	return matched != c.operator.negated
}
