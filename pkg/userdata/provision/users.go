package provision

import (
	"slices"
	"strconv"
	"strings"

	"github.com/ami-factory/ami-factory/pkg/userdata/spec"
)

// userStep returns the name of the step that completes a user.
func userStep(name string) string { return "user " + name }

// shared returns the users of a spec whose group has other members.
func shared(users []spec.User) []string {
	var out []string
	for _, u := range users {
		if slices.ContainsFunc(users, func(other spec.User) bool { return other.Name != u.Name && slices.Contains(other.Groups, u.Name) }) {
			out = append(out, u.Name)
		}
	}
	return out
}

// otherGroups returns the groups of a user except its own. Every user is a member of its
// own group, and useradd would refuse to create it a second time.
func otherGroups(u spec.User) []string {
	return slices.DeleteFunc(slices.Clone(u.Groups), func(group string) bool { return group == u.Name })
}

// inOrder returns users in an order in which useradd can create them. A user in the group
// of another one comes after it, because useradd creates the group with that other user.
// Users with a number come first, so that no other user gets this number. If there is no
// such order, as for two users in each other's group, groups must be created before all
// users; inOrder returns these groups too.
func inOrder(users []spec.User) (ordered []spec.User, groups []string) {
	rest := slices.Clone(users)
	waits := func(u spec.User) []string {
		return slices.DeleteFunc(otherGroups(u), func(group string) bool {
			return slices.Contains(groups, group) || !slices.ContainsFunc(rest, func(other spec.User) bool { return other.Name == group })
		})
	}
	numbered := func(u spec.User) bool { return u.UID != 0 }
	for len(rest) > 0 {
		ready := func(u spec.User) bool { return len(waits(u)) == 0 }
		first := slices.IndexFunc(rest, func(u spec.User) bool { return numbered(u) && ready(u) })
		if first < 0 && !slices.ContainsFunc(rest, numbered) {
			first = slices.IndexFunc(rest, ready)
		}
		if first < 0 {
			first = max(0, slices.IndexFunc(rest, numbered))
			groups = append(groups, waits(rest[first])...)
		}
		ordered = append(ordered, rest[first])
		rest = slices.Delete(rest, first, first+1)
	}
	return ordered, groups
}

// cloudUsers sets the entries groups and users.
func cloudUsers(users []spec.User) (groups []string, entries []any) {
	if len(users) == 0 {
		return nil, nil
	}
	ordered, groups := inOrder(users)
	// Without this entry cloud-init would not create the image's default user.
	entries = []any{"default"}
	for _, u := range ordered {
		entry := CloudUser{
			Name: u.Name, UID: u.UID, Groups: otherGroups(u), Shell: u.Shell, System: u.System, NoCreateHome: u.System, LockPasswd: true, Keys: u.SSHKeys,
			Sudo: sudoRules(u),
		}
		if slices.Contains(groups, u.Name) {
			entry.PrimaryGroup = u.Name
		}
		entries = append(entries, entry)
	}
	return groups, entries
}

// sudoRules returns the rules of a user in one line. In sudoers, a colon separates the
// rules of one user.
func sudoRules(u spec.User) string {
	var rules []string
	for _, rule := range u.Sudo {
		rules = append(rules, rule.Rule)
	}
	return strings.Join(rules, " : ")
}

// users adds a step that completes each user. cloud-init stops at the first user that it
// cannot create, and later users would have neither an account nor their keys.
func (p *plan) users() {
	all := p.spec.Users
	ordered, _ := inOrder(all)
	inOthers := shared(all)
	for _, u := range ordered {
		p.need("user")
		uid, kind, own := "", "home", "own"
		if u.UID != 0 {
			uid = strconv.Itoa(u.UID)
		}
		if u.System {
			kind = "system"
		}
		if slices.Contains(inOthers, u.Name) {
			own = "shared"
		}
		groups := otherGroups(u)
		for i, group := range groups {
			if slices.ContainsFunc(all, func(other spec.User) bool { return other.Name == group }) {
				groups[i] += "!"
			}
		}
		body := []string{"user " + u.Name + " " + quote(uid) + " " + strings.Join([]string{u.Shell, kind, own}, " ")}
		if len(u.SSHKeys) > 0 {
			body = append(body, "keys "+u.Name+" "+quoteAll(u.SSHKeys))
		}
		if rules := sudoRules(u); rules != "" {
			body = append(body, "sudo_rules "+u.Name+" "+quote(rules))
		}
		// Groups come last, so that a missing group affects neither keys nor rules.
		if len(groups) > 0 {
			body = append(body, "member "+u.Name+" "+quoteAll(groups))
		}
		p.add("user", userStep(u.Name), true, body...)
	}
}
