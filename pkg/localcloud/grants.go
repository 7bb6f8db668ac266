package localcloud

import "strings"

// Grant is what the instances of a role may read in their own account and
// region. It is all that guests can be allowed: policies of IAM are for the roles
// of functions and state machines. An entry is a name, or ends with * and is a prefix.
type Grant struct {
	Secrets    []string // of Secrets Manager
	Parameters []string // of SSM
}

// AnyRole is the entry of Config.Grants for roles that have none of their own.
const AnyRole = "*"

// AgentGrant lets a role read the secrets that agents start with.
func AgentGrant() Grant {
	return Grant{Secrets: []string{"ami-factory/agents/*"}, Parameters: []string{"/ami-factory/agents/*"}}
}

func (cfg *Config) grantOf(role string) Grant {
	if g, ok := cfg.Grants[role]; ok {
		return g
	}
	return cfg.Grants[AnyRole]
}

func granted(names []string, name string) bool {
	for _, n := range names {
		if prefix, ok := strings.CutSuffix(n, "*"); ok && strings.HasPrefix(name, prefix) || n == name {
			return true
		}
	}
	return false
}
