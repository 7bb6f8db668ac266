package provision_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"

	"github.com/ami-factory/ami-factory/pkg/userdata/provision"
)

// made plays cloud-init's module users-groups, and useradd: it fails where they
// would, and returns users with their groups.
func made(t *testing.T, text string) map[string][]string {
	t.Helper()
	out := render(t, head+text)
	var config struct {
		Groups []string
		Users  []any
	}
	require.NoError(t, yaml.Load([]byte(out.CloudConfig), &config))
	groups, numbers, users := slices.Clone(config.Groups), map[int]string{}, map[string][]string{}
	next := 1001
	for _, entry := range config.Users {
		if entry == "default" {
			continue
		}
		var u provision.CloudUser
		text, err := yaml.Dump(entry)
		require.NoError(t, err)
		require.NoError(t, yaml.Load(text, &u))
		for _, g := range u.Groups {
			if !slices.Contains(groups, g) {
				groups = append(groups, g)
			}
		}
		number := u.UID
		for ; number == 0; next++ {
			if numbers[next] == "" {
				number = next
			}
		}
		require.Empty(t, numbers[number], "useradd %s: UID %d is not unique", u.Name, number)
		numbers[number] = u.Name
		if u.PrimaryGroup == "" {
			require.NotContains(t, groups, u.Name, "useradd: group %s exists", u.Name)
			groups = append(groups, u.Name)
		}
		users[u.Name] = u.Groups
	}
	return users
}

func TestUsersAreInAnOrderThatUseraddTakes(t *testing.T) {
	for sentence, tc := range map[string]struct {
		text string
		want map[string][]string
	}{
		"a group that is a later user's":        {"users: [{name: alice, groups: [bob]}, {name: bob}]\n", map[string][]string{"alice": {"bob"}, "bob": nil}},
		"a group that is an earlier user's":     {"users: [{name: bob}, {name: alice, groups: [bob]}]\n", map[string][]string{"alice": {"bob"}, "bob": nil}},
		"a user in a group of its own name":     {"users: [{name: alice, groups: [alice, web]}]\n", map[string][]string{"alice": {"web"}}},
		"two who are in each other's group":     {"users: [{name: alice, groups: [bob]}, {name: bob, groups: [alice]}]\n", map[string][]string{"alice": {"bob"}, "bob": {"alice"}}},
		"three in a ring, and one behind":       {"users: [{name: a, groups: [b]}, {name: b, groups: [c]}, {name: c, groups: [a]}, {name: d, groups: [a, web]}]\n", map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "web"}}},
		"a chain that is written backwards":     {"users: [{name: a, groups: [b]}, {name: b, groups: [c]}, {name: c}]\n", map[string][]string{"a": {"b"}, "b": {"c"}, "c": nil}},
		"a number that would be given out":      {"users: [{name: alice}, {name: bob, uid: 1001}]\n", map[string][]string{"alice": nil, "bob": nil}},
		"a number, behind a user without one":   {"users: [{name: alice}, {name: bob, uid: 1001, groups: [alice]}]\n", map[string][]string{"alice": nil, "bob": {"alice"}}},
		"numbers in each other's group":         {"users: [{name: alice, uid: 1002, groups: [bob]}, {name: carol}, {name: bob, uid: 1001, groups: [carol]}]\n", map[string][]string{"alice": {"bob"}, "bob": {"carol"}, "carol": nil}},
		"a system user in the group of another": {"users: [{name: svc1, system: true, groups: [alice]}, {name: alice}]\n", map[string][]string{"alice": nil, "svc1": {"alice"}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			got := made(t, tc.text)
			require.Len(t, got, len(tc.want))
			for name, groups := range tc.want {
				assert.ElementsMatch(t, groups, got[name], name)
			}
			assert.Equal(t, render(t, head+tc.text).CloudConfig, render(t, head+tc.text).CloudConfig)
		})
	}
}

func TestEveryUserHasAStepOfItsOwn(t *testing.T) {
	out := render(t, head+"users: [{name: alice, groups: [bob, web]}, {name: bob, uid: 2001}]\n")
	var names []string
	for _, s := range out.Steps {
		names = append(names, fmt.Sprintf("%s %v", s.Name, s.Must))
	}
	assert.Equal(t, []string{"user bob true", "user alice true"}, names)
	assert.Contains(t, out.Script, "user bob 2001 /bin/bash home shared\n")
	assert.Contains(t, out.Script, "user alice '' /bin/bash home own\n\tmember alice 'bob!' web\n")
	assert.NotContains(t, out.Script, "plan user 'user alice' must step_2 step_1", "alice has her account without bob's")
}

func TestFilesBelowAHomeWaitForTheirUser(t *testing.T) {
	out := render(t, head+`users: [{name: alice}]
files:
  - {path: /home/alice/.config/app/app.conf, owner: 'alice:alice', content: x}
  - {path: /home/admin/notes, content: y}
  - {path: /srv/x, owner: 'alice:alice', content: z}
  - {path: /srv/y, content: z}
`)
	var config provision.CloudConfig
	require.NoError(t, yaml.Load([]byte(out.CloudConfig), &config))
	var written []string
	for _, f := range config.WriteFiles {
		written = append(written, f.Path)
	}
	assert.Equal(t, []string{provision.State + "/files/1", provision.State + "/files/2", "/srv/x", "/srv/y"}, written)
	assert.Contains(t, out.Script, "home_file "+provision.State+"/files/1 0644 alice:alice /home/alice/.config/app/app.conf\n")
	assert.Contains(t, out.Script, "home_file "+provision.State+"/files/2 0644 root:root /home/admin/notes\n")
	assert.Contains(t, out.Script, "plan files 'file /home/alice/.config/app/app.conf' must step_2 step_1\n")
}
