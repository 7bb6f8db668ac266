package doctor

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/partition"
)

// resourcePolicy is the policy of a key or the trust policy of a role, as far as it is
// judged by reading. What IAM would decide of a call depends on more; so the words of
// the findings are those of what the policy says.
type resourcePolicy struct{ Statement statements }

type statement struct {
	Effect       string
	Principal    principals
	NotPrincipal principals
	Action       texts
	NotAction    texts
	Condition    map[string]map[string]texts
}

// statements, texts and principals may each be written as one or as several
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html).
type statements []statement

// UnmarshalJSON implements json.Unmarshaler.
func (s *statements) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '{' {
		*s = make(statements, 1)
		return json.Unmarshal(raw, &(*s)[0])
	}
	return json.Unmarshal(raw, (*[]statement)(s))
}

type texts []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *texts) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '[' {
		var many []any
		if err := json.Unmarshal(raw, &many); err != nil {
			return err
		}
		for _, v := range many {
			*t = append(*t, fmt.Sprint(v))
		}
		return nil
	}
	var one any
	err := json.Unmarshal(raw, &one)
	*t = texts{fmt.Sprint(one)}
	return err
}

type principals texts // AWS accounts, users and roles, or *

// UnmarshalJSON implements json.Unmarshaler.
func (p *principals) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '{' {
		var by map[string]texts
		err := json.Unmarshal(raw, &by)
		*p = principals(by["AWS"])
		return err
	}
	return json.Unmarshal(raw, (*texts)(p))
}

func parsePolicy(text string) (resourcePolicy, error) {
	var p resourcePolicy
	err := json.Unmarshal([]byte(text), &p)
	return p, err
}

// decodedPolicy parses a policy as IAM returns it, encoded like a part of a URL
// (https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRole.html).
func decodedPolicy(encoded string) (resourcePolicy, error) {
	text, err := url.PathUnescape(encoded)
	if err != nil {
		return resourcePolicy{}, err
	}
	return parsePolicy(text)
}

// caller is who uses a key by way of EC2, if the key policy allows it.
type caller struct {
	account string
	arn     string // of a role; empty: anybody of the account
	region  string // of the key
}

// allowance is what a policy says about one action of a caller.
type allowance struct {
	given bool
	under []string // conditions on it that cannot be judged from here
}

// allows reads what the policy says about an action. A statement that names the
// caller's account leaves it to the policies of that account.
func (p resourcePolicy) allows(c caller, action string) allowance {
	var out allowance
	for _, s := range p.Statement {
		if !s.names(c) || !s.about(action) {
			continue
		}
		met, unknown := s.met(c)
		switch {
		case !met:
		case s.Effect == "Deny" && len(unknown) == 0:
			return allowance{}
		case s.Effect == "Deny":
			out.under = append(out.under, "unless "+strings.Join(unknown, " and "))
		case s.Effect == "Allow" && len(unknown) == 0:
			return p.andDenials(out, c, action)
		case s.Effect == "Allow":
			out.given, out.under = true, append(out.under, unknown...)
		}
	}
	return out
}

// andDenials is an unconditional allowance, as far as no statement denies it.
func (p resourcePolicy) andDenials(so allowance, c caller, action string) allowance {
	so = allowance{given: true}
	for _, s := range p.Statement {
		if s.Effect != "Deny" || !s.names(c) || !s.about(action) {
			continue
		}
		met, unknown := s.met(c)
		switch {
		case met && len(unknown) == 0:
			return allowance{}
		case met:
			so.under = append(so.under, "unless "+strings.Join(unknown, " and "))
		}
	}
	return so
}

func (s statement) names(c caller) bool {
	if len(s.NotPrincipal) > 0 {
		return true // but see met
	}
	return slices.ContainsFunc(s.Principal, func(p string) bool {
		switch {
		case p == "*", p == c.account:
			return true
		case strings.Contains(p, ":iam::"+c.account+":"), strings.Contains(p, ":sts::"+c.account+":"):
			return strings.HasSuffix(p, ":root") || c.arn == "" || p == c.arn
		}
		return false
	})
}

func (s statement) about(action string) bool {
	is := func(pattern string) bool {
		ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(action))
		return ok && err == nil
	}
	if len(s.NotAction) > 0 {
		return !slices.ContainsFunc(s.NotAction, is)
	}
	return slices.ContainsFunc(s.Action, is)
}

// met says whether the statement's conditions can hold for what EC2 does in the
// caller's name, and lists those that nothing here says anything about.
func (s statement) met(c caller) (met bool, unknown []string) {
	if len(s.NotPrincipal) > 0 {
		unknown = append(unknown, "it is none of the statement's NotPrincipal")
	}
	for _, operator := range slices.Sorted(maps.Keys(s.Condition)) {
		for _, key := range slices.Sorted(maps.Keys(s.Condition[operator])) {
			values := s.Condition[operator][key]
			var value string
			switch strings.ToLower(key) {
			case "kms:viaservice":
				value = partition.ViaService("ec2", c.region, c.region)
			case "kms:calleraccount", "aws:principalaccount":
				value = c.account
			case "kms:grantisforawsresource":
				value = "true" // the grants are EC2's
			}
			positive := strings.HasPrefix(operator, "StringEquals") || strings.HasPrefix(operator, "StringLike") || operator == "Bool"
			if value == "" || !positive {
				unknown = append(unknown, fmt.Sprintf("%s %s %s", key, operator, strings.Join(values, " or ")))
				continue
			}
			if !slices.ContainsFunc(values, func(v string) bool { ok, err := path.Match(v, value); return ok && err == nil }) {
				return false, nil
			}
		}
	}
	return true, unknown
}

// admits says whether the policy lets all accounts of an organisation in, or of a
// unit of it, by a condition on who calls; doubt, that there is such a statement
// and something in it that cannot be judged from here.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
func (p resourcePolicy) admits(org, unit, action string) (admitted, doubt bool) {
	for _, s := range p.Statement {
		if !s.about(action) || !slices.Contains(s.Principal, "*") {
			continue
		}
		if s.Effect == "Deny" {
			doubt = true
			continue
		}
		all, some := s.organisation(org, unit)
		admitted, doubt = admitted || all, doubt || some && !all
	}
	return admitted, doubt
}

// organisation says whether a statement's conditions are met by all of an
// organisation or unit, or by some of it as far as can be seen.
func (s statement) organisation(org, unit string) (all, some bool) {
	other := false
	for operator, keys := range s.Condition {
		for key, values := range keys {
			switch {
			case strings.EqualFold(key, "aws:PrincipalOrgID") && !strings.Contains(operator, "Not"):
				all = all || slices.Contains(values, org)
			case strings.EqualFold(key, "aws:PrincipalOrgPaths") && !strings.Contains(operator, "Not"):
				for _, v := range values {
					steps := strings.Split(strings.TrimSuffix(v, "/*"), "/")
					all = all || slices.Equal(steps, []string{org}) || unit != "" && slices.Contains(steps, unit)
					some = some || steps[0] == org
				}
			case !strings.EqualFold(key, "kms:GrantIsForAWSResource") && !strings.EqualFold(key, "kms:ViaService"):
				other = true
			}
		}
	}
	return all && !other, all || some
}
