package guests

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
	"github.com/ami-factory/ami-factory/pkg/recipe"
	"github.com/ami-factory/ami-factory/userdata"
)

func TestOnlyTheBasesThatRecipesBuildOnAreNeeded(t *testing.T) {
	files := fstest.MapFS{}
	for name, of := range map[string][2]string{
		"old": {"debian-12", "x86_64"}, "older": {"debian-12", "x86_64"}, "new": {"debian-13", "x86_64"},
		"other": {"al2023", "x86_64"}, "graviton": {"ubuntu-24.04", "arm64"},
	} {
		files["recipes/"+name+".yaml"] = &fstest.MapFile{Data: []byte("name: " + name + "\nfamily: " + of[0] + "\narchitecture: " + of[1] + "\n"), Mode: 0o644}
	}
	for sentence, tc := range map[string]struct {
		guests        vm.Kind
		recipes, want []string
	}{
		"a recipe of Debian 12 needs no Debian 13":                          {vm.VM, []string{"old"}, []string{"debian-12"}},
		"a recipe of Debian 13 needs no Debian 12":                          {vm.VM, []string{"new"}, []string{"debian-13"}},
		"two recipes of a family need one base":                             {vm.VM, []string{"old", "older"}, []string{"debian-12"}},
		"a named recipe's base is needed, also where it cannot be provided": {vm.VM, []string{"other"}, []string{"al2023"}},
		"the architecture is part of what is needed":                        {vm.VM, []string{"graviton"}, []string{"ubuntu-24.04-arm64"}},
		"simulated guests have a base of every family":                      {vm.Simulated, nil, []string{"al2023", "debian-12", "debian-13", "ubuntu-24.04-arm64"}},
		"a recipe that there is not needs nothing":                          {vm.VM, []string{"nonsense"}, nil},
		"without a name it is what all recipes need":                        {vm.VM, nil, []string{"debian-12", "debian-13"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			assert.Equal(t, tc.want, Needed(files, tc.guests, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), tc.recipes...))
		})
	}
}

func TestBasesThatCannotBeProvidedAreRefused(t *testing.T) {
	b := Bases{Options: Options{Kind: vm.VM, Official: baseimage.Official{URL: "https://cloud.test/image"}}}
	assert.ErrorContains(t, b.Provide(t.Context(), "debian-12", "debian-13"), "of one distribution")
	assert.ErrorContains(t, b.Provide(t.Context(), "debian-1"), `"debian-1" is not known (allowed: debian-12, debian-13)`)
	b.Options.Official = baseimage.Official{}
	assert.ErrorContains(t, b.Provide(t.Context(), "al2023"), "no base image of al2023 can be built on this machine for guests of kind vm (there are: debian-12, debian-13); --guests simulated")
}

// Every family that a recipe can name has a base for simulated guests.
func TestSimulatedsHaveABaseOfEveryFamilyAndArchitecture(t *testing.T) {
	var schema struct {
		Properties map[string]struct {
			Enum []string `json:"enum"`
		} `json:"properties"`
	}
	require.NoError(t, json.Unmarshal(recipe.Schema(), &schema))
	require.NotEmpty(t, schema.Properties["family"].Enum)
	parameters := map[string]string{}
	for _, family := range schema.Properties["family"].Enum {
		for _, architecture := range schema.Properties["architecture"].Enum {
			i := slices.IndexFunc(bases(), func(b base) bool { return b.family == family && string(b.architecture) == architecture })
			require.GreaterOrEqual(t, i, 0, "%s %s", family, architecture)
			for _, p := range bases()[i].parameters {
				assert.Empty(t, parameters[p], p)
				parameters[p] = family
			}
		}
	}
	// What the shipped recipes read is among them, of the right owner.
	names, err := recipe.Names(userdata.FS)
	require.NoError(t, err)
	for _, name := range names {
		r, problems, err := recipe.Load(userdata.FS, name, recipe.Options{Now: time.Now()})
		require.NoError(t, err)
		require.Empty(t, problems)
		assert.Equal(t, r.Family, parameters[r.Source.Parameter], name)
		i := slices.IndexFunc(bases(), func(b base) bool { return slices.Contains(b.parameters, r.Source.Parameter) })
		assert.Equal(t, r.Source.Owner, bases()[i].owners["aws"], name)
		assert.Equal(t, r.Architecture, string(bases()[i].architecture), name)
	}
}
