package spec

import (
	_ "embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

//go:embed accounts.txt
var accountsTable string

// accounts are the users and groups of an image, with what creates them.
type accounts struct {
	users, groups map[string]string
	numbers       map[int]string // of users and groups whose number is fixed
}

// accountsOf returns the accounts of a family's images, including those of components:
// the components of the image if it is known, otherwise all.
func accountsOf(family string, userdata fs.FS, of *Image) (accounts, error) {
	out := accounts{users: map[string]string{}, groups: map[string]string{}, numbers: map[int]string{}}
	for line := range strings.Lines(accountsTable) {
		fields := strings.Fields(line)
		if len(fields) < 3 || strings.HasPrefix(line, "#") {
			continue
		}
		from := family
		if component, ok := strings.CutPrefix(fields[0], "component:"); ok {
			if of != nil && of.component(component) == nil {
				continue
			}
			from = "the component " + component
		} else if !slices.ContainsFunc(strings.Split(fields[0], ","), func(f string) bool { return strings.HasPrefix(family, f) }) {
			continue
		}
		into := out.users
		if fields[1] == "group" {
			into = out.groups
		}
		for _, name := range fields[2:] {
			into[name] = from
		}
	}
	return out, out.components(userdata, of)
}

// components reads the accounts that components create, from their parameters user, group
// and uid. A recipe may set other values, which are known only if the image is known.
func (a *accounts) components(userdata fs.FS, of *Image) error {
	files, err := fs.Glob(userdata, components+"/*/component.yaml")
	if err != nil {
		return err
	}
	for _, file := range files {
		content, err := fs.ReadFile(userdata, file)
		if err != nil {
			return err
		}
		var says struct {
			Name       string
			Parameters map[string]struct{ Default any }
		}
		if err := yaml.Load(content, &says); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		from := "the component " + says.Name
		if of != nil {
			selected := of.component(says.Name)
			if selected == nil {
				continue
			}
			for name, value := range selected.Values {
				p := says.Parameters[name]
				p.Default = value
				says.Parameters[name] = p
			}
		}
		if user, ok := says.Parameters["user"]; ok {
			a.users[fmt.Sprint(user.Default)] = from
		}
		if group, ok := says.Parameters["group"]; ok {
			a.groups[fmt.Sprint(group.Default)] = from
		}
		if number, err := strconv.Atoi(fmt.Sprint(says.Parameters["uid"].Default)); err == nil {
			a.numbers[number] = from
		}
	}
	return nil
}

// Numbers that distributions assign in the order of installation: adduser counts up from
// 100, systemd-sysusers and useradd count down from 999, and Amazon Linux has fixed
// numbers below 201. The numbers in between are free.
const firstFree, lastFree = 201, 979

// account refuses a user whose name or number already exists in an image.
func (c *checker) account(at string, u User) {
	const allowed = "another name"
	if from, ok := c.accounts.users[u.Name]; ok {
		c.fail(at+".name", allowed, "user %s belongs to the system: it is of %s", u.Name, from)
	} else if from, ok := c.accounts.groups[u.Name]; ok {
		c.fail(at+".name", allowed, "user %s cannot have a group of its own: group %s is of %s", u.Name, u.Name, from)
	}
	if from, ok := c.accounts.numbers[u.UID]; ok && u.UID != 0 && c.valid(at+".uid") {
		c.fail(at+".uid", "another number", "uid %d is of %s", u.UID, from)
	}
}
