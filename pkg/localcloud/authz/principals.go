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

// Principals are whom a statement of a resource's policy is about
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
	// serviceName is a service, in some regions named with the region, such as
	// states.cn-north-1.amazonaws.com.cn.
	serviceName = regexp.MustCompile(`^([a-z0-9-]+(?:\.[a-z0-9-]+)*?)(?:\.[a-z]+(?:-[a-z]+)+-[0-9]+)?\.(` + suffixes() + `)$`)
)

// suffixes are those of the partitions' host names, for a regular expression.
func suffixes() string {
	var out []string
	for _, p := range partition.All() {
		out = append(out, regexp.QuoteMeta(p.DNSSuffix))
	}
	return strings.Join(out, "|")
}

// IsServiceName says whether a principal is a service of AWS.
func IsServiceName(name string) bool { return serviceName.MatchString(name) }

// global is the name of a service in all regions and partitions. Policies may also
// name it with the region, and EC2 with the partition's suffix.
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
			return fmt.Errorf("the principal %q is neither * nor an object", text)
		}
		*p = Principals{Everyone: true}
		return nil
	}
	var in struct{ AWS, Service texts.List }
	if err := strict(raw, &in); err != nil {
		return fmt.Errorf("the principals served are AWS and Service: %w", err)
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
		return errors.New("no principal is named")
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

// Name is the principal as messages name it.
func (p Principal) Name() string {
	if p.Service != "" {
		return p.Service
	}
	return p.ARN
}

// reach is how closely a policy of a resource names a principal.
type reach int

const (
	notNamed reach = iota
	asAccount
	asRole // or as anybody
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

// reaches is how closely a statement names a principal; identity policies are
// about whom they belong to.
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

// reach is how closely the document's statements of an effect that apply to a
// request name a principal.
func (d Document) reach(effect Effect, who Principal, r Request) reach {
	best := notNamed
	for _, s := range d.Statements {
		if s.Effect == effect && s.applies(r) {
			best = max(best, s.reaches(who))
		}
	}
	return best
}

// Lets says whether the policy of a resource lets a principal of another account
// in, as far as it is the resource's to say.
func (d Document) Lets(who Principal, r Request) bool {
	return d.reach(Deny, who, r) == notNamed && d.reach(Allow, who, r) != notNamed
}

// AccountOf is the account in an ARN; empty where it has none.
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
