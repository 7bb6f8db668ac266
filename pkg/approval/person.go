package approval

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	sessionARN = regexp.MustCompile(`^arn:aws[a-z-]*:sts::([0-9]{12}):assumed-role/([^/]+)/([^/]+)$`)
	roleARN    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):role/(?:.+/)?([^/]+)$`)
	// reservedRole is a role of IAM Identity Center, which names its sessions after the
	// user who signed in
	// (https://docs.aws.amazon.com/singlesignon/latest/userguide/referencingpermissionsets.html).
	reservedRole = regexp.MustCompile(`^AWSReservedSSO_.+_[0-9a-f]{16}$`)
	// personForm is what is both a name of a session and a part of a key
	// (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
	personForm = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

// People says which callers are known to be a person.
type People struct {
	// Account is the factory's. Users of IAM Identity Center count in it only: in another
	// account somebody else decides how a role is named.
	Account string
	// Roles are ARNs of further roles whose trust policy fixes the name of the session to
	// the person's, by sts:RoleSessionName (sts:SourceIdentity does not fix it). Whoever
	// assumes any other role chooses the session's name, so that two sessions can be one
	// person.
	Roles []string
}

// ParseRoles reads a list of role ARNs.
func ParseRoles(roles []string) ([]string, error) {
	var wrong []error
	for _, role := range roles {
		if !roleARN.MatchString(role) {
			wrong = append(wrong, fmt.Errorf("%q is not the ARN of a role (allowed: arn:aws:iam::ACCOUNT:role/NAME)", role))
		}
	}
	return roles, errors.Join(wrong...)
}

// RoleOf is the name of the role in whose session a caller is; empty for other callers.
func RoleOf(userARN string) string {
	if m := sessionARN.FindStringSubmatch(userARN); m != nil {
		return m[2]
	}
	return ""
}

// Person returns who a caller is, by the ARN that AWS verified. Names are in lower case,
// so that capitals do not make two people of one.
func (p People) Person(userARN string) (string, error) {
	m := sessionARN.FindStringSubmatch(userARN)
	if m == nil {
		return "", fmt.Errorf("%s is not a session of a role: sign in through IAM Identity Center, or assume a role that the deployment names for approvals", userARN)
	}
	account, role, name := m[1], m[2], m[3]
	known := account == p.Account && reservedRole.MatchString(role) || slices.ContainsFunc(p.Roles, func(arn string) bool {
		r := roleARN.FindStringSubmatch(arn)
		return r != nil && r[1] == account && r[2] == role
	})
	if !known {
		return "", fmt.Errorf("%s does not say who you are: whoever assumes the role %s of account %s chooses the name of the session. Sign in through IAM Identity Center in account %s, or assume a role that the deployment names for approvals, whose trust policy fixes the name", userARN, role, account, p.Account)
	}
	if !personForm.MatchString(name) {
		return "", fmt.Errorf("the session's name %q is not a person's (allowed: 2 to 64 letters, digits and _+=,.@-)", name)
	}
	return strings.ToLower(name), nil
}
