package authz

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/localcloud/internal/texts"
	"github.com/ami-factory/ami-factory/pkg/partition"
)

// Principals are the principals of a statement in a resource's policy
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html).
type Principals struct {
	Everyone bool
	AWS      []string // accounts, as twelve digits or as the ARN of their root, roles and sessions of roles
	Services []string // such as lambda.amazonaws.com
}

var (
	accountNumber = regexp.MustCompile(`^[0-9]{12}$`)
	rootARN       = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):root$`)
	principalARN  = regexp.MustCompile(`^arn:aws[a-z-]*:(iam::[0-9]{12}:(root|role/.+|user/.+)|sts::[0-9]{12}:assumed-role/.+/.+)$`)
	// serviceName matches the principal of a service. In some regions it contains the
	// region, such as states.cn-north-1.amazonaws.com.cn.
	serviceName = regexp.MustCompile(`^([a-z0-9-]+(?:\.[a-z0-9-]+)*?)(?:\.[a-z]+(?:-[a-z]+)+-[0-9]+)?\.(` + suffixes() + `)$`)
)

// suffixes is a regular expression for the suffixes of the partitions' host names.
func suffixes() string {
	var out []string
	for _, p := range partition.All() {
		out = append(out, regexp.QuoteMeta(p.DNSSuffix))
	}
	return strings.Join(out, "|")
}

// IsServiceName reports whether a principal is a service of AWS.
func IsServiceName(name string) bool { return serviceName.MatchString(name) }

// global returns the name that a service has in all regions and partitions. Policies may
// also name a service with the region, and EC2 with the partition's suffix.
func global(name string) string {
	if m := serviceName.FindStringSubmatch(name); m != nil {
		return m[1] + ".amazonaws.com"
	}
	return name
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Principals) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if text != "*" {
			return fmt.Errorf("the principal %q must be * or an object", text)
		}
		*p = Principals{Everyone: true}
		return nil
	}
	var in struct{ AWS, Service texts.List }
	if err := strict(raw, &in); err != nil {
		return fmt.Errorf("only the principals AWS and Service are supported: %w", err)
	}
	*p = Principals{}
	for _, name := range in.AWS {
		switch {
		case name == "*":
			p.Everyone = true
		case accountNumber.MatchString(name), principalARN.MatchString(name):
			p.AWS = append(p.AWS, name)
		default:
			//lint:ignore ST1005 the sentence is IAM's
			return fmt.Errorf(`Invalid principal in policy: "AWS":%q`, name)
		}
	}
	for _, name := range in.Service {
		if !IsServiceName(name) {
			//lint:ignore ST1005 the sentence is IAM's
			return fmt.Errorf(`Invalid principal in policy: "SERVICE":%q`, name)
		}
		p.Services = append(p.Services, global(name))
	}
	if !p.Everyone && len(p.AWS) == 0 && len(p.Services) == 0 {
		return errors.New("the principal is empty")
	}
	return nil
}

// Principal is who makes a request: a session of a role, the root of an account,
// or a service of AWS.
type Principal struct {
	Account string
	ARN     string // of the session or of the account's root; empty for a service
	RoleARN string // of a session
	Service string // such as lambda.amazonaws.com
}

// Name returns the principal as error messages name it.
func (p Principal) Name() string {
	if p.Service != "" {
		return p.Service
	}
	return p.ARN
}

// reach tells how specifically a policy of a resource names a principal.
type reach int

const (
	notNamed reach = iota
	asAccount
	asRole // or as everybody
	asItself
)

func (p *Principals) reach(who Principal) reach {
	best := notNamed
	if p.Everyone {
		best = asRole
	}
	if who.Service != "" {
		if slices.Contains(p.Services, global(who.Service)) {
			return asItself
		}
		return best
	}
	for _, name := range p.AWS {
		best = max(best, closeness(name, who))
	}
	return best
}

func closeness(name string, who Principal) reach {
	if m := rootARN.FindStringSubmatch(name); m != nil {
		name = m[1]
	}
	switch name {
	case who.ARN:
		return asItself
	case who.RoleARN:
		return asRole
	case who.Account:
		if rootARN.MatchString(who.ARN) {
			return asItself
		}
		return asAccount
	}
	return notNamed
}

// reaches returns how specifically a statement names a principal. A statement of an
// identity policy is always about the identity that it belongs to.
func (s Statement) reaches(who Principal) reach {
	switch {
	case s.NotPrincipals != nil:
		if s.NotPrincipals.reach(who) != notNamed {
			return notNamed
		}
		return asItself
	case s.Principals != nil:
		return s.Principals.reach(who)
	}
	return asItself
}

// reach returns how specifically a document names a principal, in the statements with an
// effect that apply to a request.
func (d Document) reach(effect Effect, who Principal, r Request) reach {
	best := notNamed
	for _, s := range d.Statements {
		if s.Effect == effect && s.applies(r) {
			best = max(best, s.reaches(who))
		}
	}
	return best
}

// Lets reports whether the policy of a resource allows a principal of another account.
// The principal's own policies are not considered.
func (d Document) Lets(who Principal, r Request) bool {
	return d.reach(Deny, who, r) == notNamed && d.reach(Allow, who, r) != notNamed
}

// AccountOf returns the account in an ARN, or an empty string if there is none.
func AccountOf(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// RoleSession is a session of a role.
func RoleSession(roleARN, name string) Principal {
	parts := strings.SplitN(roleARN, ":", 6)
	if len(parts) < 6 {
		return Principal{RoleARN: roleARN}
	}
	session := "arn:" + parts[1] + ":sts::" + parts[4] + ":assumed-role/" + roleARN[strings.LastIndex(roleARN, "/")+1:] + "/" + name
	return Principal{Account: parts[4], ARN: session, RoleARN: roleARN}
}
