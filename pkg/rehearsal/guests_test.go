package rehearsal

import (
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ami-factory/ami-factory/pkg/localcloud/baseimage"
	"github.com/ami-factory/ami-factory/pkg/localcloud/clock"
	"github.com/ami-factory/ami-factory/pkg/localcloud/vm"
)

func TestOnlyTheBasesThatRecipesBuildOnAreNeeded(t *testing.T) {
	dir := t.TempDir()
	f := &Factory{opts: Options{UserDataDir: dir, Clock: clock.NewVirtual(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))}}
	files := fstest.MapFS{}
	for name, family := range map[string]string{"old": "debian-12", "older": "debian-12", "new": "debian-13", "other": "al2023"} {
		files["recipes/"+name+".yaml"] = &fstest.MapFile{Data: []byte("name: " + name + "\nfamily: " + family + "\n"), Mode: 0o644}
	}
	require.NoError(t, os.CopyFS(dir, files))
	for sentence, tc := range map[string]struct {
		recipes, want []string
	}{
		"a recipe of Debian 12 needs no Debian 13":   {[]string{"old"}, []string{"debian-12"}},
		"a recipe of Debian 13 needs no Debian 12":   {[]string{"new"}, []string{"debian-13"}},
		"two recipes of a family need one base":      {[]string{"old", "older"}, []string{"debian-12"}},
		"what cannot be provided here is not":        {[]string{"other"}, nil},
		"a recipe that there is not needs nothing":   {[]string{"nonsense"}, nil},
		"without a name it is what all recipes need": {nil, []string{"debian-12", "debian-13"}},
	} {
		t.Run(sentence, func(t *testing.T) { assert.Equal(t, tc.want, f.Bases(tc.recipes...)) })
	}
}

func TestBasesThatCannotBeProvidedAreRefused(t *testing.T) {
	f := &Factory{opts: Options{Guests: vm.VM, Official: baseimage.Official{URL: "https://cloud.test/image"}}}
	assert.ErrorContains(t, f.ProvideBases(t.Context(), "debian-12", "debian-13"), "of one distribution")
	assert.ErrorContains(t, f.ProvideBases(t.Context(), "debian-1"), `"debian-1" is not known (allowed: debian-12, debian-13)`)
}
